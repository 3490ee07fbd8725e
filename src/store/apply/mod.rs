//! Applying operations to the tables of one write transaction, in order.
//!
//! Everything here works on copies of the writer's memory or on things a rollback does not hurt (filters, sweep marks),
//! so that a failure or a panic half-way leaves the memory as it was.

mod accept;
mod alerts;
mod clock;
mod dead;
mod desk;
mod pause;
mod purge;
mod settle;
mod stats;
mod wreck;

use std::sync::Arc;

use redb::{Table, WriteTransaction};

use super::damage::Damage;
use super::error::StoreError;
use super::filter::Filters;
use super::ledger::{Books, Ledger};
use super::row::{self, CountsRow, DeliveryRow, EventCountsRow};
use super::schema::{
    self, ATTEMPTS, AttemptKey, COUNTS, CountsKey, DEDUPE, DELIVERIES, DLQ, DedupeRowKey, DeliveryRowKey, EVENT_COUNTS,
    FILTERS, INBOX, InboxKey, META, OUTBOX, OutboxKey,
};
use super::sweep::{Leftover, Marks, Slice, Sweep};
use super::write::{Applied, Owed, WriteOp};
use super::zone::Zones;
use crate::domain::dedupe::HashKey;
use crate::domain::delivery::{Delivery, Status};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, EventSeq, InstanceId};

type Rows<'t, K> = Table<'t, K, &'static [u8]>;

/// The tables that operations and retention change.
pub(super) struct Tables<'t> {
    pub meta: Rows<'t, &'static str>,
    pub inbox: Rows<'t, &'static InboxKey>,
    pub dedupe: Rows<'t, &'static DedupeRowKey>,
    pub deliveries: Rows<'t, &'static DeliveryRowKey>,
    pub outbox: Table<'t, &'static OutboxKey, ()>,
    pub dlq: Rows<'t, &'static DeliveryRowKey>,
    pub attempts: Rows<'t, &'static AttemptKey>,
    counts: Rows<'t, &'static CountsKey>,
    event_counts: Rows<'t, &'static str>,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            inbox: transaction.open_table(INBOX)?,
            dedupe: transaction.open_table(DEDUPE)?,
            deliveries: transaction.open_table(DELIVERIES)?,
            outbox: transaction.open_table(OUTBOX)?,
            dlq: transaction.open_table(DLQ)?,
            attempts: transaction.open_table(ATTEMPTS)?,
            counts: transaction.open_table(COUNTS)?,
            event_counts: transaction.open_table(EVENT_COUNTS)?,
        })
    }
}

/// One transaction in the making.
pub(super) struct Batch<'t> {
    transaction: &'t WriteTransaction,
    tables: Tables<'t>,
    zones: Zones<'t>,
    books: Books,
    next_seq: u64,
    filters: &'t mut Filters,
    marks: &'t mut Marks,
    damage: &'t Damage,
    instance: InstanceId,
    changed: bool,
}

/// What a finished batch leaves for the writer's memory, once it is committed.
pub(super) struct Outcome {
    pub applied: Vec<Applied>,
    pub ledger: Ledger,
    pub next_seq: u64,
    /// What a slice of retention did beside, and leaves.
    pub leftover: Option<Leftover>,
    /// A dedupe filter that was written.
    pub filter: Option<u32>,
    pub changed: bool,
}

impl<'t> Batch<'t> {
    pub fn new(
        transaction: &'t WriteTransaction,
        ledger: Ledger,
        next_seq: u64,
        (filters, marks, hash): (&'t mut Filters, &'t mut Marks, HashKey),
        damage: &'t Damage,
        instance: InstanceId,
    ) -> Result<Self, StoreError> {
        let tables = Tables::open(transaction)?;
        let (zones, books) = (Zones::open(transaction, hash, damage)?, Books::new(ledger));
        Ok(Self { transaction, tables, zones, books, next_seq, filters, marks, damage, instance, changed: false })
    }

    /// Applies all of `ops`, then the slice of retention, and writes the books.
    pub fn run(mut self, ops: &[WriteOp], slice: Option<&Slice<'_>>) -> Result<Outcome, StoreError> {
        let mut applied: Vec<Applied> = Vec::with_capacity(ops.len());
        for op in ops {
            let done = self.apply(op, applied.last())?;
            applied.push(done);
        }
        let leftover = slice.map(|slice| self.sweep(slice)).transpose()?;
        let emptied = leftover.as_ref().map_or(&[][..], |leftover| &leftover.emptied);
        let filter = if self.changed { self.keep_filter(emptied)? } else { None };
        self.write_books()?;
        self.zones.finish()?;
        let (ledger, next_seq, changed) = (self.books.ledger, self.next_seq, self.changed);
        Ok(Outcome { applied, ledger, next_seq, leftover, filter, changed })
    }

    fn apply(&mut self, op: &WriteOp, before: Option<&Applied>) -> Result<Applied, StoreError> {
        match op {
            WriteOp::Accept(op) => self.accept(op),
            WriteOp::Settle(op) => self.settle(op),
            WriteOp::Replay(op) => self.replay(op),
            WriteOp::Discard(op) => self.discard(op),
            WriteOp::Purge(op) => self.purge(op),
            WriteOp::Pause { destination, pause } => self.pause(*destination, pause),
            WriteOp::Resume { destination } => self.resume(*destination),
            WriteOp::JobStart(plan) => self.job_start(plan),
            WriteOp::JobPage(page) => self.job_page(page),
            WriteOp::JobCancel { job, at } => self.job_cancel(*job, *at),
            WriteOp::Audit { at, deed } => self.audit(*at, deed, before),
            WriteOp::SaveStats { destination, changes } => self.save_stats(*destination, changes),
            WriteOp::Alerts(memory) => self.alerts(memory),
            WriteOp::KnowTime(known) => self.know_time(*known),
            WriteOp::CountRejected { source, count } => {
                let counts = self.books.source(source);
                counts.rejected = counts.rejected.saturating_add(*count);
                self.changed = true;
                Ok(Applied::Counted)
            }
        }
    }

    fn sweep(&mut self, slice: &Slice<'_>) -> Result<Leftover, StoreError> {
        let (tables, from) = ((&mut self.tables, &mut self.zones), (*self.marks, self.next_seq));
        let leftover = Sweep::new(tables, self.filters, self.damage, from, slice.enough).run(slice)?;
        self.changed |= leftover.changed;
        Ok(leftover)
    }

    /// Writes the filter of a dedupe bucket that has become full, one at a time, and removes those of `emptied`.
    fn keep_filter(&mut self, emptied: &[u32]) -> Result<Option<u32>, StoreError> {
        let full = self.filters.unkept(schema::bucket_of(EventSeq(self.next_seq)));
        let full = full.filter(|(bucket, _)| !emptied.contains(bucket));
        if full.is_none() && emptied.is_empty() {
            return Ok(None);
        }
        let mut table = self.transaction.open_table(FILTERS)?;
        for bucket in emptied {
            table.remove(&schema::bucket_key(*bucket))?;
        }
        let Some((bucket, filter)) = full else { return Ok(None) };
        table.insert(&schema::bucket_key(bucket), row::encode(&filter)?.as_slice())?;
        Ok(Some(bucket))
    }

    /// Writes each row of the books that changed, once.
    fn write_books(&mut self) -> Result<(), StoreError> {
        for destination in &self.books.touched_destinations {
            let counts = self.books.ledger.deliveries.get(destination).copied().unwrap_or_default();
            let bytes = row::encode(&CountsRow::from(&counts))?;
            self.tables.counts.insert(&schema::counts_key(*destination), bytes.as_slice())?;
        }
        for source in &self.books.touched_sources {
            let counts = self.books.ledger.events.get(source).copied().unwrap_or_default();
            let bytes = row::encode(&EventCountsRow::from(&counts))?;
            self.tables.event_counts.insert(source.as_str(), bytes.as_slice())?;
        }
        Ok(())
    }

    /// The delivery, or `None` where there is none or its row is damaged.
    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        use redb::ReadableTable;
        let key = schema::delivery_key(key);
        let bytes = self.tables.deliveries.get(&key)?;
        Ok(bytes.and_then(|bytes| self.damage.read::<DeliveryRow, _>("deliveries", &key, bytes.value())))
    }

    /// Writes a delivery, its place in the outbox where it has one, and that it was counted as `before` (`None`: it is new)
    /// and is now counted as what it is.
    fn put_delivery(
        &mut self,
        key: DeliveryKey,
        before: Option<Status>,
        delivery: &Delivery,
    ) -> Result<(), StoreError> {
        let bytes = row::encode(&DeliveryRow::from(delivery))?;
        self.tables.deliveries.insert(&schema::delivery_key(key), bytes.as_slice())?;
        match before {
            Some(before) => self.books.moved(key.destination, before, delivery.state.status()),
            None => self.books.accepted(key.destination, delivery.state.status()),
        }
        self.zones.delivery(&self.tables.deliveries, key, before, &delivery.state)?;
        match delivery.state.due_at() {
            Some(due_at) => {
                self.tables.outbox.insert(&schema::outbox_key(key.destination, due_at, key.seq), ())?;
            }
            None => self.marks.lower(key.seq),
        }
        self.changed = true;
        Ok(())
    }

    fn take_seq(&mut self) -> Result<EventSeq, StoreError> {
        let seq = EventSeq(self.next_seq);
        // 2^64 events cannot happen; a floor that a damaged file claims could.
        self.next_seq = self.next_seq.checked_add(1).ok_or_else(|| {
            StoreError::Failed("no sequence number is left; the store must be replaced by a new one".to_owned())
        })?;
        Ok(seq)
    }
}

/// The owed delivery as the scheduler sees it; `None` where nothing is owed, or there is nothing to call it by.
fn owed(key: DeliveryKey, delivery: &Delivery, event: Option<Arc<Event>>) -> Option<Owed> {
    Some(Owed {
        key,
        due_at: delivery.state.due_at()?,
        state: delivery.state.clone(),
        history: delivery.history,
        target: delivery.target.clone()?,
        event,
    })
}
