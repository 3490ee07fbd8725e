//! What goes wrong with a store, and the one place where the storage engine's errors become ours.
//!
//! Two questions are asked of an error. Is the disk full? Then freeing space and reopening mends it. Did the medium fail?
//! Then nothing that the kernel says of the file afterwards can be believed, since it reports a write that failed once and
//! takes it for done ever after: nothing more is acknowledged, the process ends, and the next start reads the whole file
//! before it uses it (`suspect`). Anything else means that the outcome of the operation is unknown: nothing is acknowledged,
//! and the store is opened anew.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::row::RowError;

/// A store operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: refuse ingest, free space, reopen. Nothing that was acknowledged is lost.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Reading, writing or syncing the file failed, or what was read makes no sense: acknowledge nothing more and end.
    #[error("the disk failed under the store: {0}")]
    Medium(String),
    /// The outcome of the operation is unknown: reopen ([`super::Store::reopen`]).
    #[error("the store failed: {0}")]
    Failed(String),
}

/// The store could not be opened; no event in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator must act: `detail` says what is wrong with `path` and what to do. Where the disk is to blame, `medium` is
    /// what it said.
    #[error("{path}: {detail}")]
    Path { path: PathBuf, detail: String, medium: Option<String> },
}

impl OpenError {
    /// The same, with the disk to blame.
    pub(super) fn by_medium(self, cause: String) -> Self {
        let Self::Path { path, detail, .. } = self;
        Self::Path { path, detail, medium: Some(cause) }
    }

    /// The same, of the file that whoever reads it knows.
    pub(super) fn about(self, path: &Path) -> Self {
        let Self::Path { detail, medium, .. } = self;
        Self::Path { path: path.to_owned(), detail, medium }
    }

    /// What the disk said, where it is to blame.
    pub fn medium(&self) -> Option<&str> {
        let Self::Path { medium, .. } = self;
        medium.as_deref()
    }
}

/// Whether an I/O error means that there is no room: a full file system, a quota, or a limit on the size of files.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Whether an I/O error is the disk's own: no matter of names, rights or room that the operator could set right.
pub(super) fn is_of_disk(error: &io::Error) -> bool {
    const OF_DISK: [Errno; 4] = [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::REMOTEIO];
    Errno::from_io_error(error).is_some_and(|errno| OF_DISK.contains(&errno))
}

/// What an operator is told about an I/O error on the way to an open store.
pub(super) fn io_text(doing: &str, error: &io::Error) -> String {
    let advice = if is_full(error) {
        "the disk is full; free space and start again"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        return format!(
            "{doing} failed ({error}): give the user that postbackd runs as (uid {}) read and write permission",
            rustix::process::geteuid().as_raw()
        );
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        "the file system is read-only; remount it for writing, or set storage.path to a directory that can be written"
    } else if is_of_disk(error) {
        "the disk failed (dmesg says which); nothing was changed: see to the disk, then start again"
    } else if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) {
        "nothing was changed; is this the right path? If it is, mend the cause and start again"
    } else {
        "nothing was changed; mend the cause and start again"
    };
    format!("{doing} failed ({error}): {advice}")
}

/// What an operator is told when the engine refuses to open the file.
pub(super) fn database_text(error: redb::DatabaseError) -> String {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    use redb::DatabaseError::{DatabaseAlreadyOpen, LockProtocolMismatch, UpgradeRequired};

    if matches!(error, DatabaseAlreadyOpen | LockProtocolMismatch) {
        return IN_USE.to_owned();
    }
    if let UpgradeRequired(version) = error {
        return format!(
            "the file has the storage engine's old form {version}, which this version does not read; start the postbackd version that wrote it"
        );
    }
    let error = redb::Error::from(error);
    if let redb::Error::Io(cause) = &error
        && !matches!(cause.kind(), InvalidData | UnexpectedEof)
    {
        return io_text("opening the store", cause);
    }
    damaged_text(&error.to_string())
}

/// The cause, where the disk failed while a file was opened: reading or writing it, not finding or being allowed to.
pub(super) fn medium_text(error: &redb::DatabaseError) -> Option<String> {
    use io::ErrorKind::{InvalidData, NotFound, PermissionDenied, ReadOnlyFilesystem, UnexpectedEof};
    let redb::DatabaseError::Storage(redb::StorageError::Io(cause)) = error else { return None };
    let ours = matches!(cause.kind(), InvalidData | NotFound | PermissionDenied | ReadOnlyFilesystem | UnexpectedEof);
    (!ours && !is_full(cause)).then(|| cause.to_string())
}

pub(super) const IN_USE: &str =
    "the store is in use by another postbackd; stop that one first, or give each its own storage.path";

/// What an operator is told about a file that is ours but cannot be read.
pub(super) fn damaged_text(cause: &str) -> String {
    format!(
        "the store is damaged or cut short ({cause}); it is left as it is: keep a copy, then put back a backup in its place"
    )
}

impl StoreError {
    fn from_engine(error: &redb::Error) -> Self {
        if let redb::Error::Io(cause) = error {
            return if is_full(cause) { Self::Full(cause.to_string()) } else { Self::Medium(cause.to_string()) };
        }
        if matches!(error, redb::Error::Corrupted(_)) {
            return Self::Medium(error.to_string());
        }
        Self::Failed(error.to_string())
    }
}

macro_rules! from_engine {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::from_engine(&error.into())
            }
        })*
    };
}

from_engine!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError,
    SetDurabilityError,
    CompactionError
);

/// Only rows we are about to write come this way; a row that cannot be read is counted as damage, not as a failure.
impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(code: Errno) -> io::Error {
        code.into()
    }

    #[test]
    fn only_a_lack_of_room_is_full() {
        let from = |error: io::Error| StoreError::from(redb::StorageError::Io(error));
        for full in [os(Errno::NOSPC), os(Errno::DQUOT), os(Errno::FBIG), io::Error::from(io::ErrorKind::StorageFull)] {
            assert!(matches!(from(full), StoreError::Full(_)));
        }
        for broken in [os(Errno::IO), os(Errno::ROFS), os(Errno::UCLEAN), io::Error::other("bad sector")] {
            assert!(matches!(from(broken), StoreError::Medium(_)));
        }
        let corrupted = StoreError::from(redb::StorageError::Corrupted("a page".to_owned()));
        assert!(matches!(corrupted, StoreError::Medium(_)));
        assert!(matches!(StoreError::from(redb::StorageError::PreviousIo), StoreError::Failed(_)));
    }

    #[test]
    fn a_commit_without_room_is_full_too() {
        let error = redb::CommitError::Storage(redb::StorageError::Io(os(Errno::NOSPC)));
        assert!(matches!(StoreError::from(error), StoreError::Full(_)));
    }

    // Row 8.
    #[test]
    fn an_error_of_the_disk_is_told_from_one_of_names_rights_or_room() {
        for error in [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::REMOTEIO].map(os) {
            assert!(is_of_disk(&error), "{error}");
            assert!(io_text("opening the store", &error).contains("see to the disk"), "{error}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOTDIR, Errno::MFILE, Errno::NOSPC, Errno::ROFS] {
            assert!(!is_of_disk(&os(errno)), "{errno}");
        }
        assert!(!is_of_disk(&io::Error::from(io::ErrorKind::UnexpectedEof)));
    }

    // Row 13.
    #[test]
    fn a_read_only_file_system_is_named_with_what_to_do() {
        let text = io_text("creating the file", &io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(text.contains("read-only") && text.contains("storage.path"), "{text}");
        let text = io_text("creating the file", &io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(text.contains("permission"), "{text}");
        assert!(io_text("creating the file", &os(Errno::NOSPC)).contains("free space"));
        assert!(io_text("creating the file", &os(Errno::NOTDIR)).contains("mend the cause"));
        for error in [Errno::NOENT, Errno::ISDIR] {
            assert!(io_text("opening the backup", &os(error)).contains("right path"), "{error}");
        }
    }

    fn while_opening(error: io::Error) -> redb::DatabaseError {
        redb::DatabaseError::Storage(redb::StorageError::Io(error))
    }

    // Row 8.
    #[test]
    fn a_start_blames_the_medium_for_what_the_medium_did_and_for_nothing_else() {
        use io::ErrorKind::{InvalidData, NotFound, PermissionDenied, UnexpectedEof};
        for failed in [os(Errno::IO), os(Errno::UCLEAN), io::Error::other("bad sector")] {
            let said = failed.to_string();
            assert_eq!(medium_text(&while_opening(failed)), Some(said));
        }
        let kinds = [InvalidData, NotFound, PermissionDenied, UnexpectedEof].map(io::Error::from);
        for other in kinds.into_iter().chain([os(Errno::NOSPC), os(Errno::ROFS)]) {
            assert_eq!(medium_text(&while_opening(other)), None);
        }
        assert_eq!(medium_text(&redb::DatabaseError::DatabaseAlreadyOpen), None);
    }

    #[test]
    fn what_cannot_be_opened_is_in_use_too_old_unreachable_or_damaged() {
        assert_eq!(database_text(redb::DatabaseError::DatabaseAlreadyOpen), IN_USE);
        assert!(database_text(redb::DatabaseError::UpgradeRequired(2)).contains("old form 2"));
        assert!(database_text(while_opening(os(Errno::IO))).starts_with("opening the store failed"));
        for kind in [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof] {
            assert!(database_text(while_opening(io::Error::from(kind))).starts_with("the store is damaged"));
        }
        let corrupted = redb::DatabaseError::Storage(redb::StorageError::Corrupted("a page".to_owned()));
        assert!(database_text(corrupted).starts_with("the store is damaged or cut short (DB corrupted: a page)"));
    }
}
