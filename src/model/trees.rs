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
    use crate::model::forest::Forest;

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

    #[test]
    fn a_missing_value_goes_where_the_node_says_and_a_tie_goes_left() {
        let tree = |missing_left| Tree {
            left: vec![1, 0, 0],
            feature: vec![0; 3],
            threshold: vec![2.0, 0.0, 0.0],
            missing_left: vec![missing_left, 0, 0],
            value: vec![0.0, -1.0, 1.0],
            cover: vec![2.0, 1.0, 1.0],
            ..Tree::default()
        };
        for (missing_left, x, value) in [
            (0, f32::NAN, 1.0),
            (1, f32::NAN, -1.0),
            (1, 2.0, -1.0),
            (0, 2.000_000_2, 1.0),
            (0, f32::INFINITY, 1.0),
            (0, f32::NEG_INFINITY, -1.0),
        ] {
            let forest =
                Forest::new(&[tree(missing_left)], 0.0, 1, crate::model::forest::Sum::Double).unwrap();
            assert_eq!(forest.margin(&[x]), value, "{x} {missing_left}");
        }
    }

    #[test]
    fn a_zero_may_be_missing_and_a_category_is_looked_up() {
        let mut tree = Tree {
            left: vec![1, 0, 0],
            feature: vec![0; 3],
            threshold: vec![-1.0, 0.0, 0.0],
            missing_left: vec![1, 0, 0],
            value: vec![0.0, -1.0, 1.0],
            cover: vec![2.0, 1.0, 1.0],
            zero_missing: vec![0],
            ..Tree::default()
        };
        let margin = |tree: &Tree, x: f32| {
            Forest::new(std::slice::from_ref(tree), 0.0, 1, crate::model::forest::Sum::Double)
                .unwrap()
                .margin(&[x])
        };
        for (x, value) in
            [(0.0, -1.0), (-0.0, -1.0), (1e-36, -1.0), (1e-30, 1.0), (f32::NAN, -1.0), (-2.0, -1.0)]
        {
            assert_eq!(margin(&tree, x), value, "{x}");
        }
        tree.zero_missing.clear();
        tree.threshold[0] = 0.0;
        tree.categories = vec![Categories { node: 0, listed_left: false, listed: vec![0, 7, 5411] }];
        for (x, value) in [
            (0.0, 1.0),
            (7.0, 1.0),
            (7.9, 1.0),
            (5411.0, 1.0),
            (8.0, -1.0),
            (-7.0, -1.0),
            (f32::INFINITY, -1.0),
            (f32::NAN, -1.0),
        ] {
            assert_eq!(margin(&tree, x), value, "{x}");
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let good = Tree {
            left: vec![1, 3, 0, 0, 0],
            feature: vec![0, 1, 0, 0, 0],
            threshold: vec![0.5, 0.5, 0.0, 0.0, 0.0],
            missing_left: vec![0; 5],
            value: vec![0.0; 5],
            cover: vec![1.0; 5],
            ..Tree::default()
        };
        assert!(Forest::new(std::slice::from_ref(&good), 0.0, 2, crate::model::forest::Sum::Double).is_ok());
        let spoil = |change: &dyn Fn(&mut Tree), why: &str| {
            let mut tree = good.clone();
            change(&mut tree);
            let error = Forest::new(&[tree], 0.0, 2, crate::model::forest::Sum::Double).unwrap_err();
            assert!(error.starts_with("tree 0: ") && error.contains(why), "{error}");
        };
        spoil(&|t| t.left[2] = 3, "two parents");
        spoil(&|t| t.left[1] = 0, "a leaf compares nothing");
        spoil(&|t| t.left[3] = 1, "come after it");
        spoil(&|t| t.left[1] = 4, "come after it");
        spoil(&|t| t.left[1] = u32::MAX, "come after it");
        spoil(&|t| t.left[0] = 2, "no node leads to it");
        spoil(&|t| t.feature[1] = 2, "no such feature");
        spoil(&|t| t.missing_left[0] = 2, "neither 0 nor 1");
        spoil(&|t| t.threshold[0] = f32::NAN, "not finite");
        spoil(&|t| t.value[4] = f64::INFINITY, "not finite");
        spoil(&|t| t.value.truncate(4), "differ in length");
        spoil(&|t| t.cover[1] = -1.0, "no number of rows");
        spoil(&|t| t.zero_missing = vec![1, 0], "rising order");
        spoil(&|t| t.zero_missing = vec![2], "compares nothing");
        let by = |node, listed: &[u32]| Categories { node, listed_left: true, listed: listed.to_vec() };
        spoil(&|t| t.categories = vec![by(9, &[1])], "compares nothing");
        spoil(&|t| t.categories = vec![by(0, &[1])], "categories and a threshold");
        spoil(&|t| (t.threshold[0], t.categories) = (0.0, vec![by(0, &[2, 2])]), "rising order");
        spoil(&|t| (t.threshold[0], t.categories) = (0.0, vec![by(0, &[])]), "not 1 to");
        spoil(&|t| (t.threshold[0], t.categories) = (0.0, vec![by(0, &[1 << 24])]), "above 16777215");
        spoil(&|t| *t = Tree::default(), "0 nodes");
        assert!(Forest::new(&[], 0.0, 2, crate::model::forest::Sum::Double).is_err());
        assert!(Forest::new(&[good], f64::NAN, 2, crate::model::forest::Sum::Double).is_err());
        let chain = MODEL_DEPTH_MAX + 1;
        let nodes = 2 * chain + 1;
        let mut deep = Tree {
            left: vec![0; nodes],
            feature: vec![0; nodes],
            threshold: vec![0.0; nodes],
            missing_left: vec![0; nodes],
            value: vec![0.0; nodes],
            cover: vec![1.0; nodes],
            ..Tree::default()
        };
        for level in 0..chain {
            deep.left[if level == 0 { 0 } else { 2 * level }] = 2 * level as u32 + 1;
        }
        assert!(
            Forest::new(&[deep], 0.0, 2, crate::model::forest::Sum::Double).unwrap_err().contains("too deep")
        );
    }
}
