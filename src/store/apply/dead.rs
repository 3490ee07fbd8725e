//! What an operator does with dead deliveries: owe them again, or purge them. Both take a delivery out of the DLQ and
//! leave alone what is not in it, so that doing it twice is doing it once. Damaged ones are purged too, wherever they are.

use redb::ReadableTable;

use super::{Batch, owed};
use crate::domain::delivery::{Delivery, History, State};
use crate::domain::id::DeliveryKey;
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::schema;
use crate::store::write::{Applied, Discard, Owed, Replay};
use crate::store::zone::DlqChange;

impl Batch<'_> {
    pub(super) fn replay(&mut self, op: &Replay) -> Result<Applied, StoreError> {
        let mut replayed = Vec::new();
        for key in &op.keys {
            let Some(dead) = self.dead(*key)? else { continue };
            replayed.extend(self.owe_again(*key, dead, op.at)?);
        }
        Ok(Applied::Replayed(replayed))
    }

    pub(super) fn owe_again(
        &mut self,
        key: DeliveryKey,
        dead: Delivery,
        at: UnixMs,
    ) -> Result<Option<Owed>, StoreError> {
        let history = History { owed_since: at, counted_since_owed: 0, ..dead.history };
        let delivery = self.leave_dlq(key, dead, State::Pending { due_at: at }, history)?;
        Ok(owed(key, &delivery, None))
    }

    pub(super) fn discard(&mut self, op: &Discard) -> Result<Applied, StoreError> {
        let mut count = 0;
        for key in &op.keys {
            match self.dead(*key)? {
                Some(dead) => self.bury(*key, dead, op.at, &op.reason)?,
                None if self.give_up(*key, op.at, &op.reason)? => {}
                None => continue,
            }
            count += 1;
        }
        Ok(Applied::Discarded { count })
    }

    /// Out of the DLQ for good.
    pub(super) fn bury(
        &mut self,
        key: DeliveryKey,
        dead: Delivery,
        at: UnixMs,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (history, state) = (dead.history, State::Discarded { at, reason: reason.to_owned() });
        self.leave_dlq(key, dead, state, history).map(drop)
    }

    /// The delivery, if it is in the DLQ. One whose entry retention has removed is not.
    pub(super) fn dead(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        if self.tables.dlq.get(&schema::delivery_key(key))?.is_none() {
            return Ok(None);
        }
        let delivery = self.delivery(key)?;
        Ok(delivery.filter(|delivery| matches!(delivery.state, State::FailedPermanently { .. })))
    }

    fn leave_dlq(
        &mut self,
        key: DeliveryKey,
        dead: Delivery,
        state: State,
        history: History,
    ) -> Result<Delivery, StoreError> {
        if self.tables.dlq.remove(&schema::delivery_key(key))?.is_some() {
            self.zones.dlq(&self.tables.deliveries, key, DlqChange::Left)?;
        }
        let was = dead.state.status();
        let delivery = Delivery { state, history, ..dead };
        self.put_delivery(key, Some(was), &delivery)?;
        Ok(delivery)
    }
}
