//! A rule in words says what is evaluated: each part of the language has its phrase, and no name is lost.

use super::{SHIPPED, compiled};
use crate::rules::names;

fn explained(when: &str) -> Vec<String> {
    let source = format!(
        "version = 1\n\
         aggregates.tries = {{ by = 'card', window = '36h', count = true, where = \"outcome == 'declined'\" }}\n\
         aggregates.spent = {{ by = 'account', window = '1d', sum = 'amount' }}\n\
         lists.near = {{ values = ['AT', 'CH'] }}\n\
         [[rules]]\nid = 'r'\nwhen = '''{when}'''\nthen = 'decline'\nreason = 'R'\n"
    );
    compiled(&source).explanations.remove(0).when
}

#[test]
fn each_part_of_the_language_is_said_in_words() {
    for (when, said) in [
        ("amount > 12.50", "amount is more than 12.5"),
        (
            "spent + amount >= 0.75 * account.credit_limit",
            "(spent plus amount) is at least 0.75 times account.credit_limit",
        ),
        ("amount / spent > 3.0", "(amount over spent) is more than 3"),
        ("abs(spent - amount) < 1", "the size of (spent less amount) is less than 1"),
        ("max(tries, 3) != tries % 2", "the greater of tries and 3 is not (tries modulo 2)"),
        ("!is_foreign", "is_foreign is false"),
        ("!has(channel)", "channel is not known"),
        ("merchant.country in lists.near", "merchant.country is on the list near (2 values)"),
        ("!(merchant.country in ['AT', 'DE'])", "merchant.country is not one of 'AT', 'DE'"),
        ("tries in [1, 2, 3, 4, 5]", "tries is one of 5 values, such as 1, 2, 3, 4"),
        ("merchant.name.startsWith('PAY')", "merchant.name begins with 'PAY'"),
        ("size(merchant.name) > 3", "the number of characters of merchant.name is more than 3"),
        (
            "amount > (currency == 'JPY' ? 500 : 5)",
            "amount is more than (500 where currency is 'JPY', otherwise 5)",
        ),
        ("(is_foreign || is_night) == true", "(is_foreign is true or is_night is true)"),
    ] {
        assert_eq!(explained(when), [said], "{when}");
    }
    assert_eq!(
        explained("is_night && (tries > 1 || !(is_foreign && spent > 2))"),
        [
            "all of these:",
            "  is_night is true",
            "  any of these:",
            "    tries is more than 1",
            "    not all of these:",
            "      is_foreign is true",
            "      spent is more than 2"
        ]
    );
}

#[test]
fn what_a_rule_reads_is_named_with_its_meaning_also_where_it_is_an_aggregate() {
    let rules = compiled(
        "version = 1\n[aggregates.tries]\nby = 'card'\nwindow = '90m'\ncount = true\nwhere = \"outcome == 'declined'\"\n\
         [[rules]]\nid = 'r'\nwhen = 'tries > 1 && tries < 9 && amount > 5'\nthen = 'refer'\nreason = 'R'\ntext = 'So.'\n",
    );
    let rule = &rules.explanations[0];
    assert_eq!(rule.then, "declines and asks to call the issuer with response code 01, reason R: So.");
    let read: Vec<(&str, &str, &str)> =
        rule.reads.iter().map(|read| (read.name.as_str(), read.ty, read.unit)).collect();
    assert_eq!(read, [("amount", "money", "major units"), ("tries", "a whole number", "")]);
    assert_eq!(
        rule.reads[1].meaning,
        "The number of attempts of the card in the last 90 minutes, counting where outcome == 'declined'."
    );
}

/// What frauds of an account came to is in another currency than what the account spent.
#[test]
fn money_is_said_in_the_currency_that_its_windows_are_kept_in() {
    let rules = compiled(
        "version = 1\n[aggregates.spent]\nby = 'account'\nwindow = '1d'\nsum = 'amount'\n\
         [aggregates.lost]\nby = 'account'\nwindow = '1d'\nsum = 'amount_base'\nwhere = \"label == 'fraud'\"\n\
         [aggregates.taken]\nby = 'merchant'\nwindow = '1d'\nsum = 'amount_base'\n\
         [[rules]]\nid = 'r'\nwhen = 'spent > 5 && lost > 5.0 && taken > 5.0'\nthen = 'flag'\nreason = 'R'\n",
    );
    let units: Vec<(&str, &str)> =
        rules.explanations[0].reads.iter().map(|read| (read.name.as_str(), read.unit)).collect();
    let base = "major units of the base currency";
    assert_eq!(units, [("spent", "major units"), ("lost", base), ("taken", base)]);
}

#[test]
fn every_name_that_a_rule_may_use_is_listed_short_ones_too() {
    let names = names();
    let mcc = names.iter().find(|name| name.name == "merchant.mcc").unwrap();
    assert_eq!(mcc.aliases, ["merchant.category_code", "mcc"]);
    for name in names.iter().flat_map(|name| name.aliases.iter().copied().chain([&*name.name])) {
        explained(&format!("has({name})"));
    }
}

#[test]
fn every_shipped_rule_is_explained_without_a_gap() {
    for rule in &compiled(SHIPPED).explanations {
        assert!(!rule.when.is_empty() && !rule.reads.is_empty() && rule.cost_ns > 0, "{rule:?}");
        assert!(rule.reads.iter().all(|read| !read.meaning.is_empty()), "{rule:?}");
    }
}

/// What explains an aggregate's memory is what its windows take: held against benches' figures of the same structures.
#[test]
fn what_an_aggregate_takes_in_memory_is_said() {
    let rules = compiled(
        "version = 1\n[aggregates.by_card]\nby = 'card'\nwindow = '1h'\ncount = true\n\
         [aggregates.shops]\nby = 'account'\nwindow = '1h'\ndistinct = 'merchant.id'\n\
         [aggregates.by_device]\nby = 'device'\nwindow = '1h'\ndistinct = 'card.token'\n\
         [aggregates.frauds]\nby = 'card'\nwindow = '30d'\ncount = true\nwhere = \"label == 'fraud'\"\n\
         [[rules]]\nid = 'r'\nwhen = 'by_card > 1 && shops > 1 && by_device > 1 && frauds > 1 && amount > 5'\nthen = 'flag'\nreason = 'R'\n",
    );
    let memory: Vec<(&str, String)> =
        rules.explanations[0].reads.iter().map(|read| (read.name.as_str(), read.memory())).collect();
    let key_bytes = crate::features::shared::KEY_BYTES;
    assert!((80..=128).contains(&key_bytes), "{key_bytes}");
    // A window's length and the time by which an advice may be late are never said as one number.
    let late = "7 days more: an advice may come so late, and reads what it would have read in time";
    let own = format!(
        "each event of the account, kept once for all aggregates, for the longest window there may be (31 days) and {late}"
    );
    assert_eq!(
        memory,
        [
            ("amount", String::new()),
            ("by_card", format!("10 bytes a key and 8 for {own}")),
            ("shops", format!("0 bytes a key and 8 for {own}")),
            (
                "by_device",
                format!(
                    "{key_bytes} bytes a key and 16 for each event, kept for the window (1 hour) and {late}"
                )
            ),
            (
                "frauds",
                format!(
                    "{key_bytes} bytes a key and 12 for each event, kept for the window (30 days) and {late}"
                )
            ),
        ]
    );
    let json = serde_json::to_value(&rules.explanations[0].reads[3]).unwrap();
    assert_eq!((&json["window_ms"], &json["event_kept_ms"]), (&3_600_000.into(), &608_400_000.into()));
}
