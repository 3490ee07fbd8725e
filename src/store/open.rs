//! Opening a store: at start, after a crash and after an error alike, so that recovery is exercised daily.
//!
//! A damaged file can make the engine panic, so everything happens inside `catch_unwind`, and comes out as a text.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::damage::Damage;
use super::directory::{Directory, Found, Held, refuse};
use super::error::{OpenError, StoreError, damaged_text, database_text, medium_text};
use super::handle::{Identity, begin_write};
use super::ledger::Ledger;
use super::load::{Memory, Unfit, foreign, load};
use super::row::{self, IdentityRow, NumberRow};
use super::schema::{
    ATTEMPTS, AUDIT, COUNTS, DEDUPE, DELIVERIES, DESTINATIONS, DLQ, EVENT_COUNTS, FILTERS, FORMAT, INBOX, JOBS, META,
    META_FLOOR, META_FORMAT, META_IDENTITY, OUTBOX, PAUSES, STATS, ZONE_UIDS, ZONES,
};
use super::upgrade::{refuse_newer, upgrade, upgrade_text};
use super::{Options, suspect};
use crate::domain::id::InstanceId;
use crate::env::entropy::Entropy;

/// Opens a database on some backend; empty ones are laid out by the engine.
type OpenBackend = Box<dyn FnMut(&Builder) -> Result<Database, DatabaseError> + Send>;

/// Where the store's bytes are, and how to get at them again.
pub(super) enum Place {
    Directory(Directory),
    Backend(OpenBackend),
}

/// An open database with what the writer keeps in memory of it.
#[derive(Debug)]
pub(super) struct Opened {
    pub database: Database,
    pub identity: Identity,
    pub memory: Memory,
    pub ledger: Ledger,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => directory.fmt(f),
            Self::Backend(_) => f.write_str("Backend"),
        }
    }
}

impl Place {
    pub fn directory(path: &Path) -> Result<Self, OpenError> {
        Directory::claim(path).map(Self::Directory)
    }

    pub fn backend<B: StorageBackend>(mut make: impl FnMut() -> io::Result<B> + Send + 'static) -> Self {
        Self::Backend(Box::new(move |builder| builder.create_with_backend(make()?)))
    }

    /// As [`Place::backend`], with the checksum of every page checked on opening.
    pub fn examined<B: StorageBackend>(cache: usize, mut make: impl FnMut() -> io::Result<B> + Send + 'static) -> Self {
        Self::Backend(Box::new(move |_| {
            let mut builder = builder(cache);
            builder.set_check_integrity_on_open(true).create_with_backend(make()?)
        }))
    }

    /// The file, where there is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => Some(directory.store()),
            Self::Backend(_) => None,
        }
    }

    /// The directory, where the store has one of its own.
    pub fn home(&self) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => Some(directory.path().to_owned()),
            Self::Backend(_) => None,
        }
    }

    /// Why the file's name no longer stands for the file that is open.
    pub fn lost(&self) -> Option<String> {
        match self {
            Self::Directory(directory) => directory.lost(),
            Self::Backend(_) => None,
        }
    }

    /// Opens the store, creating it where there is none yet.
    pub fn open_or_create(
        &mut self,
        cache: usize,
        entropy: &dyn Entropy,
        damage: &Damage,
    ) -> Result<Opened, OpenError> {
        if let Self::Directory(directory) = &*self
            && directory.look()? == Found::Nothing
        {
            create(directory, cache, entropy)?;
        }
        let opened = self.open(cache, Some(entropy), damage)?;
        if let Self::Directory(directory) = &*self {
            directory.mark(opened.identity.instance)?;
        }
        Ok(opened)
    }

    /// Opens the store that is there, the first time after a check of the whole file where its disk has failed before. Only a
    /// blank backend is laid out, and only where `entropy` is given. Where the disk fails now, the store is marked.
    pub fn open(&mut self, cache: usize, entropy: Option<&dyn Entropy>, damage: &Damage) -> Result<Opened, OpenError> {
        if let Self::Directory(directory) = self
            && directory.hold() == Held::Now
        {
            suspect::settle(directory, Options { cache })?;
        }
        let path = self.file().unwrap_or_else(|| PathBuf::from("(backend)"));
        let opened = guarded(&path, || self.open_unmarked(&path, cache, entropy, damage));
        if let (Some(home), Some(cause)) = (self.home(), opened.as_ref().err().and_then(OpenError::medium)) {
            suspect::mark(&home, cause);
        }
        opened
    }

    fn open_unmarked(
        &mut self,
        path: &Path,
        cache: usize,
        entropy: Option<&dyn Entropy>,
        damage: &Damage,
    ) -> Result<Opened, OpenError> {
        let builder = builder(cache);
        let database = match self {
            Self::Directory(directory) => {
                let way_in = directory.way_in();
                if let Err(Unfit::Refused(detail)) = refuse_newer(&way_in, &builder) {
                    return Err(refuse(path, detail));
                }
                builder.open(&way_in)
            }
            Self::Backend(open) => open(&builder),
        }
        .map_err(|error| refuse_engine(path, error))?;
        // Guarded by itself: were the database dropped while a panic unwinds, a second one would end the process.
        let loaded = guarded(path, || match (load(&database, damage), entropy) {
            (Err(Unfit::Blank), Some(entropy)) => {
                let identity = draw_identity(path, entropy)?;
                Ok(lay_out(&database, &identity).and_then(|()| load(&database, damage)))
            }
            (loaded, _) => Ok(loaded),
        })?;
        let (identity, memory, ledger) = loaded.map_err(|unfit| match unfit {
            Unfit::Refused(detail) => refuse(path, detail),
            Unfit::Unreadable(detail) => refuse(path, detail.clone()).by_medium(detail),
            Unfit::Blank => refuse(path, foreign()),
        })?;
        upgrade(&database).map_err(|error| {
            let refused = refuse(path, upgrade_text(&error));
            match error {
                StoreError::Medium(cause) => refused.by_medium(cause),
                StoreError::Full(_) | StoreError::Failed(_) => refused,
            }
        })?;
        Ok(Opened { database, identity, memory, ledger })
    }
}

fn builder(cache: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache);
    builder
}

/// Refuses over what the engine says, which may be what the disk said to it.
fn refuse_engine(path: &Path, error: DatabaseError) -> OpenError {
    let medium = medium_text(&error);
    let refused = refuse(path, database_text(error));
    match medium {
        Some(cause) => refused.by_medium(cause),
        None => refused,
    }
}

/// Runs `open`, turning a panic over a damaged file into a refusal.
pub(super) fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(refuse(path, damaged_text("the storage engine gave up on it"))))
}

/// Writes a new store under a temporary name, closes and syncs it, and gives it its own name.
fn create(directory: &Directory, cache: usize, entropy: &dyn Entropy) -> Result<(), OpenError> {
    let path = directory.unfinished_store();
    let identity = draw_identity(&path, entropy)?;
    let file = directory.create_unfinished()?;
    guarded(&path, || {
        let engine = |error: DatabaseError| refuse_engine(&path, error);
        let database = builder(cache).create_with_backend(FileBackend::new(file).map_err(engine)?).map_err(engine)?;
        match lay_out(&database, &identity) {
            Ok(()) => database.close().map_err(engine),
            Err(Unfit::Refused(detail) | Unfit::Unreadable(detail)) => Err(refuse(&path, detail)),
            Err(Unfit::Blank) => Err(refuse(&path, foreign())),
        }
    })?;
    directory.publish_store()
}

/// Draws a new identity. A generator that has only zeros to give would let strangers construct colliding ids.
fn draw_identity(path: &Path, entropy: &dyn Entropy) -> Result<IdentityRow, OpenError> {
    let (instance, high, low) = (entropy.next_u64(), entropy.next_u64(), entropy.next_u64());
    if high == 0 && low == 0 {
        return Err(refuse(path, "the system has no randomness to give for the store's key; start again once it has"));
    }
    let hash_key = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
    Ok(IdentityRow { instance: InstanceId::from_random(instance).get(), hash_key })
}

/// Creates every table and the meta rows, in one transaction.
fn lay_out(database: &Database, identity: &IdentityRow) -> Result<(), Unfit> {
    let transaction = begin_write(database)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(META_IDENTITY, row::encode(identity)?.as_slice())?;
        meta.insert(META_FLOOR, row::encode(&NumberRow(1))?.as_slice())?;
        transaction.open_table(DESTINATIONS)?;
        transaction.open_table(INBOX)?;
        transaction.open_table(DEDUPE)?;
        transaction.open_table(FILTERS)?;
        transaction.open_table(DELIVERIES)?;
        transaction.open_table(OUTBOX)?;
        transaction.open_table(DLQ)?;
        transaction.open_table(ATTEMPTS)?;
        transaction.open_table(COUNTS)?;
        transaction.open_table(EVENT_COUNTS)?;
        transaction.open_table(PAUSES)?;
        transaction.open_table(JOBS)?;
        transaction.open_table(AUDIT)?;
        transaction.open_table(STATS)?;
        transaction.open_table(ZONES)?;
        transaction.open_table(ZONE_UIDS)?;
    }
    transaction.commit()?;
    Ok(())
}
