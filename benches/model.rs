//! What a score costs: `cargo bench --locked --bench model`.
//!
//! Measured, in one run on one core, each call with another of 2,048 rows (a tenth of the values missing): the margin and
//! score of full forests of 100 trees of depth 6 and of 500 of depth 8, drawn at random, and beside them the prediction
//! of smartcore's own random forest of as many trees of that depth, from a matrix of one row. Each figure is the least
//! of 150 rounds of 4 ms, so that one of them has the core for itself on a machine with other work. The rows and the
//! forest stay in the processor's caches as far as they fit; a score among other work is slower. Not measured:
//! computing features, reasons.
//!
//! `SAKER_BENCH_MODEL=FILE SAKER_BENCH_ROWS=FILE` measures a model file alone, over rows of 32-bit floats in little
//! endian, NaN where missing: `models/import/speed.py` compares so with LightGBM and ONNX Runtime.
//!
//! Scoring must allocate nothing, and rows must differ in their margins. Without `--bench` (that is, under `cargo test`) it
//! runs small and checks both.

#[path = "decision/allocations.rs"]
mod allocations;

use std::{fmt::Write as _, fs, hint::black_box, time::Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use saker::{
    features::catalog::{MODEL_FEATURES, model_feature},
    model::{Model, import::import},
};
use smartcore::{
    ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters},
    linalg::basic::matrix::DenseMatrix,
};

#[global_allocator]
static ALLOCATOR: allocations::Counted = allocations::Counted;

type Row = [f32; MODEL_FEATURES];

/// Trees, depth, and the bar in microseconds.
const SHAPES: [(usize, u32, f64); 2] = [(100, 6, 0.5), (500, 8, 6.0)];
const ROWS: usize = 2_048;
/// Rounds and their length in microseconds, with and without `--bench`.
const ROUNDS: (usize, f64) = (150, 4_000.0);
const SMALL_ROUNDS: (usize, f64) = (3, 100.0);

fn main() {
    let small = !std::env::args().any(|argument| argument == "--bench");
    let rounds = if small { SMALL_ROUNDS } else { ROUNDS };
    if let Ok(file) = std::env::var("SAKER_BENCH_MODEL") {
        let model = Model::load(&fs::read_to_string(&file).expect("SAKER_BENCH_MODEL can be read"))
            .expect("SAKER_BENCH_MODEL is a model");
        let rows = rows_of_file(&std::env::var("SAKER_BENCH_ROWS").expect("SAKER_BENCH_ROWS names a file"));
        println!("{} trees, {:.4} us a row", model.trees(), score_us(&model, &rows, rounds));
        return;
    }
    let rows = draw_rows(if small { 64 } else { ROWS });
    println!("| trees | depth | Saker, us | bar, us | smartcore, us | smartcore to Saker |");
    println!("|---|---|---|---|---|---|");
    for (trees, depth, bar) in SHAPES {
        let (trees, depth) = if small { (trees / 20, depth / 2) } else { (trees, depth) };
        let model = import(&forest(&rows, trees, depth), 500, None).expect("the forest is a model").model;
        assert_eq!(model.trees(), trees);
        let ours = score_us(&model, &rows, rounds);
        let theirs = smartcore_us(&rows, trees, depth, rounds);
        println!("| {trees} | {depth} | {ours:.2} | {bar:.1} | {theirs:.2} | {:.1} |", theirs / ours);
    }
}

/// Microseconds of one score.
fn score_us(model: &Model, rows: &[Row], rounds: (usize, f64)) -> f64 {
    let before = allocations::of_this_thread();
    let least = least_us(rounds, |call| {
        black_box(model.score(black_box(&rows[call % rows.len()])));
    });
    assert_eq!(allocations::of_this_thread() - before, 0, "scoring allocates");
    let first = model.score(&rows[0]).margin;
    assert!(rows.iter().any(|row| model.score(row).margin != first), "every row scores the same");
    least
}

/// Microseconds of one prediction by a forest that smartcore grew on the same rows; it cannot read missing values.
fn smartcore_us(rows: &[Row], trees: usize, depth: u32, rounds: (usize, f64)) -> f64 {
    let there = |row: &Row| row.map(|x| if x.is_nan() { 0.0 } else { x });
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let target: Vec<f32> = rows
        .iter()
        .map(|row| {
            f32::from(u8::from(there(row)[..9].iter().sum::<f32>() * rng.random_range(0.5..1.5) > 3_000.0))
        })
        .collect();
    let matrix = |rows: &[Row]| {
        let cells: Vec<f32> = rows.iter().flat_map(there).collect();
        DenseMatrix::new(rows.len(), MODEL_FEATURES, cells, false).expect("every row is as long")
    };
    let parameters = RandomForestRegressorParameters::default()
        .with_n_trees(trees)
        // smartcore counts the levels of nodes, not the splits.
        .with_max_depth(depth as u16 + 1)
        .with_m(MODEL_FEATURES / 3)
        .with_seed(4);
    let forest =
        RandomForestRegressor::fit(&matrix(rows), &target, parameters).expect("the rows can be learned from");
    let single: Vec<_> = rows.iter().map(|row| matrix(std::slice::from_ref(row))).collect();
    least_us(rounds, |call| {
        black_box(
            forest.predict(black_box(&single[call % single.len()])).expect("a row as those learned from"),
        );
    })
}

/// The least microseconds of one call among several rounds; the first one only tells how many calls fill a round.
fn least_us((rounds, round_us): (usize, f64), mut call: impl FnMut(usize)) -> f64 {
    let (mut least, mut calls, mut number) = (f64::INFINITY, 1, 0);
    for round in 0..=rounds {
        let began = Instant::now();
        for _ in 0..calls {
            call(number);
            number += 1;
        }
        let each = began.elapsed().as_secs_f64() * 1e6 / calls as f64;
        if round > 0 {
            least = least.min(each);
        }
        calls = (round_us / each) as usize + 1;
    }
    least
}

/// Amounts, counts, times and yes or no in turn, a tenth of them missing.
fn draw_rows(rows: usize) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut value = |feature: usize| match feature % 4 {
        _ if rng.random_bool(0.1) => f32::NAN,
        0 => (rng.random_range(1.0_f32..9.0).exp() * 100.0).round() / 100.0,
        1 => f32::from(rng.random_range(0_u8..20) * rng.random_range(0_u8..3)),
        2 => rng.random_range(0.0..2_592_000.0_f32).floor(),
        _ => f32::from(rng.random_range(0_u8..2)),
    };
    (0..rows).map(|_| std::array::from_fn(&mut value)).collect()
}

fn rows_of_file(path: &str) -> Vec<Row> {
    let bytes = fs::read(path).expect("SAKER_BENCH_ROWS can be read");
    let (cells, rest) = bytes.as_chunks::<4>();
    let (rows, cells_left) = cells.as_chunks::<MODEL_FEATURES>();
    assert!(rest.is_empty() && cells_left.is_empty() && !rows.is_empty(), "rows of {MODEL_FEATURES} floats");
    rows.iter().map(|row| row.map(f32::from_le_bytes)).collect()
}

/// LightGBM's text of full trees, whose thresholds are values of the rows: so each of them parts the rows.
fn forest(rows: &[Row], trees: usize, depth: u32) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let names: Vec<&str> = (0..MODEL_FEATURES).map(|feature| model_feature(feature).name).collect();
    let mut text = format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nobjective=binary sigmoid:1\nfeature_names={}\n",
        names.join(" ")
    );
    let splits = (1_i64 << depth) - 1;
    for tree in 0..trees {
        let mut field = |name: &str, length: i64, word: &mut dyn FnMut(i64, &mut ChaCha8Rng) -> String| {
            let words: Vec<String> = (0..length).map(|node| word(node, &mut rng)).collect();
            let _ = writeln!(text, "{name}={}", words.join(" "));
        };
        // Nodes are numbered level by level; a leaf is told by its complement.
        let child = |node: i64| if node < splits { node } else { !(node - splits) };
        let mut features = Vec::new();
        field("\nTree", 1, &mut |_, _| tree.to_string());
        field("split_feature", splits, &mut |_, rng| {
            features.push(rng.random_range(0..MODEL_FEATURES));
            features[features.len() - 1].to_string()
        });
        field("threshold", splits, &mut |node, rng| {
            let there = rows.iter().map(|row| row[features[node as usize]]).filter(|x| !x.is_nan());
            let values: Vec<f32> = there.take(32).collect();
            f64::from(values[rng.random_range(0..values.len())]).to_string()
        });
        field("decision_type", splits, &mut |_, rng| {
            if rng.random_bool(0.5) { "10" } else { "8" }.to_owned()
        });
        field("left_child", splits, &mut |node, _| child(2 * node + 1).to_string());
        field("right_child", splits, &mut |node, _| child(2 * node + 2).to_string());
        field("leaf_value", splits + 1, &mut |_, rng| rng.random_range(-0.1..0.1_f64).to_string());
        field("leaf_count", splits + 1, &mut |_, _| "10".to_owned());
        field("internal_count", splits, &mut |_, _| "20".to_owned());
    }
    text + "\nend of trees\n\npandas_categorical:null\n"
}
