//! `[[tests]]` of a rules file: given these values, these rules fire and this is decided, by the rules alone.
//!
//! What is not given is missing. Amounts are in major units of `currency`, which is USD unless given. `rules` names
//! every rule that fires, live or shadow; `decision` is what the live ones decide, those with `live_percent` for every
//! card: a test says what a rule does where it decides. `lists` are values that calls have put on lists, beside those of
//! the file.
//!
//! With a `transaction_time` given, values of lists that have ended by then are on no list, rules that are suppressed then
//! decide nothing, and what follows from the time alone is known. Without one, no value has ended and no rule is
//! suppressed.

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;

use super::{
    Effect, Hits, Lists, ListsInForce, Mode, RuleSet, Seen,
    check::{Scope, type_name},
    file::{At, File, GivenValue, TestDeclaration},
    finding::{Report, did_you_mean},
    lists::{ListFull, Step},
};
use crate::{
    features::{
        catalog::Type,
        fill_time,
        values::{Slot, Values},
    },
    types::{
        codes::Decision,
        lists::ListEntry,
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// One test, checked.
#[derive(Clone, Debug)]
pub struct TestCase {
    name: Arc<str>,
    line: u32,
    currency: Currency,
    given: Vec<(Slot, Given)>,
    time: Option<Timestamp>,
    lists: Vec<(Box<str>, Vec<Box<str>>)>,
    decision: Option<Decision>,
    /// Sorted indices of the rules.
    rules: Option<Vec<usize>>,
}

#[cfg(test)]
impl TestCase {
    pub fn expects(&self, rule: usize) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.contains(&rule))
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Given {
    Bool(bool),
    /// A whole number, or minor units.
    Int(i64),
    Float(f64),
    Text(String),
}

/// How one test ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TestResult {
    pub name: String,
    /// Where it stands in the file, from 1.
    pub line: u32,
    pub passed: bool,
    /// What was expected and what came instead; empty for a test that passed.
    pub failures: Vec<String>,
}

/// Runs every test written in the file, in its order.
pub fn run_tests(rules: &RuleSet) -> Vec<TestResult> {
    rules.tests.iter().map(|test| run(rules, test)).collect()
}

fn run(rules: &RuleSet, test: &TestCase) -> TestResult {
    let mut values = Values::new();
    if let Some(time) = test.time {
        fill_time(time, &mut values);
    }
    for (slot, given) in &test.given {
        match given {
            Given::Bool(value) => values.set_bool(*slot, *value),
            Given::Int(value) => values.set_int(*slot, *value),
            Given::Float(value) => values.set_float(*slot, *value),
            Given::Text(text) => values.set_text(*slot, text),
        }
    }
    let mut hits = Hits::default();
    let mut failures = Vec::new();
    // A test sees the lists as the file has them, without a time before any of their values ends, and what it says itself.
    let lists = in_force(rules, test, &mut failures);
    let now = test.time.unwrap_or(Timestamp(i64::MIN));
    rules.evaluate(&values, test.currency, Seen { lists: &lists, now }, &mut hits);
    if let Some(time) = test.time {
        rules.suppress(&values, time, &mut hits);
    }
    if let Some(expected) = test.decision {
        let decision = decision_of(rules, &hits);
        if decision != expected {
            let suppressed = hits.fired().filter(|rule| hits.is_suppressed(*rule));
            let suppressed = suppressed.map(|rule| format!(": `{}` is suppressed", rules.rules[rule].id));
            let in_shadow = hits.fired().filter(|rule| rules.rules[*rule].mode == Mode::Shadow);
            let in_shadow = in_shadow.map(|rule| format!(": `{}` fires in shadow", rules.rules[rule].id));
            let why: String = suppressed.chain(in_shadow).collect();
            failures.push(format!("expected {}, the rules decide {}{why}", expected.name(), decision.name()));
        }
    }
    if let Some(expected) = &test.rules {
        let fired: Vec<usize> = hits.fired().collect();
        let unknown: Vec<usize> = hits.unknown().collect();
        for rule in expected.iter().filter(|rule| !fired.contains(rule)) {
            let why = match rules.rules[*rule].mode {
                Mode::Off => ": it is off",
                _ if unknown.contains(rule) => ": a value it needs is missing",
                _ => "",
            };
            failures.push(format!("rule `{}` does not fire{why}", rules.rules[*rule].id));
        }
        for rule in fired.iter().filter(|rule| !expected.contains(rule)) {
            failures.push(format!("rule `{}` fires unexpectedly", rules.rules[*rule].id));
        }
    }
    TestResult { name: test.name.to_string(), line: test.line, passed: failures.is_empty(), failures }
}

/// The lists of a test. What a list cannot hold is a failure.
fn in_force(rules: &RuleSet, test: &TestCase, failures: &mut Vec<String>) -> ListsInForce {
    let mut lists = Lists::default();
    for (name, values) in &test.lists {
        let Some(list) = rules.list(name) else { continue };
        let mut steps = Vec::new();
        for value in values {
            match (list.refusal(value), list.kind.admit(value)) {
                (None, Some(value)) => {
                    steps.push(Step::Add(ListEntry { value, expires_at: None, source: "test".into() }));
                }
                (refusal, _) => {
                    let why = refusal.unwrap_or_else(|| "is not of the list's kind".to_owned());
                    failures.push(format!("`{value}` on list `{name}` {why}"));
                }
            }
        }
        match lists.with((name, list.kind), Timestamp(i64::MIN), steps) {
            Ok(with) => lists = with,
            Err(ListFull) => failures.push(format!("list `{name}` cannot hold so many values")),
        }
    }
    rules.lists_in_force(Arc::new(lists))
}

fn decision_of(rules: &RuleSet, hits: &Hits) -> Decision {
    match rules.deciding(hits).next().map(|rule| rule.then) {
        Some(Effect::Decline | Effect::Refer) => Decision::Declined,
        Some(Effect::StepUp) => Decision::StepUp,
        Some(Effect::ApproveDespiteScore | Effect::Flag) | None => Decision::Approved,
    }
}

/// Checks the tests of a file against its names. `None` where one of them is wrong, which is then reported.
pub fn check(file: &File, scope: &Scope, report: &mut Report<'_>) -> Option<Vec<TestCase>> {
    let tests: Vec<Option<TestCase>> =
        file.tests.iter().map(|test| check_one(test, file, scope, report)).collect();
    tests.into_iter().collect()
}

fn check_one(
    test: &TestDeclaration,
    file: &File,
    scope: &Scope,
    report: &mut Report<'_>,
) -> Option<TestCase> {
    let currency = currency(test, report);
    let mut given = Vec::new();
    let mut whole = currency.is_some();
    let mut seen = HashSet::new();
    // What is no currency was told of as such.
    let told = |name: &At<String>| currency.is_none() && name.value == CURRENCY;
    for (name, value) in test.given.iter().filter(|(name, _)| !told(name)) {
        match check_given(name, value, currency, scope, report) {
            Some((slot, _)) if !seen.insert(slot) => {
                report.error(name.span.clone(), format!("`{}` is given twice", name.value), None);
                whole = false;
            }
            Some(value) => given.push(value),
            None => whole = false,
        }
    }
    let mut lists = Vec::new();
    for (name, values) in &test.lists {
        let declared = || file.lists.iter().map(|list| list.name.value.as_str());
        if !declared().any(|known| known == name.value) {
            let help = did_you_mean(&name.value, declared());
            report.error(name.span.clone(), format!("unknown list `{}`", name.value), help);
            whole = false;
        }
        let values = values.iter().map(|value| value.value.as_str().into()).collect();
        lists.push((name.value.as_str().into(), values));
    }
    let rules = test.rules.as_ref().map(|ids| {
        let mut indices: Vec<usize> = ids.iter().filter_map(|id| rule_index(id, file, report)).collect();
        whole &= indices.len() == ids.len();
        indices.sort_unstable();
        indices
    });
    let name = Arc::from(test.name.as_deref()?);
    let line = report.line_of(test.span.start);
    let currency = currency.filter(|_| whole)?;
    let time = test.time;
    Some(TestCase { name, line, currency, given, time, lists, decision: test.decision, rules })
}

/// The name under which a test gives the currency of its amounts.
const CURRENCY: &str = "currency";

fn currency(test: &TestDeclaration, report: &mut Report<'_>) -> Option<Currency> {
    let given = test.given.iter().find(|(name, _)| name.value == CURRENCY);
    let Some((_, code)) = given else { return Currency::from_alpha("USD") };
    let currency = match &code.value {
        GivenValue::Text(code) => Currency::from_alpha(code),
        _ => None,
    };
    if currency.is_none() {
        let help = "a currency is three capital letters (ISO 4217), such as \"USD\"";
        report.error(code.span.clone(), "this is no currency", Some(help.into()));
    }
    currency
}

fn check_given(
    name: &At<String>,
    value: &At<GivenValue>,
    currency: Option<Currency>,
    scope: &Scope,
    report: &mut Report<'_>,
) -> Option<(Slot, Given)> {
    let Some(variable) = scope.variables.get(&name.value) else {
        if !scope.broken.contains(&name.value) {
            let help = did_you_mean(&name.value, scope.variables.keys().map(String::as_str));
            report.error(name.span.clone(), format!("unknown name `{}`", name.value), help);
        }
        return None;
    };
    let given = match (variable.ty, &value.value) {
        (Type::Bool, GivenValue::Bool(value)) => Some(Given::Bool(*value)),
        (Type::Int, GivenValue::Int(digits)) => digits.parse().ok().map(Given::Int),
        (Type::Float, GivenValue::Int(digits) | GivenValue::Float(digits)) => {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Given::Float)
        }
        (Type::Text, GivenValue::Text(text)) => {
            if let Err((message, help)) = variable.form.admit(text) {
                report.error(value.span.clone(), format!("`{}` {message}", name.value), help);
                return None;
            }
            Some(Given::Text(text.clone()))
        }
        (Type::Money, GivenValue::Int(digits) | GivenValue::Float(digits)) => {
            // Without a currency nobody knows how many decimals are right.
            match Money::parse_major(digits, currency?) {
                Ok(money) => Some(Given::Int(money.minor)),
                Err(why) => {
                    report.error(value.span.clone(), why, None);
                    return None;
                }
            }
        }
        _ => None,
    };
    if given.is_none() {
        let message = format!("`{}` is {}, which this is not", name.value, type_name(variable.ty));
        let help = match (&value.value, variable.ty) {
            (GivenValue::Text(text), Type::Bool | Type::Int | Type::Float | Type::Money)
                if text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok() =>
            {
                Some(format!("write it without quotes: {text}"))
            }
            (GivenValue::Int(_) | GivenValue::Float(_), Type::Text) => Some("write it in quotes".to_string()),
            _ => None,
        };
        report.error(value.span.clone(), message, help);
    }
    given.map(|given| (variable.slot, given))
}

/// The place of a rule; an unknown one is reported.
pub fn rule_index(id: &At<String>, file: &File, report: &mut Report<'_>) -> Option<usize> {
    let ids = || file.rules.iter().filter_map(|rule| rule.id.as_ref()).map(|id| id.value.as_str());
    let index =
        file.rules.iter().position(|rule| rule.id.as_ref().is_some_and(|other| other.value == id.value));
    if index.is_none() {
        report.error(id.span.clone(), format!("unknown rule `{}`", id.value), did_you_mean(&id.value, ids()));
    }
    index
}
