//! Points and spans of time, in whole milliseconds. Arithmetic saturates: a wrong clock may delay, never panic.

use std::fmt;
use std::ops::{Add, Sub};

/// A point of wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixMs(pub u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DurationMs(pub u64);

/// What a store knows of the time, so that a clock which is wrong at a start is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownTime {
    /// The latest time that was believed.
    pub at: UnixMs,
    /// How far the wall clock was ahead of that and not believed; zero where it was not.
    pub ahead: DurationMs,
    /// For how long the daemon has run with a clock so far ahead.
    pub ran: DurationMs,
}

/// A wall clock that is further ahead of what is known of the time than is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockDoubt {
    pub ahead: DurationMs,
    /// How long the daemon has to run until it is believed.
    pub left: DurationMs,
}

impl UnixMs {
    /// The span from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC with milliseconds, `2026-11-21T23:40:38.000Z`; times past the year 9999 are shown as its end.
    pub fn to_rfc3339(self) -> String {
        format!("{:.3}", self.timestamp())
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Reads RFC 3339 with any offset; fractions below a millisecond are cut. `None` before 1970 or where it is no time.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_millisecond()).ok().map(Self)
    }

    fn timestamp(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl DurationMs {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(u64::MAX);

    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    pub const fn from_hours(hours: u64) -> Self {
        Self::from_secs(hours.saturating_mul(3600))
    }

    pub const fn from_days(days: u64) -> Self {
        Self::from_hours(days.saturating_mul(24))
    }

    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Reads `ms s m h d`, also joined: `250ms`, `30s`, `1h30m`. `None` for anything else, for an empty text, and for a
    /// span of more than 2^64 ms.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at_checked(letters)?;
            let factor: u64 = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
            rest = tail;
        }
        Some(Self(total))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// As it would be written in the configuration: `1h30m`.
impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            let count = rest / size;
            rest %= size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Add<DurationMs> for UnixMs {
    type Output = Self;

    fn add(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<DurationMs> for UnixMs {
    type Output = Self;

    fn sub(self, span: DurationMs) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)] {
            assert_eq!(DurationMs::parse(text), Some(DurationMs(ms)), "{text}");
            assert_eq!(DurationMs(ms).to_string(), text);
        }
        for bad in ["", "30", "s", "1.5h", "-1s", "1w", "1h ", "99999999999999999999s", "999999999999999999d"] {
            assert_eq!(DurationMs::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_rfc3339_both_ways() {
        let time = UnixMs::parse_rfc3339("2026-11-21T23:40:38.125+01:00");
        assert_eq!(time.map(UnixMs::to_rfc3339).as_deref(), Some("2026-11-21T22:40:38.125Z"));
        assert_eq!(UnixMs(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert!(UnixMs(u64::MAX).to_rfc3339().starts_with("9999-"));
        assert_eq!(UnixMs::parse_rfc3339("1969-12-31T00:00:00Z"), None);
        assert_eq!(UnixMs::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixMs(u64::MAX) + DurationMs::MAX, UnixMs(u64::MAX));
        assert_eq!(UnixMs(1).since(UnixMs(2)), DurationMs::ZERO);
    }
}
