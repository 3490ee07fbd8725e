//! One destination's lane: what of its outbox is in memory, what is in flight, and whether it may send now.
//!
//! Every delivery the lane knows is in exactly one place; a delivery that is leased stays known until its outcome is
//! committed, so it is never leased twice. What the lane does not know waits in the outbox on disk: everything up to the
//! paging cursor is known, and what lies beyond is paged in when there is room. Nothing here waits or reads a clock.
//!
//! Bounded: fresh ones, retries and those that wait, each; exchanges in flight; outcomes that wait for their commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::delivery::State;
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::limits::LANE_UNSETTLED;
use crate::domain::pacing::{BreakerPolicy, RateLimit};
use crate::domain::pause::Pause;
use crate::domain::retry::{self, RetryPolicy};
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::read::OutboxCursor;
use crate::store::write::Owed;

use super::gate::{Gate, LaneState, Pass, Said};
use super::paging::{PageStart, Paging};
use super::purse::Purse;
use super::queue::{Part, Queue, Share, Taken, Together};

/// One permit in so many is kept for what has just come in; at least one, where there are [`KEPT_FROM`].
const KEPT_FOR_FRESH: usize = 8;
/// With fewer permits than this, taking turns has to do.
const KEPT_FROM: usize = 4;

/// What the configuration says about a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    pub enabled: bool,
    /// Exchanges in flight at most.
    pub concurrency: usize,
    /// Deliveries one exchange may carry; at least 1.
    pub batch: usize,
    /// How long a delivery may wait for others to share its exchange.
    pub batch_wait: DurationMs,
    pub hold_probe: DurationMs,
    pub rate_limit: Option<RateLimit>,
    pub breaker: Option<BreakerPolicy>,
    pub retry: RetryPolicy,
}

/// Where a known delivery is.
#[derive(Debug)]
enum Place {
    /// In the queue.
    Ready,
    /// On the wheel until this time.
    Waiting(UnixMs),
    /// Being sent, or sent and not settled yet.
    Leased(Box<Owed>),
}

/// See the module's page.
#[derive(Debug)]
pub struct Lane {
    pub(super) rules: Rules,
    gate: Gate,
    pub(super) paging: Paging,
    known: BTreeMap<EventSeq, Place>,
    /// Leased when the destination was configured otherwise: how that ends says nothing about it as it is now.
    outdated: BTreeSet<EventSeq>,
    queue: Queue,
    waiting: usize,
    /// Exchanges in flight: the network permits.
    in_flight: usize,
    /// Those of them that carry backlog only, by their first delivery.
    backlog_in_flight: BTreeSet<EventSeq>,
    /// Exchanges that have ended and whose outcome is not committed yet.
    unsettled: usize,
    room: Room,
}

/// What a lane may keep in memory.
#[derive(Debug)]
pub(super) struct Room {
    /// Entries that each part of the queue and the wheel may be filled to.
    pub capacity: usize,
    /// Bytes of events.
    pub purse: Purse,
}

/// What to do with a delivery that was offered.
#[derive(Debug)]
pub(super) enum Offered {
    /// Taken, or left to the outbox.
    Kept,
    /// Put this on the wheel.
    Arm(Box<Owed>),
}

impl Lane {
    pub(super) fn new(rules: Rules, room: Room, now: UnixMs) -> Self {
        let gate = Gate::new(&rules, now);
        Self {
            rules,
            gate,
            paging: Paging::default(),
            known: BTreeMap::new(),
            outdated: BTreeSet::new(),
            queue: Queue::new(),
            waiting: 0,
            in_flight: 0,
            backlog_in_flight: BTreeSet::new(),
            unsettled: 0,
            room,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn state(&self) -> &LaneState {
        self.gate.state()
    }

    /// Deliveries in memory, leased ones included.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Whether time alone changes nothing here.
    pub(super) fn is_idle(&self) -> bool {
        let waits = match self.gate.state() {
            LaneState::Throttled { .. } | LaneState::Open { .. } | LaneState::Held { .. } => true,
            LaneState::Paused(pause) => pause.until.is_some(),
            LaneState::Active | LaneState::Disabled | LaneState::Orphaned => false,
        };
        self.known.is_empty() && !waits
    }

    /// Deliveries whose outcome is not committed yet.
    #[cfg(test)]
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// A delivery that is owed as of a commit. It is taken where there is room; otherwise the outbox keeps it and the
    /// cursor is moved back in front of it.
    pub(super) fn offer(&mut self, owed: Owed, now: UnixMs) -> Offered {
        // A lane that is parked has nothing to do with it: the outbox is read when it is not.
        if self.known.contains_key(&owed.key.seq) || !self.rules.enabled {
            return Offered::Kept;
        }
        let seq = owed.key.seq;
        let Some(owed) = self.queue.take_half(owed) else {
            self.known.insert(seq, Place::Ready);
            return Offered::Kept;
        };
        let place = OutboxCursor { due_at: owed.due_at, seq: owed.key.seq };
        // Fresh deliveries are taken although older ones are still on disk, as long as they fit into half of the room:
        // a backlog must not delay what has just come in.
        let part = if owed.history.exchanges == 0 { Part::Fresh } else { Part::Backlog };
        let has_room = self.queue.len_of(Part::Fresh) < self.room.capacity / 2;
        let jumps = part == Part::Fresh && self.is_due(&owed, now) && has_room;
        if !self.paging.covers(place) && !jumps {
            self.paging.missed(place);
            return Offered::Kept;
        }
        self.take(owed, part, now).unwrap_or_else(|NoRoom| {
            self.paging.pull_back(place);
            Offered::Kept
        })
    }

    /// A page of the outbox that was asked for; returns what belongs on the wheel.
    pub(super) fn page(&mut self, rows: Vec<Owed>, end: bool, now: UnixMs) -> Vec<Owed> {
        let mut armed = Vec::new();
        let mut stopped_at = None;
        // A lane that was parked meanwhile reads everything again one day.
        let rows = if self.rules.enabled { rows } else { Vec::new() };
        for owed in rows {
            let place = OutboxCursor { due_at: owed.due_at, seq: owed.key.seq };
            if self.known.contains_key(&owed.key.seq) || self.paging.was_released(owed.key.seq) {
                self.paging.advance(place);
                continue;
            }
            match self.take(owed, Part::Backlog, now) {
                Ok(Offered::Kept) => self.paging.advance(place),
                Ok(Offered::Arm(owed)) => {
                    armed.push(*owed);
                    self.paging.advance(place);
                }
                Err(NoRoom) => {
                    stopped_at = Some(place);
                    break;
                }
            }
        }
        self.paging.loaded(stopped_at, end);
        armed
    }

    /// Whether a page should be asked for now, and from where.
    pub(super) fn wants_page(&mut self, now: UnixMs) -> Option<PageStart> {
        let room = self.queue.len() <= self.room.capacity / 2
            && (self.paging.is_in_the_past(now) || self.waiting <= self.room.capacity / 2);
        if room && self.rules.enabled { self.paging.start() } else { None }
    }

    /// Bytes of events a page may bring along; none where nothing of it can be sent soon.
    pub(super) fn room(&self) -> usize {
        if self.gate.is_shut() { 0 } else { self.room.purse.room() }
    }

    /// The wheel fired for a delivery: it is ready now, unless the entry means nothing any more.
    pub(super) fn fired(&mut self, owed: Owed, now: UnixMs) {
        match self.known.get(&owed.key.seq) {
            Some(Place::Waiting(at)) if *at == owed.due_at => {
                self.waiting = self.waiting.saturating_sub(1);
                self.ready(owed, Part::Backlog, now);
            }
            Some(Place::Waiting(_) | Place::Ready | Place::Leased(_)) | None => {}
        }
    }

    /// What to send next in one exchange, if the lane may send now; never empty. It is leased from here on.
    pub(super) fn lease(&mut self, now: UnixMs) -> Option<Vec<Owed>> {
        let share = self.share();
        if !self.has_permit() || self.queue.ready_at(share, self.together()).is_none_or(|at| at > now) {
            return None;
        }
        let pass = self.gate.open(now)?;
        let most = if pass == Pass::Probe { 1 } else { self.rules.batch };
        let Taken { batch, part } = self.queue.take(share, most)?;
        let first = batch.first()?;
        if pass == Pass::Probe {
            self.gate.probing(first.key);
        }
        self.in_flight += 1;
        if part == Part::Backlog {
            self.backlog_in_flight.insert(first.key.seq);
        }
        for owed in &batch {
            let kept = Owed { event: None, ..owed.clone() };
            self.outdated.remove(&owed.key.seq);
            self.known.insert(owed.key.seq, Place::Leased(Box::new(kept)));
        }
        Some(batch)
    }

    /// Some permits are kept for what has just come in, so that a backlog that is slow to drain does not delay it.
    fn share(&self) -> Share {
        let concurrency = self.rules.concurrency;
        let kept = if concurrency < KEPT_FROM { 0 } else { (concurrency / KEPT_FOR_FRESH).max(1) };
        if self.backlog_in_flight.len() >= concurrency - kept { Share::FreshOnly } else { Share::All }
    }

    fn together(&self) -> Together {
        Together { most: self.rules.batch, wait: self.rules.batch_wait }
    }

    /// The delivery as it was leased; `None` where it is not.
    pub(super) fn leased(&self, key: DeliveryKey) -> Option<&Owed> {
        match self.known.get(&key.seq) {
            Some(Place::Leased(owed)) => Some(owed),
            Some(Place::Ready | Place::Waiting(_)) | None => None,
        }
    }

    /// The exchange that `first` led has ended: its permit is free, the outcomes of `unsettled` deliveries are to be
    /// committed, and what was said may change what the lane may do. Where no exchange was made, nothing is known of the
    /// destination that was not known before; if it was to be the probe, the next one is.
    pub(super) fn ended(&mut self, first: DeliveryKey, unsettled: usize, said: Option<&Said<'_>>, now: UnixMs) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.backlog_in_flight.remove(&first.seq);
        self.unsettled += unsettled;
        match said.filter(|_| !self.outdated.contains(&first.seq)) {
            Some(said) => self.gate.ended(first, said, now),
            None => self.gate.forget_probe(first),
        }
    }

    /// The exchange had no room for this delivery: it is the next to be sent, and has waited for others already.
    pub(super) fn put_back(&mut self, key: DeliveryKey) {
        let Some(Place::Leased(owed)) = self.known.remove(&key.seq) else { return };
        self.known.insert(key.seq, Place::Ready);
        let part = if owed.history.exchanges == 0 { Part::Fresh } else { Part::Backlog };
        self.queue.put_back(part, *owed);
    }

    /// The exchange that carried `members` was refused as a whole.
    pub(super) fn split(&mut self, members: &[EventSeq]) {
        // A lane that was parked meanwhile does not expect them back: it gathers anew when it is not.
        if self.rules.enabled {
            self.queue.split(members);
        }
    }

    /// The delivery is over, or has moved on.
    pub(super) fn is_over(&mut self, seq: EventSeq) {
        self.queue.is_over(seq);
    }

    /// The outcome is committed (or void): the lease is over.
    pub(super) fn released(&mut self, key: DeliveryKey) {
        if self.leased(key).is_some() {
            self.unsettled = self.unsettled.saturating_sub(1);
            self.known.remove(&key.seq);
            self.outdated.remove(&key.seq);
            self.paging.released(key.seq);
        }
    }

    /// The configuration is another; `changed` says whether it is for this destination.
    pub(super) fn reconfigure(&mut self, rules: Rules, changed: bool, now: UnixMs) {
        if !changed {
            return;
        }
        self.rules = rules;
        self.outdated = self.under_way();
        self.gate.reconfigure(&self.rules, now);
        if !self.rules.enabled {
            self.park();
        }
    }

    /// The destination is gone from the configuration.
    pub(super) fn orphan(&mut self, now: UnixMs) {
        self.gate.orphan(now);
        self.rules.enabled = false;
        self.park();
    }

    /// These are owed no more. A lane is only given up while it is parked and knows none of them; should its name have
    /// returned just now, it looks at its outbox again, and passes over them in a page that is still on its way.
    pub(super) fn purged(&mut self, seqs: &[EventSeq]) {
        self.park();
        for seq in seqs {
            self.paging.released(*seq);
        }
    }

    /// What is leased, in the order of receipt.
    pub fn under_way(&self) -> BTreeSet<EventSeq> {
        let leased = self.known.iter().filter(|(_, place)| matches!(place, Place::Leased(_)));
        leased.map(|(seq, _)| *seq).collect()
    }

    /// Leaves everything to the outbox but what is in flight.
    fn park(&mut self) {
        self.known.retain(|_, place| matches!(place, Place::Leased(_)));
        self.queue.clear();
        self.waiting = 0;
        self.rescan();
    }

    /// One that is over already is only counted: what the lane has found out since stays.
    pub(super) fn pause(&mut self, pause: Pause, now: UnixMs) {
        if pause.is_over(now) && self.state().paused_by().is_none() {
            self.gate.was_paused(&pause);
        } else {
            self.gate.pause(pause);
        }
    }

    pub(super) fn resume(&mut self, now: UnixMs) {
        self.gate.resume(now);
    }

    pub(super) fn release(&mut self, now: UnixMs) {
        self.gate.release(now);
    }

    /// A pause whose time has come is over, also where nothing waits for it.
    pub(super) fn end_pause(&mut self, now: UnixMs) {
        self.gate.end_pause(now);
    }

    /// A pause that the lane made itself and that is to be made durable, once.
    pub(super) fn take_made_pause(&mut self) -> Option<Pause> {
        self.gate.take_made_pause()
    }

    /// Everything in the outbox has to be looked at again.
    pub(super) fn rescan(&mut self) {
        self.paging.restart();
    }

    /// The clock was set back by `by`: what waits is judged anew by the clock as it is now, the gate's own times move along.
    pub(super) fn clock_set_back(&mut self, by: DurationMs) {
        self.known.retain(|_, place| !matches!(place, Place::Waiting(_)));
        self.waiting = 0;
        self.queue.clock_set_back(by);
        self.rescan();
        self.gate.clock_set_back(by);
    }

    /// When the lane itself has to be looked at, whatever the wheel says.
    pub(super) fn next_wake(&self, now: UnixMs) -> Option<UnixMs> {
        // Without a free permit the end of an exchange is what wakes the lane.
        if !self.has_permit() || self.gate.is_shut() {
            return None;
        }
        self.wake_to_send().into_iter().chain(self.paging.wake(now)).min()
    }

    fn wake_to_send(&self) -> Option<UnixMs> {
        let ready = self.queue.ready_at(self.share(), self.together())?;
        self.gate.next_wake().max((self.rules.batch_wait > DurationMs::ZERO).then_some(ready))
    }

    /// Whether one more exchange may be in flight: also outcomes that cannot be committed take the place of new ones.
    fn has_permit(&self) -> bool {
        let concurrency = self.rules.concurrency.min(self.gate.allowance());
        self.in_flight < concurrency && self.in_flight + self.unsettled < concurrency + LANE_UNSETTLED
    }

    /// The retry policy as it applies to a delivery owed since `owed_since`: waiting for an operator does not count.
    pub(super) fn policy_for(&self, owed_since: UnixMs, now: UnixMs) -> RetryPolicy {
        let stood = self.gate.stood_still(owed_since, now);
        let give_up_after = DurationMs(self.rules.retry.give_up_after.0.saturating_add(stood.0));
        RetryPolicy { give_up_after, ..self.rules.retry.clone() }
    }

    /// Whether the delivery may be sent now. A place in the outbox further ahead than any plan could put it comes from a
    /// clock that was set back since; waiting for it could take years. Where nobody has made it wait since it was owed, its
    /// place says when that was, and never that it is too early.
    fn is_due(&self, owed: &Owed, now: UnixMs) -> bool {
        let untouched = matches!(owed.state, State::Pending { .. }) && owed.due_at == owed.history.owed_since;
        owed.due_at <= now || untouched || owed.due_at.since(now) > retry::longest_wait(&self.rules.retry)
    }

    fn take(&mut self, mut owed: Owed, part: Part, now: UnixMs) -> Result<Offered, NoRoom> {
        if !self.is_due(&owed, now) {
            if self.waiting >= self.room.capacity {
                return Err(NoRoom);
            }
            self.waiting += 1;
            self.known.insert(owed.key.seq, Place::Waiting(owed.due_at));
            // The body is read again when it is due: what waits must stay small.
            owed.event = None;
            return Ok(Offered::Arm(Box::new(owed)));
        }
        // Each part has its own room: a backlog must not keep out what has just come in.
        if self.queue.len_of(part) >= self.room.capacity {
            return Err(NoRoom);
        }
        self.ready(owed, part, now);
        Ok(Offered::Kept)
    }

    fn ready(&mut self, owed: Owed, part: Part, now: UnixMs) {
        self.known.insert(owed.key.seq, Place::Ready);
        self.queue.push(part, owed, now, &self.room.purse);
    }
}

struct NoRoom;
