//! Configurations that come and go: destinations that are removed and return, that change, that are switched off and on.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::domain::id::DestinationId;
use postbackd::pipeline::control::Pauses;
use postbackd::pipeline::lane::{Lane, Rules};
use postbackd::pipeline::scheduler::Input;
use postbackd::store::write::WriteOp;

use crate::setup;
use crate::world::{Happening, World};

const MINUTE: u64 = 60_000;

/// How a destination stands in the simulated configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Off,
    Gone,
}

impl World {
    /// The operator edits the file: one destination goes, returns, is switched, or is changed in place.
    pub(super) fn reload(&mut self) {
        let next = self.rng.between(5 * MINUTE, 60 * MINUTE);
        self.plan_in(next, Happening::Reload);
        // While the store cannot number destinations, a reload is postponed.
        if self.life.as_ref().is_none_or(|life| life.closed) {
            return;
        }
        let ids: Vec<DestinationId> = self.ids.values().copied().collect();
        let id = ids[usize::try_from(self.rng.below(ids.len() as u64)).expect("small")];
        let how = self.rng.below(6);
        // A configuration is numbered behind the purges that were asked for before it.
        if self.purge_waits(id) {
            return;
        }
        match how {
            0 => drop(self.listed.insert(id, Listed::Gone)),
            1 => drop(self.listed.insert(id, Listed::Off)),
            2 => self.change_limit(id),
            3 => self.move_away(id),
            _ => drop(self.listed.remove(&id)),
        }
        self.take_over(&[id]);
    }

    /// More or fewer exchanges at once from now on; those under way go on (row 70).
    fn change_limit(&mut self, id: DestinationId) {
        self.tally.limit_changes += 1;
        let limit = usize::try_from(self.rng.between(1, 5)).expect("small");
        self.limits.insert(id, limit);
        let lane = self.life.as_ref().and_then(|life| life.scheduler.lane(id));
        self.granted.insert(id, lane.map_or(0, Lane::in_flight));
    }

    /// The receiver listens elsewhere from now on, for another key: what waits follows it, each at its own time (row 68).
    fn move_away(&mut self, id: DestinationId) {
        self.tally.moves += 1;
        let old = self.destination(id);
        let moves = self.moves.get(&id).map_or(1, |moves| moves + 1);
        self.moves.insert(id, moves);
        let new = setup::moved(&old, moves, &self.rng);
        self.peers.get_mut(&id).expect("a peer").host = setup::host(&old.name, moves);
        Arc::make_mut(&mut self.snapshot).destinations.insert(old.name.clone(), Arc::new(new));
    }

    /// Everything is configured again.
    pub(super) fn list_all(&mut self) {
        if self.listed.keys().any(|id| self.purge_waits(*id)) {
            self.commit();
        }
        let absent: Vec<DestinationId> = std::mem::take(&mut self.listed).into_keys().collect();
        self.take_over(&absent);
    }

    /// Whether some of what the destination is owed may be given up by the next commit.
    fn purge_waits(&self, id: DestinationId) -> bool {
        let queue = self.life.as_ref().map(|life| life.queue.as_slice()).unwrap_or_default();
        let mut ops = queue.iter().flat_map(|request| &request.ops);
        ops.any(|op| matches!(op, WriteOp::Purge(purge) if purge.destination == id))
    }

    fn take_over(&mut self, changed: &[DestinationId]) {
        self.tally.reloads += 1;
        let Some(life) = &self.life else { return };
        // As the daemon does: a lane that begins now learns its pause from the store.
        let pauses: Pauses = life.reader.pauses().expect("readable");
        let rules = self.rules();
        let changed = changed.iter().copied().filter(|id| rules.contains_key(id)).collect();
        self.step(Input::Rules { rules, changed, pauses });
    }

    /// The rules of all destinations there are now.
    pub(super) fn rules(&self) -> BTreeMap<DestinationId, Rules> {
        let listed = self.ids.iter().filter(|(_, id)| self.listed.get(id) != Some(&Listed::Gone));
        let rules = listed.map(|(name, id)| {
            let rules = Rules::of(&self.snapshot.destinations[name]);
            let concurrency = self.limits.get(id).copied().unwrap_or(rules.concurrency);
            (*id, Rules { enabled: !self.listed.contains_key(id), concurrency, ..rules })
        });
        rules.collect()
    }
}
