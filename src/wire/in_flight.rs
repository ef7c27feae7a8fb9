//! Answers that one call still waits for: kept in the order of their requests, given out as they become durable.
//!
//! Records of one call become durable in the order they were decided, so only the front of the queue is ever asked;
//! repeats, which may need a read from disk, wait aside. Deliberately absent: a task or a channel per answer.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use crate::types::fault::Fault;

/// What one call waits for, each with a tag that says which request it answers.
pub(super) struct InFlight<Tag, P> {
    queue: VecDeque<(Tag, P)>,
    /// Bounded by the caller's own bound on everything in flight, so asking each in turn is bounded as well.
    aside: Vec<(Tag, P)>,
}

impl<Tag, P, T> InFlight<Tag, P>
where
    P: Future<Output = Result<T, Fault>> + Unpin,
{
    pub(super) fn new() -> Self {
        InFlight { queue: VecDeque::new(), aside: Vec::new() }
    }

    /// Adds an answer to wait for. `in_order` says that it cannot become durable before those pushed earlier.
    pub(super) fn push(&mut self, tag: Tag, pending: P, in_order: bool) {
        if in_order {
            self.queue.push_back((tag, pending));
        } else {
            self.aside.push((tag, pending));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.aside.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next answer that is there. Pending also where nothing is in flight: then nobody will wake.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(Tag, Result<T, Fault>)> {
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
pub(super) fn poll_shielded<P, T>(pending: &mut P, cx: &mut Context<'_>) -> Poll<Result<T, Fault>>
where
    P: Future<Output = Result<T, Fault>> + Unpin,
{
    catch_unwind(AssertUnwindSafe(|| Pin::new(pending).poll(cx))).unwrap_or(Poll::Ready(Err(Fault::Internal)))
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

    /// Settles when told to, and panics when told so.
    struct Held(Rc<Cell<Option<u32>>>);

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

    fn held() -> (Held, Rc<Cell<Option<u32>>>) {
        let cell = Rc::new(Cell::new(None));
        (Held(Rc::clone(&cell)), cell)
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
        let [(a, set_a), (b, set_b), (c, set_c)] = [held(), held(), held()];
        in_flight.push('a', a, true);
        in_flight.push('b', b, true);
        in_flight.push('c', c, false);
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
        let [(a, set_a), (b, set_b)] = [held(), held()];
        in_flight.push('a', a, true);
        in_flight.push('b', b, true);
        set_a.set(Some(PANIC));
        set_b.set(Some(2));
        assert_eq!(all_ready(&mut in_flight), [('a', Err(Fault::Internal)), ('b', Ok(2))]);
        assert_eq!(shielded(|| -> u32 { panic!("told to") }), Err(Fault::Internal));
    }
}
