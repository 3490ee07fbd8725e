//! Backups: those that are asked for, and those that the daemon takes by itself (`[backup]`).
//!
//! One at a time, on a thread of its own that gives way to everything else: at a low priority, with a rest after every
//! bit of work while somebody sends. Who asked and hung up does not end it. A stop ends it at the next rest; what is still
//! unfinished after a while (a directory may hang) loses its file, so that a clean stop leaves nothing half done.
//!
//! When the next one is due (`view`) is a function of the directory and the configuration: a restart changes nothing.

mod automatic;
mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

pub(super) use self::automatic::run;
pub use self::view::{BackupView, Failed, Taken};
use super::Pipeline;
use crate::config::backup::Backup as Settings;
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::backup::{Backup, BackupError, Order, Rest};
use crate::store::read::Reader;

/// So much work, then a rest while somebody sends. The scheduler of the system lets a thread of low priority work on for some
/// milliseconds although others have something to do; those who send would feel that.
const WORK: Duration = Duration::from_micros(500);
const REST: Duration = Duration::from_millis(2);
/// How long a stop waits for the end of a bit of work.
const LAST_BIT: Duration = Duration::from_secs(1);
/// How long a start or a reload waits for the directory of backups, which may be another machine's.
const LOOK_AROUND: Duration = Duration::from_secs(2);

/// One backup at a time: whoever holds this may make one.
pub type Turn = OwnedSemaphorePermit;

/// Shared by whoever makes backups and whoever looks; every lock is held for a copy.
#[derive(Debug)]
pub(super) struct Backups {
    turn: Arc<Semaphore>,
    view: Mutex<BackupView>,
    /// The file in the making.
    unfinished: Mutex<Option<PathBuf>>,
}

impl Backups {
    /// With what an earlier process has left: its series goes on, and its unfinished file is removed. A directory that hangs
    /// keeps nobody waiting for long: then there is no backup before it answers.
    pub(super) fn start(reader: &Reader, settings: &Settings, now: UnixMs) -> Arc<Self> {
        let backups = Self { turn: Arc::new(Semaphore::new(1)), view: Mutex::default(), unfinished: Mutex::default() };
        let backups = Arc::new(backups);
        backups.want(reader, settings, now);
        let turn = Arc::clone(&backups.turn).try_acquire_owned();
        let (found, reader, settings) = (Arc::clone(&backups), reader.clone(), settings.clone());
        at_most(LOOK_AROUND, move || {
            match reader.clear_unfinished_backups(settings.dir.as_deref()) {
                Ok(0) => {}
                Ok(count) => info!(count, "What an interrupted backup had left was removed."),
                Err(error) => warn!(%error, "What an interrupted backup left cannot be removed."),
            }
            found.find(&reader, &settings, now);
            drop(turn);
        });
        backups
    }

    fn view(&self) -> MutexGuard<'_, BackupView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfinished(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nobody begin, waits for who has begun, and removes what is unfinished then.
    pub(super) async fn stop(&self) {
        let last = timeout(LAST_BIT, Arc::clone(&self.turn).acquire_owned()).await;
        self.turn.close();
        if last.is_err()
            && let Some(path) = self.unfinished().take()
            && std::fs::remove_file(&path).is_ok()
        {
            info!(path = %path.display(), "The backup that was being written is given up.");
        }
    }
}

impl Pipeline {
    /// The right to make a backup; `None` while one is being made, and once the daemon stops.
    pub fn backup_turn(&self) -> Option<Turn> {
        Arc::clone(&self.backups.turn).try_acquire_owned().ok()
    }

    pub fn backups(&self) -> BackupView {
        self.backups.view().clone()
    }

    /// An order for a backup of now, into the configured directory.
    pub fn backup_order(&self, name: String, at: UnixMs) -> Order {
        let directory = self.snapshot().backup.dir.clone();
        Order { name, at, reserve: self.health().reserve_bytes, directory }
    }

    /// Makes a backup on a thread for it; goes on where nobody waits for it any more.
    pub async fn backup(&self, order: Order, turn: Turn) -> Result<Backup, BackupError> {
        let (done, made) = oneshot::channel();
        let (pipeline, runtime) = (self.clone(), Handle::current());
        let work = move || {
            give_way();
            *pipeline.backups.unfinished() = pipeline.reader.unfinished_backup(&order);
            let made = pipeline.reader.backup(&order, pipeline.rest(runtime));
            pipeline.backups.unfinished().take();
            drop(turn);
            // Whoever asked may have gone away.
            drop(done.send(made));
        };
        let failed = |text: &str| BackupError::Store(StoreError::Failed(text.to_owned()));
        thread::Builder::new()
            .name("backup".to_owned())
            .spawn(work)
            .map_err(|error| failed(&format!("the backup's thread cannot be started: {error}")))?;
        made.await.unwrap_or_else(|_| Err(failed("the storage engine gave up")))
    }

    /// What the thread of a backup does after every bit of work.
    fn rest(&self, runtime: Handle) -> Rest {
        let pipeline = self.clone();
        let mut since = pipeline.env.clock.monotonic();
        Box::new(move || {
            if pipeline.is_stopping() {
                return Err(BackupError::Stopped);
            }
            if pipeline.env.clock.monotonic().saturating_sub(since) >= WORK {
                if !pipeline.board.is_quiet() {
                    runtime.block_on(async { sleep(REST).await });
                }
                since = pipeline.env.clock.monotonic();
            }
            Ok(())
        })
    }
}

/// Does `work` on a thread for it, and waits for its end at most so long.
fn at_most(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let begun = thread::Builder::new().name("backups".to_owned()).spawn(move || {
        work();
        // Whoever waited may have gone on.
        done.send(()).ok();
    });
    match begun.map(|_| ended.recv_timeout(limit)) {
        Ok(Ok(())) => {}
        Ok(Err(_)) => warn!("The directory of backups does not answer yet; everything else goes on."),
        Err(error) => warn!(%error, "The directory of backups cannot be looked into."),
    }
}

/// A tenth of what others get of a busy processor. Not the least there is: as long as a backup takes, the store's file cannot
/// use again what is freed, and on a machine without a moment's rest it would grow many times over.
const NICENESS: i32 = 10;

/// Everything else goes first. Where this is not allowed, the rests have to do.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "The backup's thread keeps its priority.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_hangs_keeps_no_start_waiting() {
        let (answer, hangs) = std::sync::mpsc::channel::<()>();
        let (ended, end) = std::sync::mpsc::channel();
        at_most(Duration::from_millis(1), move || {
            hangs.recv().unwrap();
            ended.send(()).unwrap();
        });
        answer.send(()).unwrap();
        end.recv().unwrap();
    }
}
