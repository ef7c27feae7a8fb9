//! The compiled program against the interpreter of the `cel` crate, on conditions that are written at random: the same
//! truths, and *unknown* exactly where the interpreter has an error. In the suite a few thousand conditions;
//! `SAKER_CEL_EXPRESSIONS=100000 cargo test --locked --lib interpreter` says how many, each with ten inputs.
//!
//! The interpreter knows neither money nor missing values, so each condition is written twice:
//!
//! - A field `x.y` is the key `x_y` of one map `f`. A missing value is a missing key, so reading it is an error there,
//!   and `has(f.x_y)` asks for the key.
//! - An amount is a whole number of 10⁻⁹ minor units of the batch's currency, and so is a literal beside it. Multiplying
//!   by a literal is a division by its power of ten and a multiplication, exact because no amount here needs more than
//!   nine digits. Ratios are taken between fields, in doubles of minor units, and of 0 they are an error.
//! - `abs`, `min` and `max`, which the interpreter does not have, are conditionals.
//!
//! Where the crate itself differs from CEL, the condition is written so that it does not: it refuses to order numbers
//! that are no numbers (in CEL that is false), and it rounds a whole number to a double before it compares the two, so
//! that beside decimal numbers only small whole numbers stand. The naive evaluator of `oracle` has both.

use std::collections::{BTreeMap, HashMap};

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{Value, compiled, currency, file_with, results, values};

const INTS: [&str; 4] =
    ["instalments", "card.count_1h", "verification.network_risk_score", "card.merchants_24h"];
/// Never beyond 23, so that products with amounts stay in range.
const SMALL_INTS: [&str; 2] = ["hour_utc", "weekday_utc"];
const FLOATS: [&str; 3] = ["card.speed_kmh", "distance_from_home_km", "merchant.latitude"];
const MONEYS: [&str; 3] = ["amount", "account.available", "account.credit_limit"];
const BOOLS: [&str; 3] = ["is_foreign", "is_night", "is_ecommerce"];
const TEXTS: [&str; 3] = ["merchant.id", "merchant.name", "device.id"];
const WORDS: [&str; 5] = ["'a'", "'ab'", "'b'", "'ä'", "''"];
const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];
/// Digits behind a minor unit that the interpreter's amounts have.
const DIGITS: u32 = 9;

/// One expression in both languages.
#[derive(Clone)]
struct Pair {
    ours: String,
    theirs: String,
}

impl Pair {
    fn same(text: impl Into<String>) -> Pair {
        let ours = text.into();
        Pair { theirs: ours.clone(), ours }
    }

    fn name(name: &str) -> Pair {
        Pair { ours: name.to_string(), theirs: format!("f.{}", key(name)) }
    }
}

/// The key of a field in the interpreter's map.
fn key(name: &str) -> String {
    name.replace('.', "_")
}

fn pair(ours: String, theirs: String) -> Pair {
    Pair { ours, theirs }
}

fn infix(left: &Pair, operator: &str, right: &Pair) -> Pair {
    pair(
        format!("({} {operator} {})", left.ours, right.ours),
        format!("({} {operator} {})", left.theirs, right.theirs),
    )
}

fn choice(condition: &Pair, then: &Pair, otherwise: &Pair) -> Pair {
    pair(
        format!("({} ? {} : {})", condition.ours, then.ours, otherwise.ours),
        format!("({} ? {} : {})", condition.theirs, then.theirs, otherwise.theirs),
    )
}

/// `min` or `max` of two whole numbers or amounts.
fn picked(function: &str, left: &Pair, right: &Pair) -> Pair {
    let (a, b) = (&left.theirs, &right.theirs);
    let operator = if function == "min" { "<" } else { ">" };
    pair(format!("{function}({}, {})", left.ours, right.ours), format!("({b} {operator} {a} ? {b} : {a})"))
}

/// Writes random conditions that are right by their types.
struct Writer<'r> {
    rng: &'r mut ChaCha8Rng,
    /// Decimals of the currency that the amounts of the batch are in.
    exponent: u32,
}

impl Writer<'_> {
    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices.choose(self.rng).copied().unwrap_or("")
    }

    fn field(&mut self, names: &[&str]) -> Pair {
        let name = self.one_of(names);
        Pair::name(name)
    }

    fn bool(&mut self, depth: u32) -> Pair {
        if depth == 0 {
            return match self.rng.random_range(0..3) {
                0 => self.field(&BOOLS),
                1 => {
                    let name = self.one_of(&["amount", "merchant.id", "card.speed_kmh", "is_night"]);
                    let field = Pair::name(name);
                    pair(format!("has({})", field.ours), format!("has({})", field.theirs))
                }
                _ => Pair::same(self.one_of(&["true", "false"])),
            };
        }
        let d = depth - 1;
        let comparison = self.one_of(&COMPARISONS);
        match self.rng.random_range(0..17) {
            0 | 1 => infix(&self.bool(d), "&&", &self.bool(d)),
            2 | 3 => infix(&self.bool(d), "||", &self.bool(d)),
            4 => {
                let inner = self.bool(d);
                pair(format!("!({})", inner.ours), format!("!({})", inner.theirs))
            }
            5 => choice(&self.bool(d), &self.bool(d), &self.bool(d)),
            6 => {
                let operator = self.one_of(&["==", "!="]);
                infix(&self.bool(d), operator, &self.bool(d))
            }
            7 | 8 => infix(&self.int(d), comparison, &self.int(d)),
            9 => self.float_comparison(comparison, d),
            10 => {
                let (left, right) = (self.small_int(d), self.float_leaf());
                match self.rng.random_bool(0.5) {
                    true => infix(&left, comparison, &right),
                    false => infix(&right, comparison, &left),
                }
            }
            11 => infix(&self.money(d), comparison, &self.money_or_literal(d)),
            12 => infix(&self.money_or_literal(0), comparison, &self.money(d)),
            13 => self.ratio(comparison),
            14 => match self.rng.random_range(0..3) {
                0 => infix(&self.text(d), comparison, &self.text(d)),
                1 => infix(&self.text(d), "in", &Pair::same("['ab', 'b', '']")),
                _ => infix(&self.int(d), "in", &Pair::same("[1, -3, 7]")),
            },
            _ => {
                let function = self.one_of(&["startsWith", "endsWith", "contains"]);
                let (text, part) = (self.text(0), self.text(0));
                pair(
                    format!("{}.{function}({})", text.ours, part.ours),
                    format!("{}.{function}({})", text.theirs, part.theirs),
                )
            }
        }
    }

    /// Ordering what is no number is false, for both.
    fn float_comparison(&mut self, comparison: &str, depth: u32) -> Pair {
        let (left, right) = (self.float(depth), self.float(depth));
        let both = infix(&left, comparison, &right);
        if comparison == "==" || comparison == "!=" {
            return both;
        }
        let (a, b) = (&left.theirs, &right.theirs);
        // Of conditionals, since `||` would hide an error on one side of it.
        let else_false = format!("({b} == {b} ? false : false)");
        pair(both.ours, format!("({a} == {a} ? ({b} == {b} ? {} : false) : {else_false})", both.theirs))
    }

    fn ratio(&mut self, comparison: &str) -> Pair {
        let (left, right) = (self.one_of(&MONEYS), self.one_of(&MONEYS));
        let (a, b) = (key(left), key(right));
        let bound = self.one_of(&["1.0", "3.0", "0.5", "-2.0", "0.1"]);
        pair(
            format!("({left} / {right} {comparison} {bound})"),
            format!(
                "(double(f.{a}_minor) / double(f.{b}_minor == 0 ? 1 / 0 : f.{b}_minor) {comparison} {bound})"
            ),
        )
    }

    fn int(&mut self, depth: u32) -> Pair {
        if depth == 0 {
            return match self.rng.random_range(0..4) {
                0 => Pair::same(self.rng.random_range(-9_i64..10).to_string()),
                1 => Pair::same(self.one_of(&[
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9007199254740993",
                ])),
                _ => self.field(&INTS),
            };
        }
        let d = depth - 1;
        match self.rng.random_range(0..9) {
            0..=3 => {
                let operator = self.one_of(&["+", "-", "*", "/", "%"]);
                let right = match (operator, self.int(d)) {
                    // The checker refuses what is plainly a division by zero.
                    ("/" | "%", right) if right.ours == "0" => Pair::same("1"),
                    (_, right) => right,
                };
                infix(&self.int(d), operator, &right)
            }
            4 => {
                let x = self.int(d);
                pair(format!("abs({})", x.ours), format!("({x} < 0 ? -({x}) : {x})", x = x.theirs))
            }
            5 => {
                let function = self.one_of(&["min", "max"]);
                picked(function, &self.int(d), &self.int(d))
            }
            6 => {
                let text = self.text(0);
                pair(format!("size({})", text.ours), format!("size({})", text.theirs))
            }
            7 => {
                let x = self.float(d);
                pair(format!("int({})", x.ours), format!("int({})", x.theirs))
            }
            _ => choice(&self.bool(d), &self.int(d), &self.int(d)),
        }
    }

    /// A whole number that a double holds exactly.
    fn small_int(&mut self, depth: u32) -> Pair {
        if depth == 0 {
            return match self.rng.random_bool(0.3) {
                true => Pair::same(self.rng.random_range(-9_i64..10).to_string()),
                false => self.field(&SMALL_INTS),
            };
        }
        let operator = self.one_of(&["+", "-", "*"]);
        infix(&self.small_int(depth - 1), operator, &self.small_int(depth - 1))
    }

    fn float_leaf(&mut self) -> Pair {
        match self.rng.random_bool(0.4) {
            true => Pair::same(self.one_of(&[
                "0.0",
                "-0.0",
                "2.5",
                "-7.25",
                "1e308",
                "9007199254740992.0",
                "9223372036854775808.0",
            ])),
            false => self.field(&FLOATS),
        }
    }

    fn float(&mut self, depth: u32) -> Pair {
        if depth == 0 {
            return self.float_leaf();
        }
        let d = depth - 1;
        match self.rng.random_range(0..7) {
            0..=2 => {
                let operator = self.one_of(&["+", "-", "*", "/"]);
                infix(&self.float(d), operator, &self.float(d))
            }
            3 => {
                let x = self.int(d);
                pair(format!("double({})", x.ours), format!("double({})", x.theirs))
            }
            4 => {
                let x = self.float_leaf();
                pair(format!("abs({})", x.ours), format!("({x} <= 0.0 ? 0.0 - {x} : {x})", x = x.theirs))
            }
            5 => {
                let function = self.one_of(&["min", "max"]);
                picked(function, &self.float_leaf(), &self.float_leaf())
            }
            _ => choice(&self.bool(d), &self.float(d), &self.float(d)),
        }
    }

    /// A literal in major units, and the same in the interpreter's.
    fn literal(&mut self) -> Pair {
        let digits: i64 = self.rng.random_range(0..100_000);
        let (text, mantissa, scale) = match self.rng.random_range(0..4) {
            0 => (format!("{}", digits % 600), digits % 600, 0),
            1 => {
                let (whole, cents) = (digits % 600, digits % 100);
                (format!("{whole}.{cents:02}"), whole * 100 + cents, 2)
            }
            2 => {
                let (whole, mills) = (digits % 60, digits % 1_000);
                (format!("-{whole}.{mills:03}"), -(whole * 1_000 + mills), 3)
            }
            _ => {
                let edges =
                    [("5.00", 500, 2), ("5.005", 5_005, 3), ("0", 0, 0), ("0.0", 0, 1), ("1e2", 100, 0)];
                let (text, mantissa, scale) = *edges.choose(self.rng).unwrap_or(&edges[0]);
                (text.to_string(), mantissa, scale)
            }
        };
        pair(text, (mantissa * 10_i64.pow(DIGITS + self.exponent - scale)).to_string())
    }

    fn money_or_literal(&mut self, depth: u32) -> Pair {
        if self.rng.random_bool(0.4) { self.literal() } else { self.money(depth) }
    }

    fn money(&mut self, depth: u32) -> Pair {
        if depth == 0 {
            return self.field(&MONEYS);
        }
        let d = depth - 1;
        match self.rng.random_range(0..9) {
            0 => {
                let operator = self.one_of(&["+", "-"]);
                infix(&self.money(d), operator, &self.money_or_literal(d))
            }
            1 => {
                let operator = self.one_of(&["+", "-"]);
                infix(&self.literal(), operator, &self.money(d))
            }
            2 | 3 => {
                let (factor, mantissa, power) = *[
                    ("3", 3, 1),
                    ("1.5", 15, 10),
                    ("0.01", 1, 100),
                    ("-2", -2, 1),
                    ("0.0", 0, 1),
                    ("12.25", 1225, 100),
                ]
                .choose(self.rng)
                .unwrap_or(&("3", 3, 1));
                let money = self.money(d);
                let ours = match self.rng.random_bool(0.5) {
                    true => format!("({} * {factor})", money.ours),
                    false => format!("({factor} * {})", money.ours),
                };
                pair(ours, format!("({} / {power} * {mantissa})", money.theirs))
            }
            4 => infix(&self.money(d), "*", &self.field(&SMALL_INTS)),
            5 => {
                let x = self.money(d);
                pair(format!("abs({})", x.ours), format!("({x} < 0 ? -({x}) : {x})", x = x.theirs))
            }
            6 => {
                let x = self.money(d);
                pair(format!("-({})", x.ours), format!("-({})", x.theirs))
            }
            7 => {
                let function = self.one_of(&["min", "max"]);
                picked(function, &self.money(d), &self.money_or_literal(d))
            }
            _ => choice(&self.bool(d), &self.money(d), &self.money_or_literal(d)),
        }
    }

    fn text(&mut self, depth: u32) -> Pair {
        match self.rng.random_range(0..4) {
            0 => Pair::same(self.one_of(&WORDS)),
            1 if depth > 0 => choice(&self.bool(depth - 1), &self.text(0), &self.text(0)),
            _ => self.field(&TEXTS),
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
    given.extend(SMALL_INTS.map(|name| (name, Value::Int(rng.random_range(0..24)))));
    for name in FLOATS {
        let edges =
            [0.0, -0.0, 1e308, -1e308, 9_007_199_254_740_992.0, 9_223_372_036_854_775_808.0, 2.5, 5e-324];
        let random = rng.random_range(-10..10);
        let value =
            if rng.random_bool(0.6) { *edges.choose(rng).unwrap_or(&0.0) } else { f64::from(random) / 4.0 };
        given.push((name, Value::Float(value)));
    }
    for name in MONEYS {
        let edges = [0, 5, 500, 501, 5_000, 5_005, 50_000, -500];
        let random = rng.random_range(-100_000..100_000);
        let value = if rng.random_bool(0.6) { *edges.choose(rng).unwrap_or(&0) } else { random };
        given.push((name, Value::Int(value)));
    }
    given.extend(BOOLS.map(|name| (name, Value::Bool(rng.random_bool(0.5)))));
    for name in TEXTS {
        let text = ["a", "ab", "b", "ä", "", "ba"].choose(rng).copied().unwrap_or("");
        given.push((name, Value::Text(text.to_string())));
    }
    given.retain(|_| rng.random_bool(0.8));
    given
}

/// The same values as the interpreter reads them.
fn map_of(given: &[(&'static str, Value)]) -> HashMap<String, cel::Value> {
    let mut map = HashMap::new();
    for (name, value) in given {
        let value = match value {
            Value::Bool(value) => cel::Value::Bool(*value),
            Value::Int(minor) if MONEYS.contains(name) => {
                map.insert(format!("{}_minor", key(name)), cel::Value::Int(*minor));
                cel::Value::Int(minor * 10_i64.pow(DIGITS))
            }
            Value::Int(value) => cel::Value::Int(*value),
            Value::Float(value) => cel::Value::Float(*value),
            Value::Text(text) => cel::Value::from(text.as_str()),
        };
        map.insert(key(name), value);
    }
    map
}

/// What a run came to.
#[derive(Default)]
struct Counts {
    conditions: usize,
    results: BTreeMap<Option<bool>, usize>,
}

fn batch(rng: &mut ChaCha8Rng, conditions: usize, counts: &mut Counts) {
    const INPUTS: usize = 10;
    let (code, exponent) = *[("USD", 2), ("JPY", 0), ("KWD", 3)].choose(rng).unwrap_or(&("USD", 2));
    let pairs: Vec<Pair> = (0..conditions)
        .map(|_| {
            let depth = rng.random_range(1..4);
            Writer { rng, exponent }.bool(depth)
        })
        // Written out, a conditional names its parts more than once.
        .filter(|pair| pair.ours.len() <= crate::limits::EXPRESSION_BYTES_MAX)
        .collect();
    let ours: Vec<String> = pairs.iter().map(|pair| pair.ours.clone()).collect();
    let rules = compiled(&file_with(&ours));
    let programs: Vec<cel::Program> = pairs
        .iter()
        .map(|pair| {
            cel::Program::compile(&pair.theirs).unwrap_or_else(|error| panic!("{}: {error}", pair.theirs))
        })
        .collect();
    counts.conditions += pairs.len();
    for _ in 0..INPUTS {
        let given = random_values(rng);
        let mut context = cel::Context::default();
        context.add_variable_from_value("f", map_of(&given));
        let computed = results(&rules, &values(&rules, &given), currency(code));
        for ((pair, program), result) in pairs.iter().zip(&programs).zip(computed) {
            let interpreted = match program.execute(&context) {
                Ok(cel::Value::Bool(truth)) => Some(truth),
                Ok(other) => panic!("{} is {other:?}", pair.theirs),
                Err(_) => None,
            };
            assert_eq!(result, interpreted, "{}\n{}\n{given:?}\n{code}", pair.ours, pair.theirs);
            *counts.results.entry(result).or_default() += 1;
        }
    }
}

#[test]
fn the_program_agrees_with_the_cel_interpreter_on_random_conditions_and_values() {
    const BATCH: usize = 250;
    let setting = std::env::var("SAKER_CEL_EXPRESSIONS").ok();
    let wanted = setting.map_or(2_000, |text| text.parse().expect("SAKER_CEL_EXPRESSIONS is a number"));
    // Both the parser and the interpreter go down their trees by calls.
    let run = move || {
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let mut counts = Counts::default();
        while counts.conditions < wanted {
            batch(&mut rng, BATCH.min(wanted - counts.conditions), &mut counts);
        }
        counts
    };
    let thread = std::thread::Builder::new().stack_size(64 * 1024 * 1024).spawn(run).expect("a thread");
    let counts = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    println!("{} conditions, {:?}", counts.conditions, counts.results);
    // An interpreter that always says the same would be no test.
    let answers: usize = counts.results.values().sum();
    for result in [Some(true), Some(false), None] {
        assert!(
            counts.results.get(&result).is_some_and(|count| *count > answers / 20),
            "{:?}",
            counts.results
        );
    }
}
