//! The straight part of a model: weights times features, as logistic regression learns them.

use crate::features::catalog::MODEL_FEATURES;

/// One feature's part: `weight * (x - centre)`, nothing where the value is missing.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    pub feature: u16,
    /// Log-odds for each unit of the feature.
    pub weight: f64,
    /// The feature's mean over the training rows.
    pub centre: f64,
    /// A value below this, or above `high`, counts as this.
    pub low: f64,
    pub high: f64,
}

impl Term {
    /// What the feature adds to the margin of this row.
    ///
    /// # Panics
    /// Where there is no such feature, or the bounds are the wrong way round; [`check`] finds both.
    #[inline]
    pub fn of(&self, row: &[f32; MODEL_FEATURES]) -> f64 {
        let x = row[usize::from(self.feature)];
        if x.is_nan() { 0.0 } else { self.weight * (f64::from(x).clamp(self.low, self.high) - self.centre) }
    }
}

/// Whether these terms can be scored: features among the first `features`, in rising order, and finite numbers.
///
/// # Errors
/// Says which term is wrong.
pub(super) fn check(terms: &[Term], features: usize) -> Result<(), String> {
    for (number, term) in terms.iter().enumerate() {
        if usize::from(term.feature) >= features {
            return Err(format!("term {number}: there is no such feature"));
        }
        if [term.weight, term.centre, term.low, term.high].iter().any(|x| !x.is_finite()) {
            return Err(format!("term {number}: a number is not finite"));
        }
        if term.low > term.high {
            return Err(format!("term {number}: its lower bound is above the upper one"));
        }
    }
    match terms.is_sorted_by(|a, b| a.feature < b.feature) {
        true => Ok(()),
        false => Err("the terms do not name their features in rising order".to_owned()),
    }
}
