//! Models of XGBoost and LightGBM, turned into the engine's own format.
//!
//! A file of another library is read whole and checked before anything of it is used: its numbers of trees, nodes and
//! features say nothing that is not counted here again.

mod golden;
mod lightgbm;
#[cfg(test)]
pub(super) mod tests;
mod xgboost;

use super::{
    file::{Model, ModelFile, Training},
    scale::score_table,
    trees::Tree,
};
use crate::{
    features::catalog::{MODEL_FEATURES, lookup, model_feature, model_index},
    limits::MODEL_BYTES_MAX,
    types::spelling::did_you_mean,
};

/// Why a model cannot be used, and what to do.
type Refused = String;

/// A model of another library.
struct Foreign {
    /// In words.
    algorithm: String,
    trees: Vec<Tree>,
    bias: f64,
    /// What the library's raw margin is multiplied with to be log-odds.
    scale: f64,
    /// Whether the library adds leaves up in 32 bits.
    adds_in_f32: bool,
}

/// A model in the engine's format.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The model file.
    pub text: String,
    pub model: Model,
    /// Rows that were compared with the margins of the library, and the largest difference, in log-odds.
    pub compared: Option<Compared>,
}

/// How near the imported model comes to the library's own margins.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Compared {
    pub rows: u64,
    /// Between the library's margin and ours.
    pub largest: f64,
}

/// Turns XGBoost's JSON or LightGBM's text into a model that declines from a score of `decline_from` on. `golden` is a
/// CSV of feature names and `margin`, the library's raw margins; the model must agree with them within 1e-6.
///
/// # Errors
/// Says what cannot be used, in which tree and node, and what to do.
pub fn import(text: &str, decline_from: u16, golden: Option<&str>) -> Result<Imported, String> {
    if text.len() > MODEL_BYTES_MAX {
        return Err(format!("the model has more than {MODEL_BYTES_MAX} bytes; train fewer or smaller trees"));
    }
    let foreign = if text.trim_start().starts_with('{') {
        xgboost::read(text)?
    } else if text.lines().next().is_some_and(|line| line.trim() == "tree") {
        lightgbm::read(text)?
    } else {
        return Err("this is neither XGBoost's JSON (`save_model(\"m.json\")`) nor LightGBM's text \
                    (`save_model(\"m.txt\")`); save the model as one of them"
            .to_owned());
    };
    let training = Training {
        algorithm: foreign.algorithm.clone(),
        threshold_by: "given when the model was imported".to_owned(),
        ..Training::default()
    };
    let (trees, table) = (foreign.trees.clone(), score_table(1.0, 0.0));
    let mut file = ModelFile::new(training, foreign.bias, trees, Vec::new(), table, decline_from);
    file.adds_in_f32 = foreign.adds_in_f32;
    let model = Model::from_file(&file).map_err(|error| error.to_string())?;
    let (mut rows, mut compared) = (golden::rows_of(&foreign.trees), None);
    if let Some(golden) = golden {
        let (found, chosen) = golden::compare(golden, &foreign, &model)?;
        compared = Some(found);
        rows.extend(chosen);
    }
    file.set_golden(&model, &rows);
    let text = file.to_text();
    // Read back as the engine will, so that what is written is known to be usable.
    let model = Model::load(&text).map_err(|error| error.to_string())?;
    Ok(Imported { text, model, compared })
}

/// Where our rows have the feature of this name.
fn feature(name: &str) -> Result<u16, Refused> {
    let plain = || (0..MODEL_FEATURES).find(|index| model_feature(*index).name.replace('.', "_") == name);
    let found = lookup(name).and_then(|(_, entry)| model_index(entry.name)).or_else(plain);
    found.map(|index| index as u16).ok_or_else(|| {
        let names = (0..MODEL_FEATURES).map(|index| model_feature(index).name);
        let hint = did_you_mean(name, names)
            .unwrap_or_else(|| "`saker train --features` writes all there are".to_owned());
        let shown: String = name.chars().take(80).collect();
        format!("`{shown}` is no feature a model can read here; {hint}")
    })
}

/// Each of the file's features among ours, none twice.
fn features<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Vec<u16>, Refused> {
    let mut found = Vec::new();
    for name in names {
        let index = feature(name)?;
        if found.contains(&index) {
            return Err(format!(
                "`{}` stands twice among the features; name each once",
                model_feature(index.into()).name
            ));
        }
        found.push(index);
    }
    Ok(found)
}

/// An error without the middle of what it quotes of a damaged file; its place, at the end, stays.
fn shortened(error: &str) -> String {
    let length = error.chars().count();
    if length <= 200 {
        return error.to_owned();
    }
    let (head, tail): (String, String) =
        (error.chars().take(120).collect(), error.chars().skip(length - 80).collect());
    format!("{head} … {tail}")
}

/// Whether a list of categories, as a data frame had them, numbers them by their own value.
fn is_counted(categories: &[serde_json::Value]) -> bool {
    categories.iter().enumerate().all(|(code, value)| value.as_u64() == Some(code as u64))
}

const RECODED: &str = "its categories are numbered in the order of a data frame, not by their value; train on whole \
                       numbers marked as categorical instead of a pandas `category`";
