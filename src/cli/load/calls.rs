//! The three calls, open and closed. Each connection is a unit of its own: a share of the schedule or of the places in
//! flight, and its own traffic.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio_stream::Stream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    drive::{Call, Client, Pace},
    pace::{Alarm, Schedule},
};
use crate::proto::{
    AuthoriseBatchRequest, AuthoriseItem, AuthoriseItemResult, authorisation_client::AuthorisationClient,
    authorise_item_result::Result as ItemResult,
};

/// Requests without an answer, per connection, beyond which an open loop counts further ones instead of sending them:
/// enough for minutes of a stalled server, and bounded in memory.
const OUTSTANDING_MAX: u64 = 250_000;
/// A closed loop waits this long after an error, so that a server that refuses is not asked in a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(1);

/// A connection with small-message settings.
///
/// # Errors
/// Where it cannot be made within five seconds.
pub async fn connect(to: SocketAddr) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("http://{to}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .connect()
        .await
        .with_context(|| format!("cannot connect to {to}: is `saker serve` listening there?"))
}

/// Starts the load of one connection; it ends by itself.
pub fn spawn(client: Arc<Client>) {
    match (client.load.call, client.load.pace) {
        (Call::Unary, Pace::Closed { in_flight }) => {
            for _ in 0..share(in_flight, &client) {
                tokio::spawn(unary_closed(client.clone()));
            }
        }
        (Call::Unary, Pace::Open { per_second }) => {
            tokio::spawn(unary_open(client, per_second));
        }
        (Call::Stream, _) => {
            tokio::spawn(stream(client));
        }
        (Call::Batch, Pace::Closed { in_flight }) => {
            let messages = (share(in_flight, &client) / client.load.batch).max(1);
            for _ in 0..messages {
                tokio::spawn(batch_closed(client.clone()));
            }
        }
        (Call::Batch, Pace::Open { per_second }) => {
            tokio::spawn(batch_open(client, per_second));
        }
    }
}

/// The connection's share of the places in flight; the first ones take the remainder.
fn share(in_flight: u32, client: &Client) -> u32 {
    let connections = client.load.connections;
    in_flight / connections + u32::from((client.number as u32) < in_flight % connections)
}

fn schedule(client: &Client, per_second: f64) -> Schedule {
    Schedule::new(client.start, per_second, client.number, client.load.connections as usize)
}

async fn unary_closed(client: Arc<Client>) {
    tokio::time::sleep_until(client.start.into()).await;
    loop {
        let now = Instant::now();
        if now >= client.ends {
            return;
        }
        client.tally.lock().send(now, now);
        if !unary(&client, now).await {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

async fn unary_open(client: Arc<Client>, per_second: f64) {
    let mut schedule = schedule(&client, per_second);
    let Ok(mut alarm) = Alarm::new() else { return };
    while schedule.due() < client.ends {
        let due = schedule.due();
        schedule.advance();
        if poll_fn(|context| alarm.poll_until(due, context)).await.is_err() {
            return;
        }
        {
            let mut tally = client.tally.lock();
            if tally.outstanding() >= OUTSTANDING_MAX {
                tally.unsent(due);
                continue;
            }
            tally.send(due, Instant::now());
        }
        let client = client.clone();
        tokio::spawn(async move { unary(&client, due).await });
    }
}

/// Sends one request and counts its answer; false on an error.
async fn unary(client: &Client, intended: Instant) -> bool {
    let request = client.traffic.lock().next();
    let answer = AuthorisationClient::new(client.channel.clone()).authorise(request).await;
    let mut tally = client.tally.lock();
    match answer {
        Ok(response) => {
            tally.answer(intended, Instant::now(), response.get_ref());
            true
        }
        Err(status) => {
            tally.error(intended, status.code());
            false
        }
    }
}

async fn batch_closed(client: Arc<Client>) {
    tokio::time::sleep_until(client.start.into()).await;
    loop {
        let now = Instant::now();
        if now >= client.ends {
            return;
        }
        let intended = vec![now; client.load.batch as usize];
        {
            let mut tally = client.tally.lock();
            for _ in &intended {
                tally.send(now, now);
            }
        }
        if !batch(&client, &intended).await {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

/// The schedule is one of messages: the requests of a batch are due together.
async fn batch_open(client: Arc<Client>, per_second: f64) {
    let size = client.load.batch as usize;
    let mut schedule = schedule(&client, per_second / size as f64);
    let Ok(mut alarm) = Alarm::new() else { return };
    while schedule.due() < client.ends {
        let intended = vec![schedule.due(); size];
        schedule.advance();
        if poll_fn(|context| alarm.poll_until(intended[0], context)).await.is_err() {
            return;
        }
        {
            let mut tally = client.tally.lock();
            if tally.outstanding() >= OUTSTANDING_MAX {
                intended.iter().for_each(|&due| tally.unsent(due));
                continue;
            }
            let now = Instant::now();
            intended.iter().for_each(|&due| tally.send(due, now));
        }
        let client = client.clone();
        tokio::spawn(async move { batch(&client, &intended).await });
    }
}

/// Sends one batch and counts its results; false where the call failed as a whole.
async fn batch(client: &Client, intended: &[Instant]) -> bool {
    let items = {
        let mut traffic = client.traffic.lock();
        (0..intended.len() as u64)
            .map(|correlation| AuthoriseItem {
                correlation,
                request: Some(traffic.next()),
                answer_within: None,
            })
            .collect()
    };
    let answer = AuthorisationClient::new(client.channel.clone())
        .authorise_batch(AuthoriseBatchRequest { items })
        .await;
    let mut tally = client.tally.lock();
    match answer {
        Ok(response) => {
            let now = Instant::now();
            for result in &response.get_ref().results {
                if let Some(&due) = usize::try_from(result.correlation).ok().and_then(|at| intended.get(at)) {
                    count(&mut tally, due, now, result);
                }
            }
            true
        }
        Err(status) => {
            intended.iter().for_each(|&due| tally.error(due, status.code()));
            false
        }
    }
}

fn count(tally: &mut super::tally::Tally, due: Instant, now: Instant, result: &AuthoriseItemResult) {
    match &result.result {
        Some(ItemResult::Response(response)) => tally.answer(due, now, response),
        Some(ItemResult::Error(status)) => tally.error(due, Code::from_i32(status.code)),
        None => tally.error(due, Code::Unknown),
    }
}

/// One stream for the whole run, opened again where it breaks. The correlation is the intended send time in
/// nanoseconds, so that matching an answer costs nothing.
async fn stream(client: Arc<Client>) {
    let flight = Arc::new(Mutex::new(Flight {
        pace: match client.load.pace {
            Pace::Open { per_second } => FlightPace::Open(schedule(&client, per_second)),
            Pace::Closed { in_flight } => FlightPace::Closed { in_flight: share(in_flight, &client) },
        },
        outstanding: 0,
        sender: None,
    }));
    tokio::time::sleep_until(client.start.into()).await;
    while Instant::now() < client.ends {
        let Err(status) = receive(&client, &flight).await else { return };
        let lost = std::mem::take(&mut flight.lock().outstanding);
        {
            let mut tally = client.tally.lock();
            let now = Instant::now();
            (0..lost).for_each(|_| tally.error(now, status.code()));
        }
        tokio::time::sleep(ERROR_PAUSE).await;
    }
}

async fn receive(client: &Arc<Client>, flight: &Arc<Mutex<Flight>>) -> Result<(), Status> {
    let alarm = Alarm::new().map_err(|error| Status::internal(error.to_string()))?;
    let source = Source { alarm, flight: flight.clone(), client: client.clone() };
    let mut authorisation = AuthorisationClient::new(client.channel.clone());
    let mut results = authorisation.authorise_stream(source).await?.into_inner();
    while let Some(result) = results.message().await? {
        let due = client.start + Duration::from_nanos(result.correlation);
        count(&mut client.tally.lock(), due, Instant::now(), &result);
        let mut flight = flight.lock();
        flight.outstanding = flight.outstanding.saturating_sub(1);
        if let Some(sender) = flight.sender.take() {
            sender.wake();
        }
    }
    Ok(())
}

/// What one connection's stream has under way.
struct Flight {
    pace: FlightPace,
    /// Sent and not answered.
    outstanding: u64,
    /// The sender, where it waits for a place.
    sender: Option<Waker>,
}

enum FlightPace {
    Open(Schedule),
    Closed { in_flight: u32 },
}

/// The items of one stream, made when the transport asks for them: flow control slows the sending, never the schedule.
struct Source {
    alarm: Alarm,
    flight: Arc<Mutex<Flight>>,
    client: Arc<Client>,
}

impl Stream for Source {
    type Item = AuthoriseItem;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<AuthoriseItem>> {
        let Source { alarm, flight, client } = &mut *self;
        let now = Instant::now();
        let mut flight = flight.lock();
        let outstanding = flight.outstanding;
        let due = match &mut flight.pace {
            FlightPace::Closed { .. } if now >= client.ends => return Poll::Ready(None),
            FlightPace::Closed { in_flight } if outstanding >= u64::from(*in_flight) => {
                flight.sender = Some(context.waker().clone());
                return Poll::Pending;
            }
            FlightPace::Closed { .. } => now,
            FlightPace::Open(schedule) => {
                let due = schedule.due();
                if due >= client.ends {
                    return Poll::Ready(None);
                }
                match alarm.poll_until(due, context) {
                    Poll::Ready(Ok(())) => schedule.advance(),
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
                due
            }
        };
        flight.outstanding += 1;
        drop(flight);
        client.tally.lock().send(due, Instant::now());
        let since_start = due.saturating_duration_since(client.start);
        Poll::Ready(Some(AuthoriseItem {
            correlation: u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX),
            request: Some(client.traffic.lock().next()),
            answer_within: None,
        }))
    }
}
