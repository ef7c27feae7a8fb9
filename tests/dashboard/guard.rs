//! A threshold that was mistyped goes live under traffic: the guard sets its rule to shadow, and a real Prometheus shows
//! that and pages. Skipped with a line where there is no `prometheus` on the PATH.

use std::{
    fs,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    prometheus::{Prometheus, load, on_path, skipped},
    server::Server,
};

/// Payments of the load are of 6.00 to 20.00.
const CAREFUL: &str =
    "version = 1\n[[rules]]\nid = 'limit'\nwhen = 'amount > 1000'\nthen = 'decline'\nreason = 'LIMIT'\n";
const MISTYPED: (&str, &str) = ("amount > 1000", "amount > 10");
/// The guard looks at a rule for 20 s before it acts.
const DEMOTED_WITHIN: Duration = Duration::from_secs(60);
/// A few scrapes, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_mistyped_threshold_under_traffic_is_demoted_and_pages_in_a_real_prometheus() -> anyhow::Result<()> {
    if !on_path("prometheus") {
        return skipped("no prometheus on the PATH, the guard is not shown to page");
    }
    let directory = tempfile::Builder::new().prefix("guard").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let rules = directory.path().join("rules.toml");
    fs::write(&rules, CAREFUL)?;
    let more = ["--rules", rules.to_str().context("the path of the rules is text")?];
    let engine = Server::start(&directory.path().join("data"), &directory.path().join("server.log"), &more)?;
    let prometheus = Prometheus::start(directory.path(), engine.admin)?;
    // Over so many accounts that a decline meets each once or twice.
    let traffic = ["--rate", "200", "--connections", "2", "--duration", "120", "--accounts", "10000"];
    let mut load = load(&engine, &traffic)?;

    let verdict = r#"saker_guard_verdicts_total{rule="limit",verdict="demoted"}"#;
    let declines = r#"sum(rate(saker_decisions_total{decision="declined",reason_group="rule"}[4s]))"#;
    let approvals = r#"sum(rate(saker_decisions_total{decision="approved"}[4s]))"#;
    prometheus.wait_for(&format!("{verdict} == 0 and on () ({approvals} > 50)"), SEEN_WITHIN)?;
    prometheus.wait_for(&format!("{declines} == 0"), SEEN_WITHIN)?;

    let (right, wrong) = MISTYPED;
    let new = directory.path().join("rules.new");
    fs::write(&new, CAREFUL.replace(right, wrong))?;
    fs::rename(&new, &rules)?;
    let pushed = Instant::now();
    prometheus.wait_for(&format!("{declines} > 20"), SEEN_WITHIN)?;
    prometheus.wait_for(&format!("{verdict} == 1"), DEMOTED_WITHIN)?;
    let demoted = pushed.elapsed();
    let page = r#"ALERTS{alertname="SakerRuleDemoted",rule="limit",severity="page",alertstate="firing"}"#;
    prometheus.wait_for(page, SEEN_WITHIN)?;
    let paged = pushed.elapsed();
    // It goes on being counted, and declines nobody.
    prometheus.wait_for(&format!("{declines} == 0 and on () ({approvals} > 50)"), SEEN_WITHIN)?;
    prometheus
        .wait_for(r#"rate(saker_rule_hits_total{rule="limit",mode="shadow"}[4s]) > 20"#, SEEN_WITHIN)?;
    load.end();
    writeln!(
        io::stdout(),
        "guard: a mistyped threshold was seen to be demoted {:.0} s after it was pushed, and SakerRuleDemoted fired after \
         {:.0} s",
        demoted.as_secs_f64(),
        paged.as_secs_f64()
    )?;
    Ok(())
}
