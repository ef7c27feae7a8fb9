//! What the model's declines rest on: exact Shapley values of a sample of the rows at or above its threshold.

use crate::{
    engine::recover::Source,
    features::catalog::{Entry, MODEL_FEATURES, model_feature},
    model::{ModelError, shap::Explainer},
};

/// Rows that are kept at most; fewer than half of them only where there are no more.
const SAMPLE_MAX: usize = 2_000;

/// A sample of the rows that the model would decline, and what explains them.
pub(super) struct Weights {
    explainer: Explainer,
    rows: Vec<[f32; MODEL_FEATURES]>,
    /// Of so many rows one is kept.
    step: u64,
    seen: u64,
}

/// What one feature weighs, over the sample, in log-odds.
pub(super) struct Weight {
    pub(super) feature: &'static Entry,
    /// Mean of the absolute values.
    pub(super) absolute: f64,
    /// Mean: above 0 where it speaks for fraud.
    pub(super) towards_fraud: f64,
}

/// What the model's declines rest on.
pub(super) struct Weighed {
    /// Rows that the weights are of.
    pub(super) sampled: usize,
    /// Rows at or above the threshold.
    pub(super) declined: u64,
    /// The features that weigh anything, the heaviest first.
    pub(super) heaviest: Vec<Weight>,
}

impl Weights {
    /// # Errors
    /// Where the model cannot be read.
    pub(super) fn new(model: &Source) -> Result<Weights, ModelError> {
        let explainer = Explainer::load(&model.text)?;
        Ok(Weights { explainer, rows: Vec::new(), step: 1, seen: 0 })
    }

    /// Takes a row and its score. Those that are kept lie at even steps, the same in every run.
    pub(super) fn take(&mut self, row: &[f32; MODEL_FEATURES], score: u16) {
        if score < self.explainer.model().decline_threshold() {
            return;
        }
        if self.seen.is_multiple_of(self.step) {
            self.rows.push(*row);
        }
        self.seen += 1;
        if self.rows.len() > SAMPLE_MAX {
            let mut is_kept = false;
            self.rows.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.step *= 2;
        }
    }

    /// What the rows that were taken say. It explains each of them, which takes a while.
    pub(super) fn weigh(&self) -> Weighed {
        Weighed { sampled: self.rows.len(), declined: self.seen, heaviest: self.heaviest() }
    }

    fn heaviest(&self) -> Vec<Weight> {
        let mut sums = [(0.0, 0.0); MODEL_FEATURES];
        for row in &self.rows {
            for ((absolute, signed), value) in sums.iter_mut().zip(self.explainer.values(row)) {
                *absolute += value.abs();
                *signed += value;
            }
        }
        let rows = self.rows.len() as f64;
        let weights = sums.into_iter().enumerate().filter(|(_, (absolute, _))| *absolute > 0.0);
        let weight = |(feature, (absolute, signed)): (usize, (f64, f64))| Weight {
            feature: model_feature(feature),
            absolute: absolute / rows,
            towards_fraud: signed / rows,
        };
        let mut weights: Vec<Weight> = weights.map(weight).collect();
        weights.sort_by(|a, b| b.absolute.total_cmp(&a.absolute));
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Weights {
        let text = include_str!("../../../models/default.json").to_owned();
        Weights::new(&Source { name: "default.json".to_owned(), text }).unwrap()
    }

    #[test]
    fn a_sample_is_bounded_spread_evenly_and_of_declined_rows_alone() {
        let mut weights = shipped();
        let threshold = weights.explainer.model().decline_threshold();
        let all = 9 * SAMPLE_MAX;
        for number in 0..all {
            weights.take(&[number as f32; MODEL_FEATURES], threshold);
            weights.take(&[-1.0; MODEL_FEATURES], threshold - 1);
        }
        assert_eq!(weights.seen, all as u64);
        assert!((SAMPLE_MAX / 2..=SAMPLE_MAX).contains(&weights.rows.len()), "{}", weights.rows.len());
        let firsts: Vec<f32> = weights.rows.iter().map(|row| row[0]).collect();
        let step = firsts[1] - firsts[0];
        assert!(step > 1.0 && firsts.windows(2).all(|pair| pair[1] - pair[0] == step), "{firsts:?}");
    }

    #[test]
    fn weights_are_those_of_the_rows_and_add_up_to_their_margins() {
        let mut weights = shipped();
        assert!(weights.weigh().heaviest.is_empty());
        let rows = [[f32::NAN; MODEL_FEATURES], [500.0; MODEL_FEATURES]];
        rows.iter().for_each(|row| weights.take(row, 999));
        let Weighed { sampled, declined, heaviest } = weights.weigh();
        assert_eq!((sampled, declined), (2, 2));
        let told: f64 = heaviest.iter().map(|weight| weight.towards_fraud).sum();
        let model = weights.explainer.model();
        let margins = rows.iter().map(|row| model.score(row).margin).sum::<f64>() / 2.0;
        assert!((told + weights.explainer.expected() - margins).abs() < 1e-6, "{told} {margins}");
        assert!(heaviest.is_sorted_by(|a, b| a.absolute >= b.absolute));
    }
}
