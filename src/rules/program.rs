//! The compiled form of conditions: small nodes in flat arrays, reading values by slot. Evaluating allocates
//! nothing, cannot fail and costs what the text of the rule says, since there are no loops but those over the
//! terms of `&&` and `||`.
//!
//! What makes it fast: a comparison of a slot with a literal, which most of them are, becomes one range check. The
//! range of an amount is worked out for every number of decimals a currency can have when the file is loaded, so
//! that money is compared as integers. Everything else takes the general nodes.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use super::{
    builtins,
    check::Sets,
    decimal::Decimal,
    lists::{FOR_EVER, ListsInForce, find_int},
    typed::{Arithmetic, Bool, Comparison, Float, Int, Money, Text, TextMatch},
};
use crate::{
    features::values::{Slot, Values},
    types::{money::EXPONENTS, time::Timestamp},
};

/// Sets up to this size are searched one by one.
const LINEAR_SET_MAX: usize = 8;

/// The result of a condition, in Kleene's logic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    False,
    True,
    Unknown,
}

impl Truth {
    #[inline]
    fn of(known: Option<bool>) -> Truth {
        match known {
            Some(true) => Truth::True,
            Some(false) => Truth::False,
            None => Truth::Unknown,
        }
    }

    #[inline]
    fn not(self) -> Truth {
        match self {
            Truth::False => Truth::True,
            Truth::True => Truth::False,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

/// Where values are read from, by slot. `None` is a missing value.
pub trait Source {
    fn has(&self, slot: Slot) -> bool;
    /// A whole number, or an amount in minor units.
    fn int(&self, slot: Slot) -> Option<i64>;
    /// A decimal number; always finite.
    fn float(&self, slot: Slot) -> Option<f64>;
    fn bool(&self, slot: Slot) -> Option<bool>;
    fn text(&self, slot: Slot) -> Option<&str>;
}

impl Source for Values<'_> {
    #[inline]
    fn has(&self, slot: Slot) -> bool {
        Values::has(self, slot)
    }

    #[inline]
    fn int(&self, slot: Slot) -> Option<i64> {
        Values::int(self, slot)
    }

    #[inline]
    fn float(&self, slot: Slot) -> Option<f64> {
        Values::float(self, slot)
    }

    #[inline]
    fn bool(&self, slot: Slot) -> Option<bool> {
        Values::bool(self, slot)
    }

    #[inline]
    fn text(&self, slot: Slot) -> Option<&str> {
        Values::text(self, slot)
    }
}

/// What lists are looked up in: what calls have made of them, and the time that their values must outlive.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub lists: &'a ListsInForce,
    pub now: Timestamp,
}

/// A condition of a [`Program`].
#[derive(Clone, Copy, Debug)]
pub struct Condition(Node);

/// The compiled conditions of one file.
#[derive(Debug, Default)]
pub struct Program {
    nodes: Vec<Node>,
    ints: Vec<IntNode>,
    floats: Vec<FloatNode>,
    moneys: Vec<MoneyNode>,
    texts: Vec<TextNode>,
    /// Ranges of minor units, one per number of decimals of the currency.
    money_ranges: Vec<[(i64, i64); EXPONENTS]>,
    words: Vec<Box<str>>,
    text_sets: Vec<TextSet>,
    int_sets: Vec<IntSet>,
}

type Index = u32;

/// A condition. Ranges are inclusive; `outside` turns the answer round.
#[derive(Clone, Copy, Debug)]
enum Node {
    Const(Truth),
    Flag {
        slot: Slot,
        expected: bool,
    },
    Has {
        slot: Slot,
        expected: bool,
    },
    IntRange {
        slot: Slot,
        outside: bool,
        low: i64,
        high: i64,
    },
    FloatRange {
        slot: Slot,
        outside: bool,
        low: f64,
        high: f64,
    },
    MoneyRange {
        slot: Slot,
        outside: bool,
        ranges: Index,
    },
    Word {
        slot: Slot,
        outside: bool,
        word: Index,
    },
    WordInSet {
        slot: Slot,
        outside: bool,
        set: Index,
    },
    SameText {
        left: Slot,
        right: Slot,
        outside: bool,
    },
    /// Terms lie side by side.
    All {
        first: Index,
        count: Index,
    },
    Any {
        first: Index,
        count: Index,
    },
    Not {
        term: Index,
    },
    /// Three nodes side by side: condition, then, otherwise.
    If {
        first: Index,
    },
    /// Two nodes side by side.
    Same {
        first: Index,
    },
    CompareInt {
        comparison: Comparison,
        left: Index,
        right: Index,
    },
    CompareFloat {
        comparison: Comparison,
        left: Index,
        right: Index,
    },
    CompareIntFloat {
        comparison: Comparison,
        left: Index,
        right: Index,
    },
    CompareMoney {
        comparison: Comparison,
        left: Index,
        right: Index,
    },
    CompareText {
        comparison: Comparison,
        left: Index,
        right: Index,
    },
    TextInSet {
        text: Index,
        set: Index,
        outside: bool,
    },
    IntInSet {
        int: Index,
        set: Index,
        outside: bool,
    },
    Match {
        kind: TextMatch,
        text: Index,
        part: Index,
    },
}

const _: () = assert!(size_of::<Node>() <= 24, "a node more than half a cache line makes rules slow");

#[derive(Clone, Copy, Debug)]
enum IntNode {
    Const(i64),
    Slot(Slot),
    Neg(Index),
    Abs(Index),
    Binary { arithmetic: Arithmetic, left: Index, right: Index },
    Pick { side: Ordering, left: Index, right: Index },
    If { condition: Index, then: Index, otherwise: Index },
    Size { text: Index },
    FromFloat { float: Index },
}

#[derive(Clone, Copy, Debug)]
enum FloatNode {
    Const(f64),
    Slot(Slot),
    Neg(Index),
    Abs(Index),
    Binary { arithmetic: Arithmetic, left: Index, right: Index },
    Pick { side: Ordering, left: Index, right: Index },
    If { condition: Index, then: Index, otherwise: Index },
    FromInt { int: Index },
    Ratio { left: Index, right: Index },
}

/// An amount in minor units, times a power of ten fixed by where the node stands.
#[derive(Clone, Copy, Debug)]
enum MoneyNode {
    /// Already times the power, for each number of decimals of the currency.
    Literal([i128; EXPONENTS]),
    Slot(Slot),
    Neg(Index),
    Abs(Index),
    Add {
        left: Index,
        right: Index,
    },
    Subtract {
        left: Index,
        right: Index,
    },
    /// Times a number known when the rule was compiled.
    Scale {
        factor: i128,
        money: Index,
    },
    Times {
        int: Index,
        money: Index,
    },
    Pick {
        side: Ordering,
        left: Index,
        right: Index,
    },
    If {
        condition: Index,
        then: Index,
        otherwise: Index,
    },
}

#[derive(Clone, Copy, Debug)]
enum TextNode {
    Const(Index),
    Slot(Slot),
    If { condition: Index, then: Index, otherwise: Index },
}

#[derive(Debug)]
enum TextSet {
    Few(Vec<Box<str>>),
    Many(HashSet<Box<str>, foldhash::fast::FixedState>),
    /// Each with its end.
    Ending(HashMap<Box<str>, i64, foldhash::fast::FixedState>),
}

impl TextSet {
    fn new(texts: &[String], ends: Option<&Vec<i64>>) -> TextSet {
        let boxed = texts.iter().map(|text| text.as_str().into());
        match ends {
            Some(ends) => TextSet::Ending(boxed.zip(ends.iter().copied()).collect()),
            None if texts.len() <= LINEAR_SET_MAX => TextSet::Few(boxed.collect()),
            None => TextSet::Many(boxed.collect()),
        }
    }

    #[inline]
    fn contains(&self, text: &str, now: Timestamp) -> bool {
        match self {
            TextSet::Few(texts) => texts.iter().any(|item| **item == *text),
            TextSet::Many(texts) => texts.contains(text),
            TextSet::Ending(texts) => texts.get(text).is_some_and(|end| now.0 < *end),
        }
    }
}

/// Ascending, each with its end.
#[derive(Debug)]
struct IntSet(Vec<(i64, i64)>);

impl IntSet {
    fn new(ints: &[i64], ends: Option<&Vec<i64>>) -> IntSet {
        let end = |place: usize| ends.map_or(FOR_EVER, |ends| ends[place]);
        let mut ints: Vec<_> = ints.iter().enumerate().map(|(place, int)| (*int, end(place))).collect();
        ints.sort_unstable();
        IntSet(ints)
    }

    fn contains(&self, int: i64, now: Timestamp) -> bool {
        let found = self.0.binary_search_by_key(&int, |(int, _)| *int);
        found.is_ok_and(|place| now.0 < self.0[place].1)
    }
}

impl Program {
    /// A program whose conditions may use these sets.
    pub fn new(sets: &Sets) -> Program {
        let texts = sets.texts.iter().enumerate();
        let ints = sets.ints.iter().enumerate();
        Program {
            text_sets: texts.map(|(set, texts)| TextSet::new(texts, sets.text_ends.get(&set))).collect(),
            int_sets: ints.map(|(set, ints)| IntSet::new(ints, sets.int_ends.get(&set))).collect(),
            ..Program::default()
        }
    }

    /// Compiles one condition into the program.
    pub fn add(&mut self, condition: &Bool) -> Condition {
        Condition(self.lower(condition, false))
    }

    /// Evaluates one condition. `exponent` is the number of decimals of the request's billing currency.
    #[inline]
    pub fn evaluate<S: Source>(
        &self,
        condition: &Condition,
        values: &S,
        exponent: u32,
        seen: &Seen<'_>,
    ) -> Truth {
        let exponent = (exponent as usize).min(EXPONENTS - 1);
        Evaluation { program: self, values, exponent, seen }.node(&condition.0)
    }

    pub fn text_sets(&self) -> usize {
        self.text_sets.len()
    }

    pub fn int_sets(&self) -> usize {
        self.int_sets.len()
    }
}

/// Compiling.
impl Program {
    fn lower(&mut self, condition: &Bool, negate: bool) -> Node {
        match condition {
            Bool::Const(value) => Node::Const(Truth::of(Some(*value != negate))),
            Bool::Slot(slot) => Node::Flag { slot: *slot, expected: !negate },
            Bool::Has(slot) => Node::Has { slot: *slot, expected: !negate },
            Bool::Not(inner) => self.lower(inner, !negate),
            // De Morgan's laws hold for unknown terms too.
            Bool::All(terms) => self.terms(terms, negate, !negate),
            Bool::Any(terms) => self.terms(terms, negate, negate),
            Bool::If(condition, then, otherwise) => {
                let nodes =
                    [self.lower(condition, false), self.lower(then, negate), self.lower(otherwise, negate)];
                Node::If { first: self.block(nodes) }
            }
            Bool::Same(left, right) => {
                let nodes = [self.lower(left, negate), self.lower(right, false)];
                Node::Same { first: self.block(nodes) }
            }
            Bool::CompareInt(comparison, left, right) => {
                let comparison = if negate { comparison.negated() } else { *comparison };
                self.compare_int(comparison, left, right)
            }
            Bool::CompareFloat(comparison, left, right) => {
                self.compare_float(*comparison, left, right, negate)
            }
            Bool::CompareIntFloat(comparison, left, right) => {
                self.compare_int_float(*comparison, left, right, negate)
            }
            Bool::CompareMoney(comparison, left, right) => {
                let comparison = if negate { comparison.negated() } else { *comparison };
                self.compare_money(comparison, left, right)
            }
            Bool::CompareText(comparison, left, right) => {
                let comparison = if negate { comparison.negated() } else { *comparison };
                self.compare_text(comparison, left, right)
            }
            Bool::TextIn(Text::Slot(slot), set) => {
                Node::WordInSet { slot: *slot, outside: negate, set: index(*set) }
            }
            Bool::TextIn(text, set) => {
                Node::TextInSet { text: self.text(text), set: index(*set), outside: negate }
            }
            Bool::IntIn(int, set) => Node::IntInSet { int: self.int(int), set: index(*set), outside: negate },
            Bool::Match(kind, text, part) => {
                let node = Node::Match { kind: *kind, text: self.text(text), part: self.text(part) };
                self.not_if(negate, node)
            }
        }
    }

    fn terms(&mut self, terms: &[Bool], negate: bool, all: bool) -> Node {
        let mut terms: Vec<(u32, Node)> =
            terms.iter().map(|term| (cost_ns(term), self.lower(term, negate))).collect();
        // The terms have no effects and cannot fail, so the cheap ones may come first.
        terms.sort_by_key(|(cost, _)| *cost);
        let count = index(terms.len());
        let first = self.block(terms.into_iter().map(|(_, node)| node));
        if all { Node::All { first, count } } else { Node::Any { first, count } }
    }

    fn block(&mut self, nodes: impl IntoIterator<Item = Node>) -> Index {
        let first = index(self.nodes.len());
        self.nodes.extend(nodes);
        first
    }

    fn not_if(&mut self, negate: bool, node: Node) -> Node {
        if negate { Node::Not { term: self.block([node]) } } else { node }
    }

    fn compare_int(&mut self, comparison: Comparison, left: &Int, right: &Int) -> Node {
        let (comparison, slot, value) = match (left, right) {
            (Int::Slot(slot), Int::Const(value)) => (comparison, *slot, *value),
            (Int::Const(value), Int::Slot(slot)) => (comparison.mirrored(), *slot, *value),
            _ => {
                let (left, right) = (self.int(left), self.int(right));
                return Node::CompareInt { comparison, left, right };
            }
        };
        let range = integer_range(comparison, i128::from(value), true);
        Node::IntRange { slot, outside: comparison == Comparison::NotEqual, low: range.0, high: range.1 }
    }

    fn compare_float(&mut self, comparison: Comparison, left: &Float, right: &Float, negate: bool) -> Node {
        let (comparison, slot, value) = match (left, right) {
            (Float::Slot(slot), Float::Const(value, _)) => (comparison, *slot, *value),
            (Float::Const(value, _), Float::Slot(slot)) => (comparison.mirrored(), *slot, *value),
            _ => {
                let node =
                    Node::CompareFloat { comparison, left: self.float(left), right: self.float(right) };
                // Not the opposite comparison: with a value that is no number both are false.
                return self.not_if(negate, node);
            }
        };
        // Both the values of slots and literals are finite.
        let (low, high) = match comparison {
            Comparison::Less => (f64::NEG_INFINITY, value.next_down()),
            Comparison::LessEqual => (f64::NEG_INFINITY, value),
            Comparison::Greater => (value.next_up(), f64::INFINITY),
            Comparison::GreaterEqual => (value, f64::INFINITY),
            Comparison::Equal | Comparison::NotEqual => (value, value),
        };
        Node::FloatRange { slot, outside: (comparison == Comparison::NotEqual) != negate, low, high }
    }

    fn compare_int_float(&mut self, comparison: Comparison, left: &Int, right: &Float, negate: bool) -> Node {
        match (left, right) {
            (Int::Slot(slot), Float::Const(value, _)) => {
                // Every whole number on one side of the literal: the bound is whole itself.
                let floor = float_floor(*value);
                let is_whole = *value == value.floor();
                let (low, high) = integer_range(comparison, floor, is_whole);
                Node::IntRange {
                    slot: *slot,
                    outside: (comparison == Comparison::NotEqual) != negate,
                    low,
                    high,
                }
            }
            _ => {
                let node =
                    Node::CompareIntFloat { comparison, left: self.int(left), right: self.float(right) };
                self.not_if(negate, node)
            }
        }
    }

    fn compare_money(&mut self, comparison: Comparison, left: &Money, right: &Money) -> Node {
        let (comparison, slot, literal) = match (left, right) {
            (Money::Slot(slot), Money::Literal(literal)) => (comparison, *slot, *literal),
            (Money::Literal(literal), Money::Slot(slot)) => (comparison.mirrored(), *slot, *literal),
            _ => {
                let scale = left.scale().max(right.scale());
                let (left, right) = (self.money(left, scale), self.money(right, scale));
                return Node::CompareMoney { comparison, left, right };
            }
        };
        self.money_ranges.push(money_ranges(comparison, literal));
        let ranges = index(self.money_ranges.len() - 1);
        Node::MoneyRange { slot, outside: comparison == Comparison::NotEqual, ranges }
    }

    fn compare_text(&mut self, comparison: Comparison, left: &Text, right: &Text) -> Node {
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let outside = comparison == Comparison::NotEqual;
        match (left, right) {
            (Text::Slot(slot), Text::Const(word)) | (Text::Const(word), Text::Slot(slot)) if is_equality => {
                Node::Word { slot: *slot, outside, word: self.word(word) }
            }
            (Text::Slot(left), Text::Slot(right)) if is_equality => {
                Node::SameText { left: *left, right: *right, outside }
            }
            _ => Node::CompareText { comparison, left: self.text(left), right: self.text(right) },
        }
    }

    fn child(&mut self, condition: &Bool) -> Index {
        let node = self.lower(condition, false);
        self.block([node])
    }

    fn int(&mut self, int: &Int) -> Index {
        let node = match int {
            Int::Const(value) => IntNode::Const(*value),
            Int::Slot(slot) => IntNode::Slot(*slot),
            Int::Neg(inner) => IntNode::Neg(self.int(inner)),
            Int::Abs(inner) => IntNode::Abs(self.int(inner)),
            Int::Binary(arithmetic, left, right) => {
                IntNode::Binary { arithmetic: *arithmetic, left: self.int(left), right: self.int(right) }
            }
            Int::Pick(side, left, right) => {
                IntNode::Pick { side: *side, left: self.int(left), right: self.int(right) }
            }
            Int::If(condition, then, otherwise) => IntNode::If {
                condition: self.child(condition),
                then: self.int(then),
                otherwise: self.int(otherwise),
            },
            Int::Size(text) => IntNode::Size { text: self.text(text) },
            Int::FromFloat(float) => IntNode::FromFloat { float: self.float(float) },
        };
        self.ints.push(node);
        index(self.ints.len() - 1)
    }

    fn float(&mut self, float: &Float) -> Index {
        let node = match float {
            Float::Const(value, _) => FloatNode::Const(*value),
            Float::Slot(slot) => FloatNode::Slot(*slot),
            Float::Neg(inner) => FloatNode::Neg(self.float(inner)),
            Float::Abs(inner) => FloatNode::Abs(self.float(inner)),
            Float::Binary(arithmetic, left, right) => FloatNode::Binary {
                arithmetic: *arithmetic,
                left: self.float(left),
                right: self.float(right),
            },
            Float::Pick(side, left, right) => {
                FloatNode::Pick { side: *side, left: self.float(left), right: self.float(right) }
            }
            Float::If(condition, then, otherwise) => FloatNode::If {
                condition: self.child(condition),
                then: self.float(then),
                otherwise: self.float(otherwise),
            },
            Float::FromInt(int) => FloatNode::FromInt { int: self.int(int) },
            Float::Ratio(left, right) => {
                let scale = left.scale().max(right.scale());
                FloatNode::Ratio { left: self.money(left, scale), right: self.money(right, scale) }
            }
        };
        self.floats.push(node);
        index(self.floats.len() - 1)
    }

    /// Compiles an amount to minor units times `10^scale`.
    fn money(&mut self, money: &Money, scale: u32) -> Index {
        let own = match money {
            // A literal and what only passes its parts on can be had at any scale.
            Money::Literal(literal) => {
                let at = |exponent| scaled_literal(*literal, exponent, scale);
                return self.push_money(MoneyNode::Literal(std::array::from_fn(at)));
            }
            Money::Neg(inner) => MoneyNode::Neg(self.money(inner, scale)),
            Money::Abs(inner) => MoneyNode::Abs(self.money(inner, scale)),
            Money::Add(left, right) => {
                MoneyNode::Add { left: self.money(left, scale), right: self.money(right, scale) }
            }
            Money::Subtract(left, right) => {
                MoneyNode::Subtract { left: self.money(left, scale), right: self.money(right, scale) }
            }
            Money::Times(int, inner) => {
                MoneyNode::Times { int: self.int(int), money: self.money(inner, scale) }
            }
            Money::Pick(side, left, right) => MoneyNode::Pick {
                side: *side,
                left: self.money(left, scale),
                right: self.money(right, scale),
            },
            Money::If(condition, then, otherwise) => MoneyNode::If {
                condition: self.child(condition),
                then: self.money(then, scale),
                otherwise: self.money(otherwise, scale),
            },
            Money::Slot(slot) => {
                let money = self.push_money(MoneyNode::Slot(*slot));
                if scale == 0 {
                    return money;
                }
                MoneyNode::Scale { factor: 10_i128.pow(scale), money }
            }
            Money::Scale(factor, inner) => {
                let power = 10_i128.pow(scale - money.scale());
                MoneyNode::Scale {
                    factor: i128::from(factor.mantissa()) * power,
                    money: self.money(inner, inner.scale()),
                }
            }
        };
        self.push_money(own)
    }

    fn push_money(&mut self, node: MoneyNode) -> Index {
        self.moneys.push(node);
        index(self.moneys.len() - 1)
    }

    fn text(&mut self, text: &Text) -> Index {
        let node = match text {
            Text::Const(word) => TextNode::Const(self.word(word)),
            Text::Slot(slot) => TextNode::Slot(*slot),
            Text::If(condition, then, otherwise) => TextNode::If {
                condition: self.child(condition),
                then: self.text(then),
                otherwise: self.text(otherwise),
            },
        };
        self.texts.push(node);
        index(self.texts.len() - 1)
    }

    fn word(&mut self, word: &str) -> Index {
        self.words.push(word.into());
        index(self.words.len() - 1)
    }
}

/// Evaluating.
struct Evaluation<'p, 'v, S> {
    program: &'p Program,
    values: &'v S,
    exponent: usize,
    seen: &'v Seen<'v>,
}

impl<S: Source> Evaluation<'_, '_, S> {
    fn node(&self, node: &Node) -> Truth {
        let program = self.program;
        match *node {
            Node::All { first, count } => {
                let mut all = Truth::True;
                for term in &program.nodes[first as usize..(first + count) as usize] {
                    match self.term(term) {
                        Truth::True => {}
                        Truth::False => return Truth::False,
                        Truth::Unknown => all = Truth::Unknown,
                    }
                }
                all
            }
            Node::Any { first, count } => {
                let mut any = Truth::False;
                for term in &program.nodes[first as usize..(first + count) as usize] {
                    match self.term(term) {
                        Truth::False => {}
                        Truth::True => return Truth::True,
                        Truth::Unknown => any = Truth::Unknown,
                    }
                }
                any
            }
            _ => self.term(node),
        }
    }

    /// A term of `&&` or `||`: the common ones right in the loop over them, without a call.
    #[inline(always)]
    fn term(&self, node: &Node) -> Truth {
        let program = self.program;
        match *node {
            Node::Const(truth) => truth,
            Node::Flag { slot, expected } => Truth::of(self.values.bool(slot).map(|flag| flag == expected)),
            Node::Has { slot, expected } => Truth::of(Some(self.values.has(slot) == expected)),
            Node::IntRange { slot, outside, low, high } => {
                Truth::of(self.values.int(slot).map(|value| ((low <= value) & (value <= high)) != outside))
            }
            Node::FloatRange { slot, outside, low, high } => {
                Truth::of(self.values.float(slot).map(|value| ((low <= value) & (value <= high)) != outside))
            }
            Node::MoneyRange { slot, outside, ranges } => {
                let (low, high) = program.money_ranges[ranges as usize][self.exponent];
                Truth::of(self.values.int(slot).map(|value| ((low <= value) & (value <= high)) != outside))
            }
            Node::Word { slot, outside, word } => {
                let word = &*program.words[word as usize];
                Truth::of(self.values.text(slot).map(|text| (text == word) != outside))
            }
            Node::WordInSet { slot, outside, set } => {
                Truth::of(self.values.text(slot).map(|text| self.has_text(set, text) != outside))
            }
            Node::SameText { left, right, outside } => {
                let texts = self.values.text(left).zip(self.values.text(right));
                Truth::of(texts.map(|(left, right)| (left == right) != outside))
            }
            _ => self.general(node),
        }
    }

    /// The nodes that few rules need, kept out of the loop over the others.
    #[inline(never)]
    fn general(&self, node: &Node) -> Truth {
        let at = |index: Index| &self.program.nodes[index as usize];
        let ordered = |comparison: Comparison, ordering: Option<Ordering>| {
            Truth::of(ordering.map(|ordering| comparison.holds(ordering)))
        };
        match *node {
            Node::Not { term } => self.node(at(term)).not(),
            Node::If { first } => match self.node(at(first)) {
                Truth::True => self.node(at(first + 1)),
                Truth::False => self.node(at(first + 2)),
                Truth::Unknown => Truth::Unknown,
            },
            Node::Same { first } => match (self.node(at(first)), self.node(at(first + 1))) {
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (left, right) => Truth::of(Some(left == right)),
            },
            Node::CompareInt { comparison, left, right } => {
                ordered(comparison, self.int(left).zip(self.int(right)).map(|(a, b)| a.cmp(&b)))
            }
            Node::CompareMoney { comparison, left, right } => {
                ordered(comparison, self.money(left).zip(self.money(right)).map(|(a, b)| a.cmp(&b)))
            }
            Node::CompareText { comparison, left, right } => {
                ordered(comparison, self.text(left).zip(self.text(right)).map(|(a, b)| a.cmp(b)))
            }
            Node::CompareFloat { comparison, left, right } => {
                let sides = self.float(left).zip(self.float(right));
                Truth::of(sides.map(|(a, b)| holds_or_unordered(comparison, a.partial_cmp(&b))))
            }
            Node::CompareIntFloat { comparison, left, right } => {
                let sides = self.int(left).zip(self.float(right));
                Truth::of(sides.map(|(a, b)| holds_or_unordered(comparison, compare_int_float(a, b))))
            }
            Node::TextInSet { text, set, outside } => {
                Truth::of(self.text(text).map(|text| self.has_text(set, text) != outside))
            }
            Node::IntInSet { int, set, outside } => {
                Truth::of(self.int(int).map(|int| self.has_int(set, int) != outside))
            }
            Node::Match { kind, text, part } => {
                Truth::of(self.text(text).zip(self.text(part)).map(|(text, part)| match kind {
                    TextMatch::StartsWith => text.starts_with(part),
                    TextMatch::EndsWith => text.ends_with(part),
                    TextMatch::Contains => text.contains(part),
                }))
            }
            Node::Const(_)
            | Node::Flag { .. }
            | Node::Has { .. }
            | Node::IntRange { .. }
            | Node::FloatRange { .. }
            | Node::MoneyRange { .. }
            | Node::Word { .. }
            | Node::WordInSet { .. }
            | Node::SameText { .. }
            | Node::All { .. }
            | Node::Any { .. } => self.node(node),
        }
    }

    /// Whether a list has a text: as calls say, else as the file says.
    #[inline]
    fn has_text(&self, set: Index, text: &str) -> bool {
        let Seen { lists, now } = *self.seen;
        let said = lists.texts(set as usize).and_then(|changes| changes.find(text, now));
        said.unwrap_or_else(|| self.program.text_sets[set as usize].contains(text, now))
    }

    fn has_int(&self, set: Index, int: i64) -> bool {
        let Seen { lists, now } = *self.seen;
        let said = lists.ints(set as usize).and_then(|changes| find_int(changes, int, now));
        said.unwrap_or_else(|| self.program.int_sets[set as usize].contains(int, now))
    }

    fn condition(&self, condition: Index) -> Option<bool> {
        match self.node(&self.program.nodes[condition as usize]) {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Unknown => None,
        }
    }

    fn int(&self, index: Index) -> Option<i64> {
        match self.program.ints[index as usize] {
            IntNode::Const(value) => Some(value),
            IntNode::Slot(slot) => self.values.int(slot),
            IntNode::Neg(inner) => self.int(inner)?.checked_neg(),
            IntNode::Abs(inner) => self.int(inner)?.checked_abs(),
            IntNode::Binary { arithmetic, left, right } => {
                let (left, right) = (self.int(left)?, self.int(right)?);
                match arithmetic {
                    Arithmetic::Add => left.checked_add(right),
                    Arithmetic::Subtract => left.checked_sub(right),
                    Arithmetic::Multiply => left.checked_mul(right),
                    Arithmetic::Divide => left.checked_div(right),
                    Arithmetic::Remainder => left.checked_rem(right),
                }
            }
            IntNode::Pick { side, left, right } => {
                let (left, right) = (self.int(left)?, self.int(right)?);
                Some(if right.cmp(&left) == side { right } else { left })
            }
            IntNode::If { condition, then, otherwise } => {
                self.int(if self.condition(condition)? { then } else { otherwise })
            }
            IntNode::Size { text } => i64::try_from(self.text(text)?.chars().count()).ok(),
            IntNode::FromFloat { float } => whole(self.float(float)?),
        }
    }

    fn float(&self, index: Index) -> Option<f64> {
        match self.program.floats[index as usize] {
            FloatNode::Const(value) => Some(value),
            FloatNode::Slot(slot) => self.values.float(slot),
            FloatNode::Neg(inner) => Some(-self.float(inner)?),
            FloatNode::Abs(inner) => Some(self.float(inner)?.abs()),
            FloatNode::Binary { arithmetic, left, right } => {
                let (left, right) = (self.float(left)?, self.float(right)?);
                match arithmetic {
                    Arithmetic::Add => Some(left + right),
                    Arithmetic::Subtract => Some(left - right),
                    Arithmetic::Multiply => Some(left * right),
                    Arithmetic::Divide => Some(left / right),
                    Arithmetic::Remainder => None,
                }
            }
            FloatNode::Pick { side, left, right } => {
                let (left, right) = (self.float(left)?, self.float(right)?);
                Some(if right.partial_cmp(&left)? == side { right } else { left })
            }
            FloatNode::If { condition, then, otherwise } => {
                self.float(if self.condition(condition)? { then } else { otherwise })
            }
            FloatNode::FromInt { int } => Some(self.int(int)? as f64),
            FloatNode::Ratio { left, right } => {
                let (left, right) = (self.money(left)?, self.money(right)?);
                (right != 0).then(|| left as f64 / right as f64)
            }
        }
    }

    fn money(&self, index: Index) -> Option<i128> {
        match &self.program.moneys[index as usize] {
            MoneyNode::Literal(scaled) => Some(scaled[self.exponent]),
            MoneyNode::Slot(slot) => self.values.int(*slot).map(i128::from),
            MoneyNode::Neg(inner) => self.money(*inner)?.checked_neg(),
            MoneyNode::Abs(inner) => self.money(*inner)?.checked_abs(),
            MoneyNode::Add { left, right } => self.money(*left)?.checked_add(self.money(*right)?),
            MoneyNode::Subtract { left, right } => self.money(*left)?.checked_sub(self.money(*right)?),
            MoneyNode::Scale { factor, money } => self.money(*money)?.checked_mul(*factor),
            MoneyNode::Times { int, money } => self.money(*money)?.checked_mul(i128::from(self.int(*int)?)),
            MoneyNode::Pick { side, left, right } => {
                let (left, right) = (self.money(*left)?, self.money(*right)?);
                Some(if right.cmp(&left) == *side { right } else { left })
            }
            MoneyNode::If { condition, then, otherwise } => {
                self.money(if self.condition(*condition)? { *then } else { *otherwise })
            }
        }
    }

    fn text(&self, index: Index) -> Option<&str> {
        match self.program.texts[index as usize] {
            TextNode::Const(word) => Some(&self.program.words[word as usize]),
            TextNode::Slot(slot) => self.values.text(slot),
            TextNode::If { condition, then, otherwise } => {
                self.text(if self.condition(condition)? { then } else { otherwise })
            }
        }
    }
}

/// Estimated time to evaluate a condition, all its parts counted: an upper bound for the bound at load, and what
/// `rules explain` shows.
pub fn cost_ns(condition: &Bool) -> u32 {
    match condition {
        Bool::Const(_) | Bool::Slot(_) | Bool::Has(_) => 1,
        Bool::Not(inner) => cost_ns(inner),
        Bool::All(terms) | Bool::Any(terms) => 1 + terms.iter().map(cost_ns).sum::<u32>(),
        Bool::If(a, b, c) => 1 + cost_ns(a) + cost_ns(b) + cost_ns(c),
        Bool::Same(a, b) => 1 + cost_ns(a) + cost_ns(b),
        Bool::CompareInt(_, a, b) => 1 + int_cost_ns(a) + int_cost_ns(b),
        Bool::CompareFloat(_, a, b) => 1 + float_cost_ns(a) + float_cost_ns(b),
        Bool::CompareIntFloat(_, a, b) => 2 + int_cost_ns(a) + float_cost_ns(b),
        Bool::CompareMoney(_, a, b) => 1 + money_cost_ns(a) + money_cost_ns(b),
        Bool::CompareText(_, a, b) => 2 + text_cost_ns(a) + text_cost_ns(b),
        Bool::TextIn(text, _) => 6 + text_cost_ns(text),
        Bool::IntIn(int, _) => 3 + int_cost_ns(int),
        Bool::Match(kind, a, b) => {
            let name = match kind {
                TextMatch::StartsWith => "startsWith",
                TextMatch::EndsWith => "endsWith",
                TextMatch::Contains => "contains",
            };
            function_cost_ns(name) + text_cost_ns(a) + text_cost_ns(b)
        }
    }
}

fn function_cost_ns(name: &str) -> u32 {
    builtins::lookup(name).map_or(1, |builtin| builtin.cost_ns)
}

fn int_cost_ns(int: &Int) -> u32 {
    match int {
        Int::Const(_) => 0,
        Int::Slot(_) => 1,
        Int::Neg(a) | Int::Abs(a) => 1 + int_cost_ns(a),
        Int::Binary(Arithmetic::Divide | Arithmetic::Remainder, a, b) => 8 + int_cost_ns(a) + int_cost_ns(b),
        Int::Binary(_, a, b) | Int::Pick(_, a, b) => 2 + int_cost_ns(a) + int_cost_ns(b),
        Int::If(c, a, b) => 2 + cost_ns(c) + int_cost_ns(a) + int_cost_ns(b),
        Int::Size(text) => function_cost_ns("size") + text_cost_ns(text),
        Int::FromFloat(float) => function_cost_ns("int") + float_cost_ns(float),
    }
}

fn float_cost_ns(float: &Float) -> u32 {
    match float {
        Float::Const(..) => 0,
        Float::Slot(_) => 1,
        Float::Neg(a) | Float::Abs(a) => 1 + float_cost_ns(a),
        Float::Binary(_, a, b) | Float::Pick(_, a, b) => 2 + float_cost_ns(a) + float_cost_ns(b),
        Float::If(c, a, b) => 2 + cost_ns(c) + float_cost_ns(a) + float_cost_ns(b),
        Float::FromInt(int) => function_cost_ns("double") + int_cost_ns(int),
        Float::Ratio(a, b) => 8 + money_cost_ns(a) + money_cost_ns(b),
    }
}

fn money_cost_ns(money: &Money) -> u32 {
    match money {
        Money::Literal(_) => 0,
        Money::Slot(_) => 1,
        Money::Neg(a) | Money::Abs(a) => 1 + money_cost_ns(a),
        Money::Scale(_, a) => 3 + money_cost_ns(a),
        Money::Times(int, a) => 3 + int_cost_ns(int) + money_cost_ns(a),
        Money::Add(a, b) | Money::Subtract(a, b) | Money::Pick(_, a, b) => {
            2 + money_cost_ns(a) + money_cost_ns(b)
        }
        Money::If(c, a, b) => 2 + cost_ns(c) + money_cost_ns(a) + money_cost_ns(b),
    }
}

fn text_cost_ns(text: &Text) -> u32 {
    match text {
        Text::Const(_) => 0,
        Text::Slot(_) => 1,
        Text::If(c, a, b) => 2 + cost_ns(c) + text_cost_ns(a) + text_cost_ns(b),
    }
}

/// The inclusive range of whole numbers that compare so with a bound. Where the bound is not whole, `floor` is the
/// whole number below it. For `!=` it is the range that must not be hit.
fn integer_range(comparison: Comparison, floor: i128, is_whole: bool) -> (i64, i64) {
    const EMPTY: (i64, i64) = (1, 0);
    let (low, high) = match comparison {
        Comparison::Less => (i128::MIN, if is_whole { floor - 1 } else { floor }),
        Comparison::LessEqual => (i128::MIN, floor),
        Comparison::Greater => (floor + 1, i128::MAX),
        Comparison::GreaterEqual => (if is_whole { floor } else { floor + 1 }, i128::MAX),
        Comparison::Equal | Comparison::NotEqual if is_whole => (floor, floor),
        Comparison::Equal | Comparison::NotEqual => return EMPTY,
    };
    let (least, greatest) = (i128::from(i64::MIN), i128::from(i64::MAX));
    if low > greatest || high < least {
        return EMPTY;
    }
    (low.max(least) as i64, high.min(greatest) as i64)
}

/// The amounts that satisfy a comparison with a literal, in minor units, for each number of decimals; for `!=` those that
/// do not.
pub fn money_ranges(comparison: Comparison, literal: Decimal) -> [(i64, i64); EXPONENTS] {
    std::array::from_fn(|exponent| {
        let power = 10_i128.pow(literal.scale());
        let scaled = scaled_literal(literal, exponent, literal.scale());
        integer_range(comparison, scaled.div_euclid(power), scaled.rem_euclid(power) == 0)
    })
}

/// The whole number at or below a finite number, cut to a range well outside 64 bits.
fn float_floor(value: f64) -> i128 {
    value.floor().clamp(-1e30, 1e30) as i128
}

/// A literal of the checker, whose size is bounded so that this fits.
fn scaled_literal(literal: Decimal, exponent: usize, scale: u32) -> i128 {
    literal.to_minor(exponent as u32, scale).unwrap_or(i128::MAX)
}

/// CEL: with a value that is no number every comparison is false but `!=`.
#[inline]
fn holds_or_unordered(comparison: Comparison, ordering: Option<Ordering>) -> bool {
    match ordering {
        Some(ordering) => comparison.holds(ordering),
        None => comparison == Comparison::NotEqual,
    }
}

/// Compares by exact value: a double cannot hold every 64-bit integer.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    let floor = float.floor();
    let ordering = i128::from(int).cmp(&float_floor(floor));
    Some(if ordering.is_eq() && float > floor { Ordering::Less } else { ordering })
}

/// Towards zero; `None` outside the range of 64 bits. The bounds are exact doubles.
fn whole(float: f64) -> Option<i64> {
    (float > -9_223_372_036_854_775_808.0 && float < 9_223_372_036_854_775_808.0).then_some(float as i64)
}

fn index(place: usize) -> Index {
    Index::try_from(place).unwrap_or(Index::MAX)
}
