//! The independent checker: drives a real `saker serve` with concurrent clients, lets a test end it in some way, starts
//! it again on the same directory and checks that nothing acknowledged is lost or changed, and that nothing is held
//! twice.
//!
//! It knows the protobuf and the answers it received, nothing else: its arithmetic is its own (i128), and no type, file
//! or state of the engine is read. A request without an answer is open, neither done nor not done, until a repeat
//! settles it.

#![allow(dead_code, unused_imports, reason = "each test uses its part of the checker")]

mod audit;
mod book;
mod clients;
mod exchange;
#[cfg(target_os = "linux")]
mod loop_disk;
mod probe;
mod server;
#[cfg(target_os = "linux")]
mod strace;
mod truth;

pub use book::Wrong;
pub use clients::Clients;
#[cfg(target_os = "linux")]
pub use loop_disk::LoopDisk;
pub use probe::{Asked, HealthWatch, Probe};
pub use server::Server;
#[cfg(target_os = "linux")]
pub use strace::{Injection, Strace};

use std::{
    collections::HashSet,
    fs,
    io::{self, Write as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, ensure};
use rand::{Rng as _, SeedableRng as _, seq::IteratorRandom as _};
use rand_chacha::ChaCha8Rng;
use saker::proto::{Account, Card, UpsertAccountRequest, accounts_client::AccountsClient};

use book::Clerk;
use clients::Customer;
use truth::Truth;

const CUSTOMERS: u32 = 48;
/// Answers of earlier restarts that are asked for again after each; the last audit asks for all.
const OLD_ANSWERS_SAMPLED: usize = 300;

/// One run of the checker.
pub struct Campaign {
    /// As `reliability.md` numbers it, such as `L3`.
    pub rung: &'static str,
    /// How often the server is ended and started again.
    pub restarts: u32,
    /// How long the load lasts before each end, drawn at random.
    pub load_ms: RangeInclusive<u64>,
    /// The server's data directory.
    pub data: PathBuf,
    /// For what the checker and the server write besides; must survive the end of the server.
    pub evidence: PathBuf,
    pub seed: u64,
    /// Settings as TOML that differ from the defaults.
    pub settings: &'static str,
}

/// Everything that was acknowledged, to be compared with any later life of the same data.
pub struct Past {
    clerk: Arc<Clerk>,
    truth: Truth,
}

/// What came out.
#[derive(Debug, serde::Serialize)]
pub struct Verdict {
    pub rung: &'static str,
    pub commit: String,
    pub seed: u64,
    pub restarts: u32,
    /// Answers received, repeats included.
    pub acknowledged: u64,
    /// Different authorisations answered.
    pub decisions: u64,
    /// Requests that had no answer when the server ended, and were settled by a repeat.
    pub settled: u64,
    pub lost: u64,
    pub changed: u64,
    pub double_holds: u64,
    pub over_limit: u64,
    pub other: u64,
    /// gRPC errors met, by code.
    pub errors: std::collections::BTreeMap<String, u64>,
    pub worst_latency_ms: f64,
    pub worst_start_ms: f64,
    pub seconds: f64,
    #[serde(skip)]
    pub texts: Vec<String>,
}

impl Campaign {
    /// A seed from the environment (`SAKER_SEED`), or a new one.
    pub fn seed() -> u64 {
        let fresh = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(1, |since| since.as_nanos() as u64 >> 10 & 0xffff_ffff)
        };
        std::env::var("SAKER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(fresh)
    }

    /// Runs the campaign. `end` gets the server under load, ends it, and makes the data directory ready for the next
    /// start.
    ///
    /// # Errors
    /// Where a server does not come up or `end` fails; what the engine answers wrongly is in the verdict.
    pub fn run(&self, end: impl FnMut(Server, &Clients) -> anyhow::Result<()>) -> anyhow::Result<Verdict> {
        Ok(self.run_keeping(end)?.0)
    }

    /// As [`Campaign::run`]; keeps what was acknowledged, all of it audited and nothing open.
    ///
    /// # Errors
    /// As [`Campaign::run`].
    pub fn run_keeping(
        &self,
        mut end: impl FnMut(Server, &Clients) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Verdict, Past)> {
        let began = Instant::now();
        fs::create_dir_all(&self.evidence)?;
        let log = self.evidence.join("server.log");
        let plain = self.plain_arguments()?;
        let plain = plain.iter().map(String::as_str).collect::<Vec<_>>();

        let clerk = Arc::new(Clerk::start(&self.evidence.join("acknowledged"))?);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut truth = Truth::default();
        let mut audited = 0;
        let mut settled = 0;
        let mut worst_start = Duration::ZERO;
        let customers = customers(self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

        for epoch in 0..=self.restarts {
            // Where credit alone decides, every decision can be computed; every third time all the rest takes part.
            let credit_alone = epoch % 3 != 2;
            let more = if credit_alone { &plain[..] } else { &plain[..2] };
            let starting = Instant::now();
            let server = Server::start(&self.data, &log, more).with_context(|| format!("start {epoch}"))?;
            worst_start = worst_start.max(starting.elapsed());

            runtime.block_on(async {
                if epoch == 0 {
                    return open(&server, &customers, &mut truth).await;
                }
                settled += audit::settle(server.grpc, &clerk).await as u64;
                // Requests settled just now were decided by this start, the others by the one before.
                let strict = credit_alone && (epoch - 1) % 3 != 2;
                let keys = {
                    let mut book = clerk.book.lock();
                    truth.apply(&mut book, strict);
                    let old = if epoch == self.restarts { audited } else { OLD_ANSWERS_SAMPLED };
                    let mut keys: HashSet<String> = book.answered[audited..].iter().cloned().collect();
                    keys.extend(book.answered[..audited].iter().cloned().choose_multiple(&mut random, old));
                    audited = book.answered.len();
                    keys
                };
                audit::answers(server.grpc, &clerk, &keys).await;
                audit::balances(server.grpc, &clerk, &truth).await;
                anyhow::Ok(())
            })?;

            if epoch < self.restarts {
                let clients = Clients::start(server.grpc, clerk.clone(), &customers, epoch, self.seed);
                std::thread::sleep(Duration::from_millis(random.random_range(self.load_ms.clone())));
                let ended = end(server, &clients);
                clients.stop();
                ended?;
            }
        }

        let book = clerk.book.lock();
        let verdict = Verdict {
            rung: self.rung,
            commit: commit(),
            seed: self.seed,
            restarts: self.restarts,
            acknowledged: book.acknowledged,
            decisions: book.decisions,
            settled,
            lost: book.count_wrong(Wrong::Lost),
            changed: book.count_wrong(Wrong::Changed),
            double_holds: book.count_wrong(Wrong::DoubleHold),
            over_limit: book.count_wrong(Wrong::OverLimit),
            other: book.count_wrong(Wrong::Other),
            errors: book.errors.clone(),
            worst_latency_ms: book.latency_worst.as_secs_f64() * 1e3,
            worst_start_ms: worst_start.as_secs_f64() * 1e3,
            seconds: began.elapsed().as_secs_f64(),
            texts: book.texts().to_vec(),
        };
        drop(book);
        Ok((verdict, Past { clerk, truth }))
    }

    /// The arguments under which credit alone decides, the first two of them for the settings.
    ///
    /// # Errors
    /// Where their files cannot be written.
    pub fn plain_arguments(&self) -> anyhow::Result<[String; 6]> {
        fs::create_dir_all(&self.evidence)?;
        let file = |name: &str, text: &str| {
            let path = self.evidence.join(name);
            fs::write(&path, text)?;
            path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{path:?} is no text"))
        };
        let settings = file("settings.toml", self.settings)?;
        let rules = file("no-rules.toml", "version = 1\n")?;
        let [config, rules_flag, model, none] = ["--config", "--rules", "--model", "none"].map(str::to_owned);
        Ok([config, settings, rules_flag, rules, model, none])
    }
}

impl Past {
    /// Asks a server for some of the answers again, and for all balances.
    ///
    /// # Errors
    /// Where anything is not as it was acknowledged.
    pub fn audit(&self, server: &Server, answers: usize) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keys: HashSet<String> = {
            let book = self.clerk.book.lock();
            book.answered.iter().cloned().choose_multiple(&mut rand::rng(), answers).into_iter().collect()
        };
        runtime.block_on(async {
            audit::answers(server.grpc, &self.clerk, &keys).await;
            audit::balances(server.grpc, &self.clerk, &self.truth).await;
        });
        let book = self.clerk.book.lock();
        ensure!(book.texts().is_empty(), "{}", book.texts().join("\n"));
        Ok(())
    }
}

impl Verdict {
    /// Prints the one line of figures, also where the test runner captures the output of passing tests.
    ///
    /// # Errors
    /// Where anything is wrong with the engine, or hardly anything was asked of it.
    pub fn judge(&self) -> anyhow::Result<()> {
        let mut stdout = io::stdout();
        writeln!(stdout, "{}", serde_json::to_string(self)?)?;
        let wrong = self.lost + self.changed + self.double_holds + self.over_limit + self.other;
        ensure!(wrong == 0, "{wrong} things are wrong (seed {}):\n{}", self.seed, self.texts.join("\n"));
        let enough = 20 * u64::from(self.restarts);
        ensure!(self.decisions >= enough, "only {} decisions were acknowledged: no proof", self.decisions);
        Ok(())
    }
}

/// A number from the environment, such as `SAKER_KILL9_RESTARTS`.
pub fn count_from(variable: &str, default: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a number is expected")),
        Err(_) => default,
    }
}

/// A fresh directory under the build's own, which is on a disk where `/tmp` may not be.
pub fn fresh_directory(name: &str) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(name).tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Passes `judged` on; where it is an error, the directory stays for whoever looks into it.
///
/// # Errors
/// That of `judged`.
pub fn keep_if_wrong(directory: tempfile::TempDir, judged: anyhow::Result<()>) -> anyhow::Result<()> {
    if judged.is_err() {
        eprintln!("evidence is kept in {}", directory.keep().display());
    }
    judged
}

/// Prints a line, also where the test runner captures what passing tests print.
///
/// # Errors
/// Where stdout is closed.
pub fn say(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

fn customers(seed: u64) -> Vec<Customer> {
    let currencies = [("USD", 50_000), ("JPY", 80_000), ("KWD", 400_000)];
    (0..CUSTOMERS)
        .map(|number| {
            let (currency, limit_minor) = currencies[number as usize % currencies.len()];
            let account_id = format!("{seed:x}-account-{number}");
            let cards = (0..2).map(|card| format!("{seed:x}-card-{number}-{card}")).collect();
            Customer { account_id, cards, currency, limit_minor }
        })
        .collect()
}

async fn open(server: &Server, customers: &[Customer], truth: &mut Truth) -> anyhow::Result<()> {
    let rows: Vec<UpsertAccountRequest> = customers
        .iter()
        .map(|customer| UpsertAccountRequest {
            request_id: format!("open-{}", customer.account_id),
            account: Some(Account {
                account_id: customer.account_id.clone(),
                currency_code: customer.currency.to_owned(),
                credit_limit_minor: Some(customer.limit_minor),
                cards: customer
                    .cards
                    .iter()
                    .map(|card| Card { card_token: card.clone(), ..Card::default() })
                    .collect(),
                home_country: "US".to_owned(),
                ..Account::default()
            }),
        })
        .collect();
    let answer = AccountsClient::new(clients::channel(server.grpc))
        .upsert_accounts(tokio_stream::iter(rows))
        .await?
        .into_inner();
    ensure!(answer.accounts_opened == customers.len() as u64, "accounts were not opened: {answer:?}");
    for customer in customers {
        truth.open(&customer.account_id, customer.limit_minor, customer.cards.iter().cloned());
    }
    Ok(())
}

fn commit() -> String {
    match Command::new("git").args(["rev-parse", "--short", "HEAD"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
