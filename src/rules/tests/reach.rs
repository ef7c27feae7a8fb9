//! Warnings that a rule can never fire or never decides: each must be true of every transaction, or analysts would
//! stop to read them.

use proptest::prelude::*;

use super::{Value, compile, compiled, currency, results, text, values};

const DECLARED: &str = "version = 1\n\
    aggregates.tries = { by = 'card', window = '1h', count = true }\n\
    lists.near = { values = ['AT', 'CH'] }\n\
    lists.none = { values = [] }\n";

fn warnings(conditions: &[&str]) -> Vec<String> {
    let mut source = String::from(DECLARED);
    for (number, when) in conditions.iter().enumerate() {
        source += &format!(
            "[[rules]]\nid = 'r{number}'\nwhen = \"\"\"{when}\"\"\"\nthen = 'decline'\nreason = 'R'\n"
        );
    }
    let warnings = compiled(&source).warnings;
    let told = warnings.into_iter().map(|finding| finding.message);
    told.filter(|message| !message.contains("is used by no rule")).collect()
}

#[test]
fn a_condition_that_contradicts_itself_is_told() {
    for never in [
        "tries >= 5 && tries < 3",
        "tries > 4 && tries < 5",
        "5 > tries && tries > 5",
        "tries < 0",
        "tries > 2.5 && tries < 3",
        "amount > 10.00 && amount < 10",
        "amount == 10.00 && amount != 10.0",
        "amount < 0",
        "card.speed_kmh > 900.0 && !(card.speed_kmh > 100.0)",
        "card.speed_kmh > 1.0 && card.speed_kmh <= 1.0",
        "is_foreign && !is_foreign",
        "!has(channel) && channel == 'ecommerce'",
        "channel == 'ecommerce' && channel == 'card_present'",
        "merchant.country in ['AT', 'CH'] && merchant.country == 'US'",
        "merchant.country in ['AT'] && merchant.country != 'AT'",
        "tries > 5 && (tries < 3 || tries == 4)",
        "!(tries < 5 || is_foreign) && is_foreign",
    ] {
        let found = warnings(&[never]);
        assert!(matches!(&found[..], [one] if one.contains("never true")), "{never}: {found:?}");
    }
    for possible in [
        "tries >= 5 && tries <= 5",
        "tries > 4 && tries < 6",
        "amount > 10.00 && amount < 10.001",
        "amount >= 10 && amount <= 10",
        "card.speed_kmh > 1.0 && card.speed_kmh < 1.0000000000000002",
        "channel != 'ecommerce' && channel != 'card_present'",
        "merchant.country in ['AT', 'CH'] && merchant.country != 'AT'",
        // A call may put it there.
        "merchant.country in lists.near && merchant.country == 'US'",
        "merchant.country in lists.none",
        "tries > 5 && (tries < 3 || tries == 7)",
        "has(channel) || !has(channel)",
        "card.speed_kmh < 0.0 && distance_from_home_km > 5.0",
    ] {
        assert_eq!(warnings(&[possible]), Vec::<String>::new(), "{possible}");
    }
}

#[test]
fn a_rule_that_another_always_decides_before_is_told_with_the_other_ones_line() {
    for (earlier, later) in [
        ("tries >= 3", "tries >= 5"),
        ("tries > 2", "tries >= 3 && is_foreign"),
        ("amount > 100", "amount > 100.01"),
        ("amount != 5", "amount == 7"),
        ("channel == 'ecommerce'", "channel == 'ecommerce' && tries > 1"),
        ("merchant.country in ['AT', 'CH']", "merchant.country == 'AT'"),
        ("merchant.country != 'US'", "merchant.country in ['AT', 'CH']"),
        ("merchant.country in lists.near", "is_night && merchant.country in lists.near"),
        (
            "amount > 2 * account.credit_limit && is_night",
            "is_night && amount > 2 * account.credit_limit && tries > 1",
        ),
        ("has(channel)", "channel == 'ecommerce'"),
        ("!(is_foreign || is_night)", "!is_night && !is_foreign"),
    ] {
        let found = warnings(&[earlier, later]);
        let expected = "rule `r1` never decides: wherever it fires, `r0` on line 6 fires too";
        assert!(matches!(&found[..], [one] if one.starts_with(expected)), "{earlier}, {later}: {found:?}");
    }
    for (earlier, later) in [
        ("tries >= 5", "tries >= 3"),
        ("tries >= 3 && is_foreign", "tries >= 5"),
        ("!has(channel) && tries > 1", "tries > 2"),
        ("amount > 100", "amount >= 100"),
        ("amount > 2 * account.credit_limit", "amount > 3 * account.credit_limit"),
        ("tries < 5", "tries != 7"),
        ("merchant.country in lists.near", "merchant.country == 'AT'"),
    ] {
        assert_eq!(warnings(&[earlier, later]), Vec::<String>::new(), "{earlier}, {later}");
    }
}

#[test]
fn only_what_decides_first_covers_another() {
    let file = |first: &str, second: &str| {
        let rule = |id: &str, when: &str, rest: &str| {
            format!("[[rules]]\nid = '{id}'\nwhen = '{when}'\nreason = 'R'\n{rest}\n")
        };
        let source = format!("{DECLARED}{}{}", rule("a", "tries > 1", first), rule("b", "tries > 2", second));
        let warnings = compile("test.toml", &source).unwrap().warnings;
        warnings.iter().any(|finding| finding.message.contains("never decides"))
    };
    assert!(file("then = 'decline'", "then = 'refer'"));
    assert!(!file("then = 'refer'", "then = 'decline'"), "the later one stands above the earlier one");
    assert!(!file("then = 'decline'\nmode = 'shadow'", "then = 'decline'"));
    assert!(
        !file("then = 'decline'", "then = 'decline'\nmode = 'shadow'"),
        "a shadow is there to be compared"
    );
    assert!(
        !file("then = 'decline'\nlive_percent = 50", "then = 'decline'"),
        "for half of the cards the later one decides"
    );
    let suppressed =
        "then = 'decline'\n[[suppressions]]\nrules = ['a']\ncard = 'C'\nuntil = 2027-01-01T00:00:00Z";
    assert!(!file(suppressed, "then = 'decline'"), "for that card the later one decides");
    assert!(!file("then = 'decline'", "then = 'flag'"), "a flag is a remark beside the decision");
}

/// Comparisons of few fields with few values, so that they meet often.
fn term() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let number = prop::sample::select(vec!["0", "1", "2", "3"]);
    let decimal = prop::sample::select(vec!["0.0", "0.5", "1.0", "1.5"]);
    let equality = prop::sample::select(vec!["==", "!="]);
    let country = prop::sample::select(vec!["AT", "CH", "US"]);
    prop_oneof![
        (comparison.clone(), number.clone()).prop_map(|(is, value)| format!("tries {is} {value}")),
        (number, comparison.clone()).prop_map(|(value, is)| format!("{value} {is} tries")),
        (comparison.clone(), decimal.clone()).prop_map(|(is, value)| format!("tries {is} {value}")),
        (comparison.clone(), decimal.clone()).prop_map(|(is, value)| format!("amount {is} {value}")),
        (comparison, decimal).prop_map(|(is, value)| format!("card.speed_kmh {is} {value}")),
        (equality, country).prop_map(|(is, value)| format!("merchant.country {is} '{value}'")),
        Just("merchant.country in lists.near".to_owned()),
        Just("is_foreign".to_owned()),
        Just("has(merchant.country)".to_owned()),
        Just("has(tries)".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let some = prop::collection::vec((term(), any::<bool>()), 1..5).prop_map(|terms| {
        let terms = terms.into_iter().map(|(term, is_not)| if is_not { format!("!({term})") } else { term });
        terms.collect::<Vec<_>>()
    });
    (some, term(), term(), 0..4).prop_map(|(mut terms, left, right, form)| {
        match form {
            0 => terms.push(format!("({left} || {right})")),
            1 => terms.push(format!("!({left} || {right})")),
            2 => terms.push(format!("!({left} && {right})")),
            _ => {}
        }
        terms.join(" && ")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_warning_is_a_false_alarm(first in condition(), second in condition()) {
        let source = format!(
            "{DECLARED}[[rules]]\nid = 'a'\nwhen = \"\"\"{first}\"\"\"\nthen = 'decline'\nreason = 'R'\n\
             [[rules]]\nid = 'b'\nwhen = \"\"\"{second}\"\"\"\nthen = 'decline'\nreason = 'R'\n"
        );
        let rules = compiled(&source);
        let told = |part: &str, line: u32| {
            rules.warnings.iter().any(|found| found.line == line && found.message.contains(part))
        };
        let never = [told("never true", 6), told("never true", 11)];
        let covered = told("never decides", 11);
        if never == [false; 2] && !covered {
            return Ok(());
        }
        for tries in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
            for amount in [None, Some(0), Some(1), Some(50), Some(75), Some(100), Some(101), Some(150), Some(200)] {
                for speed in [None, Some(-0.1), Some(-0.0), Some(0.0), Some(0.2), Some(0.5), Some(1.2), Some(1.5)] {
                    for country in [None, Some("AT"), Some("CH"), Some("US"), Some("DE")] {
                        for foreign in [None, Some(true), Some(false)] {
                            let mut given = Vec::new();
                            given.extend(tries.map(|tries| ("tries", Value::Int(tries))));
                            given.extend(amount.map(|amount| ("amount", Value::Int(amount))));
                            given.extend(speed.map(|speed| ("card.speed_kmh", Value::Float(speed))));
                            given.extend(country.map(|country| ("merchant.country", text(country))));
                            given.extend(foreign.map(|foreign| ("is_foreign", Value::Bool(foreign))));
                            let found = results(&rules, &values(&rules, &given), currency("USD"));
                            prop_assert!(!(never[0] && found[0] == Some(true)), "{first} is true of {given:?}");
                            prop_assert!(!(never[1] && found[1] == Some(true)), "{second} is true of {given:?}");
                            let alone = covered && found[1] == Some(true) && found[0] != Some(true);
                            prop_assert!(!alone, "{second} fires without {first} on {given:?}");
                        }
                    }
                }
            }
        }
    }
}
