//! The shape of a rules file: from TOML to declarations, every key and value with its place. Knows which keys there
//! are and what kind of value each takes; what names and expressions mean is for the checker.
//!
//! The TOML is walked by hand rather than through serde, which would stop at the first thing that is wrong.

mod suppressions;

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Effect, Mode, PolicyField,
    check::ListValue,
    filter,
    finding::{Report, did_you_mean, nearest},
    guesses,
    listing::{self, Block},
    trailer::ModeSet,
};
use crate::{
    features::aggregate::{Attribute, Keys, Measure},
    limits::{ID_BYTES_MAX, LIST_VALUES_MAX, TEXT_BYTES_MAX, WINDOW_MAX_MS},
    types::{
        codes::{Decision, ResponseCode},
        lists::FraudLabel,
        time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp},
    },
};

pub use suppressions::SuppressionDeclaration;
/// Longest that a label policy keeps an entry, where not for ever.
const LIFE_MAX_MS: i64 = 3_650 * DAY_MS;

/// A value and the bytes of the file it stands on.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// What a file declares. A part that is wrong is missing here and reported.
#[derive(Default, Debug)]
pub struct File {
    pub aggregates: Vec<AggregateDeclaration>,
    pub lists: Vec<ListDeclaration>,
    pub policies: Vec<PolicyDeclaration>,
    pub rules: Vec<RuleDeclaration>,
    pub suppressions: Vec<SuppressionDeclaration>,
    pub tests: Vec<TestDeclaration>,
    /// Names of aggregates and, with `lists.` before them, of lists whose declaration is no table.
    pub broken: Vec<String>,
}

#[derive(Debug)]
pub struct AggregateDeclaration {
    pub name: At<String>,
    pub by: Option<Keys>,
    pub window_ms: Option<i64>,
    pub measure: Option<Measure>,
    pub filter: Option<Expression>,
    pub counts_label: bool,
}

impl AggregateDeclaration {
    /// As [`Aggregate::is_shared`](crate::features::aggregate::Aggregate::is_shared).
    pub fn is_shared(&self) -> bool {
        self.counts_label || self.by.is_some_and(Keys::cross_accounts)
    }
}

#[derive(Debug)]
pub struct ListDeclaration {
    pub name: At<String>,
    pub values: Option<ListValues>,
}

#[derive(Debug)]
pub enum ListValues {
    Texts(Vec<String>),
    Ints(Vec<i64>),
    None,
    /// From a file of its own.
    File {
        name: String,
        values: Vec<ListValue>,
    },
}

#[derive(Debug)]
pub struct PolicyDeclaration {
    pub label: Option<FraudLabel>,
    pub kind: Option<String>,
    pub list: Option<At<String>>,
    pub add: Option<PolicyField>,
    pub expires_in_ms: Option<i64>,
}

#[derive(Debug)]
pub struct RuleDeclaration {
    pub id: Option<At<String>>,
    pub when: Option<Expression>,
    pub then: Option<Effect>,
    pub response_code: Option<ResponseCode>,
    pub reason: Option<String>,
    pub text: Option<String>,
    pub mode: Mode,
    /// What the file says, and what a line behind it says instead.
    pub held: Option<(Mode, ModeSet)>,
    pub live_percent: Option<u8>,
    pub protected: bool,
    pub group: Option<String>,
    /// The whole table.
    pub span: Range<usize>,
}

#[derive(Debug)]
pub struct TestDeclaration {
    pub name: Option<String>,
    pub given: Vec<(At<String>, At<GivenValue>)>,
    /// When the transaction is decided.
    pub time: Option<Timestamp>,
    /// What calls have put on lists, by the list's name.
    pub lists: Vec<(At<String>, Vec<At<String>>)>,
    pub decision: Option<Decision>,
    pub rules: Option<Vec<At<String>>>,
    pub span: Range<usize>,
}

/// A value as a test gives it. Numbers as they are written, so that no digit of an amount is lost.
#[derive(Clone, PartialEq, Debug)]
pub enum GivenValue {
    Bool(bool),
    Int(String),
    Float(String),
    Text(String),
}

/// The text of an expression, and where in the file each of its bytes stands.
#[derive(Clone, Debug)]
pub struct Expression {
    pub text: String,
    /// One place per byte of the text, and that behind the last.
    places: Vec<usize>,
}

impl Expression {
    /// The bytes of the file that a part of the text stands on.
    pub fn in_file(&self, part: Range<usize>) -> Range<usize> {
        let last = self.places.len() - 1;
        self.places[part.start.min(last)]..self.places[part.end.min(last)]
    }

    pub fn span(&self) -> Range<usize> {
        self.in_file(0..self.text.len())
    }

    /// Finds the places of the bytes of a TOML string from its source, quotes included.
    fn new(text: &str, source: &str, span: Range<usize>) -> Expression {
        let raw = source.get(span.clone()).unwrap_or("");
        let places = string_places(raw).filter(|(decoded, _)| decoded == text).map(|(_, places)| places);
        let places = match places {
            Some(places) => places.into_iter().map(|place| span.start + place).collect(),
            // Should the TOML library read a string otherwise than we do, the place is the string as a whole.
            None => std::iter::repeat_n(span.start, text.len()).chain([span.end]).collect(),
        };
        Expression { text: text.to_string(), places }
    }
}

/// Reads a TOML string literal: its text and, for each byte of it, the byte of the literal it comes from, with the
/// place of the closing quotes behind the last. `None` for what is no string.
fn string_places(raw: &str) -> Option<(String, Vec<usize>)> {
    let (quotes, is_basic) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] if raw.len() >= 6 => (3, true),
        [b'\'', b'\'', b'\'', ..] if raw.len() >= 6 => (3, false),
        [b'"', ..] if raw.len() >= 2 => (1, true),
        [b'\'', ..] if raw.len() >= 2 => (1, false),
        _ => return None,
    };
    let close = raw.len() - quotes;
    let mut at = quotes;
    if quotes == 3 {
        // The first line break of a multi-line string is not part of it.
        at += if raw[at..].starts_with("\r\n") { 2 } else { usize::from(raw[at..].starts_with('\n')) };
    }
    let (mut text, mut places) = (String::new(), Vec::new());
    while at < close {
        let rest = raw.get(at..close)?;
        let c = rest.chars().next()?;
        if !is_basic || c != '\\' {
            text.push(c);
            places.extend(at..at + c.len_utf8());
            at += c.len_utf8();
            continue;
        }
        let escape = rest[1..].chars().next()?;
        let (decoded, length) = match escape {
            'b' => (Some('\u{8}'), 2),
            't' => (Some('\t'), 2),
            'n' => (Some('\n'), 2),
            'f' => (Some('\u{c}'), 2),
            'r' => (Some('\r'), 2),
            'e' => (Some('\u{1b}'), 2),
            '"' => (Some('"'), 2),
            '\\' => (Some('\\'), 2),
            'x' | 'u' | 'U' => {
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
                (Some(char::from_u32(code)?), 2 + digits)
            }
            // A backslash at the end of a line takes away all white space up to the next character.
            _ => (None, rest.len() - rest[1..].trim_start_matches([' ', '\t', '\r', '\n']).len()),
        };
        if let Some(decoded) = decoded {
            text.push(decoded);
            places.extend(std::iter::repeat_n(at, decoded.len_utf8()));
        }
        at += length;
    }
    places.push(close);
    Some((text, places))
}

/// A file with more errors than this in its TOML is something else, and was said to be wrong often enough.
const TOML_ERRORS_MAX: usize = 1_000;

/// How a window is written.
const WINDOW: &str = "a window is a whole number and s, m, h or d, such as \"10m\" or \"24h\"";

/// Reads a whole file, reporting everything that is wrong with its shape.
pub fn read<'s>(source: &'s str, report: &mut Report<'s>) -> File {
    let (root, mut errors) = DeTable::parse_recoverable(source);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut file = File::default();
    let (mut last_line, mut in_duplicate) = (0, false);
    for error in errors.iter().take(TOML_ERRORS_MAX) {
        let span = error.span().unwrap_or(0..0);
        let line = report.line_of(span.start);
        // What the parser makes of the rest of a wrong line says nothing more about it.
        if std::mem::replace(&mut last_line, line) == line {
            continue;
        }
        let (written, found) = line_at(source, span.start);
        let is_duplicate = error.message().starts_with("duplicate key");
        // The keys of a table that there is twice follow from it.
        if in_duplicate && is_duplicate && !written.starts_with('[') {
            continue;
        }
        in_duplicate = is_duplicate && written.starts_with('[');
        let (message, help) = guesses::toml(error.message(), written, found);
        report.error(span, message, help);
    }
    if !errors.is_empty() {
        return file;
    }
    let blocks = listing::blocks(source);
    let mut reader = Reader { source, report, blocks, broken: Vec::new(), has_version_below: false };
    let mut top = Section::new("the file", root.get_ref(), 0..0);
    let version = top.take("version");
    for (name, value) in reader.named(&mut top, "aggregates", "[aggregates.NAME]") {
        let table = Section::new("[aggregates.NAME]", value.get_ref(), value.span());
        file.aggregates.push(reader.aggregate(name, table));
    }
    for (name, value) in reader.named(&mut top, "lists", "[lists.NAME]") {
        let table = Section::new("[lists.NAME]", value.get_ref(), value.span());
        file.lists.push(reader.list(name, table));
    }
    for table in reader.tables(&mut top, "label_policies", "[[label_policies]]") {
        file.policies.push(reader.policy(table));
    }
    for table in reader.tables(&mut top, "rules", "[[rules]]") {
        file.rules.push(reader.rule(table));
    }
    for table in reader.tables(&mut top, "suppressions", "[[suppressions]]") {
        file.suppressions.push(reader.suppression(table));
    }
    for table in reader.tables(&mut top, "tests", "[[tests]]") {
        file.tests.push(reader.test(table));
    }
    let meant = reader.finish(top);
    match version {
        Some(version) => reader.version(version),
        // Said of already, at its place.
        None if reader.has_version_below || meant.contains(&"version") => {}
        None => reader.report.error(
            0..0,
            "`version` is missing",
            Some("write `version = 1` at the top of the file".into()),
        ),
    }
    file.broken = reader.broken;
    file
}

/// One table, with the keys that were asked for.
struct Section<'t, 'i> {
    what: &'static str,
    table: &'t DeTable<'i>,
    span: Range<usize>,
    known: Vec<&'static str>,
    /// Keys that must be there and are not, with the place to say so at.
    missing: Vec<(&'static str, Range<usize>)>,
}

impl<'t, 'i> Section<'t, 'i> {
    fn new(what: &'static str, table: &'t DeTable<'i>, span: Range<usize>) -> Section<'t, 'i> {
        Section { what, table, span, known: Vec::new(), missing: Vec::new() }
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }
}

/// Whether amounts are taken in the base currency.
type IsBase = bool;

struct Reader<'r, 's> {
    source: &'s str,
    report: &'r mut Report<'s>,
    broken: Vec<String>,
    /// Whether `version` stands in some table below the top of the file.
    has_version_below: bool,
    /// The files of lists that were appended.
    blocks: Vec<Block<'s>>,
}

impl<'s> Reader<'_, 's> {
    fn version(&mut self, version: &Spanned<DeValue>) {
        let is_one =
            version.get_ref().as_integer().is_some_and(|int| int.radix() == 10 && int.as_str() == "1");
        if !is_one {
            let help = "this engine reads version 1: write `version = 1`";
            self.report.error(version.span(), "unknown version of the rules file", Some(help.into()));
        }
    }

    /// The tables below one key, `[key.NAME]`, in the order of the file.
    fn named<'t, 'i>(
        &mut self,
        top: &mut Section<'t, 'i>,
        key: &'static str,
        form: &'static str,
    ) -> Vec<(At<String>, Spanned<&'t DeTable<'i>>)> {
        let Some(value) = top.take(key) else { return Vec::new() };
        let Some(table) = self.table(value, form) else { return Vec::new() };
        let mut named = Vec::new();
        for (name, value) in table {
            let Some(inner) = self.table(value, form) else {
                let prefix = if key == "lists" { "lists." } else { "" };
                self.broken.push(format!("{prefix}{}", name.get_ref()));
                continue;
            };
            let name = At { value: name.get_ref().to_string(), span: name.span() };
            named.push((name, Spanned::new(value.span(), inner)));
        }
        named.sort_by_key(|(name, _)| name.span.start);
        named
    }

    fn tables<'t, 'i>(
        &mut self,
        top: &mut Section<'t, 'i>,
        key: &'static str,
        form: &'static str,
    ) -> Vec<Section<'t, 'i>> {
        let Some(value) = top.take(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let named = value.get_ref().as_table().and_then(|table| {
                table.iter().find(|(_, inner)| inner.get_ref().is_table()).map(|(name, _)| name.get_ref())
            });
            let help = match named {
                Some(name) if key == "rules" => format!("write `{form}` and below it `id = \"{name}\"`"),
                _ => format!("write `{form}`"),
            };
            self.report.error(value.span(), format!("`{key}` must be tables"), Some(help));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            if let Some(table) = self.table(item, form) {
                tables.push(Section::new(form, table, item.span()));
            }
        }
        tables
    }

    fn table<'t, 'i>(&mut self, value: &'t Spanned<DeValue<'i>>, form: &str) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let is_named = form.starts_with('[') && !form.starts_with("[[");
            let is_array = value.get_ref().is_array();
            let brackets = if is_named && is_array { ", with one bracket on each side" } else { "" };
            let help = Some(format!("write `{form}`{brackets}"));
            self.report.error(
                value.span(),
                format!("expected a table, found {}", kind_of(value.get_ref())),
                help,
            );
        }
        table
    }

    fn aggregate(&mut self, name: At<String>, mut table: Section<'_, '_>) -> AggregateDeclaration {
        let filter = table.take("where").and_then(|filter| self.expression("where", filter));
        let counts_label = filter.as_ref().map_or(Some(false), |filter| filter::asks_for_label(&filter.text));
        let by = self.required(&mut table, "by", &name.span).and_then(|by| self.by(by, counts_label));
        let window = self.required(&mut table, "window", &name.span);
        let window_ms = window.and_then(|window| self.window(window));
        let measure = self.measure(&mut table, &name);
        if let (Some(by), Some(measure), Some(counts_label)) = (by, &measure, counts_label) {
            self.fits(by, counts_label, measure);
        }
        self.finish(table);
        let measure = measure.map(|measure| measure.value.0);
        AggregateDeclaration {
            name,
            by,
            window_ms,
            measure,
            filter,
            counts_label: counts_label == Some(true),
        }
    }

    /// One part of a key, or several.
    fn by(&mut self, by: &Spanned<DeValue>, counts_label: Option<bool>) -> Option<Keys> {
        let Some(parts) = by.get_ref().as_array() else { return self.key(by) };
        let mut keys = Some(Keys::NONE);
        for part in parts.iter() {
            let key = self.key(part);
            if let (Some(keys), Some(key)) = (keys, key)
                && keys.has(key)
            {
                self.report.error(part.span(), "this part of the key is named twice", None);
            }
            keys = keys.zip(key).map(|(keys, key)| keys.and(key));
        }
        if parts.is_empty() {
            let help = format!("it is one or several of: {}", key_names());
            self.report.error(by.span(), "`by` names nothing", Some(help));
            return None;
        }
        let keys = keys?;
        if !keys.cross_accounts() && counts_label == Some(false) && keys.has_any(Keys::TERMINAL.and(Keys::IP))
        {
            let help = "take out `card` or `account`, or the terminal or IP address";
            let message = "an account's own windows do not tell terminals and IP addresses apart";
            self.report.error(by.span(), message, Some(help.into()));
            return None;
        }
        Some(keys)
    }

    fn key(&mut self, key: &Spanned<DeValue>) -> Option<Keys> {
        let text = self.text("by", key)?;
        let found = Keys::NAMES.iter().find(|(name, _)| *name == text).map(|(_, key)| *key);
        if found.is_none() {
            let names = Keys::NAMES.map(|(name, _)| name);
            let help = match text.as_str() {
                "bin" => Some("card tokens do not show a BIN".to_string()),
                unknown => did_you_mean(unknown, names),
            };
            let help = help.unwrap_or_else(|| format!("it is one or several of: {}", key_names()));
            self.report.error(key.span(), format!("unknown key `{text}` of an aggregate"), Some(help));
        }
        found
    }

    /// Whether a measure can be taken over such a key.
    fn fits(&mut self, by: Keys, counts_label: bool, measure: &At<(Measure, IsBase)>) {
        let (measure, is_base, span) = (measure.value.0, measure.value.1, measure.span.clone());
        let key: Vec<&str> = by.names().collect();
        let key = key.join(" and ");
        match (by.cross_accounts() || counts_label, measure) {
            (true, measure) if measure.is_money() && !is_base => {
                let message = match by.cross_accounts() {
                    true => format!("windows by {key} cross accounts, whose currencies differ"),
                    false => "windows over labels are kept in the base currency".to_owned(),
                };
                let help = "take it over \"amount_base\", the amount in the engine's base currency";
                self.report.error(span, message, Some(help.into()));
            }
            (false, measure) if measure.is_money() && is_base => {
                let message = format!("windows by {key} are in the account's own currency");
                self.report.error(span, message, Some("take it over \"amount\"".into()));
            }
            (false, Measure::Distinct(Attribute::Account | Attribute::Terminal | Attribute::Ip)) => {
                let message =
                    "an account's own windows do not tell accounts, terminals and IP addresses apart";
                let help = "count it by a key without `card` and `account`";
                self.report.error(span, message, Some(help.into()));
            }
            _ => {}
        }
    }

    fn window(&mut self, window: &Spanned<DeValue>) -> Option<i64> {
        let text = self.text("window", window)?;
        let Some(window_ms) = duration_ms(&text) else {
            self.report.error(window.span(), format!("`{text}` is no window"), Some(WINDOW.into()));
            return None;
        };
        let window_ms = Some(window_ms).filter(|ms| (SECOND_MS..=WINDOW_MAX_MS).contains(ms));
        if window_ms.is_none() {
            let help = format!("a window is at least 1s and at most {}d", WINDOW_MAX_MS / DAY_MS);
            self.report.error(window.span(), format!("`{text}` is out of range"), Some(help));
        }
        window_ms
    }

    fn measure(&mut self, table: &mut Section<'_, '_>, name: &At<String>) -> Option<At<(Measure, IsBase)>> {
        const AMOUNTS: [(&str, Measure); 5] = [
            ("sum", Measure::Sum),
            ("mean", Measure::Mean),
            ("min", Measure::Min),
            ("max", Measure::Max),
            ("stddev", Measure::StdDev),
        ];
        // Each where it stands; `None` where it is wrong.
        let mut measures: Vec<At<Option<(Measure, IsBase)>>> = Vec::new();
        if let Some(count) = table.take("count") {
            let is_true = count.get_ref().as_bool() == Some(true);
            if !is_true {
                self.report.error(
                    count.span(),
                    "`count` can only be true",
                    Some("write `count = true`".into()),
                );
            }
            let value = is_true.then_some((Measure::Count, false));
            measures.push(At { value, span: count.span() });
        }
        for (key, measure) in AMOUNTS {
            let Some(of) = table.take(key) else { continue };
            let is_base = self.text(key, of).and_then(|of| match of.as_str() {
                "amount" => Some(false),
                "amount_base" => Some(true),
                _ => {
                    let help =
                        format!("write `{key} = \"amount\"`, or \"amount_base\" where accounts are crossed");
                    let message = format!("`{key}` is taken over amounts only");
                    self.report.error(of_span(table, key), message, Some(help));
                    None
                }
            });
            measures.push(At { value: is_base.map(|is_base| (measure, is_base)), span: of.span() });
        }
        if let Some(distinct) = table.take("distinct") {
            let attribute =
                self.text("distinct", distinct).and_then(|of| self.attribute(&of, distinct.span()));
            let measure = attribute.map(|attribute| (Measure::Distinct(attribute), false));
            measures.push(At { value: measure, span: distinct.span() });
        }
        match measures.as_slice() {
            [At { value, span }] => value.map(|value| At { value, span: span.clone() }),
            [] => {
                let help = "write one of `count = true`, `distinct = \"..\"`, and `sum`, `mean`, `min`, `max` or \
                            `stddev = \"amount\"`";
                let message = format!("aggregate `{}` does not say what to compute", name.value);
                self.report.error(name.span.clone(), message, Some(help.into()));
                None
            }
            [_, second, ..] => {
                let help = "declare one aggregate for each";
                self.report.error(second.span.clone(), "an aggregate computes one thing", Some(help.into()));
                None
            }
        }
    }

    fn attribute(&mut self, name: &str, span: Range<usize>) -> Option<Attribute> {
        use crate::features::catalog;
        const ATTRIBUTES: [(&str, Attribute); 9] = [
            ("merchant.country", Attribute::Country),
            ("merchant.mcc", Attribute::Mcc),
            ("merchant.id", Attribute::Merchant),
            ("device.id", Attribute::Device),
            ("channel", Attribute::Channel),
            ("card.token", Attribute::Card),
            ("account.id", Attribute::Account),
            ("merchant.terminal_id", Attribute::Terminal),
            ("device.ip", Attribute::Ip),
        ];
        let own_name = catalog::lookup(name).map_or(name, |(_, entry)| entry.name);
        let attribute = ATTRIBUTES.iter().find(|(attribute, _)| *attribute == own_name);
        if attribute.is_none() {
            let names = ATTRIBUTES.map(|(attribute, _)| attribute);
            let help =
                did_you_mean(name, names).unwrap_or_else(|| format!("it is one of: {}", names.join(", ")));
            self.report.error(span, format!("`{name}` cannot be counted distinctly"), Some(help));
        }
        attribute.map(|(_, attribute)| *attribute)
    }

    fn list(&mut self, name: At<String>, mut table: Section<'_, '_>) -> ListDeclaration {
        let file = table.take("file");
        let values = table.take("values");
        let values = match (values, file) {
            (Some(_), Some(file)) => {
                let help = "take one of the two out, or make two lists of them";
                self.report.error(
                    file.span(),
                    "a list has `values` or a `file`, not both",
                    Some(help.into()),
                );
                None
            }
            (None, Some(file)) => self.list_file(file),
            (Some(values), None) => self.list_values(values),
            (None, None) => {
                let message = format!("list `{}` has neither `values` nor a `file`", name.value);
                let help = "write `values = [..]`, which may be empty, or `file = \"NAME.csv\"`";
                self.report.error(name.span.clone(), message, Some(help.into()));
                None
            }
        };
        self.finish(table);
        ListDeclaration { name, values }
    }

    fn list_file(&mut self, file: &Spanned<DeValue>) -> Option<ListValues> {
        let name = self.text("file", file)?;
        if name.is_empty() || name.trim() != name || name.contains(char::is_control) {
            self.report.error(file.span(), "`file` must name a CSV file, such as \"blocked.csv\"", None);
            return None;
        }
        let Some(block) = self.blocks.iter().find(|block| block.name == name) else {
            let help = "send the values as `values = [..]`, or let the engine read the configured file anew";
            let message = format!("what stands in `{name}` did not come with these rules");
            self.report.error(file.span(), message, Some(help.into()));
            return None;
        };
        let values = listing::read(block, self.report)?;
        Some(ListValues::File { name, values })
    }

    fn policy(&mut self, mut table: Section<'_, '_>) -> PolicyDeclaration {
        let span = table.span.clone();
        let label = self.required(&mut table, "label", &span).and_then(|label| {
            self.one_of("label", label, FraudLabel::ALL.map(|label| (label.name(), label)))
        });
        let kind = table.take("kind").and_then(|kind| self.text("kind", kind));
        let list = self.required(&mut table, "list", &span).and_then(|list| {
            let value = self.text("list", list)?;
            Some(At { value, span: list.span() })
        });
        let add = self.required(&mut table, "add", &span).and_then(|add| self.policy_field(add));
        let expires_in = table.take("expires_in");
        let expires_in_ms = expires_in.and_then(|expires_in| self.life(expires_in));
        self.finish(table);
        PolicyDeclaration { label, kind, list, add, expires_in_ms }
    }

    fn policy_field(&mut self, add: &Spanned<DeValue>) -> Option<PolicyField> {
        use crate::features::catalog;
        let text = self.text("add", add)?;
        let own_name = catalog::lookup(&text).map_or(text.as_str(), |(_, entry)| entry.name);
        let field = PolicyField::ALL.into_iter().find(|field| field.name() == own_name);
        if field.is_none() {
            let names = PolicyField::ALL.map(PolicyField::name);
            let help =
                did_you_mean(&text, names).unwrap_or_else(|| format!("it is one of: {}", names.join(", ")));
            self.report.error(add.span(), format!("`{text}` cannot be put on a list"), Some(help));
        }
        field
    }

    fn life(&mut self, life: &Spanned<DeValue>) -> Option<i64> {
        let text = self.text("expires_in", life)?;
        let ms = duration_ms(&text).filter(|ms| (SECOND_MS..=LIFE_MAX_MS).contains(ms));
        if ms.is_none() {
            let help = "a whole number and s, m, h or d, from 1s to 3650d, such as \"30d\"";
            self.report.error(life.span(), format!("`{text}` is no such time"), Some(help.into()));
        }
        ms
    }

    fn list_values(&mut self, values: &Spanned<DeValue>) -> Option<ListValues> {
        let Some(items) = values.get_ref().as_array() else {
            let message = format!("`values` must be an array, found {}", kind_of(values.get_ref()));
            self.report.error(values.span(), message, Some("write `values = [..]`".into()));
            return None;
        };
        if items.len() > LIST_VALUES_MAX {
            let message =
                format!("the list has {} values, at most {LIST_VALUES_MAX} are allowed", items.len());
            self.report.error(values.span(), message, None);
            return None;
        }
        let (mut texts, mut ints) = (Vec::new(), Vec::new());
        let mut whole = true;
        for item in items.iter() {
            let int = || {
                let int = item.get_ref().as_integer()?;
                i64::from_str_radix(int.as_str(), int.radix()).ok()
            };
            if let Some(text) = item.get_ref().as_str() {
                texts.push(text.to_string());
            } else if let Some(int) = int() {
                ints.push(int);
            } else {
                whole = false;
                let message = format!("a list holds texts or whole numbers, not {}", kind_of(item.get_ref()));
                self.report.error(item.span(), message, None);
                continue;
            }
            if !texts.is_empty() && !ints.is_empty() {
                self.report.error(item.span(), "the values of a list need one type", None);
                return None;
            }
        }
        whole.then_some(match (texts.is_empty(), ints.is_empty()) {
            (true, true) => ListValues::None,
            (false, _) => ListValues::Texts(texts),
            (true, false) => ListValues::Ints(ints),
        })
    }

    fn rule(&mut self, mut table: Section<'_, '_>) -> RuleDeclaration {
        let span = table.span.clone();
        let id = self.required(&mut table, "id", &span).and_then(|id| self.id(id));
        let when = self.required(&mut table, "when", &span).and_then(|when| self.expression("when", when));
        let then = self
            .required(&mut table, "then", &span)
            .and_then(|then| self.one_of("then", then, Effect::ALL.map(|effect| (effect.name(), effect))));
        let code_at = table.take("response_code");
        let response_code = code_at.and_then(|code| self.response_code(code, then));
        let reason = self.required(&mut table, "reason", &span).and_then(|reason| self.reason(reason));
        let text = table.take("text").and_then(|text| self.sentence(text));
        let mode = table.take("mode").and_then(|mode| {
            self.one_of("mode", mode, [("live", Mode::Live), ("shadow", Mode::Shadow), ("off", Mode::Off)])
        });
        let group = table.take("group").and_then(|group| self.group(group));
        let mode = mode.unwrap_or(Mode::Live);
        let live_percent = table.take("live_percent").and_then(|percent| self.live_percent(percent, mode));
        let protected = table.take("protected").and_then(|protected| self.flag("protected", protected));
        self.finish(table);
        let protected = protected.unwrap_or(false);
        let (held, whole) = (None, span);
        RuleDeclaration {
            id,
            when,
            then,
            response_code,
            reason,
            text,
            mode,
            held,
            live_percent,
            protected,
            group,
            span: whole,
        }
    }

    fn live_percent(&mut self, value: &Spanned<DeValue>, mode: Mode) -> Option<u8> {
        let percent = value.get_ref().as_integer();
        let percent = percent.and_then(|int| u8::from_str_radix(int.as_str(), int.radix()).ok());
        let (message, help) = match percent {
            Some(1..=99) if mode == Mode::Live => return percent,
            Some(1..=99) => (
                format!("`live_percent` means nothing with `mode = \"{}\"`", mode.name()),
                "take it out, or write `mode = \"live\"`",
            ),
            Some(100) => ("`live_percent` is at most 99".into(), "a rule without it decides for all cards"),
            _ => (
                "`live_percent` is a whole number from 1 to 99".into(),
                "the share of the cards, in percent, for which the rule decides",
            ),
        };
        self.report.error(value.span(), message, Some(help.into()));
        None
    }

    fn flag(&mut self, key: &str, value: &Spanned<DeValue>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let message = format!("`{key}` must be true or false, found {}", kind_of(value.get_ref()));
            self.report.error(value.span(), message, None);
        }
        flag
    }

    fn id(&mut self, value: &Spanned<DeValue>) -> Option<At<String>> {
        let id = self.text("id", value)?;
        let is_id = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_id) {
            let help = format!("letters, digits, `-` and `_`, at most {ID_BYTES_MAX}");
            self.report.error(value.span(), format!("`{id}` is no rule id"), Some(help));
            return None;
        }
        Some(At { value: id, span: value.span() })
    }

    fn reason(&mut self, value: &Spanned<DeValue>) -> Option<String> {
        let reason = self.text("reason", value)?;
        let is_code = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if reason.is_empty() || reason.len() > ID_BYTES_MAX || !reason.bytes().all(is_code) {
            let help = format!("capitals, digits and `_`, at most {ID_BYTES_MAX}, such as \"CARD_TESTING\"");
            self.report.error(value.span(), format!("`{reason}` is no reason code"), Some(help));
            return None;
        }
        Some(reason)
    }

    fn sentence(&mut self, value: &Spanned<DeValue>) -> Option<String> {
        let text = self.text("text", value)?;
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.contains(char::is_control) {
            let help = format!("one line of at most {TEXT_BYTES_MAX} bytes");
            self.report.error(value.span(), "the text cannot be shown with a decision", Some(help));
            return None;
        }
        Some(text)
    }

    fn group(&mut self, value: &Spanned<DeValue>) -> Option<String> {
        let group = self.text("group", value)?;
        let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if group.is_empty() || group.len() > 32 || !group.bytes().all(is_label) {
            let help = "small letters, digits and `_`, at most 32, such as \"velocity\"";
            self.report.error(value.span(), format!("`{group}` is no group"), Some(help.into()));
            return None;
        }
        Some(group)
    }

    fn response_code(&mut self, value: &Spanned<DeValue>, then: Option<Effect>) -> Option<ResponseCode> {
        /// Approvals, and what only the engine may say about itself or a request.
        const NOT_FOR_RULES: [&str; 8] = ["00", "08", "10", "11", "85", "91", "94", "96"];
        let text = self.text("response_code", value)?;
        let then = then?;
        let (message, help) = match ResponseCode::new(&text) {
            _ if then.response_code().is_none() => (
                format!("`response_code` means nothing with `then = \"{}\"`", then.name()),
                "take it out".to_string(),
            ),
            Some(code) if !NOT_FOR_RULES.contains(&text.as_str()) && text.to_ascii_uppercase() == text => {
                return Some(code);
            }
            Some(_) => (
                format!("a rule cannot answer with response code `{text}`"),
                "take one that declines, such as \"59\" (suspected fraud), \"61\" (amount limit) or \"65\" \
                 (count limit)"
                    .to_string(),
            ),
            None => (
                format!("`{text}` is no response code"),
                "a response code (ISO 8583 field 39) is two digits or capitals in quotes, such as \"59\""
                    .to_string(),
            ),
        };
        self.report.error(value.span(), message, Some(help));
        None
    }

    fn test(&mut self, mut table: Section<'_, '_>) -> TestDeclaration {
        let span = table.span.clone();
        let name = self.required(&mut table, "name", &span).and_then(|name| self.text("name", name));
        let (mut given, mut time) = (Vec::new(), None);
        if let Some(value) = self.required(&mut table, "given", &span)
            && let Some(values) = self.table(value, "given = { amount = 5.00 }")
        {
            self.given(values, "", &mut given);
            given.sort_by_key(|(name, _): &(At<String>, _)| name.span.start);
            let at = values.iter().find(|(key, value)| is_test_time(key.get_ref(), value.get_ref()));
            time = at.and_then(|(_, value)| self.moment(TEST_TIME, value));
        }
        let mut lists = Vec::new();
        if let Some(value) = table.take("lists")
            && let Some(named) = self.table(value, "lists = { blocked_cards = [\"tok_123\"] }")
        {
            for (name, values) in named {
                let values = self.values_of_test(values).unwrap_or_default();
                lists.push((At { value: name.get_ref().to_string(), span: name.span() }, values));
            }
        }
        let (mut decision, mut rules) = (None, None);
        if let Some(value) = self.required(&mut table, "expect", &span)
            && let Some(expect) = self.table(value, "expect = { decision = \"DECLINED\" }")
        {
            let mut expect = Section::new("`expect`", expect, value.span());
            let decision_at = expect.take("decision");
            let rules_at = expect.take("rules");
            if decision_at.is_none() && rules_at.is_none() {
                let help = Some("write `decision = \"DECLINED\"`, `rules = [..]` or both".into());
                self.report.error(value.span(), "the test expects nothing", help);
            }
            decision = decision_at.and_then(|at| {
                let words = [Decision::Approved, Decision::Declined, Decision::StepUp];
                self.one_of("decision", at, words.map(|decision| (decision.name(), decision)))
            });
            rules = rules_at.and_then(|at| self.ids(at));
            self.finish(expect);
        }
        self.finish(table);
        TestDeclaration { name, given, time, lists, decision, rules, span }
    }

    /// Values by name; `merchant.country = ..` comes as a table within a table.
    fn given(&mut self, table: &DeTable<'_>, prefix: &str, given: &mut Vec<(At<String>, At<GivenValue>)>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let at = match value.get_ref() {
                time if is_test_time(&name, time) => continue,
                DeValue::Table(inner) => {
                    self.given(inner, &format!("{name}."), given);
                    continue;
                }
                DeValue::String(text) => GivenValue::Text(text.to_string()),
                DeValue::Boolean(value) => GivenValue::Bool(*value),
                DeValue::Float(value) => GivenValue::Float(value.as_str().to_string()),
                DeValue::Integer(value) if value.radix() == 10 => GivenValue::Int(value.as_str().to_string()),
                other => {
                    let message = format!("`{name}` cannot be {}", kind_of(other));
                    self.report.error(value.span(), message, None);
                    continue;
                }
            };
            given.push((At { value: name, span: key.span() }, At { value: at, span: value.span() }));
        }
    }

    /// Values of a list, as a call would name them.
    fn values_of_test(&mut self, value: &Spanned<DeValue>) -> Option<Vec<At<String>>> {
        let help = || Some("write texts, such as `lists = { blocked_cards = [\"tok_123\"] }`".to_string());
        let Some(items) = value.get_ref().as_array() else {
            self.report.error(value.span(), "a list of a test must be an array of texts", help());
            return None;
        };
        let mut values = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => values.push(At { value: text.to_owned(), span: item.span() }),
                None => self.report.error(item.span(), "a value of a list must be a text here", help()),
            }
        }
        Some(values)
    }

    fn ids(&mut self, value: &Spanned<DeValue>) -> Option<Vec<At<String>>> {
        let Some(items) = value.get_ref().as_array() else {
            let help = Some("write `rules = [\"rule-id\"]`".to_string());
            self.report.error(value.span(), "`rules` must be an array of rule ids", help);
            return None;
        };
        let ids = items.iter().map(|item| {
            let text = self.text("rules", item)?;
            Some(At { value: text, span: item.span() })
        });
        ids.collect()
    }

    fn required<'t, 'i>(
        &mut self,
        table: &mut Section<'t, 'i>,
        key: &'static str,
        at: &Range<usize>,
    ) -> Option<&'t Spanned<DeValue<'i>>> {
        let value = table.take(key);
        if value.is_none() {
            table.missing.push((key, at.clone()));
        }
        value
    }

    fn text(&mut self, key: &str, value: &Spanned<DeValue>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_string);
        if text.is_none() {
            let written = self.source.get(value.span()).unwrap_or("..");
            let help = match value.get_ref() {
                _ if key == "window" => Some(WINDOW.to_string()),
                DeValue::Integer(_) if key == "response_code" => {
                    Some(format!("write `{key} = \"{written:0>2}\"`"))
                }
                DeValue::Array(_) if key == "when" => {
                    Some("one text, its conditions joined by `&&` or `||`".to_string())
                }
                _ => None,
            };
            let message = format!("`{key}` must be a text in quotes, found {}", kind_of(value.get_ref()));
            self.report.error(value.span(), message, help);
        }
        text
    }

    fn expression(&mut self, key: &str, value: &Spanned<DeValue>) -> Option<Expression> {
        let text = self.text(key, value)?;
        Some(Expression::new(&text, self.source, value.span()))
    }

    fn one_of<T: Copy, const N: usize>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue>,
        words: [(&'static str, T); N],
    ) -> Option<T> {
        let text = self.text(key, value)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let names = words.map(|(word, _)| word);
            let help = guesses::word(&text, names)
                .map(|word| format!("did you mean `{word}`?"))
                .or_else(|| did_you_mean(&text, names))
                .unwrap_or_else(|| format!("it is one of: {}", names.join(", ")));
            self.report.error(value.span(), format!("`{key}` cannot be `{text}`"), Some(help));
        }
        found
    }

    /// Reports every key that was not asked for, and every one that is missing unless one of those probably means it.
    /// Returns what they mean.
    fn finish(&mut self, table: Section<'_, '_>) -> Vec<&'static str> {
        let known = table.known.iter().copied();
        let mut meant = Vec::new();
        for (key, _) in table.table {
            let name = key.get_ref().as_ref();
            if table.known.contains(&name) {
                continue;
            }
            let word = guesses::word(name, known.clone()).or_else(|| nearest(name, known.clone()));
            let help = match word {
                _ if name == "version" => {
                    self.has_version_below = true;
                    "a key belongs to the table above it: move `version = 1` to the top of the file"
                        .to_string()
                }
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("known are: {}", table.known.join(", ")),
            };
            meant.extend(word);
            self.report.error(key.span(), format!("unknown key `{name}` in {}", table.what), Some(help));
        }
        for (key, at) in table.missing.into_iter().filter(|(key, _)| !meant.contains(key)) {
            self.report.error(at, format!("`{key}` is missing in {}", table.what), None);
        }
        meant
    }
}

/// What a test calls the time of its transaction.
const TEST_TIME: &str = "transaction_time";

/// Whether something given to a test is its time: no number, which an aggregate of that name would be.
fn is_test_time(name: &str, value: &DeValue<'_>) -> bool {
    name == TEST_TIME && matches!(value, DeValue::Datetime(_) | DeValue::String(_))
}

/// The line that a byte stands on, and what of it begins there.
fn line_at(source: &str, at: usize) -> (&str, &str) {
    let at = (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
    let start = source[..at].rfind('\n').map_or(0, |place| place + 1);
    let end = source[at..].find('\n').map_or(source.len(), |place| at + place);
    (source[start..end].trim_end(), source[at..end].trim_end())
}

/// The parts of keys, for messages.
fn key_names() -> String {
    Keys::NAMES.map(|(name, _)| name).join(", ")
}

/// A whole number and its unit; what does not fit is as long as can be.
fn duration_ms(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit_ms = match &text[digits.len()..] {
        "s" => SECOND_MS,
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        _ => return None,
    };
    digits.parse::<i64>().ok().map(|count| count.saturating_mul(unit_ms))
}

fn of_span(table: &Section<'_, '_>, key: &str) -> Range<usize> {
    let value = table.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
    value.map_or(table.span.clone(), |(_, value)| value.span())
}

fn kind_of(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
