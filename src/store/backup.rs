//! A backup of a store in use: every row of one moment, written into a file of its own.
//!
//! One read transaction gives the moment; the writer goes on meanwhile. Tables are copied row by row (`copy`) into a file
//! under a temporary name in `backups/` beside the store; after every bit of work the caller may rest, or end it (`rests`).
//! `meta` comes last, so that what was cut short is no store. Once all is there the file is closed, opened anew with the
//! checksum of every page checked, its rows are counted table by table, and only then does it get its name: a file under a
//! final name is whole.
//! What a process that died left behind is removed at the next start and by the next backup; it has the store's instance in
//! its name, so that two stores may share a directory.
//!
//! The rules between rows (`store::verify`) are not checked here: they need several reads for each row. `postbackd
//! verify` does that, elsewhere and at leisure.
//!
//! As long as rows are copied, pages that the writer frees stay in use, so that the store's own file may grow.

mod copy;
mod rests;
pub mod series;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, ReadTransaction, ReadableDatabase, StorageBackend};

use super::directory::remove_if_there;
use super::error::{StoreError, is_full};
use super::read::Reader;
use crate::domain::id::InstanceId;
use crate::domain::time::UnixMs;
use copy::{Rows, fill, rows_of};
use rests::{Paced, Rests};

/// The directory of backups, beside the store.
const DIRECTORY: &str = "backups";
/// Page cache of the file in the making. It is written in order, so that more would bring nothing.
const CACHE: usize = 4 << 20;

/// What is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The file is called `postbackd-NAME.redb`; a word fit for a file's name.
    pub name: String,
    pub at: UnixMs,
    /// Bytes of disk to leave free.
    pub reserve: u64,
    /// In place of `backups/` beside the store; made if its parent exists.
    pub directory: Option<PathBuf>,
}

/// A finished backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    pub file: PathBuf,
    pub bytes: u64,
    /// Rows of all tables.
    pub rows: u64,
    pub taken_at: UnixMs,
}

/// Why there is no backup. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operator must name it otherwise.
    #[error("there is a backup {0} already; give another name, or none")]
    Exists(PathBuf),
    /// The operator must make room.
    #[error("{free} bytes are free and {needed} are needed, storage.reserve included; free some space")]
    Disk { free: u64, needed: u64 },
    /// The operator must make room: the copy itself met the end of it.
    #[error("the disk of the backups is full ({0}); free some space, or name a directory on another one in backup.dir")]
    Full(String),
    /// The operator must make it.
    #[error("neither {0} nor its parent exists; make it for the daemon's user, or name another one in backup.dir")]
    Parent(PathBuf),
    /// The operator must look at the directory.
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    /// The operator must look at both disks: which of them it was is not told by the engine.
    #[error("reading the store or writing the backup failed ({0}); look at the disks of both (dmesg)")]
    Medium(String),
    #[error(transparent)]
    Store(StoreError),
    /// Whoever rested wants no more.
    #[error("the daemon is stopping; nothing is left of the backup")]
    Stopped,
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Medium(cause) => Self::Medium(cause),
            // Reading needs no room, so it is the copy that has none.
            StoreError::Full(cause) => Self::Full(cause),
            StoreError::Failed(_) => Self::Store(error),
        }
    }
}

macro_rules! from_engine {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for BackupError {
            fn from(error: redb::$error) -> Self {
                StoreError::from(error).into()
            }
        })*
    };
}

from_engine!(StorageError, TableError, TransactionError, CommitError, DatabaseError);

/// Called after every bit of work, some 100 microseconds: rests if it likes, or ends the backup.
pub type Rest = Box<dyn FnMut() -> Result<(), BackupError> + Send>;

impl Reader {
    /// The backups in `directory` and their sizes, by name; those that are being written have another ending.
    pub fn backups(&self, directory: Option<&Path>) -> Vec<(PathBuf, u64)> {
        let entries = self.backups_directory(directory).and_then(|directory| fs::read_dir(directory).ok());
        let entries = entries.into_iter().flatten().flatten();
        let files = entries.map(|entry| (entry.path(), entry.metadata().map_or(0, |meta| meta.len())));
        let mut files: Vec<_> = files.filter(|(path, _)| path.extension().is_some_and(|end| end == "redb")).collect();
        files.sort();
        files
    }

    /// Where backups are; `None` for a store that is in no file.
    pub fn backups_directory(&self, named: Option<&Path>) -> Option<PathBuf> {
        let beside = self.shared.file.as_ref()?.parent()?;
        Some(named.map_or_else(|| beside.join(DIRECTORY), Path::to_owned))
    }

    /// The file that a backup is written to until it is whole.
    pub fn unfinished_backup(&self, order: &Order) -> Option<PathBuf> {
        let directory = self.backups_directory(order.directory.as_deref())?;
        Some(directory.join(format!("postbackd-{}{}", order.name, self.unfinished_ending())))
    }

    fn instance(&self) -> InstanceId {
        self.shared.identity.instance
    }

    fn unfinished_ending(&self) -> String {
        format!(".{:010x}.redb.tmp", self.instance().get())
    }

    /// Removes what backups of this store left unfinished; how many files. No backup may be in the making.
    pub fn clear_unfinished_backups(&self, directory: Option<&Path>) -> io::Result<usize> {
        let Some(directory) = self.backups_directory(directory) else { return Ok(0) };
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let ending = self.unfinished_ending();
        let mut count = 0;
        for entry in entries {
            let entry = entry?;
            let is_ours = |name: &str| name.starts_with("postbackd-") && name.ends_with(&ending);
            if entry.file_name().to_str().is_some_and(is_ours) {
                fs::remove_file(entry.path())?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Writes a backup of the store as of now; blocks until it is made. One at a time: the caller sees to it.
    pub fn backup(&self, order: &Order, rest: Rest) -> Result<Backup, BackupError> {
        let nowhere = || StoreError::Failed("this store is in no file".to_owned());
        let directory = self.backups_directory(order.directory.as_deref()).ok_or_else(nowhere)?;
        let unfinished = self.unfinished_backup(order).ok_or_else(nowhere)?;
        if let (None, Some(home)) = (&order.directory, directory.parent()) {
            // The store's own directory may have been deleted under it, and what is open be all there is.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
            made.map_err(|error| at(home, error))?;
        }
        let place = Place::prepare(directory, &order.name, unfinished)?;
        self.clear_unfinished_backups(order.directory.as_deref()).map_err(|error| at(&place.directory, error))?;
        place.check_room(order.reserve, self.file_bytes())?;
        let made = self.shared.view().map_err(BackupError::from).and_then(|view| make(view, &place, order, rest));
        let finished = made.and_then(|rows| Ok((rows, place.publish()?)));
        let (rows, bytes) = finished.inspect_err(|_| place.clear())?;
        Ok(Backup { file: place.file, bytes, rows, taken_at: order.at })
    }
}

impl Reader {
    /// The rows of a backup without its file: into an empty backend, for tests of what a power cut leaves of it.
    pub fn copy_into(&self, backend: impl StorageBackend, taken_at: UnixMs, rest: Rest) -> Result<u64, BackupError> {
        Ok(fill(&self.shared.view()?, backend, taken_at, &Rests::new(rest), &mut || Ok(()))?.values().sum())
    }
}

/// Where a backup is written to.
struct Place {
    directory: PathBuf,
    file: PathBuf,
    unfinished: PathBuf,
}

impl Place {
    /// Makes the directory.
    fn prepare(directory: PathBuf, name: &str, unfinished: PathBuf) -> Result<Self, BackupError> {
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BackupError::Parent(directory)),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&directory, error)),
            Ok(()) | Err(_) => {}
        }
        let file = directory.join(format!("postbackd-{name}.redb"));
        if file.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(file));
        }
        Ok(Self { directory, file, unfinished })
    }

    fn check_room(&self, reserve: u64, bytes: u64) -> Result<(), BackupError> {
        let stat = rustix::fs::statvfs(&self.directory).map_err(|error| at(&self.directory, error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = reserve.saturating_add(bytes);
        if free < needed { Err(BackupError::Disk { free, needed }) } else { Ok(()) }
    }

    fn clear(&self) {
        if let Err(error) = remove_if_there(&self.unfinished) {
            tracing::warn!(path = %self.unfinished.display(), %error, "An unfinished backup stays; the next one removes it.");
        }
    }

    /// Gives the finished file its name, durably; its size.
    fn publish(&self) -> Result<u64, BackupError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        let publish = || {
            sync(&self.unfinished)?;
            fs::rename(&self.unfinished, &self.file)?;
            sync(&self.directory)?;
            Ok(fs::metadata(&self.file)?.len())
        };
        publish().map_err(|error| at(&self.file, error))
    }
}

fn at(path: &Path, error: io::Error) -> BackupError {
    if is_full(&error) {
        return BackupError::Full(format!("{}: {error}", path.display()));
    }
    BackupError::File { path: path.to_owned(), error }
}

/// Copies everything of `view` into a new file, and checks that it is there; the number of rows.
fn make(view: ReadTransaction, place: &Place, order: &Order, rest: Rest) -> Result<u64, BackupError> {
    let path = &place.unfinished;
    let opened = |options: &mut OpenOptions| options.open(path).map_err(|error| at(path, error));
    let file = opened(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))?;
    let written = file.try_clone().map_err(|error| at(path, error))?;
    let rests = Rests::new(rest);
    // Written out slice by slice: the file system makes whoever syncs next wait for what is not, the writer among them.
    let mut between = || {
        written.sync_data().map_err(|error| at(path, error))?;
        place.check_room(order.reserve, 0)
    };
    let wanted = fill(&view, FileBackend::new(file)?, order.at, &rests, &mut between)?;
    // From here on the writer may use again what it has freed.
    drop(view);
    let file = opened(OpenOptions::new().read(true).write(true))?;
    let found =
        count(Paced::new(FileBackend::new(file)?, rests.clone())).map_err(|error| rests.ended().unwrap_or(error))?;
    if wanted != found {
        let text = format!("the copy differs from the store: rows by table are {found:?} instead of {wanted:?}");
        return Err(StoreError::Failed(text).into());
    }
    Ok(found.values().sum())
}

/// How many rows each table of a finished copy has, once the checksum of every page was checked.
fn count(copy: impl StorageBackend) -> Result<Rows, BackupError> {
    let copied = builder().set_check_integrity_on_open(true).create_with_backend(copy)?;
    let found = rows_of(&copied.begin_read()?)?;
    copied.close()?;
    Ok(found)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}
