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
        codes::{Channel, Decision, Kind},
        time::Timestamp,
    },
};

const PLACE_NONE: u32 = (1 << LATITUDE_BITS) - 1;
const LATITUDE_BITS: u32 = 19;
const LONGITUDE_BITS: u32 = 20;
const COUNTRY_BITS: u32 = 10;
const MCC_BITS: u32 = 14;
const CHANNEL_MASK: u8 = 0b11;
const FOR_CREDIT: u8 = 0b100;
const KIND_SHIFT: u32 = 3;
const DECISION_SHIFT: u32 = 6;

/// Number of a country, 1 to 676; 0 stands for none.
pub type CountryNumber = u16;
/// Number of a category code, the code and 1; 0 stands for none.
pub type MccNumber = u16;

/// Layout, from the lowest bit: `stamp` channel 2, declined for credit 1, kind 3, decision less one 2, card 8, time
/// 48 (signed);
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
const _: () = assert!(
    LATITUDE_BITS + LONGITUDE_BITS + COUNTRY_BITS + MCC_BITS <= 64
        && 26 * 26 < 1 << COUNTRY_BITS
        && 10_000 < 1 << MCC_BITS
);
const _: () = assert!(CARDS_PER_ACCOUNT_MAX <= 256);
const _: () = assert!(
    AMOUNT_MINOR_MAX.checked_mul(EVENTS_PER_KEY_MAX as i64 + 1).is_some(),
    "the amounts of a full ring cannot overflow an i64"
);

impl Compact {
    pub fn new(event: &Event, filters: u64) -> Compact {
        let channel = event.channel.map_or(0, Channel::number);
        let for_credit = if event.declined_for_credit { FOR_CREDIT } else { 0 };
        let time = event.time.0.clamp(-(1 << 47), (1 << 47) - 1);
        let flags = channel
            | for_credit
            | event.kind.number() << KIND_SHIFT
            | (event.decision.number() - 1) << DECISION_SHIFT;
        let low = u16::from_le_bytes([flags, event.card]);
        let (latitude, longitude) = event.place.map_or((PLACE_NONE, 0), place_cell);
        let spot = u64::from(mcc_number(event.mcc))
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

    /// Bytes of the stored form.
    pub const BYTES: usize = 32;

    /// `stamp`, amount, `spot`, merchant and device, little-endian. The filters are not part of it.
    pub fn to_bytes(self) -> [u8; Compact::BYTES] {
        let mut bytes = [0; Compact::BYTES];
        bytes[..8].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.amount_minor.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.spot.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.merchant.to_le_bytes());
        bytes[28..].copy_from_slice(&self.device.to_le_bytes());
        bytes
    }

    /// The same backwards; passes no filter, and may be none that [`Compact::new`] makes.
    pub fn from_bytes(bytes: [u8; Compact::BYTES]) -> Compact {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Compact {
            stamp: word(0) as i64,
            amount_minor: word(8) as i64,
            filters: 0,
            spot: word(16),
            merchant: word(24) as u32,
            device: (word(24) >> 32) as u32,
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
        self.decision_number() == Decision::Declined.number() && self.stamp as u8 & FOR_CREDIT == 0
    }

    #[inline]
    fn decision_number(&self) -> u8 {
        (self.stamp as u8 >> DECISION_SHIFT) + 1
    }

    /// The event again, as far as it was kept: with sequence 0 and folded hashes. `None` where the bits are none
    /// that [`Compact::new`] makes.
    pub fn event(&self) -> Option<Event> {
        let country = match self.country() {
            0 => None,
            number => {
                let letter = |number: u16| b'A' + number as u8;
                let letters = [letter((number - 1) / 26), letter((number - 1) % 26)];
                Some(std::str::from_utf8(&letters).ok().and_then(Country::new)?)
            }
        };
        let channel = match self.channel() {
            0 => None,
            number => Some(Channel::from_number(number)?),
        };
        let hash = |folded: u32| (folded != 0).then_some(u64::from(folded));
        Some(Event {
            time: self.time(),
            sequence: 0,
            card: self.card(),
            kind: Kind::from_number(self.stamp as u8 >> KIND_SHIFT & 0b111)?,
            decision: Decision::from_number(self.decision_number())?,
            declined_for_credit: self.stamp as u8 & FOR_CREDIT != 0,
            amount_minor: self.amount_minor,
            channel,
            mcc: self.mcc_number().checked_sub(1),
            country,
            merchant: hash(self.merchant),
            device: hash(self.device),
            place: self.place(),
        })
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
    pub fn mcc_number(&self) -> MccNumber {
        (self.spot & ((1 << MCC_BITS) - 1)) as MccNumber
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

/// The number that stands for a category code in a compact event; a code above 9999 counts as none.
pub fn mcc_number(mcc: Option<u16>) -> MccNumber {
    mcc.filter(|mcc| *mcc <= 9_999).map_or(0, |mcc| mcc + 1)
}

/// 32 bits of a hash, never 0; 0 where there is none.
pub fn fold_hash(hash: Option<u64>) -> u32 {
    hash.map_or(0, |hash| ((hash >> 32) as u32 ^ hash as u32).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((compact.mcc_number(), compact.country()), (10_000, 676));
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
        assert_eq!((compact.mcc_number(), compact.country(), compact.place()), (0, 0, None));
        assert_eq!((compact.merchant, compact.device), (0, 0));
        assert!(!compact.is_fraud_decline());
    }

    #[test]
    fn an_event_taken_out_and_put_in_again_is_the_same() {
        let bare = Event { channel: None, mcc: None, country: None, merchant: None, place: None, ..event() };
        for event in [event(), bare] {
            let kept = Compact::new(&event, 5);
            let again = Compact::new(&kept.event().unwrap(), 5);
            assert_eq!(format!("{again:?}"), format!("{kept:?}"));
        }
        for kind in Kind::ALL {
            for decision in Decision::ALL {
                let event = Event { kind: *kind, decision: *decision, ..event() };
                let kept = Compact::new(&event, 0).event().unwrap();
                assert_eq!((kept.kind, kept.decision), (*kind, *decision));
            }
        }
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
