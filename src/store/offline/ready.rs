//! Making the copy of a backup ready to be the store: nothing goes on by itself, no number comes again, and nobody is told
//! again what they were told.

use std::fs;
use std::io;
use std::path::Path;

use redb::ReadableTable;
use redb::backends::FileBackend;

use super::open;
use super::restore::{Report, Wish};
use crate::domain::alert::AlertMemory;
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::id::{DeliveryKey, DestinationId};
use crate::domain::job::JobState;
use crate::domain::outcome::Disposition;
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::UnixMs;
use crate::store::Store;
use crate::store::directory::refuse;
use crate::store::error::{OpenError, StoreError};
use crate::store::handle::Finish;
use crate::store::job::Job;
use crate::store::open::Place;
use crate::store::row::{self, JobRow, NumberRow};
use crate::store::schema::{JOBS, META, META_BACKUP_TAKEN, META_DESK_FLOOR, META_FLOOR};
use crate::store::write::{Settle, WriteOp};

/// Deliveries settled in one transaction.
const SETTLED_AT_ONCE: usize = 1000;

/// What is to be done beside what the report tells.
pub(super) struct Todo {
    /// What people were told last, where a newer store knows it.
    pub alerts: Option<AlertMemory>,
    /// No job and no deed may have a lesser number.
    pub desk_floor: u64,
    /// Sent since, with their place in the outbox and the time.
    pub sent: Vec<(DeliveryKey, UnixMs, UnixMs)>,
}

pub(super) fn make(copy: &Path, wish: &Wish<'_>, report: &Report, todo: Todo) -> Result<(), OpenError> {
    let path = copy.to_owned();
    let place = Place::backend(move || {
        let file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        FileBackend::new(file).map_err(io::Error::other)
    });
    let mut store = open(copy, place, wish.options)?;
    let done = ready(&mut store, wish, report, todo).and_then(|()| store.close());
    done.map_err(|error| refuse(copy, format!("{error}; nothing was changed")))
}

fn ready(store: &mut Store, wish: &Wish<'_>, report: &Report, todo: Todo) -> Result<(), StoreError> {
    let taken = report.backup.taken_at.map_or_else(|| "an unknown time".to_owned(), UnixMs::to_rfc3339);
    let reason = format!("restored from a backup of {taken}");
    // First the numbers: the deed of this restore is to have one that nobody had.
    raise(store, report.floor, todo.desk_floor, (&reason, wish.now))?;
    for some in todo.sent.chunks(SETTLED_AT_ONCE) {
        let settle = |(key, due_at, at): &(DeliveryKey, UnixMs, UnixMs)| {
            let (attempt, autopsy) = (None, None);
            WriteOp::Settle(Settle {
                key: *key,
                due_at: *due_at,
                at: *at,
                attempt,
                disposition: Disposition::Sent,
                autopsy,
            })
        };
        store.commit(&some.iter().map(settle).collect::<Vec<_>>())?;
    }
    let pause = |destination: &DestinationId| WriteOp::Pause {
        destination: *destination,
        pause: Pause { since: wish.now, until: None, reason: reason.clone(), by: PausedBy::Operator },
    };
    let mut ops: Vec<_> = store.memory.destinations.values().map(pause).collect();
    ops.extend(todo.alerts.map(WriteOp::Alerts));
    let settled = match report.settled() {
        0 => String::new(),
        count => format!(", {count} deliveries settled as sent since"),
    };
    let deed = Deed::new(Who::nobody(Right::File), "restore").on(&wish.file.display());
    ops.push(WriteOp::Audit { at: wish.now, deed: Box::new(deed.ended(&format!("{reason}{settled}"))) });
    store.commit(&ops).map(drop)
}

/// Raises what numbers begin from, ends jobs, and makes it a store as any other.
fn raise(store: &Store, floor: u64, desk_floor: u64, (why, now): (&str, UnixMs)) -> Result<(), StoreError> {
    store.shared.write(|transaction| {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FLOOR, row::encode(&NumberRow(floor))?.as_slice())?;
        meta.insert(META_DESK_FLOOR, row::encode(&NumberRow(desk_floor))?.as_slice())?;
        meta.remove(META_BACKUP_TAKEN)?;
        let mut table = transaction.open_table(JOBS)?;
        let mut running = Vec::new();
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            let job = row::decode::<JobRow>(bytes.value()).ok().and_then(|row| Job::try_from(row).ok());
            running.extend(job.filter(|job| job.state == JobState::Running).map(|job| (*key.value(), job)));
        }
        for (key, mut job) in running {
            job.end(JobState::Cancelled, now);
            job.reason = if job.reason.is_empty() { why.to_owned() } else { format!("{} ({why})", job.reason) };
            table.insert(&key, row::encode(&JobRow::from(&job))?.as_slice())?;
        }
        Ok(((), Finish::Commit))
    })
}

/// The least number that no job and no deed of these stores has.
pub(super) fn free_number(store: &Store) -> Result<u64, StoreError> {
    let deed = store.reader().audit(None, 1)?.0.first().map_or(0, |kept| kept.number);
    let job = store.reader().jobs()?.first().map_or(0, |job| job.number.0);
    let floor = store.shared.read(|transaction| {
        let meta = transaction.open_table(META)?;
        let bytes = redb::ReadableTable::get(&meta, META_DESK_FLOOR)?;
        Ok(bytes.and_then(|bytes| row::decode::<NumberRow>(bytes.value()).ok()).map_or(0, |row| row.0))
    })?;
    Ok(deed.max(job).saturating_add(1).max(floor))
}
