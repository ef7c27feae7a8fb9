//! `where` of an aggregate: a condition over what is known of one past event. The same language as in rules, with
//! names of its own, asked once when the event is recorded.
//!
//! The amount stands in comparisons with a number that every event must satisfy, and nowhere else: windows know the
//! events of one kind by what they have in common, which their amounts are not, and look at those beside it.
//!
//! So it is with `label`, which makes an aggregate count transactions once that label has come for them, and not as they
//! are decided.

use std::{collections::BTreeMap, ops::Range};

use super::{
    check::{Form, Scope, Sets, Variable},
    lists::ListsInForce,
    parse::{self, Expr, ExprKind, Operator},
    program::{Program, Seen, Source, Truth, money_ranges},
    typed::{Bool, Comparison, Money, Text},
};
use crate::{
    features::{
        aggregate::{Filter, Keys},
        amounts::AmountRange,
        catalog::{self, Type},
        event::Event,
        values::Slot,
    },
    types::{codes::Decision, lists::FraudLabel, time::Timestamp},
};

const OUTCOME: Slot = 0;
const CHANNEL: Slot = 1;
const KIND: Slot = 2;
const MCC: Slot = 3;
const COUNTRY: Slot = 4;
const DECLINED_FOR_CREDIT: Slot = 5;
const AMOUNT: Slot = 6;
const LABEL: Slot = 7;

/// The amount in the account's currency, and in the base currency where accounts are crossed or labels counted.
const AMOUNTS: [&str; 2] = ["amount", "amount_base"];
/// What to do about an amount in another place.
pub const AMOUNT_FORM: &str = "compare it with a number by <, <=, >, >= or ==, alone or joined by `&&`, such as \
                               `amount >= 100.00 && outcome == 'approved'`";

const LABEL_NAME: &str = "label";
/// What to do about a label in another place.
pub const LABEL_FORM: &str = "compare it by == with one label, alone or joined by `&&`, such as \
                              `label == 'fraud' && channel == 'ecommerce'`";

const LABELS: &[&str] = &["fraud", "genuine"];
const OUTCOMES: &[&str] = &["approved", "declined", "step_up"];
const NOT_OF_EVENTS: &str = "a past event has outcome, declined_for_credit, amount, channel, kind, merchant.mcc, \
                             merchant.country and label";

/// Whether a filter speaks of labels; `None` where it cannot be parsed, so that nobody can tell.
pub fn asks_for_label(text: &str) -> Option<bool> {
    let is_label = |beside: &Beside| matches!(beside, Beside::Label);
    let condition = parse::parse(text).ok()?;
    Some(first_in([&condition], &is_label).is_some())
}

/// The names that a filter may use of an aggregate by these keys, which counts labels or not.
pub fn scope(by: Option<Keys>, counts_label: bool) -> Scope {
    let mut variables = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for entry in catalog::CATALOG {
        let names = entry.aliases.iter().chain([&entry.name]);
        let slot = match entry.name {
            "channel" => CHANNEL,
            "kind" => KIND,
            "merchant.mcc" => MCC,
            "merchant.country" => COUNTRY,
            _ => {
                refused.extend(names.map(|name| (*name, NOT_OF_EVENTS)));
                continue;
            }
        };
        let form = match slot {
            MCC => Form::Mcc,
            COUNTRY => Form::Country,
            _ => Form::Words(entry.words),
        };
        variables.extend(names.map(|name| (name.to_string(), Variable { slot, ty: Type::Text, form })));
    }
    let outcome = Variable { slot: OUTCOME, ty: Type::Text, form: Form::Words(OUTCOMES) };
    let for_credit = Variable { slot: DECLINED_FOR_CREDIT, ty: Type::Bool, form: Form::Open };
    variables.insert("outcome".into(), outcome);
    variables.insert("declined_for_credit".into(), for_credit);
    let [own, base] = AMOUNTS;
    let amount = Variable { slot: AMOUNT, ty: Type::Money, form: Form::Open };
    let crosses = by.is_some_and(Keys::cross_accounts);
    let (known, unknown, why) = match (crosses, counts_label) {
        (true, _) => (base, own, "currencies differ where accounts are crossed: use `amount_base`"),
        (false, true) => (base, own, "windows over labels are in the base currency: use `amount_base`"),
        (false, false) => {
            (own, base, "windows by card and account are in the account's currency: use `amount`")
        }
    };
    variables.insert(known.into(), amount);
    refused.remove(known);
    refused.insert(unknown, why);
    let label = Variable { slot: LABEL, ty: Type::Text, form: Form::Words(LABELS) };
    variables.insert(LABEL_NAME.into(), label);
    Scope { variables, refused, takes_no_lists: true, ..Scope::default() }
}

/// Compiles a checked filter, whose source says all of its meaning. Unknown counts as no.
pub fn compile(source: &str, condition: &Bool, sets: &Sets) -> Filter {
    let Parts { amounts, label, rest } = split(condition);
    let mut program = Program::new(sets);
    let condition = program.add(&rest);
    // A filter has no lists but those written into it.
    let lists = ListsInForce::default();
    // The rest has no money in it, so that the number of decimals does not matter.
    let mut filter = Filter::new(source, move |event: &Event| {
        let seen = Seen { lists: &lists, now: Timestamp(0) };
        program.evaluate(&condition, event, 0, &seen) == Truth::True
    });
    if let Some(range) = amounts {
        filter = filter.within(range);
    }
    if let Some(label) = label {
        filter = filter.labelled(label);
    }
    filter
}

/// A checked filter, taken apart.
struct Parts {
    amounts: Option<AmountRange>,
    label: Option<FraudLabel>,
    /// What the event itself is asked.
    rest: Bool,
}

fn split(condition: &Bool) -> Parts {
    let terms = match condition {
        Bool::All(terms) => terms.as_slice(),
        one => std::slice::from_ref(one),
    };
    let (mut amounts, mut label, mut rest) = (None::<AmountRange>, None, Vec::new());
    for term in terms {
        let compared = match term {
            Bool::CompareMoney(comparison, Money::Slot(AMOUNT), Money::Literal(literal)) => {
                Some((*comparison, *literal))
            }
            Bool::CompareMoney(comparison, Money::Literal(literal), Money::Slot(AMOUNT)) => {
                Some((comparison.mirrored(), *literal))
            }
            Bool::CompareText(Comparison::Equal, Text::Slot(LABEL), Text::Const(word))
            | Bool::CompareText(Comparison::Equal, Text::Const(word), Text::Slot(LABEL)) => {
                label = FraudLabel::ALL.into_iter().find(|label| label.name() == word);
                continue;
            }
            _ => None,
        };
        match compared {
            Some((comparison, literal)) => {
                let new = AmountRange::new(money_ranges(comparison, literal));
                amounts = Some(amounts.map_or(new, |amounts| amounts.and(new)));
            }
            None => rest.push(term.clone()),
        }
    }
    let rest = match rest.len() {
        0 => Bool::Const(true),
        1 => rest.remove(0),
        _ => Bool::All(rest),
    };
    Parts { amounts, label, rest }
}

/// What is asked beside the event itself, and so in certain places only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beside {
    Amount,
    Label,
}

impl Beside {
    fn of(expr: &Expr) -> Option<Beside> {
        match &expr.kind {
            ExprKind::Name(name) if AMOUNTS.contains(&name.as_str()) => Some(Beside::Amount),
            ExprKind::Name(name) if name == LABEL_NAME => Some(Beside::Label),
            _ => None,
        }
    }
}

/// A term, one of those that `&&` joins, which asks for something in a place that [`split`] does not understand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misplaced {
    pub beside: Beside,
    /// Of the first such name in it, in bytes of the expression.
    pub span: Range<usize>,
    /// Of the whole term.
    pub term: Range<usize>,
}

/// The terms with an amount or a label in a place that [`split`] does not understand, and every label but the first.
pub fn misplaced(expr: &Expr) -> Vec<Misplaced> {
    let (mut labels, mut found) = (0, Vec::new());
    misplaced_in(expr, &mut labels, &mut found);
    found
}

fn misplaced_in(expr: &Expr, labels: &mut usize, found: &mut Vec<Misplaced>) {
    use Operator::{Equal, Greater, GreaterEqual, Less, LessEqual};
    fn is_number(expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Int(_) | ExprKind::Float(..) => true,
            ExprKind::Neg(inner) => is_number(inner),
            _ => false,
        }
    }
    let is_text = |expr: &Expr| matches!(&expr.kind, ExprKind::Text(_));
    let is_right = match &expr.kind {
        ExprKind::Binary(Operator::And, left, right) => {
            misplaced_in(left, labels, found);
            misplaced_in(right, labels, found);
            return;
        }
        ExprKind::Binary(operator, left, right) => {
            let compared = match (Beside::of(left), Beside::of(right)) {
                (Some(beside), None) => Some((beside, right)),
                (None, Some(beside)) => Some((beside, left)),
                _ => None,
            };
            match compared {
                Some((Beside::Amount, other)) => {
                    matches!(operator, Less | LessEqual | Greater | GreaterEqual | Equal) && is_number(other)
                }
                Some((Beside::Label, other)) => {
                    *labels += 1;
                    *operator == Equal && is_text(other) && *labels == 1
                }
                None => false,
            }
        }
        _ => false,
    };
    if !is_right && let Some((beside, span)) = first_of([expr]) {
        found.push(Misplaced { beside, span, term: expr.span.clone() });
    }
}

/// The first amount or label anywhere in these.
fn first_of<'e>(parts: impl IntoIterator<Item = &'e Expr>) -> Option<(Beside, Range<usize>)> {
    first_in(parts, &|_| true)
}

/// The first of those that are wanted.
fn first_in<'e>(
    parts: impl IntoIterator<Item = &'e Expr>,
    is_wanted: &dyn Fn(&Beside) -> bool,
) -> Option<(Beside, Range<usize>)> {
    parts.into_iter().find_map(|part| match &part.kind {
        ExprKind::Name(_) => Beside::of(part).filter(is_wanted).map(|beside| (beside, part.span.clone())),
        ExprKind::Not(inner) | ExprKind::Neg(inner) => first_in([&**inner], is_wanted),
        ExprKind::Binary(_, left, right) => first_in([&**left, &**right], is_wanted),
        ExprKind::Conditional(condition, then, otherwise) => {
            first_in([&**condition, &**then, &**otherwise], is_wanted)
        }
        ExprKind::List(items) => first_in(items, is_wanted),
        ExprKind::Call { receiver, arguments, .. } => {
            let receiver = receiver.as_deref().and_then(|receiver| first_in([receiver], is_wanted));
            receiver.or_else(|| first_in(arguments, is_wanted))
        }
        ExprKind::Bool(_) | ExprKind::Int(_) | ExprKind::Float(..) | ExprKind::Text(_) | ExprKind::Wrong => {
            None
        }
    })
}

impl Source for Event {
    fn has(&self, slot: Slot) -> bool {
        self.text(slot).is_some() || self.bool(slot).is_some()
    }

    fn int(&self, _slot: Slot) -> Option<i64> {
        None
    }

    fn float(&self, _slot: Slot) -> Option<f64> {
        None
    }

    fn bool(&self, slot: Slot) -> Option<bool> {
        (slot == DECLINED_FOR_CREDIT).then_some(self.declined_for_credit)
    }

    fn text(&self, slot: Slot) -> Option<&str> {
        match slot {
            OUTCOME => Some(match self.decision {
                Decision::Approved | Decision::PartiallyApproved => "approved",
                Decision::Declined => "declined",
                Decision::StepUp => "step_up",
            }),
            CHANNEL => word("channel", self.channel?.number()),
            KIND => word("kind", self.kind.number()),
            MCC => four_digits(self.mcc?),
            COUNTRY => self.country.as_ref().map(|country| country.as_str()),
            _ => None,
        }
    }
}

/// The word of the catalogue for a number of the wire; the words stand in the order of their numbers, from 1.
fn word(name: &str, number: u8) -> Option<&'static str> {
    let (_, entry) = catalog::lookup(name)?;
    entry.words.get(usize::from(number).checked_sub(1)?).copied()
}

/// A merchant category code as it is written. From a table, since a filter must not allocate.
fn four_digits(mcc: u16) -> Option<&'static str> {
    static DIGITS: [[u8; 4]; 10_000] = {
        let mut digits = [[b'0'; 4]; 10_000];
        let mut mcc = 0;
        while mcc < digits.len() {
            digits[mcc] = [
                b'0' + (mcc / 1_000) as u8,
                b'0' + (mcc / 100 % 10) as u8,
                b'0' + (mcc / 10 % 10) as u8,
                b'0' + (mcc % 10) as u8,
            ];
            mcc += 1;
        }
        digits
    };
    DIGITS.get(usize::from(mcc)).and_then(|digits| std::str::from_utf8(digits).ok())
}
