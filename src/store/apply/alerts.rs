//! What alerts remember: the whole of a small table, replaced at once. It is opened only here, so that a file of a daemon
//! without alerts never gets one.

use redb::ReadableTable;

use super::Batch;
use crate::domain::alert::AlertMemory;
use crate::store::error::StoreError;
use crate::store::row::{self, ProblemRow, RhythmRow, WaitingRow};
use crate::store::schema::{ALERTS, ALERTS_PROBLEM, ALERTS_RHYTHM, ALERTS_WAITING};
use crate::store::write::Applied;

impl Batch<'_> {
    pub(super) fn alerts(&mut self, memory: &AlertMemory) -> Result<Applied, StoreError> {
        let mut table = self.transaction.open_table(ALERTS)?;
        let mut stale = Vec::new();
        for entry in table.iter()? {
            stale.push(entry?.0.value().to_owned());
        }
        for key in stale {
            table.remove(key.as_str())?;
        }
        for problem in &memory.open {
            let key = format!("{ALERTS_PROBLEM}{}", problem.id);
            table.insert(key.as_str(), row::encode(&ProblemRow::from(problem))?.as_slice())?;
        }
        for (source, rhythm) in &memory.rhythms {
            let key = format!("{ALERTS_RHYTHM}{source}");
            table.insert(key.as_str(), row::encode(&RhythmRow::from(rhythm))?.as_slice())?;
        }
        for (place, waiting) in memory.waiting.iter().enumerate() {
            let key = format!("{ALERTS_WAITING}{place:05}");
            table.insert(key.as_str(), row::encode(&WaitingRow::from(waiting))?.as_slice())?;
        }
        self.changed = true;
        Ok(Applied::Counted)
    }
}
