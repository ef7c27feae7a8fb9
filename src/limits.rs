//! Every capacity and bound in one place, so that they can be read together and check each other.
//!
//! What an operator may want to change is in [`crate::config`]; what stands here is part of the contract, of a
//! file format or of the memory the engine takes at start.

use crate::types::time::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Longest id or key, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Longest other text on the wire, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 256;
/// Largest amount on the wire, in minor units.
pub const AMOUNT_MINOR_MAX: i64 = 999_999_999_999_999;

/// Largest unary or stream message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Largest batch message, in bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Items in one batch.
pub const BATCH_ITEMS_MAX: usize = 1_024;
/// Items of one stream that may wait for their answer; beyond it flow control slows the sender.
pub const STREAM_IN_FLIGHT_MAX: usize = 4_096;
/// Rows of one upload of accounts that may wait for their answer.
pub const UPLOAD_IN_FLIGHT_MAX: usize = 1_024;
/// Refusals that the answer to one upload lists, so that it stays below the 4 MiB that clients accept by default.
pub const UPLOAD_REFUSALS_MAX: usize = 4_096;
/// Concurrent calls on one HTTP/2 connection.
pub const CONNECTION_STREAMS_MAX: u32 = 1_024;
/// Header list of one HTTP/2 request, in bytes.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// A transaction time further ahead than this is refused.
pub const TIME_AHEAD_MAX_MS: i64 = 24 * HOUR_MS;
/// A transaction time further off than this is answered and flagged.
pub const TIME_SKEW_FLAG_MS: i64 = 5 * MINUTE_MS;

/// Reasons in one answer; further ones are dropped from the end, the deciding one never.
pub const REASONS_MAX: usize = 12;
/// Contributions of the model shown with a decision.
pub const CONTRIBUTIONS_MAX: usize = 3;
/// Rules in one file.
pub const RULES_MAX: usize = 512;
/// Aggregates in one rules file.
pub const AGGREGATES_MAX: usize = 64;
/// Value slots of one decision: fields and features of the catalogue, then the aggregates.
pub const SLOTS_MAX: usize = 256;
/// Longest rule expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4_096;
/// Operators and brackets inside one another in a rule expression: bounds the stack that evaluating takes.
pub const EXPRESSION_NESTING_MAX: usize = 48;
/// Largest rules file, in bytes, the files of its lists included.
pub const RULES_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entities for which rules are suppressed in one rules file, counted for each rule.
pub const SUPPRESSIONS_MAX: usize = 10_000;
/// Values of one list in a rules file.
pub const LIST_VALUES_MAX: usize = 100_000;
/// Values of one list that calls have added or taken out.
pub const LIST_CHANGES_MAX: usize = 100_000;
/// Longest value of a list that a call may add, in bytes.
pub const LIST_VALUE_BYTES_MAX: usize = 64;
/// Values that one call may add and remove together: they fit into one record.
pub const LIST_UPDATE_VALUES_MAX: usize = 32;
/// Entries in one answer of a list that is read.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Label policies in one rules file.
pub const LABEL_POLICIES_MAX: usize = 16;
/// Transactions whose newest label is at hand for whoever asks about the decision; the oldest make way.
pub const LABELS_AT_HAND_MAX: usize = 262_144;
/// Largest estimated cost of one rule, in nanoseconds.
pub const RULE_COST_MAX_NS: u32 = 2_000;

/// Events kept exactly for one account and its cards; beyond it the oldest are summarised.
pub const EVENTS_PER_KEY_MAX: usize = 4_096;
/// Events kept exactly for one key that crosses accounts; beyond it the oldest are summarised.
pub const SHARED_EVENTS_PER_KEY_MAX: usize = 65_536;
/// Least that all windows over keys that cross accounts, and over labels, may take, in bytes.
pub const SHARED_BUDGET_BYTES_MIN: usize = 64 * 1024;
/// What one event counts for at most in windows that cross accounts, in minor units of the base currency.
pub const SHARED_AMOUNT_BASE_MINOR_MAX: i64 = 100_000_000_000_000;
/// Longest window of an aggregate.
pub const WINDOW_MAX_MS: i64 = 31 * DAY_MS;
/// How far back a late event (advice, clearing) may lie.
pub const LATENESS_MAX_MS: i64 = 7 * DAY_MS;

/// Longest model file, in bytes.
pub const MODEL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest message that brings a model, in bytes.
pub const MODEL_MESSAGE_BYTES_MAX: usize = MODEL_BYTES_MAX + MESSAGE_BYTES_MAX;
/// Trees of one model.
pub const MODEL_TREES_MAX: usize = 2_000;
/// Nodes of one tree of a model, leaves included.
pub const MODEL_TREE_NODES_MAX: usize = 8_192;
/// Splits between the root and a leaf of a model's tree.
pub const MODEL_DEPTH_MAX: usize = 24;
/// Most categories that one node of a model lists.
pub const MODEL_CATEGORIES_MAX: usize = 65_536;
/// Golden rows in one model file.
pub const MODEL_GOLDEN_ROWS_MAX: usize = 1_000;

/// Cards of one account.
pub const CARDS_PER_ACCOUNT_MAX: usize = 32;
/// Open holds of one account; at this number an authorisation that would add one is refused as overload.
pub const HOLDS_PER_ACCOUNT_MAX: usize = 4_096;
/// Posted amounts of one account that a reversal can still find; the oldest make way.
pub const POSTED_PER_ACCOUNT_MAX: usize = 1_024;

/// How long an answer is remembered.
pub const ANSWER_RETENTION_MS: i64 = 35 * DAY_MS;
/// Longest life of a hold.
pub const HOLD_LIFE_MAX_MS: i64 = 31 * DAY_MS;

/// Largest payload of one journal record, in bytes.
pub const RECORD_BYTES_MAX: usize = 12 * 1024;
/// Records between the decisions and the disk: the size of the journal's ring.
pub const RING_SLOTS: usize = 16 * 1024;
/// Of them, kept back for reversals, status changes and expiry when authorisations have filled the rest.
pub const RING_RESERVE: usize = 1_024;
/// Most of a segment that is kept for reversals, status changes and expiry while no next one is ready: some 30,000 of
/// them. A quarter of the segment where that is less.
pub const SEGMENT_RESERVE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const _: () =
    assert!(ANSWER_RETENTION_MS >= HOLD_LIFE_MAX_MS + DAY_MS, "an answer outlives its hold by a day");
const _: () = assert!(RING_SLOTS.is_power_of_two() && RING_RESERVE < RING_SLOTS / 2);
const _: () =
    assert!(STREAM_IN_FLIGHT_MAX + RING_RESERVE < RING_SLOTS, "one stream alone is slowed, not shed");
const _: () = assert!(UPLOAD_IN_FLIGHT_MAX + RING_RESERVE < RING_SLOTS, "one upload alone is never shed");
const _: () = assert!(BATCH_ITEMS_MAX + RING_RESERVE < RING_SLOTS, "one batch alone fits");
const _: () = assert!(
    SHARED_AMOUNT_BASE_MINOR_MAX.checked_mul(SHARED_EVENTS_PER_KEY_MAX as i64 + 1).is_some(),
    "the amounts of a full key cannot overflow an i64"
);
const _: () = assert!(AGGREGATES_MAX + 128 <= SLOTS_MAX, "the catalogue keeps at least 128 slots");
const _: () = assert!(WINDOW_MAX_MS >= HOLD_LIFE_MAX_MS && LATENESS_MAX_MS < WINDOW_MAX_MS);
const _: () = assert!(
    RECORD_BYTES_MAX
        >= LIST_UPDATE_VALUES_MAX * (LIST_VALUE_BYTES_MAX + TEXT_BYTES_MAX + 16) + 2 * ID_BYTES_MAX + 64,
    "a list update fits into a record"
);
const _: () = assert!(
    RECORD_BYTES_MAX
        >= LABEL_POLICIES_MAX * (LIST_VALUE_BYTES_MAX + ID_BYTES_MAX + 20)
            + 10 * (ID_BYTES_MAX + 2)
            + 2 * (TEXT_BYTES_MAX + 2)
            + REASONS_MAX * (ID_BYTES_MAX + TEXT_BYTES_MAX + 12)
            + 256,
    "a label fits into a record"
);
// The largest record: ids, texts, reasons with code and text, every slot, every rule that fired.
const _: () = assert!(
    RECORD_BYTES_MAX
        >= 12 * (ID_BYTES_MAX + 2)
            + 7 * (TEXT_BYTES_MAX + 2)
            + REASONS_MAX * (ID_BYTES_MAX + TEXT_BYTES_MAX + 12)
            + AGGREGATES_MAX * 11
            + 128 * 4
            + RULES_MAX * 2
            + 256
);
