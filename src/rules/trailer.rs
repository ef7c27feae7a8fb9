//! The end of a rules text that the engine writes and people read: comment lines that begin with `#@`, with `#|` lines below
//! some, behind everything else. What a call changes about rules becomes part of their text this way, and so of their
//! version. Here are the modes of rules; a `list` has the lines of its file below it.
//!
//! ```text
//! #@ list blocked.csv
//! #| value,expires_at,source
//!
//! #@ mode card-testing shadow since=2026-11-26T10:00:00Z by=SetRuleMode
//! #@ mode night-abroad shadow since=2026-11-26T12:01:00Z by=guard why=it declined 31 % of 2,000 attempts
//! ```
//!
//! Modes come last, and one line break stands before the first of them that belongs to neither side, so that a text
//! without its modes is to the byte what it was before.

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use super::{
    Mode,
    file::File,
    finding::{Report, did_you_mean},
};
use crate::types::time::Timestamp;

/// What a line begins with that says something.
const MARK: &str = "#@";
/// And one that belongs to what the line above says.
const BELOW: &str = "#|";
const MODE: &str = "mode";
const LIST: &str = "list";

/// The mode that a rule was given, whatever its file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeSet {
    pub rule: Arc<str>,
    pub mode: Mode,
    pub since: Timestamp,
    /// One word, such as `SetRuleMode` or `guard`.
    pub by: Arc<str>,
    /// One line; empty where no reason was given.
    pub why: Arc<str>,
}

/// As a line of the trailer.
impl fmt::Display for ModeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModeSet { rule, mode, since, by, why } = self;
        write!(f, "{MARK} {MODE} {rule} {} since={since} by={by}", mode.name())?;
        if why.is_empty() { Ok(()) } else { write!(f, " why={why}") }
    }
}

impl ModeSet {
    /// `in shadow by SetRuleMode since ..`, as people read it.
    pub(super) fn told(&self) -> String {
        let ModeSet { mode, since, by, why, .. } = self;
        let held = match mode {
            Mode::Live => "live",
            Mode::Shadow => "in shadow",
            Mode::Off => "off",
        };
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        format!("{held} by {by} since {since}{why}")
    }

    /// Reads what stands behind the word `mode`.
    fn parse(text: &str) -> Result<ModeSet, String> {
        let (text, why) = text.split_once(" why=").unwrap_or((text, ""));
        let words: Vec<&str> = text.split_whitespace().collect();
        let [rule, mode, since, by] = words.as_slice() else {
            return Err("it has a rule, a mode, `since=TIME` and `by=WHO`".into());
        };
        let mode = Mode::ALL.into_iter().find(|known| known.name() == *mode);
        let since = since.strip_prefix("since=").and_then(Timestamp::parse);
        Ok(ModeSet {
            rule: Arc::from(*rule),
            mode: mode.ok_or("the mode is live, shadow or off")?,
            since: since.ok_or("`since=` is a time such as 2026-11-26T10:00:00Z")?,
            by: Arc::from(by.strip_prefix("by=").ok_or("`by=` says who set the mode")?),
            why: Arc::from(why.trim()),
        })
    }
}

/// Where the lines begin behind which nothing but such lines follows.
fn start(source: &str) -> usize {
    let mut start = source.len();
    for line in source.split_inclusive('\n').rev() {
        if !line.starts_with(MARK) && !line.starts_with(BELOW) && !line.trim().is_empty() {
            break;
        }
        start -= line.len();
    }
    start
}

/// The lines there that say something, with the bytes they stand on; ends included in neither.
fn lines(source: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = start(source);
    source[at..].split_inclusive('\n').filter_map(move |line| {
        let from = at;
        at += line.len();
        let line = line.trim_end();
        line.starts_with(MARK).then(|| (from..from + line.len(), line))
    })
}

/// What a line says: its directive and the rest.
fn directive(line: &str) -> (&str, &str) {
    let said = line[MARK.len()..].trim_start();
    said.split_once(char::is_whitespace).unwrap_or((said, ""))
}

/// The modes that a text sets; lines that cannot be read are passed over.
pub fn modes(source: &str) -> Vec<ModeSet> {
    let set = lines(source).filter_map(|(_, line)| match directive(line) {
        (MODE, rest) => ModeSet::parse(rest).ok(),
        _ => None,
    });
    set.collect()
}

/// The text as it was before modes were set.
pub fn without_modes(source: &str) -> String {
    let is_mode = |line: &str| line.starts_with(MARK) && directive(line.trim_end()).0 == MODE;
    let (text, mut tail) = source.split_at(start(source));
    let mut text = text.to_owned();
    let mut lines: Vec<&str> = tail.split_inclusive('\n').collect();
    let last_other = lines.iter().rposition(|line| !is_mode(line) && !line.trim().is_empty());
    let behind = last_other.map_or(0, |last| last + 1);
    // Where modes close the text, the line break before them goes too.
    if let Some(first) = lines[behind..].iter().position(|line| is_mode(line)) {
        lines.truncate(behind + first);
        tail = "\n";
    } else {
        tail = "";
    }
    lines.iter().filter(|line| !is_mode(line)).for_each(|line| text.push_str(line));
    text.truncate(text.strip_suffix(tail).unwrap_or(&text).len());
    text
}

/// The same text with these modes, in the order of their rules' ids.
pub fn with_modes(source: &str, modes: &[ModeSet]) -> String {
    let by_rule: BTreeMap<&str, &ModeSet> = modes.iter().map(|set| (&*set.rule, set)).collect();
    let mut text = without_modes(source);
    if !by_rule.is_empty() {
        text.push('\n');
    }
    by_rule.values().for_each(|set| text.extend([set.to_string().as_str(), "\n"]));
    text
}

/// Gives the rules of a file the modes that its trailer sets, and says so.
pub(super) fn apply(source: &str, file: &mut File, report: &mut Report<'_>) -> Vec<ModeSet> {
    let mut modes: Vec<ModeSet> = Vec::new();
    for (span, line) in lines(source) {
        let set = match directive(line) {
            (MODE, rest) => ModeSet::parse(rest),
            (LIST, _) => continue,
            (unknown, _) => {
                let help = did_you_mean(unknown, [MODE, LIST]).unwrap_or_else(|| {
                    "`#@` lines at the end of a file are the engine's; an ordinary comment begins otherwise"
                        .into()
                });
                report.error(span, format!("unknown directive `{unknown}`"), Some(help));
                continue;
            }
        };
        let set = match set {
            Ok(set) => set,
            Err(help) => {
                report.error(span, "this sets no mode", Some(help));
                continue;
            }
        };
        if modes.iter().any(|other| other.rule == set.rule) {
            report.error(span, format!("the mode of `{}` is set twice", set.rule), None);
            continue;
        }
        let ids = || file.rules.iter().filter_map(|rule| rule.id.as_ref()).map(|id| id.value.as_str());
        let place =
            file.rules.iter().position(|rule| rule.id.as_ref().is_some_and(|id| id.value == *set.rule));
        match place {
            None => {
                let help = did_you_mean(&set.rule, ids());
                report.error(span, format!("there is no rule `{}`", set.rule), help);
            }
            Some(place) => {
                let rule = &mut file.rules[place];
                if rule.mode != set.mode {
                    let says = rule.mode.name();
                    let message = format!("`{}` is held {}; the file says {says}", set.rule, set.told());
                    let help = format!(
                        "`Risk.SetRuleMode` with {says}, or a file that says {}, ends this",
                        set.mode.name()
                    );
                    report.warning(span, message, Some(help));
                    rule.held = Some((rule.mode, set.clone()));
                    rule.mode = set.mode;
                }
            }
        }
        modes.push(set);
    }
    let mut at = 0;
    for line in source[..start(source)].split_inclusive('\n') {
        if line.starts_with(MARK) {
            let message = "a `#@` line in the midst of a file says nothing";
            report.warning(
                at..at + line.trim_end().len(),
                message,
                Some("it is read at the end alone".into()),
            );
        }
        at += line.len();
    }
    modes
}
