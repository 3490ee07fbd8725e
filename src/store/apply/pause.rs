//! Pausing and resuming. The table is opened only here, by those who need it: a file from before there were pauses gets it
//! with its first one.

use redb::ReadableTable;

use super::Batch;
use crate::domain::id::DestinationId;
use crate::domain::pause::Pause;
use crate::store::error::StoreError;
use crate::store::row::{self, PauseRow};
use crate::store::schema::{self, PAUSES};
use crate::store::write::Applied;

impl Batch<'_> {
    /// The latest word holds. Where it comes over another pause, the destination has been standing still since that one.
    pub(super) fn pause(&mut self, destination: DestinationId, pause: &Pause) -> Result<Applied, StoreError> {
        let key = schema::pause_key(destination);
        let mut table = self.transaction.open_table(PAUSES)?;
        let earlier =
            table.get(&key)?.and_then(|bytes| self.damage.read::<PauseRow, Pause>("pauses", &key, bytes.value()));
        let pause = match &earlier {
            Some(earlier) => pause.clone().over(earlier),
            None => pause.clone(),
        };
        table.insert(&key, row::encode(&PauseRow::from(&pause))?.as_slice())?;
        self.changed = true;
        Ok(Applied::Paused { destination, pause })
    }

    pub(super) fn resume(&mut self, destination: DestinationId) -> Result<Applied, StoreError> {
        let removed = self.transaction.open_table(PAUSES)?.remove(&schema::pause_key(destination))?.is_some();
        self.changed |= removed;
        Ok(Applied::Resumed { destination })
    }
}
