//! Giving up a delivery that cannot be read ([`crate::store::wreck`]): it becomes `discarded` like any other, in a row that is
//! written anew where its own is damaged.

use redb::ReadableTable;

use super::Batch;
use crate::domain::delivery::{Delivery, History, State, Status};
use crate::domain::id::DeliveryKey;
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::row::{self, DeliveryRow, EventRow};
use crate::store::schema::{self, AttemptKey};
use crate::store::wreck::{self, Wreck};
use crate::store::zone::DlqChange;

impl Batch<'_> {
    /// Whether there was anything to give up.
    pub(super) fn give_up(&mut self, key: DeliveryKey, at: UnixMs, reason: &str) -> Result<bool, StoreError> {
        let found = wreck::look(&self.tables.deliveries, &self.tables.inbox, self.damage, key)?;
        let Some(Wreck { due_at, delivery }) = found else { return Ok(false) };
        // Its own row can be read, so that it is its event that cannot.
        let is_the_events = delivery.is_some();
        let place = due_at.map(|due_at| schema::outbox_key(key.destination, due_at, key.seq));
        let was_owed = match &place {
            Some(place) => self.tables.outbox.remove(place)?.is_some(),
            None => false,
        };
        let row = schema::delivery_key(key);
        let was_dead = self.tables.dlq.remove(&row)?.is_some();
        if !was_owed && !was_dead {
            return Ok(false);
        }
        let exchanges = self.exchanges(key)?;
        let was = match &delivery {
            Some(delivery) => delivery.state.status(),
            None if was_dead => Status::FailedPermanently,
            None => self.owed_as(key, exchanges),
        };
        if was_dead {
            self.zones.dlq(&self.tables.deliveries, key, DlqChange::Left)?;
        }
        let before = match delivery {
            Some(delivery) => delivery,
            None => self.rewritten(key, at, exchanges)?,
        };
        let delivery = Delivery { state: State::Discarded { at, reason: reason.to_owned() }, ..before };
        self.books.moved(key.destination, was, Status::Discarded);
        self.tables.deliveries.insert(&row, row::encode(&DeliveryRow::from(&delivery))?.as_slice())?;
        self.zones.delivery(&self.tables.deliveries, key, Some(was), &delivery.state)?;
        self.marks.lower(key.seq);
        self.changed = true;
        // Were this undone, they would be met again.
        self.damage.mended("deliveries", &row);
        self.damage.mended("dlq", &row);
        if is_the_events {
            self.damage.settled("inbox", &schema::inbox_key(key.seq));
        }
        if let Some(place) = &place {
            self.damage.mended("outbox", place);
        }
        Ok(true)
    }

    /// The last attempt there is a row of.
    fn exchanges(&self, key: DeliveryKey) -> Result<u32, StoreError> {
        let (low, high) = (schema::attempt_key(key, 0), schema::attempt_key(key, u32::MAX));
        let last = self.tables.attempts.range::<&AttemptKey>(&low..=&high)?.next_back().transpose()?;
        Ok(last.map_or(0, |(row, _)| schema::read_attempt_key(row.value()).1))
    }

    /// As what the books count an owed delivery whose row cannot be read: by whether it was attempted, unless they count none
    /// of those.
    fn owed_as(&self, key: DeliveryKey, exchanges: u32) -> Status {
        let likely = if exchanges > 0 { [Status::Failed, Status::Pending] } else { [Status::Pending, Status::Failed] };
        let counts = self.books.ledger.deliveries.get(&key.destination).copied().unwrap_or_default();
        let [first, second] = likely;
        if counts.of(first) == 0 && counts.of(second) > 0 { second } else { first }
    }

    /// What can be told of a delivery whose row is lost.
    fn rewritten(&self, key: DeliveryKey, at: UnixMs, exchanges: u32) -> Result<Delivery, StoreError> {
        let event = self.tables.inbox.get(&schema::inbox_key(key.seq))?;
        let event = event.and_then(|bytes| row::decode::<EventRow>(bytes.value()).ok());
        let received_at = event.map_or(at, |event| UnixMs(event.received_at));
        let history = History { exchanges, ..History::new(received_at) };
        Ok(Delivery { received_at, target: None, state: State::Pending { due_at: received_at }, history })
    }
}
