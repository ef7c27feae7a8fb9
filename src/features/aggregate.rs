//! An exact sliding window as a rules file declares it, and how it is read.

use std::sync::Arc;

use serde::Serialize;

use super::{
    amounts::AmountRange,
    compact::{Compact, Shape},
    distinct::count_distinct,
    event::Event,
    present::Present,
    shared,
    values::{Slot, Values},
    window::{self, Length, Pick, TotalId, View, WindowPlan},
};
use crate::{
    limits::{AMOUNT_MINOR_MAX, EVENTS_PER_KEY_MAX, LATENESS_MAX_MS, WINDOW_MAX_MS},
    types::lists::FraudLabel,
};

/// In which account an account's windows count: in one card's, or in all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum By {
    Card,
    Account,
}

/// Whose events an aggregate counts: those that have the same value as the present transaction in each of these parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Keys(u8);

impl Keys {
    pub const NONE: Keys = Keys(0);
    pub const CARD: Keys = Keys(1);
    pub const ACCOUNT: Keys = Keys(1 << 1);
    pub const MERCHANT: Keys = Keys(1 << 2);
    pub const TERMINAL: Keys = Keys(1 << 3);
    pub const DEVICE: Keys = Keys(1 << 4);
    pub const IP: Keys = Keys(1 << 5);
    pub const MCC: Keys = Keys(1 << 6);
    pub const COUNTRY: Keys = Keys(1 << 7);

    /// Every part with the name that a rules file calls it by.
    pub const NAMES: [(&str, Keys); 8] = [
        ("card", Keys::CARD),
        ("account", Keys::ACCOUNT),
        ("merchant", Keys::MERCHANT),
        ("terminal", Keys::TERMINAL),
        ("device", Keys::DEVICE),
        ("ip", Keys::IP),
        ("mcc", Keys::MCC),
        ("country", Keys::COUNTRY),
    ];

    /// Both together.
    pub const fn and(self, other: Keys) -> Keys {
        Keys(self.0 | other.0)
    }

    /// These without those.
    pub const fn without(self, other: Keys) -> Keys {
        Keys(self.0 & !other.0)
    }

    /// Whether all of `other` is among these.
    pub const fn has(self, other: Keys) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of `other` is among these.
    pub const fn has_any(self, other: Keys) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether events of several accounts count together. Where card or account is a part, the account's own windows
    /// have all of them, but for their labels ([`Aggregate::is_shared`]).
    pub const fn cross_accounts(self) -> bool {
        !self.has_any(Keys::CARD.and(Keys::ACCOUNT))
    }

    /// One number for the parts, for fingerprints.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The names of the parts in the order of [`Keys::NAMES`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Keys::NAMES.into_iter().filter(move |(_, key)| self.has(*key)).map(|(name, _)| name)
    }
}

/// What is computed over the events in the window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Measure {
    /// Number of events; 0 where there is none. An integer.
    Count,
    /// Sum of the amounts; 0 where there is none. Money.
    Sum,
    /// Mean amount; missing where there is none. Money, rounded down.
    Mean,
    /// Smallest and largest amount; missing where there is none. Money.
    Min,
    Max,
    /// Sample standard deviation of the amounts (over n - 1); missing below two events. Money, rounded down.
    StdDev,
    /// Number of different values; 0 where there is none. An integer.
    Distinct(Attribute),
}

impl Measure {
    /// Whether it is an amount, in minor units of the account's currency, or of the base currency where it
    /// [is shared](Aggregate::is_shared).
    pub fn is_money(self) -> bool {
        !matches!(self, Measure::Count | Measure::Distinct(_))
    }
}

/// What can be counted distinctly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Attribute {
    Country,
    Mcc,
    Merchant,
    Device,
    Channel,
    Card,
    /// Not known to an account's own windows.
    Account,
    Terminal,
    Ip,
}

impl Attribute {
    /// A number of its own for every value; 0 where the event has none.
    pub(super) fn of(self, shape: Shape) -> u32 {
        match self {
            Attribute::Country => u32::from(shape.country()),
            Attribute::Mcc => u32::from(shape.mcc_number()),
            Attribute::Merchant => shape.merchant,
            Attribute::Device => shape.device,
            Attribute::Channel => u32::from(shape.channel()),
            Attribute::Card => u32::from(shape.card()),
            // The checker lets nobody ask an account's own windows for these.
            Attribute::Account | Attribute::Terminal | Attribute::Ip => 0,
        }
    }
}

/// Which past events count. Asked once, when the event is recorded. Unknown counts as no.
#[derive(Clone)]
pub struct Filter {
    condition: Arc<str>,
    passes: Arc<dyn Fn(&Event) -> bool + Send + Sync>,
    amounts: Option<AmountRange>,
    label: Option<FraudLabel>,
}

impl Filter {
    /// `condition` names what `passes` decides: two filters of one text are taken as one, and a text is how stored
    /// windows know again under which filters they were made. `passes` must depend on nothing but the event's
    /// card, kind, decision, channel, category code and country, and whether it was declined for credit.
    pub fn new(condition: &str, passes: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Filter {
        Filter { condition: condition.into(), passes: Arc::new(passes), amounts: None, label: None }
    }

    /// The same, for amounts within `range` alone, of which `condition` must speak too.
    pub fn within(self, range: AmountRange) -> Filter {
        Filter { amounts: Some(range), ..self }
    }

    /// The same, for transactions that this label has come for, which `condition` must say too. Only windows across
    /// accounts know of labels.
    pub fn labelled(self, label: FraudLabel) -> Filter {
        Filter { label: Some(label), ..self }
    }

    /// The label that a transaction must have got; `None` where it counts as it is decided.
    pub fn label(&self) -> Option<FraudLabel> {
        self.label
    }

    pub fn condition(&self) -> &str {
        &self.condition
    }

    /// Amounts that pass; `None` where all do.
    pub fn amounts(&self) -> Option<AmountRange> {
        self.amounts
    }

    /// An amount that is not known passes no filter over amounts.
    pub fn passes(&self, event: &Event) -> bool {
        let is_inside = |range: AmountRange| {
            event.currency.is_some_and(|currency| range.has(event.amount_minor, currency))
        };
        self.passes_but_for_amount(event) && self.amounts.is_none_or(is_inside)
    }

    /// What depends on the amount left aside.
    pub fn passes_but_for_amount(&self, event: &Event) -> bool {
        (self.passes)(event)
    }
}

/// One declared aggregate.
#[derive(Clone)]
pub struct Aggregate {
    pub name: Arc<str>,
    pub by: Keys,
    /// 1 s to 31 days.
    pub window_ms: i64,
    pub measure: Measure,
    /// `None` counts every attempt.
    pub filter: Option<Filter>,
}

/// Memory that an aggregate asks for, as if it were the only one: what it shares with others is taken once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Footprint {
    /// For every key: a card, an account, a merchant, and so on.
    pub bytes_per_key: usize,
    /// For every event of a key that is kept.
    pub bytes_per_event: usize,
    /// For which window events are kept: the aggregate's own, or the longest there may be where `serves_all`.
    pub window_ms: i64,
    /// Whether its events serve all aggregates, whatever their windows: those of an account do.
    pub serves_all: bool,
    /// How long an event is kept: what comes late may lie up to [`LATENESS_MAX_MS`] back, and its window reaches back
    /// from there.
    pub event_kept_ms: i64,
}

impl Aggregate {
    /// Whether it is kept with the windows across accounts: where its key crosses them, and where it counts labels, which
    /// come long after the decision, by whatever key.
    pub fn is_shared(&self) -> bool {
        self.by.cross_accounts() || self.filter.as_ref().is_some_and(|filter| filter.label().is_some())
    }

    pub fn footprint(&self) -> Footprint {
        let distinct = usize::from(matches!(self.measure, Measure::Distinct(_)));
        if self.is_shared() {
            let bytes_per_event = shared::event_bytes(distinct);
            return Footprint {
                bytes_per_key: shared::KEY_BYTES,
                bytes_per_event,
                window_ms: self.window_ms,
                serves_all: false,
                event_kept_ms: self.window_ms + LATENESS_MAX_MS,
            };
        }
        let has_total = is_total(self.measure, alike(self.by));
        Footprint {
            bytes_per_key: if has_total { window::TOTAL_BYTES } else { 0 },
            bytes_per_event: window::EVENT_BYTES,
            window_ms: WINDOW_MAX_MS,
            serves_all: true,
            event_kept_ms: window::HORIZON_MS,
        }
    }
}

/// What else than card and account an event must have in common with the present transaction.
fn alike(by: Keys) -> Keys {
    by.without(Keys::CARD.and(Keys::ACCOUNT))
}

/// Whether the windows keep a total for it; what has none is worked out from the single events.
fn is_total(measure: Measure, alike: Keys) -> bool {
    matches!(measure, Measure::Count | Measure::Sum | Measure::Mean) && alike == Keys::NONE
}

/// An aggregate with its place in the windows of an account.
pub(super) struct Planned {
    by: By,
    /// What else an event must have in common with the present transaction.
    alike: Keys,
    pick: Pick,
    measure: Measure,
    source: Source,
}

enum Source {
    /// A total that the windows keep.
    Total(TotalId),
    /// The single events.
    Events(Length),
}

impl Planned {
    pub(super) fn new(aggregate: &Aggregate, pick: Pick, windows: &mut WindowPlan) -> Planned {
        let &Aggregate { by: keys, window_ms, measure, .. } = aggregate;
        let by = if keys.has(Keys::CARD) { By::Card } else { By::Account };
        let alike = alike(keys);
        let source = match is_total(measure, alike) {
            true => Source::Total(windows.total(by, window_ms, pick)),
            false => Source::Events(windows.length(window_ms)),
        };
        Planned { by, alike, pick, measure, source }
    }

    /// `view` must be of the present card.
    pub(super) fn fill(&self, view: &View, present: Present, slot: Slot, values: &mut Values) {
        match self.source {
            Source::Total(total) => {
                let Some(reading) = view.total(total) else { return };
                let value = match self.measure {
                    Measure::Count => Some(i128::from(reading.count)),
                    Measure::Mean => {
                        (reading.count > 0).then(|| reading.sum_minor.div_euclid(i128::from(reading.count)))
                    }
                    _ => Some(reading.sum_minor),
                };
                if let Some(value) = value {
                    // Only a summary can hold more than an i64 does, and it may read high.
                    values.set_int(slot, value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64);
                }
                if reading.saturated {
                    values.mark_saturated(slot);
                }
            }
            Source::Events(length) => {
                let counts = matches!(self.measure, Measure::Count | Measure::Sum | Measure::Mean);
                // What has left the ring is told apart by no key, and a count or a sum must not read low.
                if !present.has(self.alike) || counts && view.is_truncated(length) {
                    return;
                }
                let events = self.events(view, length, present);
                if let Some(value) = measured(self.measure, events) {
                    values.set_int(slot, value);
                }
                self.mark_truncated(view, length, slot, values);
            }
        }
    }

    fn events<'w>(
        &self,
        view: &View<'w>,
        length: Length,
        present: Present,
    ) -> impl Iterator<Item = Compact> + Clone + use<'w> {
        let (by, alike) = (self.by, self.alike);
        let picked = view.picked(self.pick);
        view.events(length).filter(move |event| {
            (by == By::Account || event.card() == present.card)
                && picked(event)
                && present.is_alike(event.shape, alike)
        })
    }

    fn mark_truncated(&self, view: &View, length: Length, slot: Slot, values: &mut Values) {
        if view.is_truncated(length) {
            values.mark_saturated(slot);
        }
    }
}

/// A measure over single events; `None` where it is missing.
fn measured(measure: Measure, events: impl Iterator<Item = Compact> + Clone) -> Option<i64> {
    let amounts = events.clone().map(Compact::amount_minor);
    match measure {
        Measure::Count => Some(events.count() as i64),
        Measure::Sum => Some(amounts.sum()),
        Measure::Mean => {
            let (count, sum) = amounts.fold((0, 0), |(count, sum), amount| (count + 1, sum + amount));
            (count > 0).then(|| i64::div_euclid(sum, count))
        }
        Measure::Min => amounts.min(),
        Measure::Max => amounts.max(),
        Measure::StdDev => stddev(amounts),
        Measure::Distinct(attribute) => {
            Some(count_distinct(events.map(|event| attribute.of(event.shape))) as i64)
        }
    }
}

/// The sample standard deviation, rounded down: the root of (n Σx² - (Σx)²) / (n (n - 1)) in whole numbers, so that it
/// is the same wherever it is worked out. `None` below two amounts. A full ring of the largest amounts fits an i128.
pub(super) fn stddev(amounts: impl Iterator<Item = i64>) -> Option<i64> {
    let (mut count, mut sum, mut squares) = (0_i128, 0_i128, 0_i128);
    for amount in amounts.map(i128::from) {
        (count, sum, squares) = (count + 1, sum + amount, squares + amount * amount);
    }
    if count < 2 {
        return None;
    }
    let variance = (count * squares - sum * sum) / (count * (count - 1));
    Some(variance.isqrt() as i64)
}

const _: () = assert!(
    (AMOUNT_MINOR_MAX as i128 * AMOUNT_MINOR_MAX as i128)
        .checked_mul(EVENTS_PER_KEY_MAX as i128 * EVENTS_PER_KEY_MAX as i128)
        .is_some(),
    "the squares of a full ring cannot overflow an i128"
);
