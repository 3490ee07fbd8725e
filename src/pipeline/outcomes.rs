//! What is to be written and nobody waits for: outcomes of attempts, counts of refused events, statistics.
//!
//! They go along with the next commit that somebody waits for, or after [`COMPANY`] by themselves: at low rates that halves
//! the commits. A crash within that time sends again what was sent, with the same id; nothing is lost by it.

use std::time::Duration;

use crate::domain::limits::OUTCOMES_AT_ONCE;
use crate::store::write::WriteOp;

/// How long they wait for company.
const COMPANY: Duration = Duration::from_millis(10);

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    ops: Vec<WriteOp>,
    /// Since when the first of them waits.
    since: Option<Duration>,
}

impl Outcomes {
    pub(super) fn add(&mut self, ops: Vec<WriteOp>, now: Duration) {
        self.ops.extend(ops);
        self.since.get_or_insert(now);
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How long they may still wait; `None` where there are none. So many that half a transaction is full do not.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let due = self.since?.saturating_add(COMPANY);
        let full = self.ops.len() >= OUTCOMES_AT_ONCE / 2;
        Some(if full { Duration::ZERO } else { due.saturating_sub(now) })
    }

    /// As many as one transaction takes, the eldest first; what is left does not wait any longer.
    pub(super) fn take(&mut self) -> Vec<WriteOp> {
        if self.ops.len() <= OUTCOMES_AT_ONCE {
            self.since = None;
            return std::mem::take(&mut self.ops);
        }
        self.since = Some(Duration::ZERO);
        let rest = self.ops.split_off(OUTCOMES_AT_ONCE);
        std::mem::replace(&mut self.ops, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: usize) -> Vec<WriteOp> {
        let source: crate::domain::name::SourceName = "app".parse().unwrap();
        let count_of = |count| WriteOp::CountRejected { source: source.clone(), count };
        (0..u64::try_from(count).unwrap()).map(count_of).collect()
    }

    #[test]
    fn the_first_says_how_long_they_wait_and_many_wait_for_nobody() {
        let ms = Duration::from_millis;
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.wait(ms(1)), None);
        outcomes.add(some(1), ms(1));
        outcomes.add(some(1), ms(9));
        assert_eq!(outcomes.len(), 2);
        assert_eq!(outcomes.wait(ms(9)), Some(ms(2)));
        assert_eq!(outcomes.wait(ms(30)), Some(ms(0)));
        assert_eq!((outcomes.take().len(), outcomes.wait(ms(30))), (2, None));
        outcomes.add(some(OUTCOMES_AT_ONCE / 2), ms(40));
        assert_eq!(outcomes.wait(ms(40)), Some(ms(0)));
    }

    #[test]
    fn none_is_left_out_however_many_there_are() {
        let mut outcomes = Outcomes::default();
        outcomes.add(some(OUTCOMES_AT_ONCE * 2 + 5), COMPANY);
        let mut taken = Vec::new();
        while !outcomes.is_empty() {
            assert_eq!(outcomes.wait(COMPANY), Some(Duration::ZERO), "the rest has waited long enough");
            let part = outcomes.take();
            assert!(part.len() <= OUTCOMES_AT_ONCE);
            taken.extend(
                part.into_iter()
                    .filter_map(|op| if let WriteOp::CountRejected { count, .. } = op { Some(count) } else { None }),
            );
        }
        assert!(taken.iter().copied().eq((0..).take(OUTCOMES_AT_ONCE * 2 + 5)));
    }
}
