//! LightGBM's text, as `save_model` writes it.
//!
//! LightGBM compares `x <= t` in 64 bits; our rows have 32, so that rounding `t` down to 32 bits changes no decision.
//! Of a list of categories the listed ones go left, and what is missing goes right.

use std::{collections::HashMap, str::FromStr};

use super::{Foreign, RECODED, Refused, features, is_counted, shortened};
use crate::{
    limits::{MODEL_CATEGORIES_MAX, MODEL_TREE_NODES_MAX, MODEL_TREES_MAX},
    model::{
        grow::{Node, Split, Test, grow, not_above},
        trees::Tree,
    },
};

type Fields<'t> = HashMap<&'t str, &'t str>;

/// Bits of `decision_type`; the two above them say what is missing.
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 1 << 1;

pub(super) fn read(text: &str) -> Result<Foreign, Refused> {
    let mut head = Fields::new();
    let mut blocks: Vec<Fields> = Vec::new();
    let mut ended = false;
    for line in text.lines().map(str::trim) {
        if let Some(categories) = line.strip_prefix("pandas_categorical:") {
            check_categories(categories)?;
        }
        ended |= line == "end of trees";
        let Some((name, value)) = line.split_once('=').filter(|_| !ended) else {
            if line == "average_output" {
                return Err(
                    "it is a random forest, which averages its trees; train with boosting=gbdt".to_owned()
                );
            }
            continue;
        };
        if name == "Tree" {
            if blocks.len() == MODEL_TREES_MAX {
                return Err(format!("it has more than {MODEL_TREES_MAX} trees; train fewer"));
            }
            blocks.push(Fields::new());
        }
        blocks.last_mut().unwrap_or(&mut head).insert(name, value);
    }
    if !ended {
        return Err("the file breaks off before `end of trees`; save the model again".to_owned());
    }
    for name in ["num_class", "num_tree_per_iteration"] {
        if head.get(name).is_some_and(|number| *number != "1") {
            return Err(format!(
                "`{name}` is not 1: it tells several classes apart; train with objective=binary"
            ));
        }
    }
    let version = head.get("version").copied().unwrap_or("");
    if !["v3", "v4"].contains(&version) {
        return Err(format!(
            "its version is `{version:.20}`; v3 and v4 are known. Save it with LightGBM 3 or 4"
        ));
    }
    let scale = sigmoid(head.get("objective").copied().unwrap_or(""))?;
    let features = features(head.get("feature_names").copied().unwrap_or("").split_whitespace())?;
    let trees = blocks.iter().enumerate().map(|(number, fields)| {
        let raw = Raw::read(fields).and_then(|raw| raw.tree(&features, scale));
        raw.map_err(|why| format!("tree {number}: {why}"))
    });
    Ok(Foreign {
        algorithm: format!("LightGBM {version} (binary), imported"),
        trees: trees.collect::<Result<_, _>>()?,
        bias: 0.0,
        scale,
        adds_in_f32: false,
    })
}

/// Log-odds are the raw margin times this.
fn sigmoid(objective: &str) -> Result<f64, Refused> {
    let mut words = objective.split_whitespace();
    if words.next() != Some("binary") {
        return Err(format!("its objective is `{objective:.40}`; train with objective=binary"));
    }
    let sigmoid = words.find_map(|word| word.strip_prefix("sigmoid:")).unwrap_or("1");
    let number = sigmoid.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| format!("its sigmoid `{sigmoid:.40}` is no number above 0; save the model again"))
}

fn check_categories(written: &str) -> Result<(), Refused> {
    let lists: Option<Vec<Vec<serde_json::Value>>> =
        serde_json::from_str(written.trim()).map_err(|error| {
            format!(
                "`pandas_categorical` cannot be read: {}; save the model again",
                shortened(&error.to_string())
            )
        })?;
    match lists.unwrap_or_default().iter().all(|list| is_counted(list)) {
        true => Ok(()),
        false => Err(format!("`pandas_categorical`: {RECODED}")),
    }
}

struct Raw {
    feature: Vec<usize>,
    threshold: Vec<f64>,
    decision: Vec<u8>,
    left: Vec<i64>,
    right: Vec<i64>,
    leaf: Vec<f64>,
    leaf_count: Vec<f32>,
    internal_count: Vec<f32>,
    boundaries: Vec<usize>,
    bits: Vec<u32>,
}

/// The numbers of a field, which are no more than `most`.
fn numbers<T: FromStr>(fields: &Fields, name: &str, most: usize) -> Result<Vec<T>, String> {
    let words = fields.get(name).copied().unwrap_or("").split_whitespace();
    let mut numbers = Vec::new();
    for word in words {
        if numbers.len() == most {
            return Err(format!("`{name}` has more than {most} numbers; train smaller trees"));
        }
        numbers.push(
            word.parse().map_err(|_| format!("`{name}`: `{word:.40}` is no such number; save it again"))?,
        );
    }
    Ok(numbers)
}

impl Raw {
    fn read(fields: &Fields) -> Result<Raw, String> {
        if fields.get("is_linear").is_some_and(|linear| *linear != "0") {
            return Err("its leaves are straight lines; train with linear_tree=false".to_owned());
        }
        let most = MODEL_TREE_NODES_MAX;
        let raw = Raw {
            feature: numbers(fields, "split_feature", most)?,
            threshold: numbers(fields, "threshold", most)?,
            decision: numbers(fields, "decision_type", most)?,
            left: numbers(fields, "left_child", most)?,
            right: numbers(fields, "right_child", most)?,
            leaf: numbers(fields, "leaf_value", most)?,
            leaf_count: numbers(fields, "leaf_count", most)?,
            internal_count: numbers(fields, "internal_count", most)?,
            boundaries: numbers(fields, "cat_boundaries", most + 1)?,
            bits: numbers(fields, "cat_threshold", most * MODEL_CATEGORIES_MAX / 32)?,
        };
        let splits = raw.feature.len();
        let lengths = [raw.threshold.len(), raw.decision.len(), raw.left.len(), raw.right.len()];
        let is_odd = lengths.iter().any(|length| *length != splits) || raw.leaf.len() != splits + 1;
        match is_odd
            || (splits > 0 && (raw.leaf_count.len(), raw.internal_count.len()) != (splits + 1, splits))
        {
            true => Err("its fields differ in length; save the model again".to_owned()),
            false => Ok(raw),
        }
    }

    fn tree(&self, features: &[u16], scale: f64) -> Result<Tree, Refused> {
        let root = if self.feature.is_empty() { !0 } else { 0 };
        let listed_most = self.bits.len() * 32;
        grow(root, self.feature.len() + self.leaf.len(), listed_most, |number| {
            self.node(*number, features, scale)
        })
    }

    /// Leaves are numbered from -1 down.
    fn node(&self, number: i64, features: &[u16], scale: f64) -> Result<Node<i64>, String> {
        let place = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        let missing = "there is no such node; the file is damaged, save it again";
        if number < 0 {
            let value = self.leaf.get(place(!number)).ok_or(missing)? * scale;
            let cover = self.leaf_count.get(place(!number)).copied().unwrap_or(0.0);
            return Ok(Node::Leaf { value, cover });
        }
        let at = place(number);
        let theirs = *self.feature.get(at).ok_or(missing)?;
        let feature = *features.get(theirs).ok_or_else(|| {
            format!("it reads feature {theirs}, the file names {}; save it again", features.len())
        })?;
        let (threshold, decision) = (self.threshold[at], self.decision[at]);
        let default_left = decision & DEFAULT_LEFT != 0;
        let (test, missing_left, zero_missing) = match (decision & CATEGORICAL != 0, decision >> 2) {
            (true, _) => {
                (Test::Category { listed_left: true, listed: self.listed(threshold)? }, false, false)
            }
            // Where nothing was missing in training, what is missing counts as 0.
            (false, 0) => (Test::UpTo(down(threshold)?), threshold >= 0.0, false),
            (false, 1) => (Test::UpTo(down(threshold)?), default_left, true),
            (false, 2) => (Test::UpTo(down(threshold)?), default_left, false),
            _ => return Err(format!("its decision_type {decision} is not known; save it again")),
        };
        let (left, right, cover) = (self.left[at], self.right[at], self.internal_count[at]);
        Ok(Node::Split(Split { feature, test, missing_left, zero_missing, left, right, cover }))
    }

    /// The categories of a node, whose threshold numbers its set of bits.
    fn listed(&self, threshold: f64) -> Result<Vec<u32>, String> {
        let damaged = || "its list of categories is not in the file; save it again".to_owned();
        // A negative number or NaN becomes 0, which is still looked up within bounds.
        let set = threshold as usize;
        let from = *self.boundaries.get(set).ok_or_else(damaged)?;
        let to = *set.checked_add(1).and_then(|next| self.boundaries.get(next)).ok_or_else(damaged)?;
        let words = self.bits.get(from..to).ok_or_else(damaged)?;
        if words.len() > MODEL_CATEGORIES_MAX / 32 {
            return Err(format!("it has a category above {}; use smaller numbers", MODEL_CATEGORIES_MAX - 1));
        }
        let bits = |(word, bits): (usize, &u32)| {
            let bits = *bits;
            (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word as u32 * 32 + bit)
        };
        Ok(words.iter().enumerate().flat_map(bits).collect())
    }
}

/// The highest 32-bit number that is not above this one.
fn down(threshold: f64) -> Result<f32, String> {
    if threshold.is_nan() {
        return Err("its threshold is no number; save the model again".to_owned());
    }
    // Splits by what is missing alone have an infinite threshold; no value of a row is.
    Ok(not_above(threshold).clamp(f32::MIN, f32::MAX))
}
