//! Jobs: replays and discards that go on after their answer, and how a rate paces them.

use super::pacing::RateLimit;
use super::time::{DurationMs, UnixMs};

/// Finished jobs kept; the oldest go first.
pub const JOBS_KEPT: usize = 100;
/// Jobs that may run at once.
pub const JOBS_RUNNING: usize = 16;
/// Deliveries one page of a job changes at most, while nobody sends.
pub const JOB_PAGE: usize = 200;
/// The same while somebody does: what shares a transaction with events must not be felt in it.
pub const JOB_PAGE_BESIDE: usize = 8;

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

/// How many may go at `now` in a page of at most `page`, where what was due up to `paced_to` has gone. The first of a job goes
/// at once: it begins with a `paced_to` of [`before_first`]. What a job could not do while the daemon was down is not made up
/// for: at most a second's worth is, or one where that is less.
pub fn pace(rate: RateLimit, paced_to: UnixMs, now: UnixMs, page: usize) -> Pace {
    let count = u64::from(rate.count.max(1));
    let per = rate.per.0.max(1);
    // A clock that was set back must not stop a job for as long as it was wrong.
    let paced_to = paced_to.min(now);
    let passed = now.0.saturating_sub(paced_to.0);
    let due = passed.saturating_mul(count) / per;
    if due == 0 {
        return Pace::Wait { until: paced_to + DurationMs(per.div_ceil(count)) };
    }
    let second = (count.saturating_mul(1000) / per).max(1);
    let (due, paced_to) = if due > second { (second, now - DurationMs(second * per / count)) } else { (due, paced_to) };
    let most = due.min(u64::try_from(page).unwrap_or(u64::MAX));
    Pace::Go { most: usize::try_from(most).unwrap_or(page), paced_to: paced_to + DurationMs(most * per / count) }
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
            if let Pace::Go { most, paced_to: next } = pace(rate, paced_to, START + DurationMs(passed), JOB_PAGE) {
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
    fn small_pages_lose_nothing_of_the_rate() {
        let rate = RateLimit::parse("400/s").unwrap();
        let (mut paced_to, mut sum) = (before_first(rate, START), 0);
        let mut now = START;
        while sum < 4000 {
            match pace(rate, paced_to, now, JOB_PAGE_BESIDE) {
                Pace::Go { most, paced_to: next } => {
                    assert!(most <= JOB_PAGE_BESIDE);
                    (sum, paced_to) = (sum + most, next);
                }
                Pace::Wait { until } => now = until.max(now + DurationMs(100)),
            }
        }
        assert!((9_900..=10_000).contains(&now.since(START).0), "{} ms", now.since(START).0);
    }

    #[test]
    fn a_wait_ends_when_the_next_may_go() {
        let rate = RateLimit::parse("4/s").unwrap();
        let Pace::Wait { until } = pace(rate, START, START + DurationMs(10), 8) else { panic!("it went") };
        assert_eq!(until, START + DurationMs(250));
        assert!(matches!(pace(rate, START, until, 8), Pace::Go { most: 1, .. }));
    }

    #[test]
    fn a_day_without_power_is_not_made_up_for_at_once() {
        let rate = RateLimit::parse("10/s").unwrap();
        let later = START + DurationMs::from_hours(24);
        assert_eq!(pace(rate, START, later, JOB_PAGE), Pace::Go { most: 10, paced_to: later });
        assert_eq!(
            pace(rate, later, START, JOB_PAGE),
            Pace::Wait { until: START + DurationMs(100) },
            "nor a clock set back waited for"
        );
    }
}
