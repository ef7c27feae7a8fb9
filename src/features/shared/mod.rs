//! Windows over keys that cross accounts: a merchant's, a device's, an address's; and over labels by any key, a card's and an
//! account's among them.
//!
//! They are a pure function of the journal up to a position. Whoever decides reads them before the account's lock is
//! taken and stores what was read with the decision, and up to which position it was complete.
//!
//! Exact per event, by the definition that an account's windows have, up to [`SHARED_EVENTS_PER_KEY_MAX`] events of a
//! key; beyond it the oldest are summarised as an account's are. All keys share one budget of bytes ([`tracks`]); a key
//! that had to go reads unknown, never zero, until its windows have passed ([`evicted`]).
//!
//! Deliberately absent: locks and threads (the engine's), and anything that a read could change.
//!
//! [`SHARED_EVENTS_PER_KEY_MAX`]: crate::limits::SHARED_EVENTS_PER_KEY_MAX

mod event;
mod evicted;
mod plan;
mod read;
mod rows;
mod stored;
mod track;
mod tracks;

use arrayvec::ArrayVec;

pub use event::{Parts, SharedEvent};
pub use plan::{READINGS_MAX, SharedPlan};
pub use read::{Owner, SharedRead};
pub use stored::SharedDecodeError;

use crate::types::time::Timestamp;
use plan::Series;
use tracks::{Found, Tracks};

/// Bytes of one key in one series, without its events; its place in the table included.
pub const KEY_BYTES: usize = tracks::TRACK_BYTES + size_of::<u32>() * 4 / 3;

/// Bytes of one event, where so many attributes are counted distinctly.
pub const fn event_bytes(attributes: usize) -> usize {
    size_of::<u32>() * (rows::FIXED_WORDS + attributes)
}

/// What one aggregate reads: a number of events or of different values, or minor units of the base currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SharedValue {
    /// `None` where a part of the key was not sent, where there is no event to measure, and where some of what the
    /// window holds was forgotten.
    pub value: Option<i64>,
    /// More events went into it than are kept one by one: a count or a sum is never too low.
    pub saturated: bool,
}

/// What the windows of all keys hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SharedFigures {
    /// Keys kept, once for each series they are in.
    pub keys: usize,
    /// Heap bytes, of which a part is taken from the start.
    pub bytes: usize,
    /// Events kept one by one.
    pub events: u64,
    /// Keys that made way for others, since the first event.
    pub evicted_keys: u64,
    /// Keys of which some events are kept in summaries only.
    pub saturated_keys: usize,
}

/// The windows of all keys. Every call must be given the plan that they were made for.
pub struct Shared {
    fingerprint: [u8; 16],
    complete_to: u64,
    /// Time of the newest event there was.
    newest_ms: i64,
    tracks: Tracks,
    /// Words of a row for each series.
    widths: Vec<usize>,
}

impl Shared {
    /// `budget_bytes` bounds what is taken from the heap, but for what one event adds before others make way. What is
    /// below [`SHARED_BUDGET_BYTES_MIN`](crate::limits::SHARED_BUDGET_BYTES_MIN) is taken for it.
    pub fn new(plan: &SharedPlan, budget_bytes: usize) -> Shared {
        Shared {
            fingerprint: plan.fingerprint(),
            complete_to: 0,
            newest_ms: i64::MIN,
            tracks: Tracks::new(plan, budget_bytes),
            widths: plan.series.iter().map(Series::width).collect(),
        }
    }

    /// Everything that happened up to this position was taken in; 0 for nothing.
    pub fn complete_to(&self) -> u64 {
        self.complete_to
    }

    /// Takes in what the record at `position` did; `None` for nothing that windows remember. Positions come in
    /// ascending order; one that was taken in already changes nothing.
    pub fn apply(&mut self, plan: &SharedPlan, position: u64, event: Option<&SharedEvent>) {
        if position <= self.complete_to {
            return;
        }
        self.complete_to = position;
        if let Some(event) = event {
            self.take_in(plan, event);
        }
    }

    /// Takes in what no record says, such as a label whose time has come in a history without a journal.
    pub fn take_in(&mut self, plan: &SharedPlan, event: &SharedEvent) {
        let time_ms = event.event.time.0;
        self.newest_ms = self.newest_ms.max(time_ms);
        let passed = plan.passed_by(&event.event);
        let taking = plan.series.iter().zip(&self.widths).filter(|(series, _)| series.takes(event, passed));
        let keys =
            taking.filter_map(|(series, width)| Some((event.parts.key(series.keys)? ^ series.salt, *width)));
        self.tracks.touch(keys, true);
        for (number, series) in plan.series.iter().enumerate() {
            let floor_ms = self.floor_ms(series.horizon_ms);
            self.tracks.drop_idle(number, floor_ms);
            if time_ms >= floor_ms
                && series.takes(event, passed)
                && let Some(key) = event.parts.key(series.keys)
            {
                self.tracks.record(series, number as u8, key ^ series.salt, event, floor_ms);
            }
        }
        self.fit(plan);
    }

    /// What a decision at `time` on a request of these parts reads: one value for each of [`SharedPlan::places`],
    /// then one for each of [`SharedPlan::features`].
    /// Every event that was taken in must be before the decision in the journal. Changes and allocates nothing.
    pub fn read(
        &self,
        plan: &SharedPlan,
        parts: &Parts,
        time: Timestamp,
        out: &mut ArrayVec<SharedValue, READINGS_MAX>,
    ) {
        let mut keys = ArrayVec::<Option<u64>, READINGS_MAX>::new();
        keys.extend(plan.series.iter().map(|series| Some(parts.key(series.keys)? ^ series.salt)));
        let kept = keys.iter().enumerate().filter(|(number, _)| !self.tracks.is_empty(*number));
        self.tracks.touch(kept.filter_map(|(number, key)| Some(((*key)?, self.widths[number]))), false);
        let mut found = ArrayVec::<Option<Found>, READINGS_MAX>::new();
        found.extend(keys.iter().enumerate().map(|(number, key)| Some(self.tracks.find(number, (*key)?))));
        for planned in &plan.readings {
            let series = &plan.series[usize::from(planned.series)];
            let start_ms = time.0.saturating_sub(planned.window_ms);
            let known =
                found[usize::from(planned.series)].filter(|_| start_ms >= self.floor_ms(series.horizon_ms));
            out.push(match known {
                Some(Found::Track(track)) => track.read(series, *planned, time.0),
                Some(Found::Absent { forgotten_ms }) if start_ms > forgotten_ms => planned.of_nothing(),
                _ => SharedValue::default(),
            });
        }
    }

    /// How many there are, and how large.
    pub fn figures(&self) -> SharedFigures {
        let tracks = &self.tracks;
        SharedFigures {
            keys: tracks.len,
            bytes: tracks.heap_bytes(),
            events: tracks.events,
            evicted_keys: tracks.evicted_keys,
            saturated_keys: tracks.saturated,
        }
    }

    fn fit(&mut self, plan: &SharedPlan) {
        let newest_ms = self.newest_ms;
        self.tracks.fit(|series| newest_ms.saturating_sub(plan.series[series].horizon_ms));
    }

    /// Events before this time are let go: a window that reaches back behind it is unknown.
    fn floor_ms(&self, horizon_ms: i64) -> i64 {
        self.newest_ms.saturating_sub(horizon_ms)
    }
}

#[cfg(test)]
mod tests;
