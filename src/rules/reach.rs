//! What a condition leaves open: rules that can never fire, and rules behind which another always decides first.
//!
//! Looked at are conjunctions of comparisons of one field with a literal; whatever else stands in a condition is taken
//! as it is written and can only be the same or not. So nothing is claimed that is not so: a finding is never a false
//! alarm, and not everything that could be found is.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::Sets,
    decimal::{Decimal, SCALE_MAX},
    typed::{Bool, Comparison, Float, Int, Money, Text},
};
use crate::features::values::Slot;

/// What must be so wherever a condition is true.
#[derive(Clone, Default, Debug)]
pub struct Facts {
    fields: BTreeMap<Slot, Fact>,
    /// Terms that are more than a comparison of one field with a literal.
    others: Vec<Bool>,
}

#[derive(Clone, Default, Debug)]
struct Fact {
    must_be_there: bool,
    must_be_missing: bool,
    value: Value,
}

/// What a field can still be.
#[derive(Clone, Default, Debug)]
enum Value {
    #[default]
    Any,
    Truth(bool),
    /// Both and so neither.
    Nothing,
    Number(Numbers),
    Text(Texts),
}

/// Whole numbers and amounts in units of 10⁻⁹, decimal numbers by the order of their bits.
#[derive(Clone, Default, Debug)]
struct Numbers {
    /// Each with whether the bound itself is inside.
    low: Option<(i128, bool)>,
    high: Option<(i128, bool)>,
    without: BTreeSet<i128>,
    is_whole: bool,
}

#[derive(Clone, Default, Debug)]
struct Texts {
    only: Option<BTreeSet<String>>,
    without: BTreeSet<String>,
}

/// A longer list is not looked into: rules compare with one another, and each would copy it.
const SET_MAX: usize = 256;
/// One whole in the units of [`Numbers`].
const WHOLE: i128 = 10_i128.pow(SCALE_MAX);

impl Facts {
    pub fn of(condition: &Bool, sets: &Sets) -> Facts {
        let mut facts = Facts::default();
        facts.add(condition, true, sets);
        facts
    }

    /// Says that a number is never below 0, such as a count.
    pub fn never_negative(&mut self, slot: Slot) {
        if let Some(fact) = self.fields.get_mut(&slot) {
            fact.value.meet_number(false, |numbers| numbers.at_least(0, true));
        }
    }

    /// The field for which nothing is left, where the condition can never be true.
    pub fn contradiction(&self, sets: &Sets) -> Option<Slot> {
        let direct = self.fields.iter().find(|(_, fact)| fact.is_impossible()).map(|(slot, _)| *slot);
        direct.or_else(|| {
            self.others.iter().find_map(|term| {
                let Bool::Any(branches) = term else { return None };
                let mut found = None;
                for branch in branches {
                    let mut with = self.clone();
                    with.others.clear();
                    with.add(branch, true, sets);
                    found = Some(with.contradiction(sets)?);
                }
                found
            })
        })
    }

    /// Whether wherever these hold `other` holds too.
    pub fn imply(&self, other: &Facts) -> bool {
        other.others.iter().all(|term| self.others.contains(term))
            && other
                .fields
                .iter()
                .all(|(slot, wanted)| self.fields.get(slot).is_some_and(|known| known.is_inside(wanted)))
    }

    fn add(&mut self, term: &Bool, truth: bool, sets: &Sets) {
        match (term, truth) {
            (Bool::Const(value), _) if *value == truth => {}
            (Bool::Not(inner), _) => self.add(inner, !truth, sets),
            (Bool::All(terms), true) | (Bool::Any(terms), false) => {
                terms.iter().for_each(|term| self.add(term, truth, sets));
            }
            (Bool::Has(slot), true) => self.fields.entry(*slot).or_default().must_be_there = true,
            (Bool::Has(slot), false) => self.fields.entry(*slot).or_default().must_be_missing = true,
            (Bool::Slot(slot), _) => self.field(*slot).meet_truth(truth),
            _ => {
                if !self.add_comparison(term, truth, sets) {
                    self.others.push(if truth { term.clone() } else { Bool::Not(Box::new(term.clone())) });
                }
            }
        }
    }

    /// The value of a field that must have one.
    fn field(&mut self, slot: Slot) -> &mut Value {
        let fact = self.fields.entry(slot).or_default();
        fact.must_be_there = true;
        &mut fact.value
    }

    /// False where the term is no comparison of one field with a literal.
    fn add_comparison(&mut self, term: &Bool, truth: bool, sets: &Sets) -> bool {
        let turned = |comparison: Comparison| if truth { comparison } else { comparison.negated() };
        match term {
            Bool::CompareInt(comparison, Int::Slot(slot), Int::Const(value)) => {
                let value = i128::from(*value) * WHOLE;
                self.field(*slot).meet_number(true, |numbers| numbers.compare(turned(*comparison), value));
            }
            Bool::CompareInt(comparison, constant @ Int::Const(_), slot @ Int::Slot(_)) => {
                let mirrored = Bool::CompareInt(comparison.mirrored(), slot.clone(), constant.clone());
                return self.add_comparison(&mirrored, truth, sets);
            }
            Bool::CompareIntFloat(comparison, Int::Slot(slot), Float::Const(_, Some(value))) => {
                let Some(value) = units(*value) else { return false };
                self.field(*slot).meet_number(true, |numbers| numbers.compare(turned(*comparison), value));
            }
            Bool::CompareFloat(comparison, Float::Slot(slot), Float::Const(value, _)) => {
                let value = order_of(*value);
                self.field(*slot).meet_number(false, |numbers| numbers.compare(turned(*comparison), value));
            }
            Bool::CompareFloat(comparison, constant @ Float::Const(..), slot @ Float::Slot(_)) => {
                let mirrored = Bool::CompareFloat(comparison.mirrored(), slot.clone(), constant.clone());
                return self.add_comparison(&mirrored, truth, sets);
            }
            Bool::CompareMoney(comparison, Money::Slot(slot), Money::Literal(value)) => {
                let Some(value) = units(*value) else { return false };
                self.field(*slot).meet_number(false, |numbers| numbers.compare(turned(*comparison), value));
            }
            Bool::CompareMoney(comparison, literal @ Money::Literal(_), slot @ Money::Slot(_)) => {
                let mirrored = Bool::CompareMoney(comparison.mirrored(), slot.clone(), literal.clone());
                return self.add_comparison(&mirrored, truth, sets);
            }
            Bool::CompareText(comparison, Text::Slot(slot), Text::Const(text))
            | Bool::CompareText(comparison, Text::Const(text), Text::Slot(slot)) => {
                let is_equal = match turned(*comparison) {
                    Comparison::Equal => true,
                    Comparison::NotEqual => false,
                    _ => return false,
                };
                self.field(*slot).meet_texts(is_equal, [text.clone()].into());
            }
            // A declared list holds what calls say too.
            Bool::TextIn(Text::Slot(slot), set)
                if sets.texts[*set].len() <= SET_MAX && sets.list_of_texts(*set).is_none() =>
            {
                let texts = sets.texts[*set].iter().cloned().collect();
                self.field(*slot).meet_texts(truth, texts);
            }
            _ => return false,
        }
        true
    }
}

impl Fact {
    fn is_impossible(&self) -> bool {
        self.must_be_missing && self.must_be_there || self.value.is_impossible()
    }

    /// Whether whatever is left here is left in `other` too.
    fn is_inside(&self, other: &Fact) -> bool {
        (self.must_be_there || !other.must_be_there)
            && (self.must_be_missing || !other.must_be_missing)
            && self.value.is_inside(&other.value)
    }
}

impl Value {
    fn meet_truth(&mut self, truth: bool) {
        *self = match self {
            Value::Any => Value::Truth(truth),
            Value::Truth(known) if *known == truth => return,
            _ => Value::Nothing,
        };
    }

    fn meet_number(&mut self, is_whole: bool, meet: impl FnOnce(&mut Numbers)) {
        if let Value::Any = self {
            *self = Value::Number(Numbers { is_whole, ..Numbers::default() });
        }
        if let Value::Number(numbers) = self {
            meet(numbers);
        }
    }

    fn meet_texts(&mut self, is_inside: bool, texts: BTreeSet<String>) {
        if let Value::Any = self {
            *self = Value::Text(Texts::default());
        }
        let Value::Text(known) = self else { return };
        match (is_inside, &mut known.only) {
            (true, Some(only)) => only.retain(|text| texts.contains(text)),
            (true, none) => *none = Some(texts),
            (false, _) => known.without.extend(texts),
        }
    }

    fn is_impossible(&self) -> bool {
        match self {
            Value::Any | Value::Truth(_) => false,
            Value::Nothing => true,
            Value::Number(numbers) => numbers.is_impossible(),
            Value::Text(texts) => {
                texts.only.as_ref().is_some_and(|only| only.iter().all(|text| texts.without.contains(text)))
            }
        }
    }

    fn is_inside(&self, other: &Value) -> bool {
        match (self, other) {
            (_, Value::Any) => true,
            (Value::Truth(known), Value::Truth(wanted)) => known == wanted,
            (Value::Number(known), Value::Number(wanted)) => known.is_inside(wanted),
            (Value::Text(known), Value::Text(wanted)) => known.is_inside(wanted),
            _ => false,
        }
    }
}

impl Numbers {
    fn compare(&mut self, comparison: Comparison, value: i128) {
        match comparison {
            Comparison::Less => self.at_most(value, false),
            Comparison::LessEqual => self.at_most(value, true),
            Comparison::Greater => self.at_least(value, false),
            Comparison::GreaterEqual => self.at_least(value, true),
            Comparison::Equal => {
                self.at_least(value, true);
                self.at_most(value, true);
            }
            Comparison::NotEqual => {
                self.without.insert(value);
            }
        }
    }

    fn at_least(&mut self, value: i128, is_inside: bool) {
        let (value, is_inside) = match self.is_whole {
            // The first whole number that is left.
            true if is_inside => (-((-value).div_euclid(WHOLE)) * WHOLE, true),
            true => ((value.div_euclid(WHOLE) + 1) * WHOLE, true),
            false => (value, is_inside),
        };
        let narrower =
            self.low.is_none_or(|(low, inside)| value > low || value == low && inside && !is_inside);
        if narrower {
            self.low = Some((value, is_inside));
        }
    }

    fn at_most(&mut self, value: i128, is_inside: bool) {
        let (value, is_inside) = match self.is_whole {
            true if is_inside => (value.div_euclid(WHOLE) * WHOLE, true),
            true => ((-((-value).div_euclid(WHOLE)) - 1) * WHOLE, true),
            false => (value, is_inside),
        };
        let narrower =
            self.high.is_none_or(|(high, inside)| value < high || value == high && inside && !is_inside);
        if narrower {
            self.high = Some((value, is_inside));
        }
    }

    fn is_impossible(&self) -> bool {
        let (Some((low, low_inside)), Some((high, high_inside))) = (self.low, self.high) else {
            return false;
        };
        low > high || low == high && (!low_inside || !high_inside || self.without.contains(&low))
    }

    fn is_inside(&self, other: &Numbers) -> bool {
        let above = other.low.is_none_or(|(bound, inside)| {
            self.low.is_some_and(|(low, low_inside)| low > bound || low == bound && (inside || !low_inside))
        });
        let below = other.high.is_none_or(|(bound, inside)| {
            self.high
                .is_some_and(|(high, high_inside)| high < bound || high == bound && (inside || !high_inside))
        });
        above && below && other.without.iter().all(|value| !self.holds(*value))
    }

    fn holds(&self, value: i128) -> bool {
        let above = self.low.is_none_or(|(low, inside)| value > low || value == low && inside);
        let below = self.high.is_none_or(|(high, inside)| value < high || value == high && inside);
        above && below && !self.without.contains(&value)
    }
}

impl Texts {
    fn is_inside(&self, other: &Texts) -> bool {
        let within = other.only.as_ref().is_none_or(|wanted| {
            self.only.as_ref().is_some_and(|only| {
                only.iter().all(|text| wanted.contains(text) || self.without.contains(text))
            })
        });
        let apart = other.without.iter().all(|text| {
            self.without.contains(text) || self.only.as_ref().is_some_and(|only| !only.contains(text))
        });
        within && apart
    }
}

/// A decimal literal in units of 10⁻⁹.
fn units(value: Decimal) -> Option<i128> {
    value.to_minor(0, SCALE_MAX)
}

/// A number whose order is that of the doubles: the sign and magnitude of IEEE 754 as one integer. Both zeros are 0.
fn order_of(value: f64) -> i128 {
    let magnitude = i128::from(value.abs().to_bits());
    if value.is_sign_negative() { -magnitude } else { magnitude }
}
