//! `saker demo`: the main job on one machine, nothing installed beside it. An engine on embedded defaults, simulated
//! accounts, labelled card traffic through the real gRPC port, what was decided and why, and a check that the
//! engine's own figures say the same.
//!
//! Engine time follows the transactions, so that weeks of traffic pass in seconds with velocity, holds and expiry as
//! they would be. Nothing here knows the engine but through its doors, except to start and to stop it.

mod check;
mod explanation;
mod source;
mod summary;
mod traffic;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};

use self::{
    explanation::Explanation,
    source::{PastFile, Source},
    summary::{Decided, Shown, Summary, Tally},
    traffic::Client,
};
use super::{
    Exit, Failure, Format, output,
    past::DEFAULT_LIMIT,
    progress::bar,
    say,
    scores::Scores,
    serve::{Service, StopSignals, address},
};
use crate::{
    admin::http::AdminListener,
    config::{Accounts, Answers, Config, Journal, Overload},
    engine::time::TimeSource,
    history::Selection,
    observe::RuleGroups,
    rules::{self, RuleSet},
    wire::Bound,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// End after the traffic instead of serving on.
    #[arg(long)]
    pub once: bool,
    /// An empty or new directory for the engine's data, kept afterwards [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Another seed is another world: other cardholders, other fraud.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Send the rows of this file instead, by their timestamps; CSV, plain or gzip.
    #[arg(long, value_name = "FILE")]
    pub transactions: Option<PathBuf>,
    /// Credit limit of the file's accounts, in major units of the row's currency.
    #[arg(long, value_name = "AMOUNT", default_value = DEFAULT_LIMIT)]
    pub default_limit: String,
    /// Only so many transactions.
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
    /// Writes what was decided on each transaction.
    #[arg(long, value_name = "OUT.csv")]
    pub scores: Option<PathBuf>,
    /// Pass over up to this many rows that cannot be read, and list them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad_rows: u64,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Enough for the demo, and quickly filled with zeros.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// Ports tried after a taken one.
const PORTS_TRIED: u16 = 100;

/// Runs the demo. Exit code 1 where the engine's figures are not those of the answers, or a request was not decided.
///
/// # Errors
/// Where no port or directory can be had, or the engine cannot be started.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let inputs = [("--transactions", args.transactions.as_deref())];
    output::apart(("--scores", args.scores.as_deref()), &inputs)?;
    let Args { once, data, seed, transactions, default_limit, limit, scores, skip_bad_rows, format } = args;
    // As `saker backtest` takes it: a file has no limits, and those of the simulated world are its own.
    let is_file = transactions.is_some();
    let source = match transactions {
        None => Source::simulated(seed, limit),
        Some(path) => {
            let selection = Selection { skip_bad_rows, limit };
            Source::of_file(&PastFile { path, selection, default_limit })?
        }
    };
    let mut scores = scores.as_deref().map(Scores::create).transpose()?;
    let directory = Directory::new(data)?;
    let mut answers = Answers::default();
    answers.capacity = answers.capacity.max(source.rows + source.accounts.len() as u64);
    let config = Config {
        data: directory.path.clone(),
        journal: Journal { segment_bytes: SEGMENT_BYTES, ..Journal::default() },
        // On a slow disk the demo takes its time: its few requests in flight are no overload.
        overload: Overload { shed_after_ms: 60_000, ..Overload::default() },
        answers,
        accounts: Accounts { assumed_limits: is_file, ..Accounts::default() },
        ..Config::default()
    };
    let talk = format == Format::Text;
    let listen = |address| TcpListener::bind(address).map(Bound::listening);
    let grpc = next_free("gRPC", &config.listen.grpc, talk, listen)?;
    let admin = next_free("HTTP", &config.listen.admin, talk, AdminListener::bind)?;

    let rules = rules::compile("the shipped rules", rules::SHIPPED)
        .map_err(|_| anyhow!("the shipped rules cannot be used: this program was not built whole"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = runtime.block_on(async { StopSignals::new() })?;
    let service = Service::start(&config, TimeSource::Transactions, grpc, admin)?;
    if talk {
        say(format_args!(
            "saker serves gRPC on {} and metrics on http://{}/metrics",
            service.grpc, service.admin
        ));
    }

    let shown = runtime.block_on(async {
        tokio::select! {
            result = show(source, &rules, &service, &mut scores, talk) => result.map(Some),
            _ = stop.next() => Ok(None),
        }
    })?;
    let Some(summary) = shown else {
        service.stop()?;
        return Err(Failure::wrong("interrupted before the traffic had ended"));
    };
    scores.map_or(Ok(()), Scores::finish)?;
    match format {
        Format::Text => say(format_args!("\n{summary}")),
        Format::Json => say(summary.as_json()),
    }
    if !once {
        if talk {
            say(format_args!(
                "serving until Ctrl-C: gRPC {}, metrics http://{}/metrics",
                service.grpc, service.admin
            ));
        }
        runtime.block_on(stop.next());
    }
    let stopped = service.stop()?;
    Ok(if summary.is_right() { stopped } else { Exit::Wrong.into() })
}

/// Opens the accounts, sends the traffic, has one decision of each kind explained and compares the figures.
async fn show(
    source: Source,
    rules: &RuleSet,
    service: &Service,
    scores: &mut Option<Scores>,
    talk: bool,
) -> anyhow::Result<Summary> {
    let Source { name, accounts, rows, traffic } = source;
    let mut client = Client::connect(service.grpc).await?;
    client.open_accounts(&accounts).await?;
    if talk {
        say(format_args!(
            "{} accounts opened; {rows} transactions follow, a few of them shown\n\n{}",
            accounts.len(),
            summary::HEADING
        ));
    }
    let mut tally = Tally::new();
    let mut shown = Shown::new(rows, talk);
    let groups = RuleGroups::new(rules.rules.iter().map(|rule| (&*rule.reason, &*rule.group)));
    let progress = bar(rows, "transactions answered");
    client
        .authorise(traffic, |row, answer, latency| {
            let answer = answer.and_then(|answer| Decided::new(answer, &groups));
            progress.suspend(|| shown.show(&row, &answer));
            progress.inc(1);
            tally.count(&row, &answer, latency);
            scores.as_mut().map_or(Ok(()), |scores| scores.put(row.place, summary::scored(&row, &answer)))
        })
        .await?;
    progress.finish_and_clear();
    let mut explanations = Vec::new();
    for (group, transaction_id) in tally.explainable() {
        if let Some(explained) = client.explain(transaction_id).await? {
            explanations.push(Explanation::new(group, explained, rules));
        }
    }
    let figures = check::compare(&tally, &check::scrape(service.admin).await?);
    Ok(Summary {
        name,
        accounts: accounts.len(),
        tally,
        explanations,
        figures,
        grpc: service.grpc,
        admin: service.admin,
    })
}

/// Listens on the address, or on the next port that is free.
fn next_free<L>(
    what: &str,
    wanted: &str,
    talk: bool,
    bind: fn(SocketAddr) -> io::Result<L>,
) -> anyhow::Result<L> {
    let wanted = address(wanted)?;
    for step in 0..=PORTS_TRIED {
        let mut candidate = wanted;
        candidate.set_port(wanted.port().saturating_add(step));
        match bind(candidate) {
            Ok(listener) => {
                if step > 0 && talk {
                    say(format_args!(
                        "port {} is taken; {what} moves to {}",
                        wanted.port(),
                        candidate.port()
                    ));
                }
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("{what} cannot listen on {candidate}")),
        }
    }
    bail!("{what} finds no free port from {} on, {PORTS_TRIED} tried", wanted.port())
}

/// The data directory; a temporary one is removed at the end.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(asked: Option<PathBuf>) -> anyhow::Result<Directory> {
        let (path, temporary) = match asked {
            Some(path) => (path, false),
            None => (temporary_path(), true),
        };
        if !is_empty_or_absent(&path)? {
            bail!(
                "{} is not empty: the demo needs a directory of its own; name an empty or a new one",
                path.display()
            );
        }
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Directory { path, temporary })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is left to whoever cleans the temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn temporary_path() -> PathBuf {
    use std::hash::{BuildHasher as _, RandomState};
    let name = format!("saker-demo-{}-{:08x}", std::process::id(), RandomState::new().hash_one(0) as u32);
    std::env::temp_dir().join(name)
}

fn is_empty_or_absent(path: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("{} cannot be used", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_moves_to_the_next_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        let found = next_free("gRPC", &wanted.to_string(), false, TcpListener::bind).unwrap();
        assert!(found.local_addr().unwrap().port() > wanted.port());
    }

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("theirs"), "x").unwrap();
        assert!(Directory::new(Some(parent.path().to_owned())).is_err());
        let mine = parent.path().join("mine");
        drop(Directory::new(Some(mine.clone())).unwrap());
        assert!(mine.exists(), "a directory that was asked for is kept");
    }

    #[test]
    fn a_temporary_directory_is_removed() {
        let directory = Directory::new(None).unwrap();
        let path = directory.path.clone();
        assert!(path.exists());
        drop(directory);
        assert!(!path.exists());
    }
}
