//! What a rule does, in words: when it fires, what it then asks for, what it reads and what that costs. Made from the
//! checked expression, so that it says what is evaluated and not what was meant.

use std::{cell::RefCell, cmp::Ordering, collections::BTreeSet};

use serde::Serialize;

use super::{
    Effect, Mode, Rule,
    check::{Sets, type_name},
    lists::FOR_EVER,
    modes::Suppression,
    typed::{Arithmetic, Bool, Comparison, Float, Int, Money, Text, TextMatch},
};
use crate::{
    features::{
        aggregate::{Aggregate, Attribute, Footprint, Measure},
        catalog::{CATALOG, Entry, Type},
        values::Slot,
    },
    types::{
        lists::ListKind,
        time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp},
    },
};

/// How a rule writes money, whatever it is kept in.
const MONEY_UNIT: &str = "major units";
/// The same of windows that know no account's currency.
const BASE_MONEY_UNIT: &str = "major units of the base currency";
/// Values of a list that are written out; a longer one is told by its length.
const VALUES_SHOWN: usize = 4;

/// One rule in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    pub rule: String,
    /// `live`, `shadow` or `off`.
    pub mode: &'static str,
    /// Where that does not come from the file: who set it, since when, and what the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_from: Option<String>,
    /// The share of the cards for which it decides; absent where it decides for all or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_percent: Option<u8>,
    /// For whom it does not decide although it is live, and until when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suppressed_for: Vec<String>,
    /// The guard does not set it to shadow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// What it asks for where it fires, as a sentence.
    pub then: String,
    /// When it fires, one line a condition; two blanks of indentation for what belongs to the line above.
    pub when: Vec<String>,
    pub reads: Vec<Reading>,
    /// Estimated time of one evaluation.
    pub cost_ns: u32,
}

/// A field, feature or aggregate that a rule reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reading {
    pub name: String,
    /// Other names that mean the same in a rule; empty where there is none.
    pub aliases: &'static [&'static str],
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// Such as `km`; empty where there is none.
    pub unit: &'static str,
    pub meaning: String,
    /// What an aggregate takes in memory.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub footprint: Option<Footprint>,
}

impl Reading {
    /// What an aggregate takes and for how long, as a sentence; empty for what is none.
    pub fn memory(&self) -> String {
        let Some(footprint) = self.footprint else { return String::new() };
        let Footprint { bytes_per_key, bytes_per_event, window_ms, serves_all, event_kept_ms } = footprint;
        let (window, late) = (numbered(window_ms), numbered(event_kept_ms - window_ms));
        let of = if serves_all {
            format!(
                "each event of the account, kept once for all aggregates, for the longest window there may be ({window})"
            )
        } else {
            format!("each event, kept for the window ({window})")
        };
        format!(
            "{bytes_per_key} bytes a key and {bytes_per_event} for {of} and {late} more: an advice may come so late, and \
             reads what it would have read in time"
        )
    }
}

/// Says what an aggregate counts.
pub fn aggregate(aggregate: &Aggregate) -> String {
    let of = match aggregate.measure {
        Measure::Count => "number of attempts".to_owned(),
        Measure::Sum => "sum of the amounts".to_owned(),
        Measure::Mean => "mean amount".to_owned(),
        Measure::Min => "smallest amount".to_owned(),
        Measure::Max => "largest amount".to_owned(),
        Measure::StdDev => "standard deviation of the amounts".to_owned(),
        Measure::Distinct(attribute) => format!("number of different {}", plural(attribute)),
    };
    let parts: Vec<&str> = aggregate.by.names().collect();
    let whose = match parts.split_last() {
        Some((last, [])) => format!("of the {last}"),
        Some((last, before)) => format!("of the same {} and {last}", before.join(", ")),
        None => String::new(),
    };
    let filter = aggregate.filter.as_ref();
    let filter = filter.map_or(String::new(), |filter| format!(", counting where {}", filter.condition()));
    format!("{of} {whose} in the last {}{filter}", length(aggregate.window_ms))
}

/// Every name that a rule may use besides its own aggregates and lists.
pub fn names() -> Vec<Reading> {
    CATALOG.iter().map(of_entry).collect()
}

fn of_entry(entry: &Entry) -> Reading {
    Reading {
        name: entry.name.to_owned(),
        aliases: entry.aliases,
        ty: type_name(entry.ty),
        unit: unit_of(entry),
        meaning: entry.doc.to_owned(),
        footprint: None,
    }
}

fn unit_of(entry: &Entry) -> &'static str {
    if entry.ty == Type::Money { MONEY_UNIT } else { entry.unit }
}

fn plural(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Country => "countries",
        Attribute::Mcc => "merchant categories",
        Attribute::Merchant => "merchants",
        Attribute::Device => "devices",
        Attribute::Channel => "channels",
        Attribute::Card => "cards",
        Attribute::Account => "accounts",
        Attribute::Terminal => "terminals",
        Attribute::Ip => "IP addresses",
    }
}

/// A window's length in the largest unit that divides it, as it stands behind `the last`.
fn length(window_ms: i64) -> String {
    let numbered = numbered(window_ms);
    numbered.strip_prefix("1 ").map_or(numbered.clone(), str::to_owned)
}

/// The same with its number, whatever that is.
fn numbered(window_ms: i64) -> String {
    let units = [(DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"), (SECOND_MS, "second")];
    let unit = units.into_iter().find(|(unit_ms, _)| window_ms % unit_ms == 0);
    match unit {
        Some((unit_ms, name)) if window_ms == unit_ms => format!("1 {name}"),
        Some((unit_ms, name)) => format!("{} {name}s", window_ms / unit_ms),
        None => format!("{window_ms} ms"),
    }
}

/// Puts conditions into words.
pub struct Words<'a> {
    sets: &'a Sets,
    aggregates: &'a [Aggregate],
    /// What the present condition has named.
    read: RefCell<BTreeSet<Slot>>,
}

impl<'a> Words<'a> {
    pub fn new(sets: &'a Sets, aggregates: &'a [Aggregate]) -> Words<'a> {
        Words { sets, aggregates, read: RefCell::default() }
    }

    pub fn explain(&self, rule: &Rule, condition: &Bool, suppressions: &[Suppression]) -> Explanation {
        let mut when = Vec::new();
        self.lines(condition, 0, &mut when);
        let read = self.read.take();
        Explanation {
            rule: rule.id.to_string(),
            mode: rule.mode.name(),
            mode_from: held(rule),
            live_percent: rule.live_percent.filter(|_| rule.mode == Mode::Live),
            suppressed_for: suppressions.iter().map(suppressed).collect(),
            protected: rule.protected,
            then: then(rule),
            when,
            reads: read.into_iter().map(|slot| self.reading(slot)).collect(),
            cost_ns: rule.cost_ns,
        }
    }

    fn reading(&self, slot: Slot) -> Reading {
        let index = usize::from(slot);
        match (CATALOG.get(index), index.checked_sub(CATALOG.len()).and_then(|at| self.aggregates.get(at))) {
            (Some(entry), _) => of_entry(entry),
            (None, Some(declared)) => {
                let is_money = declared.measure.is_money();
                Reading {
                    name: declared.name.to_string(),
                    aliases: &[],
                    ty: if is_money { "money" } else { "a whole number" },
                    unit: match (is_money, declared.is_shared()) {
                        (true, true) => BASE_MONEY_UNIT,
                        (true, false) => MONEY_UNIT,
                        (false, _) => "",
                    },
                    meaning: format!("The {}.", aggregate(declared)),
                    footprint: Some(declared.footprint()),
                }
            }
            (None, None) => Reading {
                name: format!("slot {slot}"),
                aliases: &[],
                ty: "",
                unit: "",
                meaning: String::new(),
                footprint: None,
            },
        }
    }

    fn name(&self, slot: Slot) -> String {
        self.read.borrow_mut().insert(slot);
        self.reading(slot).name
    }

    fn lines(&self, condition: &Bool, depth: usize, lines: &mut Vec<String>) {
        let mut say = |text: String| lines.push(format!("{}{text}", "  ".repeat(depth)));
        match condition {
            Bool::All(terms) | Bool::Any(terms) => {
                let all = matches!(condition, Bool::All(_));
                say(if all { "all of these:" } else { "any of these:" }.to_owned());
                terms.iter().for_each(|term| self.lines(term, depth + 1, lines));
            }
            Bool::Not(inner) if matches!(**inner, Bool::All(_) | Bool::Any(_)) => {
                let none = matches!(**inner, Bool::Any(_));
                say(if none { "none of these:" } else { "not all of these:" }.to_owned());
                if let Bool::All(terms) | Bool::Any(terms) = &**inner {
                    terms.iter().for_each(|term| self.lines(term, depth + 1, lines));
                }
            }
            other => say(self.phrase(other)),
        }
    }

    /// One condition as part of a sentence.
    fn phrase(&self, condition: &Bool) -> String {
        match condition {
            Bool::Const(value) => if *value { "always" } else { "never" }.to_owned(),
            Bool::Slot(slot) => format!("{} is true", self.name(*slot)),
            Bool::Has(slot) => format!("{} is known", self.name(*slot)),
            Bool::Not(inner) => match &**inner {
                Bool::Slot(slot) => format!("{} is false", self.name(*slot)),
                Bool::Has(slot) => format!("{} is not known", self.name(*slot)),
                Bool::TextIn(text, set) => format!("{} is not {}", self.text(text), self.texts(*set)),
                Bool::IntIn(int, set) => format!("{} is not {}", self.int(int), self.ints(*set)),
                inner => format!("not ({})", self.phrase(inner)),
            },
            Bool::All(terms) => self.joined(terms, " and "),
            Bool::Any(terms) => self.joined(terms, " or "),
            Bool::If(a, b, c) => self.choice(a, self.phrase(b), self.phrase(c)),
            Bool::Same(a, b) => match (&**a, &**b) {
                (one, Bool::Const(true)) | (Bool::Const(true), one) => self.phrase(one),
                (one, Bool::Const(false)) | (Bool::Const(false), one) => {
                    format!("not ({})", self.phrase(one))
                }
                (one, other) => format!("({}) exactly where ({})", self.phrase(one), self.phrase(other)),
            },
            Bool::CompareInt(is, a, b) => compared(*is, self.int(a), self.int(b)),
            Bool::CompareFloat(is, a, b) => compared(*is, self.float(a), self.float(b)),
            Bool::CompareIntFloat(is, a, b) => compared(*is, self.int(a), self.float(b)),
            Bool::CompareMoney(is, a, b) => compared(*is, self.money(a), self.money(b)),
            Bool::CompareText(is, a, b) => compared(*is, self.text(a), self.text(b)),
            Bool::TextIn(text, set) => format!("{} is {}", self.text(text), self.texts(*set)),
            Bool::IntIn(int, set) => format!("{} is {}", self.int(int), self.ints(*set)),
            Bool::Match(kind, text, part) => {
                let verb = match kind {
                    TextMatch::StartsWith => "begins with",
                    TextMatch::EndsWith => "ends with",
                    TextMatch::Contains => "contains",
                };
                format!("{} {verb} {}", self.text(text), self.text(part))
            }
        }
    }

    fn joined(&self, terms: &[Bool], with: &str) -> String {
        let terms: Vec<String> = terms.iter().map(|term| self.phrase(term)).collect();
        format!("({})", terms.join(with))
    }

    fn choice(&self, condition: &Bool, then: String, otherwise: String) -> String {
        format!("({then} where {}, otherwise {otherwise})", self.phrase(condition))
    }

    fn int(&self, int: &Int) -> String {
        match int {
            Int::Const(value) => value.to_string(),
            Int::Slot(slot) => self.name(*slot),
            Int::Neg(inner) => format!("minus {}", self.int(inner)),
            Int::Binary(sign, a, b) => arithmetic(*sign, self.int(a), self.int(b)),
            Int::If(a, b, c) => self.choice(a, self.int(b), self.int(c)),
            Int::Abs(inner) => format!("the size of {}", self.int(inner)),
            Int::Pick(side, a, b) => picked(*side, self.int(a), self.int(b)),
            Int::Size(text) => format!("the number of characters of {}", self.text(text)),
            Int::FromFloat(inner) => format!("the whole part of {}", self.float(inner)),
        }
    }

    fn float(&self, float: &Float) -> String {
        match float {
            Float::Const(value, _) => value.to_string(),
            Float::Slot(slot) => self.name(*slot),
            Float::Neg(inner) => format!("minus {}", self.float(inner)),
            Float::Binary(sign, a, b) => arithmetic(*sign, self.float(a), self.float(b)),
            Float::If(a, b, c) => self.choice(a, self.float(b), self.float(c)),
            Float::Abs(inner) => format!("the size of {}", self.float(inner)),
            Float::Pick(side, a, b) => picked(*side, self.float(a), self.float(b)),
            Float::FromInt(inner) => self.int(inner),
            Float::Ratio(a, b) => format!("({} over {})", self.money(a), self.money(b)),
        }
    }

    fn money(&self, money: &Money) -> String {
        match money {
            Money::Literal(value) => value.to_string(),
            Money::Slot(slot) => self.name(*slot),
            Money::Neg(inner) => format!("minus {}", self.money(inner)),
            Money::Add(a, b) => format!("({} plus {})", self.money(a), self.money(b)),
            Money::Subtract(a, b) => format!("({} less {})", self.money(a), self.money(b)),
            Money::Scale(factor, inner) => format!("{factor} times {}", self.money(inner)),
            Money::Times(int, inner) => format!("{} times {}", self.int(int), self.money(inner)),
            Money::If(a, b, c) => self.choice(a, self.money(b), self.money(c)),
            Money::Abs(inner) => format!("the size of {}", self.money(inner)),
            Money::Pick(side, a, b) => picked(*side, self.money(a), self.money(b)),
        }
    }

    fn text(&self, text: &Text) -> String {
        match text {
            Text::Const(text) => format!("'{text}'"),
            Text::Slot(slot) => self.name(*slot),
            Text::If(a, b, c) => self.choice(a, self.text(b), self.text(c)),
        }
    }

    fn texts(&self, set: usize) -> String {
        let values = self.sets.texts[set].iter().map(|text| format!("'{text}'"));
        self.listed(ListKind::Texts, set, values.collect(), ends(self.sets.text_ends.get(&set)))
    }

    fn ints(&self, set: usize) -> String {
        let values = self.sets.ints[set].iter().map(i64::to_string);
        self.listed(ListKind::Ints, set, values.collect(), ends(self.sets.int_ends.get(&set)))
    }

    fn listed(&self, kind: ListKind, set: usize, values: Vec<String>, ends: String) -> String {
        let named = self.sets.list_of(kind, set);
        let count = values.len();
        match named.map(|list| &list.name) {
            Some(name) => {
                let values = if count == 1 { "value" } else { "values" };
                format!("on the list {name} ({count} {values}{ends})")
            }
            None if count == 0 => "one of no values".to_owned(),
            None if count <= VALUES_SHOWN => format!("one of {}", values.join(", ")),
            None => format!("one of {count} values, such as {}", values[..VALUES_SHOWN].join(", ")),
        }
    }
}

/// `; 2 with an end, the first at ..`; empty where none has one.
fn ends(ends: Option<&Vec<i64>>) -> String {
    let with_end = ends.into_iter().flatten().filter(|end| **end != FOR_EVER);
    match with_end.clone().min() {
        Some(first) => format!("; {} with an end, the first at {}", with_end.count(), Timestamp(*first)),
        None => String::new(),
    }
}

fn held(rule: &Rule) -> Option<String> {
    let (says, set) = rule.held.as_ref()?;
    Some(format!("{}; the file says {}", set.told(), says.name()))
}

fn suppressed(suppression: &Suppression) -> String {
    let Suppression { entity, id, until } = suppression;
    format!("{} {id} until {until}", entity.name())
}

fn then(rule: &Rule) -> String {
    let code = rule.response_code.map_or(String::new(), |code| format!(" with response code {code}"));
    let does = match rule.then {
        Effect::Decline => "declines",
        Effect::Refer => "declines and asks to call the issuer",
        Effect::StepUp => "asks the cardholder to authenticate",
        Effect::ApproveDespiteScore => "keeps the model from declining",
        Effect::Flag => "adds a remark and decides nothing",
    };
    format!("{does}{code}, reason {}: {}", rule.reason, rule.text)
}

fn compared(comparison: Comparison, left: String, right: String) -> String {
    let is = match comparison {
        Comparison::Less => "is less than",
        Comparison::LessEqual => "is at most",
        Comparison::Greater => "is more than",
        Comparison::GreaterEqual => "is at least",
        Comparison::Equal => "is",
        Comparison::NotEqual => "is not",
    };
    format!("{left} {is} {right}")
}

fn arithmetic(sign: Arithmetic, left: String, right: String) -> String {
    let sign = match sign {
        Arithmetic::Add => "plus",
        Arithmetic::Subtract => "less",
        Arithmetic::Multiply => "times",
        Arithmetic::Divide => "over",
        Arithmetic::Remainder => "modulo",
    };
    format!("({left} {sign} {right})")
}

fn picked(side: Ordering, left: String, right: String) -> String {
    let which = if side == Ordering::Less { "smaller" } else { "greater" };
    format!("the {which} of {left} and {right}")
}
