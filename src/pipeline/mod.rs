//! From accepted event to settled outcome.
//!
//! Pure: [`fanout`] (who is owed what), [`scheduler`] with its [`lane`]s, `paging`, `queue`, `purse`, `halves` and [`wheel`] (who is sent what,
//! when, together with whom), `settle` (what becomes of it), [`control`] (what operators say to lanes; `operator` carries it
//! there).
//! Shared with the simulator: [`commit`] (one batch, one transaction) and [`dispatch`] (render, judge).
//! `budget` (what work that nobody waits for may cost), `background` (whose turn it is), `outcomes` (how long they wait for company), `seal` (what is left for an opening after a crash), `turns` (how many exchanges at a time).
//! Async shell: `writer` (the thread that owns the store), `loader` (reads events that are not at hand), `driver` (the task
//! that owns the scheduler), [`Pipeline`] (the handle everyone else has), [`jobs`] (replays and discards of many), [`faults`]
//! (the DLQ by what went wrong), [`backups`] (asked for, and by itself). [`trial`] shows what would be sent, and sends a test
//! event past all of it.
//!
//! Deliberately absent: lease rows (in flight lives in memory; a crash means one repeat with the same id), timers for
//! grouping commits that somebody waits for, and any way to send an accepted event without going through the scheduler.

mod background;
pub mod backups;
mod board;
mod breaker;
mod budget;
pub mod commit;
pub mod control;
mod disk;
pub mod dispatch;
mod driver;
pub mod fanout;
pub mod faults;
pub mod gate;
pub mod guarded;
mod halves;
pub mod jobs;
mod journal;
pub mod lane;
mod loader;
pub mod maintenance;
mod numbering;
mod operator;
mod outcomes;
mod pace;
mod paging;
pub mod pulse;
mod purse;
mod queue;
mod rarely;
mod record;
mod routing;
pub mod scheduler;
mod seal;
mod settle;
mod standing;
mod start;
pub mod trial;
mod turns;
mod upkeep;
pub mod wheel;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use url::Url;

use crate::config::snapshot::Snapshot;
use crate::domain::alert::AlertMemory;
use crate::domain::dedupe::{ContentHash, Discriminator, HashKey};
use crate::domain::event::Event;
use crate::domain::id::{DestinationId, EventId, InstanceId};
use crate::domain::name::{DestinationName, SourceName};
use crate::domain::pause::PausedBy;
use crate::domain::time::{ClockDoubt, DurationMs, UnixMs};
use crate::env::Env;
use crate::env::transport::RouteView;
use crate::store::read::Reader;
use crate::store::write::{Accept, Applied, Purge, WriteOp};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::rolling::{HOURS, HourTally, StatsView};

pub use start::{Running, start};
pub use writer::WriterFault;

use background::Page;
use board::Board;
use commit::Request;
use control::Pauses;
use guarded::Guard;
use operator::Orders;
use routing::Routing;
use standing::Standing;
use writer::{Command, Rejected, Reply};

/// What the writer says.
type Answer = Result<Vec<Applied>, Unavailable>;

/// How long a sender waits for the disk before it is told to come again: less than most wait for an answer at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The handle everything outside uses: cheap to clone.
#[derive(Clone, Debug)]
pub struct Pipeline {
    env: Env,
    writer: mpsc::Sender<Command>,
    orders: Orders,
    probes: mpsc::Sender<pulse::Probe>,
    routing: watch::Sender<Arc<Routing>>,
    board: Arc<Board>,
    rejected: Rejected,
    reader: Reader,
    instance: InstanceId,
    hash_key: HashKey,
    guarded: Guard,
    /// Events that may wait for the writer at once.
    room: Arc<Semaphore>,
    backups: Arc<backups::Backups>,
    /// There is a new job.
    job_news: Arc<Notify>,
    started_at: Duration,
}

/// What the store knows of the destinations of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Numbered {
    pub(crate) ids: BTreeMap<DestinationName, DestinationId>,
    /// Pauses of all destinations, also of those that had gone and return.
    pub(crate) pauses: Pauses,
}

/// A validated event that is not stored yet.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub event: Event,
    pub discriminator: Discriminator,
    /// By the store's key ([`Pipeline::hash_key`]).
    pub content: ContentHash,
}

/// What became of an incoming event, told after the commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receipt {
    /// `deliveries` counts what is owed, not what was skipped.
    Queued {
        id: EventId,
        deliveries: usize,
    },
    Duplicate {
        id: EventId,
        conflict: bool,
    },
}

/// Why nothing can be taken now; every one of them is answered with `Retry-After`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// Too much is waiting for the writer: 429.
    #[error("too many requests are waiting for the disk; try again shortly")]
    Backlog,
    /// The store failed or its outcome is unknown: 503. A repeat of the same event is recognised.
    #[error("the store cannot commit now: {0}")]
    Store(String),
    /// Nothing was committed in time: 503. The outcome is unknown; a repeat of the same event is recognised.
    #[error("the disk is slow, nothing was committed within {} s; send it again", ANSWER_WITHIN.as_secs())]
    Slow,
    /// Free disk space is below the reserve: 503.
    #[error("free disk space is below the reserve; free some space or lower storage.reserve")]
    Disk,
    /// The daemon is stopping: 503.
    #[error("the daemon is stopping")]
    Stopping,
}

/// State of a destination's lane as users see it (SPEC 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneView {
    /// `active throttled open held paused disabled orphaned`
    pub state: &'static str,
    /// Why, in words; `None` while active.
    pub reason: Option<String>,
    /// End of a throttle or a pause, or next probe of a hold.
    pub until: Option<UnixMs>,
    /// Whose pause it is, while there is one.
    pub paused_by: Option<PausedBy>,
    pub in_flight: usize,
}

/// Whether the daemon works.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Health {
    /// Why it cannot take events now; empty when it can.
    pub failing: Vec<String>,
    pub free_disk_bytes: Option<u64>,
    /// Free bytes below which no events are taken.
    pub reserve_bytes: u64,
    /// Bytes over `retention.size`, and that size, while nothing may go.
    pub over_size: Option<(u64, u64)>,
    /// The clock is ahead of what is known of the time, so nothing expires by it.
    pub clock_doubt: Option<ClockDoubt>,
    /// Commit latency over the last thousand commits.
    pub commit_ms_p50: Option<f64>,
    pub commit_ms_p99: Option<f64>,
}

impl Pipeline {
    /// Stores `incoming` durably, all in one transaction, and answers one receipt each, in order. Dropping the future does
    /// not undo anything.
    pub async fn ingest(&self, incoming: Vec<Incoming>) -> Result<Vec<Receipt>, Unavailable> {
        let count = u32::try_from(incoming.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(count).map_err(|_| Unavailable::Backlog)?;
        let (wall, monotonic) = (self.env.clock.now(), self.env.clock.monotonic());
        let routing = self.routing();
        let (clock, window) = (*self.guarded.lock(), routing.snapshot.retention.dedupe);
        let times = (clock.heard_at(wall, monotonic, window), clock.now(wall, monotonic) - window);
        let ops = incoming.into_iter().map(|incoming| self.accept(&routing, incoming, times)).collect();
        let answer = self.ask(|reply| Command::Write(Request { ops, reply: Some(reply) }))?;
        let answered = Standing::new(answer, room).answered(ANSWER_WITHIN).await.ok_or(Unavailable::Slow)?;
        let applied = answered.unwrap_or(Err(Unavailable::Stopping))?;
        Ok(applied.into_iter().filter_map(|done| self.receipt(&done)).collect())
    }

    /// Counts refused events of a source in the books; never fails, never waits.
    pub fn count_rejected(&self, source: &SourceName, count: u64) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = rejected.entry(source.clone()).or_default();
        *counter = counter.saturating_add(count);
        drop(rejected);
        // A full queue means that the writer is awake and will see the counters anyway.
        drop(self.writer.try_send(Command::Nudge));
    }

    /// Gives up at most `limit` of what a destination is owed, but for what is under way; how many that were. Fewer than
    /// `limit` means that nothing else is left, `None` that the destination is configured and nothing is given up.
    pub async fn purge(
        &self,
        destination: DestinationId,
        reason: String,
        limit: usize,
    ) -> Result<Option<u64>, Unavailable> {
        let at = self.env.clock.now();
        let under_way = self.under_way(destination).await?;
        let applied = self.write(vec![WriteOp::Purge(Purge { destination, at, reason, under_way, limit })]).await?;
        Ok(applied.first().map(affected))
    }

    /// Numbers for destinations, durable: what [`Pipeline::reload`] needs. From here on nothing that is owed to them is given
    /// up, also where the snapshot is not in force yet.
    pub async fn number(&self, names: Vec<DestinationName>) -> Result<Numbered, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Command::Number { names, reply }).await.map_err(|_| Unavailable::Stopping)?;
        answer.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// From here on events fan out and deliveries are sent by `snapshot`, for whose destinations `numbered` was asked.
    /// Deliveries under way end as they began; those of a destination that is gone are parked.
    pub fn reload(&self, snapshot: Arc<Snapshot>, numbered: Numbered) {
        let exchanges = self.routing().exchanges;
        self.routing.send_replace(Arc::new(Routing::new(snapshot, numbered, exchanges)));
    }

    /// Keeps what alerts remember.
    pub async fn keep_alerts(&self, memory: AlertMemory) -> Result<(), Unavailable> {
        self.write(vec![WriteOp::Alerts(memory)]).await.map(drop)
    }

    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// What senders' ids and contents are hashed with.
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// For reading what is stored: blocking, so off the runtime's threads.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.routing().snapshot)
    }

    /// Numbers of the configured destinations.
    pub fn destination_ids(&self) -> Arc<BTreeMap<DestinationName, DestinationId>> {
        Arc::clone(&self.routing().ids)
    }

    pub fn lanes(&self) -> BTreeMap<DestinationName, LaneView> {
        self.board.lanes()
    }

    /// The proxies of a destination and how they are; empty where it is reached directly.
    pub fn routes(&self, destination: &DestinationName) -> Vec<RouteView> {
        self.env.transport.routes(destination)
    }

    /// Why nothing at all can be sent to a destination at `url`.
    pub fn lacks(&self, destination: &DestinationName, url: &Url) -> Option<&'static str> {
        self.env.transport.lacks(destination, url)
    }

    /// Whether the daemon has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.board.is_stopping()
    }

    pub fn health(&self) -> Health {
        Health { clock_doubt: self.guarded.doubt(&*self.env.clock), ..self.board.health() }
    }

    /// Counters since the start.
    pub fn metrics(&self) -> &Metrics {
        self.board.metrics()
    }

    /// Rolling statistics of every destination that was attempted.
    pub fn stats(&self, now: UnixMs) -> BTreeMap<DestinationName, StatsView> {
        self.board.stats(now)
    }

    /// The last day of every destination that was attempted, hour by hour.
    pub fn series(&self, now: UnixMs) -> BTreeMap<DestinationName, [HourTally; HOURS]> {
        self.board.series(now)
    }

    pub fn uptime(&self) -> DurationMs {
        let up = self.env.clock.monotonic().saturating_sub(self.started_at);
        DurationMs(u64::try_from(up.as_millis()).unwrap_or(u64::MAX))
    }

    async fn write(&self, ops: Vec<WriteOp>) -> Result<Vec<Applied>, Unavailable> {
        self.answer(|reply| Command::Write(Request { ops, reply: Some(reply) })).await
    }

    /// The same for a page of a job, which gives way to what others wait for. `cost` is what it takes from everybody.
    async fn write_beside(&self, ops: Vec<WriteOp>, cost: Duration) -> Result<Vec<Applied>, Unavailable> {
        self.answer(|reply| Command::Page(Page { request: Request { ops, reply: Some(reply) }, cost })).await
    }

    async fn answer(&self, command: impl FnOnce(Reply) -> Command) -> Result<Vec<Applied>, Unavailable> {
        self.ask(command)?.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// Hands something to the writer, which answers after the commit.
    fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<oneshot::Receiver<Answer>, Unavailable> {
        if self.board.is_stopping() {
            return Err(Unavailable::Stopping);
        }
        if let Some(fault) = self.board.store_fault().or_else(|| self.board.lost()) {
            return Err(Unavailable::Store(fault));
        }
        let (reply, answer) = oneshot::channel();
        self.writer.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unavailable::Backlog,
            mpsc::error::TrySendError::Closed(_) => Unavailable::Stopping,
        })?;
        Ok(answer)
    }

    fn routing(&self) -> Arc<Routing> {
        Arc::clone(&self.routing.borrow())
    }

    fn accept(&self, routing: &Routing, incoming: Incoming, (heard_at, repeat_since): (UnixMs, UnixMs)) -> WriteOp {
        let Incoming { mut event, discriminator, content } = incoming;
        let plan = fanout::plan(&routing.snapshot, &routing.ids, &event);
        let key = self.hash_key.dedupe_key(&event, &discriminator);
        // From here on it waits: for the disk, then for its destinations.
        event.fold();
        WriteOp::Accept(Accept { event: Arc::new(event), key, content, heard_at, repeat_since, plan })
    }

    fn receipt(&self, done: &Applied) -> Option<Receipt> {
        let id = |seq| EventId { instance: self.instance, seq };
        match done {
            Applied::Queued(queued) => Some(Receipt::Queued { id: id(queued.seq), deliveries: queued.owed.len() }),
            Applied::Duplicate { first, conflict } => Some(Receipt::Duplicate { id: id(*first), conflict: *conflict }),
            Applied::Settled { .. }
            | Applied::Stale { .. }
            | Applied::Replayed(_)
            | Applied::Discarded { .. }
            | Applied::Purged { .. }
            | Applied::Paused { .. }
            | Applied::Resumed { .. }
            | Applied::Job { .. }
            | Applied::JobPassed
            | Applied::Audited
            | Applied::Counted => None,
        }
    }
}

fn affected(done: &Applied) -> u64 {
    match done {
        Applied::Replayed(owed) => u64::try_from(owed.len()).unwrap_or(u64::MAX),
        Applied::Discarded { count } => *count,
        Applied::Purged { seqs, .. } => u64::try_from(seqs.len()).unwrap_or(u64::MAX),
        Applied::Queued(_)
        | Applied::Duplicate { .. }
        | Applied::Settled { .. }
        | Applied::Stale { .. }
        | Applied::Paused { .. }
        | Applied::Resumed { .. }
        | Applied::Job { .. }
        | Applied::JobPassed
        | Applied::Audited
        | Applied::Counted => 0,
    }
}
