//! Random draws from one seed: the only source of chance in the simulated world.
//!
//! Every cardholder draws from a stream of its own, so that one more account changes nobody else's life. No draw
//! depends on the address, the hash or the order of anything but the calls themselves.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::types::time::{DAY_MS, Timestamp};

/// A stream of draws.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream `stream` of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Draw {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Draw(rng)
    }

    /// Uniform in `low..high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// A whole number in `low..=high`.
    pub(super) fn whole(&mut self, low: i64, high: i64) -> i64 {
        self.0.random_range(low..=high.max(low))
    }

    /// An index below `len`, which must not be 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// One of a list that must not be empty.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// An index drawn in proportion to the weights, which must not all be 0.
    pub(super) fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut rest = self.between(0.0, weights.clone().sum());
        let mut last = 0;
        for (index, weight) in weights.enumerate() {
            if weight > 0.0 {
                last = index;
                if rest < weight {
                    return index;
                }
                rest -= weight;
            }
        }
        last
    }

    /// Standard normal, by Box and Muller's transform (Ann. Math. Statist. 29, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.random::<f64>()).cos()
    }

    /// Lognormal with this median; `spread` is the standard deviation of the logarithm.
    pub(super) fn lognormal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// How many events a day of a Poisson process with this mean has (Knuth, TAOCP 2, 3.4.1).
    pub(super) fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let mut count = 0;
        let mut product = self.0.random::<f64>();
        while product > limit {
            count += 1;
            product *= self.0.random::<f64>();
        }
        count
    }

    /// A time of day in milliseconds, the hour in proportion to 24 weights.
    pub(super) fn time_of_day_ms(&mut self, hours: &[f64; 24]) -> i64 {
        let hour = self.weighted(hours.iter().copied()) as i64;
        (hour * 3_600 + self.whole(0, 3_599)) * 1_000
    }

    /// A time in `from..from + days`, to the second.
    pub(super) fn time_within(&mut self, from: Timestamp, days: f64) -> Timestamp {
        let ms = (self.between(0.0, days.max(0.0)) * DAY_MS as f64) as i64;
        from.plus_ms(ms / 1_000 * 1_000)
    }
}
