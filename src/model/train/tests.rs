use super::*;

/// Rows of noise in which fraud depends on three features, one of which is often missing.
fn examples(rows: usize, seed: u64) -> Examples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut examples = Examples::default();
    for _ in 0..rows {
        let mut row = [0.0_f32; MODEL_FEATURES];
        row.iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
        if rng.random_bool(0.3) {
            row[2] = f32::NAN;
        }
        let risky = row[0] > 0.6 && (row[1] > 0.0 || row[2].is_nan());
        examples.push(row, rng.random_bool(if risky { 0.5 } else { 0.01 }));
    }
    examples
}

fn quick(rows: usize) -> Trained {
    let settings = Settings { trees: 12, false_positive_rate: 0.01, seed: 9 };
    train(examples(rows, 1), Some(&examples(2_000, 3)), settings, &mut |_| {}).unwrap()
}

#[test]
fn a_trained_model_beats_chance_on_rows_it_never_saw() {
    let trained = quick(5_000);
    let training = trained.model.training();
    let test = training.test.unwrap();
    assert!(test.auc > 0.8 && test.average_precision > 0.3, "{test:?}");
    let (caught, alarms) = training.test_at_threshold.unwrap();
    assert!(caught > 0.05 && alarms < 0.03, "{caught} {alarms}");
    assert!(trained.model.golden_rows() >= 20);
}

#[test]
fn the_same_rows_and_seed_give_the_same_bytes() {
    assert_eq!(quick(2_500).text, quick(2_500).text);
}

#[test]
fn missing_rows_score_as_they_did_when_the_trees_were_fitted() {
    let fit = examples(2_000, 4);
    let sample = Sample::new(&fit, 1);
    let residuals: Vec<f64> = sample.target.iter().map(|y| y - 0.5).collect();
    let tree = fit_tree(&sample, &residuals, CANDIDATES[1], 5).unwrap();
    assert!(tree.left.len() > 3);
    assert!(sample.rows.iter().any(|row| row[2].is_nan()));
    for row in &sample.rows {
        let imputed = row.map(|x| if x.is_nan() { MISSING } else { x });
        assert_eq!(tree.leaf(row), tree.leaf(&imputed));
    }
}

#[test]
fn our_copy_of_a_tree_sends_every_row_where_smartcore_does() {
    let fit = examples(2_000, 6);
    let sample = Sample::new(&fit, 1);
    let parameters =
        RandomForestRegressorParameters::default().with_n_trees(1).with_max_depth(6).with_min_samples_leaf(5);
    let fitted = RandomForestRegressor::fit(&sample.matrix, &sample.target, parameters).unwrap();
    let stored = serde_json::to_value(&fitted).unwrap();
    let nodes = stored["forest_regressor"]["trees"][0]["nodes"].as_array().unwrap();
    let tree = copy_tree(nodes).unwrap();
    // smartcore's own leaf means, set on our nodes in the order in which they were copied.
    let mut values = vec![0.0; nodes.len()];
    let mut pairs = vec![(0_usize, 0_usize)];
    while let Some((ours, theirs)) = pairs.pop() {
        values[ours] = nodes[theirs]["output"].as_f64().unwrap();
        if tree.left[ours] != 0 {
            let left = tree.left[ours] as usize;
            pairs.push((left, nodes[theirs]["true_child"].as_u64().unwrap() as usize));
            pairs.push((left + 1, nodes[theirs]["false_child"].as_u64().unwrap() as usize));
        }
    }
    let predicted = fitted.predict(&sample.matrix).unwrap();
    for (row, predicted) in sample.rows.iter().zip(predicted) {
        assert_eq!(values[tree.leaf(row)], predicted);
    }
}

#[test]
fn a_threshold_in_32_bits_parts_the_same_values() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..10_000 {
        let low: f32 = rng.random_range(-1e6..1e6);
        let high = if rng.random() { low.next_up() } else { low + rng.random_range(0.0..10.0) };
        let threshold = not_above(f64::from(low) + (f64::from(high) - f64::from(low)) / 2.0);
        assert!(low <= threshold && (high > threshold || high == low), "{low} {high} {threshold}");
    }
}

#[test]
fn calibration_finds_the_log_odds_it_was_made_with() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let margins: Vec<f64> = (0..40_000).map(|_| rng.random_range(-6.0..3.0)).collect();
    let is_fraud: Vec<bool> =
        margins.iter().map(|m| rng.random_bool(1.0 / (1.0 + (-(1.7 * m - 0.4)).exp()))).collect();
    let (slope, intercept) = calibrate(&margins, &is_fraud).unwrap();
    assert!((slope - 1.7).abs() < 0.1 && (intercept + 0.4).abs() < 0.1, "{slope} {intercept}");
    let upside_down: Vec<f64> = margins.iter().map(|m| -m).collect();
    assert_eq!(calibrate(&upside_down, &is_fraud), None);
}

#[test]
fn too_little_to_learn_from_is_said_and_not_learned_from() {
    let settings = Settings { trees: 2, ..Settings::default() };
    let fraud_in = |rows: std::ops::Range<usize>| {
        let mut examples = Examples::default();
        (0..400).for_each(|row| examples.push([row as f32; MODEL_FEATURES], rows.contains(&row)));
        examples
    };
    for (training, period) in [(fraud_in(350..400), "fitting"), (fraud_in(0..50), "validation")] {
        let error = train(training, None, settings, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(period), "{error}");
    }
    assert!(train(Examples::default(), None, settings, &mut |_| {}).is_err());
}
