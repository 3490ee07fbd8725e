//! The task that looks, and the one that pings while all is well.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::outbox::{Number, Outbox, QUEUE};
use super::post::{self, Post};
use super::vitals::Vitals;
use super::watcher::Watcher;
use super::{Alerts, Board, lock, message};
use crate::config;
use crate::domain::alert::{AlertMemory, Notice, Severity};
use crate::domain::time::UnixMs;
use crate::env::clock::Clock;
use crate::env::courier::Courier;

type Config = Arc<config::alerts::Alerts>;
type Queue = mpsc::Sender<(Number, Arc<Notice>)>;

/// Smaller differences between the two clocks are drift and rounding.
const STEP_MIN_MS: i64 = 2000;
/// A stop waits for the store no longer than this.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A look that takes longer is none, and nothing is well.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// A boxed future, so that the trait can be an object.
pub type Looking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is watched over.
pub trait House: Send + Sync {
    /// The daemon as it is now, but for the step of the clock.
    fn vitals(&self) -> Looking<'_, Vitals>;

    /// Keeps what must survive a restart; whether that worked.
    fn keep(&self, memory: AlertMemory) -> Looking<'_, bool>;
}

/// What the tasks work on.
pub struct Setup {
    pub house: Arc<dyn House>,
    pub courier: Arc<dyn Courier>,
    pub clock: Arc<dyn Clock>,
    pub memory: AlertMemory,
    pub config: config::alerts::Alerts,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The running tasks; they end when this is dropped.
#[derive(Debug)]
pub struct Watch {
    tasks: [JoinHandle<()>; 2],
    ending: watch::Sender<bool>,
}

impl Watch {
    /// Ends the tasks, once it is kept what was told and what was not.
    pub async fn stop(mut self) {
        self.ending.send_replace(true);
        let [looker, _] = &mut self.tasks;
        if timeout(LAST_WORDS, looker).await.is_err() {
            warn!("What no channel has taken could not be kept in time; some of it may be told twice.");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Begins to look.
pub fn start(setup: Setup) -> (Alerts, Watch) {
    let Setup { house, courier, clock, mut memory, config } = setup;
    let outbox = Outbox::new(std::mem::take(&mut memory.waiting));
    let board = Arc::new(Board { outbox, ..Board::default() });
    let (config, changes) = watch::channel(Arc::new(config));
    let (well, wellness) = watch::channel(false);
    let handle = Alerts { config, board: Arc::clone(&board), courier: Arc::clone(&courier), clock: Arc::clone(&clock) };
    let pulse = Pulse {
        config: changes.clone(),
        wellness,
        board: Arc::clone(&board),
        courier: Arc::clone(&courier),
        clock: Arc::clone(&clock),
    };
    let watcher = Watcher::new(memory);
    *lock(&board.open) = watcher.open();
    let (posts, before) = (BTreeMap::new(), None);
    let (ending, ends) = watch::channel(false);
    let looker = Looker { house, courier, clock, config: changes, board, watcher, posts, well, before, ends };
    let tasks = [tokio::spawn(looker.run()), tokio::spawn(pulse.run())];
    (handle, Watch { tasks, ending })
}

struct Looker {
    house: Arc<dyn House>,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
    config: watch::Receiver<Config>,
    board: Arc<Board>,
    watcher: Watcher,
    posts: BTreeMap<String, (Queue, JoinHandle<()>)>,
    well: watch::Sender<bool>,
    /// Both clocks at the look before.
    before: Option<(UnixMs, Duration)>,
    /// Whether this was the last look.
    ends: watch::Receiver<bool>,
}

impl Looker {
    async fn run(mut self) {
        let mut unkept = false;
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            unkept |= if config.are_watched() { self.look(&config).await } else { self.rest(&config) };
            unkept = self.keep(unkept).await;
            let idle = !unkept && !config.are_watched();
            let pause = if idle { Duration::from_hours(24) } else { config.policy.every.to_std() };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.board.outbox.one_ended() => {}
                changed = self.config.changed() => if changed.is_err() { return },
                _ = self.ends.changed() => {
                    self.posts.values().for_each(|(_, task)| task.abort());
                    self.keep(unkept).await;
                    return;
                }
            }
        }
    }

    /// Keeps what must survive a restart, where it has changed; whether it still has to be.
    async fn keep(&mut self, unkept: bool) -> bool {
        if !self.board.outbox.take_changed() && !unkept {
            return false;
        }
        let memory = AlertMemory { waiting: self.board.outbox.all(), ..self.watcher.memory() };
        !self.house.keep(memory).await
    }

    /// Whether there is something to keep.
    async fn look(&mut self, config: &Config) -> bool {
        let Ok(mut vitals) = timeout(LOOK_TIMEOUT, self.house.vitals()).await else {
            warn!("The state of the daemon could not be read in time; alerts look again.");
            self.well.send_replace(false);
            return false;
        };
        vitals.clock_step_ms = self.step(vitals.now);
        let notices = self.watcher.look(&config.policy, &vitals);
        let open = self.watcher.open();
        let is_failing = vitals.store_fault.is_some()
            || vitals.disk_is_short
            || vitals.books.as_ref().is_none_or(|books| books.unbalanced);
        let is_critical = open.iter().any(|problem| problem.severity == Severity::Critical);
        *lock(&self.board.open) = open;
        self.well.send_replace(!is_failing && !is_critical);
        self.posts(config);
        for notice in notices {
            let problem = &notice.problem;
            info!(
                id = problem.id,
                kind = notice.kind.as_str(),
                severity = problem.severity.as_str(),
                problem.title,
                "Alert."
            );
            self.tell(config, notice);
        }
        self.watcher.take_changed()
    }

    /// There is nobody to tell; whether there is something to keep.
    fn rest(&mut self, config: &Config) -> bool {
        self.posts(config);
        self.before = None;
        self.well.send_replace(false);
        for problem in self.watcher.close() {
            info!(id = problem.id, problem.title, "An alert is closed, as no channel is left to tell.");
        }
        lock(&self.board.open).clear();
        self.watcher.take_changed()
    }

    fn step(&mut self, now: UnixMs) -> i64 {
        let monotonic = self.clock.monotonic();
        let before = self.before.replace((now, monotonic));
        let Some((wall, then)) = before else { return 0 };
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let passed = i64::try_from(monotonic.saturating_sub(then).as_millis()).unwrap_or(i64::MAX);
        let step = signed(now.0).saturating_sub(signed(wall.0)).saturating_sub(passed);
        if step.abs() < STEP_MIN_MS { 0 } else { step }
    }

    /// A task for each channel there is, with what an earlier process has left for it; none for one that is gone.
    fn posts(&mut self, config: &Config) {
        self.board.outbox.retain(|name| config.channels.get(name).is_some_and(|channel| channel.enabled));
        self.posts.retain(|name, (_, task)| {
            let stays = config.channels.get(name).is_some_and(|channel| channel.enabled);
            if !stays {
                task.abort();
                // Under the same name it is another one.
                lock(&self.board.channels).remove(name);
            }
            stays
        });
        for channel in config.live() {
            if self.posts.contains_key(&channel.name) {
                continue;
            }
            let (sender, queue) = mpsc::channel(QUEUE);
            let post = Post {
                name: channel.name.clone(),
                config: self.config.clone(),
                queue,
                board: Arc::clone(&self.board),
                courier: Arc::clone(&self.courier),
                clock: Arc::clone(&self.clock),
            };
            for left in self.board.outbox.of(&channel.name) {
                // There is room: no more may wait than fit in.
                sender.try_send(left).ok();
            }
            self.posts.insert(channel.name.clone(), (sender, tokio::spawn(post.run())));
        }
    }

    fn tell(&self, config: &Config, notice: Notice) {
        let notice = Arc::new(notice);
        for channel in config.live().filter(|channel| notice.concerns(channel.min_severity)) {
            let Some((post, _)) = self.posts.get(&channel.name) else { continue };
            if let Some(number) = self.board.outbox.add(&channel.name, &notice) {
                if post.try_send((number, Arc::clone(&notice))).is_ok() {
                    continue;
                }
                self.board.outbox.ended(number);
            }
            let detail = "too many messages wait for this channel; this one is dropped".to_owned();
            warn!(channel = channel.name, id = notice.problem.id, detail, "An alert was dropped.");
            let refused = post::Refused { detail, retry_after: None };
            self.board.carried(&channel.name, self.clock.now(), &Err(refused));
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        for (_, task) in self.posts.values() {
            task.abort();
        }
    }
}

/// Pings the heartbeat's URL while all is well.
struct Pulse {
    config: watch::Receiver<Config>,
    wellness: watch::Receiver<bool>,
    board: Arc<Board>,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
}

impl Pulse {
    async fn run(mut self) {
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            let every = match &config.heartbeat {
                Some(heartbeat) => {
                    // Nothing is well before the first look.
                    if *self.wellness.borrow_and_update() {
                        let channel = &heartbeat.channel;
                        let result = post::send(&*self.courier, channel, message::beat(channel)).await;
                        if let Err(refused) = &result {
                            warn!(error = refused.detail, "The heartbeat was not taken.");
                        }
                        self.board.carried(&channel.name, self.clock.now(), &result);
                    }
                    heartbeat.every.to_std()
                }
                None => Duration::from_hours(24),
            };
            let was_well = *self.wellness.borrow();
            tokio::select! {
                () = sleep(every) => {}
                changed = self.config.changed() => if changed.is_err() { return },
                // The first good look, or the return of good times, is told at once.
                changed = self.wellness.wait_for(|well| *well), if !was_well => if changed.is_err() { return },
            }
        }
    }
}
