//! The counts the decision path leaves behind: per lane (one per runtime) arrays of atomics that no other lane
//! writes to, so that counting is a handful of uncontended additions: no lock, no allocation, no lookup.
//!
//! Nothing is read here on the decision path. A scrape adds the lanes up; a count of one lane may be a moment ahead of
//! another's, and no count is ever lost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    calls::{Call, CallResult},
    group::ReasonGroup,
    metrics::{
        ANSWER_TIME, CALL_TIME, CHALLENGER_SCORE, DECISION_TIME, Family, Kind, SCORE_POINTS, STAGE_TIME,
    },
};
pub use crate::authorise::Stage;
use crate::types::{
    challenge::{Challenged, Declining},
    codes::{Decision, ResponseCode},
};

/// How many stages are timed.
pub const STAGES: usize = Stage::ALL.len();

/// What is counted of one decision.
#[derive(Clone, Copy, Debug)]
pub struct DecisionSeen {
    pub decision: Decision,
    pub reason_group: ReasonGroup,
    pub response_code: ResponseCode,
    /// Absent where nothing was scored.
    pub score: Option<u16>,
    /// Absent where no challenger scored it.
    pub challenged: Option<Challenged>,
    /// Whether the model's decline was set aside for the control share.
    pub is_control: bool,
    /// Nanoseconds of each stage by [`Stage`]; absent where this decision was not timed. Reading the clock eight
    /// times costs about as much as the rules, so that timing one decision in a few is enough.
    pub stage_ns: Option<[u32; STAGES]>,
    /// Nanoseconds from arrival to the decision.
    pub total_ns: u64,
}

/// Atomics in cache lines that belong to one lane alone.
pub(super) struct Cells(Box<[Line]>);

/// Two cache lines of 64 bytes: processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Line([AtomicU64; 16]);

impl Cells {
    pub(super) fn new(count: usize) -> Cells {
        Cells((0..count.div_ceil(16)).map(|_| Line::default()).collect())
    }

    pub(super) fn add(&self, index: usize, amount: u64) {
        self.0[index / 16].0[index % 16].fetch_add(amount, Relaxed);
    }

    /// Adds one without a locked instruction, which would be most of the cost where dozens of cells are counted for one
    /// decision. Exact while one thread alone has the lane. Where several share it, one that is held between reading and
    /// writing sets the cell back to what it read, and so takes away all that the others added meanwhile: for shares of
    /// many decisions, to which that is little, and for nothing that must be a count.
    pub(super) fn add_roughly(&self, index: usize) {
        let cell = &self.0[index / 16].0[index % 16];
        cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(super) fn get(&self, index: usize) -> u64 {
        self.0[index / 16].0[index % 16].load(Relaxed)
    }
}

/// One lane's share of a histogram: a count per bucket, the last one for what is above every bound, and the sum.
pub(super) struct Buckets {
    /// In the unit of the values that are recorded.
    bounds: Box<[u64]>,
    cells: Cells,
}

impl Buckets {
    /// For a family of histograms whose values are recorded as integers of which `per_unit` make one unit of the
    /// family: 1e9 for nanoseconds recorded of seconds shown.
    pub(super) fn new(family: &Family, per_unit: f64) -> Buckets {
        let Kind::Histogram(bounds) = family.kind else { unreachable!("{} is no histogram", family.name) };
        let bounds: Box<[u64]> = bounds.iter().map(|bound| (bound * per_unit).round() as u64).collect();
        let cells = Cells::new(bounds.len() + 2);
        Buckets { bounds, cells }
    }

    pub(super) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.cells.add(bucket, 1);
        self.cells.add(self.bounds.len() + 1, value);
    }

    /// Adds this share to `counts`, one per bucket including the infinite one, and returns its sum.
    pub(super) fn gather(&self, counts: &mut [u64]) -> u64 {
        for (bucket, count) in counts.iter_mut().enumerate() {
            *count += self.cells.get(bucket);
        }
        self.cells.get(self.bounds.len() + 1)
    }
}

/// Nanoseconds in one second: what durations are recorded in, and what they are shown in.
pub(super) const NS_PER_SECOND: f64 = 1e9;

const GROUPS: usize = ReasonGroup::ALL.len();
/// Two characters of 36 digits and capitals, and one place for whatever else a rules file may invent.
const RESPONSE_CODES: usize = 36 * 36 + 1;

/// Everything one lane counts.
pub(super) struct LaneCounts {
    calls: Cells,
    /// By [`Call`]; empty where the call is not timed.
    pub(super) call_time: Box<[Option<Buckets>]>,
    decisions: Cells,
    response_codes: Cells,
    /// Repeats, then duplicate keys.
    repeats: Cells,
    pub(super) score: Buckets,
    pub(super) challenger_score: Buckets,
    /// By [`Declining`].
    challenges: Cells,
    /// Of the control share: let through, then declined for something else.
    control: Cells,
    pub(super) stages: [Buckets; STAGES],
    pub(super) decision_time: Buckets,
    pub(super) answer_time: Buckets,
}

impl LaneCounts {
    pub(super) fn new() -> LaneCounts {
        let call_time = |call: &Call| call.is_timed().then(|| Buckets::new(&CALL_TIME, NS_PER_SECOND));
        LaneCounts {
            calls: Cells::new(Call::ALL.len() * CallResult::ALL.len()),
            call_time: Call::ALL.iter().map(call_time).collect(),
            decisions: Cells::new(Decision::ALL.len() * GROUPS),
            response_codes: Cells::new(RESPONSE_CODES),
            repeats: Cells::new(2),
            score: Buckets::new(&SCORE_POINTS, 1.0),
            challenger_score: Buckets::new(&CHALLENGER_SCORE, 1.0),
            challenges: Cells::new(Declining::ALL.len()),
            control: Cells::new(2),
            stages: std::array::from_fn(|_| Buckets::new(&STAGE_TIME, NS_PER_SECOND)),
            decision_time: Buckets::new(&DECISION_TIME, NS_PER_SECOND),
            answer_time: Buckets::new(&ANSWER_TIME, NS_PER_SECOND),
        }
    }

    pub(super) fn call_ended(&self, call: Call, result: CallResult, total_ns: u64) {
        self.calls.add(call_cell(call, result), 1);
        if let Some(buckets) = &self.call_time[call as usize] {
            buckets.record(total_ns);
        }
    }

    pub(super) fn calls(&self, call: Call, result: CallResult) -> u64 {
        self.calls.get(call_cell(call, result))
    }

    pub(super) fn decided(&self, seen: &DecisionSeen) {
        self.decisions.add(decision_cell(seen.decision, seen.reason_group), 1);
        self.response_codes.add(response_code_cell(seen.response_code), 1);
        if let Some(score) = seen.score {
            self.score.record(u64::from(score));
        }
        if let Some(Challenged { score, declining, .. }) = seen.challenged {
            self.challenger_score.record(u64::from(score));
            self.challenges.add(declining as usize, 1);
        }
        if seen.is_control {
            let is_declined = seen.decision == Decision::Declined;
            self.control.add(usize::from(is_declined), 1);
        }
        if let Some(stage_ns) = seen.stage_ns {
            for (stage, ns) in self.stages.iter().zip(stage_ns) {
                stage.record(u64::from(ns));
            }
        }
        self.decision_time.record(seen.total_ns);
    }

    pub(super) fn replayed(&self) {
        self.repeats.add(0, 1);
    }

    pub(super) fn duplicate_key(&self) {
        self.repeats.add(1, 1);
    }

    pub(super) fn replays(&self) -> u64 {
        self.repeats.get(0)
    }

    pub(super) fn duplicate_keys(&self) -> u64 {
        self.repeats.get(1)
    }

    /// All decisions.
    pub(super) fn decided_so_far(&self) -> u64 {
        (0..Decision::ALL.len() * GROUPS).map(|cell| self.decisions.get(cell)).sum()
    }

    pub(super) fn decisions(&self, decision: Decision, group: ReasonGroup) -> u64 {
        self.decisions.get(decision_cell(decision, group))
    }

    pub(super) fn challenges(&self, declining: Declining) -> u64 {
        self.challenges.get(declining as usize)
    }

    /// Of the control share: let through, or declined for something else.
    pub(super) fn control(&self, is_declined: bool) -> u64 {
        self.control.get(usize::from(is_declined))
    }

    pub(super) fn response_code(&self, cell: usize) -> u64 {
        self.response_codes.get(cell)
    }
}

fn call_cell(call: Call, result: CallResult) -> usize {
    call as usize * CallResult::ALL.len() + result as usize
}

fn decision_cell(decision: Decision, group: ReasonGroup) -> usize {
    (usize::from(decision.number()) - 1) * GROUPS + group as usize
}

fn response_code_cell(code: ResponseCode) -> usize {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(usize::from(byte - b'0')),
        b'A'..=b'Z' => Some(usize::from(byte - b'A') + 10),
        _ => None,
    };
    let bytes = code.as_str().as_bytes();
    match (digit(bytes[0]), digit(bytes[1])) {
        (Some(high), Some(low)) => high * 36 + low,
        _ => RESPONSE_CODES - 1,
    }
}

/// The label under which a code is counted.
pub(super) fn response_code_label(code: ResponseCode) -> String {
    label_of_cell(response_code_cell(code))
}

fn label_of_cell(cell: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    match cell {
        cell if cell == RESPONSE_CODES - 1 => "other".to_owned(),
        cell => [DIGITS[cell / 36], DIGITS[cell % 36]].iter().map(|b| char::from(*b)).collect(),
    }
}

/// The cells of [`LaneCounts::response_code`] and what each one counts.
pub(super) fn response_code_labels() -> impl Iterator<Item = (usize, String)> {
    (0..RESPONSE_CODES).map(|cell| (cell, label_of_cell(cell)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn a_value_on_a_bound_falls_below_it_and_none_is_lost() {
        let buckets = Buckets::new(&SCORE_POINTS, 1.0);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut naive = vec![0_u64; 21];
        let mut sum = 0;
        for _ in 0..10_000 {
            let score = random.random_range(0..1_020_u64);
            naive[(score / 50).min(20) as usize] += 1;
            sum += score;
            buckets.record(score);
        }
        let mut counts = vec![0; 21];
        assert_eq!(buckets.gather(&mut counts), sum);
        assert_eq!(counts, naive);
    }

    #[test]
    fn every_response_code_has_a_cell_of_its_own() {
        for (cell, code) in response_code_labels().filter(|(_, code)| code != "other") {
            assert_eq!(response_code_cell(ResponseCode::new(&code).unwrap()), cell);
        }
        assert_eq!(response_code_cell(ResponseCode::new("a1").unwrap()), RESPONSE_CODES - 1);
    }
}
