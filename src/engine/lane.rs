//! One runtime's place in the engine: its wake list, and the number under which it counts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::{
    journal::{self, Durable},
    observe::Metrics,
};

/// What a runtime brings to every call.
pub struct Lane {
    wakes: Arc<journal::Lane>,
    number: usize,
    /// A handle of its own, so that counting moves no count of handles between the cores.
    metrics: Metrics,
    decisions: AtomicU32,
}

/// One decision in so many has its stages timed.
const TIMED_ONE_IN: u32 = 32;

impl Lane {
    pub(super) fn new(wakes: Arc<journal::Lane>, number: usize, metrics: Metrics) -> Lane {
        Lane { wakes, number, metrics, decisions: AtomicU32::new(0) }
    }

    /// Ends when the record at `position` is on disk, or can no longer be.
    pub fn durable(&self, position: u64) -> Durable {
        self.wakes.durable(position)
    }

    /// Wakes those who wait here, for as long as the runtime lives; spawned once on it.
    pub async fn run(self: Arc<Lane>) {
        self.wakes.clone().run().await;
    }

    /// Counts from 0 in the order of creation.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Counts an answer that is handed over, and the nanoseconds since its request arrived.
    pub(super) fn answered(&self, total_ns: u64) {
        self.metrics.answered(self.number, total_ns);
    }

    /// Whether the next decision has its stages timed.
    pub(super) fn is_timed(&self) -> bool {
        self.decisions.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIMED_ONE_IN)
    }
}
