//! A real Prometheus with the committed configuration scrapes a real engine under load, and is asked every query of
//! the dashboard and of the alerts. Skipped with a line where there is no `prometheus` on the PATH.

use std::{
    io::{self, Write as _},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{
    alerts, dashboard, grafana,
    prometheus::{Prometheus, load, on_path, skipped},
    promql::named,
    read,
    server::Server,
};

/// What stands for Grafana's `$__rate_interval`: four scrapes, as Grafana takes.
const RATE_INTERVAL: &str = "4s";
const SCRAPES: u32 = 8;
/// Traffic and scrapes, on a busy machine.
const DATA_WITHIN: Duration = Duration::from_secs(30);
/// Longer than anybody waits for what it makes; it is ended with the test.
const LOAD_S: &str = "60";

#[test]
fn a_real_prometheus_answers_every_query_of_dashboard_and_alerts() -> anyhow::Result<()> {
    if !on_path("prometheus") {
        return skipped("no prometheus on the PATH, the dashboard's queries are not run");
    }
    let directory = tempfile::Builder::new().prefix("dashboard").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = directory.path().join("server.log");
    // So that the panels of snapshots have something to show.
    let settings = directory.path().join("saker.toml");
    std::fs::write(&settings, "[snapshots]\nevery_s = 1\nafter_records = 1\n")?;
    let settings = settings.to_str().context("the path of the settings is text")?;
    let model = trained(directory.path())?;
    let more = ["--config", settings, "--model", &model];
    let engine = Server::start(&directory.path().join("data"), &log, &more)?;
    let prometheus = Prometheus::start(directory.path(), engine.admin)?;
    // Over a few accounts, so that velocity declines some.
    let traffic = |call| {
        let more =
            ["--rate", "200", "--connections", "2", "--duration", LOAD_S, "--accounts", "60", "--call", call];
        load(&engine, &more)
    };
    let mut loads = vec![traffic("unary")?, traffic("stream")?];
    let enough = format!(
        r#"sum(rate(saker_decisions_total{{decision="declined"}}[{RATE_INTERVAL}])) > 0 and
           sum(count_over_time(up{{job="saker"}}[1m])) >= {SCRAPES} and count(saker_model_drift_psi) > 0"#
    );
    prometheus.wait_for(&enough, DATA_WITHIN)?;

    let dashboard = dashboard();
    let (mut asked, mut empty, mut panels) = (0, Vec::new(), 0);
    for panel in dashboard.panels() {
        panels += 1;
        for query in &panel.queries {
            asked += 1;
            let expr = query.expr.replace("$of", r#"job="saker""#).replace("$__rate_interval", RATE_INTERVAL);
            if !prometheus.has_numbers(&expr)? {
                empty.push((panel, expr));
            }
        }
    }
    let with_data = asked - empty.len();
    let wrong: Vec<_> = empty
        .iter()
        .filter(|(panel, _)| panel.empty_when_healthy.is_none())
        .map(|(panel, expr)| (&panel.title, expr))
        .collect();
    ensure!(wrong.is_empty(), "no data for {wrong:#?}");

    for mark in &dashboard.marks {
        asked += 1;
        let expr = mark.expr.replace("$of", r#"job="saker""#);
        prometheus.has_numbers(&expr).with_context(|| mark.title.clone())?;
    }
    let alerts = alerts::read(&read("alerts.yml"));
    for alert in &alerts {
        asked += 1;
        prometheus.has_numbers(alert.get("expr")).with_context(|| alert.name.clone())?;
        // An alert on what never has data never fires.
        for selector in named(alert.get("expr")).selectors {
            let seen = prometheus.has_numbers(&selector.text)?;
            ensure!(seen, "{}: no data for {}", alert.name, selector.text);
        }
    }
    prometheus.judge_rules(alerts.len())?;
    writeln!(
        io::stdout(),
        "dashboard: {asked} queries answered ({panels} panels, {} marks, {} alerts); {with_data} of {} panel queries \
         with data",
        dashboard.marks.len(),
        alerts.len(),
        with_data + empty.len(),
    )?;
    for load in &mut loads {
        load.end();
    }
    Ok(())
}

#[test]
fn promtool_finds_nothing_wrong_and_the_alerts_fire_when_they_should() -> anyhow::Result<()> {
    if !on_path("promtool") {
        return skipped("no promtool on the PATH, the alerts are not tried");
    }
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]] {
        let said = Command::new("promtool").args(arguments).current_dir(grafana("")).output()?;
        ensure!(said.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

/// A small model that was trained here, so that its file says what its rows were like.
fn trained(directory: &Path) -> anyhow::Result<String> {
    let saker = |command: &str| {
        let mut saker = Command::new(env!("CARGO_BIN_EXE_saker"));
        saker.arg(command).current_dir(directory);
        saker
    };
    let mut simulate = saker("simulate");
    simulate.args(["--accounts", "200", "--days", "10", "--seed", "1", "--out", "world"]);
    let mut train = saker("train");
    train.args(["--transactions", "world/transactions.csv", "--accounts", "world/accounts.csv"]);
    train.args(["--label-delay", "0", "--trees", "4", "--out", "model.json"]);
    for mut command in [simulate, train] {
        let said = command.output()?;
        ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let model = directory.join("model.json");
    Ok(model.to_str().context("the path of the model is text")?.to_owned())
}
