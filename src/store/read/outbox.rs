//! What is owed, in due order: the pages the scheduler is filled from.

use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable};

use super::event::Events;
use super::{Bodies, Deliveries, OutboxCursor, Reader};
use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::schema::{self, OUTBOX, OutboxKey};
use crate::store::write::Owed;

/// How many owed deliveries [`Reader::oldest_owed`] looks at.
const OLDEST_LOOKS: usize = 1000;

impl Reader {
    /// Owed deliveries of a destination in due order, strictly after `after`, at most `limit`. An entry whose delivery
    /// cannot be read is passed over and counted: it is neither sent nor forgotten.
    pub fn outbox_page(
        &self,
        destination: DestinationId,
        after: Option<OutboxCursor>,
        limit: usize,
        bodies: Bodies,
    ) -> Result<Vec<Owed>, StoreError> {
        self.shared.read(|transaction| {
            let mut page = Vec::new();
            self.walk(transaction, destination, after, |key, due_at, delivery| {
                page.extend(owed(key, due_at, delivery, &self.shared.damage));
                page.len() < limit
            })?;
            page.truncate(limit);
            if bodies.bytes > 0 {
                bring(&mut page, bodies, &Events::open(transaction, &self.shared.damage)?)?;
            }
            Ok(page)
        })
    }

    /// Receipt of the oldest owed delivery of a destination: exact up to 1,000 owed, else the oldest of the 1,000 due first.
    pub fn oldest_owed(&self, destination: DestinationId) -> Result<Option<UnixMs>, StoreError> {
        self.shared.read(|transaction| {
            let (mut oldest, mut looks) = (None::<UnixMs>, 0);
            self.walk(transaction, destination, None, |_, _, delivery| {
                oldest = Some(oldest.map_or(delivery.received_at, |oldest| oldest.min(delivery.received_at)));
                looks += 1;
                looks < OLDEST_LOOKS
            })?;
            Ok(oldest)
        })
    }

    /// Earliest due time in a destination's outbox.
    pub fn next_due(&self, destination: DestinationId) -> Result<Option<UnixMs>, StoreError> {
        self.shared.read(|transaction| {
            let table = transaction.open_table(OUTBOX)?;
            let (low, high) = bounds(destination, None);
            let first =
                ReadableTable::range::<&OutboxKey>(&table, (Bound::Included(&low), Bound::Included(&high)))?.next();
            Ok(first.transpose()?.map(|(key, _)| schema::read_outbox_key(key.value()).1))
        })
    }

    /// Visits the destination's entries after `after` with their deliveries, until `visit` has enough.
    fn walk(
        &self,
        transaction: &ReadTransaction,
        destination: DestinationId,
        after: Option<OutboxCursor>,
        mut visit: impl FnMut(DeliveryKey, UnixMs, Delivery) -> bool,
    ) -> Result<(), StoreError> {
        let outbox = transaction.open_table(OUTBOX)?;
        let deliveries = Deliveries::open(transaction, &self.shared.damage)?;
        let (low, high) = bounds(destination, after);
        let low = if after.is_some() { Bound::Excluded(&low) } else { Bound::Included(&low) };
        for entry in ReadableTable::range::<&OutboxKey>(&outbox, (low, Bound::Included(&high)))? {
            let (row, ()) = entry.map(|(row, _)| (row, ()))?;
            let (destination, due_at, seq) = schema::read_outbox_key(row.value());
            let key = DeliveryKey { seq, destination };
            match deliveries.get(key)? {
                Some(delivery) if delivery.state.due_at() == Some(due_at) => {
                    if !visit(key, due_at, delivery) {
                        break;
                    }
                }
                Some(_) | None => self.shared.damage.report("outbox", row.value(), "no delivery is due then"),
            }
        }
        Ok(())
    }
}

/// Adds the events of what is due, in order, until one does not fit.
fn bring(page: &mut [Owed], bodies: Bodies, events: &Events<'_>) -> Result<(), StoreError> {
    let mut left = bodies.bytes;
    for owed in page.iter_mut().take_while(|owed| owed.due_at <= bodies.due_by) {
        let Some(event) = events.get(owed.key.seq)? else { continue };
        let Some(rest) = left.checked_sub(event.footprint()) else { break };
        left = rest;
        owed.event = Some(Arc::new(event));
    }
    Ok(())
}

fn owed(key: DeliveryKey, due_at: UnixMs, delivery: Delivery, damage: &Damage) -> Option<Owed> {
    let Delivery { target, state, history, .. } = delivery;
    let Some(target) = target else {
        damage.report("deliveries", &schema::delivery_key(key), "an owed delivery without target");
        return None;
    };
    Some(Owed { key, due_at, state, history, target, event: None })
}

/// The least key after which, and the greatest key up to which the destination's entries lie.
fn bounds(destination: DestinationId, after: Option<OutboxCursor>) -> (OutboxKey, OutboxKey) {
    let after = after.unwrap_or(OutboxCursor { due_at: UnixMs(0), seq: EventSeq(0) });
    (
        schema::outbox_key(destination, after.due_at, after.seq),
        schema::outbox_key(destination, UnixMs(u64::MAX), EventSeq(u64::MAX)),
    )
}
