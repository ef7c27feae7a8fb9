//! kill -9 under load, the real binary, again and again on one data directory: no acknowledged answer may be lost or
//! changed, and nothing held twice. A few restarts by default; `SAKER_KILL9_RESTARTS=100` for the full run.

use std::{path::Path, process::Command};

use anyhow::ensure;

mod checker;

use checker::{Campaign, count_from, fresh_directory, keep_if_wrong};

#[test]
fn kill_9_under_load_loses_nothing() -> anyhow::Result<()> {
    let directory = fresh_directory("kill9")?;
    let campaign = campaign("L3 kill -9", directory.path(), "");
    let judged = killed(&campaign);
    keep_if_wrong(directory, judged)
}

/// Segments of a second or so, and a snapshot under way most of the time: at each start, then every second.
#[test]
fn kill_9_amid_snapshots_and_changes_of_segment_loses_nothing() -> anyhow::Result<()> {
    let settings = "[journal]\nsegment_bytes = 1048576\n[snapshots]\nevery_s = 1\nafter_records = 1\n\
                    bytes_per_s = 33554432\n";
    let directory = fresh_directory("kill9-snapshots")?;
    let campaign = campaign("L3 kill -9 amid snapshots", directory.path(), settings);
    let judged = killed(&campaign).and_then(|()| {
        let log = std::fs::read_to_string(campaign.evidence.join("server.log"))?;
        let starts = log.lines().filter(|line| line.contains("the state is back"));
        let from_snapshots = starts.filter(|line| !line.contains("snapshot=\"none\"")).count();
        println!(
            "{from_snapshots} starts from a snapshot, {} taken",
            log.matches("a snapshot is taken").count()
        );
        ensure!(from_snapshots > 0, "no start was from a snapshot");
        ensure!(!log.contains("passed over"), "a snapshot was not whole");
        Ok(())
    });
    keep_if_wrong(directory, judged)
}

fn campaign(rung: &'static str, directory: &Path, settings: &'static str) -> Campaign {
    Campaign {
        rung,
        restarts: count_from("SAKER_KILL9_RESTARTS", 3),
        load_ms: 50..=900,
        data: directory.join("data"),
        evidence: directory.join("evidence"),
        seed: Campaign::seed(),
        settings,
    }
}

fn killed(campaign: &Campaign) -> anyhow::Result<()> {
    let verdict = campaign.run(|server, _| {
        server.kill()?;
        Ok(())
    });
    verdict.and_then(|verdict| verdict.judge()).and_then(|()| decided_again(&campaign.data))
}

/// Every decision of all those lives, made again under the rules and the model it names, must come out the same.
fn decided_again(data: &Path) -> anyhow::Result<()> {
    let verify = Command::new(env!("CARGO_BIN_EXE_saker")).args(["journal", "verify"]).arg(data).output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&verify.stdout), String::from_utf8_lossy(&verify.stderr));
    ensure!(verify.status.success(), "journal verify: {}\n{said}", verify.status);
    Ok(())
}
