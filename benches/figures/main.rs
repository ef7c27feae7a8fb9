//! The README's table of figures: `cargo bench --bench figures`.
//!
//! Measured: closed-loop throughput of unary, stream and batch calls over 4 connections, and the open-loop latency of
//! unary calls at half of that, for the engine on a fresh data directory with the shipped rules and model, alternating
//! with a bare echo server in the same shape under the same generator; and an fdatasync probe in the same minutes.
//! Client and server share the machine, so the CPU time per request is the figure to trust when it is busy.
//! Not measured: recovery, many accounts over hours, TLS, a client on another machine.
//!
//! Without `--bench` (that is, under `cargo test`) it runs small, so that it cannot rot.

mod conditions;
mod echo;
#[path = "../../tests/checker/server.rs"]
#[allow(dead_code, reason = "only the tests stop a server gently")]
mod server;
mod sync_probe;
mod table;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::Parser;
use saker::cli::load::{Call, Load, Measured, Pace, Percentiles, drive, open_accounts};

use server::Server;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: u32 = 4;
const BATCH: u32 = 32;

#[derive(Parser, Clone, Debug)]
#[command(name = "figures", about = "Measures the engine beside a bare echo server and the disk")]
struct Args {
    /// Runs per row, of which the median is shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Seconds measured per run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of traffic before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Accounts the traffic is spread over.
    #[arg(long, default_value_t = 100_000)]
    accounts: u32,
    /// Only the rows whose name contains this, such as "unary, 64" or "stream"; no open loop then.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where the data directories and the probe's file are made; must be on a disk.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// A second or two in total, to see that it works.
    #[arg(long)]
    small: bool,
    /// Only serves the echo, for a look by hand.
    #[arg(long, value_name = "ADDR")]
    echo: Option<SocketAddr>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One row of the table.
struct Row {
    call: Call,
    in_flight: u32,
    /// Open loop at this share of the row's closed-loop throughput of the engine.
    open_at: Option<f64>,
}

const ROWS: [Row; 4] = [
    Row { call: Call::Unary, in_flight: 64, open_at: Some(0.5) },
    Row { call: Call::Unary, in_flight: 256, open_at: None },
    Row { call: Call::Stream, in_flight: 256, open_at: None },
    Row { call: Call::Batch, in_flight: 512, open_at: None },
];

/// All runs of one row under one pace.
struct Series {
    call: Call,
    pace: Pace,
    echo: Vec<Measured>,
    engine: Vec<Measured>,
    sync_us: Vec<Percentiles>,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut args = Args::parse();
    if let Some(address) = args.echo {
        echo::serve(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.small || !args.bench {
        args = Args { runs: 1, seconds: 0.1, warm_up: 0.02, accounts: 200, small: true, ..args };
    }
    let scratch = args.dir.join(format!("figures-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let done = measure(&args, &scratch);
    let kept = done.is_err().then(|| format!("what the servers said is in {}", scratch.display()));
    if done.is_ok() {
        fs::remove_dir_all(&scratch)?;
    }
    let all = match kept {
        None => done?,
        Some(kept) => return done.map(|_| ExitCode::FAILURE).context(kept),
    };
    println!("{}", table::markdown(&all, &conditions::describe(&args.dir)));
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, scratch: &Path) -> anyhow::Result<Vec<Series>> {
    let mut all = Vec::new();
    for row in &ROWS {
        let pace = Pace::Closed { in_flight: row.in_flight };
        if args.only.as_ref().is_some_and(|name| !table::pace(row.call, pace).contains(name)) {
            continue;
        }
        let closed = series(args, scratch, row.call, pace)?;
        let peak = table::median(closed.engine.iter().map(|run| run.answered_per_second));
        all.push(closed);
        if let Some(share) = row.open_at.filter(|_| args.only.is_none()) {
            all.push(series(args, scratch, row.call, Pace::Open { per_second: (peak * share).max(1.0) })?);
        }
    }
    ensure!(!all.is_empty(), "no row has such a name");
    Ok(all)
}

/// Echo, engine and probe in turn, so that what else the machine does meets all three.
fn series(args: &Args, scratch: &Path, call: Call, pace: Pace) -> anyhow::Result<Series> {
    let mut series = Series { call, pace, echo: Vec::new(), engine: Vec::new(), sync_us: Vec::new() };
    let (probe_bytes, probe_time) = match args.small {
        true => (1024 * 1024, Duration::from_millis(30)),
        false => (64 * 1024 * 1024, Duration::from_millis(500)),
    };
    for run in 0..args.runs {
        let log = scratch.join("servers.log");
        let mut echo = Command::new(std::env::current_exe()?);
        echo.args(["--echo", "127.0.0.1:0"]);
        let echo = Server::spawn(echo, &log)?;
        series.echo.push(one_run(args, &echo, call, pace)?);
        drop(echo);

        let data = scratch.join("data");
        let engine = Server::start(&data, &log, &[])?;
        ensure!(open_accounts(engine.grpc, args.accounts)?, "the engine serves accounts");
        series.engine.push(one_run(args, &engine, call, pace)?);
        drop(engine);
        fs::remove_dir_all(&data)?;

        series.sync_us.push(sync_probe::probe(scratch, probe_bytes, probe_time)?);
        eprintln!(
            "{} run {}/{}: echo {:.0}/s, engine {:.0}/s",
            table::pace(call, pace),
            run + 1,
            args.runs,
            series.echo[run as usize].answered_per_second,
            series.engine[run as usize].answered_per_second
        );
    }
    Ok(series)
}

fn one_run(args: &Args, server: &Server, call: Call, pace: Pace) -> anyhow::Result<Measured> {
    let measured = drive(&Load {
        to: server.grpc,
        call,
        pace,
        warm_up: Duration::from_secs_f64(args.warm_up),
        duration: Duration::from_secs_f64(args.seconds),
        connections: CONNECTIONS,
        batch: BATCH,
        accounts: args.accounts,
        server_pid: Some(server.pid()),
    })?;
    ensure!(measured.answered > 0, "no request was answered: {:?}", measured.errors);
    ensure!(measured.errors.is_empty(), "a figure with errors is no figure: {:?}", measured.errors);
    Ok(measured)
}
