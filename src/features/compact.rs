//! A past event as a window keeps it: 40 bytes, since the ring of events is most of what an account costs.
//!
//! The layout is private to this file. What is rounded: the place to 40 m, the ids to 32 bits of their hash (two of
//! 60 merchants share one with a probability of 4 in 10 million). Time and amount are exact. The sequence is
//! absent: events are recorded in the order of their sequence, so the ring's own order stands for it.

use super::event::Event;
use crate::{
    limits::{AMOUNT_MINOR_MAX, CARDS_PER_ACCOUNT_MAX, EVENTS_PER_KEY_MAX},
    types::{
        auth::{Country, Place},
        codes::{Channel, Decision},
        time::Timestamp,
    },
};

const PLACE_NONE: u32 = (1 << LATITUDE_BITS) - 1;
const LATITUDE_BITS: u32 = 19;
const LONGITUDE_BITS: u32 = 20;
const COUNTRY_BITS: u32 = 10;
const MCC_BITS: u32 = 14;
const MCC_NONE: u16 = (1 << MCC_BITS) - 1;
const CHANNEL_MASK: u8 = 0b11;
const FRAUD_DECLINE: u8 = 0b100;

/// Number of a country, 1 to 676; 0 stands for none.
pub type CountryNumber = u16;

/// Layout, from the lowest bit: `stamp` channel 2, fraud-like decline 1, unused 5, card 8, time 48 (signed);
/// `spot` mcc 14, country 10, longitude 20, latitude 19, unused 1.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    stamp: i64,
    amount_minor: i64,
    /// One bit per declared filter that the event passes.
    pub filters: u64,
    spot: u64,
    /// Folded hash; 0 where there is none.
    pub merchant: u32,
    pub device: u32,
}

const _: () = assert!(size_of::<Compact>() == 40);
const _: () =
    assert!(LATITUDE_BITS + LONGITUDE_BITS + COUNTRY_BITS + MCC_BITS <= 64 && 26 * 26 < 1 << COUNTRY_BITS);
const _: () = assert!(CARDS_PER_ACCOUNT_MAX <= 256);
const _: () = assert!(
    AMOUNT_MINOR_MAX.checked_mul(EVENTS_PER_KEY_MAX as i64 + 1).is_some(),
    "the amounts of a full ring cannot overflow an i64"
);

impl Compact {
    pub fn new(event: &Event, filters: u64) -> Compact {
        let channel = event.channel.map_or(0, Channel::number);
        let fraud_decline = event.decision == Decision::Declined && !event.declined_for_credit;
        let time = event.time.0.clamp(-(1 << 47), (1 << 47) - 1);
        let low = u16::from(channel)
            | u16::from(fraud_decline) * u16::from(FRAUD_DECLINE)
            | u16::from(event.card) << 8;
        let (latitude, longitude) = event.place.map_or((PLACE_NONE, 0), place_cell);
        let mcc = event.mcc.filter(|mcc| *mcc < MCC_NONE).unwrap_or(MCC_NONE);
        let spot = u64::from(mcc)
            | u64::from(country_number(event.country)) << MCC_BITS
            | u64::from(longitude) << (MCC_BITS + COUNTRY_BITS)
            | u64::from(latitude) << (MCC_BITS + COUNTRY_BITS + LONGITUDE_BITS);
        Compact {
            stamp: time << 16 | i64::from(low),
            amount_minor: event.amount_minor.clamp(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX),
            filters,
            spot,
            merchant: fold_hash(event.merchant),
            device: fold_hash(event.device),
        }
    }

    #[inline]
    pub fn time_ms(&self) -> i64 {
        self.stamp >> 16
    }

    pub fn time(&self) -> Timestamp {
        Timestamp(self.time_ms())
    }

    #[inline]
    pub fn card(&self) -> u8 {
        (self.stamp >> 8) as u8
    }

    /// In the minor units of the account's currency, at most [`AMOUNT_MINOR_MAX`] either way.
    #[inline]
    pub fn amount_minor(&self) -> i64 {
        self.amount_minor
    }

    /// Declined, and not for want of credit alone.
    #[inline]
    pub fn is_fraud_decline(&self) -> bool {
        self.stamp as u8 & FRAUD_DECLINE != 0
    }

    /// Number of the channel; 0 where there is none.
    #[inline]
    pub fn channel(&self) -> u8 {
        self.stamp as u8 & CHANNEL_MASK
    }

    #[inline]
    pub fn is_ecommerce(&self) -> bool {
        self.channel() == Channel::Ecommerce.number()
    }

    #[inline]
    pub fn mcc(&self) -> Option<u16> {
        let mcc = (self.spot & ((1 << MCC_BITS) - 1)) as u16;
        (mcc != MCC_NONE).then_some(mcc)
    }

    #[inline]
    pub fn country(&self) -> CountryNumber {
        (self.spot >> MCC_BITS & ((1 << COUNTRY_BITS) - 1)) as CountryNumber
    }

    /// The middle of the cell the place was rounded to.
    pub fn place(&self) -> Option<Place> {
        let cell = self.spot >> (MCC_BITS + COUNTRY_BITS);
        let longitude = cell & ((1 << LONGITUDE_BITS) - 1);
        let latitude = cell >> LONGITUDE_BITS;
        if latitude == u64::from(PLACE_NONE) {
            return None;
        }
        Some(Place {
            latitude: latitude as f64 * LATITUDE_STEP - 90.0,
            longitude: longitude as f64 * LONGITUDE_STEP - 180.0,
        })
    }
}

/// The cells of a coordinate, such that its ends are cells of their own and the last latitude cell stays free.
const LATITUDE_STEP: f64 = 180.0 / ((1 << LATITUDE_BITS) - 2) as f64;
const LONGITUDE_STEP: f64 = 360.0 / ((1 << LONGITUDE_BITS) - 1) as f64;

fn place_cell(place: Place) -> (u32, u32) {
    let latitude = ((place.latitude + 90.0) / LATITUDE_STEP).round() as u32;
    let longitude = ((place.longitude + 180.0) / LONGITUDE_STEP).round() as u32;
    (latitude.min(PLACE_NONE - 1), longitude.min((1 << LONGITUDE_BITS) - 1))
}

/// The number that stands for a country in a compact event.
pub fn country_number(country: Option<Country>) -> CountryNumber {
    let letter = |byte: u8| u16::from(byte - b'A');
    country.map_or(0, |country| {
        let [first, second] = country.as_str().as_bytes() else { return 0 };
        letter(*first) * 26 + letter(*second) + 1
    })
}

/// 32 bits of a hash, never 0; 0 where there is none.
pub fn fold_hash(hash: Option<u64>) -> u32 {
    hash.map_or(0, |hash| ((hash >> 32) as u32 ^ hash as u32).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codes::Kind;

    fn event() -> Event {
        Event {
            time: Timestamp(1_700_000_000_123),
            sequence: 7,
            card: 31,
            kind: Kind::Purchase,
            decision: Decision::Declined,
            declined_for_credit: false,
            amount_minor: AMOUNT_MINOR_MAX,
            channel: Some(Channel::CardPresent),
            mcc: Some(9_999),
            country: Country::new("ZZ"),
            merchant: Some(u64::MAX),
            device: Some(0),
            place: Place::new(-90.0, 180.0),
        }
    }

    #[test]
    fn nothing_spills_into_its_neighbour_at_the_ends_of_the_ranges() {
        let compact = Compact::new(&event(), u64::MAX);
        assert_eq!(compact.time(), event().time);
        assert_eq!((compact.card(), compact.amount_minor()), (31, AMOUNT_MINOR_MAX));
        assert_eq!((compact.mcc(), compact.country()), (Some(9_999), 676));
        assert_eq!(compact.channel(), Channel::CardPresent.number());
        assert!(compact.is_fraud_decline() && !compact.is_ecommerce());
        assert_eq!(compact.place(), Place::new(-90.0, 180.0));
        assert!(compact.merchant != 0 && compact.device != 0, "a hash is never mistaken for none");

        let bare = Event {
            time: Timestamp(-1),
            card: 0,
            declined_for_credit: true,
            channel: None,
            mcc: None,
            country: None,
            merchant: None,
            device: None,
            place: None,
            ..event()
        };
        let compact = Compact::new(&bare, 0);
        assert_eq!((compact.time_ms(), compact.card(), compact.channel()), (-1, 0, 0));
        assert_eq!((compact.mcc(), compact.country(), compact.place()), (None, 0, None));
        assert_eq!((compact.merchant, compact.device), (0, 0));
        assert!(!compact.is_fraud_decline());
    }

    #[test]
    fn a_place_is_kept_to_forty_metres() {
        for (latitude, longitude) in
            [(90.0, -180.0), (0.0, 0.0), (48.858_37, 2.294_48), (-33.856_78, 151.215_3)]
        {
            let place = Place::new(latitude, longitude).unwrap();
            let kept = Compact::new(&Event { place: Some(place), ..event() }, 0).place().unwrap();
            assert!(super::super::geo::distance_km(place, kept) < 0.04, "{place:?} {kept:?}");
        }
    }
}
