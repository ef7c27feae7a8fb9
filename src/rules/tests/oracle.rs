//! The compiled program against a naive evaluator that walks the parsed tree with dynamic values and fractions, and
//! knows neither types nor slots nor ranges.

use std::{cmp::Ordering, collections::HashMap};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    super::parse::{Expr, ExprKind, Operator, parse},
    Value, compiled, currency, file_with, results, slot_of, values,
};
use crate::types::money::Currency;

/// A value of the naive evaluator.
#[derive(Clone, PartialEq, Debug)]
enum Dynamic {
    Bool(bool),
    /// With the exact number where it stems from a literal alone.
    Int(i64, Option<Fraction>),
    Float(f64, Option<Fraction>),
    /// Minor units.
    Money(Fraction),
    Text(String),
}

/// Numerator and denominator; the latter is positive.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Fraction(i128, i128);

impl Fraction {
    fn plus(self, other: Fraction) -> Fraction {
        Fraction(self.0 * other.1 + other.0 * self.1, self.1 * other.1).reduced()
    }

    fn times(self, other: Fraction) -> Fraction {
        Fraction(self.0 * other.0, self.1 * other.1).reduced()
    }

    fn reduced(self) -> Fraction {
        let (mut a, mut b) = (self.0.abs(), self.1);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Fraction(self.0 / a.max(1), self.1 / a.max(1))
    }

    fn compare(self, other: Fraction) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

struct Naive<'a> {
    given: &'a HashMap<&'static str, Dynamic>,
    currency: Currency,
}

impl Naive<'_> {
    /// `None` is unknown.
    fn evaluate(&self, expr: &Expr) -> Option<Dynamic> {
        Some(match &expr.kind {
            ExprKind::Bool(value) => Dynamic::Bool(*value),
            ExprKind::Int(value) => Dynamic::Int(*value, Some(Fraction(i128::from(*value), 1))),
            ExprKind::Float(value, exact) => Dynamic::Float(
                *value,
                exact.map(|exact| Fraction(i128::from(exact.mantissa()), 10_i128.pow(exact.scale()))),
            ),
            ExprKind::Text(text) => Dynamic::Text(text.clone()),
            ExprKind::Name(name) => return self.given.get(name.as_str()).cloned(),
            ExprKind::Not(inner) => Dynamic::Bool(!self.truth(inner)?),
            ExprKind::Neg(inner) => match self.evaluate(inner)? {
                Dynamic::Int(value, exact) => {
                    Dynamic::Int(value.checked_neg()?, exact.map(|e| Fraction(-e.0, e.1)))
                }
                Dynamic::Float(value, exact) => Dynamic::Float(-value, exact.map(|e| Fraction(-e.0, e.1))),
                Dynamic::Money(Fraction(n, d)) => Dynamic::Money(Fraction(-n, d)),
                other => panic!("- {other:?}"),
            },
            ExprKind::Conditional(condition, then, otherwise) => {
                let chosen = self.evaluate(if self.truth(condition)? { then } else { otherwise })?;
                if is_money(expr) { Dynamic::Money(self.minor(chosen)) } else { chosen }
            }
            ExprKind::Binary(Operator::And, left, right) => match (self.truth(left), self.truth(right)) {
                (Some(false), _) | (_, Some(false)) => Dynamic::Bool(false),
                (Some(true), Some(true)) => Dynamic::Bool(true),
                _ => return None,
            },
            ExprKind::Binary(Operator::Or, left, right) => match (self.truth(left), self.truth(right)) {
                (Some(true), _) | (_, Some(true)) => Dynamic::Bool(true),
                (Some(false), Some(false)) => Dynamic::Bool(false),
                _ => return None,
            },
            ExprKind::Binary(Operator::In, left, right) => {
                let left = self.evaluate(left)?;
                let ExprKind::List(items) = &right.kind else { panic!("in {right:?}") };
                let mut found = false;
                for item in items {
                    found |= self.compare(left.clone(), self.evaluate(item)?) == Some(Ordering::Equal);
                }
                Dynamic::Bool(found)
            }
            ExprKind::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                let ordered = |accept: fn(Ordering) -> bool| {
                    Some(Dynamic::Bool(self.compare(left.clone(), right.clone()).is_some_and(accept)))
                };
                return match operator {
                    Operator::Less => ordered(Ordering::is_lt),
                    Operator::LessEqual => ordered(Ordering::is_le),
                    Operator::Greater => ordered(Ordering::is_gt),
                    Operator::GreaterEqual => ordered(Ordering::is_ge),
                    Operator::Equal => ordered(Ordering::is_eq),
                    Operator::NotEqual => {
                        Some(Dynamic::Bool(self.compare(left, right) != Some(Ordering::Equal)))
                    }
                    _ => self.arithmetic(*operator, left, right),
                };
            }
            ExprKind::Call { function, receiver, arguments } => {
                return self.call(function, receiver.as_deref(), arguments);
            }
            ExprKind::List(_) | ExprKind::Wrong => panic!("this stands alone: {expr:?}"),
        })
    }

    fn truth(&self, expr: &Expr) -> Option<bool> {
        match self.evaluate(expr)? {
            Dynamic::Bool(value) => Some(value),
            other => panic!("{other:?} is no truth"),
        }
    }

    /// A literal beside money is in major units.
    fn minor(&self, value: Dynamic) -> Fraction {
        match value {
            Dynamic::Money(minor) => minor,
            Dynamic::Int(_, Some(major)) | Dynamic::Float(_, Some(major)) => {
                major.times(Fraction(i128::from(self.currency.minor_per_major()), 1))
            }
            other => panic!("{other:?} beside money"),
        }
    }

    /// `None` where there is no order: one of them is no number.
    fn compare(&self, left: Dynamic, right: Dynamic) -> Option<Ordering> {
        match (left, right) {
            (left @ Dynamic::Money(_), right) | (left, right @ Dynamic::Money(_)) => {
                Some(self.minor(left).compare(self.minor(right)))
            }
            (Dynamic::Int(a, _), Dynamic::Int(b, _)) => Some(a.cmp(&b)),
            (Dynamic::Float(a, _), Dynamic::Float(b, _)) => a.partial_cmp(&b),
            (Dynamic::Int(a, _), Dynamic::Float(b, _)) => mixed(a, b),
            (Dynamic::Float(a, _), Dynamic::Int(b, _)) => mixed(b, a).map(Ordering::reverse),
            (Dynamic::Text(a), Dynamic::Text(b)) => Some(a.chars().cmp(b.chars())),
            (Dynamic::Bool(a), Dynamic::Bool(b)) => Some(a.cmp(&b)),
            (left, right) => panic!("{left:?} beside {right:?}"),
        }
    }

    fn arithmetic(&self, operator: Operator, left: Dynamic, right: Dynamic) -> Option<Dynamic> {
        Some(match (operator, left, right) {
            (Operator::Divide, Dynamic::Money(a), Dynamic::Money(b)) => {
                // The program divides amounts at one scale as doubles; so must we.
                let scale = a.1.max(b.1);
                let (a, b) = (a.0 * (scale / a.1), b.0 * (scale / b.1));
                if b == 0 {
                    return None;
                }
                Dynamic::Float(a as f64 / b as f64, None)
            }
            (Operator::Multiply, Dynamic::Money(money), number)
            | (Operator::Multiply, number, Dynamic::Money(money)) => match number {
                Dynamic::Int(number, _) => Dynamic::Money(money.times(Fraction(i128::from(number), 1))),
                Dynamic::Float(_, Some(number)) => Dynamic::Money(money.times(number)),
                other => panic!("money times {other:?}"),
            },
            (_, left @ Dynamic::Money(_), right) | (_, left, right @ Dynamic::Money(_)) => {
                let (left, Fraction(n, d)) = (self.minor(left), self.minor(right));
                Dynamic::Money(left.plus(if operator == Operator::Add {
                    Fraction(n, d)
                } else {
                    Fraction(-n, d)
                }))
            }
            (_, Dynamic::Int(a, _), Dynamic::Int(b, _)) => {
                let result = match operator {
                    Operator::Add => i128::from(a) + i128::from(b),
                    Operator::Subtract => i128::from(a) - i128::from(b),
                    Operator::Multiply => i128::from(a) * i128::from(b),
                    _ if b == 0 => return None,
                    Operator::Divide => i128::from(a) / i128::from(b),
                    // The remainder of the smallest number by -1 fails in CEL as its quotient does.
                    _ if a == i64::MIN && b == -1 => return None,
                    _ => i128::from(a) % i128::from(b),
                };
                Dynamic::Int(i64::try_from(result).ok()?, None)
            }
            (_, Dynamic::Float(a, _), Dynamic::Float(b, _)) => Dynamic::Float(
                match operator {
                    Operator::Add => a + b,
                    Operator::Subtract => a - b,
                    Operator::Multiply => a * b,
                    _ => a / b,
                },
                None,
            ),
            (operator, left, right) => panic!("{left:?} {operator:?} {right:?}"),
        })
    }

    fn call(&self, function: &str, receiver: Option<&Expr>, arguments: &[Expr]) -> Option<Dynamic> {
        if function == "has" {
            let ExprKind::Name(name) = &arguments[0].kind else { panic!("has {arguments:?}") };
            return Some(Dynamic::Bool(self.given.contains_key(name.as_str())));
        }
        let mut all = Vec::new();
        for argument in receiver.into_iter().chain(arguments) {
            all.push(self.evaluate(argument)?);
        }
        Some(match (function, all.as_slice()) {
            ("startsWith", [Dynamic::Text(a), Dynamic::Text(b)]) => {
                Dynamic::Bool(a.find(b.as_str()) == Some(0))
            }
            ("endsWith", [Dynamic::Text(a), Dynamic::Text(b)]) => {
                Dynamic::Bool(a.len() >= b.len() && a.as_bytes()[a.len() - b.len()..] == *b.as_bytes())
            }
            ("contains", [Dynamic::Text(a), Dynamic::Text(b)]) => {
                Dynamic::Bool(a.split(b.as_str()).count() > 1)
            }
            ("size", [Dynamic::Text(a)]) => Dynamic::Int(a.char_indices().count() as i64, None),
            ("abs", [Dynamic::Int(a, _)]) => Dynamic::Int(if *a < 0 { a.checked_neg()? } else { *a }, None),
            ("abs", [Dynamic::Float(a, _)]) => {
                Dynamic::Float(if a.is_sign_negative() { -a } else { *a }, None)
            }
            ("abs", [Dynamic::Money(a)]) => Dynamic::Money(Fraction(a.0.abs(), a.1)),
            ("double", [Dynamic::Int(a, _)]) => Dynamic::Float(*a as f64, None),
            ("int", [Dynamic::Float(a, _)]) => {
                let truncated = a.trunc();
                if truncated.is_nan() || truncated <= i64::MIN as f64 || truncated >= i64::MAX as f64 {
                    return None;
                }
                Dynamic::Int(truncated as i64, None)
            }
            ("min" | "max", [a, b]) => {
                let is_money = matches!(a, Dynamic::Money(_)) || matches!(b, Dynamic::Money(_));
                let side = if function == "min" { Ordering::Less } else { Ordering::Greater };
                let picked = if self.compare(b.clone(), a.clone())? == side { b.clone() } else { a.clone() };
                match picked {
                    picked if is_money => Dynamic::Money(self.minor(picked)),
                    Dynamic::Int(value, _) => Dynamic::Int(value, None),
                    Dynamic::Float(value, _) => Dynamic::Float(value, None),
                    other => panic!("{function} {other:?}"),
                }
            }
            (function, all) => panic!("{function} {all:?}"),
        })
    }
}

/// Whether an expression is an amount, whichever way its conditions go.
fn is_money(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Name(name) => MONEYS.contains(&name.as_str()),
        ExprKind::Neg(inner) => is_money(inner),
        ExprKind::Conditional(_, a, b) => is_money(a) || is_money(b),
        ExprKind::Binary(Operator::Add | Operator::Subtract | Operator::Multiply, a, b) => {
            is_money(a) || is_money(b)
        }
        ExprKind::Call { function, arguments, .. } => {
            matches!(function.as_str(), "abs" | "min" | "max") && arguments.iter().any(is_money)
        }
        _ => false,
    }
}

/// Compares a whole with a decimal number by going through the whole part of the latter.
fn mixed(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        None
    } else if float >= 9_223_372_036_854_775_808.0 {
        Some(Ordering::Less)
    } else if float < -9_223_372_036_854_775_808.0 {
        Some(Ordering::Greater)
    } else {
        let whole = float.trunc();
        Some(int.cmp(&(whole as i64)).then(0.0_f64.partial_cmp(&(float - whole))?))
    }
}

const INTS: [&str; 4] =
    ["instalments", "card.count_1h", "verification.network_risk_score", "card.merchants_24h"];
const SMALL_INT: &str = "hour_utc";
const FLOATS: [&str; 3] = ["card.speed_kmh", "distance_from_home_km", "merchant.latitude"];
const MONEYS: [&str; 3] = ["amount", "account.available", "account.credit_limit"];
const BOOLS: [&str; 3] = ["is_foreign", "is_night", "is_ecommerce"];
const TEXTS: [&str; 3] = ["merchant.id", "merchant.name", "device.id"];
const WORDS: [&str; 5] = ["'a'", "'ab'", "'b'", "'ä'", "''"];

/// Writes random conditions that are right by their types.
struct Writer<'r> {
    rng: &'r mut ChaCha8Rng,
}

impl Writer<'_> {
    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices.choose(self.rng).copied().unwrap_or("")
    }

    fn bool(&mut self, depth: u32) -> String {
        if depth == 0 {
            return match self.rng.random_range(0..3) {
                0 => self.one_of(&BOOLS).to_string(),
                1 => {
                    format!("has({})", self.one_of(&["amount", "merchant.id", "card.speed_kmh", "is_night"]))
                }
                _ => self.one_of(&["true", "false"]).to_string(),
            };
        }
        let d = depth - 1;
        let comparison = self.one_of(&["<", "<=", ">", ">=", "==", "!="]);
        match self.rng.random_range(0..16) {
            0 | 1 => format!("({} && {})", self.bool(d), self.bool(d)),
            2 | 3 => format!("({} || {})", self.bool(d), self.bool(d)),
            4 => format!("!({})", self.bool(d)),
            5 => format!("({} ? {} : {})", self.bool(d), self.bool(d), self.bool(d)),
            6 => format!("({}) {} ({})", self.bool(d), self.one_of(&["==", "!="]), self.bool(d)),
            7 | 8 => format!("{} {comparison} {}", self.int(d), self.int(d)),
            9 => format!("{} {comparison} {}", self.float(d), self.float(d)),
            10 => format!("{} {comparison} {}", self.int(d), self.float(d)),
            11 => format!("{} {comparison} {}", self.float(d), self.int(d)),
            12 => format!("{} {comparison} {}", self.money(d), self.money_or_literal(d)),
            13 => format!("{} {comparison} {}", self.money_or_literal(0), self.money(d)),
            14 => match self.rng.random_range(0..3) {
                0 => format!("{} {comparison} {}", self.text(d), self.text(d)),
                1 => format!("{} in ['ab', 'b', '']", self.text(d)),
                _ => format!("{} in [1, -3, 7]", self.int(d)),
            },
            _ => {
                let function = self.one_of(&["startsWith", "endsWith", "contains"]);
                format!("{}.{function}({})", self.text(0), self.text(0))
            }
        }
    }

    fn int(&mut self, depth: u32) -> String {
        if depth == 0 {
            return match self.rng.random_range(0..4) {
                0 => self.rng.random_range(-9_i64..10).to_string(),
                1 => self
                    .one_of(&["9223372036854775807", "-9223372036854775808", "9007199254740993"])
                    .to_string(),
                _ => self.one_of(&INTS).to_string(),
            };
        }
        let d = depth - 1;
        match self.rng.random_range(0..8) {
            0..=3 => {
                let operator = self.one_of(&["+", "-", "*", "/", "%"]);
                let right = match (operator, self.int(d)) {
                    // The checker refuses what is plainly a division by zero.
                    ("/" | "%", right) if right == "0" => "1".to_string(),
                    (_, right) => right,
                };
                format!("({} {operator} {right})", self.int(d))
            }
            4 => format!("abs({})", self.int(d)),
            5 => format!("{}({}, {})", self.one_of(&["min", "max"]), self.int(d), self.int(d)),
            6 => format!("size({})", self.text(0)),
            _ => match self.rng.random_bool(0.5) {
                true => format!("int({})", self.float(d)),
                false => format!("({} ? {} : {})", self.bool(d), self.int(d), self.int(d)),
            },
        }
    }

    fn float(&mut self, depth: u32) -> String {
        if depth == 0 {
            return match self.rng.random_bool(0.4) {
                true => self
                    .one_of(&[
                        "0.0",
                        "-0.0",
                        "2.5",
                        "-7.25",
                        "1e308",
                        "9007199254740992.0",
                        "9223372036854775808.0",
                    ])
                    .to_string(),
                false => self.one_of(&FLOATS).to_string(),
            };
        }
        let d = depth - 1;
        match self.rng.random_range(0..7) {
            0..=2 => format!("({} {} {})", self.float(d), self.one_of(&["+", "-", "*", "/"]), self.float(d)),
            3 => format!("double({})", self.int(d)),
            4 => format!("abs({})", self.float(d)),
            5 => format!("{}({}, {})", self.one_of(&["min", "max"]), self.float(d), self.float(d)),
            _ => format!("({} ? {} : {})", self.bool(d), self.float(d), self.float(d)),
        }
    }

    fn literal(&mut self) -> String {
        let digits = self.rng.random_range(0..100_000);
        match self.rng.random_range(0..4) {
            0 => format!("{}", digits % 1_000),
            1 => format!("{}.{:02}", digits % 600, digits % 100),
            2 => format!("-{}.{:03}", digits % 60, digits % 1_000),
            _ => self.one_of(&["5.00", "5.005", "0", "0.0", "1e2", "(is_night ? 5 : 7)"]).to_string(),
        }
    }

    fn money_or_literal(&mut self, depth: u32) -> String {
        if self.rng.random_bool(0.4) { self.literal() } else { self.money(depth) }
    }

    fn money(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.one_of(&MONEYS).to_string();
        }
        let d = depth - 1;
        match self.rng.random_range(0..9) {
            0 => format!("({} {} {})", self.money(d), self.one_of(&["+", "-"]), self.money_or_literal(d)),
            1 => format!("({} {} {})", self.literal(), self.one_of(&["+", "-"]), self.money(d)),
            2 => {
                format!("({} * {})", self.money(d), self.one_of(&["3", "1.5", "0.01", "-2", "0.0", "12.25"]))
            }
            3 => format!("({} * {})", self.one_of(&["3", "1.5", "0.01"]), self.money(d)),
            4 => format!("({} * {SMALL_INT})", self.money(d)),
            5 => format!("abs({})", self.money(d)),
            6 => format!("-({})", self.money(d)),
            7 => format!("{}({}, {})", self.one_of(&["min", "max"]), self.money(d), self.money_or_literal(d)),
            _ => format!("({} ? {} : {})", self.bool(d), self.money(d), self.money_or_literal(d)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        match self.rng.random_range(0..4) {
            0 => self.one_of(&WORDS).to_string(),
            1 if depth > 0 => format!("({} ? {} : {})", self.bool(depth - 1), self.text(0), self.text(0)),
            _ => self.one_of(&TEXTS).to_string(),
        }
    }
}

/// Random values, a fifth of them missing.
fn random_values(rng: &mut ChaCha8Rng) -> Vec<(&'static str, Value)> {
    let mut given = Vec::new();
    for name in INTS {
        let edges = [i64::MIN, i64::MAX, 0, 1, -1, 7, 9_007_199_254_740_993];
        let random = rng.random_range(-10..10);
        let value = if rng.random_bool(0.4) { *edges.choose(rng).unwrap_or(&0) } else { random };
        given.push((name, Value::Int(value)));
    }
    given.push((SMALL_INT, Value::Int(rng.random_range(0..24))));
    for name in FLOATS {
        let edges =
            [0.0, -0.0, 1e308, -1e308, 9_007_199_254_740_992.0, 9_223_372_036_854_775_808.0, 2.5, 5e-324];
        let random = rng.random_range(-10..10);
        let value =
            if rng.random_bool(0.6) { *edges.choose(rng).unwrap_or(&0.0) } else { f64::from(random) / 4.0 };
        given.push((name, Value::Float(value)));
    }
    for name in MONEYS {
        let edges = [0, 5, 500, 501, 5_000, 5_005, 50_000, -500, 999_999_999_999_999];
        let random = rng.random_range(-100_000..100_000);
        let value = if rng.random_bool(0.6) { *edges.choose(rng).unwrap_or(&0) } else { random };
        given.push((name, Value::Int(value)));
    }
    for name in BOOLS {
        given.push((name, Value::Bool(rng.random_bool(0.5))));
    }
    for name in TEXTS {
        given.push((
            name,
            Value::Text(["a", "ab", "b", "ä", "", "ba"].choose(rng).unwrap_or(&"").to_string()),
        ));
    }
    given.retain(|_| rng.random_bool(0.8));
    given
}

#[test]
fn the_program_agrees_with_a_naive_evaluator_on_random_conditions_and_values() {
    const FILES: usize = 10;
    const CONDITIONS: usize = 250;
    const INPUTS: usize = 20;
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut counts = HashMap::new();
    for _ in 0..FILES {
        let mut conditions = Vec::new();
        for _ in 0..CONDITIONS {
            let depth = rng.random_range(1..4);
            conditions.push(Writer { rng: &mut rng }.bool(depth));
        }
        let trees: Vec<Expr> = conditions
            .iter()
            .map(|when| parse(when).unwrap_or_else(|error| panic!("{when}: {error:?}")))
            .collect();
        let rules = compiled(&file_with(&conditions));
        for _ in 0..INPUTS {
            let given = random_values(&mut rng);
            let currency = currency(["USD", "JPY", "KWD", "CLF"].choose(&mut rng).unwrap_or(&"USD"));
            let naive = Naive { given: &dynamic(&given), currency };
            let computed = results(&rules, &values(&rules, &given), currency);
            for ((tree, when), result) in trees.iter().zip(&conditions).zip(computed) {
                assert_eq!(result, naive.truth(tree), "{when}\n{given:?}\n{currency}");
                *counts.entry(result).or_insert(0) += 1;
            }
        }
    }
    // An oracle that always says the same would be no test.
    for result in [Some(true), Some(false), None] {
        assert!(counts.get(&result).is_some_and(|count| *count > 3_000), "{counts:?}");
    }
}

fn dynamic(given: &[(&'static str, Value)]) -> HashMap<&'static str, Dynamic> {
    let one = |(name, value): &(&'static str, Value)| {
        let value = match value {
            Value::Bool(value) => Dynamic::Bool(*value),
            Value::Int(value) if MONEYS.contains(name) => Dynamic::Money(Fraction(i128::from(*value), 1)),
            Value::Int(value) => Dynamic::Int(*value, None),
            Value::Float(value) => Dynamic::Float(*value, None),
            Value::Text(text) => Dynamic::Text(text.clone()),
        };
        (*name, value)
    };
    given.iter().map(one).collect()
}

#[test]
fn every_slot_of_the_catalogue_is_read_as_its_own_type() {
    use crate::features::catalog::{CATALOG, Type};
    let when = |name: &str, ty: Type| match ty {
        Type::Bool => name.to_string(),
        Type::Int => format!("{name} == 3"),
        Type::Float => format!("{name} == 3.5"),
        Type::Money => format!("{name} == 3.00"),
        Type::Text => format!("{name} >= ''"),
    };
    let conditions: Vec<String> = CATALOG.iter().map(|entry| when(entry.name, entry.ty)).collect();
    let rules = compiled(&file_with(&conditions));
    for (index, entry) in CATALOG.iter().enumerate() {
        let value = match entry.ty {
            Type::Bool => Value::Bool(true),
            Type::Int => Value::Int(3),
            Type::Float => Value::Float(3.5),
            Type::Money => Value::Int(300),
            Type::Text => Value::Text("x".into()),
        };
        assert_eq!(usize::from(slot_of(&rules, entry.name)), index);
        let given = [(entry.name, value)];
        let expected: Vec<Option<bool>> =
            (0..CATALOG.len()).map(|rule| (rule == index).then_some(true)).collect();
        assert_eq!(results(&rules, &values(&rules, &given), currency("USD")), expected, "{}", entry.name);
    }
}
