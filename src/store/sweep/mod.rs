//! Retention: removing what is old, in slices, from the old end.
//!
//! One slice looks at and removes a bounded number of rows, for as long as its caller has patience, so that the writer is
//! never held for long. Where each scan
//! goes on is kept in memory: rows that stay because something is still owed are passed once, and looked at again only
//! when a delivery of theirs leaves the outbox or the DLQ ([`Marks::lower`]) or the store is opened anew.
//!
//! What is owed, what is in the DLQ within its time, and the events they need are never removed. The books do not change:
//! removed rows keep counting. A row that cannot be read stays while anything may be owed by it: it goes with its event, whose
//! age the event tells or another of its deliveries, once the outbox and the DLQ know nothing of it.

mod clock;
mod dedupe;
mod dlq;
mod events;
mod zones;

use std::fmt;
use std::ops::ControlFlow;

use super::apply::Tables;
use super::damage::Damage;
use super::error::StoreError;
use super::filter::Filters;
use super::row::DeliveryRow;
use super::schema::{self, OutboxKey};
use super::size::footprint;
use super::zone::Zones;
use crate::domain::delivery::{Delivery, State};
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::limits::SWEEP_ROWS;
use crate::domain::time::{KnownTime, UnixMs};

/// Entries one scan may look at in one slice: some ten milliseconds.
const LOOKS: usize = 4096;

/// What a slice does however long it took: entries a scan looks at, so that a disk which is slow to read is got past, and
/// rows it removes, so that it comes to an end one day.
const LOOKS_LEAST: usize = 64;
const ROWS_LEAST: usize = 16;

/// Sequence numbers follow receipt, except where the clock was set. That many entries in a row on the wrong side of a
/// time are taken for the end of it.
pub(super) const STRAYS: usize = 256;

/// What retention may remove, each by receipt before the given time; `None` keeps. A DLQ entry goes by the later of
/// receipt and death, so that an old event that has just died is still there to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SweepPlan {
    /// Events whose every delivery is final, with their deliveries and attempts.
    pub events_before: Option<UnixMs>,
    /// Attempts of final deliveries.
    pub attempts_before: Option<UnixMs>,
    /// DLQ entries; the delivery stays `failed_permanently` and goes with its event.
    pub dlq_before: Option<UnixMs>,
    /// Buckets of dedupe keys whose events are all gone: while an event is kept, its repeats are known and it is found by
    /// the sender's id.
    pub dedupe_before: Option<UnixMs>,
    /// What all of that goes by, for the next start to know.
    pub known: Option<KnownTime>,
}

/// A part of retention's work that is small enough to share a transaction with others.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    pub plan: SweepPlan,
    /// Bytes to be freed on top of the plan: the oldest events that nothing is owed of and nothing of which is in the DLQ go,
    /// whatever their age.
    pub excess: u64,
    /// Asked at every row: whether it has been at it for long enough.
    pub enough: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Slice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice").field("plan", &self.plan).field("excess", &self.excess).finish_non_exhaustive()
    }
}

/// What a slice did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Rows removed, and zones that have been given their row.
    pub rows: usize,
    /// What was freed of the excess, as an estimate.
    pub freed: u64,
    /// It came to the end: there is nothing more that may go for now.
    pub ended: bool,
}

/// Where each scan begins. Everything before is removed, or stays until a delivery changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks {
    events: EventSeq,
    attempts: EventSeq,
    dlq: EventSeq,
    /// How far zones have been looked at, from the newest down, whether they have their row.
    zones: Zoning,
    /// Which part of the next slice is the first.
    first: Part,
    /// Slices in a row that did nothing and got no further.
    idle: usize,
    /// What the file knows of the time, once that was read.
    known: Option<KnownTime>,
    /// Somebody vouched for this time, and nothing that knows of it has been ordered yet.
    vouched: Option<UnixMs>,
}

/// See [`Marks`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Zoning {
    #[default]
    Unlooked,
    /// This zone and all below are still to be looked at.
    From(u64),
    Done,
}

impl Marks {
    /// Whether every zone has been looked at.
    #[cfg(test)]
    pub fn zoned(&self) -> bool {
        self.zones == Zoning::Done
    }

    /// Where every scan begins.
    fn places(self) -> (EventSeq, EventSeq, EventSeq, Zoning) {
        (self.events, self.attempts, self.dlq, self.zones)
    }

    /// Somebody has vouched for the time.
    pub fn vouched(&mut self, known: KnownTime) {
        (self.known, self.vouched) = (Some(known), Some(known.at));
    }

    /// A delivery of this event has become final or dead, or has left the DLQ.
    pub fn lower(&mut self, seq: EventSeq) {
        for mark in [&mut self.events, &mut self.attempts, &mut self.dlq] {
            *mark = (*mark).min(seq);
        }
    }
}

/// One slice's work within a transaction.
pub(super) struct Sweep<'t, 's> {
    pub tables: &'s mut Tables<'t>,
    pub filters: &'s Filters,
    zones: &'s mut Zones<'t>,
    pub damage: &'s Damage,
    pub marks: Marks,
    pub next_seq: u64,
    enough: &'s dyn Fn() -> bool,
    /// Rows that may still be removed.
    left: usize,
    /// Something was left for the next slice.
    cut: bool,
    /// What the removed rows took, by [`footprint`].
    freed: u64,
}

/// What the sweep leaves for the writer's memory, once it is committed.
pub(super) struct Leftover {
    pub swept: Swept,
    pub marks: Marks,
    /// Dedupe buckets that are empty now.
    pub emptied: Vec<u32>,
    /// There is something to commit.
    pub changed: bool,
}

/// The parts of a slice. They take turns in being the first, so that one which uses up every slice starves none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Part {
    #[default]
    Dlq,
    Attempts,
    Events,
    Dedupe,
}

/// How many they are.
const PARTS: usize = 4;

impl Part {
    /// The one whose turn it is after this.
    fn next(self) -> Self {
        match self {
            Self::Dlq => Self::Attempts,
            Self::Attempts => Self::Events,
            Self::Events => Self::Dedupe,
            Self::Dedupe => Self::Dlq,
        }
    }
}

impl<'t, 's> Sweep<'t, 's> {
    pub fn new(
        (tables, zones): (&'s mut Tables<'t>, &'s mut Zones<'t>),
        filters: &'s Filters,
        damage: &'s Damage,
        (marks, next_seq): (Marks, u64),
        enough: &'s dyn Fn() -> bool,
    ) -> Self {
        Self { tables, filters, zones, damage, marks, next_seq, enough, left: SWEEP_ROWS, cut: false, freed: 0 }
    }

    pub fn run(mut self, slice: &Slice<'_>) -> Result<Leftover, StoreError> {
        let began = self.marks;
        self.marks.first = began.first.next();
        let mut emptied = Vec::new();
        let kept = slice.plan.known.map_or(Ok(false), |known| self.keep_time(known))?;
        for part in std::iter::successors(Some(began.first), |part| Some(part.next())).take(PARTS) {
            let SweepPlan { events_before, attempts_before, dlq_before, dedupe_before, .. } = slice.plan;
            match part {
                Part::Dlq => dlq_before.map_or(Ok(()), |before| self.sweep_dlq(before))?,
                Part::Attempts => attempts_before.map_or(Ok(()), |before| self.sweep_attempts(before))?,
                Part::Events => events_before.map_or(Ok(()), |before| self.sweep_events(before, u64::MAX))?,
                Part::Dedupe => {
                    emptied = dedupe_before.map_or_else(|| Ok(Vec::new()), |before| self.sweep_dedupe(before))?;
                }
            }
        }
        let zoned = self.make_zones()?;
        let moved = self.left < SWEEP_ROWS || self.marks.places() != began.places();
        self.marks.idle = if moved { 0 } else { began.idle + 1 };
        // Each part was the first once: a further round would see what this one saw.
        let stuck = self.marks.idle >= PARTS;
        let mut freed = 0;
        if (!self.cut || stuck) && slice.excess > 0 {
            self.freed = 0;
            self.sweep_events(UnixMs(u64::MAX), slice.excess)?;
            freed = self.freed;
        }
        let rows = SWEEP_ROWS.saturating_sub(self.left) + zoned;
        let ended = stuck || (!self.cut && self.marks.zones == Zoning::Done);
        if ended {
            self.marks.idle = 0;
        }
        let swept = Swept { rows, freed, ended };
        Ok(Leftover { swept, marks: self.marks, emptied, changed: kept || rows > 0 })
    }

    /// Where a scan goes on in the next slice.
    fn reached(&mut self, frontier: &Frontier<'_>) -> EventSeq {
        self.cut |= frontier.cut;
        frontier.mark()
    }

    /// Counts what a removed row took.
    fn free(&mut self, key: usize, value: usize) {
        self.freed = self.freed.saturating_add(footprint(key, value));
    }

    /// Takes one row from what may be removed; `false` where the slice is over.
    fn spend(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) if left >= SWEEP_ROWS - ROWS_LEAST || !(self.enough)() => {
                self.left = left;
                true
            }
            Some(_) | None => {
                self.cut = true;
                false
            }
        }
    }

    /// Whether nothing can become of the delivery any more: not owed, not in the DLQ. Of one that cannot be read (`None`) only
    /// the indexes tell.
    fn is_final(&self, key: DeliveryKey, delivery: Option<&Delivery>) -> Result<bool, StoreError> {
        use redb::ReadableTable;
        let is_dead = || Ok::<_, StoreError>(self.tables.dlq.get(&schema::delivery_key(key))?.is_some());
        Ok(match delivery.map(|delivery| &delivery.state) {
            None => !is_dead()? && !self.may_be_owed(key)?,
            Some(State::Pending { .. } | State::Failed { .. }) => false,
            Some(State::Sent { .. } | State::Skipped { .. } | State::Discarded { .. }) => true,
            Some(State::FailedPermanently { .. }) => !is_dead()?,
        })
    }

    /// Whether the outbox has the delivery, or is too long to be looked through for it.
    fn may_be_owed(&self, key: DeliveryKey) -> Result<bool, StoreError> {
        use redb::ReadableTable;
        let place = |due_at, seq| schema::outbox_key(key.destination, UnixMs(due_at), EventSeq(seq));
        let owed = self.tables.outbox.range::<&OutboxKey>(&place(0, 0)..=&place(u64::MAX, u64::MAX))?;
        for (looked_at, entry) in owed.enumerate() {
            let (_, _, seq) = schema::read_outbox_key(entry?.0.value());
            if looked_at >= LOOKS || seq == key.seq {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        use redb::ReadableTable;
        let key = schema::delivery_key(key);
        let bytes = self.tables.deliveries.get(&key)?;
        Ok(bytes.and_then(|bytes| self.damage.read::<DeliveryRow, _>("deliveries", &key, bytes.value())))
    }
}

/// How far a scan has come: the first entry that must be looked at again, or the end of what was looked at.
struct Frontier<'s> {
    again: Option<EventSeq>,
    end: EventSeq,
    looks: usize,
    too_new: usize,
    enough: &'s dyn Fn() -> bool,
    /// It did not come to the end.
    cut: bool,
}

impl<'s> Frontier<'s> {
    fn new(start: EventSeq, enough: &'s dyn Fn() -> bool) -> Self {
        Self { again: None, end: start, looks: 0, too_new: 0, enough, cut: false }
    }

    /// Counts one more entry; breaks where this slice has looked at enough.
    fn look(&mut self, seq: EventSeq) -> ControlFlow<()> {
        let over = self.looks >= LOOKS_LEAST && (self.enough)();
        // Without time, fewer are taken for the end: the next slice would begin with the same ones, for ever.
        if over && self.too_new >= LOOKS_LEAST {
            return ControlFlow::Break(());
        }
        if over || self.looks >= LOOKS {
            self.cut_at(seq);
            return ControlFlow::Break(());
        }
        self.looks += 1;
        self.end = EventSeq(seq.0.saturating_add(1));
        ControlFlow::Continue(())
    }

    /// The next slice begins here at the latest.
    fn stay(&mut self, seq: EventSeq) {
        self.again = Some(self.again.map_or(seq, |again| again.min(seq)));
    }

    /// The slice is over, and here the next one goes on.
    fn cut_at(&mut self, seq: EventSeq) {
        self.cut = true;
        self.stay(seq);
    }

    /// This entry is not old enough yet; breaks where so many in a row are not that the rest will not be either.
    fn too_new(&mut self, seq: EventSeq) -> ControlFlow<()> {
        self.stay(seq);
        self.too_new += 1;
        if self.too_new >= STRAYS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn old_enough(&mut self) {
        self.too_new = 0;
    }

    fn mark(&self) -> EventSeq {
        self.again.unwrap_or(self.end)
    }
}
