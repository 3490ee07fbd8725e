//! Rows that cannot be read. They are skipped, never silently: each is logged once and counted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::row::{self, Row, RowError};
use super::schema;
use crate::domain::id::DeliveryKey;
use crate::domain::time::UnixMs;

/// Distinct damaged rows remembered; beyond it only the count stops being exact.
const REMEMBERED: usize = 4096;

/// As what rows of the outbox are reported.
const OUTBOX: &str = "outbox";

/// A row that cannot be read: its table, its key, what is wrong.
pub(super) type Damaged = (&'static str, Vec<u8>, String);

/// By table and key, what is wrong; `None` where that is settled and told no more.
type Rows = BTreeMap<(&'static str, Vec<u8>), Option<String>>;

/// The damaged rows met since the process started.
#[derive(Debug, Default)]
pub(super) struct Damage {
    rows: Mutex<Rows>,
}

impl Damage {
    /// Distinct damaged rows met so far.
    pub fn count(&self) -> u64 {
        u64::try_from(self.lock().values().flatten().count()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of them.
    pub fn rows(&self, limit: usize) -> Vec<Damaged> {
        let rows = self.lock();
        let told = rows.iter().filter_map(|((table, key), what)| Some((*table, key.clone(), what.clone()?)));
        told.take(limit).collect()
    }

    /// When a delivery that cannot be read is due, where its place in the outbox was passed over.
    pub fn place(&self, delivery: DeliveryKey) -> Option<UnixMs> {
        self.lock().keys().filter(|(table, _)| *table == OUTBOX).find_map(|(_, key)| {
            let (destination, due_at, seq) = schema::read_outbox_key(key.as_slice().try_into().ok()?);
            (DeliveryKey { seq, destination } == delivery).then_some(due_at)
        })
    }

    /// It was written anew, or removed.
    pub fn mended(&self, table: &'static str, key: &[u8]) {
        let mut rows = self.lock();
        // Nearly always: it is asked for every row that retention removes.
        if !rows.is_empty() {
            rows.remove(&(table, key.to_vec()));
        }
    }

    /// It is what it is, and an operator has decided what follows.
    pub fn settled(&self, table: &'static str, key: &[u8]) {
        self.lock().insert((table, key.to_vec()), None);
    }

    /// Counts and logs a row that makes no sense.
    pub fn report(&self, table: &'static str, key: &[u8], what: &str) {
        let mut rows = self.lock();
        let known = (table, key.to_vec());
        if rows.len() < REMEMBERED && !rows.contains_key(&known) {
            rows.insert(known, Some(what.to_owned()));
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
