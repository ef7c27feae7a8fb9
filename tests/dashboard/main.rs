//! The dashboard and the alerts say what the engine says: every name exists in its table of metrics, every metric is
//! shown and there from the start, every alert has a runbook, and a real Prometheus answers every query and pages when
//! the guard acts (where there is one on the PATH).
//!
//! `SAKER_RENDER=1 cargo test --locked --test dashboard described` writes `grafana/dashboard.json` anew from `panels.toml`.

mod alerts;
mod fresh;
mod guard;
mod live;
mod panels;
mod prometheus;
mod promql;
#[path = "../checker/server.rs"]
#[allow(dead_code, reason = "only other tests stop a server gently")]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use panels::{COLUMNS, Dashboard};
use promql::named;
use saker::observe::metrics::{FAMILIES, Family, Kind};
use serde_json::Value;

/// What Prometheus itself adds to every series.
const LABELS_OF_PROMETHEUS: [&str; 2] = ["job", "instance"];
/// What Prometheus says of a target.
const UP: &str = "up";

fn grafana(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(grafana(file)).unwrap_or_else(|error| panic!("grafana/{file}: {error}"))
}

fn dashboard() -> Dashboard {
    toml::from_str(&read("panels.toml")).unwrap_or_else(|error| panic!("grafana/panels.toml: {error}"))
}

/// The committed JSON, as Grafana would import it.
fn committed() -> Value {
    serde_json::from_str(&read("dashboard.json")).unwrap_or_else(|error| panic!("dashboard.json: {error}"))
}

fn strings<'a>(value: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    value.as_array().into_iter().flatten().filter_map(move |entry| entry[key].as_str())
}

/// Panels without the headings of rows.
fn committed_panels(json: &Value) -> Vec<&Value> {
    json["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every expression of the committed JSON: panels, marks and variables.
fn committed_expressions(json: &Value) -> Vec<&str> {
    let of_panels = committed_panels(json).into_iter().flat_map(|panel| strings(&panel["targets"], "expr"));
    of_panels.chain(strings(&json["annotations"]["list"], "expr")).collect()
}

/// The family that a series belongs to, and whether it is one of a histogram's three series.
fn family(series: &str) -> Option<(&'static Family, Option<&str>)> {
    if let Some(family) = FAMILIES.iter().find(|family| family.name == series) {
        return Some((family, None));
    }
    ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
        let name = series.strip_suffix(suffix)?;
        Some((FAMILIES.iter().find(|family| family.name == name)?, Some(suffix)))
    })
}

/// What is wrong with the names in an expression.
fn misnamed(expr: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let names = named(expr);
    if names.selectors.is_empty() {
        wrong.push(format!("no metric in {expr}"));
    }
    let mut known: BTreeSet<&str> = LABELS_OF_PROMETHEUS.into();
    for selector in &names.selectors {
        if selector.metric == UP {
            continue;
        }
        let Some((family, suffix)) = family(&selector.metric) else {
            wrong.push(format!("the engine has no {} ({expr})", selector.metric));
            continue;
        };
        let histogram = matches!(family.kind, Kind::Histogram(_));
        if histogram != suffix.is_some() {
            wrong.push(format!("{}: a histogram has _bucket, _sum and _count alone", selector.metric));
        }
        let mut labels: BTreeSet<&str> = family.labels.iter().copied().chain(LABELS_OF_PROMETHEUS).collect();
        if suffix == Some("_bucket") {
            labels.insert("le");
        }
        let named = selector.matchers.iter().map(|matcher| &matcher.label);
        let absent = named.filter(|label| !labels.contains(label.as_str()));
        wrong.extend(absent.map(|label| format!("{} has no label {label} ({expr})", selector.metric)));
        known.extend(labels);
    }
    let absent = names.grouped.iter().filter(|label| !known.contains(label.as_str()));
    wrong.extend(absent.map(|label| format!("nothing has the label {label} ({expr})")));
    wrong
}

#[test]
fn the_committed_dashboard_is_the_one_that_is_described() {
    let rendered = dashboard().render();
    if std::env::var_os("SAKER_RENDER").is_some() {
        fs::write(grafana("dashboard.json"), &rendered).unwrap();
    }
    let same = fs::read_to_string(grafana("dashboard.json")).is_ok_and(|text| text == rendered);
    assert!(
        same,
        "grafana/dashboard.json is not what grafana/panels.toml renders to; write it anew with \
         SAKER_RENDER=1 cargo test --locked --test dashboard described"
    );
}

#[test]
fn no_panel_or_alert_names_what_the_engine_does_not_have() {
    let json = committed();
    let alerts = alerts::read(&read("alerts.yml"));
    let of_alerts = alerts.iter().map(|alert| alert.get("expr"));
    let wrong: Vec<_> =
        committed_expressions(&json).into_iter().chain(of_alerts).flat_map(misnamed).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_name_label_or_suffix_is_noticed() {
    for wrong in [
        "saker_hold",
        r#"rate(saker_calls_total{cal="authorise"}[5m])"#,
        "sum by (stage) (saker_holds)",
        "rate(saker_score[5m])",
        "rate(saker_shed_total_count[5m])",
        r#"saker_holds{le="1"}"#,
        "histogram_quantil",
    ] {
        assert!(!misnamed(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn no_metric_of_the_engine_is_hidden() {
    let json = committed();
    let not_shown = dashboard().not_shown;
    let shown: BTreeSet<&str> = committed_panels(&json)
        .into_iter()
        .flat_map(|panel| strings(&panel["targets"], "expr"))
        .flat_map(|expr| named(expr).selectors)
        .filter_map(|selector| Some(family(&selector.metric)?.0.name))
        .collect();
    for family in FAMILIES {
        let (on_a_panel, left_out) = (shown.contains(family.name), not_shown.contains_key(family.name));
        assert!(on_a_panel || left_out, "{} is on no panel of grafana/panels.toml", family.name);
        assert!(!(on_a_panel && left_out), "{} is shown and listed as not shown", family.name);
    }
    for name in not_shown.keys() {
        assert!(FAMILIES.iter().any(|family| family.name == name), "[not_shown] {name} is no metric");
    }
}

#[test]
fn every_panel_says_what_it_means_and_has_a_place_of_its_own() {
    let json = committed();
    let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in json["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(titles.insert(title), "two panels are called {title}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id stands twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title}: outside the grid");
        for place in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            let before = taken.insert(place, title);
            assert_eq!(before, None, "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().unwrap();
        assert!(
            description.len() > 60 && description.ends_with('.'),
            "{title}: say what it means and what to do"
        );
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}: no unit");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}: no query");
        let letters: BTreeSet<_> = strings(&panel["targets"], "refId").collect();
        assert_eq!(letters.len(), targets.len(), "{title}: two queries share a letter");
        for target in targets {
            let expr = target["expr"].as_str().unwrap();
            assert!(expr.contains(r#"job=~"$job""#), "{title}: {expr} ignores the chosen job");
            assert!(!expr.contains("[5m]"), "{title}: a panel's range is $__rate_interval");
            assert_eq!(target["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
        }
    }
    let lines: BTreeSet<u64> = taken.keys().map(|(_, line)| *line).collect();
    for line in lines {
        let wide = taken.keys().filter(|(_, other)| *other == line).count() as u64;
        assert_eq!(wide, COLUMNS, "line {line} of the grid has a hole");
    }
    assert_eq!(json["uid"], "saker-engine");
    assert!(json["schemaVersion"].as_u64().unwrap() >= 39);
    let variables: Vec<_> = strings(&json["templating"]["list"], "name").collect();
    assert_eq!(variables, ["DS_PROMETHEUS", "job", "instance"]);
}

#[test]
fn every_alert_leads_to_a_runbook_and_every_runbook_comes_from_an_alert() {
    let alerts = alerts::read(&read("alerts.yml"));
    let runbooks = read("RUNBOOKS.md");
    let chapters: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: Vec<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two alerts share a name");
    for alert in &alerts {
        assert!(["page", "ticket"].contains(&alert.get("severity")), "{}", alert.name);
        assert!(alert.get("summary").ends_with('.') && !alert.get("for").is_empty(), "{}", alert.name);
        let anchor = format!("RUNBOOKS.md#{}", alert.name.to_ascii_lowercase());
        assert_eq!(alert.get("runbook_url"), anchor, "{}", alert.name);
    }
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sorted(chapters), sorted(names));
    for chapter in runbooks.split("\n## ").skip(1) {
        for part in ["**Means:**", "**Look:**", "**Do:**"] {
            assert!(chapter.contains(part), "RUNBOOKS.md: no {part} in {}", chapter.lines().next().unwrap());
        }
    }
    for word in read("panels.toml").split(|c: char| !c.is_ascii_alphanumeric()) {
        let named = word.starts_with("Saker") && word.len() > 5;
        assert!(!named || alerts.iter().any(|alert| alert.name == word), "panels.toml: no runbook {word}");
    }
}
