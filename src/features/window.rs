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
//! and never low; such a reading is marked saturated. A window that reaches back behind the last two windows' worth
//! of steps reads unknown.

pub(super) mod overflow;
mod ring;
mod shapes;
pub mod stored;

use std::{fmt, ops::Range};

use super::{
    aggregate::By,
    amounts::{Bounds, is_within},
    compact::{Compact, Shape},
    event::Event,
};
use crate::{
    canary,
    limits::{EVENTS_PER_KEY_MAX, LATENESS_MAX_MS, WINDOW_MAX_MS},
    types::time::MINUTE_MS,
};
use overflow::{Layout, Overflow, Summary, step_ms};
pub use ring::{Packed, ROWS as SPAN_ROWS};
use ring::{Ring, Span};
pub use shapes::{Columns, ROWS as COLUMN_ROWS, SHAPES_MAX};

/// Events this much older than the newest are in no window of a decision that may still come.
pub(super) const HORIZON_MS: i64 = WINDOW_MAX_MS + LATENESS_MAX_MS;

const _: () = assert!(EVENTS_PER_KEY_MAX < u16::MAX as usize, "tails and counts are u16");

/// Which events a total counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick {
    All,
    /// Declines, but for those for want of credit alone.
    FraudDeclines,
    /// Those that pass the declared filter of this number.
    Filter(u8),
    /// As [`Pick::Filter`], with an amount within the plan's bounds of the number `amounts`.
    Within {
        filter: u8,
        amounts: u8,
    },
}

impl Pick {
    #[inline]
    pub fn takes(self, event: &Compact, amounts: &[Bounds]) -> bool {
        match self {
            Pick::All => true,
            Pick::FraudDeclines => event.shape.is_fraud_decline(),
            Pick::Filter(number) => event.filters >> number & 1 == 1,
            Pick::Within { filter, amounts: number } => {
                event.filters >> filter & 1 == 1
                    && amounts
                        .get(usize::from(number))
                        .is_some_and(|bounds| is_within(*bounds, event.amount_minor()))
            }
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

impl TotalId {
    /// Where it stands among the totals of windows, where those of its card begin at `card_at`.
    #[inline]
    fn place(self, card_at: usize) -> usize {
        match self.by {
            By::Account => self.place,
            By::Card => card_at + self.place,
        }
    }
}

/// Which lengths and totals every account keeps.
#[derive(Clone, Default)]
pub struct WindowPlan {
    lengths: Vec<LengthPlan>,
    account_totals: usize,
    card_totals: usize,
    /// Of both, those that every plan has, at the same places.
    built_in: Layout,
    /// By their number in [`Pick::Within`], for accounts of one number of decimals.
    amounts: Vec<Bounds>,
}

/// All but the bounds: what windows keep is told apart by this, and the conditions of filters are told beside it.
impl fmt::Debug for WindowPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowPlan")
            .field("lengths", &self.lengths)
            .field("account_totals", &self.account_totals)
            .field("card_totals", &self.card_totals)
            .field("built_in", &self.built_in)
            .finish()
    }
}

#[derive(Clone, Debug)]
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

    /// With these bounds of amounts.
    pub fn with_amounts(self, amounts: Vec<Bounds>) -> WindowPlan {
        WindowPlan { amounts, ..self }
    }

    /// Declares that the totals so far are in every plan.
    pub fn end_of_built_in(&mut self) {
        self.built_in = self.layout();
    }

    fn layout(&self) -> Layout {
        Layout { account_totals: self.account_totals, card_totals: self.card_totals }
    }

    /// Where a total stands among the summaries: the account's come first, then those of one card after the other.
    #[inline]
    fn index(&self, total: TotalId, card: u8) -> usize {
        match total.by {
            By::Account => total.place,
            By::Card => self.account_totals + usize::from(card) * self.card_totals + total.place,
        }
    }
}

/// Count and sum of the events between a tail and the head of the ring.
#[derive(Clone, Copy, Default)]
#[repr(Rust, packed(2))]
struct Total {
    sum_minor: i64,
    count: u16,
}

const _: () = assert!(size_of::<Total>() == 10);

/// Bytes of one total of an account or a card.
pub const TOTAL_BYTES: usize = size_of::<Total>();
/// Bytes of one event, kept once for all that is asked of an account; 12 in an account with large amounts.
pub const EVENT_BYTES: usize = 8;

/// What a window holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub count: u64,
    pub sum_minor: i128,
    /// Part of it comes from a summary: it may be higher than the truth, never lower.
    pub saturated: bool,
}

impl Reading {
    /// The sum in major units.
    #[inline]
    pub fn sum_major(&self, minor_per_major: i64) -> f64 {
        self.sum() / minor_per_major as f64
    }

    /// The nearest number to the sum. What fits 64 bits is turned into one by the processor, and not by a program.
    #[inline]
    pub fn sum(&self) -> f64 {
        i64::try_from(self.sum_minor).map_or(self.sum_minor as f64, |sum_minor| sum_minor as f64)
    }
}

/// The windows of one account. Every call must be given the same plan.
#[derive(Clone, Default)]
pub struct Windows {
    events: Ring,
    /// For each length of the plan the index of the oldest event inside at the last reading; empty until the first
    /// event.
    tails: Box<[u16]>,
    /// The account's totals, then those of the cards that have had an event, in the order of the cards. Empty until
    /// the first event.
    totals: Box<[Total]>,
    /// One bit for every card that has totals.
    cards: u64,
    overflow: Option<Box<Overflow>>,
}

impl Windows {
    /// Takes in an event, wherever its time puts it. Its sequence must be above that of every event before.
    pub fn record(&mut self, plan: &WindowPlan, event: Compact) {
        if self.tails.is_empty() {
            self.tails = vec![0; plan.lengths.len()].into();
        }
        self.add_card(plan, event.card());
        let newest_ms = self.events.newest_ms().map_or(event.time_ms(), |newest| newest.max(event.time_ms()));
        let expired_ms = newest_ms.saturating_sub(HORIZON_MS);
        while self.events.time_ms(0).is_some_and(|oldest_ms| oldest_ms < expired_ms) {
            self.remove_oldest(plan);
        }
        if event.time_ms() >= expired_ms {
            self.insert(plan, event);
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
            while self.events.time_ms(tail).is_some_and(|event_ms| event_ms < start_ms) {
                self.pass(plan, length, tail, Way::Out);
                tail += 1;
            }
            while let Some(before) = tail.checked_sub(1)
                && self.events.time_ms(before).is_some_and(|event_ms| event_ms >= start_ms)
            {
                self.pass(plan, length, before, Way::In);
                tail = before;
            }
            self.tails[length] = tail as u16;
        }
        let len = self.events.len();
        let is_ahead = |index: &usize| self.events.time_ms(*index).is_some_and(|event_ms| event_ms > time_ms);
        let ahead = (0..len).rev().take_while(is_ahead).count();
        View { end: len - ahead, windows: self, plan, time_ms, card: 0, card_at: None }.of_card(0)
    }

    /// Asks for the memory of all that is kept, so that the waits for it overlap: whoever walks through it waits for one
    /// block after the other, which with many accounts is most of what the walk takes. Changes nothing.
    #[inline]
    pub fn touch(&self) {
        let first = |total: &Total| u32::from(total.count);
        let beside =
            self.tails.first().map_or(0, |tail| u32::from(*tail)) ^ self.totals.first().map_or(0, first);
        std::hint::black_box(self.events.touch() ^ beside);
    }

    /// Whether nothing was ever recorded.
    pub fn is_new(&self) -> bool {
        self.tails.is_empty()
    }

    /// Whether some of what was recorded is kept in summaries only.
    #[cfg(test)]
    fn has_overflowed(&self) -> bool {
        self.overflow.is_some()
    }

    /// Keeps from now on what this plan asks for. `filters` says which of its filters an event passes. All of it is as
    /// if the plan had been there from the beginning, but for what has left the ring, of which built-in totals alone
    /// are known.
    pub fn refit(&mut self, plan: &WindowPlan, filters: impl Fn(&Event) -> u64) {
        // Every shape was made from an event.
        self.events.refilter(|shape| shape.event().map_or(0, |event| filters(&event)));
        if let Some(overflow) = &mut self.overflow {
            overflow.refit(plan.layout(), plan.built_in);
        }
        if self.tails.is_empty() {
            return;
        }
        // Nothing is inside any window: the next reading lets in what belongs there.
        self.tails = vec![self.events.len() as u16; plan.lengths.len()].into();
        let cards = self.cards.count_ones() as usize;
        self.totals = vec![Total::default(); plan.account_totals + cards * plan.card_totals].into();
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.events.heap_bytes()
            + size_of_val::<[u16]>(&self.tails)
            + size_of_val::<[Total]>(&self.totals)
            + self.overflow.as_ref().map_or(0, |overflow| overflow.heap_bytes())
    }

    /// Makes room for the totals of a card that has none yet.
    fn add_card(&mut self, plan: &WindowPlan, card: u8) {
        if self.cards >> card & 1 == 1 {
            return;
        }
        let mut totals = std::mem::take(&mut self.totals).into_vec();
        totals.resize(totals.len().max(plan.account_totals), Total::default());
        let at = plan.account_totals + self.rank(card) * plan.card_totals;
        totals.splice(at..at, std::iter::repeat_n(Total::default(), plan.card_totals));
        self.totals = totals.into();
        self.cards |= 1 << card;
    }

    /// How many cards with totals come before this one.
    #[inline]
    fn rank(&self, card: u8) -> usize {
        (self.cards & ((1 << card) - 1)).count_ones() as usize
    }

    /// Where the totals of a card begin among those kept here; `None` for one that has never had an event.
    #[inline]
    fn card_at(&self, plan: &WindowPlan, card: u8) -> Option<usize> {
        let is_known = self.cards >> card & 1 == 1;
        is_known.then(|| plan.account_totals + self.rank(card) * plan.card_totals)
    }

    fn insert(&mut self, plan: &WindowPlan, event: Compact) {
        let index = self.events.insert(&event);
        for length in 0..self.tails.len() {
            if index < usize::from(self.tails[length]) {
                self.tails[length] += 1;
            } else {
                self.count(plan, length, &event, Way::In);
            }
        }
    }

    fn remove_oldest(&mut self, plan: &WindowPlan) -> Option<Compact> {
        let oldest = self.events.remove_oldest()?;
        for length in 0..self.tails.len() {
            match self.tails[length] {
                0 => self.count(plan, length, &oldest, Way::Out),
                tail => self.tails[length] = tail - 1,
            }
        }
        Some(oldest)
    }

    /// Takes the event at `index` over the tail of a length.
    #[inline]
    fn pass(&mut self, plan: &WindowPlan, length: usize, index: usize, way: Way) {
        if let Some(event) = self.events.get(index) {
            self.count(plan, length, &event, way);
        }
    }

    #[inline]
    fn count(&mut self, plan: &WindowPlan, length: usize, event: &Compact, way: Way) {
        let Some(card_at) = self.card_at(plan, event.card()) else { return };
        for total in plan.lengths[length].totals.iter().filter(|total| total.pick.takes(event, &plan.amounts))
        {
            let total = &mut self.totals[total.place(card_at)];
            match way {
                Way::In => {
                    total.count += 1;
                    total.sum_minor += event.amount_minor();
                }
                Way::Out => {
                    total.count -= 1;
                    total.sum_minor -= event.amount_minor();
                }
            }
        }
    }

    fn summarise(&mut self, plan: &WindowPlan, event: &Compact) {
        let overflow = self.overflow.get_or_insert_with(|| Box::new(Overflow::new(plan.layout())));
        overflow.newest_ms = overflow.newest_ms.max(event.time_ms());
        let totals = plan.account_totals + (usize::from(event.card()) + 1) * plan.card_totals;
        if overflow.summaries.len() < totals {
            overflow.summaries.resize_with(totals, Summary::default);
        }
        for length in &plan.lengths {
            for total in length.totals.iter().filter(|total| total.pick.takes(event, &plan.amounts)) {
                let summary = &mut overflow.summaries[plan.index(*total, event.card())];
                summary.add((event.time_ms(), event.amount_minor()), step_ms(length.window_ms));
            }
        }
    }
}

/// Into a window or out of it.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// The windows as a decision sees them.
#[derive(Clone, Copy)]
pub struct View<'w> {
    windows: &'w Windows,
    plan: &'w WindowPlan,
    time_ms: i64,
    /// Index behind the last event that is not later than the decision.
    end: usize,
    card: u8,
    /// Where the totals of the card begin; `None` where it has none.
    card_at: Option<usize>,
}

impl<'w> View<'w> {
    /// The same windows as a decision on this card sees them; they are those of card 0 before.
    #[inline]
    pub fn of_card(self, card: u8) -> View<'w> {
        View { card, card_at: self.windows.card_at(self.plan, card), ..self }
    }

    /// Count and sum, of the card where the total is by card; `None` where the window reaches back behind what was kept.
    #[inline]
    pub fn total(&self, id: TotalId) -> Option<Reading> {
        let Windows { events, totals, overflow, .. } = self.windows;
        let place = match id.by {
            By::Account => Some(id.place),
            By::Card => self.card_at.map(|card_at| id.place(card_at)),
        };
        let total = place.and_then(|place| totals.get(place)).copied().unwrap_or_default();
        let reading = Reading {
            count: u64::from(total.count),
            sum_minor: i128::from(total.sum_minor),
            saturated: false,
        };
        match overflow {
            None if self.end == events.len() => Some(reading),
            _ => self.corrected(reading, id),
        }
    }

    /// A reading without what is later than the decision, and with what has left the ring.
    #[cold]
    fn corrected(&self, mut reading: Reading, id: TotalId) -> Option<Reading> {
        let is_counted = |event: &Compact| id.by == By::Account || event.card() == self.card;
        for event in self.range(self.end..self.windows.events.len()) {
            if is_counted(&event) && id.pick.takes(&event, &self.plan.amounts) {
                reading.count -= 1;
                reading.sum_minor -= i128::from(event.amount_minor());
            }
        }
        let summaries = self.windows.overflow.as_ref().map_or(&[][..], |overflow| &overflow.summaries);
        match summaries.get(self.plan.index(id, self.card)) {
            None => Some(reading),
            Some(summary) => {
                let window_ms = self.plan.lengths[id.length.0].window_ms;
                summary.add_to(reading, start_ms(self.time_ms, window_ms), self.time_ms, step_ms(window_ms))
            }
        }
    }

    /// Whether an event is one of those that `pick` counts.
    #[inline]
    pub fn picked(&self, pick: Pick) -> impl Fn(&Compact) -> bool + Clone + use<'w> {
        let amounts = &self.plan.amounts;
        move |event| pick.takes(event, amounts)
    }

    /// The events inside, oldest first, of all cards.
    pub fn events(&self, length: Length) -> impl DoubleEndedIterator<Item = Compact> + Clone + use<'w> {
        self.range(self.inside(length))
    }

    /// The same events as they lie in memory, for a loop over all of them.
    pub fn spans(&self, length: Length) -> impl Iterator<Item = Span<'w>> + use<'w> {
        self.windows.events.spans(self.inside(length))
    }

    /// The same events with their times, as the ring keeps them.
    pub fn packed(&self, length: Length) -> impl Iterator<Item = (i64, Packed)> + use<'w> {
        let ring = &self.windows.events;
        self.inside(length).filter_map(move |index| ring.packed_at(index))
    }

    /// The oldest event inside whose shape is one of those, by their place in [`View::shape_columns`].
    pub fn first(&self, length: Length, is_one: impl Fn(usize) -> bool) -> Option<Compact> {
        let ring = &self.windows.events;
        self.inside(length).find(|index| is_one(ring.shape(*index))).and_then(|index| ring.get(index))
    }

    /// As [`View::first`], the newest.
    pub fn last(&self, length: Length, is_one: impl Fn(usize) -> bool) -> Option<Compact> {
        let ring = &self.windows.events;
        self.inside(length).rfind(|index| is_one(ring.shape(*index))).and_then(|index| ring.get(index))
    }

    /// The shapes block by block; some of them may belong to no event.
    pub fn shape_columns(&self) -> impl Iterator<Item = Columns<'w>> + use<'w> {
        self.windows.events.shape_columns()
    }

    /// The shape at a place in [`View::shape_columns`], which must be an event's.
    pub fn shape(&self, place: usize) -> Shape {
        self.windows.events.shape_at(place)
    }

    fn inside(&self, length: Length) -> Range<usize> {
        let tail = self.windows.tails.get(length.0).map_or(0, |tail| usize::from(*tail));
        tail.min(self.end)..self.end
    }

    fn range(&self, indices: Range<usize>) -> impl DoubleEndedIterator<Item = Compact> + Clone + use<'w> {
        let ring = &self.windows.events;
        indices.filter_map(move |index| ring.get(index))
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

#[cfg(test)]
mod tests;
