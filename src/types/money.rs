//! Money is an integer number of minor units together with its currency. There is no arithmetic between
//! currencies and none that can wrap.

use std::{fmt, sync::LazyLock};

/// Numbers of decimals that a currency of ISO 4217 can have: 0 to 4.
pub const EXPONENTS: usize = 5;

/// A currency of ISO 4217, held as its numeric code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency(u16);

impl Currency {
    /// The currency of an alphabetic code such as `USD`; `None` where ISO 4217 has no such code or gives it
    /// no minor unit (gold, test codes).
    pub fn from_alpha(code: &str) -> Option<Currency> {
        BY_ALPHA[place_of_alpha(code)?]
    }

    /// The currency of a numeric code such as 840.
    pub fn from_numeric(code: u16) -> Option<Currency> {
        let currency = iso_currency::Currency::from_numeric(code)?;
        currency.exponent()?;
        Some(Currency(code))
    }

    /// The numeric code of ISO 4217.
    pub fn numeric(self) -> u16 {
        self.0
    }

    fn iso(self) -> iso_currency::Currency {
        iso_currency::Currency::from_numeric(self.0).expect("only codes of the table are constructed")
    }

    /// The alphabetic code of ISO 4217.
    pub fn alpha(self) -> &'static str {
        self.iso().code()
    }

    /// Number of decimals between the major and the minor unit: USD 2, JPY 0, KWD 3.
    pub fn exponent(self) -> u32 {
        u32::from(self.iso().exponent().expect("only currencies with a minor unit are constructed"))
    }

    /// Minor units in one major unit: USD 100, JPY 1, KWD 1,000.
    pub fn minor_per_major(self) -> i64 {
        10_i64.pow(self.exponent())
    }
}

/// Every currency at the place of its alphabetic code: every request names one, and the crate compares it with each code
/// there is.
static BY_ALPHA: LazyLock<Box<[Option<Currency>]>> = LazyLock::new(|| {
    let mut places = vec![None; 26 * 26 * 26].into_boxed_slice();
    for currency in (0..1_000).filter_map(Currency::from_numeric) {
        if let Some(place) = place_of_alpha(currency.alpha()) {
            places[place] = Some(currency);
        }
    }
    places
});

/// Three capital letters as a number in base 26; `None` for what is none.
fn place_of_alpha(code: &str) -> Option<usize> {
    let letters: [u8; 3] = code.as_bytes().try_into().ok()?;
    letters.iter().try_fold(0, |place, letter| {
        letter.is_ascii_uppercase().then(|| place * 26 + usize::from(letter - b'A'))
    })
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alpha())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.alpha())
    }
}

/// An amount in the minor units of its currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

impl Money {
    pub fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// Reads a decimal in major units, such as `12.34`.
    ///
    /// # Errors
    /// In words, where the text is no decimal, has more decimals than the currency, or does not fit.
    pub fn parse_major(text: &str, currency: Currency) -> Result<Money, String> {
        let exponent = currency.exponent() as usize;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || digits.ends_with('.') {
            return Err(format!("`{text}` is not a decimal such as 12.34"));
        }
        if fraction.len() > exponent {
            return Err(format!("`{text}` has more decimals than {currency} has ({exponent})"));
        }
        let mut minor: i64 = 0;
        let padding = std::iter::repeat_n(b'0', exponent - fraction.len());
        for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
            minor = minor
                .checked_mul(10)
                .and_then(|m| m.checked_add(i64::from(digit - b'0')))
                .ok_or_else(|| format!("`{text}` is too large"))?;
        }
        Ok(Money::new(if negative { -minor } else { minor }, currency))
    }
}

/// Major units with the currency's decimals, such as `12.34 USD`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent() as usize;
        let per_major = self.currency.minor_per_major().unsigned_abs();
        let sign = if self.minor < 0 { "-" } else { "" };
        let size = self.minor.unsigned_abs();
        match exponent {
            0 => write!(f, "{sign}{size} {}", self.currency),
            _ => write!(f, "{sign}{}.{:0exponent$} {}", size / per_major, size % per_major, self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_alpha(code).unwrap()
    }

    #[test]
    fn exponents_follow_iso_4217() {
        for (code, exponent) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("BHD", 3)] {
            assert_eq!(currency(code).exponent(), exponent, "{code}");
            assert_eq!(Currency::from_numeric(currency(code).numeric()), Some(currency(code)));
        }
        for code in ["XXX", "XAU", "usd", "US", "", "ZZZ", "USDX", "U\u{e9}"] {
            assert_eq!(Currency::from_alpha(code), None, "{code}");
        }
    }

    #[test]
    fn a_code_is_the_currency_that_the_standard_gives_it_to() {
        let letters = || b'A'..=b'Z';
        for code in letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c]))) {
            let code = std::str::from_utf8(&code).unwrap();
            let known = iso_currency::Currency::from_code(code).filter(|known| known.exponent().is_some());
            assert_eq!(
                Currency::from_alpha(code).map(Currency::numeric),
                known.map(|known| known.numeric()),
                "{code}"
            );
        }
    }

    #[test]
    fn a_decimal_keeps_every_digit_or_is_refused() {
        for (text, code, minor) in [
            ("12.34", "USD", 1234),
            ("12.3", "USD", 1230),
            ("12", "JPY", 12),
            ("-0.05", "USD", -5),
            ("1.234", "KWD", 1234),
        ] {
            assert_eq!(Money::parse_major(text, currency(code)), Ok(Money::new(minor, currency(code))));
        }
        for (text, code) in [
            ("1.234", "USD"),
            ("1.2", "JPY"),
            ("", "USD"),
            (".5", "USD"),
            ("5.", "USD"),
            ("1e3", "USD"),
            ("99999999999999999999", "USD"),
        ] {
            assert!(Money::parse_major(text, currency(code)).is_err(), "{text}");
        }
    }

    #[test]
    fn display_shows_the_decimals_of_the_currency() {
        assert_eq!(Money::new(-1234, currency("USD")).to_string(), "-12.34 USD");
        assert_eq!(Money::new(500, currency("JPY")).to_string(), "500 JPY");
        assert_eq!(Money::new(5, currency("KWD")).to_string(), "0.005 KWD");
    }
}
