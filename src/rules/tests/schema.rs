//! The schema that editors read says what the reader of files says: the same keys, and the same words where a key
//! takes only some.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Finding, SHIPPED, compile};

const SCHEMA: &str = include_str!("../../../rules/schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

/// The words behind `lead` in the help of the one finding that has it.
fn listed(source: &str, lead: &str) -> BTreeSet<String> {
    let findings = compile("test.toml", source).expect_err(source);
    let helps: Vec<&str> = findings.iter().filter_map(|finding: &Finding| finding.help.as_deref()).collect();
    let help = helps.iter().find_map(|help| help.strip_prefix(lead));
    let help = help.unwrap_or_else(|| panic!("{source}: no help begins with {lead:?} in {helps:?}"));
    help.split(", ").map(str::to_owned).collect()
}

fn keys(of: &Value) -> BTreeSet<String> {
    of["properties"].as_object().expect("an object").keys().cloned().collect()
}

fn words(of: &Value) -> BTreeSet<String> {
    of["enum"]
        .as_array()
        .expect("an enumeration")
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_editor_knows_the_keys_and_words_that_the_engine_knows() {
    let schema = schema();
    let part = |name: &str| &schema["definitions"][name];
    let known = |source: &str| listed(source, "known are: ");
    assert_eq!(keys(&schema), known("version = 1\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("aggregate")), known("version = 1\n[aggregates.a]\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("list")), known("version = 1\n[lists.a]\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("label_policy")), known("version = 1\n[[label_policies]]\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("rule")), known("version = 1\n[[rules]]\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("suppression")), known("version = 1\n[[suppressions]]\nqqqqqqqq = 1\n"));
    assert_eq!(keys(part("test")), known("version = 1\n[[tests]]\nqqqqqqqq = 1\n"));
    let expect = &part("test")["properties"]["expect"];
    assert_eq!(keys(expect), known("version = 1\n[[tests]]\nexpect = { qqqqqqqq = 1 }\n"));

    let one_of = |table: &str, key: &str| {
        listed(&format!("version = 1\n{table}{key} = 'qqqqqqqq'\n"), "it is one of: ")
    };
    let policy = &part("label_policy")["properties"];
    for key in ["label", "add"] {
        assert_eq!(words(&policy[key]), one_of("[[label_policies]]\n", key), "{key}");
    }
    let rule = &part("rule")["properties"];
    for key in ["then", "mode"] {
        assert_eq!(words(&rule[key]), one_of("[[rules]]\n", key), "{key}");
    }
    let distinct = &part("aggregate")["properties"]["distinct"];
    assert_eq!(words(distinct), one_of("[aggregates.a]\n", "distinct"));
    assert_eq!(words(&expect["properties"]["decision"]), one_of("[[tests]]\n", "expect.decision"));
    for by in words(&part("aggregate")["properties"]["by"]) {
        let source = format!("version = 1\n[aggregates.a]\nby = '{by}'\nwindow = '1h'\ncount = true\n");
        assert!(compile("test.toml", &source).is_ok(), "{by}");
    }
}

#[test]
fn the_shipped_rules_use_no_key_that_the_schema_does_not_have() {
    let file: toml::Table = SHIPPED.parse().expect("the shipped rules are TOML");
    let schema = schema();
    let within = |value: &toml::Value, part: &str| {
        let allowed = keys(&schema["definitions"][part]);
        for key in value.as_table().expect("a table").keys() {
            assert!(allowed.contains(key), "{key} of a {part}");
        }
    };
    for (list, part) in [("rules", "rule"), ("tests", "test")] {
        file[list].as_array().unwrap().iter().for_each(|value| within(value, part));
    }
    for (table, part) in [("aggregates", "aggregate"), ("lists", "list")] {
        file[table].as_table().unwrap().values().for_each(|value| within(value, part));
    }
}
