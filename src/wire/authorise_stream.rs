//! The bidirectional stream of authorisations as one hand-written state machine: reads an item, has it decided at
//! once, remembers that its answer is due, and gives answers out as they become durable.
//!
//! Items are decided in the order read: behind one that cannot be decided yet nothing is read. With
//! [`STREAM_IN_FLIGHT_MAX`] answers due it stops reading, and HTTP/2 flow control slows the sender. After half-close, a
//! broken message, the call's deadline or the server's drain it reads no more, answers what it has read, and ends.
//! Deliberately absent: a task or a channel per item.

use std::{
    collections::VecDeque,
    future::Future as _,
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
    in_flight::{Awaited, InFlight, shielded},
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
    type Pending: Awaited<Answer = Answered<AuthAnswer>> + Send;

    /// What the checks of an item need to know.
    fn admission(&self) -> Admission;

    /// Decides as soon as that can be; the answer comes when it is durable.
    fn decide(&mut self, request: AuthRequest, deadline: Option<Instant>) -> Self::Pending;

    /// Counts a fault that becomes an item's status.
    fn faulted(&self, fault: &Fault);

    /// Counts what tonic refused by itself.
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
    fn take(&mut self, item: AuthoriseItem, cx: &mut Context<'_>) {
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
                    Ok(pending) => self.in_flight.push(Tag { correlation, transaction_id }, pending, cx),
                    Err(fault) => self.refuse(correlation, transaction_id, &fault),
                }
            }
            Err(fault) => self.refuse(correlation, transaction_id, &fault),
        }
    }

    fn refuse(&mut self, correlation: u64, transaction_id: String, fault: &Fault) {
        self.decide.faulted(fault);
        self.refused.push_back(failed(correlation, transaction_id, fault));
    }

    /// The next result that is there.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<AuthoriseItemResult> {
        if let Some(result) = self.refused.pop_front() {
            return Poll::Ready(result);
        }
        let (tag, answer) = ready!(self.in_flight.poll_next(cx));
        if let Err(fault) = &answer {
            self.decide.faulted(fault);
        }
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
        while self.ending.is_none() && !self.in_flight.is_blocked() && self.due() < STREAM_IN_FLIGHT_MAX {
            match Pin::new(&mut self.source).poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    self.take(item, cx);
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
        // Fresh answers are asked once, so that each leaves its waker and those refused at once are seen. What blocked
        // the reading may be decided by then.
        while this.poll_source(cx) {
            if let Poll::Ready(result) = this.poll_due(cx) {
                return Poll::Ready(Some(Ok(result)));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto,
        types::{
            auth::Degraded,
            codes::{Decision, ResponseCode},
            reasons::{Label, Reasons},
            time::Timestamp,
        },
    };
    use std::{
        future::poll_fn,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };
    use tokio::sync::{mpsc, oneshot};
    use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
    use tonic_types::RpcStatusExt as _;

    type Settle = oneshot::Sender<Result<Answered<AuthAnswer>, Fault>>;

    struct Held(oneshot::Receiver<Result<Answered<AuthAnswer>, Fault>>, Decided);

    /// When an item is decided and whether in order.
    enum Decided {
        Now(bool),
        When(oneshot::Receiver<()>),
    }

    impl Awaited for Held {
        type Answer = Answered<AuthAnswer>;

        fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
            if let Decided::When(decided) = &mut self.1 {
                let _ = ready!(Pin::new(decided).poll(cx));
                self.1 = Decided::Now(true);
            }
            Poll::Ready(matches!(self.1, Decided::Now(true)))
        }
    }

    impl Future for Held {
        type Output = Result<Answered<AuthAnswer>, Fault>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            Pin::new(&mut self.0).poll(cx).map(|settled| settled.unwrap_or(Err(Fault::Internal)))
        }
    }

    /// An engine whose answers the test holds back.
    struct Desk {
        asked: mpsc::UnboundedSender<(AuthRequest, Option<Instant>, Settle)>,
        /// When the item `undecided` is decided.
        decided: Option<oneshot::Receiver<()>>,
    }

    impl Decide for Desk {
        type Pending = Held;

        fn admission(&self) -> Admission {
            Admission { pans_allowed: false, latest_time: Timestamp(i64::MAX) }
        }

        fn decide(&mut self, request: AuthRequest, deadline: Option<Instant>) -> Held {
            assert_ne!(request.key.as_str(), "panic", "told to");
            let decided = match request.key.as_str() {
                "undecided" => Decided::When(self.decided.take().expect("one such item")),
                key => Decided::Now(!key.starts_with("repeat")),
            };
            let (settle, held) = oneshot::channel();
            self.asked.send((request, deadline, settle)).expect("the test listens");
            Held(held, decided)
        }

        fn faulted(&self, _: &Fault) {}

        fn refused(&self, _: Code) {}
    }

    /// A stream under test, with its two ends and the engine's side of it.
    struct Bench {
        send: Option<mpsc::UnboundedSender<Result<AuthoriseItem, Status>>>,
        stream: AuthoriseStream<UnboundedReceiverStream<Result<AuthoriseItem, Status>>, Desk>,
        decided: mpsc::UnboundedReceiver<(AuthRequest, Option<Instant>, Settle)>,
        let_decide: Option<oneshot::Sender<()>>,
        phase: watch::Sender<Phase>,
        open_calls: Arc<AtomicUsize>,
    }

    fn bench(deadline: Option<Instant>) -> Bench {
        let (send, source) = mpsc::unbounded_channel();
        let (asked, decided) = mpsc::unbounded_channel();
        let (let_decide, told) = oneshot::channel();
        let desk = Desk { asked, decided: Some(told) };
        let (phase, seen) = watch::channel(Phase::Serving);
        let open_calls = Arc::new(AtomicUsize::new(0));
        let source = UnboundedReceiverStream::new(source);
        let open = OpenCall::new(&open_calls);
        let stream = AuthoriseStream::new(source, desk, deadline, seen, open);
        Bench { send: Some(send), stream, decided, let_decide: Some(let_decide), phase, open_calls }
    }

    impl Bench {
        fn send(&self, correlation: u64, key: &str) {
            self.send_within(correlation, key, None);
        }

        fn send_within(&self, correlation: u64, key: &str, answer_within: Option<prost_types::Duration>) {
            let request = proto::AuthoriseRequest {
                transaction_id: key.to_owned(),
                kind: 1,
                card_token: "tok".to_owned(),
                amount: Some(proto::Money { currency_code: "USD".to_owned(), minor_units: 1 }),
                merchant: Some(proto::Merchant { merchant_id: "M".to_owned(), ..Default::default() }),
                ..Default::default()
            };
            self.send_item(AuthoriseItem { correlation, request: Some(request), answer_within });
        }

        fn send_item(&self, item: AuthoriseItem) {
            self.send.as_ref().expect("not closed yet").send(Ok(item)).expect("the stream reads");
        }

        fn half_close(&mut self) {
            self.send = None;
        }

        /// Polls once; `None` where nothing is there yet. Unconstrained, since tokio's budget would have the test's
        /// own channel seem empty now and then.
        async fn poll(&mut self) -> Option<Option<Result<AuthoriseItemResult, Status>>> {
            tokio::task::unconstrained(poll_fn(|cx| {
                Poll::Ready(match Pin::new(&mut self.stream).poll_next(cx) {
                    Poll::Ready(next) => Some(next),
                    Poll::Pending => None,
                })
            }))
            .await
        }

        async fn next(&mut self) -> AuthoriseItemResult {
            self.stream.next().await.expect("not ended").expect("not failed")
        }
    }

    fn approved(position: u64) -> Result<Answered<AuthAnswer>, Fault> {
        let answer = AuthAnswer {
            decision: Decision::Approved,
            response_code: ResponseCode::APPROVED,
            advice_code: None,
            approved: None,
            available: None,
            reasons: Reasons::new(),
            score: 0,
            margin: None,
            rules_version: Label::Static("r"),
            model_version: Label::Static(""),
            degraded: Degraded::NONE,
            decided_at: Timestamp(0),
            hold_expires_at: None,
            position,
        };
        Ok(Answered { answer, replayed: false })
    }

    fn error_code(result: &AuthoriseItemResult) -> Option<Code> {
        match result.result.as_ref().expect("one result") {
            ItemResult::Response(_) => None,
            ItemResult::Error(status) => Some(Code::from(status.code)),
        }
    }

    #[tokio::test]
    async fn one_bad_item_ends_no_stream_and_touches_no_other() {
        let mut bench = bench(None);
        bench.send(1, "t-1");
        bench.send_item(AuthoriseItem { correlation: 2, request: None, answer_within: None });
        bench.send(3, "a\0b");
        bench.send(4, "panic");
        bench.send(5, "t-5");
        bench.half_close();
        for (correlation, transaction_id, code) in
            [(2, "", Code::InvalidArgument), (3, "", Code::InvalidArgument), (4, "panic", Code::Internal)]
        {
            let result = bench.next().await;
            assert_eq!((result.correlation, result.transaction_id.as_str()), (correlation, transaction_id));
            assert_eq!(error_code(&result), Some(code), "{result:?}");
        }
        assert!(bench.poll().await.is_none(), "two answers are still due");
        for position in [1, 2] {
            let (.., settle) = bench.decided.recv().await.unwrap();
            settle.send(approved(position)).unwrap();
        }
        for (correlation, transaction_id, position) in [(1, "t-1", 1), (5, "t-5", 2)] {
            let result = bench.next().await;
            let Some(ItemResult::Response(response)) = result.result else { panic!("{result:?}") };
            assert_eq!((result.correlation, result.transaction_id.as_str()), (correlation, transaction_id));
            assert_eq!((response.position, response.transaction_id.as_str()), (position, transaction_id));
        }
        assert!(bench.stream.next().await.is_none(), "then the stream ends OK");
    }

    #[tokio::test]
    async fn a_repeat_from_disk_holds_up_nobody() {
        let mut bench = bench(None);
        for (correlation, key) in [(1, "repeat"), (2, "t-2")] {
            bench.send(correlation, key);
        }
        assert!(bench.poll().await.is_none());
        let (.., slow) = bench.decided.recv().await.unwrap();
        let (.., quick) = bench.decided.recv().await.unwrap();
        quick.send(approved(9)).unwrap();
        assert_eq!(bench.next().await.correlation, 2);
        slow.send(approved(3)).unwrap();
        assert_eq!(bench.next().await.correlation, 1);
    }

    #[tokio::test]
    async fn nothing_is_decided_before_what_came_earlier_and_is_not_decided_yet() {
        let mut bench = bench(None);
        for (correlation, key) in [(1, "t-1"), (2, "undecided"), (3, "t-3"), (4, "t-4")] {
            bench.send(correlation, key);
        }
        assert!(bench.poll().await.is_none());
        let (.., first) = bench.decided.recv().await.unwrap();
        let (.., second) = bench.decided.recv().await.unwrap();
        first.send(approved(1)).unwrap();
        assert_eq!(bench.next().await.correlation, 1, "answers go on meanwhile");
        assert!(bench.poll().await.is_none());
        assert!(bench.decided.is_empty(), "nothing is read behind it");
        bench.let_decide.take().unwrap().send(()).unwrap();
        assert!(bench.poll().await.is_none());
        assert_eq!(bench.decided.len(), 2, "decided, though its answer is not there yet");
        second.send(approved(2)).unwrap();
        for (correlation, position) in [(2, 3), (3, 4), (4, 5)] {
            if correlation > 2 {
                let (.., settle) = bench.decided.recv().await.unwrap();
                settle.send(approved(position)).unwrap();
            }
            assert_eq!(bench.next().await.correlation, correlation);
        }
    }

    #[tokio::test]
    async fn a_full_stream_is_slowed_and_not_shed() {
        let mut bench = bench(None);
        let items = STREAM_IN_FLIGHT_MAX as u64 + 10;
        for correlation in 0..items {
            bench.send(correlation, "t");
        }
        bench.half_close();
        assert!(bench.poll().await.is_none());
        assert_eq!(bench.decided.len(), STREAM_IN_FLIGHT_MAX);
        let (.., settle) = bench.decided.recv().await.unwrap();
        settle.send(approved(1)).unwrap();
        assert_eq!(bench.next().await.correlation, 0);
        assert!(bench.poll().await.is_none());
        assert_eq!(bench.decided.len(), STREAM_IN_FLIGHT_MAX, "one answered, one more read");
        for correlation in 1..items {
            if bench.decided.is_empty() {
                assert!(bench.poll().await.is_none(), "the rest is read now");
            }
            let (.., settle) = bench.decided.recv().await.unwrap();
            settle.send(approved(correlation)).unwrap();
            let result = bench.next().await;
            assert_eq!((result.correlation, error_code(&result)), (correlation, None));
        }
        assert!(bench.stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_broken_message_ends_the_stream_after_the_answers_to_what_was_read() {
        let mut bench = bench(None);
        bench.send(1, "t-1");
        bench.send.as_ref().unwrap().send(Err(Status::internal("not protobuf"))).unwrap();
        bench.send(2, "t-2");
        assert!(bench.poll().await.is_none());
        let (.., settle) = bench.decided.recv().await.unwrap();
        settle.send(approved(1)).unwrap();
        assert_eq!(bench.next().await.correlation, 1);
        assert_eq!(bench.stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
        assert!(bench.decided.is_empty(), "what came after the broken message is not decided");
        assert!(bench.stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_drain_answers_what_was_read_refuses_what_comes_and_ends() {
        let mut bench = bench(None);
        bench.send(1, "t-1");
        assert!(bench.poll().await.is_none());
        bench.phase.send_replace(Phase::Draining { until: Instant::now() + Duration::from_millis(200) });
        assert!(bench.poll().await.is_none());
        bench.send(2, "t-2");
        let refused = bench.next().await;
        assert_eq!((refused.correlation, error_code(&refused)), (2, Some(Code::Unavailable)));
        let Some(ItemResult::Error(status)) = refused.result else { panic!("{refused:?}") };
        assert_eq!(status.get_details_error_info().unwrap().reason, status::DRAINING);
        let (.., settle) = bench.decided.recv().await.unwrap();
        assert!(bench.decided.is_empty());
        settle.send(approved(1)).unwrap();
        assert_eq!(bench.next().await.correlation, 1);
        assert_eq!(bench.open_calls.load(Ordering::Relaxed), 1);
        let end = bench.stream.next().await.unwrap().unwrap_err();
        assert_eq!(end.code(), Code::Unavailable, "the silence of a client ends the stream");
        drop(bench.stream);
        assert_eq!(bench.open_calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_earlier_of_two_bounds_holds_and_the_calls_own_ends_the_stream() {
        let call = Instant::now() + Duration::from_millis(100);
        let mut bench = bench(Some(call));
        let within = |millis: i32| prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 };
        for (correlation, answer_within) in [(1, None), (2, Some(within(1))), (3, Some(within(900)))] {
            bench.send_within(correlation, "t", answer_within);
            assert!(bench.poll().await.is_none());
            let (_, deadline, settle) = bench.decided.recv().await.unwrap();
            let deadline = deadline.expect("the call has one");
            assert_eq!(deadline < call, correlation == 2, "item {correlation}");
            settle.send(approved(correlation)).unwrap();
            assert_eq!(bench.next().await.correlation, correlation);
        }
        let end = bench.stream.next().await.unwrap().unwrap_err();
        assert_eq!(end.code(), Code::DeadlineExceeded);
        assert!(Instant::now() >= call);
    }
}
