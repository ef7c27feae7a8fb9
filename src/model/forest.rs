//! A forest of binary trees in flat arrays, and the walk through it: no allocation, one row at a time.
//!
//! ```text
//! node   threshold f32 | first child, 24 bits, and index, 8 bits   8 bytes; the second child follows the first
//! leaf   +infinity     | itself              | FREE                so that a walk may go on and stays there
//! ```
//!
//! A row is first laid out as a table of [`KINDS`] kinds of every value. A walk goes to the first child where
//! `table[index] <= threshold`, else to the second, without a branch and without a question about what is missing:
//! whether a missing value (NaN, which is never below anything) goes left is settled when the forest is planted. Where it
//! goes right, the first child is the left one. Where it goes left, the node asks for the negated value, which is
//! above the threshold where `-x <= -next_up(threshold)`, and the first child is the right one. Where 0 is missing
//! too, the node asks for a kind in which it is.
//!
//! A node by category has a threshold that is no number and holds the place of its list. The margin is the bias plus
//! one leaf of each tree, added in the order of the trees, so that it is the same bit for bit however the walk is
//! arranged: in 64 bits, or in 32 where the library that a model comes from adds so ([`Sum`]).

use super::trees::{Categories, Tree, is_zero};
use crate::{
    features::catalog::MODEL_FEATURES,
    limits::{MODEL_DEPTH_MAX, MODEL_TREE_NODES_MAX, MODEL_TREES_MAX},
};

/// How leaves are added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sum {
    Double,
    /// Each leaf and each sum rounded to 32 bits, as XGBoost does it.
    Single,
}

/// Trees walked side by side, so that their memory accesses overlap.
const ABREAST: usize = 10;

/// The trees of a model, ready to be walked.
#[derive(Clone, PartialEq, Debug)]
pub struct Forest {
    nodes: Vec<Node>,
    /// Beside the nodes, since only the last one of a walk is read.
    values: Vec<f64>,
    roots: Vec<Root>,
    /// What nodes by category ask for.
    lists: Vec<List>,
    /// Whether any node takes 0 for missing.
    zero_missing: bool,
    features: usize,
    bias: f64,
    sum: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    threshold: f32,
    /// The first child, and below it the index in the table.
    next: u32,
}

#[derive(Clone, PartialEq, Debug)]
struct List {
    categories: Categories,
    missing_left: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Root {
    node: u32,
    depth: u32,
}

/// A row in [`KINDS`] kinds: as it is, negated, and both again with 0 as missing.
type Table = [f32; KINDS * WIDTH];

const KINDS: usize = 4;
const NEGATED: usize = WIDTH;
const WITHOUT_ZERO: usize = 2 * WIDTH;
/// Places of a kind: one for each feature, and one that is always 0.
const WIDTH: usize = 64;
/// That one, which leaves ask for.
const FREE: usize = WIDTH - 1;
const INDEX_BITS: u32 = 8;

/// The bits of a threshold that is no number, and those of them that hold the place of a list.
const BY_CATEGORY: u32 = 0x7fc0_0000;
const LIST: u32 = 0x003f_ffff;

const _: () = assert!(size_of::<Node>() == 8, "eight nodes to a cache line");
const _: () = assert!(MODEL_FEATURES <= FREE, "a row is wider than its table");
const _: () = assert!(KINDS * WIDTH == 1 << INDEX_BITS);
const _: () = assert!(MODEL_TREES_MAX * MODEL_TREE_NODES_MAX <= 1 << (32 - INDEX_BITS));

impl PartialEq for Node {
    /// By bits, since a threshold may be no number.
    fn eq(&self, other: &Node) -> bool {
        (self.threshold.to_bits(), self.next) == (other.threshold.to_bits(), other.next)
    }
}

impl Node {
    fn new(threshold: f32, first_child: u32, index: usize) -> Node {
        Node { threshold, next: first_child << INDEX_BITS | index as u32 }
    }

    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self.next as u8)
    }

    #[inline(always)]
    fn first_child(self) -> u32 {
        self.next >> INDEX_BITS
    }

    fn feature(self) -> usize {
        self.index() % WIDTH
    }
}

impl Forest {
    /// Checks the trees and lays them out for rows of `features` values.
    ///
    /// # Errors
    /// Says which tree is no tree, is too large, or reads a feature that rows do not have.
    pub fn new(trees: &[Tree], bias: f64, features: usize, sum: Sum) -> Result<Forest, String> {
        if trees.is_empty() || trees.len() > MODEL_TREES_MAX {
            return Err(format!("{} trees; 1 to {MODEL_TREES_MAX} are possible", trees.len()));
        }
        if !bias.is_finite() {
            return Err("the bias is not finite".to_owned());
        }
        if features > FREE {
            return Err(format!("rows of {features} values; at most {FREE} are possible"));
        }
        let mut forest = Forest {
            nodes: Vec::new(),
            values: Vec::new(),
            roots: Vec::new(),
            lists: Vec::new(),
            zero_missing: trees.iter().any(|tree| !tree.zero_missing.is_empty()),
            features,
            bias,
            sum,
        };
        for (number, tree) in trees.iter().enumerate() {
            let planted = tree.check(features).and_then(|depth| forest.plant(tree, depth));
            planted.map_err(|why| format!("tree {number}: {why}"))?;
        }
        Ok(forest)
    }

    fn plant(&mut self, tree: &Tree, depth: u32) -> Result<(), String> {
        let root = self.nodes.len() as u32;
        self.roots.push(Root { node: root, depth });
        let (size, leaf) = (tree.left.len(), Node::new(f32::INFINITY, 0, FREE));
        self.nodes.resize(root as usize + size, leaf);
        self.values.resize(root as usize + size, 0.0);
        // Where each node comes to stand: siblings change places where the right one is the first.
        let mut places = vec![root; size];
        for number in 0..size {
            let (place, left) = (places[number], tree.left[number] as usize);
            self.values[place as usize] = tree.value[number];
            if left == 0 {
                self.nodes[place as usize] = Node::new(f32::INFINITY, place, FREE);
                continue;
            }
            let missing_left = tree.missing_left[number] == 1;
            let mut index = usize::from(tree.feature[number]);
            if tree.zero_missing.binary_search(&(number as u32)).is_ok() {
                index += WITHOUT_ZERO;
            }
            let by_category = tree.categories.binary_search_by_key(&(number as u32), |asked| asked.node);
            let right_is_first = missing_left && by_category.is_err();
            let threshold = match by_category {
                Ok(at) => {
                    if self.lists.len() > LIST as usize {
                        return Err(format!("node {number}: more than {LIST} nodes ask for a category"));
                    }
                    self.lists.push(List { categories: tree.categories[at].clone(), missing_left });
                    f32::from_bits(BY_CATEGORY | (self.lists.len() - 1) as u32)
                }
                Err(_) if right_is_first => -tree.threshold[number].next_up(),
                Err(_) => tree.threshold[number],
            };
            if right_is_first {
                index += NEGATED;
            }
            let first_child = root + left as u32;
            self.nodes[place as usize] = Node::new(threshold, first_child, index);
            places[left] = first_child + u32::from(right_is_first);
            places[left + 1] = first_child + u32::from(!right_is_first);
        }
        Ok(())
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// How many nodes ask for each feature.
    pub fn splits(&self) -> Vec<u64> {
        let mut splits = vec![0; self.features];
        let asks = |node: &&Node| node.feature() != FREE;
        self.nodes.iter().filter(asks).for_each(|node| splits[node.feature()] += 1);
        splits
    }

    /// The margin of a row, in log-odds.
    ///
    /// # Panics
    /// Where the row is shorter than the forest was made for.
    pub fn margin(&self, row: &[f32]) -> f64 {
        let table = self.table(row);
        match (self.lists.is_empty(), self.sum) {
            (true, Sum::Double) => self.walk::<true, _>(&table, self.bias, |sum, leaf| sum + leaf),
            (false, Sum::Double) => self.walk::<false, _>(&table, self.bias, |sum, leaf| sum + leaf),
            (_, Sum::Single) => {
                f64::from(self.walk::<false, _>(&table, self.bias as f32, |sum, leaf| sum + leaf as f32))
            }
        }
    }

    fn table(&self, row: &[f32]) -> Table {
        let row = &row[..self.features];
        let mut table = [0.0; KINDS * WIDTH];
        for (at, x) in row.iter().enumerate() {
            table[at] = *x;
            table[NEGATED + at] = -x;
        }
        if self.zero_missing {
            for (at, x) in row.iter().enumerate() {
                let x = if is_zero(*x) { f32::NAN } else { *x };
                table[WITHOUT_ZERO + at] = x;
                table[WITHOUT_ZERO + NEGATED + at] = -x;
            }
        }
        table
    }

    fn walk<const PLAIN: bool, T: Copy>(&self, table: &Table, bias: T, add: impl Fn(T, f64) -> T) -> T {
        let mut margin = bias;
        for group in self.roots.chunks(ABREAST) {
            // Behind the last tree, others are walked once more and left out of the sum.
            let mut at: [u32; ABREAST] =
                std::array::from_fn(|tree| group.get(tree).map_or(0, |root| root.node));
            let depth = group.iter().fold(0, |deepest, root| deepest.max(root.depth));
            for _ in 0..depth {
                for node in &mut at {
                    *node = self.step::<PLAIN>(*node, table);
                }
            }
            for node in &at[..group.len()] {
                margin = add(margin, self.values[*node as usize]);
            }
        }
        margin
    }

    /// Adds to each feature what it contributed to the margin, and gives what is left of it: the bias and the
    /// values of the roots, and what single precision rounds away. A split's feature gets the change in value from the
    /// node to the child taken (Saabas, "Interpreting random forests", 2014): one walk, but an approximation that
    /// favours splits near the leaves; [`super::shap`] is exact.
    ///
    /// # Panics
    /// As [`Forest::margin`], and where `contributions` is shorter than a row.
    pub fn contributions(&self, row: &[f32], contributions: &mut [f64]) -> f64 {
        let table = self.table(row);
        let mut base = self.bias;
        let mut told = 0.0;
        let mut paths = [[0; ABREAST]; MODEL_DEPTH_MAX + 1];
        for group in self.roots.chunks(ABREAST) {
            // Walked abreast like the margin, so that the loads of many trees overlap; added up tree by tree, so that
            // the sums do not depend on how many walk abreast.
            for (node, root) in paths[0].iter_mut().zip(group) {
                *node = root.node;
            }
            let depth = group.iter().fold(0, |deepest, root| deepest.max(root.depth)) as usize;
            for level in 0..depth {
                let nodes = paths[level];
                for (child, node) in paths[level + 1].iter_mut().zip(nodes).take(group.len()) {
                    *child = self.step::<false>(node, &table);
                }
            }
            for (tree, root) in group.iter().enumerate() {
                let mut value = self.values[root.node as usize];
                base += value;
                for level in 0..root.depth as usize {
                    let (node, child) = (paths[level][tree], paths[level + 1][tree]);
                    if child == node {
                        break;
                    }
                    let child_value = self.values[child as usize];
                    contributions[self.nodes[node as usize].feature()] += child_value - value;
                    told += child_value - value;
                    value = child_value;
                }
            }
        }
        match self.sum {
            Sum::Double => base,
            Sum::Single => self.margin(row) - told,
        }
    }

    /// The child a row goes to, without a branch where nodes only compare; a leaf stays where it is.
    #[inline(always)]
    fn step<const PLAIN: bool>(&self, node: u32, table: &Table) -> u32 {
        let node = self.nodes[node as usize];
        let x = table[node.index()];
        let goes_first = if !PLAIN && node.threshold.is_nan() {
            self.lists[(node.threshold.to_bits() & LIST) as usize].goes_left(x)
        } else {
            x <= node.threshold
        };
        node.first_child() + u32::from(!goes_first)
    }
}

impl List {
    fn goes_left(&self, x: f32) -> bool {
        if x.is_nan() { self.missing_left } else { self.categories.goes_left(x) }
    }
}

#[cfg(test)]
mod tests;
