use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn column(values: &[f32]) -> BinsFile {
    BinsFile::of_column("x", values.iter().map(|value| (*value, 1.0)).collect())
}

fn counted(bins: &Bins, values: impl IntoIterator<Item = f32>) -> [u64; CELLS] {
    let mut counts = [0; CELLS];
    values.into_iter().for_each(|value| counts[bins.cell_of(value)] += 1);
    counts
}

fn index(expected: &[f32], served: &[f32]) -> f64 {
    let bins = column(expected).read().unwrap();
    bins.stability_index(&counted(&bins, served.iter().copied()))
}

#[test]
fn indices_worked_out_by_hand() {
    let file = BinsFile { name: "x".into(), edges: vec![1.0, 2.0], shares: vec![0.5, 0.3, 0.2, 0.0] };
    let bins = file.read().unwrap();
    let mut counts = [0; CELLS];
    (counts[0], counts[1], counts[2]) = (400, 300, 300);
    // (0.4 - 0.5) ln 0.8 + (0.3 - 0.3) ln 1 + (0.3 - 0.2) ln 1.5 = 0.0223144 + 0 + 0.0405465
    assert!((bins.stability_index(&counts) - 0.062_860_87).abs() < 1e-7);
    (counts[0], counts[1], counts[2]) = (500, 300, 200);
    assert!(bins.stability_index(&counts).abs() < 1e-7);
    (counts[0], counts[1], counts[2], counts[MISSING]) = (400, 300, 200, 100);
    // (0.4 - 0.5) ln 0.8 + (0.1 - 0.0001) ln 1000 = 0.0223144 + 0.6900847
    assert!((bins.stability_index(&counts) - 0.712_399_05).abs() < 1e-6);
    assert_eq!(bins.stability_index(&[0; CELLS]), 0.0);
}

#[test]
fn an_empty_bin_is_a_finite_figure_on_either_side() {
    let expected: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
    let all_above = index(&expected, &[5_000.0; 2_000]);
    // Nine tenths gone to the last bin: 9 (0.0001 - 0.1) ln 0.001 + (1 - 0.1) ln 10 = 6.2107621 + 2.0723266
    assert!((all_above - 8.283_088_7).abs() < 1e-4, "{all_above}");
    let all_gone = index(&expected, &[f32::NAN; 2_000]);
    // 10 (0.0001 - 0.1) ln 0.001 + (1 - 0.0001) ln 10000 = 6.9008468 + 9.2094193
    assert!((all_gone - 16.110_266).abs() < 1e-4, "{all_gone}");
}

#[test]
fn a_value_on_an_edge_is_counted_below_it_and_bins_hold_a_tenth_each() {
    let file = column(&(1..=1_000_u16).map(f32::from).collect::<Vec<_>>());
    assert_eq!(file.edges, [100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0]);
    assert_eq!(file.shares, [[0.1; 10].as_slice(), &[0.0]].concat());
    let bins = file.read().unwrap();
    assert_eq!([100.0_f32, 100.0_f32.next_up(), 900.0, 900.5].map(|value| bins.cell_of(value)), [0, 1, 8, 9]);
    let far = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY, f32::NAN];
    assert_eq!(far.map(|value| bins.cell_of(value)), [0, 0, 9, 9, MISSING]);
}

#[test]
fn few_values_have_a_bin_each_however_rare_one_is() {
    for share in [1, 50, 97] {
        let flags: Vec<f32> = (0..1_000_u16).map(|at| f32::from(u8::from(at % 100 < share))).collect();
        let file = column(&flags);
        assert_eq!(file.edges, [0.0], "{share} %");
        let ones = f64::from(share) / 100.0;
        assert_eq!(file.shares, [(1.0 - ones) as f32, ones as f32, 0.0]);
    }
    assert!(index(&[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0]).abs() < 1e-9);
    assert!(index(&[0.0, 0.0, 0.0, 1.0], &[1.0, 1.0, 1.0, 0.0]) > 1.0);
}

#[test]
fn what_was_always_the_same_or_missing_is_seen_to_change() {
    for constant in [0.0, -3.5, 1e9] {
        assert!(index(&[constant; 100], &[constant; 50]).abs() < 1e-9);
        assert!(index(&[constant; 100], &[constant + 1_000.0; 50]) > 5.0);
        assert!(index(&[constant; 100], &[constant - 1_000.0; 50]) > 5.0);
        assert!(index(&[constant; 100], &[f32::NAN; 50]) > 5.0);
    }
    let missing = column(&[f32::NAN; 10]);
    assert_eq!((missing.edges.len(), missing.shares.as_slice()), (0, [0.0, 1.0].as_slice()));
    assert!(index(&[f32::NAN; 10], &[f32::NAN; 50]).abs() < 1e-9);
    assert!(index(&[f32::NAN; 10], &[2.0; 50]) > 5.0);
    assert!(index(&[f32::INFINITY; 10], &[2.0; 50]).is_finite());
}

#[test]
fn a_share_of_rows_that_goes_missing_counts_as_a_bin_of_its_own() {
    let expected: Vec<f32> =
        (0..1_000_u16).map(|at| if at % 4 == 0 { f32::NAN } else { at.into() }).collect();
    assert!((column(&expected).shares.last().unwrap() - 0.25).abs() < 1e-6);
    assert!(index(&expected, &expected).abs() < 1e-6);
    let served: Vec<f32> = (0..1_000_u16).map(|at| if at % 4 < 2 { f32::NAN } else { at.into() }).collect();
    // (0.5 - 0.25) ln 2 and (0.5 - 0.75) ln (2 / 3), the latter over bins that all shrink alike.
    let by_hand = 0.25 * 2.0_f64.ln() - 0.25 * (2.0_f64 / 3.0).ln();
    assert!((index(&expected, &served) - by_hand).abs() < 0.01, "{}", index(&expected, &served));
}

#[test]
fn a_row_that_stands_for_three_weighs_as_three_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let rows: Vec<(f32, f64)> = (0..3_000)
        .map(|_| (rng.random_range(0.0..9.0), if rng.random_bool(0.3) { 3.0 } else { 1.0 }))
        .collect();
    let thrice: Vec<f32> =
        rows.iter().flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize)).collect();
    let weighted = BinsFile::of_column("x", rows);
    assert_eq!(weighted.edges, column(&thrice).edges);
    for (a, b) in weighted.shares.iter().zip(&column(&thrice).shares) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn two_samples_of_the_same_rows_differ_by_chance_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut draw =
        |rows: usize| -> Vec<f32> { (0..rows).map(|_| (-rng.random::<f32>().ln() * 40.0).floor()).collect() };
    let bins = column(&draw(20_000)).read().unwrap();
    let indices: Vec<f64> = (0..200).map(|_| bins.stability_index(&counted(&bins, draw(1_000)))).collect();
    // Chi-squared with nine degrees of freedom, over the rows of both: nine times 1/1000 and 1/20000.
    let mean = indices.iter().sum::<f64>() / 200.0;
    assert!((mean - 0.009_45).abs() < 0.001, "{mean}");
    assert!(indices.iter().all(|index| *index < 0.05));
    let shifted = bins.stability_index(&counted(&bins, draw(1_000).iter().map(|value| value * 3.0)));
    assert!(shifted > 0.25, "{shifted}");
}

/// Rows whose features are all the last digit of their number, whose scores are a hundred times that, and that weigh the
/// same: as few as say enough.
fn file() -> ReferenceFile {
    let rows: Vec<[f32; MODEL_FEATURES]> =
        (0..ROWS_MIN).map(|at| [(at % 10) as f32; MODEL_FEATURES]).collect();
    ReferenceFile::of_rows(&rows, |_| 2.0, |row| row[0] as u16 * 100, |_| "f").unwrap()
}

/// What those rows were like.
pub(crate) fn reference() -> Arc<Reference> {
    Arc::new(file().read(&names()).unwrap())
}

fn names() -> Vec<String> {
    vec!["f".to_owned(); MODEL_FEATURES]
}

#[test]
fn every_feature_and_the_score_have_their_bins() {
    let reference = file().read(&names()).unwrap();
    assert_eq!((reference.rows(), reference.features().len()), (ROWS_MIN, MODEL_FEATURES));
    assert_eq!([0, 100, 101, 999].map(|score| reference.score().cell_of(score as f32)), [0, 1, 2, 9]);
    let of = |rows: u64| {
        let rows = vec![[1.0; MODEL_FEATURES]; rows as usize];
        ReferenceFile::of_rows(&rows, |_| 1.0, |_| 0, |_| "f").map(|file| file.rows)
    };
    assert_eq!([0, ROWS_MIN - 1, ROWS_MIN].map(of), [None, None, Some(ROWS_MIN)], "a few rows are chance");
}

#[test]
fn bins_that_cannot_be_compared_with_are_refused_with_the_reason() {
    type Change = fn(&mut ReferenceFile);
    let wrong: [(Change, &str); 12] = [
        (|file| file.rows = 0, "no rows"),
        (|file| drop(file.features.pop()), "features, the model"),
        (|file| file.features[3].name = "g".into(), "`g` stands where the model has `f`"),
        (|file| file.features[1].edges[0] = f32::NAN, "an edge of `f` is not finite"),
        (|file| file.score.edges[8] = f32::INFINITY, "an edge of `score` is not finite"),
        (|file| file.score.edges[0] = 500.0, "the edges of `score` do not rise"),
        (|file| file.score.edges[1] = file.score.edges[0], "the edges of `score` do not rise"),
        (|file| file.score.edges = (0..10_u8).map(f32::from).collect(), "has 10 edges"),
        (|file| file.score.shares.truncate(10), "has 10 shares"),
        (|file| file.score.shares[0] = -0.1, "is -0.1, not 0 to 1"),
        (|file| file.score.shares[0] = f32::NAN, "is NaN, not 0 to 1"),
        (|file| file.score.shares[0] = 0.2, "add up to"),
    ];
    for (change, why) in wrong {
        let mut bad = file();
        change(&mut bad);
        let error = bad.read(&names()).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}
