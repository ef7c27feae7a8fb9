//! Lists as calls change them, and labels of transactions, which may change lists too.

use super::{
    ids::{Id, RequestKey},
    time::Timestamp,
};

/// What the values of a list are. A whole number is written in decimal digits wherever a value is a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ListKind {
    Texts = 1,
    Ints = 2,
}

impl ListKind {
    pub fn from_number(number: u8) -> Option<ListKind> {
        match number {
            1 => Some(ListKind::Texts),
            2 => Some(ListKind::Ints),
            _ => None,
        }
    }

    /// The value as a list of this kind holds it; `None` where it can hold no such value.
    pub fn admit(self, value: &str) -> Option<Box<str>> {
        match self {
            ListKind::Texts => Some(value.into()),
            ListKind::Ints => value.parse::<i64>().ok().map(|int| int.to_string().into()),
        }
    }
}

/// A value of a list, with when it ends and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListEntry {
    pub value: Box<str>,
    /// It is on the list while the time is before this; `None` is for ever.
    pub expires_at: Option<Timestamp>,
    /// Empty where nobody said.
    pub source: Box<str>,
}

/// A change to one list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListUpdate {
    pub key: RequestKey,
    pub list: Box<str>,
    pub add: Vec<ListEntry>,
    pub remove: Vec<Box<str>>,
}

/// What somebody found a transaction to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FraudLabel {
    Fraud = 1,
    Genuine = 2,
}

impl FraudLabel {
    pub const ALL: [FraudLabel; 2] = [FraudLabel::Fraud, FraudLabel::Genuine];

    pub fn from_number(number: u8) -> Option<FraudLabel> {
        FraudLabel::ALL.into_iter().find(|label| label.number() == number)
    }

    pub fn number(self) -> u8 {
        self as u8
    }

    /// As rules files and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            FraudLabel::Fraud => "fraud",
            FraudLabel::Genuine => "genuine",
        }
    }
}

/// A label for a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Labelling {
    pub key: RequestKey,
    /// The key of its authorisation.
    pub transaction: RequestKey,
    pub label: FraudLabel,
    /// Such as `stolen`; empty where nobody said.
    pub kind: Box<str>,
    pub source: Box<str>,
    /// When it came out, as the source has it.
    pub occurred_at: Option<Timestamp>,
}

/// The ids of a transaction that a label may put on a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransactionIds {
    pub card: Option<Id>,
    pub merchant: Option<Id>,
    pub terminal: Option<Id>,
    pub device: Option<Id>,
    pub ip: Option<Id>,
}

/// What a label put on a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    pub list: Box<str>,
    pub entry: ListEntry,
}

/// The answer to a change of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListOutcome {
    /// Values on the list from then on, those of the rules file included.
    pub values: u64,
    pub position: u64,
}
