//! What has left a full ring: counts and sums by steps of 1/1,024 of each window, for the totals that the plan asks
//! for and no others.

use std::collections::VecDeque;

use super::Reading;

/// Steps that a window's summary is divided into.
const STEPS_PER_WINDOW: i64 = 1_024;
/// Steps kept for one total: two windows' worth, so that a decision may come one window late.
pub const STEPS_MAX: usize = 2 * STEPS_PER_WINDOW as usize;

pub fn step_ms(window_ms: i64) -> i64 {
    (window_ms + STEPS_PER_WINDOW - 1) / STEPS_PER_WINDOW
}

/// When a step begins. What is read back from a disk may have numbers that no time has.
fn begin_ms(number: i64, step_ms: i64) -> i64 {
    number.saturating_mul(step_ms)
}

/// What has left a full ring.
#[derive(Clone)]
pub struct Overflow {
    /// Time of the newest event here.
    pub newest_ms: i64,
    /// Totals of the account, and of one card, that the summaries are of.
    pub layout: Layout,
    /// In the order of the plan's totals: the account's, then those of one card after the other.
    pub summaries: Vec<Summary>,
}

/// How many totals a plan keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    pub account_totals: usize,
    pub card_totals: usize,
}

impl Layout {
    /// Where the totals of a card begin among the summaries.
    pub fn card(self, card: usize) -> usize {
        self.account_totals + card * self.card_totals
    }
}

impl Overflow {
    pub fn new(layout: Layout) -> Overflow {
        Overflow { newest_ms: i64::MIN, layout, summaries: Vec::new() }
    }

    /// The summaries as another plan has them: those of `built_in` totals, which come first in every plan, go over; what
    /// left the ring is not known to any other.
    pub fn refit(&mut self, to: Layout, built_in: Layout) {
        let from = std::mem::replace(&mut self.layout, to);
        let cards =
            self.summaries.len().saturating_sub(from.account_totals).div_ceil(from.card_totals.max(1));
        let unknown = Summary { unknown_before_ms: self.newest_ms.saturating_add(1), ..Summary::default() };
        let mut old = std::mem::take(&mut self.summaries);
        let mut part = |from: usize, count: usize, built_in: usize| {
            for number in 0..count {
                let kept =
                    (number < built_in).then(|| old.get_mut(from + number).map(std::mem::take)).flatten();
                let absent = if number < built_in { Summary::default() } else { unknown.clone() };
                self.summaries.push(kept.unwrap_or(absent));
            }
        };
        part(0, to.account_totals, built_in.account_totals);
        for card in 0..cards {
            part(from.card(card), to.card_totals, built_in.card_totals);
        }
    }

    pub fn heap_bytes(&self) -> usize {
        let steps: usize = self.summaries.iter().map(|summary| summary.steps.capacity()).sum();
        size_of::<Overflow>() + self.summaries.capacity() * size_of::<Summary>() + steps * size_of::<Step>()
    }
}

/// The events of one total that have left the ring, by steps in ascending order; empty steps take no room.
#[derive(Clone)]
pub struct Summary {
    pub steps: VecDeque<Step>,
    /// Steps that begin before were given up.
    pub unknown_before_ms: i64,
}

/// The events with times in `[number * step_ms, (number + 1) * step_ms)`.
#[derive(Clone)]
pub struct Step {
    pub number: i64,
    pub count: u64,
    pub sum_minor: i128,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { steps: VecDeque::new(), unknown_before_ms: i64::MIN }
    }
}

impl Summary {
    pub fn add(&mut self, (time_ms, amount_minor): (i64, i64), step_ms: i64) {
        let number = time_ms.div_euclid(step_ms);
        if begin_ms(number, step_ms) < self.unknown_before_ms {
            return;
        }
        // Events leave the ring in the order of time, but for late ones: the last step is nearly always the one.
        let later = self.steps.iter().rev().take_while(|step| step.number > number).count();
        let index = self.steps.len() - later;
        match index.checked_sub(1).and_then(|index| self.steps.get_mut(index)) {
            Some(step) if step.number == number => {
                step.count += 1;
                step.sum_minor += i128::from(amount_minor);
            }
            _ => {
                let sum_minor = i128::from(amount_minor);
                self.steps.insert(index, Step { number, count: 1, sum_minor });
            }
        }
        if self.steps.len() > STEPS_MAX
            && let Some(given_up) = self.steps.pop_front()
        {
            self.unknown_before_ms = begin_ms(given_up.number + 1, step_ms);
        }
    }

    /// Adds what the window from `start_ms` to `time_ms` holds; `None` where it reaches back behind what was kept.
    pub fn add_to(&self, mut reading: Reading, start_ms: i64, time_ms: i64, step_ms: i64) -> Option<Reading> {
        if start_ms < self.unknown_before_ms {
            return None;
        }
        let inside = self.steps.iter().rev().take_while(|step| begin_ms(step.number + 1, step_ms) > start_ms);
        for step in inside.filter(|step| begin_ms(step.number, step_ms) <= time_ms) {
            reading.count += step.count;
            reading.sum_minor += step.sum_minor;
            reading.saturated = true;
        }
        Some(reading)
    }
}
