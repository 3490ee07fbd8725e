//! The DLQ by what went wrong: dead deliveries of one destination, reason, answer and normal form are one group.

use std::collections::BTreeMap;

use crate::domain::fault::{FaultId, normal_form};
use crate::domain::id::{DeliveryKey, DestinationId};
use crate::domain::time::UnixMs;
use crate::store::read::{Answered, DlqEntry};

/// Groups told apart; entries beyond are counted together.
pub const GROUPS_MAX: usize = 200;

/// What entries of a group have in common: exactly what a filter can ask for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupKey {
    pub destination: DestinationId,
    pub reason: &'static str,
    pub answered: Answered,
    pub fault: FaultId,
}

/// One group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub count: u64,
    /// The normal form, in which what differs from event to event is made equal.
    pub form: String,
    /// When the first and the last of them died.
    pub first_at: UnixMs,
    pub last_at: UnixMs,
    /// The newest of them.
    pub sample: DeliveryKey,
}

/// Everything seen so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    pub groups: BTreeMap<GroupKey, Group>,
    /// Entries in none of [`GROUPS_MAX`] groups.
    pub others: u64,
    pub entries: u64,
}

impl Faults {
    /// Entries come newest receipt first.
    pub fn take(&mut self, row: &DlqEntry) {
        use crate::domain::delivery::State;
        let State::FailedPermanently { at, reason } = row.entry.delivery.state else { return };
        self.entries = self.entries.saturating_add(1);
        let form = normal_form(&row.autopsy.detail, &row.autopsy.response);
        let key = GroupKey {
            destination: row.entry.key.destination,
            reason: reason.as_str(),
            answered: row.autopsy.http_status.into(),
            fault: FaultId::of(&form),
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.count = group.count.saturating_add(1);
            group.first_at = group.first_at.min(at);
            group.last_at = group.last_at.max(at);
        } else if self.groups.len() < GROUPS_MAX {
            let group = Group { count: 1, form, first_at: at, last_at: at, sample: row.entry.key };
            self.groups.insert(key, group);
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    /// The groups, largest first.
    pub fn ranked(&self) -> Vec<(&GroupKey, &Group)> {
        let mut ranked: Vec<_> = self.groups.iter().collect();
        ranked.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::delivery::{Autopsy, Delivery, History, State};
    use crate::domain::event::tests::sample;
    use crate::domain::id::EventSeq;
    use crate::domain::outcome::DeadReason;
    use crate::store::read::DeliveryEntry;

    fn dead(seq: u64, at: u64, http_status: u16) -> DlqEntry {
        let state = State::FailedPermanently { at: UnixMs(at), reason: DeadReason::Permanent };
        let (received_at, target, history) = (UnixMs(1), None, History::new(UnixMs(1)));
        let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
        let delivery = Delivery { received_at, target, state, history };
        let (detail, request, response) = (format!("no user {seq}"), None, String::new());
        let autopsy = Autopsy { detail, request, http_status: Some(http_status), response };
        DlqEntry { entry: DeliveryEntry { key, delivery, event: Arc::new(sample()) }, autopsy }
    }

    #[test]
    fn what_is_in_none_of_the_groups_that_are_told_apart_is_counted_all_the_same() {
        let mut faults = Faults::default();
        // The newest first, and not in the order in which they died.
        for (seq, at) in [(9, 30), (8, 10), (7, 20)] {
            faults.take(&dead(seq, at, 99));
        }
        let groups_max = u16::try_from(GROUPS_MAX).unwrap();
        for group in 1..groups_max {
            faults.take(&dead(6, 1, 100 + group));
        }
        faults.take(&dead(5, 1, 999));
        faults.take(&dead(4, 1, 998));
        faults.take(&dead(3, 5, 99));
        assert_eq!((faults.groups.len(), faults.others, faults.entries), (GROUPS_MAX, 2, 3 + 199 + 2 + 1));
        let ranked = faults.ranked();
        let (_, largest) = ranked.first().unwrap();
        assert_eq!((largest.count, largest.first_at, largest.last_at), (4, UnixMs(5), UnixMs(30)));
        assert_eq!((largest.sample.seq, largest.form.as_str()), (EventSeq(9), "no user #"));
        assert_eq!(ranked.len(), GROUPS_MAX);
    }
}
