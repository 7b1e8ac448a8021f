//! [`retry_after`]: how long a server asks to be left alone.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest wait that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// `Retry-After` (RFC 9110, section 10.2.3), at most one hour; `None` when absent or not readable.
///
/// A date is measured against the reply's own `Date`, so neither clock has to be right.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds are a very long wait, and cut to the longest.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = date(headers, RETRY_AFTER)?;
        let now = date(headers, DATE)?;
        Duration::from_secs(u64::try_from(until - now).unwrap_or(0))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Seconds since 1970 of an HTTP date.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    DateTimeParser::new().parse_timestamp(text).ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(retry: &'static str, now: Option<&'static str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry.parse().unwrap());
        if let Some(now) = now {
            headers.insert(DATE, now.parse().unwrap());
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_dates_and_nonsense() {
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read("0", None), Some(0));
        assert_eq!(read("86400", None), Some(3600));
        assert_eq!(read("99999999999999999999999", None), Some(3600));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(30));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT", now).unwrap_or(3600), 3600);
        assert_eq!(read("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
        for nonsense in ["", "-5", "1.5", "soon", "+5"] {
            assert_eq!(read(nonsense, now), None, "{nonsense:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
