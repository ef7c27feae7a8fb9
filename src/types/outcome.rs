//! The other calls that change state, and their answer.

use super::{
    account::AccountChange,
    codes::{AccountStatus, CardStatus, ResponseCode},
    ids::{AccountId, CardToken, RequestKey},
    money::Money,
    reasons::Reasons,
};

/// Frees what an authorisation still holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Reversal {
    pub key: RequestKey,
    pub original: RequestKey,
    /// What stays held; `None` frees all.
    pub replacement: Option<Money>,
}

/// A change to an account or a card ordered by its owner's systems.
#[derive(Clone, PartialEq, Debug)]
pub enum Maintenance {
    SetAccountStatus { key: RequestKey, account: AccountId, status: AccountStatus },
    SetCardStatus { key: RequestKey, card: CardToken, status: CardStatus },
    SetCreditLimit { key: RequestKey, account: AccountId, limit_minor: i64 },
    Upsert { key: RequestKey, change: AccountChange },
}

impl Maintenance {
    pub fn key(&self) -> RequestKey {
        match self {
            Maintenance::SetAccountStatus { key, .. }
            | Maintenance::SetCardStatus { key, .. }
            | Maintenance::SetCreditLimit { key, .. }
            | Maintenance::Upsert { key, .. } => *key,
        }
    }
}

/// The stored answer to any of these.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub response_code: ResponseCode,
    /// What was freed, posted or paid; absent where no account is known.
    pub moved: Option<Money>,
    pub available: Option<Money>,
    pub reasons: Reasons,
    pub position: u64,
    /// Upserts only: what the row did.
    pub upserted: Option<Upserted>,
}

/// What an upsert did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upserted {
    Opened,
    Changed,
    Unchanged,
}
