//! Time is an argument: milliseconds since 1970-01-01T00:00:00Z, read from a [`Clock`] at the door only.

use std::fmt;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

pub const SECOND_MS: i64 = 1_000;
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Timestamp {
    /// This time and `ms` milliseconds more, staying inside the range of the type.
    pub fn plus_ms(self, ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; negative where `earlier` is later.
    pub fn since_ms(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339, with a blank or `T` between date and time; without an offset the text is UTC.
    pub fn parse(text: &str) -> Option<Timestamp> {
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Some(Timestamp(instant.as_millisecond()));
        }
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        let instant = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(Timestamp(instant.as_millisecond()))
    }

    /// Reads the end of something: as [`Timestamp::parse`], but a day alone is over only when the next one begins, UTC.
    pub fn parse_end(text: &str) -> Option<Timestamp> {
        let is_day = !text.contains(['T', 't', ' ', ':']);
        Some(Timestamp::parse(text)?.plus_ms(if is_day { DAY_MS } else { 0 }))
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// Where the time comes from: the system, or the transactions themselves for replay.
pub trait Clock: Send + Sync {
    /// The present time. May step backwards; the engine keeps its own time from doing so.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_utc() {
        let expected = Timestamp(1_672_531_228_000);
        for text in [
            "2023-01-01T00:00:28Z",
            "2023-01-01T00:00:28",
            "2023-01-01 00:00:28",
            "2023-01-01T01:00:28+01:00",
        ] {
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        for text in ["2023-02-30T00:00:00Z", "yesterday", "", "1672531228"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        assert_eq!(expected.to_string(), "2023-01-01T00:00:28Z");
    }

    #[test]
    fn a_day_alone_ends_with_its_last_moment_and_not_with_its_first() {
        let over = Timestamp::parse("2026-03-01T00:00:00Z");
        for text in [
            "2026-02-28",
            "2026-03-01T00:00:00Z",
            "2026-03-01T00:00",
            "2026-03-01 00:00:00",
            "2026-03-01t01:00+01",
        ] {
            assert_eq!(Timestamp::parse_end(text), over, "{text}");
        }
        for text in ["2026-02-30", "28", "", "T", "noon", "12:00:00"] {
            assert_eq!(Timestamp::parse_end(text), None, "{text}");
        }
    }
}
