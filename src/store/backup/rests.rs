//! Rests in the course of a long piece of work, also where the storage engine does it in one go.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::{BackupError, Rest};

/// What is called after every bit of work, by whoever does it.
#[derive(Clone)]
pub(super) struct Rests(Arc<Mutex<Resting>>);

struct Resting {
    rest: Rest,
    /// Why the work was ended where the engine could only be told of a failed disk.
    ended: Option<BackupError>,
}

impl Rests {
    pub(super) fn new(rest: Rest) -> Self {
        Self(Arc::new(Mutex::new(Resting { rest, ended: None })))
    }

    pub(super) fn rest(&self) -> Result<(), BackupError> {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner).rest)()
    }

    /// Why [`Paced`] said no, if it did.
    pub(super) fn ended(&self) -> Option<BackupError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended.take()
    }

    fn rest_within_the_engine(&self) -> io::Result<()> {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (resting.rest)().map_err(|error| {
            let text = error.to_string();
            resting.ended = Some(error);
            io::Error::other(text)
        })
    }
}

/// A file that rests with every page that is read of it.
pub(super) struct Paced {
    file: FileBackend,
    rests: Rests,
}

impl Paced {
    pub(super) fn new(file: FileBackend, rests: Rests) -> Self {
        Self { file, rests }
    }
}

impl std::fmt::Debug for Paced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paced").field("file", &self.file).finish_non_exhaustive()
    }
}

impl StorageBackend for Paced {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.rests.rest_within_the_engine()?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
