//! The open database, shared by the writer and every reader, and the one place where transactions begin.
//!
//! The database sits behind a lock that readers and the writer hold for the length of one transaction. Reopening takes
//! it away under the exclusive lock, which waits for them, and puts the new one in its place; who comes in between is
//! told that the store is closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::damage::Damage;
use super::error::{OpenError, StoreError};
use super::ledger::Ledger;
use super::suspect::Suspicion;
use crate::domain::dedupe::HashKey;
use crate::domain::id::InstanceId;

/// Who the store is: drawn at creation, the same for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub instance: InstanceId,
    pub hash_key: HashKey,
}

/// Whether a transaction's work is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finish {
    Commit,
    /// Nothing was changed, so nothing need be synced.
    Abandon,
}

/// What a transaction leaves for an opening after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repair {
    /// All that it needs, so that it takes milliseconds; some 130 KB for each GB of the file.
    Quick,
    /// Nothing: it reads the whole file, some 2 s for each GB.
    Whole,
}

#[derive(Debug)]
pub(super) struct Shared {
    database: RwLock<Option<Database>>,
    /// A commit failed: what is on disk is unknown until the file is opened anew.
    unknown: AtomicBool,
    /// The disk failed: nothing is written before the whole file was read again.
    suspicion: Suspicion,
    ledger: ArcSwap<Ledger>,
    pub identity: Identity,
    pub damage: Arc<Damage>,
    /// `None` for a backend that is no file.
    pub file: Option<PathBuf>,
}

impl Shared {
    pub fn new(
        database: Database,
        ledger: Ledger,
        identity: Identity,
        damage: Arc<Damage>,
        file: Option<PathBuf>,
    ) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            unknown: AtomicBool::new(false),
            suspicion: Suspicion::default(),
            ledger: ArcSwap::from_pointee(ledger),
            identity,
            damage,
            file,
        }
    }

    /// Leaves a mark in `directory` where the disk fails.
    pub fn marking(self, directory: Option<PathBuf>) -> Self {
        Self { suspicion: Suspicion::new(directory), ..self }
    }

    /// Why the disk cannot be trusted, where it has failed.
    pub fn medium_fault(&self) -> Option<String> {
        self.suspicion.cause()
    }

    /// Takes note where it was the disk that kept the file from being opened.
    pub fn suspect(&self, error: &OpenError) {
        if let Some(cause) = error.medium() {
            drop(self.suspicion.watch::<()>(Err(StoreError::Medium(cause.to_owned()))));
        }
    }

    /// The books as of the last commit.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.load_full()
    }

    pub fn publish(&self, ledger: Ledger) {
        self.ledger.store(Arc::new(ledger));
    }

    /// Runs `page` in one short read transaction.
    pub fn read<T>(&self, page: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(closed)?;
        self.suspicion.watch(database.begin_read().map_err(StoreError::from).and_then(|transaction| page(&transaction)))
    }

    /// A read transaction for as long as a backup takes. It does not keep the file from being reopened: then it ends with
    /// an error. Until it is dropped, nothing that is freed meanwhile can be used again, and the file grows instead.
    pub fn view(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or_else(closed)?.begin_read()?)
    }

    /// Runs `work` in one write transaction and, where it says so, makes it durable. If `work` fails or panics, nothing is
    /// changed; if the commit fails, no one knows, and nothing is written before the file is opened anew.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Finish), StoreError>,
    ) -> Result<T, StoreError> {
        self.write_for(Repair::Quick, work)
    }

    /// The same with a choice of what it leaves for an opening after a crash.
    pub fn write_for<T>(
        &self,
        repair: Repair,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Finish), StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = self.suspicion.cause() {
            return Err(StoreError::Medium(cause));
        }
        if self.unknown.load(Ordering::Acquire) {
            return Err(StoreError::Failed("a commit has failed before; the store must be reopened".to_owned()));
        }
        self.suspicion.watch(self.transact(database.as_ref().ok_or_else(closed)?, repair, work))
    }

    fn transact<T>(
        &self,
        database: &Database,
        repair: Repair,
        work: impl FnOnce(&WriteTransaction) -> Result<(T, Finish), StoreError>,
    ) -> Result<T, StoreError> {
        let mut transaction = begin_write(database)?;
        transaction.set_quick_repair(repair == Repair::Quick);
        let (value, finish) = work(&transaction)?;
        match finish {
            Finish::Abandon => transaction.abort()?,
            Finish::Commit => transaction.commit().inspect_err(|_| self.unknown.store(true, Ordering::Release))?,
        }
        Ok(value)
    }

    /// Takes the database away, waiting for every transaction in progress, and closes it.
    pub fn close(&self) -> Result<(), StoreError> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        database.map_or(Ok(()), |database| self.suspicion.watch(close(database)))
    }

    /// Puts a freshly opened database in place.
    pub fn replace(&self, database: Database, ledger: Ledger) {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.publish(ledger);
        self.unknown.store(false, Ordering::Release);
        *place = Some(database);
    }
}

/// Closes a database. Over a damaged file the engine may panic even here, which must not end a daemon that is about to
/// open the file anew.
fn close(database: Database) -> Result<(), StoreError> {
    match catch_unwind(AssertUnwindSafe(|| database.close())) {
        Ok(closed) => Ok(closed?),
        Err(_) => Err(StoreError::Failed("the storage engine gave up while closing the file".to_owned())),
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the store is closed, or is just being reopened; try again".to_owned())
}

/// Begins a write transaction: the only place that may. Two-phase commit, since with one phase a failed sync followed by
/// a reopen and a power cut can cost the whole file; quick-repair, so that opening after a crash takes milliseconds, unless
/// the caller switches it off ([`Repair`]).
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place where write transactions begin")]
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Begins a write transaction into a file that nobody relies on yet: it need not outlive a crash.
pub(super) fn begin_fill(database: &Database) -> Result<WriteTransaction, StoreError> {
    #[allow(clippy::disallowed_methods, reason = "a file under a temporary name, synced as a whole at its end")]
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    Ok(transaction)
}
