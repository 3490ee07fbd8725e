//! What the world is checked for: cheaply after every happening, wholly after every restart and at the end.

use postbackd::domain::delivery::Status;
use postbackd::domain::id::{DeliveryId, DeliveryKey, EventSeq};

use crate::world::{Happening, World};

impl World {
    pub(super) fn is_quiet(&self) -> bool {
        let Some(life) = &self.life else { return false };
        let owed: u64 = life.reader.ledger().deliveries.values().map(|counts| counts.pending + counts.failed).sum();
        owed == 0
            && !self.agenda.values().any(|happening| matches!(happening, Happening::Submit(_)))
            && life.queue.is_empty()
    }

    pub(super) fn check_acknowledged(&self) {
        let Some(life) = &self.life else { return };
        for (identity, seq) in &self.oracle.acknowledged {
            let stored = life.reader.event(*seq).expect("readable");
            let stored = stored.unwrap_or_else(|| panic!("identity {identity} was acknowledged and is lost"));
            assert_eq!(stored.event_id.as_deref(), Some(format!("order-{identity}").as_str()));
            assert_eq!(life.reader.trace(*seq).expect("readable").len(), self.ids.len(), "identity {identity}");
        }
    }

    pub(super) fn final_check(&mut self) {
        self.check_acknowledged();
        let life = self.life.as_ref().expect("alive at the end");
        let findings = life.reader.verify().expect("readable");
        assert!(findings.is_empty(), "at the end: {findings:#?}");
        let acknowledged: Vec<(u64, EventSeq)> = self.oracle.acknowledged.iter().map(|(i, s)| (*i, *s)).collect();
        for (identity, seq) in acknowledged {
            for (destination, delivery, attempts) in life.reader.trace(seq).expect("readable") {
                let id = DeliveryId { instance: life.instance, key: DeliveryKey { seq, destination } };
                let received = self.peers[&destination].received.get(&id.to_string()).cloned().unwrap_or_default();
                self.tally.repeats += received.accepted.saturating_sub(1);
                match delivery.state.status() {
                    Status::Sent => assert!(received.accepted >= 1, "{id} counts as sent and was never accepted"),
                    Status::FailedPermanently => assert!(!attempts.is_empty(), "{id} died without an attempt"),
                    Status::Skipped => assert_eq!(received.times, 0, "{id} was skipped and sent"),
                    owed @ (Status::Pending | Status::Failed | Status::Discarded) => {
                        panic!("identity {identity}: {id} is {} at the end", owed.as_str())
                    }
                }
            }
        }
    }

    /// Cheap checks after every happening.
    pub(super) fn look(&self) {
        let Some(life) = &self.life else { return };
        for (id, lane) in life.scheduler.lanes() {
            assert!(lane.in_flight() <= self.destination(id).lane.concurrency, "more in flight than allowed");
        }
    }
}
