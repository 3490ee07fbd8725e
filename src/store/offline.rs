//! What is done to a store that no daemon uses: looking whether it is sound, and putting a backup in its place
//! ([`restore`]). Giving its free space back is `compact`.
//!
//! A file that is only looked into is never written to (`overlay`): opening one may mean to repair it first.

mod ready;
pub mod restore;
mod sent;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use redb::ReadableTableMetadata;

use super::damage::Damage;
use super::directory::{self, Directory, Found, refuse, refuse_io};
use super::error::{IN_USE, OpenError, StoreError};
use super::handle::Shared;
use super::open::{Opened, Place};
use super::overlay::Overlay;
use super::row::{self, NumberRow};
use super::schema::{INBOX, META, META_BACKUP_TAKEN};
use super::{Options, Store, suspect};
use crate::domain::id::InstanceId;
use crate::domain::time::UnixMs;

/// The data directory of a daemon that does not run; held until this is dropped.
#[derive(Debug)]
pub struct Offline {
    pub(super) directory: Directory,
}

/// What a store holds, in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    pub instance: InstanceId,
    pub events: u64,
    /// Since the store was made.
    pub accepted: u64,
    pub owed: u64,
    /// `None` where it is no backup that the daemon wrote.
    pub taken_at: Option<UnixMs>,
}

impl Offline {
    /// Refuses where a daemon runs, saying what to do `instead`.
    pub fn claim(dir: &Path, instead: &str) -> Result<Self, OpenError> {
        if !dir.is_dir() {
            let detail = "there is no such directory; name the daemon's data directory in storage.path or with --dir";
            return Err(refuse(dir, detail));
        }
        let directory = Directory::claim(dir).map_err(|error| match error {
            OpenError::Path { path, detail, .. } if detail == IN_USE => {
                refuse(&path, format!("postbackd runs on this store; {instead}"))
            }
            other @ OpenError::Path { .. } => other,
        })?;
        Ok(Self { directory })
    }

    /// The store, looked into and not changed.
    pub fn examine(&self, options: Options) -> Result<Store, OpenError> {
        self.find()?;
        examine(&self.directory.store(), options)
    }

    pub(super) fn find(&self) -> Result<(), OpenError> {
        match self.directory.look()? {
            Found::Store => Ok(()),
            Found::Nothing => Err(refuse(&self.directory.store(), "there is no store here yet")),
        }
    }
}

/// Opens a file without changing it, with the checksum of every page checked.
pub fn examine(path: &Path, options: Options) -> Result<Store, OpenError> {
    directory::check_front(path)?;
    let file = File::open(path).map_err(|error| refuse_io(path, "opening the file", &error))?;
    if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        let detail = "postbackd runs on this file; stop it first, or take a backup (postbackd backup) and name that";
        return Err(refuse(path, detail));
    }
    // What is looked into is what the disk has, not what the kernel remembers.
    suspect::forget_cached(&file);
    // The lock is the open file's, and goes with the last handle of it.
    open(path, Place::examined(options.cache, move || Overlay::new(file.try_clone()?)), options)
}

fn open(path: &Path, mut place: Place, options: Options) -> Result<Store, OpenError> {
    let damage = Arc::new(Damage::default());
    let opened = place.open(options.cache, None, &damage);
    let Opened { database, identity, memory, ledger } = opened.map_err(|error| error.about(path))?;
    let shared = Arc::new(Shared::new(database, ledger, identity, damage, Some(path.to_owned())));
    Ok(Store::of(shared, memory, place, options))
}

impl Store {
    pub fn contents(&self) -> Result<Contents, StoreError> {
        let ledger = self.shared.ledger();
        let sum = |count: fn(&super::Counts) -> u64| ledger.deliveries.values().map(count).sum();
        let (events, taken_at) = self.shared.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let taken = meta.get(META_BACKUP_TAKEN)?;
            let taken = taken.and_then(|bytes| row::decode::<NumberRow>(bytes.value()).ok());
            Ok((transaction.open_table(INBOX)?.len()?, taken.map(|row| UnixMs(row.0))))
        })?;
        Ok(Contents {
            instance: self.instance(),
            events,
            accepted: sum(|counts| counts.accepted),
            owed: sum(|counts| counts.pending.saturating_add(counts.failed)),
            taken_at,
        })
    }
}
