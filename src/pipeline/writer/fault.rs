//! Why the writer gives up.

use crate::store::{OpenError, StoreError};

/// Why the writer gave up: the process must end non-zero, so that the service manager starts it afresh.
#[derive(Debug, thiserror::Error)]
pub enum WriterFault {
    #[error(
        "the disk failed under the store ({0}), so nothing is acknowledged any more; see to the disk (dmesg), then start again: the whole store is checked before events are taken, and postbackd.suspect beside it is the mark for that"
    )]
    Medium(String),
    #[error("the store failed twice in a row, the last time with: {0}; what was acknowledged is on disk, start again")]
    Store(StoreError),
    #[error("the store could not be opened again: {0}")]
    Open(#[from] OpenError),
    #[error("{0}; this is a bug worth reporting")]
    Defect(String),
}

impl WriterFault {
    /// Whether the disk is to blame.
    pub fn is_of_the_medium(&self) -> bool {
        match self {
            Self::Medium(_) => true,
            Self::Open(error) => error.medium().is_some(),
            Self::Store(_) | Self::Defect(_) => false,
        }
    }
}

impl From<StoreError> for WriterFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Medium(cause) => Self::Medium(cause),
            StoreError::Full(_) | StoreError::Failed(_) => Self::Store(error),
        }
    }
}
