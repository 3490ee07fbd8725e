//! Starting and stopping the pipeline.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::snapshot::Snapshot;
use crate::domain::limits::{BATCH_LIMIT_MAX, DRIVER_QUEUE, WRITER_QUEUE};
use crate::env::Env;
use crate::store::read::Reader;
use crate::store::{Store, StoreError};

use super::background::Background;
use super::backups::{self, Backups};
use super::board::Board;
use super::commit::Committer;
use super::disk::DiskGuard;
use super::dispatch::Dispatcher;
use super::driver::{DrainRequest, Driver};
use super::guarded::{Guard, GuardedClock};
use super::maintenance::Maintenance;
use super::numbering::Numbering;
use super::operator::ORDERS;
use super::outcomes::Outcomes;
use super::rarely::Rarely;
use super::routing::Routing;
use super::scheduler::Scheduler;
use super::seal::Seal;
use super::writer::{Command, REOPEN_PAUSE, Writer};
use super::{Pipeline, WriterFault, jobs};

/// Events that may wait for the writer at once: two of the largest batches.
const ROOM: usize = 2 * BATCH_LIMIT_MAX;

/// A pipeline at work.
#[derive(Debug)]
pub struct Running {
    pub pipeline: Pipeline,
    writer: oneshot::Receiver<Result<(), WriterFault>>,
    driver: JoinHandle<()>,
    /// Jobs, and backups that are taken by themselves.
    besides: [JoinHandle<()>; 2],
    drain: oneshot::Sender<DrainRequest>,
}

/// The clock that things grow old by, from what the store knows of the time.
fn guarded(store: &mut Store, env: &Env) -> Result<Guard, StoreError> {
    let monotonic = env.clock.monotonic();
    let clock = GuardedClock::new(store.known_time()?, env.clock.now(), monotonic);
    store.keep_first_time(clock.known(monotonic))?;
    Ok(Guard::new(clock))
}

/// Starts the writer and the driver over `store`. Everything owed is read from the store: a fresh start, a restart after a
/// crash and a restart after years are the same. `exchanges` with receivers may be under way at a time.
pub fn start(mut store: Store, snapshot: Arc<Snapshot>, env: Env, exchanges: usize) -> Result<Running, StoreError> {
    let names: Vec<_> = snapshot.destinations.keys().cloned().collect();
    let (numbering, numbered) = Numbering::begin(&mut store, &names)?;
    let (reader, pauses) = (store.reader(), numbered.pauses.clone());
    let (instance, hash_key) = (store.instance(), store.hash_key());
    let now = env.clock.now();
    let guarded = guarded(&mut store, &env)?;
    let disk = DiskGuard::new(snapshot.storage.path.clone(), snapshot.storage.reserve);
    let kept = Backups::start(&reader, &snapshot.backup, now);
    let routing = Arc::new(Routing::new(snapshot, numbered, exchanges));
    let (routings, routings_rx) = watch::channel(Arc::clone(&routing));
    let (board, rejected) = (Arc::new(board(&reader)?), Arc::new(Mutex::default()));
    let (commands, commands_rx) = mpsc::channel(WRITER_QUEUE);
    let (facts, facts_rx) = mpsc::channel(DRIVER_QUEUE);
    let (orders, orders_rx) = mpsc::channel(ORDERS);
    let (probes, probes_rx) = mpsc::channel(1);
    let (drain, drain_rx) = oneshot::channel();
    let writer = Writer {
        committer: Committer::new(store),
        numbering,
        commands: commands_rx,
        facts,
        rejected: Arc::clone(&rejected),
        board: Arc::clone(&board),
        clock: Arc::clone(&env.clock),
        disk,
        pause: REOPEN_PAUSE,
        looked_at: None,
        rarely: Rarely::default(),
        stopping: false,
        outcomes: Outcomes::default(),
        background: Background::default(),
        seal: Seal::default(),
    };
    let writer = spawn(writer)?;
    let driver = Driver {
        scheduler: Scheduler::new(routing.rules(), now).with_pauses(pauses),
        dispatcher: Dispatcher::new(env.clone(), reader.clone(), instance, exchanges),
        env: env.clone(),
        known: routing.names().collect(),
        routing,
        routings: routings_rx,
        reader: reader.clone(),
        board: Arc::clone(&board),
        facts: facts_rx,
        orders: orders_rx,
        probes: probes_rx,
        writer: commands.clone(),
        drain: drain_rx,
        maintenance: Maintenance::new(guarded.clone()),
    };
    driver.show_first(now);
    let pipeline = Pipeline {
        started_at: env.clock.monotonic(),
        env,
        writer: commands,
        orders,
        probes,
        routing: routings,
        board,
        rejected,
        reader,
        instance,
        hash_key,
        guarded,
        room: Arc::new(Semaphore::new(ROOM)),
        backups: kept,
        job_news: Arc::default(),
    };
    let besides = [tokio::spawn(jobs::run(pipeline.clone())), tokio::spawn(backups::run(pipeline.clone()))];
    Ok(Running { pipeline, writer, driver: tokio::spawn(driver.run()), besides, drain })
}

/// Starts the writer's thread; what comes back tells how it ended.
fn spawn(writer: Writer) -> Result<oneshot::Receiver<Result<(), WriterFault>>, StoreError> {
    let (done, ended) = oneshot::channel();
    thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || drop(done.send(writer.run())))
        .map(|_| ended)
        .map_err(|error| StoreError::Failed(format!("the writer's thread cannot be started: {error}")))
}

/// With the statistics that were kept of all destinations, also of those that are not configured now: a name may return by
/// a reload, and what is saved of it then takes the place of what was.
fn board(reader: &Reader) -> Result<Board, StoreError> {
    let (board, mut stats) = (Board::default(), reader.stats()?);
    for (name, id) in reader.destination_names()? {
        if let Some(saved) = stats.remove(&id) {
            board.restore_stats(&name, saved);
        }
    }
    Ok(board)
}

impl Running {
    /// Resolves when the writer has given up, or writer or driver ended by a defect: the process must end non-zero.
    /// Without the one nothing could be acknowledged, without the other nothing would be delivered.
    pub async fn fault(&mut self) -> WriterFault {
        fault(&mut self.writer, &mut self.driver).await
    }

    /// Refuses new events from here on.
    pub fn refuse_new(&self) {
        self.pipeline.board.set_stopping();
    }

    /// Finishes what is in flight within `limit`, commits every outcome, closes the store.
    pub async fn stop(self, limit: Duration) -> Result<(), WriterFault> {
        let Self { pipeline, writer, driver, besides, drain } = self;
        pipeline.board.set_stopping();
        // A page is one transaction: it is committed or was never begun.
        for task in besides {
            task.abort();
            task.await.ok();
        }
        let (done, drained) = oneshot::channel();
        if drain.send(DrainRequest { limit, done }).is_ok() && drained.await.is_err() {
            warn!("The driver ended before it was drained; what was in flight will be sent again.");
        }
        if let Err(error) = driver.await {
            warn!(%error, "The driver did not end cleanly; what was in flight will be sent again.");
        }
        drop(pipeline.writer.send(Command::Stop).await);
        writer.await.unwrap_or_else(|_| Err(WriterFault::Defect("the writer panicked".to_owned())))?;
        pipeline.backups.stop().await;
        info!("The store is closed.");
        Ok(())
    }
}

async fn fault(writer: &mut oneshot::Receiver<Result<(), WriterFault>>, driver: &mut JoinHandle<()>) -> WriterFault {
    let ended = tokio::select! {
        ended = &mut *writer => ended,
        ended = driver => match ended {
            // It ends by itself only when the writer has.
            Ok(()) => writer.await,
            Err(error) => return WriterFault::Defect(format!("the driver ended: {error}")),
        },
    };
    match ended {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) | Err(_) => WriterFault::Defect("the writer ended unexpectedly".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Row 26.
    #[tokio::test]
    async fn a_driver_that_panics_ends_the_process() {
        let (_alive, mut writer) = oneshot::channel();
        let mut driver = tokio::spawn(async { panic!("by a defect") });
        assert!(matches!(fault(&mut writer, &mut driver).await, WriterFault::Defect(_)));
    }

    #[tokio::test]
    async fn a_writer_that_gave_up_is_told_with_its_cause() {
        let (done, mut writer) = oneshot::channel();
        // The driver sees that the writer is gone before the writer's word arrives.
        let mut driver = tokio::spawn(async move {
            tokio::task::yield_now().await;
            drop(done.send(Err(WriterFault::Store(StoreError::Failed("bad sector".to_owned())))));
        });
        let fault = fault(&mut writer, &mut driver).await;
        assert!(fault.to_string().contains("bad sector"), "{fault}");
    }

    // Row 26.
    #[tokio::test]
    async fn a_writer_that_panics_ends_the_process() {
        let (done, mut writer) = oneshot::channel();
        drop(done);
        let mut driver = tokio::spawn(std::future::pending());
        assert!(matches!(fault(&mut writer, &mut driver).await, WriterFault::Defect(_)));
    }
}
