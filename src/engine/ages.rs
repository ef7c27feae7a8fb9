//! Which position the log had reached when, to the hour: so that answers past their retention can be forgotten by
//! position, without a time beside every key.

use std::collections::VecDeque;

use crate::types::time::{HOUR_MS, Timestamp};

/// Between two marks.
const EVERY_MS: i64 = HOUR_MS;

/// Marks of time and position, both rising.
#[derive(Default)]
pub(super) struct Ages(VecDeque<(Timestamp, u64)>);

impl Ages {
    /// Every record below `position` is of `time` or earlier.
    pub(super) fn note(&mut self, time: Timestamp, position: u64) {
        if self.0.back().is_none_or(|(last, _)| time.since_ms(*last) >= EVERY_MS) {
            self.0.push_back((time, position));
        }
    }

    /// The marks, from the oldest on.
    pub(super) fn marks(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        self.0.iter().copied()
    }

    /// These marks, which [`Ages::marks`] gave.
    pub(super) fn of(marks: Vec<(Timestamp, u64)>) -> Ages {
        Ages(marks.into())
    }

    /// The highest position below which every record is older than `retention_ms`; `None` where nothing new is.
    pub(super) fn outlived(&mut self, now: Timestamp, retention_ms: i64) -> Option<u64> {
        let mut outlived = None;
        while let Some((time, position)) = self.0.front()
            && now.since_ms(*time) > retention_ms
        {
            outlived = Some(*position);
            self.0.pop_front();
        }
        outlived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_outlived_before_its_time() {
        let mut ages = Ages::default();
        for hour in 0..10 {
            ages.note(Timestamp(hour * HOUR_MS), 100 * (hour as u64 + 1));
            ages.note(Timestamp(hour * HOUR_MS + 1), 100 * (hour as u64 + 1) + 50);
        }
        assert_eq!(ages.outlived(Timestamp(3 * HOUR_MS), 3 * HOUR_MS), None);
        assert_eq!(ages.outlived(Timestamp(5 * HOUR_MS), 3 * HOUR_MS), Some(200));
        assert_eq!(ages.outlived(Timestamp(5 * HOUR_MS), 3 * HOUR_MS), None);
        assert_eq!(ages.outlived(Timestamp(50 * HOUR_MS), 3 * HOUR_MS), Some(1_000));
    }
}
