//! What follows from a label: a policy of the rules file that puts the card, the device or the merchant of a labelled
//! transaction on a list.

use crate::types::{
    ids::Id,
    lists::{FraudLabel, ListEntry, TransactionIds},
    time::Timestamp,
};

/// One policy, checked: its list is declared and has texts.
#[derive(Clone, PartialEq, Debug)]
pub struct LabelPolicy {
    pub label: FraudLabel,
    /// Only labels of this kind; `None` is of any.
    pub kind: Option<Box<str>>,
    pub list: Box<str>,
    pub add: PolicyField,
    pub expires_in_ms: Option<i64>,
}

/// What of a transaction is put on a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyField {
    Card,
    Device,
    Ip,
    Merchant,
    Terminal,
}

impl PolicyField {
    pub const ALL: [PolicyField; 5] = [
        PolicyField::Card,
        PolicyField::Device,
        PolicyField::Ip,
        PolicyField::Merchant,
        PolicyField::Terminal,
    ];

    /// As rules call the field.
    pub fn name(self) -> &'static str {
        match self {
            PolicyField::Card => "card.token",
            PolicyField::Device => "device.id",
            PolicyField::Ip => "device.ip",
            PolicyField::Merchant => "merchant.id",
            PolicyField::Terminal => "merchant.terminal_id",
        }
    }

    pub fn of(self, ids: &TransactionIds) -> Option<Id> {
        match self {
            PolicyField::Card => ids.card,
            PolicyField::Device => ids.device,
            PolicyField::Ip => ids.ip,
            PolicyField::Merchant => ids.merchant,
            PolicyField::Terminal => ids.terminal,
        }
    }
}

impl LabelPolicy {
    /// What the policy puts on its list for a label given at `now`; `None` where it says nothing of such a label, or the
    /// transaction has no such id.
    pub fn entry(
        &self,
        (label, kind): (FraudLabel, &str),
        ids: &TransactionIds,
        source: &str,
        now: Timestamp,
    ) -> Option<ListEntry> {
        let applies = self.label == label && self.kind.as_deref().is_none_or(|own| own == kind);
        let id = self.add.of(ids).filter(|_| applies)?;
        Some(ListEntry {
            value: id.as_str().into(),
            expires_at: self.expires_in_ms.map(|ms| now.plus_ms(ms)),
            source: source.into(),
        })
    }
}
