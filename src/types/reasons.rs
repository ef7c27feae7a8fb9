//! Why a decision is what it is. Reasons of the engine itself are constants; rules bring their own, shared by
//! every answer that carries them.

use std::{fmt, ops::Deref, sync::Arc};

use arrayvec::{ArrayString, ArrayVec};

use super::codes::ReasonSource;
use crate::limits::REASONS_MAX;

/// A text that is part of the program, short, or shared; cloning one never allocates.
#[derive(Clone)]
pub enum Label {
    Static(&'static str),
    /// Twelve bytes, as the versions have: copied, so that answers on two cores do not share a count of owners.
    Short(ArrayString<12>),
    Shared(Arc<str>),
}

impl Label {
    /// Copied where it is short enough.
    pub fn new(text: &str) -> Label {
        match ArrayString::from(text) {
            Ok(short) => Label::Short(short),
            Err(_) => Label::Shared(text.into()),
        }
    }
}

const _: () = assert!(size_of::<Label>() == 24, "a short text takes no more room than a shared one");

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Label::Static(text) => text,
            Label::Short(text) => text,
            Label::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Label {
        Label::Static(text)
    }
}

impl From<Arc<str>> for Label {
    fn from(text: Arc<str>) -> Label {
        Label::Shared(text)
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Label) -> bool {
        **self == **other
    }
}

impl Eq for Label {}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// One reason of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Reason {
    /// Capitals and underscores.
    pub code: Label,
    pub source: ReasonSource,
    /// One sentence in English.
    pub text: Label,
    /// Model reasons: share of the margin in log-odds; 0 elsewhere.
    pub contribution: f32,
}

impl Reason {
    pub const fn engine(code: &'static str, source: ReasonSource, text: &'static str) -> Reason {
        Reason { code: Label::Static(code), source, text: Label::Static(text), contribution: 0.0 }
    }
}

/// The reasons of one answer, the deciding one first.
pub type Reasons = ArrayVec<Reason, REASONS_MAX>;

/// The engine's own reasons. Their codes are part of the contract.
pub mod engine {
    use super::{Reason, ReasonSource::*};

    pub const UNKNOWN_CARD: Reason = Reason::engine("UNKNOWN_CARD", Status, "No such card or account.");
    pub const REVERSED_BEFORE_ARRIVAL: Reason =
        Reason::engine("REVERSED_BEFORE_ARRIVAL", Status, "A reversal of this authorisation came first.");
    pub const DUPLICATE_KEY: Reason =
        Reason::engine("DUPLICATE_KEY", Status, "The key was used before with another body.");
    pub const ACCOUNT_CLOSED: Reason = Reason::engine("ACCOUNT_CLOSED", Status, "The account is closed.");
    pub const ACCOUNT_BLOCKED: Reason = Reason::engine("ACCOUNT_BLOCKED", Status, "The account is blocked.");
    pub const CARD_STOLEN: Reason = Reason::engine("CARD_STOLEN", Status, "The card was reported stolen.");
    pub const CARD_LOST: Reason = Reason::engine("CARD_LOST", Status, "The card was reported lost.");
    pub const CARD_CLOSED: Reason = Reason::engine("CARD_CLOSED", Status, "The card is closed.");
    pub const CARD_EXPIRED: Reason = Reason::engine("CARD_EXPIRED", Status, "The card has expired.");
    pub const CARD_BLOCKED: Reason = Reason::engine("CARD_BLOCKED", Status, "The card is blocked.");
    pub const WRONG_CURRENCY: Reason =
        Reason::engine("WRONG_CURRENCY", Status, "The amount is not in the account's currency.");
    pub const ORIGINAL_NOT_FOUND: Reason = Reason::engine(
        "ORIGINAL_NOT_FOUND",
        Status,
        "The original authorisation holds nothing on this account.",
    );
    pub const NOT_AN_AUTHORISATION: Reason = Reason::engine(
        "NOT_AN_AUTHORISATION",
        Status,
        "The original key belongs to a call that places no hold.",
    );

    pub const PIN_TRIES_EXCEEDED: Reason =
        Reason::engine("PIN_TRIES_EXCEEDED", Verification, "The PIN was entered wrongly too often.");
    pub const PIN_WRONG: Reason = Reason::engine("PIN_WRONG", Verification, "The PIN is wrong.");
    pub const CVV_MISMATCH: Reason =
        Reason::engine("CVV_MISMATCH", Verification, "The card verification value does not match.");
    pub const THREE_DS_FAILED: Reason =
        Reason::engine("THREE_DS_FAILED", Verification, "The 3-D Secure authentication failed.");

    pub const MODEL_SCORE: Reason =
        Reason::engine("MODEL_SCORE", Model, "The model's score is at or above the decline threshold.");

    pub const MODEL_CONTROL: Reason = Reason::engine(
        "MODEL_CONTROL",
        Model,
        "The model alone would decline; let through as one of the control share.",
    );

    pub const INSUFFICIENT_CREDIT: Reason =
        Reason::engine("INSUFFICIENT_CREDIT", Credit, "The amount is above the available credit.");
    pub const PARTIAL_APPROVAL: Reason =
        Reason::engine("PARTIAL_APPROVAL", Credit, "Only part of the amount was available.");

    pub const LIST_FULL: Reason = Reason::engine(
        "LIST_FULL",
        Engine,
        "A label policy names a list that has no room for one more value.",
    );
    pub const TIME_SKEW: Reason =
        Reason::engine("TIME_SKEW", Engine, "The transaction time is more than five minutes off.");
}
