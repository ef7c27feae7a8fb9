//! Concurrent clients that do everything at once that a switch and its retries may do: authorise by unary call, stream
//! and batch, repeat, reverse (before, during and after), cut and raise limits, and use a key again with another body.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use saker::proto::{
    AuthoriseBatchRequest, AuthoriseItem, AuthoriseItemResult, AuthoriseRequest, Channel as SalesChannel,
    EntryMode, GetAccountRequest, Kind, Merchant, Money, ReverseRequest, SetCreditLimitRequest,
    accounts_client::AccountsClient, authorisation_client::AuthorisationClient,
    authorise_item_result::Result as ItemResult,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    audit,
    book::{Clerk, Wrong},
    exchange::{Answer, Request},
    probe::{Asked, Probe},
};

const CALL_MAX: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 3;
const UNARY_PER_CONNECTION: usize = 8;
const STREAM_IN_FLIGHT: usize = 48;

/// An account the clients may use.
#[derive(Clone, Debug)]
pub struct Customer {
    pub account_id: String,
    pub cards: Vec<String>,
    pub currency: &'static str,
    pub limit_minor: i64,
}

/// Load under way on a thread of its own, until it is stopped.
pub struct Clients {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    clerk: Arc<Clerk>,
    customers: Vec<Customer>,
    stop: AtomicBool,
    started: Instant,
    /// When the first request was refused or broken off, in ns after the start; 0 while none was.
    refused_ns: AtomicU64,
    /// In front of every key.
    prefix: String,
    keys: AtomicU64,
}

impl Clients {
    pub fn start(
        to: SocketAddr,
        clerk: Arc<Clerk>,
        customers: &[Customer],
        epoch: u32,
        seed: u64,
    ) -> Clients {
        let shared = Arc::new(Shared {
            clerk,
            customers: customers.to_vec(),
            stop: AtomicBool::new(false),
            started: Instant::now(),
            refused_ns: AtomicU64::new(0),
            prefix: format!("{seed:x}-{epoch}"),
            keys: AtomicU64::new(0),
        });
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(all(to, of_thread, seed ^ u64::from(epoch)));
        });
        Clients { shared, thread: Some(thread) }
    }

    /// When the first request was refused or broken off.
    pub fn refused_at(&self) -> Option<Instant> {
        match self.shared.refused_ns.load(Ordering::Acquire) {
            0 => None,
            ns => Some(self.shared.started + Duration::from_nanos(ns)),
        }
    }

    /// One call after the other beside the load, with what came of each.
    pub fn probe(&self, to: SocketAddr, asks: Asked, every: Duration) -> Probe {
        let shared = self.shared.clone();
        let mut random = ChaCha8Rng::seed_from_u64(asks as u64);
        let mut connected = None;
        Probe::start(every, async move || {
            // Made on the runtime that uses it.
            let channel = connected.get_or_insert_with(|| channel(to)).clone();
            let request = match asks {
                Asked::Authorisation => {
                    Some(Request::Authorise(shared.authorisation(&mut random, shared.key("p"))))
                }
                Asked::Reversal => shared
                    .known_authorisation(&mut random)
                    .map(|original| shared.reversal(&mut random, &original)),
                Asked::Repeat => shared.known(&mut random),
            };
            match request {
                Some(request) => Some(shared.send(&channel, request).await.map(drop)),
                None => None,
            }
        })
    }

    /// The highest position that was acknowledged so far.
    pub fn highest_position(&self) -> u64 {
        self.shared.clerk.flush();
        let book = self.shared.clerk.book.lock();
        book.entries.values().filter_map(|entry| Some(entry.answer.as_ref()?.position())).max().unwrap_or(0)
    }

    /// Lets the load end by itself: no new request, and every one that was sent is answered, those that were shed at
    /// another attempt.
    ///
    /// # Errors
    /// Where some are not answered in time.
    pub fn rest(&self, to: SocketAddr, at_most: Duration) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let begun = Instant::now();
        loop {
            // Clients may be about to send their last one.
            thread::sleep(Duration::from_millis(100));
            let open = runtime.block_on(audit::settle(to, &self.shared.clerk));
            if open == 0 {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < at_most, "{open} requests are still without an answer");
        }
    }

    /// Ends the load, and waits until every answer that came is in the book.
    pub fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a client panicked");
        }
        self.shared.clerk.flush();
    }
}

/// A connection for the checker's calls.
pub fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}"))
        .expect("an address makes an endpoint")
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .connect_lazy()
}

/// Sends a request with its own body and hands its answer to the clerk.
pub async fn exchange(channel: &Channel, clerk: &Clerk, request: &Request) -> Result<Answer, Status> {
    let sent = Instant::now();
    let answer = ask(channel, request.clone()).await;
    let mut book = clerk.book.lock();
    book.latency_worst = book.latency_worst.max(sent.elapsed());
    match answer {
        Ok(answer) => {
            clerk.answer(request.key(), answer.clone());
            Ok(answer)
        }
        Err(status) => {
            book.error(status.code());
            if status.code() == Code::InvalidArgument {
                book.wrong(Wrong::Other, || format!("{request:?} is well-formed, but: {status:?}"));
            }
            Err(status)
        }
    }
}

async fn ask(channel: &Channel, request: Request) -> Result<Answer, Status> {
    let mut authorisation = AuthorisationClient::new(channel.clone());
    let mut accounts = AccountsClient::new(channel.clone());
    in_time(async {
        Ok(match request {
            Request::Authorise(request) => {
                Answer::Authorisation(authorisation.authorise(request).await?.into_inner())
            }
            Request::Reverse(request) => Answer::Outcome(authorisation.reverse(request).await?.into_inner()),
            Request::SetCreditLimit(request) => {
                Answer::Outcome(accounts.set_credit_limit(request).await?.into_inner())
            }
        })
    })
    .await
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::cancelled("the checker waited no longer")),
    }
}

async fn all(to: SocketAddr, shared: Arc<Shared>, seed: u64) {
    let mut clients = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS as u64 {
        let channel = channel(to);
        for task in 0..UNARY_PER_CONNECTION as u64 {
            let random = ChaCha8Rng::seed_from_u64(seed ^ (connection << 40) ^ (task << 32));
            clients.spawn(unary(channel.clone(), shared.clone(), random));
        }
        let random = ChaCha8Rng::seed_from_u64(seed ^ (connection << 40) ^ (1 << 48));
        if connection == 0 {
            clients.spawn(batches(channel, shared.clone(), random));
        } else {
            clients.spawn(stream(channel, shared.clone(), random));
        }
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client panicked");
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// After an error: a server that is shedding is asked again, one that is going away is left alone.
    async fn pause(&self, status: &Status) {
        let shed = status.code() == Code::ResourceExhausted;
        if !shed {
            let ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
            let _ = self.refused_ns.compare_exchange(0, ns, Ordering::AcqRel, Ordering::Acquire);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        while !shed && self.goes_on() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn key(&self, kind: &str) -> String {
        format!("{}-{kind}{}", self.prefix, self.keys.fetch_add(1, Ordering::Relaxed))
    }

    fn customer(&self, random: &mut ChaCha8Rng) -> &Customer {
        self.customers.choose(random).expect("there are customers")
    }

    fn authorisation(&self, random: &mut ChaCha8Rng, transaction_id: String) -> AuthoriseRequest {
        let customer = self.customer(random);
        let kind = match random.random_range(0..100) {
            0..80 => Kind::Purchase,
            80..94 => Kind::PreAuthorisation,
            94..97 => Kind::AccountVerification,
            _ => Kind::BalanceInquiry,
        };
        let (account_id, card_token) = match random.random_range(0..40) {
            0 => ("nobody".to_owned(), String::new()),
            1..10 => (customer.account_id.clone(), String::new()),
            _ => (String::new(), customer.cards.choose(random).cloned().unwrap_or_default()),
        };
        let currency = match random.random_range(0..60) {
            0 => "CHF",
            _ => customer.currency,
        };
        let minor_units = match kind {
            Kind::AccountVerification => 0,
            _ => random.random_range(1..=customer.limit_minor / 8),
        };
        AuthoriseRequest {
            transaction_id,
            kind: kind.into(),
            account_id,
            card_token,
            amount: (kind != Kind::BalanceInquiry).then(|| money(currency, minor_units)),
            merchant: Some(Merchant {
                merchant_id: format!("M-{}", random.random_range(0..50)),
                category_code: "5411".to_owned(),
                country_code: "US".to_owned(),
                ..Merchant::default()
            }),
            channel: SalesChannel::CardPresent.into(),
            entry_mode: EntryMode::Chip.into(),
            partial_approval_allowed: random.random_range(0..10) == 0,
            ..AuthoriseRequest::default()
        }
    }

    fn reversal(&self, random: &mut ChaCha8Rng, original: &AuthoriseRequest) -> Request {
        let amount = original.amount.clone().filter(|amount| amount.minor_units > 0);
        Request::Reverse(ReverseRequest {
            request_id: self.key("r"),
            original_transaction_id: original.transaction_id.clone(),
            replacement_amount: amount
                .filter(|amount| amount.currency_code != "CHF" && random.random_range(0..3) == 0)
                .map(|amount| money(&amount.currency_code, random.random_range(0..=amount.minor_units))),
        })
    }

    /// A request that was answered some time ago.
    fn known(&self, random: &mut ChaCha8Rng) -> Option<Request> {
        let book = self.clerk.book.lock();
        let key = book.answered.choose(random)?;
        Some(book.entries.get(key)?.request.clone())
    }

    fn known_authorisation(&self, random: &mut ChaCha8Rng) -> Option<AuthoriseRequest> {
        (0..8).find_map(|_| match self.known(random) {
            Some(Request::Authorise(request)) => Some(request),
            _ => None,
        })
    }

    async fn send(&self, channel: &Channel, request: Request) -> Result<Answer, Status> {
        self.clerk.book.lock().sending(&request);
        exchange(channel, &self.clerk, &request).await
    }
}

async fn unary(channel: Channel, shared: Arc<Shared>, mut random: ChaCha8Rng) {
    while shared.goes_on() {
        if let Err(status) = one_step(&channel, &shared, &mut random).await {
            shared.pause(&status).await;
        }
    }
}

async fn one_step(channel: &Channel, shared: &Shared, random: &mut ChaCha8Rng) -> Result<(), Status> {
    match random.random_range(0..100) {
        0..55 => {
            let request = shared.authorisation(random, shared.key("a"));
            shared.send(channel, Request::Authorise(request)).await?;
        }
        55..73 => {
            if let Some(original) = shared.known_authorisation(random) {
                shared.send(channel, shared.reversal(random, &original)).await?;
            }
        }
        73..76 => {
            // The reversal overtakes its authorisation, or races with it.
            let request = shared.authorisation(random, shared.key("t"));
            let reversal = shared.reversal(random, &request);
            let authorise = shared.send(channel, Request::Authorise(request));
            let reverse = shared.send(channel, reversal);
            if random.random_range(0..2) == 0 {
                reverse.await?;
                authorise.await?;
            } else {
                let (authorised, reversed) = tokio::join!(authorise, reverse);
                authorised.and(reversed)?;
            }
        }
        76..82 => {
            let customer = shared.customer(random);
            let request = SetCreditLimitRequest {
                request_id: shared.key("l"),
                account_id: customer.account_id.clone(),
                credit_limit_minor: random.random_range(0..=customer.limit_minor * 2),
            };
            shared.send(channel, Request::SetCreditLimit(request)).await?;
        }
        82..90 => {
            if let Some(request) = shared.known(random) {
                shared.send(channel, request).await?;
            }
        }
        90..93 => {
            if let Some(mut other) = shared.known_authorisation(random) {
                let key = other.transaction_id.clone();
                other.merchant.get_or_insert_default().merchant_id.push_str("-other");
                let answer = ask(channel, Request::Authorise(other)).await;
                let mut book = shared.clerk.book.lock();
                match answer {
                    Ok(answer) => book.conflict(&key, &answer),
                    Err(status) => {
                        book.error(status.code());
                        return Err(status);
                    }
                }
            }
        }
        93..97 => {
            // A switch that lost patience: the same request twice at once.
            let request = Request::Authorise(shared.authorisation(random, shared.key("d")));
            let (first, second) =
                tokio::join!(shared.send(channel, request.clone()), shared.send(channel, request.clone()));
            first.and(second)?;
        }
        _ => {
            let account_id = shared.customer(random).account_id.clone();
            let mut accounts = AccountsClient::new(channel.clone());
            let account = in_time(accounts.get_account(GetAccountRequest { account_id })).await?.into_inner();
            shared.clerk.book.lock().saw(&account);
        }
    }
    Ok(())
}

/// New requests and repeats, mixed; registered as sent.
fn items(shared: &Shared, random: &mut ChaCha8Rng, count: usize) -> Vec<AuthoriseRequest> {
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let repeat = random.random_range(0..12) == 0;
        let known = if repeat { shared.known_authorisation(random) } else { None };
        requests.push(known.unwrap_or_else(|| shared.authorisation(random, shared.key("i"))));
    }
    let mut book = shared.clerk.book.lock();
    requests.iter().for_each(|request| book.sending(&Request::Authorise(request.clone())));
    requests
}

fn item_answer(shared: &Shared, key: &str, result: AuthoriseItemResult) -> Result<(), Status> {
    let code = match result.result {
        Some(ItemResult::Response(response)) => {
            shared.clerk.answer(key, Answer::Authorisation(response));
            return Ok(());
        }
        Some(ItemResult::Error(status)) => Code::from_i32(status.code),
        None => Code::Unknown,
    };
    shared.clerk.book.lock().error(code);
    Err(Status::new(code, "an item failed"))
}

async fn batches(channel: Channel, shared: Arc<Shared>, mut random: ChaCha8Rng) {
    while shared.goes_on() {
        let size = random.random_range(1..=24);
        let mut requests = items(&shared, &mut random, size);
        if size > 4 {
            // A key repeated within one batch is a repeat like any other.
            requests[size - 1] = requests[0].clone();
        }
        if let Err(status) = batch(&channel, &shared, &requests).await {
            shared.pause(&status).await;
        }
    }
}

async fn batch(channel: &Channel, shared: &Shared, requests: &[AuthoriseRequest]) -> Result<(), Status> {
    let items = (0..).zip(requests).map(|(correlation, request)| AuthoriseItem {
        correlation,
        request: Some(request.clone()),
        answer_within: None,
    });
    let message = AuthoriseBatchRequest { items: items.collect() };
    let mut authorisation = AuthorisationClient::new(channel.clone());
    let answer = in_time(authorisation.authorise_batch(message)).await;
    let results =
        answer.inspect_err(|status| shared.clerk.book.lock().error(status.code()))?.into_inner().results;
    if !results.iter().map(|result| result.correlation).eq(0..requests.len() as u64) {
        let mut book = shared.clerk.book.lock();
        book.wrong(Wrong::Other, || format!("a batch of {} was answered {results:?}", requests.len()));
    }
    let mut all = Ok(());
    for (request, result) in requests.iter().zip(results) {
        all = all.and(item_answer(shared, &request.transaction_id, result));
    }
    all
}

async fn stream(channel: Channel, shared: Arc<Shared>, mut random: ChaCha8Rng) {
    while shared.goes_on() {
        if let Err(status) = one_stream(&channel, &shared, &mut random).await {
            shared.pause(&status).await;
        }
    }
}

/// Some dozens of items, with a bounded number in flight, then half-close: every item must have had its one answer.
async fn one_stream(channel: &Channel, shared: &Shared, random: &mut ChaCha8Rng) -> Result<(), Status> {
    let requests = items(shared, random, 200);
    let waiting = Arc::new(Mutex::new(HashMap::<u64, String>::new()));
    let (to_server, outgoing) = tokio::sync::mpsc::channel(1);
    let places = Arc::new(tokio::sync::Semaphore::new(STREAM_IN_FLIGHT));

    let sending = {
        let (waiting, places) = (waiting.clone(), places.clone());
        async move {
            for (correlation, request) in (0..).zip(requests) {
                let Ok(place) = places.acquire().await else { return };
                place.forget();
                waiting.lock().insert(correlation, request.transaction_id.clone());
                let item = AuthoriseItem { correlation, request: Some(request), answer_within: None };
                if to_server.send(item).await.is_err() {
                    return;
                }
            }
        }
    };
    let receiving = async {
        let mut authorisation = AuthorisationClient::new(channel.clone());
        let mut results = authorisation.authorise_stream(ReceiverStream::new(outgoing)).await?.into_inner();
        // Decisions follow the order of sending, so that fresh positions rise with the correlation.
        let mut positions: Vec<(u64, u64)> = Vec::new();
        let mut all = Ok(());
        while let Some(result) = results.message().await? {
            places.add_permits(1);
            let Some(key) = waiting.lock().remove(&result.correlation) else {
                let mut book = shared.clerk.book.lock();
                book.wrong(Wrong::Other, || format!("a second or unasked result: {result:?}"));
                continue;
            };
            if let Some(ItemResult::Response(response)) = &result.result
                && !response.replayed
            {
                positions.push((result.correlation, response.position));
            }
            all = all.and(item_answer(shared, &key, result));
        }
        positions.sort_unstable();
        if !positions.is_sorted_by(|(_, before), (_, after)| before < after) {
            let mut book = shared.clerk.book.lock();
            book.wrong(Wrong::Other, || format!("a stream was decided out of order: {positions:?}"));
        }
        let left = waiting.lock().len();
        if left > 0 {
            let mut book = shared.clerk.book.lock();
            book.wrong(Wrong::Other, || format!("{left} items of a stream that ended OK have no result"));
        }
        all
    };
    let mut receiving = std::pin::pin!(in_time(receiving));
    // A stream that broke frees no places, so that its sender is not waited for.
    let received = tokio::select! {
        received = &mut receiving => received,
        () = sending => receiving.await,
    };
    received.inspect_err(|status: &Status| shared.clerk.book.lock().error(status.code()))
}

fn money(currency: &str, minor_units: i64) -> Money {
    Money { currency_code: currency.to_owned(), minor_units }
}
