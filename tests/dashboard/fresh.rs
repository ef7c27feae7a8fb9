//! A fresh engine that nobody has asked anything already has what panels and alerts ask for: a counter that appears with
//! its first event has no first rise, and a panel without data looks like one that is broken.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::{
    LABELS_OF_PROMETHEUS, UP, alerts, committed, committed_expressions,
    promql::{Matcher, Selector, named},
    read,
    server::Server,
};

/// What cannot be there yet, and why.
const ABSENT: [(&str, &str); 7] = [
    ("saker_model_drift_psi", "says nothing of fewer than a thousand decisions"),
    ("saker_model_score_psi", "says nothing of fewer than a thousand decisions"),
    ("saker_rule_shadow_minor_units_total", "by currency, and which come is not known before they do"),
    ("saker_held_minor_units", "by currency, and which come is not known before they do"),
    ("saker_snapshot_timestamp_seconds", "no snapshot was taken, and 0 would be the year 1970"),
    ("saker_snapshot_duration_seconds", "no snapshot was taken"),
    ("saker_snapshot_bytes", "no snapshot was taken"),
];

/// One line of a scrape.
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Series {
    /// `None` for comments and blank lines.
    fn of(line: &str) -> Option<Series> {
        let (series, _) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?.split("\",").filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
        Some(Series { name: name.to_owned(), labels: labels.collect() })
    }

    fn fits(&self, matcher: &Matcher) -> bool {
        let value = self.labels.get(&matcher.label).map_or("", String::as_str);
        matcher.alternatives().any(|alternative| alternative == value) != matcher.is_negated
    }
}

/// Which of the series that a selector names are not there: each alternative of each label must be.
fn missing(selector: &Selector, scrape: &[Series]) -> Vec<String> {
    let matchers = || {
        let matchers = selector.matchers.iter();
        matchers.filter(|matcher| !LABELS_OF_PROMETHEUS.contains(&matcher.label.as_str()))
    };
    let fitting: Vec<&Series> = scrape
        .iter()
        .filter(|series| series.name == selector.metric && matchers().all(|matcher| series.fits(matcher)))
        .collect();
    if fitting.is_empty() {
        return vec![selector.text.clone()];
    }
    let alternatives = matchers()
        .filter(|matcher| !matcher.is_negated)
        .flat_map(|matcher| matcher.alternatives().map(|alternative| (&matcher.label, alternative)));
    alternatives
        .filter(|(label, value)| {
            fitting.iter().all(|series| series.labels.get(*label).map(String::as_str) != Some(value))
        })
        .map(|(label, value)| format!("{}{{{label}=\"{value}\"}}", selector.metric))
        .collect()
}

#[test]
fn what_panels_and_alerts_ask_for_is_there_before_it_first_happens() -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("fresh").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let settings = directory.path().join("saker.toml");
    std::fs::write(&settings, "[journal]\nsegment_bytes = 1_048_576\n")?;
    let more = ["--config", settings.to_str().expect("the path is text")];
    let engine = Server::start(&directory.path().join("data"), &directory.path().join("log"), &more)?;
    let scrape: Vec<Series> = engine.metrics()?.lines().filter_map(Series::of).collect();

    let json = committed();
    let alerts = alerts::read(&read("alerts.yml"));
    let of_alerts = alerts.iter().map(|alert| alert.get("expr"));
    let asked =
        committed_expressions(&json).into_iter().chain(of_alerts).flat_map(|expr| named(expr).selectors);
    let is_absent = |metric: &str| ABSENT.iter().any(|(absent, _)| *absent == metric);
    let mut wanting: Vec<String> = asked
        .filter(|selector| selector.metric != UP && !is_absent(&selector.metric))
        .flat_map(|selector| missing(&selector, &scrape))
        .collect();
    wanting.sort_unstable();
    wanting.dedup();
    ensure!(wanting.is_empty(), "a fresh engine does not show {wanting:#?}");
    for (absent, why) in ABSENT {
        ensure!(scrape.iter().all(|series| series.name != absent), "{absent} is there, and was not: {why}");
    }
    Ok(())
}

#[test]
fn a_series_that_is_not_there_is_noticed() {
    let scrape: Vec<Series> =
        ["# TYPE a counter", "a{x=\"1\",y=\"p q\"} 0", "a{x=\"2\",y=\"r\"} 3", "", "b 1"]
            .into_iter()
            .filter_map(Series::of)
            .collect();
    for (expr, expected) in [
        ("rate(a[5m]) / b", &[][..]),
        (r#"a{job=~"$job",x="1"}"#, &[]),
        (r#"a{x=~"1|2",y!="s"}"#, &[]),
        (r#"a{x="3"}"#, &[r#"a{x="3"}"#]),
        (r#"a{x=~"1|3"}"#, &[r#"a{x="3"}"#]),
        (r#"a{x="1",y="r"}"#, &[r#"a{x="1",y="r"}"#]),
        (r#"a{y!~"p q|r"}"#, &[r#"a{y!~"p q|r"}"#]),
        ("c", &["c"]),
    ] {
        let selectors = named(expr).selectors;
        let missing: Vec<String> = selectors.iter().flat_map(|selector| missing(selector, &scrape)).collect();
        assert_eq!(missing, expected, "{expr}");
    }
}
