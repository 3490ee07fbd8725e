//! The composition root: builds everything in order, waits, takes it down in the reverse order. Beside that, `reload` swaps
//! the configuration while it runs, and `watchdog` tells the service manager that everything turns. Nothing else happens here.

mod alerts;
mod descriptors;
mod listen;
mod opening;
mod reload;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::cli::Order;
use crate::config::snapshot::Snapshot;
use crate::domain::time::DurationMs;
use crate::egress::Egress;
use crate::egress::channels::Channels;
use crate::env::Env;
use crate::env::clock::{Clock, SystemClock};
use crate::env::entropy::SystemEntropy;
use crate::env::transport::Transport;
use crate::http::{self, AppState};
use crate::pipeline;

use listen::Listening;
pub use listen::Passed;
use reload::Reloads;

/// Callers that may wait for a reload at once; more are told to come again.
const RELOADS_WAITING: usize = 16;

/// Sent for a write beyond the limit on the size of files (`RLIMIT_FSIZE`); ends a process that does not catch it.
const SIGXFSZ: i32 = 25;

/// Runs the daemon until SIGTERM or SIGINT, then drains within `server.drain`. Sockets that were `passed` win over
/// `server.listen`.
///
/// # Errors
/// Where the store cannot be opened, an address cannot be listened on, a client cannot be built, or the store fails for
/// good while running. All of them are for the operator.
pub async fn run(Order { mut snapshot, config, first }: Order, passed: Passed) -> anyhow::Result<()> {
    // Before anybody can see that it runs: a stop that comes while it starts is a clean stop too.
    let mut stop_signals = StopSignals::catch();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy = Arc::new(SystemEntropy);
    // Listening first: a second instance ends here, before it touches the store.
    let Listening { files, listeners, probes } = Listening::open(passed, Arc::make_mut(&mut snapshot))?;
    let egress = Arc::new(Egress::new(&snapshot, Arc::clone(&clock))?);
    let channels = channels(&snapshot, &clock)?;
    let opened = opening::open(&snapshot, Arc::clone(&entropy), first, &mut stop_signals);
    let Some(store) = opened.await? else { return Ok(()) };
    let transport: Arc<dyn Transport> = Arc::<Egress>::clone(&egress);
    let env = Env { clock: Arc::clone(&clock), entropy, transport };
    let descriptors::Shares { inward, exchanges } = descriptors::share();
    let mut running = pipeline::start(store, Arc::clone(&snapshot), env, exchanges)?;
    let standing = Arc::new(ArcSwap::default());
    let (reloads, requests) = mpsc::channel(RELOADS_WAITING);
    let courier = Arc::<Channels>::clone(&channels);
    let (alerts, alerting) = alerts::start(&running.pipeline, &snapshot, &standing, &clock, courier)?;
    let state =
        AppState::new(running.pipeline.clone(), Arc::clone(&clock), Arc::clone(&standing), (reloads, alerts.clone()));
    let (stop, mut stopping) = watch::channel(false);
    let watching = tokio::spawn(watchdog::run(running.pipeline.clone(), probes, stopping.clone()));
    let stopped = async move {
        // An error means that whoever would say so is gone, which says the same.
        stopping.wait_for(|stop| *stop).await.ok();
    };
    let mut server = tokio::spawn(http::serve(listeners, inward, state, stopped));
    say_ready(&snapshot);
    let reloading = Reloads {
        pipeline: running.pipeline.clone(),
        egress,
        channels,
        alerts,
        clock: Arc::clone(&clock),
        standing,
        requests,
        hang_up: stop_signals.hang_up.take(),
        path: config,
        started_with: snapshot.hash.clone(),
    };
    let reloading = tokio::spawn(reloading.run());
    let ended = tokio::select! {
        () = stop_signals.wait() => Ended::Terminated,
        fault = running.fault() => Ended::Fault(fault),
        served = &mut server => Ended::Deaf(format!("{served:?}")),
    };
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
    reloading.abort();
    alerting.stop().await;
    stop.send_replace(true);
    let limit = running.pipeline.snapshot().server.drain;
    let deadline = clock.monotonic() + limit.to_std();
    let left = match ended {
        Ended::Terminated => {
            info!(%limit, "Stopping: finishing what is in flight.");
            // Who was let in is served: nothing new comes in any more.
            finish_requests(server, limit).await;
            running.refuse_new();
            drain(running, deadline.saturating_sub(clock.monotonic())).await
        }
        Ended::Fault(fault) => {
            running.refuse_new();
            Err(fault).context("the pipeline has failed for good")
        }
        // Up but deaf would be worse than down.
        Ended::Deaf(how) => {
            drain(running, limit.to_std()).await?;
            Err(anyhow::anyhow!("the HTTP server ended by itself ({how}); this is a bug worth reporting"))
        }
    };
    watching.abort();
    drop(files);
    left
}

/// Says that it is ready, to the service manager and in the log.
fn say_ready(snapshot: &Snapshot) {
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);
    info!(
        version = env!("CARGO_PKG_VERSION"), config = %snapshot.hash, store = %snapshot.storage.path.display(),
        sources = snapshot.sources.len(), destinations = snapshot.destinations.len(), "postbackd is ready."
    );
}

/// The clients of alert channels.
fn channels(snapshot: &Snapshot, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<Channels>> {
    let channels = Channels::new(Arc::clone(clock));
    let prepared = channels.prepare(&snapshot.alerts);
    channels.install(prepared.map_err(|(name, why)| anyhow::anyhow!("alerts.channels.{name}: {why}"))?);
    Ok(Arc::new(channels))
}

/// Why the daemon stops.
enum Ended {
    Terminated,
    Fault(pipeline::WriterFault),
    /// The HTTP server has ended.
    Deaf(String),
}

/// Requests that came in are answered, within half the drain time.
async fn finish_requests(server: tokio::task::JoinHandle<std::io::Result<()>>, limit: DurationMs) {
    let requests = DurationMs(limit.0 / 2);
    match tokio::time::timeout(requests.to_std(), server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(%error, "The listener ended with an error."),
        Ok(Err(error)) => warn!(%error, "The listener's task ended with an error."),
        Err(_) => warn!("Requests were still open after half the drain time; they are cut off unacknowledged."),
    }
}

/// The deliveries in flight, within what is left of the drain time; then the store.
async fn drain(running: pipeline::Running, left: Duration) -> anyhow::Result<()> {
    running.stop(left).await.context("the store did not close cleanly; what was acknowledged is on disk")?;
    info!("Stopped.");
    Ok(())
}

/// SIGTERM, SIGINT and SIGHUP, from the moment they are caught; `None` where they cannot be.
struct StopSignals {
    stop: Option<(Signal, Signal)>,
    hang_up: Option<Signal>,
}

impl StopSignals {
    fn catch() -> Self {
        let caught = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        if let Err(error) = &caught {
            warn!(%error, "Signals cannot be caught; stop the daemon with SIGKILL, nothing acknowledged is lost.");
        }
        // A file that may not grow any more is a full disk, not the end of the process.
        let too_large = signal(SignalKind::from_raw(SIGXFSZ));
        if let Err(error) = &too_large {
            warn!(%error, "A limit on the size of files would end the daemon.");
        }
        // Without it, SIGHUP would end the daemon.
        Self { stop: caught.ok(), hang_up: signal(SignalKind::hangup()).ok() }
    }

    async fn wait(&mut self) {
        let Some((term, int)) = &mut self.stop else { return std::future::pending().await };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "The service manager cannot be told.");
    }
}
