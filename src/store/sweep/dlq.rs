//! Removing DLQ entries that nobody came for.

use redb::ReadableTable;

use super::{Frontier, Sweep};
use crate::domain::delivery::State;
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::row::{self, NumberRow};
use crate::store::schema::{self, DeliveryRowKey, META_DLQ_SWEPT};
use crate::store::zone::DlqChange;

impl Sweep<'_, '_> {
    pub(super) fn sweep_dlq(&mut self, before: UnixMs) -> Result<(), StoreError> {
        let mut frontier = Frontier::new(self.marks.dlq, self.enough);
        let mut old = Vec::new();
        let (start, _) = schema::deliveries_of(self.marks.dlq);
        for entry in self.tables.dlq.range::<&DeliveryRowKey>(&start..)? {
            let (row, _) = entry?;
            let key = schema::read_delivery_key(row.value());
            if frontier.look(key.seq).is_break() {
                break;
            }
            let Some(delivery) = self.delivery(key)? else { continue };
            let State::FailedPermanently { at, .. } = delivery.state else {
                self.damage.report("dlq", row.value(), "its delivery is not dead");
                continue;
            };
            if at.max(delivery.received_at) >= before {
                if frontier.too_new(key.seq).is_break() {
                    break;
                }
                continue;
            }
            frontier.old_enough();
            if old.len() >= self.left {
                frontier.cut_at(key.seq);
                break;
            }
            old.push(*row.value());
        }
        for key in &old {
            if !self.spend() {
                frontier.cut_at(schema::read_delivery_key(key).seq);
                break;
            }
            self.damage.mended("dlq", key);
            if self.tables.dlq.remove(key)?.is_some() {
                self.zones.dlq(&self.tables.deliveries, schema::read_delivery_key(key), DlqChange::Left)?;
            }
            // The event may be free to go now, and so may the attempts.
            let seq = schema::read_delivery_key(key).seq;
            self.marks.events = self.marks.events.min(seq);
            self.marks.attempts = self.marks.attempts.min(seq);
        }
        if !old.is_empty() {
            self.remember_reach(before)?;
        }
        self.marks.dlq = self.reached(&frontier);
        Ok(())
    }

    /// Lets `verify` tell a dead delivery whose entry was removed from one whose entry was lost.
    fn remember_reach(&mut self, before: UnixMs) -> Result<(), StoreError> {
        let known =
            self.tables.meta.get(META_DLQ_SWEPT)?.and_then(|bytes| row::decode::<NumberRow>(bytes.value()).ok());
        let reach = row::encode(&NumberRow(known.map_or(0, |row| row.0).max(before.0)))?;
        self.tables.meta.insert(META_DLQ_SWEPT, reach.as_slice())?;
        Ok(())
    }
}
