//! What retention does, a slice at a time, beside what others have committed.
//!
//! A slice is a part of a transaction: it goes along with events and outcomes where there are any, and [`super::background`]
//! says when. It ends when its time is over, whatever it has done by then.

use std::cell::Cell;
use std::time::Duration;

use tracing::debug;

use crate::env::clock::Clock;
use crate::store::{Store, StoreError, SweepPlan, Swept};

use super::board::Board;

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
}

impl Retention {
    /// A new order; it takes the place of one that is unfinished.
    pub(super) fn order(&mut self, upkeep: Upkeep) {
        self.unfinished = Some(upkeep);
        self.excess = None;
    }

    pub(super) fn has_work(&self) -> bool {
        self.unfinished.is_some()
    }

    /// What the next slice is to remove, and the bytes to be freed beyond that. After an error nothing goes on before the next
    /// order.
    pub(super) fn next(&mut self, store: &Store) -> Result<Option<(SweepPlan, u64)>, StoreError> {
        let Some(upkeep) = self.unfinished.take() else { return Ok(None) };
        let excess = match (upkeep.size, self.excess) {
            (None, _) => 0,
            (Some(_), Some(excess)) => excess,
            (Some(limit), None) => store.reader().used_bytes()?.saturating_sub(limit),
        };
        self.excess = Some(excess);
        self.unfinished = Some(upkeep);
        Ok(Some((upkeep.plan, excess)))
    }

    /// What came of the slice.
    pub(super) fn swept(&mut self, Swept { rows, freed, ended }: Swept, board: &Board) {
        let Some(upkeep) = self.unfinished else { return };
        let excess = self.excess.unwrap_or(0);
        let left = excess.saturating_sub(freed);
        self.excess = Some(left);
        if rows > 0 {
            debug!(rows, freed, left, "Retention removed rows.");
        }
        let finished = ended && rows == 0;
        if finished || left == 0 {
            board.set_over_size(upkeep.size.filter(|_| left > 0).map(|limit| (left, limit)));
        }
        if finished {
            self.unfinished = None;
        }
    }

    /// A slice did not come through.
    pub(super) fn failed(&mut self) {
        self.unfinished = None;
    }
}

/// Runs from the first time it is looked at.
pub(super) struct Stopwatch<'c> {
    clock: &'c dyn Clock,
    began: Cell<Option<Duration>>,
    last: Cell<Duration>,
}

impl<'c> Stopwatch<'c> {
    pub(super) fn new(clock: &'c dyn Clock) -> Self {
        Self { clock, began: Cell::new(None), last: Cell::new(Duration::ZERO) }
    }

    /// Whether `limit` has passed.
    pub(super) fn is_over(&self, limit: Duration) -> bool {
        let now = self.clock.monotonic();
        let began = self.began.get().unwrap_or(now);
        self.began.set(Some(began));
        self.last.set(now.saturating_sub(began));
        self.last.get() >= limit
    }

    /// What had passed when it was last looked at.
    pub(super) fn passed(&self) -> Duration {
        self.last.get()
    }
}
