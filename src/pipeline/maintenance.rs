//! Retention: what may be forgotten, and by which clock.
//!
//! Nothing is destroyed on the wall clock alone. A guarded clock never runs ahead of what has really passed: it starts at
//! the wall clock, but at most a day after the newest event in the store, and then follows the monotonic clock. A clock
//! that jumps to 2038 forgets nothing; a clock that is behind forgets later.

use std::time::Duration;

use crate::config::snapshot::{Retention, Snapshot};
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::SweepPlan;

use super::upkeep::Upkeep;

/// How often retention looks for something to remove; the writer then goes on, a slice at a time, until all is done.
const EVERY: Duration = Duration::from_secs(5);
/// How far the wall clock may be ahead of the newest event at start and still be believed at once.
const CATCH_UP: DurationMs = DurationMs::from_hours(24);
/// How far the wall clock may run ahead of the monotonic one (drift, small corrections) and still be believed.
const SLACK: DurationMs = DurationMs::from_hours(1);

/// A wall clock that a step forward does not carry away; the simulator's too.
#[derive(Clone, Copy, Debug)]
pub struct GuardedClock {
    anchor: UnixMs,
    anchored_at: Duration,
}

impl GuardedClock {
    /// `newest` is the receipt of the newest event in the store.
    pub fn new(newest: Option<UnixMs>, wall: UnixMs, monotonic: Duration) -> Self {
        let anchor = newest.map_or(wall, |newest| wall.min(newest + CATCH_UP));
        Self { anchor, anchored_at: monotonic }
    }

    /// Never later than the wall clock, never later than the anchor plus what has really passed.
    pub fn now(&self, wall: UnixMs, monotonic: Duration) -> UnixMs {
        let passed = u64::try_from(monotonic.saturating_sub(self.anchored_at).as_millis()).unwrap_or(u64::MAX);
        wall.min(self.anchor + DurationMs(passed) + SLACK)
    }
}

/// Decides when retention runs and what it may remove.
#[derive(Debug)]
pub(super) struct Maintenance {
    clock: GuardedClock,
    ran_at: Option<Duration>,
}

impl Maintenance {
    pub(super) fn new(clock: GuardedClock) -> Self {
        Self { clock, ran_at: None }
    }

    /// The plan of a slice, if one is due.
    pub(super) fn due(&mut self, monotonic: Duration, wall: UnixMs, snapshot: &Snapshot) -> Option<Upkeep> {
        if self.ran_at.is_some_and(|ran| monotonic.saturating_sub(ran) < EVERY) {
            return None;
        }
        self.ran_at = Some(monotonic);
        let plan = plan(&snapshot.retention, self.clock.now(wall, monotonic));
        Some(Upkeep { plan, size: snapshot.retention.size })
    }
}

/// What may be removed at `now`, which is a guarded clock's.
pub fn plan(retention: &Retention, now: UnixMs) -> SweepPlan {
    let before = |age: Option<DurationMs>| age.map(|age| now - age);
    SweepPlan {
        events_before: before(retention.events),
        attempts_before: before(retention.attempts),
        dlq_before: before(retention.dlq),
        dedupe_before: before(Some(retention.dedupe)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);

    // Row 30.
    #[test]
    fn a_clock_that_jumps_ahead_ages_nothing() {
        let clock = GuardedClock::new(Some(NOW), NOW, Duration::ZERO);
        let hour = Duration::from_hours(1);
        assert_eq!(clock.now(NOW + DurationMs::from_hours(1), hour), NOW + DurationMs::from_hours(1));
        let jumped = clock.now(NOW + DurationMs::from_days(4000), hour);
        assert_eq!(jumped, NOW + DurationMs::from_hours(2));
    }

    // Row 31.
    #[test]
    fn a_start_with_a_wrong_clock_ages_at_most_a_day() {
        let wrong = NOW + DurationMs::from_days(4000);
        let clock = GuardedClock::new(Some(NOW), wrong, Duration::ZERO);
        assert_eq!(clock.now(wrong, Duration::ZERO), NOW + CATCH_UP + SLACK);
        assert_eq!(GuardedClock::new(None, NOW, Duration::ZERO).now(NOW, Duration::ZERO), NOW);
    }

    // Row 30.
    #[test]
    fn a_clock_that_is_behind_forgets_later() {
        let clock = GuardedClock::new(Some(NOW), NOW, Duration::ZERO);
        assert_eq!(clock.now(UnixMs(0), Duration::from_secs(10)), UnixMs(0));
    }

    #[test]
    fn never_keeps_for_ever() {
        let retention = Retention {
            events: Some(DurationMs::from_days(30)),
            attempts: None,
            dlq: None,
            dedupe: DurationMs::from_days(1),
            size: None,
        };
        let plan = plan(&retention, NOW);
        assert_eq!(plan.events_before, Some(NOW - DurationMs::from_days(30)));
        assert_eq!((plan.attempts_before, plan.dlq_before), (None, None));
    }
}
