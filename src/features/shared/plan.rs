//! Which windows are kept here, over keys that cross accounts and over labels, and how each declared aggregate is read
//! from them.
//!
//! Aggregates over the same parts under the same filter share one *series*, whatever their windows and measures are:
//! each of them is worked out from the same events.

use std::fmt;

use crate::{
    features::{
        aggregate::{Aggregate, Attribute, Filter, Keys, Measure},
        catalog::slot,
        event::Event,
        values::Slot,
    },
    limits::{AGGREGATES_MAX, EVENTS_PER_KEY_MAX, LATENESS_MAX_MS, SHARED_EVENTS_PER_KEY_MAX, WINDOW_MAX_MS},
    types::{lists::FraudLabel, time::DAY_MS},
};

use super::{SharedEvent, SharedValue, rows::FIXED_WORDS};

/// What is read of frauds whose labels have come, whatever the rules declare: by which part, within which time, into
/// which slot.
const FRAUDS: [(Keys, i64, Slot); 5] = [
    (Keys::MERCHANT, 14 * DAY_MS, slot::MERCHANT_FRAUDS_14D),
    (Keys::MERCHANT, 30 * DAY_MS, slot::MERCHANT_FRAUDS_30D),
    (Keys::TERMINAL, 14 * DAY_MS, slot::TERMINAL_FRAUDS_14D),
    (Keys::TERMINAL, 30 * DAY_MS, slot::TERMINAL_FRAUDS_30D),
    (Keys::DEVICE, 30 * DAY_MS, slot::DEVICE_FRAUDS_30D),
];

/// Values that one decision reads at most.
pub const READINGS_MAX: usize = AGGREGATES_MAX + FRAUDS.len();

/// Which windows are kept. Built once for each version of the rules.
pub struct SharedPlan {
    pub(super) series: Vec<Series>,
    /// Those of the file's aggregates first.
    pub(super) readings: Vec<Planned>,
    /// Those of equal conditions once.
    filters: Vec<Filter>,
    places: Vec<u16>,
    /// Of the features behind the aggregates.
    features: Vec<Slot>,
    /// Keys, window, measure and filter of each aggregate.
    kinds: Vec<String>,
    fingerprint: [u8; 16],
}

/// The events of equal parts that pass one filter.
pub(super) struct Series {
    pub keys: Keys,
    /// Number of the filter; `None` counts every attempt.
    filter: Option<u8>,
    /// Counts transactions as this label comes for them; `None` counts authorisations.
    pub label: Option<FraudLabel>,
    /// What is counted distinctly: one word of every row each.
    pub attributes: Vec<Attribute>,
    /// Windows whose counts and sums are read, each with a summary of its own.
    pub summed_ms: Vec<i64>,
    /// Events this much older than the newest are in no window of a decision that may still come: one may be of a time up
    /// to [`LATENESS_MAX_MS`] back, and must read what it would have read then.
    pub horizon_ms: i64,
    /// Apart from the other series, which may be over the same parts.
    pub salt: u64,
}

impl Series {
    /// Whether the series counts an event that passed these filters.
    pub fn takes(&self, event: &SharedEvent, passed: u64) -> bool {
        self.label == event.label && self.filter.is_none_or(|filter| passed >> filter & 1 == 1)
    }

    /// Events kept one by one for one key. Measures that walk through a window never see more than
    /// [`EVENTS_PER_KEY_MAX`] of them.
    pub fn events_max(&self) -> usize {
        match self.summed_ms.is_empty() {
            true => EVENTS_PER_KEY_MAX,
            false => SHARED_EVENTS_PER_KEY_MAX,
        }
    }

    /// Words of one row.
    pub fn width(&self) -> usize {
        FIXED_WORDS + self.attributes.len()
    }
}

/// How one aggregate is read.
#[derive(Clone, Copy)]
pub(super) struct Planned {
    pub series: u8,
    pub window_ms: i64,
    pub how: How,
}

/// Totals come with the number of their window's summary, distinct counts with that of their attribute.
#[derive(Clone, Copy)]
pub(super) enum How {
    Count(u8),
    Sum(u8),
    Mean(u8),
    Min,
    Max,
    StdDev,
    Distinct(u8),
}

impl Planned {
    /// What a window without events reads.
    pub fn of_nothing(self) -> SharedValue {
        let value = match self.how {
            How::Count(_) | How::Sum(_) | How::Distinct(_) => Some(0),
            How::Mean(_) | How::Min | How::Max | How::StdDev => None,
        };
        SharedValue { value, saturated: false }
    }
}

impl SharedPlan {
    /// Takes those of the file's aggregates that are kept here ([`Aggregate::is_shared`]), and what features are read from.
    ///
    /// # Panics
    /// Where there are more than [`AGGREGATES_MAX`] or a window is not between 1 ms and [`WINDOW_MAX_MS`]: the rules
    /// file's checker refuses both.
    pub fn new(aggregates: &[Aggregate]) -> SharedPlan {
        SharedPlan::with(aggregates, &FRAUDS)
    }

    /// The aggregates alone.
    #[cfg(test)]
    pub(super) fn of_aggregates(aggregates: &[Aggregate]) -> SharedPlan {
        SharedPlan::with(aggregates, &[])
    }

    fn with(aggregates: &[Aggregate], features: &[(Keys, i64, Slot)]) -> SharedPlan {
        assert!(aggregates.len() <= AGGREGATES_MAX);
        let mut plan = SharedPlan {
            series: Vec::new(),
            readings: Vec::new(),
            filters: Vec::new(),
            places: Vec::new(),
            features: Vec::new(),
            kinds: Vec::new(),
            fingerprint: [0; 16],
        };
        let mut hasher = blake3::Hasher::new();
        let mut say = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for (place, aggregate) in aggregates.iter().enumerate() {
            if !aggregate.is_shared() {
                continue;
            }
            let Aggregate { by, window_ms, measure, filter, .. } = aggregate;
            assert!((1..=WINDOW_MAX_MS).contains(window_ms), "{}", aggregate.name);
            plan.places.push(place as u16);
            let number = filter.as_ref().map(|filter| number_of_filter(filter, &mut plan.filters));
            let label = filter.as_ref().and_then(Filter::label);
            plan.add(*by, (number, label), *window_ms, *measure);
            let condition = filter.as_ref().map_or(String::new(), |f| format!("where {}", f.condition()));
            let kept = format!("{} {window_ms} {measure:?}", by.bits());
            say(&kept);
            say(&condition);
            plan.kinds.push(format!("{kept} {condition}"));
        }
        for (by, window_ms, slot) in features {
            plan.features.push(*slot);
            plan.add(*by, (None, Some(FraudLabel::Fraud)), *window_ms, Measure::Count);
            let kept = format!("frauds by {} {window_ms}", by.bits());
            say(&kept);
            plan.kinds.push(kept);
        }
        plan.fingerprint.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        plan
    }

    /// Whether readings need to know whose a request is: its account, and its card there.
    pub fn asks_for_owner(&self) -> bool {
        self.series.iter().any(|series| !series.keys.cross_accounts())
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// Places among the file's aggregates of those kept here, in the order in which readings give their values.
    pub fn places(&self) -> &[u16] {
        &self.places
    }

    /// Names what is kept: it differs where the aggregates' keys, windows, measures, filters or order do.
    pub fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    /// For each of the aggregates kept here the place of the same one among those that `other` keeps.
    pub fn found_in(&self, other: &SharedPlan) -> Vec<Option<usize>> {
        let found = |kind: &String| other.kinds.iter().position(|known| known == kind);
        self.kinds.iter().map(found).collect()
    }

    /// Slots of the features that are read here, in the order in which readings give their values behind those of the
    /// aggregates.
    pub fn features(&self) -> &[Slot] {
        &self.features
    }

    /// Whether transactions are counted as this label comes for them.
    pub fn counts(&self, label: FraudLabel) -> bool {
        self.series.iter().any(|series| series.label == Some(label))
    }

    /// Whether an aggregate of the rules file counts labels.
    pub fn aggregates_count_labels(&self) -> bool {
        self.filters.iter().any(|filter| filter.label().is_some())
    }

    /// One bit per filter that the event passes.
    pub(super) fn passed_by(&self, event: &Event) -> u64 {
        let passes = |(number, filter): (usize, &Filter)| u64::from(filter.passes(event)) << number;
        self.filters.iter().enumerate().map(passes).fold(0, |mask, bit| mask | bit)
    }

    /// The longest horizon of all series.
    pub(super) fn horizon_ms(&self) -> i64 {
        self.series.iter().map(|series| series.horizon_ms).max().unwrap_or(LATENESS_MAX_MS)
    }

    fn add(
        &mut self,
        keys: Keys,
        (filter, label): (Option<u8>, Option<FraudLabel>),
        window_ms: i64,
        measure: Measure,
    ) {
        let is_same =
            |series: &Series| series.keys == keys && series.filter == filter && series.label == label;
        let known = self.series.iter().position(is_same);
        let number = known.unwrap_or_else(|| {
            let number = self.series.len();
            self.series.push(Series {
                keys,
                filter,
                label,
                attributes: Vec::new(),
                summed_ms: Vec::new(),
                horizon_ms: 0,
                salt: (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            });
            number
        });
        let series = &mut self.series[number];
        series.horizon_ms = series.horizon_ms.max(window_ms + LATENESS_MAX_MS);
        let how = match measure {
            Measure::Count => How::Count(number_of(window_ms, &mut series.summed_ms)),
            Measure::Sum => How::Sum(number_of(window_ms, &mut series.summed_ms)),
            Measure::Mean => How::Mean(number_of(window_ms, &mut series.summed_ms)),
            Measure::Min => How::Min,
            Measure::Max => How::Max,
            Measure::StdDev => How::StdDev,
            Measure::Distinct(attribute) => How::Distinct(number_of(attribute, &mut series.attributes)),
        };
        self.readings.push(Planned { series: number as u8, window_ms, how });
    }
}

/// The number of a filter, added where its condition is new.
fn number_of_filter(filter: &Filter, filters: &mut Vec<Filter>) -> u8 {
    let known = filters.iter().position(|known| known.condition() == filter.condition());
    known.unwrap_or_else(|| {
        filters.push(filter.clone());
        filters.len() - 1
    }) as u8
}

/// The place of an entry, added where it is new.
fn number_of<T: PartialEq>(entry: T, known: &mut Vec<T>) -> u8 {
    let number = known.iter().position(|known| *known == entry);
    number.unwrap_or_else(|| {
        known.push(entry);
        known.len() - 1
    }) as u8
}

impl fmt::Debug for SharedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPlan").field("places", &self.places).finish_non_exhaustive()
    }
}
