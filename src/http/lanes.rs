//! The state of a destination (SPEC 2): of its lane where it has one, else what the configuration and the books say.

use std::collections::BTreeMap;

use super::AppState;
use crate::domain::name::DestinationName;
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
