//! Who is sent what, and when: a pure state machine over all lanes. Inputs are facts (committed, ended, time has passed),
//! effects are wishes (send this, settle that, read a page). The same machine runs in the daemon and in the simulator.
//!
//! Invariants: a delivery is leased at most once at a time and stays leased until its outcome is committed; nothing is sent
//! before it is due; a lane never has more exchanges in flight than it may; what is in memory is bounded, however much
//! is owed and however long nothing can be committed; everything in memory can be rebuilt from the outbox
//! ([`Input::Rescan`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::destination::Judgement;
use crate::domain::delivery::{Attempt, Autopsy};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::limits::{LANE_ENTRIES_MAX, LANE_ENTRIES_MIN, PAGE_ROWS, SCHEDULER_BYTES, SCHEDULER_ENTRIES};
use crate::domain::outcome::Verdict;
use crate::domain::pause::Pause;
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::entropy::Entropy;
use crate::store::read::{Bodies, OutboxCursor};
use crate::store::write::{Owed, Settle};

use super::control::{self, Control, Pauses};
use super::lane::{Lane, Offered, Room, Rules};
use super::paging::PageStart;
use super::purse::Purse;
use super::settle;
use super::wheel::Wheel;

/// A fact.
#[derive(Debug)]
pub enum Input {
    /// Deliveries that are owed as of a commit: accepted or replayed.
    Owed(Vec<Owed>),
    /// An outcome is committed; `owed` is the delivery if it is owed again.
    Settled { key: DeliveryKey, owed: Option<Owed> },
    /// An outcome met a delivery that had moved on.
    Stale { key: DeliveryKey },
    /// These are owed no more, as of a commit: an operator gave them up.
    Purged { destination: DestinationId, seqs: Vec<EventSeq> },
    /// An exchange has ended, or could not be made.
    Ended(Ended),
    /// The page a [`Effect::Load`] asked for; `end` says that the outbox holds no more after it.
    Page { destination: DestinationId, rows: Vec<Owed>, end: bool },
    /// The page could not be read.
    PageFailed { destination: DestinationId },
    /// What is in memory may have missed a commit: look at every outbox again.
    Rescan,
    /// The configuration is another: these are all destinations there are; those in `changed` are new or not what they were.
    /// `pauses` are for lanes that begin with it; the others know theirs.
    Rules { rules: BTreeMap<DestinationId, Rules>, changed: BTreeSet<DestinationId>, pauses: Pauses },
    /// A pause, the end of one, or a release.
    Control(Control),
    /// Time has passed.
    Tick,
    /// Send nothing more.
    Drain,
    /// Send nothing until [`Input::Go`]: outcomes may be lost.
    Halt,
    /// Send again.
    Go,
}

/// How an exchange ended, or why there was none.
#[derive(Debug)]
pub struct Ended {
    /// What was said in the exchange, about all deliveries that were in it; `None` where none was made.
    pub answer: Option<Judgement>,
    /// One for each delivery of the [`Effect::Send`], in its order; never empty.
    pub parts: Vec<Part>,
}

/// How it ended for one delivery.
#[derive(Debug)]
pub struct Part {
    pub key: DeliveryKey,
    pub end: PartEnd,
}

/// See [`Part`].
#[derive(Debug)]
pub enum PartEnd {
    /// It was in the exchange. `autopsy` is what the DLQ keeps if this was the end.
    Exchanged { attempt: Attempt, autopsy: Autopsy },
    /// It could not be sent at all.
    Unsent { verdict: Verdict, autopsy: Autopsy },
    /// The exchange was made without it, for want of room.
    NoRoom,
}

/// A wish.
#[derive(Debug)]
pub enum Effect {
    /// Make one exchange for these deliveries of one destination, never none; [`Input::Ended`] must follow.
    Send(Vec<Owed>),
    /// Commit this pause, which holds already.
    Pause { destination: DestinationId, pause: Pause },
    /// Commit this outcome; [`Input::Settled`] or [`Input::Stale`] must follow.
    Settle(Box<Settle>),
    /// Read the destination's outbox strictly after `after`; [`Input::Page`] or [`Input::PageFailed`] must follow.
    Load { destination: DestinationId, after: Option<OutboxCursor>, limit: usize, bodies: Bodies },
}

/// See the module's page.
#[derive(Debug)]
pub struct Scheduler {
    lanes: BTreeMap<DestinationId, Lane>,
    wheel: Wheel<Box<Owed>>,
    /// Room of each lane.
    capacity: usize,
    /// Room for events, of all lanes.
    purse: Purse,
    /// The latest time a step was made at.
    now: UnixMs,
    draining: bool,
    halted: bool,
}

impl Scheduler {
    /// One lane for each destination; everything owed is read from the outboxes at the first [`Input::Tick`].
    pub fn new(rules: BTreeMap<DestinationId, Rules>, now: UnixMs) -> Self {
        let capacity = (SCHEDULER_ENTRIES / rules.len().max(1)).clamp(LANE_ENTRIES_MIN, LANE_ENTRIES_MAX);
        Self::with_capacity(rules, capacity, now)
    }

    /// The same with so much room for each lane: the less there is, the more is left to the outbox.
    pub fn with_capacity(rules: BTreeMap<DestinationId, Rules>, capacity: usize, now: UnixMs) -> Self {
        let purse = Purse::new(SCHEDULER_BYTES);
        let lane = |rules| Lane::new(rules, Room { capacity, purse: purse.of_a_lane() }, now);
        let lanes = rules.into_iter().map(|(id, rules)| (id, lane(rules))).collect();
        Self { lanes, wheel: Wheel::new(now), capacity, purse, now, draining: false, halted: false }
    }

    /// The same with the pauses that the store remembers.
    #[must_use]
    pub fn with_pauses(mut self, pauses: Pauses) -> Self {
        control::apply(&mut self.lanes, Control::Pauses(pauses), self.now);
        self
    }

    pub fn lane(&self, destination: DestinationId) -> Option<&Lane> {
        self.lanes.get(&destination)
    }

    pub fn lanes(&self) -> impl Iterator<Item = (DestinationId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane))
    }

    /// Whether no lane knows of anything that is owed, or of a time that it waits for.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(Lane::is_idle)
    }

    /// Exchanges in flight, over all lanes.
    pub fn in_flight(&self) -> usize {
        self.lanes.values().map(Lane::in_flight).sum()
    }

    /// The number of the attempt that is under way for this delivery.
    pub fn next_attempt(&self, key: DeliveryKey) -> u32 {
        let leased = self.lanes.get(&key.destination).and_then(|lane| lane.leased(key));
        leased.map_or(0, |owed| owed.history.exchanges).saturating_add(1)
    }

    /// Takes a fact and appends what is to be done about it.
    pub fn step(&mut self, input: Input, now: UnixMs, dice: &dyn Entropy, effects: &mut Vec<Effect>) {
        self.watch_clock(now, effects);
        match input {
            Input::Owed(owed) => {
                let destinations: BTreeSet<DestinationId> = owed.iter().map(|owed| owed.key.destination).collect();
                for owed in owed {
                    self.offer(owed, now);
                }
                // Once all are there: what came in together may go out together.
                for destination in destinations {
                    self.pump(destination, now, effects);
                }
            }
            Input::Settled { key, owed } => {
                self.release(key, owed.is_none());
                if let Some(owed) = owed {
                    self.offer(owed, now);
                }
                self.pump(key.destination, now, effects);
            }
            Input::Stale { key } => {
                self.release(key, true);
                if let Some(lane) = self.lanes.get_mut(&key.destination) {
                    lane.rescan();
                }
                self.pump(key.destination, now, effects);
            }
            Input::Purged { destination, seqs } => {
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    lane.purged(&seqs);
                }
                self.pump(destination, now, effects);
            }
            Input::Ended(ended) => self.ended(ended, now, dice, effects),
            Input::Page { destination, rows, end } => {
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    for owed in lane.page(rows, end, now) {
                        self.wheel.insert(owed.due_at, Box::new(owed));
                    }
                }
                self.pump(destination, now, effects);
            }
            Input::PageFailed { destination } => {
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    lane.paging.failed();
                }
                self.pump(destination, now, effects);
            }
            Input::Rescan => {
                for lane in self.lanes.values_mut() {
                    lane.rescan();
                }
                self.pump_all(now, effects);
            }
            Input::Rules { rules, changed, pauses } => {
                self.reconfigure(rules, &changed, pauses, now);
                self.pump_all(now, effects);
            }
            Input::Control(control) => {
                control::apply(&mut self.lanes, control, now);
                self.pump_all(now, effects);
            }
            Input::Tick => self.tick(now, effects),
            Input::Drain => self.draining = true,
            Input::Halt => self.halted = true,
            Input::Go => {
                self.halted = false;
                self.pump_all(now, effects);
            }
        }
    }

    /// When to send the next [`Input::Tick`]; possibly earlier than anything happens, never later.
    pub fn next_wake(&self) -> Option<UnixMs> {
        if self.draining || self.halted {
            return None;
        }
        let lanes = self.lanes.values().filter_map(|lane| lane.next_wake(self.now)).min();
        self.wheel.next_wake().into_iter().chain(lanes).min()
    }

    /// A clock that was set back leaves the wheel in the future, where everything new would be overdue: a failing delivery
    /// would be tried again at once, and again. The wheel is only a cache, so it is dropped and filled anew.
    fn watch_clock(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        let by = self.now.since(now);
        self.now = now;
        if by == DurationMs::ZERO {
            return;
        }
        self.wheel = Wheel::new(now);
        for lane in self.lanes.values_mut() {
            lane.clock_set_back(by);
        }
        self.pump_all(now, effects);
    }

    /// Lanes of destinations that are gone stay: what they have in flight must be settled, and the name may return.
    fn reconfigure(
        &mut self,
        mut rules: BTreeMap<DestinationId, Rules>,
        changed: &BTreeSet<DestinationId>,
        mut pauses: Pauses,
        now: UnixMs,
    ) {
        for (id, lane) in &mut self.lanes {
            match rules.remove(id) {
                Some(rules) => lane.reconfigure(rules, changed.contains(id), now),
                None => lane.orphan(now),
            }
        }
        for (id, rules) in rules {
            let room = Room { capacity: self.capacity, purse: self.purse.of_a_lane() };
            let mut lane = Lane::new(rules, room, now);
            if let Some(pause) = pauses.remove(&id) {
                lane.pause(pause, now);
            }
            self.lanes.insert(id, lane);
        }
    }

    fn offer(&mut self, owed: Owed, now: UnixMs) {
        let Some(lane) = self.lanes.get_mut(&owed.key.destination) else { return };
        match lane.offer(owed, now) {
            Offered::Kept => {}
            Offered::Arm(owed) => self.wheel.insert(owed.due_at, owed),
        }
    }

    fn release(&mut self, key: DeliveryKey, is_over: bool) {
        let Some(lane) = self.lanes.get_mut(&key.destination) else { return };
        lane.released(key);
        if is_over {
            lane.is_over(key.seq);
        }
    }

    fn ended(&mut self, ended: Ended, now: UnixMs, dice: &dyn Entropy, effects: &mut Vec<Effect>) {
        let Some(first) = ended.parts.first().map(|part| part.key) else { return };
        let Some(lane) = self.lanes.get_mut(&first.destination) else { return };
        // Rolling asks the system: not for each delivery that is simply taken.
        let roll = if settle::spreads(&ended) { dice.next_u64() } else { 0 };
        settle::ended(lane, ended, now, roll, effects);
        self.pump(first.destination, now, effects);
    }

    fn tick(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        let mut fired = Vec::new();
        self.wheel.advance(now, &mut fired);
        for (_, owed) in fired {
            if let Some(lane) = self.lanes.get_mut(&owed.key.destination) {
                lane.fired(*owed, now);
            }
        }
        for lane in self.lanes.values_mut() {
            lane.end_pause(now);
        }
        self.pump_all(now, effects);
    }

    fn pump_all(&mut self, now: UnixMs, effects: &mut Vec<Effect>) {
        let destinations: Vec<DestinationId> = self.lanes.keys().copied().collect();
        for destination in destinations {
            self.pump(destination, now, effects);
        }
    }

    /// Sends what the lane may send and asks for a page where it has room.
    fn pump(&mut self, destination: DestinationId, now: UnixMs, effects: &mut Vec<Effect>) {
        if self.draining || self.halted {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&destination) else { return };
        while let Some(batch) = lane.lease(now) {
            effects.push(Effect::Send(batch));
        }
        if let Some(start) = lane.wants_page(now) {
            let after = match start {
                PageStart::Beginning => None,
                PageStart::After(cursor) => Some(cursor),
            };
            let bodies = Bodies { due_by: now, bytes: lane.room() };
            effects.push(Effect::Load { destination, after, limit: PAGE_ROWS, bodies });
        }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
