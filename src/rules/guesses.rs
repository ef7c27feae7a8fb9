//! What people write who know another language, and what it is called here. Only for the help of a finding: nothing
//! in this room decides what is right or wrong.
//!
//! Deliberately absent: guesses by spelling, which `finding::did_you_mean` makes.

use std::ops::Range;

use super::decimal::Decimal;
use crate::types::money::Currency;

const NO_TIMES: &str = "rules do not calculate with times; use hour_utc, weekday_utc or an aggregate";
const NO_PATTERNS: &str = "there are no regular expressions; use startsWith, endsWith or contains";
const NO_CURRENCY: &str = "amounts are in major units of the billing currency and written without it: `amount > 100`; \
                           where it matters, ask for it: `currency == 'EUR' && ..`";
const HAS: &str = "`has(x)` says whether a value is there, `!has(x)` that it is missing";

/// Where a syntax error really lies, and what to do about it.
pub struct SyntaxGuess {
    /// Bytes of the expression; `None` leaves the place that the parser names.
    pub span: Option<Range<usize>>,
    /// Said instead of what the parser says.
    pub message: Option<String>,
    pub help: String,
}

impl SyntaxGuess {
    fn help(help: impl Into<String>) -> Option<SyntaxGuess> {
        Some(SyntaxGuess { span: None, message: None, help: help.into() })
    }

    fn at(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Option<SyntaxGuess> {
        Some(SyntaxGuess { span: Some(span), message: Some(message.into()), help: help.into() })
    }
}

/// What was probably meant where the parser stumbled over `found`, which stands at the byte `at`; it is empty at the
/// end of the source.
pub fn syntax(source: &str, at: usize, found: &str) -> Option<SyntaxGuess> {
    let before = source[..at].trim_end();
    let after = &source[at + found.len()..];
    if let Some(guess) = number(source, at, found, before, after) {
        return Some(guess);
    }
    if let Some(unclosed) = brackets(source, at, found) {
        return Some(unclosed);
    }
    if let Some(start) = word_before(before, "not") {
        return SyntaxGuess::at(
            start..start + 3,
            format!("`{}` is not expected here", &source[start..start + 3]),
            "write `!`, with brackets around a whole comparison: `!(x == y)`",
        );
    }
    let next = after.trim_start();
    match found {
        "" => SyntaxGuess::help("something is missing at the end"),
        "=" if before.ends_with("==") || before.ends_with("!=") => {
            SyntaxGuess::help("two signs are enough: `==` and `!=`")
        }
        "=" if after.starts_with('~') || before.ends_with('~') => SyntaxGuess::help(NO_PATTERNS),
        "=" if after.starts_with('>') => SyntaxGuess::help("write `>=`"),
        "=" if after.starts_with('<') => SyntaxGuess::help("write `<=`"),
        "=" => SyntaxGuess::help("`==` compares"),
        "~" => SyntaxGuess::help(NO_PATTERNS),
        ">" if before.ends_with('<') => SyntaxGuess::help("write `!=`"),
        "&" if before.ends_with("&&") => SyntaxGuess::help("a condition is missing between the two `&&`"),
        "|" if before.ends_with("||") => SyntaxGuess::help("a condition is missing between the two `||`"),
        "&" => SyntaxGuess::help("write `&&`"),
        "|" => SyntaxGuess::help("write `||`"),
        "<" | ">" | "!" if before.ends_with("&&") || before.ends_with("||") => {
            let symbol = &before[before.len() - 2..];
            SyntaxGuess::help(format!(
                "on each side of `{symbol}` stands a whole comparison: `x >= 22 {symbol} x <= 4`"
            ))
        }
        "'" | "\"" => SyntaxGuess::help("the text is not closed"),
        ";" => SyntaxGuess::help("take it out: a condition is one expression"),
        "$" | "€" | "£" | "¥" if !after.starts_with('{') => SyntaxGuess::help(NO_CURRENCY),
        "$" | "@" | "#" | "`" => SyntaxGuess::help("names stand by themselves, such as `amount`"),
        "≥" | "≧" => SyntaxGuess::help("write `>=`"),
        "≤" | "≦" => SyntaxGuess::help("write `<=`"),
        "≠" => SyntaxGuess::help("write `!=`"),
        "×" | "·" => SyntaxGuess::help("write `*`"),
        "÷" => SyntaxGuess::help("write `/`"),
        "−" | "–" | "—" => SyntaxGuess::help("write `-`"),
        "∧" => SyntaxGuess::help("write `&&`"),
        "∨" => SyntaxGuess::help("write `||`"),
        "¬" => SyntaxGuess::help("write `!`"),
        "‘" | "’" | "‚" | "“" | "”" | "„" | "«" | "»" | "´" => {
            SyntaxGuess::help("texts stand in straight quotes: 'US'")
        }
        "*" if before.ends_with('(') => SyntaxGuess::help(AGGREGATE),
        _ if found.chars().all(|c| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}')) => {
            let code = found.chars().next().map_or(0, u32::from);
            Some(SyntaxGuess {
                span: None,
                message: Some(format!(
                    "a blank that is no ordinary space (U+{code:04X}) is not expected here"
                )),
                help: "type the space anew".into(),
            })
        }
        word => match word.to_ascii_lowercase().as_str() {
            "and" => SyntaxGuess::help("write `&&`"),
            "or" => SyntaxGuess::help("write `||`"),
            "not" if word_after(next, "in") => SyntaxGuess::help("write `!(x in ['a', 'b'])`"),
            "not" => SyntaxGuess::help("write `!`"),
            "in" => SyntaxGuess::help("write `in` in small letters"),
            "is" => SyntaxGuess::help(HAS),
            "between" => SyntaxGuess::help("a range is two comparisons: `x >= 100 && x <= 200`"),
            "like" | "contains" | "includes" | "has" => SyntaxGuess::help(
                "write `x.contains('GIFT')`, `x.startsWith('GIFT')` or `x.endsWith('GIFT')`",
            ),
            "startswith" | "starts" => SyntaxGuess::help("write `x.startsWith('GIFT')`"),
            "endswith" | "ends" => SyntaxGuess::help("write `x.endsWith('GIFT')`"),
            "matches" | "regexp" | "rlike" => SyntaxGuess::help(NO_PATTERNS),
            "equals" | "eq" => SyntaxGuess::help("write `==`"),
            "gt" => SyntaxGuess::help("write `>`"),
            "lt" => SyntaxGuess::help("write `<`"),
            "if" => SyntaxGuess::help(
                "a condition only says what must be true; what follows from it stands in `then = ..`",
            ),
            _ => None,
        },
    }
}

/// Numbers with separators, currencies, units and percent signs.
fn number(source: &str, at: usize, found: &str, before: &str, after: &str) -> Option<SyntaxGuess> {
    let after_digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if let Some(start) = number_before(before.strip_suffix('%').unwrap_or(before))
        && before.ends_with('%')
    {
        let share = Decimal::parse(&format!("{}e-2", &before[start..before.len() - 1]))?;
        let message = format!("a number has no percent sign: `{}`", &before[start..]);
        return SyntaxGuess::at(start..before.len(), message, format!("write `{share}`"));
    }
    let start = number_before(before)?;
    let left = &before[start..];
    let touches = before.len() == at;
    let whole = |right: &str| {
        let digits: String = left.chars().chain(right.chars()).filter(char::is_ascii_digit).collect();
        format!("numbers are written without separators: `{digits}`")
    };
    match found {
        "," | "'" | "’" if touches && after_digits > 0 => {
            let end = at + found.len() + after_digits;
            let right = &after[..after_digits];
            let help = match after_digits {
                3 => whole(right),
                _ => format!("decimals stand behind a point: `{left}.{right}`"),
            };
            SyntaxGuess::at(start..end, format!("`{}` is no number", &source[start..end]), help)
        }
        word if touches && word.starts_with('_') => {
            let end = at + word.len();
            SyntaxGuess::at(start..end, format!("`{}` is no number", &source[start..end]), whole(word))
        }
        ":" if after_digits > 0 => SyntaxGuess::help("times are compared by the hour: `hour_utc >= 22`"),
        "." if after.starts_with('.') || before.ends_with('.') => {
            SyntaxGuess::help("a range is two comparisons: `x >= 100 && x <= 200`")
        }
        "€" | "$" | "£" | "¥" => SyntaxGuess::help(NO_CURRENCY),
        word if Currency::from_alpha(&word.to_ascii_uppercase()).is_some() => SyntaxGuess::help(NO_CURRENCY),
        "k" | "K" if touches && !left.contains('.') => {
            SyntaxGuess::help(format!("write the number in full: `{left}000`"))
        }
        "k" | "K" | "m" | "M" if touches => SyntaxGuess::help("write the number in full"),
        word if matches!(
            word.to_ascii_lowercase().as_str(),
            "km" | "kmh"
                | "mi"
                | "miles"
                | "s"
                | "h"
                | "d"
                | "min"
                | "ms"
                | "days"
                | "hours"
                | "minutes"
                | "seconds"
        ) =>
        {
            SyntaxGuess::help(
                "numbers stand without their unit: `saker rules names` says the unit of each field",
            )
        }
        _ => None,
    }
}

/// Where the number begins that a text ends with, if it does.
fn number_before(text: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_');
    let start = text
        .rfind(|c: char| !is_part(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let token = &text[start..];
    let is_number = token.starts_with(|c: char| c.is_ascii_digit())
        && token.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_number.then_some(start)
}

/// Where the last word of a text begins, if it is this one, in small letters or capitals.
fn word_before(text: &str, word: &str) -> Option<usize> {
    let start = text
        .rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text[start..].eq_ignore_ascii_case(word).then_some(start)
}

fn word_after(text: &str, word: &str) -> bool {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text[..end].eq_ignore_ascii_case(word)
}

/// Brackets that are not closed or closed twice, and lists in brackets of another kind.
fn brackets(source: &str, at: usize, found: &str) -> Option<SyntaxGuess> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut quote = None;
    for (place, c) in source[..at].char_indices() {
        match (quote, c) {
            (Some(closing), c) if c == closing => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => open.push((place, c)),
            (None, ')' | ']' | '}') => drop(open.pop()),
            (None, _) => {}
        }
    }
    match (found, open.last()) {
        ("", Some((place, bracket))) if quote.is_none() => SyntaxGuess::at(
            *place..place + 1,
            format!("`{bracket}` is not closed"),
            "the closing bracket is missing",
        ),
        (")" | "]" | "}", None) => SyntaxGuess::help(format!("one `{found}` too many")),
        (",", Some((place, '(' | '{'))) if word_before(source[..*place].trim_end(), "in").is_some() => {
            SyntaxGuess::help("a list stands in square brackets: `in ['a', 'b']`")
        }
        _ => None,
    }
}

const AGGREGATE: &str = "what is counted or summed is declared as an aggregate: `[aggregates.NAME]` with `by`, `window` \
                         and `count = true` or `sum = \"amount\"`; rules then write NAME";

/// Words of other rule languages for what is here called otherwise.
const NAMES: &[(&str, &str)] = &[
    ("balance", "account.available"),
    ("category", "merchant.mcc"),
    ("decision", "outcome"),
    ("ip", "device.ip"),
    ("limit", "account.credit_limit"),
    ("merchant.category", "merchant.mcc"),
    ("merchant_category", "merchant.mcc"),
    ("pan", "card.token"),
    ("response", "outcome"),
    ("result", "outcome"),
    ("status", "outcome"),
    ("value", "amount"),
];

/// First parts of names that other systems have and rules do not.
const OWNERS: &[&str] =
    &["auth", "authorisation", "authorization", "event", "payment", "request", "transaction", "tx", "txn"];

/// What an unknown name probably means. `is_known` says whether there is such a name here.
pub fn name(written: &str, is_known: impl Fn(&str) -> bool) -> Option<String> {
    let lower = written.to_ascii_lowercase();
    match lower.as_str() {
        "true" | "yes" => return Some("write `true`".into()),
        "false" | "no" => return Some("write `false`".into()),
        "none" | "nil" | "null" | "undefined" | "missing" => return Some(HAS.into()),
        "date" | "time" | "now" | "today" | "timestamp" | "day" | "minute" | "month" => {
            return Some(NO_TIMES.into());
        }
        _ => {}
    }
    if let Some((_, here)) = NAMES.iter().find(|(there, here)| *there == lower && is_known(here)) {
        return Some(format!("did you mean `{here}`?"));
    }
    if let Some(aggregate) = written.strip_prefix("aggregates.").filter(|rest| is_known(rest)) {
        return Some(format!("aggregates are written by their bare name: `{aggregate}`"));
    }
    if let Some((owner, rest)) = written.split_once('.')
        && OWNERS.contains(&owner.to_ascii_lowercase().as_str())
        && is_known(rest)
    {
        return Some(format!("did you mean `{rest}`?"));
    }
    if let Some((text, "length" | "size" | "len")) = written.rsplit_once('.')
        && is_known(text)
    {
        return Some(format!("write `size({text})`"));
    }
    // A feature of another window is no slip of the pen: `card.count_10m` must not become `card.count_1h`.
    let (stem, window) = written.rsplit_once('_')?;
    let unit = window.strip_suffix(['s', 'm', 'h', 'd'])?;
    let is_window = !unit.is_empty() && unit.bytes().all(|b| b.is_ascii_digit());
    let has_sibling =
        ["1h", "6h", "24h", "7d", "30d"].iter().any(|other| is_known(&format!("{stem}_{other}")));
    (is_window && has_sibling).then(|| {
        format!("other windows are declared in the file: `[aggregates.NAME]` with `window = \"{window}\"`; rules then write NAME")
    })
}

/// What to write for a function that rules do not have; `None` where it is not known from elsewhere.
pub fn function(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "if" | "iff" | "iif" => "write `condition ? a : b`",
        "count" | "sum" | "avg" | "average" | "mean" | "stddev" | "distinct" | "velocity" => AGGREGATE,
        "tolower" | "tolowercase" | "lower" | "lowerascii" | "toupper" | "touppercase" | "upper"
        | "upperascii" | "casefold" => {
            "texts are compared as they are sent; list the spellings: `x in ['Pay', 'PAY']`"
        }
        "includes" | "include" | "like" | "instr" | "indexof" | "find" => "write `x.contains('GIFT')`",
        "len" | "length" | "strlen" => "write `size(x)`",
        "isnull" | "is_null" | "isempty" | "is_empty" | "defined" | "exists" | "ismissing" | "is_missing" => {
            HAS
        }
        "match" | "regex" | "regexp" | "test" | "regexp_like" => NO_PATTERNS,
        "round" | "floor" | "ceil" | "ceiling" | "trunc" => {
            "`int(x)` is a decimal number as a whole number, towards zero"
        }
        "date" | "today" | "hour" | "day" | "weekday" | "gethours" | "getdayofweek" | "datediff" => NO_TIMES,
        "and" | "or" | "not" => "write `&&`, `||` or `!`",
        "between" => "a range is two comparisons: `x >= 100 && x <= 200`",
        "coalesce" | "ifnull" | "nvl" => "write `has(x) && x > 5`",
        "least" => "write `min(x, y)`",
        "greatest" => "write `max(x, y)`",
        _ => return None,
    })
}

/// Words of other systems for a key or a word of the file, each with our own.
const WORDS: &[(&str, &str)] = &[
    // Keys.
    ("action", "then"),
    ("code", "response_code"),
    ("condition", "when"),
    ("description", "text"),
    ("duration", "window"),
    ("effect", "then"),
    ("enabled", "mode"),
    ("expression", "when"),
    ("filter", "where"),
    ("group_by", "by"),
    ("if", "when"),
    ("interval", "window"),
    ("items", "values"),
    ("key", "by"),
    ("message", "text"),
    ("name", "id"),
    ("outcome", "then"),
    ("per", "by"),
    ("period", "window"),
    ("status", "mode"),
    ("where", "when"),
    // Modes.
    ("active", "live"),
    ("disabled", "off"),
    ("dry-run", "shadow"),
    ("dry_run", "shadow"),
    ("enabled", "live"),
    ("inactive", "off"),
    ("monitor", "shadow"),
    ("on", "live"),
    ("test", "shadow"),
    // Effects.
    ("allow", "approve_despite_score"),
    ("approve", "approve_despite_score"),
    ("block", "decline"),
    ("challenge", "step_up"),
    ("deny", "decline"),
    ("reject", "decline"),
    ("review", "flag"),
    // Decisions and outcomes.
    ("approve", "approved"),
    ("approve", "APPROVED"),
    ("block", "DECLINED"),
    ("blocked", "DECLINED"),
    ("denied", "declined"),
    ("denied", "DECLINED"),
    ("deny", "DECLINED"),
    ("rejected", "declined"),
    ("rejected", "DECLINED"),
];

/// Which of the words that may stand here another system calls so.
pub fn word<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = written.to_ascii_lowercase();
    candidates.into_iter().find(|candidate| WORDS.contains(&(lower.as_str(), candidate)))
}

/// What to do about a file that is not TOML, by what the TOML library says: a message and its help. `line` is the
/// line that the place is on, `found` what stands at it.
pub fn toml(message: &str, line: &str, found: &str) -> (String, Option<String>) {
    let (said, _) = message.split_once(", expected ").unwrap_or((message, ""));
    let starts = line.trim_start();
    let (said, help): (&str, Option<String>) = match said {
        _ if starts.starts_with('{') => (said, Some("a rules file is TOML, not JSON: `version = 1`".into())),
        "duplicate key" if starts.starts_with('[') => {
            (said, Some("there is such a table above: put both into one, or give this one another name".into()))
        }
        "duplicate key" => (said, Some("a key stands once in a table: take one of the two out".into())),
        "unexpected leading zero" => (
            "a number begins with 0",
            Some("codes with a zero in front are texts and stand in quotes: \"0742\"".into()),
        ),
        "missing escaped value" | "invalid escape sequence" => (
            "a backslash with nothing that it stands for",
            Some("write `\\\\` for a backslash, or put the text into single quotes or '''..'''".into()),
        ),
        "invalid basic string" | "invalid literal string" => {
            ("the text is not closed", Some("close it with the quote that it begins with".into()))
        }
        "unexpected key or value" if line.contains('"') || line.contains('\'') => (
            "something stands behind the text",
            Some("a text ends at the next quote of its kind; inside it use the other kind: \"channel == 'ecommerce'\"".into()),
        ),
        "string values must be quoted" => {
            let value = line.split_once('=').map_or(found, |(_, value)| value).trim();
            ("texts stand in quotes", Some(format!("write `\"{}\"`", value.replace('"', "'"))))
        }
        "invalid unquoted key" if found.starts_with(':') => {
            ("`:` behind a key", Some("a key and its value are joined by `=`, as in `then = \"decline\"`".into()))
        }
        "invalid unquoted key" | "key with no value" => {
            (said, Some("each line of a rules file is `key = value`, or a table such as `[[rules]]`".into()))
        }
        "missing comma between array elements" => (said, Some("write `,` between the values".into())),
        _ => (message, None),
    };
    (format!("not TOML: {said}"), help)
}
