//! The past events of one key in one series, and what its windows read.

use super::{
    SharedValue,
    plan::{How, Planned, Series},
    rows::Rows,
};
use crate::{
    features::{
        aggregate::stddev,
        distinct::count_distinct,
        window::{
            Reading,
            overflow::{Step, Summary, step_ms},
        },
    },
    limits::EVENTS_PER_KEY_MAX,
};

/// Events sorted by time and, among equal times, in the order in which they were taken in. What does not fit goes on
/// in summaries, as an account's does (`features/window.rs`).
pub struct Track {
    /// Salted with the series.
    pub key: u64,
    /// Time of the last row.
    pub newest_ms: i64,
    /// Events of this time and before may have been forgotten.
    pub forgotten_ms: i64,
    /// Sum of the amounts of all that was before the first row.
    pub base_minor: i64,
    pub rows: Rows,
    pub left: Option<Box<Left>>,
    /// Neighbours in the list of tracks by their last writing, and which list that is.
    pub older: u32,
    pub newer: u32,
    pub series: u8,
    pub list: u8,
}

/// What has left a full track: one summary for each summed window of the series.
pub struct Left {
    /// Time of the newest event here.
    pub newest_ms: i64,
    pub summaries: Vec<Summary>,
}

impl Left {
    fn heap_bytes(&self) -> usize {
        let steps: usize = self.summaries.iter().map(|summary| summary.steps.capacity()).sum();
        size_of::<Left>() + self.summaries.capacity() * size_of::<Summary>() + steps * size_of::<Step>()
    }
}

impl Track {
    pub fn new(key: u64, series: u8, forgotten_ms: i64) -> Track {
        Track {
            key,
            newest_ms: i64::MIN,
            forgotten_ms,
            base_minor: 0,
            rows: Rows::default(),
            left: None,
            older: 0,
            newer: 0,
            series,
            list: 0,
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.rows.heap_bytes() + self.left.as_ref().map_or(0, |left| left.heap_bytes())
    }

    /// The time up to which something would be forgotten if all of this were.
    pub fn last_ms(&self) -> i64 {
        self.newest_ms.max(self.forgotten_ms)
    }

    /// Takes in an event, wherever its time puts it; it must not be before `floor_ms`, and what is makes way.
    pub fn record(
        &mut self,
        series: &Series,
        (time_ms, amount_minor): (i64, i64),
        attributes: impl Iterator<Item = u32>,
        floor_ms: i64,
    ) {
        let width = series.width();
        let expired = self.first_at(width, floor_ms);
        for _ in 0..expired {
            self.remove_oldest(width);
        }
        if self.left.as_ref().is_some_and(|left| left.newest_ms < floor_ms) {
            self.left = None;
        }
        let index = self.first_at(width, time_ms.saturating_add(1));
        let sum = self.sum_before(width, index).wrapping_add(amount_minor);
        let mut row = arrayvec::ArrayVec::<u32, ROW_WORDS_MAX>::new();
        row.extend([time_ms as u32, sum as u32, (sum as u64 >> 32) as u32]);
        row.extend(attributes);
        self.rows.insert(width, index, &row, series.events_max() + 1);
        for later in index + 1..self.rows.len() {
            let sum = self.rows.sum(width, later).wrapping_add(amount_minor);
            self.rows.set_sum(width, later, sum);
        }
        self.newest_ms = self.newest_ms.max(time_ms);
        if self.rows.len() > series.events_max() {
            let oldest_ms = self.time_ms(width, 0);
            let amount_minor = self.remove_oldest(width);
            self.summarise(series, (oldest_ms, amount_minor));
        }
    }

    fn remove_oldest(&mut self, width: usize) -> i64 {
        let sum = self.rows.sum(width, 0);
        let amount_minor = sum.wrapping_sub(self.base_minor);
        self.base_minor = sum;
        self.rows.remove_oldest(width);
        amount_minor
    }

    fn summarise(&mut self, series: &Series, (time_ms, amount_minor): (i64, i64)) {
        let left = self.left.get_or_insert_with(|| {
            let mut summaries = Vec::with_capacity(series.summed_ms.len());
            summaries.resize_with(series.summed_ms.len(), Summary::default);
            Box::new(Left { newest_ms: time_ms, summaries })
        });
        left.newest_ms = left.newest_ms.max(time_ms);
        for (summary, window_ms) in left.summaries.iter_mut().zip(&series.summed_ms) {
            summary.add((time_ms, amount_minor), step_ms(*window_ms));
        }
    }

    /// What a decision at `time_ms` reads.
    pub fn read(&self, series: &Series, planned: Planned, time_ms: i64) -> SharedValue {
        let width = series.width();
        let start_ms = time_ms.saturating_sub(planned.window_ms);
        if start_ms <= self.forgotten_ms {
            return SharedValue::default();
        }
        let start = self.first_at(width, start_ms);
        let end = self.first_at(width, time_ms.saturating_add(1)).max(start);
        if let How::Count(summary) | How::Sum(summary) | How::Mean(summary) = planned.how {
            let reading = Reading {
                count: (end - start) as u64,
                sum_minor: self.sum_before(width, end).wrapping_sub(self.sum_before(width, start)).into(),
                saturated: false,
            };
            let summary = self.left.as_ref().map(|left| &left.summaries[usize::from(summary)]);
            let reading = summary.map_or(Some(reading), |summary| {
                summary.add_to(reading, start_ms, time_ms, step_ms(planned.window_ms))
            });
            return reading.map_or(SharedValue::default(), |reading| total(planned.how, reading));
        }
        let walked = end.saturating_sub(EVENTS_PER_KEY_MAX).max(start);
        let amounts = (walked..end)
            .map(|index| self.rows.sum(width, index).wrapping_sub(self.sum_before(width, index)));
        let value = match planned.how {
            How::Min => amounts.min(),
            How::Max => amounts.max(),
            How::StdDev => stddev(amounts),
            How::Distinct(column) => {
                let column = usize::from(column);
                let values = (walked..end).map(|index| self.rows.attribute(width, index, column));
                Some(count_distinct(values) as i64)
            }
            How::Count(_) | How::Sum(_) | How::Mean(_) => None,
        };
        let is_truncated = self.left.as_ref().is_some_and(|left| left.newest_ms >= start_ms);
        SharedValue { value, saturated: is_truncated || walked > start }
    }

    /// The first row at this time or after it.
    fn first_at(&self, width: usize, time_ms: i64) -> usize {
        let len = self.rows.len();
        // All rows are less than 2^32 ms behind the newest, so that the lower half of the time says how much.
        let Ok(age_max) = u32::try_from(self.newest_ms.saturating_sub(time_ms)) else {
            return if time_ms > self.newest_ms { len } else { 0 };
        };
        let newest = self.newest_ms as u32;
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = (low + high) / 2;
            if newest.wrapping_sub(self.rows.time(width, middle)) > age_max {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub fn time_ms(&self, width: usize, index: usize) -> i64 {
        self.newest_ms - i64::from((self.newest_ms as u32).wrapping_sub(self.rows.time(width, index)))
    }

    /// Sum of the amounts of all rows before this one, and of what was before the first.
    #[inline]
    fn sum_before(&self, width: usize, index: usize) -> i64 {
        match index.checked_sub(1) {
            Some(before) => self.rows.sum(width, before),
            None => self.base_minor,
        }
    }
}

/// Time, sum, and every attribute there is.
pub const ROW_WORDS_MAX: usize = super::rows::FIXED_WORDS + 9;

fn total(how: How, reading: Reading) -> SharedValue {
    let value = match how {
        How::Count(_) => Some(i128::from(reading.count)),
        How::Mean(_) => (reading.count > 0).then(|| reading.sum_minor.div_euclid(i128::from(reading.count))),
        _ => Some(reading.sum_minor),
    };
    // Only a summary can hold more than an i64 does, and it may read high.
    let clamped = |value: i128| value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    SharedValue { value: value.map(clamped), saturated: reading.saturated }
}

const _: () = assert!(
    crate::limits::WINDOW_MAX_MS + crate::limits::LATENESS_MAX_MS < u32::MAX as i64,
    "the ages of a key's events fit 32 bits"
);
