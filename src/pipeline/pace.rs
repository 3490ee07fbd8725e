//! A rate limit: attempts evenly spread, with as little catching up as the clock's grain needs.
//!
//! One number is kept: when the next attempt would be due if all came evenly. An attempt may start up to [`BURST_US`]
//! before that, so over any time `t` there are at most `rate × (t + 100 ms) + 1` attempts.

use crate::domain::pacing::RateLimit;
use crate::domain::time::{DurationMs, UnixMs};

/// How far attempts may run ahead of an even spread, in microseconds: enough for a tick that came late.
const BURST_US: u64 = 100_000;

/// See the module's page. Times are microseconds since 1970.
#[derive(Debug)]
pub(super) struct Pace {
    interval_us: u64,
    even_us: u64,
}

impl Pace {
    pub(super) fn new(limit: RateLimit) -> Self {
        let interval_us = (limit.per.0.saturating_mul(1000) / u64::from(limit.count.max(1))).max(1);
        Self { interval_us, even_us: 0 }
    }

    /// The same limit changed, or written again: what was let through just now counts against the new one.
    pub(super) fn after(before: Option<&Self>, limit: RateLimit, now: UnixMs) -> Self {
        let fresh = Self::new(limit);
        let furthest = now.0.saturating_mul(1000).saturating_add(BURST_US).saturating_add(fresh.interval_us);
        Self { even_us: before.map_or(0, |before| before.even_us.min(furthest)), ..fresh }
    }

    /// The clock was set back by `by`: nobody must be woken by what it showed before.
    pub(super) fn clock_set_back(&mut self, by: DurationMs) {
        self.even_us = self.even_us.saturating_sub(by.0.saturating_mul(1000));
    }

    /// When the next attempt may start.
    pub(super) fn next(&self) -> UnixMs {
        UnixMs(self.even_us.saturating_sub(BURST_US).div_ceil(1000))
    }

    /// Whether an attempt may start now; if so it is counted.
    pub(super) fn take(&mut self, now: UnixMs) -> bool {
        let now_us = now.0.saturating_mul(1000);
        // What is far ahead of the clock, however that came, must not stop the lane.
        let ahead = now_us.saturating_add(BURST_US).saturating_add(self.interval_us);
        self.even_us = self.even_us.min(ahead);
        if now < self.next() {
            return false;
        }
        self.even_us = self.even_us.max(now_us).saturating_add(self.interval_us);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);

    fn pace(count: u32, seconds: u64) -> Pace {
        Pace::new(RateLimit { count, per: DurationMs::from_secs(seconds) })
    }

    #[test]
    fn an_eager_sender_is_held_to_the_rate() {
        let mut pace = pace(50, 1);
        let sent = (0..10_000).filter(|ms| pace.take(NOW + DurationMs(*ms))).count();
        assert!((500..=506).contains(&sent), "{sent} in ten seconds");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = pace(10, 1);
        assert!(pace.take(NOW));
        let later = NOW + DurationMs::from_hours(1);
        let burst = (0..100).filter(|_| pace.take(later)).count();
        assert!(burst <= 2, "{burst} at once");
    }

    // Row 30.
    #[test]
    fn a_clock_that_was_set_back_does_not_stop_the_lane() {
        let mut pace = pace(1, 3600);
        assert!(pace.take(NOW));
        let back = NOW - DurationMs::from_days(365);
        assert!(!pace.take(back));
        assert!(pace.next() <= back + DurationMs::from_hours(2));
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_that_is_let_through(count in 1_u32..5000, waits in proptest::collection::vec(0_u64..50, 1..200)) {
            let mut pace = pace(count, 1);
            let mut now = NOW;
            for wait in waits {
                now = now + DurationMs(wait);
                let next = pace.next();
                prop_assert_eq!(pace.take(now), now >= next);
            }
        }
    }
}
