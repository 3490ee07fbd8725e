//! Everything that goes wrong, and the operator who makes some of it good again.

use std::sync::Arc;

use postbackd::domain::id::{DeliveryKey, DestinationId};
use postbackd::domain::job::JobKind;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::Request;
use postbackd::pipeline::scheduler::Input;
use postbackd::pipeline::{jobs, maintenance};
use postbackd::store::SweepPlan;
use postbackd::store::job::Selection;
use postbackd::store::read::{DeliveryFilter, DlqEntry, Reader};
use postbackd::store::write::{Discard, JobPlan, Replay, WriteOp};

use crate::disk::Fault;
use crate::peers::Temper;
use crate::world::{Happening, Verb, Waiting, World};

const MINUTE: u64 = 60_000;

impl World {
    pub(super) fn crash(&mut self) {
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
        let down = self.rng.between(0, 2 * MINUTE);
        self.now = self.now + DurationMs(down);
        self.boot();
    }

    /// A commit or a sweep failed: as the writer does, open again until it works, and look at everything again.
    pub(super) fn recover(&mut self) {
        if self.disk.is_dead() {
            self.tally.cuts_in_commit += 1;
            return self.crash();
        }
        let Some(life) = &mut self.life else { return };
        life.closed = life.committer.reopen().is_err();
        if life.closed {
            self.tally.failed_reopens += 1;
            let number = life.number;
            return self.plan_in(1000, Happening::Recover { life: number });
        }
        self.tell_pauses();
        self.step(Input::Rescan);
        self.plan_commit();
    }

    pub(super) fn temper(&mut self, id: DestinationId) {
        let rng = Arc::clone(&self.rng);
        self.peers.get_mut(&id).expect("a peer").change_temper(&rng);
        let next = self.rng.between(MINUTE, 60 * MINUTE);
        self.plan_in(next, Happening::Temper(id));
    }

    pub(super) fn trouble(&mut self) {
        match self.rng.below(10) {
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
            _ => {
                self.tally.sync_losses += 1;
                self.disk.arm(self.rng.below(40), Fault::SyncLost);
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

    /// How long a commit takes.
    pub(super) fn sync_takes(&self) -> u64 {
        if self.now < self.slow_until { self.rng.between(30_000, 60_000) } else { self.rng.between(1, 20) }
    }

    /// The process dies and nothing else: what it wrote is there, synced or not.
    fn kill(&mut self) {
        self.tally.kills += 1;
        self.disk.disarm();
        let Some(life) = self.life.take() else { return };
        let lost: Vec<Waiting> = life.queue.into_iter().filter_map(|request| request.reply).collect();
        for waiting in lost {
            self.refuse(waiting);
        }
        // Nobody closes the file.
        self.disk.cut_off();
        drop((life.committer, life.reader));
        self.disk.plug_in();
        self.oracle.crashed();
        self.boot();
    }

    /// The machine sleeps, and everything that was to happen happens when it wakes; only the wall clock goes on.
    fn suspend(&mut self) {
        self.tally.suspensions += 1;
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
        self.skew = skew;
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
            let deliveries = keys.iter().map(|key| (*key, now)).collect();
            (Verb::Replay, WriteOp::Replay(Replay { at: now, deliveries }))
        } else {
            self.oracle.discard_asked.extend(&keys);
            (Verb::Discard, WriteOp::Discard(Discard { at: now, keys: keys.clone(), reason: "simulated".to_owned() }))
        };
        life.queue.push(Request { ops: vec![op], reply: Some(Waiting::Operator(verb, keys)) });
        self.plan_commit();
    }

    /// Retention, by a plan that is far too short for all but repeats, so that it finds something.
    pub(super) fn sweep(&mut self) {
        let next = self.rng.between(10 * MINUTE, 90 * MINUTE);
        self.plan_in(next, Happening::Sweep);
        let before = self.wall() - DurationMs(self.rng.between(90 * MINUTE, 180 * MINUTE));
        let part = |kept: u64| (!self.rng.percent(kept)).then_some(before);
        let (events_before, attempts_before, dlq_before) = (part(30), part(30), part(50));
        let (wall, monotonic) = (self.wall(), self.monotonic());
        let Some(life) = self.life.as_mut().filter(|life| !life.closed) else { return };
        // What makes a repeat is forgotten by the daemon's own rule, wherever the clock is.
        life.guard.look(wall, monotonic);
        let guarded = maintenance::plan(&self.snapshot.retention, life.guard.now(wall, monotonic));
        let known = Some(life.guard.known(monotonic));
        let plan = SweepPlan { events_before, attempts_before, dlq_before, known, ..guarded };
        // Also a sweep whose commit fails may have removed something.
        self.oracle.swept(&plan);
        let Ok(rows) = life.committer.store().sweep(&plan) else {
            self.tally.commit_failures += 1;
            return self.recover();
        };
        self.tally.swept_rows += rows as u64;
        let findings = life.reader.verify().expect("readable");
        assert!(findings.is_empty(), "after a sweep: {findings:#?}");
    }

    /// All trouble ends: peers are well, the disk is sound, nobody replays.
    pub(super) fn heal(&mut self) {
        self.disk.disarm();
        for peer in self.peers.values_mut() {
            peer.temper = Temper::Healthy;
        }
        self.agenda.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Crash
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
        // One last clean restart: what is on disk alone must be enough.
        self.crash();
        self.list_all();
        self.resume_all();
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
