//! Whether anything is forgotten: a lane that could send and lets what is due lie, or that has room for all it is owed and
//! does not know of it. A restart would hide either, for it reads everything anew; so it is looked for while the process lives.

use postbackd::domain::id::DestinationId;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::gate::LaneState;
use postbackd::pipeline::lane::Rules;
use postbackd::store::read::Bodies;

use crate::world::World;

/// How often the lanes are looked at.
const EVERY: DurationMs = DurationMs::from_secs(20);
/// How long something may seem to be forgotten: two commits on a slow disk, and some pages that cannot be read.
const GRACE: DurationMs = DurationMs::from_secs(300);

/// How a lane looks that has forgotten something, if it stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Odd {
    /// Something is due, nothing is in flight, and nothing keeps the lane from sending.
    Idle,
    /// It has room for twice what it is owed, and does not know of as many deliveries.
    Unaware,
}

impl World {
    /// What seemed odd has its reason, or will have to show again.
    pub(super) fn calm_down(&mut self) {
        self.odd.clear();
    }

    pub(super) fn watch(&mut self) {
        if self.now < self.watched_at + EVERY {
            return;
        }
        self.watched_at = self.now;
        let odd = self.look_at_lanes();
        self.odd.retain(|known, _| odd.contains(known));
        for (id, how) in odd {
            let since = *self.odd.entry((id, how)).or_insert(self.now);
            let until = since + GRACE + Rules::of(&self.destination(id)).batch_wait;
            let lane = self.life.as_ref().and_then(|life| life.scheduler.lane(id));
            assert!(self.now <= until, "{id:?} is {how:?} since {since}, now {}: {lane:#?}", self.now);
        }
    }

    fn look_at_lanes(&self) -> Vec<(DestinationId, Odd)> {
        let Some(life) = self.life.as_ref().filter(|life| !life.closed) else { return Vec::new() };
        let (wall, room) = (self.wall(), life.capacity / 2);
        let mut odd = Vec::new();
        for (id, lane) in life.scheduler.lanes().filter(|(id, _)| !self.listed.contains_key(id)) {
            let owed = life.reader.outbox_page(id, None, room + 1, Bodies::NONE).expect("readable");
            let is_due = owed.first().is_some_and(|owed| owed.due_at <= wall);
            if is_due && lane.in_flight() == 0 && may_send(lane.state(), wall) {
                odd.push((id, Odd::Idle));
            }
            if owed.len() <= room && lane.known() != owed.len() {
                odd.push((id, Odd::Unaware));
            }
        }
        odd
    }
}

/// Whether nothing but a limit of rate or company keeps the lane from sending now.
fn may_send(state: &LaneState, now: UnixMs) -> bool {
    match state {
        LaneState::Active => true,
        LaneState::Throttled { until } => *until <= now,
        LaneState::Open { probe_at, .. } | LaneState::Held { probe_at, .. } => *probe_at <= now,
        LaneState::Paused(pause) => pause.until.is_some_and(|until| until <= now),
        LaneState::Disabled | LaneState::Orphaned => false,
    }
}
