//! The books: how many deliveries stand where, and what became of the events of each source.
//!
//! Counters change in the same transaction as the rows they count, so that they are never ahead of or behind them.
//! They count since the store was created: rows that retention removes keep counting.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::delivery::Status;
use crate::domain::id::DestinationId;
use crate::domain::name::SourceName;

/// Deliveries of one destination by status, since the store was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Everything the fan-out ever planned for the destination, skipped ones included.
    pub accepted: u64,
    pub pending: u64,
    pub failed: u64,
    pub sent: u64,
    pub failed_permanently: u64,
    pub skipped: u64,
    pub discarded: u64,
}

/// Events of one source, since the store was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventCounts {
    pub accepted: u64,
    /// Repeats, conflicts included.
    pub duplicates: u64,
    /// Repeats that said something else than the first.
    pub conflicts: u64,
    pub rejected: u64,
}

/// The books, as of a commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    pub deliveries: BTreeMap<DestinationId, Counts>,
    pub events: BTreeMap<SourceName, EventCounts>,
}

impl Counts {
    /// Whether every accepted delivery is in exactly one status (SPEC 2).
    pub fn balanced(&self) -> bool {
        let sum = Status::ALL.iter().try_fold(0_u64, |sum, status| sum.checked_add(self.of(*status)));
        sum == Some(self.accepted)
    }

    /// Deliveries with `status`.
    pub fn of(&self, status: Status) -> u64 {
        match status {
            Status::Pending => self.pending,
            Status::Failed => self.failed,
            Status::Sent => self.sent,
            Status::FailedPermanently => self.failed_permanently,
            Status::Skipped => self.skipped,
            Status::Discarded => self.discarded,
        }
    }

    /// Deliveries that are still to be made.
    pub fn owed(&self) -> u64 {
        self.pending.saturating_add(self.failed)
    }

    /// One more accepted delivery, with `status`.
    pub(super) fn add(&mut self, status: Status) {
        self.accepted = self.accepted.saturating_add(1);
        let slot = self.slot(status);
        *slot = slot.saturating_add(1);
    }

    fn slot(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Pending => &mut self.pending,
            Status::Failed => &mut self.failed,
            Status::Sent => &mut self.sent,
            Status::FailedPermanently => &mut self.failed_permanently,
            Status::Skipped => &mut self.skipped,
            Status::Discarded => &mut self.discarded,
        }
    }
}

/// A working copy of the books during one transaction, which remembers what it changed.
#[derive(Debug)]
pub(super) struct Books {
    pub ledger: Ledger,
    pub touched_destinations: BTreeSet<DestinationId>,
    pub touched_sources: BTreeSet<SourceName>,
}

impl Books {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, touched_destinations: BTreeSet::new(), touched_sources: BTreeSet::new() }
    }

    /// A new delivery.
    pub fn accepted(&mut self, destination: DestinationId, status: Status) {
        self.destination(destination).add(status);
    }

    /// A delivery went from one status to another. A count that cannot go lower stays at zero and the books stop
    /// balancing, which `/status` and `verify` tell.
    pub fn moved(&mut self, destination: DestinationId, from: Status, to: Status) {
        if from == to {
            return;
        }
        let counts = self.destination(destination);
        let slot = counts.slot(from);
        *slot = slot.saturating_sub(1);
        let slot = counts.slot(to);
        *slot = slot.saturating_add(1);
    }

    /// The counters of a source, to be changed.
    pub fn source(&mut self, source: &SourceName) -> &mut EventCounts {
        self.touched_sources.insert(source.clone());
        self.ledger.events.entry(source.clone()).or_default()
    }

    fn destination(&mut self, destination: DestinationId) -> &mut Counts {
        self.touched_destinations.insert(destination);
        self.ledger.deliveries.entry(destination).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_balance_while_deliveries_move() {
        let mut books = Books::new(Ledger::default());
        let destination = DestinationId(3);
        books.accepted(destination, Status::Pending);
        books.accepted(destination, Status::Skipped);
        books.moved(destination, Status::Pending, Status::Failed);
        books.moved(destination, Status::Failed, Status::Failed);
        let counts = books.ledger.deliveries[&destination];
        assert_eq!(counts, Counts { accepted: 2, failed: 1, skipped: 1, ..Counts::default() });
        assert!(counts.balanced());
        assert!(!Counts { sent: 1, ..counts }.balanced());
    }

    #[test]
    fn a_count_below_zero_shows_as_an_imbalance() {
        let mut books = Books::new(Ledger::default());
        books.moved(DestinationId(1), Status::Pending, Status::Sent);
        assert!(!books.ledger.deliveries[&DestinationId(1)].balanced());
    }
}
