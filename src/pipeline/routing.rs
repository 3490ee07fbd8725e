//! The configuration as the pipeline uses it: destinations by name and by number.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::snapshot::{Destination, Snapshot};
use crate::domain::id::DestinationId;
use crate::domain::name::DestinationName;

use super::lane::Rules;

/// A snapshot with the store's numbers for its destinations.
#[derive(Debug)]
pub(super) struct Routing {
    pub snapshot: Arc<Snapshot>,
    pub ids: Arc<BTreeMap<DestinationName, DestinationId>>,
    by_id: BTreeMap<DestinationId, Arc<Destination>>,
}

impl Routing {
    pub(super) fn new(snapshot: Arc<Snapshot>, ids: BTreeMap<DestinationName, DestinationId>) -> Self {
        let by_id = snapshot
            .destinations
            .values()
            .filter_map(|destination| Some((*ids.get(&destination.name)?, Arc::clone(destination))))
            .collect();
        Self { snapshot, ids: Arc::new(ids), by_id }
    }

    pub(super) fn destination(&self, id: DestinationId) -> Option<&Arc<Destination>> {
        self.by_id.get(&id)
    }

    /// The lanes' rules.
    pub(super) fn rules(&self) -> BTreeMap<DestinationId, Rules> {
        self.by_id.iter().map(|(id, destination)| (*id, rules(destination))).collect()
    }
}

fn rules(destination: &Destination) -> Rules {
    Rules {
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
