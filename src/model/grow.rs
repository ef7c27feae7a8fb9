//! Nodes of another library's tree, put into the order of ours: children beside each other and after their parent.

use std::fmt::Display;

use super::trees::{Categories, Tree};
use crate::limits::MODEL_TREE_NODES_MAX;

/// A node as the other library has it; it tells its children apart by an `N`.
pub(super) enum Node<N> {
    Leaf { value: f64, cover: f32 },
    Split(Split<N>),
}

pub(super) struct Split<N> {
    /// Index in a row of ours.
    pub feature: u16,
    pub test: Test,
    pub missing_left: bool,
    pub zero_missing: bool,
    pub left: N,
    pub right: N,
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

impl<N> Split<N> {
    /// One that compares, as far as it is known before the rows come by.
    pub(super) fn up_to(feature: u16, threshold: f32, missing_left: bool, children: [N; 2]) -> Split<N> {
        let ([left, right], test) = (children, Test::UpTo(threshold));
        Split { feature, test, missing_left, zero_missing: false, left, right, cover: 0.0 }
    }
}

/// Follows a tree from its root. `size` is how many nodes it has: whoever comes by more of them goes in circles.
/// `listed_most` is how many categories it can list, so that nodes that share one list do not multiply it.
///
/// # Errors
/// What `read` says of a node, or that this is no tree, with the node.
pub(super) fn grow<N: Display>(
    root: N,
    size: usize,
    listed_most: usize,
    mut read: impl FnMut(&N) -> Result<Node<N>, String>,
) -> Result<Tree, String> {
    if size == 0 || size > MODEL_TREE_NODES_MAX {
        return Err(format!(
            "it has {size} nodes; 1 to {MODEL_TREE_NODES_MAX} can be used. Train smaller trees"
        ));
    }
    let mut tree = Tree::default();
    let mut theirs = vec![root];
    let (mut at, mut listed_so_far) = (0, 0);
    while let Some(number) = theirs.get(at) {
        let (node, ours) = (read(number).map_err(|why| format!("node {number}: {why}"))?, at as u32);
        let (left, feature, threshold, missing_left, value, cover) = match node {
            Node::Leaf { value, cover } => (0, 0, 0.0, 0, value, cover),
            Node::Split(split) => {
                let left = theirs.len() as u32;
                if theirs.len() + 2 > size {
                    return Err(format!(
                        "node {number}: a child has two parents; the file is damaged, save it again"
                    ));
                }
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
                theirs.extend([split.left, split.right]);
                (left, split.feature, threshold, u8::from(split.missing_left), 0.0, split.cover)
            }
        };
        tree.left.push(left);
        tree.feature.push(feature);
        tree.threshold.push(threshold);
        tree.missing_left.push(missing_left);
        tree.value.push(value);
        tree.cover.push(cover);
        at += 1;
    }
    tree.set_inner_values(|value| value);
    Ok(tree)
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
}
