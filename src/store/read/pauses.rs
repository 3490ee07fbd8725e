//! Pauses, by destination.

use std::collections::BTreeMap;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableError};

use super::Reader;
use crate::domain::id::DestinationId;
use crate::domain::pause::Pause;
use crate::store::StoreError;
use crate::store::row::PauseRow;
use crate::store::schema::{self, PAUSES, PauseKey};

type Table = ReadOnlyTable<&'static PauseKey, &'static [u8]>;

/// `None` in a file from before there were pauses.
pub(in crate::store) fn table(transaction: &ReadTransaction) -> Result<Option<Table>, StoreError> {
    match transaction.open_table(PAUSES) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Reader {
    /// Every pause that was not resumed, also those whose time has come: what they stood still for still counts.
    pub fn pauses(&self) -> Result<BTreeMap<DestinationId, Pause>, StoreError> {
        self.shared.read(|transaction| {
            let mut pauses = BTreeMap::new();
            let Some(table) = table(transaction)? else { return Ok(pauses) };
            for entry in table.iter()? {
                let (key, bytes) = entry?;
                if let Some(pause) = self.shared.damage.read::<PauseRow, Pause>("pauses", key.value(), bytes.value()) {
                    pauses.insert(schema::read_pause_key(*key.value()), pause);
                }
            }
            Ok(pauses)
        })
    }
}
