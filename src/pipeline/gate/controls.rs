//! What is said to a gate rather than found out by it: pauses, by an operator or by a receiver that is gone, and releases.

use super::{Gate, LaneState, Standstill};
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::UnixMs;

impl LaneState {
    /// Whose pause it is, while there is one.
    pub fn paused_by(&self) -> Option<PausedBy> {
        match self {
            Self::Paused(pause) => Some(pause.by),
            Self::Active
            | Self::Throttled { .. }
            | Self::Open { .. }
            | Self::Held { .. }
            | Self::Disabled
            | Self::Orphaned => None,
        }
    }
}

impl Gate {
    /// Nothing is sent from here on, whatever held the lane before.
    pub(in crate::pipeline) fn pause(&mut self, pause: Pause) {
        let pause = match &self.state {
            LaneState::Paused(earlier) => pause.over(earlier),
            LaneState::Active
            | LaneState::Throttled { .. }
            | LaneState::Open { .. }
            | LaneState::Held { .. }
            | LaneState::Disabled
            | LaneState::Orphaned => {
                self.remember_standstill(pause.since);
                pause
            }
        };
        self.state = LaneState::Paused(pause);
    }

    /// A pause that ended before it was told, or is told again: its standstill counts, once.
    pub(in crate::pipeline) fn was_paused(&mut self, pause: &Pause) {
        if let Some(to) = pause.until {
            self.remember(Standstill { from: pause.since, to });
        }
    }

    /// The pause is over, if there is one.
    pub(in crate::pipeline) fn resume(&mut self, now: UnixMs) {
        if matches!(self.state, LaneState::Paused(_)) {
            self.remember_standstill(now);
            self.parked_since = now;
            self.state = self.at_home(now);
        }
    }

    /// A pause whose time has come is over.
    pub(in crate::pipeline) fn end_pause(&mut self, now: UnixMs) {
        if matches!(&self.state, LaneState::Paused(pause) if pause.is_over(now)) {
            self.resume(now);
        }
    }

    /// An operator says that it is mended: a throttle ends, a hold and an open circuit are probed at once. A probe that is
    /// under way tells soon enough, and a pause is ended by its own word.
    pub(in crate::pipeline) fn release(&mut self, now: UnixMs) {
        if !matches!(self.state, LaneState::Paused(_)) {
            self.patience = UnixMs(0);
        }
        match &mut self.state {
            LaneState::Throttled { .. } => self.state = LaneState::Active,
            LaneState::Open { probe_at, .. } | LaneState::Held { probe_at, .. } => *probe_at = now.min(*probe_at),
            LaneState::Active | LaneState::Paused(_) | LaneState::Disabled | LaneState::Orphaned => {}
        }
    }

    /// A pause that the gate made itself, once: it is to be made durable.
    pub(in crate::pipeline) fn take_made_pause(&mut self) -> Option<Pause> {
        self.made.take()
    }

    /// The receiver is gone. Whoever paused the lane before had a reason that still holds.
    pub(super) fn gone(&mut self, now: UnixMs, detail: &str) {
        match &self.state {
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } | LaneState::Held { .. } => {
                let pause = Pause::gone(now, detail);
                self.made = Some(pause.clone());
                self.pause(pause);
            }
            LaneState::Paused(_) | LaneState::Disabled | LaneState::Orphaned => {}
        }
    }
}
