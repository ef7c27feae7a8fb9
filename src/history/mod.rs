//! Transactions and accounts as CSV, as the contract names their columns: read for replay, training and import,
//! written by the simulator.
//!
//! Plain or gzip, told by the first bytes; columns in any order. A row that cannot be read is an error with its
//! file, line, column and cause. [`Rows`] come in file order and one at a time; [`Survey`] looks through a file of
//! transactions and hands its rows out by time. What a repeated id means is for who reads them.

mod account;
#[cfg(test)]
pub(crate) mod documented;
mod list;
mod replay;
mod rows;
mod survey;
mod transaction;

pub use self::{
    account::write_accounts,
    replay::{Placed, Replay},
    rows::{BadRow, Row, Rows},
    survey::{Selection, Survey},
    transaction::write_transactions,
};

use crate::types::{
    auth::{AuthRequest, Place},
    codes::ResponseCode,
    ids::{AccountId, CardToken},
    money::Currency,
    time::Timestamp,
};

/// One row of `transactions.csv`.
#[derive(Clone, PartialEq, Debug)]
pub struct Transaction {
    /// With `transaction_time` set; its subject is the card where the row names one, else the account.
    pub request: AuthRequest,
    pub account: AccountId,
    /// Absent: the account's one card.
    pub card: Option<CardToken>,
    /// What it is billed in, which a balance inquiry has too.
    pub currency: Currency,
    /// Where the cardholder lives.
    pub home: Option<Place>,
    pub outcome: Option<PastOutcome>,
    pub label: Option<Label>,
}

/// What history did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastOutcome {
    pub approved: bool,
    pub response_code: Option<ResponseCode>,
}

/// What a transaction turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    pub is_fraud: bool,
    /// When it became known; absent where the file does not say.
    pub labelled_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
