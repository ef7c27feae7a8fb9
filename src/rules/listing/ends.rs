//! When the values of a list's file end. A day alone is over when the next one begins, UTC, as a card's last day is.
//!
//! Texts that were kept by programs before that have days that end as they begin, and must go on to mean that. So what is
//! appended says the exact time, and lines with a day alone that a text brings along are refused.

use std::{borrow::Cow, ops::Range};

use super::{Block, COLUMNS, Cells, ERRORS_MAX, blocks, list_files, read};
use crate::{
    rules::finding::{Elsewhere, Finding, Report, Severity, beginning},
    types::time::Timestamp,
};

/// Where the lines of one file say when their values end.
pub(super) struct Ends {
    column: Option<usize>,
}

impl Ends {
    /// Of a file with these lines.
    pub(super) fn of(lines: &[&str]) -> Ends {
        let header = lines.iter().find(|line| !line.is_empty()).copied().unwrap_or("");
        let columns = 0..Cells::of(header).spans.len();
        Ends { column: columns.into_iter().find(|column| cell(header, *column).1 == COLUMNS[1]) }
    }

    /// The line with the time at which the day is over that it ends by, where it says a day alone.
    pub(super) fn exact<'l>(&self, line: &'l str) -> Cow<'l, str> {
        match self.day(line) {
            None => Cow::Borrowed(line),
            Some((place, [_, over])) => {
                Cow::Owned([&line[..place.start], &over, &line[place.end..]].concat())
            }
        }
    }

    /// Where a line says a day alone, and when that begins and is over.
    fn day(&self, line: &str) -> Option<(Range<usize>, [String; 2])> {
        let (start, text) = cell(line, self.column?);
        let bounds = [Timestamp::parse(text)?, Timestamp::parse_end(text)?];
        (bounds[0] != bounds[1]).then(|| (start..start + text.len(), bounds.map(|time| time.to_string())))
    }

    /// Where a line says its end, in characters.
    fn span(&self, line: &str) -> Range<usize> {
        let spans = Cells::of(line).spans;
        self.column.and_then(|column| spans.into_iter().nth(column)).unwrap_or(0..0)
    }
}

/// The byte at which the text of a cell begins, and the text, without quotes and blanks around it.
fn cell(line: &str, column: usize) -> (usize, &str) {
    let span = Cells::of(line).spans.into_iter().nth(column).unwrap_or(0..0);
    let byte_of = |place: usize| line.char_indices().nth(place).map_or(line.len(), |(byte, _)| byte);
    let (start, end) = (byte_of(span.start), byte_of(span.end));
    let cell = &line[start..end];
    let inner = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell);
    let text = inner.trim();
    (start + cell.find(text).unwrap_or(0), text)
}

/// Refuses the lines that say a day alone, which are left empty.
pub(super) fn refuse_days(file: &str, lines: &mut [&str], findings: &mut Vec<Finding>) {
    let ends = Ends::of(lines);
    for (number, line) in (1..).zip(lines) {
        if findings.len() >= ERRORS_MAX {
            return;
        }
        let Some((_, [begins, over])) = ends.day(line) else { continue };
        let message = "a day alone cannot be the end of a value among the lines that come with rules";
        let help = format!("write {over} to keep it to the end of that day, or {begins} for its beginning");
        let place = at(file, number, ends.span(line), line);
        findings.push(place.finding(Severity::Error, message.to_owned(), Some(help)));
        *line = "";
    }
}

/// Tells of the values in the lists' files of a text that have ended by `now`, up to 20 of each file.
pub(in crate::rules) fn ended(source: &str, now: Timestamp) -> Vec<Finding> {
    let files = list_files(source);
    let blocks = blocks(source).into_iter().filter(|block| files.iter().any(|file| file.name == block.name));
    blocks.flat_map(|block| ended_in(&block, now)).collect()
}

fn ended_in(block: &Block<'_>, now: Timestamp) -> Vec<Finding> {
    let ends = Ends::of(&block.lines);
    // What else there is to say of the lines was said where they were checked.
    let values = read(block, &mut Report::new(block.name, "")).unwrap_or_default();
    let mut ended = values.iter().filter(|value| value.until <= now.0);
    let say = |line: u32, message: String, help: Option<String>| {
        let text = block.lines.get(line as usize - 1).copied().unwrap_or("");
        at(block.name, line, ends.span(text), text).finding(Severity::Warning, message, help)
    };
    let mut findings: Vec<Finding> = ended
        .by_ref()
        .take(ERRORS_MAX)
        .map(|value| {
            let (name, end) = (beginning(&value.value), Timestamp(value.until));
            let message = format!("`{name}` ended at {end} and is on the list no more");
            say(value.line, message, Some("take the line out, or give it a later end".to_owned()))
        })
        .collect();
    if let Some(next) = ended.next() {
        let message = format!("{} more values of this file have ended", 1 + ended.count());
        findings.push(say(next.line, message, None));
    }
    findings
}

fn at<'t>(file: &'t str, line: u32, span: Range<usize>, text: &'t str) -> Elsewhere<'t> {
    Elsewhere { file, line, column: span.start as u32 + 1, length: span.len().max(1) as u32, text }
}
