//! XGBoost's JSON, as `save_model` of 1.x to 3.x writes it.
//!
//! XGBoost sends a row left where `x < t`, in 32 bits: that is `x <= t` of the next lower `t`. Of a list of categories
//! the listed ones go right. `base_score` is a probability with binary:logistic and a margin with binary:logitraw.

use serde::Deserialize;
use serde_json::Value;

use super::{Foreign, RECODED, Refused, features, is_counted, shortened};
use crate::{
    limits::MODEL_TREES_MAX,
    model::{
        grow::{Node, Split, Test, grow},
        trees::Tree,
    },
};

#[derive(Deserialize)]
struct File {
    learner: Learner,
    #[serde(default)]
    version: Vec<u64>,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    feature_names: Vec<String>,
    gradient_booster: Booster,
    learner_model_param: Params,
    objective: Objective,
}

#[derive(Deserialize)]
struct Params {
    base_score: String,
    #[serde(default)]
    num_class: String,
    #[serde(default)]
    num_target: Option<String>,
}

#[derive(Deserialize)]
struct Objective {
    name: String,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    #[serde(default)]
    model: Option<Trees>,
}

#[derive(Deserialize)]
struct Trees {
    /// Absent from boosters that are refused.
    #[serde(default)]
    trees: Vec<Raw>,
    #[serde(default)]
    tree_info: Vec<i64>,
    #[serde(default)]
    cats: Option<Cats>,
}

#[derive(Deserialize)]
struct Cats {
    #[serde(default)]
    enc: Vec<Encoding>,
}

#[derive(Deserialize)]
struct Encoding {
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(i64),
}

#[derive(Deserialize)]
struct Raw {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<i64>,
    split_conditions: Vec<f32>,
    default_left: Vec<Flag>,
    sum_hessian: Vec<f32>,
    #[serde(default)]
    split_type: Vec<i64>,
    #[serde(default)]
    categories: Vec<i64>,
    #[serde(default)]
    categories_nodes: Vec<i64>,
    #[serde(default)]
    categories_segments: Vec<i64>,
    #[serde(default)]
    categories_sizes: Vec<i64>,
}

pub(super) fn read(text: &str) -> Result<Foreign, Refused> {
    let File { learner, version } = serde_json::from_str(text).map_err(|error| {
        let error = shortened(&error.to_string());
        format!("this is no XGBoost model: {error}; save it again as JSON")
    })?;
    let objective = learner.objective.name.as_str();
    if !["binary:logistic", "binary:logitraw"].contains(&objective) {
        return Err(format!(
            "its objective is `{objective}`; only binary:logistic and binary:logitraw tell fraud from the rest in \
             log-odds. Train with one of them"
        ));
    }
    if learner.gradient_booster.name != "gbtree" {
        return Err(format!(
            "its booster is `{}`; only gbtree can be used. Train with booster=\"gbtree\"",
            learner.gradient_booster.name
        ));
    }
    let params = &learner.learner_model_param;
    let several = |text: &str| text.parse::<u64>().map_or(!text.is_empty(), |classes| classes > 1);
    if several(&params.num_class) || params.num_target.as_deref().is_some_and(several) {
        return Err(
            "it tells more than two classes or several targets apart; train one binary target".to_owned()
        );
    }
    if learner.feature_names.is_empty() {
        return Err("it has no feature names; train on a DMatrix with feature_names".to_owned());
    }
    let features = features(learner.feature_names.iter().map(String::as_str))?;
    let model = learner.gradient_booster.model.ok_or("it has no trees; save it again as JSON")?;
    if model.trees.len() > MODEL_TREES_MAX {
        return Err(format!("it has {} trees; at most {MODEL_TREES_MAX} can be used", model.trees.len()));
    }
    if model.tree_info.iter().any(|class| *class != 0) {
        return Err("its trees belong to several classes; train one binary target".to_owned());
    }
    let encodings = model.cats.map(|cats| cats.enc).unwrap_or_default();
    let recoded: Vec<bool> = encodings.iter().map(|encoding| !is_counted(&encoding.values)).collect();
    let trees =
        model.trees.iter().enumerate().map(|(number, raw)| {
            raw.tree(&features, &recoded).map_err(|why| format!("tree {number}: {why}"))
        });
    let version: Vec<String> = version.iter().take(3).map(u64::to_string).collect();
    Ok(Foreign {
        algorithm: format!("XGBoost {} ({objective}), imported", version.join(".")),
        trees: trees.collect::<Result<_, _>>()?,
        bias: bias(&params.base_score, objective)?,
        scale: 1.0,
        adds_in_f32: true,
    })
}

/// The log-odds of the base score, which is written `5E-1`, and `[5E-1]` since 3.0: a probability, but with
/// binary:logitraw a margin.
fn bias(written: &str, objective: &str) -> Result<f64, Refused> {
    let number = written.trim().trim_start_matches('[').trim_end_matches(']');
    match (number.parse::<f32>(), objective) {
        (Ok(margin), "binary:logitraw") if margin.is_finite() => Ok(f64::from(margin)),
        (Ok(share), "binary:logistic") if share > 0.0 && share < 1.0 => {
            Ok(-(1.0 / f64::from(share) - 1.0).ln())
        }
        _ => Err(format!(
            "its base_score `{number:.40}` is not possible with {objective}; save the model again"
        )),
    }
}

impl Raw {
    fn tree(&self, features: &[u16], recoded: &[bool]) -> Result<Tree, Refused> {
        let nodes = self.left_children.len();
        let lengths = [
            self.right_children.len(),
            self.split_indices.len(),
            self.split_conditions.len(),
            self.default_left.len(),
            self.sum_hessian.len(),
        ];
        if lengths.iter().any(|length| *length != nodes) || ![0, nodes].contains(&self.split_type.len()) {
            return Err(
                "its arrays differ in length (a tree with several outputs is not supported); save it again"
                    .to_owned(),
            );
        }
        grow(0, nodes, self.categories.len(), |number| self.node(*number, features, recoded))
    }

    fn node(&self, number: i64, features: &[u16], recoded: &[bool]) -> Result<Node<i64>, String> {
        let at = usize::try_from(number).ok().filter(|at| *at < self.left_children.len());
        let at = at.ok_or("there is no such node; the file is damaged, save it again")?;
        let (condition, cover) = (self.split_conditions[at], self.sum_hessian[at]);
        let (left, right) = (self.left_children[at], self.right_children[at]);
        if left == -1 && right == -1 {
            return Ok(Node::Leaf { value: f64::from(condition), cover });
        }
        let theirs = usize::try_from(self.split_indices[at]).unwrap_or(usize::MAX);
        let feature = *features.get(theirs).ok_or_else(|| {
            format!(
                "it reads feature {}, the file names {}; save it again",
                self.split_indices[at],
                features.len()
            )
        })?;
        let test = match self.split_type.get(at).copied().unwrap_or(0) {
            0 => Test::UpTo(condition.next_down()),
            1 if recoded.get(theirs).is_some_and(|recoded| *recoded) => return Err(RECODED.to_owned()),
            1 => Test::Category { listed_left: false, listed: self.listed(number)? },
            other => return Err(format!("its split_type is {other}; 0 and 1 are known")),
        };
        let missing_left = match self.default_left[at] {
            Flag::Bool(left) => left,
            Flag::Number(left) => left != 0,
        };
        Ok(Node::Split(Split { feature, test, missing_left, zero_missing: false, left, right, cover }))
    }

    /// The categories a node lists.
    fn listed(&self, number: i64) -> Result<Vec<u32>, String> {
        let damaged = || "its list of categories is not in the file; save it again".to_owned();
        let place = self.categories_nodes.binary_search(&number).map_err(|_| damaged())?;
        let number = |numbers: &[i64]| numbers.get(place).and_then(|number| usize::try_from(*number).ok());
        let from = number(&self.categories_segments).ok_or_else(damaged)?;
        let size = number(&self.categories_sizes).ok_or_else(damaged)?;
        let to = from.checked_add(size).ok_or_else(damaged)?;
        let listed = self.categories.get(from..to).ok_or_else(damaged)?;
        let mut listed: Vec<u32> = listed
            .iter()
            .map(|category| u32::try_from(*category))
            .collect::<Result<_, _>>()
            .map_err(|_| damaged())?;
        listed.sort_unstable();
        listed.dedup();
        Ok(listed)
    }
}
