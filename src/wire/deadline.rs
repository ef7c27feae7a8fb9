//! The `grpc-timeout` header as a point in time of our own, so that the engine can say whether anything was started.
//!
//! Read when the headers arrive, before the message has. Deliberately absent: any timer. tonic's server would cancel
//! the call by itself, without saying whether anything changed; the engine voids and says so.

use std::time::{Duration, Instant};

use http::HeaderMap;

/// When the caller no longer wants the answer. Travels in the request's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CallDeadline(pub Instant);

/// A `grpc-timeout` that is not of the form the protocol gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MalformedTimeout;

const HEADER: &str = "grpc-timeout";

/// The deadline that the headers ask for, counted from `arrival`; `None` where they ask for none, or for one beyond
/// the range of the clock.
///
/// # Errors
/// Where the header is there and malformed: a caller that believes in a deadline must not be served without one.
pub(super) fn from_headers(
    headers: &HeaderMap,
    arrival: Instant,
) -> Result<Option<CallDeadline>, MalformedTimeout> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let timeout = parse(value.as_bytes()).ok_or(MalformedTimeout)?;
    Ok(arrival.checked_add(timeout).map(CallDeadline))
}

/// Reads `TimeoutValue TimeoutUnit`: 1 to 8 ASCII digits and one of `H M S m u n` (gRPC over HTTP/2, "Requests").
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    match unit {
        b'H' => Some(Duration::from_secs(value * 3_600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_unit_of_the_protocol_is_read() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused_and_never_means_no_deadline() {
        for text in ["", "S", "5", "123456789S", "-1S", "1.5S", "1s", " 1S", "1S ", "+1S"] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(text));
            assert_eq!(from_headers(&headers, Instant::now()), Err(MalformedTimeout), "{text:?}");
        }
    }

    #[test]
    fn the_deadline_counts_from_arrival() {
        let arrival = Instant::now();
        let mut headers = HeaderMap::new();
        assert_eq!(from_headers(&headers, arrival), Ok(None));
        headers.insert(HEADER, HeaderValue::from_static("150m"));
        let expected = CallDeadline(arrival + Duration::from_millis(150));
        assert_eq!(from_headers(&headers, arrival), Ok(Some(expected)));
    }
}
