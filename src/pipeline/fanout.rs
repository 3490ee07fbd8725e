//! Which destinations an event is for: one pure function of the configuration and the event, decided at ingest and never
//! again (SPEC 4).

use std::collections::BTreeMap;

use crate::config::snapshot::{Destination, Snapshot};
use crate::domain::event::Event;
use crate::domain::id::DestinationId;
use crate::domain::name::DestinationName;
use crate::domain::outcome::SkipReason;
use crate::store::write::Planned;

/// One decision for every configured destination, in the order of their names.
pub fn plan(snapshot: &Snapshot, ids: &BTreeMap<DestinationName, DestinationId>, event: &Event) -> Vec<Planned> {
    snapshot
        .destinations
        .values()
        .filter_map(|destination| Some(decide(destination, *ids.get(&destination.name)?, event)))
        .collect()
}

fn decide(config: &Destination, destination: DestinationId, event: &Event) -> Planned {
    let skip = |reason| Planned::Skip { destination, reason };
    if !config.enabled {
        return skip(SkipReason::Disabled);
    }
    if config.sources.as_ref().is_some_and(|sources| !sources.contains(&event.source)) {
        return skip(SkipReason::Source);
    }
    let Some(target) = config.events.target(&event.canonical, config.adapter.as_ref()) else {
        return skip(SkipReason::Unmapped);
    };
    if !config.when.iter().all(|condition| condition.holds(event)) {
        return skip(SkipReason::Filter);
    }
    Planned::Owe { destination, target }
}
