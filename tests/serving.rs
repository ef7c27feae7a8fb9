//! What somebody who operates `saker serve` sees of it: files that are taken away under it, a stop, and how the process
//! before ended.

#[path = "checker/server.rs"]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a rules file of its own.
struct Bench {
    _directory: tempfile::TempDir,
    data: PathBuf,
    rules: PathBuf,
    settings: PathBuf,
}

impl Bench {
    fn new() -> anyhow::Result<Bench> {
        let directory = tempfile::Builder::new().prefix("serving").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let at = |name: &str| directory.path().join(name);
        let bench = Bench {
            data: at("data"),
            rules: at("rules.toml"),
            settings: at("saker.toml"),
            _directory: directory,
        };
        fs::write(&bench.rules, "version = 1\n")?;
        fs::write(&bench.settings, "[journal]\nsegment_bytes = 1_048_576\n")?;
        Ok(bench)
    }

    /// Starts it with a log of that name.
    fn start(&self, log: &str) -> anyhow::Result<(Server, PathBuf)> {
        let log = self.settings.with_file_name(log);
        let text = |path: &Path| path.to_str().map(str::to_owned).context("the path is text");
        let (settings, rules) = (text(&self.settings)?, text(&self.rules)?);
        let more = ["--config", &settings, "--rules", &rules];
        Ok((Server::start(&self.data, &log, &more)?, log))
    }
}

/// Waits until a series has a value.
fn wait_for(server: &Server, series: &str, value: &str) -> anyhow::Result<()> {
    let (begun, wanted) = (Instant::now(), format!("{series} {value}"));
    while !server.metrics()?.lines().any(|line| line == wanted) {
        ensure!(begun.elapsed() < PATIENCE, "no {wanted}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The lines of a log that say this; waits for the first.
fn said(log: &Path, what: &str) -> anyhow::Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log)?;
        let lines: Vec<String> = text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect();
        if !lines.is_empty() {
            return Ok(lines);
        }
        if begun.elapsed() > PATIENCE {
            bail!("nobody said `{what}`:\n{text}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rules_that_are_taken_away_while_serving_are_missed_before_the_next_start_is_refused() -> anyhow::Result<()>
{
    let bench = Bench::new()?;
    let (server, log) = bench.start("log")?;
    let missing = "saker_configured_files_missing{file=\"rules\"}";
    wait_for(&server, missing, "0")?;
    let version =
        server.metrics()?.lines().find(|line| line.starts_with("saker_rules_info")).map(str::to_owned);
    fs::remove_file(&bench.rules)?;
    wait_for(&server, missing, "1")?;
    let told = said(&log, "a configured file is not there")?;
    let path = bench.rules.display().to_string();
    ensure!(told.len() == 1 && told[0].contains("WARN") && told[0].contains(&path), "{told:?}");
    ensure!(told[0].contains("the next start is refused"), "{told:?}");

    // A signal that asks for them says from where they were to come.
    // SAFETY: the call takes no pointer, and the child is not waited for yet, so that its id is still its own.
    ensure!(unsafe { libc::kill(server.pid().try_into()?, libc::SIGHUP) } == 0);
    wait_for(&server, "saker_rules_reloads_total{result=\"failed\"}", "1")?;
    let refused = said(&log, "a new version was not taken")?;
    ensure!(refused[0].contains(&format!("from=\"{path}\"")), "{refused:?}");
    thread::sleep(Duration::from_secs(1));
    ensure!(said(&log, "a configured file is not there")?.len() == 1, "it is told of again and again");
    let now = server.metrics()?.lines().find(|line| line.starts_with("saker_rules_info")).map(str::to_owned);
    ensure!(version == now, "{version:?}, then {now:?}");

    fs::write(&bench.rules, "version = 1\n")?;
    wait_for(&server, missing, "0")?;
    ensure!(said(&log, "a configured file is there again")?.len() == 1);
    server.kill()?;
    Ok(())
}

#[test]
fn a_stop_says_last_of_all_that_it_is_over_and_what_is_on_disk() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (mut server, log) = bench.start("log")?;
    // What a stop still has to bring to the disk is among it.
    let published = server
        .metrics()?
        .lines()
        .find_map(|line| line.strip_prefix("saker_journal_published_position ")?.parse::<u64>().ok())
        .context("the published position is a metric")?;
    server.terminate()?;
    let status = server.wait(PATIENCE)?;
    ensure!(status.code() == Some(0), "the exit status is {status}");
    let text = fs::read_to_string(&log)?;
    let last = text.lines().last().context("the log is not empty")?;
    ensure!(last.contains("INFO") && last.contains("stopped") && last.contains("took_s="), "{last}");
    ensure!(last.contains(&format!("durable_position={published}")), "{last}");
    Ok(())
}

#[test]
fn an_end_that_nobody_saw_is_told_by_the_process_that_comes_after_it() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let unclean = "saker_previous_end_unclean";
    let (server, log) = bench.start("first")?;
    wait_for(&server, unclean, "0")?;
    server.kill()?;
    let first = fs::read_to_string(log)?;
    ensure!(!first.contains("did not close its journal"), "{first}");
    // As where its disk failed, nothing was closed.
    let (mut server, log) = bench.start("second")?;
    wait_for(&server, unclean, "1")?;
    let told = said(&log, "the process before did not close its journal")?;
    ensure!(told.len() == 1 && told[0].contains("WARN") && told[0].contains("process="), "{told:?}");
    server.terminate()?;
    server.wait(PATIENCE)?;
    let (server, _) = bench.start("third")?;
    wait_for(&server, unclean, "0")?;
    server.kill()?;
    Ok(())
}
