//! How much longer decisions and answers take while a snapshot is written: `cargo bench --bench snapshot_pause`.
//!
//! Measured: p50, p99 and p99.9 of the decision (the call into the engine) and of the durable answer, at a fixed rate
//! that does not wait for answers, on an engine in this process with its journal on disk; windows of time without and
//! with a snapshot take turns. Input: `SAKER_PAUSE_ACCOUNTS` accounts (1,000,000), each with a card and a hold,
//! `SAKER_PAUSE_RATE` requests/s (5,000), `SAKER_PAUSE_ROUNDS` rounds (5).
//! Not measured: gRPC; the time of recovery, which the bench `restart` shows.
//!
//! Without `--bench` (that is, under `cargo test`) it runs small, so that it cannot rot.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use saker::{
    config::Config,
    engine::{Arrival, Client, Engine, Lane, Settings, Source, SystemClock, TimeSource},
    model,
    observe::Metrics,
    rules,
    types::{
        account::{AccountChange, CardChange},
        auth::{AuthRequest, Country, Merchant, Subject},
        codes::{Channel, Kind},
        ids::{AccountId, CardToken, Id, RequestKey},
        money::{Currency, Money},
        outcome::Maintenance,
    },
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls that may wait for their answer while accounts are opened.
const OPENING_IN_FLIGHT: usize = 4_096;

fn main() -> anyhow::Result<()> {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let from = |name: &str, small: u64, large: u64| -> anyhow::Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}: a number is expected")),
            Err(_) => Ok(if is_bench { large } else { small }),
        }
    };
    let accounts = from("SAKER_PAUSE_ACCOUNTS", 500, 1_000_000)? as usize;
    let rate = from("SAKER_PAUSE_RATE", 500, 5_000)?;
    let rounds = from("SAKER_PAUSE_ROUNDS", 1, 5)?;
    let quiet = Duration::from_millis(if is_bench { 10_000 } else { 300 });

    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bench = Bench::open(directory.path())?;
        bench.fill(accounts).await?;
        let mut traffic = Traffic { sent: 0, accounts, random: ChaCha8Rng::seed_from_u64(1) };
        println!("{accounts} accounts with a hold each, {rate} requests/s, {rounds} rounds");
        println!("{:<10}{:>10}  decision µs p50 / p99 / p99.9      answer µs p50 / p99 / p99.9", "", "requests");
        let (mut ratios, mut answer_ratios) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let without = bench.measure(&mut traffic, rate, |begun| begun.elapsed() < quiet).await?;
            without.print("quiet");
            let running = Arc::new(AtomicBool::new(true));
            let snapshot = {
                let (engine, running) = (bench.engine.clone(), running.clone());
                std::thread::spawn(move || {
                    saker::engine::yield_to_decisions();
                    let written = engine.snapshot_now();
                    running.store(false, Ordering::Release);
                    written
                })
            };
            let with = bench.measure(&mut traffic, rate, |_| running.load(Ordering::Acquire)).await?;
            with.print("snapshot");
            let written = snapshot.join().map_err(|_| anyhow::anyhow!("the snapshot panicked"))?;
            let written = written.context("no snapshot was taken")?;
            println!("{:<10}{} bytes in {:.1} s", "", written.bytes, written.duration.as_secs_f64());
            ratios.push(ratio(&with.decision_ns, &without.decision_ns));
            answer_ratios.push(ratio(&with.answer_ns, &without.answer_ns));
        }
        let (decision, answer) = (median(&mut ratios), median(&mut answer_ratios));
        println!("p99.9 with over without a snapshot, median of {rounds}: decision {decision:.2}, answer {answer:.2}");
        bench.engine.close().map_err(anyhow::Error::msg)
    })
}

struct Bench {
    engine: Arc<Engine>,
    lane: Arc<Lane>,
}

impl Bench {
    fn open(directory: &Path) -> anyhow::Result<Bench> {
        let mut config = Config::default();
        config.snapshots.every_s = 0;
        config.overload.shed_after_ms = 60_000;
        let settings = Settings {
            data_dir: directory.to_owned(),
            rules: Source { name: "the shipped rules".into(), text: rules::SHIPPED.into() },
            model: Some(Source { name: "the shipped model".into(), text: model::SHIPPED.into() }),
            challenger: None,
            config,
            time: TimeSource::Clock(Box::new(SystemClock)),
            metrics: Metrics::new(1),
        };
        let (engine, _) = Engine::open(settings)?;
        let lane = engine.lane();
        tokio::spawn(lane.clone().run());
        Ok(Bench { engine, lane })
    }

    fn arrival(&self) -> Arrival {
        Arrival { client: Client::ANONYMOUS, deadline: None, lane: self.lane.clone() }
    }

    /// Opens the accounts and places one hold on each.
    async fn fill(&self, accounts: usize) -> anyhow::Result<()> {
        let mut waiting = std::collections::VecDeque::new();
        for number in 0..accounts {
            let key = RequestKey::new(&format!("open-{number}"))?;
            waiting.push_back(
                self.engine.maintain(Maintenance::Upsert { key, change: opening(number)? }, &self.arrival()),
            );
            if waiting.len() >= OPENING_IN_FLIGHT {
                for opened in waiting.drain(..) {
                    opened
                        .await
                        .map_err(|fault| anyhow::anyhow!("an account could not be opened: {fault}"))?;
                }
            }
        }
        for opened in waiting.drain(..) {
            opened.await.map_err(|fault| anyhow::anyhow!("an account could not be opened: {fault}"))?;
        }
        let mut waiting = std::collections::VecDeque::new();
        for number in 0..accounts {
            waiting.push_back(
                self.engine.authorise(request(&format!("first-{number}"), number, 1)?, &self.arrival()),
            );
            if waiting.len() >= OPENING_IN_FLIGHT || number + 1 == accounts {
                for decided in waiting.drain(..) {
                    decided.await.map_err(|fault| anyhow::anyhow!("not decided: {fault}"))?;
                }
            }
        }
        Ok(())
    }

    /// Sends on schedule while `go_on` holds of the beginning.
    async fn measure(
        &self,
        traffic: &mut Traffic,
        rate: u64,
        go_on: impl Fn(Instant) -> bool,
    ) -> anyhow::Result<Times> {
        let mut decision_ns = histogram()?;
        let answers = std::rc::Rc::new(std::cell::RefCell::new((histogram()?, 0_u64)));
        let begun = Instant::now();
        let mut sent = 0;
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                while go_on(begun) {
                    // The timer is good to a millisecond: what is due by then leaves together.
                    let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                    while sent < due {
                        sent += 1;
                        let request = traffic.next()?;
                        let asked = Instant::now();
                        let pending = self.engine.authorise(request, &self.arrival());
                        decision_ns.saturating_record(asked.elapsed().as_nanos() as u64);
                        let answers = answers.clone();
                        tokio::task::spawn_local(async move {
                            let answered = pending.await;
                            let mut answers = answers.borrow_mut();
                            answers.0.saturating_record(asked.elapsed().as_nanos() as u64);
                            answers.1 += u64::from(answered.is_err());
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                anyhow::Ok(())
            })
            .await?;
        local.await;
        let (answer_ns, failed) = answers.borrow().clone();
        ensure!(failed == 0, "{failed} requests were not answered");
        Ok(Times { decision_ns, answer_ns })
    }
}

/// What one window of time saw.
struct Times {
    decision_ns: Histogram<u64>,
    answer_ns: Histogram<u64>,
}

impl Times {
    fn print(&self, what: &str) {
        let at = |times: &Histogram<u64>| {
            [0.5, 0.99, 0.999].map(|quantile| times.value_at_quantile(quantile) as f64 / 1_000.0)
        };
        let ([a, b, c], [d, e, f]) = (at(&self.decision_ns), at(&self.answer_ns));
        let requests = self.decision_ns.len();
        println!(
            "{what:<10}{requests:>10}  {a:>10.1} /{b:>8.1} /{c:>8.1}      {d:>10.0} /{e:>8.0} /{f:>8.0}"
        );
    }
}

/// Of nanoseconds, up to a minute.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn ratio(with: &Histogram<u64>, without: &Histogram<u64>) -> f64 {
    with.value_at_quantile(0.999) as f64 / without.value_at_quantile(0.999).max(1) as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Traffic {
    sent: u64,
    accounts: usize,
    random: ChaCha8Rng,
}

impl Traffic {
    fn next(&mut self) -> anyhow::Result<AuthRequest> {
        self.sent += 1;
        let account = self.random.random_range(0..self.accounts);
        request(&format!("t-{}", self.sent), account, self.random.random_range(0..5_000))
    }
}

fn opening(number: usize) -> anyhow::Result<AccountChange> {
    let card =
        CardChange { token: CardToken::new(&format!("card-{number:07}"))?, status: None, expires_on: None };
    Ok(AccountChange {
        account: AccountId::new(&format!("account-{number:07}"))?,
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(1_000_000_000),
        posted_minor: None,
        status: None,
        product: None,
        home_country: Country::new("US"),
        home: None,
        opened_on: None,
        cards: vec![card],
    })
}

fn request(key: &str, account: usize, merchant: u32) -> anyhow::Result<AuthRequest> {
    Ok(AuthRequest {
        amount: Currency::from_alpha("USD").map(|currency| Money::new(1_250, currency)),
        merchant: Merchant {
            merchant_id: Some(Id::new(&format!("M-{merchant:05}"))?),
            mcc: Some(5411),
            country: Country::new("US"),
            ..Merchant::default()
        },
        channel: Some(Channel::CardPresent),
        ..AuthRequest::new(
            RequestKey::new(key)?,
            Kind::Purchase,
            Subject::Card(CardToken::new(&format!("card-{account:07}"))?),
        )
    })
}
