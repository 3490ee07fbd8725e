//! Deliveries that can neither be sent nor end by themselves, since a row that they need cannot be read: their own, or their
//! event's. They stay where they are, seen and counted, until an operator gives them up.

use redb::ReadableTable;

use super::damage::Damage;
use super::error::StoreError;
use super::row::{self, DeliveryRow, EventRow};
use super::schema::{self, DeliveryRowKey, InboxKey};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::id::DeliveryKey;
use crate::domain::time::UnixMs;

/// What is left of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wreck {
    /// Its place in the outbox, where one is known. That of a delivery whose row is damaged is known once the scheduler has
    /// passed it over.
    pub due_at: Option<UnixMs>,
    /// `None` where its own row cannot be read.
    pub delivery: Option<Delivery>,
}

/// The wreck that this delivery is; `None` for one that is sound, has ended, or is not there.
pub(super) fn look(
    deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
    inbox: &impl ReadableTable<&'static InboxKey, &'static [u8]>,
    damage: &Damage,
    key: DeliveryKey,
) -> Result<Option<Wreck>, StoreError> {
    let row = schema::delivery_key(key);
    let Some(bytes) = deliveries.get(&row)? else { return Ok(None) };
    let Some(delivery) = damage.read::<DeliveryRow, Delivery>("deliveries", &row, bytes.value()) else {
        return Ok(Some(Wreck { due_at: damage.place(key), delivery: None }));
    };
    let Some(due_at) = delivery.state.due_at() else { return Ok(None) };
    let event = inbox.get(&schema::inbox_key(key.seq))?;
    let is_readable =
        event.is_some_and(|bytes| row::decode::<EventRow>(bytes.value()).is_ok_and(|row| Event::try_from(row).is_ok()));
    let is_sound = is_readable && delivery.target.is_some();
    Ok((!is_sound).then_some(Wreck { due_at: Some(due_at), delivery: Some(delivery) }))
}
