//! The schema that editors read says what the reader of files says: the same keys, and the same words where a key
//! takes only some.

mod validator;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Finding, SHIPPED, compile, wrong};
use validator::refusal;

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
    let keys_of_windows: BTreeSet<String> =
        listed("version = 1\n[aggregates.a]\nby = 'qqqqqqqq'\n", "it is one or several of: ");
    assert_eq!(words(part("key")), keys_of_windows);
    let distinct = &part("aggregate")["properties"]["distinct"];
    assert_eq!(words(distinct), one_of("[aggregates.a]\n", "distinct"));
    assert_eq!(words(&expect["properties"]["decision"]), one_of("[[tests]]\n", "expect.decision"));
}

/// A rules file as an editor sees it: TOML's dates are texts in JSON.
fn as_json(source: &str) -> Option<Value> {
    fn value(of: toml::Value) -> Value {
        match of {
            toml::Value::Datetime(time) => json!(time.to_string()),
            toml::Value::Array(items) => items.into_iter().map(value).collect(),
            toml::Value::Table(table) => table.into_iter().map(|(key, of)| (key, value(of))).collect(),
            plain => serde_json::to_value(plain).expect("a plain value is JSON"),
        }
    }
    source.parse::<toml::Table>().ok().map(|table| value(toml::Value::Table(table)))
}

fn refused(source: &str) -> Option<String> {
    refusal(&schema(), &as_json(source).expect("the file is TOML"))
}

/// Every form that the README and ARCHITECTURE.md speak of.
const EVERYTHING: &str = r#"
version = 1
[aggregates.by_card]
by = "card"
window = "1s"
stddev = "amount"
[aggregates.by_several]
by = ["account", "merchant", "mcc", "device", "country"]
window = "31d"
count = true
where = "outcome == 'declined'"
[aggregates.of_a_till]
by = "terminal"
window = "24h"
mean = "amount_base"
[aggregates.of_an_address]
by = ["ip", "country"]
window = "7d"
distinct = "account.id"
[aggregates.channels]
by = ["card"]
window = "90m"
distinct = "channel"
[aggregates.lost_at_a_till]
by = ["card", "merchant", "terminal"]
window = "30d"
sum = "amount_base"
where = "label == 'fraud' && amount_base >= 5.00"
[aggregates.fraud_addresses]
by = "account"
window = "30d"
distinct = "device.ip"
where = "channel == 'ecommerce' && label == 'fraud'"
[lists.shops]
values = ["M-1"]
[lists.hours]
values = [1, 2]
[lists.none]
values = []
[[label_policies]]
label = "fraud"
kind = "stolen"
list = "none"
add = "device.id"
expires_in = "30d"
[[rules]]
id = "one"
when = "by_card > 5 || by_several > 1 || of_a_till > 5 || of_an_address > 5 || channels > 1 || lost_at_a_till > 5.0 || fraud_addresses > 1"
then = "decline"
reason = "ONE"
response_code = "59"
live_percent = 25
protected = true
group = "velocity"
text = "One."
[[rules]]
id = "two"
when = "merchant.id in lists.shops && hour_utc in lists.hours"
then = "flag"
reason = "TWO"
mode = "shadow"
[[suppressions]]
rule = "one"
card = "tok_1"
until = 2026-12-01T00:00:00Z
why = "she called"
[[suppressions]]
rules = ["one", "two"]
terminal = "T-1"
until = "2026-12-01T00:00:00Z"
[[tests]]
name = "one"
given = { by_card = 6.00, merchant.country = "US" }
expect = { decision = "DECLINED", rules = ["one"] }
"#;

#[test]
fn an_editor_marks_nothing_in_a_file_that_the_engine_takes() {
    let wrong = wrong::files().into_iter().filter(|(name, source)| compile(name, source).is_ok());
    let shipped =
        [("shipped".to_owned(), SHIPPED.to_owned()), ("everything".to_owned(), EVERYTHING.to_owned())];
    let mut files = 0;
    for (name, source) in shipped.into_iter().chain(wrong) {
        assert!(compile(&name, &source).is_ok(), "{name}: {:?}", compile(&name, &source).err());
        assert_eq!(refused(&source), None, "{name}");
        files += 1;
    }
    assert!(files > 5, "{files} files that the engine takes");
    for (one, part) in schema()["definitions"]["key"]["enum"].as_array().unwrap().iter().zip(0..) {
        let source = format!("version = 1\n[aggregates.a]\nby = {one}\nwindow = '1h'\ncount = true\n");
        assert!(compile("test.toml", &source).is_ok() && refused(&source).is_none(), "{part}: {one}");
    }
}

#[test]
fn an_editor_marks_what_the_engine_refuses_for_its_shape() {
    for (from, to) in [
        ("version = 1", "version = 2"),
        ("version = 1", ""),
        ("by = \"card\"", "by = \"crad\""),
        ("by = \"card\"", "by = \"device\""),
        ("by = \"card\"", "by = [\"card\", \"terminal\"]"),
        ("by = \"card\"", "by = [\"card\", \"card\"]"),
        ("by = \"card\"", "by = []"),
        ("window = \"1s\"", "window = \"1 s\""),
        ("stddev = \"amount\"", "stddev = \"amount_base\""),
        ("stddev = \"amount\"", "stddev = \"score\""),
        ("stddev = \"amount\"", ""),
        ("stddev = \"amount\"", "stddev = \"amount\"\ncount = true"),
        ("by = \"terminal\"", "by = \"account\""),
        ("sum = \"amount_base\"\nwhere", "sum = \"amount\"\nwhere"),
        ("where = \"label == 'fraud' && amount_base >= 5.00\"", ""),
        ("where = \"channel == 'ecommerce' && label == 'fraud'\"", "where = \"channel == 'ecommerce'\""),
        ("by = [\"ip\", \"country\"]", "by = [\"country\", \"card\"]"),
        ("values = [\"M-1\"]", "values = [\"M-1\", 1]"),
        ("values = []", ""),
        ("values = []", "values = []\nfile = \"a.csv\""),
        ("label = \"fraud\"", "label = \"froud\""),
        ("add = \"device.id\"", "add = \"account.id\""),
        ("expires_in = \"30d\"", "expires_in = 30"),
        ("id = \"one\"", "id = \"one two\""),
        ("live_percent = 25", "live_percent = 100"),
        ("live_percent = 25", "live_percent = 0.5"),
        ("live_percent = 25", "live_percent = 25\nmode = \"shadow\""),
        ("then = \"flag\"", "then = \"flag\"\nresponse_code = \"59\""),
        ("protected = true", "protected = \"yes\""),
        ("mode = \"shadow\"", "mode = \"dark\""),
        ("reason = \"TWO\"", "reason = \"two\""),
        ("rule = \"one\"", ""),
        ("rule = \"one\"", "rule = \"one\"\nrules = [\"two\"]"),
        ("card = \"tok_1\"", ""),
        ("card = \"tok_1\"", "card = \"tok_1\"\nip = \"10.0.0.1\""),
        ("until = \"2026-12-01T00:00:00Z\"", ""),
        ("decision = \"DECLINED\"", "decision = \"declined\""),
        ("expect = { decision = \"DECLINED\", rules = [\"one\"] }", "expect = {}"),
    ] {
        let source = EVERYTHING.replacen(from, to, 1);
        assert_ne!(source, EVERYTHING, "{from:?} stands nowhere");
        assert!(compile("test.toml", &source).is_err(), "the engine takes {to:?} for {from:?}");
        assert!(refused(&source).is_some(), "the schema takes {to:?} for {from:?}");
    }
}
