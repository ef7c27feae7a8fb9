use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::drift;

/// Rows of noise, an hour apart, in which fraud depends on three features, one of which is often missing.
pub(super) fn examples(rows: usize, seed: u64) -> Examples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut examples = Examples::default();
    for at in 0..rows {
        let mut row = [0.0_f32; MODEL_FEATURES];
        row.iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
        if rng.random_bool(0.3) {
            row[2] = f32::NAN;
        }
        let risky = row[0] > 0.6 && (row[1] > 0.0 || row[2].is_nan());
        let is_fraud = rng.random_bool(if risky { 0.5 } else { 0.01 });
        let time_ms = at as i64 * 3_600_000;
        examples.push(Example { row: &row, is_fraud, account: (at % 97) as u32, time_ms });
    }
    examples
}

/// What a model's file would say that these rows were like.
pub(crate) fn reference_of(model: &Model, examples: &Examples) -> drift::Reference {
    let names: Vec<String> =
        (0..MODEL_FEATURES).map(|feature| catalog::model_feature(feature).name.to_owned()).collect();
    reference(model, examples).unwrap().read(&names).unwrap()
}

fn quick_settings() -> Settings {
    Settings { trees: 12, threshold: Threshold::FalsePositiveRate(0.01), label_delay_ms: 0, seed: 9 }
}

fn quick(rows: usize) -> Trained {
    train(&examples(rows, 1), Some(&examples(2_000, 3)), quick_settings(), &mut |_| {}).unwrap()
}

#[test]
fn a_trained_model_beats_chance_on_rows_it_never_saw_and_so_does_its_challenger() {
    let Trained { champion, challenger, .. } = quick(5_000);
    let challenger = challenger.unwrap();
    for Named { model, .. } in [&champion, &challenger] {
        let training = model.training();
        let test = training.test.unwrap();
        assert!(test.auc > 0.75 && test.average_precision > 0.25, "{test:?}");
        let at = training.test_at_threshold.unwrap();
        assert!(at.recall > 0.02 && at.false_positive_rate < 0.03, "{at:?}");
        let (low, high) = training.test_intervals.unwrap().average_precision;
        assert!((low..=high).contains(&test.average_precision));
        assert!(model.golden_rows() >= 20);
        let drift = model.drift().unwrap();
        assert_eq!(
            drift.rows(),
            5_000 - 30 * 24,
            "all that was fitted at the last, but the first thirty days"
        );
        let [mut served, mut shifted] = [[0; drift::CELLS]; 2];
        for row in &examples(2_000, 4).rows {
            served[drift.features()[2].cell_of(row[2])] += 1;
            shifted[drift.features()[2].cell_of(row[2] + 0.5)] += 1;
        }
        let [served, shifted] = [served, shifted].map(|counts| drift.features()[2].stability_index(&counts));
        assert!(served < 0.03 && shifted > 0.25, "{served} {shifted}");
    }
    let tried = &champion.model.training().tried;
    let algorithms: std::collections::HashSet<_> = tried.iter().map(|tried| &tried.algorithm).collect();
    assert_eq!(algorithms.len(), 4, "{algorithms:?}");
    let shown: std::collections::HashSet<_> =
        tried.iter().map(|tried| (&tried.algorithm, tried.in_short())).collect();
    assert_eq!(shown.len(), tried.len(), "two rows of the table look the same: {shown:?}");
    assert!(shown.iter().all(|(_, settings)| settings.len() < 80), "{shown:?}");
    assert!(tried.is_sorted_by(|a, b| a.validation.average_precision >= b.validation.average_precision));
    assert_ne!(challenger.model.training().algorithm, champion.model.training().algorithm);
}

#[test]
fn what_is_served_is_compared_with_rows_whose_windows_are_full_and_a_short_training_with_all_it_has() {
    let model = Model::load(crate::model::SHIPPED).unwrap();
    // Ten rows an hour.
    let rows = |days: usize| {
        let mut training = examples(days * 240, 1);
        training.time_ms.iter_mut().for_each(|time| *time /= 10);
        reference(&model, &training).map(|reference| reference.rows)
    };
    let some = |days: u64| Some(days * 240);
    assert_eq!([5, 36, 37, 38].map(rows), [some(5), some(36), some(37), some(8)]);
    assert_eq!([0, 1, 4].map(rows), [None; 3], "of so few rows nothing can be said");
}

#[test]
fn the_same_rows_and_seed_give_the_same_bytes() {
    let (a, b) = (quick(2_500), quick(2_500));
    assert_eq!(a.champion.text, b.champion.text);
    assert_eq!(a.challenger.unwrap().text, b.challenger.unwrap().text);
}

#[test]
fn shuffled_labels_teach_nothing() {
    let mut training = examples(8_000, 11);
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for at in (1..training.len()).rev() {
        let other = rng.random_range(0..=at);
        training.is_fraud.swap(at, other);
    }
    match train(&training, Some(&examples(20_000, 13)), quick_settings(), &mut |_| {}) {
        Err(TrainError::NoSignal) => {}
        Ok(Trained { champion, .. }) => {
            let auc = champion.model.training().test.unwrap().auc;
            assert!((auc - 0.5).abs() < 0.06, "{auc}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_label_that_was_not_known_when_validation_began_changes_nothing_that_is_chosen_on_it() {
    let mut training = examples(4_000, 21);
    let settings = Settings { label_delay_ms: 7 * 86_400_000, ..quick_settings() };
    let (fit, validation) = split(&training, settings.label_delay_ms);
    let first_ms = validation.time_ms[0];
    assert!(fit.time_ms.iter().all(|time| time + settings.label_delay_ms <= first_ms));
    assert_eq!(fit.len() + 167, 3_000, "a week of hours is left out");
    let before = judged(&training, settings);
    for at in 0..training.len() {
        let time = training.time_ms[at];
        if time < first_ms && time + settings.label_delay_ms > first_ms {
            training.is_fraud[at] ^= true;
        }
    }
    assert_eq!(judged(&training, settings), before);
}

fn judged(training: &Examples, settings: Settings) -> Vec<f64> {
    let (fit, validation) = split(training, settings.label_delay_ms);
    judge(Candidate::all(8)[1], &fit, &validation, 1).unwrap().unwrap().margins
}

#[test]
fn a_dear_false_positive_raises_the_threshold_and_a_cheap_one_lowers_it() {
    let training = examples(4_000, 31);
    let threshold = |cost| {
        let settings = Settings { threshold: Threshold::CostOfFalsePositive(cost), ..quick_settings() };
        let trained = train(&training, None, settings, &mut |_| {}).unwrap();
        trained.champion.model.decline_threshold()
    };
    let (cheap, dear) = (threshold(0.001), threshold(10.0));
    assert!(cheap < dear, "{cheap} {dear}");
}

#[test]
fn too_little_to_learn_from_is_said_and_not_learned_from() {
    let settings = Settings { trees: 2, ..Settings::default() };
    let fraud_in = |rows: std::ops::Range<usize>| {
        let mut examples = Examples::default();
        for at in 0..400 {
            let row = [at as f32; MODEL_FEATURES];
            let (account, time_ms) = (at as u32, at as i64);
            examples.push(Example { row: &row, is_fraud: rows.contains(&at), account, time_ms });
        }
        examples
    };
    for (training, period) in [(fraud_in(350..400), "fitting"), (fraud_in(0..50), "validation")] {
        let error = train(&training, None, settings, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains(period), "{error}");
    }
    assert!(train(&Examples::default(), None, settings, &mut |_| {}).is_err());
}

/// A week of cards is a common thing to train on, and labels take a week.
#[test]
fn a_period_no_longer_than_the_label_delay_still_leaves_rows_to_fit_and_a_long_one_keeps_the_whole_gap() {
    let delay_ms = 7 * 86_400_000;
    for (days, gap_days) in [(7.0, 7.0 * 0.75 / 4.0), (200.0, 7.0)] {
        let mut training = Examples::default();
        for at in 0..4_000 {
            let time_ms = (f64::from(at) / 4_000.0 * days * 86_400_000.0) as i64;
            training.push(Example { row: &[0.0; MODEL_FEATURES], is_fraud: false, account: 0, time_ms });
        }
        let (fit, validation) = super::split(&training, delay_ms);
        assert_eq!(validation.len(), 1_000);
        let gap_ms = validation.time_ms[0] - fit.time_ms[fit.len() - 1];
        assert!((gap_ms as f64 / 86_400_000.0 - gap_days).abs() < 0.1, "{days}: {gap_ms}");
    }
}
