//! The one table of fields and features. Serving, training, the rule checker, `rules explain` and the model's
//! reasons all read it; nothing else names a feature.
//!
//! A macro declares each row together with the constant of its slot in [`slot`], so that the table and the code
//! that fills the values cannot drift apart. The order of the model inputs is part of every model file: append,
//! and raise [`MEANING_VERSION`] when the meaning of an existing row changes.
//!
//! Deliberately absent: anything that acts as identity, and balances in money, as model inputs.

use super::{
    fields::{CHANNELS, CHECK_RESULTS, ENTRY_MODES, INITIATIONS, KINDS},
    values::{Slot, TEXT_SLOTS, Values},
};
use crate::limits::{AGGREGATES_MAX, SLOTS_MAX};

/// The type of a value, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Bool,
    Int,
    Float,
    /// Minor units of the request's billing currency; literals compared with it are in major units.
    Money,
    Text,
}

/// One field of the request or one computed feature.
#[derive(Debug)]
pub struct Entry {
    /// As rules write it, such as `merchant.country`.
    pub name: &'static str,
    /// Other spellings that mean the same, such as the wire's own `merchant.country_code`.
    pub aliases: &'static [&'static str],
    pub ty: Type,
    /// Such as `km`, `s`, `minor units`; empty where there is none.
    pub unit: &'static str,
    /// One sentence; says when the value is missing.
    pub doc: &'static str,
    /// The only texts the value can take; empty where it is open or not a text.
    pub words: &'static [&'static str],
    /// Where the model reads it: what a cardholder can be told when it weighed against them.
    pub model: Option<ModelInput>,
}

/// How a feature serves the model.
#[derive(Debug)]
pub struct ModelInput {
    /// Reason code, capitals and underscores.
    pub reason_code: &'static str,
    pub reason_text: &'static str,
}

/// Declares the table and, in [`slot`], one constant per row. A row reads: constant, name, aliases, type and unit,
/// sentence, then `one of` the texts it can take, then `model` with reason code and reason text.
macro_rules! catalogue {
    ($($slot:ident = $name:literal $(or $alias:literal)*, $ty:ident($unit:literal), $doc:literal
        $(, one of $words:ident)? $(, model $code:literal $text:literal)?;)*) => {
        /// Every field and feature; its index is its slot.
        pub const CATALOG: &[Entry] = &[$(Entry {
            name: $name,
            aliases: &[$($alias),*],
            ty: Type::$ty,
            unit: $unit,
            doc: $doc,
            words: catalogue!(@words $($words)?),
            model: catalogue!(@model $($code $text)?),
        }),*];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u16)]
        enum Row { $($slot),* }

        /// The slot of each row, for the code that fills it.
        pub mod slot {
            use super::{Row, Slot};
            $(#[doc = $doc] pub const $slot: Slot = Row::$slot as Slot;)*
        }
    };
    (@words) => { &[] };
    (@words $words:ident) => { &$words };
    (@model) => { None };
    (@model $code:literal $text:literal) => {
        Some(ModelInput { reason_code: $code, reason_text: $text })
    };
}

catalogue! {
    // Texts come first, since only the first slots can hold one.
    CURRENCY = "currency", Text(""),
        "Billing currency, ISO 4217 alphabetic; missing for a balance inquiry.";
    KIND = "kind", Text(""),
        "What is asked of the account; a purchase of 0 is an account_verification.",
        one of KINDS;
    CHANNEL = "channel", Text(""), "Where the card was used; missing where not sent.", one of CHANNELS;
    ENTRY_MODE = "entry_mode", Text(""), "How the card was presented; missing where not sent.",
        one of ENTRY_MODES;
    INITIATION = "initiation", Text(""), "Who started the payment; missing where not sent.", one of INITIATIONS;
    MERCHANT_ID = "merchant.id" or "merchant.merchant_id" or "merchant_id", Text(""),
        "The acquirer's name for the merchant; missing for a balance inquiry.";
    TERMINAL_ID = "merchant.terminal_id" or "terminal_id", Text(""), "The terminal; missing where not sent.";
    ACQUIRER_ID = "merchant.acquirer_id", Text(""), "The acquirer; missing where not sent.";
    // A text as on the wire: codes such as 0742 begin with 0, and nobody calculates with them.
    MCC = "merchant.mcc" or "merchant.category_code" or "mcc", Text(""),
        "Merchant category code, four digits; missing where not sent.";
    MERCHANT_NAME = "merchant.name", Text(""), "The merchant's name; missing where not sent.";
    MERCHANT_COUNTRY = "merchant.country" or "merchant.country_code" or "country", Text(""),
        "Country of the merchant, ISO 3166 alpha-2; missing where not sent.";
    DEVICE_ID = "device.id" or "device.device_id" or "device_id", Text(""),
        "The cardholder's device; missing where not sent.";
    DEVICE_IP = "device.ip" or "device.ip_address" or "ip_address", Text(""),
        "Internet address of the device, as sent; missing where not sent.";
    CARD_TOKEN = "card.token" or "card_token", Text(""),
        "Token of the card; missing where the request names an account without cards.";
    ACCOUNT_ID = "account.id" or "account_id", Text(""), "The account.";
    PRODUCT = "account.product", Text(""), "Product of the account; missing where unknown.";
    HOME_COUNTRY = "account.home_country", Text(""),
        "Country the cardholder lives in, ISO 3166 alpha-2; missing where unknown.";
    CVV = "verification.cvv" or "verification.cvv_result", Text(""),
        "Check of the card verification value; missing where not sent.", one of CHECK_RESULTS;
    AVS = "verification.avs" or "verification.avs_result", Text(""),
        "Check of the address; missing where not sent.", one of CHECK_RESULTS;
    PIN = "verification.pin" or "verification.pin_result", Text(""),
        "Check of the PIN; missing where not sent.", one of CHECK_RESULTS;
    THREE_DS = "verification.three_ds" or "verification.three_ds_result", Text(""),
        "3-D Secure authentication; missing where not sent.", one of CHECK_RESULTS;
    ECI = "verification.eci", Text(""),
        "Electronic commerce indicator, two digits; missing where not sent.";

    // Request and account.
    AMOUNT = "amount", Money("minor units"), "The billing amount; missing for a balance inquiry.";
    MERCHANT_LATITUDE = "merchant.latitude", Float("degrees"), "Latitude of the merchant; missing where not sent.";
    MERCHANT_LONGITUDE = "merchant.longitude", Float("degrees"),
        "Longitude of the merchant; missing where not sent.";
    NETWORK_RISK_SCORE = "verification.network_risk_score", Int(""),
        "The network's own risk score; missing where not sent.";
    INSTALMENTS = "instalments", Int(""), "Number of instalments; 0 and 1 mean none.";
    PARTIAL_APPROVAL_ALLOWED = "partial_approval_allowed", Bool(""),
        "Whether the merchant takes less than the amount.";
    SINGLE_MESSAGE = "single_message", Bool(""), "Whether the amount posts at once, without clearing.";
    CREDIT_LIMIT = "account.credit_limit", Money("minor units"), "Credit limit of the account.";
    AVAILABLE = "account.available", Money("minor units"),
        "Available credit before this decision; negative where exposure is above the limit.";
    AGE_DAYS = "account.age_days", Int("days"), "Days since the account was opened; missing where unknown.",
        model "ACCOUNT_AGE" "The account has been open for a short time.";

    // The present transaction alone.
    AMOUNT_BASE = "amount_base", Float("major units of the base currency"),
        "The billing amount in the engine's base currency; missing where no rate for its currency is configured.";
    AMOUNT_MAJOR = "amount_major", Float("major units"),
        "The billing amount as a number for the model; missing for a balance inquiry.",
        model "AMOUNT" "The amount is unusual.";
    MCC_NUMBER = "merchant.mcc_number", Int(""),
        "Merchant category code as a number for the model; missing where not sent.",
        model "MERCHANT_CATEGORY" "This kind of merchant is often used for fraud.";
    HOUR_UTC = "hour_utc", Int("h"), "Hour of the day in UTC, 0 to 23.",
        model "HOUR_OF_DAY" "The time of day is unusual.";
    WEEKDAY_UTC = "weekday_utc", Int(""), "Day of the week in UTC, 1 is Monday, 7 is Sunday.",
        model "DAY_OF_WEEK" "The day of the week is unusual.";
    IS_NIGHT = "is_night", Bool(""), "Whether it is between 22:00 and 04:00 UTC.",
        model "NIGHT" "The payment was made at night.";
    IS_FOREIGN = "is_foreign", Bool(""),
        "Whether the merchant's country differs from the cardholder's; missing where one of them is unknown.",
        model "FOREIGN_COUNTRY" "The merchant is in another country than the cardholder's home.";
    IS_ECOMMERCE = "is_ecommerce", Bool(""), "Whether the card was not present; missing where not sent.",
        model "CARD_NOT_PRESENT" "The card was not present.";
    IS_MAGNETIC_STRIPE = "is_magnetic_stripe", Bool(""),
        "Whether the magnetic stripe was read; missing where the entry mode is.",
        model "MAGNETIC_STRIPE" "The magnetic stripe was read instead of the chip.";
    IS_KEYED = "is_keyed", Bool(""),
        "Whether the card's number was typed by hand; missing where the entry mode is.",
        model "KEYED_ENTRY" "The card's number was typed by hand.";
    DISTANCE_FROM_HOME_KM = "distance_from_home_km", Float("km"),
        "Great-circle distance from the cardholder's home; missing for e-commerce and where a place is unknown.",
        model "FAR_FROM_HOME" "The distance from the cardholder's home is unusual.";

    // Travel: card-present attempts of the card within 30 days.
    DISTANCE_FROM_LAST_KM = "card.distance_from_last_km" or "distance_from_last_km", Float("km"),
        "Distance from the place of the card's last card-present attempt within 30 days; missing for e-commerce \
         and where there is none.",
        model "FAR_FROM_LAST_USE" "The distance from the card's last use is unusual.";
    SPEED_KMH = "card.speed_kmh" or "speed_kmh", Float("km/h"),
        "Speed needed from the place of the card's last card-present attempt; 0 below 20 km, time taken as at \
         least 60 s; missing for e-commerce and where there is none.",
        model "IMPOSSIBLE_TRAVEL" "The card was used far away a short time before.";
    COUNTRY_CHANGED = "card.country_changed" or "country_changed", Bool(""),
        "Whether the country differs from that of the card's last card-present attempt within 30 days; missing \
         for e-commerce and where there is none.",
        model "COUNTRY_CHANGED" "The card was last used in another country.";

    // Velocity of the card; every attempt counts, approved or not.
    SECONDS_SINCE_LAST = "card.seconds_since_last" or "seconds_since_last", Float("s"),
        "Time since the card's last attempt within 30 days; missing where there is none.",
        model "TIME_SINCE_LAST_USE" "The time since the card's last use is unusual.";
    LAST_AMOUNT_MAJOR = "card.last_amount_major", Float("major units"),
        "Amount of the card's last attempt within 30 days; missing where there is none.",
        model "LAST_AMOUNT" "The amount of the payment before this one is unusual.";
    COUNT_1H = "card.count_1h", Int(""), "The card's attempts within 1 hour.",
        model "PAYMENTS_1H" "The number of payments within an hour is unusual.";
    COUNT_6H = "card.count_6h", Int(""), "The card's attempts within 6 hours.",
        model "PAYMENTS_6H" "The number of payments within six hours is unusual.";
    COUNT_24H = "card.count_24h", Int(""), "The card's attempts within 24 hours.",
        model "PAYMENTS_24H" "The number of payments within a day is unusual.";
    COUNT_7D = "card.count_7d", Int(""), "The card's attempts within 7 days.",
        model "PAYMENTS_7D" "The number of payments within a week is unusual.";
    COUNT_30D = "card.count_30d", Int(""), "The card's attempts within 30 days.",
        model "PAYMENTS_30D" "The number of payments within a month is unusual.";
    SUM_1H_MAJOR = "card.sum_1h_major", Float("major units"), "Amounts the card attempted within 1 hour.",
        model "SPENDING_1H" "The amount spent within an hour is unusual.";
    SUM_6H_MAJOR = "card.sum_6h_major", Float("major units"), "Amounts the card attempted within 6 hours.",
        model "SPENDING_6H" "The amount spent within six hours is unusual.";
    SUM_24H_MAJOR = "card.sum_24h_major", Float("major units"), "Amounts the card attempted within 24 hours.",
        model "SPENDING_24H" "The amount spent within a day is unusual.";
    SUM_7D_MAJOR = "card.sum_7d_major", Float("major units"), "Amounts the card attempted within 7 days.",
        model "SPENDING_7D" "The amount spent within a week is unusual.";
    SUM_30D_MAJOR = "card.sum_30d_major", Float("major units"), "Amounts the card attempted within 30 days.",
        model "SPENDING_30D" "The amount spent within a month is unusual.";
    DECLINES_1H = "card.declines_1h", Int(""),
        "The card's declines within 1 hour; those for want of credit alone do not count.",
        model "DECLINES_1H" "Payments with the card were declined within the last hour.";
    DECLINES_24H = "card.declines_24h", Int(""),
        "The card's declines within 24 hours; those for want of credit alone do not count.",
        model "DECLINES_24H" "Payments with the card were declined within the last day.";
    SMALL_COUNT_1H = "card.small_count_1h", Int(""),
        "The card's attempts below 5 major units within 1 hour, account verifications among them.",
        model "SMALL_PAYMENTS_1H" "The number of very small payments within an hour is unusual.";
    NIGHT_COUNT_24H = "card.night_count_24h", Int(""),
        "The card's attempts within 24 hours made between 22:00 and 04:00 UTC.",
        model "NIGHT_PAYMENTS_24H" "The number of payments at night is unusual.";

    // The card against its own habits.
    AMOUNT_OVER_MEAN_30D = "card.amount_over_mean_30d", Float("ratio"),
        "The amount over the card's mean amount within 30 days; missing where that is 0 or there is none.",
        model "AMOUNT_ABOVE_USUAL" "The amount is unusual for this card.";
    AMOUNT_OVER_MEAN_MCC_30D = "card.amount_over_mean_mcc_30d", Float("ratio"),
        "The amount over the card's mean amount at merchants of this category within 30 days; missing where that \
         is 0 or there is none.",
        model "AMOUNT_ABOVE_USUAL_FOR_CATEGORY" "The amount is unusual for this card at this kind of merchant.";
    MEAN_7D_OVER_30D = "card.mean_7d_over_30d", Float("ratio"),
        "The card's mean amount within 7 days over that within 30 days; missing where the latter is 0 or there is \
         none in 7 days.",
        model "AMOUNTS_RISING" "The amounts of the last week are unusual for this card.";
    COUNT_24H_OVER_DAILY_MEAN = "card.count_24h_over_daily_mean", Float("ratio"),
        "The card's attempts within 24 hours over its attempts per day since the first of the last 30 days; \
         missing where there is none.",
        model "PAYMENTS_ABOVE_USUAL" "The number of payments today is unusual for this card.";
    MERCHANTS_24H = "card.merchants_24h", Int(""), "Different merchants of the card within 24 hours.",
        model "MANY_MERCHANTS_24H" "The number of different merchants within a day is unusual.";
    COUNTRIES_24H = "card.countries_24h", Int(""),
        "Different merchant countries of the card within 24 hours.",
        model "MANY_COUNTRIES_24H" "The number of different countries within a day is unusual.";

    // What the account knows, whichever of its cards was used.
    FIRST_USE_OF_COUNTRY_30D = "account.first_use_of_country_30d" or "first_use_of_country_30d", Bool(""),
        "Whether the account was not used in this country within 30 days; missing without a country and where \
         the account has no attempt in 30 days.",
        model "NEW_COUNTRY" "The account was not used in this country within 30 days.";
    MERCHANT_SEEN_30D = "account.merchant_seen_30d" or "merchant_seen_30d", Bool(""),
        "Whether the account was used at this merchant within 30 days; missing where the account has no attempt \
         in 30 days.",
        model "NEW_MERCHANT" "The account was not used at this merchant within 30 days.";
    MCC_SEEN_30D = "account.mcc_seen_30d" or "mcc_seen_30d", Bool(""),
        "Whether the account was used at this kind of merchant within 30 days; missing without a category and \
         where the account has no attempt in 30 days.",
        model "NEW_MERCHANT_CATEGORY" "The account was not used at this kind of merchant within 30 days.";
    DEVICE_SEEN_30D = "account.device_seen_30d" or "device_seen_30d", Bool(""),
        "Whether the account was used from this device within 30 days; missing without a device and where the \
         account has no attempt in 30 days.",
        model "NEW_DEVICE" "The account was not used from this device within 30 days.";

    // Later than what is above: a model that was trained before there were these knows the inputs above alone.
    NIGHT_SHARE_30D = "card.night_share_30d", Float("share"),
        "Share of the card's attempts within 30 days that were made between 22:00 and 04:00 UTC; missing where \
         there is none.",
        model "NIGHT_HABIT" "The share of this card's payments made at night is unusual.";
    HOUR_SHARE_30D = "card.hour_share_30d", Float("share"),
        "Share of the card's attempts within 30 days that were made within an hour of the present time of day; \
         missing where there is none.",
        model "UNUSUAL_HOUR_FOR_CARD" "The card is seldom used at this time of day.";
    DEVICES_24H = "card.devices_24h", Int(""), "Different devices of the card within 24 hours.",
        model "MANY_DEVICES_24H" "The number of different devices within a day is unusual.";
    ACCOUNT_COUNT_24H = "account.count_24h", Int(""),
        "Attempts of the account within 24 hours, with any of its cards.",
        model "ACCOUNT_PAYMENTS_24H" "The number of payments of the account within a day is unusual.";
    ACCOUNT_SUM_24H_MAJOR = "account.sum_24h_major", Float("major units"),
        "Amounts attempted within 24 hours with any of the account's cards.",
        model "ACCOUNT_SPENDING_24H" "The amount spent from the account within a day is unusual.";
    UTILISATION = "account.utilisation", Float("share"),
        "Share of the credit limit that is used before this decision; missing without a limit, and where limits are \
         made up.",
        model "CREDIT_USE" "The share of the credit limit in use is unusual.";

    // What is known of others: frauds whose labels have come, at the times of the transactions. A window is longer than
    // a label takes as a rule, or it would always be empty.
    MERCHANT_FRAUDS_14D = "merchant.frauds_14d", Int(""),
        "Frauds at the merchant within 14 days whose labels have come, on any account; missing without a merchant.",
        model "MERCHANT_RISK_14D" "Recent payments at this merchant were found to be fraud.";
    MERCHANT_FRAUDS_30D = "merchant.frauds_30d", Int(""),
        "Frauds at the merchant within 30 days whose labels have come, on any account; missing without a merchant.",
        model "MERCHANT_RISK_30D" "Payments of the last month at this merchant were found to be fraud.";
    TERMINAL_FRAUDS_14D = "terminal.frauds_14d", Int(""),
        "Frauds at the merchant's terminal within 14 days whose labels have come, on any account; missing without \
         a terminal.",
        model "TERMINAL_RISK_14D" "Recent payments at this terminal were found to be fraud.";
    TERMINAL_FRAUDS_30D = "terminal.frauds_30d", Int(""),
        "Frauds at the merchant's terminal within 30 days whose labels have come, on any account; missing without \
         a terminal.",
        model "TERMINAL_RISK_30D" "Payments of the last month at this terminal were found to be fraud.";
    DEVICE_FRAUDS_30D = "device.frauds_30d", Int(""),
        "Frauds from the device within 30 days whose labels have come, on any account; missing without a device.",
        model "DEVICE_RISK_30D" "Payments of the last month from this device were found to be fraud.";
}

/// Raised when the meaning of a model input changes under the same name.
pub const MEANING_VERSION: u32 = 1;

/// Number of model inputs: the length of a model's row.
pub const MODEL_FEATURES: usize = {
    let mut count = 0;
    let mut slot = 0;
    while slot < CATALOG.len() {
        if CATALOG[slot].model.is_some() {
            count += 1;
        }
        slot += 1;
    }
    count
};

/// The inputs that there were before records and model files said how many they know.
pub const MODEL_FEATURES_FIRST: usize = 40;

const _: () = assert!(MODEL_FEATURES_FIRST < MODEL_FEATURES);

/// The slots of the model inputs, in the order of the catalogue.
const MODEL_SLOTS: [Slot; MODEL_FEATURES] = {
    let mut slots = [0; MODEL_FEATURES];
    let mut count = 0;
    let mut slot = 0;
    while slot < CATALOG.len() {
        if CATALOG[slot].model.is_some() {
            slots[count] = slot as Slot;
            count += 1;
        }
        slot += 1;
    }
    slots
};

const _: () =
    assert!(CATALOG.len() + AGGREGATES_MAX <= SLOTS_MAX, "every aggregate has a slot behind the catalogue");
const _: () = {
    let mut slot = 0;
    while slot < CATALOG.len() {
        let is_text = matches!(CATALOG[slot].ty, Type::Text);
        assert!(!is_text || slot < TEXT_SLOTS, "a text has no place in this slot");
        assert!(!is_text || CATALOG[slot].model.is_none(), "the model reads numbers");
        assert!(
            !matches!(CATALOG[slot].ty, Type::Money) || CATALOG[slot].model.is_none(),
            "minor units mean nothing across currencies"
        );
        slot += 1;
    }
};

/// The row of a name or of one of its other spellings.
pub fn lookup(name: &str) -> Option<(Slot, &'static Entry)> {
    let is_named = |entry: &Entry| entry.name == name || entry.aliases.contains(&name);
    let slot = CATALOG.iter().position(is_named)?;
    Some((slot as Slot, &CATALOG[slot]))
}

/// The row of a model input.
///
/// # Panics
/// Where `index` is not below [`MODEL_FEATURES`].
pub fn model_feature(index: usize) -> &'static Entry {
    &CATALOG[usize::from(MODEL_SLOTS[index])]
}

/// Where a model's row has the value of this slot; `None` where it is no model input.
pub fn model_index_of(slot: Slot) -> Option<usize> {
    // Ascending, as the catalogue is.
    MODEL_SLOTS.binary_search(&slot).ok()
}

/// Where a model's row has the feature of this name; `None` where it is no model input.
pub fn model_index(name: &str) -> Option<usize> {
    (0..MODEL_FEATURES).find(|index| model_feature(*index).name == name)
}

/// Fills a model's row. A missing value is NaN; a yes is 1, a no 0.
pub fn model_vector(values: &Values, row: &mut [f32; MODEL_FEATURES]) {
    /// Whether each is kept as a number with a fraction.
    static IS_FLOAT: [bool; MODEL_FEATURES] = {
        let mut is_float = [false; MODEL_FEATURES];
        let mut index = 0;
        while index < MODEL_FEATURES {
            is_float[index] = matches!(CATALOG[MODEL_SLOTS[index] as usize].ty, Type::Float);
            index += 1;
        }
        is_float
    };
    for ((cell, &slot), &is_float) in row.iter_mut().zip(&MODEL_SLOTS).zip(&IS_FLOAT) {
        let raw = values.raw(slot);
        let value = if is_float { f64::from_bits(raw) } else { raw as i64 as f64 };
        *cell = if values.has(slot) { value as f32 } else { f32::NAN };
    }
}

/// What a model was trained on: the first eight bytes of BLAKE3 over the meaning version and, in order, name, type
/// and unit of the first `features` model inputs. A model with another hash must not score.
pub fn feature_hash(features: usize) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&MEANING_VERSION.to_le_bytes());
    for entry in (0..features.min(MODEL_FEATURES)).map(model_feature) {
        hasher.update(format!("{}\0{:?}\0{}\n", entry.name, entry.ty, entry.unit).as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_and_other_spelling_leads_to_one_row() {
        let mut seen = HashSet::new();
        for (slot, entry) in CATALOG.iter().enumerate() {
            for name in entry.aliases.iter().chain([&entry.name]) {
                assert!(seen.insert(*name), "{name} stands twice");
                assert_eq!(
                    lookup(name).map(|(slot, entry)| (slot, entry.name)),
                    Some((slot as Slot, entry.name))
                );
                assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.')), "{name}");
            }
        }
        assert!(lookup("merchant.contry").is_none());
    }

    #[test]
    fn every_row_explains_itself() {
        let mut codes = HashSet::new();
        for entry in CATALOG {
            let is_sentence = |text: &str| {
                text.ends_with('.')
                    && text.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit())
            };
            assert!(is_sentence(entry.doc) && !entry.doc.contains("  "), "{}: {}", entry.name, entry.doc);
            assert!(entry.words.is_empty() || entry.ty == Type::Text, "{}", entry.name);
            if let Some(model) = &entry.model {
                assert!(is_sentence(model.reason_text), "{}", entry.name);
                assert!(codes.insert(model.reason_code), "{} stands twice", model.reason_code);
                assert!(
                    model.reason_code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')),
                    "{}",
                    model.reason_code
                );
            }
        }
    }

    #[test]
    fn a_slot_constant_names_its_own_row() {
        assert_eq!(CATALOG[usize::from(slot::AMOUNT)].name, "amount");
        assert_eq!(CATALOG[usize::from(slot::MERCHANT_COUNTRY)].name, "merchant.country");
        assert_eq!(CATALOG[usize::from(slot::DEVICE_SEEN_30D)].name, "account.device_seen_30d");
    }

    #[test]
    fn a_missing_value_stays_missing_in_the_model_row() {
        let mut values = Values::new();
        values.set_float(slot::SPEED_KMH, 900.5);
        values.set_bool(slot::IS_FOREIGN, true);
        values.set_bool(slot::IS_NIGHT, false);
        values.set_int(slot::COUNT_1H, 3);
        let mut row = [0.0; MODEL_FEATURES];
        model_vector(&values, &mut row);
        for (index, cell) in row.into_iter().enumerate() {
            let expected = match model_feature(index).name {
                "card.speed_kmh" => 900.5,
                "is_foreign" => 1.0,
                "is_night" => 0.0,
                "card.count_1h" => 3.0,
                _ => f32::NAN,
            };
            assert!(cell == expected || (cell.is_nan() && expected.is_nan()), "{index}");
        }
    }
}
