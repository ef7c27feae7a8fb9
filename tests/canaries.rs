//! Proves that the suite would notice: builds once with the `canaries` feature, then switches on one deliberate fault
//! at a time and demands that the part of the suite named in the table fails, and that it passes with none.
//!
//! `cargo test --locked --features canaries --test canaries`

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail, ensure};

/// The fault, what it does, and the tests of which at least one must fail.
const CANARIES: [(&str, &str, &[Suite]); 6] = [
    ("no_sync", "a group is acknowledged without fdatasync", &[LIB_JOURNAL, POWER_LOSS]),
    ("reply_before_sync", "replies leave when their record is queued", &[LIB_JOURNAL, POWER_LOSS]),
    ("double_release", "a second reversal frees the hold again", &[LIB_LEDGER, LIB_AUTHORISE]),
    ("wrapping_add", "sums of money wrap instead of failing", &[LIB_LEDGER, LIB_AUTHORISE]),
    ("lazy_window", "a window leaves events in after their time", &[LIB_FEATURES]),
    ("answer_not_in_record", "a remembered answer is not in the journal", &[LIB_ENGINE, KILL9]),
];

const LIB_JOURNAL: Suite = Suite { target: "saker", filter: "journal::" };
const LIB_LEDGER: Suite = Suite { target: "saker", filter: "ledger::" };
const LIB_AUTHORISE: Suite = Suite { target: "saker", filter: "authorise::" };
const LIB_FEATURES: Suite = Suite { target: "saker", filter: "features::" };
const LIB_ENGINE: Suite = Suite { target: "saker", filter: "engine::" };
const KILL9: Suite = Suite { target: "kill9", filter: "" };
const POWER_LOSS: Suite = Suite { target: "power_loss", filter: "" };

/// A test binary and the names of the tests that are run of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Suite {
    target: &'static str,
    filter: &'static str,
}

/// How a suite ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Passed,
    Failed,
    /// It said that it cannot run here.
    Skipped,
}

fn main() -> anyhow::Result<ExitCode> {
    let binaries = build()?;
    let mut suites: Vec<Suite> = CANARIES.iter().flat_map(|(.., suites)| suites.iter().copied()).collect();
    suites.sort();
    suites.dedup();
    for suite in suites {
        let ended = suite.run(&binaries, None)?;
        println!("{suite}: {} without a canary", ended.word());
        ensure!(ended != Ended::Failed, "{suite} fails without a canary, so that it proves nothing with one");
    }

    let mut missed = Vec::new();
    for (canary, fault, suites) in CANARIES {
        let mut caught_by = Vec::new();
        for suite in suites {
            if suite.run(&binaries, Some(canary))? == Ended::Failed {
                caught_by.push(suite.to_string());
            }
        }
        match caught_by.is_empty() {
            true => println!("{canary} ({fault}): MISSED"),
            false => println!("{canary} ({fault}): caught by {}", caught_by.join(", ")),
        }
        if caught_by.is_empty() {
            missed.push(canary);
        }
    }
    if missed.is_empty() {
        println!("all {} canaries are caught", CANARIES.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("missed: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Builds the test binaries, and returns where they are by target name.
fn build() -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--features", "canaries", "--no-run", "--message-format", "json"])
        .args(["--lib", "--test", "kill9", "--test", "power_loss"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = cargo.stdout.take().context("stdout is piped")?;
    let mut binaries = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(&line?)?;
        let of_test = message["profile"]["test"] == true;
        if let (true, Some(name), Some(path)) =
            (of_test, message["target"]["name"].as_str(), message["executable"].as_str())
        {
            binaries.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    ensure!(cargo.wait()?.success(), "the build with canaries failed");
    Ok(binaries)
}

impl Suite {
    fn run(self, binaries: &BTreeMap<String, PathBuf>, canary: Option<&str>) -> anyhow::Result<Ended> {
        let binary = binaries.get(self.target).with_context(|| format!("no test binary for {self}"))?;
        let mut command = Command::new(binary);
        command.arg(self.filter).current_dir(env!("CARGO_MANIFEST_DIR"));
        match canary {
            Some(canary) => command.env("SAKER_CANARY", canary),
            None => command.env_remove("SAKER_CANARY"),
        };
        let output = command.output().with_context(|| format!("{command:?}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        // A filter that matches nothing passes, and would catch nothing for ever.
        if said.contains("running 0 tests") {
            bail!("{self} has no tests");
        }
        Ok(match output.status.success() {
            false => Ended::Failed,
            true if said.contains(" skipped: ") => Ended::Skipped,
            true => Ended::Passed,
        })
    }
}

impl Ended {
    fn word(self) -> &'static str {
        match self {
            Ended::Passed => "passes",
            Ended::Failed => "FAILS",
            Ended::Skipped => "is skipped here",
        }
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.filter {
            "" => write!(f, "{}", self.target),
            filter => write!(f, "{} {filter}", self.target),
        }
    }
}
