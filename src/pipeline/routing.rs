//! The configuration as the pipeline uses it: destinations by name and by number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::info;

use crate::config::snapshot::{Destination, Snapshot};
use crate::domain::id::DestinationId;
use crate::domain::name::DestinationName;

use super::Numbered;
use super::control::Pauses;
use super::lane::Rules;
use super::turns;

/// A snapshot with the store's numbers for its destinations.
#[derive(Debug)]
pub(super) struct Routing {
    pub snapshot: Arc<Snapshot>,
    pub ids: Arc<BTreeMap<DestinationName, DestinationId>>,
    by_id: BTreeMap<DestinationId, Arc<Destination>>,
    /// Exchanges that may be under way at a time, over all destinations.
    pub exchanges: usize,
    /// As of when the destinations were numbered: for lanes that begin with this snapshot.
    pauses: Pauses,
}

impl Routing {
    pub(super) fn new(snapshot: Arc<Snapshot>, numbered: Numbered, exchanges: usize) -> Self {
        let Numbered { ids, pauses } = numbered;
        let by_id = snapshot
            .destinations
            .values()
            .filter_map(|destination| Some((*ids.get(&destination.name)?, Arc::clone(destination))))
            .collect();
        Self { snapshot, ids: Arc::new(ids), by_id, exchanges, pauses }
    }

    /// Destinations that are not what they were in `before`.
    pub(super) fn changed_since(&self, before: &Self) -> BTreeSet<DestinationId> {
        let differs = |id: &DestinationId, now: &Arc<Destination>| {
            before.by_id.get(id).is_none_or(|known| !Arc::ptr_eq(known, now))
        };
        self.by_id.iter().filter(|(id, now)| differs(id, now)).map(|(id, _)| *id).collect()
    }

    /// Destinations of `before` that are gone.
    pub(super) fn gone_since<'a>(&self, before: &'a Self) -> impl Iterator<Item = &'a DestinationName> {
        before.by_id.iter().filter(|(id, _)| !self.by_id.contains_key(id)).map(|(_, destination)| &destination.name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (DestinationId, DestinationName)> {
        self.by_id.iter().map(|(id, destination)| (*id, destination.name.clone()))
    }

    pub(super) fn destination(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.by_id.get(&id)
    }

    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// The lanes' rules, each with no more exchanges at a time than there are turns for it.
    pub(super) fn rules(&self) -> BTreeMap<DestinationId, Rules> {
        let enabled = self.by_id.iter().filter(|(_, destination)| destination.enabled);
        let wanted = enabled.map(|(id, destination)| (*id, destination.lane.concurrency)).collect();
        let turns = turns::share(self.exchanges, &wanted);
        let rules = |(id, destination): (&DestinationId, &Arc<Destination>)| {
            let rules = Rules::of(destination);
            let concurrency = turns.get(id).copied().unwrap_or(rules.concurrency);
            if concurrency < rules.concurrency {
                let (destination, configured) = (&destination.name, rules.concurrency);
                info!(%destination, configured, concurrency, "Fewer exchanges at a time than configured, for want of file descriptors.");
            }
            (*id, Rules { concurrency, ..rules })
        };
        self.by_id.iter().map(rules).collect()
    }
}

impl Rules {
    pub fn of(destination: &Destination) -> Self {
        Self {
            enabled: destination.enabled,
            concurrency: destination.lane.concurrency,
            batch: destination.adapter.batch_max(),
            batch_wait: destination.adapter.batch_wait(),
            hold_probe: destination.lane.hold_probe,
            rate_limit: destination.lane.rate_limit,
            breaker: destination.lane.breaker,
            retry: destination.retry.clone(),
        }
    }
}
