//! What an algorithm came to, in the form in which it is scored: trees, and weights of a straight line.

use super::TrainError;
use crate::{
    features::catalog::MODEL_FEATURES,
    model::{
        file::ModelError,
        forest::{Forest, Sum},
        linear::Term,
        trees::Tree,
    },
};

/// A margin in the units of whatever learned it: bias, one leaf of each tree and every term of the line.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Learned {
    pub(super) bias: f64,
    pub(super) trees: Vec<Tree>,
    pub(super) line: Vec<Term>,
}

impl Learned {
    /// The margins of rows.
    ///
    /// # Errors
    /// Where the trees are none that a model may have.
    pub(super) fn margins(&self, rows: &[[f32; MODEL_FEATURES]]) -> Result<Vec<f64>, TrainError> {
        let line = |row: &[f32; MODEL_FEATURES]| self.line.iter().map(|term| term.of(row)).sum::<f64>();
        if self.trees.is_empty() {
            return Ok(rows.iter().map(|row| self.bias + line(row)).collect());
        }
        let forest =
            Forest::new(&self.trees, self.bias, MODEL_FEATURES, Sum::Double).map_err(ModelError::Trees)?;
        Ok(rows.iter().map(|row| forest.margin(row) + line(row)).collect())
    }

    /// The same in other units: `slope * margin + intercept`, leaves and weights to seven decimals so that a file
    /// stays small.
    pub(super) fn scaled(mut self, slope: f64, intercept: f64) -> Learned {
        self.bias = short(slope * self.bias + intercept);
        for tree in &mut self.trees {
            tree.value.iter_mut().for_each(|value| *value = short(slope * *value));
            tree.set_inner_values(short);
        }
        self.line.iter_mut().for_each(|term| term.weight *= slope);
        self
    }

    /// Sets covers to the rows that come by, and inner values to the means of what they lead to. Where no row came by whose
    /// value was missing, one that comes later goes where most went: nobody taught the tree anything about it.
    pub(super) fn cover(&mut self, rows: &[[f32; MODEL_FEATURES]]) {
        for tree in &mut self.trees {
            let mut cover = vec![0_u32; tree.left.len()];
            let mut knows_missing = vec![false; tree.left.len()];
            for row in rows {
                let mut node = 0;
                while tree.left[node] != 0 {
                    knows_missing[node] |= row[usize::from(tree.feature[node])].is_nan();
                    node = tree.left[node] as usize + usize::from(!tree.goes_left(node, row));
                }
                cover[node] += 1;
            }
            for node in (0..cover.len()).rev() {
                let left = tree.left[node] as usize;
                if left != 0 {
                    cover[node] = cover[left] + cover[left + 1];
                    if !knows_missing[node] {
                        tree.missing_left[node] = u8::from(cover[left] >= cover[left + 1]);
                    }
                }
            }
            tree.cover = cover.into_iter().map(|rows| rows as f32).collect();
            tree.set_inner_values(short);
        }
    }
}

/// The nearest number of seven decimals.
fn short(value: f64) -> f64 {
    (value * 1e7).round() / 1e7
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn other_units_move_every_margin_alike_and_inner_values_are_means() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut learned = Learned {
            bias: 0.25,
            trees: (0..6)
                .map(|_| crate::model::trees::tests::random_tree(&mut rng, 4, MODEL_FEATURES))
                .collect(),
            line: vec![Term { feature: 2, weight: 0.5, centre: 1.0, low: -2.0, high: 4.0 }],
        };
        let rows: Vec<[f32; MODEL_FEATURES]> =
            (0..200).map(|_| std::array::from_fn(|_| rng.random_range(-5.0..5.0))).collect();
        learned.cover(&rows);
        let before = learned.margins(&rows).unwrap();
        for tree in &learned.trees {
            for node in (0..tree.left.len()).filter(|node| tree.left[*node] != 0) {
                let left = tree.left[node] as usize;
                let most = tree.cover[left] >= tree.cover[left + 1];
                assert_eq!(tree.missing_left[node] == 1, most, "no row of these has a missing value");
            }
        }
        let scaled = learned.clone().scaled(3.0, -1.5);
        for (before, after) in before.iter().zip(scaled.margins(&rows).unwrap()) {
            assert!((3.0 * before - 1.5 - after).abs() < 1e-5, "{before} {after}");
        }
        for tree in &scaled.trees {
            assert_eq!(tree.cover[0], 200.0);
            let mean = rows.iter().map(|row| tree.value[tree.leaf(row)]).sum::<f64>() / 200.0;
            assert!((tree.value[0] - mean).abs() < 1e-5, "{} {mean}", tree.value[0]);
        }
    }
}
