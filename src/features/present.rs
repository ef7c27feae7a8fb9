//! The present transaction in the terms in which past events are kept.

use super::{
    Moment,
    aggregate::Keys,
    compact::{CountryNumber, MccNumber, Shape, country_number, fold_hash, mcc_number},
    event::id_hash,
};
use crate::types::ids::Id;

/// What it may have in common with a past event of its account; 0 for a part that was not sent.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub card: u8,
    pub merchant: u32,
    pub device: u32,
    pub mcc: MccNumber,
    pub country: CountryNumber,
}

impl Present {
    pub fn of(moment: &Moment<'_>) -> Present {
        let merchant = &moment.request.merchant;
        let hashed = |id: Option<&Id>| fold_hash(id.map(|id| id_hash(id.as_str())));
        Present {
            card: moment.card,
            merchant: hashed(merchant.merchant_id.as_ref()),
            device: hashed(moment.request.device_id.as_ref()),
            mcc: mcc_number(merchant.mcc),
            country: country_number(merchant.country),
        }
    }

    /// Whether every part of `keys` that windows of an account know was sent.
    pub fn has(&self, keys: Keys) -> bool {
        let lacks = |key: Keys, is_none: bool| keys.has(key) && is_none;
        !(lacks(Keys::MERCHANT, self.merchant == 0)
            || lacks(Keys::DEVICE, self.device == 0)
            || lacks(Keys::MCC, self.mcc == 0)
            || lacks(Keys::COUNTRY, self.country == 0))
    }

    /// Whether an event of this shape has the same in every part of `keys`.
    pub fn is_alike(&self, shape: Shape, keys: Keys) -> bool {
        (!keys.has(Keys::MERCHANT) || shape.merchant == self.merchant)
            && (!keys.has(Keys::DEVICE) || shape.device == self.device)
            && (!keys.has(Keys::MCC) || shape.mcc_number() == self.mcc)
            && (!keys.has(Keys::COUNTRY) || shape.country() == self.country)
    }
}
