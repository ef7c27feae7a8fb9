//! Where replies wait for the disk: one lane per runtime.
//!
//! The journal thread stores the durable position and wakes one task per lane, [`Lane::run`]; that task wakes the
//! waiters of its own runtime, which costs no system call. Waking every waiter from the journal thread took a quarter
//! more CPU per request when it was measured. A lane never touches the disk and knows no records, only positions.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::error::Stopped;

/// How far the journal has come; shared by the journal thread, all lanes and all readers.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) durable: AtomicU64,
    pub(super) stopped: AtomicBool,
}

/// The waiting room of one runtime.
pub struct Lane {
    progress: Arc<Progress>,
    /// The lowest position that somebody waits for here; `u64::MAX` for none.
    awaited: AtomicU64,
    notify: Notify,
    /// Taken by tasks of one runtime and, for no longer than a few moves, never across an await: uncontended.
    waiters: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    by_position: BinaryHeap<Reverse<(u64, u32)>>,
    seats: Vec<Seat>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Seat {
    /// Nobody, where the future was dropped before its position was durable.
    waker: Option<Waker>,
    /// Which use of the seat this is, so that an old ticket does not touch a new waiter.
    turn: u64,
}

#[derive(Clone, Copy)]
struct Ticket {
    seat: u32,
    turn: u64,
}

/// Resolves when its position is durable, or with [`Stopped`] when it will not be known to be.
///
/// Creating one allocates nothing and registers nothing; that happens at the first poll that has to wait. It can be
/// polled again after it has resolved, and moved on to another position: a stream keeps one for the head of its
/// queue.
#[must_use = "a future does nothing until it is polled"]
pub struct Durable {
    lane: Arc<Lane>,
    position: u64,
    ticket: Option<Ticket>,
}

impl Lane {
    pub(super) fn new(progress: Arc<Progress>) -> Lane {
        Lane {
            progress,
            awaited: AtomicU64::new(u64::MAX),
            notify: Notify::new(),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    /// Waits until `position` is durable.
    pub fn durable(self: &Arc<Lane>, position: u64) -> Durable {
        Durable { lane: Arc::clone(self), position, ticket: None }
    }

    /// Wakes this lane's waiters as their positions become durable; returns when the journal has stopped. To be
    /// spawned once, on the runtime whose tasks wait here.
    pub async fn run(self: Arc<Lane>) {
        let mut due = Vec::new();
        loop {
            let stopped = self.progress.stopped.load(Ordering::SeqCst);
            self.collect_due(stopped, &mut due);
            for waker in due.drain(..) {
                waker.wake();
            }
            if stopped {
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Called by the journal thread after it has moved the durable position or stopped.
    pub(super) fn announce(&self) {
        fence(Ordering::SeqCst);
        let reached = self.awaited.load(Ordering::SeqCst) <= self.progress.durable.load(Ordering::SeqCst);
        if reached || self.progress.stopped.load(Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    /// Whether waiting for `position` is over.
    fn settled(&self, position: u64) -> Option<Result<(), Stopped>> {
        // In this order: what became durable before the stop is durable.
        let stopped = self.progress.stopped.load(Ordering::SeqCst);
        if self.progress.durable.load(Ordering::SeqCst) >= position {
            Some(Ok(()))
        } else if stopped {
            Some(Err(Stopped))
        } else {
            None
        }
    }

    fn collect_due(&self, all: bool, due: &mut Vec<Waker>) {
        let durable = self.progress.durable.load(Ordering::SeqCst);
        let mut waiters = self.waiters.lock();
        while let Some(Reverse((position, seat))) = waiters.by_position.peek().copied() {
            if position > durable && !all {
                break;
            }
            waiters.by_position.pop();
            let taken = &mut waiters.seats[seat as usize];
            taken.turn += 1;
            due.extend(taken.waker.take());
            waiters.free.push(seat);
        }
        self.note_lowest(&waiters);
    }

    /// Registers `waker`, or renews it under the ticket that is still valid.
    fn register(&self, position: u64, ticket: Option<Ticket>, waker: &Waker) -> Ticket {
        let mut waiters = self.waiters.lock();
        if let Some(ticket) = ticket {
            let seat = &mut waiters.seats[ticket.seat as usize];
            if seat.turn == ticket.turn {
                match &mut seat.waker {
                    Some(old) => old.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                return ticket;
            }
        }
        let seat = match waiters.free.pop() {
            Some(seat) => seat,
            None => {
                waiters.seats.push(Seat::default());
                (waiters.seats.len() - 1) as u32
            }
        };
        let taken = &mut waiters.seats[seat as usize];
        taken.waker = Some(waker.clone());
        let turn = taken.turn;
        waiters.by_position.push(Reverse((position, seat)));
        self.note_lowest(&waiters);
        Ticket { seat, turn }
    }

    fn leave(&self, ticket: Ticket) {
        let mut waiters = self.waiters.lock();
        let seat = &mut waiters.seats[ticket.seat as usize];
        // The seat itself is freed when its position is durable, which is when the heap lets go of it.
        if seat.turn == ticket.turn {
            seat.waker = None;
        }
    }

    fn note_lowest(&self, waiters: &Waiters) {
        let lowest = waiters.by_position.peek().map_or(u64::MAX, |Reverse((position, _))| *position);
        self.awaited.store(lowest, Ordering::SeqCst);
        // Either the journal thread sees this, or the caller sees the position that the journal thread stored.
        fence(Ordering::SeqCst);
    }
}

impl Durable {
    /// The position waited for.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Waits for `position` from now on.
    pub fn move_to(&mut self, position: u64) {
        if position != self.position {
            self.leave();
            self.position = position;
        }
    }

    /// As [`Future::poll`], for streams that keep this among their fields.
    pub fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        if let Some(settled) = self.lane.settled(self.position) {
            self.leave();
            return Poll::Ready(settled);
        }
        self.ticket = Some(self.lane.register(self.position, self.ticket, cx.waker()));
        // The position may have been reached between the first look and the registration.
        match self.lane.settled(self.position) {
            Some(settled) => {
                self.leave();
                Poll::Ready(settled)
            }
            None => Poll::Pending,
        }
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.lane.leave(ticket);
        }
    }
}

impl Future for Durable {
    type Output = Result<(), Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_durable(cx)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicUsize,
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn lane() -> (Arc<Progress>, Arc<Lane>) {
        let progress = Arc::new(Progress::default());
        let lane = Arc::new(Lane::new(Arc::clone(&progress)));
        (progress, lane)
    }

    fn advance(progress: &Progress, lane: &Lane, durable: u64) {
        progress.durable.store(durable, Ordering::SeqCst);
        lane.announce();
    }

    #[test]
    fn a_durable_position_is_ready_without_registering() {
        let (progress, lane) = lane();
        advance(&progress, &lane, 5);
        let mut wait = lane.durable(5);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(wait.poll_durable(&mut cx), Poll::Ready(Ok(())));
        assert!(lane.waiters.lock().seats.is_empty());
    }

    #[test]
    fn one_group_wakes_the_runner_once_and_the_runner_wakes_all_that_are_due() {
        let (progress, lane) = lane();
        let runner_wakes = Arc::new(Count::default());
        let runner_waker = Waker::from(Arc::clone(&runner_wakes));
        let mut runner = Box::pin(Arc::clone(&lane).run());
        let mut runner_cx = Context::from_waker(&runner_waker);
        assert!(runner.as_mut().poll(&mut runner_cx).is_pending());

        let wakes: Vec<Arc<Count>> = (0..10).map(|_| Arc::default()).collect();
        let mut waits: Vec<Durable> = (0..10).map(|index| lane.durable(10 - index)).collect();
        for (wait, count) in waits.iter_mut().zip(&wakes) {
            let waker = Waker::from(Arc::clone(count));
            // Twice, as a select would: a second poll must not register a second time.
            assert!(wait.poll_durable(&mut Context::from_waker(&waker)).is_pending());
            assert!(wait.poll_durable(&mut Context::from_waker(&waker)).is_pending());
        }
        advance(&progress, &lane, 7);
        assert_eq!(runner_wakes.get(), 1);
        assert!(runner.as_mut().poll(&mut runner_cx).is_pending());
        let woken: Vec<usize> = wakes.iter().map(|count| count.get()).collect();
        assert_eq!(woken, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1], "positions 10 to 1, of which 7 are durable");

        advance(&progress, &lane, 7);
        assert_eq!(runner_wakes.get(), 1, "nobody is waiting for this");
        progress.stopped.store(true, Ordering::SeqCst);
        lane.announce();
        assert!(runner.as_mut().poll(&mut runner_cx).is_ready());
        assert!(wakes.iter().all(|count| count.get() == 1));
        let mut cx = Context::from_waker(Waker::noop());
        let results: Vec<_> = waits.iter_mut().map(|wait| wait.poll_durable(&mut cx)).collect();
        assert!(results[..3].iter().all(|result| *result == Poll::Ready(Err(Stopped))));
        assert!(results[3..].iter().all(|result| *result == Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_dropped_wait_wakes_nobody_and_its_seat_is_used_again() {
        let (progress, lane) = lane();
        let mut runner = Box::pin(Arc::clone(&lane).run());
        let mut cx = Context::from_waker(Waker::noop());
        for round in 1..=100 {
            let count = Arc::new(Count::default());
            let waker = Waker::from(Arc::clone(&count));
            let mut wait = lane.durable(round);
            assert!(wait.poll_durable(&mut Context::from_waker(&waker)).is_pending());
            drop(wait);
            advance(&progress, &lane, round);
            assert!(runner.as_mut().poll(&mut cx).is_pending());
            assert_eq!(count.get(), 0);
        }
        assert_eq!(lane.waiters.lock().seats.len(), 1);
    }

    #[test]
    fn a_position_reached_while_registering_is_not_missed() {
        let (progress, lane) = lane();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let journal = {
            let (progress, lane) = (Arc::clone(&progress), Arc::clone(&lane));
            std::thread::spawn(move || {
                for position in 1..=20_000 {
                    advance(&progress, &lane, position);
                }
            })
        };
        runtime.block_on(async {
            let runner = tokio::spawn(Arc::clone(&lane).run());
            for position in 1..=20_000 {
                assert_eq!(lane.durable(position).await, Ok(()));
            }
            progress.stopped.store(true, Ordering::SeqCst);
            lane.announce();
            runner.await.expect("the runner ends");
        });
        journal.join().expect("the journal ends");
    }
}
