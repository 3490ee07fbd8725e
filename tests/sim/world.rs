//! The simulated machine: real store, real committer, real scheduler, real adapters; virtual time, disk, peers and senders.
//!
//! Everything happens at a time on one agenda, in one thread. The parts the async shell does in the daemon (waiting,
//! moving facts and effects) are done here in a few lines each; every decision is the daemon's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::config::snapshot::Snapshot;
use postbackd::domain::alert::AlertMemory;
use postbackd::domain::id::{DeliveryKey, DestinationId};
use postbackd::domain::name::DestinationName;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::Request;
use postbackd::pipeline::dispatch::{Loaded, Missing, Rendered, Sent, conclude, none_sent, render};
use postbackd::pipeline::scheduler::{Effect, Ended, Input};
use postbackd::store::write::{Owed, WriteOp};
use postbackd::store::{Counts, Rush, StoreError};

use crate::disk::Disk;
use crate::keeping::Taken;
use crate::liveness::Odd;
use crate::lives::Life;
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
    answered_at: UnixMs,
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
    Start,
    Temper(DestinationId),
    Trouble,
    Recover {
        life: u64,
    },
    SpaceIsFreed,
    Operator,
    ResumeAll,
    Reload,
    Controls,
    Sweep,
    Keeping,
    /// The clock is right again.
    ClockIsRight,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Trouble,
    /// All trouble has ended; the process is the one that met it.
    Healing,
    /// And the process was started anew.
    Restarted,
}

/// What is thought of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Trusted,
    /// It has failed under the store, and the store was not read as a whole since.
    Suspect,
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
    /// There is less room than outcomes want: events are refused.
    pub(super) is_short: bool,
    /// Events so far whose ids never come again.
    pub(super) strangers: u64,
    pub(super) medium: Medium,
    /// Whether the file is taken for a large one.
    pub(super) is_large: bool,
    /// Commits to come that are looked at as a power cut would leave them.
    pub(super) looked_at: u32,
    pub(super) phase: Phase,
    /// Since when something seems to be forgotten.
    pub(super) odd: BTreeMap<(DestinationId, Odd), UnixMs>,
    pub(super) watched_at: UnixMs,
    /// How often each destination has moved.
    pub(super) moves: BTreeMap<DestinationId, u64>,
    pub(super) backup: Option<Taken>,
    order: u64,
    pub(super) agenda: BTreeMap<(UnixMs, u64), Happening>,
    pub(super) disk: Disk,
    pub(super) life: Option<Life>,
    pub(super) lives: u64,
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
        let (is_wild, is_large) = (rng.percent(25), rng.percent(50));
        let mut world = Self {
            rng,
            now: START,
            skew: 0,
            slept: 0,
            is_wild,
            limits: BTreeMap::new(),
            granted: BTreeMap::new(),
            slow_until: START,
            is_short: false,
            strangers: 0,
            medium: Medium::Trusted,
            is_large,
            looked_at: 0,
            phase: Phase::Trouble,
            odd: BTreeMap::new(),
            watched_at: START,
            moves: BTreeMap::new(),
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
        world.start();
        let hosts = world.ids.iter().map(|(name, id)| (*id, Peer::new(setup::host(name, 0))));
        world.peers = hosts.collect();
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
        let mut end = START + TROUBLE;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > end && self.phase == Phase::Trouble {
                // What would happen now is among what ends, or happens after it.
                self.plan_at(at, happening);
                self.heal();
                end = self.now.max(end) + RECOVERY;
                continue;
            }
            assert!(
                self.phase == Phase::Trouble || at <= end,
                "still busy {RECOVERY} after all trouble ended: {happening:?}; {}",
                self.what_is_left()
            );
            self.now = self.now.max(at);
            self.mix(at.0);
            self.happen(happening);
            self.look();
            match self.phase {
                // What the process knew is one thing; what is on disk must be enough.
                Phase::Healing if self.is_quiet() => self.restart(),
                Phase::Restarted if self.is_quiet() => break,
                Phase::Trouble | Phase::Healing | Phase::Restarted => {}
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
            Happening::Recover { life } if self.is_alive(life) => self.reopen(),
            // What belongs to an earlier life is lost with it.
            Happening::Commit { .. }
            | Happening::Ended { .. }
            | Happening::Page { .. }
            | Happening::Tick { .. }
            | Happening::Recover { .. } => {}
            Happening::SpaceIsFreed => {
                self.is_short = false;
                self.disk.disarm();
            }
            Happening::Crash => self.crash(),
            Happening::Start => self.start(),
            Happening::Temper(id) => self.temper(id),
            Happening::Trouble => self.trouble(),
            Happening::Operator => self.operator(),
            Happening::ResumeAll => self.resume_all(),
            Happening::Reload => self.reload(),
            Happening::Controls => self.controls(),
            Happening::Sweep => {
                let next = self.rng.between(600_000, 5_400_000);
                self.plan_in(next, Happening::Sweep);
                self.sweep();
            }
            Happening::Keeping => self.keep_house(),
            Happening::ClockIsRight => self.set_skew(0),
        }
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

    pub(super) fn commit(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.commit_planned = false;
        if life.closed {
            return;
        }
        let requests = std::mem::take(&mut life.queue);
        let rush = if self.rng.percent(50) { Rush::Calm } else { Rush::Hurried };
        match life.committer.commit_beside(requests, None, rush) {
            Ok((committed, _)) => {
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
                self.committed();
            }
            Err(failed) => {
                self.tally.commit_failures += 1;
                if matches!(failed.error, StoreError::Full(_)) {
                    self.out_of_room(&failed.refused);
                }
                for waiting in failed.refused {
                    self.refuse(waiting);
                }
                self.recover(&failed.error);
            }
        }
    }

    fn ended(&mut self, ended: Ended, members: &[Member]) {
        let now = self.wall();
        let Some(life) = &mut self.life else { return };
        let mut effects = Vec::new();
        life.scheduler.step(Input::Ended(ended), now, &*self.rng, &mut effects);
        for Member { key, retried, owed_since, answered_at } in members.iter().copied() {
            let disposition = effects.iter().find_map(|effect| match effect {
                Effect::Settle(settle) if settle.key == key => Some(settle.disposition),
                Effect::Settle(_) | Effect::Send(_) | Effect::Pause { .. } | Effect::Load { .. } => None,
            });
            let disposition = disposition.expect("every ended attempt is settled");
            let destination = self.destination(key.destination);
            let deadline = owed_since + destination.retry.give_up_after;
            let made = self.oracle.made(key) + 1;
            let earliest = not_before(now, answered_at, made, retried, deadline.max(now));
            let dead = matches!(disposition, Disposition::Dead { .. });
            self.tally.dead += u64::from(dead);
            self.tally.holds += u64::from(retried == Retried::NotCounted);
            self.tally.splits += u64::from(retried == Retried::Split);
            let delivered = u64::from(disposition == Disposition::Sent);
            self.tally.delivered += delivered;
            self.tally.delivered_while_short += if self.is_short { delivered } else { 0 };
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
        self.odd.remove(&(batch[0].key.destination, Odd::Idle));
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
            let event = match owed.event.clone() {
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
        let took = said.map_or(DurationMs::ZERO, |(_, _, took)| took);
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
            planned.push(Member { key, retried, owed_since, answered_at: at + took });
        }
        self.plan_in(took.0, Happening::Ended { life: number, ended: Box::new(ended), members: planned });
    }

    pub(super) fn destination(&self, id: DestinationId) -> Arc<postbackd::config::snapshot::Destination> {
        let (name, _) = self.ids.iter().find(|(_, known)| **known == id).expect("a known destination");
        Arc::clone(&self.snapshot.destinations[name])
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
