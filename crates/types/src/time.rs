//! [`Timestamp`]: a point in time in whole microseconds, because that is what Postgres keeps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, UTC, in microseconds since 1970-01-01.
///
/// Microseconds are what every backend can store, so a value read back equals the value written.
/// Covers the years 1 to 9999. In JSON it is an integer; [`fmt::Display`] is RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time; write it like 2026-01-31T12:00:00Z (years 1 to 9999)")]
pub struct InvalidTime {
    text: String,
}

/// 0001-01-01T00:00:00Z, which Alertmanager sends as "not set".
const YEAR_1: i64 = -62_135_596_800_000_000;
/// 9999-12-30T22:00:00Z, the latest instant that every calendar offset can still show.
const YEAR_9999: i64 = 253_402_207_200_000_000;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The earliest time that can be held: year 1, which some sources send for "no time".
    pub const MIN: Self = Self(YEAR_1);
    /// The latest time that can be held.
    pub const MAX: Self = Self(YEAR_9999);

    /// From microseconds since 1970; what lies outside the years 1 to 9999 is moved to the nearest end.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < YEAR_1 {
            Self(YEAR_1)
        } else if micros > YEAR_9999 {
            Self(YEAR_9999)
        } else {
            Self(micros)
        }
    }

    /// Microseconds since 1970; negative before it.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time moved later; stops at the end of year 9999.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(by))
    }

    /// This time moved earlier; stops at year 1.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(by))
    }

    /// How much later `self` is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 with exactly three decimals and `Z`, as the issue API answers (contracts §6).
    pub fn to_rfc3339_millis(self) -> String {
        format!("{:.3}", self.to_jiff())
    }

    fn to_jiff(self) -> jiff::Timestamp {
        // The range is checked at construction, so the fallback is never taken.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_jiff())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime { text: text.chars().take(64).collect() };
        let parsed: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        let micros = parsed.as_microsecond();
        if (YEAR_1..=YEAR_9999).contains(&micros) { Ok(Self(micros)) } else { Err(invalid()) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_micros(i64::deserialize(deserializer)?))
    }
}

/// Reads a duration as people write it: `3s`, `10m`, `1h30m`, `250ms`, and whole days as `90d`, of 24 hours. Zero is
/// `0s`; negative is refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration; write it like 500ms, 3s, 10m, 1h30m or 90d");
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(parsed).map_err(|_| refused())
}

/// Writes a duration for people: `0.3s`, `12.0s`, `3m05s`, `2h10m`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", (duration.as_millis() / 100) as f64 / 10.0),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_time_are_kept_or_refused_never_wrapped() {
        assert_eq!("0001-01-01T00:00:00Z".parse::<Timestamp>().unwrap(), Timestamp::MIN);
        assert!("9999-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("9999-12-30T00:00:00Z".parse::<Timestamp>().is_ok());
        assert!("0000-12-31T00:00:00Z".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn text_and_back_keeps_microseconds() {
        let time: Timestamp = "2026-11-21T02:45:08.541999Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T02:45:08.541999Z");
        assert_eq!(time.to_rfc3339_millis(), "2026-11-21T02:45:08.541Z");
        assert_eq!(time.as_millis(), 1_795_229_108_541);
        assert_eq!(
            "2026-11-21T04:45:08+02:00".parse::<Timestamp>().unwrap().to_string(),
            "2026-11-21T02:45:08Z"
        );
    }

    #[test]
    fn durations_read_and_show_as_people_write_them() {
        assert_eq!(parse_duration("3s").unwrap(), Duration::from_secs(3));
        assert_eq!(parse_duration("90d").unwrap(), Duration::from_secs(90 * 86_400));
        assert!(parse_duration("-1d").is_err() && parse_duration("1d2h").is_err());
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert!(parse_duration("-3s").is_err());
        assert!(parse_duration("soon").is_err());
        assert_eq!(show_duration(Duration::from_millis(340)), "0.3s");
        assert_eq!(show_duration(Duration::from_secs(185)), "3m05s");
    }
}
