//! The store: one redb file that holds every event, every delivery and the books.
//!
//! One [`Store`] writes, any number of [`read::Reader`]s read. Every change is a [`write::WriteOp`]; a batch of them is
//! one transaction, durable when [`Store::commit`] returns. What the writer keeps in memory (next number, dedupe
//! filters, destination numbers, the books) is a function of the file: opening at start, after a crash and after an
//! error is the same path.
//!
//! Layout: `schema` tables and keys, `row` and `convert` values, `directory`, `open` and `load` the way to an open file,
//! `handle` transactions, `suspect` what becomes of a file whose disk failed, `backup` and `offline` copies and what is done to a store no daemon uses, `compact` giving space back, `job` jobs and what operators did, `apply` and `sweep` writing, `read` reading, `verify` the rules that hold between rows.
//!
//! Absent on purpose: leases (in flight lives in memory), savepoints, non-durable commits, and any clock: every time comes with the operation.

mod apply;
pub mod backup;
pub mod compact;
mod convert;
mod damage;
mod directory;
mod error;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
pub mod job;
mod ledger;
mod load;
pub mod offline;
mod open;
mod overlay;
pub mod read;
mod row;
mod schema;
mod size;
mod suspect;
mod sweep;
mod upgrade;
mod verify;
mod wreck;
pub mod write;
mod zone;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use error::{OpenError, StoreError};
pub use ledger::{Counts, EventCounts, Ledger};
/// What [`Store::open_backend`] opens stores on.
pub use redb::StorageBackend;
pub use sweep::{Slice, SweepPlan, Swept};

use crate::domain::dedupe::HashKey;
use crate::domain::id::{DestinationId, InstanceId};
use crate::domain::name::DestinationName;
use crate::domain::time::{DurationMs, KnownTime, UnixMs};
use crate::env::entropy::Entropy;
use apply::Batch;
use damage::Damage;
use handle::{Finish, Repair, Shared};
use load::Memory;
use open::{Opened, Place};
use sweep::{Leftover, Marks};

/// The sole writer of the store. Dropping it closes the file, also for its readers.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    memory: Memory,
    marks: Marks,
    place: Place,
    options: Options,
    /// See [`Store::is_sealed`].
    sealed: bool,
    /// See [`QUICK_BYTES`].
    quick_bytes: u64,
}

/// Whether more waits behind a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rush {
    Calm,
    Hurried,
}

/// Up to this size every transaction leaves what an opening after a crash needs (performance of small transactions suffers
/// by a fifth at most, and an opening without it would take some 4 s at this size).
/// Unit tests have no small files, so that they see both ways.
const QUICK_BYTES: u64 = if cfg!(test) { 0 } else { 2 << 30 };

/// How to open.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of page cache.
    pub cache: usize,
}

impl Store {
    /// Opens `DIR/postbackd.redb`, creating directory (if its parent exists) and file where they are missing.
    pub fn open(dir: &Path, options: Options, entropy: &dyn Entropy) -> Result<Self, OpenError> {
        Self::open_place(Place::directory(dir)?, options, entropy)
    }

    /// Opens a store on whatever `make` makes; [`Store::reopen`] calls it again and expects the bytes that survived. An
    /// empty backend is laid out as a new store. That first layout is not crash-safe on a bare backend (in a directory
    /// a temporary name guards it): let faults begin once this has returned.
    pub fn open_backend<B: StorageBackend>(
        make: impl FnMut() -> io::Result<B> + Send + 'static,
        options: Options,
        entropy: &dyn Entropy,
    ) -> Result<Self, OpenError> {
        Self::open_place(Place::backend(make), options, entropy)
    }

    fn open_place(mut place: Place, options: Options, entropy: &dyn Entropy) -> Result<Self, OpenError> {
        let damage = Arc::new(Damage::default());
        let Opened { database, identity, memory, ledger } = place.open_or_create(options.cache, entropy, &damage)?;
        let shared = Shared::new(database, ledger, identity, damage, place.file()).marking(place.home());
        let shared = Arc::new(shared);
        Ok(Self::of(shared, memory, place, options))
    }

    fn of(shared: Arc<Shared>, memory: Memory, place: Place, options: Options) -> Self {
        Self { shared, memory, marks: Marks::default(), place, options, sealed: true, quick_bytes: QUICK_BYTES }
    }

    /// The same store that takes files of so many bytes and more for large: the simulator has no room for such.
    #[must_use]
    pub fn quick_up_to(mut self, bytes: u64) -> Self {
        self.quick_bytes = bytes;
        self
    }

    pub fn reader(&self) -> read::Reader {
        read::Reader::new(Arc::clone(&self.shared))
    }

    /// Why the disk cannot be trusted, where it failed under the store: nothing is written any more, and the process has to
    /// end. The next start reads the whole file first.
    pub fn medium_fault(&self) -> Option<String> {
        self.shared.medium_fault()
    }

    /// Why the store's name no longer stands for the file that is open: it was deleted, moved or replaced. What is written
    /// goes into the open file and is gone with this process, unless a backup is taken of it.
    pub fn lost(&self) -> Option<String> {
        self.place.lost()
    }

    pub fn instance(&self) -> InstanceId {
        self.shared.identity.instance
    }

    pub fn hash_key(&self) -> HashKey {
        self.shared.identity.hash_key
    }

    /// What is known of the time: what retention went by last, or, in a file from before that was kept, the newest key of its
    /// dedupe window. `None` for a new store.
    pub fn known_time(&self) -> Result<Option<KnownTime>, StoreError> {
        let newest = Some(self.memory.filters.newest()).filter(|newest| *newest > UnixMs(0));
        Ok(self.kept_time()?.or(newest.map(|at| KnownTime { at, ahead: DurationMs::ZERO, ran: DurationMs::ZERO })))
    }

    /// Keeps what a start knows of the time where nothing was kept yet. Else the next start might go by a key that this one
    /// has stamped later than it is, as is done while the clock is ahead.
    pub fn keep_first_time(&mut self, known: KnownTime) -> Result<(), StoreError> {
        if self.kept_time()?.is_some() {
            return Ok(());
        }
        self.sweep(&SweepPlan { known: Some(known), ..SweepPlan::default() }).map(drop)
    }

    fn kept_time(&self) -> Result<Option<KnownTime>, StoreError> {
        self.shared.read(|transaction| {
            let bytes = transaction.open_table(schema::META)?.get(schema::META_KNOWN_TIME)?;
            Ok(bytes.and_then(|bytes| row::decode::<row::KnownTimeRow>(bytes.value()).ok()).map(KnownTime::from))
        })
    }

    /// Numbers `names`, giving new names the next free number, in one durable transaction.
    pub fn number_destinations(
        &mut self,
        names: &[DestinationName],
    ) -> Result<BTreeMap<DestinationName, DestinationId>, StoreError> {
        let mut numbers = self.memory.destinations.clone();
        let mut last = numbers.values().max().map_or(0, |number| number.0);
        let mut fresh = Vec::new();
        for name in names.iter().filter(|name| !self.memory.destinations.contains_key(*name)) {
            if numbers.contains_key(name) {
                continue;
            }
            last = last.saturating_add(1);
            if last > DestinationId::MAX.0 {
                return Err(StoreError::Failed(format!(
                    "there is no number left for destination {name}: this store has numbered {} names",
                    numbers.len()
                )));
            }
            numbers.insert(name.clone(), DestinationId(last));
            fresh.push((name, last));
        }
        if !fresh.is_empty() {
            self.shared.write(|transaction| {
                let mut table = transaction.open_table(schema::DESTINATIONS)?;
                for (name, number) in &fresh {
                    let bytes = row::encode(&row::NumberRow(u64::from(*number)))?;
                    table.insert(name.as_str(), bytes.as_slice())?;
                }
                Ok(((), Finish::Commit))
            })?;
            self.memory.destinations.clone_from(&numbers);
        }
        numbers.retain(|name, _| names.contains(name));
        Ok(numbers)
    }

    /// Applies `ops` in order in one durable transaction: all or nothing. One result per operation, in order. After an
    /// error the outcome is unknown: reopen, and let the same event be sent again.
    pub fn commit(&mut self, ops: &[write::WriteOp]) -> Result<Vec<write::Applied>, StoreError> {
        self.commit_beside(ops, None, Rush::Calm).map(|(applied, _)| applied)
    }

    /// The same with a slice of retention in the same transaction. Owed deliveries and their events are never removed; zones
    /// of a file from before there were any are given their row.
    pub fn commit_beside(
        &mut self,
        ops: &[write::WriteOp],
        slice: Option<&Slice<'_>>,
        rush: Rush,
    ) -> Result<(Vec<write::Applied>, Option<Swept>), StoreError> {
        if ops.is_empty() && slice.is_none() {
            return Ok((Vec::new(), None));
        }
        let repair = self.repair(rush);
        let Self { shared, memory, marks, .. } = self;
        let ledger = Ledger::clone(&shared.ledger());
        let outcome = shared.write_for(repair, |transaction| {
            let lent = (&mut memory.filters, marks, shared.identity.hash_key);
            let outcome =
                Batch::new(transaction, ledger, memory.next_seq, lent, &shared.damage, shared.identity.instance)?
                    .run(ops, slice)?;
            let finish = if outcome.changed { Finish::Commit } else { Finish::Abandon };
            Ok((outcome, finish))
        })?;
        self.memory.next_seq = outcome.next_seq;
        if outcome.changed {
            self.shared.publish(outcome.ledger);
            self.sealed = repair == Repair::Quick;
            outcome.filter.into_iter().for_each(|bucket| self.memory.filters.kept(bucket));
        }
        let swept = outcome.leftover.map(|Leftover { swept, marks, emptied, .. }| {
            self.marks = marks;
            for bucket in emptied {
                self.memory.filters.remove(bucket);
            }
            swept
        });
        Ok((outcome.applied, swept))
    }

    /// One slice of retention by itself, of at most [`crate::domain::limits::SWEEP_ROWS`] rows; how many that were. Zero means
    /// that there is nothing to do for now.
    pub fn sweep(&mut self, plan: &SweepPlan) -> Result<usize, StoreError> {
        let slice = Slice { plan: *plan, excess: 0, enough: &|| false };
        let (_, swept) = self.commit_beside(&[], Some(&slice), Rush::Calm)?;
        Ok(swept.map_or(0, |swept| swept.rows))
    }

    /// Whether an opening after a crash would take milliseconds, as of the last commit. Where it would not,
    /// [`Store::seal`] makes it so.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// A transaction that changes nothing and leaves all that an opening after a crash needs.
    pub fn seal(&mut self) -> Result<(), StoreError> {
        self.shared.write(|_| Ok(((), Finish::Commit)))?;
        self.sealed = true;
        Ok(())
    }

    /// What the next transaction leaves for an opening after a crash: all it needs while the file is small, since that costs
    /// little then. It grows with the file, so beyond that only where nothing else waits.
    fn repair(&self, rush: Rush) -> Repair {
        let is_small = self.reader().file_bytes() < self.quick_bytes;
        match rush {
            Rush::Hurried if !is_small => Repair::Whole,
            Rush::Calm | Rush::Hurried => Repair::Quick,
        }
    }

    /// Drops the handle and opens the same file again: after any [`StoreError`] but [`StoreError::Medium`], after which the
    /// process ends. Readers stay valid; in between they are
    /// told that the store is closed. May be tried again after it failed, unless there is a [`Store::medium_fault`] now: the
    /// disk failed, or somebody has written another store over the open file.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        if let Err(error) = self.shared.close() {
            tracing::warn!(%error, "The store did not close cleanly; it is opened anew.");
        }
        let opened =
            self.place.open(self.options.cache, None, &self.shared.damage).and_then(|opened| self.same(opened));
        let opened = opened.inspect_err(|error| self.shared.suspect(error))?;
        self.memory = opened.memory;
        self.marks = Marks::default();
        self.sealed = true;
        self.shared.replace(opened.database, opened.ledger);
        Ok(())
    }

    /// Refuses what has taken the place of this store's bytes. What was committed is there for good, so numbers that were
    /// given are known.
    fn same(&self, opened: Opened) -> Result<Opened, OpenError> {
        let what = if opened.identity != self.shared.identity {
            "another store"
        } else if opened.memory.next_seq < self.memory.next_seq {
            "an older state of it"
        } else {
            return Ok(opened);
        };
        let path = self.place.file().unwrap_or_default();
        let cause = format!("{what} was written over the open file");
        let advice = "what was in it is gone: put back a backup (postbackd restore FILE)";
        Err(directory::refuse(&path, format!("{cause}, and {advice}")).by_medium(cause))
    }

    /// Closes cleanly, telling what went wrong.
    pub fn close(self) -> Result<(), StoreError> {
        self.shared.close()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shared.close() {
            tracing::warn!(%error, "The store did not close cleanly; what was committed is safe.");
        }
    }
}
