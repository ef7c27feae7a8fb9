//! Which metrics and labels a PromQL expression names. Not a parser: Prometheus itself is asked whether an expression
//! is one. What is no function, keyword, label or number must be a metric, so that a misspelt one is noticed.

use std::collections::BTreeSet;

/// One selector: a metric's name and the labels that are matched.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<Matcher>,
    /// As it stands in the expression, without range and offset.
    pub text: String,
}

/// What a label must be, or must not.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matcher {
    pub label: String,
    pub is_negated: bool,
    is_pattern: bool,
    value: String,
}

impl Matcher {
    /// The values that are named. The patterns of this project are lists of words.
    pub fn alternatives(&self) -> impl Iterator<Item = &str> {
        self.value.split(|c| self.is_pattern && c == '|')
    }
}

/// What an expression names.
#[derive(Debug, Default)]
pub struct Named {
    pub selectors: Vec<Selector>,
    /// Labels of `by`, `on` and the like.
    pub grouped: BTreeSet<String>,
}

/// Words that stand before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];

/// Reads an expression from left to right.
///
/// # Panics
/// Where a string or a list is not closed.
pub fn named(expr: &str) -> Named {
    let mut found = Named::default();
    let mut rest = expr;
    while let Some(first) = rest.chars().next() {
        let word = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
        if first == '[' {
            (_, rest) = rest.split_once(']').expect("a range is closed");
        } else if first == '"' {
            (_, rest) = rest[1..].split_once('"').expect("a string is closed");
        } else if word.is_empty() {
            rest = &rest[first.len_utf8()..];
        } else {
            let after = &rest[word.len()..];
            rest = after;
            if first.is_ascii_digit() || OPERATORS.contains(&word) {
                continue;
            }
            if BEFORE_LABELS.contains(&word) {
                let (list, behind) = after
                    .trim_start()
                    .strip_prefix('(')
                    .and_then(|a| a.split_once(')'))
                    .expect("a list of labels follows and is closed");
                found
                    .grouped
                    .extend(list.split(',').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned));
                rest = behind;
            } else if let Some(matchers) = after.strip_prefix('{') {
                let length = closing(matchers);
                let text = format!("{word}{{{}}}", &matchers[..length]);
                let matchers_named = matchers_of(&matchers[..length]);
                found.selectors.push(Selector { metric: word.to_owned(), matchers: matchers_named, text });
                rest = &matchers[length + 1..];
            } else if !after.trim_start().starts_with('(') && !before_grouped_call(after) {
                found.selectors.push(Selector {
                    metric: word.to_owned(),
                    matchers: Vec::new(),
                    text: word.to_owned(),
                });
            }
        }
    }
    found
}

/// An aggregation such as `sum by (le) (...)`.
fn before_grouped_call(after: &str) -> bool {
    let word = after.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    matches!(word, "by" | "without")
}

/// Where the brace that is open before `text` closes.
fn closing(text: &str) -> usize {
    let mut quoted = false;
    text.find(|c| {
        quoted ^= c == '"';
        c == '}' && !quoted
    })
    .expect("a brace is closed")
}

fn matchers_of(text: &str) -> Vec<Matcher> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some(at) = rest.find(['=', '!']) {
        let (label, value) = rest.split_at(at);
        let (operator, opened) = value.split_once('"').expect("a value is quoted");
        let (value, behind) = opened.split_once('"').expect("a value is closed");
        found.push(Matcher {
            label: label.trim_matches([',', ' ']).to_owned(),
            is_negated: operator.starts_with('!'),
            is_pattern: operator.trim_end().ends_with('~'),
            value: value.to_owned(),
        });
        rest = behind;
    }
    found
}

#[test]
fn names_are_told_from_functions_labels_ranges_and_strings() {
    let named = named(
        r#"topk(3, sum by (le, call) (rate(a_bucket{x="b}c",y!~"d"}[$__rate_interval]))) / on (z) group_left () (e > 1e3) or f offset 5m"#,
    );
    let seen: Vec<_> =
        named.selectors.iter().map(|s| (s.metric.as_str(), s.matchers.len(), s.text.as_str())).collect();
    assert_eq!(seen, [("a_bucket", 2, r#"a_bucket{x="b}c",y!~"d"}"#), ("e", 0, "e"), ("f", 0, "f")]);
    assert_eq!(named.grouped.iter().map(String::as_str).collect::<Vec<_>>(), ["call", "le", "z"]);
}
