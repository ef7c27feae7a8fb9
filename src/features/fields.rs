//! The fields that rules read from the request and the account as they are, and the features of the present
//! transaction alone. Texts are borrowed, or are words of the program: filling allocates nothing.

use crate::types::codes::{Channel, CheckResult, EntryMode, Initiation, Kind};

/// The words for [`Kind`], in the order of its numbers.
pub const KINDS: [&str; Kind::ALL.len()] = [
    "purchase",
    "pre_authorisation",
    "incremental",
    "cash_advance",
    "account_verification",
    "balance_inquiry",
];
/// The words for [`Channel`].
pub const CHANNELS: [&str; Channel::ALL.len()] = ["ecommerce", "card_present"];
/// The words for [`EntryMode`].
pub const ENTRY_MODES: [&str; EntryMode::ALL.len()] =
    ["chip", "contactless", "magnetic_stripe", "manual", "credential_on_file", "ecommerce"];
/// The words for [`Initiation`].
pub const INITIATIONS: [&str; Initiation::ALL.len()] = ["cardholder", "merchant", "recurring"];
/// The words for [`CheckResult`].
pub const CHECK_RESULTS: [&str; CheckResult::ALL.len()] =
    ["match", "no_match", "not_checked", "tries_exceeded"];
