//! The rows of one moment into an empty database, table by table, in slices.

use std::collections::BTreeMap;

use redb::{
    Database, Key, Range, ReadTransaction, ReadableTable, ReadableTableMetadata, StorageBackend, TableError,
    TableHandle, Value,
};

use super::rests::Rests;
use super::{BackupError, builder};
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::handle::{begin_fill, begin_write};
use crate::store::row::{self, NumberRow};
use crate::store::schema::{
    ALERTS, ATTEMPTS, AUDIT, COUNTS, DEDUPE, DELIVERIES, DESTINATIONS, DLQ, Definition, EVENT_COUNTS, FILTERS, INBOX,
    JOBS, META, META_BACKUP_TAKEN, OUTBOX, PAUSES, STATS, ZONE_UIDS, ZONES,
};

/// A slice ends after so many rows, or bytes of values.
/// Tests have slices of seven, so that a few events take several.
const SLICE_ROWS: usize = if cfg!(test) { 7 } else { 2000 };
const SLICE_BYTES: usize = 1 << 20;
/// Rows between two rests: some 100 microseconds of work.
const REST_ROWS: usize = if cfg!(test) { 7 } else { 20 };

/// How many rows each table has.
pub(super) type Rows = BTreeMap<String, u64>;

/// What happens between slices.
pub(super) type Between<'b> = &'b mut dyn FnMut() -> Result<(), BackupError>;

/// Copies everything of `view` into an empty backend; how many rows each table has there.
pub(super) fn fill(
    view: &ReadTransaction,
    backend: impl StorageBackend,
    taken_at: UnixMs,
    rests: &Rests,
    between: Between<'_>,
) -> Result<Rows, BackupError> {
    let to = builder().create_with_backend(backend)?;
    let mut copy = Copying { view, to: &to, rests, between, taken_at, meta: 0 };
    copy.tables()?;
    let mut wanted = rows_of(view)?;
    wanted.insert(META.name().to_owned(), copy.meta);
    to.close()?;
    Ok(wanted)
}

/// How many rows each table has; also of tables that this version does not know, so that none is forgotten.
pub(super) fn rows_of(transaction: &ReadTransaction) -> Result<Rows, StoreError> {
    let mut rows = BTreeMap::new();
    for table in transaction.list_tables()? {
        let name = table.name().to_owned();
        rows.insert(name, transaction.open_untyped_table(table)?.len()?);
    }
    Ok(rows)
}

struct Copying<'c> {
    view: &'c ReadTransaction,
    to: &'c Database,
    rests: &'c Rests,
    between: Between<'c>,
    taken_at: UnixMs,
    /// Rows of `meta`.
    meta: u64,
}

/// Whether a table has more than the slice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    Full,
    Last,
}

impl Copying<'_> {
    fn tables(&mut self) -> Result<(), BackupError> {
        self.table(DESTINATIONS)?;
        self.table(INBOX)?;
        self.table(DEDUPE)?;
        self.table(FILTERS)?;
        self.table(DELIVERIES)?;
        self.table(OUTBOX)?;
        self.table(DLQ)?;
        self.table(ATTEMPTS)?;
        self.table(COUNTS)?;
        self.table(EVENT_COUNTS)?;
        self.table(PAUSES)?;
        self.table(JOBS)?;
        self.table(AUDIT)?;
        self.table(STATS)?;
        self.table(ZONES)?;
        self.table(ZONE_UIDS)?;
        self.table(ALERTS)?;
        self.meta()
    }

    /// The last rows, and with them all others become durable.
    fn meta(&mut self) -> Result<(), BackupError> {
        let transaction = begin_write(self.to)?;
        {
            let mut to = transaction.open_table(META)?;
            for entry in self.view.open_table(META)?.iter()? {
                let (name, value) = entry?;
                to.insert(name.value(), value.value())?;
            }
            let taken_at = row::encode(&NumberRow(self.taken_at.0)).map_err(StoreError::from)?;
            to.insert(META_BACKUP_TAKEN, taken_at.as_slice())?;
            self.meta = to.len()?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// A table that a file from before lacks is lacking in the copy too.
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, table: Definition<K, V>) -> Result<(), BackupError> {
        let rows = match self.view.open_table(table) {
            Ok(rows) => rows,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut rows = rows.iter()?;
        while self.slice(table, &mut rows)? == Slice::Full {
            (self.between)()?;
        }
        Ok(())
    }

    fn slice<K: Key + 'static, V: Value + 'static>(
        &self,
        table: Definition<K, V>,
        rows: &mut Range<'_, K, V>,
    ) -> Result<Slice, BackupError> {
        let transaction = begin_fill(self.to)?;
        let mut slice = Slice::Last;
        {
            let mut to = transaction.open_table(table)?;
            let (mut count, mut bytes) = (0_usize, 0_usize);
            for entry in rows {
                let (key, value) = entry?;
                let value = value.value();
                bytes = bytes.saturating_add(V::as_bytes(&value).as_ref().len());
                to.insert(key.value(), value)?;
                count += 1;
                if count % REST_ROWS == 0 {
                    self.rests.rest()?;
                }
                if count >= SLICE_ROWS || bytes >= SLICE_BYTES {
                    slice = Slice::Full;
                    break;
                }
            }
        }
        transaction.commit()?;
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::tests::backing::lived_in;

    // The file system makes whoever syncs next wait for what a slice left unwritten; without rests, everybody waits for it all.
    #[test]
    fn a_copy_rests_every_few_rows_and_is_written_out_slice_by_slice() {
        let dir = tempfile::tempdir().unwrap();
        let store = lived_in(dir.path(), 50);
        let view = store.shared.view().unwrap();
        let (rested, mut slices) = (Arc::new(AtomicU64::new(0)), 0);
        let rest = Arc::clone(&rested);
        let rests = Rests::new(Box::new(move || {
            rest.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }));
        let mut between = || {
            slices += 1;
            Ok(())
        };
        let rows = fill(&view, InMemoryBackend::new(), UnixMs(1), &rests, &mut between).unwrap();
        // All of `meta` is one piece.
        let full: u64 = rows.iter().filter(|(table, _)| *table != META.name()).map(|(_, rows)| rows / 7).sum();
        assert!(full > 20, "{rows:?}");
        assert_eq!((slices, rested.load(Ordering::Relaxed)), (full, full));
    }
}
