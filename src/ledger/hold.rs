//! One hold: what an approval keeps back until it is reversed, cleared or expires.

use crate::types::time::Timestamp;

/// A hold of one account. It is named by the journal position of the authorisation that placed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    pub position: u64,
    /// The position of the first authorisation of a chain of increments; its own where it has no original.
    pub first: u64,
    /// In the account's currency; above zero.
    pub amount_minor: i64,
    /// The hold no longer counts from this time on.
    pub expires_at: Timestamp,
    /// No increment prolongs its chain beyond this, so that the key of the first is remembered longer than the last.
    pub chain_until: Timestamp,
    /// True for a single message, whose amount counts as posted at once: the entry stays only so that a reversal
    /// finds what to give back.
    pub posted: bool,
}
