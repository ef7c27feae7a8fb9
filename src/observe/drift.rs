//! How the features and scores of one model's decisions are spread over the bins of its training rows.
//!
//! A decision adds one to a cell for each feature and one for the score, in cells of its own lane. Whoever scrapes adds
//! the lanes up and keeps a mark of the totals every hour; what was counted within the last day is what has come since
//! the mark of a day ago. So nobody ever empties a cell, and time costs the decision path nothing.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    lanes::Cells,
    metrics::{self as table, Family},
    recorder::write_head,
};
use crate::{
    features::catalog::{MODEL_FEATURES, model_feature},
    model::drift::{Bins, CELLS, ROWS_MIN, Reference},
};

/// What a stability index is about: the last day, so that no hour of it counts more than another.
const WINDOW: Duration = Duration::from_secs(24 * 3_600);
/// How often a mark is kept: the window is up to so much longer.
const MARK_EVERY: Duration = Duration::from_secs(3_600);

/// Where the score is counted, behind the features.
const SCORE: usize = MODEL_FEATURES;

/// What one model's decisions were like. Kept beside the model, so that a decision is counted for the one that scored it.
/// Cloning shares the counts.
#[derive(Clone)]
pub struct DriftCounts(Arc<DriftCells>);

struct DriftCells {
    reference: Arc<Reference>,
    lanes: Box<[Cells]>,
    /// The oldest first; never empty.
    marks: Mutex<VecDeque<Mark>>,
}

/// What had been counted at a moment.
struct Mark {
    at: Instant,
    totals: Box<[u64]>,
}

/// How far the decisions of about a day lie from the training rows.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Drift {
    /// Decisions that this is about.
    pub(super) rows: u64,
    /// Within which they came.
    pub(super) window: Duration,
    /// Stability indices, by feature in the order of a row, then of the score; `None` for too few decisions.
    pub(super) indices: Option<(Vec<f64>, f64)>,
}

impl DriftCounts {
    pub(super) fn new(lanes: usize, reference: &Arc<Reference>, now: Instant) -> DriftCounts {
        let cells = (MODEL_FEATURES + 1) * CELLS;
        DriftCounts(Arc::new(DriftCells {
            reference: Arc::clone(reference),
            lanes: (0..lanes.max(1)).map(|_| Cells::new(cells)).collect(),
            marks: Mutex::new([Mark { at: now, totals: vec![0; cells].into() }].into()),
        }))
    }

    /// A row was scored.
    pub fn saw(&self, lane: usize, row: &[f32; MODEL_FEATURES], score: u16) {
        let lane = &self.0.lanes[lane % self.0.lanes.len()];
        for (feature, (bins, value)) in self.0.reference.features().iter().zip(row).enumerate() {
            lane.add_roughly(feature * CELLS + bins.cell_of(*value));
        }
        lane.add_roughly(SCORE * CELLS + self.0.reference.score().cell_of(f32::from(score)));
    }

    /// What was counted within about a day before `now`, and keeps a mark where it is time for one. Where nobody asks for
    /// hours, the window is by so much longer.
    pub(super) fn drift(&self, now: Instant) -> Drift {
        let cells = &*self.0;
        let total = |cell| cells.lanes.iter().map(|lane| lane.get(cell)).sum::<u64>();
        let totals: Box<[u64]> = (0..(MODEL_FEATURES + 1) * CELLS).map(total).collect();
        let mut marks = cells.marks.lock();
        let age = |mark: &Mark| now.saturating_duration_since(mark.at);
        while marks.get(1).is_some_and(|next| age(next) >= WINDOW) {
            marks.pop_front();
        }
        let since = |place: usize| -> [u64; CELLS] {
            std::array::from_fn(|cell| {
                let at = place * CELLS + cell;
                // Below its mark is a cell only of a lane that threads share: see `Cells::add_roughly`.
                totals[at].saturating_sub(marks[0].totals[at])
            })
        };
        let index = |place: usize, bins: &Bins| bins.stability_index(&since(place));
        let window = marks.front().map_or(Duration::ZERO, age);
        let rows = since(SCORE).iter().sum();
        let indices = (rows >= ROWS_MIN).then(|| {
            let features = cells.reference.features().iter().enumerate();
            (
                features.map(|(place, bins)| index(place, bins)).collect(),
                index(SCORE, cells.reference.score()),
            )
        });
        if marks.back().is_none_or(|newest| age(newest) >= MARK_EVERY) {
            marks.push_back(Mark { at: now, totals });
        }
        Drift { rows, window, indices }
    }
}

/// Writes what is known for Prometheus; the names alone where it cannot be said what the training rows were like. Written
/// and not registered: the registry would go on showing the figures of a model that scores no more.
pub(super) fn write(text: &mut String, drift: Option<&Drift>) {
    let indices = drift.and_then(|drift| drift.indices.as_ref());
    write_head(text, &table::MODEL_DRIFT);
    let Family { name, labels, .. } = table::MODEL_DRIFT;
    for (feature, index) in indices.iter().flat_map(|(features, _)| features).enumerate() {
        let _ = writeln!(text, "{name}{{{}=\"{}\"}} {index}", labels[0], model_feature(feature).name);
    }
    text.push('\n');
    let mut one = |family: &Family, value: Option<f64>| {
        write_head(text, family);
        if let Some(value) = value {
            let _ = writeln!(text, "{} {value}", family.name);
        }
        text.push('\n');
    };
    one(&table::MODEL_SCORE_DRIFT, indices.map(|(_, score)| *score));
    one(&table::MODEL_DRIFT_ROWS, drift.map(|drift| drift.rows as f64));
    one(&table::MODEL_DRIFT_WINDOW, drift.map(|drift| drift.window.as_secs_f64()));
}

#[cfg(test)]
mod tests;
