//! The way to an open store, at start: on a thread for it, telling the service manager that it goes on.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::timeout;
use tracing::info;

use super::{StopSignals, notify};
use crate::config::snapshot::Snapshot;
use crate::env::entropy::SystemEntropy;
use crate::store::compact::{AtStart, Compacted};
use crate::store::{self, Store};

/// How often the service manager is told that opening the store takes longer: a repair, a check of the whole file, or a
/// compaction. Each time it grants [`GRANTED_USEC`].
const ASK: Duration = Duration::from_secs(30);
/// Several times [`ASK`], as a slow disk may hold a process up.
const GRANTED_USEC: u32 = 120_000_000;

/// The store; `None` where the daemon was told to stop before it was open. Whatever it was at then (a check, a repair, an
/// upgrade, a compaction) ends with the process, as by a kill: that leaves a sound store.
pub(super) async fn open(
    snapshot: &Snapshot,
    entropy: Arc<SystemEntropy>,
    first: AtStart,
    stop: &mut StopSignals,
) -> anyhow::Result<Option<Store>> {
    tokio::select! {
        opened = opened(snapshot, entropy, first) => opened.map(Some),
        () = stop.wait() => {
            notify(&[NotifyState::Stopping, NotifyState::Status("stopping before the store was open")]);
            info!("Stopping before the store was open; no event was changed.");
            Ok(None)
        }
    }
}

async fn opened(snapshot: &Snapshot, entropy: Arc<SystemEntropy>, first: AtStart) -> anyhow::Result<Store> {
    let dir = snapshot.storage.path.clone();
    let options = store::Options { cache: snapshot.storage.cache };
    match first {
        AtStart::Open => waiting(move || Store::open(&dir, options, &*entropy)).await,
        AtStart::Compact => {
            info!(store = %dir.display(), "Compacting the store before it is used.");
            notify(&[NotifyState::Status("compacting the store")]);
            let compacted = waiting(move || Store::open_compacted(&dir, options, &*entropy)).await;
            let (store, Compacted { before, after }) = compacted?;
            info!(bytes_before = before, bytes_after = after, "The store is compacted.");
            Ok(store)
        }
    }
}

/// Does `work` on a thread of its own. The unit's start limit is for a daemon that hangs, not for a large store.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, store::OpenError> + Send + 'static,
) -> anyhow::Result<T> {
    let mut work = tokio::task::spawn_blocking(work);
    loop {
        if let Ok(done) = timeout(ASK, &mut work).await {
            return Ok(done??);
        }
        info!("The store is still being opened.");
        notify(&[NotifyState::ExtendTimeoutUsec(GRANTED_USEC), NotifyState::Status("opening the store")]);
    }
}
