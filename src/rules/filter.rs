//! `where` of an aggregate: a condition over what is known of one past event. The same language as in rules, with
//! names of its own, asked once when the event is recorded.
//!
//! Not built yet: filters over amounts (an event does not carry its currency) and over labels.

use std::collections::BTreeMap;

use super::{
    check::{Form, Scope, Sets, Variable},
    lists::ListsInForce,
    program::{Program, Seen, Source, Truth},
    typed::Bool,
};
use crate::{
    features::{
        aggregate::Filter,
        catalog::{self, Type},
        event::Event,
        values::Slot,
    },
    types::{codes::Decision, time::Timestamp},
};

const OUTCOME: Slot = 0;
const CHANNEL: Slot = 1;
const KIND: Slot = 2;
const MCC: Slot = 3;
const COUNTRY: Slot = 4;
const DECLINED_FOR_CREDIT: Slot = 5;

const OUTCOMES: &[&str] = &["approved", "declined", "step_up"];
const NOT_OF_EVENTS: &str = "a past event has outcome, declined_for_credit, channel, kind, merchant.mcc and \
                             merchant.country";

/// The names that a filter may use.
pub fn scope() -> Scope {
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
    refused.insert("amount", "filters over amounts are not built yet");
    refused.insert("amount_base", "filters over amounts are not built yet");
    refused.insert("label", "filters over labels are not built yet");
    Scope { variables, refused, ..Scope::default() }
}

/// Compiles a checked filter, whose source says all of its meaning. Unknown counts as no.
pub fn compile(source: &str, condition: &Bool, sets: &Sets) -> Filter {
    let mut program = Program::new(sets);
    let condition = program.add(condition);
    // A filter has no lists but those written into it.
    let lists = ListsInForce::default();
    // No name of a filter is money, so that the number of decimals does not matter.
    Filter::new(source, move |event: &Event| {
        let seen = Seen { lists: &lists, now: Timestamp(0) };
        program.evaluate(&condition, event, 0, &seen) == Truth::True
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
