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
        let forest = Forest::new(&[tree(missing_left)], 0.0, 1, Sum::Double).unwrap();
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
        Forest::new(std::slice::from_ref(tree), 0.0, 1, Sum::Double).unwrap().margin(&[x])
    };
    for (x, value) in [(0.0, -1.0), (-0.0, -1.0), (1e-36, -1.0), (1e-30, 1.0), (f32::NAN, -1.0), (-2.0, -1.0)]
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
    assert!(Forest::new(std::slice::from_ref(&good), 0.0, 2, Sum::Double).is_ok());
    let spoil = |change: &dyn Fn(&mut Tree), why: &str| {
        let mut tree = good.clone();
        change(&mut tree);
        let error = Forest::new(&[tree], 0.0, 2, Sum::Double).unwrap_err();
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
    assert!(Forest::new(&[], 0.0, 2, Sum::Double).is_err());
    assert!(Forest::new(&[good], f64::NAN, 2, Sum::Double).is_err());
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
    assert!(Forest::new(&[deep], 0.0, 2, Sum::Double).unwrap_err().contains("too deep"));
}
