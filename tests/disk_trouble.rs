//! Trouble with the disk under load, the real binary: a disk that fills up, a sync that fails, takes long or never
//! returns, and a file system that turns read-only. What health and the calls say is timed from outside, and after the
//! next start the checker asks for everything that was acknowledged.
//!
//! Needs root with loop devices, or strace; what is missing is said in one line, and that test is skipped.

#![cfg(target_os = "linux")]

mod checker;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use checker::{
    Asked, Campaign, Clients, HealthWatch, Injection, LoopDisk, Probe, Server, Strace, fresh_directory,
    keep_if_wrong, say,
};
use parking_lot::Mutex;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

/// Health must have said NOT_SERVING by then.
const NOT_SERVING_MAX: Duration = Duration::from_secs(1);
/// And a process whose disk has failed must have ended by then.
const EXIT_MAX: Duration = Duration::from_secs(2);
const DISK_BYTES: u64 = 64 * 1024 * 1024;
const SMALL_SEGMENTS: &str = "[journal]\nsegment_bytes = 1_048_576\n";
const SHORT_PATIENCE: &str = "[journal]\nsegment_bytes = 1_048_576\nstall_ms = 500\nhang_ms = 2_000\n";
const EVERY: Duration = Duration::from_millis(5);

#[test]
fn a_full_disk_refuses_authorisations_alone_and_heals() -> anyhow::Result<()> {
    on_a_disk_of_its_own("full disk", |disk, campaign| {
        campaign.judged(|server, clients| {
            fill_and_free(&server, clients, disk)?;
            end(server)
        })
    })
}

#[test]
fn an_engine_starts_on_a_full_disk_and_reverses_there() -> anyhow::Result<()> {
    on_a_disk_of_its_own("start on a full disk", |disk, campaign| {
        campaign.judged(|server, clients| {
            let begun = Instant::now();
            let health = HealthWatch::start(server.grpc, Serving)?;
            disk.fill()?;
            health.wait_for(NotServing, begun, Duration::from_secs(60))?;
            end(server)?;
            // What could not be written was taken back, and its room may have become a segment, which a start prepares anew.
            for entry in fs::read_dir(campaign.data.join("journal"))? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "prepared") {
                    fs::remove_file(path)?;
                }
            }
            let ballast = disk.fill()?;

            let arguments = campaign.plain_arguments()?;
            let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
            let log = campaign.evidence.join("full.log");
            let server = Server::start(&campaign.data, &log, &arguments)?;
            let started = Instant::now();
            says_that_it_is_full(&server, &log, &campaign.data)?;
            let health = HealthWatch::start(server.grpc, NotServing)?;
            ensure!(health.said().iter().all(|(_, said)| *said == NotServing), "{:?}", health.said());
            let [authorisations, reversals, repeats] = probes(&server, clients);
            let shortly = Duration::from_secs(5);
            authorisations
                .wait_for("refusal", started, shortly, |told| told.is(Code::Unavailable, "DISK_LOW"))?;
            reversals.wait_for("reversal", started, shortly, |told| told.result.is_ok())?;
            repeats.wait_for("repeat", started, shortly, |told| told.result.is_ok())?;
            a_new_journal_finds_no_room(&disk.mount_point.join("new"), &ballast, &arguments)?;
            let freed_at = Instant::now();
            fs::remove_file(ballast)?;
            health.wait_for(Serving, freed_at, shortly)?;
            authorisations.wait_for("authorisation", freed_at, shortly, |told| told.result.is_ok())?;
            end(server)
        })
    })
}

#[test]
fn a_file_system_that_turns_read_only_ends_the_engine_and_loses_nothing() -> anyhow::Result<()> {
    on_a_disk_of_its_own("read-only", |disk, campaign| {
        campaign.judged(|server, clients| {
            let (health, asking) = (HealthWatch::start(server.grpc, Serving)?, probes(&server, clients));
            let troubled_at = Instant::now();
            disk.turn_read_only()?;
            ends_itself(server, clients, &health, asking, troubled_at, campaign)?;
            disk.unmount()?;
            disk.mend()?;
            disk.mount()
        })
    })
}

#[test]
fn a_failed_sync_ends_the_engine_with_nothing_approved_after_it() -> anyhow::Result<()> {
    for syscall in ["fdatasync", "pwrite64"] {
        with_strace("failed sync", SMALL_SEGMENTS, |campaign, log| {
            campaign.judged(|server, clients| {
                let (health, asking) = (HealthWatch::start(server.grpc, Serving)?, probes(&server, clients));
                let strace = attach(&server, log, syscall, "error=EIO", 40)?;
                let failed_at = instant_of(strace.wait_injected(Duration::from_secs(20))?);
                ends_itself(server, clients, &health, asking, failed_at, campaign)
            })
        })?;
    }
    Ok(())
}

#[test]
fn a_slow_sync_stalls_authorisations_until_it_returns() -> anyhow::Result<()> {
    with_strace("slow sync", SMALL_SEGMENTS, |campaign, log| {
        campaign.judged(|server, clients| {
            let health = HealthWatch::start(server.grpc, Serving)?;
            let begun = Instant::now();
            let _strace = attach(&server, log, "fdatasync", "delay_enter=3s", 2)?;
            let stalled_at = health.wait_for(NotServing, begun, Duration::from_secs(5))?;
            // Whoever asked before now waits for that sync; these come during the stall.
            let asking = probes(&server, clients);
            let serving_at = health.wait_for(Serving, stalled_at, Duration::from_secs(5))?;
            let stalled_for = serving_at - stalled_at;
            // The sync takes 3 s, of which the first one passes before it counts as a stall.
            ensure!(
                (Duration::from_millis(1_500)..Duration::from_millis(2_500)).contains(&stalled_for),
                "stalled for {stalled_for:?}"
            );
            let [authorisations, _, repeats] = &asking;
            let during = |probe: &Probe| {
                let told = probe.told().into_iter();
                told.filter(|told| told.asked_at > stalled_at && told.answered_at < serving_at)
                    .collect::<Vec<_>>()
            };
            let refused = during(authorisations);
            ensure!(refused.len() >= 20, "{} authorisations were refused", refused.len());
            ensure!(refused.iter().all(|told| told.is(Code::Unavailable, "DISK_STALLED")), "{refused:?}");
            // What is on disk already is told all the time; a repeat of what waits for the disk waits with it.
            let repeated = during(repeats);
            ensure!(repeated.len() >= 3, "{} repeats were answered during the stall", repeated.len());
            ensure!(repeated.iter().all(|told| told.result.is_ok()), "{repeated:?}");
            let shortly = Duration::from_secs(2);
            authorisations
                .wait_for("authorisation after the stall", serving_at, shortly, |told| told.result.is_ok())?;
            say(format_args!("slow sync: NOT_SERVING for {stalled_for:?} of a sync of 3 s"))?;
            end(server)
        })
    })
}

#[test]
fn a_sync_that_never_returns_ends_the_engine_all_the_same() -> anyhow::Result<()> {
    with_strace("hung sync", SHORT_PATIENCE, |campaign, log| {
        campaign.judged(|server, clients| {
            let (health, asking) = (HealthWatch::start(server.grpc, Serving)?, probes(&server, clients));
            let begun = Instant::now();
            let strace = attach(&server, log, "fdatasync", "delay_enter=60s", 2)?;
            let stalled_at = health.wait_for(NotServing, begun, Duration::from_secs(5))?;
            // Stalled after 500 ms, hung after 2 s.
            let hung_at = stalled_at + Duration::from_millis(1_500);
            wait_all_but_ended(&server)?;
            drop(strace);
            ends_itself(server, clients, &health, asking, hung_at, campaign)
        })
    })
}

/// Demands that a server on a full disk says from its first moment on what it refuses, and what it lacks.
fn says_that_it_is_full(server: &Server, log: &Path, data: &Path) -> anyhow::Result<()> {
    ensure!(server.serving.ends_with(" authorisation=NOT_SERVING"), "{}", server.serving);
    let ready = server.get("/ready")?;
    ensure!(ready.starts_with("HTTP/1.1 503") && ready.contains("authorisations are refused"), "{ready}");
    let metrics = server.metrics()?;
    for shown in [
        "saker_serving{service=\"authorisation\"} 0",
        "saker_serving{service=\"others\"} 1",
        "saker_journal_disk_trouble{trouble=\"low\"} 1",
    ] {
        ensure!(metrics.lines().any(|line| line == shown), "no {shown}");
    }
    let log = fs::read_to_string(log)?;
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") && line.contains("segment")).collect();
    let directory = format!("directory=\"{}\"", data.join("journal").display());
    let [told] = told[..] else { anyhow::bail!("not told once: {told:?}") };
    ensure!(told.contains(&directory) && told.contains("needed_bytes=1048576"), "{told}");
    let free = told.split("free_bytes=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    ensure!(free.is_some_and(|free| free < 1_048_576), "{told}");
    Ok(())
}

/// Demands that a start on another directory of the full disk is refused, and says what it takes.
fn a_new_journal_finds_no_room(data: &Path, ballast: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let ballast = fs::OpenOptions::new().write(true).open(ballast)?;
    // Enough for the directories, and not for a segment of 1 MiB.
    ballast.set_len(ballast.metadata()?.len().saturating_sub(512 * 1024))?;
    let said = Command::new(env!("CARGO_BIN_EXE_saker"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .output()?;
    ensure!(said.status.code() == Some(3), "{said:?}");
    let error = String::from_utf8_lossy(&said.stderr);
    for expected in ["No space left", " bytes left, and a new journal takes two segments of 1048576 bytes"] {
        ensure!(error.contains(expected), "{error}");
    }
    Ok(())
}

/// Fills the disk, watches what is refused and what goes on, makes room, and watches it heal.
fn fill_and_free(server: &Server, clients: &Clients, disk: &LoopDisk) -> anyhow::Result<()> {
    let (health, [authorisations, reversals, repeats]) =
        (HealthWatch::start(server.grpc, Serving)?, probes(server, clients));
    let segments = SegmentWatch::start(&disk.mount_point.join("data/journal"));
    let begun = Instant::now();
    let ballast = disk.fill()?;
    // The load goes on into what was prepared; with the next change of segments there is nothing to prepare.
    let patience = Duration::from_secs(60);
    let low_at = health.wait_for(NotServing, begun, patience)?;
    let taken_at = segments.last_change().context("no segment was taken")?;
    let noticed = low_at.saturating_duration_since(taken_at);
    ensure!(noticed <= NOT_SERVING_MAX, "NOT_SERVING came {noticed:?} after the last segment was taken");
    let refused =
        authorisations.wait_for("refusal", taken_at, NOT_SERVING_MAX, |told| told.result.is_err())?;
    ensure!(refused.is(Code::Unavailable, "DISK_LOW"), "{refused:?}");

    thread::sleep(Duration::from_secs(1));
    let until = Instant::now();
    let since_low =
        |probe: &Probe| probe.told().into_iter().filter(|told| told.asked_at > low_at).collect::<Vec<_>>();
    let refused = since_low(&authorisations);
    let others = refused.iter().filter(|told| !told.is(Code::Unavailable, "DISK_LOW")).collect::<Vec<_>>();
    ensure!(refused.len() >= 20 && others.is_empty(), "{} refused, and {others:?}", refused.len());
    for (what, probe) in [("reversals", &reversals), ("repeats", &repeats)] {
        let told = since_low(probe);
        let failed = told.iter().filter(|told| told.result.is_err()).collect::<Vec<_>>();
        ensure!(told.len() >= 20 && failed.is_empty(), "{} {what} went on, and {failed:?}", told.len());
    }
    ensure!(
        !health.said().iter().any(|(at, said)| *at > low_at && *at < until && *said == Serving),
        "health said SERVING on a full disk"
    );

    let freed_at = Instant::now();
    fs::remove_file(ballast)?;
    let healed_at = health.wait_for(Serving, freed_at, Duration::from_secs(10))?;
    authorisations.wait_for("authorisation", freed_at, Duration::from_secs(5), |told| told.result.is_ok())?;
    say(format_args!(
        "full disk: NOT_SERVING {noticed:?} after the last segment was taken, {} reversals meanwhile, SERVING {:?} after \
         there was room",
        since_low(&reversals).len(),
        healed_at - freed_at
    ))
}

/// Demands that a server whose disk has failed at `failed_at` says so, approves nothing more and ends with 3.
fn ends_itself(
    mut server: Server,
    clients: &Clients,
    health: &HealthWatch,
    asking: [Probe; 3],
    failed_at: Instant,
    campaign: &Campaign,
) -> anyhow::Result<()> {
    let status = server.wait(Duration::from_secs(20))?;
    let exited = failed_at.elapsed();
    ensure!(status.code() == Some(3), "the exit status is {status}");
    ensure!(exited <= EXIT_MAX, "the process ended {exited:?} after the disk failed");
    let (last_at, last) = health.said().last().copied().context("health said nothing")?;
    ensure!(last == NotServing, "health says {last:?} at last");
    let noticed = last_at.saturating_duration_since(failed_at);
    ensure!(noticed <= NOT_SERVING_MAX, "NOT_SERVING came {noticed:?} after the disk failed");
    let [authorisations, reversals, _] = &asking;
    for probe in [authorisations, reversals] {
        let told = probe.told();
        let first = told.iter().find(|told| told.answered_at > last_at && told.result.is_err());
        let first = first.context("no call was answered after the disk failed")?;
        ensure!(matches!(&first.result, Err((Code::Unavailable, _))), "{first:?}");
    }
    drop(asking);
    ensure!(campaign.data.join("unclosed").exists(), "the next start will not know how this one ended");

    // The engine names the last sequence that is on disk; nothing beyond it may have been acknowledged.
    let log = fs::read_to_string(campaign.evidence.join("server.log"))?;
    let said = log.lines().rev().find(|line| line.contains("error: the journal stopped"));
    let said = said.context("the reason is not said on stderr")?;
    let durable =
        said.split("after sequence ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u64>().ok());
    let durable = durable.with_context(|| format!("no sequence in: {said}"))?;
    let acknowledged = clients.highest_position();
    ensure!(acknowledged <= durable, "{acknowledged} was acknowledged, and: {said}");
    say(format_args!("{}: NOT_SERVING after {noticed:?}, exit 3 after {exited:?}; {said}", campaign.rung))
}

/// Waits until all of a process has ended but for the thread that strace keeps.
fn wait_all_but_ended(server: &Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid()))?;
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
    anyhow::bail!("the process does not end while a sync hangs")
}

/// The end of a server that serves again.
fn end(server: Server) -> anyhow::Result<()> {
    server.kill().map(drop)
}

/// Authorisations, reversals and repeats beside the load.
fn probes(server: &Server, clients: &Clients) -> [Probe; 3] {
    [Asked::Authorisation, Asked::Reversal, Asked::Repeat]
        .map(|asked| clients.probe(server.grpc, asked, EVERY))
}

fn attach(
    server: &Server,
    log: &Path,
    syscall: &str,
    fault: &'static str,
    when: usize,
) -> anyhow::Result<Strace> {
    let injection = Injection { syscall: syscall.to_owned(), fault, when, paths: Vec::new() };
    Strace::attach(server.pid(), "saker-journal", &injection, log)
}

/// The instant of a time in seconds since 1970.
fn instant_of(seconds: f64) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Instant::now() - Duration::from_secs_f64((now - seconds).max(0.0))
}

trait Judged {
    fn judged(&self, end: impl FnMut(Server, &Clients) -> anyhow::Result<()>) -> anyhow::Result<()>;
}

impl Judged for Campaign {
    fn judged(&self, end: impl FnMut(Server, &Clients) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.run(end).and_then(|verdict| verdict.judge())
    }
}

fn on_a_disk_of_its_own(
    rung: &'static str,
    test: impl FnOnce(&LoopDisk, &Campaign) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let directory = fresh_directory("disk-trouble")?;
    let disk = match LoopDisk::new(directory.path(), DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => return say(format_args!("{rung} skipped: no ext4 on a loop device here ({error:#})")),
    };
    let campaign = campaign(rung, &disk.mount_point, directory.path(), SMALL_SEGMENTS);
    let judged = test(&disk, &campaign);
    drop(disk);
    keep_if_wrong(directory, judged)
}

fn with_strace(
    rung: &'static str,
    settings: &'static str,
    test: impl FnOnce(&Campaign, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if let Some(missing) = Strace::missing() {
        return say(format_args!("{rung} skipped: strace puts no faults in here ({missing})"));
    }
    let directory = fresh_directory("disk-trouble")?;
    let campaign = campaign(rung, directory.path(), directory.path(), settings);
    let judged = test(&campaign, &directory.path().join("strace.log"));
    keep_if_wrong(directory, judged)
}

fn campaign(rung: &'static str, disk: &Path, evidence: &Path, settings: &'static str) -> Campaign {
    Campaign {
        rung,
        restarts: 1,
        load_ms: 300..=500,
        data: disk.join("data"),
        evidence: evidence.join("evidence"),
        seed: Campaign::seed(),
        settings,
    }
}

/// Notes when a segment was last taken into use.
struct SegmentWatch {
    last: Arc<Mutex<Option<Instant>>>,
    stop: Arc<AtomicBool>,
}

impl SegmentWatch {
    fn start(journal: &Path) -> SegmentWatch {
        let (last, stop) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let watch = SegmentWatch { last: last.clone(), stop: stop.clone() };
        let journal = journal.to_owned();
        thread::spawn(move || {
            let mut before = 0;
            while !stop.load(Ordering::Acquire) {
                let names = fs::read_dir(&journal).into_iter().flatten().flatten();
                let segments = names.filter(|entry| entry.path().extension().is_some_and(|e| e == "segment"));
                let now = segments.count();
                if now > before {
                    before = now;
                    *last.lock() = Some(Instant::now());
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        watch
    }

    fn last_change(&self) -> Option<Instant> {
        *self.last.lock()
    }
}

impl Drop for SegmentWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
