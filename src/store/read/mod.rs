//! What may be read, by anyone at any time: short read transactions, one page each.
//!
//! A long read transaction pins every page that is freed meanwhile, so no verb holds one for longer than a page, and
//! every scan is bounded. A row that cannot be read is passed over and counted ([`Reader::damaged_rows`]).

pub(super) mod alerts;
mod damaged;
pub(super) mod desk;
mod event;
mod log;
mod outbox;
mod page;
pub(super) mod pauses;
mod scan;
mod stats;
pub(super) mod zones;

use std::sync::Arc;

pub use damaged::DamagedRow;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
pub use scan::ScanCursor;

use super::damage::Damage;
use super::handle::Shared;
use super::row::DeliveryRow;
use super::schema::{self, DELIVERIES, DeliveryRowKey};
use super::{Ledger, StoreError};
use crate::domain::delivery::{Autopsy, Delivery, Status};
use crate::domain::event::Event;
use crate::domain::fault::FaultId;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;

/// A handle for reading: cheap to clone, blocks for the length of one page, survives a reopening of the file.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

/// Filters of the delivery log and the DLQ; what is `None` does not filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeliveryFilter {
    pub destination: Option<DestinationId>,
    pub status: Option<Status>,
    /// Canonical name.
    pub event: Option<String>,
    pub uid: Option<String>,
    /// The sender's id.
    pub event_id: Option<String>,
    /// Reason word, as [`crate::domain::delivery::State::reason`].
    pub reason: Option<String>,
    /// Of the dead only: what was answered at their end.
    pub response_status: Option<Answered>,
    /// Of the dead only: what is wrong holds these words, in any case.
    pub detail: Option<String>,
    /// Of the dead only: this fault, as [`crate::domain::fault`] tells them apart.
    pub fault: Option<FaultId>,
    /// By receipt, inclusive.
    pub since: Option<UnixMs>,
    /// By receipt, exclusive.
    pub until: Option<UnixMs>,
}

/// Whether, and with which status, a destination answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Answered {
    Nothing,
    Status(u16),
}

impl From<Option<u16>> for Answered {
    fn from(status: Option<u16>) -> Self {
        status.map_or(Self::Nothing, Self::Status)
    }
}

/// A delivery with its event.
#[derive(Clone, Debug)]
pub struct DeliveryEntry {
    pub key: DeliveryKey,
    pub delivery: Delivery,
    pub event: Arc<Event>,
}

/// A dead delivery with its event and what was kept of its end.
#[derive(Clone, Debug)]
pub struct DlqEntry {
    pub entry: DeliveryEntry,
    pub autopsy: Autopsy,
}

/// One page; `next` continues it, `None` is the end.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<DeliveryKey>,
}

/// How a number of matches is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Total {
    Exact,
    /// Counting ended before the end of the list.
    AtLeast,
}

/// A place in a destination's outbox order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OutboxCursor {
    pub due_at: UnixMs,
    pub seq: EventSeq,
}

/// The events that come along with a page of an outbox: of what is due by then, and as many as these bytes hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bodies {
    pub due_by: UnixMs,
    pub bytes: usize,
}

impl Bodies {
    pub const NONE: Self = Self { due_by: UnixMs(0), bytes: 0 };
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The books as of the last commit. Never blocks on the file.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.shared.ledger()
    }

    /// Distinct rows that could not be read since the process started; each was logged once.
    pub fn damaged_rows(&self) -> u64 {
        self.shared.damage.count()
    }

    /// As [`super::Store::medium_fault`].
    pub fn medium_fault(&self) -> Option<String> {
        self.shared.medium_fault()
    }

    /// Bytes of the store's file; zero for a store that is not in a file.
    pub fn file_bytes(&self) -> u64 {
        let file = self.shared.file.as_ref().and_then(|path| std::fs::metadata(path).ok());
        file.map_or(0, |meta| meta.len())
    }

    /// Everything that is wrong within the store, in words; empty where it is sound. Reads all of it in one transaction,
    /// so it is for tests and for a store nobody writes to: beside a writer the books may be a commit ahead.
    pub fn verify(&self) -> Result<Vec<String>, StoreError> {
        self.shared.read(|transaction| {
            super::verify::verify(transaction, &self.shared.ledger(), self.shared.identity.hash_key)
        })
    }
}

type Rows<K> = ReadOnlyTable<K, &'static [u8]>;

/// Deliveries within one read transaction.
struct Deliveries<'r> {
    table: Rows<&'static DeliveryRowKey>,
    damage: &'r Damage,
}

impl<'r> Deliveries<'r> {
    fn open(transaction: &ReadTransaction, damage: &'r Damage) -> Result<Self, StoreError> {
        Ok(Self { table: transaction.open_table(DELIVERIES)?, damage })
    }

    /// `None` where there is none or its row is damaged.
    fn get(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        let key = schema::delivery_key(key);
        let bytes = ReadableTable::get(&self.table, &key)?;
        Ok(bytes.and_then(|bytes| self.damage.read::<DeliveryRow, _>("deliveries", &key, bytes.value())))
    }
}
