//! Retention: removing what is old, in slices, from the old end.
//!
//! One call looks at and removes a bounded number of rows, so that the writer is never held for long. Where each scan
//! goes on is kept in memory: rows that stay because something is still owed are passed once, and looked at again only
//! when a delivery of theirs leaves the outbox or the DLQ ([`Marks::lower`]) or the store is opened anew.
//!
//! What is owed, what is in the DLQ within its time, and the events they need are never removed. The books do not change:
//! removed rows keep counting. Rows that cannot be read stay.

mod dedupe;
mod dlq;
mod events;
mod zones;

use std::ops::ControlFlow;

use super::apply::Tables;
use super::damage::Damage;
use super::error::StoreError;
use super::filter::Filters;
use super::row::DeliveryRow;
use super::size::footprint;
use super::zone::Zones;
use crate::domain::delivery::{Delivery, State};
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::limits::SWEEP_ROWS;
use crate::domain::time::UnixMs;

/// Entries one scan may look at in one call: some ten milliseconds.
const LOOKS: usize = 4096;

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
}

/// What one call of [`super::Store::shed`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shed {
    pub rows: usize,
    /// What they took, as an estimate.
    pub bytes: u64,
    /// There is nothing that may go. Without it and without rows, what was looked at stays, and there is more to look at.
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

    /// A delivery of this event has become final or dead, or has left the DLQ.
    pub fn lower(&mut self, seq: EventSeq) {
        for mark in [&mut self.events, &mut self.attempts, &mut self.dlq] {
            *mark = (*mark).min(seq);
        }
    }
}

/// One call's work within one transaction.
pub(super) struct Sweep<'t, 'w> {
    pub tables: Tables<'t>,
    pub filters: &'w Filters,
    zones: Zones<'w>,
    pub damage: &'w Damage,
    pub marks: Marks,
    pub next_seq: u64,
    /// Rows that may still be removed.
    left: usize,
    /// What the removed rows took, by [`footprint`].
    freed: u64,
}

/// What the sweep leaves for the writer's memory, once it is committed.
pub(super) struct Swept {
    pub removed: usize,
    /// Zones that have been given their row.
    pub zoned: usize,
    pub marks: Marks,
    /// Dedupe buckets that are empty now.
    pub emptied: Vec<u32>,
}

impl<'t, 'w> Sweep<'t, 'w> {
    pub fn new(
        tables: Tables<'t>,
        (filters, zones): (&'w Filters, Zones<'w>),
        damage: &'w Damage,
        marks: Marks,
        next_seq: u64,
    ) -> Self {
        Self { tables, filters, zones, damage, marks, next_seq, left: SWEEP_ROWS, freed: 0 }
    }

    pub fn run(mut self, plan: &SweepPlan) -> Result<Swept, StoreError> {
        if let Some(before) = plan.dlq_before {
            self.sweep_dlq(before)?;
        }
        if let Some(before) = plan.attempts_before {
            self.sweep_attempts(before)?;
        }
        if let Some(before) = plan.events_before {
            self.sweep_events(before, u64::MAX)?;
        }
        let emptied = plan.dedupe_before.map_or_else(|| Ok(Vec::new()), |before| self.sweep_dedupe(before))?;
        let zoned = self.make_zones()?;
        self.zones.finish()?;
        Ok(Swept { removed: SWEEP_ROWS.saturating_sub(self.left), zoned, marks: self.marks, emptied })
    }

    /// Removes the oldest events that nothing is owed of, whatever their age, until `excess` bytes are free.
    pub fn shed(mut self, excess: u64) -> Result<(Swept, u64), StoreError> {
        self.sweep_events(UnixMs(u64::MAX), excess)?;
        self.zones.finish()?;
        let removed = SWEEP_ROWS.saturating_sub(self.left);
        Ok((Swept { removed, zoned: 0, marks: self.marks, emptied: Vec::new() }, self.freed))
    }

    /// Counts what a removed row took.
    fn free(&mut self, key: usize, value: usize) {
        self.freed = self.freed.saturating_add(footprint(key, value));
    }

    /// Takes one row from what may be removed; `false` where nothing is left.
    fn spend(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }

    /// Whether nothing can become of the delivery any more: not owed, not in the DLQ. A damaged row is not.
    fn is_final(&self, key: DeliveryKey, delivery: Option<&Delivery>) -> Result<bool, StoreError> {
        use redb::ReadableTable;
        Ok(match delivery.map(|delivery| &delivery.state) {
            None | Some(State::Pending { .. } | State::Failed { .. }) => false,
            Some(State::Sent { .. } | State::Skipped { .. } | State::Discarded { .. }) => true,
            Some(State::FailedPermanently { .. }) => self.tables.dlq.get(&super::schema::delivery_key(key))?.is_none(),
        })
    }

    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        use redb::ReadableTable;
        let key = super::schema::delivery_key(key);
        let bytes = self.tables.deliveries.get(&key)?;
        Ok(bytes.and_then(|bytes| self.damage.read::<DeliveryRow, _>("deliveries", &key, bytes.value())))
    }
}

/// How far a scan has come: the first entry that must be looked at again, or the end of what was looked at.
struct Frontier {
    again: Option<EventSeq>,
    end: EventSeq,
    looks: usize,
    too_new: usize,
}

impl Frontier {
    fn new(start: EventSeq) -> Self {
        Self { again: None, end: start, looks: 0, too_new: 0 }
    }

    /// Counts one more entry; breaks where this call has looked at enough.
    fn look(&mut self, seq: EventSeq) -> ControlFlow<()> {
        if self.looks >= LOOKS {
            self.stay(seq);
            return ControlFlow::Break(());
        }
        self.looks += 1;
        self.end = EventSeq(seq.0.saturating_add(1));
        ControlFlow::Continue(())
    }

    /// The next call begins here at the latest.
    fn stay(&mut self, seq: EventSeq) {
        self.again.get_or_insert(seq);
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
