//! Exact sliding windows over the past events of one account and its cards.
//!
//! One ring of events, sorted by time and, among equal times, by sequence. For each window length a tail marks the
//! oldest event inside; totals (count and sum) are kept for what lies between tail and head, and follow the tail
//! wherever the next decision's time moves it: forwards as a rule, backwards when a request was stamped before one
//! that was decided first. Everything read depends on the events recorded and on nothing else, least of all on
//! earlier reads.
//!
//! Beyond [`EVENTS_PER_KEY_MAX`] events the oldest leave the ring and go on in totals by steps of 1/1,024 of each
//! window. A step stays in the window until its end has left, so counts and sums may read high by one step's worth
//! and never low; such a reading is marked saturated. A window that reaches back behind the last
//! [`STEPS_MAX`] steps reads unknown.

use std::collections::VecDeque;

use super::{aggregate::By, compact::Compact};
use crate::{
    canary,
    limits::{EVENTS_PER_KEY_MAX, LATENESS_MAX_MS, WINDOW_MAX_MS},
    types::time::MINUTE_MS,
};

pub mod stored;

/// Events this much older than the newest are in no window of a decision that may still come.
const HORIZON_MS: i64 = WINDOW_MAX_MS + LATENESS_MAX_MS;
/// Steps that a window's summary is divided into.
const STEPS_PER_WINDOW: i64 = 1_024;
/// Steps kept for one total: two windows' worth, so that a decision may come one window late.
const STEPS_MAX: usize = 2 * STEPS_PER_WINDOW as usize;

const _: () = assert!(EVENTS_PER_KEY_MAX < u16::MAX as usize, "a tail is a u16");

/// Which events a total counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick {
    All,
    /// Declines, but for those for want of credit alone.
    FraudDeclines,
    /// Those that pass the declared filter of this number.
    Filter(u8),
}

impl Pick {
    #[inline]
    pub fn takes(self, event: &Compact) -> bool {
        match self {
            Pick::All => true,
            Pick::FraudDeclines => event.is_fraud_decline(),
            Pick::Filter(number) => event.filters >> number & 1 == 1,
        }
    }
}

/// A window length of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Length(usize);

/// A total of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TotalId {
    length: Length,
    by: By,
    pick: Pick,
    /// Among the account's totals, or among those of a card.
    place: usize,
}

/// Which lengths and totals every account keeps.
#[derive(Default, Debug)]
pub struct WindowPlan {
    lengths: Vec<LengthPlan>,
    account_totals: usize,
    card_totals: usize,
}

#[derive(Debug)]
struct LengthPlan {
    window_ms: i64,
    totals: Vec<TotalId>,
}

impl WindowPlan {
    /// The length, added where it is new.
    pub fn length(&mut self, window_ms: i64) -> Length {
        debug_assert!((1..=WINDOW_MAX_MS).contains(&window_ms));
        let known = self.lengths.iter().position(|length| length.window_ms == window_ms);
        Length(known.unwrap_or_else(|| {
            self.lengths.push(LengthPlan { window_ms, totals: Vec::new() });
            self.lengths.len() - 1
        }))
    }

    /// The total, added where it is new: count and sum of the same events share one.
    pub fn total(&mut self, by: By, window_ms: i64, pick: Pick) -> TotalId {
        let length = self.length(window_ms);
        let totals = &mut self.lengths[length.0].totals;
        if let Some(known) = totals.iter().find(|total| total.by == by && total.pick == pick) {
            return *known;
        }
        let next = match by {
            By::Account => &mut self.account_totals,
            By::Card => &mut self.card_totals,
        };
        let total = TotalId { length, by, pick, place: *next };
        *next += 1;
        totals.push(total);
        total
    }

    /// Where a total stands: the account's come first, then those of one card after the other.
    #[inline]
    fn index(&self, total: TotalId, card: u8) -> usize {
        match total.by {
            By::Account => total.place,
            By::Card => self.account_totals + usize::from(card) * self.card_totals + total.place,
        }
    }
}

/// Count and sum of the events between a tail and the head of the ring.
#[derive(Clone, Copy, Default, Debug)]
struct Total {
    sum_minor: i64,
    count: u32,
}

/// What a window holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub count: u64,
    pub sum_minor: i128,
    /// Part of it comes from a summary: it may be higher than the truth, never lower.
    pub saturated: bool,
}

/// The windows of one account. Every call must be given the same plan.
#[derive(Default)]
pub struct Windows {
    events: VecDeque<Compact>,
    /// For each length of the plan the index of the oldest event inside at the last reading; empty until the first
    /// event.
    tails: Vec<u16>,
    /// Empty until the first event; grows with the highest card that has one.
    totals: Vec<Total>,
    overflow: Option<Box<Overflow>>,
}

impl Windows {
    /// Takes in an event, wherever its time puts it. Its sequence must be above that of every event before.
    pub fn record(&mut self, plan: &WindowPlan, event: Compact) {
        if self.tails.is_empty() {
            self.tails = vec![0; plan.lengths.len()];
        }
        let totals = plan.account_totals + (usize::from(event.card()) + 1) * plan.card_totals;
        if self.totals.len() < totals {
            self.totals.reserve_exact(totals - self.totals.len());
            self.totals.resize(totals, Total::default());
        }
        self.insert(plan, event);
        let newest_ms = self.events.back().map_or(event.time_ms(), Compact::time_ms);
        let expired_ms = newest_ms.saturating_sub(HORIZON_MS);
        while self.events.front().is_some_and(|oldest| oldest.time_ms() < expired_ms) {
            self.remove_oldest(plan);
        }
        if self.events.len() > EVENTS_PER_KEY_MAX
            && let Some(oldest) = self.remove_oldest(plan)
        {
            self.summarise(plan, &oldest);
        }
        if self.overflow.as_ref().is_some_and(|overflow| overflow.newest_ms < expired_ms) {
            self.overflow = None;
        }
    }

    /// Moves every tail to where a decision at `time_ms` wants it, and lets the windows be read.
    pub fn at<'w>(&'w mut self, plan: &'w WindowPlan, time_ms: i64) -> View<'w> {
        for length in 0..self.tails.len() {
            let start_ms = start_ms(time_ms, plan.lengths[length].window_ms);
            let mut tail = usize::from(self.tails[length]);
            while let Some(event) = self.events.get(tail).copied().filter(|event| event.time_ms() < start_ms)
            {
                self.leave(plan, length, &event);
                tail += 1;
            }
            while let Some(before) = tail.checked_sub(1)
                && self.events[before].time_ms() >= start_ms
            {
                let event = self.events[before];
                self.enter(plan, length, &event);
                tail = before;
            }
            self.tails[length] = tail as u16;
        }
        let ahead = self.events.iter().rev().take_while(|event| event.time_ms() > time_ms).count();
        View { end: self.events.len() - ahead, windows: self, plan, time_ms }
    }

    /// Whether some of what was recorded is kept in summaries only.
    pub fn has_overflowed(&self) -> bool {
        self.overflow.is_some()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.events.capacity() * size_of::<Compact>()
            + self.tails.capacity() * size_of::<u16>()
            + self.totals.capacity() * size_of::<Total>()
            + self.overflow.as_ref().map_or(0, |overflow| overflow.heap_bytes())
    }

    fn insert(&mut self, plan: &WindowPlan, event: Compact) {
        if self.events.len() == self.events.capacity() {
            // A vector's own doubling would leave a quarter of all memory empty on average.
            let room = (self.events.len() / 8 + 4).min(EVENTS_PER_KEY_MAX + 1 - self.events.len());
            self.events.reserve_exact(room);
        }
        let later = self.events.iter().rev().take_while(|other| other.time_ms() > event.time_ms()).count();
        let index = self.events.len() - later;
        self.events.insert(index, event);
        for length in 0..self.tails.len() {
            if index < usize::from(self.tails[length]) {
                self.tails[length] += 1;
            } else {
                self.enter(plan, length, &event);
            }
        }
    }

    fn remove_oldest(&mut self, plan: &WindowPlan) -> Option<Compact> {
        let oldest = self.events.pop_front()?;
        for length in 0..self.tails.len() {
            match self.tails[length] {
                0 => self.leave(plan, length, &oldest),
                tail => self.tails[length] = tail - 1,
            }
        }
        Some(oldest)
    }

    #[inline]
    fn enter(&mut self, plan: &WindowPlan, length: usize, event: &Compact) {
        for total in &plan.lengths[length].totals {
            if total.pick.takes(event) {
                let total = &mut self.totals[plan.index(*total, event.card())];
                total.count += 1;
                total.sum_minor += event.amount_minor();
            }
        }
    }

    #[inline]
    fn leave(&mut self, plan: &WindowPlan, length: usize, event: &Compact) {
        for total in &plan.lengths[length].totals {
            if total.pick.takes(event) {
                let total = &mut self.totals[plan.index(*total, event.card())];
                total.count -= 1;
                total.sum_minor -= event.amount_minor();
            }
        }
    }

    fn summarise(&mut self, plan: &WindowPlan, event: &Compact) {
        let overflow = self.overflow.get_or_insert_default();
        overflow.newest_ms = overflow.newest_ms.max(event.time_ms());
        if overflow.summaries.len() < self.totals.len() {
            overflow.summaries.resize_with(self.totals.len(), Summary::default);
        }
        for length in &plan.lengths {
            for total in length.totals.iter().filter(|total| total.pick.takes(event)) {
                overflow.summaries[plan.index(*total, event.card())].add(event, step_ms(length.window_ms));
            }
        }
    }
}

/// The windows as a decision sees them.
pub struct View<'w> {
    windows: &'w Windows,
    plan: &'w WindowPlan,
    time_ms: i64,
    /// Index behind the last event that is not later than the decision.
    end: usize,
}

impl<'w> View<'w> {
    /// Count and sum, for `card` where the total is by card; `None` where the window reaches back behind what was
    /// kept.
    pub fn total(&self, id: TotalId, card: u8) -> Option<Reading> {
        let index = self.plan.index(id, card);
        // A card without a past event may have no totals yet.
        let total = self.windows.totals.get(index).copied().unwrap_or_default();
        let mut reading = Reading {
            count: u64::from(total.count),
            sum_minor: i128::from(total.sum_minor),
            saturated: false,
        };
        for event in self.windows.events.range(self.end..) {
            if (id.by == By::Account || event.card() == card) && id.pick.takes(event) {
                reading.count -= 1;
                reading.sum_minor -= i128::from(event.amount_minor());
            }
        }
        let summary = self.windows.overflow.as_ref().and_then(|overflow| overflow.summaries.get(index));
        match summary {
            None => Some(reading),
            Some(summary) => {
                let window_ms = self.plan.lengths[id.length.0].window_ms;
                summary.add_to(reading, start_ms(self.time_ms, window_ms), self.time_ms, step_ms(window_ms))
            }
        }
    }

    /// The events inside, oldest first, of all cards.
    pub fn events(&self, length: Length) -> impl DoubleEndedIterator<Item = &'w Compact> + Clone + use<'w> {
        let [older, newer] = self.stretches(length);
        older.iter().chain(newer)
    }

    /// The same as the two stretches in which they lie in memory, for a loop over all of them.
    pub fn stretches(&self, length: Length) -> [&'w [Compact]; 2] {
        let tail = self.windows.tails.get(length.0).map_or(0, |tail| usize::from(*tail)).min(self.end);
        let (older, newer) = self.windows.events.as_slices();
        let behind = |index: usize| index.saturating_sub(older.len());
        [&older[tail.min(older.len())..self.end.min(older.len())], &newer[behind(tail)..behind(self.end)]]
    }

    /// Whether events inside have left the ring, so that [`View::events`] lacks some.
    pub fn is_truncated(&self, length: Length) -> bool {
        let start_ms = start_ms(self.time_ms, self.plan.lengths[length.0].window_ms);
        self.windows.overflow.as_ref().is_some_and(|overflow| overflow.newest_ms >= start_ms)
    }
}

/// The earliest time inside a window; equal times are inside.
#[inline]
fn start_ms(time_ms: i64, window_ms: i64) -> i64 {
    let start_ms = time_ms.saturating_sub(window_ms);
    if canary::active("lazy_window") { start_ms.div_euclid(MINUTE_MS) * MINUTE_MS } else { start_ms }
}

fn step_ms(window_ms: i64) -> i64 {
    (window_ms + STEPS_PER_WINDOW - 1) / STEPS_PER_WINDOW
}

/// What has left a full ring.
struct Overflow {
    /// Time of the newest event here.
    newest_ms: i64,
    /// In the order of the totals.
    summaries: Vec<Summary>,
}

impl Default for Overflow {
    fn default() -> Overflow {
        Overflow { newest_ms: i64::MIN, summaries: Vec::new() }
    }
}

impl Overflow {
    fn heap_bytes(&self) -> usize {
        let steps: usize = self.summaries.iter().map(|summary| summary.steps.capacity()).sum();
        size_of::<Overflow>() + self.summaries.capacity() * size_of::<Summary>() + steps * size_of::<Step>()
    }
}

/// The events of one total that have left the ring, by steps in ascending order; empty steps take no room.
struct Summary {
    steps: VecDeque<Step>,
    /// Steps that begin before were given up.
    unknown_before_ms: i64,
}

/// The events with times in `[number * step_ms, (number + 1) * step_ms)`.
struct Step {
    number: i64,
    count: u64,
    sum_minor: i128,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { steps: VecDeque::new(), unknown_before_ms: i64::MIN }
    }
}

impl Summary {
    fn add(&mut self, event: &Compact, step_ms: i64) {
        let number = event.time_ms().div_euclid(step_ms);
        if number * step_ms < self.unknown_before_ms {
            return;
        }
        // Events leave the ring in the order of time, but for late ones: the last step is nearly always the one.
        let later = self.steps.iter().rev().take_while(|step| step.number > number).count();
        let index = self.steps.len() - later;
        match index.checked_sub(1).and_then(|index| self.steps.get_mut(index)) {
            Some(step) if step.number == number => {
                step.count += 1;
                step.sum_minor += i128::from(event.amount_minor());
            }
            _ => {
                let sum_minor = i128::from(event.amount_minor());
                self.steps.insert(index, Step { number, count: 1, sum_minor });
            }
        }
        if self.steps.len() > STEPS_MAX
            && let Some(given_up) = self.steps.pop_front()
        {
            self.unknown_before_ms = (given_up.number + 1) * step_ms;
        }
    }

    fn add_to(&self, mut reading: Reading, start_ms: i64, time_ms: i64, step_ms: i64) -> Option<Reading> {
        if start_ms < self.unknown_before_ms {
            return None;
        }
        let inside = self.steps.iter().rev().take_while(|step| (step.number + 1) * step_ms > start_ms);
        for step in inside.filter(|step| step.number * step_ms <= time_ms) {
            reading.count += step.count;
            reading.sum_minor += step.sum_minor;
            reading.saturated = true;
        }
        Some(reading)
    }
}

#[cfg(test)]
mod tests;
