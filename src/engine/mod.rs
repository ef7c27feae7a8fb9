//! The wiring: who owns the accounts, the journal and the versions, what runs on which thread, and how a decision
//! made under an account's lock becomes an answer once the disk has it.
//!
//! Calls decide at once on the thread that brings them and wait on that runtime's [`Lane`]; repeats and reads go to
//! the journal on blocking threads; one sweeper thread expires the holds of idle accounts, and one
//! takes snapshots.

mod ages;
mod appliers;
mod background;
pub mod backtest;
mod guard;
pub mod lane;
mod lists;
mod live;
mod models;
mod older;
pub mod pending;
mod plans;
pub mod recover;
pub mod replay;
mod shared;
mod snapshot;
pub mod stored;
mod sweep;
pub mod time;
mod timer;
mod unclosed;
pub mod versions;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    authorise::{
        self, Asked, Attempt, Sink, State, Taken,
        answers::{Claim, Claimed, KeyHash, Remembered, Stands, What},
        maintain,
        reverse::{self, Target},
    },
    config::Config,
    features::{catalog::MODEL_FEATURES, event::id_hash},
    journal::{Class, Journal, ReserveError, Slot, record::encode_duplicated},
    limits::{ANSWER_RETENTION_MS, TIME_AHEAD_MAX_MS},
    observe::{Live, Metrics, process::free_bytes},
    rules::RuleSet,
    types::{
        account::AccountView,
        auth::{AuthAnswer, AuthRequest, Subject},
        codes::{Kind, ResponseCode},
        fault::{Fault, Violation},
        ids::{AccountId, Id, RequestKey},
        outcome::{Maintenance, Outcome, Reversal},
        time::Timestamp,
    },
};
use ages::Ages;
pub use background::yield_to_decisions;
pub use lane::Lane;
use live::InForce;
pub use live::{ModeSetter, ReloadError, Reloaded, SetModeError};
pub use models::{ModelFound, ModelRole, NO_MODEL};
pub use pending::Pending;
use pending::{PendingAuth, Told, Voider};
pub use recover::{OpenError, Recovered, Settings, Source};
pub use snapshot::PassedOver;
pub use stored::{DecisionKey, DecisionRecord};
use time::EngineTime;
pub use time::{SystemClock, TimeSource};

// Why the engine is unavailable, as the reason of the error says it.
const JOURNAL_STOPPED: &str = "JOURNAL_STOPPED";
const DRAINING: &str = "DRAINING";
const DISK_LOW: &str = "DISK_LOW";
const DISK_STALLED: &str = "DISK_STALLED";
pub const RECORD_UNREADABLE: &str = "RECORD_UNREADABLE";
const ANSWERS_UNREADABLE: &str = "ANSWERS_UNREADABLE";
pub const VERSION_NOT_KEPT: &str = "VERSION_NOT_KEPT";
/// All of them.
pub const UNAVAILABLE_CAUSES: [&str; 7] = [
    JOURNAL_STOPPED,
    DRAINING,
    DISK_LOW,
    DISK_STALLED,
    RECORD_UNREADABLE,
    ANSWERS_UNREADABLE,
    VERSION_NOT_KEPT,
];

// What was full where load is shed, as the message of the error and the metric say it.
const DISK_LAGS: &str = "the disk lags behind";
const RING_FULL: &str = "the journal's ring is full";
const ANSWERS_FULL: &str = "answers are at capacity";
const HOLDS_FULL: &str = "the account has too many open holds";
const SEGMENT_NOT_READY: &str = "the next segment of the journal is not ready";
const SHED_CAUSES: [&str; 5] = [DISK_LAGS, RING_FULL, ANSWERS_FULL, HOLDS_FULL, SEGMENT_NOT_READY];

/// How long to wait before a full ring is tried again by those who may not be shed.
const RETRY: Duration = Duration::from_millis(1);
/// Turns of yielding to a key in flight before waiting for it in steps of [`RETRY`]: it may be looked up on disk.
const PATIENCE_TURNS: u32 = 32;
/// What a client is told to wait when no more answers can be remembered: they go to disk as segments close.
const FULL_RETRY_AFTER_MS: u32 = 60_000;

/// Who calls. Without authentication all callers are one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client(pub u32);

impl Client {
    pub const ANONYMOUS: Client = Client(0);
}

/// How a request came in.
#[derive(Clone)]
pub struct Arrival {
    pub client: Client,
    /// When the answer is no longer wanted: the earlier of the call's deadline and the item's own.
    pub deadline: Option<Instant>,
    /// The wake list of the runtime that brings the request.
    pub lane: Arc<Lane>,
}

/// An answer, and whether it was given before.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered<T> {
    pub answer: T,
    pub replayed: bool,
}

/// What health says. `authorisation` alone is false while the disk is low or stalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    pub authorisation: bool,
    pub others: bool,
}

/// The engine.
pub struct Engine {
    state: State,
    in_force: ArcSwap<InForce>,
    /// Held while what decides is replaced.
    reloading: Mutex<()>,
    lanes: AtomicUsize,
    journal: Journal,
    names: Arc<versions::Names>,
    plans: Arc<plans::Plans>,
    data_dir: PathBuf,
    time: EngineTime,
    config: Config,
    metrics: Metrics,
    health: watch::Sender<Health>,
    failed: watch::Receiver<Option<String>>,
    draining: AtomicBool,
    clock_doubted: AtomicBool,
    /// Rules that no longer decide, by number, for those who ask about their decisions.
    former_rules: Mutex<HashMap<u32, Arc<RuleSet>>>,
    sweeper: sweep::Sweeper,
    ages: Mutex<Ages>,
    snapshots: snapshot::Taker,
    older: older::Older,
    shared_thread: background::Background,
    guard: guard::Guard,
    labels: Mutex<lists::Labels>,
    unclosed: unclosed::Unclosed,
}

/// A slot of the journal's ring is where a live decision is recorded.
impl Sink for Slot<'_> {
    fn take_sequence(&mut self) -> u64 {
        Slot::take_sequence(self)
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        Slot::buffer(self)
    }

    fn publish(self) {
        Slot::publish(self);
    }
}

impl Engine {
    /// One wake list per runtime; its `run` must be spawned there.
    pub fn lane(&self) -> Arc<Lane> {
        let number = self.lanes.fetch_add(1, Ordering::Relaxed);
        Arc::new(Lane::new(self.journal.lane(), number, self.metrics.clone()))
    }

    /// The engine's time.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// The latest transaction time that is not refused as too far ahead.
    pub fn latest_acceptable_time(&self) -> Timestamp {
        self.time.latest_acceptable(TIME_AHEAD_MAX_MS)
    }

    /// What health says, and its changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Why the journal stopped, once it has.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// The configured rules file; `None` where the shipped ones decide.
    pub fn rules_path(&self) -> Option<&Path> {
        self.config.decide.rules.as_deref()
    }

    /// What is configured as the model: a file, `none`, or nothing, which means the shipped one and no challenger.
    pub fn model_path(&self, role: ModelRole) -> Option<&Path> {
        match role {
            ModelRole::Champion => self.config.decide.model.as_deref(),
            ModelRole::Challenger => self.config.model.challenger.as_deref(),
        }
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.state.store.len()
    }

    /// The last position that is on disk.
    pub fn durable_position(&self) -> u64 {
        self.journal.durable()
    }

    /// Decides at once, in the order of calls; the answer comes when it is durable. Where something must be waited for
    /// before it can be decided, [`Pending::poll_decided`] says when it is.
    #[allow(clippy::async_yields_async, reason = "once it is decided, its answer is waited for apart")]
    pub fn authorise(self: &Arc<Self>, request: AuthRequest, arrival: &Arrival) -> PendingAuth {
        match self.try_authorise(&request, arrival) {
            Ok(Tried::Pending(pending)) => pending,
            Err(fault) => Pending::ready(Err(fault)),
            Ok(Tried::Known(found)) => Pending::slow(self.clone().repeat(request, arrival.clone(), found)),
            Ok(Tried::Undecided) => {
                let (engine, arrival) = (self.clone(), arrival.clone());
                Pending::undecided(async move {
                    let decided = engine.authorise_later(request, arrival).await;
                    decided.unwrap_or_else(|fault| Pending::ready(Err(fault)))
                })
            }
        }
    }

    fn try_authorise(self: &Arc<Self>, request: &AuthRequest, arrival: &Arrival) -> Result<Tried, Fault> {
        let asked_at = Instant::now();
        if arrival.deadline.is_some_and(|deadline| asked_at >= deadline) {
            return Err(Fault::DeadlineNotStarted);
        }
        self.check_running()?;
        if let Err(fault) = self.check_queue(asked_at) {
            return self.known_or(request, arrival, fault);
        }
        let original = match self.original_of(request, arrival).map(|hash| self.state.answers.lookup(hash)) {
            Some(Stands::InFlight | Stands::PerhapsOlder) => return Ok(Tried::Undecided),
            Some(Stands::Known(found)) => Some(found),
            Some(Stands::Nothing) | None => None,
        };
        loop {
            let slot = match self.journal.reserve_at(Class::Authorisation, asked_at) {
                Ok(slot) => slot,
                Err(error) => return self.known_or(request, arrival, self.refused(error)),
            };
            match self.decide(request, arrival, original, None, slot, asked_at) {
                Taken::Decided(answer, found) => {
                    return Ok(Tried::Pending(self.queued(request, arrival, answer, found, asked_at)));
                }
                Taken::Known(found) => return Ok(Tried::Known(found)),
                Taken::Busy | Taken::Older => return Ok(Tried::Undecided),
                Taken::Again => {}
                Taken::TooManyHolds => return Err(self.overloaded(HOLDS_FULL)),
                Taken::Full => return Err(full()),
            }
        }
    }

    /// The key of an increment's original.
    fn original_of(&self, request: &AuthRequest, arrival: &Arrival) -> Option<KeyHash> {
        let key = request.original.filter(|_| request.kind == Kind::Incremental)?;
        Some(self.state.answers.hash(arrival.client.0, &key))
    }

    /// Decides now, under `claim` where the key was claimed before.
    fn decide(
        &self,
        request: &AuthRequest,
        arrival: &Arrival,
        original: Option<Remembered>,
        claim: Option<(Claim<'_>, bool)>,
        slot: Slot<'_>,
        begun_at: Instant,
    ) -> Taken {
        let now = self.time.at_door(request, begun_at);
        let original = original.filter(Remembered::is_authorisation);
        let asked = Asked { client: arrival.client.0, now, original };
        let in_force = self.in_force.load();
        let (lane, is_timed) = (arrival.lane.number(), arrival.lane.is_timed());
        let watch = timer::Timer::new(&self.metrics, &in_force, request, lane, begun_at, is_timed);
        let mut watch = watch.noting(in_force.shared.at_once());
        let (state, setup) = (&self.state, &in_force.setup);
        let shared = in_force.shared.read(&self.state.store, request, now);
        let attempt = Attempt { request, asked, shared: &shared, features: MODEL_FEATURES, observed: None };
        let taken = match claim {
            None => authorise::authorise(state, setup, attempt, slot, &mut watch),
            Some(claim) => authorise::decide_claimed(state, setup, attempt, claim, slot, &mut watch),
        };
        if let Taken::Decided(answer, _) = &taken {
            in_force.note(answer.degraded);
        }
        if let (Taken::Decided(answer, _), Some(_)) = (&taken, in_force.shared.at_once()) {
            in_force.shared.apply_now(answer.position, watch.shared_event().as_ref());
        }
        if let (Taken::Decided(answer, found), Some(rule)) = (&taken, watch.declined_by()) {
            let hash = |id: Option<&Id>| id.map_or(0, |id| id_hash(id.as_str()));
            let decline = guard::Decline {
                time: now,
                rules: setup.numbers.rules,
                rule,
                account: found.account,
                merchant: hash(request.merchant.merchant_id.as_ref()),
                device: hash(request.device_id.as_ref()),
                ip: hash(request.ip_address.as_ref()),
                score: answer.margin.map(|_| answer.score),
            };
            self.guard.saw(&self.metrics, decline);
        }
        taken
    }

    fn queued(
        self: &Arc<Self>,
        request: &AuthRequest,
        arrival: &Arrival,
        answer: AuthAnswer,
        found: Remembered,
        asked_at: Instant,
    ) -> PendingAuth {
        let wait = arrival.lane.durable(answer.position);
        let voider = arrival.deadline.map(|deadline| Voider {
            engine: self.clone(),
            lane: arrival.lane.clone(),
            deadline,
            client: arrival.client.0,
            key: request.key,
            found,
        });
        let told = Told { lane: arrival.lane.clone(), asked_at };
        Pending::queued(answer, wait, voider, Some(told))
    }

    /// Where nothing new is taken, a repeat still gets its answer: that needs no record.
    fn known_or(&self, request: &AuthRequest, arrival: &Arrival, fault: Fault) -> Result<Tried, Fault> {
        let key = self.state.answers.hash(arrival.client.0, &request.key);
        match self.state.answers.lookup(key) {
            Stands::Known(found) if found.what != What::ReversedBefore => Ok(Tried::Known(found)),
            Stands::PerhapsOlder => Ok(Tried::Undecided),
            _ => Err(fault),
        }
    }

    /// A key, or that of an increment's original, that is being decided at this moment or may stand in a key file.
    /// Ends when it is decided, which is before its answer is durable.
    async fn authorise_later(
        self: Arc<Self>,
        request: AuthRequest,
        arrival: Arrival,
    ) -> Result<PendingAuth, Fault> {
        let asked_at = Instant::now();
        let mut patience = Patience::default();
        loop {
            self.check_deadline(&arrival)?;
            self.check_running()?;
            let key = self.state.answers.hash(arrival.client.0, &request.key);
            if let Stands::Known(found) = self.state.answers.lookup(key)
                && found.what != What::ReversedBefore
            {
                return Ok(Pending::slow(self.repeat(request, arrival, found)));
            }
            // Before the own key is claimed: two that name each other must not wait for each other.
            let original = match self.original_of(&request, &arrival) {
                Some(original) => self.remembered(original).await?,
                None => None,
            };
            let claim = match self.claim_anywhere(key).await? {
                Claimed::Fresh(claim) => (claim, false),
                Claimed::ReversedBefore(claim, _) => (claim, true),
                Claimed::Known(_) => continue,
                Claimed::Busy | Claimed::Older(_) => {
                    patience.wait().await;
                    continue;
                }
                Claimed::Full => return Err(full()),
            };
            // Looking up may have taken a while: the deadline counts until here.
            self.check_deadline(&arrival)?;
            let now = Instant::now();
            self.check_queue(now)?;
            let slot = self.journal.reserve_at(Class::Authorisation, now);
            let slot = slot.map_err(|error| self.refused(error))?;
            match self.decide(&request, &arrival, original, Some(claim), slot, now) {
                Taken::Decided(answer, found) => {
                    return Ok(self.queued(&request, &arrival, answer, found, asked_at));
                }
                Taken::TooManyHolds => return Err(self.too_many_holds()),
                Taken::Full => return Err(full()),
                Taken::Again | Taken::Known(_) | Taken::Busy | Taken::Older => {}
            }
        }
    }

    /// Claims a key after looking into the key files where it may stand there: never [`Claimed::Older`].
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where that cannot be told; the key stands as it did.
    async fn claim_anywhere(self: &Arc<Self>, key: KeyHash) -> Result<Claimed<'_>, Fault> {
        loop {
            let claim = match self.state.answers.claim(key) {
                Claimed::Older(claim) => claim,
                claimed => return Ok(claimed),
            };
            match self.look_up_older(key).await? {
                Some(found) => claim.settle(found),
                None if self.state.answers.is_over_capacity() => return Ok(Claimed::Full),
                None => return Ok(Claimed::Fresh(claim)),
            }
        }
    }

    async fn repeat(
        self: Arc<Self>,
        request: AuthRequest,
        arrival: Arrival,
        found: Remembered,
    ) -> Result<Answered<AuthAnswer>, Fault> {
        let key = self.state.answers.hash(arrival.client.0, &request.key);
        let mut found = found;
        loop {
            let stored = self.stored(found.position, &arrival.lane).await?;
            let Some((decided, voided)) = self.stored_decision(stored, &arrival.lane).await? else {
                return self.duplicate(request, arrival, found).await;
            };
            if !authorise::same_body(&decided.request, &request) {
                return self.duplicate(request, arrival, found).await;
            }
            // What is handed over here can no longer be voided; what is being voided must be seen as void.
            if voided || self.state.answers.hand_over(key, found) {
                self.metrics.replayed(arrival.lane.number());
                return match voided {
                    true => Err(Fault::DeadlineVoided),
                    false => Ok(Answered { answer: decided.answer, replayed: true }),
                };
            }
            found = self.remembered(key).await?.ok_or(Fault::Internal)?;
        }
    }

    /// The same key with another body: declined 94, recorded, and not remembered under the key.
    async fn duplicate(
        self: Arc<Self>,
        request: AuthRequest,
        arrival: Arrival,
        found: Remembered,
    ) -> Result<Answered<AuthAnswer>, Fault> {
        let mut slot = self.journal.reserve(Class::Authorisation).map_err(|error| self.refused(error))?;
        let now = self.time.at_door(&request, Instant::now());
        let position = slot.take_sequence();
        let versions = self.in_force.load().setup.numbers;
        encode_duplicated(slot.buffer(), arrival.client.0, now, &request, versions, found.position);
        slot.publish();
        let answer = stored::duplicate_answer(&*self.names, now, position, &versions);
        self.metrics.duplicate_key(arrival.lane.number());
        self.on_disk(position, &arrival.lane).await?;
        Ok(Answered { answer, replayed: false })
    }

    /// Voids an authorisation whose deadline has passed. False where its answer was handed over to a repeat, or it
    /// was reversed: then it stands.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where the void cannot be made durable.
    async fn void(
        self: &Arc<Self>,
        client: u32,
        key: RequestKey,
        found: Remembered,
        lane: &Arc<Lane>,
    ) -> Result<bool, Fault> {
        let slot = self.slot_for_essential().await?;
        let hash = self.state.answers.hash(client, &key);
        let position = loop {
            if let Some(claim) = self.state.answers.reclaim(hash, found) {
                let asked = Asked { client, now: self.time.now(), original: None };
                break reverse::void(&self.state, key, found, asked, claim, slot);
            }
            // It may have left memory since: then it is brought back as it stands.
            if self.remembered(hash).await? != Some(found) {
                return Ok(false);
            }
        };
        self.metrics.voided();
        self.on_disk(position, lane).await?;
        Ok(true)
    }

    /// Frees what an authorisation still holds.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for a replacement amount in another currency than the account's, [`Fault::Unavailable`]
    /// where nothing can be made durable.
    pub async fn reverse(
        self: &Arc<Self>,
        reversal: Reversal,
        arrival: &Arrival,
    ) -> Result<Answered<Outcome>, Fault> {
        if reversal.key == reversal.original {
            return Err(Fault::Invalid(vec![Violation {
                field: "original_transaction_id",
                description: "must be another key than the reversal's own".into(),
                response_code: ResponseCode::FORMAT_ERROR,
                number: 2,
            }]));
        }
        let client = arrival.client.0;
        let own_key = self.state.answers.hash(client, &reversal.key);
        let original_key = self.state.answers.hash(client, &reversal.original);
        let mut patience = Patience::default();
        let (outcome, lane) = loop {
            self.check_deadline(arrival)?;
            self.check_running()?;
            let slot = self.slot_for_essential().await?;
            let own = match self.claim_anywhere(own_key).await?.held()? {
                Held::Claim(claim) => claim,
                Held::Known(found) => {
                    let repeat = reversal.clone();
                    let same = move |stored: &stored::StoredOutcome| stored.is_reversal(&repeat);
                    return self.repeat_outcome(found, same, arrival).await;
                }
                Held::Busy => {
                    patience.wait().await;
                    continue;
                }
            };
            let target = match self.claim_anywhere(original_key).await? {
                Claimed::Fresh(claim) => Target::NotArrived(claim),
                Claimed::ReversedBefore(claim, found) => {
                    drop(claim);
                    Target::Found(found)
                }
                // A client that reverses knows of the authorisation: it is no longer voided for want of an answer.
                Claimed::Known(found)
                    if found.what == What::Authorisation
                        && !self.state.answers.hand_over(original_key, found) =>
                {
                    drop(own);
                    continue;
                }
                Claimed::Known(found) => Target::Found(found),
                Claimed::Busy | Claimed::Older(_) => {
                    drop(own);
                    patience.wait().await;
                    continue;
                }
                Claimed::Full => return Err(full()),
            };
            let asked = Asked { client, now: self.time.now(), original: None };
            let outcome = reverse::reverse(&self.state, reversal.clone(), asked, own, target, slot)?;
            break (outcome, &arrival.lane);
        };
        self.metrics.changed("reverse");
        self.on_disk(outcome.position, lane).await?;
        Ok(Answered { answer: outcome, replayed: false })
    }

    /// Sets a status or a limit, or upserts one account.
    #[allow(clippy::async_yields_async, reason = "once it is decided, its answer is waited for apart")]
    pub fn maintain(self: &Arc<Self>, change: Maintenance, arrival: &Arrival) -> Pending<Outcome> {
        match self.try_maintain(&change, arrival) {
            Ok(Some(outcome)) => queued_outcome(outcome, &arrival.lane),
            Err(fault) => Pending::ready(Err(fault)),
            Ok(None) => {
                let (engine, arrival) = (self.clone(), arrival.clone());
                Pending::undecided(async move {
                    let decided = engine.maintain_later(change, arrival).await;
                    decided.unwrap_or_else(|fault| Pending::ready(Err(fault)))
                })
            }
        }
    }

    /// `None` where it cannot be done at once.
    fn try_maintain(&self, change: &Maintenance, arrival: &Arrival) -> Result<Option<Outcome>, Fault> {
        self.check_deadline(arrival)?;
        self.check_running()?;
        let slot = match self.journal.reserve(Class::Essential) {
            Ok(slot) => slot,
            Err(ReserveError::Full) => return Ok(None),
            Err(error) => return Err(self.refused(error)),
        };
        let key = self.state.answers.hash(arrival.client.0, &change.key());
        match self.state.answers.claim(key) {
            Claimed::Fresh(own) => self.change(change, arrival, own, slot).map(Some),
            Claimed::Full => Err(full()),
            _ => Ok(None),
        }
    }

    fn change(
        &self,
        change: &Maintenance,
        arrival: &Arrival,
        own: Claim<'_>,
        slot: Slot,
    ) -> Result<Outcome, Fault> {
        let asked = Asked { client: arrival.client.0, now: self.time.now(), original: None };
        let outcome = maintain::maintain(&self.state, change.clone(), asked, own, slot)?;
        self.metrics.changed(match change {
            Maintenance::SetAccountStatus { .. } => "set_account_status",
            Maintenance::SetCardStatus { .. } => "set_card_status",
            Maintenance::SetCreditLimit { .. } => "set_credit_limit",
            Maintenance::Upsert { .. } => "upsert",
        });
        Ok(outcome)
    }

    async fn maintain_later(
        self: Arc<Self>,
        change: Maintenance,
        arrival: Arrival,
    ) -> Result<Pending<Outcome>, Fault> {
        let mut patience = Patience::default();
        loop {
            self.check_deadline(&arrival)?;
            self.check_running()?;
            let key = self.state.answers.hash(arrival.client.0, &change.key());
            match self.claim_anywhere(key).await?.held()? {
                Held::Known(found) => {
                    let same = move |stored: &stored::StoredOutcome| stored.is_change(&change);
                    let engine = self.clone();
                    return Ok(Pending::slow(
                        async move { engine.repeat_outcome(found, same, &arrival).await },
                    ));
                }
                Held::Claim(own) => {
                    let slot = self.slot_for_essential().await?;
                    let outcome = self.change(&change, &arrival, own, slot)?;
                    return Ok(queued_outcome(outcome, &arrival.lane));
                }
                Held::Busy => patience.wait().await,
            }
        }
    }

    async fn repeat_outcome(
        self: &Arc<Self>,
        found: Remembered,
        same: impl FnOnce(&stored::StoredOutcome) -> bool,
        arrival: &Arrival,
    ) -> Result<Answered<Outcome>, Fault> {
        let stored = self.stored(found.position, &arrival.lane).await?;
        match stored::StoredOutcome::new(stored) {
            Some(stored) if same(&stored) => {
                self.metrics.replayed(arrival.lane.number());
                Ok(Answered { answer: stored.outcome(), replayed: true })
            }
            _ => {
                self.metrics.duplicate_key(arrival.lane.number());
                Ok(Answered { answer: stored::duplicate_outcome(found.position), replayed: false })
            }
        }
    }

    /// An account as it stands, once that is durable.
    ///
    /// # Errors
    /// [`Fault::NotFound`], or [`Fault::Unavailable`] where the journal stopped before it was durable.
    pub async fn account(&self, account: AccountId, lane: &Arc<Lane>) -> Result<AccountView, Fault> {
        let at = self.state.store.find(&Subject::Account(account));
        let now = self.time.now();
        let view = at.and_then(|at| {
            self.state.store.with_account(at, |entry| {
                // It was found by a hash of its id.
                let found = entry.account.as_ref().filter(|found| found.id.as_str() == account.as_str());
                found.map(|account| account.view(now))
            })
        });
        let view = view.ok_or(Fault::NotFound { what: "account" })?;
        self.on_disk(view.last_position, lane).await?;
        Ok(view)
    }

    /// Forgets the answers that have been kept for as long as they must be.
    fn forget_old_answers(&self) {
        let mut ages = self.ages.lock();
        let now = self.time.now();
        ages.note(now, self.journal.durable() + 1);
        let outlived = ages.outlived(now, ANSWER_RETENTION_MS);
        drop(ages);
        if let Some(position) = outlived {
            self.state.answers.forget_before(position);
        }
    }

    /// Tells the operator once that the clock has jumped ahead and is not believed, and once that it is again.
    fn warn_of_the_clock(&self) {
        let frozen = self.time.frozen();
        match (self.clock_doubted.swap(frozen, Ordering::Relaxed), frozen) {
            (false, true) => tracing::warn!(
                engine_time = %self.time.now(),
                "the clock jumped more than a minute ahead: holds expire by the monotonic clock until it is set right \
                 or the engine is started again"
            ),
            (true, false) => tracing::info!("the clock is believed again"),
            _ => {}
        }
    }

    /// What the engine can say of itself at this moment.
    fn live(&self) -> Live {
        let queue = self.journal.queue();
        let health = *self.health.borrow();
        let found = self.sweeper.found();
        let durable_position = self.journal.durable();
        let on_disk = self.older.on_disk();
        let in_force = self.in_force.load();
        let shared = in_force.shared.figures();
        let behind = |to: u64| durable_position.saturating_sub(to);
        Live {
            queue_records: queue.records,
            queue_age_us: queue.oldest_us,
            published_position: durable_position + queue.records,
            durable_position,
            disk_free_bytes: free_bytes(&self.data_dir),
            accounts: self.state.store.len() as u64,
            cards: self.state.store.cards() as u64,
            holds: found.holds,
            held_minor: found.held_minor,
            lists: in_force.lists(),
            lists_aside: in_force.lists_aside(),
            answers_remembered: self.state.answers.len() as u64,
            answers_capacity: self.state.answers.capacity() as u64,
            answers_on_disk: on_disk.keys,
            key_files: on_disk.files,
            key_filter_bytes: on_disk.filter_bytes,
            shared_lag_records: behind(in_force.shared.complete_to()),
            shared_unfilled_records: in_force.shared.filled_to().map_or(0, behind),
            shared_keys: shared.keys as u64,
            shared_bytes: shared.bytes as u64,
            shared_evicted: shared.evicted_keys,
            shared_saturated: shared.saturated_keys as u64,
            time_lead_ms: self.time.lead_ms(),
            clock_doubted: self.time.frozen(),
            disk_low: self.journal.low_disk(),
            disk_full: self.journal.full_disk(),
            disk_stalled: self.journal.stalled(),
            journal_stopped: self.failed.borrow().is_some(),
            serving_authorisation: health.authorisation,
            serving_others: health.others,
            degraded: in_force.degraded(),
        }
    }

    /// A hold was decided and nobody got the answer.
    fn unanswered(&self) {
        self.metrics.unanswered_hold();
    }

    /// From now on nothing new is taken; health says NOT_SERVING at once.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.health.send_replace(Health { authorisation: false, others: false });
    }

    /// Stops for good: syncs what is queued and writes the durable mark. Whoever writes snapshots or key files has as long
    /// to come back from the disk as the journal's own operations have; then it is no longer waited for.
    ///
    /// # Errors
    /// In words, where the journal could not be closed cleanly.
    pub fn close(&self) -> Result<(), String> {
        self.drain();
        self.sweeper.stop();
        let until = Instant::now() + Duration::from_millis(self.config.journal.hang_ms);
        self.shared_thread.stop(&self.journal, until);
        self.guard.stop(&self.journal, until);
        self.snapshots.stop(&self.journal, until);
        self.older.stop(&self.journal, until);
        self.journal.close().map_err(|failure| failure.to_string())?;
        self.unclosed.closed();
        Ok(())
    }

    fn check_deadline(&self, arrival: &Arrival) -> Result<(), Fault> {
        match arrival.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            true => Err(Fault::DeadlineNotStarted),
            false => Ok(()),
        }
    }

    fn check_running(&self) -> Result<(), Fault> {
        match self.draining.load(Ordering::Acquire) {
            true => Err(Fault::Unavailable(DRAINING)),
            false => Ok(()),
        }
    }

    /// Refuses authorisations where the disk is in trouble, and sheds them where the oldest record has waited too long
    /// for it. In this order: what waits for a disk in trouble grows old too, and is no overload.
    fn check_queue(&self, now: Instant) -> Result<(), Fault> {
        self.journal.admits(Class::Authorisation).map_err(|error| self.refused(error))?;
        let waited_us = self.journal.queue_at(now).oldest_us;
        match waited_us > self.config.overload.shed_after_ms * 1_000 {
            true => Err(self.overloaded(DISK_LAGS)),
            false => Ok(()),
        }
    }

    /// A slot for what may not be shed: waits where the ring is full.
    async fn slot_for_essential(&self) -> Result<Slot<'_>, Fault> {
        loop {
            match self.journal.reserve(Class::Essential) {
                Ok(slot) => return Ok(slot),
                Err(ReserveError::Full) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    fn too_many_holds(&self) -> Fault {
        self.overloaded("the account has too many open holds")
    }

    /// What a call that got no room in the journal is told.
    pub fn refused(&self, error: ReserveError) -> Fault {
        match error {
            ReserveError::Full => self.overloaded(RING_FULL),
            ReserveError::Unprepared => self.overloaded(SEGMENT_NOT_READY),
            ReserveError::DiskLow => Fault::Unavailable(DISK_LOW),
            ReserveError::Stalled => Fault::Unavailable(DISK_STALLED),
            ReserveError::Stopped => Fault::Unavailable(JOURNAL_STOPPED),
        }
    }

    fn overloaded(&self, what: &'static str) -> Fault {
        let retry_after_ms = u32::try_from(self.config.overload.retry_after_ms).unwrap_or(u32::MAX);
        Fault::Overloaded { retry_after_ms, what }
    }

    /// Ends once the record at a position is on disk.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where the journal stopped before.
    pub async fn on_disk(&self, position: u64, lane: &Arc<Lane>) -> Result<(), Fault> {
        lane.durable(position).await.map_err(|_| Fault::Unavailable(JOURNAL_STOPPED))
    }
}

#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation"
)]
enum Tried {
    Pending(PendingAuth),
    /// Known under a record.
    Known(Remembered),
    /// A key of it is being decided at this moment, or may stand in a key file.
    Undecided,
}

/// A key as the calls that are not authorisations see it.
enum Held<'a> {
    Claim(Claim<'a>),
    Known(Remembered),
    Busy,
}

impl<'a> Claimed<'a> {
    fn held(self) -> Result<Held<'a>, Fault> {
        match self {
            Claimed::Fresh(claim) => Ok(Held::Claim(claim)),
            Claimed::ReversedBefore(claim, found) => {
                drop(claim);
                Ok(Held::Known(found))
            }
            Claimed::Known(found) => Ok(Held::Known(found)),
            Claimed::Busy | Claimed::Older(_) => Ok(Held::Busy),
            Claimed::Full => Err(full()),
        }
    }
}

/// Waits for whoever decides a key at this moment.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    async fn wait(&mut self) {
        self.0 += 1;
        match self.0 <= PATIENCE_TURNS {
            true => tokio::task::yield_now().await,
            false => tokio::time::sleep(RETRY).await,
        }
    }
}

fn queued_outcome(outcome: Outcome, lane: &Lane) -> Pending<Outcome> {
    let wait = lane.durable(outcome.position);
    Pending::queued(outcome, wait, None, None)
}

fn full() -> Fault {
    Fault::Overloaded { retry_after_ms: FULL_RETRY_AFTER_MS, what: ANSWERS_FULL }
}
