//! From whatever an algorithm learned to log-odds of fraud.

/// Slope and intercept that turn a margin into log-odds of fraud, by logistic regression on the margins with
/// J. Platt's smoothed targets ("Probabilistic outputs for support vector machines", 1999); a genuine row counts
/// `genuine_weight` times. `None` where higher margins do not mean more fraud.
pub(super) fn calibrate(margins: &[f64], is_fraud: &[bool], genuine_weight: f64) -> Option<(f64, f64)> {
    let frauds = is_fraud.iter().filter(|fraud| **fraud).count() as f64;
    let genuine = (is_fraud.len() as f64 - frauds) * genuine_weight;
    let (yes, no) = ((frauds + 1.0) / (frauds + 2.0), 1.0 / (genuine + 2.0));
    // On a scale of their own, so that margins of any size are a well-posed problem.
    let count = margins.len() as f64;
    let mean = margins.iter().sum::<f64>() / count;
    let deviation = (margins.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / count).sqrt();
    if !(deviation.is_finite() && deviation > 0.0) {
        return None;
    }
    let (mut slope, mut intercept) = (1.0, (frauds / genuine).ln());
    for _ in 0..200 {
        // A touch of ridge keeps the matrix of second derivatives invertible.
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
        for (margin, fraud) in margins.iter().zip(is_fraud) {
            let margin = (margin - mean) / deviation;
            let chance = 1.0 / (1.0 + (-(slope * margin + intercept)).exp());
            let (target, rows) = if *fraud { (yes, 1.0) } else { (no, genuine_weight) };
            let miss = rows * (chance - target);
            let weight = rows * chance * (1.0 - chance);
            ga += miss * margin;
            gb += miss;
            haa += weight * margin * margin;
            hab += weight * margin;
            hbb += weight;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // Far from the optimum a full step may overshoot.
        let shrink = 1.0 / (1.0_f64).max(da.abs().max(db.abs()));
        slope -= da * shrink;
        intercept -= db * shrink;
        if da.abs() + db.abs() < 1e-10 {
            break;
        }
    }
    let (slope, intercept) = (slope / deviation, intercept - slope * mean / deviation);
    (slope.is_finite() && intercept.is_finite() && slope > 1e-9).then_some((slope, intercept))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn calibration_finds_the_log_odds_it_was_made_with() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let margins: Vec<f64> = (0..40_000).map(|_| rng.random_range(-6.0..3.0)).collect();
        let is_fraud: Vec<bool> =
            margins.iter().map(|m| rng.random_bool(1.0 / (1.0 + (-(1.7 * m - 0.4)).exp()))).collect();
        let (slope, intercept) = calibrate(&margins, &is_fraud, 1.0).unwrap();
        assert!((slope - 1.7).abs() < 0.1 && (intercept + 0.4).abs() < 0.1, "{slope} {intercept}");
        // Every genuine row twice: the odds of fraud are half of that.
        let (_, halved) = calibrate(&margins, &is_fraud, 2.0).unwrap();
        assert!((halved - (intercept - 2.0_f64.ln())).abs() < 0.1, "{halved}");
        // A score between 0 and 1, as a forest gives, has a slope all the same.
        let small: Vec<f64> = margins.iter().map(|m| 0.001 * m + 0.5).collect();
        let (small_slope, _) = calibrate(&small, &is_fraud, 1.0).unwrap();
        assert!((small_slope / slope - 1_000.0).abs() < 1.0, "{small_slope}");
        let upside_down: Vec<f64> = margins.iter().map(|m| -m).collect();
        assert_eq!(calibrate(&upside_down, &is_fraud, 1.0), None);
        assert_eq!(calibrate(&[1.0; 4], &[true, false, true, false], 1.0), None);
    }
}
