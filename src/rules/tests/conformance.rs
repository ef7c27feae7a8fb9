//! Google's conformance suite for CEL, as far as it is about our subset: `conformance/cases.json` has the cases that
//! apply, `conformance/left_out.txt` every other one below its reason. Together they name each case once, which is
//! held against the suite itself where `SAKER_CEL_CONFORMANCE` names the folder that has it as JSON.
//!
//! An expression becomes the condition of a rule, compared with a field that holds what the suite expects. `as` says
//! the expression in our terms where the suite's own cannot stand in a rule: a bound variable or the key of a map is
//! a field, `dyn(1) == 1.0` is `1 == 1.0` (numbers compare with each other here without a word), and a literal 0 to
//! divide by, which the checker refuses, is a field of that value. What CEL calls an error is either refused with the
//! file or *unknown*; each case says which.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value as Json;

use super::{Severity, Value, compile, currency, results, values};

const CASES: &str = include_str!("conformance/cases.json");
const LEFT_OUT: &str = include_str!("conformance/left_out.txt");

/// The fields that hold what is expected; no case uses them itself.
const INT: &str = "verification.network_risk_score";
const DOUBLE: &str = "distance_from_home_km";
const TEXT: &str = "merchant.name";

fn cases() -> Vec<Json> {
    let file: Json = serde_json::from_str(CASES).expect("the cases are JSON");
    file["cases"].as_array().expect("an array of cases").clone()
}

fn left_out() -> Vec<&'static str> {
    LEFT_OUT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn value_of(value: &Json) -> Value {
    let (kind, value) = value.as_object().and_then(|one| one.iter().next()).expect("one kind with its value");
    let word = || value.as_str().expect("a text");
    match kind.as_str() {
        "bool" => Value::Bool(value.as_bool().expect("a truth")),
        "int" => Value::Int(word().parse().expect("a whole number")),
        "double" => Value::Float(word().parse().expect("a decimal number")),
        "text" => Value::Text(word().to_string()),
        other => panic!("no such kind: {other}"),
    }
}

/// The condition that is true exactly where the expression has the value, and the field that holds the value.
fn condition(expr: &str, expected: &Value) -> (String, Option<(&'static str, Value)>) {
    match expected {
        Value::Bool(true) => (expr.to_string(), None),
        Value::Bool(false) => (format!("!({expr})"), None),
        Value::Int(_) => (format!("({expr}) == {INT}"), Some((INT, expected.clone()))),
        Value::Text(_) => (format!("({expr}) == {TEXT}"), Some((TEXT, expected.clone()))),
        // No field is infinite, and 0.0 equals -0.0.
        Value::Float(value) if value.is_infinite() => {
            let sign = if *value < 0.0 { "-" } else { "" };
            (format!("({expr}) == {sign}1.0 / 0.0"), None)
        }
        Value::Float(value) if *value == 0.0 => {
            let sign = if value.is_sign_negative() { "-" } else { "" };
            (format!("1.0 / ({expr}) == {sign}1.0 / 0.0"), None)
        }
        Value::Float(_) => (format!("({expr}) == {DOUBLE}"), Some((DOUBLE, expected.clone()))),
    }
}

fn file_of(when: &str) -> String {
    let when = toml::Value::String(when.to_string());
    format!("version = 1\n[[rules]]\nid = 'r'\nthen = 'flag'\nreason = 'R'\nwhen = {when}\n")
}

/// What is wrong with our answer to a case.
fn judged(case: &Json) -> Result<(), String> {
    let expr = case.get("as").unwrap_or(&case["expr"]).as_str().expect("an expression");
    let mut given: Vec<(&str, Value)> = case["given"]
        .as_object()
        .map(|given| given.iter().map(|(name, value)| (name.as_str(), value_of(value))).collect())
        .unwrap_or_default();
    let (when, field) = match case["is"].as_str() {
        // An error of any type: the condition around it must not hide what is wrong with it.
        Some(_) if case["name"].as_str().is_some_and(|name| name.starts_with("conversions/")) => {
            (format!("({expr}) == 0"), None)
        }
        Some(_) if expr.contains('?') => (format!("({expr}) == 'quux'"), None),
        Some(_) => (expr.to_string(), None),
        None => condition(expr, &value_of(&case["is"])),
    };
    given.extend(field);
    let compiled = compile("case.toml", &file_of(&when));
    let said = |findings: &[super::Finding]| {
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; ")
    };
    match (case["is"].as_str(), compiled) {
        (Some("refused"), Err(findings))
            if findings.iter().all(|f| !f.message.contains("inside the engine")) =>
        {
            Ok(())
        }
        (Some("refused"), _) => Err("is not refused".into()),
        (_, Err(findings)) => Err(format!("is refused: {}", said(&findings))),
        (expected, Ok(rules)) => {
            let result = results(&rules, &values(&rules, &given), currency("USD"))[0];
            let expected = if expected == Some("unknown") { None } else { Some(true) };
            if result == expected { Ok(()) } else { Err(format!("`{when}` is {result:?}")) }
        }
    }
}

#[test]
fn every_case_of_googles_suite_that_is_about_our_subset_passes() {
    let cases = cases();
    assert!(cases.len() >= 365, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| judged(case).err().map(|why| format!("{}: {} {why}", case["name"], case["expr"])))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_case_of_googles_suite_is_named_once() {
    let cases = cases();
    let ours = cases.iter().map(|case| case["name"].as_str().expect("a name"));
    let mut named = BTreeSet::new();
    for name in ours.chain(left_out()) {
        assert!(named.insert(name), "{name} is named twice");
    }
    let Some(folder) = std::env::var_os("SAKER_CEL_CONFORMANCE") else { return };
    let suite = suite(PathBuf::from(folder));
    let there: BTreeSet<&str> = suite.keys().map(String::as_str).collect();
    let differences: Vec<&&str> = there.symmetric_difference(&named).collect();
    assert!(differences.is_empty(), "named on one side only: {differences:?}");
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let theirs = &suite[name];
        assert_eq!(case["expr"], theirs["expr"], "{name}");
        let is = &case["is"];
        let Some((kind, value)) = theirs.get("value").and_then(Json::as_object).and_then(|v| v.iter().next())
        else {
            assert!(theirs.get("eval_error").is_some() && is.is_string(), "{name} is an error");
            continue;
        };
        let value = match (kind.as_str(), value) {
            ("int64_value", value) => {
                Value::Int(value.as_str().and_then(|text| text.parse().ok()).expect("a number"))
            }
            ("double_value", Json::String(text)) => Value::Float(text.parse().expect("a number")),
            ("double_value", value) => Value::Float(value.as_f64().expect("a number")),
            ("bool_value", value) => Value::Bool(value.as_bool().expect("a truth")),
            ("string_value", value) => Value::Text(value.as_str().expect("a text").to_string()),
            other => panic!("{name}: a case that applies has a value of our types, not {other:?}"),
        };
        assert_eq!(value_of(is), value, "{name}");
    }
}

/// Every case of the suite by FILE/SECTION/TEST.
fn suite(folder: PathBuf) -> BTreeMap<String, Json> {
    let entries = std::fs::read_dir(&folder).expect("SAKER_CEL_CONFORMANCE names a folder");
    let mut cases = BTreeMap::new();
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let file: Json = serde_json::from_str(&text).expect("the file is JSON");
        for section in file["section"].as_array().expect("sections") {
            for test in section["test"].as_array().expect("tests") {
                let part = |of: &Json| of["name"].as_str().expect("a name").to_string();
                let name = format!("{}/{}/{}", part(&file), part(section), part(test));
                assert!(cases.insert(name.clone(), test.clone()).is_none(), "{name} is there twice");
            }
        }
    }
    cases
}
