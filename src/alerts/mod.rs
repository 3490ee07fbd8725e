//! Telling people: rules over the state of the daemon, and channels that carry what they find.
//!
//! Pure: [`vitals`] (what is looked at), [`watcher`] with `destination` and `rhythm` (the rules), [`book`] (what was told, what
//! is told again, what is over) with [`ending`] (how something ends), [`message`] (a notice as a channel takes it), `answer` (what it answers). Async: [`house`] (who looks, and the heartbeat),
//! `outbox` (what no channel has taken yet), `post` (a task for each channel, with its own queue and its own retries),
//! [`Alerts`] (the handle of the faces).
//!
//! Invariants: one message for one problem however often it comes; what was told, and what waits to be, survives a restart;
//! no channel waits for another, and nothing waits for a channel. Absent on purpose: the pipeline, the store and the wire, which come in as
//! [`House`] and [`Courier`], so that alerts go by no way that a destination could block.

mod answer;
pub mod book;
mod destination;
pub mod ending;
pub mod house;
pub mod message;
mod outbox;
mod post;
mod rhythm;
pub mod vitals;
pub mod watcher;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::house::{House, Setup, start};
use self::outbox::Outbox;
use crate::config;
use crate::config::alerts::Channel;
use crate::domain::alert::{Notice, NoticeKind, Problem, Rule, Severity};
use crate::domain::time::UnixMs;
use crate::env::clock::Clock;
use crate::env::courier::Courier;

/// The handle of whoever asks or reloads: cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    config: watch::Sender<Arc<config::alerts::Alerts>>,
    board: Arc<Board>,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
}

/// What others may see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Whether there is anybody to tell.
    pub watched: bool,
    pub open: Vec<Problem>,
    pub channels: BTreeMap<String, ChannelView>,
    pub heartbeat: Option<ChannelView>,
}

/// How a channel is doing, since the start.
#[derive(Clone, Debug, Default)]
pub struct ChannelView {
    pub kind: &'static str,
    pub enabled: bool,
    pub last_success: Option<UnixMs>,
    pub last_error: Option<(UnixMs, String)>,
    pub sent: u64,
    pub failed: u64,
    /// Messages that wait.
    pub waiting: usize,
}

/// Shared by the tasks; every lock is held for a copy.
#[derive(Debug, Default)]
struct Board {
    open: Mutex<Vec<Problem>>,
    channels: Mutex<BTreeMap<String, ChannelView>>,
    outbox: Outbox,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    fn of(&self, channel: &str) -> ChannelView {
        lock(&self.channels).get(channel).cloned().unwrap_or_default()
    }

    fn change(&self, channel: &str, how: impl FnOnce(&mut ChannelView)) {
        how(lock(&self.channels).entry(channel.to_owned()).or_default());
    }

    fn carried(&self, channel: &str, now: UnixMs, result: &Result<(), post::Refused>) {
        self.change(channel, |view| match result {
            Ok(()) => {
                view.sent = view.sent.saturating_add(1);
                view.last_success = Some(now);
            }
            Err(refused) => {
                view.failed = view.failed.saturating_add(1);
                view.last_error = Some((now, refused.detail.clone()));
            }
        });
    }
}

impl Alerts {
    /// From here on these are the rules and the channels.
    pub fn reload(&self, alerts: config::alerts::Alerts) {
        self.config.send_replace(Arc::new(alerts));
    }

    pub fn view(&self) -> View {
        let config = Arc::clone(&self.config.borrow());
        let seen = |channel: &Channel| ChannelView {
            kind: channel.target.kind(),
            enabled: channel.enabled,
            waiting: self.board.outbox.count(&channel.name),
            ..self.board.of(&channel.name)
        };
        let channels = config.channels.iter().map(|(name, channel)| (name.clone(), seen(channel)));
        View {
            watched: config.are_watched(),
            open: if config.are_watched() { lock(&self.board.open).clone() } else { Vec::new() },
            channels: channels.collect(),
            heartbeat: config.heartbeat.as_ref().map(|heartbeat| seen(&heartbeat.channel)),
        }
    }

    /// Sends a test through one channel, or through all that are enabled, at once; what came of it. `None` where there is
    /// no channel of that name.
    pub async fn test(&self, name: Option<&str>) -> Option<BTreeMap<String, Result<(), String>>> {
        let config = Arc::clone(&self.config.borrow());
        let chosen: Vec<Arc<Channel>> = match name {
            Some(name) => vec![Arc::clone(config.channels.get(name)?)],
            None => config.live().cloned().collect(),
        };
        let notice = Arc::new(test_notice(self.clock.now()));
        let mut sending = JoinSet::new();
        for channel in chosen {
            let (courier, notice) = (Arc::clone(&self.courier), Arc::clone(&notice));
            sending.spawn(async move { (channel.name.clone(), post::carry(&*courier, &channel, &notice).await) });
        }
        let mut results = BTreeMap::new();
        while let Some(ended) = sending.join_next().await {
            let Ok((name, result)) = ended else { continue };
            self.board.carried(&name, self.clock.now(), &result);
            results.insert(name, result.map_err(|refused| refused.detail));
        }
        Some(results)
    }
}

fn test_notice(now: UnixMs) -> Notice {
    Notice {
        kind: NoticeKind::Test,
        at: now,
        problem: Problem {
            id: "test".to_owned(),
            rule: Rule::Config,
            severity: Severity::Critical,
            worst: Severity::Critical,
            title: "a test of alerts".to_owned(),
            text: "Nothing is wrong: somebody asked for this test. Alerts of postbackd arrive here.".to_owned(),
            remedy: "nothing".to_owned(),
            since: now,
            told_at: Some(now),
            told: 1,
            good_since: None,
        },
    }
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alerts")
    }
}
