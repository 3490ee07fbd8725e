//! What is done to a store in a run: every operation it has, drawn by chance, built on what it holds just then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postbackd::domain::alert::{AlertMemory, Problem, Rhythm, Rule, Severity};
use postbackd::domain::audit::{Deed as Told, Right, Who};
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::delivery::{Attempt, Autopsy, Phases};
use postbackd::domain::id::{DeliveryKey, DestinationId, EventSeq};
use postbackd::domain::job::JobKind;
use postbackd::domain::name::DestinationName;
use postbackd::domain::outcome::{DeadReason, Disposition, RetryReason, SkipReason};
use postbackd::domain::pause::{Pause, PausedBy};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::jobs;
use postbackd::store::job::Selection;
use postbackd::store::read::{Bodies, DeliveryFilter, Reader};
use postbackd::store::write::{Accept, Applied, Discard, JobPlan, Planned, Purge, Replay, Settle, WriteOp};
use postbackd::store::{Rush, Slice, Store, StoreError, SweepPlan};
use postbackd::telemetry::rolling::saved::{Changes, SavedSlot, SavedWindow};

use crate::rng::Rng;
use crate::setup::{Plan, event};

/// Destinations that are numbered at the beginning; more may come.
const DESTINATIONS: u64 = 3;
/// Different events; more are repeats.
const IDENTITIES: u64 = 40;

/// One transaction, or none where the store finds nothing to do.
pub enum Deed {
    Commit(Vec<WriteOp>, Rush),
    Sweep(SweepPlan),
    /// Retention by size.
    Shed(u64),
    Number(Vec<DestinationName>),
    Reopen,
}

/// Who does it all, and what senders were told.
#[derive(Clone, Default)]
pub struct Script {
    now: u64,
    /// The newest event anybody was told of.
    pub newest: u64,
    /// Identity and variant → where the event is, for senders that were answered.
    promised: BTreeMap<u64, (u64, EventSeq)>,
}

impl Script {
    /// The names every run begins with.
    pub fn names() -> Vec<DestinationName> {
        (1..=DESTINATIONS).map(|number| format!("to-{number}").parse().expect("a name")).collect()
    }

    pub fn next(&mut self, store: &Store, rng: &Rng) -> Deed {
        self.now += rng.between(1, 100);
        let reader = store.reader();
        match rng.below(40) {
            0 => Deed::Sweep(self.sweep_plan(rng)),
            1 => Deed::Shed(rng.between(1, 4000)),
            2 => Deed::Number(vec![format!("more-{}", rng.below(4)).parse().expect("a name")]),
            3 => Deed::Reopen,
            _ => {
                let mut ops = Vec::new();
                for _ in 0..rng.between(1, 3) {
                    ops.extend(self.some_ops(store, &reader, rng));
                }
                Deed::Commit(ops, if rng.percent(50) { Rush::Calm } else { Rush::Hurried })
            }
        }
    }

    fn some_ops(&self, store: &Store, reader: &Reader, rng: &Rng) -> Vec<WriteOp> {
        match rng.below(100) {
            0..35 => (0..rng.between(1, 3))
                .map(|_| self.accept(store, (rng.below(IDENTITIES), rng.below(5) / 4), rng))
                .collect(),
            35..70 => (0..rng.between(1, 4)).filter_map(|_| self.settle(reader, rng)).collect(),
            70..76 => dead(reader).map(|keys| self.replay(&keys)).into_iter().collect(),
            76..79 => dead(reader).map(|keys| self.discard(keys)).into_iter().collect(),
            79..81 => vec![self.purge(rng)],
            81..86 => vec![self.pause(rng)],
            86..93 => self.job(reader, rng),
            93..95 => vec![self.alerts(rng)],
            95..98 => vec![self.stats(rng)],
            _ => vec![WriteOp::CountRejected { source: "app".parse().expect("a name"), count: rng.between(1, 9) }],
        }
    }

    /// What a sender sends again that was told `first` before.
    pub fn repeat(&self, store: &Store, rng: &Rng) -> Option<(WriteOp, EventSeq)> {
        let place = usize::try_from(rng.below(self.promised.len() as u64)).expect("small");
        let (identity, (variant, seq)) = self.promised.iter().nth(place)?;
        Some((self.accept(store, (*identity, *variant), rng), *seq))
    }

    fn accept(&self, store: &Store, (identity, variant): (u64, u64), rng: &Rng) -> WriteOp {
        let now = UnixMs(self.now);
        let event = event(Plan { identity, variant, at: now }, now);
        let key = store.hash_key().dedupe_key(&event, &Discriminator::EventId(format!("order-{identity}")));
        let content = store.hash_key().content(&event);
        let planned = |number| {
            let destination = DestinationId(number);
            if rng.percent(85) {
                Planned::Owe { destination, target: "Purchase".parse().expect("a name") }
            } else {
                Planned::Skip { destination, reason: SkipReason::Filter }
            }
        };
        let plan = (1..=u32::try_from(DESTINATIONS).expect("few")).map(planned).collect();
        let (event, repeat_since) = (Arc::new(event), UnixMs(0));
        WriteOp::Accept(Accept { event, key, content, heard_at: now, repeat_since, plan })
    }

    fn settle(&self, reader: &Reader, rng: &Rng) -> Option<WriteOp> {
        let page = reader.outbox_page(any_destination(rng), None, 12, Bodies::NONE).expect("readable");
        let owed = page.get(usize::try_from(rng.below(page.len() as u64)).expect("small"))?;
        let disposition = match rng.below(10) {
            0..5 => Disposition::Sent,
            5..7 => Disposition::Retry { at: UnixMs(self.now + rng.below(500)), reason: RetryReason::Transient },
            7..9 => Disposition::Dead { reason: DeadReason::Permanent },
            _ => Disposition::Keep { at: UnixMs(self.now + 3) },
        };
        let attempt = rng.percent(80).then(|| Attempt {
            n: owed.history.exchanges + 1,
            at: UnixMs(self.now),
            took: DurationMs(rng.below(50)),
            http_status: Some(500),
            verdict: "transient".to_owned(),
            response: "x".repeat(usize::try_from(rng.below(900)).expect("small")),
            left_out: Vec::new(),
            phases: Phases::default(),
            proxy: None,
            called: None,
        });
        let autopsy = rng.percent(50).then(|| Autopsy {
            detail: "simulated".to_owned(),
            request: None,
            http_status: Some(422),
            response: "y".repeat(usize::try_from(rng.below(2000)).expect("small")),
        });
        let at = UnixMs(self.now);
        Some(WriteOp::Settle(Settle { key: owed.key, due_at: owed.due_at, at, attempt, disposition, autopsy }))
    }

    fn replay(&self, keys: &[DeliveryKey]) -> WriteOp {
        WriteOp::Replay(Replay { at: UnixMs(self.now), keys: keys.to_vec() })
    }

    fn discard(&self, keys: Vec<DeliveryKey>) -> WriteOp {
        WriteOp::Discard(Discard { at: UnixMs(self.now), keys, reason: "simulated".to_owned() })
    }

    fn purge(&self, rng: &Rng) -> WriteOp {
        let destination = any_destination(rng);
        let under_way =
            if rng.percent(50) { BTreeSet::from([EventSeq(rng.below(self.newest + 1))]) } else { BTreeSet::new() };
        let reason = "simulated".to_owned();
        WriteOp::Purge(Purge { destination, at: UnixMs(self.now), reason, under_way, limit: 2 })
    }

    fn pause(&self, rng: &Rng) -> WriteOp {
        let destination = any_destination(rng);
        if rng.percent(40) {
            return WriteOp::Resume { destination };
        }
        let until = rng.percent(50).then(|| UnixMs(self.now + 1000));
        let reason = format!("simulated {}", rng.below(1000));
        WriteOp::Pause { destination, pause: Pause { since: UnixMs(self.now), until, reason, by: PausedBy::Operator } }
    }

    /// A job's beginning, its next page, or its end, with what the audit trail keeps of it.
    fn job(&self, reader: &Reader, rng: &Rng) -> Vec<WriteOp> {
        let at = UnixMs(self.now);
        let deed = |action: &str| {
            let deed = Told::new(Who::nobody(Right::Loopback), action).because("simulated");
            WriteOp::Audit { at, deed: Box::new(deed) }
        };
        let running = reader.running_jobs().expect("readable");
        let Some(job) = running.first() else {
            let filter = DeliveryFilter::default();
            let matched = jobs::count(reader, &filter).expect("readable");
            let kind = if rng.percent(70) { JobKind::Replay } else { JobKind::Discard };
            let selection = Selection::Filter(Box::new(filter));
            let plan = JobPlan { at, kind, selection, rate: None, reason: "simulated".to_owned(), matched };
            return vec![WriteOp::JobStart(plan), deed("job")];
        };
        if rng.percent(10) {
            return vec![WriteOp::JobCancel { job: job.number, at }, deed("cancel")];
        }
        vec![WriteOp::JobPage(jobs::next_page(reader, job, 2, at, at).expect("readable"))]
    }

    fn alerts(&self, rng: &Rng) -> WriteOp {
        let problem = |number: u64| Problem {
            id: format!("to-{number}/held"),
            rule: Rule::Held,
            severity: Severity::Critical,
            worst: Severity::Critical,
            title: "held".to_owned(),
            text: "z".repeat(usize::try_from(rng.below(300)).expect("small")),
            remedy: "release it".to_owned(),
            since: UnixMs(self.now),
            told_at: Some(UnixMs(self.now)),
            told: 1,
            good_since: None,
        };
        let open = (1..=DESTINATIONS).filter(|_| rng.percent(50)).map(problem).collect();
        let rhythm = Rhythm { total: rng.below(99), last_event_at: None, newest: 7, counts: vec![1, 2] };
        WriteOp::Alerts(AlertMemory {
            open,
            rhythms: BTreeMap::from([("app".parse().expect("a name"), rhythm)]),
            ..AlertMemory::default()
        })
    }

    fn stats(&self, rng: &Rng) -> WriteOp {
        let number = self.now / 500;
        let slot = SavedSlot { number, latency: vec![(3, 2)], exchange: vec![(4, 1)], events: vec![(None, 1, 2)] };
        let window = || SavedWindow { slots: vec![slot.clone()], first: number.saturating_sub(2), last: number };
        let changes = Changes { hour: window(), day: window(), ..Changes::default() };
        WriteOp::SaveStats { destination: any_destination(rng), changes: Box::new(changes) }
    }

    fn sweep_plan(&self, rng: &Rng) -> SweepPlan {
        let part = || rng.percent(60).then(|| UnixMs(self.now.saturating_sub(rng.below(1500))));
        SweepPlan {
            events_before: part(),
            attempts_before: part(),
            dlq_before: part(),
            dedupe_before: part(),
            known: None,
        }
    }

    /// What was told, of a deed that is certain now.
    pub fn told(&mut self, deed: &Deed, applied: &[Applied]) {
        let ops = match deed {
            Deed::Commit(ops, _) => ops,
            // What retention forgets is no repeat any more.
            Deed::Sweep(_) => return self.promised.clear(),
            Deed::Shed(_) | Deed::Number(_) | Deed::Reopen => return,
        };
        for (op, done) in ops.iter().zip(applied) {
            let WriteOp::Accept(accept) = op else { continue };
            let identity = accept.event.event_id.as_deref().and_then(|id| id.strip_prefix("order-")?.parse().ok());
            let identity: u64 = identity.expect("every event has one");
            let variant = accept.event.data["variant"].as_u64().expect("every event has one");
            match done {
                Applied::Queued(queued) => {
                    self.newest = self.newest.max(queued.seq.0);
                    let before = self.promised.insert(identity, (variant, queued.seq));
                    assert!(before.is_none(), "identity {identity} was stored twice: {before:?} and {:?}", queued.seq);
                }
                Applied::Duplicate { first, conflict } => {
                    if let Some((known, seq)) = self.promised.get(&identity) {
                        assert_eq!((seq, *known != variant), (first, *conflict), "identity {identity}");
                    }
                }
                other => panic!("an event was answered with {other:?}"),
            }
        }
    }
}

impl Deed {
    pub fn execute(&self, store: &mut Store) -> Result<Vec<Applied>, StoreError> {
        match self {
            Self::Commit(ops, rush) => return store.commit_beside(ops, None, *rush).map(|(applied, _)| applied),
            Self::Sweep(plan) => drop(store.sweep(plan)?),
            Self::Shed(excess) => {
                let slice = Slice { plan: SweepPlan::default(), excess: *excess, enough: &|| false };
                drop(store.commit_beside(&[], Some(&slice), Rush::Hurried)?);
            }
            Self::Number(names) => drop(store.number_destinations(names)?),
            Self::Reopen => store.reopen().map_err(|error| StoreError::Failed(error.to_string()))?,
        }
        Ok(Vec::new())
    }
}

fn dead(reader: &Reader) -> Option<Vec<DeliveryKey>> {
    let keys = reader.dlq_keys(&DeliveryFilter::default(), None, 3).expect("readable").rows;
    (!keys.is_empty()).then_some(keys)
}

fn any_destination(rng: &Rng) -> DestinationId {
    DestinationId(u32::try_from(rng.between(1, DESTINATIONS)).expect("few"))
}
