//! The one writer: a thread that takes whatever requests have gathered while the last commit ran and commits them as one
//! transaction (natural group commit: no timer, no waiting for company).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::domain::limits::TRANSACTION_OPS;
use crate::domain::name::{DestinationName, SourceName};
use crate::env::clock::Clock;
use crate::store::write::{Applied, WriteOp};
use crate::store::{OpenError, StoreError};

use super::board::Board;
use super::commit::{Committer, Request};
use super::control::Control;
use super::disk::DiskGuard;
use super::pulse::Probe;
use super::scheduler::Input;
use super::upkeep::{Retention, Upkeep};
use super::{Numbered, Unavailable};

/// How a waiting sender is answered.
pub(super) type Reply = oneshot::Sender<Result<Vec<Applied>, Unavailable>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Write(Request<Reply>),
    /// Number these destinations, where they have no number yet.
    Number {
        names: Vec<DestinationName>,
        reply: oneshot::Sender<Result<Numbered, Unavailable>>,
    },
    /// Remove what retention allows, one slice.
    Sweep(Upkeep),
    /// There are refused events to count.
    Nudge,
    /// Somebody wants to know whether the writer still turns.
    Probe(Probe),
    /// Do everything asked so far, close the store, end.
    Stop,
}

/// Refused events that wait to be counted in the books.
pub(super) type Rejected = Arc<Mutex<BTreeMap<SourceName, u64>>>;

/// Why the writer gave up: the process must end non-zero, so that the service manager starts it afresh.
#[derive(Debug, thiserror::Error)]
pub enum WriterFault {
    #[error(
        "the disk failed under the store ({0}), so nothing is acknowledged any more; see to the disk (dmesg), then start          again: the whole store is checked before events are taken, and postbackd.suspect beside it is the mark for that"
    )]
    Medium(String),
    #[error("the store failed twice in a row, the last time with: {0}; what was acknowledged is on disk, start again")]
    Store(StoreError),
    #[error("the store could not be opened again: {0}")]
    Open(#[from] OpenError),
    #[error("{0}; this is a bug worth reporting")]
    Defect(String),
}

impl WriterFault {
    /// The exit code of a process that ends by it, as `sysexits.h` has them.
    pub fn exit_code(&self) -> u8 {
        const IO_ERROR: u8 = 74;
        match self {
            Self::Medium(_) => IO_ERROR,
            Self::Store(_) | Self::Open(_) | Self::Defect(_) => 1,
        }
    }
}

impl From<StoreError> for WriterFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Medium(cause) => Self::Medium(cause),
            StoreError::Full(_) | StoreError::Failed(_) => Self::Store(error),
        }
    }
}

/// Pauses between tries to open a store whose disk is full.
pub(super) const REOPEN_PAUSE: Duration = Duration::from_millis(250);
/// Tries to open the store again after an error other than a full disk.
const REOPEN_TRIES: u32 = 3;

pub(super) struct Writer {
    pub committer: Committer,
    pub commands: mpsc::Receiver<Command>,
    pub facts: mpsc::Sender<Input>,
    pub rejected: Rejected,
    pub board: Arc<Board>,
    pub clock: Arc<dyn Clock>,
    pub disk: DiskGuard,
    /// [`REOPEN_PAUSE`]
    pub pause: Duration,
    pub stopping: bool,
    /// What retention has not finished yet: it goes on between batches, a slice at a time.
    pub retention: Retention,
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
            if requests.is_empty() && !self.committer.has_kept() {
                self.sweep()?;
                continue;
            }
            self.retention.saw_traffic();
            let started = self.clock.monotonic();
            match self.committer.commit(requests) {
                Ok(committed) => {
                    failures = 0;
                    self.board.committed(self.clock.monotonic().saturating_sub(started));
                    // Whoever asked for a pause is answered when the driver has it before it.
                    let is_control = |fact: &Input| matches!(fact, Input::Control(_));
                    let (controls, facts): (Vec<_>, Vec<_>) = committed.facts.into_iter().partition(is_control);
                    for fact in controls {
                        self.tell(fact);
                    }
                    for (reply, applied) in committed.replies {
                        // A sender that went away does not undo the commit.
                        drop(reply.send(Ok(applied)));
                    }
                    for fact in facts {
                        self.tell(fact);
                    }
                    self.sweep()?;
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

    /// The next command; outcomes that were kept do not wait for one.
    fn next(&mut self) -> Option<Command> {
        if self.committer.has_kept() {
            return Some(self.commands.try_recv().unwrap_or(Command::Nudge));
        }
        if self.stopping {
            return self.commands.try_recv().ok();
        }
        if self.retention.is_due(self.clock.monotonic()) {
            return Some(self.commands.try_recv().unwrap_or(Command::Nudge));
        }
        self.commands.blocking_recv()
    }

    /// Everything that has gathered, up to the size of one transaction.
    fn gather(&mut self, first: Command) -> Vec<Request<Reply>> {
        let refuse_ingest = self.disk.is_short(&*self.clock, &self.board);
        let mut requests = Vec::new();
        let mut ops = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Write(request) if refuse_ingest && accepts(&request) => {
                    if let Some(reply) = request.reply {
                        drop(reply.send(Err(Unavailable::Disk)));
                    }
                }
                Command::Write(request) => {
                    ops += request.ops.len();
                    requests.push(request);
                }
                Command::Number { names, reply } => self.number(&names, reply),
                Command::Sweep(upkeep) => self.retention.order(upkeep),
                Command::Nudge => {}
                Command::Probe(probe) => probe.answer(),
                Command::Stop => self.stop(),
            }
            next = if ops < TRANSACTION_OPS { self.commands.try_recv().ok() } else { None };
        }
        let rejected = self.rejected.lock().map(|mut counts| std::mem::take(&mut *counts)).unwrap_or_default();
        if !rejected.is_empty() {
            let ops = rejected.into_iter().map(|(source, count)| WriteOp::CountRejected { source, count }).collect();
            requests.push(Request { ops, reply: None });
        }
        requests
    }

    /// A commit failed: open the file again, refusing ingest meanwhile, and have the scheduler look at everything again.
    fn recover(&mut self, error: StoreError, failures: u32) -> Result<(), WriterFault> {
        let full = match error {
            StoreError::Medium(cause) => return Err(WriterFault::Medium(cause)),
            StoreError::Full(_) => true,
            StoreError::Failed(_) => false,
        };
        error!(%error, failures, "A commit failed; opening the store again.");
        let stopping = self.stopping && self.commands.is_empty();
        if (!full && failures > 1) || (stopping && failures >= REOPEN_TRIES) {
            return Err(WriterFault::Store(error));
        }
        self.board.set_store_fault(Some(error.to_string()));
        let mut tries = 0;
        loop {
            match self.committer.reopen() {
                Ok(()) => break,
                Err(error) => {
                    tries += 1;
                    warn!(%error, tries, "The store cannot be opened again yet.");
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
        info!("The store is open again.");
        self.board.set_store_fault(None);
        self.tell_pauses();
        self.tell(Input::Rescan);
        Ok(())
    }

    /// While nothing can be committed, those who wait are told, and outcomes are kept.
    fn refuse_waiting(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Write(request) => {
                    self.committer.keep(request.ops);
                    if let Some(reply) = request.reply {
                        drop(reply.send(Err(Unavailable::Store("it is being opened again".to_owned()))));
                    }
                }
                Command::Number { reply, .. } => {
                    drop(reply.send(Err(Unavailable::Store("it is being opened again".to_owned()))));
                }
                Command::Sweep(_) | Command::Nudge => {}
                // It waits for the disk, and says so; a restart would help nobody.
                Command::Probe(probe) => probe.answer(),
                Command::Stop => self.stop(),
            }
        }
    }

    /// Rare and small: a transaction of its own. Where it fails the store itself stays as it was, and who asked comes again.
    fn number(&mut self, names: &[DestinationName], reply: oneshot::Sender<Result<Numbered, Unavailable>>) {
        let store = self.committer.store();
        let numbered = store
            .number_destinations(names)
            .and_then(|ids| Ok(Numbered { ids, pauses: store.reader().pauses()? }))
            .map_err(|error| Unavailable::Store(error.to_string()));
        drop(reply.send(numbered));
    }

    /// Takes nothing more; what is queued already is still done.
    fn stop(&mut self) {
        self.stopping = true;
        self.commands.close();
    }

    /// One slice of retention, if it is time for one.
    fn sweep(&mut self) -> Result<(), WriterFault> {
        let started = self.clock.monotonic();
        if !self.retention.is_due(started) {
            return Ok(());
        }
        let swept = self.retention.slice(self.committer.store(), &self.board);
        let now = self.clock.monotonic();
        self.retention.rest(now, now.saturating_sub(started));
        swept.or_else(|error| self.recover(error, 1))
    }

    /// A pause, or the end of one, may have been committed without anybody knowing.
    fn tell_pauses(&mut self) {
        match self.committer.store().reader().pauses() {
            Ok(pauses) => self.tell(Input::Control(Control::Pauses(pauses))),
            Err(error) => warn!(%error, "The pauses cannot be read; those that are known stay."),
        }
    }

    /// The driver always drains its queue, so this never waits for long; when it is gone we are stopping.
    fn tell(&self, fact: Input) {
        drop(self.facts.blocking_send(fact));
    }
}

fn accepts(request: &Request<Reply>) -> bool {
    request.ops.iter().any(|op| matches!(op, WriteOp::Accept(_)))
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
