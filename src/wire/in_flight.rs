//! Answers that one call still waits for: kept in the order of their requests, given out as they become durable.
//!
//! Records of one call become durable in the order they were decided, so only the front of the queue is ever asked;
//! repeats, which may need a read from disk, wait aside. One that cannot be decided yet, because its key may stand in a
//! key file or is being decided elsewhere, blocks the call: nothing is read until it is decided. Deliberately absent: a
//! task or a channel per answer.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    engine::{Answered, Pending},
    types::fault::Fault,
};

/// An answer to wait for.
pub(super) trait Awaited: Future<Output = Result<Self::Answer, Fault>> + Unpin {
    type Answer;

    /// See [`Pending::poll_decided`].
    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<bool>;
}

impl<T: Send + 'static> Awaited for Pending<T> {
    type Answer = Answered<T>;

    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        Pending::poll_decided(self, cx)
    }
}

/// What one call waits for, each with a tag that says which request it answers.
pub(super) struct InFlight<Tag, P> {
    queue: VecDeque<(Tag, P)>,
    /// The newest one, where it is not decided yet.
    undecided: Option<(Tag, P)>,
    /// Bounded by the caller's own bound on everything in flight, so asking each in turn is bounded as well.
    aside: Vec<(Tag, P)>,
}

impl<Tag, P: Awaited> InFlight<Tag, P> {
    pub(super) fn new() -> Self {
        InFlight { queue: VecDeque::new(), undecided: None, aside: Vec::new() }
    }

    /// Adds an answer to wait for, of a request that was read while nothing was undecided.
    pub(super) fn push(&mut self, tag: Tag, pending: P, cx: &mut Context<'_>) {
        debug_assert!(self.undecided.is_none(), "nothing is read behind what is not decided");
        self.undecided = Some((tag, pending));
        self.settle_undecided(cx);
    }

    /// Whether nothing may be read, because what was read last is not decided.
    pub(super) fn is_blocked(&self) -> bool {
        self.undecided.is_some()
    }

    fn settle_undecided(&mut self, cx: &mut Context<'_>) {
        let Some((tag, mut pending)) = self.undecided.take() else { return };
        match poll_decided_shielded(&mut pending, cx) {
            Poll::Pending => self.undecided = Some((tag, pending)),
            Poll::Ready(true) => self.queue.push_back((tag, pending)),
            Poll::Ready(false) => self.aside.push((tag, pending)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.aside.len() + usize::from(self.is_blocked())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next answer that is there. Pending also where nothing is in flight: then nobody will wake.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(Tag, Result<P::Answer, Fault>)> {
        self.settle_undecided(cx);
        if let Some((_, pending)) = self.queue.front_mut()
            && let Poll::Ready(result) = poll_shielded(pending, cx)
        {
            let (tag, _) = self.queue.pop_front().expect("the front was polled a moment ago");
            return Poll::Ready((tag, result));
        }
        for index in 0..self.aside.len() {
            if let Poll::Ready(result) = poll_shielded(&mut self.aside[index].1, cx) {
                let (tag, _) = self.aside.swap_remove(index);
                return Poll::Ready((tag, result));
            }
        }
        Poll::Pending
    }
}

/// Polls, and turns a panic into a fault of this one answer, so that its neighbours in the call are not lost.
pub(super) fn poll_shielded<P: Awaited>(
    pending: &mut P,
    cx: &mut Context<'_>,
) -> Poll<Result<P::Answer, Fault>> {
    catch_unwind(AssertUnwindSafe(|| Pin::new(pending).poll(cx))).unwrap_or(Poll::Ready(Err(Fault::Internal)))
}

/// Polls whether it is decided. One that panics is: its fault comes out when it is asked for its answer.
pub(super) fn poll_decided_shielded(pending: &mut impl Awaited, cx: &mut Context<'_>) -> Poll<bool> {
    catch_unwind(AssertUnwindSafe(|| pending.poll_decided(cx))).unwrap_or(Poll::Ready(false))
}

/// Runs one request's synchronous part, and turns a panic into a fault of that request alone.
pub(super) fn shielded<T>(decide: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|_| Fault::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        rc::Rc,
        task::{Waker, ready},
    };

    /// Settles when told to, and panics when told so; decided when told where it belongs.
    struct Held(Rc<Cell<Option<u32>>>, Rc<Cell<Option<bool>>>);

    const PANIC: u32 = u32::MAX;

    impl Future for Held {
        type Output = Result<u32, Fault>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            match self.0.get() {
                Some(PANIC) => panic!("told to"),
                Some(value) => Poll::Ready(Ok(value)),
                None => Poll::Pending,
            }
        }
    }

    impl Awaited for Held {
        type Answer = u32;

        fn poll_decided(&mut self, _: &mut Context<'_>) -> Poll<bool> {
            self.1.get().map_or(Poll::Pending, Poll::Ready)
        }
    }

    type Set<T> = Rc<Cell<Option<T>>>;

    fn held(decided: Option<bool>) -> (Held, Set<u32>, Set<bool>) {
        let (answer, decided) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(decided)));
        (Held(Rc::clone(&answer), Rc::clone(&decided)), answer, decided)
    }

    fn push(in_flight: &mut InFlight<char, Held>, tag: char, held: Held) {
        in_flight.push(tag, held, &mut Context::from_waker(Waker::noop()));
    }

    fn all_ready(in_flight: &mut InFlight<char, Held>) -> Vec<(char, Result<u32, Fault>)> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut found = Vec::new();
        let _: Poll<()> = (|| {
            loop {
                found.push(ready!(in_flight.poll_next(&mut cx)));
            }
        })();
        found
    }

    #[test]
    fn a_repeat_overtakes_and_the_others_keep_their_order() {
        let mut in_flight = InFlight::new();
        let [(a, set_a, _), (b, set_b, _), (c, set_c, _)] =
            [held(Some(true)), held(Some(true)), held(Some(false))];
        push(&mut in_flight, 'a', a);
        push(&mut in_flight, 'b', b);
        push(&mut in_flight, 'c', c);
        assert_eq!(all_ready(&mut in_flight), []);
        set_b.set(Some(2));
        assert_eq!(all_ready(&mut in_flight), [], "b stands behind a");
        set_c.set(Some(3));
        assert_eq!(all_ready(&mut in_flight), [('c', Ok(3))]);
        set_a.set(Some(1));
        assert_eq!(all_ready(&mut in_flight), [('a', Ok(1)), ('b', Ok(2))]);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_panic_in_one_answer_leaves_its_neighbours() {
        let mut in_flight = InFlight::new();
        let [(a, set_a, _), (b, set_b, _)] = [held(Some(true)), held(Some(true))];
        push(&mut in_flight, 'a', a);
        push(&mut in_flight, 'b', b);
        set_a.set(Some(PANIC));
        set_b.set(Some(2));
        assert_eq!(all_ready(&mut in_flight), [('a', Err(Fault::Internal)), ('b', Ok(2))]);
        assert_eq!(shielded(|| -> u32 { panic!("told to") }), Err(Fault::Internal));
    }

    #[test]
    fn what_is_not_decided_blocks_until_it_is_and_then_takes_its_place() {
        for in_order in [true, false] {
            let mut in_flight = InFlight::new();
            let [(a, set_a, _), (b, set_b, decide_b)] = [held(Some(true)), held(None)];
            push(&mut in_flight, 'a', a);
            push(&mut in_flight, 'b', b);
            assert!(in_flight.is_blocked());
            assert_eq!(in_flight.len(), 2);
            decide_b.set(Some(in_order));
            set_b.set(Some(2));
            let first = all_ready(&mut in_flight);
            assert!(!in_flight.is_blocked());
            assert_eq!(first, if in_order { vec![] } else { vec![('b', Ok(2))] }, "a is not there yet");
            set_a.set(Some(1));
            assert_eq!(all_ready(&mut in_flight).len(), 2 - first.len());
        }
    }
}
