//! The room as a whole: what a file may say, what its rules mean, and that neither garbage nor odd values bring it
//! down.

mod attack;
mod conformance;
mod explain;
mod findings;
mod fuzz;
mod interpreter;
mod language;
mod lists;
mod modes;
mod oracle;
mod reach;
mod schema;
mod wrong;

use super::*;
use crate::{
    features::{
        catalog::{self, CATALOG},
        values::Slot,
    },
    types::{money::Currency, time::Timestamp},
};

/// A value for a test.
#[derive(Clone, PartialEq, Debug)]
enum Value {
    Bool(bool),
    /// A whole number, or minor units.
    Int(i64),
    Float(f64),
    Text(String),
}

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

fn currency(code: &str) -> Currency {
    Currency::from_alpha(code).expect("a test names an ISO 4217 code")
}

/// A file with one flag rule per condition.
fn file_with(conditions: &[String]) -> String {
    let mut file = String::from("version = 1\n");
    for (number, when) in conditions.iter().enumerate() {
        file += &format!("[[rules]]\nid = 'r{number}'\nwhen = '''{when}'''\nthen = 'flag'\nreason = 'R'\n");
    }
    file
}

fn compiled(source: &str) -> RuleSet {
    match compile("test.toml", source) {
        Ok(rules) => rules,
        Err(findings) => {
            let all: Vec<String> = findings.iter().map(Finding::to_string).collect();
            panic!("the file is refused:\n{}", all.join("\n"));
        }
    }
}

fn slot_of(rules: &RuleSet, name: &str) -> Slot {
    let aggregate =
        rules.aggregates.iter().map(|aggregate| &*aggregate.name).position(|aggregate| aggregate == name);
    match aggregate {
        Some(index) => (CATALOG.len() + index) as Slot,
        None => catalog::lookup(name).unwrap_or_else(|| panic!("no name {name}")).0,
    }
}

fn values<'a>(rules: &RuleSet, given: &'a [(&str, Value)]) -> Values<'a> {
    let mut values = Values::new();
    for (name, value) in given {
        let slot = slot_of(rules, name);
        match value {
            Value::Bool(value) => values.set_bool(slot, *value),
            Value::Int(value) => values.set_int(slot, *value),
            Value::Float(value) => values.set_float(slot, *value),
            Value::Text(value) => values.set_text(slot, value),
        }
    }
    values
}

/// These lists at the beginning of 1970.
fn seen(lists: &ListsInForce) -> Seen<'_> {
    Seen { lists, now: Timestamp(0) }
}

/// What each rule of a file comes to: `None` is unknown.
fn results(rules: &RuleSet, values: &Values<'_>, currency: Currency) -> Vec<Option<bool>> {
    results_seen(rules, values, currency, seen(&ListsInForce::default()))
}

fn results_seen(
    rules: &RuleSet,
    values: &Values<'_>,
    currency: Currency,
    seen: Seen<'_>,
) -> Vec<Option<bool>> {
    let mut hits = Hits::default();
    rules.evaluate(values, currency, seen, &mut hits);
    let unknown: Vec<usize> = hits.unknown().collect();
    (0..rules.rules.len()).map(|rule| (!unknown.contains(&rule)).then(|| hits.is_fired(rule))).collect()
}

#[test]
fn the_shipped_rules_pass_their_own_tests_without_a_warning() {
    let rules = compiled(SHIPPED);
    assert_eq!(rules.warnings, []);
    let failed: Vec<TestResult> = run_tests(&rules).into_iter().filter(|result| !result.passed).collect();
    assert_eq!(failed, []);
    let tested = |rule: &Rule| {
        let index = rules.rules.iter().position(|other| other.id == rule.id);
        rules.tests.iter().any(|test| test.expects(index.unwrap_or(usize::MAX)))
    };
    let untested: Vec<&str> = rules.rules.iter().filter(|rule| !tested(rule)).map(|rule| &*rule.id).collect();
    assert!(untested.is_empty(), "{untested:?}");
    for group in ["lists", "velocity", "cross_region", "large_amount"] {
        assert!(rules.rules.iter().any(|rule| &*rule.group == group), "{group}");
    }
}

#[test]
fn the_version_follows_every_byte_of_the_source() {
    let one = compiled("version = 1");
    let other = compiled("version = 1\n");
    assert_eq!(one.version.len(), 12);
    assert_ne!(one.version, other.version);
    assert_eq!(one.version, compiled("version = 1").version);
    assert_eq!(&*one.source, "version = 1");
}

#[test]
fn precedence_decides_and_the_file_breaks_ties() {
    let effects = ["flag", "approve_despite_score", "step_up", "refer", "decline", "decline"];
    let mut file = String::from("version = 1\n");
    for (number, then) in effects.iter().enumerate() {
        file += &format!(
            "[[rules]]\nid = '{then}-{number}'\nwhen = 'is_foreign'\nthen = '{then}'\nreason = 'R{number}'\n"
        );
    }
    file +=
        "[[rules]]\nid = 'shadow'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'S'\nmode = 'shadow'\n";
    file += "[[rules]]\nid = 'off'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'S'\nmode = 'off'\n";
    let rules = compiled(&file);
    let given = [("is_foreign", Value::Bool(true))];
    let values = values(&rules, &given);
    let mut hits = Hits::default();
    rules.evaluate(&values, currency("USD"), seen(&ListsInForce::default()), &mut hits);
    assert_eq!(
        hits.fired().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6],
        "shadow rules count, rules that are off do not"
    );
    let order: Vec<&str> = rules.deciding(&hits).map(|rule| &*rule.id).collect();
    assert_eq!(
        order,
        ["decline-4", "decline-5", "refer-3", "step_up-2", "approve_despite_score-1", "flag-0"]
    );
    let codes: Vec<Option<&str>> =
        rules.rules.iter().map(|rule| rule.response_code.as_ref().map(|code| code.as_str())).collect();
    assert_eq!(codes, [None, None, Some("1A"), Some("01"), Some("59"), Some("59"), Some("59"), Some("59")]);
}

#[test]
fn a_filter_asks_the_event_alone() {
    use crate::{
        features::event::Event,
        types::{
            auth::Country,
            codes::{Channel, Decision, Kind},
            time::Timestamp,
        },
    };
    let event = Event {
        time: Timestamp(0),
        sequence: 0,
        card: 0,
        kind: Kind::CashAdvance,
        decision: Decision::PartiallyApproved,
        declined_for_credit: false,
        amount_minor: 100,
        currency: Some(currency("USD")),
        channel: Some(Channel::CardPresent),
        mcc: Some(742),
        country: Country::new("JP"),
        merchant: None,
        device: None,
        place: None,
    };
    let bare = Event { channel: None, mcc: None, country: None, ..event.clone() };
    let declined =
        Event { decision: Decision::Declined, declined_for_credit: true, amount_minor: 101, ..event.clone() };
    for (filter, expected) in [
        ("outcome == 'approved'", [true, true, false]),
        ("outcome == 'declined' && !declined_for_credit", [false, false, false]),
        ("outcome != 'approved' && declined_for_credit", [false, false, true]),
        ("channel == 'card_present'", [true, false, true]),
        ("channel != 'ecommerce'", [true, false, true]),
        ("!has(channel)", [false, true, false]),
        ("kind in ['cash_advance', 'purchase']", [true, true, true]),
        ("merchant.mcc == '0742'", [true, false, true]),
        ("mcc.startsWith('07') || country == 'US'", [true, false, true]),
        ("merchant.country == 'JP' && merchant.mcc != '0743'", [true, false, true]),
        ("amount == 1", [true, true, false]),
        ("1.00 < amount", [false, false, true]),
        ("amount <= 1.005 && has(channel)", [true, false, false]),
        ("kind == 'cash_advance' && (amount > 1.005 && 2 >= amount) && amount > -5", [false, false, true]),
        ("amount > 1.00 && amount < 1.01", [false, false, false]),
    ] {
        let source = format!(
            "version = 1\n[aggregates.a]\nby = 'card'\nwindow = '1h'\ncount = true\nwhere = \"\"\"{filter}\"\"\"\n"
        );
        let rules = compiled(&source);
        let ask = rules.aggregates[0].filter.as_ref().expect("the aggregate has a filter");
        assert_eq!([&event, &bare, &declined].map(|event| ask.passes(event)), expected, "{filter}");
    }
}

#[test]
fn an_amount_in_a_filter_is_in_major_units_of_the_event_s_own_currency() {
    use crate::features::amounts::AmountRange;
    let source =
        "version = 1\n[aggregates.a]\nby = 'card'\nwindow = '1h'\ncount = true\nwhere = 'amount >= 5.005'\n";
    let rules = compiled(source);
    let range: AmountRange = rules.aggregates[0].filter.as_ref().and_then(|filter| filter.amounts()).unwrap();
    for (code, inside, outside) in
        [("JPY", 6, 5), ("USD", 501, 500), ("KWD", 5_005, 5_004), ("CLF", 50_050, 50_049)]
    {
        assert!(range.has(inside, currency(code)) && !range.has(outside, currency(code)), "{code}");
    }
    let placed = [
        "!(amount > 5)",
        "amount != 5",
        "amount + 1.00 > 5.00",
        "has(amount)",
        "amount > amount",
        "amount * 2 > 5.00",
        "outcome == 'approved' && (amount > 5 || channel == 'ecommerce')",
        "amount > 5 ? outcome == 'approved' : true",
    ];
    for filter in placed {
        let source = source.replace("amount >= 5.005", &filter.replace('\'', "\""));
        let findings = compile("test.toml", &source).expect_err(filter);
        assert_eq!(findings.len(), 1, "{filter}: {findings:?}");
        assert_eq!(findings[0].message, "a filter cannot ask for an amount in this way", "{filter}");
        assert_eq!(
            &source.lines().nth(5).unwrap()[findings[0].column as usize - 1..][..6],
            "amount",
            "{filter}"
        );
    }
}

#[test]
fn a_test_in_the_file_says_what_came_instead() {
    let rules = compiled(
        "version = 1\n\
         [[rules]]\nid = 'a'\nwhen = 'amount > 5'\nthen = 'decline'\nreason = 'A'\n\
         [[rules]]\nid = 'b'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'B'\n\
         [[tests]]\nname = 'right'\ngiven = { amount = 5.01, merchant.country = 'US' }\n\
         expect = { decision = 'DECLINED', rules = ['a'] }\n\
         [[tests]]\nname = 'wrong'\ngiven = { amount = 5.00 }\n\
         expect = { decision = 'DECLINED', rules = ['a', 'b'] }\n\
         [[tests]]\nname = 'unexpected'\ngiven = { amount = 6, currency = 'JPY', is_foreign = false }\n\
         expect = { rules = [] }\n",
    );
    let results = run_tests(&rules);
    assert!(results[0].passed);
    assert_eq!(results[1].line, 16);
    assert_eq!(
        results[1].failures,
        [
            "expected DECLINED, the rules decide APPROVED",
            "rule `a` does not fire",
            "rule `b` does not fire: a value it needs is missing",
        ]
    );
    assert_eq!(results[2].failures, ["rule `a` fires unexpectedly"]);
}

#[test]
fn a_test_that_fails_for_a_rule_in_shadow_says_so() {
    let rules = compiled(
        "version = 1\n[[rules]]\nid = 'tried'\nwhen = 'is_foreign'\nthen = 'decline'\nreason = 'A'\nmode = 'shadow'\n\
         [[tests]]\nname = 't'\ngiven = { is_foreign = true }\nexpect = { decision = 'DECLINED' }\n",
    );
    let failures = run_tests(&rules).remove(0).failures;
    assert_eq!(failures, ["expected DECLINED, the rules decide APPROVED: `tried` fires in shadow"]);
}

#[test]
fn a_test_at_a_time_sees_what_has_ended_by_then_and_who_is_excused() {
    let mut source = "version = 1\n[lists.shops]\nfile = 'shops.csv'\n\
         [[rules]]\nid = 'shop'\nwhen = 'merchant.id in lists.shops'\nthen = 'decline'\nreason = 'A'\nlive_percent = 1\n\
         [[rules]]\nid = 'night'\nwhen = 'is_night && hour_utc in [1, 2]'\nthen = 'flag'\nreason = 'B'\n\
         [[suppressions]]\nrule = 'shop'\ncard = 'tok_1'\nuntil = 2026-03-01\n"
        .to_owned();
    let cases = [
        ("no time", "merchant.id = 'M-1', card_token = 'tok_1'", "DECLINED", "'shop'"),
        ("on the list", "merchant.id = 'M-1', transaction_time = 2026-02-28T23:59:59Z", "DECLINED", "'shop'"),
        ("off it", "merchant.id = 'M-1', transaction_time = '2026-03-01T04:00:00+04:00'", "APPROVED", ""),
        (
            "excused",
            "merchant.id = 'M-2', card_token = 'tok_1', transaction_time = 2026-03-01T23:59:59Z",
            "APPROVED",
            "'shop'",
        ),
        (
            "no more",
            "merchant.id = 'M-2', card_token = 'tok_1', transaction_time = 2026-03-02T12:00:00",
            "DECLINED",
            "'shop'",
        ),
        ("by night", "transaction_time = 2026-03-02T02:30:00Z", "APPROVED", "'night'"),
        ("as given", "transaction_time = 2026-03-02T02:30:00Z, hour_utc = 3", "APPROVED", ""),
        (
            "wrongly",
            "merchant.id = 'M-2', card_token = 'tok_1', transaction_time = 2026-03-01T12:00:00Z",
            "DECLINED",
            "'shop'",
        ),
    ];
    for (name, given, decision, fires) in cases {
        source += &format!(
            "[[tests]]\nname = '{name}'\ngiven = {{ {given} }}\nexpect = {{ decision = '{decision}', rules = [{fires}] }}\n"
        );
    }
    append_list_file(&mut source, "shops.csv", "value,expires_at\nM-1,2026-02-28\nM-2,\n").unwrap();
    let mut results = run_tests(&compiled(&source));
    let wrongly = results.pop().unwrap();
    assert_eq!(wrongly.failures, ["expected DECLINED, the rules decide APPROVED: `shop` is suppressed"]);
    let failed: Vec<TestResult> = results.into_iter().filter(|result| !result.passed).collect();
    assert_eq!(failed, []);
    for (time, expected) in [
        ("2026-03-01", "`transaction_time` must be a date and a time"),
        ("'noon'", "`transaction_time` must be a date and a time"),
        ("5", "unknown name `transaction_time`"),
    ] {
        let test = format!(
            "[[tests]]\nname = 't'\ngiven = {{ transaction_time = {time} }}\nexpect = {{ rules = [] }}\n"
        );
        let findings = compile("test.toml", &format!("version = 1\n{test}")).unwrap_err();
        let said: Vec<_> = findings.iter().map(|found| (found.line, &*found.message)).collect();
        assert_eq!(said, [(4, expected)]);
    }
}

/// Prints the time of 20 rules over 30 fields; what it may be is for the benches to say.
#[test]
fn twenty_rules_over_thirty_fields_take_little_time() {
    let conditions = [
        "card.count_1h >= 5 && amount < 5.00",
        "is_foreign && is_magnetic_stripe",
        "card.speed_kmh > 900.0 && card.distance_from_last_km > 300.0",
        "amount > 4000 && !account.merchant_seen_30d",
        "merchant.country in ['NG', 'RO', 'BR'] && is_ecommerce",
        "card.declines_24h >= 3 && card.small_count_1h >= 2",
        "channel == 'ecommerce' && account.first_use_of_country_30d && is_night",
        "card.amount_over_mean_30d > 8.0 && card.count_30d >= 10",
        "merchant.mcc == '6011' && amount > 800",
        "card.countries_24h >= 3",
        "card.merchants_24h > 8 && card.sum_24h_major > 2000.0",
        "entry_mode == 'manual' && amount > 250",
        "verification.cvv == 'no_match' || verification.avs == 'no_match'",
        "verification.network_risk_score > 90",
        "distance_from_home_km > 5000.0 && hour_utc < 5",
        "account.age_days < 30 && amount > 1500",
        "amount > account.available && card.declines_1h >= 1",
        "merchant.country != account.home_country && account.device_seen_30d == false",
        "kind == 'cash_advance' && card.night_count_24h > 1",
        "card.mean_7d_over_30d > 3.0 && instalments > 12",
    ]
    .map(String::from);
    let rules = compiled(&file_with(&conditions));
    let given = [
        ("amount", Value::Int(4_999)),
        ("currency", text("USD")),
        ("card.count_1h", Value::Int(1)),
        ("card.count_30d", Value::Int(44)),
        ("card.declines_1h", Value::Int(0)),
        ("card.declines_24h", Value::Int(0)),
        ("card.countries_24h", Value::Int(1)),
        ("card.merchants_24h", Value::Int(2)),
        ("card.sum_24h_major", Value::Float(83.5)),
        ("card.speed_kmh", Value::Float(12.0)),
        ("card.distance_from_last_km", Value::Float(3.0)),
        ("card.amount_over_mean_30d", Value::Float(1.2)),
        ("card.mean_7d_over_30d", Value::Float(1.1)),
        ("card.night_count_24h", Value::Int(0)),
        ("is_foreign", Value::Bool(false)),
        ("is_night", Value::Bool(false)),
        ("is_ecommerce", Value::Bool(false)),
        ("is_magnetic_stripe", Value::Bool(false)),
        ("account.merchant_seen_30d", Value::Bool(true)),
        ("account.first_use_of_country_30d", Value::Bool(false)),
        ("account.age_days", Value::Int(900)),
        ("account.available", Value::Int(312_000)),
        ("account.home_country", text("US")),
        ("merchant.country", text("US")),
        ("merchant.mcc", text("5411")),
        ("channel", text("card_present")),
        ("entry_mode", text("chip")),
        ("kind", text("purchase")),
        ("distance_from_home_km", Value::Float(4.0)),
        ("hour_utc", Value::Int(17)),
        ("instalments", Value::Int(0)),
        ("verification.network_risk_score", Value::Int(7)),
    ];
    let values = values(&rules, &given);
    let usd = currency("USD");
    let mut hits = Hits::default();
    let lists = ListsInForce::default();
    let (rounds, mut best) = (2_000, f64::INFINITY);
    for _ in 0..20 {
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            rules.evaluate(std::hint::black_box(&values), usd, seen(&lists), &mut hits);
            std::hint::black_box(&hits);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    println!("20 rules over 30 fields: {best:.0} ns");
    assert_eq!(hits.fired().count(), 0);
}

#[test]
fn a_test_s_lists_are_beside_the_file_s_and_what_they_cannot_hold_fails_it() {
    let rules = compiled(
        "version = 1\n[lists.mccs]\nvalues = ['5411']\n\
         [[rules]]\nid = 'r'\nwhen = 'mcc in lists.mccs'\nthen = 'flag'\nreason = 'R'\n\
         [[tests]]\nname = 'added'\ngiven = { mcc = '7995' }\nlists = { mccs = ['7995'] }\nexpect = { rules = ['r'] }\n\
         [[tests]]\nname = 'of the file'\ngiven = { mcc = '5411' }\nlists = { mccs = ['7995'] }\nexpect = { rules = ['r'] }\n\
         [[tests]]\nname = 'of another test'\ngiven = { mcc = '7995' }\nexpect = { rules = [] }\n\
         [[tests]]\nname = 'no category'\ngiven = { mcc = '5411' }\nlists = { mccs = ['42'] }\nexpect = { rules = ['r'] }\n",
    );
    let results = run_tests(&rules);
    let failures: Vec<&[String]> = results.iter().map(|result| result.failures.as_slice()).collect();
    let wrong =
        ["`42` on list `mccs` must be four digits: rules look `merchant.mcc` up in the list".to_owned()];
    assert_eq!(failures, [&[] as &[String], &[], &[], &wrong]);
}
