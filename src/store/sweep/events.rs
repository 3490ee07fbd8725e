//! Removing events with all that belongs to them, and attempts alone.

use redb::ReadableTable;

use super::{Frontier, Sweep, Zoning};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::row::{self, DeliveryRow, EventHead, NumberRow};
use crate::store::schema::{self, DeliveryRowKey, META_FLOOR};

/// Events that are looked for before they are removed: an iterator cannot stay open while its table changes.
const AT_ONCE: usize = 32;

impl Sweep<'_, '_> {
    /// Until there is nothing older, or `excess` bytes are freed.
    pub(super) fn sweep_events(&mut self, before: UnixMs, excess: u64) -> Result<(), StoreError> {
        let mut frontier = Frontier::new(self.marks.events, self.enough);
        let mut removed = false;
        let mut more = true;
        while more && !frontier.cut {
            let old;
            (old, more) = self.old_events(before, &mut frontier)?;
            for seq in old {
                let keys = self.deliveries_of(seq)?;
                if !self.all_final(&keys)? {
                    continue;
                }
                if self.freed >= excess || !self.remove_event(seq, &keys)? {
                    frontier.cut_at(seq);
                    break;
                }
                removed = true;
            }
        }
        if removed {
            // From here on the inbox alone no longer tells which numbers were used.
            let floor = row::encode(&NumberRow(self.next_seq))?;
            self.tables.meta.insert(META_FLOOR, floor.as_slice())?;
        }
        self.marks.events = self.reached(&frontier);
        Ok(())
    }

    /// The next few events that are old enough, and whether there may be more.
    fn old_events(&self, before: UnixMs, frontier: &mut Frontier<'_>) -> Result<(Vec<EventSeq>, bool), StoreError> {
        let mut old = Vec::new();
        for entry in self.tables.inbox.range::<&schema::InboxKey>(&schema::inbox_key(frontier.end)..)? {
            let (key, bytes) = entry?;
            let seq = schema::read_inbox_key(*key.value());
            if old.len() >= AT_ONCE {
                return Ok((old, true));
            }
            if frontier.look(seq).is_break() {
                break;
            }
            let head = row::decode_head::<EventHead>(bytes.value());
            let received_at = match self.damage.known("inbox", key.value(), head) {
                Some(head) => Some(UnixMs(head.received_at)),
                None => self.received_with(seq)?,
            };
            let Some(received_at) = received_at else { continue };
            if received_at < before {
                frontier.old_enough();
                old.push(seq);
            } else if frontier.too_new(seq).is_break() {
                break;
            }
        }
        Ok((old, false))
    }

    /// When an event came in that cannot be read itself, as its deliveries know.
    fn received_with(&self, seq: EventSeq) -> Result<Option<UnixMs>, StoreError> {
        let mut newest = None;
        for key in self.deliveries_of(seq)? {
            let delivery = self.delivery(schema::read_delivery_key(&key))?;
            newest = newest.max(delivery.map(|delivery| delivery.received_at));
        }
        Ok(newest)
    }

    fn deliveries_of(&self, seq: EventSeq) -> Result<Vec<DeliveryRowKey>, StoreError> {
        let (low, high) = schema::deliveries_of(seq);
        let rows = self.tables.deliveries.range::<&DeliveryRowKey>(&low..=&high)?;
        rows.map(|entry| Ok(*entry?.0.value())).collect()
    }

    fn all_final(&self, keys: &[DeliveryRowKey]) -> Result<bool, StoreError> {
        for key in keys {
            let key = schema::read_delivery_key(key);
            if !self.is_final(key, self.delivery(key)?.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes attempts, then deliveries, then the event itself, so that what remains when the slice is full is whole.
    /// `false` where something remains.
    fn remove_event(&mut self, seq: EventSeq, keys: &[DeliveryRowKey]) -> Result<bool, StoreError> {
        for key in keys {
            if !self.remove_attempts(schema::read_delivery_key(key))? || !self.spend() {
                return Ok(false);
            }
            let Some(removed) = self.tables.deliveries.remove(key)?.map(|bytes| bytes.value().to_vec()) else {
                continue;
            };
            self.free(key.len(), removed.len());
            if let Ok(removed) = row::decode::<DeliveryRow>(&removed) {
                let (key, status) = (schema::read_delivery_key(key), removed.state.status());
                self.zones.removed(&self.tables.deliveries, key, status)?;
            } else {
                // Nobody knows as what its zone has counted it: the zone is counted anew.
                self.zones.forget(schema::zone_of(seq))?;
                self.marks.zones = Zoning::Unlooked;
            }
            self.damage.mended("deliveries", key);
        }
        if !self.spend() {
            return Ok(false);
        }
        let key = schema::inbox_key(seq);
        let bytes = self.tables.inbox.remove(&key)?.map_or(0, |row| row.value().len());
        self.free(key.len(), bytes);
        self.damage.mended("inbox", &key);
        Ok(true)
    }

    /// Removes the attempts of one delivery; `false` where some remain.
    fn remove_attempts(&mut self, key: DeliveryKey) -> Result<bool, StoreError> {
        let (low, high) = (schema::attempt_key(key, 0), schema::attempt_key(key, u32::MAX));
        let rows = self.tables.attempts.range::<&schema::AttemptKey>(&low..=&high)?;
        let keys: Vec<_> = rows
            .take(self.left.saturating_add(1))
            .map(|entry| Ok(*entry?.0.value()))
            .collect::<Result<_, StoreError>>()?;
        for key in &keys {
            if !self.spend() {
                return Ok(false);
            }
            let bytes = self.tables.attempts.remove(key)?.map_or(0, |row| row.value().len());
            self.free(key.len(), bytes);
            self.damage.mended("attempts", key);
        }
        Ok(true)
    }

    /// Goes from delivery to delivery of those that have attempts; what is kept costs one look, however many there are.
    pub(super) fn sweep_attempts(&mut self, before: UnixMs) -> Result<(), StoreError> {
        let mut frontier = Frontier::new(self.marks.attempts, self.enough);
        let mut next = Some(DeliveryKey { seq: self.marks.attempts, destination: DestinationId(0) });
        while let Some(start) = next {
            let first = self
                .tables
                .attempts
                .range::<&schema::AttemptKey>(&schema::attempt_key(start, 0)..)?
                .next()
                .transpose()?;
            let Some(key) = first.map(|(key, _)| schema::read_attempt_key(key.value()).0) else { break };
            next = successor(key);
            if frontier.look(key.seq).is_break() {
                break;
            }
            // Attempts of a delivery that cannot be read go with its event.
            let Some(delivery) = self.delivery(key)? else { continue };
            if !self.is_final(key, Some(&delivery))? {
                continue;
            }
            if delivery.received_at >= before {
                if frontier.too_new(key.seq).is_break() {
                    break;
                }
                continue;
            }
            frontier.old_enough();
            if !self.remove_attempts(key)? {
                frontier.cut_at(key.seq);
                break;
            }
        }
        self.marks.attempts = self.reached(&frontier);
        Ok(())
    }
}

/// The least delivery key after `key`.
fn successor(key: DeliveryKey) -> Option<DeliveryKey> {
    match key.destination.0.checked_add(1) {
        Some(destination) => Some(DeliveryKey { seq: key.seq, destination: DestinationId(destination) }),
        None => Some(DeliveryKey { seq: EventSeq(key.seq.0.checked_add(1)?), destination: DestinationId(0) }),
    }
}
