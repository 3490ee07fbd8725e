//! What somebody vouches for of the time.

use super::Batch;
use crate::domain::time::KnownTime;
use crate::store::error::StoreError;
use crate::store::row::{self, KnownTimeRow};
use crate::store::schema::META_KNOWN_TIME;
use crate::store::write::Applied;

impl Batch<'_> {
    pub(super) fn know_time(&mut self, known: KnownTime) -> Result<Applied, StoreError> {
        let bytes = row::encode(&KnownTimeRow::from(known))?;
        self.tables.meta.insert(META_KNOWN_TIME, bytes.as_slice())?;
        self.marks.vouched(known);
        self.changed = true;
        Ok(Applied::Counted)
    }
}
