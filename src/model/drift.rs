//! What the rows were like that a model was fitted on, and how far what is served has moved from them.
//!
//! For each feature, and for the score, the rows of the training period are cut into at most [`BINS_MAX`] bins of about
//! as many rows each, and one more for rows without a value. The measure is the population stability index
//! (N. Siddiqi, "Credit Risk Scorecards", 2006): the sum over the bins of `(a - e) * ln(a / e)`, of the shares `a` served
//! and `e` expected. Its usual reading: under 0.1 nothing moved, above 0.25 what was learned may hold no longer. Between
//! two samples of the same rows it is about `bins * (1 / n + 1 / m)` (B. Yurdakul, "Statistical Properties of Population
//! Stability Index", 2018), which is why nothing is said of few rows.
//!
//! Deliberately absent: counting, which whoever serves does ([`crate::observe`]), and time.

use serde::{Deserialize, Serialize};

use crate::features::catalog::MODEL_FEATURES;

/// Most bins of values.
pub const BINS_MAX: usize = 10;
/// A cell for each bin of values, and the last for rows without one.
pub const CELLS: usize = BINS_MAX + 1;
/// The cell of rows without a value.
pub const MISSING: usize = BINS_MAX;
/// An empty bin counts as one with this share, because the logarithm of nothing is infinite: one row in ten thousand.
const SHARE_MIN: f64 = 1e-4;
/// With fewer rows on either side, training or decisions, chance alone moves the index by over a hundredth.
pub const ROWS_MIN: u64 = 1_000;
/// More rows make no better quantiles, only a longer training.
const ROWS_MAX: usize = 200_000;
/// By how much the shares of a file may miss one together: they are written with seven digits.
const SUM_TOLERANCE: f64 = 1e-3;

/// What the training rows were like, as a model's file has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceFile {
    /// Rows that were looked at.
    pub rows: u64,
    /// In the order of a row.
    pub features: Vec<BinsFile>,
    /// The score, 0 to 999.
    pub score: BinsFile,
}

/// The bins of one feature.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BinsFile {
    pub name: String,
    /// The highest value of each bin but the last, rising.
    pub edges: Vec<f32>,
    /// Of the training rows: of each bin, and last of those without a value.
    pub shares: Vec<f32>,
}

/// What the training rows were like, checked and ready to compare with.
#[derive(Clone, PartialEq, Debug)]
pub struct Reference {
    rows: u64,
    features: Box<[Bins]>,
    score: Bins,
}

/// Where the values of one feature are cut, and the share of the training rows in each cell.
#[derive(Clone, PartialEq, Debug)]
pub struct Bins {
    /// Bins that there are not begin above every number.
    edges: [f32; BINS_MAX - 1],
    shares: [f64; CELLS],
}

impl ReferenceFile {
    /// What these rows are like, the n-th of which stands for `weight(n)` rows and has the score `score(row)`. Of many rows
    /// some are taken at even steps. `None` for fewer than [`ROWS_MIN`], which say too little.
    pub fn of_rows<'r>(
        rows: &'r [[f32; MODEL_FEATURES]],
        weight: impl Fn(usize) -> f64,
        score: impl Fn(&'r [f32; MODEL_FEATURES]) -> u16,
        name: impl Fn(usize) -> &'static str,
    ) -> Option<ReferenceFile> {
        let step = rows.len().div_ceil(ROWS_MAX).max(1);
        let taken: Vec<usize> = (0..rows.len()).step_by(step).collect();
        if (taken.len() as u64) < ROWS_MIN {
            return None;
        }
        let column = |name: &str, value: &dyn Fn(usize) -> f32| {
            BinsFile::of_column(name, taken.iter().map(|at| (value(*at), weight(*at))).collect())
        };
        Some(ReferenceFile {
            rows: taken.len() as u64,
            features: (0..MODEL_FEATURES)
                .map(|feature| column(name(feature), &|at| rows[at][feature]))
                .collect(),
            score: column("score", &|at| f32::from(score(&rows[at]))),
        })
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// In words, what of which feature cannot be used.
    pub fn read(&self, features: &[String]) -> Result<Reference, String> {
        if self.rows == 0 {
            return Err("it was made of no rows".to_owned());
        }
        if self.features.len() != features.len() {
            let (has, wanted) = (self.features.len(), features.len());
            return Err(format!("it has {has} features, the model {wanted}"));
        }
        let other = self.features.iter().zip(features).find(|(bins, name)| bins.name != **name);
        if let Some((bins, name)) = other {
            return Err(format!("`{}` stands where the model has `{name}`", bins.name));
        }
        Ok(Reference {
            rows: self.rows,
            features: self.features.iter().map(BinsFile::read).collect::<Result<_, _>>()?,
            score: self.score.read()?,
        })
    }
}

impl BinsFile {
    /// Cuts values with their weights into bins of about as many rows each.
    fn of_column(name: &str, mut column: Vec<(f32, f64)>) -> BinsFile {
        let weight = |column: &[(f32, f64)]| column.iter().map(|(_, weight)| weight).sum::<f64>();
        let all = weight(&column);
        column.retain(|(value, _)| !value.is_nan());
        let missing = all - weight(&column);
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        let bins = Bins::new(&edges(&column));
        let mut weights = [0.0; BINS_MAX];
        column.iter().for_each(|(value, weight)| weights[bins.cell_of(*value)] += weight);
        let edges: Vec<f32> = bins.edges.into_iter().filter(|edge| edge.is_finite()).collect();
        let shares = weights[..=edges.len()].iter().copied().chain([missing]);
        let shares = shares.map(|weight| (weight / all) as f32).collect();
        BinsFile { name: name.to_owned(), edges, shares }
    }

    fn read(&self) -> Result<Bins, String> {
        let BinsFile { name, edges, shares } = self;
        if edges.len() >= BINS_MAX {
            return Err(format!("`{name}` has {} edges; at most {} are read", edges.len(), BINS_MAX - 1));
        }
        if edges.iter().any(|edge| !edge.is_finite()) {
            return Err(format!("an edge of `{name}` is not finite"));
        }
        if let Some(pair) = edges.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("the edges of `{name}` do not rise: {} comes before {}", pair[0], pair[1]));
        }
        if shares.len() != edges.len() + 2 {
            return Err(format!(
                "`{name}` has {} shares; with {} edges there must be {}",
                shares.len(),
                edges.len(),
                edges.len() + 2
            ));
        }
        if let Some(share) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            return Err(format!("a share of `{name}` is {share}, not 0 to 1"));
        }
        let sum: f64 = shares.iter().copied().map(f64::from).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(format!("the shares of `{name}` add up to {sum}, not to 1"));
        }
        let mut bins = Bins::new(edges);
        let (missing, values) = shares.split_last().expect("there are at least two");
        bins.shares.iter_mut().zip(values).for_each(|(cell, share)| *cell = f64::from(*share));
        bins.shares[MISSING] = f64::from(*missing);
        Ok(bins)
    }
}

/// Where these values, in order, are cut.
fn edges(column: &[(f32, f64)]) -> Vec<f32> {
    let finite = |value: &f32| value.is_finite();
    let values = || column.iter().map(|(value, _)| *value).filter(finite);
    let (Some(least), Some(greatest)) = (values().next(), values().next_back()) else { return Vec::new() };
    if least == greatest {
        // What was always the same is three bins, so that any other value is seen.
        return [least.next_down(), least].into_iter().filter(finite).collect();
    }
    let all: f64 = column.iter().map(|(_, weight)| weight).sum();
    let mut edges: Vec<f32> = Vec::with_capacity(BINS_MAX - 1);
    let (mut next, mut below) = (1, 0.0);
    for (value, weight) in column {
        below += weight;
        while next < BINS_MAX && below >= all * next as f64 / BINS_MAX as f64 {
            edges.push(*value);
            next += 1;
        }
    }
    // Above the greatest value there would be an empty bin; where most rows have it, the others are the bin to have.
    let before = values().rev().find(|value| *value < greatest);
    for edge in &mut edges {
        if *edge >= greatest {
            *edge = before.unwrap_or(least);
        }
    }
    edges.retain(finite);
    edges.dedup();
    edges
}

impl Reference {
    /// Training rows that it was made of.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Of each feature, in the order of a row.
    pub fn features(&self) -> &[Bins] {
        &self.features
    }

    /// Of the score.
    pub fn score(&self) -> &Bins {
        &self.score
    }
}

impl Bins {
    fn new(edges: &[f32]) -> Bins {
        let mut padded = [f32::INFINITY; BINS_MAX - 1];
        padded.iter_mut().zip(edges).for_each(|(place, edge)| *place = *edge);
        Bins { edges: padded, shares: [0.0; CELLS] }
    }

    /// The cell that a value, or a missing one, is counted in. A value on an edge belongs below it.
    #[inline]
    pub fn cell_of(&self, value: f32) -> usize {
        if value.is_nan() {
            return MISSING;
        }
        // Without branches, because this is asked for every feature of every decision.
        self.edges.iter().map(|edge| usize::from(*edge < value)).sum()
    }

    /// The population stability index of what was counted; 0 where nothing was.
    pub fn stability_index(&self, counts: &[u64; CELLS]) -> f64 {
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return 0.0;
        }
        let shares = counts.iter().map(|count| *count as f64 / all as f64);
        shares.zip(self.shares).map(|(actual, expected)| of_bin(actual, expected)).sum()
    }
}

fn of_bin(actual: f64, expected: f64) -> f64 {
    let (actual, expected) = (actual.max(SHARE_MIN), expected.max(SHARE_MIN));
    (actual - expected) * (actual / expected).ln()
}

#[cfg(test)]
pub(crate) mod tests;
