//! A checked expression: every node has one type, every name is a slot, every literal has its meaning. What the
//! checker makes and the compiler reads.
//!
//! Semantics, for all nodes: a value that is missing, that overflows or that divides a whole number by zero is
//! *unknown*, and so is everything computed from it, except where Kleene's logic knows the result without it
//! (`false && unknown` is false, `true || unknown` is true).

use std::cmp::Ordering;

use super::decimal::Decimal;
use crate::features::values::Slot;

/// An expression of any type.
#[derive(Clone, PartialEq, Debug)]
pub enum Typed {
    Bool(Bool),
    Int(Int),
    Float(Float),
    Money(Money),
    Text(Text),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Bool {
    Const(bool),
    Slot(Slot),
    Has(Slot),
    Not(Box<Bool>),
    All(Vec<Bool>),
    Any(Vec<Bool>),
    If(Box<Bool>, Box<Bool>, Box<Bool>),
    Same(Box<Bool>, Box<Bool>),
    CompareInt(Comparison, Int, Int),
    CompareFloat(Comparison, Float, Float),
    /// By their exact numbers, as CEL compares across types.
    CompareIntFloat(Comparison, Int, Float),
    CompareMoney(Comparison, Money, Money),
    CompareText(Comparison, Text, Text),
    TextIn(Text, TextSet),
    IntIn(Int, IntSet),
    Match(TextMatch, Text, Text),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Int {
    Const(i64),
    Slot(Slot),
    Neg(Box<Int>),
    /// Overflow and division by zero are unknown.
    Binary(Arithmetic, Box<Int>, Box<Int>),
    If(Box<Bool>, Box<Int>, Box<Int>),
    Abs(Box<Int>),
    /// The smaller (`Less`) or the greater of the two.
    Pick(Ordering, Box<Int>, Box<Int>),
    /// Characters (code points) of a text.
    Size(Text),
    /// Towards zero; unknown outside the range of 64 bits.
    FromFloat(Box<Float>),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Float {
    /// With its digits as written, where the source has them.
    Const(f64, Option<Decimal>),
    Slot(Slot),
    Neg(Box<Float>),
    /// IEEE 754: division by zero is infinite, not unknown. Never `Remainder`, which CEL has for integers only.
    Binary(Arithmetic, Box<Float>, Box<Float>),
    If(Box<Bool>, Box<Float>, Box<Float>),
    Abs(Box<Float>),
    Pick(Ordering, Box<Float>, Box<Float>),
    FromInt(Box<Int>),
    /// One amount over another; unknown where the second is 0.
    Ratio(Box<Money>, Box<Money>),
}

/// Exact: an integer number of minor units over a power of ten that is known when the rule is compiled.
#[derive(Clone, PartialEq, Debug)]
pub enum Money {
    /// In major units of the request's billing currency.
    Literal(Decimal),
    Slot(Slot),
    Neg(Box<Money>),
    Add(Box<Money>, Box<Money>),
    Subtract(Box<Money>, Box<Money>),
    /// Times a literal number.
    Scale(Decimal, Box<Money>),
    Times(Box<Int>, Box<Money>),
    If(Box<Bool>, Box<Money>, Box<Money>),
    Abs(Box<Money>),
    Pick(Ordering, Box<Money>, Box<Money>),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Text {
    Const(String),
    Slot(Slot),
    If(Box<Bool>, Box<Text>, Box<Text>),
}

/// Index of a set of texts among those of the file.
pub type TextSet = usize;
/// Index of a set of integers among those of the file.
pub type IntSet = usize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
}

impl Comparison {
    /// Whether two values in this order satisfy it.
    #[inline]
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Less => ordering.is_lt(),
            Comparison::LessEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterEqual => ordering.is_ge(),
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
        }
    }

    /// The same comparison with its sides exchanged.
    pub fn mirrored(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEqual => Comparison::GreaterEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEqual => Comparison::LessEqual,
            same => same,
        }
    }

    /// The comparison that holds exactly where this one does not, among values that have an order.
    pub fn negated(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::GreaterEqual,
            Comparison::LessEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessEqual,
            Comparison::GreaterEqual => Comparison::Less,
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How a text is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextMatch {
    StartsWith,
    EndsWith,
    Contains,
}

impl Money {
    /// The power of ten that the value is over: 0 where it is whole minor units in every currency.
    pub fn scale(&self) -> u32 {
        match self {
            Money::Literal(literal) => literal.scale(),
            Money::Slot(_) => 0,
            Money::Neg(inner) | Money::Abs(inner) | Money::Times(_, inner) => inner.scale(),
            Money::Scale(factor, inner) => factor.scale() + inner.scale(),
            Money::Add(left, right)
            | Money::Subtract(left, right)
            | Money::If(_, left, right)
            | Money::Pick(_, left, right) => left.scale().max(right.scale()),
        }
    }
}
