//! Every operation on the data directory at start-up and at a change of segments, failed and killed in turn.
//!
//! A run under strace lists the operations of a start; then the n-th of them fails with EIO or ENOSPC, or is the
//! process's last, for every n, on a new directory and on a used one with a torn end. Allowed is an exit with code 2 or 3
//! that names the file and the cause, or a server that serves; and the next start must come up and give every answer that
//! was acknowledged. While serving, the same is done to each kind of operation of the threads that write: the two of the
//! journal end the engine or try again, those that write snapshots and key files harm nothing but the file they are at.
//!
//! By default each operation meets one of the three faults, in turn; `SAKER_DISK_FAULTS=all` takes all of them. Without
//! strace it says so in one line and is skipped.

#![cfg(target_os = "linux")]

mod checker;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::{fs::FileExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use checker::{Campaign, Clients, Injection, Past, Server, Strace, fresh_directory, keep_if_wrong, say};

/// The mark stays behind the log, so that a start has to bring it up.
const LATE_MARK: &str = "[journal]\nsegment_bytes = 1_048_576\nidle_mark_ms = 10_000\n";
/// A snapshot is under way most of the time, and every few seconds there is a segment to make a key file of.
const BUSY: &str = "[journal]\nsegment_bytes = 1_048_576\n\
                    [snapshots]\nevery_s = 1\nafter_records = 1\nbytes_per_s = 33_554_432\n";
const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=SIGKILL"];
/// What changes something on a disk.
const START_CALLS: &str =
    "openat,mkdir,write,pwrite64,fallocate,ftruncate,fdatasync,fsync,rename,unlink,flock";
const START_MAX: Duration = Duration::from_secs(30);
/// Answers asked for again after each fault; a part, and another one each time.
const AUDITED: usize = 150;

#[test]
fn every_operation_of_a_start_fails_in_turn() -> anyhow::Result<()> {
    if let Some(missing) = Strace::missing() {
        return say(format_args!("every_fault, start skipped: strace puts no faults in here ({missing})"));
    }
    let directory = fresh_directory("every-fault")?;
    let ended = Starts::new(directory.path()).and_then(|starts| {
        starts.sweep("a new directory", None)?;
        starts.sweep("a used directory with a torn end", Some(&starts.past))
    });
    keep_if_wrong(directory, ended)
}

#[test]
fn every_operation_while_serving_fails_in_turn() -> anyhow::Result<()> {
    if let Some(missing) = Strace::missing() {
        return say(format_args!("every_fault, serving skipped: strace puts no faults in here ({missing})"));
    }
    let directory = fresh_directory("every-fault")?;
    let faults = serving_faults();
    let campaign = campaign("L5 every fault while serving", directory.path(), faults.len() as u32, BUSY);
    let mut left = faults.iter();
    let ended = campaign.run(|server, clients| {
        let (operation, fault) = left.next().context("one fault for each restart")?;
        let log = directory.path().join("strace.log");
        operation
            .meets(fault, server, clients, &campaign.data.join("journal"), &log)
            .with_context(|| format!("{operation:?}, {fault}"))
    });
    let ended = ended.and_then(|verdict| verdict.judge()).and_then(|()| {
        say(format_args!("while serving: {} operations, {} faults", serving().count(), faults.len()))?;
        no_broken_file_was_met(&campaign)?;
        key_files_are_what_their_segments_say(&campaign)
    });
    keep_if_wrong(directory, ended)
}

/// What was left by a fault must be whole or not have its name.
fn no_broken_file_was_met(campaign: &Campaign) -> anyhow::Result<()> {
    let log = fs::read_to_string(campaign.evidence.join("server.log"))?;
    for said in ["a snapshot is passed over", "a key file is not used", "panicked"] {
        ensure!(!log.contains(said), "the log says: {said}");
    }
    let starts = log.lines().filter(|line| line.contains("the state is back"));
    let from_snapshots = starts.filter(|line| !line.contains("snapshot=\"none\"")).count();
    ensure!(from_snapshots > 0, "no start was from a snapshot");
    say(format_args!(
        "{from_snapshots} starts from a snapshot; {} snapshots taken and {} failed, {} key files failed",
        log.matches("a snapshot is taken").count(),
        log.matches("no snapshot was taken").count(),
        log.matches("no key file can be made").count()
    ))
}

/// Every key file that has its name is, byte for byte, the one that is made of its segment again.
fn key_files_are_what_their_segments_say(campaign: &Campaign) -> anyhow::Result<()> {
    let keys = campaign.data.join("keys");
    let read = || -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let paths =
            fs::read_dir(&keys)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        let named = paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "keys"));
        named.map(|path| Ok((path.clone(), fs::read(path)?))).collect()
    };
    let before = read()?;
    ensure!(!before.is_empty(), "there is no key file");
    fs::remove_dir_all(&keys)?;
    let arguments = campaign.plain_arguments()?;
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let server = Server::start(&campaign.data, &campaign.evidence.join("server.log"), &arguments)?;
    let begun = Instant::now();
    let missing = || before.keys().find(|path| !path.exists());
    while let Some(missing) = missing() {
        ensure!(begun.elapsed() < Duration::from_secs(120), "{} is not made again", missing.display());
        thread::sleep(Duration::from_millis(100));
    }
    let again = read()?;
    server.kill()?;
    for (path, bytes) in &before {
        ensure!(again.get(path) == Some(bytes), "{} is not what its segment says", path.display());
    }
    say(format_args!("{} key files are what is made of their segments again", before.len()))
}

/// What is needed to start again and again.
struct Starts {
    campaign: Campaign,
    past: Past,
    arguments: [String; 6],
    /// A used data directory with a torn end, of which every start gets a copy.
    used: PathBuf,
    work: PathBuf,
}

/// One operation of a start.
struct Operation {
    syscall: String,
    when: usize,
    text: String,
}

impl Starts {
    fn new(directory: &Path) -> anyhow::Result<Starts> {
        let campaign = campaign("L5 every fault of a start", directory, 1, LATE_MARK);
        let used = directory.join("used");
        let (verdict, past) = campaign.run_keeping(|server, clients| {
            clients.rest(server.grpc, Duration::from_secs(10))?;
            server.kill()?;
            tear(&campaign.data.join("journal"))?;
            copy_directory(&campaign.data, &used)
        })?;
        verdict.judge()?;
        let arguments = campaign.plain_arguments()?;
        Ok(Starts { campaign, past, arguments, used, work: directory.to_owned() })
    }

    fn sweep(&self, what: &str, past: Option<&Past>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let operations = self.operations(past.is_some())?;
        ensure!(operations.len() >= 30, "only {} operations were seen", operations.len());
        let (mut runs, mut refused, mut killed, mut served) = (0, 0, 0, 0);
        for (number, operation) in operations.iter().enumerate() {
            for (turn, fault) in FAULTS.iter().enumerate() {
                if !all_faults() && turn != number % FAULTS.len() {
                    continue;
                }
                runs += 1;
                match self.start_with(operation, fault, past) {
                    Ok(Outcome::Refused) => refused += 1,
                    Ok(Outcome::Killed) => killed += 1,
                    Ok(Outcome::Served) => served += 1,
                    Err(error) => bail!("{what}, {fault} at {}: {error:#}", operation.text),
                }
            }
        }
        say(format_args!(
            "start on {what}: {} operations, {runs} faults: {refused} refused with code 2 or 3, {killed} killed, {served} \
             served all the same, 0 bad outcomes, {:.0} s",
            operations.len(),
            begun.elapsed().as_secs_f64()
        ))
    }

    /// The operations of a start that touch the data directory, in their order.
    fn operations(&self, used: bool) -> anyhow::Result<Vec<Operation>> {
        let log = self.work.join("strace.log");
        let trace = format!("trace={START_CALLS}");
        self.lay_out(used)?;
        let command = Strace::around(binary(), &log, &["-y", "-s", "0", "-e", &trace]);
        ensure!(matches!(self.run_to_serving(command)?, Ended::Serving), "the start without a fault fails");
        let data = self.campaign.data.display().to_string();
        let mut seen = std::collections::HashMap::<String, usize>::new();
        let mut operations = Vec::new();
        for line in wait_for_whole_log(&log)?.lines() {
            let Some((syscall, _)) = line.split_once('(') else { continue };
            let when = seen.entry(syscall.to_owned()).or_default();
            *when += 1;
            if line.contains(&data) {
                operations.push(Operation {
                    syscall: syscall.to_owned(),
                    when: *when,
                    text: line.to_owned(),
                });
            }
        }
        Ok(operations)
    }

    fn start_with(
        &self,
        operation: &Operation,
        fault: &'static str,
        past: Option<&Past>,
    ) -> anyhow::Result<Outcome> {
        self.lay_out(past.is_some())?;
        let log = self.work.join("strace.log");
        let injection =
            Injection { syscall: operation.syscall.clone(), fault, when: operation.when, paths: Vec::new() };
        let outcome = match self.run_to_serving(Strace::injecting(binary(), &log, &injection))? {
            Ended::Serving => Outcome::Served,
            Ended::Exited(status) if status.signal() == Some(libc::SIGKILL) => {
                ensure!(fault == "signal=SIGKILL", "killed by nobody");
                Outcome::Killed
            }
            Ended::Exited(status) => {
                let said = fs::read_to_string(self.work.join("stderr"))?;
                ensure!(matches!(status.code(), Some(2 | 3)), "{status}: {said}");
                ensure!(!said.contains("panicked"), "{said}");
                let cause = ["Input/output error", "No space left on device"]
                    .iter()
                    .any(|cause| said.contains(cause));
                ensure!(
                    cause && said.contains(&self.campaign.data.display().to_string()),
                    "says only: {said}"
                );
                Outcome::Refused
            }
        };
        let arguments = self.arguments.iter().map(String::as_str).collect::<Vec<_>>();
        let server = Server::start(&self.campaign.data, &self.work.join("server.log"), &arguments)
            .context("the next start")?;
        if let Some(past) = past {
            past.audit(&server, AUDITED)?;
        }
        drop(server);
        let verified =
            Command::new(binary()).args(["journal", "verify"]).arg(&self.campaign.data).output()?;
        ensure!(verified.status.success(), "journal verify: {}", String::from_utf8_lossy(&verified.stdout));
        Ok(outcome)
    }

    fn lay_out(&self, used: bool) -> anyhow::Result<()> {
        if self.campaign.data.exists() {
            fs::remove_dir_all(&self.campaign.data)?;
        }
        if used { copy_directory(&self.used, &self.campaign.data) } else { Ok(()) }
    }

    /// Runs the program until it serves, and kills it then, or until it has ended by itself.
    fn run_to_serving(&self, mut command: Command) -> anyhow::Result<Ended> {
        let said = self.work.join("stdout");
        let mut child = command
            .arg("serve")
            .arg("--data")
            .arg(&self.campaign.data)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(self.work.join("stderr"))?)
            .spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ended::Exited(status));
            }
            let serving = fs::read_to_string(&said)?.contains("SERVING");
            let too_long = begun.elapsed() > START_MAX;
            if serving || too_long {
                child.kill()?;
                child.wait()?;
                ensure!(!too_long, "neither serves nor ends within {START_MAX:?}");
                return Ok(Ended::Serving);
            }
            thread::sleep(Duration::from_millis(3));
        }
    }
}

enum Ended {
    Serving,
    Exited(ExitStatus),
}

enum Outcome {
    Refused,
    Killed,
    Served,
}

/// A kind of operation of a thread that writes while the engine serves.
#[derive(Clone, Copy, Debug)]
struct Serving {
    thread: &'static str,
    syscall: &'static str,
    on: On,
    /// At which such call.
    when: usize,
}

/// The file that the operation is done to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum On {
    /// The segment that groups are written to.
    Segment,
    /// The one that comes next, while it still has the name of a prepared one.
    Next,
    Mark,
    Directory,
    /// The key file of a closed segment, while it has the name of an unfinished one.
    Keys,
    KeysDirectory,
    /// Whatever the thread does it to: snapshots, whose names hold positions.
    Anything,
}

/// What a thread does to the disk: the call, to what, and which of those calls fails.
type Calls = &'static [(&'static str, On, usize)];

/// Everything that threads do to the disk while the engine serves.
const SERVING: [(&str, Calls); 4] = [
    (
        JOURNAL,
        &[
            ("pwrite64", On::Segment, 1),
            ("fdatasync", On::Segment, 1),
            ("pwrite64", On::Next, 1),
            ("fdatasync", On::Next, 1),
            ("rename", On::Next, 1),
            ("openat", On::Directory, 1),
            ("fsync", On::Directory, 1),
            ("pwrite64", On::Mark, 1),
            ("fdatasync", On::Mark, 1),
        ],
    ),
    (
        "saker-prepare",
        &[
            ("openat", On::Next, 1),
            ("fallocate", On::Next, 1),
            ("pwrite64", On::Next, 1),
            ("fdatasync", On::Next, 1),
        ],
    ),
    (
        "snapshots",
        &[
            // The list of what is there, the new file, its directory, and the list of what is too old.
            ("openat", On::Anything, 1),
            ("openat", On::Anything, 2),
            ("openat", On::Anything, 3),
            ("openat", On::Anything, 4),
            // Header, blocks, end.
            ("pwrite64", On::Anything, 1),
            ("pwrite64", On::Anything, 2),
            ("pwrite64", On::Anything, 3),
            ("pwrite64", On::Anything, 4),
            ("pwrite64", On::Anything, 5),
            ("fdatasync", On::Anything, 1),
            ("rename", On::Anything, 1),
            ("fsync", On::Anything, 1),
            ("unlink", On::Anything, 1),
        ],
    ),
    (
        "saker-keys",
        &[
            ("openat", On::Segment, 1),
            ("pread64", On::Segment, 1),
            ("openat", On::Keys, 1),
            // Entries, filter, header.
            ("pwrite64", On::Keys, 1),
            ("pwrite64", On::Keys, 2),
            ("pwrite64", On::Keys, 3),
            ("fdatasync", On::Keys, 1),
            ("rename", On::Keys, 1),
            ("openat", On::KeysDirectory, 1),
            ("fsync", On::KeysDirectory, 1),
        ],
    ),
];
/// The one thread whose failures end the engine; the others try again, or leave out what they were at.
const JOURNAL: &str = "saker-journal";

fn serving() -> impl Iterator<Item = Serving> {
    SERVING.iter().flat_map(|(thread, calls)| {
        calls.iter().map(|(syscall, on, when)| Serving { thread, syscall, on: *on, when: *when })
    })
}

fn serving_faults() -> Vec<(Serving, &'static str)> {
    let all = serving().enumerate().flat_map(|(number, operation)| {
        let turns = FAULTS.iter().enumerate();
        turns
            .filter(move |(turn, _)| all_faults() || *turn == number % FAULTS.len())
            .map(move |(_, fault)| (operation, *fault))
    });
    all.collect()
}

impl Serving {
    /// Lets a serving engine meet the fault, and judges how it takes it.
    fn meets(
        &self,
        fault: &'static str,
        mut server: Server,
        clients: &Clients,
        journal: &Path,
        log: &Path,
    ) -> anyhow::Result<()> {
        let injection = Injection {
            syscall: self.syscall.to_owned(),
            fault,
            when: self.when,
            paths: self.paths(journal)?,
        };
        let strace = Strace::attach(server.pid(), self.thread, &injection, log)?;
        if fault == "signal=SIGKILL" {
            let status = server.wait(Duration::from_secs(30))?;
            ensure!(status.signal() == Some(libc::SIGKILL), "{status}");
            return Ok(());
        }
        strace.wait_injected(Duration::from_secs(30))?;
        if self.thread != JOURNAL {
            // Tried again with a new file; while no segment could be prepared authorisations may have been refused.
            thread::sleep(Duration::from_millis(700));
            let probe = clients.probe(server.grpc, checker::Asked::Authorisation, Duration::from_millis(5));
            let shortly = Duration::from_secs(5);
            probe.wait_for("authorisation", Instant::now(), shortly, |told| told.result.is_ok())?;
            drop(probe);
            let status = server.kill()?;
            ensure!(status.signal() == Some(libc::SIGKILL), "it had ended by itself: {status}");
            return Ok(());
        }
        let failed = Instant::now();
        let status = server.wait(Duration::from_secs(20))?;
        ensure!(status.code() == Some(3), "{status}");
        ensure!(
            failed.elapsed() <= Duration::from_secs(2),
            "it ended {:?} after the fault",
            failed.elapsed()
        );
        Ok(())
    }

    fn paths(&self, journal: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let numbers = fs::read_dir(journal)?.filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_segment = path.extension()? == "segment";
            is_segment.then(|| path.file_stem()?.to_str()?.parse::<u64>().ok())?
        });
        let last = numbers.max().context("there is a segment")?;
        // Segments may change until strace is attached.
        let names = |directory: &Path, ending: &str, from: u64| {
            (from..from + 12).map(|number| directory.join(format!("{number:010}.{ending}"))).collect()
        };
        let keys = journal.with_file_name("keys");
        Ok(match self.on {
            On::Segment => names(journal, "segment", last),
            On::Next => names(journal, "prepared", last + 1),
            On::Mark => vec![journal.join("mark")],
            On::Directory => vec![journal.to_owned()],
            On::Keys => names(&keys, "keys.unfinished", last.saturating_sub(3)),
            On::KeysDirectory => vec![keys],
            On::Anything => Vec::new(),
        })
    }
}

fn all_faults() -> bool {
    std::env::var("SAKER_DISK_FAULTS").is_ok_and(|which| which == "all")
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_saker"))
}

fn campaign(rung: &'static str, directory: &Path, restarts: u32, settings: &'static str) -> Campaign {
    Campaign {
        rung,
        restarts,
        load_ms: 20..=120,
        data: directory.join("data"),
        evidence: directory.join("evidence"),
        seed: Campaign::seed(),
        settings,
    }
}

/// Puts the beginning of something behind the last byte that was written: a group that was not finished.
fn tear(journal: &Path) -> anyhow::Result<()> {
    let mut segments: Vec<PathBuf> = fs::read_dir(journal)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .collect();
    segments.sort();
    let last = segments.last().context("there is a segment")?;
    let bytes = fs::read(last)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).context("it has content")? + 1;
    let torn = [0xA5; 100];
    // Behind the zeros that may end a seal.
    let place = end.next_multiple_of(64) + 64;
    ensure!(place + torn.len() <= bytes.len(), "the last segment is full");
    Ok(File::options().write(true).open(last)?.write_all_at(&torn, place as u64)?)
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The log of a process that has ended; strace writes its last line a little later.
fn wait_for_whole_log(log: &Path) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log)?;
        // Quiet as it is, it does not tell of the end; so its length must have stayed the same for a while.
        thread::sleep(Duration::from_millis(200));
        if fs::read_to_string(log)?.len() == text.len() && !text.is_empty() {
            return Ok(text);
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "strace goes on writing");
    }
}
