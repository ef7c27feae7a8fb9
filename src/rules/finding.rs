//! What is wrong with a rules file, said so that its writer can mend it: file, line, column, the line itself with a
//! caret below the place, and where possible what was probably meant.

pub use crate::types::spelling::{did_you_mean, nearest};
use std::{fmt, ops::Range};

use serde::Serialize;

/// Whether the file can be used in spite of the finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing found wrong, at its place. `Display` shows it over several lines, for people; serialised it is one
/// flat object, for editors.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Characters the place covers on its line, at least 1.
    pub length: u32,
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line as it stands in the file, or its beginning; empty where the place lies behind what anybody reads.
    pub source_line: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Finding { file, line, column, message, source_line, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {message}")?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        if !source_line.is_empty() || *column == 1 {
            // Tabs are repeated below the line, so that the caret stands right however wide they are shown.
            let before = source_line.chars().take(*column as usize - 1);
            let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(
                f,
                "\n  {number} | {source_line}\n  {margin} | {indent}{}",
                "^".repeat(self.length as usize)
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  {margin} = help: {help}")?;
        }
        Ok(())
    }
}

/// Most findings of one file; whoever has mended so many asks again.
const FINDINGS_MAX: usize = 200;
/// Longest line that is shown, in bytes: more than the longest condition.
const SOURCE_LINE_BYTES_MAX: usize = 8 * 1024;
/// Characters of a line of another file that are shown.
const SHOWN_ELSEWHERE_MAX: usize = 200;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A place in another file than the rules file.
pub struct Elsewhere<'t> {
    pub file: &'t str,
    pub line: u32,
    pub column: u32,
    pub length: u32,
    /// The line as it stands there.
    pub text: &'t str,
}

impl Elsewhere<'_> {
    /// What is wrong there. Such a file may be one line of megabytes: no more of it goes into logs and answers than
    /// somebody looks at.
    pub fn finding(self, severity: Severity, message: String, help: Option<String>) -> Finding {
        let shown = beginning(self.text);
        let shown_chars = shown.chars().count() as u32;
        // Without the place, a line shows nothing.
        let is_shown = shown.len() == self.text.len() || self.column <= shown_chars;
        let room = if is_shown { shown_chars.saturating_sub(self.column - 1) } else { 1 };
        Finding {
            severity,
            file: self.file.to_owned(),
            line: self.line,
            column: self.column,
            length: self.length.min(room).max(1),
            message,
            help,
            source_line: if is_shown { shown.to_owned() } else { String::new() },
        }
    }
}

/// As much of a text from another file as is shown.
pub(super) fn beginning(text: &str) -> &str {
    text.char_indices().nth(SHOWN_ELSEWHERE_MAX).map_or(text, |(end, _)| &text[..end])
}

/// Collects the findings of one file.
pub struct Report<'a> {
    file: String,
    source: &'a str,
    line_starts: Vec<usize>,
    findings: Vec<Finding>,
    /// Errors and warnings that were found beyond those that are kept.
    further: [usize; 2],
}

impl<'a> Report<'a> {
    pub fn new(file: &str, source: &'a str) -> Report<'a> {
        let line_starts =
            std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Report { file: file.to_string(), source, line_starts, findings: Vec::new(), further: [0; 2] }
    }

    pub fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Error, span, message.into(), help);
    }

    pub fn warning(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Warning, span, message.into(), help);
    }

    pub fn has_errors(&self) -> bool {
        self.further[0] > 0 || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The line, from 1, that a byte of the file stands on.
    pub fn line_of(&self, byte: usize) -> u32 {
        self.line_starts.partition_point(|start| *start <= byte) as u32
    }

    /// Everything found, in the order of the file, and at its end how many there were beyond those that are kept.
    pub fn finish(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| (finding.line, finding.column));
        let [errors, warnings] = self.further;
        if errors + warnings > 0 {
            let severity = if errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{errors} more errors and {warnings} more warnings are not shown");
            let last = self.finding(severity, self.source.len()..self.source.len(), message, None);
            self.findings.push(last);
        }
        self.findings
    }

    /// Notes what is wrong in another file that belongs to this one.
    pub fn elsewhere(
        &mut self,
        severity: Severity,
        at: Elsewhere<'_>,
        message: String,
        help: Option<String>,
    ) {
        self.findings.push(at.finding(severity, message, help));
    }

    fn add(&mut self, severity: Severity, span: Range<usize>, message: String, help: Option<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let finding = self.finding(severity, span, message, help);
            self.findings.push(finding);
        } else {
            self.further[usize::from(severity == Severity::Warning)] += 1;
        }
    }

    fn finding(
        &self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Finding {
        let source = self.source;
        let clamp = |byte: usize| (0..=byte.min(source.len())).rev().find(|at| source.is_char_boundary(*at));
        let (start, end) = (clamp(span.start).unwrap_or(0), clamp(span.end).unwrap_or(0));
        let line = self.line_of(start);
        // What some editors put before the first line is no part of it.
        let mark =
            if line == 1 && source.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        let line_start = self.line_starts[line as usize - 1] + mark;
        let (start, end) = (start.max(line_start), end.max(line_start));
        let line_end = self.line_starts.get(line as usize).map_or(source.len(), |next| next - 1);
        let text = source[line_start.min(line_end)..line_end].split('\r').next().unwrap_or("");
        let covered = source.get(start..end.min(line_start + text.len())).unwrap_or("");
        let shown = if text.len() <= SOURCE_LINE_BYTES_MAX { text } else { "" };
        Finding {
            severity,
            file: self.file.clone(),
            line,
            column: source[line_start..start].chars().count() as u32 + 1,
            length: covered.chars().count().max(1) as u32,
            message,
            help,
            source_line: shown.to_string(),
        }
    }
}

/// What is wrong at one place of a rules file, for who has nothing else to say of it.
pub fn error_at(file: &str, source: &str, span: Range<usize>, message: String, help: String) -> Finding {
    Report::new(file, source).finding(Severity::Error, span, message, Some(help))
}

/// The text of a file.
///
/// # Errors
/// The first byte that is not UTF-8, at its place.
pub fn text_of(file: &str, bytes: Vec<u8>) -> Result<String, Finding> {
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let line_start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = &bytes[line_start..];
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        let before = String::from_utf8_lossy(&bytes[line_start..at]);
        let shown = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let is_first = line_start == 0 && before.starts_with(BYTE_ORDER_MARK);
        Finding {
            severity: Severity::Error,
            file: file.to_owned(),
            line: bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u32 + 1,
            column: before.chars().count() as u32 + 1 - u32::from(is_first),
            length: 1,
            message: format!("the file is not UTF-8: byte {at}, 0x{:02x}, begins no character", bytes[at]),
            help: Some("save it as UTF-8; offsets in bytes begin with 0".to_owned()),
            source_line: match shown.len() <= SOURCE_LINE_BYTES_MAX {
                true => shown.trim_start_matches(BYTE_ORDER_MARK).to_owned(),
                false => String::new(),
            },
        }
    })
}
