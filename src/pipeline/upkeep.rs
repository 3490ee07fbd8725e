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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::domain::dedupe::Discriminator;
    use crate::domain::event::tests::sample;
    use crate::domain::time::UnixMs;
    use crate::env::entropy::Entropy;
    use crate::store::Options;
    use crate::store::write::{Accept, WriteOp};

    struct Dice;

    impl Entropy for Dice {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    fn upkeep(size: Option<u64>) -> Upkeep {
        Upkeep { plan: SweepPlan { events_before: Some(UnixMs(5)), ..SweepPlan::default() }, size }
    }

    fn swept(rows: usize, freed: u64, ended: bool) -> Swept {
        Swept { rows, freed, ended }
    }

    #[test]
    fn an_order_is_worked_off_until_a_slice_came_to_the_end_and_did_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice).unwrap();
        let (mut retention, board) = (Retention::default(), Board::default());
        assert_eq!((retention.has_work(), retention.next(&store).unwrap()), (false, None));
        retention.order(upkeep(None));
        for slice in [swept(9, 0, true), swept(0, 0, false), swept(3, 0, false)] {
            retention.swept(slice, &board);
            assert_eq!(retention.next(&store).unwrap(), Some((upkeep(None).plan, 0)), "{slice:?}");
        }
        retention.swept(swept(0, 0, true), &board);
        assert_eq!((retention.has_work(), retention.next(&store).unwrap()), (false, None));
        retention.order(upkeep(None));
        assert!(retention.has_work());
        retention.failed();
        assert!(!retention.has_work());
    }

    #[test]
    fn what_is_over_the_size_is_counted_once_and_told_where_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice).unwrap();
        let (event, hash_key) = (Arc::new(sample()), store.hash_key());
        let accept = Accept {
            key: hash_key.dedupe_key(&event, &Discriminator::OccurredAtMs(1)),
            content: hash_key.content(&event),
            heard_at: event.received_at,
            repeat_since: UnixMs(0),
            plan: Vec::new(),
            event,
        };
        store.commit(&[WriteOp::Accept(accept)]).unwrap();
        let used = store.reader().used_bytes().unwrap();
        let limit = used - 10;
        let (mut retention, board) = (Retention::default(), Board::default());
        let excess = |retention: &mut Retention| retention.next(&store).unwrap().map(|(_, excess)| excess);
        retention.order(upkeep(Some(used)));
        assert_eq!(excess(&mut retention), Some(0));
        retention.order(upkeep(Some(limit)));
        assert_eq!(excess(&mut retention), Some(10));
        retention.swept(swept(1, 4, false), &board);
        assert_eq!((excess(&mut retention), board.health().over_size), (Some(6), None), "it is not over yet");
        retention.swept(swept(0, 0, true), &board);
        assert_eq!((retention.has_work(), board.health().over_size), (false, Some((6, limit))), "nothing else may go");
        retention.order(upkeep(Some(limit)));
        assert_eq!(excess(&mut retention), Some(10), "counted anew");
        retention.swept(swept(2, 12, false), &board);
        assert_eq!((excess(&mut retention), board.health().over_size), (Some(0), None));
    }

    /// A clock on which so much passes with every look.
    #[derive(Default)]
    struct Steps(AtomicU32);

    impl Steps {
        const EACH: Duration = Duration::from_millis(7);
    }

    impl Clock for Steps {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn monotonic(&self) -> Duration {
            Self::EACH * self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_watch_runs_from_the_first_look_and_says_what_had_passed_at_the_last() {
        let clock = Steps::default();
        let watch = Stopwatch::new(&clock);
        assert_eq!(watch.passed(), Duration::ZERO);
        let limit = 2 * Steps::EACH;
        assert_eq!([(); 4].map(|()| watch.is_over(limit)), [false, false, true, true]);
        assert_eq!(watch.passed(), 3 * Steps::EACH);
    }
}
