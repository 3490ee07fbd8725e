//! The simulated machine: real store, real committer, real scheduler, real adapters; virtual time, disk, peers and senders.
//!
//! Everything happens at a time on one agenda, in one thread. The parts the async shell does in the daemon (waiting,
//! moving facts and effects) are done here in a few lines each; every decision is the daemon's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::config::snapshot::Snapshot;
use postbackd::domain::alert::AlertMemory;
use postbackd::domain::dedupe::HashKey;
use postbackd::domain::id::{DeliveryKey, DestinationId, InstanceId};
use postbackd::domain::name::DestinationName;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::{Committer, Request};
use postbackd::pipeline::dispatch::{Loaded, Missing, Rendered, Sent, conclude, none_sent, render};
use postbackd::pipeline::guarded::GuardedClock;
use postbackd::pipeline::scheduler::{Effect, Ended, Input, Scheduler};
use postbackd::store::read::Reader;
use postbackd::store::write::{Owed, WriteOp};
use postbackd::store::{AtHand, Counts, Options, Store};

use crate::disk::Disk;
use crate::keeping::Taken;
use crate::oracle::Oracle;
use crate::peers::{Peer, Retried, not_before};
use crate::reloads::Listed;
use crate::rng::Rng;
use crate::setup::{self, Plan, START, workload};
use crate::tally::Tally;

/// How long tempers change, disks fail and power is cut.
const TROUBLE: DurationMs = DurationMs::from_hours(8);
/// How long it may take, once all is well, until nothing is owed.
const RECOVERY: DurationMs = DurationMs::from_hours(80);

/// Who waits for a commit.
#[derive(Debug, Clone)]
pub(super) enum Waiting {
    Sender(Vec<Plan>),
    Operator(Verb, Vec<DeliveryKey>),
    /// Those whose turn it is.
    Job(Vec<DeliveryKey>),
    /// Those that may be given up.
    Purge(Vec<DeliveryKey>),
    Alerts(AlertMemory),
}

/// A delivery of an exchange, and what its end asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    key: DeliveryKey,
    retried: Retried,
    owed_since: UnixMs,
}

/// What becomes of a delivery that is not in the request; `Backoff` stands for one that is.
fn unsent(part: &Rendered) -> Retried {
    match part {
        Rendered::Sent { .. } => Retried::Backoff,
        // An event of the future, by a clock that was set back: dead, and replayed one day.
        Rendered::Unsendable { .. } => Retried::Never,
        Rendered::Unreadable { .. } => Retried::Unread,
        Rendered::NoRoom { .. } => panic!("the simulated events are small: {part:?}"),
    }
}

/// What an operator does with the DLQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Replay,
    Discard,
}

#[derive(Debug)]
pub(super) enum Happening {
    Submit(Vec<Plan>),
    Commit {
        life: u64,
    },
    Ended {
        life: u64,
        ended: Box<Ended>,
        members: Vec<Member>,
    },
    Page {
        life: u64,
        page: Box<Input>,
    },
    Tick {
        life: u64,
    },
    Crash,
    Temper(DestinationId),
    Trouble,
    Recover {
        life: u64,
    },
    SpaceIsFreed,
    Operator,
    Reload,
    Controls,
    Sweep,
    Keeping,
    /// The clock is right again.
    ClockIsRight,
}

/// One run of the daemon between two crashes.
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) committer: Committer,
    /// The store could not be opened again yet.
    pub(super) closed: bool,
    pub(super) reader: Reader,
    pub(super) scheduler: Scheduler,
    pub(super) instance: InstanceId,
    pub(super) hash_key: HashKey,
    pub(super) guard: GuardedClock,
    pub(super) queue: Vec<Request<Waiting>>,
    commit_planned: bool,
    pub(super) tick_at: Option<UnixMs>,
}

pub struct World {
    pub(super) rng: Arc<Rng>,
    /// Time that really passes: the agenda's.
    pub(super) now: UnixMs,
    /// What the wall clock is ahead of it.
    pub(super) skew: i64,
    /// Milliseconds that the machine slept.
    pub(super) slept: u64,
    /// Whether the clock is years off now and then.
    pub(super) is_wild: bool,
    /// Exchanges that some destinations may have in flight since a reload.
    pub(super) limits: BTreeMap<DestinationId, usize>,
    /// Exchanges in flight that each lane may have, where more were under way when its limit was lowered.
    pub(super) granted: BTreeMap<DestinationId, usize>,
    /// Until when a sync takes half a minute and more.
    pub(super) slow_until: UnixMs,
    pub(super) backup: Option<Taken>,
    order: u64,
    pub(super) agenda: BTreeMap<(UnixMs, u64), Happening>,
    pub(super) disk: Disk,
    pub(super) life: Option<Life>,
    lives: u64,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) ids: BTreeMap<DestinationName, DestinationId>,
    pub(super) peers: BTreeMap<DestinationId, Peer>,
    /// Destinations that are not in the configuration now, or switched off in it.
    pub(super) listed: BTreeMap<DestinationId, Listed>,
    pub(super) oracle: Oracle,
    pub(super) tally: Tally,
    /// Times an operator came.
    pub(super) turns: u64,
    digest: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let rng = Arc::new(Rng::new(seed));
        let snapshot = setup::snapshot(&rng);
        let is_wild = rng.percent(25);
        let mut world = Self {
            rng,
            now: START,
            skew: 0,
            slept: 0,
            is_wild,
            limits: BTreeMap::new(),
            granted: BTreeMap::new(),
            slow_until: START,
            backup: None,
            order: 0,
            agenda: BTreeMap::new(),
            disk: Disk::default(),
            life: None,
            lives: 0,
            snapshot,
            ids: BTreeMap::new(),
            peers: BTreeMap::new(),
            listed: BTreeMap::new(),
            oracle: Oracle::default(),
            tally: Tally::default(),
            turns: 0,
            digest: 0,
        };
        world.boot();
        world.peers = world.ids.values().map(|id| (*id, Peer::new())).collect();
        for plans in workload(&world.rng) {
            world.tally.events += plans.len() as u64;
            world.plan_at(plans[0].at, Happening::Submit(plans));
        }
        let ids: Vec<DestinationId> = world.ids.values().copied().collect();
        for id in ids {
            world.plan_in(1_800_000, Happening::Temper(id));
        }
        world.plan_in(3_600_000, Happening::Trouble);
        world.plan_in(7_200_000, Happening::Operator);
        world.plan_in(3_600_000, Happening::Reload);
        world.plan_in(3_600_000, Happening::Controls);
        world.plan_in(7_200_000, Happening::Sweep);
        world.plan_in(3_600_000, Happening::Keeping);
        world
    }

    /// A world in which nothing goes wrong by itself.
    pub fn calm(seed: u64, requests: Vec<Vec<Plan>>) -> Self {
        let mut world = Self::new(seed);
        world.agenda.retain(|_, happening| matches!(happening, Happening::Page { .. } | Happening::Tick { .. }));
        world.is_wild = false;
        for plans in requests {
            world.plan_at(plans[0].at, Happening::Submit(plans));
        }
        world
    }

    /// Lets everything happen until then.
    pub fn run_until(&mut self, end: UnixMs) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), happening) = entry.remove_entry();
            self.now = self.now.max(at);
            self.happen(happening);
            self.look();
        }
        self.now = self.now.max(end);
    }

    /// Runs to the end; panics where anything is wrong. Returns the tally and a digest of all that happened.
    pub fn run(mut self) -> (Tally, u64) {
        let end = START + TROUBLE;
        let mut healed = false;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > end && !healed {
                healed = true;
                // What would happen now is among what ends, or happens after it.
                self.plan_at(at, happening);
                self.heal();
                continue;
            }
            assert!(
                at <= end + RECOVERY + DurationMs(self.slept),
                "still busy {RECOVERY} after all trouble ended: {happening:?}"
            );
            self.now = self.now.max(at);
            self.mix(at.0);
            self.happen(happening);
            self.look();
            if healed && self.is_quiet() {
                break;
            }
        }
        self.final_check();
        self.tally.seeds = 1;
        self.tally.simulated_ms = self.now.since(START).0;
        (self.tally, self.digest)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(plans) => self.submit(plans),
            Happening::Commit { life } if self.is_alive(life) => self.commit(),
            Happening::Ended { life, ended, members } if self.is_alive(life) => self.ended(*ended, &members),
            Happening::Page { life, page } if self.is_alive(life) => self.step(*page),
            Happening::Tick { life } if self.is_alive(life) => {
                if let Some(life) = &mut self.life {
                    life.tick_at = None;
                }
                self.step(Input::Tick);
            }
            Happening::Recover { life } if self.is_alive(life) => self.recover(),
            // What belongs to an earlier life is lost with it.
            Happening::Commit { .. }
            | Happening::Ended { .. }
            | Happening::Page { .. }
            | Happening::Tick { .. }
            | Happening::Recover { .. } => {}
            Happening::SpaceIsFreed => self.disk.disarm(),
            Happening::Crash => self.crash(),
            Happening::Temper(id) => self.temper(id),
            Happening::Trouble => self.trouble(),
            Happening::Operator => self.operator(),
            Happening::Reload => self.reload(),
            Happening::Controls => self.controls(),
            Happening::Sweep => self.sweep(),
            Happening::Keeping => self.keep_house(),
            Happening::ClockIsRight => self.set_skew(0),
        }
    }

    pub(super) fn boot(&mut self) {
        let disk = self.disk.clone();
        let options = Options { cache: 1024 * 1024 };
        let mut store = Store::open_backend(move || Ok(disk.clone()), options, &*self.rng)
            .unwrap_or_else(|error| panic!("the store does not open after a power cut: {error}"));
        let findings = store.reader().verify().expect("the store can be read");
        assert!(findings.is_empty(), "after a restart: {findings:#?}");
        let names: Vec<DestinationName> = self.snapshot.destinations.keys().cloned().collect();
        self.ids = store.number_destinations(&names).expect("no fault is armed while booting");
        let pauses = store.reader().pauses().expect("no fault is armed while booting");
        self.oracle.pausing.restarted(&pauses);
        self.oracle.alerts_found(&store.reader().alerts().expect("no fault is armed while booting"));
        let known = store.known_time().expect("no fault is armed while booting");
        let guard = GuardedClock::new(known, self.wall(), self.monotonic());
        self.lives += 1;
        self.granted.clear();
        let rules = self.rules();
        // Often less than what is owed, so that lanes live from page to page.
        let capacity = usize::try_from(self.rng.between(2, 40)).expect("small");
        self.life = Some(Life {
            number: self.lives,
            reader: store.reader(),
            instance: store.instance(),
            hash_key: store.hash_key(),
            guard,
            committer: Committer::new(store),
            closed: false,
            scheduler: Scheduler::with_capacity(rules, capacity, self.wall()).with_pauses(pauses),
            queue: Vec::new(),
            commit_planned: false,
            tick_at: None,
        });
        self.check_acknowledged();
        self.step(Input::Tick);
    }

    pub(super) fn plan_commit(&mut self) {
        let Some(life) = &mut self.life else { return };
        if !life.commit_planned {
            life.commit_planned = true;
            let number = life.number;
            let took = self.sync_takes();
            self.plan_in(took, Happening::Commit { life: number });
        }
    }

    fn commit(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.commit_planned = false;
        if life.closed {
            return;
        }
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
                    if let Input::Control(control) = &fact {
                        self.oracle.pausing.committed(control);
                    }
                    self.step(fact);
                }
            }
            Err(failed) => {
                self.tally.commit_failures += 1;
                for waiting in failed.refused {
                    self.refuse(waiting);
                }
                self.recover();
            }
        }
    }

    fn ended(&mut self, ended: Ended, members: &[Member]) {
        let now = self.wall();
        let Some(life) = &mut self.life else { return };
        let mut effects = Vec::new();
        life.scheduler.step(Input::Ended(ended), now, &*self.rng, &mut effects);
        for Member { key, retried, owed_since } in members.iter().copied() {
            let disposition = effects.iter().find_map(|effect| match effect {
                Effect::Settle(settle) if settle.key == key => Some(settle.disposition),
                Effect::Settle(_) | Effect::Send(_) | Effect::Pause { .. } | Effect::Load { .. } => None,
            });
            let disposition = disposition.expect("every ended attempt is settled");
            let destination = self.destination(key.destination);
            let deadline = owed_since + destination.retry.give_up_after;
            let made = self.oracle.made(key) + 1;
            let earliest = not_before(now, made, retried, deadline.max(now));
            let dead = matches!(disposition, Disposition::Dead { .. });
            self.tally.dead += u64::from(dead);
            self.tally.holds += u64::from(retried == Retried::NotCounted);
            self.tally.splits += u64::from(retried == Retried::Split);
            self.tally.delivered += u64::from(disposition == Disposition::Sent);
            self.oracle.ended(key, retried, earliest, dead);
        }
        self.carry_out(effects);
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.wall();
        let Some(life) = &mut self.life else { return };
        let mut effects = Vec::new();
        life.scheduler.step(input, now, &*self.rng, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(batch) => self.send(batch),
                Effect::Pause { destination, pause } => self.gone(destination, pause),
                Effect::Settle(settle) => {
                    let Some(life) = &mut self.life else { return };
                    life.queue.push(Request { ops: vec![WriteOp::Settle(*settle)], reply: None });
                    self.plan_commit();
                }
                Effect::Load { destination, after, limit, bodies } => {
                    let Some(life) = &self.life else { return };
                    let number = life.number;
                    // Read now, told later: commits in between make the page stale.
                    let limit = limit.min(4);
                    let (took, page) = if self.read_fails() {
                        self.tally.failed_reads += 1;
                        (1000, Input::PageFailed { destination })
                    } else {
                        let rows = life.reader.outbox_page(destination, after, limit, bodies).expect("readable");
                        (self.rng.between(0, 30), Input::Page { destination, end: rows.len() < limit, rows })
                    };
                    self.plan_in(took, Happening::Page { life: number, page: Box::new(page) });
                }
            }
        }
        self.plan_tick();
    }

    fn plan_tick(&mut self) {
        let wall = self.wall();
        let Some(life) = &mut self.life else { return };
        if let Some(wake) = life.scheduler.next_wake()
            && let at = self.now + wake.since(wall)
            && life.tick_at.is_none_or(|planned| at < planned)
        {
            life.tick_at = Some(at);
            let number = life.number;
            self.plan_at(at, Happening::Tick { life: number });
        }
    }

    fn send(&mut self, batch: Vec<Owed>) {
        let at = self.wall();
        for owed in &batch {
            assert!(
                !self.listed.contains_key(&owed.key.destination),
                "sent to a destination that is not there: {owed:?}"
            );
            self.oracle.sending(owed, at);
        }
        self.tally.attempts += batch.len() as u64;
        self.tally.together += u64::from(batch.len() > 1);
        // What is not at hand is read in one go.
        let unread = batch.iter().any(|owed| owed.event.is_none()) && self.read_fails();
        self.tally.failed_reads += u64::from(unread);
        let Some(life) = &self.life else { return };
        let (number, instance) = (life.number, life.instance);
        let id = batch[0].key.destination;
        let destination = self.destination(id);
        let lane = life.scheduler.lane(id).expect("a lane");
        assert!(lane.in_flight() <= self.limit_of(id), "more in flight than allowed");
        assert!(batch.len() <= destination.adapter.batch_max(), "more together than allowed");
        let members: Vec<_> = batch.iter().map(|owed| (owed.key, owed.history.owed_since)).collect();
        let load = |owed: Owed| {
            let stored = || life.reader.event(owed.key.seq).expect("readable").expect("an owed event is stored");
            let event = match owed.event.clone().and_then(AtHand::event) {
                Some(event) => Ok(event),
                None if unread => Err(Missing::Unreadable("simulated".to_owned())),
                None => Ok(stored()),
            };
            Loaded { owed, called: None, event }
        };
        let rendering = render(&destination, instance, batch.into_iter().map(load).collect(), at);
        let how: Vec<Retried> = rendering.parts.iter().map(unsent).collect();
        let (ended, said) = match rendering.request {
            Some(made) => {
                let said = self.peers.get_mut(&id).expect("a peer").exchange(&made.request, &self.rng);
                let sent = Sent { parts: rendering.parts, at };
                let took = said.exchange.took;
                (
                    conclude(&destination, instance, sent, said.exchange, at + took),
                    Some((said.retried, said.taken, took)),
                )
            }
            None => (none_sent(rendering.parts), None),
        };
        let mut planned = Vec::new();
        for ((key, owed_since), how) in members.into_iter().zip(how) {
            let retried = match said {
                Some((retried, taken, _)) if how == Retried::Backoff => {
                    if taken {
                        self.oracle.taken(key);
                    }
                    retried
                }
                _ => how,
            };
            self.mix(key.seq.0);
            planned.push(Member { key, retried, owed_since });
        }
        let took = said.map_or(0, |(_, _, took)| took.0);
        self.plan_in(took, Happening::Ended { life: number, ended: Box::new(ended), members: planned });
    }

    pub(super) fn destination(&self, id: DestinationId) -> Arc<postbackd::config::snapshot::Destination> {
        let (name, _) = self.ids.iter().find(|(_, known)| **known == id).expect("a known destination");
        Arc::clone(&self.snapshot.destinations[name])
    }

    fn is_alive(&self, life: u64) -> bool {
        self.life.as_ref().is_some_and(|alive| alive.number == life)
    }

    pub(super) fn plan_in(&mut self, span: u64, happening: Happening) {
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
