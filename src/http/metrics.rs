//! `GET /metrics`: everything for Prometheus, in its text format (`OpenMetrics`). Few series, labels from the configuration only.
//!
//! What the store counts is exact since it was created and survives restarts; what happens in the process counts from its
//! start (see [`crate::telemetry::metrics`]).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::lanes::{Place, STATES, without_lane};
use super::problem::Problem;
use super::query::Names;
use super::{AppState, lanes};
use crate::alerts::View;
use crate::domain::alert::Rule;
use crate::domain::delivery::Status;
use crate::domain::name::DestinationName;
use crate::domain::time::UnixMs;
use crate::pipeline::backups::BackupView;
use crate::pipeline::{Health, LaneView};
use crate::store::{Counts, EventCounts, Ledger};
use crate::telemetry::log_queue;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    destination: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    source: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    destination: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ChannelLabels {
    channel: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type Level<L> = Family<L, Gauge<u64, AtomicU64>>;

pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, Problem> {
    let names = state.names().await?;
    let (now, known) = (state.clock.now(), names.clone());
    let (ledger, bytes, oldest) = state
        .read(move |reader| {
            let oldest = known.iter().map(|(name, id)| Ok((name.clone(), reader.oldest_owed(id)?)));
            let oldest = oldest.collect::<Result<Vec<_>, crate::store::StoreError>>()?;
            Ok((Ledger::clone(&reader.ledger()), reader.file_bytes(), oldest))
        })
        .await?;
    let mut registry = Registry::with_prefix("postbackd");
    state.pipeline.metrics().register(&mut registry);
    deliveries(&mut registry, &names, &ledger);
    events(&mut registry, &ledger);
    states(&mut registry, (&names, &ledger), &lanes::of_configured(&state));
    let owed = Level::default();
    for (name, oldest) in oldest {
        let age = oldest.map_or(0, |oldest| now.since(oldest).0 / 1000);
        owed.get_or_create(&DestinationLabels { destination: name.to_string() }).set(age);
    }
    registry.register_with_unit(
        "oldest_owed",
        "Age of the oldest delivery that is still owed, 0 where none is",
        Unit::Seconds,
        owed,
    );
    let size = Gauge::<u64, AtomicU64>::default();
    size.set(bytes);
    registry.register_with_unit("store", "Size of the store's file", Unit::Bytes, size);
    let dropped = Counter::<u64>::default();
    dropped.inc_by(log_queue::dropped());
    registry.register("log_lines_dropped", "Lines of the log that nobody took in time", dropped);
    let config = Gauge::<u64, AtomicU64>::default();
    config.set(u64::from(state.standing.load().refused.is_none()));
    health(&mut registry, &state.pipeline.health());
    registry.register("config_ok", "0 while the configuration file is refused and the one before goes on", config);
    alerts(&mut registry, &state.alerts.view());
    backups(&mut registry, &state.pipeline.backups(), now);
    let mut body = String::new();
    text::encode(&mut body, &registry).map_err(|_| Problem::internal("the metrics could not be written"))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// Of those that have gone too, or a destination that is owed something would end its series when it is orphaned.
fn states(registry: &mut Registry, (names, ledger): (&Names, &Ledger), lanes: &BTreeMap<DestinationName, LaneView>) {
    let states = Level::default();
    for (name, id) in names.iter() {
        let owed = ledger.deliveries.get(&id).map_or(0, Counts::owed);
        let holds = lanes.get(name).map_or_else(|| without_lane(name, Place::Gone { owed }).state, |lane| lane.state);
        for known in STATES {
            let labels = StateLabels { destination: name.to_string(), state: known };
            states.get_or_create(&labels).set(u64::from(known == holds));
        }
    }
    registry.register("destination_state", "1 for the state that holds", states);
}

fn health(registry: &mut Registry, health: &Health) {
    let ready = Gauge::<u64, AtomicU64>::default();
    ready.set(u64::from(health.failing.is_empty()));
    registry.register("ready", "0 while events cannot be taken", ready);
    if let Some(bytes) = health.free_disk_bytes {
        let free = Gauge::<u64, AtomicU64>::default();
        free.set(bytes);
        registry.register_with_unit("disk_free", "Free space of the store's file system", Unit::Bytes, free);
    }
}

fn deliveries(registry: &mut Registry, names: &Names, ledger: &Ledger) {
    let levels = Level::default();
    for (name, id) in names.iter() {
        let counts = ledger.deliveries.get(&id).copied().unwrap_or_default();
        for status in Status::ALL {
            let labels = DeliveryLabels { destination: name.to_string(), status: status.as_str() };
            levels.get_or_create(&labels).set(counts.of(status));
        }
    }
    registry.register("deliveries", "Deliveries by where they stand, since the store was created", levels);
}

/// The outcomes exclude each other: a conflict is no duplicate here, although `/status` counts it among them.
fn events(registry: &mut Registry, ledger: &Ledger) {
    let counters = Family::<EventLabels, Counter>::default();
    for (source, EventCounts { accepted, duplicates, conflicts, rejected }) in &ledger.events {
        let outcomes = [
            ("queued", *accepted),
            ("duplicate", duplicates.saturating_sub(*conflicts)),
            ("conflict", *conflicts),
            ("rejected", *rejected),
        ];
        for (outcome, count) in outcomes {
            counters.get_or_create(&EventLabels { source: source.to_string(), outcome }).inc_by(count);
        }
    }
    registry.register("events", "Events by what became of them, since the store was created", counters);
}

/// Backups that are taken by themselves.
fn backups(registry: &mut Registry, view: &BackupView, now: UnixMs) {
    let ok = Gauge::<u64, AtomicU64>::default();
    ok.set(u64::from(view.trouble(now).is_none()));
    registry.register(
        "backup_ok",
        "0 while automatic backups are on and fail, none was taken for too long, or older ones cannot be removed",
        ok,
    );
    let last = Gauge::<u64, AtomicU64>::default();
    last.set(view.last.as_ref().map_or(0, |taken| taken.at.seconds()));
    registry.register_with_unit(
        "backup_last_success_timestamp",
        "When the newest automatic backup was taken, 0 where there is none",
        Unit::Seconds,
        last,
    );
    let counters = Family::<OutcomeLabels, Counter>::default();
    for (outcome, count) in [("written", view.written), ("failed", view.failures)] {
        counters.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
    }
    registry.register("backups", "Automatic backups by what became of them, since the start", counters);
}

/// Problems that were told and are not over, and what became of messages.
fn alerts(registry: &mut Registry, view: &View) {
    let open = Level::default();
    for rule in Rule::ALL {
        let count = view.open.iter().filter(|problem| problem.rule == rule).count();
        open.get_or_create(&RuleLabels { rule: rule.as_str() }).set(u64::try_from(count).unwrap_or(u64::MAX));
    }
    registry.register("alerts_open", "Problems that were told and are not over", open);
    let messages = Family::<ChannelLabels, Counter>::default();
    let beat = view.heartbeat.iter().map(|beat| ("heartbeat", beat));
    for (channel, seen) in view.channels.iter().map(|(name, seen)| (name.as_str(), seen)).chain(beat) {
        for (outcome, count) in [("sent", seen.sent), ("failed", seen.failed)] {
            messages.get_or_create(&ChannelLabels { channel: channel.to_owned(), outcome }).inc_by(count);
        }
    }
    registry.register("alert_messages", "Attempts to tell, since the start", messages);
}
