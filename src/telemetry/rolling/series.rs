//! The last day hour by hour: what a sparkline is drawn from.
//!
//! Hours are those of the clock (UTC), so a bar keeps its height once its hour is over; the last one is not over yet.

use super::{DestinationStats, Sums};
use crate::domain::time::UnixMs;

/// Hours of a series: the one that runs and the 23 before it, all within the day that is remembered.
pub const HOURS: usize = 24;

/// Slots of a quarter of an hour in an hour.
const SLOTS: u64 = 4;

/// Attempts that ended within one hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HourTally {
    pub attempts: u64,
    /// Those of them that did not deliver.
    pub failures: u64,
}

impl DestinationStats {
    /// Attempts and failures of each of the last [`HOURS`] hours, oldest first.
    pub fn series(&self, now: UnixMs) -> [HourTally; HOURS] {
        let mut sums = [Sums::default(); HOURS];
        let current = now.0 / super::DurationMs::from_hours(1).0;
        for (number, slot) in self.day.numbered(now) {
            // A slot of the future is what a clock that stepped back left behind; it is counted as now.
            let age = current.saturating_sub(number / SLOTS);
            let place = usize::try_from(age).ok().and_then(|age| HOURS.checked_sub(1)?.checked_sub(age));
            if let Some(sum) = place.and_then(|place| sums.get_mut(place)) {
                for (_, tally) in &slot.events {
                    sum.add(*tally);
                }
            }
        }
        sums.map(|Sums { delivered, finished }| HourTally {
            attempts: finished,
            failures: finished.saturating_sub(delivered),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::DurationMs;

    const HOUR: DurationMs = DurationMs::from_hours(1);
    /// A quarter past a full hour.
    const NOW: UnixMs = UnixMs(1_764_000_000_000 + 15 * 60_000);

    fn attempts(times: &[(UnixMs, bool)]) -> [HourTally; HOURS] {
        let mut stats = DestinationStats::default();
        let name = "deposit".parse().unwrap();
        for (at, delivered) in times {
            stats.attempt(*at, &name, *delivered, DurationMs(5));
        }
        stats.series(NOW)
    }

    #[test]
    fn every_hour_has_its_own_attempts() {
        let before = |hours: u64| NOW - DurationMs(HOUR.0 * hours);
        let series = attempts(&[
            (before(24), true),
            (before(23), false),
            (before(1) - DurationMs(16 * 60_000), true),
            (before(1), true),
            (before(1), false),
            (NOW, true),
        ]);
        let tally = |attempts, failures| HourTally { attempts, failures };
        assert_eq!(series[0], tally(1, 1), "the hour before it is over 23 whole hours old and gone");
        assert_eq!(series[HOURS - 3..], [tally(1, 0), tally(2, 1), tally(1, 0)]);
        assert_eq!(series.iter().map(|hour| hour.attempts).sum::<u64>(), 5);
    }

    #[test]
    fn a_clock_that_stepped_back_puts_nothing_before_its_time() {
        let series = attempts(&[(NOW + HOUR, false)]);
        assert_eq!(series[HOURS - 1], HourTally { attempts: 1, failures: 1 });
    }
}
