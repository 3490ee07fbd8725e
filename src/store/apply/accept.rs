//! Taking in an event: is it a repeat? If not, it gets its place, and every destination what it is owed of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::ReadableTable;

use super::{Batch, owed};
use crate::domain::delivery::{Delivery, History, State};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;
use crate::store::error::StoreError;
use crate::store::row::{self, DedupeRow, EventRow};
use crate::store::schema;
use crate::store::write::{Accept, Applied, Planned, Queued};

impl Batch<'_> {
    pub(super) fn accept(&mut self, op: &Accept) -> Result<Applied, StoreError> {
        self.changed = true;
        if let Some(first) = self.find_repeat(op)? {
            let conflict = first.content != op.content.0;
            let counts = self.books.source(&op.event.source);
            counts.duplicates = counts.duplicates.saturating_add(1);
            counts.conflicts = counts.conflicts.saturating_add(u64::from(conflict));
            return Ok(Applied::Duplicate { first: EventSeq(first.seq), conflict });
        }
        let seq = self.take_seq()?;
        self.remember(op, seq)?;
        let bytes = row::encode(&EventRow::from(&*op.event))?;
        self.tables.inbox.insert(&schema::inbox_key(seq), bytes.as_slice())?;
        let counts = self.books.source(&op.event.source);
        counts.accepted = counts.accepted.saturating_add(1);

        let told = (op.event.canonical.as_str(), op.event.uid.as_deref(), op.event.received_at);
        self.zones.event(&self.tables.deliveries, seq, told)?;

        let mut queued = Queued { seq, owed: Vec::with_capacity(op.plan.len()) };
        let mut planned = BTreeSet::new();
        for plan in &op.plan {
            let (destination, delivery) = new_delivery(plan, op.event.received_at);
            // A destination named twice is owed once: the row is one, so the count must be.
            if !planned.insert(destination) {
                continue;
            }
            let key = DeliveryKey { seq, destination };
            self.put_delivery(key, None, &delivery)?;
            queued.owed.extend(owed(key, &delivery, Some(Arc::clone(&op.event))));
        }
        Ok(Applied::Queued(queued))
    }

    /// The first event with the same key, if it is recent enough to make this one a repeat. Repeats within the batch
    /// are found too, since both filter and table already hold what came before. A damaged row makes no repeat: an
    /// event is rather sent twice than lost.
    fn find_repeat(&self, op: &Accept) -> Result<Option<DedupeRow>, StoreError> {
        for bucket in self.filters.candidates(op.key, op.repeat_since) {
            let key = schema::dedupe_key(bucket, op.key);
            let bytes = self.tables.dedupe.get(&key)?;
            let found = bytes.and_then(|bytes| self.damage.read::<DedupeRow, DedupeRow>("dedupe", &key, bytes.value()));
            if let Some(found) = found
                && UnixMs(found.received_at) >= op.repeat_since
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Makes later copies of this event repeats. Its key is never older than one before it, so that what comes in while
    /// the clock is behind is still known once the clock is right.
    fn remember(&mut self, op: &Accept, seq: EventSeq) -> Result<(), StoreError> {
        let received_at = op.heard_at.max(self.filters.newest());
        let bucket = schema::bucket_of(seq);
        let found = DedupeRow { seq: seq.0, received_at: received_at.0, content: op.content.0 };
        let bytes = row::encode(&found)?;
        self.tables.dedupe.insert(&schema::dedupe_key(bucket, op.key), bytes.as_slice())?;
        self.filters.insert(bucket, op.key, received_at);
        Ok(())
    }
}

fn new_delivery(plan: &Planned, received_at: UnixMs) -> (DestinationId, Delivery) {
    let (destination, target, state) = match plan {
        Planned::Owe { destination, target } => {
            (*destination, Some(target.clone()), State::Pending { due_at: received_at })
        }
        Planned::Skip { destination, reason } => (*destination, None, State::Skipped { reason: *reason }),
    };
    (destination, Delivery { received_at, target, state, history: History::new(received_at) })
}
