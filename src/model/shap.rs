//! Exact Shapley values of a margin: how much of it each feature is answerable for, whatever the order in which
//! features are asked.
//!
//! This is path-dependent TreeSHAP, Algorithm 2 of Lundberg, Erion and Lee, "Consistent Individualized Feature
//! Attribution for Tree Ensembles" (2018), in 64 bits. A feature that is not known leads both ways, each by its share of
//! the training rows (the covers of the file); the value of a feature is the mean, over all orders in which features
//! may become known, of what knowing it changes. It costs leaves times depth squared for a row, some hundred times a
//! score: it is for reports, while an answer has [`super::explain`]'s reasons, which are one walk and an approximation
//! with another base.
//!
//! The straight line adds `weight * (x - centre)`, and nothing to what is expected. That is a feature's Shapley value
//! where features are independent and `centre` is the mean of what the line reads. The file keeps the mean of what was
//! there before values beyond the bounds were cut off: with such values, what is expected is off by one number, the
//! same for every row.

use arrayvec::ArrayVec;

use super::{
    file::{Model, ModelError, ModelFile},
    linear::Term,
    trees::Tree,
};
use crate::{features::catalog::MODEL_FEATURES, limits::MODEL_DEPTH_MAX};

/// A model with what its values are computed from: a scorer keeps no covers.
#[derive(Clone, Debug)]
pub struct Explainer {
    model: Model,
    trees: Vec<Tree>,
    line: Vec<Term>,
    expected: f64,
}

impl Explainer {
    /// Reads and checks a model.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(text: &str) -> Result<Explainer, ModelError> {
        let (file, model) = ModelFile::read(text)?;
        let ModelFile { trees, line, bias, .. } = file;
        let expected = trees.iter().fold(bias, |sum, tree| sum + expected(tree));
        Ok(Explainer { model, trees, line, expected })
    }

    /// The model itself.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The margin of a row of which nothing is known, in log-odds: the mean of each tree's leaves by cover.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Each feature's Shapley value for the margin of this row, in log-odds. With [`Explainer::expected`] they add up to
    /// the margin, but for rounding.
    pub fn values(&self, row: &[f32; MODEL_FEATURES]) -> [f64; MODEL_FEATURES] {
        let mut values = [0.0; MODEL_FEATURES];
        self.trees.iter().for_each(|tree| add_values(tree, row, &mut values));
        self.line.iter().for_each(|term| values[usize::from(term.feature)] += term.of(row));
        values
    }
}

/// The mean of a tree's leaves by cover.
fn expected(tree: &Tree) -> f64 {
    let mut means = tree.value.clone();
    // Children come after their parent: backwards, both are done before it.
    for node in (0..means.len()).rev().filter(|node| tree.left[*node] != 0) {
        let left = tree.left[node] as usize;
        let [to_left, to_right] = shares(tree, left);
        means[node] = to_left * means[left] + to_right * means[left + 1];
    }
    means[0]
}

/// The shares of the training rows that went to two siblings. Where none is known to have come by either, each counts
/// half: such nodes come from pruned or hand-made trees, and nothing speaks for one side.
fn shares(tree: &Tree, left: usize) -> [f64; 2] {
    let [a, b] = [left, left + 1].map(|node| f64::from(tree.cover[node]));
    let both = a + b;
    if both > 0.0 { [a / both, b / both] } else { [0.5, 0.5] }
}

/// Adds to each feature its Shapley value for what this tree gives the row.
fn add_values(tree: &Tree, row: &[f32], values: &mut [f64]) {
    let mut path = Path::default();
    path.extend(Part { feature: NONE, zero: 1.0, one: true });
    descend(tree, row, values, 0, &path);
}

/// `path` is of the features asked above this node. It goes no deeper than [`MODEL_DEPTH_MAX`].
fn descend(tree: &Tree, row: &[f32], values: &mut [f64], node: usize, path: &Path) {
    let left = tree.left[node] as usize;
    if left == 0 {
        for (at, part) in path.parts.iter().enumerate().skip(1) {
            let one = f64::from(u8::from(part.one));
            values[usize::from(part.feature)] +=
                path.weight_without(at) * (one - part.zero) * tree.value[node];
        }
        return;
    }
    let feature = tree.feature[node];
    let mut above = path.clone();
    // A feature asked before stands on the path once, with the shares of all its nodes multiplied.
    let before = above.parts.iter().position(|part| part.feature == feature);
    let before = before.map_or(Part { feature, zero: 1.0, one: true }, |at| above.unwind(at));
    let goes_left = tree.goes_left(node, row);
    for ((share, child), is_taken) in
        shares(tree, left).into_iter().zip([left, left + 1]).zip([goes_left, !goes_left])
    {
        let part = Part { feature, zero: before.zero * share, one: before.one && is_taken };
        // Neither the row nor, while the feature is unknown, any share of the rows comes here: nothing to add, and
        // nothing to divide by when the part is taken out again.
        if part.one || part.zero > 0.0 {
            let mut below = above.clone();
            below.extend(part);
            descend(tree, row, values, child, &below);
        }
    }
}

/// No feature: the first part of a path.
const NONE: u16 = u16::MAX;

/// One feature of a path.
#[derive(Clone, Copy, Debug)]
struct Part {
    feature: u16,
    /// Which share of the rows comes this way while the feature is unknown.
    zero: f64,
    /// Whether the row does once it is known.
    one: bool,
}

/// The features asked on the way to a node, and for every number of them that are known, the weight of all subsets of
/// so many (the paper's `m`).
#[derive(Clone, Default, Debug)]
struct Path {
    parts: ArrayVec<Part, { MODEL_DEPTH_MAX + 1 }>,
    weights: ArrayVec<f64, { MODEL_DEPTH_MAX + 1 }>,
}

impl Path {
    /// The paper's EXTEND.
    fn extend(&mut self, part: Part) {
        let length = self.parts.len();
        self.parts.push(part);
        self.weights.push(if length == 0 { 1.0 } else { 0.0 });
        let all = (length + 1) as f64;
        for at in (0..length).rev() {
            if part.one {
                self.weights[at + 1] += self.weights[at] * (at + 1) as f64 / all;
            }
            self.weights[at] *= part.zero * (length - at) as f64 / all;
        }
    }

    /// The paper's UNWIND: takes a part out as if it had never been there.
    fn unwind(&mut self, at: usize) -> Part {
        let Part { zero, one, .. } = self.parts[at];
        let last = self.parts.len() - 1;
        let all = (last + 1) as f64;
        let mut next = self.weights[last];
        for known in (0..last).rev() {
            let weight = self.weights[known];
            if one {
                self.weights[known] = next * all / (known + 1) as f64;
                next = weight - self.weights[known] * zero * (last - known) as f64 / all;
            } else {
                self.weights[known] = weight * all / (zero * (last - known) as f64);
            }
        }
        self.weights.pop();
        self.parts.remove(at)
    }

    /// The sum of the weights after [`Path::unwind`].
    fn weight_without(&self, at: usize) -> f64 {
        let Part { zero, one, .. } = self.parts[at];
        let last = self.parts.len() - 1;
        let all = (last + 1) as f64;
        let (mut sum, mut next) = (0.0, self.weights[last]);
        for known in (0..last).rev() {
            if one {
                let weight = next * all / (known + 1) as f64;
                next = self.weights[known] - weight * zero * (last - known) as f64 / all;
                sum += weight;
            } else {
                sum += self.weights[known] * all / (zero * (last - known) as f64);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests;
