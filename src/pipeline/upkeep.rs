//! What retention does between batches, and when it gives way.
//!
//! One slice is one small transaction. While there is traffic, retention rests [`REST`] times as long as a slice took before
//! the next, so that few batches meet one; without traffic it goes on at once.

use std::time::Duration;

use tracing::debug;

use crate::store::{Shed, Store, StoreError, SweepPlan};

use super::board::Board;

/// Of the writer's time under load retention takes a fifth: less would not keep up with what comes in.
const REST: u32 = 4;

/// What is to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Upkeep {
    pub plan: SweepPlan,
    /// Bytes that rows may take.
    pub size: Option<u64>,
}

/// Retention at work.
#[derive(Debug, Default)]
pub(super) struct Retention {
    unfinished: Option<Upkeep>,
    /// Bytes still to be freed, once they were counted.
    excess: Option<u64>,
    /// Not before this time of the monotonic clock.
    rest_until: Duration,
    /// Something was committed since the last slice.
    traffic: bool,
}

impl Retention {
    /// A new order; it takes the place of one that is unfinished.
    pub(super) fn order(&mut self, upkeep: Upkeep) {
        self.unfinished = Some(upkeep);
        self.excess = None;
    }

    pub(super) fn saw_traffic(&mut self) {
        self.traffic = true;
    }

    /// Whether a slice should be done now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.unfinished.is_some() && now >= self.rest_until
    }

    /// Does one slice. The caller tells when it ended by [`Retention::rest`]. After an error nothing goes on before the next
    /// order.
    pub(super) fn slice(&mut self, store: &mut Store, board: &Board) -> Result<(), StoreError> {
        let Some(upkeep) = self.unfinished.take() else { return Ok(()) };
        let rows = store.sweep(&upkeep.plan)?;
        if rows > 0 {
            debug!(rows, "Retention removed rows.");
        }
        if rows > 0 || self.shed(&upkeep, store, board)? {
            self.unfinished = Some(upkeep);
        }
        Ok(())
    }

    /// Frees what is over the size; whether there is more to do.
    fn shed(&mut self, upkeep: &Upkeep, store: &mut Store, board: &Board) -> Result<bool, StoreError> {
        let Some(limit) = upkeep.size else {
            board.set_over_size(None);
            return Ok(false);
        };
        let excess = match self.excess {
            Some(excess) => excess,
            None => store.reader().used_bytes()?.saturating_sub(limit),
        };
        if excess == 0 {
            self.excess = None;
            board.set_over_size(None);
            return Ok(false);
        }
        let Shed { rows, bytes, ended } = store.shed(excess)?;
        debug!(rows, bytes, excess, "Retention by size removed rows.");
        self.excess = Some(excess.saturating_sub(bytes));
        if ended {
            board.set_over_size(Some((excess, limit)));
        }
        Ok(!ended)
    }

    /// A slice that took so long has ended.
    pub(super) fn rest(&mut self, now: Duration, took: Duration) {
        let busy = std::mem::take(&mut self.traffic);
        self.rest_until = if busy { now.saturating_add(took.saturating_mul(REST)) } else { now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_rests_while_there_is_traffic_and_goes_on_without() {
        let mut retention = Retention::default();
        assert!(!retention.is_due(Duration::MAX), "nothing is ordered");
        retention.order(Upkeep::default());
        assert!(retention.is_due(Duration::ZERO));
        retention.saw_traffic();
        let (now, took) = (Duration::from_millis(100), Duration::from_millis(10));
        retention.rest(now, took);
        assert!(!retention.is_due(now + took * 3) && retention.is_due(now + took * 4));
        retention.rest(now, took);
        assert!(retention.is_due(now), "nobody came meanwhile");
    }
}
