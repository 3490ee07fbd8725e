//! What must be true after every step, worked out from the outside: from what peers saw and what senders were told.

use std::collections::BTreeMap;

use postbackd::domain::delivery::State;
use postbackd::domain::id::{DeliveryKey, EventSeq};
use postbackd::domain::time::UnixMs;
use postbackd::store::write::Owed;

use crate::peers::Retried;

/// Whether a delivery is over, as far as an outsider can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// A crash hid whether the outcome was committed.
    Maybe,
    Yes,
}

/// What is known about one delivery.
#[derive(Debug, Clone)]
struct Known {
    /// Counting attempts whose outcome is certainly committed.
    made: u32,
    not_before: UnixMs,
    over: Over,
    in_flight: bool,
    /// An outcome on its way to the disk.
    pending: Option<Outcome>,
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    counts: bool,
    not_before: UnixMs,
    over: bool,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Oracle {
    deliveries: BTreeMap<DeliveryKey, Known>,
    /// Identity → where its event is, once a sender was told.
    pub acknowledged: BTreeMap<u64, EventSeq>,
    /// Identity → variants that may have been the first, as senders may have been cut off.
    pub submitted: BTreeMap<u64, Vec<u64>>,
}

impl Oracle {
    /// A delivery is about to be sent.
    pub fn sending(&mut self, owed: &Owed, now: UnixMs) {
        assert!(matches!(owed.state, State::Pending { .. } | State::Failed { .. }), "sent what is not owed: {owed:?}");
        assert!(owed.due_at <= now, "sent before it was due: {owed:?} at {now}");
        let known = self.deliveries.entry(owed.key).or_insert_with(Known::new);
        assert!(!known.in_flight, "leased twice: {owed:?}");
        assert!(known.pending.is_none(), "leased before the last outcome was committed: {owed:?}");
        assert_ne!(known.over, Over::Yes, "sent again after it was over: {owed:?}");
        assert!(
            now >= known.not_before,
            "sent {} ms too early after {} attempts: {owed:?}",
            known.not_before.since(now).0,
            known.made
        );
        known.in_flight = true;
    }

    /// Counting attempts that are certainly committed.
    pub fn made(&self, key: DeliveryKey) -> u32 {
        self.deliveries.get(&key).map_or(0, |known| known.made)
    }

    /// The exchange is over and its outcome is on its way to the disk.
    pub fn ended(&mut self, key: DeliveryKey, retried: Retried, not_before: UnixMs, dead: bool) {
        let known = self.deliveries.get_mut(&key).expect("it was sent");
        known.in_flight = false;
        known.pending = Some(Outcome {
            counts: retried != Retried::NotCounted,
            not_before,
            over: dead || retried == Retried::Never,
        });
    }

    /// The outcome is committed.
    pub fn settled(&mut self, key: DeliveryKey) {
        let known = self.deliveries.get_mut(&key).expect("it was sent");
        let outcome = known.pending.take().expect("it has ended");
        known.made += u32::from(outcome.counts);
        known.not_before = outcome.not_before;
        known.over = if outcome.over { Over::Yes } else { Over::No };
    }

    /// An operator owes it again.
    pub fn replayed(&mut self, key: DeliveryKey, now: UnixMs) {
        let fresh = Known { not_before: now, ..Known::new() };
        self.deliveries.insert(key, fresh);
    }

    /// An operator asked, and nobody can say whether it was committed.
    pub fn maybe_replayed(&mut self, key: DeliveryKey) {
        if let Some(known) = self.deliveries.get_mut(&key) {
            known.over = Over::Maybe;
            known.not_before = UnixMs(0);
            known.made = 0;
        }
    }

    /// Everything in memory is gone: what was on its way may or may not be on disk.
    pub fn crashed(&mut self) {
        for known in self.deliveries.values_mut() {
            known.in_flight = false;
            if let Some(outcome) = known.pending.take() {
                known.not_before = known.not_before.min(outcome.not_before);
                if outcome.over {
                    known.over = Over::Maybe;
                }
            }
        }
    }

    /// A sender was told that its event is stored at `seq`.
    pub fn acknowledged(&mut self, identity: u64, seq: EventSeq) {
        let first = *self.acknowledged.entry(identity).or_insert(seq);
        assert_eq!(first, seq, "identity {identity} was stored twice");
    }
}

impl Known {
    fn new() -> Self {
        Self { made: 0, not_before: UnixMs(0), over: Over::No, in_flight: false, pending: None }
    }
}
