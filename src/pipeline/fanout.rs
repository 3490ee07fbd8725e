//! Which destinations an event is for: one pure function of the configuration and the event, decided at ingest and never
//! again (SPEC 4).

use std::collections::BTreeMap;

use crate::config::snapshot::{Destination, Snapshot};
use crate::domain::event::Event;
use crate::domain::id::DestinationId;
use crate::domain::name::{DestinationName, TargetName};
use crate::domain::outcome::SkipReason;
use crate::store::write::Planned;

/// One decision for every configured destination, in the order of their names.
pub fn plan(snapshot: &Snapshot, ids: &BTreeMap<DestinationName, DestinationId>, event: &Event) -> Vec<Planned> {
    snapshot
        .destinations
        .values()
        .filter_map(|destination| Some(planned(decide(destination, event), *ids.get(&destination.name)?)))
        .collect()
}

fn planned(decision: Result<TargetName, SkipReason>, destination: DestinationId) -> Planned {
    match decision {
        Ok(target) => Planned::Owe { destination, target },
        Err(reason) => Planned::Skip { destination, reason },
    }
}

/// Whether one destination is owed the event and what it calls it, or why it is skipped.
pub fn decide(config: &Destination, event: &Event) -> Result<TargetName, SkipReason> {
    if !config.enabled {
        return Err(SkipReason::Disabled);
    }
    if config.sources.as_ref().is_some_and(|sources| !sources.contains(&event.source)) {
        return Err(SkipReason::Source);
    }
    let target = config.events.target(&event.canonical, config.adapter.as_ref()).ok_or(SkipReason::Unmapped)?;
    if !config.when.iter().all(|condition| condition.holds(event)) {
        return Err(SkipReason::Filter);
    }
    Ok(target)
}
