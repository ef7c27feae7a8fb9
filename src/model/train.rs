//! Training: rows of features and what became of them, to a model file.
//!
//! Gradient boosting with the logistic loss (J. H. Friedman, Annals of Statistics 29, 2001): each round fits one
//! depth-limited regression tree of smartcore's random forest (a bootstrap sample, a random part of the features
//! at each split) to the residuals, then sets its leaves by one Newton step. So the margin is in log-odds, and so
//! are the contributions shown as reasons. Settings, calibration and threshold are chosen on the validation rows,
//! which must be younger than those fitted. The same rows and settings give the same bytes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smartcore::{
    ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters},
    linalg::basic::matrix::DenseMatrix,
};

use super::{
    file::{Model, ModelError, ModelFile, SCORE_MAX, Training},
    quality::Quality,
    trees::{Forest, Tree},
};
use crate::features::catalog::MODEL_FEATURES;

/// What training can be told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Trees of the model.
    pub trees: usize,
    /// Wished share of genuine transactions at or above the decline threshold.
    pub false_positive_rate: f64,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { trees: 100, false_positive_rate: 0.003, seed: 1 }
    }
}

/// Rows of features and whether each was fraud, in order of time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Examples {
    pub rows: Vec<[f32; MODEL_FEATURES]>,
    pub is_fraud: Vec<bool>,
}

impl Examples {
    pub fn push(&mut self, row: [f32; MODEL_FEATURES], is_fraud: bool) {
        self.rows.push(row);
        self.is_fraud.push(is_fraud);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of frauds.
    pub fn frauds(&self) -> usize {
        self.is_fraud.iter().filter(|fraud| **fraud).count()
    }

    /// The first `rows` rows, and the others.
    fn split_at(mut self, rows: usize) -> (Examples, Examples) {
        let at = rows.min(self.len());
        let later = Examples { rows: self.rows.split_off(at), is_fraud: self.is_fraud.split_off(at) };
        (self, later)
    }
}

/// A model and the text of its file.
#[derive(Debug)]
pub struct Trained {
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
    #[error("smartcore: {0}")]
    Smartcore(String),
    #[error("the model that was trained does not load: {0}")]
    Model(#[from] ModelError),
}

/// With fewer, neither calibration nor quality means anything.
const FRAUDS_MIN: usize = 10;
/// Share of the training rows, the youngest, that settings, calibration and threshold are chosen on.
const VALIDATION_SHARE: f64 = 0.25;
/// Genuine rows kept for each fraud when fitting; the bias makes up for the rest.
const GENUINE_PER_FRAUD: usize = 15;
/// Share of the features tried at each split.
const FEATURES_PER_SPLIT: usize = MODEL_FEATURES / 2;
/// L2 penalty on a leaf, in units of the loss's second derivative.
const LEAF_PENALTY: f64 = 1.0;
const GOLDEN_ROWS: usize = 24;
/// Stands for a missing value where smartcore can take no NaN: below everything else, so that missing rows are on
/// the left of every split, which is then what the tree says of them.
const MISSING: f32 = -1.0e30;

/// What is tried; the best on the validation period is kept.
const CANDIDATES: [Candidate; 3] = [
    Candidate { depth: 4, learning_rate: 0.15, leaf_rows: 20 },
    Candidate { depth: 6, learning_rate: 0.10, leaf_rows: 15 },
    Candidate { depth: 7, learning_rate: 0.08, leaf_rows: 40 },
];

#[derive(Clone, Copy)]
struct Candidate {
    /// Splits between root and leaf.
    depth: u16,
    learning_rate: f64,
    /// Fewest rows in a leaf.
    leaf_rows: usize,
}

/// Trains a model on rows in order of time, of which the last [`VALIDATION_SHARE`] only choose; `test` is measured
/// and nothing else. `progress` is told the share done, 0 to 1.
///
/// # Errors
/// Where a period has too few frauds, or nothing can be learned.
pub fn train(
    training: Examples,
    test: Option<&Examples>,
    settings: Settings,
    progress: &mut dyn FnMut(f64),
) -> Result<Trained, TrainError> {
    let fitted = training.len() - (training.len() as f64 * VALIDATION_SHARE) as usize;
    let (fit, validation) = &training.split_at(fitted);
    for (period, examples) in [("fitting", fit), ("validation", validation)] {
        let (rows, frauds) = (examples.len(), examples.frauds());
        if frauds < FRAUDS_MIN || rows - frauds < FRAUDS_MIN {
            return Err(TrainError::TooFew { period, rows, frauds });
        }
    }
    let sample = Sample::new(fit, settings.seed);
    let mut best: Option<Boosted> = None;
    for (number, candidate) in CANDIDATES.into_iter().enumerate() {
        let mut part = |share: f64| progress((number as f64 + share) / CANDIDATES.len() as f64);
        let boosted = boost(&sample, validation, candidate, settings, &mut part)?;
        if best.as_ref().is_none_or(|b| boosted.quality.average_precision > b.quality.average_precision) {
            best = Some(boosted);
        }
    }
    let Boosted { candidate, bias, trees, margins, quality } = best.ok_or(TrainError::NoSignal)?;
    let (slope, intercept) = calibrate(&margins, &validation.is_fraud).ok_or(TrainError::NoSignal)?;
    let algorithm = format!(
        "gradient boosting, logistic loss; {} trees of depth {}, learning rate {}, at least {} rows in a leaf, {} of \
         the features at each split; fitted on every fraud and {} genuine rows for each",
        trees.len(),
        candidate.depth,
        candidate.learning_rate,
        candidate.leaf_rows,
        FEATURES_PER_SPLIT as f64 / MODEL_FEATURES as f64,
        GENUINE_PER_FRAUD,
    );
    let training = Training {
        algorithm,
        seed: settings.seed,
        rows: fit.len() as u64,
        frauds: fit.frauds() as u64,
        false_positive_rate: settings.false_positive_rate,
        validation: quality,
        test: None,
        test_at_threshold: None,
    };
    let mut file = ModelFile::new(training, bias, trees, score_table(slope, intercept), 1);
    let model = Model::from_file(&file)?;
    file.decline_threshold = threshold(&model, validation, settings.false_positive_rate);
    if let Some(test) = test {
        let margins: Vec<f64> = test.rows.iter().map(|row| model.score(row).margin).collect();
        file.training.test = Quality::measure(&margins, &test.is_fraud);
        file.training.test_at_threshold = Some(at_threshold(&model, test, file.decline_threshold));
    }
    file.set_golden(&model, &golden_rows(validation, &margins));
    let text = file.to_text();
    let model = Model::load(&text)?;
    Ok(Trained { text, model })
}

/// The rows that are fitted: every fraud, and some of the rest.
struct Sample {
    rows: Vec<[f32; MODEL_FEATURES]>,
    /// 1 for fraud, else 0.
    target: Vec<f64>,
    /// The same rows for smartcore, without NaN.
    matrix: DenseMatrix<f32>,
    /// Genuine rows that each one kept stands for.
    thinned: f64,
}

impl Sample {
    fn new(fit: &Examples, seed: u64) -> Sample {
        let genuine = fit.len() - fit.frauds();
        let keep = (fit.frauds() * GENUINE_PER_FRAUD).min(genuine) as f64 / genuine as f64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Vec::new();
        let mut target = Vec::new();
        for (row, is_fraud) in fit.rows.iter().zip(&fit.is_fraud) {
            // One draw for each row, so that no row's fate depends on the labels before it.
            let kept = rng.random::<f64>() < keep;
            if kept || *is_fraud {
                rows.push(*row);
                target.push(f64::from(u8::from(*is_fraud)));
            }
        }
        let cells = |column: usize| {
            rows.iter().map(move |row| if row[column].is_nan() { MISSING } else { row[column] })
        };
        let values: Vec<f32> = (0..MODEL_FEATURES).flat_map(cells).collect();
        let matrix =
            DenseMatrix::new(rows.len(), MODEL_FEATURES, values, true).expect("as many values as cells");
        Sample { rows, target, matrix, thinned: 1.0 / keep }
    }
}

/// What one candidate came to.
struct Boosted {
    candidate: Candidate,
    bias: f64,
    trees: Vec<Tree>,
    /// Of the validation rows.
    margins: Vec<f64>,
    quality: Quality,
}

fn boost(
    sample: &Sample,
    validation: &Examples,
    candidate: Candidate,
    settings: Settings,
    progress: &mut dyn FnMut(f64),
) -> Result<Boosted, TrainError> {
    let frauds: f64 = sample.target.iter().sum();
    let prior = (frauds / (sample.target.len() as f64 - frauds)).ln();
    let mut margins = vec![prior; sample.rows.len()];
    let mut trees = Vec::with_capacity(settings.trees);
    for round in 0..settings.trees {
        let chances: Vec<f64> = margins.iter().map(|margin| 1.0 / (1.0 + (-margin).exp())).collect();
        let residuals: Vec<f64> = sample.target.iter().zip(&chances).map(|(y, p)| y - p).collect();
        let mut tree = fit_tree(sample, &residuals, candidate, settings.seed.wrapping_add(round as u64))?;
        let leaves: Vec<usize> = sample.rows.iter().map(|row| tree.leaf(row)).collect();
        set_values(&mut tree, &leaves, &residuals, &chances, candidate.learning_rate);
        for (margin, leaf) in margins.iter_mut().zip(leaves) {
            *margin += tree.value[leaf];
        }
        trees.push(tree);
        progress((round + 1) as f64 / settings.trees as f64);
    }
    let bias = short(prior - sample.thinned.ln());
    let forest = Forest::new(&trees, bias, MODEL_FEATURES).map_err(ModelError::Trees)?;
    let margins: Vec<f64> = validation.rows.iter().map(|row| forest.margin(row)).collect();
    let quality = Quality::measure(&margins, &validation.is_fraud).ok_or(TrainError::NoSignal)?;
    Ok(Boosted { candidate, bias, trees, margins, quality })
}

/// One regression tree of smartcore, copied node by node. Its values are not set yet.
fn fit_tree(
    sample: &Sample,
    residuals: &Vec<f64>,
    candidate: Candidate,
    seed: u64,
) -> Result<Tree, TrainError> {
    let parameters = RandomForestRegressorParameters::default()
        .with_n_trees(1)
        // smartcore counts the levels of nodes, not the splits.
        .with_max_depth(candidate.depth + 1)
        .with_min_samples_leaf(candidate.leaf_rows)
        .with_m(FEATURES_PER_SPLIT)
        .with_seed(seed);
    let failed = |error: String| TrainError::Smartcore(error);
    let fitted = RandomForestRegressor::fit(&sample.matrix, residuals, parameters);
    let fitted = fitted.map_err(|error| failed(error.to_string()))?;
    let stored = serde_json::to_value(&fitted).map_err(|error| failed(error.to_string()))?;
    let nodes = stored["forest_regressor"]["trees"][0]["nodes"].as_array();
    copy_tree(nodes.map_or(&[][..], Vec::as_slice))
        .ok_or_else(|| failed("its stored form has changed".to_owned()))
}

/// smartcore's nodes in our order: children side by side, after their parent. `None` where they are not what
/// version 0.7 stores.
fn copy_tree(nodes: &[serde_json::Value]) -> Option<Tree> {
    let mut tree = Tree::default();
    let grow = |tree: &mut Tree| {
        tree.left.push(0);
        tree.feature.push(0);
        tree.threshold.push(0.0);
        tree.missing_left.push(0);
        tree.value.push(0.0);
        tree.cover.push(0.0);
    };
    grow(&mut tree);
    let mut sources = vec![0];
    let mut copied = 0;
    while let Some(source) = sources.get(copied) {
        let node = nodes.get(*source)?;
        let child = |name: &str| node[name].as_u64().map(|child| child as usize);
        match (child("true_child"), child("false_child")) {
            (None, None) => {}
            // A loop would never end otherwise.
            _ if tree.left.len() > nodes.len() => return None,
            (left, right) => {
                tree.left[copied] = tree.left.len() as u32;
                tree.feature[copied] = node["split_feature"].as_u64()? as u16;
                tree.threshold[copied] = not_above(node["split_value"].as_f64()?);
                tree.missing_left[copied] = 1;
                for side in [left, right] {
                    sources.push(side?);
                    grow(&mut tree);
                }
            }
        }
        copied += 1;
    }
    Some(tree)
}

/// The largest 32-bit float that is not above a threshold: it parts 32-bit values just as the threshold does.
fn not_above(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) > threshold { near.next_down() } else { near }
}

/// Sets each leaf to one Newton step of the logistic loss, shrunk by the learning rate, and each inner node to the
/// mean of the rows that come by.
fn set_values(tree: &mut Tree, leaves: &[usize], residuals: &[f64], chances: &[f64], learning_rate: f64) {
    let nodes = tree.left.len();
    let (mut gradient, mut curvature) = (vec![0.0; nodes], vec![0.0; nodes]);
    let mut rows = vec![0.0; nodes];
    for ((leaf, residual), chance) in leaves.iter().zip(residuals).zip(chances) {
        gradient[*leaf] += residual;
        curvature[*leaf] += chance * (1.0 - chance);
        rows[*leaf] += 1.0;
    }
    let mut sums = vec![0.0; nodes];
    // Children come after their parent: backwards, both are done before it.
    for node in (0..nodes).rev() {
        let value = match tree.left[node] as usize {
            0 => learning_rate * gradient[node] / (curvature[node] + LEAF_PENALTY),
            left => {
                rows[node] = rows[left] + rows[left + 1];
                sums[node] = sums[left] + sums[left + 1];
                if rows[node] > 0.0 { sums[node] / rows[node] } else { 0.0 }
            }
        };
        tree.value[node] = short(value);
        tree.cover[node] = rows[node] as f32;
        if tree.left[node] == 0 {
            sums[node] = rows[node] * tree.value[node];
        }
    }
}

/// The nearest number of seven decimals, so that a file stays small.
fn short(value: f64) -> f64 {
    (value * 1e7).round() / 1e7
}

/// Slope and intercept that turn a margin into log-odds of fraud, by logistic regression on the margins with
/// J. Platt's smoothed targets ("Probabilistic outputs for support vector machines", 1999). `None` where higher
/// margins do not mean more fraud.
fn calibrate(margins: &[f64], is_fraud: &[bool]) -> Option<(f64, f64)> {
    let frauds = is_fraud.iter().filter(|fraud| **fraud).count() as f64;
    let genuine = is_fraud.len() as f64 - frauds;
    let (yes, no) = ((frauds + 1.0) / (frauds + 2.0), 1.0 / (genuine + 2.0));
    let (mut slope, mut intercept) = (1.0, 0.0);
    for _ in 0..100 {
        // A touch of ridge keeps the matrix of second derivatives invertible.
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
        for (margin, fraud) in margins.iter().zip(is_fraud) {
            let chance = 1.0 / (1.0 + (-(slope * margin + intercept)).exp());
            let miss = chance - if *fraud { yes } else { no };
            let weight = chance * (1.0 - chance);
            ga += miss * margin;
            gb += miss;
            haa += weight * margin * margin;
            hab += weight * margin;
            hbb += weight;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // Far from the optimum a full step may overshoot.
        let shrink = 1.0 / (1.0_f64).max(da.abs().max(db.abs()));
        slope -= da * shrink;
        intercept -= db * shrink;
        if da.abs() + db.abs() < 1e-10 {
            break;
        }
    }
    (slope.is_finite() && intercept.is_finite() && slope > 1e-6).then_some((slope, intercept))
}

/// The margins from which on the score is 1 to 999. The score is linear in the log-odds: from odds of one to 3,000
/// (0) over even odds (500) to 3,000 to one (999).
fn score_table(slope: f64, intercept: f64) -> Vec<f32> {
    const LOG_ODDS_MAX: f64 = 8.0;
    let scores = f64::from(SCORE_MAX);
    (1..=SCORE_MAX)
        .map(|score| {
            let log_odds = LOG_ODDS_MAX * (2.0 * (f64::from(score) - 0.5) / scores - 1.0);
            ((log_odds - intercept) / slope) as f32
        })
        .collect()
}

/// The lowest score that at most the wished share of the genuine rows reaches.
fn threshold(model: &Model, validation: &Examples, false_positive_rate: f64) -> u16 {
    let mut reached = [0_usize; SCORE_MAX as usize + 2];
    for (row, _) in validation.rows.iter().zip(&validation.is_fraud).filter(|(_, fraud)| !**fraud) {
        reached[usize::from(model.score(row).score)] += 1;
    }
    let allowed = false_positive_rate * (validation.len() - validation.frauds()) as f64;
    let mut alarms = 0.0;
    for score in (1..=SCORE_MAX).rev() {
        alarms += reached[usize::from(score)] as f64;
        if alarms > allowed {
            return (score + 1).min(SCORE_MAX);
        }
    }
    1
}

/// Shares of the frauds and of the genuine rows that reach the threshold.
fn at_threshold(model: &Model, test: &Examples, threshold: u16) -> (f64, f64) {
    let (mut caught, mut alarms) = (0.0, 0.0);
    for (row, fraud) in test.rows.iter().zip(&test.is_fraud) {
        if model.score(row).score >= threshold {
            *(if *fraud { &mut caught } else { &mut alarms }) += 1.0;
        }
    }
    let frauds = test.frauds() as f64;
    (caught / frauds.max(1.0), alarms / (test.len() as f64 - frauds).max(1.0))
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
mod tests;
