//! How well scores tell fraud from the rest: measures that depend on the order of the scores alone.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
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
    /// Measures scores against what is known; `None` where there is no fraud or nothing else. Each genuine row stands
    /// for `genuine_weight` rows, and counts as so many.
    ///
    /// Equal scores are one step: no order among them is made up.
    pub fn measure(scores: &[f64], is_fraud: &[bool], genuine_weight: f64) -> Option<Quality> {
        let rows = scores.iter().zip(is_fraud);
        Quality::of_rows(
            rows.map(|(score, fraud)| (*score, *fraud, if *fraud { 1.0 } else { genuine_weight })).collect(),
        )
    }

    /// Score, label and how often the row counts.
    fn of_rows(mut rows: Vec<(f64, bool, f64)>) -> Option<Quality> {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        Quality::of_sorted(&rows)
    }

    /// The same, the highest score first.
    fn of_sorted(rows: &[(f64, bool, f64)]) -> Option<Quality> {
        let (mut frauds, mut genuine) = (0.0, 0.0);
        rows.iter()
            .for_each(|(_, fraud, weight)| *(if *fraud { &mut frauds } else { &mut genuine }) += weight);
        if frauds == 0.0 || genuine == 0.0 {
            return None;
        }
        let (mut caught, mut alarms) = (0.0, 0.0);
        let (mut area, mut precision) = (0.0, 0.0);
        let (mut at_1_percent, mut at_0_1_percent) = (0.0, 0.0);
        for step in rows.chunk_by(|a, b| a.0 == b.0) {
            let (mut fresh, mut wrong) = (0.0, 0.0);
            step.iter()
                .for_each(|(_, fraud, weight)| *(if *fraud { &mut fresh } else { &mut wrong }) += weight);
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
            rows: (frauds + genuine) as u64,
            frauds: frauds as u64,
            auc: area / (frauds * genuine),
            average_precision: precision / frauds,
            recall_at_1_percent: at_1_percent / frauds,
            recall_at_0_1_percent: at_0_1_percent / frauds,
        })
    }
}

/// Where the measures lie in 95 of 100 samples of as many accounts.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    pub auc: (f64, f64),
    pub average_precision: (f64, f64),
    pub recall_at_1_percent: (f64, f64),
    pub recall_at_0_1_percent: (f64, f64),
}

/// How often accounts are drawn.
const SAMPLES: usize = 200;

impl Intervals {
    /// Draws whole accounts, as many as there are and with replacement (B. Efron, "Bootstrap methods", Annals of
    /// Statistics 7, 1979), since what happens to one account is not independent: the 2.5th and 97.5th percentiles of the
    /// measures. `None` where there is no fraud or nothing else.
    pub fn measure(
        scores: &[f64],
        is_fraud: &[bool],
        account: &[u32],
        genuine_weight: f64,
        seed: u64,
    ) -> Option<Intervals> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut accounts = account.to_vec();
        accounts.sort_unstable();
        accounts.dedup();
        let place: Vec<usize> =
            account.iter().map(|a| accounts.binary_search(a).unwrap_or_default()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut measures: [Vec<f64>; 4] = Default::default();
        for _ in 0..SAMPLES {
            let mut drawn = vec![0.0; accounts.len()];
            for _ in 0..accounts.len() {
                drawn[rng.random_range(0..accounts.len())] += 1.0;
            }
            let rows = order.iter().filter(|row| drawn[place[**row]] > 0.0).map(|row| {
                let weight = if is_fraud[*row] { 1.0 } else { genuine_weight };
                (scores[*row], is_fraud[*row], weight * drawn[place[*row]])
            });
            let Some(quality) = Quality::of_sorted(&rows.collect::<Vec<_>>()) else { continue };
            let Quality { auc, average_precision, recall_at_1_percent, recall_at_0_1_percent, .. } = quality;
            for (kept, measure) in
                measures.iter_mut().zip([auc, average_precision, recall_at_1_percent, recall_at_0_1_percent])
            {
                kept.push(measure);
            }
        }
        let [auc, average_precision, recall_at_1_percent, recall_at_0_1_percent] = measures.map(middle);
        Some(Intervals {
            auc: auc?,
            average_precision: average_precision?,
            recall_at_1_percent: recall_at_1_percent?,
            recall_at_0_1_percent: recall_at_0_1_percent?,
        })
    }
}

/// The 2.5th and the 97.5th percentile.
fn middle(mut measures: Vec<f64>) -> Option<(f64, f64)> {
    measures.sort_by(f64::total_cmp);
    let at = |share: f64| measures.get((share * measures.len() as f64) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_worked_out_by_hand() {
        // In order: fraud, genuine, fraud, genuine.
        let q = Quality::measure(&[0.9, 0.8, 0.7, 0.1], &[true, false, true, false], 1.0).unwrap();
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
            let quality = Quality::measure(&scores, &is_fraud, 1.0).unwrap();
            assert!((quality.auc - won / pairs).abs() < 1e-12);
        }
    }

    #[test]
    fn a_constant_score_is_worth_nothing() {
        let is_fraud: Vec<bool> = (0..1_000).map(|row| row % 100 == 0).collect();
        let q = Quality::measure(&[1.0; 1_000], &is_fraud, 1.0).unwrap();
        assert_eq!((q.auc, q.recall_at_1_percent), (0.5, 0.0));
        assert!((q.average_precision - 0.01).abs() < 1e-12);
        assert_eq!(Quality::measure(&[1.0], &[true], 1.0), None);
        assert_eq!(Quality::measure(&[], &[], 1.0), None);
    }
    #[test]
    fn a_genuine_row_that_stands_for_three_counts_as_three_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let rows: Vec<(f64, bool)> =
            (0..400).map(|_| (f64::from(rng.random_range(0..50)), rng.random_bool(0.2))).collect();
        let thrice = rows.iter().flat_map(|row| std::iter::repeat_n(*row, if row.1 { 1 } else { 3 }));
        let (scores, labels): (Vec<f64>, Vec<bool>) = thrice.unzip();
        let expected = Quality::measure(&scores, &labels, 1.0).unwrap();
        let (scores, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        let weighted = Quality::measure(&scores, &labels, 3.0).unwrap();
        assert_eq!((weighted.rows, weighted.frauds), (expected.rows, expected.frauds));
        assert!((weighted.auc - expected.auc).abs() < 1e-12);
        assert!((weighted.average_precision - expected.average_precision).abs() < 1e-12);
        assert_eq!(weighted.recall_at_1_percent, expected.recall_at_1_percent);
    }

    #[test]
    fn intervals_hold_the_measure_and_are_wider_where_frauds_come_by_account() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut width = |accounts: u32| {
            let (mut scores, mut labels, mut owners) = (Vec::new(), Vec::new(), Vec::new());
            // Every account has its own luck: its frauds are all seen well or all badly.
            for account in 0..accounts {
                let seen = rng.random_range(0.0..2.0);
                for _ in 0..4_000 / accounts {
                    let fraud = rng.random_bool(0.1);
                    scores.push(rng.random::<f64>() + if fraud { seen } else { 0.0 });
                    labels.push(fraud);
                    owners.push(account);
                }
            }
            let quality = Quality::measure(&scores, &labels, 1.0).unwrap();
            let intervals = Intervals::measure(&scores, &labels, &owners, 1.0, 1).unwrap();
            let (low, high) = intervals.average_precision;
            assert!((low..=high).contains(&quality.average_precision), "{quality:?} {intervals:?}");
            high - low
        };
        assert!(width(10) > 1.5 * width(2_000));
    }
}
