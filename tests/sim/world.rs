//! The simulated machine: real store, real committer, real scheduler, real adapters; virtual time, disk, peers and senders.
//!
//! Everything happens at a time on one agenda, in one thread. The parts the async shell does in the daemon (waiting,
//! moving facts and effects) are done here in a few lines each; every decision is the daemon's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::config::snapshot::Snapshot;
use postbackd::domain::dedupe::{Discriminator, HashKey};

use postbackd::domain::id::{DeliveryKey, DestinationId, InstanceId};
use postbackd::domain::name::DestinationName;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::{Committer, Request};
use postbackd::pipeline::dispatch::{conclude, prepare};
use postbackd::pipeline::fanout::plan;
use postbackd::pipeline::lane::Rules;
use postbackd::pipeline::scheduler::{Effect, Ended, Input, Scheduler};
use postbackd::store::read::{DeliveryFilter, Reader};
use postbackd::store::write::{Accept, Applied, Owed, Replay, WriteOp};
use postbackd::store::{Counts, Options, Store};

use crate::disk::{Disk, Fault};
use crate::oracle::Oracle;
use crate::peers::{Peer, Retried, Temper, not_before};
use crate::rng::Rng;
use crate::setup::{self, Plan, START, event, workload};
use crate::tally::Tally;

/// How long tempers change, disks fail and power is cut.
const TROUBLE: DurationMs = DurationMs::from_hours(8);
/// How long it may take, once all is well, until nothing is owed.
const RECOVERY: DurationMs = DurationMs::from_hours(80);

/// Who waits for a commit.
#[derive(Debug, Clone)]
pub(super) enum Waiting {
    Sender(Vec<Plan>),
    Operator(Vec<DeliveryKey>),
}

#[derive(Debug)]
pub(super) enum Happening {
    Submit(Vec<Plan>),
    Commit { life: u64 },
    Ended { life: u64, ended: Box<Ended>, retried: Retried },
    Page { life: u64, page: Box<Input> },
    Tick { life: u64 },
    Crash,
    Temper(DestinationId),
    Trouble,
    Operator,
}

/// One run of the daemon between two crashes.
pub(super) struct Life {
    number: u64,
    committer: Committer,
    pub(super) reader: Reader,
    pub(super) scheduler: Scheduler,
    pub(super) instance: InstanceId,
    hash_key: HashKey,
    pub(super) queue: Vec<Request<Waiting>>,
    commit_planned: bool,
    tick_at: Option<UnixMs>,
}

pub struct World {
    rng: Arc<Rng>,
    now: UnixMs,
    order: u64,
    pub(super) agenda: BTreeMap<(UnixMs, u64), Happening>,
    disk: Disk,
    pub(super) life: Option<Life>,
    lives: u64,
    snapshot: Arc<Snapshot>,
    pub(super) ids: BTreeMap<DestinationName, DestinationId>,
    pub(super) peers: BTreeMap<DestinationId, Peer>,
    pub(super) oracle: Oracle,
    pub(super) tally: Tally,
    digest: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let rng = Arc::new(Rng::new(seed));
        let snapshot = setup::snapshot(&rng);
        let mut world = Self {
            rng,
            now: START,
            order: 0,
            agenda: BTreeMap::new(),
            disk: Disk::default(),
            life: None,
            lives: 0,
            snapshot,
            ids: BTreeMap::new(),
            peers: BTreeMap::new(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            digest: 0,
        };
        world.boot();
        world.peers = world.ids.values().map(|id| (*id, Peer::new())).collect();
        for plan in workload(&world.rng) {
            world.tally.events += 1;
            world.plan_at(plan.at, Happening::Submit(vec![plan]));
        }
        let ids: Vec<DestinationId> = world.ids.values().copied().collect();
        for id in ids {
            world.plan_in(1_800_000, Happening::Temper(id));
        }
        world.plan_in(3_600_000, Happening::Trouble);
        world.plan_in(7_200_000, Happening::Operator);
        world
    }

    /// Runs to the end; panics where anything is wrong. Returns the tally and a digest of all that happened.
    pub fn run(mut self) -> (Tally, u64) {
        let end = START + TROUBLE;
        let mut healed = false;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > end && !healed {
                healed = true;
                self.heal();
            }
            assert!(at <= end + RECOVERY, "still busy {RECOVERY} after all trouble ended: {happening:?}");
            self.now = self.now.max(at);
            self.mix(at.0);
            self.happen(happening);
            self.look();
            if healed && self.is_quiet() {
                break;
            }
        }
        self.final_check();
        (self.tally, self.digest)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(plans) => self.submit(plans),
            Happening::Commit { life } if self.is_alive(life) => self.commit(),
            Happening::Ended { life, ended, retried } if self.is_alive(life) => self.ended(*ended, retried),
            Happening::Page { life, page } if self.is_alive(life) => self.step(*page),
            Happening::Tick { life } if self.is_alive(life) => {
                if let Some(life) = &mut self.life {
                    life.tick_at = None;
                }
                self.step(Input::Tick);
            }
            // What belongs to an earlier life is lost with it.
            Happening::Commit { .. } | Happening::Ended { .. } | Happening::Page { .. } | Happening::Tick { .. } => {}
            Happening::Crash => self.crash(),
            Happening::Temper(id) => self.temper(id),
            Happening::Trouble => self.trouble(),
            Happening::Operator => self.operator(),
        }
    }

    fn boot(&mut self) {
        let disk = self.disk.clone();
        let options = Options { cache: 1024 * 1024 };
        let mut store = Store::open_backend(move || Ok(disk.clone()), options, &*self.rng)
            .unwrap_or_else(|error| panic!("the store does not open after a power cut: {error}"));
        let findings = store.reader().verify().expect("the store can be read");
        assert!(findings.is_empty(), "after a restart: {findings:#?}");
        let names: Vec<DestinationName> = self.snapshot.destinations.keys().cloned().collect();
        self.ids = store.number_destinations(&names).expect("no fault is armed while booting");
        self.lives += 1;
        let rules = self.rules();
        self.life = Some(Life {
            number: self.lives,
            reader: store.reader(),
            instance: store.instance(),
            hash_key: store.hash_key(),
            committer: Committer::new(store),
            scheduler: Scheduler::new(rules, self.now),
            queue: Vec::new(),
            commit_planned: false,
            tick_at: None,
        });
        self.check_acknowledged();
        self.step(Input::Tick);
    }

    fn rules(&self) -> BTreeMap<DestinationId, Rules> {
        let rules = |name: &DestinationName| {
            let destination = &self.snapshot.destinations[name];
            Rules {
                enabled: true,
                concurrency: destination.lane.concurrency,
                hold_probe: destination.lane.hold_probe,
                rate_limit: destination.lane.rate_limit,
                breaker: destination.lane.breaker,
                retry: destination.retry.clone(),
            }
        };
        self.ids.iter().map(|(name, id)| (*id, rules(name))).collect()
    }

    fn submit(&mut self, plans: Vec<Plan>) {
        let Some(life) = &mut self.life else { return self.submit_later(plans) };
        let mut ops = Vec::new();
        for planned in &plans {
            let event = event(*planned, self.now);
            let discriminator = Discriminator::EventId(event.event_id.clone().expect("every event has an id"));
            ops.push(WriteOp::Accept(Accept {
                key: life.hash_key.dedupe_key(&event, &discriminator),
                content: life.hash_key.content(&event),
                plan: plan(&self.snapshot, &self.ids, &event),
                repeat_since: UnixMs(0),
                event: Arc::new(event),
            }));
            self.oracle.submitted.entry(planned.identity).or_default().push(planned.variant);
        }
        life.queue.push(Request { ops, reply: Some(Waiting::Sender(plans)) });
        self.plan_commit();
    }

    /// A sender that got no answer, or a bad one, comes again.
    fn submit_later(&mut self, plans: Vec<Plan>) {
        let pause = self.rng.between(1000, 60_000);
        self.plan_in(pause, Happening::Submit(plans));
    }

    fn plan_commit(&mut self) {
        let Some(life) = &mut self.life else { return };
        if !life.commit_planned {
            life.commit_planned = true;
            let number = life.number;
            let took = self.rng.between(1, 20);
            self.plan_in(took, Happening::Commit { life: number });
        }
    }

    fn commit(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.commit_planned = false;
        let requests = std::mem::take(&mut life.queue);
        match life.committer.commit(requests) {
            Ok(committed) => {
                assert!(life.reader.ledger().deliveries.values().all(Counts::balanced), "the books do not balance");
                for fact in &committed.facts {
                    if let Input::Settled { key, .. } = fact {
                        self.oracle.settled(*key);
                    }
                }
                for (waiting, applied) in committed.replies {
                    self.reply(waiting, &applied);
                }
                for fact in committed.facts {
                    if let Input::Stale { key } = &fact {
                        self.oracle.settled(*key);
                    }
                    self.step(fact);
                }
            }
            Err(failed) => {
                if self.disk.is_dead() {
                    self.tally.cuts_in_commit += 1;
                    for waiting in failed.refused {
                        self.refuse(waiting);
                    }
                    return self.crash();
                }
                self.tally.commit_failures += 1;
                life.committer.reopen().unwrap_or_else(|error| panic!("the store does not reopen: {error}"));
                for waiting in failed.refused {
                    self.refuse(waiting);
                }
                self.step(Input::Rescan);
                self.plan_commit();
            }
        }
    }

    fn refuse(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Sender(plans) => self.submit_later(plans),
            // The replay may have been committed all the same.
            Waiting::Operator(keys) => keys.into_iter().for_each(|key| self.oracle.maybe_replayed(key)),
        }
    }

    fn reply(&mut self, waiting: Waiting, applied: &[Applied]) {
        match waiting {
            Waiting::Sender(plans) => {
                for (plan, done) in plans.iter().zip(applied) {
                    self.told(*plan, done);
                }
            }
            Waiting::Operator(keys) => {
                let Some(Applied::Replayed(owed)) = applied.first() else { panic!("{applied:?}") };
                assert!(owed.len() <= keys.len());
                for owed in owed {
                    self.tally.replays += 1;
                    self.oracle.replayed(owed.key, owed.due_at);
                }
            }
        }
    }

    fn told(&mut self, plan: Plan, done: &Applied) {
        match done {
            Applied::Queued(queued) => {
                self.tally.acknowledged += 1;
                let wanted = if plan.identity.is_multiple_of(5) { 2 } else { 3 };
                assert_eq!(queued.owed.len(), wanted, "fan-out of {plan:?}");
                self.oracle.acknowledged(plan.identity, queued.seq);
            }
            Applied::Duplicate { first, conflict } => {
                self.tally.duplicates += 1;
                self.tally.conflicts += u64::from(*conflict);
                let variants = &self.oracle.submitted[&plan.identity];
                let others = variants.iter().any(|variant| *variant != plan.variant);
                assert!(others || !conflict, "a faithful repeat was called a conflict: {plan:?}");
                self.oracle.acknowledged(plan.identity, *first);
            }
            other => panic!("an event was answered with {other:?}"),
        }
    }

    fn ended(&mut self, ended: Ended, retried: Retried) {
        let key = ended.key;
        let Some(life) = &mut self.life else { return };
        let mut effects = Vec::new();
        let dead_or_sent = |effects: &[Effect]| {
            effects.iter().find_map(|effect| match effect {
                Effect::Settle(settle) if settle.key == key => Some(settle.disposition),
                Effect::Settle(_) | Effect::Send(_) | Effect::Load { .. } => None,
            })
        };
        life.scheduler.step(Input::Ended(ended), self.now, &*self.rng, &mut effects);
        let disposition = dead_or_sent(&effects).expect("every ended attempt is settled");
        let owed = life.reader.delivery(key).expect("readable").expect("it exists");
        let destination = self.destination(key.destination);
        let deadline = owed.history.owed_since + destination.retry.give_up_after;
        let made = self.oracle.made(key) + 1;
        let earliest = not_before(self.now, made, retried, deadline.max(self.now));
        let dead = matches!(disposition, Disposition::Dead { .. });
        self.tally.dead += u64::from(dead);
        self.tally.holds += u64::from(retried == Retried::NotCounted);
        self.tally.delivered += u64::from(disposition == Disposition::Sent);
        self.oracle.ended(key, retried, earliest, dead);
        self.carry_out(effects);
    }

    fn step(&mut self, input: Input) {
        let Some(life) = &mut self.life else { return };
        let mut effects = Vec::new();
        life.scheduler.step(input, self.now, &*self.rng, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(owed) => self.send(&owed),
                Effect::Settle(settle) => {
                    let Some(life) = &mut self.life else { return };
                    life.queue.push(Request { ops: vec![WriteOp::Settle(settle)], reply: None });
                    self.plan_commit();
                }
                Effect::Load { destination, after, limit } => {
                    let Some(life) = &self.life else { return };
                    // Read now, told later: commits in between make the page stale.
                    let limit = limit.min(4);
                    let rows = life.reader.outbox_page(destination, after, limit).expect("readable");
                    let page = Input::Page { destination, end: rows.len() < limit, rows };
                    let number = life.number;
                    let took = self.rng.between(0, 30);
                    self.plan_in(took, Happening::Page { life: number, page: Box::new(page) });
                }
            }
        }
        self.plan_tick();
    }

    fn plan_tick(&mut self) {
        let Some(life) = &mut self.life else { return };
        if let Some(wake) = life.scheduler.next_wake()
            && life.tick_at.is_none_or(|at| wake < at)
        {
            let at = wake.max(self.now);
            life.tick_at = Some(at);
            let number = life.number;
            self.plan_at(at, Happening::Tick { life: number });
        }
    }

    fn send(&mut self, owed: &Owed) {
        self.oracle.sending(owed, self.now);
        self.tally.attempts += 1;
        let Some(life) = &self.life else { return };
        let number = life.number;
        let destination = self.destination(owed.key.destination);
        let lane = life.scheduler.lane(owed.key.destination).expect("a lane");
        assert!(lane.in_flight() <= destination.lane.concurrency, "more in flight than allowed");
        let event = match &owed.event {
            Some(event) => Arc::clone(event),
            None => life.reader.event(owed.key.seq).expect("readable").expect("an owed event is stored"),
        };
        let prepared = prepare(&destination, life.instance, owed, &event, self.now).expect("every event can be sent");
        let peer = self.peers.get_mut(&owed.key.destination).expect("a peer");
        let (exchange, retried) = peer.exchange(&prepared.request, &self.rng);
        let at = self.now;
        let done = at + exchange.took;
        let ended = conclude(&destination, owed, prepared.view, exchange, at, done);
        self.mix(owed.key.seq.0);
        self.plan_at(done, Happening::Ended { life: number, ended: Box::new(ended), retried });
    }

    fn crash(&mut self) {
        self.tally.power_cuts += 1;
        if let Some(life) = self.life.take() {
            let lost: Vec<Waiting> = life.queue.into_iter().filter_map(|request| request.reply).collect();
            for waiting in lost {
                self.refuse(waiting);
            }
        }
        self.oracle.crashed();
        let rng = Arc::clone(&self.rng);
        self.disk.cut_power(&rng);
        let down = self.rng.between(0, 120_000);
        self.now = self.now + DurationMs(down);
        self.boot();
    }

    fn temper(&mut self, id: DestinationId) {
        let rng = Arc::clone(&self.rng);
        self.peers.get_mut(&id).expect("a peer").change_temper(&rng);
        let next = self.rng.between(60_000, 3_600_000);
        self.plan_in(next, Happening::Temper(id));
    }

    fn trouble(&mut self) {
        match self.rng.below(4) {
            0 => self.plan_in(0, Happening::Crash),
            1 => self.disk.arm(self.rng.below(40), Fault::PowerCut),
            2 => self.disk.arm(self.rng.below(40), Fault::Full),
            _ => {
                self.tally.sync_losses += 1;
                self.disk.arm(self.rng.below(40), Fault::SyncLost);
            }
        }
        let next = self.rng.between(60_000, 2_400_000);
        self.plan_in(next, Happening::Trouble);
    }

    fn operator(&mut self) {
        let next = self.rng.between(600_000, 7_200_000);
        self.plan_in(next, Happening::Operator);
        let now = self.now;
        let Some(life) = &mut self.life else { return };
        let page = life.reader.dlq(&DeliveryFilter::default(), None, 10).expect("readable");
        let deliveries: Vec<_> = page.rows.iter().map(|dead| (dead.entry.key, now)).collect();
        if deliveries.is_empty() {
            return;
        }
        let keys = deliveries.iter().map(|(key, _)| *key).collect();
        let ops = vec![WriteOp::Replay(Replay { at: now, deliveries })];
        life.queue.push(Request { ops, reply: Some(Waiting::Operator(keys)) });
        self.plan_commit();
    }

    /// All trouble ends: peers are well, the disk is sound, nobody replays.
    fn heal(&mut self) {
        self.disk.disarm();
        for peer in self.peers.values_mut() {
            peer.temper = Temper::Healthy;
        }
        self.agenda.retain(|_, happening| {
            !matches!(happening, Happening::Crash | Happening::Temper(_) | Happening::Trouble | Happening::Operator)
        });
        // One last clean restart: what is on disk alone must be enough.
        self.crash();
    }

    pub(super) fn destination(&self, id: DestinationId) -> Arc<postbackd::config::snapshot::Destination> {
        let (name, _) = self.ids.iter().find(|(_, known)| **known == id).expect("a known destination");
        Arc::clone(&self.snapshot.destinations[name])
    }

    fn is_alive(&self, life: u64) -> bool {
        self.life.as_ref().is_some_and(|alive| alive.number == life)
    }

    fn plan_in(&mut self, span: u64, happening: Happening) {
        self.plan_at(self.now + DurationMs(span), happening);
    }

    fn plan_at(&mut self, at: UnixMs, happening: Happening) {
        self.order += 1;
        self.agenda.insert((at, self.order), happening);
    }

    fn mix(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x100_0000_01b3).rotate_left(17);
    }
}
