//! Jobs: replays and discards that go on after their answer, and how a rate paces them.

use super::pacing::RateLimit;
use super::time::{DurationMs, UnixMs};

/// Finished jobs kept; the oldest go first.
pub const JOBS_KEPT: usize = 100;
/// Jobs that may run at once.
pub const JOBS_RUNNING: usize = 16;
/// Deliveries one page of a job changes: small, so that ingest never waits long behind one in its transaction.
pub const JOB_PAGE: usize = 200;

/// A job's place in the order of jobs, from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JobNumber(pub u64);

/// What is done to the deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobKind {
    Replay,
    Discard,
}

/// `Running` may become one of the others, which stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobState {
    Running,
    Done,
    Cancelled,
}

impl JobKind {
    pub const ALL: [Self; 2] = [Self::Replay, Self::Discard];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

impl JobState {
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Cancelled];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a rate allows now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// So many (at least one), after which everything up to `paced_to` is used up.
    Go { most: usize, paced_to: UnixMs },
    /// Nothing before then.
    Wait { until: UnixMs },
}

/// How many may go at `now`, where what was due up to `paced_to` has gone. The first of a job goes at once: it begins with a
/// `paced_to` of [`before_first`]. What a job could not do while the daemon was down is not made up for in one burst: at most
/// a second's worth, or one where that is less.
pub fn pace(rate: RateLimit, paced_to: UnixMs, now: UnixMs) -> Pace {
    let count = u64::from(rate.count.max(1));
    let per = rate.per.0.max(1);
    // A clock that was set back must not stop a job for as long as it was wrong.
    let paced_to = paced_to.min(now);
    let passed = now.0.saturating_sub(paced_to.0);
    let due = passed.saturating_mul(count) / per;
    if due == 0 {
        return Pace::Wait { until: paced_to + DurationMs(per.div_ceil(count)) };
    }
    let burst = (count.saturating_mul(1000) / per).clamp(1, u64::try_from(JOB_PAGE).unwrap_or(u64::MAX));
    let (most, paced_to) = if due > burst { (burst, now) } else { (due, paced_to + DurationMs(due * per / count)) };
    Pace::Go { most: usize::try_from(most).unwrap_or(JOB_PAGE), paced_to }
}

/// See [`pace`].
pub fn before_first(rate: RateLimit, start: UnixMs) -> UnixMs {
    start - DurationMs(rate.per.0.div_ceil(u64::from(rate.count.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = UnixMs(1_795_304_438_000);

    /// How many go within `span`, asked every `step` milliseconds.
    fn gone(rate: &str, span: u64, step: usize) -> u64 {
        let rate = RateLimit::parse(rate).unwrap();
        let mut paced_to = before_first(rate, START);
        let mut sum = 0;
        for passed in (0..span).step_by(step) {
            if let Pace::Go { most, paced_to: next } = pace(rate, paced_to, START + DurationMs(passed)) {
                sum += u64::try_from(most).unwrap();
                paced_to = next;
            }
        }
        sum
    }

    #[test]
    fn a_rate_is_kept_over_time_and_the_first_goes_at_once() {
        assert_eq!(gone("50/s", 1, 1), 1);
        assert_eq!(gone("50/s", 10_000, 7), 500);
        assert_eq!(gone("3/s", 10_000, 100), 30);
        assert_eq!(gone("1/h", 3_600_000, 1000), 1);
        assert_eq!(gone("1/h", 3_600_001, 1000), 2);
        assert_eq!(gone("600/m", 60_001, 250), 601, "what a look finds due is not lost by rounding");
    }

    #[test]
    fn a_wait_ends_when_the_next_may_go() {
        let rate = RateLimit::parse("4/s").unwrap();
        let Pace::Wait { until } = pace(rate, START, START + DurationMs(10)) else { panic!("it went") };
        assert_eq!(until, START + DurationMs(250));
        assert!(matches!(pace(rate, START, until), Pace::Go { most: 1, .. }));
    }

    #[test]
    fn a_day_without_power_is_not_made_up_for_at_once() {
        let rate = RateLimit::parse("10/s").unwrap();
        let later = START + DurationMs::from_hours(24);
        assert_eq!(pace(rate, START, later), Pace::Go { most: 10, paced_to: later });
        assert_eq!(
            pace(rate, later, START),
            Pace::Wait { until: START + DurationMs(100) },
            "nor a clock set back waited for"
        );
    }
}
