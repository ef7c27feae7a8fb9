//! The model as a file: versioned JSON, checked whole when it is read.
//!
//! A file holds the names and the hash of the features it was trained on, the trees, the table from margin to
//! score, the decline threshold, how it was trained and what it was worth, golden rows, and a checksum over all
//! of that. A file that says anything else than this program understands is refused with the reason; there is no
//! half-loaded model. Deliberately absent: expressions, and functions whose last bit depends on the machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    drift::{Reference, ReferenceFile},
    forest::{Forest, Sum},
    linear::{self, Term},
    quality::{Intervals, Quality},
    trees::Tree,
};
use crate::{
    features::catalog::{MODEL_FEATURES, MODEL_FEATURES_FIRST, feature_hash, model_feature},
    limits::{MODEL_BYTES_MAX, MODEL_GOLDEN_ROWS_MAX},
    types::reasons::Label,
};

/// Raised when a field that every file has is added, goes or changes its meaning. One that files may lack raises nothing.
const FORMAT: u32 = 2;
/// The highest score; the lowest is 0.
pub(super) const SCORE_MAX: u16 = 999;

/// A model ready to score.
#[derive(Clone, Debug)]
pub struct Model {
    forest: Forest,
    line: Vec<Term>,
    score_from: Vec<f32>,
    decline_threshold: u16,
    version: Label,
    training: Training,
    drift: Option<Arc<Reference>>,
    golden_rows: usize,
}

/// The score of one row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scored {
    /// Log-odds of fraud.
    pub margin: f64,
    /// 0 to 999, from the calibration table: rises with the margin, linear in the calibrated log-odds.
    pub score: u16,
}

/// How a model was trained and what it was worth.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// In words, with the settings that were chosen.
    pub algorithm: String,
    pub seed: u64,
    /// Rows that were fitted, and frauds among them.
    pub rows: u64,
    pub frauds: u64,
    /// All that was learned from; what is before `fitted_to_choose` ended chose nothing.
    pub period: Option<Period>,
    pub fitted_to_choose: Option<Period>,
    /// BLAKE3 of the rows, in hexadecimal.
    pub fingerprint: String,
    /// After how long a label counts as known.
    pub label_delay_days: f64,
    /// What the decline threshold was chosen by, in words.
    pub threshold_by: String,
    /// Every algorithm and setting that was compared, the best first.
    pub tried: Vec<Tried>,
    /// On the last part of the training period, on which settings, calibration and threshold were chosen, of the fit that
    /// had not seen it. Absent where a model was trained elsewhere.
    pub validation: Option<Quality>,
    pub validation_period: Option<Period>,
    pub validation_intervals: Option<Intervals>,
    /// On the period held out, if there was one.
    pub test: Option<Quality>,
    pub test_period: Option<Period>,
    pub test_intervals: Option<Intervals>,
    pub test_at_threshold: Option<AtThreshold>,
}

/// A stretch of time and what lay in it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// First and last row, in milliseconds since 1970.
    pub from_ms: i64,
    pub to_ms: i64,
    pub rows: u64,
    pub frauds: u64,
}

/// Something that was tried.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    pub algorithm: String,
    pub settings: String,
    pub validation: Quality,
}

impl Tried {
    /// What tells it from others of its algorithm, such as `100 trees of depth 6 with at most 24 leaves, learning rate
    /// 0.25`: of the settings the first two, behind the algorithm's long name.
    pub fn in_short(&self) -> String {
        let settings =
            self.settings.split_once(": ").map_or(self.settings.as_str(), |(_, settings)| settings);
        let settings = settings.split(';').next().unwrap_or(settings);
        settings.split(", ").take(2).collect::<Vec<_>>().join(", ")
    }
}

/// What the decline threshold does.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtThreshold {
    /// Share of the frauds at or above it.
    pub recall: f64,
    /// Share of the genuine transactions at or above it.
    pub false_positive_rate: f64,
}

/// Why a text is not a model that can be used here.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the model has {0} bytes; at most {MODEL_BYTES_MAX} are read")]
    TooLarge(usize),
    #[error("this is no model file: byte {at}, 0x{byte:02x}, is not UTF-8, which JSON is")]
    NotUtf8 { at: usize, byte: u8 },
    /// Not JSON, or not the JSON of a model. Has line and column.
    #[error("this is no model file: {0}")]
    Syntax(String),
    #[error("the model has format {0}; this program reads format {FORMAT}")]
    Format(u64),
    /// The model reads other features than this program computes.
    #[error("the model was trained on other features: {0}; train it again with this program")]
    Features(String),
    #[error("the model's trees cannot be used: {0}")]
    Trees(String),
    #[error("the model's straight line cannot be used: {0}")]
    Line(String),
    #[error("the model's calibration cannot be used: {0}")]
    Calibration(String),
    #[error("the model's `drift` cannot be used: {0}; train it again, or leave `drift` out")]
    Drift(String),
    /// What the file says a row scores is not what it scores.
    #[error("golden row {row} of the model: {why}")]
    Golden { row: usize, why: String },
    #[error("the model's checksum does not match its content: the file was damaged or changed by hand")]
    Checksum,
}

/// The file, field by field.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelFile {
    pub format: u32,
    /// [`feature_hash`] in hexadecimal.
    pub feature_hash: String,
    /// In the order of a row: all that this program computes, or the first of them where an earlier one trained it.
    pub features: Vec<String>,
    pub training: Training,
    pub bias: f64,
    /// The margins from which on the score is 1, 2 and so on to 999.
    pub score_from: Vec<f32>,
    /// Declined from this score on.
    pub decline_threshold: u16,
    /// What the training rows were like; imported models and those of before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<ReferenceFile>,
    pub golden: Vec<GoldenRow>,
    pub trees: Vec<Tree>,
    /// Whether leaves are added up in 32 bits, as the library did that the model comes from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adds_in_f32: bool,
    /// Added to the trees.
    pub line: Vec<Term>,
    /// BLAKE3 of [`ModelFile::content`], in hexadecimal.
    pub checksum: String,
}

/// Only what is needed to tell which format a file has.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

/// A row and what it must score.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoldenRow {
    /// `null` where a value is missing.
    pub row: Vec<Option<f32>>,
    /// The margin's 64 bits, in hexadecimal.
    pub margin_bits: String,
    pub score: u16,
}

impl Model {
    /// Reads and checks a model.
    ///
    /// # Errors
    /// The first thing that is wrong with it; nothing of it can be used then.
    pub fn load(text: &str) -> Result<Model, ModelError> {
        ModelFile::read(text).map(|(_, model)| model)
    }

    /// The text of a model's file.
    ///
    /// # Errors
    /// [`ModelError::NotUtf8`] with its first byte that is not.
    pub fn text_of(bytes: Vec<u8>) -> Result<String, ModelError> {
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ModelError::NotUtf8 { at, byte: error.as_bytes()[at] }
        })
    }

    /// Everything but the checksum, which is not there yet while a model is being trained, and the version.
    pub(super) fn from_file(file: &ModelFile) -> Result<Model, ModelError> {
        check_features(file)?;
        let features = file.features.len();
        let forest = Forest::new(&file.trees, file.bias, features, file.sum()).map_err(ModelError::Trees)?;
        check_calibration(file).map_err(ModelError::Calibration)?;
        if file.golden.len() > MODEL_GOLDEN_ROWS_MAX {
            let why = format!("is one of {}; at most {MODEL_GOLDEN_ROWS_MAX} are read", file.golden.len());
            return Err(ModelError::Golden { row: MODEL_GOLDEN_ROWS_MAX, why });
        }
        linear::check(&file.line, features).map_err(ModelError::Line)?;
        let drift = file.drift.as_ref().map(|drift| drift.read(&file.features)).transpose();
        let drift = drift.map_err(ModelError::Drift)?.map(Arc::new);
        let model = Model {
            forest,
            line: file.line.clone(),
            score_from: file.score_from.clone(),
            decline_threshold: file.decline_threshold,
            version: Label::Static(""),
            training: file.training.clone(),
            drift,
            golden_rows: file.golden.len(),
        };
        for (row, golden) in file.golden.iter().enumerate() {
            golden.check(&model, features).map_err(|why| ModelError::Golden { row, why })?;
        }
        Ok(model)
    }

    /// Scores one row of [`crate::features::catalog::model_vector`].
    pub fn score(&self, row: &[f32; MODEL_FEATURES]) -> Scored {
        let mut margin = self.forest.margin(row);
        self.line.iter().for_each(|term| margin += term.of(row));
        Scored { margin, score: self.score_of(margin) }
    }

    /// The score of a margin.
    pub fn score_of(&self, margin: f64) -> u16 {
        self.score_from.partition_point(|from| f64::from(*from) <= margin) as u16
    }

    /// Sets each feature's contribution to the margin, in log-odds, and gives the rest of the margin.
    pub fn contributions(
        &self,
        row: &[f32; MODEL_FEATURES],
        contributions: &mut [f64; MODEL_FEATURES],
    ) -> f64 {
        contributions.fill(0.0);
        let rest = self.forest.contributions(row, contributions);
        self.line.iter().for_each(|term| contributions[usize::from(term.feature)] += term.of(row));
        rest
    }

    /// A transaction is declined from this score on.
    pub fn decline_threshold(&self) -> u16 {
        self.decline_threshold
    }

    /// The first twelve hexadecimal digits of BLAKE3 over the file.
    pub fn version(&self) -> &Label {
        &self.version
    }

    /// How it was trained and what it was worth.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// What the rows were like that it was fitted on, where its file says so.
    pub fn drift(&self) -> Option<&Arc<Reference>> {
        self.drift.as_ref()
    }

    /// Number of trees; none where a straight line alone scores, whose file has one tree that asks for nothing.
    pub fn trees(&self) -> usize {
        let asks_nothing = || self.forest.splits().iter().all(|splits| *splits == 0);
        if !self.line.is_empty() && asks_nothing() { 0 } else { self.forest.trees() }
    }

    /// What its margin is made of, in words.
    pub fn form(&self) -> String {
        match (self.trees(), self.line.len()) {
            (trees, 0) => format!("{trees} trees"),
            (0, terms) => format!("a straight line over {terms} features"),
            (trees, terms) => format!("{trees} trees and a straight line over {terms} features"),
        }
    }

    /// The straight part, which most models do not have.
    pub fn line(&self) -> &[Term] {
        &self.line
    }

    /// How many nodes of the trees ask for each feature, in the order of a row.
    pub fn splits(&self) -> Vec<u64> {
        self.forest.splits()
    }

    /// Number of golden rows that were checked when it was read.
    pub fn golden_rows(&self) -> usize {
        self.golden_rows
    }
}

impl ModelFile {
    /// Reads and checks a file; gives the model too, which scores by it.
    ///
    /// # Errors
    /// The first thing that is wrong with it; nothing of it can be used then.
    pub(super) fn read(text: &str) -> Result<(ModelFile, Model), ModelError> {
        if text.len() > MODEL_BYTES_MAX {
            return Err(ModelError::TooLarge(text.len()));
        }
        let syntax = |error: serde_json::Error| ModelError::Syntax(error.to_string());
        let head: Head = serde_json::from_str(text).map_err(syntax)?;
        if head.format != u64::from(FORMAT) {
            return Err(ModelError::Format(head.format));
        }
        let file: ModelFile = serde_json::from_str(text).map_err(syntax)?;
        let mut model = Model::from_file(&file)?;
        if file.checksum != checksum(&file.content()) {
            return Err(ModelError::Checksum);
        }
        let hash = blake3::hash(text.as_bytes()).to_hex();
        model.version = Label::new(&hash[..12]);
        Ok((file, model))
    }

    /// A file of the present format for the present features.
    pub(super) fn new(
        training: Training,
        bias: f64,
        trees: Vec<Tree>,
        line: Vec<Term>,
        score_from: Vec<f32>,
        decline_threshold: u16,
    ) -> ModelFile {
        ModelFile {
            format: FORMAT,
            feature_hash: format!("{:016x}", feature_hash(MODEL_FEATURES)),
            features: (0..MODEL_FEATURES).map(|f| model_feature(f).name.to_owned()).collect(),
            training,
            bias,
            score_from,
            decline_threshold,
            drift: None,
            golden: Vec::new(),
            trees,
            adds_in_f32: false,
            line,
            checksum: String::new(),
        }
    }

    /// Sets the golden rows to what these rows score.
    pub(super) fn set_golden(&mut self, model: &Model, rows: &[[f32; MODEL_FEATURES]]) {
        let golden = |row: &[f32; MODEL_FEATURES]| {
            let scored = model.score(row);
            GoldenRow {
                row: row.iter().map(|x| (!x.is_nan()).then_some(*x)).collect(),
                margin_bits: bits(scored.margin),
                score: scored.score,
            }
        };
        self.golden = rows.iter().map(golden).collect();
    }

    fn sum(&self) -> Sum {
        if self.adds_in_f32 { Sum::Single } else { Sum::Double }
    }

    /// The text of the file, with its checksum.
    pub(super) fn to_text(&self) -> String {
        let content = self.content();
        let checksum = checksum(&content);
        format!("{{\n{content},\n\"checksum\": \"{checksum}\"\n}}\n")
    }

    /// Every field but the checksum that the file has, one to a line, and one line for each tree and golden row.
    fn content(&self) -> String {
        let lines = |values: Vec<String>| format!("[\n{}\n]", values.join(",\n"));
        let mut fields = vec![
            ("format", json(&self.format)),
            ("feature_hash", json(&self.feature_hash)),
            ("features", json(&self.features)),
            ("training", json(&self.training)),
            ("bias", json(&self.bias)),
            ("score_from", json(&self.score_from)),
            ("decline_threshold", json(&self.decline_threshold)),
            ("golden", lines(self.golden.iter().map(json).collect())),
            ("trees", lines(self.trees.iter().map(json).collect())),
            ("line", lines(self.line.iter().map(json).collect())),
        ];
        // Without these the content is what it was before there were such fields, and so is the checksum.
        fields.extend(self.adds_in_f32.then(|| ("adds_in_f32", json(&true))));
        fields.extend(self.drift.as_ref().map(|drift| ("drift", json(drift))));
        let lines = fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}"));
        lines.collect::<Vec<_>>().join(",\n")
    }
}

impl GoldenRow {
    fn check(&self, model: &Model, features: usize) -> Result<(), String> {
        if self.row.len() != features {
            return Err(format!("has {} values, not {features}", self.row.len()));
        }
        let mut row = [f32::NAN; MODEL_FEATURES];
        for (cell, value) in row.iter_mut().zip(&self.row) {
            *cell = value.unwrap_or(f32::NAN);
        }
        let Scored { margin, score } = model.score(&row);
        if bits(margin) != self.margin_bits {
            return Err(format!("its margin is {} here, not {}", bits(margin), self.margin_bits));
        }
        match score == self.score {
            true => Ok(()),
            false => Err(format!("it scores {score} here, not {}", self.score)),
        }
    }
}

fn check_features(file: &ModelFile) -> Result<(), ModelError> {
    let refused = |why: String| Err(ModelError::Features(why));
    let names = (0..MODEL_FEATURES).map(|f| model_feature(f).name);
    if let Some((theirs, ours)) = file.features.iter().zip(names).find(|(theirs, ours)| theirs != ours) {
        return refused(format!("`{theirs}` stands where `{ours}` does here"));
    }
    let features = file.features.len();
    if !(MODEL_FEATURES_FIRST..=MODEL_FEATURES).contains(&features) {
        return refused(format!("it has {features}, there are {MODEL_FEATURES} here"));
    }
    let hash = format!("{:016x}", feature_hash(features));
    if file.feature_hash != hash {
        return refused(format!(
            "the names are the same, but their hash is {}, not {hash}",
            file.feature_hash
        ));
    }
    Ok(())
}

fn check_calibration(file: &ModelFile) -> Result<(), String> {
    let table = &file.score_from;
    if table.len() != usize::from(SCORE_MAX) {
        return Err(format!("the table has {} margins, not {SCORE_MAX}", table.len()));
    }
    if table.iter().any(|margin| !margin.is_finite()) {
        return Err("a margin is not finite".to_owned());
    }
    if let Some(score) = table.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(format!("score {} starts at a higher margin than {}", score + 1, score + 2));
    }
    match (1..=SCORE_MAX).contains(&file.decline_threshold) {
        true => Ok(()),
        false => Err(format!("the decline threshold {} is not in 1 to {SCORE_MAX}", file.decline_threshold)),
    }
}

fn bits(margin: f64) -> String {
    format!("{:016x}", margin.to_bits())
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists of them have a JSON form")
}

fn checksum(content: &str) -> String {
    blake3::hash(content.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
pub(super) mod tests;
