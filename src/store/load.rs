//! Reading what the writer keeps in memory, after making sure that a database is a store of ours.
//!
//! The books, the dedupe filters that were kept and the keys of the others; nothing of an event is read. Damage that would make the store unsafe to
//! use (its identity, a destination's number) refuses it; any other damage is counted and passed over.

use std::collections::BTreeMap;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::damage::Damage;
use super::directory::NOT_OURS;
use super::error::{StoreError, damaged_text};
use super::filter::Filters;
use super::handle::Identity;
use super::ledger::{Counts, EventCounts, Ledger};
use super::row::{self, CountsRow, DedupeRow, EventCountsRow, FilterRow, IdentityRow, NumberRow};
use super::schema::{
    self, COUNTS, DEDUPE, DESTINATIONS, DedupeRowKey, EVENT_COUNTS, FILTERS, FORMAT, INBOX, META, META_FLOOR,
    META_FORMAT, META_IDENTITY,
};
use crate::domain::dedupe::HashKey;
use crate::domain::id::{DestinationId, EventSeq, InstanceId};
use crate::domain::name::DestinationName;
use crate::domain::time::UnixMs;

/// The writer's memory: a function of the file.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub next_seq: u64,
    pub filters: Filters,
    pub destinations: BTreeMap<DestinationName, DestinationId>,
}

/// Why a database is not a store of ours.
pub(super) enum Unfit {
    /// No table at all: freshly laid out.
    Blank,
    Refused(String),
    /// It cannot be read: what is wrong, and the disk may be to blame.
    Unreadable(String),
}

impl<E: Into<StoreError>> From<E> for Unfit {
    fn from(error: E) -> Self {
        match error.into() {
            StoreError::Full(text) => Self::Refused(format!("the disk is full ({text}); free space and start again")),
            StoreError::Medium(text) => Self::Unreadable(damaged_text(&text)),
            StoreError::Failed(text) => Self::Refused(damaged_text(&text)),
        }
    }
}

pub(super) fn foreign() -> String {
    format!("this is a redb file but not a postbackd store; {NOT_OURS}")
}

/// Reads what the writer keeps in memory, after making sure that the file is a store of ours.
pub(super) fn load(database: &Database, damage: &Damage) -> Result<(Identity, Memory, Ledger), Unfit> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => {
            return Err(Unfit::Blank);
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(Unfit::Refused(foreign())),
    };
    check_format(meta.get(META_FORMAT)?.map(|value| value.value().to_vec()))?;
    let number = |name: &str| -> Result<u64, Unfit> { Ok(required::<NumberRow>(&meta, name)?.0) };
    let identity: IdentityRow = required(&meta, META_IDENTITY)?;
    let identity =
        Identity { instance: InstanceId::from_random(identity.instance), hash_key: HashKey(identity.hash_key) };
    let last = transaction.open_table(INBOX)?.last()?.map(|(key, _)| schema::read_inbox_key(*key.value()).0);
    let next_seq = number(META_FLOOR)?.max(last.map_or(1, |last| last.saturating_add(1)));
    let memory = Memory {
        next_seq,
        filters: load_filters(&transaction, schema::bucket_of(EventSeq(next_seq)), damage)?,
        destinations: load_destinations(&transaction)?,
    };
    let ledger = load_ledger(&transaction, damage)?;
    Ok((identity, memory, ledger))
}

pub(super) fn check_format(format: Option<Vec<u8>>) -> Result<(), Unfit> {
    let format = format.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
    match format {
        Some(1..=FORMAT) => Ok(()),
        Some(0) | None => Err(Unfit::Refused(damaged_text("its format number makes no sense"))),
        Some(newer) => Err(Unfit::Refused(format!(
            "the store was written by a newer postbackd (format {newer}; this version reads {FORMAT}); install that version again, or set storage.path to another directory"
        ))),
    }
}

/// A row without which the store cannot be used safely.
fn required<R: row::Row>(meta: &impl ReadableTable<&'static str, &'static [u8]>, name: &str) -> Result<R, Unfit> {
    let bytes = meta.get(name)?.ok_or_else(|| Unfit::Refused(damaged_text(&format!("meta row {name} is missing"))))?;
    row::decode(bytes.value()).map_err(|error| Unfit::Refused(damaged_text(&format!("meta row {name}: {error}"))))
}

/// A name whose number cannot be read must not get another one, so damage here is not passed over.
fn load_destinations(transaction: &ReadTransaction) -> Result<BTreeMap<DestinationName, DestinationId>, Unfit> {
    let mut destinations = BTreeMap::new();
    for entry in transaction.open_table(DESTINATIONS)?.iter()? {
        let (name, bytes) = entry?;
        let number = row::decode::<NumberRow>(bytes.value()).ok().and_then(|row| u32::try_from(row.0).ok());
        match (name.value().parse(), number) {
            (Ok(name), Some(number)) => destinations.insert(name, DestinationId(number)),
            _ => return Err(Unfit::Refused(damaged_text(&format!("the number of destination {}", name.value())))),
        };
    }
    Ok(destinations)
}

/// Takes the filters that were kept, and makes the others from their rows; buckets from `open` on are not full yet.
fn load_filters(transaction: &ReadTransaction, open: u32, damage: &Damage) -> Result<Filters, Unfit> {
    let dedupe = transaction.open_table(DEDUPE)?;
    let kept = match transaction.open_table(FILTERS) {
        Ok(kept) => Some(kept),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut filters = Filters::default();
    let mut next = Some(0);
    while let Some(from) = next {
        let first = dedupe.range::<&DedupeRowKey>(&schema::dedupe_keys_of(from).0..)?.next().transpose()?;
        let Some(bucket) = first.map(|(key, _)| schema::read_dedupe_key(key.value()).0) else { break };
        next = bucket.checked_add(1);
        let key = schema::bucket_key(bucket);
        let row = kept.as_ref().filter(|_| bucket < open).map(|kept| kept.get(&key)).transpose()?.flatten();
        let row = row.and_then(|bytes| damage.read::<FilterRow, FilterRow>("filters", &key, bytes.value()));
        if row.is_some_and(|row| filters.take(bucket, &row)) {
            continue;
        }
        let (low, high) = schema::dedupe_keys_of(bucket);
        for entry in dedupe.range::<&DedupeRowKey>(&low..=&high)? {
            let (key, bytes) = entry?;
            // A damaged row makes no one a repeat, so that its event is rather sent twice than lost. Its key is in the filter all
            // the same: what is kept must hold every key of the bucket, should the row be readable one day.
            let row = damage.read::<DedupeRow, DedupeRow>("dedupe", key.value(), bytes.value());
            let received_at = row.map_or(UnixMs(0), |row| UnixMs(row.received_at));
            filters.insert(bucket, schema::read_dedupe_key(key.value()).1, received_at);
        }
    }
    Ok(filters)
}

/// Books that cannot be read start at zero: deliveries go on, and `/status` says that the books do not balance.
fn load_ledger(transaction: &ReadTransaction, damage: &Damage) -> Result<Ledger, Unfit> {
    let mut ledger = Ledger::default();
    for entry in transaction.open_table(COUNTS)?.iter()? {
        let (key, bytes) = entry?;
        let counts = damage.read::<CountsRow, Counts>("counts", key.value(), bytes.value()).unwrap_or_default();
        ledger.deliveries.insert(schema::read_counts_key(*key.value()), counts);
    }
    for entry in transaction.open_table(EVENT_COUNTS)?.iter()? {
        let (key, bytes) = entry?;
        let name = key.value();
        let counts = damage.read::<EventCountsRow, EventCounts>("event_counts", name.as_bytes(), bytes.value());
        match name.parse() {
            Ok(name) => {
                ledger.events.insert(name, counts.unwrap_or_default());
            }
            Err(_) => damage.report("event_counts", name.as_bytes(), "no source name"),
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_newer_or_nonsense() {
        let told = |bytes: &[u8]| match check_format(Some(bytes.to_vec())) {
            Ok(()) => "read".to_owned(),
            Err(Unfit::Refused(detail) | Unfit::Unreadable(detail)) => detail,
            Err(Unfit::Blank) => "blank".to_owned(),
        };
        assert_eq!([1, FORMAT].map(|format| told(&format.to_be_bytes())), ["read", "read"]);
        assert!(told(&(FORMAT + 1).to_be_bytes()).contains("newer postbackd"));
        for nonsense in [&[0, 0, 0, 0][..], &[0, 1], &[]] {
            assert!(told(nonsense).contains("its format number makes no sense"));
        }
    }
}
