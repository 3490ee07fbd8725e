//! Backups that the daemon takes by itself, when they are due and into the configured directory; the oldest beyond `keep` go.
//!
//! What a person did must not be pushed out of the audit trail by what happens every few minutes. So of these backups it keeps
//! the first failure in a row and the success that ends it; each one stands in the log, and the last one in the status.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::view::{Taken, due};
use super::{Backups, LOOK_AROUND};
use crate::config::backup::Backup as Settings;
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::time::UnixMs;
use crate::pipeline::Pipeline;
use crate::store::backup::{Backup, BackupError};
use crate::store::read::Reader;

/// Nothing is waited for longer than this, so that a step of the clock is noticed.
const LOOK: Duration = Duration::from_mins(1);

/// Takes backups when they are due, until it is dropped.
pub(in crate::pipeline) async fn run(pipeline: Pipeline) {
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

impl Pipeline {
    /// Takes one by itself, and removes what is beyond `keep` once it is whole.
    async fn backup_by_itself(&self, settings: &Settings) {
        let Some(turn) = self.backup_turn() else { return };
        let began = self.env.clock.monotonic();
        let at = self.env.clock.now();
        let order = self.backup_order(self.reader.series_name(at), at);
        let directory = order.directory.clone();
        self.backups.view().is_running = true;
        let deed = Deed::new(Who::nobody(Right::File), "backup");
        let news = match self.backup(order, turn).await {
            Ok(Backup { file, bytes, rows, .. }) => {
                let took = self.env.clock.monotonic().saturating_sub(began);
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                info!(file = %file.display(), bytes, rows, took_ms, "A backup was written by itself.");
                let stays = self.prune(directory, settings.keep, &file, at).await.err();
                let deed = deed.on(&file.display().to_string()).ended(&format!("{rows} rows, {bytes} bytes"));
                let taken = Taken { at, file, bytes };
                self.backups.view().succeeded(taken, stays, self.env.clock.now()).then_some(deed)
            }
            Err(BackupError::Stopped) => {
                self.backups.view().is_running = false;
                None
            }
            Err(error) => {
                warn!(%error, "The automatic backup failed; it is tried again.");
                self.backups.view().failed(error.to_string(), self.env.clock.now()).then(|| deed.ended(&error))
            }
        };
        if let Some(deed) = news
            && let Err(why) = self.audit(deed).await
        {
            warn!(%why, "What was done could not be kept.");
        }
    }

    /// Removes what is beyond `keep`, or says why something stays.
    async fn prune(&self, directory: Option<PathBuf>, keep: usize, fresh: &Path, now: UnixMs) -> Result<(), String> {
        let (reader, fresh) = (self.reader.clone(), fresh.to_owned());
        let work = move || reader.prune(directory.as_deref(), keep, (&fresh, now));
        let error = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(removed)) => {
                tracing::debug!(removed, "Older backups were removed.");
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        warn!(error, "Older automatic backups cannot be removed; the new one is whole.");
        Err(error)
    }
}

impl Backups {
    /// From here on these settings hold. What lies in another directory is another series.
    pub(super) fn want(&self, reader: &Reader, settings: &Settings, now: UnixMs) {
        let directory = reader.backups_directory(settings.dir.as_deref()).unwrap_or_default();
        let mut view = self.view();
        let stays = view.every == settings.every && view.directory == directory;
        if !stays {
            view.on_since = now;
            view.failed = None;
        }
        if view.directory != directory {
            (view.last, view.crowded) = (None, None);
        }
        (view.every, view.keep, view.directory) = (settings.every, settings.keep, directory);
        view.next_at = due(&view, now);
    }

    /// Looks for the newest one of the series.
    pub(super) fn find(&self, reader: &Reader, settings: &Settings, now: UnixMs) {
        let last = reader.series(settings.dir.as_deref(), now).unwrap_or_default().pop();
        let last = last.filter(|kept| kept.taken_at <= now);
        let mut view = self.view();
        view.last = last.map(|kept| Taken { at: kept.taken_at, file: kept.file, bytes: kept.bytes });
        view.next_at = due(&view, now);
    }

    fn is_news(&self, reader: &Reader, settings: &Settings) -> bool {
        let view = self.view();
        let directory = reader.backups_directory(settings.dir.as_deref()).unwrap_or_default();
        (view.every, view.keep, &view.directory) != (settings.every, settings.keep, &directory)
    }
}
