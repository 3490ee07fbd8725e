//! What the pipeline lets others see: lanes, rolling statistics, health. Written by the writer and the driver, read by the
//! faces; every lock is held for a copy, never across a wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::delivery::LeftOut;
use crate::domain::name::{CanonicalName, DestinationName};
use crate::domain::time::{DurationMs, UnixMs};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::rolling::saved::{Changes, Saved};
use crate::telemetry::rolling::{DestinationStats, HOURS, HourTally, LastError, StatsView};

use super::writer::RESCUE;
use super::{Health, LaneView, Unavailable};

/// Commits whose latency is remembered.
const COMMITS: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Board {
    lanes: Mutex<BTreeMap<DestinationName, LaneView>>,
    stats: Mutex<BTreeMap<DestinationName, DestinationStats>>,
    store: Mutex<StoreHealth>,
    metrics: Metrics,
    /// Somebody sends.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct StoreHealth {
    fault: Option<String>,
    /// Why the store's name no longer stands for the open file.
    lost: Option<String>,
    free_disk_bytes: Option<u64>,
    reserve_bytes: u64,
    disk_short: bool,
    /// Bytes over the size retention should keep, and that size, where nothing may go.
    over_size: Option<(u64, u64)>,
    commits: VecDeque<Duration>,
    stopping: bool,
}

/// A poisoned lock holds numbers for people: they are still the best we have.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Whether nobody sends, as the writer saw it last.
    pub(super) fn is_quiet(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    pub(super) fn set_quiet(&self, quiet: bool) {
        self.busy.store(!quiet, Ordering::Relaxed);
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn set_lane(&self, destination: &DestinationName, view: LaneView) {
        lock(&self.lanes).insert(destination.clone(), view);
    }

    pub(super) fn remove_lane(&self, destination: &DestinationName) {
        lock(&self.lanes).remove(destination);
    }

    pub(super) fn lanes(&self) -> BTreeMap<DestinationName, LaneView> {
        lock(&self.lanes).clone()
    }

    pub(super) fn attempt(
        &self,
        destination: &DestinationName,
        at: UnixMs,
        event: &CanonicalName,
        delivered: bool,
        took: DurationMs,
    ) {
        lock(&self.stats).entry(destination.clone()).or_default().attempt(at, event, delivered, took);
    }

    pub(super) fn sent(&self, destination: &DestinationName, at: UnixMs, latency: DurationMs) {
        self.metrics.delivered(destination, latency);
        lock(&self.stats).entry(destination.clone()).or_default().sent(at, latency);
    }

    /// Fields that a delivered request went without.
    pub(super) fn left_out(&self, destination: &DestinationName, fields: &[LeftOut]) {
        if !fields.is_empty() {
            lock(&self.stats).entry(destination.clone()).or_default().left_out(fields);
        }
    }

    pub(super) fn error(&self, destination: &DestinationName, error: LastError) {
        lock(&self.stats).entry(destination.clone()).or_default().error(error);
    }

    pub(super) fn stats(&self, now: UnixMs) -> BTreeMap<DestinationName, StatsView> {
        lock(&self.stats).iter().map(|(name, stats)| (name.clone(), stats.view(now))).collect()
    }

    pub(super) fn series(&self, now: UnixMs) -> BTreeMap<DestinationName, [HourTally; HOURS]> {
        lock(&self.stats).iter().map(|(name, stats)| (name.clone(), stats.series(now))).collect()
    }

    /// Statistics that changed since this was last asked.
    pub(super) fn stats_changes(&self) -> BTreeMap<DestinationName, Changes> {
        let mut stats = lock(&self.stats);
        stats.iter_mut().filter_map(|(name, stats)| Some((name.clone(), stats.changes()?))).collect()
    }

    /// Takes over what was kept of a destination's statistics.
    pub(super) fn restore_stats(&self, destination: &DestinationName, saved: Saved) {
        lock(&self.stats).insert(destination.clone(), DestinationStats::restore(saved));
    }

    pub(super) fn committed(&self, took: Duration) {
        self.metrics.committed(took);
        let mut store = lock(&self.store);
        if store.commits.len() >= COMMITS {
            store.commits.pop_front();
        }
        store.commits.push_back(took);
    }

    pub(super) fn set_store_fault(&self, fault: Option<String>) {
        lock(&self.store).fault = fault;
    }

    /// What was so before.
    pub(super) fn set_lost(&self, lost: Option<String>) -> Option<String> {
        std::mem::replace(&mut lock(&self.store).lost, lost)
    }

    pub(super) fn lost(&self) -> Option<String> {
        lock(&self.store).lost.clone()
    }

    pub(super) fn set_disk(&self, free: u64, reserve: u64, short: bool) {
        let mut store = lock(&self.store);
        store.reserve_bytes = reserve;
        store.free_disk_bytes = Some(free);
        store.disk_short = short;
    }

    pub(super) fn set_over_size(&self, over: Option<(u64, u64)>) {
        lock(&self.store).over_size = over;
    }

    pub(super) fn set_stopping(&self) {
        lock(&self.store).stopping = true;
    }

    pub(super) fn store_fault(&self) -> Option<String> {
        lock(&self.store).fault.clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        lock(&self.store).stopping
    }

    pub(super) fn health(&self) -> Health {
        let store = lock(&self.store);
        let mut failing = Vec::new();
        failing.extend(store.fault.as_ref().map(|fault| format!("the store cannot commit: {fault}")));
        failing.extend(store.lost.as_ref().map(|what| format!("the store has lost its file: {what}. {RESCUE}")));
        if store.disk_short {
            failing.push(Unavailable::Disk.to_string());
        }
        if store.stopping {
            failing.push("the daemon is stopping".to_owned());
        }
        let mut sorted: Vec<Duration> = store.commits.iter().copied().collect();
        sorted.sort_unstable();
        let percentile = |permille: usize| {
            let at = sorted.len().saturating_sub(1) * permille / 1000;
            sorted.get(at).map(|took| took.as_secs_f64() * 1000.0)
        };
        Health {
            failing,
            over_size: store.over_size,
            // The guarded clock's own to say.
            clock_doubt: None,
            free_disk_bytes: store.free_disk_bytes,
            reserve_bytes: store.reserve_bytes,
            commit_ms_p50: percentile(500),
            commit_ms_p99: percentile(990),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_commits_took_is_told_in_milliseconds_of_the_last_thousand() {
        let board = Board::default();
        let commits = |count: usize, took_ms: u64| {
            for _ in 0..count {
                board.committed(Duration::from_millis(took_ms));
            }
        };
        // With the first of them the slow ones would be more than half.
        commits(1, 9);
        commits(COMMITS / 2, 2);
        commits(COMMITS / 2, 9);
        let health = board.health();
        assert_eq!((health.commit_ms_p50, health.commit_ms_p99), (Some(2.0), Some(9.0)));
    }

    fn name() -> DestinationName {
        "shop".parse().unwrap()
    }

    #[test]
    fn fields_that_requests_went_without_are_counted_and_whole_requests_leave_no_trace() {
        let board = Board::default();
        board.left_out(&name(), &[]);
        assert!(board.stats(UnixMs(1)).is_empty(), "nothing has happened");
        let phone = LeftOut { field: "user.phone".to_owned(), why: "no digits".to_owned() };
        board.left_out(&name(), &[phone]);
        assert_eq!(board.stats(UnixMs(1))[&name()].left_out, BTreeMap::from([("user.phone".to_owned(), 1)]));
    }

    #[test]
    fn each_destination_that_was_sent_to_has_its_hours() {
        let board = Board::default();
        assert!(board.series(UnixMs(1)).is_empty());
        board.attempt(&name(), UnixMs(1), &"deposit".parse().unwrap(), false, DurationMs(5));
        let series = board.series(UnixMs(1));
        assert_eq!(series[&name()].last(), Some(&HourTally { attempts: 1, failures: 1 }));
    }

    #[test]
    fn a_daemon_that_was_told_to_stop_is_not_healthy() {
        let board = Board::default();
        assert!(!board.is_stopping() && board.health().failing.is_empty());
        board.set_stopping();
        assert!(board.is_stopping());
        assert_eq!(board.health().failing, ["the daemon is stopping"]);
    }
}
