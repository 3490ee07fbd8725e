//! `GET /status`: the books, the state of every destination, and whether all is well.
//!
//! [`Observed`] is gathered from the pipeline and the store; [`build`] makes the answer of it and is pure.

mod dto;
mod text;

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use self::dto::{
    Books, Commit, Config, ConfigError, DestinationDto, Events, LastErrorDto, Pair, ProxyDto, StatusDto, StoreDto,
};
use super::AppState;
use super::dto::{next_attempt, rfc3339};
use super::ingest;
use super::json::Json;
use super::lanes::{Place, without_lane};
use super::problem::Problem;
use super::query::{Names, Query};
use super::reload::problems;
use crate::alerts::View;
use crate::config::checklist;
use crate::config::problem::Report;
use crate::config::reload::Standing;
use crate::config::snapshot::Snapshot;
use crate::domain::id::DestinationId;
use crate::domain::name::{DestinationName, SourceName};
use crate::domain::pause::PausedBy;
use crate::domain::time::{ClockDoubt, DurationMs, UnixMs};
use crate::env::transport::RouteView;
use crate::pipeline::backups::BackupView;
use crate::pipeline::{Health, LaneView, Unavailable};
use crate::store::read::Reader;
use crate::store::{Counts, Ledger, StoreError};
use crate::telemetry::rolling::StatsView;

/// What a destination's outbox says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Owed {
    oldest: Option<UnixMs>,
    next_due: Option<UnixMs>,
}

/// A destination of the running configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Configured {
    kind: &'static str,
    enabled: bool,
}

/// Everything the answer is made of, as of one moment.
#[derive(Debug, Default)]
struct Observed {
    now: UnixMs,
    uptime: DurationMs,
    config_hash: String,
    config_loaded_at: UnixMs,
    standing: Standing,
    configured: BTreeMap<DestinationName, Configured>,
    names: Names,
    ledger: Ledger,
    owed: BTreeMap<DestinationId, Owed>,
    store_bytes: u64,
    /// Rows of the store that could not be read.
    damaged_rows: u64,
    lanes: BTreeMap<DestinationName, LaneView>,
    routes: BTreeMap<DestinationName, Vec<RouteView>>,
    /// What keeps this machine from sending anything to a destination.
    lacks: BTreeMap<DestinationName, &'static str>,
    stats: BTreeMap<DestinationName, StatsView>,
    health: Health,
    postbacks: BTreeMap<SourceName, ingest::Counts>,
    alerts: View,
    backup: BackupView,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Json,
    Text,
}

pub(super) async fn status(
    State(state): State<AppState>,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&["format"]])?;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = format(query.get("format"), accept)?;
    let status = build(&observe(&state).await?);
    Ok(match format {
        Format::Json => Json(status).into_response(),
        Format::Text => text::render(&status).into_response(),
    })
}

/// The query decides, else the first of the two types that `Accept` names.
fn format(asked: Option<&str>, accept: Option<&str>) -> Result<Format, Problem> {
    match asked {
        Some("json") => return Ok(Format::Json),
        Some("text") => return Ok(Format::Text),
        Some(_) => return Err(Problem::field("format", "invalid", "write json or text")),
        None => {}
    }
    let types = accept.unwrap_or_default().split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
    for named in types {
        if named.eq_ignore_ascii_case("text/plain") {
            return Ok(Format::Text);
        }
        if named.eq_ignore_ascii_case("application/json") {
            return Ok(Format::Json);
        }
    }
    Ok(Format::Json)
}

async fn observe(state: &AppState) -> Result<Observed, Problem> {
    let snapshot = state.pipeline.snapshot();
    let names = state.names().await?;
    let (ledger, owed, store_bytes) = state.read(books).await?;
    let now = state.clock.now();
    let configured = snapshot.destinations.iter().map(|(name, destination)| {
        (name.clone(), Configured { kind: destination.kind.as_str(), enabled: destination.enabled })
    });
    let names_of = snapshot.destinations.keys();
    let routes = names_of.map(|name| (name.clone(), state.pipeline.routes(name))).collect();
    Ok(Observed {
        now,
        uptime: state.pipeline.uptime(),
        config_hash: snapshot.hash.clone(),
        config_loaded_at: snapshot.loaded_at,
        standing: Standing::clone(&state.standing.load()),
        configured: configured.collect(),
        names,
        ledger,
        owed,
        store_bytes,
        damaged_rows: state.reader.damaged_rows(),
        lanes: state.pipeline.lanes(),
        routes,
        lacks: lacks(state, &snapshot),
        stats: state.pipeline.stats(now),
        health: state.pipeline.health(),
        postbacks: state.noticed.counts(),
        alerts: state.alerts.view(),
        backup: state.pipeline.backups(),
    })
}

/// Of enabled destinations only: nobody misses what the others cannot do.
fn lacks(state: &AppState, snapshot: &Snapshot) -> BTreeMap<DestinationName, &'static str> {
    let enabled = snapshot.destinations.iter().filter(|(_, destination)| destination.enabled);
    let found = enabled.filter_map(|(name, destination)| {
        let url = checklist::address(destination, snapshot.loaded_at)?;
        Some((name.clone(), state.pipeline.lacks(name, &url)?))
    });
    found.collect()
}

type FromStore = (Ledger, BTreeMap<DestinationId, Owed>, u64);

fn books(reader: &Reader) -> Result<FromStore, StoreError> {
    let ledger = Ledger::clone(&reader.ledger());
    let mut owed = BTreeMap::new();
    for (id, counts) in &ledger.deliveries {
        if counts.owed() > 0 {
            owed.insert(*id, Owed { oldest: reader.oldest_owed(*id)?, next_due: reader.next_due(*id)? });
        }
    }
    Ok((ledger, owed, reader.file_bytes()))
}

/// The answer.
fn build(observed: &Observed) -> StatusDto {
    let mut total = Counts::default();
    for counts in observed.ledger.deliveries.values() {
        add(&mut total, counts);
    }
    let mut destinations = BTreeMap::new();
    for (name, id) in observed.names.iter() {
        let counts = observed.ledger.deliveries.get(&id).copied().unwrap_or_default();
        destinations.insert(name.to_string(), destination(observed, name, id, counts));
    }
    let books_hold = observed.ledger.deliveries.values().chain([&total]).all(Books::hold);
    let (state, reasons) = judge(observed, books_hold, &destinations);
    let mut events = Events::default();
    for counts in observed.ledger.events.values() {
        events.add(counts);
    }
    let health = &observed.health;
    StatusDto {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: observed.uptime.0 / 1000,
        state,
        reasons,
        config: Config {
            hash: observed.config_hash.clone(),
            loaded_at: observed.config_loaded_at.to_rfc3339(),
            error: observed.standing.refused.as_ref().map(config_error),
            needs_restart: observed.standing.needs_restart.clone(),
        },
        store: StoreDto {
            bytes: observed.store_bytes,
            free_disk_bytes: health.free_disk_bytes,
            commit_ms: Commit { p50: dto::round(health.commit_ms_p50), p99: dto::round(health.commit_ms_p99) },
        },
        events,
        postbacks: observed.postbacks.iter().map(|(source, counts)| (source.to_string(), *counts)).collect(),
        balance: dto::Balance { books: Books::from(total), balanced: books_hold },
        destinations,
        alerts: observed.alerts.clone().into(),
        backup: (&observed.backup).into(),
    }
}

fn config_error((at, report): &(UnixMs, Report)) -> ConfigError {
    let message = match report.problems.as_slice() {
        [only] => only.to_string(),
        problems => format!("{} problems; postbackd check lists them", problems.len()),
    };
    ConfigError { message, at: at.to_rfc3339(), problems: problems(report) }
}

fn destination(observed: &Observed, name: &DestinationName, id: DestinationId, counts: Counts) -> DestinationDto {
    let lane = lane(observed, name, &counts);
    let owed = observed.owed.get(&id).copied().unwrap_or_default();
    let next_attempt = next_attempt(owed.next_due, Some(&lane));
    let stats = observed.stats.get(name).cloned().unwrap_or_default();
    DestinationDto {
        kind: observed.configured.get(name).map(|configured| configured.kind),
        state: lane.state,
        reason: lane.reason,
        until: rfc3339(lane.until),
        paused_by: lane.paused_by.map(PausedBy::as_str),
        counts: Books::from(counts),
        dlq: counts.failed_permanently,
        in_flight: lane.in_flight,
        oldest_owed_s: owed.oldest.map(|oldest| observed.now.since(oldest).0 / 1000),
        next_attempt_at: rfc3339(next_attempt),
        success_rate: Pair::rates(stats.success_rate),
        latency_ms: Pair::percentiles(stats.latency_ms),
        exchange_ms: Pair::percentiles(stats.exchange_ms),
        by_event: stats.by_event.iter().map(|(event, stats)| (event.to_string(), (*stats).into())).collect(),
        last_error: stats.last_error.map(LastErrorDto::from),
        left_out: stats.left_out,
        proxy: observed.routes.get(name).and_then(|routes| ProxyDto::of(routes)),
    }
}

/// The lane as the pipeline shows it; where it has none, what the configuration and the books say.
fn lane(observed: &Observed, name: &DestinationName, counts: &Counts) -> LaneView {
    if let Some(lane) = observed.lanes.get(name) {
        return lane.clone();
    }
    let place = match observed.configured.get(name) {
        Some(Configured { enabled: true, .. }) => Place::Enabled,
        Some(Configured { enabled: false, .. }) => Place::Disabled,
        None => Place::Gone { owed: counts.owed() },
    };
    without_lane(name, place)
}

/// `ok`, `degraded` or `failing`, with every reason.
fn judge(
    observed: &Observed,
    books_hold: bool,
    destinations: &BTreeMap<String, DestinationDto>,
) -> (&'static str, Vec<String>) {
    let disk = Unavailable::Disk.to_string();
    let (disk_low, failing): (Vec<String>, Vec<String>) =
        observed.health.failing.iter().cloned().partition(|reason| reason.starts_with(&disk));
    let mut reasons = failing;
    if !books_hold {
        reasons.push("the books do not balance: please keep a copy of the store and report this".to_owned());
    }
    let is_failing = !reasons.is_empty();
    reasons.extend(disk_low);
    if observed.damaged_rows > 0 {
        let rows = observed.damaged_rows;
        reasons.push(format!("{rows} rows of the store are damaged and passed over; postbackd dlq damaged lists them"));
    }
    if let Some((_, report)) = &observed.standing.refused {
        let first = report.problems.first().map(|problem| format!(": {problem}")).unwrap_or_default();
        let more = match report.problems.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all.saturating_sub(1)),
        };
        reasons.push(format!("the configuration file is refused, the one before goes on{first}{more}"));
    }
    reasons.extend(observed.backup.trouble(observed.now));
    for (name, why) in &observed.lacks {
        reasons.push(format!("nothing can be sent to {name}: {why}; then postbackd release {name}"));
    }
    if let Some((over, limit)) = observed.health.over_size {
        reasons.push(format!(
            "the store holds {over} bytes more than retention.size ({limit}), and nothing more may go: the rest is owed, \
             dead (deliver or discard it), or remembers repeats (retention.dedupe)"
        ));
    }
    reasons.extend(observed.health.clock_doubt.map(doubted));
    for (name, destination) in destinations {
        // An operator's pause is meant; that a receiver is gone is a fault that nobody chose.
        let gone = destination.paused_by == Some(PausedBy::Destination.as_str());
        if gone || matches!(destination.state, "held" | "open" | "orphaned") {
            let why = destination.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let next = destination.until.as_deref().map(|at| format!(" (next try at {at})")).unwrap_or_default();
            reasons.push(format!("{name} is {}{why}{next}", destination.state));
        }
    }
    match (is_failing, reasons.is_empty()) {
        (true, _) => ("failing", reasons),
        (false, false) => ("degraded", reasons),
        (false, true) => ("ok", reasons),
    }
}

fn add(total: &mut Counts, counts: &Counts) {
    for (sum, part) in [
        (&mut total.accepted, counts.accepted),
        (&mut total.pending, counts.pending),
        (&mut total.failed, counts.failed),
        (&mut total.sent, counts.sent),
        (&mut total.failed_permanently, counts.failed_permanently),
        (&mut total.skipped, counts.skipped),
        (&mut total.discarded, counts.discarded),
    ] {
        *sum = sum.saturating_add(part);
    }
}

/// Why nothing expires.
fn doubted(ClockDoubt { ahead, left }: ClockDoubt) -> String {
    let (days, hours) = (ahead.0 / 86_400_000, left.0.div_ceil(3_600_000));
    format!(
        "the clock is {days} days ahead of the time this store knows: nothing expires by it (retention, repeats) until it has \
         stayed so for {hours} h more; set it right, or where it is: postbackd clock confirm --reason TEXT"
    )
}

#[cfg(test)]
mod tests;
