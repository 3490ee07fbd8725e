//! Splitting a refused request: its deliveries come back in two halves, each of which is sent again by itself.
//!
//! ```text
//!   refused as a whole: 1 2 3 4 5 6 7 8  ──>  1 2 3 4 | 5 6 7 8  ──>  5 6 | 7 8  ──>  5 | 6     6 is guilty
//! ```
//!
//! Each step halves what is sent together, so a guilty delivery stands alone after at most log2 of the batch's size, and
//! then the destination's answer is about it alone. A half is sent once the outcomes of all its members are committed, and
//! never together with others: what may be guilty must not take new neighbours down.
//!
//! A cache like everything in a lane: a restart gathers anew, and is refused and splits anew.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::id::EventSeq;
use crate::store::write::Owed;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Halves {
    /// The half each delivery belongs to.
    of: BTreeMap<EventSeq, u64>,
    gathering: BTreeMap<u64, Half>,
    /// Halves that may be sent, oldest first; never empty ones.
    whole: VecDeque<Vec<Owed>>,
    next: u64,
}

#[derive(Debug, Default)]
struct Half {
    /// Members whose outcome is not committed yet.
    missing: usize,
    back: Vec<Owed>,
}

impl Halves {
    /// The request that carried `members` was refused as a whole; they are expected back.
    pub(super) fn split(&mut self, members: &[EventSeq]) {
        let (front, rear) = members.split_at(members.len().div_ceil(2));
        for half in [front, rear].into_iter().filter(|half| !half.is_empty()) {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            self.of.extend(half.iter().map(|seq| (*seq, number)));
            self.gathering.insert(number, Half { missing: half.len(), back: Vec::new() });
        }
    }

    /// A delivery is owed again; it is given back where it belongs to no half.
    pub(super) fn take(&mut self, owed: Owed) -> Option<Owed> {
        let Some(number) = self.of.remove(&owed.key.seq) else { return Some(owed) };
        let half = self.gathering.entry(number).or_default();
        half.back.push(owed);
        self.one_less(number);
        None
    }

    /// A delivery is over, or has moved on: its half goes without it.
    pub(super) fn forget(&mut self, seq: EventSeq) {
        if let Some(number) = self.of.remove(&seq) {
            self.one_less(number);
        }
    }

    fn one_less(&mut self, number: u64) {
        let Some(half) = self.gathering.get_mut(&number) else { return };
        half.missing = half.missing.saturating_sub(1);
        if half.missing == 0
            && let Some(half) = self.gathering.remove(&number)
            && !half.back.is_empty()
        {
            self.whole.push_back(half.back);
        }
    }

    /// Whether a half could be sent now.
    pub(super) fn is_ready(&self) -> bool {
        !self.whole.is_empty()
    }

    /// The next half to send. Where `most` is less than all of it, what is left is the next, and stays by itself as well.
    pub(super) fn pop(&mut self, most: usize) -> Option<Vec<Owed>> {
        let mut half = self.whole.pop_front()?;
        if half.len() > most.max(1) {
            let rest = half.split_off(most.max(1));
            self.whole.push_front(rest);
        }
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::delivery::{History, State};
    use crate::domain::id::{DeliveryKey, DestinationId};
    use crate::domain::time::UnixMs;

    #[test]
    fn a_half_that_just_fits_leaves_nothing() {
        let mut halves = Halves::default();
        halves.split(&[EventSeq(1), EventSeq(2)]);
        for seq in [1, 2] {
            assert!(halves.take(owed(seq)).is_none() && halves.is_ready());
            assert_eq!(halves.pop(1).map(|half| half.len()), Some(1));
            assert!(!halves.is_ready());
        }
    }

    fn owed(seq: u64) -> Owed {
        let due_at = UnixMs(1);
        Owed {
            key: DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) },
            due_at,
            state: State::Pending { due_at },
            history: History::new(due_at),
            target: "deposit".parse().unwrap(),
            event: None,
        }
    }

    fn seqs(range: std::ops::Range<u64>) -> Vec<EventSeq> {
        range.map(EventSeq).collect()
    }

    fn numbers(half: Option<Vec<Owed>>) -> Vec<u64> {
        half.into_iter().flatten().map(|owed| owed.key.seq.0).collect()
    }

    #[test]
    fn a_half_is_sent_when_all_of_it_is_back_and_goes_alone() {
        let mut halves = Halves::default();
        halves.split(&seqs(1..6));
        for seq in [1, 4, 2] {
            assert!(halves.take(owed(seq)).is_none());
        }
        assert!(!halves.is_ready(), "3 and 5 are not committed yet");
        assert!(halves.take(owed(9)).is_some(), "a stranger belongs to no half");
        assert!(halves.take(owed(3)).is_none());
        assert_eq!(numbers(halves.pop(usize::MAX)), [1, 2, 3]);
        assert!(halves.take(owed(5)).is_none());
        assert_eq!(numbers(halves.pop(usize::MAX)), [4, 5]);
        assert!(halves.take(owed(5)).is_some(), "what was sent again is nobody's half");
    }

    #[test]
    fn a_half_does_not_wait_for_a_member_that_is_over() {
        let mut halves = Halves::default();
        halves.split(&seqs(1..4));
        halves.forget(EventSeq(2));
        assert!(halves.take(owed(1)).is_none());
        assert_eq!(numbers(halves.pop(usize::MAX)), [1]);
        halves.forget(EventSeq(3));
        assert!(halves.pop(usize::MAX).is_none(), "an empty half is not sent");
        assert!(halves.of.is_empty() && halves.gathering.is_empty());
    }

    proptest! {
        /// Whoever is guilty is alone after log2 steps, the others are sent, and nobody is lost or sent twice.
        #[test]
        fn the_guilty_are_found_within_log2_steps(count in 1_u64..300, guilty in prop::collection::btree_set(0_u64..300, 0..5)) {
            let mut halves = Halves::default();
            let (mut sent, mut dead) = (Vec::new(), Vec::new());
            let mut requests = vec![(0..count).collect::<Vec<u64>>()];
            let mut steps = 0;
            let mut made = 0;
            while !requests.is_empty() {
                for request in std::mem::take(&mut requests) {
                    made += 1;
                    if !request.iter().any(|seq| guilty.contains(seq)) {
                        sent.extend(request);
                    } else if let [alone] = request[..] {
                        dead.push(alone);
                    } else {
                        halves.split(&request.iter().copied().map(EventSeq).collect::<Vec<_>>());
                        prop_assert!(request.iter().all(|seq| halves.take(owed(*seq)).is_none()));
                    }
                }
                while let Some(half) = halves.pop(usize::MAX) {
                    requests.push(numbers(Some(half)));
                }
                steps += 1;
            }
            sent.sort_unstable();
            dead.sort_unstable();
            let culprits: Vec<u64> = guilty.iter().copied().filter(|seq| *seq < count).collect();
            let innocent: Vec<u64> = (0..count).filter(|seq| !guilty.contains(seq)).collect();
            let log2 = usize::try_from(count.next_power_of_two().trailing_zeros()).unwrap();
            prop_assert_eq!(&dead, &culprits);
            prop_assert_eq!(sent, innocent);
            prop_assert!(steps <= log2 + 1, "{} steps for {} deliveries", steps, count);
            prop_assert!(made <= 1 + 2 * log2 * dead.len(), "{} requests for {:?}", made, dead);
        }
    }
}
