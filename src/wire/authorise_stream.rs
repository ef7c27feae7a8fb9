//! The bidirectional stream of authorisations as one hand-written state machine: reads an item, has it decided at
//! once, remembers that its answer is due, and gives answers out as they become durable.
//!
//! Items are decided in the order read. With [`STREAM_IN_FLIGHT_MAX`] answers due it stops reading, and HTTP/2 flow
//! control slows the sender. After half-close, a broken message, the call's deadline or the server's drain it reads
//! no more, answers what it has read, and ends. Deliberately absent: a task or a channel per item.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{Sleep, sleep, sleep_until},
};
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::{Code, Status};

use super::{
    convert::{Admission, from_proto, to_proto},
    door::{DRAIN_QUIET, OpenCall, Phase, drain_end},
    in_flight::{InFlight, shielded},
    status,
};
use crate::{
    engine::Answered,
    limits::STREAM_IN_FLIGHT_MAX,
    proto::{AuthoriseItem, AuthoriseItemResult, authorise_item_result::Result as ItemResult},
    types::{
        auth::{AuthAnswer, AuthRequest},
        fault::Fault,
        ids::Id,
    },
};

/// What the stream needs of the engine: narrow, so that the tests can hold answers back.
pub(super) trait Decide: Send + Unpin + 'static {
    /// An answer that becomes durable later.
    type Pending: Future<Output = Result<Answered<AuthAnswer>, Fault>> + Unpin + Send;

    /// What the checks of an item need to know.
    fn admission(&self) -> Admission;

    /// Decides now; the answer comes when it is durable. True where it cannot overtake those asked for before.
    fn decide(&mut self, request: AuthRequest, deadline: Option<Instant>) -> (Self::Pending, bool);

    /// Counts a refusal that the engine does not see.
    fn refused(&self, code: Code);
}

/// Which item an answer belongs to.
struct Tag {
    correlation: u64,
    transaction_id: String,
}

/// What begins when the server winds down: items are refused until none came for a while.
struct Closing {
    quiet: Pin<Box<Sleep>>,
    /// Later than this the silence is not waited for, so that the stream ends well inside the grace.
    patience_end: Instant,
}

/// The answers of one stream.
pub(super) struct AuthoriseStream<S, D: Decide> {
    source: S,
    decide: D,
    in_flight: InFlight<Tag, D::Pending>,
    /// Results that wait for nothing: refused items.
    refused: VecDeque<AuthoriseItemResult>,
    /// Set once nothing more is read: how the stream ends when every item read is answered.
    ending: Option<Result<(), Status>>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    phase: watch::Receiver<Phase>,
    phase_changes: WatchStream<Phase>,
    closing: Option<Closing>,
    _open: OpenCall,
}

impl<S, D: Decide> AuthoriseStream<S, D> {
    /// `deadline` is that of the whole call.
    pub(super) fn new(
        source: S,
        decide: D,
        deadline: Option<Instant>,
        phase: watch::Receiver<Phase>,
        open: OpenCall,
    ) -> Self {
        AuthoriseStream {
            source,
            decide,
            in_flight: InFlight::new(),
            refused: VecDeque::new(),
            ending: None,
            deadline: deadline.map(|at| (at, Box::pin(sleep_until(at.into())))),
            phase_changes: WatchStream::new(phase.clone()),
            phase,
            closing: None,
            _open: open,
        }
    }

    fn due(&self) -> usize {
        self.in_flight.len() + self.refused.len()
    }

    /// Has one item decided, or refuses it.
    fn take(&mut self, item: AuthoriseItem) {
        let admitted = match &mut self.closing {
            Some(closing) => {
                if Instant::now() < closing.patience_end {
                    closing.quiet.as_mut().reset(tokio::time::Instant::now() + DRAIN_QUIET);
                }
                Err(Fault::Unavailable(status::DRAINING))
            }
            None => from_proto::authorise_item(&item, self.decide.admission()),
        };
        let correlation = item.correlation;
        let transaction_id = item.request.map(|request| request.transaction_id).unwrap_or_default();
        match admitted {
            Ok((request, answer_within)) => {
                let deadline = earlier(self.deadline.as_ref().map(|(at, _)| *at), answer_within);
                match shielded(|| self.decide.decide(request, deadline)) {
                    Ok((pending, in_order)) => {
                        self.in_flight.push(Tag { correlation, transaction_id }, pending, in_order);
                    }
                    Err(fault) => self.refuse(correlation, transaction_id, &fault),
                }
            }
            Err(fault) => self.refuse(correlation, transaction_id, &fault),
        }
    }

    fn refuse(&mut self, correlation: u64, transaction_id: String, fault: &Fault) {
        self.decide.refused(status::code(fault));
        self.refused.push_back(failed(correlation, transaction_id, fault));
    }

    /// The next result that is there.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<AuthoriseItemResult> {
        if let Some(result) = self.refused.pop_front() {
            return Poll::Ready(result);
        }
        let (tag, answer) = ready!(self.in_flight.poll_next(cx));
        Poll::Ready(result(tag.correlation, tag.transaction_id, answer))
    }

    /// Stops reading where the drain or the deadline says so, and asks to be woken when one of them does.
    fn poll_limits(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(_)) = Pin::new(&mut self.phase_changes).poll_next(cx) {}
        if self.closing.is_none()
            && let Some(until) = drain_end(&self.phase)
        {
            let patience = until.saturating_duration_since(Instant::now()) / 2;
            let quiet = DRAIN_QUIET.min(patience);
            self.closing = Some(Closing {
                quiet: Box::pin(sleep(quiet)),
                patience_end: Instant::now() + (patience - quiet),
            });
        }
        if self.ending.is_some() {
            return;
        }
        if let Some(closing) = &mut self.closing
            && closing.quiet.as_mut().poll(cx).is_ready()
        {
            self.ending = Some(Err(status::of_call(&Fault::Unavailable(status::DRAINING))));
        }
        if let Some((_, passed)) = &mut self.deadline
            && passed.as_mut().poll(cx).is_ready()
        {
            self.ending = Some(Err(status::of_call(&Fault::DeadlineNotStarted)));
        }
    }
}

impl<S, D> AuthoriseStream<S, D>
where
    S: Stream<Item = Result<AuthoriseItem, Status>> + Unpin,
    D: Decide,
{
    /// Reads what has arrived, as far as the bound allows. True where anything was read.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> bool {
        let mut read = false;
        while self.ending.is_none() && self.due() < STREAM_IN_FLIGHT_MAX {
            match Pin::new(&mut self.source).poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    self.take(item);
                    read = true;
                }
                Poll::Ready(Some(Err(status))) => {
                    self.decide.refused(status.code());
                    self.ending = Some(Err(status));
                }
                Poll::Ready(None) => self.ending = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        read
    }
}

impl<S, D> Stream for AuthoriseStream<S, D>
where
    S: Stream<Item = Result<AuthoriseItem, Status>> + Unpin,
    D: Decide,
{
    type Item = Result<AuthoriseItemResult, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Poll::Ready(result) = this.poll_due(cx) {
            return Poll::Ready(Some(Ok(result)));
        }
        this.poll_limits(cx);
        // Fresh answers are asked once, so that each leaves its waker and those refused at once are seen.
        if this.poll_source(cx)
            && let Poll::Ready(result) = this.poll_due(cx)
        {
            return Poll::Ready(Some(Ok(result)));
        }
        if this.due() > 0 {
            return Poll::Pending;
        }
        match &mut this.ending {
            None => Poll::Pending,
            Some(ending) => match std::mem::replace(ending, Ok(())) {
                Ok(()) => Poll::Ready(None),
                Err(status) => Poll::Ready(Some(Err(status))),
            },
        }
    }
}

/// The result of one item, with the id it was sent with.
pub(super) fn result(
    correlation: u64,
    transaction_id: String,
    answer: Result<Answered<AuthAnswer>, Fault>,
) -> AuthoriseItemResult {
    match answer {
        Ok(answered) => AuthoriseItemResult {
            correlation,
            result: Some(ItemResult::Response(to_proto::authorise_response(
                transaction_id.clone(),
                &answered,
            ))),
            transaction_id,
        },
        Err(fault) => failed(correlation, transaction_id, &fault),
    }
}

fn failed(correlation: u64, transaction_id: String, fault: &Fault) -> AuthoriseItemResult {
    // An id that is none is not handed back: it may be of any length and content.
    let named = Id::new(&transaction_id).is_ok();
    AuthoriseItemResult {
        correlation,
        transaction_id: if named { transaction_id } else { String::new() },
        result: Some(ItemResult::Error(status::of_item(fault))),
    }
}

/// The earlier of the call's deadline and the item's own bound, which counts from now.
pub(super) fn earlier(call: Option<Instant>, answer_within: Option<Duration>) -> Option<Instant> {
    let own = answer_within.and_then(|within| Instant::now().checked_add(within));
    match (call, own) {
        (Some(call), Some(own)) => Some(call.min(own)),
        (call, own) => call.or(own),
    }
}
