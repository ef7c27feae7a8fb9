//! A binary tree as it is written and trained, one node after another; [`super::forest`] is what scores.
//!
//! A row goes left where `x <= threshold`; where `x` is missing (NaN) the node says which way. Models of other
//! libraries have two more kinds of nodes: one that takes 0 for missing, and one that looks a category up in a list.

use crate::limits::{MODEL_CATEGORIES_MAX, MODEL_DEPTH_MAX, MODEL_TREE_NODES_MAX};

/// LightGBM's bound, up to which a value is 0 (`kZeroThreshold`).
const ZERO_MAX: f32 = 1e-35;

/// Whether a value is 0 to a node that takes 0 for missing.
pub(super) fn is_zero(x: f32) -> bool {
    x.abs() <= ZERO_MAX
}

/// One tree as it is written and trained: a node is an index into each array, the root is 0, and children come
/// after their parent.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Index of the left child, the right one follows it; 0 makes the node a leaf.
    pub left: Vec<u32>,
    /// Index of the feature compared; 0 in a leaf.
    pub feature: Vec<u16>,
    /// A row with a value up to and including this goes left; 0 in a leaf.
    pub threshold: Vec<f32>,
    /// 1 where a row whose value is missing goes left, else 0; 0 in a leaf.
    pub missing_left: Vec<u8>,
    /// What a leaf adds to the margin; elsewhere the mean of that over the training rows that came by.
    pub value: Vec<f64>,
    /// How many training rows came by, or their weight.
    pub cover: Vec<f32>,
    /// Nodes to which 0 is missing too, in rising order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero_missing: Vec<u32>,
    /// Nodes that ask for a category instead of comparing, in rising order. Their threshold is 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Categories>,
}

/// A node that lets through by a list of categories. The value's whole part is the category; what is not in the list,
/// a negative value among it, goes the other way.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    pub node: u32,
    /// Whether the listed ones go left, or right.
    pub listed_left: bool,
    /// In rising order.
    pub listed: Vec<u32>,
}

impl Categories {
    pub(super) fn goes_left(&self, x: f32) -> bool {
        // A cast of a negative number or NaN gives 0, which is a category.
        let is_listed = x > -1.0 && self.listed.binary_search(&(x as u32)).is_ok();
        is_listed == self.listed_left
    }
}

impl Tree {
    /// One leaf that adds nothing: what a model has where a straight line says it all.
    pub fn of_nothing() -> Tree {
        Tree {
            left: vec![0],
            feature: vec![0],
            threshold: vec![0.0],
            missing_left: vec![0],
            value: vec![0.0],
            cover: vec![0.0],
            ..Tree::default()
        }
    }

    /// The leaf that a row ends in, found step by step.
    #[cfg(test)]
    pub fn leaf(&self, row: &[f32]) -> usize {
        let mut node = 0;
        while self.left[node] != 0 {
            node = self.left[node] as usize + usize::from(!self.goes_left(node, row));
        }
        node
    }

    /// Which way a row goes at a node that is no leaf.
    pub fn goes_left(&self, node: usize, row: &[f32]) -> bool {
        let x = row[usize::from(self.feature[node])];
        let number = node as u32;
        let zero_is_missing = self.zero_missing.binary_search(&number).is_ok();
        if x.is_nan() || (zero_is_missing && is_zero(x)) {
            return self.missing_left[node] == 1;
        }
        match self.categories.binary_search_by_key(&number, |categories| categories.node) {
            Ok(at) => self.categories[at].goes_left(x),
            Err(_) => x <= self.threshold[node],
        }
    }

    /// Sets every inner node to the mean of its children by cover, of children without any to the plain mean, each as
    /// `round` has it.
    pub fn set_inner_values(&mut self, round: impl Fn(f64) -> f64) {
        // Children come after their parent: backwards, both are done before it.
        for node in (0..self.left.len()).rev() {
            let left = self.left[node] as usize;
            if left == 0 {
                continue;
            }
            let (mut a, mut b) = (f64::from(self.cover[left]), f64::from(self.cover[left + 1]));
            if a + b <= 0.0 {
                (a, b) = (1.0, 1.0);
            }
            self.value[node] = round((a * self.value[left] + b * self.value[left + 1]) / (a + b));
        }
    }

    /// Whether this is a tree, and how deep: 0 for a single leaf.
    pub(super) fn check(&self, features: usize) -> Result<u32, String> {
        let nodes = self.left.len();
        if nodes == 0 || nodes > MODEL_TREE_NODES_MAX {
            return Err(format!("{nodes} nodes; 1 to {MODEL_TREE_NODES_MAX} are possible"));
        }
        let lengths = [self.feature.len(), self.threshold.len(), self.missing_left.len(), self.value.len()];
        if lengths.iter().any(|length| *length != nodes) || self.cover.len() != nodes {
            return Err("its arrays differ in length".to_owned());
        }
        self.check_kinds()?;
        let mut depths: Vec<Option<u32>> = vec![None; nodes];
        depths[0] = Some(0);
        let mut deepest = 0;
        for node in 0..nodes {
            let bad = |why: &str| Err(format!("node {node}: {why}"));
            // Parents come first, so a node without a depth by now has none that leads to it.
            let Some(depth) = depths[node] else { return bad("no node leads to it") };
            if !self.value[node].is_finite() || !self.threshold[node].is_finite() {
                return bad("a number is not finite");
            }
            if !self.cover[node].is_finite() || self.cover[node] < 0.0 {
                return bad("its cover is no number of rows");
            }
            if self.missing_left[node] > 1 {
                return bad("`missing_left` is neither 0 nor 1");
            }
            let left = self.left[node] as usize;
            if left == 0 {
                if self.feature[node] != 0 || self.threshold[node] != 0.0 || self.missing_left[node] != 0 {
                    return bad("a leaf compares nothing");
                }
                continue;
            }
            if left <= node || left + 1 >= nodes {
                return bad("its children do not come after it");
            }
            if usize::from(self.feature[node]) >= features {
                return bad("there is no such feature");
            }
            if depth as usize + 1 > MODEL_DEPTH_MAX {
                return bad("it is too deep");
            }
            for child in [left, left + 1] {
                if depths[child].replace(depth + 1).is_some() {
                    return bad("a child has two parents");
                }
            }
            deepest = deepest.max(depth + 1);
        }
        Ok(deepest)
    }

    /// Whether the nodes of other kinds are nodes that compare, each named once.
    fn check_kinds(&self) -> Result<(), String> {
        let by_category: Vec<u32> = self.categories.iter().map(|categories| categories.node).collect();
        for (kind, nodes) in [("zero_missing", &self.zero_missing), ("categories", &by_category)] {
            if !nodes.is_sorted_by(|a, b| a < b) {
                return Err(format!("`{kind}` does not name its nodes in rising order"));
            }
            for node in nodes {
                if self.left.get(*node as usize).is_none_or(|left| *left == 0) {
                    return Err(format!("`{kind}` names node {node}, which compares nothing"));
                }
            }
        }
        for Categories { node, listed, .. } in &self.categories {
            if listed.is_empty() || listed.len() > MODEL_CATEGORIES_MAX || !listed.is_sorted_by(|a, b| a < b)
            {
                return Err(format!(
                    "node {node}: its categories are not 1 to {MODEL_CATEGORIES_MAX} in rising order"
                ));
            }
            // A 32-bit float holds every whole number up to here and not all beyond.
            if listed.last().is_some_and(|last| *last >= 1 << 24) {
                return Err(format!("node {node}: a category is above {}", (1 << 24) - 1));
            }
            if self.threshold[*node as usize] != 0.0 {
                return Err(format!("node {node}: it has categories and a threshold"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rand::Rng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A random tree of at most this depth.
    pub(in crate::model) fn random_tree(rng: &mut ChaCha8Rng, depth: usize, features: usize) -> Tree {
        let mut tree = Tree::default();
        let leaf = |tree: &mut Tree, rng: &mut ChaCha8Rng| {
            tree.left.push(0);
            tree.feature.push(0);
            tree.threshold.push(0.0);
            tree.missing_left.push(0);
            tree.value.push(rng.random_range(-1.0..1.0));
            tree.cover.push(1.0);
        };
        leaf(&mut tree, rng);
        let mut open = vec![(0, 0)];
        while let Some((node, level)) = open.pop() {
            if level < depth && rng.random_bool(0.8) {
                let left = tree.left.len();
                tree.left[node] = left as u32;
                tree.feature[node] = rng.random_range(0..features) as u16;
                tree.threshold[node] = f32::from(rng.random_range(-4_i8..4));
                tree.missing_left[node] = rng.random_range(0..2);
                match rng.random_range(0..16) {
                    0 => tree.zero_missing.push(node as u32),
                    1 => {
                        tree.threshold[node] = 0.0;
                        let listed: Vec<u32> = (0..4).filter(|_| rng.random_bool(0.5)).chain([4]).collect();
                        let listed_left = rng.random_bool(0.5);
                        tree.categories.push(Categories { node: node as u32, listed_left, listed });
                    }
                    _ => {}
                }
                for child in [left, left + 1] {
                    leaf(&mut tree, rng);
                    open.push((child, level + 1));
                }
            }
        }
        tree.zero_missing.sort_unstable();
        tree.categories.sort_by_key(|categories| categories.node);
        tree
    }

    /// Rows whose values often equal a threshold, and now and then are missing or not finite.
    pub(in crate::model) fn random_row(rng: &mut ChaCha8Rng, features: usize) -> Vec<f32> {
        let value = |rng: &mut ChaCha8Rng| match rng.random_range(0..12) {
            0 | 1 => f32::NAN,
            2 => f32::INFINITY,
            3 => f32::NEG_INFINITY,
            4..8 => f32::from(rng.random_range(-4_i8..4)),
            _ => rng.random_range(-5.0..5.0),
        };
        (0..features).map(|_| value(rng)).collect()
    }
}
