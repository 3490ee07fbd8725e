//! Operators who pause, resume and release destinations, and receivers that are gone: nothing may be sent in between.

use std::collections::{BTreeMap, BTreeSet};

use postbackd::domain::id::DestinationId;
use postbackd::domain::pause::{Pause, PausedBy};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::Request;
use postbackd::pipeline::control::{Control, Pauses};
use postbackd::pipeline::scheduler::Input;
use postbackd::store::write::WriteOp;

use crate::world::{Happening, World};

const MINUTE: u64 = 60_000;

/// What an outsider knows about pauses.
#[derive(Debug, Default, Clone)]
pub struct Pausing {
    /// As they are on disk, but for what is on its way there.
    stored: Pauses,
    /// What holds in memory, and until when by the clock as it is now.
    in_force: BTreeMap<DestinationId, Option<UnixMs>>,
    /// Where something is on its way to the disk.
    uncertain: BTreeSet<DestinationId>,
    /// What the store holds now was not written by this daemon.
    is_restored: bool,
}

impl Pausing {
    /// A request is about to leave.
    pub fn sending(&self, destination: DestinationId, now: UnixMs) {
        if let Some(until) = self.in_force.get(&destination) {
            assert!(until.is_some_and(|until| until <= now), "sent to {destination:?} while it is paused: {self:?}");
        }
    }

    pub fn clock_set_back(&mut self, by: DurationMs) {
        for until in self.in_force.values_mut() {
            *until = until.map(|until| until - by);
        }
    }

    /// A pause or its end is committed.
    pub fn committed(&mut self, control: &Control) {
        match control {
            Control::Paused { destination, pause } => {
                self.uncertain.remove(destination);
                self.stored.insert(*destination, pause.clone());
                self.in_force.insert(*destination, pause.until);
            }
            Control::Resumed { destination } => {
                self.uncertain.remove(destination);
                self.stored.remove(destination);
                self.in_force.remove(destination);
            }
            Control::Pauses(_) | Control::Release { .. } => {}
        }
    }

    /// A backup was put in place: whatever it held, all are paused now.
    pub fn paused_all(&mut self) {
        (self.stored, self.is_restored) = (Pauses::new(), true);
        self.uncertain.clear();
    }

    /// Everything in memory is gone, and this is on disk.
    pub fn restarted(&mut self, found: &Pauses) {
        if std::mem::take(&mut self.is_restored) {
            self.stored.clone_from(found);
        }
        for destination in self.stored.keys().chain(found.keys()).filter(|one| !self.uncertain.contains(one)) {
            assert_eq!(self.stored.get(destination), found.get(destination), "a committed pause, or its end, is lost");
        }
        self.stored.clone_from(found);
        self.in_force = found.iter().map(|(destination, pause)| (*destination, pause.until)).collect();
        self.uncertain.clear();
    }

    /// A commit failed and the file was opened again: what the store holds is what holds, but that a lane's own pause may
    /// still be on its way.
    pub fn reopened(&mut self, found: &Pauses, own: &BTreeSet<DestinationId>) {
        let before = std::mem::take(&mut self.in_force);
        let uncertain = self.uncertain.clone();
        self.restarted(found);
        for (destination, until) in before {
            if own.contains(&destination) && !found.contains_key(&destination) {
                self.in_force.insert(destination, until);
            } else if let Some(known) = self.in_force.get_mut(&destination)
                && !uncertain.contains(&destination)
            {
                // Set back since with the clock.
                *known = until;
            }
        }
        self.uncertain = uncertain.into_iter().filter(|destination| own.contains(destination)).collect();
    }
}

impl World {
    /// An operator says something to some destination.
    pub(super) fn controls(&mut self) {
        let next = self.rng.between(MINUTE, 40 * MINUTE);
        self.plan_in(next, Happening::Controls);
        let since = self.wall();
        let place = self.rng.below(self.ids.len() as u64) as usize;
        let destination = *self.ids.values().nth(place).expect("as many");
        match self.rng.below(4) {
            0 => {
                let until = self.rng.percent(50).then(|| since + DurationMs(self.rng.between(MINUTE, 120 * MINUTE)));
                let pause = Pause { since, until, reason: "simulated".to_owned(), by: PausedBy::Operator };
                self.tally.pauses += 1;
                self.order(destination, WriteOp::Pause { destination, pause });
            }
            1 | 2 => self.order(destination, WriteOp::Resume { destination }),
            _ => {
                self.tally.releases += 1;
                self.step(Input::Control(Control::Release { destination }));
            }
        }
    }

    fn order(&mut self, destination: DestinationId, op: WriteOp) {
        let Some(life) = self.life.as_mut().filter(|life| !life.closed) else { return };
        life.queue.push(Request { ops: vec![op], reply: None });
        self.oracle.pausing.uncertain.insert(destination);
        self.plan_commit();
    }

    /// A lane paused itself, for its receiver is gone.
    pub(super) fn gone(&mut self, destination: DestinationId, pause: Pause) {
        assert_eq!(pause.by, PausedBy::Destination);
        self.tally.gone += 1;
        self.oracle.pausing.in_force.insert(destination, None);
        self.oracle.pausing.uncertain.insert(destination);
        let Some(life) = &mut self.life else { return };
        life.queue.push(Request { ops: vec![WriteOp::Pause { destination, pause }], reply: None });
        self.plan_commit();
    }

    /// The file was opened again: the lanes are told what is on disk.
    pub(super) fn tell_pauses(&mut self) {
        let Some(life) = &self.life else { return };
        let found = life.reader.pauses().expect("readable");
        let lanes = life.scheduler.lanes();
        let own = lanes.filter(|(_, lane)| lane.state().paused_by() == Some(PausedBy::Destination));
        let own: BTreeSet<DestinationId> = own.map(|(id, _)| id).collect();
        self.oracle.pausing.reopened(&found, &own);
        self.step(Input::Control(Control::Pauses(found)));
    }

    /// All receivers are there again, the operator knows.
    pub(super) fn resume_all(&mut self) {
        let ids: Vec<DestinationId> = self.ids.values().copied().collect();
        for destination in ids {
            self.order(destination, WriteOp::Resume { destination });
        }
    }
}
