//! What the model alone would do at each threshold of its score.

use super::volume::share;

/// Scores are below this.
const SCORES: usize = 1_000;

/// Labelled decisions by score.
pub(super) struct Thresholds {
    fraud: Vec<u64>,
    genuine: Vec<u64>,
}

/// What declining at and above a score comes to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Threshold {
    pub(super) score: u16,
    /// Share of the fraud declined.
    pub(super) recall: f64,
    /// Share of fraud among what is declined.
    pub(super) precision: f64,
    /// Share of the genuine transactions declined.
    pub(super) false_positive_rate: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { fraud: vec![0; SCORES], genuine: vec![0; SCORES] }
    }
}

impl Thresholds {
    pub(super) fn add(&mut self, score: u16, is_fraud: bool) {
        let place = usize::from(score).min(SCORES - 1);
        let counts = if is_fraud { &mut self.fraud } else { &mut self.genuine };
        counts[place] += 1;
    }

    /// Scores that labelled decisions had, with how many frauds and genuine ones had them.
    pub(super) fn counts(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let both = self.fraud.iter().zip(&self.genuine).enumerate();
        both.map(|(score, (fraud, genuine))| (score, *fraud, *genuine)).filter(|(_, f, g)| f + g > 0)
    }

    /// From the highest score down; none without both kinds of label.
    pub(super) fn curve(&self) -> Vec<Threshold> {
        let (frauds, genuines) = (self.fraud.iter().sum(), self.genuine.iter().sum());
        let (mut caught, mut wronged) = (0, 0);
        let mut curve = Vec::new();
        let counts: Vec<_> = self.counts().collect();
        for (score, fraud, genuine) in counts.into_iter().rev() {
            (caught, wronged) = (caught + fraud, wronged + genuine);
            if let (Some(recall), Some(rate)) = (share(caught, frauds), share(wronged, genuines)) {
                let precision = share(caught, caught + wronged).unwrap_or_default();
                let score = score as u16;
                curve.push(Threshold { score, recall, precision, false_positive_rate: rate });
            }
        }
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_declines_its_own_score_and_all_above() {
        let mut thresholds = Thresholds::default();
        for (score, is_fraud) in [(900, true), (900, false), (500, true), (10, false), (9_999, true)] {
            thresholds.add(score, is_fraud);
        }
        let curve = thresholds.curve();
        let of = |at: usize| {
            (curve[at].score, curve[at].recall, curve[at].precision, curve[at].false_positive_rate)
        };
        assert_eq!(of(0), (999, 1.0 / 3.0, 1.0, 0.0));
        assert_eq!(of(1), (900, 2.0 / 3.0, 2.0 / 3.0, 0.5));
        assert_eq!(of(3), (10, 1.0, 0.6, 1.0));
        assert_eq!(Thresholds::default().curve(), []);
    }
}
