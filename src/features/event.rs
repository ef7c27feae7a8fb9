//! What a window remembers of one past authorisation.

use crate::types::{
    auth::{Country, Place},
    codes::{Channel, Decision, Kind},
    time::Timestamp,
};

/// One past authorisation attempt on an account. A repeat is not an event, nor is a balance inquiry.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub time: Timestamp,
    /// Journal sequence of its record; orders events of equal time.
    pub sequence: u64,
    /// Place of the card in its account.
    pub card: u8,
    pub kind: Kind,
    pub decision: Decision,
    /// Declined for want of credit alone: not a sign of fraud probing.
    pub declined_for_credit: bool,
    /// What was asked for, in minor units of the account's currency.
    pub amount_minor: i64,
    pub channel: Option<Channel>,
    pub mcc: Option<u16>,
    pub country: Option<Country>,
    /// Fixed (unseeded) 64-bit hash of the merchant id.
    pub merchant: Option<u64>,
    /// Fixed 64-bit hash of the device id.
    pub device: Option<u64>,
    pub place: Option<Place>,
}
