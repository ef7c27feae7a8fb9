//! kill -9 under load, the real binary, again and again on one data directory: no acknowledged answer may be lost or
//! changed, and nothing held twice. A few restarts by default; `SAKER_KILL9_RESTARTS=100` for the full run.

use std::{path::Path, process::Command};

use anyhow::ensure;

mod checker;

use checker::{Campaign, count_from, fresh_directory, keep_if_wrong};

#[test]
fn kill_9_under_load_loses_nothing() -> anyhow::Result<()> {
    let directory = fresh_directory("kill9")?;
    let campaign = Campaign {
        rung: "L3 kill -9",
        restarts: count_from("SAKER_KILL9_RESTARTS", 3),
        load_ms: 50..=900,
        data: directory.path().join("data"),
        evidence: directory.path().join("evidence"),
        seed: Campaign::seed(),
        settings: "",
    };
    let verdict = campaign.run(|server, _| {
        server.kill()?;
        Ok(())
    });
    let judged = verdict.and_then(|verdict| verdict.judge()).and_then(|()| decided_again(&campaign.data));
    keep_if_wrong(directory, judged)
}

/// Every decision of all those lives, made again under the rules and the model it names, must come out the same.
fn decided_again(data: &Path) -> anyhow::Result<()> {
    let verify = Command::new(env!("CARGO_BIN_EXE_saker")).args(["journal", "verify"]).arg(data).output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&verify.stdout), String::from_utf8_lossy(&verify.stderr));
    ensure!(verify.status.success(), "journal verify: {}\n{said}", verify.status);
    Ok(())
}
