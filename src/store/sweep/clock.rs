//! What the store knows of the time, kept beside whatever else is committed.

use redb::ReadableTable as _;

use super::Sweep;
use crate::domain::time::{DurationMs, KnownTime};
use crate::store::error::StoreError;
use crate::store::row::{self, KnownTimeRow};
use crate::store::schema::META_KNOWN_TIME;

/// How much later it has to be for that to be written: what a kill may cost of it.
const WORTH_WRITING: DurationMs = DurationMs::from_hours(1);

impl Sweep<'_, '_> {
    /// Writes it down where it has moved on, or was taken back; whether it did.
    pub(super) fn keep_time(&mut self, now: KnownTime) -> Result<bool, StoreError> {
        // What was ordered before somebody vouched for a later time.
        if self.marks.vouched.is_some_and(|vouched| now.at < vouched) {
            return Ok(false);
        }
        self.marks.vouched = None;
        if self.marks.known.is_none() {
            let bytes = self.tables.meta.get(META_KNOWN_TIME)?;
            let row = bytes.and_then(|bytes| row::decode::<KnownTimeRow>(bytes.value()).ok());
            self.marks.known = row.map(KnownTime::from);
        }
        if self.marks.known.is_some_and(|kept| now.at < kept.at + WORTH_WRITING && now.at + WORTH_WRITING > kept.at) {
            return Ok(false);
        }
        let bytes = row::encode(&KnownTimeRow::from(now))?;
        self.tables.meta.insert(META_KNOWN_TIME, bytes.as_slice())?;
        self.marks.known = Some(now);
        Ok(true)
    }
}
