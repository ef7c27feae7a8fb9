//! The fields that rules read from the request and the account as they are, and the features of the present
//! transaction alone. Texts are borrowed, or are words of the program: filling allocates nothing.

use super::{
    Moment,
    catalog::slot,
    geo,
    values::{Slot, Values},
};
use crate::types::{
    codes::{Channel, CheckResult, EntryMode, Initiation, Kind},
    time::{DAY_MS, HOUR_MS, Timestamp},
};

/// The words for [`Kind`], in the order of its numbers.
pub const KINDS: [&str; Kind::ALL.len()] = [
    "purchase",
    "pre_authorisation",
    "incremental",
    "cash_advance",
    "account_verification",
    "balance_inquiry",
];
/// The words for [`Channel`].
pub const CHANNELS: [&str; Channel::ALL.len()] = ["ecommerce", "card_present"];
/// The words for [`EntryMode`].
pub const ENTRY_MODES: [&str; EntryMode::ALL.len()] =
    ["chip", "contactless", "magnetic_stripe", "manual", "credential_on_file", "ecommerce"];
/// The words for [`Initiation`].
pub const INITIATIONS: [&str; Initiation::ALL.len()] = ["cardholder", "merchant", "recurring"];
/// The words for [`CheckResult`].
pub const CHECK_RESULTS: [&str; CheckResult::ALL.len()] =
    ["match", "no_match", "not_checked", "tries_exceeded"];

/// Fills what needs no history.
pub fn fill<'a>(moment: &Moment<'a>, values: &mut Values<'a>) {
    fill_request(moment, values);
    fill_merchant(moment, values);
    fill_account(moment, values);
    fill_time(moment.time, values);
    if let Some(place) = moment.request.merchant.place.filter(|_| !is_ecommerce(moment))
        && let Some(home) = moment.account.home
    {
        values.set_float(slot::DISTANCE_FROM_HOME_KM, geo::distance_km(home, place));
    }
}

/// Whether the card was not present, so that the merchant's place says nothing about where it is.
pub fn is_ecommerce(moment: &Moment) -> bool {
    moment.request.channel == Some(Channel::Ecommerce)
}

/// When the night begins, UTC, and how long it is: until 04:00.
pub const NIGHT_FROM_HOUR: i64 = 22;
pub const NIGHT_HOURS: i64 = 6;

/// Whether a time lies between 22:00 and 04:00 UTC.
pub fn is_night(time: Timestamp) -> bool {
    (hour_utc(time) - NIGHT_FROM_HOUR).rem_euclid(24) < NIGHT_HOURS
}

fn hour_utc(time: Timestamp) -> i64 {
    time.0.rem_euclid(DAY_MS) / HOUR_MS
}

fn fill_request<'a>(moment: &Moment<'a>, values: &mut Values<'a>) {
    let request = moment.request;
    if let Some(billed) = request.billed() {
        values.set_text(slot::CURRENCY, billed.currency.alpha());
        values.set_int(slot::AMOUNT, billed.minor);
        values.set_float(slot::AMOUNT_MAJOR, billed.minor as f64 / billed.currency.minor_per_major() as f64);
    }
    values.set_text(slot::KIND, word(&KINDS, request.decided_as().number()));
    if let Some(channel) = request.channel {
        values.set_text(slot::CHANNEL, word(&CHANNELS, channel.number()));
        values.set_bool(slot::IS_ECOMMERCE, channel == Channel::Ecommerce);
    }
    if let Some(mode) = request.entry_mode {
        values.set_text(slot::ENTRY_MODE, word(&ENTRY_MODES, mode.number()));
        values.set_bool(slot::IS_MAGNETIC_STRIPE, mode == EntryMode::MagneticStripe);
        values.set_bool(slot::IS_KEYED, mode == EntryMode::Manual);
    }
    if let Some(initiation) = request.initiation {
        values.set_text(slot::INITIATION, word(&INITIATIONS, initiation.number()));
    }
    set_text(values, slot::DEVICE_ID, request.device_id.as_ref().map(|id| id.as_str()));
    set_text(values, slot::DEVICE_IP, request.ip_address.as_ref().map(|id| id.as_str()));
    let checks = &request.verification;
    for (slot, result) in [
        (slot::CVV, checks.cvv),
        (slot::AVS, checks.avs),
        (slot::PIN, checks.pin),
        (slot::THREE_DS, checks.three_ds),
    ] {
        set_text(values, slot, result.map(|result| word(&CHECK_RESULTS, result.number())));
    }
    set_text(values, slot::ECI, checks.eci.as_ref().map(|eci| eci.as_str()));
    if let Some(score) = checks.network_risk_score {
        values.set_int(slot::NETWORK_RISK_SCORE, i64::from(score));
    }
    values.set_int(slot::INSTALMENTS, i64::from(request.instalments));
    values.set_bool(slot::PARTIAL_APPROVAL_ALLOWED, request.partial_approval_allowed);
    values.set_bool(slot::SINGLE_MESSAGE, request.single_message);
}

fn fill_merchant<'a>(moment: &Moment<'a>, values: &mut Values<'a>) {
    let merchant = &moment.request.merchant;
    set_text(values, slot::MERCHANT_ID, merchant.merchant_id.as_ref().map(|id| id.as_str()));
    set_text(values, slot::TERMINAL_ID, merchant.terminal_id.as_ref().map(|id| id.as_str()));
    set_text(values, slot::ACQUIRER_ID, merchant.acquirer_id.as_ref().map(|id| id.as_str()));
    set_text(values, slot::MERCHANT_NAME, merchant.name.as_deref());
    set_text(values, slot::MERCHANT_COUNTRY, merchant.country.as_ref().map(|country| country.as_str()));
    if let Some(mcc) = merchant.mcc {
        values.set_int(slot::MCC_NUMBER, i64::from(mcc));
        set_text(values, slot::MCC, mcc_text(mcc));
    }
    if let Some(place) = merchant.place {
        values.set_float(slot::MERCHANT_LATITUDE, place.latitude);
        values.set_float(slot::MERCHANT_LONGITUDE, place.longitude);
    }
}

fn fill_account<'a>(moment: &Moment<'a>, values: &mut Values<'a>) {
    let account = moment.account;
    set_text(values, slot::CARD_TOKEN, moment.card_token);
    values.set_text(slot::ACCOUNT_ID, account.account_id);
    set_text(values, slot::PRODUCT, account.product);
    set_text(values, slot::HOME_COUNTRY, account.home_country.as_ref().map(|country| country.as_str()));
    values.set_int(slot::CREDIT_LIMIT, account.credit_limit_minor);
    values.set_int(slot::AVAILABLE, account.available_minor);
    if account.credit_limit_minor > 0 && !account.limit_is_assumed {
        let used_minor = account.credit_limit_minor.saturating_sub(account.available_minor);
        values.set_float(slot::UTILISATION, used_minor as f64 / account.credit_limit_minor as f64);
    }
    if let Some(opened_on) = account.opened_on {
        let age_days = moment.time.0.div_euclid(DAY_MS) - i64::from(opened_on.0);
        values.set_int(slot::AGE_DAYS, age_days.max(0));
    }
    if let (Some(home), Some(here)) = (account.home_country, moment.request.merchant.country) {
        values.set_bool(slot::IS_FOREIGN, home != here);
    }
}

/// What follows from the time alone.
pub fn fill_time(time: Timestamp, values: &mut Values) {
    // 1970-01-01 was a Thursday, day 4.
    let weekday = (time.0.div_euclid(DAY_MS) + 3).rem_euclid(7) + 1;
    values.set_int(slot::HOUR_UTC, hour_utc(time));
    values.set_int(slot::WEEKDAY_UTC, weekday);
    values.set_bool(slot::IS_NIGHT, is_night(time));
}

fn set_text<'a>(values: &mut Values<'a>, slot: Slot, text: Option<&'a str>) {
    if let Some(text) = text {
        values.set_text(slot, text);
    }
}

/// The word for a number of the wire, which counts from 1.
fn word<const N: usize>(words: &[&'static str; N], number: u8) -> &'static str {
    words[usize::from(number) - 1]
}

/// The four digits of a category code; `None` above 9999.
fn mcc_text(mcc: u16) -> Option<&'static str> {
    MCC_DIGITS.get(usize::from(mcc)).and_then(|digits| std::str::from_utf8(digits).ok())
}

/// The digits of every category code, so that a number can be lent as a text.
static MCC_DIGITS: [[u8; 4]; 10_000] = {
    let mut table = [[b'0'; 4]; 10_000];
    let mut mcc = 0;
    while mcc < table.len() {
        let mut rest = mcc;
        let mut place = 4;
        while place > 0 {
            place -= 1;
            table[mcc][place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        mcc += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_names_of_the_wire_in_lower_case() {
        macro_rules! check {
            ($code:ident, $words:ident) => {
                for code in $code::ALL {
                    assert_eq!(word(&$words, code.number()), code.name().to_lowercase());
                }
            };
        }
        check!(Kind, KINDS);
        check!(Channel, CHANNELS);
        check!(EntryMode, ENTRY_MODES);
        check!(Initiation, INITIATIONS);
        check!(CheckResult, CHECK_RESULTS);
    }

    #[test]
    fn a_category_code_keeps_its_leading_zero() {
        assert_eq!((mcc_text(742), mcc_text(0), mcc_text(9_999)), (Some("0742"), Some("0000"), Some("9999")));
        assert_eq!(mcc_text(10_000), None);
    }

    #[test]
    fn night_and_weekday_turn_at_the_stated_hours() {
        let time = |text: &str| Timestamp::parse(text).unwrap();
        for (text, night, weekday) in [
            ("2023-01-01T21:59:59.999Z", false, 7),
            ("2023-01-01T22:00:00Z", true, 7),
            ("2023-01-02T00:00:00Z", true, 1),
            ("2023-01-07T03:59:59.999Z", true, 6),
            ("2023-01-07T04:00:00Z", false, 6),
            ("1969-12-31T23:00:00Z", true, 3),
        ] {
            let mut values = Values::new();
            fill_time(time(text), &mut values);
            assert_eq!(values.bool(slot::IS_NIGHT), Some(night), "{text}");
            assert_eq!(values.int(slot::WEEKDAY_UTC), Some(weekday), "{text}");
        }
    }
}
