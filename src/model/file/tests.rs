use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::{
    limits::CONTRIBUTIONS_MAX,
    model::trees::tests::{random_row, random_tree},
    types::codes::ReasonSource,
};

fn quality() -> Quality {
    Quality {
        rows: 10,
        frauds: 1,
        auc: 0.1,
        average_precision: 0.2,
        recall_at_1_percent: 0.3,
        recall_at_0_1_percent: 1.0 / 3.0,
    }
}

fn row(rng: &mut ChaCha8Rng) -> [f32; MODEL_FEATURES] {
    let row = random_row(rng, MODEL_FEATURES);
    std::array::from_fn(|feature| if row[feature].is_infinite() { 0.5 } else { row[feature] })
}

/// Of a thousand rows drawn at random.
fn reference(model: &Model, rng: &mut ChaCha8Rng) -> Option<ReferenceFile> {
    let rows: Vec<_> = (0..1_000).map(|_| row(rng)).collect();
    ReferenceFile::of_rows(&rows, |_| 1.0, |row| model.score(row).score, |at| model_feature(at).name)
}

/// A small model with random trees, three golden rows and a reference for drift.
fn file() -> ModelFile {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let training = Training {
        algorithm: "drawn at random".to_owned(),
        seed: 1,
        rows: 2,
        frauds: 1,
        fingerprint: "ab".to_owned(),
        validation: Some(quality()),
        test: Some(quality()),
        test_at_threshold: Some(AtThreshold { recall: 0.7, false_positive_rate: 0.003 }),
        ..Training::default()
    };
    let trees = (0..9).map(|_| random_tree(&mut rng, 4, MODEL_FEATURES)).collect();
    let line = vec![Term { feature: 3, weight: 0.01, centre: 0.5, low: -4.0, high: 4.0 }];
    let score_from = (0..SCORE_MAX).map(|score| f32::from(score) / 100.0 - 5.0).collect();
    let mut file = ModelFile::new(training, -0.1, trees, line, score_from, 700);
    let rows: Vec<_> = (0..3).map(|_| row(&mut rng)).collect();
    let model = Model::from_file(&file).unwrap();
    file.drift = reference(&model, &mut rng);
    file.set_golden(&model, &rows);
    file
}

/// The text of a model whose every margin lies at the bias, or within a few steps of it.
pub(crate) fn model_text(bias: f64, decline_threshold: u16) -> String {
    let change = |file: &mut ModelFile| {
        file.bias = bias;
        file.decline_threshold = decline_threshold;
        file.golden.clear();
    };
    let mut file = file();
    change(&mut file);
    let model = Model::from_file(&file).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    file.set_golden(&model, &[row(&mut rng)]);
    file.to_text()
}

/// The text of a model whose leaves add up to no number.
pub(crate) fn overflowing_model_text() -> String {
    let mut file = file();
    let leaves = file.trees.iter_mut().flat_map(|tree| tree.left.iter().zip(&mut tree.value));
    leaves.filter(|(left, _)| **left == 0).for_each(|(_, value)| *value = f64::MAX);
    file.golden.clear();
    file.to_text()
}

/// The file with one change, its checksum made right again where `signed`.
fn changed(change: impl Fn(&mut ModelFile), signed: bool) -> String {
    let mut file = file();
    let before = checksum(&file.content());
    change(&mut file);
    let text = file.to_text();
    if signed { text } else { text.replace(&checksum(&file.content()), &before) }
}

#[test]
fn a_model_comes_back_as_it_was_written() {
    let file = file();
    let text = file.to_text();
    let model = Model::load(&text).unwrap();
    assert_eq!((model.trees(), model.golden_rows(), model.decline_threshold()), (9, 3, 700));
    assert_eq!(model.training(), &file.training);
    assert_eq!(&**model.version(), &blake3::hash(text.as_bytes()).to_hex()[..12]);
    let mut back: ModelFile = serde_json::from_str(&text).unwrap();
    back.checksum.clear();
    assert_eq!(back, file);
    let reformatted = serde_json::from_str::<Value>(&text).unwrap().to_string();
    let other = Model::load(&reformatted).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..100 {
        let row = row(&mut rng);
        assert_eq!(other.score(&row), model.score(&row), "other blanks, same model");
    }
}

#[test]
fn the_score_is_the_place_of_the_margin_in_the_table() {
    let file = file();
    let model = Model::from_file(&file).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..1_000 {
        let row = row(&mut rng);
        let Scored { margin, score } = model.score(&row);
        let naive = file.score_from.iter().filter(|from| f64::from(**from) <= margin).count();
        assert_eq!(usize::from(score), naive);
    }
}

#[test]
fn every_number_that_is_changed_is_found() {
    let text = file().to_text();
    let good: Value = serde_json::from_str(&text).unwrap();
    let mut paths = Vec::new();
    collect(&good, String::new(), &mut paths);
    assert!(paths.len() > 1_200);
    for path in paths {
        let mut bad = good.clone();
        let value = bad.pointer_mut(&path).unwrap();
        *value = match value.take() {
            Value::Null => json!(0.25),
            Value::Number(n) if n.is_f64() => json!(n.as_f64().unwrap() + 0.5),
            Value::Number(n) => json!(n.as_u64().unwrap() + 1),
            Value::String(s) => json!(format!("{s}x")),
            Value::Bool(b) => json!(!b),
            other => other,
        };
        assert!(Model::load(&bad.to_string()).is_err(), "{path}");
    }
}

/// Pointers to every number, text and null; of long lists only some.
fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, v)| collect(v, format!("{path}/{name}"), paths));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, v)| collect(v, format!("{path}/{place}"), paths));
        }
        _ => paths.push(path),
    }
}

#[test]
fn every_value_of_another_type_and_every_missing_field_is_refused() {
    let good: Value = serde_json::from_str(&file().to_text()).unwrap();
    for field in good.as_object().unwrap().keys() {
        for other in [Value::Null, json!([]), json!({}), json!("x"), json!(-1), json!(1e300), json!(true)] {
            let mut bad = good.clone();
            bad[field] = other.clone();
            assert!(Model::load(&bad.to_string()).is_err(), "{field} = {other}");
        }
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(field);
        assert!(Model::load(&bad.to_string()).is_err(), "without {field}");
    }
    let mut bad = good.clone();
    bad["extra"] = json!(1);
    assert!(matches!(Model::load(&bad.to_string()), Err(ModelError::Syntax(_))));
}

#[test]
fn a_signed_file_with_wrong_content_is_refused_for_its_content() {
    type Change = fn(&mut ModelFile);
    let cases: [(Change, &str); 13] = [
        (|f| f.format = 1, "has format 1; this program reads format 2"),
        (|f| f.features.swap(0, 1), "stands where"),
        (|f| f.features.truncate(3), "it has 3"),
        (|f| f.feature_hash = "0".repeat(16), "their hash is 0000000000000000"),
        (|f| f.trees.clear(), "0 trees"),
        (|f| f.trees[1].left[0] = 60_000, "tree 1: node 0"),
        (|f| f.trees[2].feature[0] = u16::MAX, "tree 2: node 0: there is no such feature"),
        (|f| f.score_from.truncate(998), "998 margins"),
        (|f| f.score_from.swap(4, 5), "higher margin"),
        (|f| f.decline_threshold = 0, "threshold 0"),
        (|f| f.decline_threshold = 1_000, "threshold 1000"),
        (|f| f.golden[2].score += 1, "golden row 2 of the model: it scores"),
        (|f| f.golden[1].row.truncate(2), "golden row 1 of the model: has 2 values"),
    ];
    for (change, why) in cases {
        let error = Model::load(&changed(change, true)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}, not {why}");
    }
    // Infinity is no JSON; a number too large for 32 bits must not become one.
    let text = file().to_text().replace("\"score_from\": [-5.0", "\"score_from\": [1e39");
    let error = Model::load(&text).unwrap_err();
    assert!(error.to_string().contains("out of range"), "{error}");
    let unsigned = changed(|f| f.decline_threshold = 701, false);
    assert_eq!(Model::load(&unsigned).unwrap_err(), ModelError::Checksum);
    let golden = changed(|f| f.bias += 0.25, true);
    assert!(matches!(Model::load(&golden), Err(ModelError::Golden { row: 0, .. })));
}

#[test]
fn what_is_no_model_at_all_is_refused_with_its_place() {
    for text in ["", "{", "null", "[]", "{\"format\": \"2\"}", "{\"format\": 2}", "\u{feff}{}"] {
        assert!(matches!(Model::load(text), Err(ModelError::Syntax(_))), "{text}");
    }
    assert_eq!(Model::load("{\"format\": 7, \"anything\": {}}").unwrap_err(), ModelError::Format(7));
    assert!(matches!(Model::load(&"[".repeat(100_000)), Err(ModelError::Syntax(_))));
    let huge = " ".repeat(MODEL_BYTES_MAX + 1);
    assert_eq!(Model::load(&huge).unwrap_err(), ModelError::TooLarge(MODEL_BYTES_MAX + 1));
    let text = file().to_text();
    for cut in (0..text.len()).step_by(997) {
        assert!(Model::load(&text[..cut]).is_err());
    }
}

#[test]
fn contributions_of_the_shipped_model_sum_to_its_margin() {
    let model = Model::load(crate::model::SHIPPED).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut contributions = [0.0; MODEL_FEATURES];
    for _ in 0..100_000 {
        // Amounts, counts and seconds are of all sizes.
        let row = row(&mut rng).map(|x| x * 10.0_f32.powi(rng.random_range(-1..6)));
        let base = model.contributions(&row, &mut contributions);
        let sum = base + contributions.iter().sum::<f64>();
        assert!((sum - model.score(&row).margin).abs() < 1e-6, "{row:?}");
    }
}

#[test]
fn reasons_are_the_largest_contributions_towards_fraud() {
    let model = Model::from_file(&file()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut longest = 0;
    for _ in 0..200 {
        let row = row(&mut rng);
        let mut contributions = [0.0; MODEL_FEATURES];
        let base = model.contributions(&row, &mut contributions);
        let margin = model.score(&row).margin;
        assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-6);
        let mut expected: Vec<f64> = contributions.iter().copied().filter(|c| *c > 0.0).collect();
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(CONTRIBUTIONS_MAX);
        let reasons = model.explain(&row);
        assert_eq!(reasons.len(), expected.len());
        for (reason, contribution) in reasons.iter().zip(expected) {
            assert_eq!((reason.source, reason.contribution), (ReasonSource::Model, contribution as f32));
            assert!(!reason.code.is_empty() && reason.text.ends_with('.'));
        }
        longest = longest.max(reasons.len());
    }
    assert_eq!(longest, CONTRIBUTIONS_MAX);
}

#[test]
fn a_file_without_a_reference_for_drift_is_what_it_was_before_there_was_one() {
    let mut file = file();
    assert_eq!(Model::load(&file.to_text()).unwrap().drift().unwrap().rows(), 1_000);
    file.drift = None;
    let text = file.to_text();
    assert!(!text.contains("drift"), "nothing of it stands in the file");
    assert_eq!(Model::load(&text).unwrap().drift(), None);
    let shipped = Model::load(crate::model::SHIPPED).unwrap();
    assert!(shipped.drift().is_some_and(|drift| drift.features().len() == MODEL_FEATURES));
}

#[test]
fn a_reference_for_drift_that_cannot_be_used_is_refused_whole() {
    let refused = |change: &dyn Fn(&mut ReferenceFile)| {
        let text = changed(|file| change(file.drift.as_mut().unwrap()), true);
        Model::load(&text).unwrap_err().to_string()
    };
    let error = refused(&|drift| drift.features.swap(0, 1));
    assert!(error.contains("`drift` cannot be used") && error.contains("stands where"), "{error}");
    let error = refused(&|drift| drift.score.shares[0] = 1.5);
    assert!(error.contains("a share of `score` is 1.5"), "{error}");
    let error = refused(&|drift| drift.features[0].edges = vec![0.0; 1_000_000]);
    assert!(error.contains("has 1000000 edges; at most 9"), "{error}");
    let unsigned = changed(|file| file.drift.as_mut().unwrap().rows += 1, false);
    assert_eq!(Model::load(&unsigned).unwrap_err(), ModelError::Checksum);
}

/// An engine that has learned more features goes on with the model that it has, and that model sees none of the new ones.
#[test]
fn a_model_of_an_earlier_program_scores_what_it_knows_and_reads_nothing_behind_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let known = |features: usize, rng: &mut ChaCha8Rng| {
        let mut file = ModelFile {
            features: (0..MODEL_FEATURES_FIRST).map(|f| model_feature(f).name.to_owned()).collect(),
            feature_hash: format!("{:016x}", feature_hash(MODEL_FEATURES_FIRST)),
            trees: (0..9).map(|_| random_tree(rng, 4, features)).collect(),
            drift: None,
            golden: Vec::new(),
            ..file()
        };
        file.checksum.clear();
        file
    };
    let mut file = known(MODEL_FEATURES_FIRST, &mut rng);
    let unsigned = Model::from_file(&file).unwrap();
    file.set_golden(&unsigned, &[row(&mut rng), row(&mut rng)]);
    file.golden.iter_mut().for_each(|golden| golden.row.truncate(MODEL_FEATURES_FIRST));
    let model = Model::load(&file.to_text()).unwrap();
    for _ in 0..100 {
        let mut row = row(&mut rng);
        let scored = model.score(&row);
        row[MODEL_FEATURES_FIRST..].fill(1e9);
        assert_eq!(model.score(&row), scored);
        row[MODEL_FEATURES_FIRST..].fill(f32::NAN);
        assert_eq!(model.score(&row), scored);
    }
    let mut ahead = known(MODEL_FEATURES_FIRST, &mut rng);
    ahead.trees[0].feature[0] = MODEL_FEATURES_FIRST as u16;
    assert!(Model::load(&ahead.to_text()).unwrap_err().to_string().contains("no such feature"));
    ahead = known(MODEL_FEATURES_FIRST, &mut rng);
    ahead.line =
        vec![Term { feature: MODEL_FEATURES_FIRST as u16, weight: 1.0, centre: 0.0, low: 0.0, high: 1.0 }];
    assert!(Model::load(&ahead.to_text()).unwrap_err().to_string().contains("no such feature"));
}

#[test]
fn a_straight_line_is_no_tree_and_a_tree_that_asks_for_nothing_is_one_where_there_is_no_line() {
    let leaf = Tree::of_nothing();
    let of = |change: &dyn Fn(&mut ModelFile)| {
        let mut file = file();
        file.golden.clear();
        change(&mut file);
        let model = Model::from_file(&file).unwrap();
        (model.trees(), model.form())
    };
    let is = |trees, form: &str| (trees, form.to_owned());
    assert_eq!(of(&|_| {}), is(9, "9 trees and a straight line over 1 features"));
    assert_eq!(of(&|file| file.trees = vec![leaf.clone()]), is(0, "a straight line over 1 features"));
    assert_eq!(of(&|file| (file.trees, file.line) = (vec![leaf.clone()], Vec::new())), is(1, "1 trees"));
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

#[test]
fn what_is_written_of_the_shipped_model_is_what_its_file_says() {
    let model = Model::load(crate::model::SHIPPED).unwrap();
    let training = model.training();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = words(include_str!("../../../models/README.md"));
    let says = |expected: String| assert!(readme.contains(&expected), "models/README.md lacks: {expected}");

    says(format!("decline from {} on", model.decline_threshold()));
    says(format!("all {} rows ({} frauds)", grouped(training.rows), grouped(training.frauds)));
    for (name, quality) in [("validation", training.validation), ("test", training.test)] {
        let Quality { rows, frauds, auc, average_precision, recall_at_1_percent, recall_at_0_1_percent } =
            quality.unwrap();
        says(format!(
            "| {name} | {} | {} | {auc:.4} | {average_precision:.4} | {recall_at_1_percent:.3} | \
             {recall_at_0_1_percent:.3} |",
            grouped(rows),
            grouped(frauds)
        ));
    }
    let Intervals { auc, average_precision, recall_at_1_percent, recall_at_0_1_percent } =
        training.test_intervals.unwrap();
    let four = |(low, high): (f64, f64)| format!("{low:.4} to {high:.4}");
    let three = |(low, high): (f64, f64)| format!("{low:.3} to {high:.3}");
    says(format!(
        "| test, in 95 of 100 samples of its accounts | | | {} | {} | {} | {} |",
        four(auc),
        four(average_precision),
        three(recall_at_1_percent),
        three(recall_at_0_1_percent)
    ));
    let AtThreshold { recall, false_positive_rate } = training.test_at_threshold.unwrap();
    says(format!(
        "declines {:.1} % of the test's frauds and {:.2} % of its genuine transactions",
        100.0 * recall,
        100.0 * false_positive_rate
    ));
    let best = |algorithm: &str| {
        let tried = training.tried.iter().find(|tried| tried.algorithm == algorithm).unwrap();
        tried.validation.average_precision
    };
    says(format!(
        "{:.3}, the booster of the squared error {:.3}, a forest {:.3}, logistic regression {:.3}",
        best("log-loss booster"),
        best("squared-error booster"),
        best("forest"),
        best("logistic regression")
    ));

    let version = model.version();
    let card = include_str!("../../../models/default.md");
    assert!(card.contains(&format!("Model `{version}`")), "models/default.md is the card of another model");
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("\"model_version\": \"{version}\"")), "the README's answer: {version}");
}
