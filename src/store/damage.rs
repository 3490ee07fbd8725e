//! Rows that cannot be read. They are skipped, never silently: each is logged once and counted.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use super::row::{self, Row, RowError};

/// Distinct damaged rows remembered; beyond it only the count stops being exact.
const REMEMBERED: usize = 4096;

/// The damaged rows met since the process started.
#[derive(Debug, Default)]
pub(super) struct Damage {
    rows: Mutex<BTreeSet<(&'static str, Vec<u8>)>>,
}

impl Damage {
    /// Distinct damaged rows met so far.
    pub fn count(&self) -> u64 {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(rows.len()).unwrap_or(u64::MAX)
    }

    /// Counts and logs a row that makes no sense.
    pub fn report(&self, table: &'static str, key: &[u8], what: &str) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() < REMEMBERED && rows.insert((table, key.to_vec())) {
            tracing::error!(table, key = %hex(key), what, "A row of the store is damaged and is passed over.");
        }
    }

    /// The row in `bytes` as a `T`, or `None` after reporting the damage.
    pub fn read<R: Row, T: TryFrom<R>>(&self, table: &'static str, key: &[u8], bytes: &[u8]) -> Option<T>
    where
        RowError: From<T::Error>,
    {
        let value = row::decode::<R>(bytes).and_then(|row| T::try_from(row).map_err(RowError::from));
        self.known(table, key, value)
    }

    /// The value, or `None` after reporting why there is none.
    pub fn known<T>(&self, table: &'static str, key: &[u8], value: Result<T, RowError>) -> Option<T> {
        value.map_err(|error| self.report(table, key, &error.to_string())).ok()
    }
}

impl From<std::convert::Infallible> for RowError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
