//! An exact sliding window as a rules file declares it.

use std::sync::Arc;

use super::event::Event;

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

/// What can be counted distinctly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Attribute {
    Country,
    Mcc,
    Merchant,
    Device,
    Channel,
}

/// Which past events count. Must depend on nothing but the event, so that it can be asked once, when the event
/// is recorded. Unknown counts as no.
pub type Filter = Arc<dyn Fn(&Event) -> bool + Send + Sync>;

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
