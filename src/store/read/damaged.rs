//! Rows that cannot be read, and what can still be read around them.

use std::sync::Arc;

use super::Reader;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::store::StoreError;
use crate::store::damage::{Damaged, hex};
use crate::store::schema::{self, DELIVERIES, DLQ, INBOX};
use crate::store::wreck;

/// A row that cannot be read.
#[derive(Clone, Debug)]
pub struct DamagedRow {
    pub table: &'static str,
    /// In hexadecimal.
    pub key: String,
    pub what: String,
    /// The event it belongs to, where it belongs to one.
    pub seq: Option<EventSeq>,
    /// Deliveries that can neither be sent nor end by themselves because of it.
    pub wrecks: Vec<DeliveryKey>,
    /// The event, where it can be read.
    pub event: Option<Arc<Event>>,
}

impl Reader {
    /// Those that were met since the start, in the order of tables and keys, at most `limit`.
    pub fn damaged(&self, limit: usize) -> Result<Vec<DamagedRow>, StoreError> {
        self.shared.damage.rows(limit).into_iter().map(|row| self.around(row)).collect()
    }

    /// The row with what can be read around it.
    pub(super) fn around(&self, (table, key, what): Damaged) -> Result<DamagedRow, StoreError> {
        let (seq, delivery) = named(table, &key);
        let wanted = match (seq, delivery) {
            (_, Some(delivery)) => vec![delivery],
            (Some(seq), None) => self.deliveries_of(seq)?,
            (None, None) => Vec::new(),
        };
        let wrecks = self.wrecks(&wanted)?;
        let event = seq.map_or(Ok(None), |seq| self.event(seq))?;
        Ok(DamagedRow { table, key: hex(&key), what, seq, wrecks, event })
    }

    /// Those of `keys` that a discard would give up although they are in no DLQ that can be read.
    pub fn wrecks(&self, keys: &[DeliveryKey]) -> Result<Vec<DeliveryKey>, StoreError> {
        self.shared.read(|transaction| {
            let (deliveries, inbox) = (transaction.open_table(DELIVERIES)?, transaction.open_table(INBOX)?);
            let dlq = transaction.open_table(DLQ)?;
            let mut wrecks = Vec::new();
            for key in keys {
                let Some(found) = wreck::look(&deliveries, &inbox, &self.shared.damage, *key)? else { continue };
                if found.due_at.is_some() || dlq.get(&schema::delivery_key(*key))?.is_some() {
                    wrecks.push(*key);
                }
            }
            Ok(wrecks)
        })
    }

    fn deliveries_of(&self, seq: EventSeq) -> Result<Vec<DeliveryKey>, StoreError> {
        self.shared.read(|transaction| {
            let (low, high) = schema::deliveries_of(seq);
            let table = transaction.open_table(DELIVERIES)?;
            let rows = table.range::<&schema::DeliveryRowKey>(&low..=&high)?;
            rows.map(|row| Ok(schema::read_delivery_key(row?.0.value()))).collect()
        })
    }
}

/// What a key of a table names.
fn named(table: &str, key: &[u8]) -> (Option<EventSeq>, Option<DeliveryKey>) {
    let of = |delivery: DeliveryKey| (Some(delivery.seq), Some(delivery));
    match table {
        "inbox" => (key.try_into().ok().map(schema::read_inbox_key), None),
        "deliveries" | "dlq" => key.try_into().map_or((None, None), |key| of(schema::read_delivery_key(key))),
        "attempts" => key.try_into().map_or((None, None), |key| of(schema::read_attempt_key(key).0)),
        "outbox" => key.try_into().map_or((None, None), |key| {
            let (destination, _, seq) = schema::read_outbox_key(key);
            of(DeliveryKey { seq, destination })
        }),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::DestinationId;
    use crate::domain::time::UnixMs;

    #[test]
    fn a_damaged_row_is_told_with_the_event_and_the_delivery_that_its_key_names() {
        let key = DeliveryKey { seq: EventSeq(7), destination: DestinationId(2) };
        let delivery = (Some(key.seq), Some(key));
        assert_eq!(named("inbox", &schema::inbox_key(key.seq)), (Some(key.seq), None));
        assert_eq!(named("deliveries", &schema::delivery_key(key)), delivery);
        assert_eq!(named("dlq", &schema::delivery_key(key)), delivery);
        assert_eq!(named("attempts", &schema::attempt_key(key, 3)), delivery);
        assert_eq!(named("outbox", &schema::outbox_key(key.destination, UnixMs(5), key.seq)), delivery);
        assert_eq!(named("zones", &schema::zone_key(7)), (None, None));
        assert_eq!(named("inbox", b"cut"), (None, None));
    }
}
