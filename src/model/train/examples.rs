//! What is learned from: rows of features, what became of them, and whose they were.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::features::catalog::MODEL_FEATURES;

/// Rows in order of time.
///
/// There is a bound to the genuine ones: once it is reached, every second of them is let go, drawn by a seed of its own, and
/// of those that follow as many are never taken in. Each that stays stands for [`Examples::genuine_weight`] rows. Frauds
/// all stay.
#[derive(Clone, PartialEq, Debug)]
pub struct Examples {
    pub rows: Vec<[f32; MODEL_FEATURES]>,
    pub is_fraud: Vec<bool>,
    /// Whose row it is: a number for each account.
    pub account: Vec<u32>,
    /// When it was decided, in milliseconds since 1970.
    pub time_ms: Vec<i64>,
    genuine_max: usize,
    /// Genuine rows that were taken in and not let go.
    genuine: usize,
    /// Every genuine row stands for two to the power of this.
    halvings: u32,
    rng: ChaCha8Rng,
}

/// One row and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    pub row: &'a [f32; MODEL_FEATURES],
    pub is_fraud: bool,
    pub account: u32,
    pub time_ms: i64,
}

/// Genuine rows of one period that are kept unless somebody asks for another bound: half a gigabyte.
pub const GENUINE_MAX: usize = 3_000_000;

impl Default for Examples {
    fn default() -> Examples {
        Examples::bounded(GENUINE_MAX)
    }
}

impl Examples {
    /// Keeps at most this many genuine rows.
    pub fn bounded(genuine_max: usize) -> Examples {
        Examples {
            rows: Vec::new(),
            is_fraud: Vec::new(),
            account: Vec::new(),
            time_ms: Vec::new(),
            genuine_max,
            genuine: 0,
            halvings: 0,
            rng: ChaCha8Rng::seed_from_u64(0),
        }
    }

    pub fn push(&mut self, example: Example<'_>) {
        // One draw for each row, so that no row's fate depends on the labels before it.
        let drawn: u32 = self.rng.random();
        if !example.is_fraud && drawn.trailing_zeros() < self.halvings {
            return;
        }
        self.rows.push(*example.row);
        self.is_fraud.push(example.is_fraud);
        self.account.push(example.account);
        self.time_ms.push(example.time_ms);
        self.genuine += usize::from(!example.is_fraud);
        if self.genuine > self.genuine_max {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.halvings += 1;
        let stays: Vec<bool> = self.is_fraud.iter().map(|fraud| self.rng.random::<bool>() | fraud).collect();
        retain(&mut self.rows, &stays);
        retain(&mut self.is_fraud, &stays);
        retain(&mut self.account, &stays);
        retain(&mut self.time_ms, &stays);
        self.genuine = self.len() - self.frauds();
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of frauds.
    pub fn frauds(&self) -> usize {
        self.is_fraud.iter().filter(|fraud| **fraud).count()
    }

    /// How many genuine rows each one that is here stands for.
    pub fn genuine_weight(&self) -> f64 {
        f64::from(self.halvings).exp2()
    }

    /// First and last time, in milliseconds since 1970; `None` without rows.
    pub fn period_ms(&self) -> Option<(i64, i64)> {
        Some((*self.time_ms.first()?, *self.time_ms.last()?))
    }

    pub fn get(&self, at: usize) -> Example<'_> {
        let (row, is_fraud) = (&self.rows[at], self.is_fraud[at]);
        Example { row, is_fraud, account: self.account[at], time_ms: self.time_ms[at] }
    }

    /// These rows and no others, in this order.
    pub fn select(&self, at: impl Iterator<Item = usize>) -> Examples {
        let mut selected = Examples { halvings: self.halvings, ..Examples::bounded(usize::MAX) };
        for at in at {
            selected.rows.push(self.rows[at]);
            selected.is_fraud.push(self.is_fraud[at]);
            selected.account.push(self.account[at]);
            selected.time_ms.push(self.time_ms[at]);
        }
        selected
    }
}

fn retain<T>(items: &mut Vec<T>, stays: &[bool]) {
    let mut at = 0;
    items.retain(|_| {
        at += 1;
        stays[at - 1]
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_bound_thin_the_genuine_ones_and_never_lose_a_fraud() {
        let mut examples = Examples::bounded(1_000);
        for at in 0..20_000_u32 {
            let row = [at as f32; MODEL_FEATURES];
            examples.push(Example { row: &row, is_fraud: at % 100 == 0, account: at, time_ms: at.into() });
            assert!(examples.len() - examples.frauds() <= 1_000);
        }
        assert_eq!(examples.frauds(), 200);
        let genuine = (examples.len() - 200) as f64 * examples.genuine_weight();
        assert!((genuine / 19_800.0 - 1.0).abs() < 0.15, "{genuine}");
        assert!(examples.time_ms.is_sorted());
        let early = examples.time_ms.iter().filter(|time| **time < 10_000).count() as f64;
        assert!((early / examples.len() as f64 - 0.5).abs() < 0.1, "as many of the past as of late: {early}");
        for (at, row) in examples.rows.iter().enumerate() {
            assert_eq!(row[0], examples.account[at] as f32, "what belongs together stays together");
        }
    }
}
