//! A past event as it is remembered: when, how much, and a [`Shape`], which is all the rest. The events of an account
//! share few shapes, so that windows keep each shape once.
//!
//! What is rounded: the place to 40 m, the ids to 32 bits of their hash (two of 60 merchants share one with a
//! probability of 4 in 10 million). Time and amount are exact. The sequence is absent: events are recorded in the
//! order of their sequence, so the ring's own order stands for it.

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
const MCC_BITS: u32 = 14;
const COUNTRY_BITS: u32 = 10;
const CHANNEL_BITS: u32 = 2;
const CARD_BITS: u32 = 6;
const KIND_BITS: u32 = 3;
const DECISION_BITS: u32 = 2;

/// Number of a country, 1 to 676; 0 stands for none.
pub type CountryNumber = u16;
/// Number of a category code, the code and 1; 0 stands for none.
pub type MccNumber = u16;

/// Everything that is kept of an event but its time and amount.
///
/// Layout, from the lowest bit: `merchant` and `device` folded hash 32 each, 0 where there is none; `category` mcc 14,
/// country 10, channel 2, card 6; `rest` longitude 20, latitude 19, kind 3, decision less one 2, declined for credit 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub merchant: u32,
    pub device: u32,
    pub category: u32,
    pub rest: u64,
}

/// Bits of [`Shape::rest`] that are used.
pub const SHAPE_REST_BITS: u32 = PLACE_BITS + KIND_BITS + DECISION_BITS + 1;
/// The lowest bits of [`Shape::rest`], which say where.
pub const PLACE_BITS: u32 = LONGITUDE_BITS + LATITUDE_BITS;
/// What they hold where there is no place: every bit of the latitude, which no place has.
pub const NO_PLACE: u64 = (PLACE_NONE as u64) << LONGITUDE_BITS;
const KIND_SHIFT: u32 = PLACE_BITS;
const DECISION_SHIFT: u32 = KIND_SHIFT + KIND_BITS;
const FOR_CREDIT_SHIFT: u32 = DECISION_SHIFT + DECISION_BITS;
const COUNTRY_SHIFT: u32 = MCC_BITS;
const CHANNEL_SHIFT: u32 = COUNTRY_SHIFT + COUNTRY_BITS;
const CARD_SHIFT: u32 = CHANNEL_SHIFT + CHANNEL_BITS;

/// The parts of [`Shape::category`].
pub const MCC_MASK: u32 = (1 << MCC_BITS) - 1;
pub const COUNTRY_MASK: u32 = ((1 << COUNTRY_BITS) - 1) << COUNTRY_SHIFT;
pub const CHANNEL_MASK: u32 = ((1 << CHANNEL_BITS) - 1) << CHANNEL_SHIFT;
pub const CARD_MASK: u32 = ((1 << CARD_BITS) - 1) << CARD_SHIFT;

const _: () = assert!(CARD_SHIFT + CARD_BITS == 32 && 26 * 26 < 1 << COUNTRY_BITS && 10_000 < 1 << MCC_BITS);
const _: () = assert!(CARDS_PER_ACCOUNT_MAX < 1 << CARD_BITS, "every card and the place of none");
const _: () = assert!(
    AMOUNT_MINOR_MAX.checked_mul(EVENTS_PER_KEY_MAX as i64 + 1).is_some(),
    "the amounts of a full ring cannot overflow an i64"
);

/// A [`Shape::category`] of its parts, the channel by its number.
pub fn category(mcc: MccNumber, country: CountryNumber, channel: u8, card: u8) -> u32 {
    u32::from(mcc)
        | u32::from(country) << COUNTRY_SHIFT
        | u32::from(channel) << CHANNEL_SHIFT
        | u32::from(card) << CARD_SHIFT
}

impl Shape {
    pub fn new(event: &Event) -> Shape {
        let (latitude, longitude) = event.place.map_or((PLACE_NONE, 0), place_cell);
        let channel = event.channel.map_or(0, Channel::number);
        Shape {
            merchant: fold_hash(event.merchant),
            device: fold_hash(event.device),
            category: category(mcc_number(event.mcc), country_number(event.country), channel, event.card),
            rest: u64::from(longitude)
                | u64::from(latitude) << LONGITUDE_BITS
                | u64::from(event.kind.number()) << KIND_SHIFT
                | u64::from(event.decision.number() - 1) << DECISION_SHIFT
                | u64::from(event.declined_for_credit) << FOR_CREDIT_SHIFT,
        }
    }

    /// An event of this shape, as far as it was kept: of nothing, at time 0 and sequence 0, with folded hashes. `None`
    /// where the bits are none that [`Shape::new`] makes.
    pub fn event(self) -> Option<Event> {
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
        let event = Event {
            time: Timestamp(0),
            sequence: 0,
            card: self.card(),
            kind: Kind::from_number((self.rest >> KIND_SHIFT) as u8 & ((1 << KIND_BITS) - 1))?,
            decision: Decision::from_number(self.decision_number())?,
            declined_for_credit: self.is_for_credit(),
            amount_minor: 0,
            currency: None,
            channel,
            mcc: self.mcc_number().checked_sub(1),
            country,
            merchant: hash(self.merchant),
            device: hash(self.device),
            place: self.place(),
        };
        (Shape::new(&event) == self).then_some(event)
    }

    #[inline]
    pub fn card(self) -> u8 {
        (self.category >> CARD_SHIFT) as u8
    }

    #[inline]
    fn decision_number(self) -> u8 {
        ((self.rest >> DECISION_SHIFT) as u8 & ((1 << DECISION_BITS) - 1)) + 1
    }

    #[inline]
    fn is_for_credit(self) -> bool {
        self.rest >> FOR_CREDIT_SHIFT & 1 == 1
    }

    /// Declined, and not for want of credit alone.
    #[inline]
    pub fn is_fraud_decline(self) -> bool {
        self.decision_number() == Decision::Declined.number() && !self.is_for_credit()
    }

    /// Number of the channel; 0 where there is none.
    #[inline]
    pub fn channel(self) -> u8 {
        (self.category >> CHANNEL_SHIFT) as u8 & ((1 << CHANNEL_BITS) - 1)
    }

    #[inline]
    pub fn mcc_number(self) -> MccNumber {
        (self.category & ((1 << MCC_BITS) - 1)) as MccNumber
    }

    #[inline]
    pub fn country(self) -> CountryNumber {
        (self.category >> COUNTRY_SHIFT & ((1 << COUNTRY_BITS) - 1)) as CountryNumber
    }

    #[inline]
    pub fn has_place(self) -> bool {
        self.latitude() != PLACE_NONE
    }

    #[inline]
    fn latitude(self) -> u32 {
        (self.rest >> LONGITUDE_BITS) as u32 & ((1 << LATITUDE_BITS) - 1)
    }

    /// The middle of the cell the place was rounded to.
    pub fn place(self) -> Option<Place> {
        let longitude = self.rest & ((1 << LONGITUDE_BITS) - 1);
        self.has_place().then(|| Place {
            latitude: f64::from(self.latitude()) * LATITUDE_STEP - 90.0,
            longitude: longitude as f64 * LONGITUDE_STEP - 180.0,
        })
    }
}

/// A past event whole, as it goes into the windows and as it is read from them.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    time_ms: i64,
    amount_minor: i64,
    pub shape: Shape,
    /// One bit per declared filter that the event passes.
    pub filters: u64,
}

impl Compact {
    pub fn new(event: &Event, filters: u64) -> Compact {
        let time_ms = event.time.0.clamp(-(1 << 47), (1 << 47) - 1);
        Compact::from_parts(time_ms, event.amount_minor, Shape::new(event), filters)
    }

    #[inline]
    pub fn from_parts(time_ms: i64, amount_minor: i64, shape: Shape, filters: u64) -> Compact {
        let amount_minor = amount_minor.clamp(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX);
        Compact { time_ms, amount_minor, shape, filters }
    }

    #[inline]
    pub fn time_ms(self) -> i64 {
        self.time_ms
    }

    #[inline]
    pub fn card(self) -> u8 {
        self.shape.card()
    }

    /// In the minor units of the account's currency, at most [`AMOUNT_MINOR_MAX`] either way.
    #[inline]
    pub fn amount_minor(self) -> i64 {
        self.amount_minor
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
        let [first, second] = country.letters();
        letter(first) * 26 + letter(second) + 1
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
            currency: None,
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
        let shape = compact.shape;
        assert_eq!(Timestamp(compact.time_ms()), event().time);
        assert_eq!((compact.card(), compact.amount_minor()), (31, AMOUNT_MINOR_MAX));
        assert_eq!((shape.mcc_number(), shape.country()), (10_000, 676));
        assert_eq!(shape.channel(), Channel::CardPresent.number());
        assert!(shape.is_fraud_decline());
        assert_eq!(shape.place(), Place::new(-90.0, 180.0));
        assert!(shape.merchant != 0 && shape.device != 0, "a hash is never mistaken for none");

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
        let shape = compact.shape;
        assert_eq!((compact.time_ms(), compact.card(), shape.channel()), (-1, 0, 0));
        assert_eq!((shape.mcc_number(), shape.country(), shape.place()), (0, 0, None));
        assert_eq!((shape.merchant, shape.device), (0, 0));
        assert!(!shape.is_fraud_decline());
    }

    #[test]
    fn a_shape_made_into_an_event_and_back_is_the_same() {
        let bare = Event { channel: None, mcc: None, country: None, merchant: None, place: None, ..event() };
        for event in [event(), bare] {
            let shape = Shape::new(&event);
            assert_eq!(shape.event().map(|event| Shape::new(&event)), Some(shape));
            assert_eq!(Shape { rest: shape.rest | 1 << SHAPE_REST_BITS, ..shape }.event(), None);
        }
        for kind in Kind::ALL {
            for decision in Decision::ALL {
                let kept =
                    Shape::new(&Event { kind: *kind, decision: *decision, ..event() }).event().unwrap();
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
            let kept = Shape::new(&Event { place: Some(place), ..event() }).place().unwrap();
            assert!(super::super::geo::distance_km(place, kept) < 0.04, "{place:?} {kept:?}");
        }
    }
}
