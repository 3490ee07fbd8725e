//! One event, one delivery, and the way from a sender's id to them.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable};

use super::{Deliveries, Reader, Rows};
use crate::domain::dedupe::DedupeKey;
use crate::domain::delivery::{Attempt, Delivery};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::name::DestinationName;
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::row::{AttemptRow, DedupeRow, DeliveryRow, EventRow, NumberRow};
use crate::store::schema::{
    self, ATTEMPTS, AttemptKey, DEDUPE, DESTINATIONS, DedupeRowKey, DeliveryRowKey, INBOX, InboxKey,
};

impl Reader {
    /// Every destination name the store has ever numbered.
    pub fn destination_names(&self) -> Result<Vec<(DestinationName, DestinationId)>, StoreError> {
        self.shared.read(|transaction| {
            let mut names = Vec::new();
            for entry in transaction.open_table(DESTINATIONS)?.iter()? {
                let (name, bytes) = entry?;
                let text = name.value();
                let row =
                    self.shared.damage.read::<NumberRow, NumberRow>("destinations", text.as_bytes(), bytes.value());
                let number = row.and_then(|row| u32::try_from(row.0).ok());
                if let (Ok(name), Some(number)) = (text.parse(), number) {
                    names.push((name, DestinationId(number)));
                }
            }
            Ok(names)
        })
    }

    /// Receipt of the newest event in the store.
    pub fn newest_receipt(&self) -> Result<Option<UnixMs>, StoreError> {
        self.shared.read(|transaction| {
            let events = Events::open(transaction, &self.shared.damage)?;
            let Some((key, _)) = ReadableTable::last(&events.table)? else { return Ok(None) };
            let seq = schema::read_inbox_key(*key.value());
            Ok(events.get(seq)?.map(|event| event.received_at))
        })
    }

    /// The event, while retention keeps it.
    pub fn event(&self, seq: EventSeq) -> Result<Option<Arc<Event>>, StoreError> {
        self.shared.read(|transaction| Ok(Events::open(transaction, &self.shared.damage)?.get(seq)?.map(Arc::new)))
    }

    /// The events of each list, in its order, as of one moment: all of them, or the first that make up `budget` bytes.
    pub fn events_of_each(
        &self,
        lists: &[Vec<EventSeq>],
        budget: usize,
    ) -> Result<Vec<Vec<Option<Arc<Event>>>>, StoreError> {
        self.shared.read(|transaction| {
            let events = Events::open(transaction, &self.shared.damage)?;
            lists.iter().map(|seqs| events.first_of(seqs, budget)).collect()
        })
    }

    /// Events that carry the sender's id `event_id`, oldest first, at most `limit`.
    pub fn events_by_sender_id(&self, event_id: &str, limit: usize) -> Result<Vec<EventSeq>, StoreError> {
        self.shared.read(|transaction| self.find_sender_id(transaction, event_id, limit))
    }

    /// Asks every bucket in turn for keys that begin with the hash of the id, and the event for the id itself.
    pub(super) fn find_sender_id(
        &self,
        transaction: &ReadTransaction,
        event_id: &str,
        limit: usize,
    ) -> Result<Vec<EventSeq>, StoreError> {
        let damage = &self.shared.damage;
        let discriminator = self.shared.identity.hash_key.sender_id(event_id);
        let table = transaction.open_table(DEDUPE)?;
        let events = Events::open(transaction, damage)?;
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let (start, _) = schema::dedupe_keys_of(from);
            let first = ReadableTable::range::<&DedupeRowKey>(&table, &start..)?.next().transpose()?;
            let Some(bucket) = first.map(|(key, _)| schema::read_dedupe_key(key.value()).0) else { break };
            let key = |identity| schema::dedupe_key(bucket, DedupeKey { discriminator, identity });
            let (low, high) = (key(0), key(u64::MAX));
            for entry in ReadableTable::range::<&DedupeRowKey>(&table, &low..=&high)? {
                let (key, bytes) = entry?;
                let row = damage.read::<DedupeRow, DedupeRow>("dedupe", key.value(), bytes.value());
                let Some(seq) = row.map(|row| EventSeq(row.seq)) else { continue };
                if events.row(seq)?.is_some_and(|row| row.event_id.as_deref() == Some(event_id)) {
                    found.push(seq);
                }
            }
            next = bucket.checked_add(1).filter(|_| found.len() < limit);
        }
        // Buckets are in order of receipt, the keys within one are not.
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Where a delivery stands.
    pub fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        self.shared.read(|transaction| Deliveries::open(transaction, &self.shared.damage)?.get(key))
    }

    /// Every delivery of an event with every attempt that is still kept, by destination number.
    pub fn trace(&self, seq: EventSeq) -> Result<Vec<(DestinationId, Delivery, Vec<Attempt>)>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let deliveries = Deliveries::open(transaction, damage)?;
            let attempts = transaction.open_table(ATTEMPTS)?;
            let (low, high) = schema::deliveries_of(seq);
            let mut trace = Vec::new();
            for entry in ReadableTable::range::<&DeliveryRowKey>(&deliveries.table, &low..=&high)? {
                let (key, bytes) = entry?;
                let Some(delivery) = damage.read::<DeliveryRow, _>("deliveries", key.value(), bytes.value()) else {
                    continue;
                };
                let key = schema::read_delivery_key(key.value());
                trace.push((key.destination, delivery, attempts_of(&attempts, damage, key)?));
            }
            Ok(trace)
        })
    }
}

fn attempts_of(
    table: &Rows<&'static AttemptKey>,
    damage: &Damage,
    key: DeliveryKey,
) -> Result<Vec<Attempt>, StoreError> {
    let (low, high) = (schema::attempt_key(key, 0), schema::attempt_key(key, u32::MAX));
    let mut attempts = Vec::new();
    for entry in ReadableTable::range::<&AttemptKey>(table, &low..=&high)? {
        let (key, bytes) = entry?;
        let (_, n) = schema::read_attempt_key(key.value());
        let row = damage.read::<AttemptRow, AttemptRow>("attempts", key.value(), bytes.value());
        attempts.extend(row.map(|row| row.into_attempt(n)));
    }
    Ok(attempts)
}

/// Events within one read transaction.
pub(super) struct Events<'r> {
    table: Rows<&'static InboxKey>,
    damage: &'r Damage,
}

impl<'r> Events<'r> {
    pub fn open(transaction: &ReadTransaction, damage: &'r Damage) -> Result<Self, StoreError> {
        Ok(Self { table: transaction.open_table(INBOX)?, damage })
    }

    /// The row as it is. `None` where there is none or it is damaged.
    pub fn row(&self, seq: EventSeq) -> Result<Option<EventRow>, StoreError> {
        let key = schema::inbox_key(seq);
        let bytes = ReadableTable::get(&self.table, &key)?;
        Ok(bytes.and_then(|bytes| self.damage.read::<EventRow, EventRow>("inbox", &key, bytes.value())))
    }

    /// The event of a row.
    pub fn event(&self, seq: EventSeq, row: EventRow) -> Option<Event> {
        self.damage.known("inbox", &schema::inbox_key(seq), Event::try_from(row))
    }

    /// The first of `seqs` that make up `budget` bytes.
    fn first_of(&self, seqs: &[EventSeq], budget: usize) -> Result<Vec<Option<Arc<Event>>>, StoreError> {
        let (mut found, mut read) = (Vec::new(), 0_usize);
        for seq in seqs {
            if read >= budget {
                break;
            }
            let row = self.row(*seq)?;
            read = read.saturating_add(row.as_ref().map_or(0, EventRow::bytes));
            found.push(row.and_then(|row| self.event(*seq, row)).map(Arc::new));
        }
        Ok(found)
    }

    /// `None` where there is none or its row is damaged.
    pub fn get(&self, seq: EventSeq) -> Result<Option<Event>, StoreError> {
        Ok(self.row(seq)?.and_then(|row| self.event(seq, row)))
    }
}
