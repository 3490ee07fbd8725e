//! What the world is checked for: cheaply after every happening, wholly after every restart and at the end.

use postbackd::destination::Kind;
use postbackd::domain::delivery::Status;
use postbackd::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq};
use postbackd::domain::limits::RESPONSE_EXCERPT_BYTES;
use postbackd::store::read::{Bodies, Reader};

use crate::oracle::Repeats;
use crate::peers::{POISON, Received};
use crate::world::{Happening, World};

impl World {
    pub(super) fn is_quiet(&self) -> bool {
        let Some(life) = &self.life else { return false };
        let owed: u64 = life.reader.ledger().deliveries.values().map(|counts| counts.pending + counts.failed).sum();
        owed == 0
            && !self.agenda.values().any(|happening| matches!(happening, Happening::Submit(_)))
            && life.queue.is_empty()
    }

    /// Why it is not quiet, in words.
    pub(super) fn what_is_left(&self) -> String {
        let Some(life) = &self.life else { return "no daemon runs".to_owned() };
        let lanes = life.scheduler.lanes().map(|(id, lane)| {
            let owed = life.reader.outbox_page(id, None, 3, Bodies::NONE).expect("readable");
            (id, lane.state().clone(), lane.in_flight(), lane.known(), owed)
        });
        let lanes: Vec<_> = lanes.filter(|(.., owed)| !owed.is_empty()).collect();
        format!("at {} by its clock {} requests wait; {lanes:#?}", self.wall(), life.queue.len())
    }

    /// Every acknowledged event is there with every delivery, but for what retention may have removed.
    pub(super) fn check_acknowledged(&self) {
        if let Some(life) = &self.life {
            self.check_stored(&life.reader);
        }
    }

    /// The same of some other store that must hold as much.
    pub(super) fn check_stored(&self, reader: &Reader) {
        for (identity, seq) in &self.oracle.acknowledged {
            if let Some(stored) = reader.event(*seq).expect("readable") {
                assert_eq!(stored.event_id.as_deref(), Some(format!("order-{identity}").as_str()));
            } else {
                assert!(self.oracle.events_swept, "identity {identity} was acknowledged and is lost");
            }
            let trace = reader.trace(*seq).expect("readable");
            for destination in self.ids.values() {
                let key = DeliveryKey { seq: *seq, destination: *destination };
                if trace.iter().any(|(found, _, _)| found == destination) {
                    continue;
                }
                assert!(self.oracle.events_swept, "{key:?} of identity {identity} is lost");
                assert!(
                    self.is_skipped(*identity, key) || self.oracle.may_be_over(key),
                    "{key:?} was removed too early"
                );
            }
        }
    }

    /// Whether the destination does not want the event (see the setup's map).
    fn is_skipped(&self, identity: u64, key: DeliveryKey) -> bool {
        identity.is_multiple_of(5)
            && self.ids.iter().any(|(name, id)| *id == key.destination && name.as_str() == "gamma")
    }

    pub(super) fn final_check(&mut self) {
        self.check_acknowledged();
        let life = self.life.as_ref().expect("alive at the end");
        let findings = life.reader.verify().expect("readable");
        assert!(findings.is_empty(), "at the end: {findings:#?}");
        let Repeats { crashes, doubts, restores } = self.oracle.repeats;
        self.tally.repeats_after_crash += crashes;
        self.tally.repeats_after_doubt += doubts;
        self.tally.repeats_after_restore += restores;
        self.tally.floods += self.peers.values().map(|peer| peer.floods).sum::<u64>();
        self.tally.followed += self.peers.values().map(|peer| peer.followed).sum::<u64>();
        let acknowledged: Vec<(u64, EventSeq)> = self.oracle.acknowledged.iter().map(|(i, s)| (*i, *s)).collect();
        for (identity, seq) in acknowledged {
            for (destination, delivery, attempts) in life.reader.trace(seq).expect("readable") {
                let key = DeliveryKey { seq, destination };
                let id = DeliveryId { instance: life.instance, key };
                let received = self.received(identity, key, &id);
                let longest = attempts.iter().map(|attempt| attempt.response.len()).max();
                assert!(longest <= Some(RESPONSE_EXCERPT_BYTES), "{id} keeps {longest:?} bytes of an answer");
                match delivery.state.status() {
                    Status::Sent => assert!(received.accepted >= 1, "{id} counts as sent and was never accepted"),
                    Status::FailedPermanently => {
                        let unsendable = matches!(delivery.state.reason(), Some("invalid" | "expired"));
                        let tried = self.oracle.attempts_swept || !attempts.is_empty();
                        assert!(tried || unsendable, "{id} died without an attempt");
                        let innocent = !received.body.contains(POISON);
                        let refused = delivery.state.reason() == Some("permanent");
                        assert!(!(refused && innocent), "{id} died for its company");
                    }
                    Status::Discarded => assert!(self.oracle.discard_asked.contains(&key), "nobody discarded {id}"),
                    Status::Skipped => assert_eq!(received.times, 0, "{id} was skipped and sent"),
                    owed @ (Status::Pending | Status::Failed) => {
                        panic!("identity {identity}: {id} is {} at the end", owed.as_str())
                    }
                }
            }
        }
    }

    /// What the receiver saw of a delivery: webhooks carry its id, batches the sender's.
    fn received(&self, identity: u64, key: DeliveryKey, id: &DeliveryId) -> Received {
        let destination = self.destination(key.destination);
        let known = match destination.kind {
            Kind::FbCapi => {
                let name = if identity.is_multiple_of(5) { "Contact" } else { "Purchase" };
                format!("\"{name}\"/\"order-{identity}\"")
            }
            Kind::Webhook | Kind::S2sPostback => id.to_string(),
        };
        self.peers[&key.destination].received.get(&known).cloned().unwrap_or_default()
    }

    /// Cheap checks after every happening.
    pub(super) fn look(&mut self) {
        let Some(life) = &self.life else { return };
        for (id, lane) in life.scheduler.lanes() {
            assert!(lane.in_flight() <= self.limit_of(id), "more in flight than allowed");
        }
        // What was under way when a limit was lowered ends, and nothing takes its place.
        let now: Vec<_> = life.scheduler.lanes().map(|(id, lane)| (id, lane.in_flight())).collect();
        for (id, in_flight) in now {
            self.granted.entry(id).and_modify(|granted| *granted = in_flight);
        }
        self.watch();
    }

    /// Exchanges a lane may have in flight.
    pub(super) fn limit_of(&self, id: DestinationId) -> usize {
        let granted = self.granted.get(&id).copied().unwrap_or_default();
        let limit = self.limits.get(&id).copied().unwrap_or(self.destination(id).lane.concurrency);
        limit.max(granted)
    }
}
