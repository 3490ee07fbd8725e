//! A kept filter against the keys of its bucket. One that is not kept is made from them, so that it can be no worse than slow.

use redb::{ReadableTable, TableError};

use super::Check;
use crate::domain::time::UnixMs;
use crate::store::damage::hex;
use crate::store::error::StoreError;
use crate::store::filter::Filters;
use crate::store::row::{self, DedupeRow, FilterRow};
use crate::store::schema::{self, DEDUPE, DedupeRowKey, FILTERS};

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = match check.transaction.open_table(FILTERS) {
        Ok(table) => table,
        // A file from before they were kept.
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let bucket = schema::read_bucket_key(*key.value());
        let what = format!("dedupe filter {bucket}");
        let Some(row) = check.read::<FilterRow, FilterRow>(&what, bytes.value()) else { continue };
        let mut filters = Filters::default();
        if !filters.take(bucket, &row) {
            check.find(format!("{what}: has {} bytes", row.bits.len()));
            continue;
        }
        let (low, high) = schema::dedupe_keys_of(bucket);
        for entry in check.transaction.open_table(DEDUPE)?.range::<&DedupeRowKey>(&low..=&high)? {
            let (key, bytes) = entry?;
            // One that cannot be read was told already, and makes no repeat.
            let Ok(found) = row::decode::<DedupeRow>(bytes.value()) else { continue };
            let (_, dedupe) = schema::read_dedupe_key(key.value());
            if filters.candidates(dedupe, UnixMs(found.received_at)) != [bucket] {
                check.find(format!("{what}: does not know key {}: its repeat would be taken", hex(key.value())));
            }
        }
    }
    Ok(())
}
