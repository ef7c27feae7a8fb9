//! The HTTP/2 listener: one acceptor deals connections round robin to current-thread runtimes, each on a thread of
//! its own with its own lane to the journal, so that an answer wakes nobody on another thread.
//!
//! Built on hyper and not on tonic's server, which ends a call at its `grpc-timeout` without saying whether anything
//! changed. Deliberately absent: TLS and authentication (their own issue), and any decision.

use std::{
    io, net,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    dispatch::{Dispatch, Services},
    door::{DRAIN_QUIET, Door, Phase, drain_begins},
    status,
};
use crate::{
    engine::Engine,
    limits::{CONNECTION_STREAMS_MAX, HEADER_BYTES_MAX},
};

/// Unread bytes of one stream: several hundred requests, and far below the in-flight bound, so that one poll of a
/// stream is short.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Unread bytes of one connection. h2 ends a connection (`too_many_data_frames`) whose unread frames fall short of 256
/// bytes by more than half of this in sum, and hyper has no other setting for it: sixteen times the window of a stream, so
/// that one stream of the shortest requests there are, each in a frame of its own, is slowed and never cut off.
const CONNECTION_WINDOW_BYTES: u32 = 16 * STREAM_WINDOW_BYTES;
/// The least that a request in a frame of its own has, its five bytes of gRPC included.
const REQUEST_FRAME_BYTES_MIN: u32 = 29;
const _: () = assert!(
    STREAM_WINDOW_BYTES / REQUEST_FRAME_BYTES_MIN * (256 - REQUEST_FRAME_BYTES_MIN)
        <= CONNECTION_WINDOW_BYTES / 2
);
/// Unsent bytes of one stream.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// hyper's own bounds against reset floods (CVE-2023-44487, RUSTSEC-2024-0003), stated so that no update lifts them.
const PENDING_ACCEPT_RESETS_MAX: usize = 20;
const LOCAL_ERROR_RESETS_MAX: usize = 1_024;
/// How long a fresh connection may take to say that it speaks HTTP/2.
const PREFACE_WITHIN: Duration = Duration::from_secs(5);
/// "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// How the gRPC door is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that serve connections, each with its own runtime; at least 1.
    pub runtimes: usize,
    /// How long open calls may take to end once the drain has begun.
    pub drain_grace: Duration,
    /// Whether the service describes itself (`grpc.reflection.v1`).
    pub reflection: bool,
    /// Whether a card number is accepted where a token belongs.
    pub pans_allowed: bool,
    /// Connections at a time; further ones are closed at once.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            runtimes: 2,
            drain_grace: Duration::from_secs(10),
            reflection: false,
            pans_allowed: false,
            max_connections: 1_024,
        }
    }
}

/// A running gRPC door. Dropped without [`Server::drain`] it cuts every call off.
pub struct Server {
    local_addr: SocketAddr,
    phase: watch::Sender<Phase>,
    drain_grace: Duration,
    threads: Vec<thread::JoinHandle<bool>>,
}

/// Serves the engine on `listener`, which is bound already, so that a taken port is found before anything starts.
///
/// # Errors
/// Where the listener, a runtime or a thread cannot be set up.
pub fn serve(engine: Arc<Engine>, listener: net::TcpListener, options: Options) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    engine.metrics().expect_failures(status::failures());
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let connections = Arc::new(AtomicUsize::new(0));
    let mut hands = Vec::new();
    let mut dealt = Vec::new();
    for _ in 0..options.runtimes.max(1) {
        let (hand, deal) = mpsc::unbounded_channel();
        hands.push(hand);
        dealt.push(deal);
    }
    let mut acceptor =
        Some(Acceptor { listener, hands, connections, max_connections: options.max_connections });

    let mut threads = Vec::new();
    for (index, dealt) in dealt.into_iter().enumerate() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker {
            engine: Arc::clone(&engine),
            phase: phase_seen.clone(),
            reflection: options.reflection,
            pans_allowed: options.pans_allowed,
            acceptor: acceptor.take(),
            dealt,
        };
        let thread = thread::Builder::new().name(format!("saker-wire-{index}")).spawn(move || {
            let all_ended = runtime.block_on(worker.run());
            // What still waits for a disk that hangs is not waited for.
            runtime.shutdown_background();
            all_ended
        })?;
        threads.push(thread);
    }
    Ok(Server { local_addr, phase, drain_grace: options.drain_grace, threads })
}

impl Server {
    /// Where it listens; the port is the one taken where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Winds down: health says NOT_SERVING at once, no connection is accepted, every connection is told to go away,
    /// what was read is answered, later items of open streams are UNAVAILABLE. Blocks until all is over, at most
    /// for the grace. True where every call ended inside it.
    pub fn drain(self) -> bool {
        let until = Instant::now() + self.drain_grace;
        self.phase.send_replace(Phase::Draining { until });
        let mut all_ended = true;
        for thread in self.threads {
            all_ended &= thread.join().unwrap_or(false);
        }
        all_ended
    }
}

/// Counts one connection as open until dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Dealt = (net::TcpStream, OpenConnection);

/// Accepts connections and deals them out in turn.
struct Acceptor {
    listener: net::TcpListener,
    hands: Vec<mpsc::UnboundedSender<Dealt>>,
    connections: Arc<AtomicUsize>,
    max_connections: usize,
}

impl Acceptor {
    /// Runs until the drain begins, and closes the port then.
    async fn run(self, phase: watch::Receiver<Phase>) {
        let Acceptor { listener, hands, connections, max_connections } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the gRPC listener cannot be watched");
                return;
            }
        };
        let mut drain = pin!(drain_begins(phase));
        let mut turn = hands.iter().cycle();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut drain => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: trying again at once would spin until one is free.
                    debug!(%error, "accept failed");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if connections.fetch_add(1, Ordering::Relaxed) >= max_connections {
                connections.fetch_sub(1, Ordering::Relaxed);
                debug!(max_connections, "connection refused: as many are open as may be");
                continue;
            }
            let open = OpenConnection(Arc::clone(&connections));
            // A connection belongs to the runtime that serves it, so it leaves this one's event queue first.
            if let (Ok(stream), Some(hand)) = (stream.into_std(), turn.next()) {
                let _ = hand.send((stream, open));
            }
        }
    }
}

/// One runtime's share of the work.
struct Worker {
    engine: Arc<Engine>,
    phase: watch::Receiver<Phase>,
    reflection: bool,
    pans_allowed: bool,
    /// The first worker's runtime also accepts.
    acceptor: Option<Acceptor>,
    dealt: mpsc::UnboundedReceiver<Dealt>,
}

impl Worker {
    /// Serves until the drain is over. True where no call was cut off.
    async fn run(mut self) -> bool {
        let lane = self.engine.lane();
        tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.run().await }
        });
        let open_calls = Arc::new(AtomicUsize::new(0));
        let door = Door {
            engine: self.engine,
            lane,
            pans_allowed: self.pans_allowed,
            phase: self.phase.clone(),
            open_calls: Arc::clone(&open_calls),
        };
        let services = Arc::new(Services::new(door, self.reflection));
        if let Some(acceptor) = self.acceptor.take() {
            tokio::spawn(acceptor.run(self.phase.clone()));
        }

        let mut connections = JoinSet::new();
        let mut drain = pin!(drain_begins(self.phase.clone()));
        let until = loop {
            tokio::select! {
                biased;
                until = &mut drain => break until,
                Some((stream, open)) = self.dealt.recv() => {
                    let services = Arc::clone(&services);
                    connections.spawn(connection(stream, services, self.phase.clone(), open));
                }
                Some(_) = connections.join_next() => {}
            }
        };
        wind_down(connections, &open_calls, until).await
    }
}

/// Waits for the connections to close. One without an open call may have a dead peer, or one that does not close:
/// after a quiet while it is dropped and not waited for.
async fn wind_down(mut connections: JoinSet<()>, open_calls: &AtomicUsize, until: Instant) -> bool {
    let mut last_open = Instant::now();
    while !connections.is_empty() {
        let now = Instant::now();
        if open_calls.load(Ordering::Relaxed) > 0 {
            last_open = now;
        }
        if now >= until || now.duration_since(last_open) >= DRAIN_QUIET {
            break;
        }
        let step = Duration::from_millis(20).min(until - now);
        let _ = timeout(step, connections.join_next()).await;
    }
    open_calls.load(Ordering::Relaxed) == 0
}

/// Serves one connection until it closes; told to wind down, it takes no new calls and closes after the open ones.
async fn connection(
    stream: net::TcpStream,
    services: Arc<Services>,
    phase: watch::Receiver<Phase>,
    _open: OpenConnection,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%error, "a connection cannot be watched");
            return;
        }
    };
    // An answer is one small write; waiting to fill a segment would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY cannot be set");
    }
    if !preface_arrives(&stream).await {
        return;
    }
    let mut connection = pin!(builder().serve_connection(TokioIo::new(stream), Dispatch(services)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = drain_begins(phase) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .auto_date_header(false);
    builder
}

/// Whether the client's first 24 bytes come in time. hyper waits for them for ever and cannot wind such a connection
/// down (hyper#4170), so it never sees one.
async fn preface_arrives(stream: &TcpStream) -> bool {
    let arrival = async {
        let mut bytes = [0; PREFACE_BYTES];
        loop {
            match stream.peek(&mut bytes).await {
                Ok(PREFACE_BYTES) => return true,
                Ok(0) | Err(_) => return false,
                // Some of it is there and stays readable, so readiness would not wait for the rest.
                Ok(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PREFACE_WITHIN, arrival).await.unwrap_or(false)
}
