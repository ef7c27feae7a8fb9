use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::trees::tests::{random_row, random_tree};

#[test]
fn the_walk_abreast_is_the_naive_walk_bit_for_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for trees in [1, 7, 9, 10, 11, 20, 30] {
        let trees: Vec<Tree> = (0..trees)
            .map(|_| {
                let depth = rng.random_range(0..8);
                random_tree(&mut rng, depth, 10)
            })
            .collect();
        let forest = Forest::new(&trees, -2.5, 10, Sum::Double).unwrap();
        for _ in 0..2_000 {
            let row = random_row(&mut rng, 10);
            let naive = trees.iter().fold(-2.5, |sum, t| sum + t.value[t.leaf(&row)]);
            assert_eq!(forest.margin(&row).to_bits(), naive.to_bits(), "{row:?}");
        }
    }
}

#[test]
fn values_at_the_ends_of_what_a_float_holds_part_at_the_threshold_whichever_way_missing_goes() {
    let tiny = f32::from_bits(1);
    let ends = [0.0, tiny, f32::MIN_POSITIVE, 1e-35, 2e-35, 1.0, 1.0_f32.next_up(), 16_777_216.0, f32::MAX];
    let thresholds: Vec<f32> = ends.iter().flat_map(|x| [*x, -x]).collect();
    let mut xs = thresholds.clone();
    xs.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN]);
    for threshold in thresholds {
        for (missing_left, zero_missing) in [(0, vec![]), (1, vec![]), (0, vec![0]), (1, vec![0])] {
            let tree = Tree {
                left: vec![1, 0, 0],
                feature: vec![0; 3],
                threshold: vec![threshold, 0.0, 0.0],
                missing_left: vec![missing_left, 0, 0],
                value: vec![0.0, -1.0, 1.0],
                cover: vec![2.0, 1.0, 1.0],
                zero_missing,
                ..Tree::default()
            };
            let forest = Forest::new(std::slice::from_ref(&tree), 0.0, 1, Sum::Double).unwrap();
            for x in &xs {
                assert_eq!(forest.margin(&[*x]), tree.value[tree.leaf(&[*x])], "{x:e} {tree:?}");
            }
        }
    }
}

#[test]
fn contributions_are_those_of_the_path_through_each_tree_bit_for_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let trees: Vec<Tree> = (0..23).map(|_| random_tree(&mut rng, 6, 10)).collect();
    let forest = Forest::new(&trees, 0.75, 10, Sum::Double).unwrap();
    for _ in 0..500 {
        let row = random_row(&mut rng, 10);
        let mut naive = [0.0; 10];
        for tree in &trees {
            let mut node = 0;
            while tree.left[node] != 0 {
                let child = tree.left[node] as usize + usize::from(!tree.goes_left(node, &row));
                naive[usize::from(tree.feature[node])] += tree.value[child] - tree.value[node];
                node = child;
            }
        }
        let mut contributions = [0.0; 10];
        forest.contributions(&row, &mut contributions);
        assert_eq!(contributions.map(f64::to_bits), naive.map(f64::to_bits), "{row:?}");
    }
}

#[test]
fn contributions_and_base_add_up_to_the_margin() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let trees: Vec<Tree> = (0..25).map(|_| random_tree(&mut rng, 6, 10)).collect();
    let forest = Forest::new(&trees, 0.75, 10, Sum::Double).unwrap();
    let expected_base = trees.iter().fold(0.75, |sum, t| sum + t.value[0]);
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
fn splits_count_each_node_that_asks_under_its_own_feature() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let trees: Vec<Tree> = (0..40).map(|_| random_tree(&mut rng, 6, 10)).collect();
    let mut splits = vec![0; 10];
    for tree in &trees {
        let asks = (0..tree.left.len()).filter(|node| tree.left[*node] != 0);
        asks.for_each(|node| splits[usize::from(tree.feature[node])] += 1);
    }
    assert_eq!(Forest::new(&trees, 0.0, 10, Sum::Double).unwrap().splits(), splits);
}

#[test]
fn rows_wider_than_a_table_are_refused() {
    let tree = random_tree(&mut ChaCha8Rng::seed_from_u64(9), 0, 1);
    assert!(Forest::new(std::slice::from_ref(&tree), 0.0, FREE, Sum::Double).is_ok());
    assert!(Forest::new(&[tree], 0.0, FREE + 1, Sum::Double).unwrap_err().contains("at most"));
}

/// XGBoost rounds after every tree; a model of its margins that does not is off by more than is allowed.
#[test]
fn a_sum_in_single_precision_rounds_after_every_tree_and_is_explained_whole() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let trees: Vec<Tree> = (0..60).map(|_| random_tree(&mut rng, 4, 10)).collect();
    let single = Forest::new(&trees, 0.3, 10, Sum::Single).unwrap();
    let double = Forest::new(&trees, 0.3, 10, Sum::Double).unwrap();
    let mut differ = 0;
    for _ in 0..200 {
        let row = random_row(&mut rng, 10);
        let leaves = trees.iter().map(|tree| tree.value[tree.leaf(&row)] as f32);
        let expected = leaves.fold(0.3_f32, |sum, leaf| sum + leaf);
        assert_eq!(single.margin(&row), f64::from(expected));
        differ += u32::from(single.margin(&row) != double.margin(&row));
        let mut contributions = [0.0; 10];
        let base = single.contributions(&row, &mut contributions);
        assert!((base + contributions.iter().sum::<f64>() - single.margin(&row)).abs() < 1e-12);
    }
    assert!(differ > 100, "{differ}");
}
