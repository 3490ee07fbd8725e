//! The task that keeps the running configuration and its files together: it looks when something hints at a change, every
//! few seconds in any case, on SIGHUP, and when it is asked; reads, validates, builds, and takes over at once or not at all.
//!
//! One task, one reload at a time: however many hints come, they are one look. Whatever goes wrong, the configuration that
//! runs goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::notify;
use crate::alerts::Alerts;
use crate::config::diff::{self, Changes};
use crate::config::floor::{Floor, LOOK_EVERY};
use crate::config::problem::{Problem, Report};
use crate::config::reload::{Outcome, Reloader, Standing};
use crate::config::snapshot::Snapshot;
use crate::config::watch::Watch;
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::message::printable;
use crate::domain::name::DestinationName;
use crate::egress::channels::{ChannelClients, Channels};
use crate::egress::{Clients, Egress};
use crate::env::clock::Clock;
use crate::pipeline::Pipeline;

/// Hints are gathered for so long: whatever else is written beside the files must not keep us looking.
const GATHER: Duration = Duration::from_millis(100);
/// Two looks this far apart that see the same mean that whoever writes has finished.
const SETTLE: Duration = Duration::from_millis(200);
/// Looks at files that keep changing before they are read as they are.
const SETTLE_TRIES: u32 = 10;

/// Bytes of a status line.
const STATUS_BYTES: usize = 400;

const PANICKED: &str = "taking it over panicked; this is a bug worth reporting";

/// Why there are no clients.
enum Unbuilt {
    Panicked,
    /// The key it is about, and why.
    Refused(String, String),
}

/// Who wants to know how a reload ended.
pub(super) type Request = oneshot::Sender<Outcome>;

/// What the task works on.
pub(super) struct Reloads {
    pub pipeline: Pipeline,
    pub egress: Arc<Egress>,
    pub channels: Arc<Channels>,
    pub alerts: Alerts,
    pub clock: Arc<dyn Clock>,
    pub standing: Arc<ArcSwap<Standing>>,
    pub requests: mpsc::Receiver<Request>,
    pub hang_up: Option<Signal>,
    pub path: PathBuf,
    /// Hash of the configuration that the daemon started with.
    pub started_with: String,
}

/// Why the files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// The daemon has just started: they may have changed since they were read.
    Start,
    /// They may have changed.
    Hint,
    /// Somebody says so.
    Asked,
}

/// Why it is time to look.
enum Woken {
    Look,
    HangUp,
    Request(Request),
}

impl Reloads {
    /// Runs until the daemon ends.
    pub(super) async fn run(mut self) {
        let (hint, mut hints) = mpsc::channel(1);
        let hint = move || {
            // A full channel holds the hint already.
            hint.try_send(()).ok();
        };
        let floor = Floor::start(hint.clone()).inspect_err(|error| warn!(%error, "No thread looks at the files."));
        let (mut watch, trouble) = Watch::new(hint);
        if let Some(trouble) = trouble {
            warn!(trouble, "Files cannot be watched; changes are seen every five seconds.");
        }
        let (mut reloader, mut outcome) = self.look(Reloader::new(self.path.clone()), Cause::Start).await;
        // Somebody may have changed them while the daemon started.
        if let Some(outcome) = outcome.as_ref().filter(|outcome| !self.is_running_already(outcome)) {
            self.keep(&Woken::Look, outcome).await;
        }
        loop {
            if let (Ok(floor), Some(_)) = (&floor, &outcome) {
                floor.watch(reloader.inputs().clone());
            }
            watch = arm(watch, &reloader).await;
            // What changed before the watches were set is hinted at by nobody. What was postponed is not new.
            let postponed = matches!(outcome, Some(Outcome::Postponed(_)));
            let unseen = self.beside(&mut reloader, |reloader| reloader.unseen()).await.flatten();
            let pause = match unseen {
                Some(_) if !postponed => Some(GATHER),
                // It is tried again soon.
                Some(_) => Some(LOOK_EVERY),
                // The floor hints.
                None => floor.is_err().then_some(LOOK_EVERY),
            };
            let woken = self.wait(&mut hints, pause).await;
            let cause = if matches!(woken, Woken::Look) { Cause::Hint } else { Cause::Asked };
            if matches!(woken, Woken::HangUp) {
                info!("SIGHUP: reading the configuration again.");
            }
            (reloader, outcome) = self.look(reloader, cause).await;
            if let Some(outcome) = &outcome {
                self.keep(&woken, outcome).await;
            }
            if let (Woken::Request(request), Some(outcome)) = (woken, &outcome) {
                // Whoever asked may have gone away.
                drop(request.send(outcome.clone()));
            }
        }
    }

    /// Waits for the next occasion to look, at most so long. Hints are gathered; who asks need not wait for that.
    async fn wait(&mut self, hints: &mut mpsc::Receiver<()>, pause: Option<Duration>) -> Woken {
        let mut hinted = pause == Some(GATHER);
        let look = sleep(pause.unwrap_or_default());
        let mut is_timed = pause.is_some();
        tokio::pin!(look);
        loop {
            tokio::select! {
                Some(()) = hints.recv(), if !hinted => {
                    (hinted, is_timed) = (true, true);
                    look.set(sleep(GATHER));
                }
                () = &mut look, if is_timed => return Woken::Look,
                () = hang_up(&mut self.hang_up) => return Woken::HangUp,
                Some(request) = self.requests.recv() => return Woken::Request(request),
            }
        }
    }

    /// Looks at the files, and takes over what is new in them; `None` where nothing is.
    async fn look(&self, reloader: Reloader, cause: Cause) -> (Reloader, Option<Outcome>) {
        // Who asks has finished writing.
        let (mut reloader, news) = if cause == Cause::Asked { (reloader, true) } else { self.settle(reloader).await };
        if !news && cause == Cause::Hint {
            return (reloader, None);
        }
        if cause != Cause::Start {
            reloading();
        }
        let now = self.clock.now();
        let read = self.beside(&mut reloader, move |reloader| reloader.read(now)).await;
        let outcome = match read {
            Some(Ok((snapshot, report))) => {
                // Nobody else says so to whoever never runs `check`: secrets that all may read, events that go nowhere.
                for warning in &report.warnings {
                    warn!(%warning, "The configuration is taken, but look at this.");
                }
                self.take_over(snapshot, report.warnings.len()).await
            }
            Some(Err(report)) => Outcome::Refused(report),
            None => Outcome::Postponed(PANICKED.to_owned()),
        };
        if cause != Cause::Start || !self.is_running_already(&outcome) {
            self.tell(&outcome);
        }
        if let Outcome::Postponed(_) = outcome {
            reloader.forget();
        }
        (reloader, Some(outcome))
    }

    /// Waits until the files hold still; `false` where they hold what was seen before.
    async fn settle(&self, mut reloader: Reloader) -> (Reloader, bool) {
        let mut last = None;
        for _ in 0..SETTLE_TRIES {
            let unseen = self.beside(&mut reloader, |reloader| reloader.unseen()).await.flatten();
            let Some(now) = unseen else { return (reloader, false) };
            if last == Some(now) {
                break;
            }
            last = Some(now);
            sleep(SETTLE).await;
        }
        (reloader, true)
    }

    /// Does what reads files on a thread for it; `None` where that panicked, and the reloader starts anew.
    async fn beside<T: Send + 'static>(
        &self,
        reloader: &mut Reloader,
        what: impl FnOnce(&mut Reloader) -> T + Send + 'static,
    ) -> Option<T> {
        let mut moved = std::mem::replace(reloader, Reloader::new(self.path.clone()));
        let work = spawn_blocking(move || {
            let done = what(&mut moved);
            (moved, done)
        });
        let (back, done) = work.await.ok()?;
        *reloader = back;
        Some(done)
    }

    /// Whether nothing is different from what the daemon started with.
    fn is_running_already(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Applied { changes, hash, .. } => *changes == Changes::default() && *hash == self.started_with,
            Outcome::Refused(_) | Outcome::Postponed(_) => false,
        }
    }

    /// All of it or nothing: clients are built and numbers are on disk before anything changes.
    async fn take_over(&self, fresh: Snapshot, warnings: usize) -> Outcome {
        let running = self.pipeline.snapshot();
        let (next, changes) = diff::merge(&running, fresh);
        if let Some(detail) = next.server.exposed() {
            let key = "server.admin_token".to_owned();
            let problem = Problem { file: self.path.clone(), line: None, key, detail };
            return Outcome::Refused(Report { problems: vec![problem], warnings: Vec::new() });
        }
        let next = Arc::new(next);
        let (clients, channels) = match self.clients(&next).await {
            Ok(clients) => clients,
            Err(Unbuilt::Panicked) => return Outcome::Postponed(PANICKED.to_owned()),
            Err(Unbuilt::Refused(key, detail)) => {
                let problem = Problem { file: PathBuf::new(), line: None, key, detail };
                return Outcome::Refused(Report { problems: vec![problem], warnings: Vec::new() });
            }
        };
        let numbered = match self.pipeline.number(next.destinations.keys().cloned().collect()).await {
            Ok(numbered) => numbered,
            Err(unavailable) => return Outcome::Postponed(unavailable.to_string()),
        };
        let hash = next.hash.clone();
        self.egress.install(clients);
        self.channels.install(channels);
        self.alerts.reload(next.alerts.clone());
        self.pipeline.reload(next, numbered);
        Outcome::Applied { hash, changes, warnings }
    }

    /// Clients for the destinations and channels that are new or changed. Each reads the system's certificates, so on a
    /// thread for it.
    async fn clients(&self, next: &Arc<Snapshot>) -> Result<(Clients, ChannelClients), Unbuilt> {
        let (egress, channels, next) = (Arc::clone(&self.egress), Arc::clone(&self.channels), Arc::clone(next));
        let built = spawn_blocking(move || {
            let clients = egress.prepare(&next);
            let clients = clients.map_err(|error| (format!("destinations.{}", error.destination), error.detail))?;
            let channels = channels.prepare(&next.alerts);
            Ok((clients, channels.map_err(|(name, detail)| (format!("alerts.channels.{name}"), detail))?))
        });
        let built = built.await.map_err(|_| Unbuilt::Panicked)?;
        built.map_err(|(key, detail)| Unbuilt::Refused(key, detail))
    }

    /// The audit trail. Whoever asked by the API is known there, and told of there.
    async fn keep(&self, woken: &Woken, outcome: &Outcome) {
        let right = match (woken, outcome) {
            (Woken::Request(_), _) | (Woken::Look, Outcome::Postponed(_)) => return,
            (Woken::HangUp, _) => Right::Signal,
            (Woken::Look, Outcome::Applied { .. } | Outcome::Refused(_)) => Right::File,
        };
        let deed = Deed::new(Who::nobody(right), "reload").ended(&outcome.summary());
        if let Err(why) = self.pipeline.audit(deed).await {
            warn!(%why, "What was done could not be kept.");
        }
    }

    /// The log, `/status` and the service manager.
    fn tell(&self, outcome: &Outcome) {
        let before = self.standing.load();
        let mut standing = Standing::clone(&before);
        match outcome {
            Outcome::Applied { hash, changes, warnings } => {
                let names =
                    |list: &[DestinationName]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let change = changes.touches_destinations().then(|| (self.clock.now(), changes.clone()));
                let last_change = change.or(standing.last_change);
                standing = Standing { refused: None, needs_restart: changes.needs_restart.clone(), last_change };
                info!(
                    config = hash,
                    added = names(&changes.added),
                    changed = names(&changes.changed),
                    removed = names(&changes.removed),
                    needs_restart = changes.needs_restart.join(" "),
                    warnings,
                    "The configuration is in force."
                );
                notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("running")]);
            }
            Outcome::Refused(report) => {
                for problem in &report.problems {
                    error!(%problem, "The configuration is refused; the one before goes on.");
                }
                standing.refused = Some((self.clock.now(), report.clone()));
                let text = refusal(report);
                notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&text)]);
            }
            Outcome::Postponed(why) => {
                warn!(why, "The configuration cannot be taken over now; it is tried again.");
                notify(&[sd_notify::NotifyState::Ready]);
            }
        }
        self.standing.store(Arc::new(standing));
    }
}

/// One line for `systemctl status`.
fn refusal(report: &Report) -> String {
    let first = report.problems.first().map(ToString::to_string).unwrap_or_default();
    let more = report.problems.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let text = format!("the configuration is refused, the one before goes on: {first}{more}");
    // A line break would begin another message to the service manager.
    printable(text.as_bytes(), STATUS_BYTES).replace('\n', " ")
}

async fn arm(mut watch: Watch, reloader: &Reloader) -> Watch {
    let inputs = reloader.inputs().clone();
    let arming = spawn_blocking(move || {
        watch.arm(inputs.directories());
        watch
    });
    // Where setting them panicked, the clock alone is left.
    arming.await.unwrap_or_default()
}

/// Tells the service manager that a reload begins. A unit of `Type=notify-reload` wants to know when, in the same message.
fn reloading() {
    let since = sd_notify::NotifyState::monotonic_usec_now().ok();
    let states: Vec<_> = [sd_notify::NotifyState::Reloading].into_iter().chain(since).collect();
    notify(&states);
}

/// Resolves at SIGHUP; never where signals cannot be caught.
async fn hang_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
