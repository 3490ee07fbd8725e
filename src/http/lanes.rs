//! The state of a destination (SPEC 2): of its lane where it has one, else what the configuration and the books say. And the
//! name under which a delivery goes to it.

use std::collections::BTreeMap;

use super::AppState;
use crate::config::snapshot::Snapshot;
use crate::domain::delivery::Delivery;
use crate::domain::name::{CanonicalName, DestinationName};
use crate::pipeline::LaneView;

/// Every state, as the API, the page and the metrics call it. The last two have no lane.
pub(super) const STATES: [&str; 8] =
    ["active", "throttled", "open", "held", "paused", "disabled", "orphaned", "removed"];

/// Where a destination stands without a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It has not shown itself yet.
    Enabled,
    Disabled,
    /// Not in the configuration any more.
    Gone {
        owed: u64,
    },
}

/// What is shown of it there.
pub(super) fn without_lane(name: &DestinationName, place: Place) -> LaneView {
    let (state, reason) = match place {
        Place::Enabled => ("active", None),
        Place::Disabled => ("disabled", Some("enabled = false in the configuration".to_owned())),
        Place::Gone { owed: 0 } => ("removed", Some("not in the configuration; nothing is owed".to_owned())),
        Place::Gone { .. } => {
            let why = format!(
                "not in the configuration, and deliveries are still owed: they wait until the name returns \
                 (to give them up: postbackd purge {name} --reason TEXT)"
            );
            ("orphaned", Some(why))
        }
    };
    LaneView { state, reason, until: None, paused_by: None, in_flight: 0 }
}

/// The lanes of all configured destinations.
pub(super) fn of_configured(state: &AppState) -> BTreeMap<DestinationName, LaneView> {
    let mut lanes = state.pipeline.lanes();
    for (name, destination) in &state.pipeline.snapshot().destinations {
        let place = if destination.enabled { Place::Enabled } else { Place::Disabled };
        lanes.entry(name.clone()).or_insert_with(|| without_lane(name, place));
    }
    lanes
}

/// Gives a delivery that is still owed the name that its next attempt will send, since `events` may have changed. One that
/// has ended keeps the name it was sent under.
pub(super) fn name_as_sent(
    snapshot: &Snapshot,
    destination: Option<&DestinationName>,
    event: &CanonicalName,
    delivery: &mut Delivery,
) {
    let destination = destination.filter(|_| delivery.state.due_at().is_some());
    let Some(destination) = destination.and_then(|name| snapshot.destinations.get(name)) else { return };
    if let Some(target) = destination.events.target(event, destination.adapter.as_ref()) {
        delivery.target = Some(target);
    }
}
