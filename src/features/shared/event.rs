//! One authorisation as everybody's windows see it: the parts that an aggregate may be kept by, and what is counted.

use crate::{
    features::{
        aggregate::{Attribute, Keys},
        compact::{country_number, fold_hash, mcc_number},
        event::{Event, id_hash},
    },
    limits::SHARED_AMOUNT_BASE_MINOR_MAX,
    types::{
        auth::{AuthRequest, Country, Subject},
        base::BaseCurrency,
        ids::AccountId,
        lists::FraudLabel,
    },
};

/// The parts of a request that keys are made of, hashed. A part that was not sent is missing, and so is every key it
/// belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// Whose it is, once that was looked up; windows over labels are kept by it.
    pub account: Option<u64>,
    /// `None` where no card is meant: of an account that has none, or several.
    pub card: Option<u64>,
    pub merchant: Option<u64>,
    pub terminal: Option<u64>,
    pub device: Option<u64>,
    pub ip: Option<u64>,
    pub mcc: Option<u16>,
    pub country: Option<Country>,
}

impl Parts {
    pub fn of(request: &AuthRequest) -> Parts {
        Parts {
            merchant: request.merchant.merchant_id.as_ref().map(|id| id_hash(id.as_str())),
            device: request.device_id.as_ref().map(|id| id_hash(id.as_str())),
            ..Parts::of_rest(request)
        }
    }

    /// All but merchant and device.
    fn of_rest(request: &AuthRequest) -> Parts {
        let merchant = &request.merchant;
        Parts {
            account: None,
            card: None,
            merchant: None,
            terminal: merchant.terminal_id.as_ref().map(|id| id_hash(id.as_str())),
            device: None,
            ip: request.ip_address.as_ref().map(|id| id_hash(id.as_str())),
            mcc: merchant.mcc,
            country: merchant.country,
        }
    }

    /// The same on an account, and on the card of this number among its windows, 0 for none. A card is known by its place
    /// in its account, however it was named.
    #[must_use]
    pub fn on(self, account: &str, card: u8) -> Parts {
        let account = id_hash(account);
        let card = (card != 0).then(|| mix(account, u64::from(card)));
        Parts { account: Some(account), card, ..self }
    }

    /// One hash for the values of several parts; `None` where one of them is missing. A terminal's id is its acquirer's
    /// and says nothing alone, so that it goes with its merchant's. Requests of an account that name no card count
    /// together, as they do in its own windows.
    pub fn key(&self, keys: Keys) -> Option<u64> {
        if keys == Keys::NONE {
            return None;
        }
        let number = |number: u16| (number != 0).then_some(u64::from(number));
        let mut key = u64::from(keys.bits());
        if keys.has(Keys::ACCOUNT) {
            key = mix(key, self.account?);
        }
        if keys.has(Keys::CARD) {
            key = mix(key, self.card.or(self.account)?);
        }
        if keys.has(Keys::MERCHANT) {
            key = mix(key, self.merchant?);
        }
        if keys.has(Keys::TERMINAL) {
            key = mix(key, mix(self.terminal?, self.merchant?));
        }
        if keys.has(Keys::DEVICE) {
            key = mix(key, self.device?);
        }
        if keys.has(Keys::IP) {
            key = mix(key, self.ip?);
        }
        if keys.has(Keys::MCC) {
            key = mix(key, number(mcc_number(self.mcc))?);
        }
        if keys.has(Keys::COUNTRY) {
            key = mix(key, number(country_number(self.country))?);
        }
        Some(key)
    }
}

/// One authorisation, decided, as everybody's windows count it.
#[derive(Clone, PartialEq, Debug)]
pub struct SharedEvent {
    pub parts: Parts,
    /// Its amount is in minor units of the base currency, at most [`SHARED_AMOUNT_BASE_MINOR_MAX`], and 0 where it
    /// cannot be told.
    pub event: Event,
    /// The label that has come for it; `None` for the authorisation itself.
    pub label: Option<FraudLabel>,
}

impl SharedEvent {
    /// `event` as an account's windows have it, on the account that was found, where one was.
    pub fn new(
        request: &AuthRequest,
        event: Event,
        base: &BaseCurrency,
        account: Option<&AccountId>,
    ) -> SharedEvent {
        let amount_minor = request.billed().and_then(|billed| base.minor_of(billed));
        let currency = amount_minor.map(|_| base.currency);
        let amount_minor = amount_minor.unwrap_or(0).clamp(0, SHARED_AMOUNT_BASE_MINOR_MAX);
        let event = Event { amount_minor, currency, ..event };
        // Merchant and device were hashed for the event.
        let parts = Parts { merchant: event.merchant, device: event.device, ..Parts::of_rest(request) };
        let parts = match (account, &request.subject) {
            (Some(account), _) => parts.on(account.as_str(), event.card),
            // Somebody who tries numbers that do not exist is counted by what was tried.
            (None, Subject::Account(tried)) => Parts { account: Some(id_hash(tried.as_str())), ..parts },
            (None, Subject::Card(tried)) => Parts { card: Some(id_hash(tried.as_str())), ..parts },
        };
        SharedEvent { parts, event, label: None }
    }

    /// A number of its own for every value of an attribute, folded to 32 bits; 0 where the event has none.
    pub fn attribute(&self, attribute: Attribute) -> u32 {
        let hash = match attribute {
            Attribute::Country => return u32::from(country_number(self.parts.country)),
            Attribute::Mcc => return u32::from(mcc_number(self.parts.mcc)),
            Attribute::Channel => return self.event.channel.map_or(0, |channel| u32::from(channel.number())),
            Attribute::Merchant => self.parts.merchant,
            Attribute::Device => self.parts.device,
            Attribute::Card => self.parts.card,
            Attribute::Account => self.parts.account,
            Attribute::Terminal => self.parts.terminal.zip(self.parts.merchant).map(|(t, m)| mix(t, m)),
            Attribute::Ip => self.parts.ip,
        };
        fold_hash(hash)
    }
}

/// Both in one: the finaliser of MurmurHash3 (Appleby) over the first and the second.
fn mix(first: u64, second: u64) -> u64 {
    let mut hash = first.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ second;
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}
