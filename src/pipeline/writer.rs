//! The one writer: a thread that takes whatever requests have gathered while the last commit ran and commits them as one
//! transaction (natural group commit: what somebody waits for waits for no company).
//!
//! What nobody waits for goes along: outcomes of attempts ([`super::outcomes`]), retention and pages of jobs
//! ([`super::background`]).

mod command;
mod fault;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::domain::limits::{TRANSACTION_BYTES, TRANSACTION_OPS};
use crate::domain::name::SourceName;
use crate::env::clock::Clock;
use crate::store::write::WriteOp;
use crate::store::{Rush, Slice, StoreError, SweepPlan};

use super::Unavailable;
use super::background::{Background, Piece};
use super::board::Board;
use super::budget::Company;
use super::commit::{Committed, Committer, Failed, Request};
use super::control::Control;
use super::disk::DiskGuard;
use super::numbering::Numbering;
use super::outcomes::Outcomes;
use super::rarely::Rarely;
use super::scheduler::Input;
use super::seal::Seal;
use super::upkeep::Stopwatch;

pub(super) use command::{Command, Reply};
use command::{accepts, receive};
pub use fault::WriterFault;

/// Refused events that wait to be counted in the books.
pub(super) type Rejected = Arc<Mutex<BTreeMap<SourceName, u64>>>;

/// Pauses between tries to open a store whose disk is full.
pub(super) const REOPEN_PAUSE: Duration = Duration::from_millis(250);
/// How often the writer looks, when it has anything to do, whether the store's file is still in its place. Retention wakes it
/// every few seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What to do about a file that is gone while it is open.
pub(super) const RESCUE: &str = "What is open can still be saved: put the file back if it was moved; else postbackd backup, \
                                 then stop, postbackd restore FILE, start. Do not stop before there is a backup.";
/// Tries to open the store again after an error other than a full disk.
const REOPEN_TRIES: u32 = 3;

pub(super) struct Writer {
    pub committer: Committer,
    pub commands: mpsc::Receiver<Command>,
    /// What each commit led to, in order.
    pub facts: mpsc::Sender<Vec<Input>>,
    pub rejected: Rejected,
    pub board: Arc<Board>,
    pub clock: Arc<dyn Clock>,
    pub disk: DiskGuard,
    /// [`REOPEN_PAUSE`]
    pub pause: Duration,
    /// When the store's file was last looked for.
    pub looked_at: Option<Duration>,
    pub stopping: bool,
    /// What has been said of commits that fail.
    pub rarely: Rarely,
    /// What is written with the next commit, or soon.
    pub outcomes: Outcomes,
    pub background: Background<Reply>,
    pub seal: Seal,
    pub numbering: Numbering,
}

/// What is committed together.
struct Batch {
    requests: Vec<Request<Reply>>,
    slice: Option<Sweeping>,
    /// What the work that nobody waits for costs, as far as it is known beforehand.
    cost: Duration,
    company: Company,
}

/// A slice of retention.
struct Sweeping {
    plan: SweepPlan,
    excess: u64,
    limit: Duration,
}

impl Writer {
    /// Runs until it is told to stop or every sender is gone; then closes the store.
    pub(super) fn run(mut self) -> Result<(), WriterFault> {
        let mut failures = 0_u32;
        while let Some(first) = self.next() {
            let requests = self.gather(first);
            // A reader may have met it.
            if let Some(cause) = self.committer.store().medium_fault() {
                return Err(WriterFault::Medium(cause));
            }
            let Some(batch) = self.batch(requests)? else {
                self.seal()?;
                continue;
            };
            match self.commit(batch) {
                Ok(committed) => {
                    failures = 0;
                    self.publish(committed);
                }
                Err(failed) => {
                    let text = failed.error.to_string();
                    for reply in failed.refused {
                        drop(reply.send(Err(Unavailable::Store(text.clone()))));
                    }
                    failures += 1;
                    self.recover(failed.error, failures)?;
                }
            }
        }
        self.committer.into_store().close().map_err(WriterFault::from)
    }

    /// The next command. What was kept does not wait for one, and what nobody waits for not for long. What was asked for
    /// before a configuration is done by now.
    fn next(&mut self) -> Option<Command> {
        self.numbering.answer(self.committer.store());
        let now = self.clock.monotonic();
        if self.committer.has_kept() || (self.stopping && !self.outcomes.is_empty()) {
            return Some(self.commands.try_recv().unwrap_or(Command::Nudge));
        }
        if self.stopping {
            return self.commands.try_recv().ok();
        }
        let seal = (!self.committer.store().is_sealed()).then(|| self.seal.wait(now));
        let waits = self.outcomes.wait(now).into_iter().chain(self.background.wait(now)).chain(seal);
        let Some(wait) = waits.min() else { return self.commands.blocking_recv() };
        match receive(&mut self.commands, wait) {
            Poll::Ready(Some(command)) => Some(command),
            Poll::Pending => Some(Command::Nudge),
            // Nobody is left to ask for anything: what is here is still written.
            Poll::Ready(None) => Some(Command::Stop),
        }
    }

    /// What is committed now; `None` where it can wait for company.
    fn batch(&mut self, mut requests: Vec<Request<Reply>>) -> Result<Option<Batch>, WriterFault> {
        let now = self.clock.monotonic();
        if requests.iter().any(accepts) {
            self.background.saw_traffic(now);
        }
        self.board.set_quiet(self.background.is_quiet(now));
        let due = self.outcomes.wait(now).is_some_and(|wait| self.stopping || wait.is_zero());
        let made_anyway = !requests.is_empty() || self.committer.has_kept() || due;
        let company = if made_anyway { Company::Some } else { Company::Alone };
        let piece = if self.stopping {
            None
        } else {
            match self.background.next(now, company, self.committer.store()) {
                Ok(piece) => piece,
                Err(error) => {
                    self.recover(error, 1)?;
                    None
                }
            }
        };
        if !made_anyway && piece.is_none() {
            return Ok(None);
        }
        if !self.outcomes.is_empty() {
            requests.insert(0, Request { ops: self.outcomes.take(), reply: None });
        }
        let (mut slice, mut cost) = (None, Duration::ZERO);
        match piece {
            Some(Piece::Page(page)) => {
                cost = page.cost;
                requests.push(page.request);
            }
            Some(Piece::Slice { plan, excess, limit }) => slice = Some(Sweeping { plan, excess, limit }),
            None => {}
        }
        Ok(Some(Batch { requests, slice, cost, company }))
    }

    /// One transaction; what of it nobody waited for is paid for.
    fn commit(&mut self, batch: Batch) -> Result<Committed<Reply>, Failed<Reply>> {
        let Batch { requests, slice, cost, company } = batch;
        let clock = Arc::clone(&self.clock);
        let (started, watch) = (clock.monotonic(), Stopwatch::new(&*clock));
        let limit = slice.as_ref().map_or(Duration::ZERO, |slice| slice.limit);
        let enough = || watch.is_over(limit);
        let something = !requests.is_empty() || self.committer.has_kept();
        let slice = slice.map(|Sweeping { plan, excess, .. }| Slice { plan, excess, enough: &enough });
        let rush = self.seal.rush(started, self.commands.len());
        let (committed, swept) = self.committer.commit_beside(requests, slice.as_ref(), rush)?;
        let ended = clock.monotonic();
        let took = ended.saturating_sub(started);
        if rush == Rush::Calm && self.committer.store().is_sealed() {
            self.seal.done(ended, took);
        }
        if something || swept.is_some_and(|swept| swept.rows > 0) {
            self.board.committed(took);
        }
        if let Some(swept) = swept {
            self.background.swept(swept, &self.board);
        }
        // The pages that a slice has changed are written and synced like all others: as much again.
        let cost = cost.saturating_add(watch.passed().saturating_mul(2));
        let alone = if company == Company::Alone { took } else { Duration::ZERO };
        self.background.spend(cost.max(alone));
        Ok(committed)
    }

    /// There is nothing else to do: the file is made ready for a crash, where the last transaction has not done that.
    fn seal(&mut self) -> Result<(), WriterFault> {
        let now = self.clock.monotonic();
        if self.committer.store().is_sealed() || !self.seal.wait(now).is_zero() {
            return Ok(());
        }
        let sealed = self.committer.store().seal();
        let ended = self.clock.monotonic();
        self.seal.done(ended, ended.saturating_sub(now));
        sealed.or_else(|error| self.recover(error, 1))
    }

    /// Whoever asked for a pause is answered when the driver has it before it.
    fn publish(&self, committed: Committed<Reply>) {
        let is_control = |fact: &Input| matches!(fact, Input::Control(_));
        let (controls, facts): (Vec<_>, Vec<_>) = committed.facts.into_iter().partition(is_control);
        self.tell(controls);
        for (reply, applied) in committed.replies {
            // A sender that went away does not undo the commit.
            drop(reply.send(Ok(applied)));
        }
        self.tell(facts);
    }

    /// Everything that has gathered, up to the size of one transaction.
    fn gather(&mut self, first: Command) -> Vec<Request<Reply>> {
        self.look_for_file();
        let short = self.disk.is_short(&*self.clock, &self.board).then_some(Unavailable::Disk);
        let refusal = self.board.lost().map(Unavailable::Store).or(short);
        let mut requests = Vec::new();
        // Outcomes that wait leave half of the room to events: neither keeps the other waiting for long.
        let mut ops = self.outcomes.len().min(TRANSACTION_OPS / 2);
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Write(request) if refusal.is_some() && accepts(&request) => {
                    if let (Some(reply), Some(why)) = (request.reply, &refusal) {
                        drop(reply.send(Err(why.clone())));
                    }
                }
                // An empty answer: nothing of it was done.
                Command::Write(Request { ops, reply }) if self.numbering.forbids(&ops) => {
                    drop(reply.map(|reply| reply.send(Ok(Vec::new()))));
                }
                Command::Write(request) => {
                    ops += request.ops.len();
                    bytes += request.ops.iter().map(WriteOp::bytes).sum::<usize>();
                    if request.reply.is_some() {
                        requests.push(request);
                    } else {
                        self.outcomes.add(request.ops, self.clock.monotonic());
                    }
                }
                Command::Page(page) => self.background.add(page),
                Command::Number { names, reply } => self.numbering.ask(names, reply),
                Command::Sweep(upkeep) => self.background.order(upkeep),
                Command::Nudge => {}
                Command::Probe(probe) => probe.answer(),
                Command::Stop => self.stop(),
            }
            let has_room = ops < TRANSACTION_OPS && bytes < TRANSACTION_BYTES;
            next = if has_room { self.commands.try_recv().ok() } else { None };
        }
        let rejected = self.rejected.lock().map(|mut counts| std::mem::take(&mut *counts)).unwrap_or_default();
        if !rejected.is_empty() {
            let ops = rejected.into_iter().map(|(source, count)| WriteOp::CountRejected { source, count }).collect();
            self.outcomes.add(ops, self.clock.monotonic());
        }
        requests
    }

    /// Looks whether the store still has its name. Where it has not, events are refused and nothing new is sent, but outcomes,
    /// and what operators asked for already, still go into the open file: a backup of it is whole.
    fn look_for_file(&mut self) {
        let now = self.clock.monotonic();
        if self.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOK_EVERY) {
            self.looked_at = Some(now);
            let lost = self.committer.store().lost();
            let before = self.board.set_lost(lost.clone());
            match (before, lost) {
                (None, Some(what)) => {
                    error!(what, "THE STORE HAS LOST ITS FILE: events are refused and nothing is sent. {}", RESCUE);
                    self.tell(vec![Input::Halt]);
                }
                (Some(_), None) => {
                    warn!("The store's file is back in its place: everything goes on.");
                    self.tell(vec![Input::Go]);
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }

    /// A commit failed: open the file again, refusing ingest meanwhile, and have the scheduler look at everything again.
    fn recover(&mut self, error: StoreError, failures: u32) -> Result<(), WriterFault> {
        let full = match error {
            StoreError::Medium(cause) => return Err(WriterFault::Medium(cause)),
            StoreError::Full(_) => true,
            StoreError::Failed(_) => false,
        };
        let said = self.rarely.say(&error.to_string(), self.clock.monotonic());
        if let Some(left_out) = said {
            error!(%error, failures, left_out, "A commit failed; opening the store again.");
        }
        self.background.failed();
        let stopping = self.stopping && self.commands.is_empty();
        if (!full && failures > 1) || (stopping && failures >= REOPEN_TRIES) {
            return Err(WriterFault::Store(error));
        }
        self.board.set_store_fault(Some(error.to_string()));
        let (mut tries, mut rarely) = (0, Rarely::default());
        loop {
            match self.committer.reopen() {
                Ok(()) => break,
                Err(error) => {
                    tries += 1;
                    if let Some(left_out) = rarely.say(&error.to_string(), self.clock.monotonic()) {
                        warn!(%error, tries, left_out, "The store cannot be opened again yet.");
                    }
                    if let Some(cause) = self.committer.store().medium_fault() {
                        return Err(WriterFault::Medium(cause));
                    }
                    // A full disk is waited for, but not by a daemon that was told to stop.
                    if (!full || self.stopping) && tries >= REOPEN_TRIES {
                        return Err(WriterFault::Open(error));
                    }
                }
            }
            self.refuse_waiting();
            std::thread::park_timeout(self.pause);
        }
        if full {
            // The next commit would meet the same full disk: wait before asking it again.
            self.refuse_waiting();
            std::thread::park_timeout(self.pause);
        }
        if said.is_some() {
            info!("The store is open again.");
        }
        self.board.set_store_fault(None);
        self.tell_pauses();
        self.tell(vec![Input::Rescan]);
        Ok(())
    }

    /// While nothing can be committed, those who wait are told, and outcomes are kept.
    fn refuse_waiting(&mut self) {
        self.numbering.refuse(&opening());
        for reply in self.background.give_up() {
            drop(reply.send(Err(opening())));
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Write(request) => {
                    self.committer.keep(request.ops);
                    if let Some(reply) = request.reply {
                        drop(reply.send(Err(opening())));
                    }
                }
                Command::Page(page) => {
                    if let Some(reply) = page.request.reply {
                        drop(reply.send(Err(opening())));
                    }
                }
                Command::Number { reply, .. } => drop(reply.send(Err(opening()))),
                Command::Sweep(_) | Command::Nudge => {}
                // It waits for the disk, and says so; a restart would help nobody.
                Command::Probe(probe) => probe.answer(),
                Command::Stop => self.stop(),
            }
        }
    }

    /// Takes nothing more; what is queued already is still done.
    fn stop(&mut self) {
        self.stopping = true;
        self.commands.close();
    }

    /// A pause, or the end of one, may have been committed without anybody knowing.
    fn tell_pauses(&mut self) {
        match self.committer.store().reader().pauses() {
            Ok(pauses) => self.tell(vec![Input::Control(Control::Pauses(pauses))]),
            Err(error) => warn!(%error, "The pauses cannot be read; those that are known stay."),
        }
    }

    /// The driver always drains its queue, so this never waits for long; when it is gone we are stopping.
    fn tell(&self, facts: Vec<Input>) {
        if !facts.is_empty() {
            drop(self.facts.blocking_send(facts));
        }
    }
}

fn opening() -> Unavailable {
    Unavailable::Store("it is being opened again".to_owned())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
