//! The directory a store lives in: who may use it, what is in it, how a new file gets there.
//!
//! | name | what |
//! |---|---|
//! | `postbackd.redb` | the store |
//! | `postbackd.id` | a marker with the store's instance: where it lies and the store does not, something was lost |
//! | `postbackd.suspect` | a mark: the disk failed under the store, which is read as a whole before it is used again |
//! | `*.tmp` | the unfinished work of a process that died while creating one of them; removed at start |
//!
//! The directory itself is locked for as long as the store is open, so that a second daemon is turned away before it
//! touches anything. A new file is written under a temporary name and synced before it gets its own: creating it in place
//! could be cut short by a power failure and leave a file that never opens. The marker comes after the file, never before.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{IN_USE, OpenError, io_text, is_of_disk};
use crate::domain::id::InstanceId;

const STORE: &str = "postbackd.redb";
const STORE_UNFINISHED: &str = "postbackd.redb.tmp";
const MARKER: &str = "postbackd.id";
const MARKER_UNFINISHED: &str = "postbackd.id.tmp";
/// The first bytes of every file of the storage engine.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// A directory that is ours alone.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Locked while this lives.
    handle: File,
    /// The store that is open, whatever becomes of its name.
    open: Option<File>,
}

/// Whether the store's file is known for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Now,
    Before,
}

/// What the directory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Nothing,
    Store,
}

impl Directory {
    /// Makes the directory if its parent exists, locks it, and clears what an earlier process left unfinished.
    pub fn claim(path: &Path) -> Result<Self, OpenError> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(refuse(path, "this is a file; storage.path must name a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(refuse_io(path, "looking at the directory", &error)),
        }
        let handle = File::open(path).map_err(|error| refuse_io(path, "opening the directory", &error))?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(refuse(path, IN_USE)),
            // Some network file systems lock no directories; the engine's own lock on the file is still there.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "The store's directory cannot be locked; only its file is.");
            }
        }
        let directory = Self { path: path.to_owned(), handle, open: None };
        for name in [STORE_UNFINISHED, MARKER_UNFINISHED] {
            let leftover = directory.path.join(name);
            remove_if_there(&leftover)
                .map_err(|error| refuse_io(&leftover, "removing what an unfinished start left", &error))?;
        }
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Remembers which file it is that stands for the store, before anything is read from it; whether that is new.
    pub fn hold(&mut self) -> Held {
        if self.open.is_some() {
            return Held::Before;
        }
        match File::open(self.store()) {
            Ok(file) => self.open = Some(file),
            Err(error) => tracing::warn!(%error, "Whether the store's file stays in its place cannot be watched."),
        }
        Held::Now
    }

    /// Why the store's name no longer stands for the file that is open. Where that cannot be seen, as behind a directory that
    /// nobody may enter, it is not known to be lost.
    pub fn lost(&self) -> Option<String> {
        let own = self.open.as_ref()?.metadata().ok()?;
        let path = self.store();
        let path = path.display();
        match fs::metadata(self.store()) {
            Ok(found) if (found.dev(), found.ino()) == (own.dev(), own.ino()) => None,
            Ok(_) => Some(format!("another file has taken the place of {path}")),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Some(format!("{path} has been deleted or moved away"))
            }
            Err(error) => {
                tracing::warn!(%error, "Whether the store's file is in its place cannot be seen.");
                None
            }
        }
    }

    /// Where the store is read and opened: at the handle of the file that had its name at first, whatever the name stands for
    /// by now. So a file that takes its place is never opened as this store, nor is this one judged by it. Where there is no
    /// `/proc`, the name has to do.
    pub fn way_in(&self) -> PathBuf {
        let handle = self.open.as_ref().map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
        handle.filter(|handle| handle.exists()).unwrap_or_else(|| self.store())
    }

    pub fn unfinished_store(&self) -> PathBuf {
        self.path.join(STORE_UNFINISHED)
    }

    /// Looks whether there is a store to open, without changing anything. A file that cannot be one is refused, and so
    /// is a directory that once had one.
    pub fn look(&self) -> Result<Found, OpenError> {
        let path = self.store();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => check_front(&path).map(|()| Found::Store),
            Ok(_) => Err(refuse(&path, "this is no file; move it away, or set storage.path to another directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.read_marker() {
                None => Ok(Found::Nothing),
                Some(marker) => Err(refuse(&path, lost_text(&self.path, &marker))),
            },
            Err(error) => Err(refuse_io(&path, "looking at the store", &error)),
        }
    }

    /// A new, empty file under the temporary name, readable for its owner only: it will hold personal data.
    pub fn create_unfinished(&self) -> Result<File, OpenError> {
        let path = self.unfinished_store();
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        options.map_err(|error| refuse_io(&path, "creating the store", &error))
    }

    /// Who owns it, among other things.
    pub fn metadata(&self) -> io::Result<fs::Metadata> {
        self.handle.metadata()
    }

    /// Gives the finished file its name, durably.
    pub fn publish_store(&self) -> Result<(), OpenError> {
        let path = self.unfinished_store();
        sync(&path)
            .and_then(|()| fs::rename(&path, self.store()))
            .and_then(|()| self.handle.sync_all())
            .map_err(|error| refuse_io(&self.store(), "creating the store", &error))
    }

    /// Sees to it that the marker tells this instance.
    pub fn mark(&self, instance: InstanceId) -> Result<(), OpenError> {
        let wanted = marker_text(instance);
        if self.read_marker().is_some_and(|found| found == wanted) {
            return Ok(());
        }
        let (unfinished, marker) = (self.path.join(MARKER_UNFINISHED), self.path.join(MARKER));
        fs::write(&unfinished, wanted)
            .and_then(|()| sync(&unfinished))
            .and_then(|()| fs::rename(&unfinished, &marker))
            .and_then(|()| self.handle.sync_all())
            .map_err(|error| refuse_io(&marker, "writing the marker", &error))
    }

    /// What the marker says, if there is one; one that cannot be read counts as being there.
    fn read_marker(&self) -> Option<String> {
        match fs::read_to_string(self.path.join(MARKER)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(String::new()),
        }
    }
}

pub(super) fn refuse(path: &Path, detail: impl Into<String>) -> OpenError {
    OpenError::Path { path: path.to_owned(), detail: detail.into(), medium: None }
}

/// Refuses over an I/O error while `doing` something, which may be the disk's.
pub(super) fn refuse_io(path: &Path, doing: &str, error: &io::Error) -> OpenError {
    let refused = refuse(path, io_text(doing, error));
    if is_of_disk(error) { refused.by_medium(error.to_string()) } else { refused }
}

fn make(path: &Path) -> Result<(), OpenError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        match parent {
            Some(parent) if error.kind() == io::ErrorKind::NotFound => refuse(
                path,
                format!(
                    "neither this directory nor its parent exists; create {} or set storage.path to a directory whose parent exists",
                    parent.display()
                ),
            ),
            _ => refuse_io(path, "creating the directory", &error),
        }
    })
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file; whether there was one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Whether a file that begins so is one of the storage engine.
pub(super) fn is_engine_file(front: &[u8]) -> bool {
    front.starts_with(&MAGIC)
}

/// What to do about a file that is not ours, whether it stands where our store belongs or was named as a backup.
pub(super) const NOT_OURS: &str = "it is left as it is: name another file, or, where the store of the daemon belongs, move it \
                                   away or set storage.path to another directory";

/// Refuses what cannot be a store before the engine sees it.
pub(super) fn check_front(path: &Path) -> Result<(), OpenError> {
    let mut front = Vec::new();
    let limit = u64::try_from(MAGIC.len()).unwrap_or(u64::MAX);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut front))
        .map_err(|error| refuse_io(path, "reading the store", &error))?;
    if front.is_empty() {
        let detail = "the file is empty, so what it held is gone; put back a backup, or delete the file and the marker \
                      postbackd.id beside it to start with an empty store";
        return Err(refuse(path, detail));
    }
    if front != MAGIC {
        let detail = format!("this is not a postbackd store; {NOT_OURS}");
        return Err(refuse(path, detail));
    }
    Ok(())
}

fn lost_text(directory: &Path, marker: &str) -> String {
    let instance = marker.split_whitespace().nth(2).unwrap_or("unknown");
    format!(
        "the store (instance {instance}) that belongs here is missing; put it or a backup of it back, or delete {} to start with an empty store",
        directory.join(MARKER).display()
    )
}

fn marker_text(instance: InstanceId) -> String {
    format!("postbackd store {:010x}\nThis file says that {STORE} belongs here. Keep both together.\n", instance.get())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(refused: Result<impl Sized, OpenError>) -> String {
        refused.err().unwrap().to_string()
    }

    // Row 17: what took it for none would lay out an empty store in its place.
    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_what_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("file"), "").unwrap();
        let text = refusal(Directory::claim(&at("file/dir")));
        assert!(text.contains("looking at the directory failed"), "{text}");
        symlink("nowhere", at("link")).unwrap();
        let text = refusal(Directory::claim(&at("link")));
        assert!(text.contains("creating the directory failed"), "{text}");
        let directory = Directory::claim(&at("dir")).unwrap();
        // A link to itself.
        symlink(STORE, directory.store()).unwrap();
        let text = refusal(directory.look());
        assert!(text.contains("looking at the store failed"), "{text}");
        fs::remove_file(directory.store()).unwrap();
        assert_eq!(directory.look().unwrap(), Found::Nothing);
        fs::create_dir(at("dir").join(MARKER)).unwrap();
        let text = refusal(directory.look());
        assert!(text.contains("is missing; put it or a backup of it back"), "{text}");
    }

    #[test]
    fn the_marker_tells_which_store_is_there_and_is_written_only_where_that_is_another() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::claim(home.path()).unwrap();
        let marker = home.path().join(MARKER);
        let seen = || (fs::metadata(&marker).unwrap().ino(), fs::read_to_string(&marker).unwrap());
        let [one, other] = [1, 2].map(InstanceId::from_random);
        directory.mark(one).unwrap();
        let first = seen();
        assert!(first.1.contains(&format!("{:010x}", one.get())), "{}", first.1);
        directory.mark(one).unwrap();
        assert_eq!(seen(), first);
        directory.mark(other).unwrap();
        assert!(seen().1.contains(&format!("{:010x}", other.get())), "{}", seen().1);
    }

    #[test]
    fn a_file_that_is_not_there_need_not_be_removed_and_one_that_stays_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(!remove_if_there(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(remove_if_there(&path).unwrap());
        fs::create_dir(&path).unwrap();
        assert!(remove_if_there(&path).is_err() && path.exists());
    }
}
