//! Everything that goes wrong, and the operator who makes some of it good again.

use std::sync::Arc;

use postbackd::domain::id::{DeliveryKey, DestinationId};
use postbackd::domain::job::JobKind;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::Request;
use postbackd::pipeline::{jobs, maintenance};
use postbackd::store::job::Selection;
use postbackd::store::read::{DeliveryFilter, DlqEntry, Reader};
use postbackd::store::write::{Discard, JobPlan, Replay, WriteOp};
use postbackd::store::{Rush, Slice, SweepPlan};

use crate::disk::Fault;
use crate::peers::Temper;
use crate::setup::{Plan, STRANGERS};
use crate::world::{Happening, Phase, Verb, Waiting, World};

const MINUTE: u64 = 60_000;

impl World {
    pub(super) fn temper(&mut self, id: DestinationId) {
        let rng = Arc::clone(&self.rng);
        self.peers.get_mut(&id).expect("a peer").change_temper(&rng);
        let next = self.rng.between(MINUTE, 60 * MINUTE);
        self.plan_in(next, Happening::Temper(id));
    }

    pub(super) fn trouble(&mut self) {
        match self.rng.below(12) {
            0 => self.plan_in(0, Happening::Crash),
            1 => self.disk.arm(self.rng.below(40), Fault::PowerCut),
            2 => self.disk.arm(self.rng.below(40), Fault::Full),
            3 => {
                self.disk.arm(self.rng.below(40), Fault::StaysFull);
                self.mend_later();
            }
            4 => self.set_clock(),
            5 => {
                let fault = if self.rng.percent(50) { Fault::Once } else { Fault::ForGood };
                self.tally.broken_disks += 1;
                self.disk.arm(self.rng.below(40), fault);
                self.mend_later();
            }
            6 => {
                self.tally.slow_syncs += 1;
                self.slow_until = self.now + DurationMs(self.rng.between(MINUTE, 20 * MINUTE));
            }
            7 => self.suspend(),
            8 => self.kill(),
            9 => {
                self.tally.sync_losses += 1;
                self.disk.arm(self.rng.below(40), Fault::SyncLost);
            }
            10 if self.strangers == 0 && self.rng.percent(25) => self.flood(),
            _ => {
                self.tally.rooms_lost += 1;
                self.disk.arm(self.rng.below(40), Fault::RoomLost);
            }
        }
        let next = self.rng.between(MINUTE, 40 * MINUTE);
        self.plan_in(next, Happening::Trouble);
    }

    /// Space is freed, or the disk replaced: mostly soon, sometimes after hours.
    fn mend_later(&mut self) {
        let longest = if self.rng.percent(20) { 180 } else { 10 };
        let lasts = self.rng.between(1000, longest * MINUTE);
        self.plan_in(lasts, Happening::SpaceIsFreed);
    }

    /// Somebody who has a token sends ids that never come again, and the disk has room for few of them.
    fn flood(&mut self) {
        let room = self.rng.below(64 * 1024);
        self.disk.limit(usize::try_from(room).expect("small"));
        self.mend_later();
        let count = self.rng.between(30, 90);
        self.strangers += count;
        self.tally.strangers += count;
        let plan = |at| (STRANGERS..STRANGERS + count).map(move |identity| Plan { identity, variant: 0, at });
        let plans: Vec<Plan> = plan(self.now).collect();
        for request in plans.chunks(6) {
            self.submit(request.to_vec());
        }
    }

    /// A commit found no room. Where that is for strangers' events, all are refused from here on, and what is left, the reserve,
    /// is for outcomes.
    pub(super) fn out_of_room(&mut self, refused: &[Waiting]) {
        self.is_short |= self.disk.lift_limit();
        for waiting in refused {
            if let Waiting::Sender(plans) = waiting {
                self.tally.refused += plans.len() as u64;
            }
        }
    }

    /// How long a commit takes.
    pub(super) fn sync_takes(&self) -> u64 {
        if self.now < self.slow_until { self.rng.between(30_000, 60_000) } else { self.rng.between(1, 20) }
    }

    /// The machine sleeps, and everything that was to happen happens when it wakes; only the wall clock goes on.
    fn suspend(&mut self) {
        self.tally.suspensions += 1;
        self.calm_down();
        let asleep = self.rng.between(MINUTE, 120 * MINUTE);
        self.slept += asleep;
        self.now = self.now + DurationMs(asleep);
    }

    /// The wall clock is set by up to an hour, either way; in some worlds by years, for a while.
    fn set_clock(&mut self) {
        if self.is_wild && self.rng.percent(60) {
            self.tally.wild_clocks += 1;
            let year = 365 * 24 * 60 * i64::try_from(MINUTE).expect("small");
            let back_to_1970 = -i64::try_from(self.now.0 - 5000).expect("before 1970 is nothing");
            let skew = [-year, 10 * year, back_to_1970, year][self.rng.below(4) as usize];
            let lasts = self.rng.between(MINUTE, 60 * MINUTE);
            self.plan_in(lasts, Happening::ClockIsRight);
            // Some machines begin with it.
            if self.rng.percent(50) {
                self.plan_in(1, Happening::Crash);
            }
            return self.set_skew(skew);
        }
        let by = i64::try_from(self.rng.below(60 * MINUTE)).expect("small");
        self.set_skew(self.skew + if self.rng.percent(50) { by } else { -by });
    }

    /// The daemon sees it at its next tick, a second later at most.
    pub(super) fn set_skew(&mut self, skew: i64) {
        let before = self.wall();
        self.calm_down();
        // No machine's clock can be set before 1970, where it would stand still here.
        self.skew = skew.max(-i64::try_from(self.now.0).expect("before 1970 is nothing"));
        self.oracle.clock_set_back(before.since(self.wall()));
        self.tally.clock_steps += 1;
        let Some(life) = &mut self.life else { return };
        // What was planned by the old clock is void.
        life.tick_at = None;
        let number = life.number;
        let seen = self.rng.between(0, 1000);
        self.plan_in(seen, Happening::Tick { life: number });
    }

    pub(super) fn operator(&mut self) {
        let next = self.rng.between(10 * MINUTE, 120 * MINUTE);
        self.plan_in(next, Happening::Operator);
        let now = self.wall();
        let Some(life) = self.life.as_mut().filter(|life| !life.closed) else { return };
        // Every other time a job has its turn, so that it goes on through whatever happens between.
        self.turns += 1;
        if self.turns.is_multiple_of(2) {
            return self.work_off_jobs();
        }
        let page = life.reader.dlq(&DeliveryFilter::default(), None, 10).expect("readable");
        let keys: Vec<_> = page.rows.iter().map(|dead| dead.entry.key).collect();
        if keys.is_empty() {
            return;
        }
        let (verb, op) = if self.rng.percent(70) {
            (Verb::Replay, WriteOp::Replay(Replay { at: now, keys: keys.clone() }))
        } else {
            self.oracle.discard_asked.extend(&keys);
            (Verb::Discard, WriteOp::Discard(Discard { at: now, keys: keys.clone(), reason: "simulated".to_owned() }))
        };
        life.queue.push(Request { ops: vec![op], reply: Some(Waiting::Operator(verb, keys)) });
        self.plan_commit();
    }

    /// Retention, by a plan that is far too short for all but repeats, so that it finds something.
    pub(super) fn sweep(&mut self) {
        let before = self.wall() - DurationMs(self.rng.between(90 * MINUTE, 180 * MINUTE));
        let part = |kept: u64| (!self.rng.percent(kept)).then_some(before);
        let (events_before, attempts_before, dlq_before) = (part(30), part(30), part(50));
        let excess = if self.rng.percent(30) { self.rng.between(1, 40_000) } else { 0 };
        let (wall, monotonic) = (self.wall(), self.monotonic());
        let Some(life) = self.life.as_mut().filter(|life| !life.closed) else { return };
        // What makes a repeat is forgotten by the daemon's own rule, wherever the clock is.
        life.guard.look(wall, monotonic);
        let guarded = maintenance::plan(&self.snapshot.retention, life.guard.now(wall, monotonic));
        let known = Some(life.guard.known(monotonic));
        // Either by age, or the oldest for their size.
        let aged = SweepPlan { events_before, attempts_before, dlq_before, ..guarded };
        let plan = SweepPlan { known, ..if excess > 0 { SweepPlan::default() } else { aged } };
        // Also a sweep whose commit fails may have removed something.
        self.oracle.swept(&plan, excess);
        let slice = Slice { plan, excess, enough: &|| false };
        let rows = match life.committer.store().commit_beside(&[], Some(&slice), Rush::Calm) {
            Ok((_, swept)) => swept.map_or(0, |swept| swept.rows) as u64,
            Err(error) => {
                self.tally.commit_failures += 1;
                return self.recover(&error);
            }
        };
        self.tally.swept_rows += rows;
        self.tally.shed_rows += if excess > 0 { rows } else { 0 };
        let findings = life.reader.verify().expect("readable");
        assert!(findings.is_empty(), "after a sweep: {findings:#?}");
    }

    /// All trouble ends: peers are well, the disk is sound, nobody replays. Half of the time the process has to get over it by
    /// itself, and is started anew only when it has.
    pub(super) fn heal(&mut self) {
        (self.phase, self.is_short, self.slow_until) = (Phase::Healing, false, self.now);
        self.disk.disarm();
        for peer in self.peers.values_mut() {
            peer.temper = Temper::Healthy;
        }
        self.agenda.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Crash
                    | Happening::Start
                    | Happening::Temper(_)
                    | Happening::Trouble
                    | Happening::Operator
                    | Happening::Reload
                    | Happening::Controls
                    | Happening::Sweep
                    | Happening::Keeping
                    | Happening::ClockIsRight
                    | Happening::SpaceIsFreed
            )
        });
        let works = !self.disk.is_dead() && self.life.as_ref().is_some_and(|life| !life.closed);
        if works && self.rng.percent(50) {
            self.tally.healed_in_place += 1;
            // For receivers that say only now that they are gone.
            self.plan_in(5 * MINUTE, Happening::ResumeAll);
        } else {
            self.restart();
        }
        self.list_all();
        self.resume_all();
    }

    /// One last start: what is on disk alone must be enough.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Restarted;
        self.crash();
    }

    /// Every so often a read fails although the disk is well.
    pub(super) fn read_fails(&self) -> bool {
        let closed = self.life.as_ref().is_none_or(|life| life.closed);
        closed || (self.now < UnixMs(crate::setup::START.0 + 8 * 60 * MINUTE) && self.rng.percent(2))
    }
}

impl World {
    /// Dead deliveries that no replay helps: refused for good, or too old for their platform.
    pub(super) fn hopeless(&self) -> u64 {
        let life = self.life.as_ref().expect("alive");
        let page = life.reader.dlq(&DeliveryFilter::default(), None, 1000).expect("readable");
        let hopeless = |dead: &DlqEntry| {
            let event = life.reader.event(dead.entry.key.seq).expect("readable");
            let is_expired = dead.entry.delivery.state.reason() == Some("expired");
            is_expired || event.is_some_and(|event| event.data.contains_key("poison"))
        };
        page.rows.iter().filter(|dead| hopeless(dead)).count() as u64
    }

    /// A page of the job that replays everything.
    pub(super) fn work_off_jobs(&mut self) {
        let now = self.wall();
        let Some(life) = &mut self.life else { return };
        let (ops, keys) = job_turn(&life.reader, now);
        life.queue.push(Request { ops, reply: Some(Waiting::Job(keys)) });
        self.plan_commit();
    }
}

/// The next few deliveries of the job that runs; where there is none, the start of one that replays everything.
fn job_turn(reader: &Reader, now: UnixMs) -> (Vec<WriteOp>, Vec<DeliveryKey>) {
    if let Some(job) = reader.running_jobs().expect("readable").first() {
        let page = jobs::next_page(reader, job, 3, now, now).expect("readable");
        let keys = page.keys.clone();
        return (vec![WriteOp::JobPage(page)], keys);
    }
    let filter = DeliveryFilter::default();
    let matched = jobs::count(reader, &filter).expect("readable");
    let selection = Selection::Filter(Box::new(filter));
    let reason = "simulated".to_owned();
    let plan = JobPlan { at: now, kind: JobKind::Replay, selection, rate: None, reason, matched };
    (vec![WriteOp::JobStart(plan)], Vec::new())
}
