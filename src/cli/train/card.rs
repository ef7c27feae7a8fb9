//! The model card: what a model was made of and what it is worth, in Markdown with plots beside it, for whoever has to
//! answer for it.

use std::fmt::Write as _;

use super::plot;
use crate::{
    features::catalog::{MODEL_FEATURES, model_feature, model_index},
    model::{
        Model, Period, Training,
        quality::{Intervals, Quality},
        shap::Explainer,
        train::Examples,
    },
    types::time::Timestamp,
};

/// What the card shows scores of: rows that the scores were not learned from.
pub(super) struct Shown<'a> {
    /// `test` or `validation`.
    pub(super) name: &'static str,
    pub(super) examples: &'a Examples,
    /// Log-odds of fraud, one for each row.
    pub(super) margins: Vec<f64>,
}

/// The files of a card.
pub(super) struct Card {
    pub(super) markdown: String,
    pub(super) precision_and_recall: String,
    pub(super) calibration: String,
}

/// Features shown in the table of what weighs most.
const IMPORTANT: usize = 20;
/// Most rows that weights are taken from.
const SAMPLE: usize = 2_000;
/// With fewer frauds a segment's figures say little.
const FRAUDS_FOR_A_FIGURE: usize = 30;

/// Writes the card of a model; `plots` are the names of the plots' files, as the text refers to them.
pub(super) fn card(file: &str, explainer: &Explainer, shown: &Shown<'_>, plots: (&str, &str)) -> Card {
    let model = explainer.model();
    let training = model.training();
    let mut text = format!("# Model card: `{file}`\n\n");
    text += &format!(
        "Model `{}`, trained by `saker train`. It scores an authorisation from 0 to 999 and declines from {} on.\n\n",
        &**model.version(),
        model.decline_threshold()
    );
    text += &data(training, shown.examples);
    text += &qualities(training);
    let mut plain = |line: String| {
        text += &line;
        text += "\n\n";
    };
    plain(format!(
        "![Precision by recall]({}) ![Frauds found by what the score promises]({})",
        plots.0, plots.1
    ));
    plain(format!(
        "Both plots show the {} period. In the right one, a model whose scores mean what they say lies on the diagonal.",
        shown.name
    ));
    text += &threshold(training, model, shown);
    text += &importance(explainer, shown);
    text += &segments(model, shown);
    text += &limits(training, shown.examples);
    Card {
        markdown: text.trim_end().to_owned() + "\n",
        precision_and_recall: plot::precision_and_recall(&shown.margins, shown.examples),
        calibration: plot::calibration(&shown.margins, shown.examples),
    }
}

fn day(time_ms: i64) -> String {
    Timestamp(time_ms).to_string().chars().take(10).collect()
}

fn period(name: &str, period: Option<Period>) -> String {
    period.map_or(String::new(), |Period { from_ms, to_ms, rows, frauds }| {
        format!(
            "| {name} | {} to {} | {rows} | {frauds} | {:.2} % |\n",
            day(from_ms),
            day(to_ms),
            100.0 * frauds as f64 / rows.max(1) as f64
        )
    })
}

fn data(training: &Training, shown: &Examples) -> String {
    let mut text = format!(
        "## How it was made\n\n- **Algorithm:** {}.\n- **Seed:** {}. The same rows, seed and program give the same file.\n\
         - **Rows:** BLAKE3 over features, labels and times `{}`.\n\
         - **Labels** count as known {} days after their transaction; nothing younger was learned from.\n\
         - **Features:** {MODEL_FEATURES}, computed by the code that serves. No identity of a card, merchant or device is \
         among them.\n\n| period | days | transactions | frauds | |\n|---|---|---|---|---|\n",
        training.algorithm, training.seed, training.fingerprint, training.label_delay_days
    );
    text += &period("learned from", training.period);
    text += &period("of it, before the validation", training.fitted_to_choose);
    text += &period(
        "of it, validation: chose algorithm, settings, calibration, threshold",
        training.validation_period,
    );
    text += &period("test: only measured", training.test_period);
    let empty: Vec<String> = (0..MODEL_FEATURES)
        .filter(|feature| shown.rows.iter().all(|row| row[*feature].is_nan()))
        .map(|feature| format!("`{}`", model_feature(feature).name))
        .collect();
    if !empty.is_empty() {
        let _ = write!(text, "\nMissing in every row, and so without weight: {}.\n", empty.join(", "));
    }
    text + "\n"
}

fn qualities(training: &Training) -> String {
    let head = |what: &str| {
        format!(
            "| {what} | AUC | average precision | recall at 1 % false positives | at 0.1 % |\n|---|---|---|---|---|\n"
        )
    };
    let row = |name: &str, quality: &Quality| {
        let Quality { auc, average_precision, recall_at_1_percent, recall_at_0_1_percent, .. } = quality;
        format!(
            "| {name} | {auc:.4} | {average_precision:.4} | {recall_at_1_percent:.3} | {recall_at_0_1_percent:.3} |\n"
        )
    };
    let mut text = "## What it is worth\n\n".to_owned() + &head("period");
    for (name, quality, intervals) in [
        ("validation", training.validation, training.validation_intervals),
        ("test", training.test, training.test_intervals),
    ] {
        text += &quality.map_or(String::new(), |quality| row(name, &quality));
        if let Some(Intervals { auc, average_precision, recall_at_1_percent, recall_at_0_1_percent }) =
            intervals
        {
            let pair = |(low, high): (f64, f64)| format!("{low:.4} to {high:.4}");
            let _ = writeln!(
                text,
                "| in 95 of 100 samples of its accounts | {} | {} | {} | {} |",
                pair(auc),
                pair(average_precision),
                pair(recall_at_1_percent),
                pair(recall_at_0_1_percent)
            );
        }
    }
    text += "\nWhat was tried, on the validation period, each fitted on what was known before it:\n\n";
    text += &head("algorithm");
    for tried in &training.tried {
        text += &row(&tried.settings, &tried.validation);
    }
    text + "\n"
}

fn threshold(training: &Training, model: &Model, shown: &Shown<'_>) -> String {
    let (caught, alarms) = shares(model, shown, |_| true);
    format!(
        "## The threshold\n\nIt declines from {} on, chosen by {}. On the {} period that is {} of the frauds and {} of the \
         genuine transactions.\n\n",
        model.decline_threshold(),
        training.threshold_by,
        shown.name,
        caught,
        alarms
    )
}

/// Of the rows that are meant: the shares of frauds and of the rest at or above the threshold, in words.
fn shares(
    model: &Model,
    shown: &Shown<'_>,
    is_meant: impl Fn(&[f32; MODEL_FEATURES]) -> bool,
) -> (String, String) {
    let mut counts = [[0_u64; 2]; 2];
    for ((row, is_fraud), margin) in
        shown.examples.rows.iter().zip(&shown.examples.is_fraud).zip(&shown.margins)
    {
        if is_meant(row) {
            let declines = model.score_of(*margin) >= model.decline_threshold();
            counts[usize::from(*is_fraud)][usize::from(declines)] += 1;
        }
    }
    let share = |[passed, declined]: [u64; 2]| match passed + declined {
        0 => "-".to_owned(),
        all => format!("{:.2} %", 100.0 * declined as f64 / all as f64),
    };
    (share(counts[1]), share(counts[0]))
}

/// Each feature's mean absolute Shapley value, in log-odds, over a sample of the rows, and the rows in it.
fn mean_shap(explainer: &Explainer, examples: &Examples) -> ([f64; MODEL_FEATURES], usize) {
    let step = examples.len().div_ceil(SAMPLE).max(1);
    let sample = examples.rows.iter().step_by(step);
    let rows = sample.len();
    let mut means = [0.0; MODEL_FEATURES];
    for row in sample {
        let values = explainer.values(row);
        means.iter_mut().zip(values).for_each(|(mean, value)| *mean += value.abs() / rows as f64);
    }
    (means, rows)
}

fn importance(explainer: &Explainer, shown: &Shown<'_>) -> String {
    let (means, rows) = mean_shap(explainer, shown.examples);
    let all: f64 = means.iter().sum();
    let mut order: Vec<usize> = (0..MODEL_FEATURES).filter(|feature| means[*feature] > 0.0).collect();
    order.sort_by(|a, b| means[*b].total_cmp(&means[*a]));
    let mut text = format!(
        "## What weighs most\n\nMean absolute SHAP value (exact TreeSHAP, log-odds) over {rows} rows of the {} period: how far \
         a feature moves a score, whichever way, from {:.3}, which is expected of a row of which nothing is known. `saker \
         model explain` says it of one row.\n\n\
         | feature | mean absolute SHAP | share | what it is |\n|---|---|---|---|\n",
        shown.name,
        explainer.expected()
    );
    for feature in order.into_iter().take(IMPORTANT) {
        let (entry, mean) = (model_feature(feature), means[feature]);
        let _ =
            writeln!(text, "| `{}` | {mean:.3} | {:.1} % | {} |", entry.name, 100.0 * mean / all, entry.doc);
    }
    text + "\n"
}

type Segment = (&'static str, fn(&[f32; MODEL_FEATURES], usize) -> bool, &'static str);

/// Name, whether a value is of it, and the feature it goes by.
const SEGMENTS: [Segment; 12] = [
    ("card not present", |row, at| row[at] == 1.0, "is_ecommerce"),
    ("card present", |row, at| row[at] == 0.0, "is_ecommerce"),
    ("in another country", |row, at| row[at] == 1.0, "is_foreign"),
    ("in the home country", |row, at| row[at] == 0.0, "is_foreign"),
    ("22:00 to 04:00 UTC", |row, at| row[at] == 1.0, "is_night"),
    ("by day", |row, at| row[at] == 0.0, "is_night"),
    ("below 20", |row, at| row[at] < 20.0, "amount_major"),
    ("20 to 200", |row, at| row[at] >= 20.0 && row[at] < 200.0, "amount_major"),
    ("200 to 1,000", |row, at| row[at] >= 200.0 && row[at] < 1_000.0, "amount_major"),
    ("1,000 and above", |row, at| row[at] >= 1_000.0, "amount_major"),
    ("cards with fewer than 5 payments in 30 days", |row, at| row[at] < 5.0, "card.count_30d"),
    ("cards with 5 and more", |row, at| row[at] >= 5.0, "card.count_30d"),
];

fn segments(model: &Model, shown: &Shown<'_>) -> String {
    let mut text = format!(
        "## Quality by segment\n\nOn the {} period. Segments with fewer than {FRAUDS_FOR_A_FIGURE} frauds have no average \
         precision: it would say little.\n\n| segment | transactions | frauds | average precision | frauds declined | genuine \
         declined |\n|---|---|---|---|---|---|\n",
        shown.name
    );
    let examples = shown.examples;
    for (name, is_of, feature) in SEGMENTS {
        let Some(at) = model_index(feature) else { continue };
        let rows: Vec<usize> = (0..examples.len()).filter(|row| is_of(&examples.rows[*row], at)).collect();
        if rows.is_empty() {
            continue;
        }
        let margins: Vec<f64> = rows.iter().map(|row| shown.margins[*row]).collect();
        let is_fraud: Vec<bool> = rows.iter().map(|row| examples.is_fraud[*row]).collect();
        let frauds = is_fraud.iter().filter(|fraud| **fraud).count();
        let precision = (frauds >= FRAUDS_FOR_A_FIGURE)
            .then(|| Quality::measure(&margins, &is_fraud, examples.genuine_weight()))
            .flatten()
            .map_or("-".to_owned(), |quality| format!("{:.4}", quality.average_precision));
        let (caught, alarms) = shares(model, shown, |row| is_of(row, at));
        let _ = writeln!(text, "| {name} | {} | {frauds} | {precision} | {caught} | {alarms} |", rows.len());
    }
    text + "\n"
}

fn limits(training: &Training, shown: &Examples) -> String {
    let mut text = "## Known limits\n\n\
        - It knows the kinds of fraud that were labelled in the period above, and no others; a thief who learns is not in it.\n\
        - What was declined then had no outcome: a label of a decline says what somebody believed.\n\
        - The figures are of one period. Watch what the labels that come say of it (`saker_challenge_labels_total` beside a challenger), and train again.\n\
        - Hours and nights are those of UTC.\n"
        .to_owned();
    if let (Some(validation), Some(test)) = (training.validation, training.test) {
        let change = test.average_precision - validation.average_precision;
        let _ = writeln!(
            text,
            "- From the validation to the test period its average precision changed by {change:+.4}, after it was fitted again \
             on all that came before the test."
        );
    }
    if training.period.is_some_and(|period| period.to_ms - period.from_ms < 30 * 86_400_000) {
        text += "- It learned from less than a month: windows of 30 days were not yet full in its rows.\n";
    }
    if shown.frauds() < 200 {
        let _ = writeln!(
            text,
            "- Only {} frauds measure it: the intervals are wide, and differences within them mean nothing.",
            shown.frauds()
        );
    }
    text
}
