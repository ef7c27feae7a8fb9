//! A forest of binary trees in flat arrays, and the walk through it: no allocation, one row at a time.
//!
//! ```text
//! node   threshold f32 | left u32 | feature u16 | missing_left     12 bytes; the right child is left + 1
//! leaf   +infinity     | itself   | 0           | true             so that a walk may go on and stays there
//! ```
//!
//! A row goes left where `x <= threshold`; where `x` is missing (NaN) the node says which way. The margin is the
//! bias plus one leaf of each tree, added in the order of the trees in 64 bits, so that it is the same bit for bit
//! however the walk is arranged.

use crate::limits::{MODEL_DEPTH_MAX, MODEL_TREE_NODES_MAX, MODEL_TREES_MAX};

/// Trees walked side by side, so that their memory accesses overlap.
const ABREAST: usize = 8;

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
    pub value: Vec<f32>,
}

/// The trees of a model, ready to be walked.
#[derive(Clone, PartialEq, Debug)]
pub struct Forest {
    nodes: Vec<Node>,
    /// Beside the nodes, since only the last one of a walk is read.
    values: Vec<f32>,
    roots: Vec<Root>,
    features: usize,
    bias: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Node {
    threshold: f32,
    left: u32,
    feature: u16,
    missing_left: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Root {
    node: u32,
    depth: u32,
}

const _: () = assert!(size_of::<Node>() == 12, "five nodes to a cache line");
const _: () = assert!(MODEL_TREES_MAX * MODEL_TREE_NODES_MAX < u32::MAX as usize);

impl Forest {
    /// Checks the trees and lays them out for rows of `features` values.
    ///
    /// # Errors
    /// Says which tree is no tree, is too large, or reads a feature that rows do not have.
    pub fn new(trees: &[Tree], bias: f32, features: usize) -> Result<Forest, String> {
        if trees.is_empty() || trees.len() > MODEL_TREES_MAX {
            return Err(format!("{} trees; 1 to {MODEL_TREES_MAX} are possible", trees.len()));
        }
        if !bias.is_finite() {
            return Err("the bias is not finite".to_owned());
        }
        let mut forest = Forest {
            nodes: Vec::new(),
            values: Vec::new(),
            roots: Vec::new(),
            features,
            bias: f64::from(bias),
        };
        for (number, tree) in trees.iter().enumerate() {
            let depth = tree.check(features).map_err(|why| format!("tree {number}: {why}"))?;
            forest.plant(tree, depth);
        }
        Ok(forest)
    }

    fn plant(&mut self, tree: &Tree, depth: u32) {
        let root = self.nodes.len() as u32;
        self.roots.push(Root { node: root, depth });
        for index in 0..tree.left.len() {
            self.nodes.push(match tree.left[index] {
                0 => Node {
                    threshold: f32::INFINITY,
                    left: root + index as u32,
                    feature: 0,
                    missing_left: true,
                },
                left => Node {
                    threshold: tree.threshold[index],
                    left: root + left,
                    feature: tree.feature[index],
                    missing_left: tree.missing_left[index] == 1,
                },
            });
        }
        self.values.extend_from_slice(&tree.value);
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// The margin of a row, in log-odds.
    ///
    /// # Panics
    /// Where the row is shorter than the forest was made for.
    pub fn margin(&self, row: &[f32]) -> f64 {
        let row = &row[..self.features];
        let mut margin = self.bias;
        let mut groups = self.roots.chunks_exact(ABREAST);
        for group in &mut groups {
            let mut at: [u32; ABREAST] = std::array::from_fn(|tree| group[tree].node);
            let depth = group.iter().fold(0, |deepest, root| deepest.max(root.depth));
            for _ in 0..depth {
                for node in &mut at {
                    *node = self.step(*node, row);
                }
            }
            for node in at {
                margin += f64::from(self.values[node as usize]);
            }
        }
        for root in groups.remainder() {
            let leaf = (0..root.depth).fold(root.node, |node, _| self.step(node, row));
            margin += f64::from(self.values[leaf as usize]);
        }
        margin
    }

    /// Adds to each feature what it contributed to the margin, and gives what is left of it: the bias and the
    /// values of the roots. A split's feature gets the change in value from the node to the child taken (Saabas,
    /// "Interpreting random forests", 2014): one walk, but an approximation that favours splits near the leaves.
    ///
    /// # Panics
    /// As [`Forest::margin`], and where `contributions` is shorter than a row.
    pub fn contributions(&self, row: &[f32], contributions: &mut [f64]) -> f64 {
        let row = &row[..self.features];
        let mut base = self.bias;
        let mut paths = [[0; ABREAST]; MODEL_DEPTH_MAX + 1];
        for group in self.roots.chunks(ABREAST) {
            // Walked abreast like the margin, so that the loads of eight trees overlap; added up tree by tree, so that
            // the sums do not depend on how many walk abreast.
            for (node, root) in paths[0].iter_mut().zip(group) {
                *node = root.node;
            }
            let depth = group.iter().fold(0, |deepest, root| deepest.max(root.depth)) as usize;
            for level in 0..depth {
                let nodes = paths[level];
                for (child, node) in paths[level + 1].iter_mut().zip(nodes).take(group.len()) {
                    *child = self.step(node, row);
                }
            }
            for (tree, root) in group.iter().enumerate() {
                let mut value = f64::from(self.values[root.node as usize]);
                base += value;
                for level in 0..root.depth as usize {
                    let (node, child) = (paths[level][tree], paths[level + 1][tree]);
                    if child == node {
                        break;
                    }
                    let child_value = f64::from(self.values[child as usize]);
                    contributions[usize::from(self.nodes[node as usize].feature)] += child_value - value;
                    value = child_value;
                }
            }
        }
        base
    }

    /// The child a row goes to, without a branch; a leaf stays where it is.
    #[inline(always)]
    fn step(&self, node: u32, row: &[f32]) -> u32 {
        let Node { threshold, left, feature, missing_left } = self.nodes[node as usize];
        let x = row[usize::from(feature)];
        let goes_left = (x <= threshold) | (x.is_nan() & missing_left);
        left + u32::from(!goes_left)
    }
}

impl Tree {
    /// The leaf that a row ends in, found step by step.
    pub fn leaf(&self, row: &[f32]) -> usize {
        let mut node = 0;
        while self.left[node] != 0 {
            let x = row[usize::from(self.feature[node])];
            let goes_left = if x.is_nan() { self.missing_left[node] == 1 } else { x <= self.threshold[node] };
            node = self.left[node] as usize + usize::from(!goes_left);
        }
        node
    }

    /// Whether this is a tree, and how deep: 0 for a single leaf.
    fn check(&self, features: usize) -> Result<u32, String> {
        let nodes = self.left.len();
        if nodes == 0 || nodes > MODEL_TREE_NODES_MAX {
            return Err(format!("{nodes} nodes; 1 to {MODEL_TREE_NODES_MAX} are possible"));
        }
        let lengths = [self.feature.len(), self.threshold.len(), self.missing_left.len(), self.value.len()];
        if lengths.iter().any(|length| *length != nodes) {
            return Err("its arrays differ in length".to_owned());
        }
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
}

#[cfg(test)]
pub(super) mod tests {
    use rand::{Rng, SeedableRng};
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
                for child in [left, left + 1] {
                    leaf(&mut tree, rng);
                    open.push((child, level + 1));
                }
            }
        }
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
    fn the_walk_abreast_is_the_naive_walk_bit_for_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for trees in [1, 7, 8, 9, 30] {
            let trees: Vec<Tree> = (0..trees)
                .map(|_| {
                    let depth = rng.random_range(0..8);
                    random_tree(&mut rng, depth, 10)
                })
                .collect();
            let forest = Forest::new(&trees, -2.5, 10).unwrap();
            for _ in 0..2_000 {
                let row = random_row(&mut rng, 10);
                let naive = trees.iter().fold(-2.5, |sum, t| sum + f64::from(t.value[t.leaf(&row)]));
                assert_eq!(forest.margin(&row).to_bits(), naive.to_bits(), "{row:?}");
            }
        }
    }

    #[test]
    fn contributions_and_base_add_up_to_the_margin() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let trees: Vec<Tree> = (0..25).map(|_| random_tree(&mut rng, 6, 10)).collect();
        let forest = Forest::new(&trees, 0.75, 10).unwrap();
        let expected_base = trees.iter().fold(0.75, |sum, t| sum + f64::from(t.value[0]));
        for _ in 0..1_000 {
            let row = random_row(&mut rng, 10);
            let mut contributions = [0.0; 10];
            let base = forest.contributions(&row, &mut contributions);
            assert_eq!(base, expected_base);
            let sum: f64 = contributions.iter().sum();
            assert!((base + sum - forest.margin(&row)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_missing_value_goes_where_the_node_says_and_a_tie_goes_left() {
        let tree = |missing_left| Tree {
            left: vec![1, 0, 0],
            feature: vec![0; 3],
            threshold: vec![2.0, 0.0, 0.0],
            missing_left: vec![missing_left, 0, 0],
            value: vec![0.0, -1.0, 1.0],
        };
        for (missing_left, x, value) in [
            (0, f32::NAN, 1.0),
            (1, f32::NAN, -1.0),
            (1, 2.0, -1.0),
            (0, 2.000_000_2, 1.0),
            (0, f32::INFINITY, 1.0),
            (0, f32::NEG_INFINITY, -1.0),
        ] {
            let forest = Forest::new(&[tree(missing_left)], 0.0, 1).unwrap();
            assert_eq!(forest.margin(&[x]), value, "{x} {missing_left}");
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
        };
        assert!(Forest::new(std::slice::from_ref(&good), 0.0, 2).is_ok());
        let spoil = |change: &dyn Fn(&mut Tree), why: &str| {
            let mut tree = good.clone();
            change(&mut tree);
            let error = Forest::new(&[tree], 0.0, 2).unwrap_err();
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
        spoil(&|t| t.value[4] = f32::INFINITY, "not finite");
        spoil(&|t| t.value.truncate(4), "differ in length");
        spoil(&|t| *t = Tree::default(), "0 nodes");
        assert!(Forest::new(&[], 0.0, 2).is_err());
        assert!(Forest::new(&[good], f32::NAN, 2).is_err());
        let chain = MODEL_DEPTH_MAX + 1;
        let nodes = 2 * chain + 1;
        let mut deep = Tree {
            left: vec![0; nodes],
            feature: vec![0; nodes],
            threshold: vec![0.0; nodes],
            missing_left: vec![0; nodes],
            value: vec![0.0; nodes],
        };
        for level in 0..chain {
            deep.left[if level == 0 { 0 } else { 2 * level }] = 2 * level as u32 + 1;
        }
        assert!(Forest::new(&[deep], 0.0, 2).unwrap_err().contains("too deep"));
    }
}
