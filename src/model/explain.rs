//! Why a score is what it is: the features that moved the margin most towards fraud, in words of the catalogue.

use arrayvec::ArrayVec;

use super::file::Model;
use crate::{
    features::catalog::{MODEL_FEATURES, model_feature},
    limits::CONTRIBUTIONS_MAX,
    types::{
        codes::ReasonSource,
        reasons::{Label, Reason},
    },
};

/// The reasons of one score, the weightiest first.
pub type ModelReasons = ArrayVec<Reason, CONTRIBUTIONS_MAX>;

impl Model {
    /// The features that contributed most to the margin of this row, at most [`CONTRIBUTIONS_MAX`]; only those
    /// that spoke for fraud. Their contributions are path contributions in log-odds (an approximation, see
    /// [`super::forest::Forest::contributions`]).
    pub fn explain(&self, row: &[f32; MODEL_FEATURES]) -> ModelReasons {
        let mut contributions = [0.0; MODEL_FEATURES];
        self.contributions(row, &mut contributions);
        let mut top: ArrayVec<(usize, f64), { CONTRIBUTIONS_MAX + 1 }> = ArrayVec::new();
        for (feature, contribution) in contributions.into_iter().enumerate().filter(|(_, c)| *c > 0.0) {
            let place = top.iter().position(|(_, other)| contribution > *other).unwrap_or(top.len());
            top.insert(place, (feature, contribution));
            top.truncate(CONTRIBUTIONS_MAX);
        }
        top.into_iter().filter_map(|(feature, contribution)| reason(feature, contribution)).collect()
    }
}

fn reason(feature: usize, contribution: f64) -> Option<Reason> {
    let input = model_feature(feature).model.as_ref()?;
    Some(Reason {
        code: Label::Static(input.reason_code),
        source: ReasonSource::Model,
        text: Label::Static(input.reason_text),
        contribution: contribution as f32,
    })
}
