//! Lists that stand in files of their own. This room reads no files: whoever loads the rules appends each list's file
//! to their text as comments, so that what is kept, hashed and shown is whole and can be checked again anywhere.
//!
//! ```text
//! #@ list blocked.csv
//! #| value,expires_at,source
//! #| M-1009,2027-01-31T00:00:00Z,Visa alert 17
//! ```
//!
//! Such blocks stand at the end of the text, among nothing but blank lines and other lines that begin with `#@`. A text
//! that has the block of a file already keeps it: what was loaded once means the same wherever it is loaded again.
//! Its lines are checked like a file's where the text comes from outside, and not where it was kept (`compile_kept`).

mod ends;

use std::{collections::HashMap, ops::Range};

use csv::StringRecord;

pub(super) use ends::ended;

use self::ends::Ends;
use super::{
    check::ListValue,
    finding::{Elsewhere, Finding, Report, Severity, beginning},
    lists::FOR_EVER,
};
use crate::{
    limits::{LIST_VALUES_MAX, TEXT_BYTES_MAX},
    types::time::Timestamp,
};

const HEAD: &str = "#@ list ";
const LINE: &str = "#|";
/// Lines of one file that are told to be wrong; whoever wrote it has seen enough then.
const ERRORS_MAX: usize = 20;

/// A file that a list of a rules file names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListFile {
    pub name: String,
    /// Where the rules file names it first, in bytes.
    pub at: Range<usize>,
}

/// The files that the lists of a rules file name, in its order, each once.
pub fn list_files(source: &str) -> Vec<ListFile> {
    let (root, _) = toml::de::DeTable::parse_recoverable(source);
    let lists = root.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == "lists");
    let lists = lists.and_then(|(_, lists)| lists.get_ref().as_table());
    let mut named: Vec<ListFile> = lists
        .into_iter()
        .flat_map(|lists| lists.iter())
        .filter_map(|(_, list)| {
            let file = list.get_ref().as_table()?.iter().find(|(key, _)| key.get_ref().as_ref() == "file")?.1;
            Some(ListFile { name: file.get_ref().as_str()?.to_owned(), at: file.span() })
        })
        .collect();
    named.sort_unstable_by_key(|file| file.at.start);
    let mut files: Vec<ListFile> = Vec::new();
    for file in named {
        if files.iter().all(|before| before.name != file.name) {
            files.push(file);
        }
    }
    files
}

/// Whether the text has what stands in a list's file.
pub fn has_list_file(source: &str, name: &str) -> bool {
    blocks(source).iter().any(|block| block.name == name)
}

/// Appends what stands in a list's file, which is checked line by line. An end that is a day alone becomes the time at
/// which that day is over.
///
/// # Errors
/// Every line that cannot stand in a list, up to 20 of them; the text ends with the others then, so that the rest can be
/// checked too.
pub fn append_list_file(source: &mut String, name: &str, content: &str) -> Result<(), Vec<Finding>> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    if !source.ends_with('\n') {
        source.push('\n');
    }
    source.push_str(&format!("{HEAD}{name}\n"));
    let mut findings = Vec::new();
    let lines = checked(name, content.lines(), &mut findings);
    let ends = Ends::of(&lines);
    for line in lines {
        source.push_str(if line.is_empty() { LINE } else { "#| " });
        source.push_str(&ends.exact(line));
        source.push('\n');
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// What is wrong with the lines of lists' files that a text has already, and the text without those lines, so that the
/// rest can be checked; `None` where nothing is. For texts that come from outside: one that was kept means what it meant
/// when it was kept, whatever later programs would refuse to read.
pub fn without_wrong_lines(source: &str) -> Option<(String, Vec<Finding>)> {
    let (mut findings, mut replaced) = (Vec::new(), Vec::new());
    let (blocks, astray) = appended(source);
    for Block { name, lines, starts } in blocks {
        if findings.len() >= ERRORS_MAX {
            break;
        }
        let mut wrong = Vec::new();
        let mut kept = checked(name, lines.iter().copied(), &mut wrong);
        ends::refuse_days(name, &mut kept, &mut wrong);
        if !wrong.is_empty() {
            let lines = starts.iter().zip(&lines).map(|(start, line)| *start..start + line.len());
            replaced.extend(lines.zip(kept));
        }
        findings.extend(wrong);
    }
    findings.extend(astray);
    if findings.is_empty() {
        return None;
    }
    let (mut text, mut taken) = (String::with_capacity(source.len()), 0);
    for (line, instead) in replaced {
        text.extend([&source[taken..line.start], instead]);
        taken = line.end;
    }
    text.push_str(&source[taken..]);
    Some((text, findings))
}

/// The lines of a list's file, empty where one is refused, which `findings` tells; all are once there are 20 of those.
fn checked<'l>(
    file: &str,
    lines: impl Iterator<Item = &'l str>,
    findings: &mut Vec<Finding>,
) -> Vec<&'l str> {
    let (mut has_header, mut is_over) = (false, false);
    let mut kept = Vec::new();
    for (number, line) in (1..).zip(lines) {
        let is_header = !has_header && !line.is_empty();
        has_header |= is_header;
        let refused = if is_over { None } else { refusal(file, number, line) };
        kept.push(match refused {
            _ if is_over => "",
            None => line,
            Some(finding) => {
                findings.push(finding);
                // Without a header the other lines would say nothing.
                is_over = is_header || findings.len() == ERRORS_MAX;
                if is_header { COLUMNS[0] } else { "" }
            }
        });
    }
    kept
}

/// Why a line of a list's file is not taken.
fn refusal(file: &str, number: u32, line: &str) -> Option<Finding> {
    let is_control = |c: char| c.is_control() && c != '\t';
    let (span, message, help, text);
    if let Some(place) = line.chars().position(is_control) {
        (span, message, help) = (place..place + 1, "a control character cannot stand in a list", None);
        text = line.replace(is_control, "\u{fffd}");
    } else {
        // No cell of a list spans lines: read on as CSV, this one would take the rest of the file for its text.
        let open = Cells::of(line).open()?;
        (span, message) = (open, "the quote that begins here is not closed on its line");
        help = Some("close it with `\"` on the same line; inside quotes, a `\"` is written twice".to_owned());
        text = line.to_owned();
    }
    let place = Elsewhere {
        file,
        line: number,
        column: span.start as u32 + 1,
        length: span.len().max(1) as u32,
        text: &text,
    };
    Some(place.finding(Severity::Error, message.to_owned(), help))
}

/// One appended file.
pub(super) struct Block<'s> {
    pub(super) name: &'s str,
    lines: Vec<&'s str>,
    /// Where each line begins in the whole text, in bytes.
    starts: Vec<usize>,
}

/// The files appended to a text.
pub(super) fn blocks(source: &str) -> Vec<Block<'_>> {
    appended(source).0
}

/// The same, with the first line that looks like one of a list's file and belongs to none, as behind a blank line: it
/// would say nothing, and what it names would be on no list.
fn appended(source: &str) -> (Vec<Block<'_>>, Option<Finding>) {
    let mut behind = 0;
    let lines = source.split_inclusive('\n').map(|line| {
        behind += line.len();
        (behind - line.len(), line.lines().next().unwrap_or(""))
    });
    let lines: Vec<(usize, &str)> = lines.collect();
    let is_appended = |line: &str| line.starts_with("#@") || line.starts_with(LINE) || line.trim().is_empty();
    let first = lines.iter().rposition(|(_, line)| !is_appended(line)).map_or(0, |last| last + 1);
    let (mut blocks, mut astray) = (Vec::<Block<'_>>::new(), None);
    let (mut is_open, mut number) = (false, 0);
    for (start, line) in &lines[first..] {
        number += 1;
        if let Some(name) = line.strip_prefix(HEAD) {
            blocks.push(Block { name, lines: Vec::new(), starts: Vec::new() });
            (is_open, number) = (true, 0);
            continue;
        }
        let (text, block) = (line.strip_prefix(LINE), blocks.last_mut());
        match (text, block) {
            (Some(text), Some(block)) if is_open => {
                let text = text.strip_prefix(' ').unwrap_or(text);
                block.lines.push(text);
                block.starts.push(start + line.len() - text.len());
            }
            (Some(_), Some(block)) if astray.is_none() => {
                let length = line.len().max(1) as u32;
                let place = Elsewhere { file: block.name, line: number, column: 1, length, text: line };
                let message = "a line of a list that belongs to none: the list ended above it";
                let help = "leave no other line between the lines of a list; an empty one of it is `#|`";
                astray = Some(place.finding(Severity::Error, message.to_owned(), Some(help.to_owned())));
            }
            _ => is_open = false,
        }
    }
    (blocks, astray)
}

const COLUMNS: [&str; 3] = ["value", "expires_at", "source"];

/// Reads an appended file, reporting what is wrong under its own name. `None` where something is.
pub(super) fn read(block: &Block<'_>, report: &mut Report<'_>) -> Option<Vec<ListValue>> {
    Reading { block, report, errors: 0 }.values()
}

struct Reading<'b, 'r, 's> {
    block: &'b Block<'b>,
    report: &'r mut Report<'s>,
    errors: usize,
}

impl Reading<'_, '_, '_> {
    fn values(mut self) -> Option<Vec<ListValue>> {
        let content = self.block.lines.join("\n");
        let mut reader = csv::ReaderBuilder::new().from_reader(content.as_bytes());
        let headers = match reader.headers() {
            Ok(headers) => headers.clone(),
            Err(error) => {
                self.wrong(self.header_line(), None, &error.to_string(), None);
                return None;
            }
        };
        let places = self.places(&headers)?;
        let mut values: Vec<ListValue> = Vec::new();
        let mut lines: HashMap<String, u32> = HashMap::new();
        for record in reader.records() {
            if self.errors >= ERRORS_MAX {
                break;
            }
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    let line = self.line_of(error.position());
                    let what = match error.kind() {
                        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                            format!("the line has {len} cells where the header has {expected_len}")
                        }
                        _ => error.to_string(),
                    };
                    self.wrong(line, None, &what, None);
                    continue;
                }
            };
            let line = self.line_of(record.position());
            let Some(value) = self.value(&record, places, line) else { continue };
            if let Some(first) = lines.insert(value.value.clone(), line) {
                let message = format!("`{}` is there already, on line {first}", value.value);
                self.wrong(line, places[0], &message, Some("keep one of the two"));
                continue;
            }
            values.push(value);
        }
        if values.len() > LIST_VALUES_MAX {
            let message =
                format!("the list has {} values, at most {LIST_VALUES_MAX} are allowed", values.len());
            self.wrong(1, None, &message, None);
        }
        (self.errors == 0).then_some(values)
    }

    /// Where the columns stand.
    fn places(&mut self, headers: &StringRecord) -> Option<[Option<usize>; 3]> {
        let mut places = [None; 3];
        let mut unknown = Vec::new();
        for (place, header) in headers.iter().enumerate() {
            match COLUMNS.iter().position(|column| *column == header.trim()) {
                Some(column) if places[column].is_some() => {
                    self.wrong(
                        self.header_line(),
                        Some(place),
                        &format!("the column `{}` is there twice", COLUMNS[column]),
                        None,
                    );
                    return None;
                }
                Some(column) => places[column] = Some(place),
                None => unknown.push(header.trim().to_owned()),
            }
        }
        if places[0].is_none() {
            let help = "the first line names the columns: `value`, and `expires_at` and `source` where there are any";
            let message = "the header lacks the needed column `value`";
            self.wrong(self.header_line(), None, message, Some(help));
            return None;
        }
        if !unknown.is_empty() {
            let unknown = unknown.join("`, `");
            let message = format!("not understood and left aside: column `{}`", beginning(&unknown));
            self.say(Severity::Warning, self.header_line(), None, &message, None);
        }
        Some(places)
    }

    fn header_line(&self) -> u32 {
        self.line_of(None).min(self.block.lines.len().max(1) as u32)
    }

    /// The line of a record, whose position is that of the blank lines before it; without a position that of the header.
    fn line_of(&self, position: Option<&csv::Position>) -> u32 {
        let line = position.map_or(1, csv::Position::line) as usize;
        let blank = self.block.lines.iter().skip(line - 1).take_while(|text| text.is_empty()).count();
        (line + blank) as u32
    }

    fn value(&mut self, record: &StringRecord, places: [Option<usize>; 3], line: u32) -> Option<ListValue> {
        let cell = |column: usize| places[column].and_then(|place| record.get(place)).unwrap_or("");
        let (value, ends, source) = (cell(0), cell(1).trim(), cell(2));
        if value.is_empty() || value.len() > TEXT_BYTES_MAX {
            let message = format!("a value has 1 to {TEXT_BYTES_MAX} bytes, this has {}", value.len());
            self.wrong(line, places[0], &message, None);
            return None;
        }
        if source.len() > TEXT_BYTES_MAX {
            let message = format!("a source has at most {TEXT_BYTES_MAX} bytes, this has {}", source.len());
            self.wrong(line, places[2], &message, None);
            return None;
        }
        let until = if ends.is_empty() { Some(FOR_EVER) } else { Timestamp::parse(ends).map(|end| end.0) };
        let Some(until) = until else {
            let help = "a time is RFC 3339, such as 2027-01-31T00:00:00Z; empty is for ever";
            self.wrong(line, places[1], &format!("`{}` is no time", beginning(ends)), Some(help));
            return None;
        };
        if value.trim() != value {
            let help = "write it without: what a switch sends is compared byte by byte";
            let message = "the value begins or ends with a blank, so that hardly any equals it";
            self.say(Severity::Warning, line, places[0], message, Some(help));
        }
        Some(ListValue { value: value.to_owned(), until, source: source.to_owned(), line })
    }

    fn wrong(&mut self, line: u32, cell: Option<usize>, message: &str, help: Option<&str>) {
        self.errors += 1;
        self.say(Severity::Error, line, cell, message, help);
    }

    fn say(&mut self, severity: Severity, line: u32, cell: Option<usize>, message: &str, help: Option<&str>) {
        let text = self.block.lines.get(line as usize - 1).copied().unwrap_or("");
        let span = Cells::of(text).spans.into_iter().nth(cell.unwrap_or(0)).unwrap_or(0..0);
        let place = Elsewhere {
            file: self.block.name,
            line,
            column: span.start as u32 + 1,
            length: span.len().max(1) as u32,
            text,
        };
        self.report.elsewhere(severity, place, message.to_owned(), help.map(str::to_owned));
    }
}

/// Where the cells of one line stand, by the rules of CSV: a quote that begins a cell hides commas until it is closed.
struct Cells {
    /// In characters, quotes included; at least one.
    spans: Vec<Range<usize>>,
    /// The last one begins with a quote that is not closed.
    last_is_open: bool,
}

impl Cells {
    fn of(line: &str) -> Cells {
        let (mut spans, mut start, mut length) = (Vec::new(), 0, 0);
        let (mut is_open, mut may_reopen) = (false, false);
        for (place, c) in line.chars().enumerate() {
            length = place + 1;
            let was_closed = std::mem::take(&mut may_reopen);
            match c {
                '"' if is_open => (is_open, may_reopen) = (false, true),
                // Written twice, a quote stands for itself and closes nothing.
                '"' => is_open = place == start || was_closed,
                ',' if !is_open => {
                    spans.push(start..place);
                    start = length;
                }
                _ => {}
            }
        }
        spans.push(start..length);
        Cells { spans, last_is_open: is_open }
    }

    /// The cell whose quote is not closed.
    fn open(self) -> Option<Range<usize>> {
        self.spans.into_iter().last().filter(|_| self.last_is_open)
    }
}
