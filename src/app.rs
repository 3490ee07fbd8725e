//! The composition root: builds everything in order, waits, takes it down in the reverse order. Nothing else happens here.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::snapshot::Snapshot;
use crate::domain::time::DurationMs;
use crate::egress::Egress;
use crate::env::Env;
use crate::env::clock::{Clock, SystemClock};
use crate::env::entropy::SystemEntropy;
use crate::http::{self, AppState};
use crate::pipeline;
use crate::store::{self, Store};

/// Runs the daemon until SIGTERM or SIGINT, then drains within `server.drain`.
///
/// # Errors
/// Where the store cannot be opened, an address cannot be listened on, a client cannot be built, or the store fails for
/// good while running. All of them are for the operator.
pub async fn run(snapshot: Arc<Snapshot>) -> anyhow::Result<()> {
    // Before anybody can see that it runs: a stop that comes while it starts is a clean stop too.
    let stop_signals = StopSignals::catch();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy = Arc::new(SystemEntropy);
    // Listening first: a second instance ends here, before it touches the store.
    let listeners = listen(&snapshot)?;
    let transport = Arc::new(Egress::new(&snapshot, Arc::clone(&clock))?);
    let dir = snapshot.storage.path.clone();
    let options = store::Options { cache: snapshot.storage.cache };
    let store = {
        let (dir, entropy) = (dir.clone(), Arc::clone(&entropy));
        tokio::task::spawn_blocking(move || Store::open(&dir, options, &*entropy)).await??
    };
    let env = Env { clock: Arc::clone(&clock), entropy, transport };
    let mut running = pipeline::start(store, Arc::clone(&snapshot), env, dir)?;
    let state = AppState::new(running.pipeline.clone(), running.pipeline.reader().clone(), clock);
    let (stop, mut stopping) = watch::channel(false);
    let stopped = async move {
        // An error means that whoever would say so is gone, which says the same.
        stopping.wait_for(|stop| *stop).await.ok();
    };
    let server = tokio::spawn(http::serve(listeners, state, stopped));
    notify(&[sd_notify::NotifyState::Ready]);
    info!(version = env!("CARGO_PKG_VERSION"), hash = %snapshot.hash, "postbackd is ready.");
    let fault = tokio::select! {
        () = stop_signals.wait() => None,
        fault = running.fault() => Some(fault),
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    running.refuse_new();
    stop.send_replace(true);
    if let Some(fault) = fault {
        return Err(fault).context("the store has failed for good; what was acknowledged is on disk, start again");
    }
    drain(running, server, snapshot.server.drain).await
}

/// First the requests that came in, then the deliveries in flight, then the store.
async fn drain(
    running: pipeline::Running,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    limit: DurationMs,
) -> anyhow::Result<()> {
    info!(%limit, "Stopping: finishing what is in flight.");
    let requests = DurationMs(limit.0 / 2);
    match tokio::time::timeout(requests.to_std(), server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(%error, "The listener ended with an error."),
        Ok(Err(error)) => warn!(%error, "The listener's task ended with an error."),
        Err(_) => warn!("Requests were still open after half the drain time; they are cut off unacknowledged."),
    }
    running.stop(limit).await.context("the store did not close cleanly; what was acknowledged is on disk")?;
    info!("Stopped.");
    Ok(())
}

fn listen(snapshot: &Snapshot) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in &snapshot.server.listen {
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address}; is postbackd running already, or is the address another's?")
        })?;
        listener.set_nonblocking(true)?;
        info!(address = %listener.local_addr()?, "Listening.");
        listeners.push(listener);
    }
    Ok(listeners)
}

/// SIGTERM and SIGINT, from the moment they are caught; `None` where they cannot be.
struct StopSignals(Option<(Signal, Signal)>);

impl StopSignals {
    fn catch() -> Self {
        let caught = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        if let Err(error) = &caught {
            warn!(%error, "Signals cannot be caught; stop the daemon with SIGKILL, nothing acknowledged is lost.");
        }
        Self(caught.ok())
    }

    async fn wait(self) {
        let Some((mut term, mut int)) = self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

/// Tells the service manager, where there is one.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "The service manager cannot be told.");
    }
}
