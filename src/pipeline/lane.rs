//! One destination's lane: what of its outbox is in memory, what is in flight, and whether it may send now.
//!
//! Every delivery the lane knows is in exactly one place; a delivery that is leased stays known until its outcome is
//! committed, so it is never leased twice. What the lane does not know waits in the outbox on disk: everything up to the
//! paging cursor is known, and what lies beyond is paged in when there is room. Nothing here waits or reads a clock.
//!
//! Bounded: fresh ones, retries and those that wait, each; exchanges in flight; outcomes that wait for their commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::delivery::State;
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::limits::{LANE_BODIES, LANE_UNSETTLED};
use crate::domain::pacing::{BreakerPolicy, RateLimit};
use crate::domain::pause::Pause;
use crate::domain::retry::{self, RetryPolicy};
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::read::OutboxCursor;
use crate::store::write::Owed;

use super::gate::{Gate, LaneState, Pass, Said};
use super::halves::Halves;
use super::paging::{PageStart, Paging};

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
    /// In `fresh`, `retries` or `halves`.
    Ready,
    /// On the wheel until this time.
    Waiting(UnixMs),
    /// Being sent, or sent and not settled yet.
    Leased(Box<Owed>),
}

/// A delivery that is due.
#[derive(Debug)]
struct Ready {
    owed: Owed,
    /// Since when it could be sent: `batch_wait` counts from here.
    since: UnixMs,
}

/// Which queue has its turn, so that neither starves the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Fresh,
    Retry,
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
    fresh: VecDeque<Ready>,
    retries: VecDeque<Ready>,
    halves: Halves,
    turn: Turn,
    waiting: usize,
    /// Exchanges in flight: the network permits.
    in_flight: usize,
    /// Exchanges that have ended and whose outcome is not committed yet.
    unsettled: usize,
    /// Entries that `fresh`, `retries` and the wheel may be filled to, each.
    capacity: usize,
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
    pub fn new(rules: Rules, capacity: usize, now: UnixMs) -> Self {
        let gate = Gate::new(&rules, now);
        Self {
            rules,
            gate,
            paging: Paging::default(),
            known: BTreeMap::new(),
            outdated: BTreeSet::new(),
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            halves: Halves::default(),
            turn: Turn::Fresh,
            waiting: 0,
            in_flight: 0,
            unsettled: 0,
            capacity,
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

    /// A delivery that is owed as of a commit. It is taken where there is room; otherwise the outbox keeps it and the
    /// cursor is moved back in front of it.
    pub(super) fn offer(&mut self, owed: Owed, now: UnixMs) -> Offered {
        // A lane that is parked has nothing to do with it: the outbox is read when it is not.
        if self.known.contains_key(&owed.key.seq) || !self.rules.enabled {
            return Offered::Kept;
        }
        let seq = owed.key.seq;
        let Some(owed) = self.halves.take(owed) else {
            self.known.insert(seq, Place::Ready);
            return Offered::Kept;
        };
        let place = OutboxCursor { due_at: owed.due_at, seq: owed.key.seq };
        // Fresh deliveries are taken although older ones are still on disk, as long as they fit into half of the room:
        // a backlog must not delay what has just come in.
        let jumps = owed.history.exchanges == 0 && self.is_due(&owed, now) && self.fresh.len() < self.capacity / 2;
        if !self.paging.covers(place) && !jumps {
            self.paging.missed(place);
            return Offered::Kept;
        }
        self.take(owed, now).unwrap_or_else(|NoRoom| {
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
            match self.take(owed, now) {
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
        let ready = self.fresh.len() + self.retries.len();
        let room = ready <= self.capacity / 2 && (self.paging.is_in_the_past(now) || self.waiting <= self.capacity / 2);
        if room && self.rules.enabled { self.paging.start() } else { None }
    }

    /// The wheel fired for a delivery: it is ready now, unless the entry means nothing any more.
    pub(super) fn fired(&mut self, owed: Owed, now: UnixMs) {
        match self.known.get(&owed.key.seq) {
            Some(Place::Waiting(at)) if *at == owed.due_at => {
                self.waiting = self.waiting.saturating_sub(1);
                self.ready(owed, now);
            }
            Some(Place::Waiting(_) | Place::Ready | Place::Leased(_)) | None => {}
        }
    }

    /// What to send next in one exchange, if the lane may send now; never empty. It is leased from here on.
    pub(super) fn lease(&mut self, now: UnixMs) -> Option<Vec<Owed>> {
        let gathered = self.halves.is_ready() || self.gathered_at().is_some_and(|at| at <= now);
        if !gathered || !self.has_permit() {
            return None;
        }
        let pass = self.gate.open(now)?;
        let batch = match self.halves.pop() {
            Some(half) => half,
            None => self.gather(if pass == Pass::Probe { 1 } else { self.rules.batch.max(1) }),
        };
        let first = batch.first()?;
        if pass == Pass::Probe {
            self.gate.probing(first.key);
        }
        self.in_flight += 1;
        for owed in &batch {
            let kept = Owed { event: None, ..owed.clone() };
            self.outdated.remove(&owed.key.seq);
            self.known.insert(owed.key.seq, Place::Leased(Box::new(kept)));
        }
        Some(batch)
    }

    /// Up to `most` deliveries, from both queues in turn.
    fn gather(&mut self, most: usize) -> Vec<Owed> {
        let mut batch = Vec::new();
        while batch.len() < most {
            let next = match self.turn {
                Turn::Fresh => self.fresh.pop_front().or_else(|| self.retries.pop_front()),
                Turn::Retry => self.retries.pop_front().or_else(|| self.fresh.pop_front()),
            };
            let Some(Ready { owed, .. }) = next else { break };
            self.turn = if self.turn == Turn::Fresh { Turn::Retry } else { Turn::Fresh };
            batch.push(owed);
        }
        batch
    }

    /// When what is ready may be sent: at once where it fills an exchange, else when the first of it has waited for others
    /// long enough. `None` where nothing is ready.
    fn gathered_at(&self) -> Option<UnixMs> {
        let first = self.fresh.front().into_iter().chain(self.retries.front()).map(|ready| ready.since).min()?;
        let full = self.fresh.len() + self.retries.len() >= self.rules.batch;
        Some(if full { first } else { first + self.rules.batch_wait })
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
        let queue = if owed.history.exchanges == 0 { &mut self.fresh } else { &mut self.retries };
        queue.push_front(Ready { owed: *owed, since: UnixMs(0) });
    }

    /// The exchange that carried `members` was refused as a whole.
    pub(super) fn split(&mut self, members: &[EventSeq]) {
        self.halves.split(members);
    }

    /// The delivery is over, or has moved on.
    pub(super) fn is_over(&mut self, seq: EventSeq) {
        self.halves.forget(seq);
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
        let leased = self.known.iter().filter(|(_, place)| matches!(place, Place::Leased(_)));
        self.outdated = leased.map(|(seq, _)| *seq).collect();
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

    /// Leaves everything to the outbox but what is in flight.
    fn park(&mut self) {
        self.known.retain(|_, place| matches!(place, Place::Leased(_)));
        self.fresh.clear();
        self.retries.clear();
        self.halves = Halves::default();
        self.waiting = 0;
        self.rescan();
    }

    pub(super) fn pause(&mut self, pause: Pause) {
        self.gate.pause(pause);
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
        for ready in self.fresh.iter_mut().chain(&mut self.retries) {
            ready.since = ready.since - by;
        }
        self.rescan();
        self.gate.clock_set_back(by);
    }

    /// When the lane itself has to be looked at, whatever the wheel says.
    pub(super) fn next_wake(&self) -> Option<UnixMs> {
        // Without a free permit the end of an exchange is what wakes the lane.
        if !self.has_permit() || self.gate.is_shut() {
            return None;
        }
        let gate = self.gate.next_wake();
        if self.halves.is_ready() {
            return gate;
        }
        let gathered = self.gathered_at()?;
        if self.rules.batch_wait == DurationMs::ZERO { gate } else { gate.max(Some(gathered)) }
    }

    /// Whether one more exchange may be in flight: also outcomes that cannot be committed take the place of new ones.
    fn has_permit(&self) -> bool {
        let concurrency = self.rules.concurrency;
        self.in_flight < concurrency && self.in_flight + self.unsettled < concurrency + LANE_UNSETTLED
    }

    /// The retry policy as it applies to a delivery owed since `owed_since`: waiting for an operator does not count.
    pub(super) fn policy_for(&self, owed_since: UnixMs, now: UnixMs) -> RetryPolicy {
        let stood = self.gate.stood_still(owed_since, now);
        let give_up_after = DurationMs(self.rules.retry.give_up_after.0.saturating_add(stood.0));
        RetryPolicy { give_up_after, ..self.rules.retry.clone() }
    }

    /// Whether the delivery may be sent now. A place in the outbox further ahead than any plan could put it comes from a
    /// clock that was set back since; waiting for it could take years. A replay may be spread over any span, so its place
    /// always holds.
    fn is_due(&self, owed: &Owed, now: UnixMs) -> bool {
        owed.due_at <= now
            || match owed.state {
                // Where it was put when it came in; nobody has made it wait since.
                State::Pending { .. } => owed.due_at == owed.history.owed_since,
                State::Failed { .. } => owed.due_at.since(now) > retry::longest_wait(&self.rules.retry),
                State::Sent { .. }
                | State::FailedPermanently { .. }
                | State::Skipped { .. }
                | State::Discarded { .. } => false,
            }
    }

    fn take(&mut self, mut owed: Owed, now: UnixMs) -> Result<Offered, NoRoom> {
        if !self.is_due(&owed, now) {
            if self.waiting >= self.capacity {
                return Err(NoRoom);
            }
            self.waiting += 1;
            self.known.insert(owed.key.seq, Place::Waiting(owed.due_at));
            // The body is read again when it is due: what waits must stay small.
            owed.event = None;
            return Ok(Offered::Arm(Box::new(owed)));
        }
        // Each queue has its own room: a backlog of retries must not keep out what has just come in.
        let queue = if owed.history.exchanges == 0 { &self.fresh } else { &self.retries };
        if queue.len() >= self.capacity {
            return Err(NoRoom);
        }
        self.ready(owed, now);
        Ok(Offered::Kept)
    }

    fn ready(&mut self, mut owed: Owed, now: UnixMs) {
        self.known.insert(owed.key.seq, Place::Ready);
        if owed.history.exchanges > 0 {
            return self.retries.push_back(Ready { owed, since: now });
        }
        if self.fresh.len() >= LANE_BODIES {
            owed.event = None;
        }
        self.fresh.push_back(Ready { owed, since: now });
    }
}

struct NoRoom;
