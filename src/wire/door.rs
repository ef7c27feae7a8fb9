//! What the services of one runtime share: the engine, the runtime's lane to the journal, what is accepted, and
//! whether the server winds down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::{convert::Admission, deadline::CallDeadline, status};
use crate::{
    engine::{Arrival, Client, Engine, Lane},
    observe::{self, CallResult},
    types::fault::Fault,
};

/// How long a winding-down stream or server waits for more before it takes the silence for the end.
pub(super) const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// Whether new work is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Serving,
    /// No new connections; what was read is answered; everything ends by `until`.
    Draining {
        until: Instant,
    },
}

/// What the services of one runtime share.
pub(super) struct Door {
    pub(super) engine: Arc<Engine>,
    pub(super) lane: Arc<Lane>,
    pub(super) pans_allowed: bool,
    pub(super) phase: watch::Receiver<Phase>,
    /// Calls whose answer is not finished.
    pub(super) open_calls: Arc<AtomicUsize>,
}

impl Door {
    pub(super) fn admission(&self) -> Admission {
        Admission { pans_allowed: self.pans_allowed, latest_time: self.engine.latest_acceptable_time() }
    }

    /// How a call came in: without authentication all callers are one client.
    pub(super) fn arrival<T>(&self, request: &Request<T>) -> Arrival {
        let deadline = request.extensions().get::<CallDeadline>().map(|deadline| deadline.0);
        Arrival { client: Client::ANONYMOUS, deadline, lane: Arc::clone(&self.lane) }
    }

    /// The status of a call that ends in a fault, counted.
    pub(super) fn refuse(&self, fault: &Fault) -> Status {
        self.count(fault);
        status::of_call(fault)
    }

    /// The status of an item that ends in a fault, counted.
    pub(super) fn refuse_item(&self, fault: &Fault) -> tonic_types::Status {
        self.count(fault);
        status::of_item(fault)
    }

    /// Counts a fault that becomes an item's status elsewhere.
    pub(super) fn count(&self, fault: &Fault) {
        let metrics = self.engine.metrics();
        metrics.failed(status::code_name(status::code(fault)), status::reason(fault));
        if let Fault::Overloaded { what, .. } = fault {
            metrics.shed(what);
        }
    }

    /// Counts what tonic refused by itself.
    pub(super) fn count_refusal(&self, code: Code) {
        self.engine.metrics().failed(status::code_name(code), "TRANSPORT");
    }

    /// Counts a call that ended; `arrived` is when its headers came.
    pub(super) fn call_ended(&self, call: observe::Call, result: CallResult, arrived: Instant) {
        let total_ns = u64::try_from(arrived.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.engine.metrics().call_ended(self.lane.number(), call, result, total_ns);
    }

    pub(super) fn open_call(&self) -> OpenCall {
        OpenCall::new(&self.open_calls)
    }

    pub(super) fn is_draining(&self) -> bool {
        drain_end(&self.phase).is_some()
    }
}

/// Counts one call as open until dropped.
pub(super) struct OpenCall(Arc<AtomicUsize>);

impl OpenCall {
    pub(super) fn new(open_calls: &Arc<AtomicUsize>) -> OpenCall {
        open_calls.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(open_calls))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When the drain ends at the latest, once it has begun. A server that is gone without draining ends at once.
pub(super) fn drain_end(phase: &watch::Receiver<Phase>) -> Option<Instant> {
    match *phase.borrow() {
        Phase::Draining { until } => Some(until),
        Phase::Serving if phase.has_changed().is_err() => Some(Instant::now()),
        Phase::Serving => None,
    }
}

/// Waits for the drain to begin, and says when it ends at the latest.
pub(super) async fn drain_begins(mut phase: watch::Receiver<Phase>) -> Instant {
    match phase.wait_for(|phase| *phase != Phase::Serving).await.as_deref() {
        Ok(Phase::Draining { until }) => *until,
        Ok(Phase::Serving) | Err(_) => Instant::now(),
    }
}
