//! Which amounts a filter lets pass.

use crate::types::money::{Currency, EXPONENTS};

/// Inclusive bounds in minor units.
pub type Bounds = (i64, i64);

/// Bounds of an amount that were written in major units: one pair for each number of decimals that a currency can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AmountRange([Bounds; EXPONENTS]);

impl AmountRange {
    /// Bounds for a currency with no decimals, with one, and so on; a lower one above the upper lets nothing pass.
    pub fn new(bounds: [Bounds; EXPONENTS]) -> AmountRange {
        AmountRange(bounds)
    }

    /// What lies in both.
    pub fn and(self, other: AmountRange) -> AmountRange {
        AmountRange(std::array::from_fn(|decimals| {
            let ((low, high), (other_low, other_high)) = (self.0[decimals], other.0[decimals]);
            (low.max(other_low), high.min(other_high))
        }))
    }

    /// Whether no amount of any currency lies inside.
    pub fn is_empty(self) -> bool {
        self.0.iter().all(|(low, high)| low > high)
    }

    /// For currencies with so many decimals.
    pub fn bounds(self, decimals: usize) -> Bounds {
        self.0[decimals.min(EXPONENTS - 1)]
    }

    /// Whether an amount lies inside.
    pub fn has(self, minor: i64, currency: Currency) -> bool {
        is_within(self.bounds(currency.exponent() as usize), minor)
    }
}

#[inline]
pub fn is_within((low, high): Bounds, minor: i64) -> bool {
    (low..=high).contains(&minor)
}
