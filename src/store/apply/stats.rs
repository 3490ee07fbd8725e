//! Keeping statistics: a few small rows of what changed. Numbers for people, so a file from before has none.

use redb::ReadableTable;

use super::Batch;
use crate::domain::id::DestinationId;
use crate::store::error::StoreError;
use crate::store::row::{self, StatsHeadRow, StatsSlotRow};
use crate::store::schema::{self, STATS, StatsKey, StatsPart};
use crate::store::write::Applied;
use crate::telemetry::rolling::saved::Changes;

impl Batch<'_> {
    pub(super) fn save_stats(&mut self, destination: DestinationId, changes: &Changes) -> Result<Applied, StoreError> {
        self.changed = true;
        let mut table = self.transaction.open_table(STATS)?;
        let head = row::encode(&StatsHeadRow::from(&changes.head))?;
        table.insert(&schema::stats_key(destination, StatsPart::Head, 0), head.as_slice())?;
        for (part, window) in [(StatsPart::Hour, &changes.hour), (StatsPart::Day, &changes.day)] {
            for slot in &window.slots {
                let bytes = row::encode(&StatsSlotRow::from(slot))?;
                table.insert(&schema::stats_key(destination, part, slot.number), bytes.as_slice())?;
            }
            let all = (schema::stats_key(destination, part, 0), schema::stats_key(destination, part, u64::MAX));
            let mut gone = Vec::new();
            for entry in table.range::<&StatsKey>(&all.0..=&all.1)? {
                let key = *entry?.0.value();
                if !(window.first..=window.last).contains(&schema::read_stats_key(&key).2) {
                    gone.push(key);
                }
            }
            for key in gone {
                table.remove(&key)?;
            }
        }
        Ok(Applied::Counted)
    }
}
