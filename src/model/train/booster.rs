//! Gradient boosting with the logistic loss: forust's trees, copied node by node.

use forust_ml::{
    GradientBooster, Matrix, gradientbooster::GrowPolicy, objective::ObjectiveType, sampler::SampleMethod,
    tree,
};

use super::{Examples, TrainError, learned::Learned};
use crate::{
    features::catalog::MODEL_FEATURES,
    model::{
        grow::{Node, Split, below, grow},
        trees::Tree,
    },
};

/// What a booster is told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Settings {
    pub(super) trees: usize,
    pub(super) learning_rate: f32,
    /// Splits between root and leaf.
    pub(super) depth: usize,
    pub(super) leaves: usize,
    /// Least sum of the loss's second derivatives in a leaf.
    pub(super) leaf_weight: f32,
    /// L2 penalty on a leaf.
    pub(super) penalty: f32,
}

/// Shares of rows and of features that each tree is shown.
const ROWS_SHOWN: f32 = 0.8;
const FEATURES_SHOWN: f64 = 0.7;
/// Values of a feature are told apart by at most this many bounds.
const BINS: u16 = 255;

impl Settings {
    pub(super) fn words(&self) -> String {
        let Settings { trees, learning_rate, depth, leaves, leaf_weight, penalty } = self;
        format!(
            "gradient boosting with the logistic loss (forust): {trees} trees of depth {depth} with at most {leaves} \
             leaves, learning rate {learning_rate}, at least {leaf_weight} of the loss's curvature in a leaf, L2 penalty \
             {penalty}, {ROWS_SHOWN} of the rows and {FEATURES_SHOWN} of the features for each tree"
        )
    }

    /// Learns from all the examples, on one thread, so that the same rows and seed give the same trees.
    pub(super) fn fit(&self, examples: &Examples, seed: u64) -> Result<Learned, TrainError> {
        let failed = |error: String| TrainError::Library { name: "forust", error };
        let rows = examples.len();
        let column = |feature: usize| examples.rows.iter().map(move |row| f64::from(row[feature]));
        let cells: Vec<f64> = (0..MODEL_FEATURES).flat_map(column).collect();
        let target: Vec<f64> = examples.is_fraud.iter().map(|fraud| f64::from(u8::from(*fraud))).collect();
        let weight = |fraud: &bool| if *fraud { 1.0 } else { examples.genuine_weight() };
        let weights: Vec<f64> = examples.is_fraud.iter().map(weight).collect();
        let mut booster = GradientBooster::default()
            .set_objective_type(ObjectiveType::LogLoss)
            .set_initialize_base_score(true)
            .set_iterations(self.trees)
            .set_learning_rate(self.learning_rate)
            .set_max_depth(self.depth)
            .set_max_leaves(self.leaves)
            .set_min_leaf_weight(self.leaf_weight)
            .set_l2(self.penalty)
            .set_nbins(BINS)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(ROWS_SHOWN)
            .set_colsample_bytree(FEATURES_SHOWN)
            .set_missing(f64::NAN)
            .set_allow_missing_splits(true)
            .set_tiled_histograms(true)
            .set_parallel(false)
            .set_seed(seed);
        booster.grow_policy = GrowPolicy::LossGuide;
        booster
            .fit(&Matrix::new(&cells, rows, MODEL_FEATURES), &target, &weights, None)
            .map_err(|error| failed(error.to_string()))?;
        let trees = booster.trees.iter().map(copy).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(Learned { bias: booster.base_score, trees, line: Vec::new() })
    }
}

/// forust sends a row left where it is below the threshold.
fn copy(theirs: &tree::Tree) -> Result<Tree, String> {
    grow(0, theirs.nodes.len(), 0, |node: &usize| {
        let node = theirs.nodes.get(*node).ok_or("there is no such node")?;
        if node.is_leaf {
            return Ok(Node::Leaf { value: f64::from(node.weight_value), cover: 0.0 });
        }
        let missing_left = node.missing_node == node.left_child;
        let children = [node.left_child, node.right_child];
        Ok(Node::Split(Split::up_to(
            node.split_feature as u16,
            below(node.split_value),
            missing_left,
            children,
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::train::tests::examples;

    const SETTINGS: Settings =
        Settings { trees: 20, learning_rate: 0.2, depth: 5, leaves: 24, leaf_weight: 1.0, penalty: 1.0 };

    #[test]
    fn our_copy_scores_every_row_as_forust_does() {
        let fit = examples(3_000, 4);
        let learned = SETTINGS.fit(&fit, 7).unwrap();
        let target: Vec<f64> = fit.is_fraud.iter().map(|fraud| f64::from(u8::from(*fraud))).collect();
        let cells: Vec<f64> = (0..MODEL_FEATURES)
            .flat_map(|feature| fit.rows.iter().map(move |row| f64::from(row[feature])))
            .collect();
        let matrix = Matrix::new(&cells, fit.len(), MODEL_FEATURES);
        let mut theirs = GradientBooster::default()
            .set_initialize_base_score(true)
            .set_iterations(20)
            .set_learning_rate(0.2)
            .set_max_depth(5)
            .set_max_leaves(24)
            .set_min_leaf_weight(1.0)
            .set_l2(1.0)
            .set_nbins(BINS)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(ROWS_SHOWN)
            .set_colsample_bytree(FEATURES_SHOWN)
            .set_tiled_histograms(true)
            .set_parallel(false)
            .set_seed(7);
        theirs.grow_policy = GrowPolicy::LossGuide;
        theirs.fit_unweighted(&matrix, &target, None).unwrap();
        assert!(fit.rows.iter().any(|row| row[2].is_nan()));
        assert!(learned.trees.iter().any(|tree| tree.left.len() > 8));
        for (ours, theirs) in learned.margins(&fit.rows).unwrap().iter().zip(theirs.predict(&matrix, false)) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }
}
