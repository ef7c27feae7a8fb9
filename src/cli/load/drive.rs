//! One run: client threads with a current-thread runtime each, connections dealt to them, a common start, and the CPU
//! readings at the edges of the measured window. On two cores there is one client thread, because the server needs the
//! other core.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use tonic::transport::Channel;

use super::{
    calls,
    procfs::CpuTime,
    tally::{Measured, Tally},
    traffic::{self, Traffic},
};

/// How long answers are waited for once the last request was due.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// From the last connection made to the first request.
const START_DELAY: Duration = Duration::from_millis(20);

/// The call of `saker.v1.Authorisation` that carries the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// `Authorise`.
    Unary,
    /// `AuthoriseStream`, one stream per connection.
    Stream,
    /// `AuthoriseBatch`.
    Batch,
}

impl Call {
    /// Requests in flight, over all connections, that keep a server on two cores busy.
    pub fn in_flight_default(self) -> u32 {
        match self {
            Call::Unary => 64,
            Call::Stream => 256,
            Call::Batch => 512,
        }
    }
}

/// What decides when a request leaves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// A schedule, over all connections, kept whether or not answers came.
    Open { per_second: f64 },
    /// An answer that frees one of the places, which are shared out over all connections.
    Closed { in_flight: u32 },
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub struct Load {
    pub to: SocketAddr,
    pub call: Call,
    pub pace: Pace,
    pub warm_up: Duration,
    pub duration: Duration,
    pub connections: u32,
    /// Requests per message of `Call::Batch`.
    pub batch: u32,
    /// Accounts the traffic is spread over; see [`super::open_accounts`].
    pub accounts: u32,
    pub server_pid: Option<u32>,
}

impl Load {
    /// In a few words, such as `unary, 4 connections, 64 in flight`.
    pub fn describe(&self) -> String {
        let call = match self.call {
            Call::Unary => "unary".to_owned(),
            Call::Stream => "stream".to_owned(),
            Call::Batch => format!("batch of {}", self.batch),
        };
        let pace = match self.pace {
            Pace::Open { per_second } => format!("{per_second:.0} requests/s"),
            Pace::Closed { in_flight } => format!("{in_flight} in flight"),
        };
        format!("{call}, {} connections, {pace}", self.connections)
    }
}

/// Runs the load to its end.
///
/// # Errors
/// Where a connection cannot be made. Whatever goes wrong later is counted, not returned.
pub fn drive(load: &Load) -> anyhow::Result<Measured> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (cores / 2).clamp(1, load.connections as usize);
    let run = traffic::run_id();

    let (connected, connections_made) = mpsc::channel();
    let mut clients = Vec::new();
    for client in 0..threads {
        let (start, started) = mpsc::channel::<Instant>();
        let (load, run, connected) = (load.clone(), run.clone(), connected.clone());
        let handle = thread::Builder::new()
            .name(format!("load-{client}"))
            .spawn(move || client_thread(&load, &run, client, threads, &connected, &started))?;
        clients.push((start, handle));
    }
    for _ in 0..threads {
        connections_made.recv().context("a client thread ended before it was connected")??;
    }

    let start = Instant::now() + START_DELAY;
    for (to_client, _) in &clients {
        // A client that is gone is noticed below, when it is joined.
        let _ = to_client.send(start);
    }
    thread::sleep((start + load.warm_up).saturating_duration_since(Instant::now()));
    let before = CpuReading::take(load.server_pid);
    thread::sleep((start + load.warm_up + load.duration).saturating_duration_since(Instant::now()));
    let after = CpuReading::take(load.server_pid);

    let mut total = Tally::new();
    for (_, handle) in clients {
        total.add(&handle.join().map_err(|_| anyhow!("a client thread panicked"))??);
    }
    Ok(total.measured(load, after.since(&before)))
}

/// What one connection needs to know of the run.
pub struct Client {
    pub channel: Channel,
    pub load: Load,
    /// The place of the connection among all, from 0.
    pub number: usize,
    pub start: Instant,
    pub ends: Instant,
    pub traffic: Mutex<Traffic>,
    /// Shared by the connections of one thread.
    pub tally: Arc<Mutex<Tally>>,
}

fn client_thread(
    load: &Load,
    run: &str,
    client: usize,
    threads: usize,
    connected: &mpsc::Sender<anyhow::Result<()>>,
    started: &mpsc::Receiver<Instant>,
) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let numbers = (client..load.connections as usize).step_by(threads);
        let mut channels = Vec::new();
        for number in numbers {
            match calls::connect(load.to).await {
                Ok(channel) => channels.push((number, channel)),
                Err(error) => {
                    let _ = connected.send(Err(error));
                    return Ok(Tally::new());
                }
            }
        }
        let _ = connected.send(Ok(()));
        // No start is sent where another thread could not connect.
        let Ok(start) = started.recv() else { return Ok(Tally::new()) };

        let measured_from = start + load.warm_up;
        let ends = measured_from + load.duration;
        let tally = Arc::new(Mutex::new(Tally::new().over(measured_from..ends)));
        for (number, channel) in channels {
            calls::spawn(Arc::new(Client {
                channel,
                load: load.clone(),
                number,
                start,
                ends,
                traffic: Mutex::new(Traffic::new(run, number, load.accounts)),
                tally: tally.clone(),
            }));
        }
        tokio::time::sleep_until(ends.into()).await;
        while tally.lock().outstanding() > 0 && ends.elapsed() < DRAIN_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let tally = std::mem::replace(&mut *tally.lock(), Tally::new());
        Ok(tally)
    })
}

/// CPU time at one edge of the measured window.
struct CpuReading {
    server: Option<CpuTime>,
    client: Option<CpuTime>,
    idle: Option<CpuTime>,
}

/// CPU time spent inside the measured window, in microseconds.
pub struct CpuSpent {
    pub server_us: Option<u64>,
    /// All of this process.
    pub client_us: Option<u64>,
    /// Of all cores together.
    pub idle_us: Option<u64>,
}

impl CpuReading {
    fn take(server_pid: Option<u32>) -> CpuReading {
        CpuReading {
            server: server_pid.and_then(CpuTime::of_process),
            client: CpuTime::of_self(),
            idle: CpuTime::idle_of_machine(),
        }
    }

    fn since(&self, earlier: &CpuReading) -> CpuSpent {
        let spent =
            |now: Option<CpuTime>, then: Option<CpuTime>| now.zip(then).map(|(now, then)| now.since(then));
        CpuSpent {
            server_us: spent(self.server, earlier.server),
            client_us: spent(self.client, earlier.client),
            idle_us: spent(self.idle, earlier.idle),
        }
    }
}
