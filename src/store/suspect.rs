//! A store whose disk has failed: nothing is written to it any more, a mark beside it outlives the process, and the file is
//! read as a whole before it is used again.
//!
//! After a failed write or sync Linux may take the pages for clean and the next sync for a success, although their bytes
//! never arrived; until the next power cut every read is answered from memory as if all were well. So the check first has
//! the kernel forget what it keeps of the file ([`forget_cached`]), and then reads every page and every row.
//!
//! The mark is `postbackd.suspect`, a text for people. Where the disk takes no mark either, nothing is lost by it: what
//! was acknowledged was synced by two-phase commits that succeeded, and nothing is acknowledged after the failure.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, fadvise};
use tracing::{error, info, warn};

use super::Options;
use super::directory::{Directory, refuse};
use super::error::{OpenError, StoreError, io_text};
use super::offline;

const MARK: &str = "postbackd.suspect";
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

    /// The file was opened anew.
    pub fn forget(&self) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Leaves the mark, as far as the disk still lets us.
pub(super) fn mark(directory: &Path, cause: &str) {
    let path = directory.join(MARK);
    let text = format!(
        "{cause}\nThe disk failed under postbackd.redb. The next start reads the whole file before it takes events; if all of \
         it is well, this mark goes.\n"
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
        Err(error) => return Err(refuse(&mark, io_text("reading the mark", &error))),
    };
    let cause = text.lines().next().unwrap_or_default();
    warn!(store = %path.display(), cause, "The disk failed under this store before: reading all of it before it is used.");
    let findings = check(&path, options)?;
    if !findings.is_empty() {
        let named: Vec<_> = findings.iter().take(NAMED).map(String::as_str).collect();
        return Err(refuse(
            &path,
            format!(
                "the disk failed under the store ({cause}), and {} faults were found in it: {}; see to the disk, then put \
                 back a backup (postbackd restore FILE). To go on with what can be read instead, delete {}",
                findings.len(),
                named.join("; "),
                mark.display()
            ),
        ));
    }
    absolve(directory)?;
    info!("The whole store was read and is sound.");
    Ok(())
}

/// Everything wrong with the file as the medium has it.
fn check(path: &Path, options: Options) -> Result<Vec<String>, OpenError> {
    let wrong = |error: &io::Error| refuse(path, io_text("reading the store from the disk", error));
    // What the kernel still means to write is written first, or it could not be forgotten.
    File::options().write(true).open(path).and_then(|file| file.sync_all()).map_err(|error| wrong(&error))?;
    let examined = offline::examine(path, options)?;
    examined.reader().verify().map_err(|error| refuse(path, format!("{error}; see to the disk, then start again")))
}

/// Removes the mark: the file is sound, or another one has taken its place.
pub(super) fn absolve(directory: &Directory) -> Result<(), OpenError> {
    let mark = directory.path().join(MARK);
    match fs::remove_file(&mark) {
        Ok(()) => File::open(directory.path())
            .and_then(|dir| dir.sync_all())
            .map_err(|error| refuse(&mark, error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(&mark, io_text("removing the mark", &error))),
    }
}

/// Has the kernel drop what it keeps of a file in memory, so that reading it reads the medium. File systems that know no
/// such thing are read as they are.
pub(super) fn forget_cached(file: &File) {
    if let Err(error) = fadvise(file, 0, None, Advice::DontNeed) {
        warn!(%error, "The kernel keeps the file in memory; it is read from there.");
    }
}
