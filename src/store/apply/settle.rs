//! Settling: writing the outcome of an attempt, or of looking at a delivery that could not be attempted.

use super::{Batch, owed};
use crate::domain::delivery::{Attempt, Autopsy, Delivery, History, State};
use crate::domain::id::DeliveryKey;
use crate::domain::outcome::Disposition;
use crate::store::error::StoreError;
use crate::store::row::{self, AttemptRow, AutopsyRow, RowError};
use crate::store::schema;
use crate::store::write::{Applied, Settle};
use crate::store::zone::DlqChange;

impl Batch<'_> {
    pub(super) fn settle(&mut self, op: &Settle) -> Result<Applied, StoreError> {
        let key = op.key;
        let stale = Applied::Stale { key };
        let Some(before) = self.delivery(key)? else { return Ok(stale) };
        if before.state.due_at() != Some(op.due_at) || op.attempt.as_ref().is_some_and(|made| knows(&before, made)) {
            return Ok(stale);
        }
        let history = match &op.attempt {
            Some(attempt) => after_attempt(before.history, attempt, op.disposition),
            None => before.history,
        };
        let state = match op.disposition {
            Disposition::Sent => State::Sent { at: op.at },
            Disposition::Retry { at, reason } => State::Failed { due_at: at, reason },
            Disposition::Dead { reason } => State::FailedPermanently { at: op.at, reason },
            Disposition::Keep { at } => moved_to(&before.state, at),
        };
        if let Some(attempt) = &op.attempt {
            self.put_attempt(key, attempt, history.exchanges)?;
        }
        if let Disposition::Dead { .. } = op.disposition {
            self.put_autopsy(key, op.autopsy.as_ref())?;
        }
        self.tables.outbox.remove(&schema::outbox_key(key.destination, op.due_at, key.seq))?;
        let was = before.state.status();
        let called = op.attempt.as_ref().and_then(|attempt| attempt.called.clone());
        let delivery = Delivery { state, history, target: called.or(before.target), ..before };
        self.put_delivery(key, Some(was), &delivery)?;
        Ok(Applied::Settled { key, now: owed(key, &delivery, None) })
    }

    fn put_attempt(&mut self, key: DeliveryKey, attempt: &Attempt, n: u32) -> Result<(), StoreError> {
        let bytes = row::encode(&AttemptRow::from(attempt))?;
        self.tables.attempts.insert(&schema::attempt_key(key, n), bytes.as_slice())?;
        Ok(())
    }

    /// A dead delivery always has a row in the DLQ, whatever could be kept of its end.
    fn put_autopsy(&mut self, key: DeliveryKey, autopsy: Option<&Autopsy>) -> Result<(), StoreError> {
        let empty = |detail: &str| AutopsyRow {
            detail: detail.to_owned(),
            request: None,
            http_status: autopsy.and_then(|autopsy| autopsy.http_status),
            response: String::new(),
        };
        let bytes = match row::encode(&autopsy.map_or_else(|| empty(""), AutopsyRow::from)) {
            Err(RowError::Long(_)) => row::encode(&empty("the request was too large to be kept")),
            other => other,
        }?;
        if self.tables.dlq.insert(&schema::delivery_key(key), bytes.as_slice())?.is_none() {
            self.zones.dlq(&self.tables.deliveries, key, DlqChange::Entered)?;
        }
        Ok(())
    }
}

/// Whether the attempt is in the trace already. An outcome that leaves the delivery in its place, and whose commit failed
/// and was durable all the same, comes a second time: the place alone does not tell.
fn knows(delivery: &Delivery, attempt: &Attempt) -> bool {
    attempt.n <= delivery.history.exchanges
}

/// Every exchange stands in the trace; only those that settle something count.
fn after_attempt(before: History, attempt: &Attempt, disposition: Disposition) -> History {
    let counts = match disposition {
        Disposition::Sent | Disposition::Retry { .. } | Disposition::Dead { .. } => 1,
        Disposition::Keep { .. } => 0,
    };
    History {
        counted_since_owed: before.counted_since_owed.saturating_add(counts),
        counted: before.counted.saturating_add(counts),
        exchanges: before.exchanges.saturating_add(1),
        first_attempt_at: before.first_attempt_at.or(Some(attempt.at)),
        last_attempt_at: Some(attempt.at),
        last_http_status: attempt.http_status.or(before.last_http_status),
        owed_since: before.owed_since,
    }
}

/// The same state at another place in the outbox.
fn moved_to(state: &State, due_at: crate::domain::time::UnixMs) -> State {
    match state {
        State::Pending { .. } => State::Pending { due_at },
        State::Failed { reason, .. } => State::Failed { due_at, reason: *reason },
        State::Sent { .. } | State::FailedPermanently { .. } | State::Skipped { .. } | State::Discarded { .. } => {
            state.clone()
        }
    }
}
