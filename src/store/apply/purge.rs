//! Giving up what a destination is owed. One slice at a time, so that no transaction is long; what is done stays done, and
//! doing it again goes on where it ended.

use std::ops::Bound;

use super::Batch;
use crate::domain::delivery::{Delivery, State};
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::schema;
use crate::store::write::{Applied, Purge};

impl Batch<'_> {
    pub(super) fn purge(&mut self, op: &Purge) -> Result<Applied, StoreError> {
        let mut seqs = Vec::new();
        for (due_at, seq) in self.owed_places(op)? {
            if seqs.len() >= op.limit {
                break;
            }
            let key = DeliveryKey { seq, destination: op.destination };
            // What cannot be read is neither sent nor forgotten, and not given up either.
            let Some(before) = self.delivery(key)?.filter(|before| before.state.due_at() == Some(due_at)) else {
                continue;
            };
            self.tables.outbox.remove(&schema::outbox_key(key.destination, due_at, seq))?;
            let state = State::Discarded { at: op.at, reason: op.reason.clone() };
            let was = before.state.status();
            self.put_delivery(key, Some(was), &Delivery { state, ..before })?;
            seqs.push(seq);
        }
        Ok(Applied::Purged { destination: op.destination, seqs })
    }

    /// The first places in the destination's outbox, some more than asked for: a few of them may be damaged.
    fn owed_places(&self, op: &Purge) -> Result<Vec<(UnixMs, EventSeq)>, StoreError> {
        use redb::ReadableTable;
        let low = schema::outbox_key(op.destination, UnixMs(0), EventSeq(0));
        let high = schema::outbox_key(op.destination, UnixMs(u64::MAX), EventSeq(u64::MAX));
        let mut places = Vec::new();
        for entry in self.tables.outbox.range::<&schema::OutboxKey>((Bound::Included(&low), Bound::Included(&high)))? {
            let (_, due_at, seq) = schema::read_outbox_key(entry?.0.value());
            if op.under_way.contains(&seq) {
                continue;
            }
            places.push((due_at, seq));
            if places.len() >= op.limit.saturating_mul(2) {
                break;
            }
        }
        Ok(places)
    }
}
