//! Random operations against a model of a few lines: after each step the store says what the model says, and its rows
//! agree with each other; also after it was closed like a crash and opened again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::delivery::Status;

#[derive(Clone, Debug)]
enum Step {
    /// Event ids are few, so that repeats happen; each destination is owed or skipped.
    Accept {
        id: u8,
        value: u8,
        plan: [Option<bool>; 3],
    },
    Settle {
        pick: u16,
        stale: bool,
        exchange: bool,
        outcome: Outcome,
    },
    Replay {
        pick: u16,
    },
    Discard {
        pick: u16,
    },
    Purge {
        destination: u32,
        limit: usize,
        under_way: u16,
    },
    Sweep {
        events: u16,
        dlq: u16,
        dedupe: u16,
    },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Sent,
    Retry,
    Dead,
    Keep,
}

fn steps() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just(Outcome::Sent), Just(Outcome::Retry), Just(Outcome::Dead), Just(Outcome::Keep)];
    prop_oneof![
        6 => (0..12_u8, 0..2_u8, any::<[Option<bool>; 3]>()).prop_map(|(id, value, plan)| Step::Accept { id, value, plan }),
        10 => (any::<u16>(), prop::bool::weighted(0.1), any::<bool>(), outcome)
            .prop_map(|(pick, stale, exchange, outcome)| Step::Settle { pick, stale, exchange, outcome }),
        2 => any::<u16>().prop_map(|pick| Step::Replay { pick }),
        2 => any::<u16>().prop_map(|pick| Step::Discard { pick }),
        1 => (1..4_u32, 0..4_usize, any::<u16>())
            .prop_map(|(destination, limit, under_way)| Step::Purge { destination, limit, under_way }),
        2 => (0..100_u16, 0..100_u16, 0..100_u16).prop_map(|(events, dlq, dedupe)| Step::Sweep { events, dlq, dedupe }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    status: Status,
    due_at: Option<u64>,
    counted: u32,
    since_owed: u32,
    exchanges: u32,
}

#[derive(Default)]
struct Model {
    deliveries: BTreeMap<DeliveryKey, Known>,
    /// Value of the first event with an id.
    events: BTreeMap<u8, (EventSeq, u8)>,
    swept: bool,
}

impl Model {
    fn pick(&self, pick: u16, wanted: impl Fn(&Known) -> bool) -> Option<DeliveryKey> {
        let some: Vec<_> = self.deliveries.iter().filter(|(_, known)| wanted(known)).map(|(key, _)| *key).collect();
        (!some.is_empty()).then(|| some[usize::from(pick) % some.len()])
    }

    fn accept(&mut self, store: &mut Store, now: u64, (id, value): (u8, u8), plan: [Option<bool>; 3]) {
        let event = Event { value: value.to_string().parse().ok(), ..event(&id.to_string(), now) };
        let planned = (1..).zip(plan).filter_map(|(number, owed)| {
            let destination = DestinationId(number);
            owed.map(|owed| if owed { owe(destination) } else { skip(destination) })
        });
        let op = store.accept_op(event, planned.collect());
        match (store.one(op), self.events.get(&id).copied()) {
            (Applied::Duplicate { first, conflict }, Some((known, before))) => {
                assert_eq!((first, conflict), (known, before != value));
            }
            // Retention may have forgotten the first.
            (Applied::Queued(queued), known) if known.is_none() || self.swept => {
                self.events.insert(id, (queued.seq, value));
                for (number, owed) in (1..).zip(plan) {
                    let Some(owed) = owed else { continue };
                    let (status, due_at) = if owed { (Status::Pending, Some(now)) } else { (Status::Skipped, None) };
                    let known = Known { status, due_at, counted: 0, since_owed: 0, exchanges: 0 };
                    self.deliveries.insert(key(queued.seq, DestinationId(number)), known);
                }
            }
            (applied, known) => panic!("{applied:?}, but known is {known:?}"),
        }
    }

    fn settle(&mut self, store: &mut Store, now: u64, pick: u16, (stale, exchange): (bool, bool), outcome: Outcome) {
        let Some(key) = self.pick(pick, |known| known.due_at.is_some()) else { return };
        let known = self.deliveries.get_mut(&key).unwrap();
        let due_at = UnixMs(known.due_at.unwrap() + u64::from(stale));
        let disposition = match outcome {
            Outcome::Sent => Disposition::Sent,
            Outcome::Retry => retry(now + 7),
            Outcome::Dead => DEAD,
            Outcome::Keep => Disposition::Keep { at: UnixMs(now + 3) },
        };
        let attempt = exchange.then(|| attempt(now, Some(500)));
        let op = Settle { key, due_at, at: UnixMs(now), attempt, disposition, autopsy: None };
        let applied = store.one(WriteOp::Settle(op));
        if stale {
            assert!(matches!(applied, Applied::Stale { .. }));
            return;
        }
        let counts = u32::from(exchange && !matches!(outcome, Outcome::Keep));
        (known.status, known.due_at) = match outcome {
            Outcome::Sent => (Status::Sent, None),
            Outcome::Retry => (Status::Failed, Some(now + 7)),
            Outcome::Dead => (Status::FailedPermanently, None),
            Outcome::Keep => (known.status, Some(now + 3)),
        };
        known.counted += counts;
        known.since_owed += counts;
        known.exchanges += u32::from(exchange);
        let Applied::Settled { now: owed, .. } = applied else { panic!("{applied:?}") };
        assert_eq!(owed.map(|owed| owed.due_at.0), known.due_at);
    }

    /// Dead ones, whether or not retention has taken their entry: the store knows better.
    fn revive(&mut self, store: &mut Store, now: u64, pick: u16) {
        let Some(key) = self.pick(pick, |known| known.status == Status::FailedPermanently) else { return };
        let there = store.reader().dlq_entry(key).unwrap().is_some();
        let Applied::Replayed(replayed) = store.one(replay_op(now, &[key])) else { panic!() };
        assert_eq!(replayed.len(), usize::from(there));
        if there {
            let known = self.deliveries.get_mut(&key).unwrap();
            *known = Known { status: Status::Pending, due_at: Some(now), since_owed: 0, ..*known };
        }
    }

    fn discard(&mut self, store: &mut Store, now: u64, pick: u16) {
        let Some(key) = self.pick(pick, |known| known.status == Status::FailedPermanently) else { return };
        let there = store.reader().dlq_entry(key).unwrap().is_some();
        let Applied::Discarded { count } = store.one(discard_op(now, &[key])) else { panic!() };
        assert_eq!(count, u64::from(there));
        if there {
            self.deliveries.get_mut(&key).unwrap().status = Status::Discarded;
        }
    }

    /// The first that are owed, in due order, but for the one that is under way.
    fn purge(&mut self, store: &mut Store, now: u64, destination: DestinationId, limit: usize, under_way: u16) {
        let mut owed: Vec<(u64, EventSeq)> = (self.deliveries.iter())
            .filter(|(key, _)| key.destination == destination)
            .filter_map(|(key, known)| Some((known.due_at?, key.seq)))
            .collect();
        owed.sort_unstable();
        let under_way: BTreeSet<_> =
            self.pick(under_way, |known| known.due_at.is_some()).into_iter().map(|key| key.seq).collect();
        let wanted: Vec<EventSeq> =
            owed.into_iter().map(|(_, seq)| seq).filter(|seq| !under_way.contains(seq)).take(limit).collect();
        let op = purge_op(now, destination, under_way, limit);
        let Applied::Purged { destination: told, seqs } = store.one(op) else { panic!() };
        assert_eq!((told, &seqs), (destination, &wanted));
        for seq in seqs {
            let known = self.deliveries.get_mut(&key(seq, destination)).unwrap();
            (known.status, known.due_at) = (Status::Discarded, None);
        }
    }

    #[track_caller]
    fn compare(&self, store: &Store) {
        let reader = store.reader();
        let mut books: BTreeMap<DestinationId, Counts> = BTreeMap::new();
        let mut outbox: BTreeMap<DestinationId, Vec<(u64, EventSeq)>> = BTreeMap::new();
        for (key, known) in &self.deliveries {
            books.entry(key.destination).or_default().add(known.status);
            outbox.entry(key.destination).or_default().extend(known.due_at.map(|due| (due, key.seq)));
            let row = reader.delivery(*key).unwrap();
            assert!(row.is_some() || (self.swept && known.due_at.is_none()), "{key:?} {known:?} is gone");
            let Some(row) = row else { continue };
            let found = Known {
                status: row.state.status(),
                due_at: row.state.due_at().map(|due| due.0),
                counted: row.history.counted,
                since_owed: row.history.counted_since_owed,
                exchanges: row.history.exchanges,
            };
            assert_eq!(found, *known, "{key:?}");
            assert!(known.due_at.is_none() || reader.event(key.seq).unwrap().is_some(), "what is owed has its event");
        }
        assert_eq!(reader.ledger().deliveries, books);
        for (destination, mut wanted) in outbox {
            wanted.sort_unstable();
            let page = reader.outbox_page(destination, None, 1000, Bodies::NONE).unwrap();
            let found: Vec<_> = page.iter().map(|owed| (owed.due_at.0, owed.key.seq)).collect();
            assert_eq!(found, wanted);
        }
        store.assert_sound();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(steps(), 1..60)) {
        let disk = Disk::default();
        let (mut store, mut model) = (disk.store(), Model::default());
        for (now, step) in (100_u64..).step_by(2).zip(steps) {
            match step {
                Step::Accept { id, value, plan } => model.accept(&mut store, now, (id, value), plan),
                Step::Settle { pick, stale, exchange, outcome } => {
                    model.settle(&mut store, now, pick, (stale, exchange), outcome);
                }
                Step::Replay { pick } => model.revive(&mut store, now, pick),
                Step::Discard { pick } => model.discard(&mut store, now, pick),
                Step::Purge { destination, limit, under_way } => {
                    model.purge(&mut store, now, DestinationId(destination), limit, under_way);
                }
                Step::Sweep { events, dlq, dedupe } => {
                    let at = |age: u16| Some(UnixMs(now - u64::from(age)));
                    let plan = SweepPlan { events_before: at(events), attempts_before: at(events), dlq_before: at(dlq), dedupe_before: at(dedupe), known: None };
                    model.swept |= store.sweep(&plan).unwrap() > 0;
                }
                Step::Reopen => store.reopen().unwrap(),
            }
            model.compare(&store);
        }
    }
}
