//! Retention: what may be forgotten, and when that is looked at. Things grow old by the [guarded clock](super::guarded).

use std::time::Duration;

use crate::config::snapshot::{Retention, Snapshot};
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::SweepPlan;

use super::guarded::Guard;
use super::upkeep::Upkeep;

/// How often retention looks for something to remove; the writer then goes on, a slice at a time, until all is done.
const EVERY: Duration = Duration::from_secs(5);

/// Decides when retention runs and what it may remove.
#[derive(Debug)]
pub(super) struct Maintenance {
    clock: Guard,
    ran_at: Option<Duration>,
}

impl Maintenance {
    pub(super) fn new(clock: Guard) -> Self {
        Self { clock, ran_at: None }
    }

    /// The plan of a slice, if one is due. It is also when the clock is looked at.
    pub(super) fn due(&mut self, monotonic: Duration, wall: UnixMs, snapshot: &Snapshot) -> Option<Upkeep> {
        if self.ran_at.is_some_and(|ran| monotonic.saturating_sub(ran) < EVERY) {
            return None;
        }
        self.ran_at = Some(monotonic);
        let mut clock = self.clock.lock();
        clock.look(wall, monotonic);
        let plan = plan(&snapshot.retention, clock.now(wall, monotonic));
        let plan = SweepPlan { known: Some(clock.known(monotonic)), ..plan };
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
        known: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);

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
