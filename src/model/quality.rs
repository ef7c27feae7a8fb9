//! How well scores tell fraud from the rest: measures that depend on the order of the scores alone.

use serde::{Deserialize, Serialize};

/// The measures of one period.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    pub rows: u64,
    pub frauds: u64,
    /// Area under the receiver operating characteristic: how often a fraud scores above a genuine row.
    pub auc: f64,
    /// Mean precision over the frauds found (average precision, the area under precision and recall in steps).
    pub average_precision: f64,
    /// Share of the frauds found while at most 1 % of the genuine rows are declined.
    pub recall_at_1_percent: f64,
    /// The same for 0.1 %.
    pub recall_at_0_1_percent: f64,
}

impl Quality {
    /// Measures scores against what is known; `None` where there is no fraud or nothing else.
    ///
    /// Equal scores are one step: no order among them is made up.
    pub fn measure(scores: &[f64], is_fraud: &[bool]) -> Option<Quality> {
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(is_fraud.iter().copied()).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let frauds = rows.iter().filter(|(_, fraud)| *fraud).count() as f64;
        let genuine = rows.len() as f64 - frauds;
        if frauds == 0.0 || genuine == 0.0 {
            return None;
        }
        let (mut caught, mut alarms) = (0.0, 0.0);
        let (mut area, mut precision) = (0.0, 0.0);
        let (mut at_1_percent, mut at_0_1_percent) = (0.0, 0.0);
        for step in rows.chunk_by(|a, b| a.0 == b.0) {
            let fresh = step.iter().filter(|(_, fraud)| *fraud).count() as f64;
            let wrong = step.len() as f64 - fresh;
            area += wrong * (caught + fresh / 2.0);
            caught += fresh;
            alarms += wrong;
            precision += fresh * caught / (caught + alarms);
            if alarms <= genuine * 0.01 {
                at_1_percent = caught;
            }
            if alarms <= genuine * 0.001 {
                at_0_1_percent = caught;
            }
        }
        Some(Quality {
            rows: rows.len() as u64,
            frauds: frauds as u64,
            auc: area / (frauds * genuine),
            average_precision: precision / frauds,
            recall_at_1_percent: at_1_percent / frauds,
            recall_at_0_1_percent: at_0_1_percent / frauds,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn figures_worked_out_by_hand() {
        // In order: fraud, genuine, fraud, genuine.
        let q = Quality::measure(&[0.9, 0.8, 0.7, 0.1], &[true, false, true, false]).unwrap();
        assert_eq!((q.rows, q.frauds, q.auc), (4, 2, 0.75));
        assert!((q.average_precision - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!((q.recall_at_1_percent, q.recall_at_0_1_percent), (0.5, 0.5));
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order_ties_counting_half() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..50 {
            let rows = rng.random_range(2..60);
            let scores: Vec<f64> = (0..rows).map(|_| f64::from(rng.random_range(0..8))).collect();
            let mut is_fraud: Vec<bool> = (0..rows).map(|_| rng.random_bool(0.3)).collect();
            (is_fraud[0], is_fraud[1]) = (true, false);
            let (mut won, mut pairs) = (0.0, 0.0);
            for a in (0..rows).filter(|r| is_fraud[*r]) {
                for b in (0..rows).filter(|r| !is_fraud[*r]) {
                    pairs += 1.0;
                    won += if scores[a] > scores[b] {
                        1.0
                    } else if scores[a] == scores[b] {
                        0.5
                    } else {
                        0.0
                    };
                }
            }
            let quality = Quality::measure(&scores, &is_fraud).unwrap();
            assert!((quality.auc - won / pairs).abs() < 1e-12);
        }
    }

    #[test]
    fn a_constant_score_is_worth_nothing() {
        let is_fraud: Vec<bool> = (0..1_000).map(|row| row % 100 == 0).collect();
        let q = Quality::measure(&[1.0; 1_000], &is_fraud).unwrap();
        assert_eq!((q.auc, q.recall_at_1_percent), (0.5, 0.0));
        assert!((q.average_precision - 0.01).abs() < 1e-12);
        assert_eq!(Quality::measure(&[1.0], &[true]), None);
        assert_eq!(Quality::measure(&[], &[]), None);
    }
}
