//! What each operator means, with missing values, with odd numbers and in every kind of currency.

use super::{Value, compiled, currency, file_with, results, text, values};

/// Evaluates conditions over the same values.
fn truths(conditions: &[&str], given: &[(&str, Value)], code: &str) -> Vec<Option<bool>> {
    let conditions: Vec<String> = conditions.iter().map(|when| when.to_string()).collect();
    let rules = compiled(&file_with(&conditions));
    results(&rules, &values(&rules, given), currency(code))
}

fn check(given: &[(&str, Value)], code: &str, table: &[(&str, Option<bool>)]) {
    let conditions: Vec<&str> = table.iter().map(|(when, _)| *when).collect();
    for ((when, expected), result) in table.iter().zip(truths(&conditions, given, code)) {
        assert_eq!(result, *expected, "{when} in {code}");
    }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

#[test]
fn every_operator_does_what_cel_says() {
    let given = [
        ("instalments", Value::Int(7)),
        ("hour_utc", Value::Int(-2)),
        ("card.speed_kmh", Value::Float(2.5)),
        ("is_foreign", Value::Bool(true)),
        ("is_night", Value::Bool(false)),
        ("merchant.name", text("Größe 7")),
        ("channel", text("ecommerce")),
        ("merchant.country", text("DE")),
        ("account.home_country", text("US")),
    ];
    check(
        &given,
        "USD",
        &[
            ("instalments == 7", YES),
            ("instalments != 7", NO),
            ("7 < instalments", NO),
            ("7 <= instalments", YES),
            ("instalments > 6 && instalments < 8", YES),
            ("!(instalments > 6)", NO),
            ("instalments + 1 == 8 && instalments - 8 == -1 && instalments * 2 == 14", YES),
            ("instalments / hour_utc == -3", YES),
            ("instalments % hour_utc == 1", YES),
            ("hour_utc % 7 == -2", YES),
            ("-instalments == -7", YES),
            (
                "card.speed_kmh + 0.5 == 3.0 && card.speed_kmh * 2.0 == 5.0 && card.speed_kmh / 2.0 == 1.25",
                YES,
            ),
            ("card.speed_kmh > 2", YES),
            ("card.speed_kmh == 2.5 && 2.5 == card.speed_kmh && card.speed_kmh != 2.4", YES),
            ("instalments > 6.9 && instalments < 7.1 && instalments == 7.0 && instalments != 7.5", YES),
            ("instalments < 6.9 || instalments > 7.1 || instalments == 7.5 || instalments != 7.0", NO),
            ("instalments >= 7.0 && instalments <= 7.0", YES),
            ("double(instalments) == 7.0 && int(card.speed_kmh) == 2 && int(-card.speed_kmh) == -2", YES),
            (
                "abs(hour_utc) == 2 && min(instalments, hour_utc) == -2 && max(instalments, hour_utc) == 7",
                YES,
            ),
            ("abs(-card.speed_kmh) == 2.5 && max(card.speed_kmh, 3.0) == 3.0", YES),
            ("is_foreign", YES),
            ("!is_foreign", NO),
            ("is_foreign == true && is_foreign != is_night", YES),
            ("is_foreign ? instalments == 7 : is_night", YES),
            ("(is_night ? 1 : instalments) == 7", YES),
            ("(is_foreign ? channel : merchant.country) == 'ecommerce'", YES),
            ("channel == 'ecommerce' && 'card_present' != channel", YES),
            ("channel in ['card_present', 'ecommerce']", YES),
            ("!(channel in ['card_present', 'ecommerce'])", NO),
            ("channel in []", NO),
            ("instalments in [1, 7]", YES),
            ("instalments + 1 in [1, 7]", NO),
            ("merchant.country != account.home_country", YES),
            ("merchant.country < account.home_country", YES),
            ("merchant.country >= 'DE'", YES),
            (
                "merchant.name.startsWith('Größ') && merchant.name.endsWith('7') && merchant.name.contains('ße ')",
                YES,
            ),
            ("merchant.name.contains('x')", NO),
            ("size(merchant.name) == 7", YES),
            ("has(channel) && !has(device.id)", YES),
            ("true || is_foreign", YES),
            ("1 < 2 && 'a' < 'b' && 1.5 > 1", YES),
            ("1 == 1.0 && 9007199254740993 > 9007199254740992.0", YES),
        ],
    );
}

#[test]
fn a_missing_value_is_unknown_until_logic_knows_better() {
    let given = [("is_foreign", Value::Bool(true)), ("is_night", Value::Bool(false))];
    check(
        &given,
        "USD",
        &[
            ("card.speed_kmh > 900.0", UNKNOWN),
            ("!(card.speed_kmh > 900.0)", UNKNOWN),
            ("card.speed_kmh > 900.0 && is_night", NO),
            ("is_night && card.speed_kmh > 900.0", NO),
            ("card.speed_kmh > 900.0 && is_foreign", UNKNOWN),
            ("card.speed_kmh > 900.0 || is_foreign", YES),
            ("is_foreign || card.speed_kmh > 900.0", YES),
            ("card.speed_kmh > 900.0 || is_night", UNKNOWN),
            ("!(card.speed_kmh > 900.0 && is_foreign)", UNKNOWN),
            ("!(card.speed_kmh > 900.0 || is_foreign)", NO),
            ("card.speed_kmh > 900.0 ? true : true", UNKNOWN),
            ("is_foreign ? true : card.speed_kmh > 900.0", YES),
            ("is_night ? true : card.speed_kmh > 900.0", UNKNOWN),
            ("channel == 'ecommerce'", UNKNOWN),
            ("channel != 'ecommerce'", UNKNOWN),
            ("channel in ['ecommerce']", UNKNOWN),
            ("merchant.country == account.home_country", UNKNOWN),
            ("is_ecommerce", UNKNOWN),
            ("!is_ecommerce", UNKNOWN),
            ("is_ecommerce == is_ecommerce", UNKNOWN),
            ("has(is_ecommerce)", NO),
            ("!has(amount)", YES),
            ("has(amount) && amount > 5", NO),
            ("amount > 5", UNKNOWN),
            ("amount * 2 > account.credit_limit", UNKNOWN),
            ("merchant.name.startsWith('A')", UNKNOWN),
            ("size(merchant.name) > 0", UNKNOWN),
            ("max(instalments, 3) > 2", UNKNOWN),
        ],
    );
}

#[test]
fn numbers_out_of_range_are_unknown_and_never_wrap() {
    let given = [
        ("instalments", Value::Int(i64::MAX)),
        ("hour_utc", Value::Int(i64::MIN)),
        ("weekday_utc", Value::Int(0)),
        ("card.speed_kmh", Value::Float(1e308)),
        ("distance_from_home_km", Value::Float(0.0)),
        ("amount", Value::Int(i64::MAX)),
        ("account.available", Value::Int(i64::MIN)),
        ("account.credit_limit", Value::Int(0)),
    ];
    check(
        &given,
        "USD",
        &[
            ("instalments + 1 > 0", UNKNOWN),
            ("hour_utc - 1 < 0", UNKNOWN),
            ("instalments * 2 > 0", UNKNOWN),
            ("-hour_utc > 0", UNKNOWN),
            ("abs(hour_utc) > 0", UNKNOWN),
            ("instalments / weekday_utc > 0", UNKNOWN),
            ("instalments % weekday_utc > 0", UNKNOWN),
            ("hour_utc / (weekday_utc - 1) > 0", UNKNOWN),
            ("hour_utc % (weekday_utc - 1) == 0", UNKNOWN),
            ("int(card.speed_kmh) > 0", UNKNOWN),
            // Doubles follow IEEE 754, as in CEL: infinite, and no number at all.
            ("card.speed_kmh * 10.0 > 1e308", YES),
            ("card.speed_kmh / distance_from_home_km > 1e308", YES),
            ("distance_from_home_km / distance_from_home_km == 0.0", NO),
            ("distance_from_home_km / distance_from_home_km != 0.0", YES),
            ("!(distance_from_home_km / distance_from_home_km > 0.0)", YES),
            ("distance_from_home_km == -0.0 && distance_from_home_km >= -0.0", YES),
            // Sums and products of amounts have room to spare, and ratios to nothing have no value.
            ("amount + amount > amount", YES),
            ("amount * 1000 > 999 * amount", YES),
            ("abs(account.available) > amount", YES),
            ("-account.available > amount", YES),
            ("amount / account.credit_limit > 1.0", UNKNOWN),
            ("amount > 5 && account.available < -5", YES),
            ("instalments > 9223372036854775807.0", NO),
            ("instalments < 9223372036854775808.0", YES),
            ("hour_utc >= -9223372036854775808.0 && hour_utc == -9223372036854775808.0", YES),
            ("instalments == 9223372036854775807 && hour_utc < -9223372036854775807", YES),
            ("instalments > 1e300 || hour_utc < -1e300", NO),
        ],
    );
}

#[test]
fn an_amount_is_compared_in_the_units_of_its_currency() {
    for (code, minor) in [("JPY", 5), ("USD", 500), ("KWD", 5_000), ("CLF", 50_000)] {
        for (offset, less, equal) in [(-1, true, false), (0, false, true), (1, false, false)] {
            check(
                &[("amount", Value::Int(minor + offset))],
                code,
                &[
                    ("amount < 5.00", Some(less)),
                    ("amount <= 5", Some(less || equal)),
                    ("amount == 5.0", Some(equal)),
                    ("amount != 5.00", Some(!equal)),
                    ("amount >= 5.00", Some(!less)),
                    ("5.00 < amount", Some(!less && !equal)),
                    ("!(amount > 5.00)", Some(less || equal)),
                    ("amount * 2 < 10", Some(less)),
                    ("amount + 1.00 == 6", Some(equal)),
                    ("amount - 5 == 0.0", Some(equal)),
                    ("-amount > -5", Some(less)),
                    ("max(amount, 5.00) == 5", Some(less || equal)),
                    ("amount < (has(amount) ? 5 : 7)", Some(less)),
                ],
            );
        }
    }
}

#[test]
fn a_literal_between_two_minor_units_lies_between_them() {
    for (code, below, above) in [("JPY", 5, 6), ("USD", 500, 501)] {
        check(
            &[("amount", Value::Int(below)), ("account.available", Value::Int(above))],
            code,
            &[
                ("amount < 5.005 && amount <= 5.005 && amount != 5.005", YES),
                ("account.available > 5.005 && account.available >= 5.005", YES),
                ("amount == 5.005 || amount >= 5.005 || account.available <= 5.005", NO),
                ("amount > -5.005 && -amount > -5.005", YES),
            ],
        );
    }
    check(
        &[("amount", Value::Int(5_005))],
        "KWD",
        &[("amount == 5.005 && amount >= 5.005", YES), ("amount > 5.005", NO), ("amount < 5.0051", YES)],
    );
    check(
        &[("amount", Value::Int(-501))],
        "USD",
        &[("amount < -5.005", YES), ("amount >= -5.015", YES), ("amount > -5.01", NO)],
    );
}

#[test]
fn amounts_are_scaled_exactly() {
    let given = [
        ("amount", Value::Int(30_003)),
        ("account.available", Value::Int(10_001)),
        ("account.credit_limit", Value::Int(20_002)),
        ("instalments", Value::Int(3)),
    ];
    check(
        &given,
        "USD",
        &[
            ("amount == 3 * account.available", YES),
            ("amount > 2.9999 * account.available", YES),
            ("amount < 3.0001 * account.available", YES),
            ("amount == account.available * instalments", YES),
            ("amount == 1.5 * account.credit_limit", YES),
            ("0.1 * amount == 30.003", YES),
            ("0.1 * amount > 30.00 && 0.1 * amount < 30.01", YES),
            ("amount == account.available + account.credit_limit", YES),
            ("amount - account.credit_limit == account.available", YES),
            ("0.5 * (amount + account.available) == account.credit_limit", YES),
            ("amount / account.available == 3.0", YES),
            ("(instalments > 2 ? amount : 1.00) == 300.03", YES),
            ("min(amount, account.available) == 100.01", YES),
        ],
    );
}

#[test]
fn lists_small_and_large_know_their_members() {
    let many: Vec<String> = (0..50).map(|number| format!("'M-{number}'")).collect();
    let source = format!(
        "version = 1\n[lists.few]\nvalues = ['M-1', 'M-2']\n[lists.many]\nvalues = [{}]\n[lists.none]\nvalues = []\n\
         [lists.hours]\nvalues = [23, 0, 1]\n{}",
        many.join(", "),
        file_with(
            &[
                "merchant.id in lists.few",
                "merchant.id in lists.many",
                "merchant.id in lists.none",
                "hour_utc in lists.hours"
            ]
            .map(String::from)
        )
        .replacen("version = 1", "", 1)
    );
    let rules = compiled(&source);
    for (merchant, hour, expected) in [
        ("M-1", 0, [YES, YES, NO, YES]),
        ("M-49", 23, [NO, YES, NO, YES]),
        ("M-50", 12, [NO, NO, NO, NO]),
        ("m-1", -1, [NO, NO, NO, NO]),
    ] {
        let given = [("merchant.id", text(merchant)), ("hour_utc", Value::Int(hour))];
        assert_eq!(
            results(&rules, &values(&rules, &given), currency("USD")),
            expected,
            "{merchant} at {hour}"
        );
    }
}
