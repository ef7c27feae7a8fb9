//! The engine's time: the clock's, but never going back, and never running ahead of the monotonic clock by more
//! than a bound.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::types::{
    auth::AuthRequest,
    time::{Clock, MINUTE_MS, Timestamp},
};

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// How far the clock may run ahead of the time that has passed by the monotonic clock.
const LEAD_MAX_MS: i64 = MINUTE_MS;

/// Where the engine's time comes from.
pub enum TimeSource {
    Clock(Box<dyn Clock>),
    /// Every request brings its own time; demo, backtest, conformance and tests alone.
    Transactions,
}

/// `max(last, clock)` in milliseconds; events of one millisecond are told apart by their sequence.
///
/// A clock that jumps ahead is followed only up to [`LEAD_MAX_MS`] beyond what the monotonic clock has counted since
/// the start, so that a wrong clock expires no hold early; [`EngineTime::frozen`] says so until it comes back.
pub struct EngineTime {
    source: TimeSource,
    last_ms: AtomicI64,
    started: Instant,
    started_at: Timestamp,
    frozen: AtomicBool,
}

impl EngineTime {
    /// `last` is the time of the newest record.
    pub fn new(source: TimeSource, last: Timestamp) -> EngineTime {
        let started_at = match &source {
            TimeSource::Clock(clock) => clock.now().max(last),
            TimeSource::Transactions => last,
        };
        EngineTime {
            source,
            last_ms: AtomicI64::new(started_at.0),
            started: Instant::now(),
            started_at,
            frozen: AtomicBool::new(false),
        }
    }

    /// The time of something that happens now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// [`EngineTime::now`] for a caller that has just read the monotonic clock.
    fn at(&self, now: Instant) -> Timestamp {
        match &self.source {
            TimeSource::Transactions => Timestamp(self.last_ms.load(Ordering::Relaxed)),
            TimeSource::Clock(clock) => {
                let elapsed = now.saturating_duration_since(self.started);
                let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
                let bound = self.started_at.plus_ms(elapsed_ms).plus_ms(LEAD_MAX_MS);
                let clock = clock.now();
                let frozen = clock > bound;
                // All threads read this at every request: written only where it changes.
                if self.frozen.load(Ordering::Relaxed) != frozen {
                    self.frozen.store(frozen, Ordering::Relaxed);
                }
                self.advance(clock.min(bound))
            }
        }
    }

    /// The time of a request that arrived at `now`.
    pub fn at_door(&self, request: &AuthRequest, now: Instant) -> Timestamp {
        match (&self.source, request.transaction_time) {
            (TimeSource::Transactions, Some(time)) => self.advance(time),
            _ => self.at(now),
        }
    }

    /// The latest transaction time that is not too far ahead; unbounded where transactions make the time.
    pub fn latest_acceptable(&self, ahead_ms: i64) -> Timestamp {
        match self.source {
            TimeSource::Transactions => Timestamp(i64::MAX),
            TimeSource::Clock(_) => self.now().plus_ms(ahead_ms),
        }
    }

    /// How far the engine's time is ahead of the clock, which it is after the clock stepped back; below zero where the
    /// clock jumped ahead and is not believed. 0 where transactions make the time.
    pub fn lead_ms(&self) -> i64 {
        match &self.source {
            TimeSource::Transactions => 0,
            TimeSource::Clock(clock) => self.now().since_ms(clock.now()),
        }
    }

    /// Whether the clock has jumped further ahead than is believed.
    pub fn frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    fn advance(&self, time: Timestamp) -> Timestamp {
        let last = self.last_ms.load(Ordering::Relaxed);
        // Most requests share their millisecond with another, and then nobody has to write.
        if last >= time.0 {
            return Timestamp(last);
        }
        Timestamp(self.last_ms.fetch_max(time.0, Ordering::Relaxed).max(time.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::time::{DAY_MS, HOUR_MS};

    struct Hand(Arc<AtomicI64>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_clock_that_steps_back_does_not_take_the_engine_with_it() {
        let hand = Arc::new(AtomicI64::new(10 * DAY_MS));
        let time = EngineTime::new(TimeSource::Clock(Box::new(Hand(hand.clone()))), Timestamp(0));
        assert_eq!(time.now(), Timestamp(10 * DAY_MS));
        hand.store(10 * DAY_MS - HOUR_MS, Ordering::Relaxed);
        assert_eq!(time.now(), Timestamp(10 * DAY_MS));
        assert!(!time.frozen());
    }

    #[test]
    fn a_clock_that_jumps_ten_years_ahead_expires_no_hold_early() {
        let hand = Arc::new(AtomicI64::new(10 * DAY_MS));
        let time = EngineTime::new(TimeSource::Clock(Box::new(Hand(hand.clone()))), Timestamp(0));
        hand.store(3_650 * DAY_MS, Ordering::Relaxed);
        assert!(time.now() < Timestamp(10 * DAY_MS + HOUR_MS));
        assert!(time.frozen());
        hand.store(10 * DAY_MS + 5, Ordering::Relaxed);
        time.now();
        assert!(!time.frozen());
    }
}
