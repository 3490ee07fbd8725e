//! A store whose disk has failed: nothing is written to it any more, a mark beside it outlives the process, and the file is
//! read as a whole before it is used again.
//!
//! After a failed write or sync Linux may take the pages for clean and the next sync for a success, although their bytes
//! never arrived; until the next power cut every read is answered from memory as if all were well. So the check first has
//! the kernel forget what it keeps of the file ([`forget_cached`]), and then reads every page and every row.
//!
//! The mark is `postbackd.suspect`, a text for people. Where the disk takes no mark either, nothing is lost by it: what
//! was acknowledged was synced by two-phase commits that succeeded, and nothing is acknowledged after the failure.
//!
//! No restart reads a failing disk for nothing: what a check found wrong is written into the mark, and as long as the file is
//! the same, the next start refuses it by that. A mark that nobody can delete keeps no sound store from being used; it only
//! has the next start read it again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, fadvise};
use tracing::{error, info, warn};

use super::Options;
use super::directory::{Directory, refuse, refuse_io, remove_if_there};
use super::error::{OpenError, StoreError};
use super::offline;

const MARK: &str = "postbackd.suspect";
/// Begins the line of the mark that says which file was read, and what was wrong with it.
const READ: &str = "Read: ";
/// Faults that a refusal names.
const NAMED: usize = 5;

/// Whether the disk has failed under an open store.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Where the mark goes; `None` for a store that is in no directory of its own.
    directory: Option<PathBuf>,
    cause: Mutex<Option<String>>,
}

impl Suspicion {
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, cause: Mutex::default() }
    }

    /// Why nothing may be written any more.
    pub fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes `result` on, and remembers for good that the disk failed where it says so.
    pub fn watch<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Medium(cause)) = &result {
            let mut known = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
            if known.is_none() {
                *known = Some(cause.clone());
                error!(cause, "The disk failed under the store: nothing is acknowledged any more.");
                if let Some(directory) = &self.directory {
                    mark(directory, cause);
                }
            }
        }
        result
    }
}

/// Leaves the mark, as far as the disk still lets us.
pub(super) fn mark(directory: &Path, cause: &str) {
    leave(directory, cause, "");
}

fn leave(directory: &Path, cause: &str, more: &str) {
    let path = directory.join(MARK);
    let text = format!(
        "{cause}\nThe disk failed under postbackd.redb. The next start reads the whole file before it takes events; if all of \
         it is well, this mark goes.\n{more}"
    );
    let written = File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| File::open(directory)?.sync_all());
    if let Err(error) = written {
        error!(path = %path.display(), %error, "The store could not be marked as suspect.");
    }
}

/// Checks the store where it is marked, and removes the mark where it is sound.
pub(super) fn settle(directory: &Directory, options: Options) -> Result<(), OpenError> {
    let (path, mark) = (directory.store(), directory.path().join(MARK));
    let text = match fs::read_to_string(&mark) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refuse_io(&mark, "reading the mark", &error)),
    };
    let cause = text.lines().next().unwrap_or_default();
    let stamp = stamp(&directory.way_in()).map_err(|error| refuse_io(&path, "looking at the store", &error))?;
    if let Some(found) = text.lines().find_map(|line| line.strip_prefix(READ)?.strip_prefix(&stamp)?.strip_prefix(' '))
    {
        let again = format!(
            "{}; the file was not read again, as it has not changed since: touch {} has it read",
            damaged(cause, found, &mark),
            path.display()
        );
        return Err(refuse(&path, again).by_medium(cause.to_owned()));
    }
    warn!(store = %path.display(), cause, "The disk failed under this store before: reading all of it before it is used.");
    let findings = check(directory, options, cause)?;
    if !findings.is_empty() {
        let named: Vec<_> = findings.iter().take(NAMED).map(|finding| finding.replace('\n', " ")).collect();
        let found = format!("{} faults were found in it: {}", findings.len(), named.join("; "));
        leave(directory.path(), cause, &format!("{READ}{stamp} {found}\n"));
        return Err(refuse(&path, damaged(cause, &found, &mark)).by_medium(cause.to_owned()));
    }
    info!("The whole store was read and is sound.");
    absolve(directory);
    Ok(())
}

fn damaged(cause: &str, found: &str, mark: &Path) -> String {
    format!(
        "the disk failed under the store ({cause}), and {found}; see to the disk, then put back a backup (postbackd restore \
         FILE). To go on with what can be read instead, delete {}",
        mark.display()
    )
}

/// Tells a file from what it was before, and from one that was put in its place.
fn stamp(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    Ok(format!("{}/{}/{}.{}", meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
}

/// Everything wrong with the file as the medium has it. Where it cannot be read, that is its disk's too, for the `cause` that
/// the mark tells.
fn check(directory: &Directory, options: Options, cause: &str) -> Result<Vec<String>, OpenError> {
    let (path, file) = (directory.store(), directory.way_in());
    let wrong = |error: &io::Error| refuse_io(&path, "reading the store from the disk", error);
    // What the kernel still means to write is written first, or it could not be forgotten.
    File::options().write(true).open(&file).and_then(|file| file.sync_all()).map_err(|error| wrong(&error))?;
    let by_disk = |refused: OpenError| refused.by_medium(cause.to_owned());
    let examined = offline::examine(&file, options).map_err(|error| by_disk(error.about(&path)))?;
    let unread = |error| by_disk(refuse(&path, format!("{error}; see to the disk, then start again")));
    examined.reader().verify().map_err(unread)
}

/// Removes the mark: the file is sound, or another one has taken its place. One that stays does no harm but that the next
/// start reads the whole file again.
pub(super) fn absolve(directory: &Directory) {
    let mark = directory.path().join(MARK);
    let removed = remove_if_there(&mark).and_then(|_| File::open(directory.path())?.sync_all());
    if let Err(error) = removed {
        warn!(
            mark = %mark.display(), %error,
            "The mark of a suspect store cannot be removed: each start reads the whole store until somebody deletes it."
        );
    }
}

/// Has the kernel drop what it keeps of a file in memory, so that reading it reads the medium. File systems that know no
/// such thing are read as they are.
pub(super) fn forget_cached(file: &File) {
    if let Err(error) = fadvise(file, 0, None, Advice::DontNeed) {
        warn!(%error, "The kernel keeps the file in memory; it is read from there.");
    }
}
