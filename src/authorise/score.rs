//! Stage 5: what the models make of a row.
//!
//! A model is checked whole when it is loaded, so that every row has a score. One thing is left: leaves so large that their
//! sum is no number. Then the decision is made by rules alone and says so.

use std::sync::Arc;

use super::setup::Setup;
use crate::{
    features::catalog::MODEL_FEATURES,
    model::{Model, Scored},
    types::{
        auth::Degraded,
        challenge::{Challenged, Declining},
    },
};

/// A model that scores every request and decides none.
#[derive(Clone, Debug)]
pub struct Challenger {
    pub model: Arc<Model>,
    /// Under which the journal has its version.
    pub number: u32,
}

/// What came of a row. Nothing, where nothing was scored.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Scoring {
    pub scored: Option<Scored>,
    pub challenged: Option<Challenged>,
    /// The model, where it should have scored and could not.
    pub degraded: Degraded,
}

impl Setup {
    /// Scores a row by both models. Allocates nothing.
    pub fn score(&self, row: &[f32; MODEL_FEATURES]) -> Scoring {
        let scored = self.model.as_ref().and_then(|model| usable(model, row));
        let degraded = match self.model.is_some() && scored.is_none() {
            true => Degraded::MODEL,
            false => Degraded::NONE,
        };
        let declines = |model: &Model, scored: Scored| scored.score >= model.decline_threshold();
        let challenged = self.challenger.as_ref().and_then(|Challenger { model, number }| {
            let challenging = usable(model, row)?;
            let champion = self.model.as_deref().zip(scored);
            let champion = champion.is_some_and(|(model, scored)| declines(model, scored));
            Some(Challenged {
                number: *number,
                margin: challenging.margin,
                score: challenging.score,
                declining: Declining::of(champion, declines(model, challenging)),
            })
        });
        Scoring { scored, challenged, degraded }
    }
}

fn usable(model: &Model, row: &[f32; MODEL_FEATURES]) -> Option<Scored> {
    Some(model.score(row)).filter(|scored| scored.margin.is_finite())
}
