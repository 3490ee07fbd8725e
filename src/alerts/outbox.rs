//! Messages on their way: known here until their channel has taken them or they are given up, and kept in the store with what
//! was told. So one that waits for a dead channel outlives the process; one that was taken in its last moments comes twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::alert::{Notice, Waiting};

/// Messages that may wait for a channel.
pub(super) const QUEUE: usize = 64;

/// Names a message in its process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Number(u64);

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    list: Mutex<List>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// Oldest first.
    waiting: BTreeMap<Number, Waiting>,
    changed: bool,
}

impl Outbox {
    /// With what an earlier process has left.
    pub(super) fn new(left: Vec<Waiting>) -> Self {
        let outbox = Self::default();
        for waiting in left {
            outbox.add(&waiting.channel, &waiting.notice);
        }
        outbox.list().changed = false;
        outbox
    }

    /// Every lock is held for a moment, and what it guards is whole at every point.
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where too many wait for the channel already.
    pub(super) fn add(&self, channel: &str, notice: &Arc<Notice>) -> Option<Number> {
        if self.count(channel) >= QUEUE {
            return None;
        }
        let mut list = self.list();
        let number = Number(list.next);
        list.next += 1;
        list.waiting.insert(number, Waiting { channel: channel.to_owned(), notice: Arc::clone(notice) });
        list.changed = true;
        Some(number)
    }

    /// It was taken, or given up.
    pub(super) fn ended(&self, number: Number) {
        let mut list = self.list();
        list.changed |= list.waiting.remove(&number).is_some();
        self.ended.notify_one();
    }

    /// Nobody is told any more through a channel that is not kept.
    pub(super) fn retain(&self, keeps: impl Fn(&str) -> bool) {
        let mut list = self.list();
        let before = list.waiting.len();
        list.waiting.retain(|_, waiting| keeps(&waiting.channel));
        list.changed |= list.waiting.len() < before;
    }

    pub(super) fn of(&self, channel: &str) -> Vec<(Number, Arc<Notice>)> {
        let list = self.list();
        let own = list.waiting.iter().filter(|(_, waiting)| waiting.channel == channel);
        own.map(|(number, waiting)| (*number, Arc::clone(&waiting.notice))).collect()
    }

    pub(super) fn count(&self, channel: &str) -> usize {
        self.list().waiting.values().filter(|waiting| waiting.channel == channel).count()
    }

    pub(super) fn all(&self) -> Vec<Waiting> {
        self.list().waiting.values().cloned().collect()
    }

    /// Whether it is another than when this was asked last.
    pub(super) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.list().changed)
    }

    /// Until a message has ended.
    pub(super) async fn one_ended(&self) {
        self.ended.notified().await;
    }
}
