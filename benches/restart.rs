//! How long a restart takes and what an account costs: `cargo bench --bench restart`.
//!
//! Measured, for `SAKER_RESTART_ACCOUNTS` accounts of one card each with `SAKER_RESTART_PAYMENTS` payments spread over
//! thirty days, so that their windows hold a month and their last payments are held: the time to take a snapshot, and
//! in a fresh process each the time of `Engine::open` from the snapshot and from the whole journal, records put back
//! in force a second, and resident bytes per account. The payments are decided by the shipped rules and model, at the
//! times they carry. Not measured: what a client sees of a snapshot being taken; `saker load` shows that.
//!
//! Without `--bench` (that is, under `cargo test`) it runs small, so that it cannot rot.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, ensure};
use saker::{
    config::Config,
    engine::{Arrival, Client, Engine, Settings, Source, TimeSource},
    model,
    observe::Metrics,
    rules,
    types::{
        account::{AccountChange, CardChange},
        auth::{AuthRequest, Merchant, Subject},
        codes::{Channel, Kind},
        fault::Fault,
        ids::{AccountId, CardToken, Id, RequestKey},
        money::{Currency, Money},
        outcome::Maintenance,
        time::{DAY_MS, Timestamp},
    },
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ACCOUNTS: &str = "SAKER_RESTART_ACCOUNTS";
const PAYMENTS: &str = "SAKER_RESTART_PAYMENTS";
/// Names a directory that is filled and kept; one that is there is opened once more, which is what a profiler wants.
const KEPT: &str = "SAKER_RESTART_KEPT";
/// Set in the processes that only open the directory it names.
const OPEN: &str = "SAKER_RESTART_OPEN";

/// Calls whose answers are awaited together.
const AT_ONCE: usize = 4_096;
const START_MS: i64 = 20_000 * DAY_MS;

fn main() -> anyhow::Result<()> {
    if let Ok(dir) = env::var(OPEN) {
        return open(Path::new(&dir));
    }
    let is_small = !env::args().any(|argument| argument == "--bench");
    let number = |name: &str, default: u64| env::var(name).map_or(Ok(default), |text| text.parse());
    let accounts = number(ACCOUNTS, if is_small { 300 } else { 1_000_000 })?;
    let payments = number(PAYMENTS, if is_small { 6 } else { 10 })?;
    if let Ok(kept) = env::var(KEPT) {
        let kept = PathBuf::from(kept);
        return if kept.exists() { reopened(&kept) } else { measure(&kept, accounts, payments) };
    }
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("restart-{}", std::process::id()));
    let done = measure(&scratch, accounts, payments).and_then(|()| {
        std::fs::remove_dir_all(scratch.join("snapshots"))?;
        reopened(&scratch)
    });
    std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    done
}

fn measure(dir: &Path, accounts: u64, payments: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let before = resident_bytes()?;
    let began = Instant::now();
    let (engine, _) = Engine::open(settings(dir))?;
    runtime.block_on(fill(&engine, accounts, payments))?;
    println!(
        "{accounts} accounts, {payments} payments each: made in {:.1} s, {:.0} resident bytes per account",
        began.elapsed().as_secs_f64(),
        (resident_bytes()? - before) as f64 / accounts as f64,
    );
    let written = engine.snapshot_now()?;
    println!(
        "snapshot: {:.2} s, {} bytes, {:.0} per account",
        written.duration.as_secs_f64(),
        written.bytes,
        written.bytes as f64 / accounts as f64,
    );
    engine.close().map_err(anyhow::Error::msg)?;
    drop(engine);

    reopened(dir)
}

/// Opens the directory in a process of its own, whose memory is that of nothing else.
fn reopened(dir: &Path) -> anyhow::Result<()> {
    let status = Command::new(env::current_exe()?).env(OPEN, dir).status()?;
    ensure!(status.success(), "the process that opened {} failed", dir.display());
    Ok(())
}

fn open(dir: &Path) -> anyhow::Result<()> {
    let before = resident_bytes()?;
    let began = Instant::now();
    let (engine, recovered) = Engine::open(settings(dir))?;
    let seconds = began.elapsed().as_secs_f64();
    let accounts = engine.accounts();
    println!(
        "open from {}: {seconds:.2} s (snapshot {:.2} s, journal {:.2} s), {} records, {:.0} records/s, {:.0} resident \
         bytes per account",
        recovered.snapshot.as_deref().unwrap_or("the whole journal"),
        recovered.snapshot_time.as_secs_f64(),
        recovered.journal_time.as_secs_f64(),
        recovered.records,
        recovered.records as f64 / recovered.journal_time.as_secs_f64(),
        (resident_bytes()? - before) as f64 / accounts as f64,
    );
    ensure!(recovered.passed_over.is_empty(), "passed over: {:?}", recovered.passed_over);
    Ok(())
}

fn settings(dir: &Path) -> Settings {
    Settings {
        data_dir: dir.to_owned(),
        rules: Source { name: "the shipped rules".into(), text: rules::SHIPPED.into() },
        model: Some(Source { name: "the shipped model".into(), text: model::SHIPPED.into() }),
        challenger: None,
        config: Config::default(),
        time: TimeSource::Transactions,
        metrics: Metrics::new(1),
    }
}

async fn fill(engine: &Arc<Engine>, accounts: u64, payments: u64) -> anyhow::Result<()> {
    let lane = engine.lane();
    tokio::spawn(lane.clone().run());
    let arrival = Arrival { client: Client::ANONYMOUS, deadline: None, lane };
    let all: Vec<u64> = (0..accounts).collect();
    for some in all.chunks(AT_ONCE) {
        let waiting: Vec<_> = some.iter().map(|number| engine.maintain(opening(*number), &arrival)).collect();
        for answer in waiting {
            answer.await.map_err(|fault| anyhow::anyhow!("{fault}"))?;
        }
    }
    for payment in 0..payments {
        for some in all.chunks(AT_ONCE) {
            let calls = some.iter().map(|number| {
                let at_ms =
                    START_MS + (30 * DAY_MS * payment as i64) / payments as i64 + *number as i64 / 100;
                (*number, at_ms)
            });
            let waiting: Vec<_> = calls
                .clone()
                .map(|(number, at_ms)| engine.authorise(request(number, payment, at_ms), &arrival))
                .collect();
            for ((number, at_ms), answer) in calls.zip(waiting) {
                let mut answer = answer.await;
                while let Err(Fault::Overloaded { .. }) = answer {
                    answer = engine.authorise(request(number, payment, at_ms), &arrival).await;
                }
                answer.map_err(|fault| anyhow::anyhow!("{fault}"))?;
            }
        }
    }
    Ok(())
}

fn opening(number: u64) -> Maintenance {
    let account = AccountId::new(&format!("A{number:09}")).expect("an id");
    let change = AccountChange {
        account,
        currency: Currency::from_alpha("USD"),
        credit_limit_minor: Some(1_000_000),
        posted_minor: None,
        status: None,
        product: None,
        home_country: None,
        home: None,
        opened_on: None,
        cards: vec![CardChange { token: card(number), status: None, expires_on: None }],
    };
    Maintenance::Upsert { key: RequestKey::new(&format!("open-{number}")).expect("a key"), change }
}

fn card(number: u64) -> CardToken {
    CardToken::new(&format!("tok-{number:012}")).expect("a token")
}

fn request(number: u64, payment: u64, at_ms: i64) -> AuthRequest {
    let merchant = Merchant {
        merchant_id: Id::new(&format!("M-{}", (number * 7 + payment) % 5_000)).ok(),
        mcc: Some(5_411),
        ..Merchant::default()
    };
    AuthRequest {
        amount: Some(Money::new(
            1_000 + (number % 977) as i64,
            Currency::from_alpha("USD").expect("a currency"),
        )),
        transaction_time: Some(Timestamp(at_ms)),
        merchant,
        channel: Some(Channel::CardPresent),
        ..AuthRequest::new(
            RequestKey::new(&format!("pay-{number}-{payment}")).expect("a key"),
            Kind::Purchase,
            Subject::Card(card(number)),
        )
    }
}

/// Resident memory of this process, from `/proc/self/statm`.
fn resident_bytes() -> anyhow::Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = pages.split(' ').nth(1).context("statm has no second field")?.parse()?;
    Ok(pages * 4_096)
}
