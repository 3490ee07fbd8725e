//! What the rows of a store take, by a sample of them.
//!
//! The file does not tell: it never shrinks, and holds free pages that will be used again. Walking every page would, but
//! takes seconds. So each table's rows are counted (the engine knows their number) and some are looked at: some hundred in
//! all, from all over the tables that grow with events.

use std::ops::RangeInclusive;

use redb::{Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, Value};

use super::error::StoreError;
use super::filter;
use super::read::Reader;
use super::schema::{
    self, ATTEMPTS, AUDIT, AttemptKey, BucketKey, DEDUPE, DELIVERIES, DLQ, DeliveryRowKey, FILTERS, INBOX, InboxKey,
    OUTBOX, STATS, ZONE_UIDS, ZONES,
};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};

/// Places of a table that are looked at.
const PLACES: u64 = 32;
/// Rows looked at in each.
const ROWS: usize = 4;
/// Rows looked at of a table that does not go by events.
const FIRST: usize = 64;
/// What a row takes beside its key and value: its offsets within the page.
const OVERHEAD: usize = 8;
/// Pages are about two thirds full where rows come in some order and go in another (measured: 63 to 71 %).
const FILL: (u64, u64) = (2, 3);

/// What a row takes in the file.
pub(super) fn footprint(key: usize, value: usize) -> u64 {
    let bytes = u64::try_from(key + value + OVERHEAD).unwrap_or(u64::MAX);
    bytes.saturating_mul(FILL.1) / FILL.0
}

impl Reader {
    /// Bytes of the file that rows take, as an estimate; what is left of the file is free for new ones.
    pub fn used_bytes(&self) -> Result<u64, StoreError> {
        self.shared.read(|transaction| {
            let inbox = transaction.open_table(INBOX)?;
            let seq = |row: Option<(redb::AccessGuard<'_, &'static InboxKey>, _)>| {
                row.map_or(0, |(key, _): (_, redb::AccessGuard<'_, &'static [u8]>)| {
                    schema::read_inbox_key(*key.value()).0
                })
            };
            let seqs = seq(inbox.first()?)..=seq(inbox.last()?);
            Sizing { transaction, seqs }.all()
        })
    }
}

struct Sizing<'t> {
    transaction: &'t ReadTransaction,
    /// The events that are kept.
    seqs: RangeInclusive<u64>,
}

/// Rows that were looked at, and what they take.
#[derive(Default)]
struct Sample {
    rows: u64,
    bytes: u64,
}

impl Sample {
    /// What `rows` like these take.
    fn of(&self, rows: u64) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(rows) / u128::from(self.rows.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn add<'a, K: Key + 'static, V: Value + 'static>(
        &mut self,
        rows: impl Iterator<Item = Result<(redb::AccessGuard<'a, K>, redb::AccessGuard<'a, V>), redb::StorageError>>,
    ) -> Result<(), StoreError> {
        for row in rows {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            self.rows += 1;
            self.bytes += footprint(K::as_bytes(&key).as_ref().len(), V::as_bytes(&value).as_ref().len());
        }
        Ok(())
    }
}

impl Sizing<'_> {
    /// Sequence numbers all over the range.
    fn places(&self) -> impl Iterator<Item = EventSeq> + use<> {
        let (first, last) = (*self.seqs.start(), *self.seqs.end());
        let step = last.saturating_sub(first) / PLACES;
        (0..PLACES).map(move |place| EventSeq(first.saturating_add(step.saturating_mul(place))))
    }

    fn inbox(&self) -> Result<Sample, StoreError> {
        let (table, mut sample) = (self.transaction.open_table(INBOX)?, Sample::default());
        for seq in self.places() {
            sample.add(table.range::<&InboxKey>(&schema::inbox_key(seq)..)?.take(ROWS))?;
        }
        Ok(sample)
    }

    fn deliveries(&self) -> Result<Sample, StoreError> {
        let (table, mut sample) = (self.transaction.open_table(DELIVERIES)?, Sample::default());
        for seq in self.places() {
            let (from, _) = schema::deliveries_of(seq);
            sample.add(table.range::<&DeliveryRowKey>(&from..)?.take(ROWS))?;
        }
        Ok(sample)
    }

    fn attempts(&self) -> Result<Sample, StoreError> {
        let (table, mut sample) = (self.transaction.open_table(ATTEMPTS)?, Sample::default());
        for seq in self.places() {
            let from = schema::attempt_key(DeliveryKey { seq, destination: DestinationId(0) }, 0);
            sample.add(table.range::<&AttemptKey>(&from..)?.take(ROWS))?;
        }
        Ok(sample)
    }

    /// Tables that grow with events; the others take nothing worth counting.
    fn all(&self) -> Result<u64, StoreError> {
        let by_place = [
            (self.inbox()?, self.transaction.open_table(INBOX)?.len()?),
            (self.deliveries()?, self.transaction.open_table(DELIVERIES)?.len()?),
            (self.attempts()?, self.transaction.open_table(ATTEMPTS)?.len()?),
        ];
        let by_front = [
            self.front(DEDUPE)?,
            self.filters()?,
            self.front(OUTBOX)?,
            self.front(DLQ)?,
            self.front(ZONES)?,
            self.front(ZONE_UIDS)?,
            self.front(AUDIT)?,
            self.front(STATS)?,
        ];
        Ok(by_place.into_iter().chain(by_front).map(|(sample, rows)| sample.of(rows)).sum())
    }

    /// They are all of one size, and large.
    fn filters(&self) -> Result<(Sample, u64), StoreError> {
        let rows = match self.transaction.open_table(FILTERS) {
            Ok(table) => table.len()?,
            Err(TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok((Sample { rows: 1, bytes: footprint(size_of::<BucketKey>(), filter::BYTES) }, rows))
    }

    /// The first rows of a table, and how many it has.
    fn front<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(Sample, u64), StoreError> {
        let mut sample = Sample::default();
        let table = match self.transaction.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok((sample, 0)),
            Err(error) => return Err(error.into()),
        };
        sample.add(table.iter()?.take(FIRST))?;
        Ok((sample, table.len()?))
    }
}
