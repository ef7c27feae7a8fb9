//! The form of single fields, and the list of those that are wrong.
//!
//! A check returns the value, or notes a violation and returns nothing; the caller goes on, so that one answer names
//! every bad field. Descriptions say what a field must be and never what it was.

use arrayvec::ArrayString;

use crate::{
    limits::{AMOUNT_MINOR_MAX, TEXT_BYTES_MAX},
    proto,
    types::{
        account::Day,
        auth::{Country, Place},
        codes::ResponseCode,
        fault::{Fault, Violation},
        ids::{Id, looks_like_card_number},
        money::{Currency, Money},
        time::Timestamp,
    },
};

/// What the checks need to know besides the request.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Admission {
    /// Card numbers are accepted where a token belongs.
    pub pans_allowed: bool,
    /// A later transaction time is too far ahead.
    pub latest_time: Timestamp,
}

/// One field of a request: where it is, and which DE39 code it is refused with.
#[derive(Clone, Copy)]
pub(super) struct Field {
    path: &'static str,
    number: u32,
    response_code: ResponseCode,
}

impl Field {
    /// A field refused with 30. `number` is that of the request's own field that holds it, so that several bad
    /// fields rank in the order of the request.
    pub(super) const fn new(path: &'static str, number: u32) -> Field {
        Field { path, number, response_code: ResponseCode::FORMAT_ERROR }
    }

    pub(super) const fn with_code(self, response_code: ResponseCode) -> Field {
        Field { response_code, ..self }
    }

    /// A kind, or a combination of fields.
    pub(super) const fn kind(path: &'static str, number: u32) -> Field {
        Field::new(path, number).with_code(ResponseCode::INVALID_TRANSACTION)
    }

    /// An amount or a currency.
    pub(super) const fn amount(path: &'static str, number: u32) -> Field {
        Field::new(path, number).with_code(ResponseCode::INVALID_AMOUNT)
    }

    /// A card token.
    pub(super) const fn card(path: &'static str, number: u32) -> Field {
        Field::new(path, number).with_code(ResponseCode::INVALID_CARD)
    }
}

/// A `Money` field with its two parts.
#[derive(Clone, Copy)]
pub(super) struct MoneyField {
    pub(super) whole: Field,
    pub(super) currency_code: Field,
    pub(super) minor_units: Field,
}

/// A [`MoneyField`] from its path and number.
macro_rules! money_field {
    ($path:literal, $number:literal) => {
        $crate::wire::convert::checks::MoneyField {
            whole: $crate::wire::convert::checks::Field::amount($path, $number),
            currency_code: $crate::wire::convert::checks::Field::amount(
                concat!($path, ".currency_code"),
                $number,
            ),
            minor_units: $crate::wire::convert::checks::Field::amount(
                concat!($path, ".minor_units"),
                $number,
            ),
        }
    };
}
pub(super) use money_field;

/// The violations found so far in one request. Allocates nothing while there are none.
pub(super) struct Checks {
    admission: Admission,
    violations: Vec<Violation>,
}

impl Checks {
    pub(super) fn new(admission: Admission) -> Checks {
        Checks { admission, violations: Vec::new() }
    }

    /// The request's fault; where no violation was noted, a value is missing that a check should have named.
    pub(super) fn into_fault(self) -> Fault {
        debug_assert!(!self.violations.is_empty(), "a value is missing and no field is named");
        Fault::Invalid(self.violations)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn refuse(&mut self, field: Field, description: impl Into<String>) {
        self.violations.push(Violation {
            field: field.path,
            description: description.into(),
            response_code: field.response_code,
            number: field.number,
        });
    }

    /// 1 to 64 bytes of printable ASCII; empty is absent.
    pub(super) fn id(&mut self, text: &str, field: Field) -> Option<Id> {
        if text.is_empty() { None } else { self.required_id(text, field) }
    }

    /// 1 to 64 bytes of printable ASCII.
    pub(super) fn required_id(&mut self, text: &str, field: Field) -> Option<Id> {
        match Id::new(text) {
            Ok(id) => Some(id),
            Err(error) => {
                self.refuse(field, error.to_string());
                None
            }
        }
    }

    /// The issuer's name for a card or an account: an id that is no card number. Empty is absent.
    pub(super) fn token(&mut self, text: &str, field: Field) -> Option<Id> {
        if text.is_empty() { None } else { self.required_token(text, field) }
    }

    /// The issuer's name for a card or an account: an id that is no card number.
    pub(super) fn required_token(&mut self, text: &str, field: Field) -> Option<Id> {
        if !self.admission.pans_allowed && looks_like_card_number(text) {
            self.refuse(field, "must be a token of the issuer, never a card number");
            return None;
        }
        self.required_id(text, field)
    }

    /// The value of an enum's number; 0 (UNSPECIFIED) is absent.
    pub(super) fn code<T>(&mut self, number: i32, of: fn(u8) -> Option<T>, field: Field) -> Option<T> {
        if number == 0 {
            return None;
        }
        let value = u8::try_from(number).ok().and_then(of);
        if value.is_none() {
            self.refuse(field, "must be a value that the protocol names");
        }
        value
    }

    /// The value of an enum's number that must be given.
    pub(super) fn required_code<T>(
        &mut self,
        number: i32,
        of: fn(u8) -> Option<T>,
        field: Field,
    ) -> Option<T> {
        if number == 0 {
            self.refuse(field, "must be given");
            return None;
        }
        self.code(number, of, field)
    }

    /// An ISO 4217 alphabetic code with a minor unit.
    pub(super) fn currency(&mut self, code: &str, field: Field) -> Option<Currency> {
        let currency = Currency::from_alpha(code);
        if currency.is_none() {
            self.refuse(field, "must be an ISO 4217 alphabetic code, such as USD");
        }
        currency
    }

    /// 0 to 999,999,999,999,999 minor units.
    pub(super) fn minor_units(&mut self, minor: i64, field: Field) -> Option<i64> {
        if (0..=AMOUNT_MINOR_MAX).contains(&minor) {
            return Some(minor);
        }
        self.refuse(field, "must be 0 to 999,999,999,999,999 minor units");
        None
    }

    pub(super) fn money(&mut self, money: Option<&proto::Money>, field: MoneyField) -> Option<Money> {
        let money = money?;
        let currency = self.currency(&money.currency_code, field.currency_code);
        let minor = self.minor_units(money.minor_units, field.minor_units);
        Some(Money::new(minor?, currency?))
    }

    /// Both coordinates or neither, finite and on the earth.
    pub(super) fn place(
        &mut self,
        latitude: (Option<f64>, Field),
        longitude: (Option<f64>, Field),
    ) -> Option<Place> {
        // A comparison with NaN is false, so NaN is outside both ranges.
        if latitude.0.is_some_and(|degrees| !(-90.0..=90.0).contains(&degrees)) {
            self.refuse(latitude.1, "must be -90 to 90 degrees");
        }
        if longitude.0.is_some_and(|degrees| !(-180.0..=180.0).contains(&degrees)) {
            self.refuse(longitude.1, "must be -180 to 180 degrees");
        }
        match (latitude.0, longitude.0) {
            (Some(latitude), Some(longitude)) => Place::new(latitude, longitude),
            (None, None) => None,
            (None, Some(_)) => {
                self.refuse(latitude.1, "must be given where the longitude is");
                None
            }
            (Some(_), None) => {
                self.refuse(longitude.1, "must be given where the latitude is");
                None
            }
        }
    }

    /// A time of the protobuf range, not too far ahead of the engine's. Truncated to milliseconds.
    pub(super) fn time(&mut self, time: Option<&prost_types::Timestamp>, field: Field) -> Option<Timestamp> {
        let time = self.any_time(time, field)?;
        if time > self.admission.latest_time {
            self.refuse(field, "must not be more than 24 hours ahead");
            return None;
        }
        Some(time)
    }

    /// A time of the protobuf range. Truncated to milliseconds.
    pub(super) fn any_time(
        &mut self,
        time: Option<&prost_types::Timestamp>,
        field: Field,
    ) -> Option<Timestamp> {
        // 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range that google.protobuf.Timestamp states.
        const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
        let time = time?;
        if !SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
            self.refuse(field, "must be a time of the years 1 to 9999 with 0 to 999,999,999 nanoseconds");
            return None;
        }
        Some(Timestamp(time.seconds * 1_000 + i64::from(time.nanos / 1_000_000)))
    }

    /// At most 256 bytes; empty is absent.
    pub(super) fn text(&mut self, text: &str, field: Field) -> Option<Box<str>> {
        if text.len() > TEXT_BYTES_MAX {
            self.refuse(field, "must have at most 256 bytes");
            return None;
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// Two capital letters; empty is absent.
    pub(super) fn country(&mut self, code: &str, field: Field) -> Option<Country> {
        if code.is_empty() {
            return None;
        }
        let country = Country::new(code);
        if country.is_none() {
            self.refuse(field, "must be an ISO 3166 alpha-2 code: two capital letters");
        }
        country
    }

    /// A merchant category code of four digits; empty is absent.
    pub(super) fn category_code(&mut self, code: &str, field: Field) -> Option<u16> {
        if code.is_empty() {
            return None;
        }
        let well_formed = code.len() == 4 && code.bytes().all(|b| b.is_ascii_digit());
        let mcc = if well_formed { code.parse().ok() } else { None };
        if mcc.is_none() {
            self.refuse(field, "must have four digits");
        }
        mcc
    }

    /// Two digits; empty is absent.
    pub(super) fn two_digits(&mut self, code: &str, field: Field) -> Option<ArrayString<2>> {
        if code.is_empty() {
            return None;
        }
        if code.len() != 2 || !code.bytes().all(|b| b.is_ascii_digit()) {
            self.refuse(field, "must have two digits");
            return None;
        }
        ArrayString::from(code).ok()
    }

    /// A civil date `YYYY-MM-DD`; empty is absent.
    pub(super) fn day(&mut self, date: &str, field: Field) -> Option<Day> {
        if date.is_empty() {
            return None;
        }
        // The parser behind Day also reads other ISO 8601 forms, which the contract does not name.
        let shaped = date.len() == 10
            && date
                .bytes()
                .enumerate()
                .all(|(at, b)| if matches!(at, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
        let day = if shaped { Day::parse(date) } else { None };
        if day.is_none() {
            self.refuse(field, "must be a date such as 2027-01-31");
        }
        day
    }
}
