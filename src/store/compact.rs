//! Giving the free space of the file back to the file system: offline, or by the daemon at its start, before it serves.
//!
//! Only a store that was opened cleanly is compacted, through the handle that opened it. The engine moves pages towards
//! the front in transactions of its own, each synced in two phases, so that a process that dies at it leaves the same rows
//! in a file that is somewhere between the old size and the new. The next opening then has to walk through the file once.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use redb::Database;

use super::damage::Damage;
use super::directory::refuse;
use super::error::{OpenError, StoreError};
use super::handle::Shared;
use super::offline::Offline;
use super::open::{Opened, Place, guarded};
use super::{Options, Store, suspect};
use crate::env::entropy::Entropy;

/// The size of the file, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compacted {
    pub before: u64,
    pub after: u64,
}

/// What a daemon does to its store before it uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtStart {
    Open,
    Compact,
}

impl Offline {
    /// Gives free space back. Where it fails, no row has changed.
    pub fn compact(self, options: Options) -> Result<Compacted, OpenError> {
        self.find()?;
        let path = self.directory.store();
        let Opened { mut database, .. } =
            Place::Directory(self.directory).open(options.cache, None, &Damage::default())?;
        let before = bytes(&path);
        guarded(&path, || {
            compact(&mut database).and_then(|()| Ok(database.close()?)).map_err(|error| failed(&path, &error))
        })?;
        Ok(Compacted { before, after: bytes(&path) })
    }
}

impl Store {
    /// As [`Store::open`], with the free space given back before anybody uses it. A disk that is full leaves the store as
    /// it is, opened all the same; any other error is refused, since then nobody knows what is on disk.
    pub fn open_compacted(dir: &Path, options: Options, entropy: &dyn Entropy) -> Result<(Self, Compacted), OpenError> {
        let mut place = Place::directory(dir)?;
        let damage = Arc::new(Damage::default());
        let mut opened = place.open_or_create(options.cache, entropy, &damage)?;
        let path = place.file().unwrap_or_default();
        let before = bytes(&path);
        let compacted = guarded(&path, || Ok(compact(&mut opened.database)))?;
        if let Err(error) = compacted {
            drop(opened);
            match error {
                StoreError::Full(_) => tracing::warn!(%error, "Compacting was given up; the store is used as it is."),
                StoreError::Medium(_) | StoreError::Failed(_) => return Err(failed(&path, &error)),
            }
            opened = place.open(options.cache, None, &damage)?;
        }
        let Opened { database, identity, memory, ledger } = opened;
        let shared = Shared::new(database, ledger, identity, damage, Some(path.clone())).marking(place.home());
        let shared = Arc::new(shared);
        let store = Self::of(shared, memory, place, options);
        Ok((store, Compacted { before, after: bytes(&path) }))
    }
}

/// Each round moves what the one before made room for.
fn compact(database: &mut Database) -> Result<(), StoreError> {
    while database.compact()? {}
    Ok(())
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Where the disk failed, the file is marked: whoever opens it next reads all of it first.
fn failed(path: &Path, error: &StoreError) -> OpenError {
    if let (StoreError::Medium(cause), Some(home)) = (error, path.parent()) {
        suspect::mark(home, cause);
    }
    let refused = refuse(path, format!("compacting failed ({error}); no row was changed: start without compacting"));
    match error {
        StoreError::Medium(cause) => refused.by_medium(cause.clone()),
        StoreError::Full(_) | StoreError::Failed(_) => refused,
    }
}
