//! Jobs, page by page, and what operators did. Both tables are opened only here, by those who need them: a file from before
//! there were any gets them with its first row.

use redb::{ReadableTable, ReadableTableMetadata, Table};

use super::Batch;
use crate::domain::audit::{DEEDS_KEPT, Deed};
use crate::domain::delivery::State;
use crate::domain::id::{InstanceId, JobId};
use crate::domain::job::{JOBS_KEPT, JobKind, JobNumber, JobState, before_first};
use crate::domain::time::UnixMs;
use crate::store::damage::Damage;
use crate::store::error::StoreError;
use crate::store::job::{Job, Kept};
use crate::store::row::{self, AuditRow, JobRow, NumberRow};
use crate::store::schema::{self, AUDIT, DeskKey, JOBS, META_DESK_FLOOR};
use crate::store::write::{Applied, JobPage, JobPlan};

type DeskTable<'t> = Table<'t, &'static DeskKey, &'static [u8]>;

impl Batch<'_> {
    pub(super) fn job_start(&mut self, plan: &JobPlan) -> Result<Applied, StoreError> {
        let mut table = self.transaction.open_table(JOBS)?;
        let number = self.next(&table)?;
        let mut job = Job {
            number: JobNumber(number),
            kind: plan.kind,
            state: JobState::Running,
            selection: plan.selection.clone(),
            rate: plan.rate,
            reason: plan.reason.clone(),
            matched: plan.matched,
            done: 0,
            failed: 0,
            cursor: None,
            paced_to: plan.rate.map_or(plan.at, |rate| before_first(rate, plan.at)),
            started_at: plan.at,
            finished_at: None,
        };
        if job.matched == 0 {
            job.end(JobState::Done, plan.at);
        }
        put(&mut table, &job)?;
        forget_finished(&mut table, self.damage)?;
        self.changed = true;
        Ok(Applied::Job { job: Box::new(job), replayed: Vec::new() })
    }

    pub(super) fn job_page(&mut self, page: &JobPage) -> Result<Applied, StoreError> {
        let mut table = self.transaction.open_table(JOBS)?;
        let Some(mut job) = running(&table, page.job, self.damage)?.filter(|job| job.cursor == page.from) else {
            return Ok(Applied::JobPassed);
        };
        let mut replayed = Vec::new();
        for key in &page.keys {
            if job.done >= job.matched {
                break;
            }
            // One that has died since is another death, which nobody has counted.
            let before = |state: &State| matches!(state, State::FailedPermanently { at, .. } if *at <= job.started_at);
            let Some(dead) = self.dead(*key)?.filter(|dead| before(&dead.state)) else { continue };
            match job.kind {
                JobKind::Replay => replayed.extend(self.owe_again(*key, dead, page.at)?),
                JobKind::Discard => self.bury(*key, dead, page.at, &job.reason)?,
            }
            job.done += 1;
        }
        job.cursor = page.to.or(job.cursor);
        job.paced_to = page.paced_to;
        if page.last || job.done >= job.matched {
            job.end(JobState::Done, page.at);
        }
        put(&mut table, &job)?;
        self.changed = true;
        Ok(Applied::Job { job: Box::new(job), replayed })
    }

    pub(super) fn job_cancel(&mut self, number: JobNumber, at: UnixMs) -> Result<Applied, StoreError> {
        let mut table = self.transaction.open_table(JOBS)?;
        let Some(mut job) = running(&table, number, self.damage)? else { return Ok(Applied::JobPassed) };
        job.end(JobState::Cancelled, at);
        put(&mut table, &job)?;
        self.changed = true;
        Ok(Applied::Job { job: Box::new(job), replayed: Vec::new() })
    }

    /// `before` is what the operation before this one did, for a deed that does not say itself what came of it.
    pub(super) fn audit(&mut self, at: UnixMs, deed: &Deed, before: Option<&Applied>) -> Result<Applied, StoreError> {
        let mut table = self.transaction.open_table(AUDIT)?;
        let mut kept = Kept { number: self.next(&table)?, at, deed: deed.clone() };
        if kept.deed.result.is_empty() {
            kept.deed.result = before.map(|done| came_of(done, self.instance)).unwrap_or_default();
        }
        let bytes = row::encode(&AuditRow::from(&kept))?;
        table.insert(&schema::desk_key(kept.number), bytes.as_slice())?;
        while table.len()? > DEEDS_KEPT {
            table.pop_first()?;
        }
        self.changed = true;
        Ok(Applied::Audited)
    }

    /// The number after the greatest one: the newest row is never removed, so none is given twice; nor after a restore, which
    /// raises the floor.
    fn next(&self, table: &DeskTable<'_>) -> Result<u64, StoreError> {
        let last = table.last()?.map_or(0, |(key, _)| schema::read_desk_key(*key.value()));
        let floor = self.tables.meta.get(META_DESK_FLOOR)?;
        let floor = floor.and_then(|bytes| row::decode::<NumberRow>(bytes.value()).ok()).map_or(0, |row| row.0);
        Ok(last.saturating_add(1).max(floor))
    }
}

fn put(table: &mut DeskTable<'_>, job: &Job) -> Result<(), StoreError> {
    table.insert(&schema::desk_key(job.number.0), row::encode(&JobRow::from(job))?.as_slice())?;
    Ok(())
}

fn running(table: &DeskTable<'_>, number: JobNumber, damage: &Damage) -> Result<Option<Job>, StoreError> {
    let key = schema::desk_key(number.0);
    let job = table.get(&key)?.and_then(|bytes| damage.read::<JobRow, Job>("jobs", &key, bytes.value()));
    Ok(job.map(|job| job.numbered(number.0)).filter(|job| job.state == JobState::Running))
}

/// Removes the oldest finished jobs beyond [`JOBS_KEPT`]; a row that cannot be read counts as finished.
fn forget_finished(table: &mut DeskTable<'_>, damage: &Damage) -> Result<(), StoreError> {
    let mut finished = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let job = damage.read::<JobRow, Job>("jobs", key.value(), bytes.value());
        if job.is_none_or(|job| job.state != JobState::Running) {
            finished.push(*key.value());
        }
    }
    for key in finished.iter().take(finished.len().saturating_sub(JOBS_KEPT)) {
        table.remove(key)?;
    }
    Ok(())
}

fn came_of(done: &Applied, instance: InstanceId) -> String {
    match done {
        Applied::Replayed(owed) => format!("{} replayed", owed.len()),
        Applied::Discarded { count } => format!("{count} discarded"),
        Applied::Purged { seqs, .. } => format!("{} given up", seqs.len()),
        Applied::Paused { .. } => "paused".to_owned(),
        Applied::Resumed { .. } => "resumed".to_owned(),
        Applied::Job { job, .. } => {
            let id = JobId { instance, number: job.number };
            format!("{id}: {}, {} of {} done", job.state.as_str(), job.done, job.matched)
        }
        Applied::JobPassed => "it had ended before".to_owned(),
        Applied::Queued(_)
        | Applied::Duplicate { .. }
        | Applied::Settled { .. }
        | Applied::Stale { .. }
        | Applied::Counted
        | Applied::Audited => String::new(),
    }
}
