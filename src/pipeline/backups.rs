//! Backups: those that are asked for, and those that the daemon takes by itself (`[backup]`).
//!
//! One at a time, on a thread of its own that gives way to everything else: at a low priority, with a rest after every
//! bit of work while somebody sends. Who asked and hung up does not end it. A stop ends it at the next rest; what is still
//! unfinished after a while (a directory may hang) loses its file, so that a clean stop leaves nothing half done.
//!
//! When the next one is due is a function of the directory and the configuration: a restart changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Pipeline;
use crate::config::backup::Backup as Settings;
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::time::{DurationMs, UnixMs};
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
/// Nothing is waited for longer than this, so that a step of the clock is noticed.
const LOOK: Duration = Duration::from_mins(1);
/// After a failure: a tenth of the usual time, between these.
const AGAIN: (DurationMs, DurationMs) = (DurationMs::from_secs(60), DurationMs::from_hours(1));

/// One backup at a time: whoever holds this may make one.
pub type Turn = OwnedSemaphorePermit;

/// What there is to see of backups that are taken by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupView {
    /// `None`: none are taken.
    pub every: Option<DurationMs>,
    pub keep: usize,
    pub directory: PathBuf,
    /// Since when they are taken: the start, or the reload that said so.
    pub on_since: UnixMs,
    pub is_running: bool,
    pub last: Option<Taken>,
    /// The failures since the last success.
    pub failed: Option<Failed>,
    pub next_at: Option<UnixMs>,
    /// Since the start.
    pub written: u64,
    pub failures: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    pub at: UnixMs,
    pub file: PathBuf,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The first in a row.
    pub since: UnixMs,
    /// The last one; where the backup itself was made, when that was taken.
    pub at: UnixMs,
    pub message: String,
}

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

    /// From here on these settings hold. What lies in another directory is another series.
    fn want(&self, reader: &Reader, settings: &Settings, now: UnixMs) {
        let directory = reader.backups_directory(settings.dir.as_deref()).unwrap_or_default();
        let mut view = self.view();
        let stays = view.every == settings.every && view.directory == directory;
        if !stays {
            view.on_since = now;
            view.failed = None;
        }
        if view.directory != directory {
            view.last = None;
        }
        (view.every, view.keep, view.directory) = (settings.every, settings.keep, directory);
        view.next_at = due(&view, now);
    }

    /// Looks for the newest one of the series.
    fn find(&self, reader: &Reader, settings: &Settings, now: UnixMs) {
        let last = reader.series(settings.dir.as_deref(), now).unwrap_or_default().pop();
        let last = last.filter(|kept| kept.taken_at <= now);
        let mut view = self.view();
        view.last = last.map(|kept| Taken { at: kept.taken_at, file: kept.file, bytes: kept.bytes });
        view.next_at = due(&view, now);
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

/// When the next one is to be taken; `None` where none are.
fn due(view: &BackupView, now: UnixMs) -> Option<UnixMs> {
    let every = view.every?;
    // What is of the future is of a clock that was put right since: it says nothing about how long ago it was. And where only
    // older ones could not be removed, another one is no remedy.
    let is_made = |failed: &Failed| view.last.as_ref().is_some_and(|last| last.at >= failed.at);
    if let Some(failed) = view.failed.as_ref().filter(|failed| failed.at <= now && !is_made(failed)) {
        let pause = DurationMs(every.0 / 10).clamp(AGAIN.0, AGAIN.1).min(every);
        return Some(failed.at + pause);
    }
    Some(view.last.as_ref().filter(|last| last.at <= now).map_or(now, |last| last.at + every))
}

impl BackupView {
    /// Why there is something to do about them, if so.
    pub fn trouble(&self, now: UnixMs) -> Option<String> {
        let every = self.every?;
        if let Some(failed) = &self.failed {
            return Some(format!("the last automatic backup failed: {}", failed.message));
        }
        let since = self.last.as_ref().map_or(self.on_since, |last| last.at.max(self.on_since));
        let (excused, why) =
            if self.is_running { (RUN_MOST, "; one is still being written") } else { (DurationMs::ZERO, "") };
        let most = [every, every, LATE, excused].iter().fold(0_u64, |sum, span| sum.saturating_add(span.0));
        let late = now.since(since) > DurationMs(most);
        late.then(|| {
            format!("no automatic backup since {}, although one is due every {every}{why}", since.to_rfc3339())
        })
    }
}

/// What a backup may come later than it is due.
const LATE: DurationMs = DurationMs::from_secs(120);
/// What one that is being written may come later than that: more hangs, as a network's directory does.
const RUN_MOST: DurationMs = DurationMs::from_hours(6);

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

    /// Takes one by itself, and removes what is beyond `keep` once it is whole.
    async fn backup_by_itself(&self, settings: &Settings) {
        let Some(turn) = self.backup_turn() else { return };
        let began = self.env.clock.monotonic();
        let at = self.env.clock.now();
        let order = self.backup_order(self.reader.series_name(at), at);
        let directory = order.directory.clone();
        self.backups.view().is_running = true;
        let made = self.backup(order, turn).await;
        let made = match made {
            Ok(made) => {
                let (reader, keep, file) = (self.reader.clone(), settings.keep, made.file.clone());
                let pruned =
                    tokio::task::spawn_blocking(move || reader.prune(directory.as_deref(), keep, (&file, at))).await;
                match pruned {
                    Ok(Ok(removed)) => Ok((made, removed)),
                    Ok(Err(error)) => Err((Some(made), error)),
                    Err(_) => Ok((made, 0)),
                }
            }
            Err(error) => Err((None, error)),
        };
        let took = self.env.clock.monotonic().saturating_sub(began);
        let deed = Deed::new(Who::nobody(Right::File), "backup");
        let deed = match made {
            Ok((Backup { file, bytes, rows, .. }, removed)) => {
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                info!(file = %file.display(), bytes, rows, removed, took_ms, "A backup was written by itself.");
                let target = file.display().to_string();
                self.backups.succeeded(Taken { at, file, bytes }, self.env.clock.now());
                Some(deed.on(&target).ended(&format!("{rows} rows, {bytes} bytes, {removed} older ones removed")))
            }
            Err((_, BackupError::Stopped)) => {
                self.backups.view().is_running = false;
                None
            }
            Err((made, error)) => {
                warn!(%error, "The automatic backup failed; it is tried again.");
                let taken = made.map(|made| Taken { at, file: made.file, bytes: made.bytes });
                let is_first = self.backups.failed(taken, error.to_string(), self.env.clock.now());
                is_first.then(|| deed.ended(&error))
            }
        };
        if let Some(deed) = deed
            && let Err(why) = self.audit(deed).await
        {
            warn!(%why, "What was done could not be kept.");
        }
    }
}

impl Backups {
    fn succeeded(&self, taken: Taken, now: UnixMs) {
        let mut view = self.view();
        (view.is_running, view.last, view.failed) = (false, Some(taken), None);
        view.written = view.written.saturating_add(1);
        view.next_at = due(&view, now);
    }

    /// Whether it is the first failure in a row. `taken` is the backup where only older ones could not be removed.
    fn failed(&self, taken: Option<Taken>, message: String, now: UnixMs) -> bool {
        let mut view = self.view();
        view.is_running = false;
        let at = taken.as_ref().map_or(now, |taken| taken.at);
        if taken.is_some() {
            view.last = taken;
        }
        let since = view.failed.as_ref().map(|failed| failed.since);
        view.failed = Some(Failed { since: since.unwrap_or(now), at, message });
        view.failures = view.failures.saturating_add(1);
        view.next_at = due(&view, now);
        since.is_none()
    }
}

/// Takes backups when they are due, until it is dropped.
pub(super) async fn run(pipeline: Pipeline) {
    let mut routings = pipeline.routing.subscribe();
    loop {
        let settings = routings.borrow_and_update().snapshot.backup.clone();
        let now = pipeline.env.clock.now();
        if pipeline.backups.is_news(&pipeline.reader, &settings) {
            let (reader, backups, fresh) = (pipeline.reader.clone(), Arc::clone(&pipeline.backups), settings.clone());
            backups.want(&reader, &fresh, now);
            let found = tokio::task::spawn_blocking(move || backups.find(&reader, &fresh, now));
            // Of a directory that hangs, it is told when the next one is late.
            timeout(LOOK_AROUND, found).await.ok();
        }
        let next = due(&pipeline.backups.view(), now);
        let wait = match next {
            Some(at) if at <= now => {
                pipeline.backup_by_itself(&settings).await;
                // Somebody else's may be in the way; a due one waits for the end of that.
                Duration::from_secs(1)
            }
            Some(at) => at.since(now).to_std().min(LOOK),
            None => Duration::MAX,
        };
        tokio::select! {
            () = sleep(wait) => {}
            changed = routings.changed() => if changed.is_err() { return },
        }
    }
}

impl Backups {
    fn is_news(&self, reader: &Reader, settings: &Settings) -> bool {
        let view = self.view();
        let directory = reader.backups_directory(settings.dir.as_deref()).unwrap_or_default();
        (view.every, view.keep, &view.directory) != (settings.every, settings.keep, &directory)
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

    const DAY: DurationMs = DurationMs::from_days(1);
    const NOW: UnixMs = UnixMs(1_767_225_600_000);

    fn view(last: Option<UnixMs>) -> BackupView {
        let last = last.map(|at| Taken { at, file: PathBuf::new(), bytes: 1 });
        BackupView { every: Some(DAY), last, on_since: NOW, ..BackupView::default() }
    }

    fn failing(since: UnixMs, at: UnixMs) -> BackupView {
        let failed = Failed { since, at, message: "no room".to_owned() };
        BackupView { failed: Some(failed), ..view(None) }
    }

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

    #[test]
    fn the_next_is_due_a_span_after_the_last_and_at_once_where_there_is_none() {
        let hour = DurationMs::from_hours(1);
        assert_eq!(due(&view(None), NOW), Some(NOW));
        assert_eq!(due(&view(Some(NOW - hour)), NOW), Some(NOW - hour + DAY));
        // The clock was put back by a year.
        assert_eq!(due(&view(Some(NOW + DurationMs::from_days(365))), NOW), Some(NOW));
        assert_eq!(due(&BackupView { every: None, ..view(None) }, NOW), None);
    }

    #[test]
    fn a_failed_one_is_tried_again_soon_and_not_at_once() {
        let minute = DurationMs::from_secs(60);
        let of = |every| due(&BackupView { every: Some(every), ..failing(NOW, NOW) }, NOW);
        assert_eq!(of(DAY), Some(NOW + DurationMs::from_hours(1)));
        assert_eq!(of(DurationMs::from_secs(1200)), Some(NOW + DurationMs::from_secs(120)));
        assert_eq!(of(DurationMs::from_secs(300)), Some(NOW + minute));
        assert_eq!(of(DurationMs::from_secs(5)), Some(NOW + DurationMs::from_secs(5)));
        // The clock was put back by a year.
        let later = NOW + DurationMs::from_days(365);
        assert_eq!(due(&failing(later, later), NOW), Some(NOW));
        // One was made, and an older one could not be removed.
        let full = BackupView { last: view(Some(NOW)).last, ..failing(NOW, NOW) };
        assert_eq!(due(&full, NOW), Some(NOW + DAY));
    }

    #[test]
    fn trouble_is_a_failure_or_none_for_two_spans() {
        assert_eq!(view(None).trouble(NOW + DAY), None);
        assert!(view(None).trouble(NOW + DAY + DAY + DAY).unwrap().contains("no automatic backup since"));
        assert!(failing(NOW, NOW).trouble(NOW).unwrap().contains("failed: no room"));
        // Down for a week: its backups were not due then.
        let old = view(Some(NOW - DurationMs::from_days(7)));
        assert_eq!(old.trouble(NOW), None);
        assert!(old.trouble(NOW + DAY + DAY + DAY).is_some());
        let off = BackupView { every: None, ..failing(NOW, NOW) };
        assert_eq!(off.trouble(NOW), None);
        // One that takes its time is no trouble, one that hangs is.
        let running = BackupView { is_running: true, ..view(None) };
        assert_eq!(running.trouble(NOW + DAY + DAY + RUN_MOST), None);
        assert!(running.trouble(NOW + DAY + DAY + DAY).unwrap().contains("is still being written"));
    }
}
