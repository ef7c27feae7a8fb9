//! From log-odds of fraud to the score of the wire.

use super::file::SCORE_MAX;

/// The margins from which on the score is 1 to 999. The score is linear in the log-odds: from odds of one to 3,000
/// (0) over even odds (500) to 3,000 to one (999). Log-odds are `slope * margin + intercept`.
pub(super) fn score_table(slope: f64, intercept: f64) -> Vec<f32> {
    const LOG_ODDS_MAX: f64 = 8.0;
    let scores = f64::from(SCORE_MAX);
    (1..=SCORE_MAX)
        .map(|score| {
            let log_odds = LOG_ODDS_MAX * (2.0 * (f64::from(score) - 0.5) / scores - 1.0);
            ((log_odds - intercept) / slope) as f32
        })
        .collect()
}
