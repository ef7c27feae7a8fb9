//! Steady load on an engine that may use 2 GiB: memory grows by what the data explains and by no more, nothing is
//! refused while there is no overload, and at the end the log decides again to the same answers. Some seconds by
//! default; `SAKER_ENDURANCE_S=3600` for an hour, `SAKER_ENDURANCE_RATE` for another rate, `SAKER_ENDURANCE_ACCOUNTS`
//! for more or fewer accounts.
//!
//! The limit is a memory control group, which needs root; elsewhere a line says so, and resident memory is judged
//! alone.

mod checker;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use checker::{Server, count_from, fresh_directory};

const LIMIT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// How long the engine settles before growth is measured: maps, rings and buffers reach their size.
const SETTLE_SHARE: f64 = 0.25;
/// What one decision may add to memory: its key (28 bytes in a map that doubles), its event and its hold in lists that
/// grow by doubling.
const BYTES_PER_DECISION_MAX: f64 = 200.0;
/// What may come and go whatever the data: a map that is doubled at this moment, a snapshot's buffers, the allocator.
const SLACK_BYTES: f64 = 96.0 * 1024.0 * 1024.0;

#[test]
fn an_hour_of_load_grows_by_its_data_alone_and_sheds_nothing() -> anyhow::Result<()> {
    let seconds = count_from("SAKER_ENDURANCE_S", 6);
    let rate = count_from("SAKER_ENDURANCE_RATE", if cfg!(debug_assertions) { 300 } else { 2_000 });
    let accounts = count_from("SAKER_ENDURANCE_ACCOUNTS", if seconds > 60 { 100_000 } else { 2_000 });
    let directory = fresh_directory("endurance")?;
    let settings = directory.path().join("saker.toml");
    // A sync that a busy machine holds up for longer than usual is no overload.
    fs::write(&settings, "[overload]\nshed_after_ms = 5000\n")?;
    let settings = settings.to_str().context("the path of the settings is text")?;
    let data = directory.path().join("data");
    let server = Server::start(&data, &directory.path().join("server.log"), &["--config", settings])?;
    let group = match MemoryLimit::set(LIMIT_BYTES, server.pid()) {
        Ok(group) => Some(group),
        Err(error) => {
            writeln!(
                io::stdout(),
                "endurance: no memory control group here ({error:#}); the limit is not enforced"
            )?;
            None
        }
    };

    let seconds_text = seconds.to_string();
    let mut load = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["load", "--to", &server.grpc.to_string(), "--rate", &rate.to_string()])
        .args(["--duration", &seconds_text, "--accounts", &accounts.to_string()])
        .args(["--call", "stream", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let every = Duration::from_secs_f64((f64::from(seconds) / 60.0).clamp(0.25, 30.0));
    let mut samples = Vec::new();
    let began = Instant::now();
    let status = loop {
        samples.push(Sample::take(&server, began)?);
        if let Some(status) = load.try_wait()? {
            break status;
        }
        ensure!(began.elapsed() < Duration::from_secs(u64::from(seconds) + 180), "the load does not end");
        std::thread::sleep(every);
    };
    samples.push(Sample::take(&server, began)?);
    let said = io::read_to_string(load.stdout.take().context("stdout is piped")?)?;
    ensure!(status.success(), "the load ended with {status}");
    let said: serde_json::Value = serde_json::from_str(&said)?;

    let grown = Growth::of(&samples);
    let verdict = serde_json::json!({
        "rung": "L15 endurance", "seconds": seconds, "rate": rate, "accounts": accounts,
        "limit_enforced": group.is_some(), "samples": samples.len(),
        "resident_first": samples[0].resident, "resident_last": grown.last.resident,
        "resident_highest": samples.iter().map(|sample| sample.resident).fold(0.0, f64::max),
        "grown_bytes": grown.bytes, "grown_decisions": grown.decisions,
        "bytes_per_decision": grown.bytes / grown.decisions.max(1.0),
        "limit_hit": group.as_ref().map(MemoryLimit::times_hit),
        "load": said,
    });
    writeln!(io::stdout(), "{verdict}")?;

    ensure!(said["errors"].as_object().is_some_and(serde_json::Map::is_empty), "errors: {}", said["errors"]);
    ensure!(grown.last.shed == 0.0, "{} requests were shed", grown.last.shed);
    let sent = said["sent"].as_f64().unwrap_or(0.0);
    ensure!(sent >= 0.95 * f64::from(rate) * f64::from(seconds), "only {sent} were sent: no proof");
    let highest = samples.iter().map(|sample| sample.resident).fold(0.0, f64::max);
    ensure!(highest <= LIMIT_BYTES as f64, "resident memory reached {highest}");
    let explained = BYTES_PER_DECISION_MAX * grown.decisions + SLACK_BYTES;
    ensure!(
        grown.bytes <= explained,
        "grew by {} bytes, of which the data explains {explained}",
        grown.bytes
    );
    stop(server)?;
    decides_again(&data)
}

fn stop(mut server: Server) -> anyhow::Result<()> {
    server.terminate()?;
    let status = server.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "the engine ended with {status}");
    Ok(())
}

fn decides_again(data: &Path) -> anyhow::Result<()> {
    let verify = Command::new(env!("CARGO_BIN_EXE_saker")).args(["journal", "verify"]).arg(data).output()?;
    ensure!(verify.status.success(), "journal verify: {}", String::from_utf8_lossy(&verify.stderr));
    Ok(())
}

/// What the engine says of itself at one moment.
struct Sample {
    at_s: f64,
    resident: f64,
    decisions: f64,
    shed: f64,
}

impl Sample {
    fn take(server: &Server, began: Instant) -> anyhow::Result<Sample> {
        let figures = totals(&server.metrics()?);
        let of = |name: &str| figures.get(name).copied().unwrap_or(0.0);
        let resident = of("process_resident_memory_bytes");
        ensure!(resident > 0.0, "the metrics say nothing of resident memory");
        Ok(Sample {
            at_s: began.elapsed().as_secs_f64(),
            resident,
            decisions: of("saker_decisions_total"),
            shed: of("saker_shed_total"),
        })
    }
}

/// The sum of each metric over its labels.
fn totals(metrics: &str) -> BTreeMap<String, f64> {
    let mut totals = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        *totals.entry(name.to_owned()).or_default() += value.parse().unwrap_or(0.0);
    }
    totals
}

/// Between the end of settling and the end.
struct Growth<'a> {
    bytes: f64,
    decisions: f64,
    last: &'a Sample,
}

impl Growth<'_> {
    fn of(samples: &[Sample]) -> Growth<'_> {
        let last = &samples[samples.len() - 1];
        let settled = samples.iter().find(|sample| sample.at_s >= SETTLE_SHARE * last.at_s).unwrap_or(last);
        Growth {
            bytes: last.resident - settled.resident,
            decisions: last.decisions - settled.decisions,
            last,
        }
    }
}

/// A memory control group, of version 1 or 2, around one process; removed when dropped.
struct MemoryLimit {
    folder: PathBuf,
    hits: &'static str,
}

impl MemoryLimit {
    fn set(bytes: u64, pid: u32) -> anyhow::Result<MemoryLimit> {
        let name = format!("saker-endurance-{pid}");
        let first = Path::new("/sys/fs/cgroup/memory");
        let second = Path::new("/sys/fs/cgroup");
        let (folder, limit, hits) = if first.join("memory.limit_in_bytes").exists() {
            (first.join(name), "memory.limit_in_bytes", "memory.failcnt")
        } else if second.join("cgroup.controllers").exists() {
            (second.join(name), "memory.max", "memory.events")
        } else {
            bail!("neither version of memory control groups is mounted");
        };
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let group = MemoryLimit { folder, hits };
        fs::write(group.folder.join(limit), bytes.to_string())?;
        fs::write(group.folder.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }

    /// How often the limit was reached, as the kernel counts it; the page cache of the log reaches it too, and is given
    /// back.
    fn times_hit(&self) -> String {
        fs::read_to_string(self.folder.join(self.hits)).unwrap_or_default().trim().replace('\n', ", ")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Busy until the process has ended, which its own drop sees to; a group that stays is empty and harmless.
        let _ = fs::remove_dir(&self.folder);
    }
}
