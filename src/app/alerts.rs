//! What alerts watch over: the state of the daemon gathered from the pipeline, the books and the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::alerts::Alerts;
use crate::alerts::house::{self, House, Looking, Setup, Watch};
use crate::alerts::vitals::{BackupVitals, Books, DestinationVitals, Standing as State, Tally, Vitals};
use crate::config::reload::Standing;
use crate::config::snapshot::Snapshot;
use crate::domain::alert::AlertMemory;
use crate::domain::id::DestinationId;
use crate::domain::name::DestinationName;
use crate::domain::pause::PausedBy;
use crate::domain::time::UnixMs;
use crate::env::clock::Clock;
use crate::env::courier::Courier;
use crate::pipeline::backups::BackupView;
use crate::pipeline::{LaneView, Pipeline, Unavailable};
use crate::store::read::Reader;
use crate::store::{Counts, Ledger, StoreError};
use crate::telemetry::rolling::StatsView;

/// The whole daemon.
struct Daemon {
    pipeline: Pipeline,
    standing: Arc<ArcSwap<Standing>>,
    clock: Arc<dyn Clock>,
}

/// Begins to watch over it, with what an earlier process knew.
pub(super) fn start(
    pipeline: &Pipeline,
    snapshot: &Snapshot,
    standing: &Arc<ArcSwap<Standing>>,
    clock: &Arc<dyn Clock>,
    courier: Arc<dyn Courier>,
) -> Result<(Alerts, Watch), StoreError> {
    let (pipeline, standing, clock) = (pipeline.clone(), Arc::clone(standing), Arc::clone(clock));
    let memory = pipeline.reader().alerts()?;
    let house = Arc::new(Daemon { pipeline, standing, clock: Arc::clone(&clock) });
    Ok(house::start(Setup { house, courier, clock, memory, config: snapshot.alerts.clone() }))
}

/// The books, and what is owed longest.
struct Stored {
    ledger: Arc<Ledger>,
    names: BTreeMap<DestinationName, DestinationId>,
    oldest: BTreeMap<DestinationId, UnixMs>,
    damaged: u64,
}

impl House for Daemon {
    fn vitals(&self) -> Looking<'_, Vitals> {
        Box::pin(async move {
            let reader = self.pipeline.reader().clone();
            let read = tokio::task::spawn_blocking(move || stored(&reader)).await;
            let (stored, fault) = match read {
                Ok(Ok(stored)) => (Some(stored), None),
                Ok(Err(error)) => (None, Some(error.to_string())),
                Err(error) => (None, Some(error.to_string())),
            };
            self.gather(stored, fault)
        })
    }

    fn keep(&self, memory: AlertMemory) -> Looking<'_, bool> {
        Box::pin(async move { self.pipeline.keep_alerts(memory).await.is_ok() })
    }
}

fn stored(reader: &Reader) -> Result<Stored, StoreError> {
    let ledger = reader.ledger();
    let mut oldest = BTreeMap::new();
    for (id, counts) in &ledger.deliveries {
        if owed(counts) > 0
            && let Some(at) = reader.oldest_owed(*id)?
        {
            oldest.insert(*id, at);
        }
    }
    let names = reader.destination_names()?.into_iter().collect();
    Ok(Stored { ledger, names, oldest, damaged: reader.damaged_rows() })
}

fn owed(counts: &Counts) -> u64 {
    counts.pending.saturating_add(counts.failed)
}

impl Daemon {
    /// Where the books cannot be read, what is in memory is still true.
    fn gather(&self, stored: Option<Stored>, fault: Option<String>) -> Vitals {
        let now = self.clock.now();
        let (snapshot, health) = (self.pipeline.snapshot(), self.pipeline.health());
        let disk = Unavailable::Disk.to_string();
        let disk_is_short = health.failing.iter().any(|reason| reason.starts_with(&disk));
        let failing = health.failing.iter().find(|reason| !reason.starts_with(&disk)).cloned();
        let refused = self.standing.load().refused.as_ref().map(|(_, report)| place(report));
        Vitals {
            now,
            free_disk_bytes: health.free_disk_bytes,
            reserve_bytes: health.reserve_bytes,
            disk_is_short,
            config_refused: refused,
            store_fault: fault.or(failing),
            clock_step_ms: 0,
            clock_doubt: health.clock_doubt,
            backups: backups(&self.pipeline.backups(), now),
            books: stored.map(|stored| self.books(&stored, &snapshot, now)),
        }
    }

    fn books(&self, stored: &Stored, snapshot: &Snapshot, now: UnixMs) -> Books {
        let mut books = Books {
            unbalanced: !stored.ledger.deliveries.values().all(Counts::balanced),
            damaged_rows: stored.damaged,
            ..Books::default()
        };
        for name in snapshot.sources.keys() {
            let counts = stored.ledger.events.get(name).copied().unwrap_or_default();
            books.sources.insert(name.clone(), counts.accepted.saturating_add(counts.duplicates));
        }
        let (lanes, stats) = (self.pipeline.lanes(), self.pipeline.stats(now));
        for (name, id) in &stored.names {
            let counts = stored.ledger.deliveries.get(id).copied().unwrap_or_default();
            let configured = snapshot.destinations.get(name);
            if configured.is_none() && owed(&counts) == 0 {
                continue;
            }
            let (state, status) = match configured {
                None => (State::Orphaned, None),
                Some(destination) if !destination.enabled => (State::Disabled, None),
                Some(_) => state(lanes.get(name)),
            };
            let seen = stats.get(name).map(rates).unwrap_or_default();
            let oldest_owed_at = stored.oldest.get(id).copied();
            let (owed, dlq) = (owed(&counts), counts.failed_permanently);
            books
                .destinations
                .insert(name.clone(), DestinationVitals { state, status, owed, dlq, oldest_owed_at, ..seen });
        }
        books
    }
}

fn backups(view: &BackupView, now: UnixMs) -> BackupVitals {
    match view.trouble(now) {
        Some(trouble) => BackupVitals::Trouble(trouble),
        None if view.every.is_none() => BackupVitals::Off,
        None => BackupVitals::Well,
    }
}

/// Where the first problem stands; its text may hold what somebody wrote.
fn place(report: &crate::config::problem::Report) -> String {
    let Some(first) = report.problems.first() else { return "the log".to_owned() };
    let file = first.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let line = first.line.map(|line| format!(" line {line}")).unwrap_or_default();
    format!("{file}{line} {}", first.key).trim().to_owned()
}

/// What a lane does, and the status its words begin with.
fn state(lane: Option<&LaneView>) -> (State, Option<u16>) {
    let Some(lane) = lane else { return (State::Sends, None) };
    let words = lane.reason.as_deref().unwrap_or_default();
    let digits = words.split_once("HTTP ").and_then(|(_, rest)| rest.get(..3));
    let status = digits.and_then(|digits| digits.parse().ok());
    let state = match lane.state {
        "held" => State::Held,
        "open" => State::Open,
        "orphaned" => State::Orphaned,
        "paused" if lane.paused_by == Some(PausedBy::Destination) => State::Gone,
        "paused" => State::Paused,
        "disabled" => State::Disabled,
        _ => State::Sends,
    };
    (state, status)
}

fn rates(stats: &StatsView) -> DestinationVitals {
    let tally = |rate: Option<f64>, attempts: u64| Tally {
        rate: rate.unwrap_or_default(),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    };
    let sum = |attempts: &dyn Fn(&crate::telemetry::rolling::EventStats) -> u64| -> u64 {
        stats.by_event.values().map(attempts).fold(0, u64::saturating_add)
    };
    let (hour, day) = (sum(&|event| event.attempts.hour), sum(&|event| event.attempts.day));
    let events = stats.by_event.iter().map(|(name, event)| {
        let hour = tally(event.success_rate.hour, event.attempts.hour);
        (name.clone(), (hour, tally(event.success_rate.day, event.attempts.day)))
    });
    DestinationVitals {
        attempts: (tally(stats.success_rate.hour, hour), tally(stats.success_rate.day, day)),
        by_event: events.collect(),
        streak: stats.streak,
        ..DestinationVitals::default()
    }
}
