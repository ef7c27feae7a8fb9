//! Amounts of different currencies in one, so that they can be added up and compared: the engine's base currency, with
//! the rates that the operator gives.

use super::money::{Currency, Money};

/// Decimals of a rate that count.
const RATE_DECIMALS: usize = 9;
const RATE_ONE: i128 = 1_000_000_000;

/// The base currency and what one unit of others is worth in it.
#[derive(Clone, PartialEq, Debug)]
pub struct BaseCurrency {
    pub currency: Currency,
    /// Billionths of a base unit for one unit of the currency; in the order of the currencies' numbers.
    rates: Vec<(Currency, u64)>,
}

impl BaseCurrency {
    /// # Errors
    /// In words, where a rate stands twice, or for the base currency itself.
    pub fn new(currency: Currency, mut rates: Vec<(Currency, u64)>) -> Result<BaseCurrency, String> {
        rates.sort();
        if let Some(twice) = rates.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("two rates for {}", twice[0].0));
        }
        match rates.iter().any(|(other, _)| *other == currency) {
            true => Err(format!("{currency} is the base currency itself and has no rate")),
            false => Ok(BaseCurrency { currency, rates }),
        }
    }

    /// Reads a rate such as `1.0835`.
    ///
    /// # Errors
    /// In words, where it is no decimal above 0, has more than nine decimals, or is above a million.
    pub fn parse_rate(text: &str) -> Result<u64, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 7
            || !is_number(whole)
            || !is_number(fraction)
            || text.ends_with('.')
        {
            return Err(format!("`{text}` is no rate such as 1.0835"));
        }
        if fraction.len() > RATE_DECIMALS {
            return Err(format!("`{text}` has more than {RATE_DECIMALS} decimals"));
        }
        let digits = format!("{whole}{fraction:0<RATE_DECIMALS$}");
        match digits.parse::<u64>() {
            Ok(rate) if rate > 0 && i128::from(rate) <= 1_000_000 * RATE_ONE => Ok(rate),
            _ => Err(format!("`{text}` is not above 0 and at most 1000000")),
        }
    }

    /// An amount in minor units of the base currency, rounded half away from zero; `None` where there is no rate for
    /// its currency.
    pub fn minor_of(&self, amount: Money) -> Option<i64> {
        if amount.currency == self.currency {
            return Some(amount.minor);
        }
        let found = self.rates.binary_search_by_key(&amount.currency, |(currency, _)| *currency).ok()?;
        let to = i128::from(self.currency.minor_per_major()) * i128::from(self.rates[found].1);
        let from = i128::from(amount.currency.minor_per_major()) * RATE_ONE;
        let scaled = i128::from(amount.minor) * to;
        let rounded = (scaled.abs() + from / 2) / from * scaled.signum();
        Some(rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// Every rate, as it is written.
    pub fn rates(&self) -> impl Iterator<Item = (Currency, String)> {
        self.rates.iter().map(|(currency, rate)| {
            let (whole, fraction) = (i128::from(*rate) / RATE_ONE, i128::from(*rate) % RATE_ONE);
            (*currency, format!("{whole}.{fraction:0RATE_DECIMALS$}"))
        })
    }
}

/// US dollars alone.
impl Default for BaseCurrency {
    fn default() -> BaseCurrency {
        let dollar = Currency::from_alpha("USD").expect("ISO 4217 has the US dollar");
        BaseCurrency { currency: dollar, rates: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_alpha(code).expect("a currency")
    }

    #[test]
    fn amounts_are_converted_exactly_over_different_decimals_and_rounded_half_away_from_zero() {
        let rate = |text| BaseCurrency::parse_rate(text).expect("a rate");
        let rates = vec![
            (currency("JPY"), rate("0.0067")),
            (currency("KWD"), rate("3.25")),
            (currency("EUR"), rate("1.085")),
        ];
        let base = BaseCurrency::new(currency("USD"), rates).expect("a base currency");
        for (minor, code, expected) in [
            (1_999, "USD", Some(1_999)),
            (1_000, "JPY", Some(670)),
            (1, "JPY", Some(1)),
            (1_000, "KWD", Some(325)),
            (100, "EUR", Some(109)),
            (-100, "EUR", Some(-109)),
            (999_999_999_999_999, "KWD", Some(325_000_000_000_000)),
            (500, "CHF", None),
        ] {
            assert_eq!(base.minor_of(Money::new(minor, currency(code))), expected, "{minor} {code}");
        }
    }

    #[test]
    fn a_rate_that_is_none_is_named() {
        for wrong in ["", "x", "1,5", "0", "0.0000000001", "-1", "1.", ".5", "99999999"] {
            assert!(BaseCurrency::parse_rate(wrong).is_err(), "{wrong}");
        }
        assert!(BaseCurrency::new(currency("USD"), vec![(currency("USD"), 1)]).is_err());
        assert!(
            BaseCurrency::new(currency("USD"), vec![(currency("EUR"), 1), (currency("EUR"), 2)]).is_err()
        );
    }
}
