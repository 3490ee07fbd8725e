//! The driver: the one task that owns the scheduler. It feeds it facts, carries out its wishes, and waits for whatever
//! comes next: a fact from the writer, an exchange that ended, a page that was read, or time.
//!
//! It never waits for the writer while the writer may wait for it: outcomes stand in a queue of their own until the
//! writer has room. That queue is bounded by the leases: a lane stops sending where too many outcomes wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tracing::{error, warn};

use crate::destination::Judgement;
use crate::domain::delivery::{Attempt, Autopsy, Phases};
use crate::domain::id::{DeliveryKey, DestinationId};
use crate::domain::name::DestinationName;
use crate::domain::outcome::{RetryReason, Verdict};
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::Env;
use crate::store::read::{Bodies, OutboxCursor, Reader};
use crate::store::write::{Owed, WriteOp};

use super::LaneView;
use super::board::Board;
use super::commit::Request;
use super::control::Control;
use super::dispatch::{Dispatcher, Report};
use super::gate::LaneState;
use super::journal::Journal;
use super::lane::Lane;
use super::maintenance::Maintenance;
use super::operator::{Act, Order};
use super::pulse::Probe;
use super::record::Recorder;
use super::routing::Routing;
use super::scheduler::{Effect, Ended, Input, Part, PartEnd, Scheduler};
use super::writer::Command;

/// The driver looks at everything at least this often, which is also all it does when nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// The same where nothing is owed that it knows of: then not even a clock that is set could make anything due.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// Ends of attempts taken at once.
const ENDS_AT_ONCE: usize = 64;
/// How often the board is written while things happen.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// How often statistics that changed are saved: what a kill may cost of them.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How long a page that could not be read waits before it is asked for again.
const PAGE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub env: Env,
    pub routing: Arc<Routing>,
    /// What the routing is to be from now on.
    pub routings: watch::Receiver<Arc<Routing>>,
    pub scheduler: Scheduler,
    pub dispatcher: Dispatcher,
    pub reader: Reader,
    pub board: Arc<Board>,
    pub facts: mpsc::Receiver<Vec<Input>>,
    pub orders: mpsc::Receiver<Order>,
    pub probes: mpsc::Receiver<Probe>,
    pub writer: mpsc::Sender<Command>,
    pub drain: oneshot::Receiver<DrainRequest>,
    pub maintenance: Maintenance,
    /// Every destination since the start: of one that has gone, what was under way still ends, and its statistics are kept.
    pub known: BTreeMap<DestinationId, DestinationName>,
}

/// Asks the driver to send nothing more and to end when nothing is in flight, or after `limit`.
#[derive(Debug)]
pub(super) struct DrainRequest {
    pub limit: Duration,
    /// Answered when every outcome is with the writer.
    pub done: oneshot::Sender<()>,
}

/// What runs beside the driver on its behalf.
#[derive(Default)]
struct Work {
    attempts: JoinSet<Report>,
    /// Which deliveries an attempt is for, in case it panics.
    running: HashMap<Id, Vec<DeliveryKey>>,
    pages: JoinSet<Input>,
    /// Outcomes, and pauses that lanes made themselves.
    outcomes: VecDeque<WriteOp>,
    effects: Vec<Effect>,
    /// When the board has to be written again, at the latest.
    show_at: Option<Duration>,
    /// The board is not written again before.
    shown_until: Duration,
    /// When everything is looked at again, however busy it is in between.
    tick_at: Duration,
    /// When statistics are saved again.
    save_at: Duration,
    journal: Journal,
}

impl Driver {
    /// Runs until it was drained or everyone who could tell it anything is gone.
    pub(super) async fn run(mut self) {
        let mut work = Work::default();
        let mut drain: Option<DrainRequest> = None;
        let cut_off = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(cut_off);
        self.step(Input::Tick, &mut work);
        loop {
            if drain.is_some() && self.scheduler.in_flight() == 0 && work.outcomes.is_empty() {
                break;
            }
            self.maintain(&mut work);
            let wake = self.wake(&work);
            let writer = self.writer.clone();
            tokio::select! {
                facts = self.facts.recv() => {
                    let Some(facts) = facts else { break };
                    self.follow(&mut work);
                    for fact in facts {
                        self.step(fact, &mut work);
                    }
                }
                Some(ended) = work.attempts.join_next_with_id() => self.attempts_ended(ended, &mut work),
                Some(page) = work.pages.join_next() => match page {
                    Ok(page) => self.step(page, &mut work),
                    Err(error) => error!(%error, "Reading a page of the outbox panicked."),
                },
                Some(order) = self.orders.recv() => self.obey(order, &mut work),
                Some(probe) = self.probes.recv() => probe.answer(),
                permit = writer.reserve(), if !work.outcomes.is_empty() => match permit {
                    Ok(permit) => permit.send(outcomes(&mut work)),
                    Err(_) => break,
                },
                Ok(()) = self.routings.changed() => self.reroute(&mut work),
                asked = &mut self.drain, if drain.is_none() => {
                    // Without anyone to ask, nobody is left to work for.
                    let Ok(request) = asked else { break };
                    cut_off.set(tokio::time::sleep(request.limit));
                    drain = Some(request);
                    self.step(Input::Drain, &mut work);
                }
                () = &mut cut_off, if drain.is_some() => break,
                () = tokio::time::sleep(wake) => self.step(Input::Tick, &mut work),
            }
        }
        self.finish(work).await;
        if let Some(request) = drain {
            // Whoever asked may be gone; there is nothing to do about it.
            request.done.send(()).ok();
        }
    }

    /// Hands every outcome that is known to the writer. What is still in flight is cut off: not an attempt, owed as before.
    async fn finish(mut self, mut work: Work) {
        while let Some(ended) = work.attempts.try_join_next_with_id() {
            self.attempt_ended(ended, &mut work);
        }
        self.save_stats(&mut work);
        let Self { facts, writer, .. } = self;
        // The writer must not wait for us while we wait for it.
        drop(facts);
        if !work.outcomes.is_empty() {
            drop(writer.send(outcomes(&mut work)).await);
        }
        work.attempts.shutdown().await;
        work.pages.shutdown().await;
    }

    fn wake(&self, work: &Work) -> Duration {
        let now = self.env.clock.now();
        let show = work.show_at.map(|at| at.saturating_sub(self.env.clock.monotonic()));
        let next = self.scheduler.next_wake().map(|at| at.since(now).to_std());
        let tick = work.tick_at.saturating_sub(self.env.clock.monotonic());
        show.into_iter().chain(next).fold(tick, Duration::min)
    }

    fn step(&mut self, input: Input, work: &mut Work) {
        let now = self.env.clock.now();
        self.scheduler.step(input, now, &*self.env.entropy, &mut work.effects);
        for effect in std::mem::take(&mut work.effects) {
            match effect {
                Effect::Send(batch) => self.send(batch, work),
                Effect::Settle(settle) => work.outcomes.push_back(WriteOp::Settle(*settle)),
                Effect::Pause { destination, pause } => {
                    work.outcomes.push_back(WriteOp::Pause { destination, pause });
                }
                Effect::Load { destination, after, limit, bodies } => {
                    self.load(destination, (after, limit, bodies), work);
                }
            }
        }
        self.show(now, work);
    }

    /// Takes over another configuration if there is one. Whoever knows of it may speak to lanes that begin with it, so it
    /// comes before what they say.
    fn follow(&mut self, work: &mut Work) {
        // An error means that nobody is left to change it.
        if self.routings.has_changed().unwrap_or(false) {
            self.reroute(work);
        }
    }

    /// Takes over another configuration. Exchanges under way end as they began, and their outcomes are settled.
    fn reroute(&mut self, work: &mut Work) {
        let routing = Arc::clone(&self.routings.borrow_and_update());
        let before = std::mem::replace(&mut self.routing, routing);
        self.known.extend(self.routing.names());
        let changed = self.routing.changed_since(&before);
        for name in self.routing.gone_since(&before) {
            self.board.remove_lane(name);
        }
        let pauses = self.routing.pauses().clone();
        self.step(Input::Rules { rules: self.routing.rules(), changed, pauses }, work);
    }

    fn send(&self, batch: Vec<Owed>, work: &mut Work) {
        let keys: Vec<DeliveryKey> = batch.iter().map(|owed| owed.key).collect();
        let destination = keys.first().and_then(|key| self.routing.destination(key.destination));
        let Some(destination) = destination else { return };
        let attempt = self.dispatcher.clone().attempt(Arc::clone(destination), batch);
        let id = work.attempts.spawn(attempt).id();
        work.running.insert(id, keys);
    }

    fn load(
        &self,
        destination: DestinationId,
        (after, limit, bodies): (Option<OutboxCursor>, usize, Bodies),
        work: &mut Work,
    ) {
        let reader = self.reader.clone();
        work.pages.spawn(async move {
            let read = tokio::task::spawn_blocking(move || reader.outbox_page(destination, after, limit, bodies)).await;
            match read {
                Ok(Ok(rows)) => Input::Page { destination, end: rows.len() < limit, rows },
                failed => {
                    warn!(?failed, "A page of the outbox could not be read; asking again.");
                    tokio::time::sleep(PAGE_PAUSE).await;
                    Input::PageFailed { destination }
                }
            }
        });
    }

    /// One attempt has ended, and with it whatever others have by now: their outcomes go to the writer together.
    fn attempts_ended(&mut self, first: Result<(Id, Report), tokio::task::JoinError>, work: &mut Work) {
        self.attempt_ended(first, work);
        for _ in 1..ENDS_AT_ONCE {
            let Some(ended) = work.attempts.try_join_next_with_id() else { break };
            self.attempt_ended(ended, work);
        }
    }

    fn attempt_ended(&mut self, ended: Result<(Id, Report), tokio::task::JoinError>, work: &mut Work) {
        let ended = match ended {
            Ok((id, report)) => {
                work.running.remove(&id);
                self.record(&report, &mut work.journal);
                report.ended
            }
            Err(error) => {
                let Some(keys) = work.running.remove(&error.id()) else { return };
                error!(?keys, %error, "An attempt panicked; it counts as failed.");
                self.board.metrics().panicked();
                let numbered = keys.into_iter().map(|key| (key, self.scheduler.next_attempt(key))).collect();
                panicked(numbered, self.env.clock.now())
            }
        };
        self.step(Input::Ended(ended), work);
    }

    fn record(&self, report: &Report, journal: &mut Journal) {
        let Some(key) = report.ended.parts.first().map(|part| part.key) else { return };
        let Some(destination) = self.known.get(&key.destination) else { return };
        let recorder = Recorder {
            board: &self.board,
            destination,
            instance: self.dispatcher.instance,
            now: self.env.clock.now(),
            monotonic: self.env.clock.monotonic(),
        };
        recorder.record(report, journal);
    }

    fn maintain(&mut self, work: &mut Work) {
        let clock = self.env.clock.monotonic();
        if clock < work.tick_at {
            return;
        }
        self.step(Input::Tick, work);
        work.tick_at = clock + if self.scheduler.is_idle() { IDLE_TICK } else { TICK };
        if clock >= work.save_at {
            work.save_at = clock + SAVE_EVERY;
            self.save_stats(work);
        }
        if self.reader.medium_fault().is_some() {
            // The writer ends by it, and may have nothing else to wake up for.
            drop(self.writer.try_send(Command::Nudge));
        }
        if let Some(upkeep) = self.maintenance.due(clock, self.env.clock.now(), &self.routing.snapshot) {
            // Retention can wait: a full queue means there is more important work.
            drop(self.writer.try_send(Command::Sweep(upkeep)));
        }
    }

    /// Has the writer keep the statistics that changed, beside whatever else it commits.
    fn save_stats(&self, work: &mut Work) {
        let mut changed = self.board.stats_changes();
        for (destination, name) in &self.known {
            if let Some(changes) = changed.remove(name) {
                let (destination, changes) = (*destination, Box::new(changes));
                work.outcomes.push_back(WriteOp::SaveStats { destination, changes });
            }
        }
    }

    /// Writes the board, at most every [`SHOW_EVERY`]: people look at it, nothing is decided by it.
    fn show(&self, now: UnixMs, work: &mut Work) {
        let clock = self.env.clock.monotonic();
        if clock < work.shown_until {
            work.show_at = Some(work.shown_until);
            return;
        }
        (work.show_at, work.shown_until) = (None, clock + SHOW_EVERY);
        for (id, lane) in self.scheduler.lanes() {
            self.show_lane(id, lane, now, &mut work.journal);
        }
    }

    /// Before the first step, as a pause holds from the start: whoever looks earlier must not take the lane for one that sends.
    pub(super) fn show_first(&self, now: UnixMs) {
        for (id, lane) in self.scheduler.lanes() {
            if let Some(destination) = self.routing.destination(id) {
                self.board.set_lane(&destination.name, view(lane, now));
            }
        }
    }

    /// A lane whose destination has gone from the configuration is told by the books, not by the board.
    fn show_lane(&self, id: DestinationId, lane: &Lane, now: UnixMs, journal: &mut Journal) -> LaneView {
        let view = view(lane, now);
        if let Some(destination) = self.routing.destination(id) {
            journal.lane(id, &destination.name, &view);
            self.board.set_lane(&destination.name, view.clone());
        }
        view
    }

    /// Does what an operator says and answers with the state after it. What was committed before the order was given is in
    /// the queue of facts by then, and has to be known first.
    fn obey(&mut self, order: Order, work: &mut Work) {
        self.follow(work);
        for _ in 0..self.facts.len() {
            match self.facts.try_recv() {
                Ok(facts) => facts.into_iter().for_each(|fact| self.step(fact, work)),
                Err(_) => break,
            }
        }
        let (destination, act, reply) = match order {
            Order::Do { destination, act, reply } => (destination, act, reply),
            Order::UnderWay { destination, reply } => {
                let lane = self.scheduler.lane(destination);
                drop(reply.send(lane.map(Lane::under_way).unwrap_or_default()));
                return;
            }
        };
        match act {
            Act::Look => {}
            Act::Release => self.step(Input::Control(Control::Release { destination }), work),
        }
        let now = self.env.clock.now();
        if let Some(lane) = self.scheduler.lane(destination) {
            // Whoever asked may have gone away.
            drop(reply.send(self.show_lane(destination, lane, now, &mut work.journal)));
        }
    }
}

fn outcomes(work: &mut Work) -> Command {
    let ops = work.outcomes.drain(..).collect();
    Command::Write(Request { ops, reply: None })
}

/// It counts: an event that breaks us must not be tried for ever, and the request may have left. Of several events one is
/// to blame, and it is looked for as if the destination had refused them all.
fn panicked(deliveries: Vec<(DeliveryKey, u32)>, at: UnixMs) -> Ended {
    let detail = "the attempt panicked inside postbackd; this is a bug worth reporting".to_owned();
    let alone = Verdict::Ambiguous { reason: RetryReason::Ambiguous };
    let verdict = if deliveries.len() > 1 { Verdict::BatchFault } else { alone };
    let part = |(key, n)| {
        let autopsy = Autopsy { detail: detail.clone(), request: None, http_status: None, response: String::new() };
        let attempt = Attempt {
            n,
            at,
            took: DurationMs::ZERO,
            http_status: None,
            verdict: verdict.as_str().to_owned(),
            response: detail.clone(),
            left_out: Vec::new(),
            phases: Phases::default(),
            proxy: None,
            called: None,
        };
        Part { key, end: PartEnd::Exchanged { attempt, autopsy } }
    };
    let parts = deliveries.into_iter().map(part).collect();
    Ended { parts, answer: Some(Judgement::new(verdict, detail)) }
}

fn view(lane: &Lane, now: UnixMs) -> LaneView {
    let (state, reason, until) = match lane.state() {
        LaneState::Active => ("active", None, None),
        LaneState::Throttled { until } if *until <= now => ("active", None, None),
        LaneState::Throttled { until } => {
            ("throttled", Some("the destination asked for patience".to_owned()), Some(*until))
        }
        LaneState::Open { last, probe_at, .. } => ("open", Some(last.clone()), Some(*probe_at)),
        LaneState::Held { fault, probe_at, .. } => ("held", Some(fault.clone()), Some(*probe_at)),
        LaneState::Orphaned => ("orphaned", Some("not in the configuration".to_owned()), None),
        LaneState::Paused(pause) => ("paused", Some(pause.reason.clone()), pause.until),
        LaneState::Disabled => ("disabled", Some("enabled = false in the configuration".to_owned()), None),
    };
    let paused_by = lane.state().paused_by();
    LaneView { state, reason, until, paused_by, in_flight: lane.in_flight() }
}
