//! Accounts, cards and holds, and their life cycle, as plain values: whoever calls holds the account's lock and
//! says what time it is.
//!
//! `available = credit_limit - posted - sum of active holds`. No method here approves anything; none fails, blocks
//! or panics once its inputs were checked, because all of them run between a decision and its record.

pub mod account;
pub mod audit;
pub mod hold;

pub use account::{Account, Card};
pub use hold::Hold;
