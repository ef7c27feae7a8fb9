//! An exact sliding window as a rules file declares it, and how it is read.

use std::sync::Arc;

use super::{
    compact::{Compact, Shape},
    distinct::count_distinct,
    event::Event,
    values::{Slot, Values},
    window::{Length, Pick, TotalId, View, WindowPlan},
};

/// Whose events are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum By {
    Card,
    Account,
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
    /// Number of different values; 0 where there is none. An integer.
    Distinct(Attribute),
}

impl Measure {
    /// Whether it is an amount, in minor units of the account's currency.
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
        }
    }
}

/// Which past events count. Asked once, when the event is recorded. Unknown counts as no.
#[derive(Clone)]
pub struct Filter {
    condition: Arc<str>,
    passes: Arc<dyn Fn(&Event) -> bool + Send + Sync>,
}

impl Filter {
    /// `condition` names what `passes` decides: two filters of one text are taken as one, and a text is how stored
    /// windows know again under which filters they were made. `passes` must depend on nothing but the event's
    /// card, kind, decision, channel, category code and country, and whether it was declined for credit.
    pub fn new(condition: &str, passes: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Filter {
        Filter { condition: condition.into(), passes: Arc::new(passes) }
    }

    pub fn condition(&self) -> &str {
        &self.condition
    }

    pub fn passes(&self, event: &Event) -> bool {
        (self.passes)(event)
    }
}

/// One declared aggregate.
#[derive(Clone)]
pub struct Aggregate {
    pub name: Arc<str>,
    pub by: By,
    /// 1 s to 31 days.
    pub window_ms: i64,
    pub measure: Measure,
    /// `None` counts every attempt.
    pub filter: Option<Filter>,
}

/// An aggregate with its place in the windows.
pub(super) struct Planned {
    by: By,
    pick: Pick,
    source: Source,
}

enum Source {
    Count(TotalId),
    Sum(TotalId),
    Mean(TotalId),
    Min(Length),
    Max(Length),
    Distinct(Length, Attribute),
}

impl Planned {
    pub(super) fn new(aggregate: &Aggregate, pick: Pick, windows: &mut WindowPlan) -> Planned {
        let &Aggregate { by, window_ms, measure, .. } = aggregate;
        let source = match measure {
            Measure::Count => Source::Count(windows.total(by, window_ms, pick)),
            Measure::Sum => Source::Sum(windows.total(by, window_ms, pick)),
            Measure::Mean => Source::Mean(windows.total(by, window_ms, pick)),
            Measure::Min => Source::Min(windows.length(window_ms)),
            Measure::Max => Source::Max(windows.length(window_ms)),
            Measure::Distinct(attribute) => Source::Distinct(windows.length(window_ms), attribute),
        };
        Planned { by, pick, source }
    }

    pub(super) fn fill(&self, view: &View, card: u8, slot: Slot, values: &mut Values) {
        match self.source {
            Source::Count(total) | Source::Sum(total) | Source::Mean(total) => {
                let Some(reading) = view.total(total, card) else { return };
                let value = match self.source {
                    Source::Count(_) => Some(i128::from(reading.count)),
                    Source::Mean(_) => {
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
            Source::Min(length) | Source::Max(length) => {
                let amounts = self.events(view, length, card).map(Compact::amount_minor);
                let value = if matches!(self.source, Source::Min(_)) { amounts.min() } else { amounts.max() };
                if let Some(value) = value {
                    values.set_int(slot, value);
                }
                self.mark_truncated(view, length, slot, values);
            }
            Source::Distinct(length, attribute) => {
                let events = self.events(view, length, card);
                values.set_int(slot, count_distinct(events.map(|event| attribute.of(event.shape))) as i64);
                self.mark_truncated(view, length, slot, values);
            }
        }
    }

    fn events<'w>(
        &self,
        view: &View<'w>,
        length: Length,
        card: u8,
    ) -> impl Iterator<Item = Compact> + Clone + use<'w> {
        let (by, pick) = (self.by, self.pick);
        view.events(length)
            .filter(move |event| (by == By::Account || event.card() == card) && pick.takes(event))
    }

    fn mark_truncated(&self, view: &View, length: Length, slot: Slot, values: &mut Values) {
        if view.is_truncated(length) {
            values.mark_saturated(slot);
        }
    }
}
