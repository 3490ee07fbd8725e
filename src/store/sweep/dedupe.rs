//! Removing dedupe keys, a bucket at a time.

use redb::ReadableTable;

use super::Sweep;
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::schema::{self, DedupeRowKey, InboxKey};

impl Sweep<'_, '_> {
    /// Returns the buckets that are empty now. A bucket that is only begun keeps its filter: its remaining keys are too
    /// old to matter, but they are still there.
    pub(super) fn sweep_dedupe(&mut self, before: UnixMs) -> Result<Vec<u32>, StoreError> {
        let mut emptied = Vec::new();
        for bucket in self.filters.expired(before) {
            if self.has_events(bucket)? {
                continue;
            }
            if !self.remove_bucket(bucket)? {
                break;
            }
            emptied.push(bucket);
        }
        Ok(emptied)
    }

    fn has_events(&self, bucket: u32) -> Result<bool, StoreError> {
        let (first, last) = schema::bucket_range(bucket);
        let (low, high) = (schema::inbox_key(first), schema::inbox_key(last));
        let found = self.tables.inbox.range::<&InboxKey>(&low..=&high)?.next().transpose()?;
        Ok(found.is_some())
    }

    /// Removes what the slice has room for; whether that was all.
    fn remove_bucket(&mut self, bucket: u32) -> Result<bool, StoreError> {
        let (low, high) = schema::dedupe_keys_of(bucket);
        let rows = self.tables.dedupe.range::<&DedupeRowKey>(&low..=&high)?;
        let keys: Vec<_> = rows
            .take(self.left.saturating_add(1))
            .map(|entry| Ok(*entry?.0.value()))
            .collect::<Result<_, StoreError>>()?;
        for key in &keys {
            if !self.spend() {
                return Ok(false);
            }
            self.tables.dedupe.remove(key)?;
        }
        Ok(true)
    }
}
