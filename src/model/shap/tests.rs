use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    features::catalog::model_index,
    model::{
        SHIPPED,
        file::tests::model_text,
        import::{
            import,
            tests::{FIXTURES, unzipped},
        },
        trees::tests::{random_row, random_tree},
    },
};

/// One row of a table of `models/import/make.py`: the row, shap's values, and what it expects.
type Golden = ([f32; MODEL_FEATURES], [f64; MODEL_FEATURES], f64);

fn golden(name: &str) -> Vec<Golden> {
    let text = unzipped(name);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let read = |record: csv::StringRecord| {
        let mut golden = ([f32::NAN; MODEL_FEATURES], [0.0; MODEL_FEATURES], f64::NAN);
        for (column, cell) in header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty()) {
            let number: f64 = cell.parse().unwrap();
            match column.strip_prefix("shap.") {
                _ if column == "expected" => golden.2 = number,
                Some(feature) => golden.1[model_index(feature).unwrap()] = number,
                None => golden.0[model_index(column).unwrap()] = number as f32,
            }
        }
        golden
    };
    reader.records().map(|record| read(record.unwrap())).collect()
}

#[test]
fn treeshap_equals_the_reference_values_of_the_pypi_package_shap() {
    for name in FIXTURES {
        let explainer = Explainer::load(&import(&unzipped(name), 500, None).unwrap().text).unwrap();
        let rows = golden(&format!("{}.shap.csv", name.split('.').next().unwrap()));
        assert!(rows.len() >= 50, "{name}");
        assert!(rows.iter().any(|(row, ..)| row[model_index("amount_major").unwrap()].is_nan()), "{name}");
        // LightGBM explains the raw margin, which its sigmoid stretches to log-odds.
        let scale = if name == "lgb_sigmoid.txt" { 0.7 } else { 1.0 };
        let (mut largest, mut largest_value) = (0.0_f64, 0.0_f64);
        for (row, theirs, expected) in rows {
            let ours = explainer.values(&row);
            largest = largest.max((explainer.expected() - expected * scale).abs());
            for (ours, theirs) in ours.iter().zip(theirs) {
                largest = largest.max((ours - theirs * scale).abs());
                largest_value = largest_value.max(ours.abs());
            }
            let sum = ours.iter().sum::<f64>() + explainer.expected();
            // A margin of XGBoost is added up in 32 bits.
            let rounding = if name.starts_with("xgb") { 3e-6 } else { 1e-9 };
            assert!((sum - explainer.model().score(&row).margin).abs() < rounding, "{name}");
        }
        println!("{name}: largest difference {largest:.1e}, largest value {largest_value:.2}");
        assert!(largest_value > 0.5, "{name} explains nothing");
        // XGBoost computes its own in 32 bits: 6.1e-7 is the largest difference that was seen.
        let most = if name.starts_with("xgb") { 1e-6 } else { 1e-9 };
        assert!(largest <= most, "{name}: {largest:e}");
    }
}

#[derive(serde::Deserialize)]
struct Kernel {
    trees: Vec<Tree>,
    rows: Vec<Vec<Option<f32>>>,
    values: Vec<Vec<f64>>,
    expected: f64,
}

#[test]
fn treeshap_equals_the_kernel_of_the_pypi_package_shap_in_64_bits() {
    let kernel: Kernel = serde_json::from_str(&unzipped("kernel.json")).unwrap();
    assert!(kernel.rows.len() >= 50 && kernel.rows.len() == kernel.values.len());
    let expected = kernel.trees.iter().map(expected).sum::<f64>();
    let mut largest = (expected - kernel.expected).abs();
    for (row, theirs) in kernel.rows.iter().zip(&kernel.values) {
        let row: Vec<f32> = row.iter().map(|x| x.unwrap_or(f32::NAN)).collect();
        let mut ours = vec![0.0; row.len()];
        kernel.trees.iter().for_each(|tree| add_values(tree, &row, &mut ours));
        for (ours, theirs) in ours.iter().zip(theirs) {
            largest = largest.max((ours - theirs).abs());
        }
    }
    println!("largest difference {largest:.1e}");
    assert!(largest < 1e-9, "{largest:e}");
}

/// What a tree gives a row of which only some features are known, straight from the definition.
fn given(tree: &Tree, row: &[f32], known: u32, node: usize) -> f64 {
    let left = tree.left[node] as usize;
    if left == 0 {
        return tree.value[node];
    }
    if known >> tree.feature[node] & 1 == 1 {
        return given(tree, row, known, left + usize::from(!tree.goes_left(node, row)));
    }
    let (a, b) = (f64::from(tree.cover[left]), f64::from(tree.cover[left + 1]));
    let (a, b) = if a + b == 0.0 { (1.0, 1.0) } else { (a, b) };
    (a * given(tree, row, known, left) + b * given(tree, row, known, left + 1)) / (a + b)
}

/// Shapley's formula over every subset of the features.
fn by_subsets(tree: &Tree, row: &[f32]) -> Vec<f64> {
    let features = row.len() as u32;
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    let values: Vec<f64> = (0..1 << features).map(|known| given(tree, row, known, 0)).collect();
    let value_of = |feature: u32| -> f64 {
        let without = (0..1_u32 << features).filter(|known| known >> feature & 1 == 0);
        without
            .map(|known| {
                let others = known.count_ones();
                let weight = factorial(others) * factorial(features - others - 1) / factorial(features);
                weight * (values[(known | 1 << feature) as usize] - values[known as usize])
            })
            .sum()
    };
    (0..features).map(value_of).collect()
}

#[test]
fn values_are_those_of_every_subset_of_features_counted_out() {
    const FEATURES: usize = 6;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (mut by_category, mut without_cover) = (0, 0);
    for _ in 0..300 {
        let depth = rng.random_range(0..9);
        let mut tree = random_tree(&mut rng, depth, FEATURES);
        // Some nodes without any cover, beside each other and beside others; covers need not add up.
        for cover in &mut tree.cover {
            *cover = if rng.random_bool(0.2) { 0.0 } else { rng.random_range(0.0..50.0) };
        }
        by_category += tree.categories.len();
        without_cover += tree.cover.windows(2).filter(|pair| *pair == [0.0, 0.0]).count();
        for _ in 0..5 {
            let row = random_row(&mut rng, FEATURES);
            let mut ours = vec![0.0; FEATURES];
            add_values(&tree, &row, &mut ours);
            for (ours, exact) in ours.iter().zip(by_subsets(&tree, &row)) {
                assert!((ours - exact).abs() < 1e-9, "{ours} {exact} {row:?} {tree:?}");
            }
            assert!((expected(&tree) - given(&tree, &row, 0, 0)).abs() < 1e-12);
        }
    }
    assert!(by_category > 0 && without_cover > 0, "{by_category} {without_cover}");
}

#[test]
fn two_features_that_only_count_together_share_alike_whichever_is_asked_first() {
    let tree = Tree {
        left: vec![1, 0, 3, 0, 0],
        feature: vec![0, 0, 1, 0, 0],
        threshold: vec![0.5, 0.0, 0.5, 0.0, 0.0],
        missing_left: vec![1, 0, 1, 0, 0],
        value: vec![20.0, 0.0, 40.0, 0.0, 80.0],
        cover: vec![100.0, 50.0, 50.0, 25.0, 25.0],
        ..Tree::default()
    };
    let mut values = [0.0; 2];
    add_values(&tree, &[1.0, 1.0], &mut values);
    assert_eq!((expected(&tree), values), (20.0, [30.0, 30.0]));
}

#[test]
fn values_of_the_deepest_trees_still_add_up() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut largest = 0.0_f64;
    for _ in 0..50 {
        // A chain through as many features as a path can have, whose covers shrink fast.
        let nodes = 2 * MODEL_DEPTH_MAX + 1;
        let mut tree = Tree::default();
        for node in 0..nodes {
            let is_inner = (node == 0 || node % 2 == 0) && node + 2 < nodes;
            tree.left.push(if is_inner { node as u32 + 1 } else { 0 });
            tree.feature.push(if is_inner { (node / 2) as u16 } else { 0 });
            tree.threshold.push(0.0);
            tree.missing_left.push(u8::from(is_inner && rng.random_bool(0.5)));
            tree.value.push(rng.random_range(-5.0..5.0));
            tree.cover.push(1e6 * 0.5_f32.powi(node as i32 / 2) * rng.random_range(0.1..1.0));
        }
        let forest = crate::model::forest::Forest::new(
            std::slice::from_ref(&tree),
            0.0,
            MODEL_FEATURES,
            crate::model::forest::Sum::Double,
        )
        .unwrap();
        for _ in 0..20 {
            let row: Vec<f32> = random_row(&mut rng, MODEL_FEATURES).iter().map(|x| x.abs()).collect();
            let mut values = vec![0.0; MODEL_FEATURES];
            add_values(&tree, &row, &mut values);
            let sum = expected(&tree) + values.iter().sum::<f64>();
            largest = largest.max((sum - forest.margin(&row)).abs());
        }
    }
    println!("largest difference {largest:.1e}");
    assert!(largest < 1e-9, "{largest:e}");
}

#[test]
fn values_and_what_is_expected_add_up_to_the_margin_that_is_served() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // The second has a straight line beside its trees, and covers that tell nothing.
    for text in [SHIPPED, &model_text(0.25, 500)] {
        let explainer = Explainer::load(text).unwrap();
        for _ in 0..100 {
            let drawn = random_row(&mut rng, MODEL_FEATURES);
            let row: [f32; MODEL_FEATURES] = std::array::from_fn(|feature| 100.0 * drawn[feature]);
            let sum = explainer.values(&row).iter().sum::<f64>() + explainer.expected();
            let margin = explainer.model().score(&row).margin;
            assert!((sum - margin).abs() < 1e-6, "{sum} {margin}");
        }
    }
}

#[test]
fn a_model_that_cannot_be_scored_cannot_be_explained() {
    assert!(matches!(Explainer::load("{}"), Err(ModelError::Syntax(_))));
    let damaged = model_text(0.25, 500).replacen("\"bias\": 0.25", "\"bias\": 0.5", 1);
    assert!(Explainer::load(&damaged).is_err());
}
