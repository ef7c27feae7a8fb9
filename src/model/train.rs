//! Training: rows of features and what became of them, to a model file.
//!
//! ```text
//! training rows  ├── fit ──────────┤ label delay ├── validation ──┤        (the test is somebody else's: only measured)
//!                 every candidate    not used      chooses the candidate, the number of trees, calibration, threshold
//!                ├── the champion and the runner-up are fitted again on all of it ──┤
//! ```
//!
//! Several algorithms are tried, each with a few settings: boosting with the logistic loss ([`booster`]), and a forest, a
//! booster of the squared error and logistic regression ([`smart`]). Whatever they learn is brought to log-odds of fraud
//! ([`calibrate`]) and folded into leaves and weights, so that margins and contributions mean the same for all. The same
//! rows, settings and lock file give the same bytes.

mod booster;
mod calibrate;
mod examples;
mod learned;
mod smart;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use parking_lot::Mutex;

pub use self::examples::{Example, Examples, GENUINE_MAX};
use self::{calibrate::calibrate, learned::Learned};
use super::{
    drift::ReferenceFile,
    file::{AtThreshold, Model, ModelError, ModelFile, Period, SCORE_MAX, Training, Tried},
    quality::{Intervals, Quality},
    scale::score_table,
};
use crate::{
    features::catalog::{self, MODEL_FEATURES},
    types::time::DAY_MS,
};

/// What training can be told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Most trees of the model.
    pub trees: usize,
    pub threshold: Threshold,
    /// How long it takes until it is known whether a transaction was fraud, in milliseconds: rows whose label was not
    /// known when the validation period began are not fitted by what is chosen on it.
    pub label_delay_ms: i64,
    pub seed: u64,
}

/// From which score on a transaction is declined.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Threshold {
    /// The wished share of genuine transactions at or above it, on the validation period.
    FalsePositiveRate(f64),
    /// Where fraud that gets through, at its amount, and false positives, at this much each in major units, cost least.
    CostOfFalsePositive(f64),
}

impl Default for Settings {
    fn default() -> Settings {
        let threshold = Threshold::FalsePositiveRate(0.003);
        Settings { trees: 100, threshold, label_delay_ms: 0, seed: 1 }
    }
}

/// A model, the text of its file and what stood behind it.
#[derive(Debug)]
pub struct Trained {
    pub champion: Named,
    /// The best of another algorithm, to score in its shadow.
    pub challenger: Option<Named>,
    /// The rows that chose.
    pub validation: Examples,
    /// What the champion's first fit, which had not seen them, said of them: log-odds of fraud.
    pub validation_margins: Vec<f64>,
}

/// A model and the text of its file.
#[derive(Debug)]
pub struct Named {
    pub text: String,
    pub model: Model,
}

/// Why no model came out.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TrainError {
    #[error(
        "the {period} period has {rows} rows with {frauds} frauds; at least {FRAUDS_MIN} frauds and as many others are needed"
    )]
    TooFew { period: &'static str, rows: usize, frauds: usize },
    /// Nothing that could be learned holds on the validation period.
    #[error("no model tells fraud from the rest on the validation period")]
    NoSignal,
    #[error("{name}: {error}")]
    Library { name: &'static str, error: String },
    #[error("the model that was trained does not load: {0}")]
    Model(#[from] ModelError),
}

/// With fewer, neither calibration nor quality means anything.
const FRAUDS_MIN: usize = 10;
/// Share of the training rows, the youngest, that settings, calibration and threshold are chosen on.
const VALIDATION_SHARE: f64 = 0.25;
const GOLDEN_ROWS: usize = 24;
/// Of the windows that the features read.
const LONGEST_WINDOW_MS: i64 = 30 * DAY_MS;
/// Numbers of trees that are compared on the validation period, as shares of what was fitted.
const TREE_SHARES: [f64; 4] = [0.4, 0.6, 0.8, 1.0];

/// What is tried: an algorithm with its settings.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Candidate {
    Booster(booster::Settings),
    Smart(smart::Settings),
}

impl Candidate {
    /// The long ones first, so that two workers end at about the same time.
    fn all(trees: usize) -> Vec<Candidate> {
        use smart::Settings as Smart;
        let booster = |learning_rate, leaves, leaf_weight, penalty| {
            let settings = booster::Settings { trees, learning_rate, depth: 6, leaves, leaf_weight, penalty };
            Candidate::Booster(settings)
        };
        vec![
            Candidate::Smart(Smart::SquaredError { trees: trees.min(40), depth: 5, learning_rate: 0.2 }),
            booster(0.12, 48, 4.0, 5.0),
            booster(0.18, 40, 4.0, 5.0),
            booster(0.10, 16, 10.0, 10.0),
            booster(0.25, 24, 4.0, 10.0),
            Candidate::Smart(Smart::Forest { trees: trees.min(60), depth: 9, leaf_rows: 8 }),
            Candidate::Smart(Smart::Logistic { penalty: 10.0 }),
        ]
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Candidate::Booster(_) => "log-loss booster",
            Candidate::Smart(smart::Settings::Forest { .. }) => "forest",
            Candidate::Smart(smart::Settings::SquaredError { .. }) => "squared-error booster",
            Candidate::Smart(smart::Settings::Logistic { .. }) => "logistic regression",
        }
    }

    fn words(&self) -> String {
        match self {
            Candidate::Booster(settings) => settings.words(),
            Candidate::Smart(settings) => settings.words(),
        }
    }

    fn fit(&self, examples: &Examples, seed: u64) -> Result<Learned, TrainError> {
        match self {
            Candidate::Booster(settings) => settings.fit(examples, seed),
            Candidate::Smart(settings) => settings.fit(examples, seed),
        }
    }

    /// The numbers of trees worth comparing, fewest first. Fewer of a booster's are a model of their own; a part of a
    /// forest is only a worse forest.
    fn tree_counts(&self, learned: &Learned) -> Vec<usize> {
        let all = learned.trees.len();
        match self {
            Candidate::Smart(smart::Settings::Forest { .. } | smart::Settings::Logistic { .. }) => vec![all],
            _ => {
                let mut counts: Vec<usize> =
                    TREE_SHARES.iter().map(|share| ((all as f64 * share).ceil() as usize).max(1)).collect();
                counts.dedup();
                counts
            }
        }
    }

    fn with_trees(self, count: usize) -> Candidate {
        match self {
            Candidate::Booster(settings) => {
                Candidate::Booster(booster::Settings { trees: count, ..settings })
            }
            Candidate::Smart(smart::Settings::SquaredError { depth, learning_rate, .. }) => {
                Candidate::Smart(smart::Settings::SquaredError { trees: count, depth, learning_rate })
            }
            other => other,
        }
    }
}

/// What one candidate came to on the validation period.
struct Judged {
    candidate: Candidate,
    /// Of the validation rows.
    margins: Vec<f64>,
    quality: Quality,
    /// Slope and intercept that make log-odds of the margins.
    calibration: (f64, f64),
}

/// Trains a model on rows in order of time, of which the last [`VALIDATION_SHARE`] only choose; `test` is measured
/// and nothing else. `progress` is told the share done, 0 to 1.
///
/// # Errors
/// Where a period has too few frauds, or nothing can be learned.
pub fn train(
    training: &Examples,
    test: Option<&Examples>,
    settings: Settings,
    progress: &mut (dyn FnMut(f64) + Send),
) -> Result<Trained, TrainError> {
    let (fit, validation) = split(training, settings.label_delay_ms);
    for (period, examples) in [("fitting", &fit), ("validation", &validation)] {
        let (rows, frauds) = (examples.len(), examples.frauds());
        if frauds < FRAUDS_MIN || rows - frauds < FRAUDS_MIN {
            return Err(TrainError::TooFew { period, rows, frauds });
        }
    }
    let candidates = Candidate::all(settings.trees);
    let steps = (candidates.len() + 2) as f64;
    let done = Mutex::new((0.0, &mut *progress));
    let step = || {
        let (count, progress) = &mut *done.lock();
        *count += 1.0;
        progress(*count / steps);
    };
    let mut judged = in_parallel(&candidates, |candidate| {
        let judged = judge(*candidate, &fit, &validation, settings.seed);
        step();
        judged
    })?
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    // The order of equal ones is that of the candidates, whoever was done first.
    judged.sort_by(|a, b| b.quality.average_precision.total_cmp(&a.quality.average_precision));
    let tried: Vec<Tried> = judged
        .iter()
        .map(|judged| Tried {
            algorithm: judged.candidate.algorithm().to_owned(),
            settings: judged.candidate.words(),
            validation: judged.quality,
        })
        .collect();
    let champion = judged.first().ok_or(TrainError::NoSignal)?;
    let other = |judged: &&Judged| judged.candidate.algorithm() != champion.candidate.algorithm();
    let finalists: Vec<&Judged> = std::iter::once(champion).chain(judged.iter().find(other)).collect();
    let periods = Periods { training, fit: &fit, validation: &validation, test };
    let mut named = in_parallel(&finalists, |judged| {
        let named = finish(judged, &periods, settings, &tried);
        step();
        named
    })?
    .into_iter();
    let champion = named.next().ok_or(TrainError::NoSignal)?;
    let challenger = named.next();
    let validation_margins = finalists.into_iter().next().map_or(Vec::new(), |judged| {
        let (slope, intercept) = judged.calibration;
        judged.margins.iter().map(|margin| slope * margin + intercept).collect()
    });
    Ok(Trained { champion, challenger, validation, validation_margins })
}

/// What a model is made from.
struct Periods<'e> {
    training: &'e Examples,
    fit: &'e Examples,
    validation: &'e Examples,
    test: Option<&'e Examples>,
}

/// The rows to fit and the younger ones to choose on, with a gap of the label delay between them: what is chosen is what
/// would have been chosen where labels come late. In a period so short that this would leave little to fit the gap is a
/// quarter of what comes before validation. No label of these rows came after the training period either way.
fn split(training: &Examples, label_delay_ms: i64) -> (Examples, Examples) {
    let fitted = training.len() - (training.len() as f64 * VALIDATION_SHARE) as usize;
    let from_ms = training.time_ms.get(fitted).copied().unwrap_or(i64::MAX);
    let before_ms = training.time_ms.first().map_or(0, |first| from_ms.saturating_sub(*first));
    let gap_ms = label_delay_ms.min(before_ms / 4);
    let is_known = |at: &usize| training.time_ms[*at].saturating_add(gap_ms) <= from_ms;
    (training.select((0..fitted).filter(is_known)), training.select(fitted..training.len()))
}

/// Does the work on as many threads as there are processors; results in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, TrainError> + Sync,
) -> Result<Vec<R>, TrainError> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<R, TrainError>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(place)) = (items.get(at), results.get(at)) else { break };
                    let result = work(item);
                    *place.lock() = Some(result);
                }
            });
        }
    });
    results.into_iter().map(|place| place.into_inner().unwrap_or(Err(TrainError::NoSignal))).collect()
}

/// `None` where higher margins do not mean more fraud.
fn judge(
    candidate: Candidate,
    fit: &Examples,
    validation: &Examples,
    seed: u64,
) -> Result<Option<Judged>, TrainError> {
    let learned = candidate.fit(fit, seed)?;
    let weight = validation.genuine_weight();
    let mut best: Option<(usize, Vec<f64>, Quality)> = None;
    for count in candidate.tree_counts(&learned) {
        let part = Learned { trees: learned.trees[..count].to_vec(), ..learned.clone() };
        let margins = part.margins(&validation.rows)?;
        let quality = Quality::measure(&margins, &validation.is_fraud, weight).ok_or(TrainError::NoSignal)?;
        if best.as_ref().is_none_or(|(_, _, best)| quality.average_precision > best.average_precision) {
            best = Some((count, margins, quality));
        }
    }
    let Some((count, margins, quality)) = best else { return Ok(None) };
    let calibration = calibrate(&margins, &validation.is_fraud, weight);
    let candidate = candidate.with_trees(count);
    Ok(calibration.map(|calibration| Judged { candidate, margins, quality, calibration }))
}

/// Fits what was chosen again, on all rows that may be learned from, and makes a file of it. Calibration and threshold
/// are those of the validation period, which the fit that they come from never saw.
fn finish(
    judged: &Judged,
    periods: &Periods<'_>,
    settings: Settings,
    tried: &[Tried],
) -> Result<Named, TrainError> {
    let Judged { candidate, margins, quality, calibration: (slope, intercept) } = judged;
    let (slope, intercept) = (*slope, *intercept);
    let Periods { training, validation, fit, test } = periods;
    let table = score_table(1.0, 0.0);
    let calibrated: Vec<f64> = margins.iter().map(|margin| slope * margin + intercept).collect();
    let scores: Vec<u16> = calibrated.iter().map(|margin| score_of(&table, *margin)).collect();
    let threshold = match settings.threshold {
        Threshold::FalsePositiveRate(rate) => by_false_positives(&scores, validation, rate),
        Threshold::CostOfFalsePositive(cost) => by_costs(&scores, validation, cost),
    };
    let mut learned = candidate.fit(training, settings.seed)?;
    learned.cover(&training.rows);
    let Learned { bias, trees, line } = learned.scaled(slope, intercept);
    let trees = if trees.is_empty() { vec![super::trees::Tree::of_nothing()] } else { trees };

    let intervals = |margins: &[f64], examples: &Examples| {
        let weight = examples.genuine_weight();
        Intervals::measure(margins, &examples.is_fraud, &examples.account, weight, settings.seed)
    };
    let mut file = ModelFile::new(
        Training {
            algorithm: candidate.words(),
            seed: settings.seed,
            rows: training.len() as u64,
            frauds: training.frauds() as u64,
            period: period(training),
            fitted_to_choose: period(fit),
            fingerprint: fingerprint(training),
            label_delay_days: settings.label_delay_ms as f64 / 86_400_000.0,
            threshold_by: match settings.threshold {
                Threshold::FalsePositiveRate(rate) => {
                    format!("a false-positive rate of {rate} on the validation period")
                }
                Threshold::CostOfFalsePositive(cost) => {
                    format!("the least cost on the validation period, a false positive at {cost} major units")
                }
            },
            tried: tried.to_vec(),
            validation: Some(*quality),
            validation_period: period(validation),
            validation_intervals: intervals(margins, validation),
            test: None,
            test_period: None,
            test_intervals: None,
            test_at_threshold: None,
        },
        bias,
        trees,
        line,
        table,
        threshold,
    );
    let model = Model::from_file(&file)?;
    let margins: Vec<f64> = validation.rows.iter().map(|row| model.score(row).margin).collect();
    file.drift = reference(&model, training);
    if let Some(test) = test {
        let margins: Vec<f64> = test.rows.iter().map(|row| model.score(row).margin).collect();
        file.training.test = Quality::measure(&margins, &test.is_fraud, test.genuine_weight());
        file.training.test_period = period(test);
        file.training.test_intervals = intervals(&margins, test);
        file.training.test_at_threshold = Some(at_threshold(&model, test));
    }
    file.set_golden(&model, &golden_rows(validation, &margins));
    let text = file.to_text();
    let model = Model::load(&text)?;
    Ok(Named { text, model })
}

/// What the rows were like that were fitted. A training that begins without a past has windows that fill for a month; what
/// is served later is compared with the rows behind that, where a week of them or more is left.
fn reference(model: &Model, training: &Examples) -> Option<ReferenceFile> {
    let (first_ms, last_ms) = training.period_ms()?;
    let filled_ms = first_ms.saturating_add(LONGEST_WINDOW_MS);
    let is_long = last_ms >= filled_ms.saturating_add(7 * DAY_MS);
    let from = if is_long { training.time_ms.partition_point(|time| *time < filled_ms) } else { 0 };
    let weight = |at: usize| if training.is_fraud[from + at] { 1.0 } else { training.genuine_weight() };
    let name = |feature| catalog::model_feature(feature).name;
    ReferenceFile::of_rows(&training.rows[from..], weight, |row| model.score(row).score, name)
}

fn period(examples: &Examples) -> Option<Period> {
    let (from_ms, to_ms) = examples.period_ms()?;
    let genuine = (examples.len() - examples.frauds()) as f64 * examples.genuine_weight();
    let (rows, frauds) = (genuine as u64 + examples.frauds() as u64, examples.frauds() as u64);
    Some(Period { from_ms, to_ms, rows, frauds })
}

/// What was learned from: BLAKE3 over rows, labels and times, in hexadecimal.
fn fingerprint(examples: &Examples) -> String {
    let mut hasher = blake3::Hasher::new();
    for at in 0..examples.len() {
        let Example { row, is_fraud, time_ms, .. } = examples.get(at);
        row.iter().for_each(|x| {
            hasher.update(&x.to_bits().to_le_bytes());
        });
        hasher.update(&[u8::from(is_fraud)]);
        hasher.update(&time_ms.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn score_of(table: &[f32], margin: f64) -> u16 {
    table.partition_point(|from| f64::from(*from) <= margin) as u16
}

/// The lowest score that at most the wished share of the genuine rows reaches.
fn by_false_positives(scores: &[u16], validation: &Examples, rate: f64) -> u16 {
    let mut reached = [0_usize; SCORE_MAX as usize + 2];
    for (score, _) in scores.iter().zip(&validation.is_fraud).filter(|(_, fraud)| !**fraud) {
        reached[usize::from(*score)] += 1;
    }
    let allowed = rate * (validation.len() - validation.frauds()) as f64;
    let mut alarms = 0.0;
    for score in (1..=SCORE_MAX).rev() {
        alarms += reached[usize::from(score)] as f64;
        if alarms > allowed {
            return (score + 1).min(SCORE_MAX);
        }
    }
    1
}

/// The score from which declining costs least.
fn by_costs(scores: &[u16], validation: &Examples, cost: f64) -> u16 {
    let amount = catalog::model_index("amount_major");
    // What declining at this score saves: frauds' amounts less what its false positives cost.
    let mut saves = [0.0_f64; SCORE_MAX as usize + 2];
    for ((score, row), fraud) in scores.iter().zip(&validation.rows).zip(&validation.is_fraud) {
        let amount = amount.map_or(0.0, |at| f64::from(row[at])).max(0.0);
        saves[usize::from(*score)] += if *fraud { amount } else { -cost * validation.genuine_weight() };
    }
    let (mut best, mut best_saved, mut saved) = (SCORE_MAX, f64::NEG_INFINITY, 0.0);
    for score in (1..=SCORE_MAX).rev() {
        saved += saves[usize::from(score)];
        if saved > best_saved {
            (best, best_saved) = (score, saved);
        }
    }
    best
}

/// Shares of the frauds and of the genuine rows that reach the model's threshold.
fn at_threshold(model: &Model, test: &Examples) -> AtThreshold {
    let (mut caught, mut alarms) = (0.0, 0.0);
    for (row, fraud) in test.rows.iter().zip(&test.is_fraud) {
        if model.score(row).score >= model.decline_threshold() {
            *(if *fraud { &mut caught } else { &mut alarms }) += 1.0;
        }
    }
    let frauds = test.frauds() as f64;
    AtThreshold {
        recall: caught / frauds.max(1.0),
        false_positive_rate: alarms / (test.len() as f64 - frauds).max(1.0),
    }
}

/// Rows at even steps of the order of margins, and one in which everything is missing.
fn golden_rows(validation: &Examples, margins: &[f64]) -> Vec<[f32; MODEL_FEATURES]> {
    let mut order: Vec<usize> = (0..margins.len()).collect();
    order.sort_by(|a, b| margins[*a].total_cmp(&margins[*b]));
    let steps = (GOLDEN_ROWS - 1).min(order.len());
    let mut rows = vec![[f32::NAN; MODEL_FEATURES]];
    rows.extend((1..=steps).map(|step| validation.rows[order[step * order.len() / steps - 1]]));
    rows
}

#[cfg(test)]
pub(crate) mod tests;
