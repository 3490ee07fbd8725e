//! The store against a model of a few lines, on a disk that fails, fills up and loses power.
//!
//! Whatever happens in whatever order: what was committed is there after opening again, a repeat of it is a repeat, the rows
//! agree with each other, and the books balance. What failed may be there or not, but whole.

#![no_main]

#[allow(dead_code, reason = "the simulator uses more of it")]
#[path = "../../tests/sim/disk.rs"]
mod disk;
#[path = "../../tests/sim/rng.rs"]
#[allow(dead_code, reason = "the simulator uses more of it")]
mod rng;

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use disk::{Disk, Fault};
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::delivery::Status;
use postbackd::domain::event::{Event, OccurredAt};
use postbackd::domain::id::{DeliveryKey, DestinationId, EventSeq};
use postbackd::domain::json_object::JsonObject;
use postbackd::domain::outcome::{DeadReason, Disposition, RetryReason, SkipReason};
use postbackd::domain::time::UnixMs;
use postbackd::store::write::{Accept, Applied, Discard, Planned, Replay, Settle, WriteOp};
use postbackd::store::{Options, Store, SweepPlan};
use rng::Rng;

#[derive(Arbitrary, Debug)]
enum Step {
    /// One transaction.
    Commit(Vec<Op>),
    Sweep {
        events: u8,
        dlq: u8,
        dedupe: u8,
    },
    Reopen,
    Arm {
        after: u8,
        fault: Trouble,
    },
    CutPower,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Accept { id: u8, owed: [Option<bool>; 3] },
    Settle { pick: u8, stale: bool, outcome: Outcome },
    Replay { pick: u8 },
    Discard { pick: u8 },
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Outcome {
    Sent,
    Retry,
    Dead,
    Keep,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Trouble {
    Full,
    StaysFull,
    PowerCut,
    SyncLost,
}

#[derive(Arbitrary, Debug)]
struct Input {
    seed: u64,
    steps: Vec<Step>,
}

/// What the model knows to be on disk.
#[derive(Default)]
struct Model {
    /// Acknowledged events by id; those of failed commits are not in it.
    events: BTreeMap<u8, EventSeq>,
    /// The last status that is certain, for deliveries that were not touched by a failed commit since.
    deliveries: BTreeMap<DeliveryKey, Status>,
    swept: bool,
}

const OPTIONS: Options = Options { cache: 1024 * 1024 };
const STEPS: usize = 24;
const OPS: usize = 16;

fn event(id: u8, now: u64) -> Event {
    Event {
        source: "app".parse().expect("a name"),
        canonical: "deposit".parse().expect("a name"),
        event_id: Some(id.to_string()),
        uid: None,
        occurred_at: OccurredAt::Received(UnixMs(now)),
        received_at: UnixMs(now),
        value: None,
        currency: None,
        action_source: None,
        user: JsonObject::default(),
        click: JsonObject::default(),
        page: JsonObject::default(),
        data: JsonObject::default(),
    }
}

fn plan(owed: [Option<bool>; 3]) -> Vec<Planned> {
    let of = |(number, owed): (u32, Option<bool>)| {
        let destination = DestinationId(number);
        owed.map(|owed| {
            if owed {
                Planned::Owe { destination, target: "lead".parse().expect("a name") }
            } else {
                Planned::Skip { destination, reason: SkipReason::Unmapped }
            }
        })
    };
    (1..).zip(owed).filter_map(of).collect()
}

/// The operation, and the delivery it may change; `None` where there is nothing to do it to.
fn write_op(op: &Op, store: &Store, model: &Model, now: u64) -> Option<(WriteOp, Option<DeliveryKey>)> {
    let pick = |pick: u8, wanted: &dyn Fn(Status) -> bool| {
        let known: Vec<DeliveryKey> =
            model.deliveries.iter().filter(|(_, status)| wanted(**status)).map(|(key, _)| *key).collect();
        (!known.is_empty()).then(|| known[usize::from(pick) % known.len()])
    };
    let is_dead = |status: Status| status == Status::FailedPermanently;
    match op {
        Op::Accept { id, owed } => {
            let event = Arc::new(event(*id, now));
            let key = store.hash_key().dedupe_key(&event, &Discriminator::EventId(id.to_string()));
            let content = store.hash_key().content(&event);
            let (heard_at, repeat_since) = (event.received_at, UnixMs(0));
            let accept = Accept { event, key, content, heard_at, repeat_since, plan: plan(*owed) };
            Some((WriteOp::Accept(accept), None))
        }
        Op::Settle { pick: place, stale, outcome } => {
            let key = pick(*place, &|status| matches!(status, Status::Pending | Status::Failed))?;
            let due_at = store.reader().delivery(key).ok()??.state.due_at()?;
            let due_at = UnixMs(due_at.0 + u64::from(*stale));
            let disposition = match outcome {
                Outcome::Sent => Disposition::Sent,
                Outcome::Retry => Disposition::Retry { at: UnixMs(now + 7), reason: RetryReason::Transient },
                Outcome::Dead => Disposition::Dead { reason: DeadReason::Permanent },
                Outcome::Keep => Disposition::Keep { at: UnixMs(now + 3) },
            };
            let settle = Settle { key, due_at, at: UnixMs(now), attempt: None, disposition, autopsy: None };
            Some((WriteOp::Settle(settle), Some(key)))
        }
        Op::Replay { pick: place } => {
            let key = pick(*place, &is_dead)?;
            Some((WriteOp::Replay(Replay { at: UnixMs(now), keys: vec![key] }), Some(key)))
        }
        Op::Discard { pick: place } => {
            let key = pick(*place, &is_dead)?;
            Some((WriteOp::Discard(Discard { at: UnixMs(now), keys: vec![key], reason: "x".to_owned() }), Some(key)))
        }
    }
}

impl Model {
    fn commit(&mut self, store: &mut Store, ops: &[Op], now: u64) -> bool {
        let (mut writes, mut touched, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for op in ops.iter().take(OPS) {
            if let Some((write, key)) = write_op(op, store, self, now) {
                writes.push(write);
                touched.push(key);
                ids.push(if let Op::Accept { id, .. } = op { Some(*id) } else { None });
            }
        }
        let Ok(applied) = store.commit(&writes) else {
            // Either all of it happened or nothing.
            for key in touched.into_iter().flatten() {
                self.deliveries.remove(&key);
            }
            return false;
        };
        assert_eq!(applied.len(), writes.len());
        for (id, done) in ids.into_iter().zip(&applied) {
            match (id, done) {
                (Some(id), Applied::Queued(queued)) => {
                    let known = self.events.insert(id, queued.seq);
                    assert!(known.is_none() || self.swept, "event {id} was acknowledged and is taken as new");
                }
                (Some(id), Applied::Duplicate { first, .. }) => {
                    let known = *self.events.entry(id).or_insert(*first);
                    assert_eq!(known, *first, "event {id}");
                }
                _ => {}
            }
        }
        self.learn(store);
        true
    }

    /// What is on disk now, after a commit that is certain.
    fn learn(&mut self, store: &Store) {
        let reader = store.reader();
        let sound = |key| reader.delivery(key).expect("readable").map(|delivery| delivery.state.status());
        for seq in self.events.values() {
            for number in 1..=3 {
                let key = DeliveryKey { seq: *seq, destination: DestinationId(number) };
                if let Some(status) = sound(key) {
                    self.deliveries.insert(key, status);
                }
            }
        }
        self.deliveries.retain(|key, _| sound(*key).is_some());
    }

    fn check(&self, store: &Store) {
        let reader = store.reader();
        let findings = reader.verify().expect("readable");
        assert!(findings.is_empty(), "{findings:?}");
        assert!(reader.ledger().deliveries.values().all(|counts| counts.balanced()), "the books");
        for (key, status) in &self.deliveries {
            let found = reader.delivery(*key).expect("readable").map(|delivery| delivery.state.status());
            assert!(found == Some(*status) || (found.is_none() && self.swept), "{key:?}: {found:?}, not {status:?}");
        }
        if !self.swept {
            for (id, seq) in &self.events {
                assert!(reader.event(*seq).expect("readable").is_some(), "event {id} was acknowledged and is gone");
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let (disk, rng) = (Disk::default(), Rng::new(input.seed));
    let handle = disk.clone();
    let mut store = Store::open_backend(move || Ok(handle.clone()), OPTIONS, &rng).expect("a new store");
    let mut model = Model::default();
    for (now, step) in (1000_u64..).step_by(10).zip(input.steps.iter().take(STEPS)) {
        let fine = match step {
            Step::Commit(ops) => model.commit(&mut store, ops, now),
            Step::Sweep { events, dlq, dedupe } => {
                let at = |age: u8| Some(UnixMs(now.saturating_sub(u64::from(age))));
                let plan = SweepPlan {
                    events_before: at(*events),
                    attempts_before: at(*events),
                    dlq_before: at(*dlq),
                    dedupe_before: at(*dedupe),
                    known: None,
                };
                model.swept = true;
                store.sweep(&plan).is_ok()
            }
            Step::Reopen => store.reopen().is_ok(),
            Step::Arm { after, fault } => {
                let fault = match fault {
                    Trouble::Full => Fault::Full,
                    Trouble::StaysFull => Fault::StaysFull,
                    Trouble::PowerCut => Fault::PowerCut,
                    Trouble::SyncLost => Fault::SyncLost,
                };
                disk.arm(u64::from(*after), fault);
                true
            }
            Step::CutPower => {
                disk.cut_power(&rng);
                false
            }
        };
        if !fine {
            if disk.is_dead() {
                disk.cut_power(&rng);
            }
            disk.disarm();
            store.reopen().expect("opens once the trouble is over");
            if model.swept {
                model.learn(&store);
            }
            model.check(&store);
        }
    }
    disk.disarm();
    if disk.is_dead() {
        disk.cut_power(&rng);
    }
    store.reopen().expect("opens once the trouble is over");
    model.check(&store);
});
