//! What operators do to destinations, as the scheduler sees it: facts about pauses, and releases.
//!
//! A pause is a fact once it is committed, so that it outlives us; the one a lane makes itself (its receiver is gone) holds
//! from that moment and is committed behind it. A release is a word to the lane alone and leaves nothing on disk. Words
//! about destinations that have no lane change nothing.

use std::collections::BTreeMap;

use crate::domain::id::DestinationId;
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::UnixMs;

use super::lane::Lane;

/// Pauses by destination.
pub type Pauses = BTreeMap<DestinationId, Pause>;

/// See the module's page.
#[derive(Clone, Debug)]
pub enum Control {
    /// The pause is committed.
    Paused { destination: DestinationId, pause: Pause },
    /// There is no pause any more, as of a commit.
    Resumed { destination: DestinationId },
    /// These are all pauses there are, as read from the store: some commit's outcome is unknown.
    Pauses(Pauses),
    /// The destination is well again, an operator says.
    Release { destination: DestinationId },
}

/// Tells the lanes.
pub(super) fn apply(lanes: &mut BTreeMap<DestinationId, Lane>, control: Control, now: UnixMs) {
    match control {
        Control::Paused { destination, pause } => {
            if let Some(lane) = lanes.get_mut(&destination) {
                lane.pause(pause, now);
            }
        }
        Control::Resumed { destination } => {
            if let Some(lane) = lanes.get_mut(&destination) {
                lane.resume(now);
            }
        }
        Control::Pauses(mut all) => {
            for (destination, lane) in lanes {
                match all.remove(destination) {
                    Some(pause) => lane.pause(pause, now),
                    // An operator's pause is never in a lane before it is on disk; a lane's own may be on its way there.
                    None if lane.state().paused_by() == Some(PausedBy::Operator) => lane.resume(now),
                    None => {}
                }
            }
        }
        Control::Release { destination } => {
            if let Some(lane) = lanes.get_mut(&destination) {
                lane.release(now);
            }
        }
    }
}
