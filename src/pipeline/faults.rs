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
