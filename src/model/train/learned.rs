//! What an algorithm came to, in the form in which it is scored: trees, and weights of a straight line.

use super::TrainError;
use crate::{
    features::catalog::MODEL_FEATURES,
    model::{
        file::ModelError,
        linear::Term,
        trees::{Forest, Tree},
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
        let forest = Forest::new(&self.trees, self.bias, MODEL_FEATURES).map_err(ModelError::Trees)?;
        Ok(rows.iter().map(|row| forest.margin(row) + line(row)).collect())
    }

    /// The same in other units: `slope * margin + intercept`, leaves and weights to seven decimals so that a file
    /// stays small.
    pub(super) fn scaled(mut self, slope: f64, intercept: f64) -> Learned {
        self.bias = short(slope * self.bias + intercept);
        for tree in &mut self.trees {
            tree.value.iter_mut().for_each(|value| *value = short(slope * *value));
            set_inner_values(tree);
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
            set_inner_values(tree);
        }
    }
}

/// The nearest number of seven decimals.
fn short(value: f64) -> f64 {
    (value * 1e7).round() / 1e7
}

/// Children come after their parent: backwards, both are done before it.
fn set_inner_values(tree: &mut Tree) {
    for node in (0..tree.left.len()).rev() {
        let left = tree.left[node] as usize;
        if left != 0 {
            let rows = |child: usize| f64::from(tree.cover[child]);
            let (a, b) = (rows(left), rows(left + 1));
            let sum = a * tree.value[left] + b * tree.value[left + 1];
            tree.value[node] = if a + b > 0.0 { short(sum / (a + b)) } else { 0.0 };
        }
    }
}

/// A tree of some library, node by node, in our order: children side by side, after their parent. `node` says of one of
/// theirs what it is; theirs are told apart by an `N`. `None` where it does, or where there are more than `nodes_max`.
pub(super) fn copy_tree<N>(
    root: N,
    nodes_max: usize,
    mut node: impl FnMut(&N) -> Option<Theirs<N>>,
) -> Option<Tree> {
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
    let mut sources = vec![root];
    let mut copied = 0;
    while copied < sources.len() {
        match node(&sources[copied])? {
            Theirs::Leaf(value) => tree.value[copied] = value,
            // A loop would never end otherwise.
            Theirs::Split { .. } if sources.len() + 2 > nodes_max => return None,
            Theirs::Split { feature, threshold, missing_left, left, right } => {
                tree.left[copied] = sources.len() as u32;
                tree.feature[copied] = u16::try_from(feature).ok()?;
                tree.threshold[copied] = threshold;
                tree.missing_left[copied] = u8::from(missing_left);
                for child in [left, right] {
                    sources.push(child);
                    grow(&mut tree);
                }
            }
        }
        copied += 1;
    }
    Some(tree)
}

/// A node of another library.
pub(super) enum Theirs<N> {
    Leaf(f64),
    Split {
        feature: usize,
        /// Up to and including this a row goes left.
        threshold: f32,
        missing_left: bool,
        left: N,
        right: N,
    },
}

/// The largest 32-bit float that is not above a threshold: `x <= threshold` is the same for every 32-bit `x`.
pub(super) fn not_above(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) > threshold { near.next_down() } else { near }
}

/// The largest 32-bit float below a threshold: `x <` the one is `x <=` the other for every 32-bit `x`.
pub(super) fn below(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) >= threshold { near.next_down() } else { near }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_threshold_in_32_bits_parts_the_same_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..10_000 {
            let x: f32 = rng.random_range(-1e6..1e6);
            for threshold in [
                f64::from(x),
                f64::from(x).next_down(),
                f64::from(x).next_up(),
                f64::from(x) + rng.random_range(-1.0..1.0),
            ] {
                assert_eq!(x <= not_above(threshold), f64::from(x) <= threshold, "{x} {threshold}");
                assert_eq!(x <= below(threshold), f64::from(x) < threshold, "{x} {threshold}");
            }
        }
    }

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
