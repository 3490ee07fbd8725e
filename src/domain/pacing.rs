//! How hard a destination may be pressed: its rate limit and its circuit breaker, as settings.

use super::time::DurationMs;

/// At most `count` attempts in each `per`, spread evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// At least 1.
    pub count: u32,
    /// A second, a minute, an hour.
    pub per: DurationMs,
}

impl RateLimit {
    /// Reads `50/s`, `600/m`, `1000/h`; at least 1, at most a million. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let per = match unit {
            "s" => DurationMs::from_secs(1),
            "m" => DurationMs::from_secs(60),
            "h" => DurationMs::from_hours(1),
            _ => return None,
        };
        let digits = !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit());
        let count = if digits { count.parse().ok()? } else { return None };
        (1..=1_000_000).contains(&count).then_some(Self { count, per })
    }
}

/// When a destination counts as down, and how it is tried again (SPEC 5 and 8.1). Permanent answers do not count: the
/// receiver lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerPolicy {
    /// Failures in a row.
    pub failures: u32,
    /// Or this share of the attempts within `window`, in thousandths …
    pub rate_permille: u32,
    /// … once there were so many.
    pub min: u32,
    pub window: DurationMs,
    /// Pause before the first probe; doubled after each that fails …
    pub probe: DurationMs,
    /// … up to this.
    pub probe_max: DurationMs,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 10,
            rate_permille: 500,
            min: 20,
            window: DurationMs::from_secs(60),
            probe: DurationMs::from_secs(30),
            probe_max: DurationMs::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        let rate = |count, seconds| Some(RateLimit { count, per: DurationMs::from_secs(seconds) });
        assert_eq!(RateLimit::parse("50/s"), rate(50, 1));
        assert_eq!(RateLimit::parse("600/m"), rate(600, 60));
        assert_eq!(RateLimit::parse("1/h"), rate(1, 3600));
        for bad in ["", "50", "50/", "/s", "0/s", "+5/s", "1.5/s", "50/d", "50 /s", "2000000/s"] {
            assert_eq!(RateLimit::parse(bad), None, "{bad}");
        }
    }
}
