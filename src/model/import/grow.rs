//! Nodes of another library's tree, put into the order of ours: children beside each other and after their parent.

use super::Refused;
use crate::{
    limits::MODEL_TREE_NODES_MAX,
    model::trees::{Categories, Tree},
};

/// A node as its file has it; children are that file's own numbers.
pub(super) enum Node {
    Leaf { value: f64, cover: f32 },
    Split(Split),
}

pub(super) struct Split {
    /// Index in a row of ours.
    pub feature: u16,
    pub test: Test,
    pub missing_left: bool,
    pub zero_missing: bool,
    pub left: i64,
    pub right: i64,
    pub cover: f32,
}

pub(super) enum Test {
    /// Left up to and including this.
    UpTo(f32),
    Category {
        listed_left: bool,
        listed: Vec<u32>,
    },
}

/// Follows a tree from its root. `size` is how many nodes its file has: whoever comes by more of them goes in circles.
/// `listed_most` is how many categories it can list, so that nodes that share one list do not multiply it.
pub(super) fn grow(
    root: i64,
    size: usize,
    listed_most: usize,
    mut read: impl FnMut(i64) -> Result<Node, String>,
) -> Result<Tree, Refused> {
    if size == 0 || size > MODEL_TREE_NODES_MAX {
        return Err(format!(
            "it has {size} nodes; 1 to {MODEL_TREE_NODES_MAX} can be used. Train smaller trees"
        ));
    }
    let mut tree = Tree::default();
    let mut theirs = vec![root];
    let (mut at, mut listed_so_far) = (0, 0);
    while let Some(number) = theirs.get(at).copied() {
        let (node, ours) = (read(number).map_err(|why| format!("node {number}: {why}"))?, at as u32);
        at += 1;
        let (left, feature, threshold, missing_left, value, cover) = match node {
            Node::Leaf { value, cover } => (0, 0, 0.0, 0, value, cover),
            Node::Split(split) => {
                let left = theirs.len() as u32;
                if theirs.len() + 2 > size {
                    return Err(format!(
                        "node {number}: a child has two parents; the file is damaged, save it again"
                    ));
                }
                theirs.extend([split.left, split.right]);
                if split.zero_missing {
                    tree.zero_missing.push(ours);
                }
                let threshold = match split.test {
                    Test::UpTo(threshold) => threshold,
                    Test::Category { listed_left, listed } => {
                        listed_so_far += listed.len();
                        if listed_so_far > listed_most {
                            return Err(format!(
                                "node {number}: a list of categories is used twice, or a child has two parents; the file is damaged, save it again"
                            ));
                        }
                        tree.categories.push(Categories { node: ours, listed_left, listed });
                        0.0
                    }
                };
                (left, split.feature, threshold, u8::from(split.missing_left), 0.0, split.cover)
            }
        };
        tree.left.push(left);
        tree.feature.push(feature);
        tree.threshold.push(threshold);
        tree.missing_left.push(missing_left);
        tree.value.push(value);
        tree.cover.push(cover);
    }
    set_inner_values(&mut tree);
    Ok(tree)
}

/// An inner node's value is the mean of its children, by cover; of children without cover it is the plain mean.
fn set_inner_values(tree: &mut Tree) {
    for node in (0..tree.left.len()).rev() {
        let left = tree.left[node] as usize;
        if left == 0 {
            continue;
        }
        let (a, b) = (f64::from(tree.cover[left]), f64::from(tree.cover[left + 1]));
        let share = if a + b > 0.0 { a / (a + b) } else { 0.5 };
        tree.value[node] = share * tree.value[left] + (1.0 - share) * tree.value[left + 1];
    }
}
