//! What smartcore offers: a forest of depth-limited regression trees, a booster of the squared error, and logistic
//! regression. Each is slow and takes no missing value, so that all of them learn from every fraud and a part of the
//! genuine rows, with values below everything in the place of missing ones (trees) or the mean (regression).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use smartcore::{
    ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters},
    linalg::basic::{arrays::Array as _, matrix::DenseMatrix},
    linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters},
    xgboost::{XGRegressor, XGRegressorParameters},
};

use super::{Examples, TrainError, learned::Learned};
use crate::{
    features::catalog::MODEL_FEATURES,
    limits::MODEL_TREE_NODES_MAX,
    model::{
        grow::{Node, Split, grow, not_above},
        linear::Term,
        trees::Tree,
    },
};

/// Genuine rows kept for each fraud; calibration makes up for the rest.
const GENUINE_PER_FRAUD: usize = 8;
/// Genuine rows that are learned from at most.
const ROWS_MAX: usize = 40_000;
/// Stands for a missing value: below everything else, so that missing rows are on the left of every split.
const MISSING: f64 = -1.0e30;
/// Values further from the mean than this many standard deviations count as this many: one huge amount must not bend
/// a straight line.
const DEVIATIONS_MAX: f64 = 6.0;

/// One of the three.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Settings {
    /// Mean of trees on 0 and 1, each on a bootstrap sample.
    Forest { trees: usize, depth: u16, leaf_rows: usize },
    /// Each tree fits what is left of 0 and 1.
    SquaredError { trees: usize, depth: u16, learning_rate: f64 },
    Logistic {
        /// L2 penalty.
        penalty: f64,
    },
}

impl Settings {
    pub(super) fn words(&self) -> String {
        let sample = format!("fitted on every fraud and up to {GENUINE_PER_FRAUD} genuine rows for each");
        match self {
            Settings::Forest { trees, depth, leaf_rows } => format!(
                "forest of regression trees (smartcore): {trees} trees of depth {depth}, at least {leaf_rows} rows in a \
                 leaf; {sample}"
            ),
            Settings::SquaredError { trees, depth, learning_rate } => format!(
                "gradient boosting with the squared error (smartcore): {trees} trees of depth {depth}, learning rate \
                 {learning_rate}; {sample}"
            ),
            Settings::Logistic { penalty } => {
                format!("logistic regression (smartcore): L2 penalty {penalty}; {sample}")
            }
        }
    }

    /// Learns from a part of the examples; the same rows and seed give the same result.
    pub(super) fn fit(&self, examples: &Examples, seed: u64) -> Result<Learned, TrainError> {
        let sample = Sample::new(examples, seed);
        match *self {
            Settings::Forest { trees, depth, leaf_rows } => sample.forest(trees, depth, leaf_rows, seed),
            Settings::SquaredError { trees, depth, learning_rate } => {
                sample.squared_error(trees, depth, learning_rate, seed)
            }
            Settings::Logistic { penalty } => sample.logistic(penalty),
        }
    }
}

/// The rows that are fitted.
struct Sample {
    rows: Vec<[f32; MODEL_FEATURES]>,
    is_fraud: Vec<bool>,
}

fn failed(error: impl ToString) -> TrainError {
    TrainError::Library { name: "smartcore", error: error.to_string() }
}

const CHANGED: &str = "its stored form is not that of version 0.7";

impl Sample {
    fn new(examples: &Examples, seed: u64) -> Sample {
        let frauds = examples.frauds();
        let genuine = examples.len() - frauds;
        // As many for each fraud whatever is fitted: what was chosen on one period must mean the same on another.
        let frauds_kept = frauds.min(ROWS_MAX / GENUINE_PER_FRAUD);
        let wanted = frauds_kept * GENUINE_PER_FRAUD;
        let keep_genuine = (wanted as f64 / genuine.max(1) as f64).min(1.0);
        let keep_fraud = frauds_kept as f64 / frauds.max(1) as f64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sample = Sample { rows: Vec::new(), is_fraud: Vec::new() };
        for (row, is_fraud) in examples.rows.iter().zip(&examples.is_fraud) {
            // One draw for each row, so that no row's fate depends on the labels before it.
            if rng.random::<f64>() < if *is_fraud { keep_fraud } else { keep_genuine } {
                sample.rows.push(*row);
                sample.is_fraud.push(*is_fraud);
            }
        }
        sample
    }

    fn target(&self) -> Vec<f64> {
        self.is_fraud.iter().map(|fraud| f64::from(u8::from(*fraud))).collect()
    }

    /// The rows as a matrix, each cell as `cell` has it.
    fn matrix(&self, cell: impl Fn(usize, f32) -> f64) -> Result<DenseMatrix<f64>, TrainError> {
        let cell = &cell;
        let column = |feature: usize| self.rows.iter().map(move |row| cell(feature, row[feature]));
        let values: Vec<f64> = (0..MODEL_FEATURES).flat_map(column).collect();
        DenseMatrix::new(self.rows.len(), MODEL_FEATURES, values, true).map_err(failed)
    }

    fn imputed(&self) -> Result<DenseMatrix<f64>, TrainError> {
        self.matrix(|_, x| if x.is_nan() { MISSING } else { f64::from(x) })
    }

    fn forest(&self, trees: usize, depth: u16, leaf_rows: usize, seed: u64) -> Result<Learned, TrainError> {
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(trees)
            // smartcore counts the levels of nodes, not the splits.
            .with_max_depth(depth + 1)
            .with_min_samples_leaf(leaf_rows)
            .with_m(MODEL_FEATURES / 3)
            .with_seed(seed);
        let fitted =
            RandomForestRegressor::fit(&self.imputed()?, &self.target(), parameters).map_err(failed)?;
        let stored = serde_json::to_value(&fitted).map_err(failed)?;
        let stored = stored["forest_regressor"]["trees"].as_array().ok_or_else(|| failed(CHANGED))?;
        let copied = stored.iter().map(|tree| {
            let nodes = tree["nodes"].as_array().ok_or_else(changed_node)?;
            let mut tree = copy_forest_tree(nodes)?;
            tree.value.iter_mut().for_each(|value| *value /= trees as f64);
            Ok(tree)
        });
        let trees = copied.collect::<Result<Vec<_>, String>>().map_err(failed)?;
        Ok(Learned { trees, ..Learned::default() })
    }

    fn squared_error(
        &self,
        trees: usize,
        depth: u16,
        learning_rate: f64,
        seed: u64,
    ) -> Result<Learned, TrainError> {
        let target = self.target();
        let base = target.iter().sum::<f64>() / target.len() as f64;
        let parameters = XGRegressorParameters::default()
            .with_n_estimators(trees)
            .with_max_depth(depth)
            .with_learning_rate(learning_rate)
            .with_min_child_weight(20)
            .with_base_score(base)
            .with_subsample(0.8)
            .with_seed(seed);
        let fitted = XGRegressor::fit(&self.imputed()?, &target, parameters).map_err(failed)?;
        let stored = serde_json::to_value(&fitted).map_err(failed)?;
        let stored = stored["regressors"].as_array().ok_or_else(|| failed(CHANGED))?;
        let copied = stored.iter().map(|tree| {
            let mut tree = copy_boosted_tree(tree)?;
            tree.value.iter_mut().for_each(|value| *value *= learning_rate);
            Ok(tree)
        });
        let trees = copied.collect::<Result<Vec<_>, String>>().map_err(failed)?;
        Ok(Learned { bias: base, trees, line: Vec::new() })
    }

    fn logistic(&self, penalty: f64) -> Result<Learned, TrainError> {
        let scales: Vec<(f64, f64)> = (0..MODEL_FEATURES).map(|feature| self.scale(feature)).collect();
        let matrix = self.matrix(|feature, x| {
            let (centre, deviation) = scales[feature];
            if x.is_nan() || deviation == 0.0 {
                0.0
            } else {
                ((f64::from(x) - centre) / deviation).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX)
            }
        })?;
        let target: Vec<u32> = self.is_fraud.iter().map(|fraud| u32::from(*fraud)).collect();
        let parameters = LogisticRegressionParameters::default().with_alpha(penalty);
        let fitted = LogisticRegression::fit(&matrix, &target, parameters).map_err(failed)?;
        let line = scales.iter().enumerate().filter(|(_, (_, deviation))| *deviation > 0.0);
        let line = line.map(|(feature, (centre, deviation))| Term {
            feature: feature as u16,
            weight: fitted.coefficients().get((0, feature)) / deviation,
            centre: *centre,
            low: centre - DEVIATIONS_MAX * deviation,
            high: centre + DEVIATIONS_MAX * deviation,
        });
        Ok(Learned { bias: *fitted.intercept().get((0, 0)), trees: Vec::new(), line: line.collect() })
    }

    /// Mean and standard deviation of what is there of a feature; 0 where all of it is the same.
    fn scale(&self, feature: usize) -> (f64, f64) {
        let there = || self.rows.iter().map(|row| f64::from(row[feature])).filter(|x| !x.is_nan());
        let count = there().count().max(1) as f64;
        let mean = there().sum::<f64>() / count;
        let variance = there().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }
}

fn copy_forest_tree(nodes: &[Value]) -> Result<Tree, String> {
    grow(0, nodes.len(), 0, |node: &usize| {
        let node = nodes.get(*node).ok_or("there is no such node")?;
        let child = |name: &str| node[name].as_u64().map(|child| child as usize);
        let copied = match (child("true_child"), child("false_child")) {
            (None, None) => node["output"].as_f64().map(|value| Node::Leaf { value, cover: 0.0 }),
            (left, right) => left
                .zip(right)
                .and_then(|(left, right)| split(&node["split_feature"], &node["split_value"], [left, right])),
        };
        copied.ok_or_else(changed_node)
    })
}

fn copy_boosted_tree(root: &Value) -> Result<Tree, String> {
    grow(root, MODEL_TREE_NODES_MAX, 0, |node: &&Value| {
        let copied = match (&node["left"], &node["right"]) {
            (Value::Null, Value::Null) => {
                node["value"].as_f64().map(|value| Node::Leaf { value, cover: 0.0 })
            }
            (left, right) => split(&node["split_feature_idx"], &node["threshold"], [left, right]),
        };
        copied.ok_or_else(changed_node)
    })
}

/// smartcore sends a row left up to and including the threshold, and what is missing here was below everything there.
fn split<N>(feature: &Value, threshold: &Value, children: [N; 2]) -> Option<Node<N>> {
    let threshold = not_above(threshold.as_f64()?);
    Some(Node::Split(Split::up_to(feature.as_u64()? as u16, threshold, true, children)))
}

fn changed_node() -> String {
    CHANGED.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::train::tests::examples;

    /// Our margins, and what smartcore predicts, of the very sample that was fitted.
    fn assert_same(ours: &Learned, sample: &Sample, theirs: &[f64]) {
        assert!(sample.rows.iter().any(|row| row[2].is_nan()));
        for (ours, theirs) in ours.margins(&sample.rows).unwrap().iter().zip(theirs) {
            assert!((ours - theirs).abs() < 1e-9, "{ours} {theirs}");
        }
    }

    #[test]
    fn our_copy_of_a_forest_predicts_what_smartcore_does() {
        let sample = Sample::new(&examples(2_000, 6), 1);
        let ours = sample.forest(7, 6, 5, 3).unwrap();
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(7)
            .with_max_depth(7)
            .with_min_samples_leaf(5)
            .with_m(MODEL_FEATURES / 3)
            .with_seed(3);
        let matrix = sample.imputed().unwrap();
        let theirs = RandomForestRegressor::fit(&matrix, &sample.target(), parameters).unwrap();
        assert_same(&ours, &sample, &theirs.predict(&matrix).unwrap());
    }

    #[test]
    fn our_copy_of_the_squared_error_booster_predicts_what_smartcore_does() {
        let sample = Sample::new(&examples(2_000, 6), 1);
        let ours = sample.squared_error(6, 4, 0.3, 3).unwrap();
        let target = sample.target();
        let parameters = XGRegressorParameters::default()
            .with_n_estimators(6)
            .with_max_depth(4)
            .with_learning_rate(0.3)
            .with_min_child_weight(20)
            .with_base_score(target.iter().sum::<f64>() / target.len() as f64)
            .with_subsample(0.8)
            .with_seed(3);
        let matrix = sample.imputed().unwrap();
        let theirs = XGRegressor::fit(&matrix, &target, parameters).unwrap();
        assert_same(&ours, &sample, &theirs.predict(&matrix).unwrap());
    }

    #[test]
    fn the_straight_line_says_fraud_where_smartcore_says_it() {
        let sample = Sample::new(&examples(2_000, 6), 1);
        let ours = sample.logistic(1.0).unwrap();
        let margins = ours.margins(&sample.rows).unwrap();
        let quality = crate::model::quality::Quality::measure(&margins, &sample.is_fraud, 1.0).unwrap();
        assert!(quality.auc > 0.75, "{quality:?}");
    }
}
