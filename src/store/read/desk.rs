//! Jobs, and what operators did.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::Reader;
use crate::domain::job::{JobNumber, JobState};
use crate::store::StoreError;
use crate::store::job::{Job, Kept};
use crate::store::row::{AuditRow, JobRow};
use crate::store::schema::{self, AUDIT, DeskKey, JOBS};

type Table = ReadOnlyTable<&'static DeskKey, &'static [u8]>;

/// `None` in a file from before there was such a table.
pub(in crate::store) fn table(
    transaction: &ReadTransaction,
    which: TableDefinition<'static, &'static DeskKey, &'static [u8]>,
) -> Result<Option<Table>, StoreError> {
    match transaction.open_table(which) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Reader {
    /// Every job that runs or is still kept, newest first.
    pub fn jobs(&self) -> Result<Vec<Job>, StoreError> {
        self.shared.read(|transaction| {
            let mut jobs = Vec::new();
            let Some(table) = table(transaction, JOBS)? else { return Ok(jobs) };
            for entry in table.iter()?.rev() {
                let (key, bytes) = entry?;
                let job = self.shared.damage.read::<JobRow, Job>("jobs", key.value(), bytes.value());
                jobs.extend(job.map(|job| job.numbered(schema::read_desk_key(*key.value()))));
            }
            Ok(jobs)
        })
    }

    /// The jobs that run, oldest first.
    pub fn running_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.jobs()?;
        jobs.retain(|job| job.state == JobState::Running);
        jobs.reverse();
        Ok(jobs)
    }

    pub fn job(&self, number: JobNumber) -> Result<Option<Job>, StoreError> {
        self.shared.read(|transaction| {
            let Some(table) = table(transaction, JOBS)? else { return Ok(None) };
            let key = schema::desk_key(number.0);
            let Some(bytes) = ReadableTable::get(&table, &key)? else { return Ok(None) };
            let job = self.shared.damage.read::<JobRow, Job>("jobs", &key, bytes.value());
            Ok(job.map(|job| job.numbered(number.0)))
        })
    }

    /// What operators did, newest first, before the deed `before`, with the number to go on from.
    pub fn audit(&self, before: Option<u64>, limit: usize) -> Result<(Vec<Kept>, Option<u64>), StoreError> {
        self.shared.read(|transaction| {
            let (mut deeds, mut last) = (Vec::new(), None);
            let Some(table) = table(transaction, AUDIT)? else { return Ok((deeds, None)) };
            let end = schema::desk_key(before.unwrap_or(u64::MAX));
            for entry in ReadableTable::range::<&DeskKey>(&table, ..&end)?.rev() {
                if deeds.len() >= limit.max(1) {
                    return Ok((deeds, last));
                }
                let (key, bytes) = entry?;
                let number = schema::read_desk_key(*key.value());
                last = Some(number);
                let kept = self.shared.damage.read::<AuditRow, Kept>("audit", key.value(), bytes.value());
                deeds.extend(kept.map(|kept| Kept { number, ..kept }));
            }
            Ok((deeds, None))
        })
    }
}
