//! What the model expected of the decisions that were labelled, against what they turned out to be, by bands of the score.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{model::Scored, types::lists::FraudLabel};

/// A hundred points of the score each.
pub(super) const BANDS: [&str; 10] = [
    "000-099", "100-199", "200-299", "300-399", "400-499", "500-599", "600-699", "700-799", "800-899",
    "900-999",
];
/// Of which one is one expected fraud: a billion, for sums of the smallest probabilities.
const PARTS: f64 = 1e9;

/// A label of a decision of the model that still scores.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScoreLabelled {
    pub scored: Scored,
    pub label: FraudLabel,
    /// Nothing was said of the transaction before.
    pub is_first: bool,
}

/// Sums by band of the score.
#[derive(Default)]
pub(super) struct Calibration([Band; BANDS.len()]);

#[derive(Default)]
struct Band {
    labelled: AtomicU64,
    observed: AtomicU64,
    /// In billionths.
    expected: AtomicU64,
}

/// What is known of a band.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct BandFigures {
    pub(super) band: &'static str,
    /// Transactions.
    pub(super) labelled: u64,
    /// Frauds among them.
    pub(super) observed: u64,
    /// Frauds that the model expected among them.
    pub(super) expected: f64,
}

impl Calibration {
    /// A label that had not come before for this transaction. A second and other one adds no transaction; a fraud that is
    /// told of late is one, and a fraud that is taken back stays one, because counters do not fall.
    pub(super) fn labelled(&self, labelled: ScoreLabelled) {
        let ScoreLabelled { scored: Scored { margin, score }, label, is_first } = labelled;
        let band = &self.0[usize::from(score / 100).min(BANDS.len() - 1)];
        if is_first {
            // The margin is the log-odds of fraud.
            let probability = 1.0 / (1.0 + (-margin).exp());
            band.labelled.fetch_add(1, Relaxed);
            band.expected.fetch_add((probability * PARTS).round() as u64, Relaxed);
        }
        if label == FraudLabel::Fraud {
            band.observed.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn figures(&self) -> impl Iterator<Item = BandFigures> {
        BANDS.into_iter().zip(&self.0).map(|(band, sums)| BandFigures {
            band,
            labelled: sums.labelled.load(Relaxed),
            observed: sums.observed.load(Relaxed),
            expected: sums.expected.load(Relaxed) as f64 / PARTS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_and_observed_frauds_worked_out_by_hand() {
        let calibration = Calibration::default();
        let say = |margin, score, label, is_first| {
            calibration.labelled(ScoreLabelled { scored: Scored { margin, score }, label, is_first });
        };
        say(0.0, 500, FraudLabel::Fraud, true);
        say(3.0_f64.ln(), 599, FraudLabel::Genuine, true);
        // Told of late, and taken back: the transaction is not expected twice.
        say(3.0_f64.ln(), 599, FraudLabel::Fraud, false);
        say(0.0, 500, FraudLabel::Genuine, false);
        say(-1e4, 0, FraudLabel::Genuine, true);
        say(1e4, 999, FraudLabel::Fraud, true);
        let figures: Vec<BandFigures> = calibration.figures().collect();
        let of = |place: usize| (figures[place].labelled, figures[place].observed, figures[place].expected);
        assert_eq!([of(0), of(5), of(9)], [(1, 0, 0.0), (2, 2, 1.25), (1, 1, 1.0)]);
        assert_eq!(figures.iter().map(|band| band.labelled).sum::<u64>(), 4);
        assert_eq!((figures[0].band, figures[5].band, figures[9].band), ("000-099", "500-599", "900-999"));
    }
}
