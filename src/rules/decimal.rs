//! Numbers as they were written: a decimal literal keeps every digit, so that comparing it with an amount of money
//! is a comparison of integers in every currency. A double would turn 5.005 into something else.

use std::fmt;

/// `mantissa / 10^scale`, without trailing zeros behind the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decimal {
    mantissa: i64,
    scale: u32,
}

/// Most digits behind the point of one literal.
pub const SCALE_MAX: u32 = 9;

impl Decimal {
    pub fn from_int(value: i64) -> Decimal {
        Decimal { mantissa: value, scale: 0 }
    }

    /// Reads digits with an optional sign, point and exponent, such as `12.34`, `.5` or `1.5e3`. `None` for
    /// anything else, more than [`SCALE_MAX`] digits behind the point or more than fit into 64 bits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, digits),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut mantissa: i64 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            mantissa = mantissa.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        }
        if mantissa == 0 {
            return Some(Decimal { mantissa, scale: 0 });
        }
        let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        while scale < 0 {
            mantissa = mantissa.checked_mul(10)?;
            scale += 1;
        }
        let scale = u32::try_from(scale.max(0)).ok()?;
        (scale <= SCALE_MAX)
            .then_some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale })
    }

    pub fn mantissa(self) -> i64 {
        self.mantissa
    }

    pub fn scale(self) -> u32 {
        self.scale
    }

    /// The number with the other sign; `None` for the one that has no counterpart.
    pub fn negated(self) -> Option<Decimal> {
        Some(Decimal { mantissa: self.mantissa.checked_neg()?, ..self })
    }

    /// This many major units as minor units times `10^scale`, in a currency with `exponent` decimals. `None` where
    /// that is no whole number or does not fit.
    pub fn to_minor(self, exponent: u32, scale: u32) -> Option<i128> {
        let power = (exponent + scale).checked_sub(self.scale)?;
        i128::from(self.mantissa).checked_mul(10_i128.checked_pow(power)?)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = 10_u64.pow(self.scale);
        let (whole, fraction) = (self.mantissa.unsigned_abs() / power, self.mantissa.unsigned_abs() % power);
        let sign = if self.mantissa < 0 { "-" } else { "" };
        match self.scale {
            0 => write!(f, "{sign}{whole}"),
            scale => write!(f, "{sign}{whole}.{fraction:0width$}", width = scale as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_kept() {
        for (text, mantissa, scale) in [
            ("5", 5, 0),
            ("5.00", 5, 0),
            ("5.005", 5005, 3),
            ("-0.5", -5, 1),
            (".5", 5, 1),
            ("5.", 5, 0),
            ("1.5e3", 1500, 0),
            ("15e-1", 15, 1),
            ("0.0", 0, 0),
            ("0e99", 0, 0),
            ("0e-2000000000", 0, 0),
            ("100", 100, 0),
        ] {
            let read = Decimal::parse(text);
            assert_eq!(read, Some(Decimal { mantissa, scale }), "{text}");
            assert_eq!(Decimal::parse(&read.unwrap().to_string()), read, "{text}");
        }
        for text in
            ["", ".", "-", "1e", "1.2.3", "1e30", "1.0000000001", "99999999999999999999", "0x1f", "1_0"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_literal_counts_in_the_minor_units_of_each_currency() {
        let five = Decimal::parse("5.00").unwrap();
        assert_eq!([0, 2, 3].map(|exponent| five.to_minor(exponent, 0)), [Some(5), Some(500), Some(5000)]);
        let odd = Decimal::parse("5.005").unwrap();
        assert_eq!([0, 2, 3].map(|exponent| odd.to_minor(exponent, 0)), [None, None, Some(5005)]);
        assert_eq!(odd.to_minor(2, 1), Some(5005));
        assert_eq!(Decimal::from_int(i64::MAX).to_minor(4, 18), None);
    }
}
