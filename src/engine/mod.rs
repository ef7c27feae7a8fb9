//! The engine's face as `wire` sees it. (Skeleton for parallel work; the real room replaces this file.)

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::types::{
    account::AccountView,
    auth::{AuthAnswer, AuthRequest},
    fault::Fault,
    ids::{AccountId, RequestKey},
    outcome::{Maintenance, Outcome, Reversal},
    time::Timestamp,
};

/// One runtime's side of the journal: who waits there is woken once per synced group. (Real one: `journal::Lane`.)
pub struct Lane;
impl Lane {
    pub async fn run(&self) {
        std::future::pending::<()>().await
    }
}

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
    /// When the answer is no longer wanted: the earlier of the call's deadline and the item's `answer_within`.
    pub deadline: Option<Instant>,
    pub lane: Arc<Lane>,
}

/// An answer, and whether it was given before.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered<T> {
    pub answer: T,
    pub replayed: bool,
}

/// What one call will be answered with, once that is durable. Resolving it means handing it to the transport: past
/// its deadline it resolves to `Fault::DeadlineVoided` instead. Dropped unresolved with a deadline, the engine voids it
/// when the deadline passes; without one the decision stands.
pub struct Pending<T> {
    _t: std::marker::PhantomData<fn() -> T>,
}
impl<T> Pending<T> {
    /// False for repeats and for whatever else needs a read from disk: those may resolve out of order.
    pub fn in_order(&self) -> bool {
        unimplemented!()
    }
    /// An answer that needs no engine, such as a fault found at the door.
    pub fn ready(_result: Result<Answered<T>, Fault>) -> Pending<T> {
        unimplemented!()
    }
}
impl<T> Future for Pending<T> {
    // Send + Unpin
    type Output = Result<Answered<T>, Fault>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

/// A decision as the journal has it.
pub struct DecisionRecord {
    pub request: AuthRequest,
    pub answer: AuthAnswer,
    pub account: Option<AccountId>,
    pub rules_fired: Vec<String>,
    pub shadow_rules_fired: Vec<String>,
    pub features: Vec<(&'static str, Option<f64>)>,
    pub voided: bool,
}

pub enum DecisionKey {
    Key(RequestKey),
    Position(u64),
}

pub struct Engine;

impl Engine {
    /// The engine's time: for the checks of a transaction time.
    pub fn now(&self) -> Timestamp {
        unimplemented!()
    }
    /// One wake list per runtime; spawn `lane.run()` there.
    pub fn lane(&self) -> Arc<Lane> {
        unimplemented!()
    }
    /// Decides at once, in the order of calls; the answer comes when it is durable.
    pub fn authorise(self: &Arc<Self>, _request: AuthRequest, _arrival: &Arrival) -> Pending<AuthAnswer> {
        unimplemented!()
    }
    pub async fn reverse(
        self: &Arc<Self>,
        _reversal: Reversal,
        _arrival: &Arrival,
    ) -> Result<Answered<Outcome>, Fault> {
        unimplemented!()
    }
    /// SetAccountStatus, SetCardStatus, SetCreditLimit and single upserts (Outcome.upserted says what an upsert did).
    pub fn maintain(self: &Arc<Self>, _change: Maintenance, _arrival: &Arrival) -> Pending<Outcome> {
        unimplemented!()
    }
    pub async fn account(
        self: &Arc<Self>,
        _account: AccountId,
        _lane: &Arc<Lane>,
    ) -> Result<AccountView, Fault> {
        unimplemented!()
    }
    pub async fn decision(
        self: &Arc<Self>,
        _client: Client,
        _key: DecisionKey,
        _lane: &Arc<Lane>,
    ) -> Result<DecisionRecord, Fault> {
        unimplemented!()
    }
    /// SERVING or not, for each health name; changes are watched.
    pub fn health(&self) -> tokio::sync::watch::Receiver<Health> {
        unimplemented!()
    }
    /// Feeds counters of what the wire alone sees.
    pub fn refused(&self, _code: tonic::Code) {}
}

/// What health says. `authorisation` alone is false while the disk is low.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    pub authorisation: bool,
    pub others: bool,
}
