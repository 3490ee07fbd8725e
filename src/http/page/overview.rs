//! The first page: whether all is well, the books, a card for every destination, what died last and what came last.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

use super::alerts::{Alerts, Deaf, Told};
use super::ask;
use super::dlq::{self, Dead};
use super::form::Form;
use super::jobs::{self, Job};
use super::log::{self, FILTERS, Filters, Row};
use super::render::{self, Frame};
use super::spark::Spark;
use super::text::{self, Shown, When};
use crate::domain::time::UnixMs;
use crate::http::problem::Problem;
use crate::http::{AppState, status};

/// Rows of the log and of the DLQ on the first page.
const LATEST: usize = 20;
const DEAD: usize = 5;

#[derive(Template)]
#[template(path = "overview.html", config = "src/http/page/askama.toml")]
struct Overview {
    frame: Frame,
    status: Status,
    /// Since when it runs, the store and the disk, in words.
    uptime: String,
    store: String,
    /// Those that the daemon takes by itself; `None` where it takes none.
    backup: Option<Backup>,
    loaded: Option<When>,
    refused: Option<When>,
    balance: Vec<(&'static str, String)>,
    accepted: String,
    events: String,
    /// What was told and is not over.
    told: Vec<Told>,
    deaf: Vec<Deaf>,
    cards: Vec<Card>,
    /// Those that run.
    jobs: Vec<Job>,
    dead: Vec<Dead>,
    dead_total: String,
    filters: Filters,
    rows: Vec<Row>,
}

/// What `/status` says, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Status {
    version: Shown,
    uptime_s: u64,
    state: Shown,
    reasons: Vec<Shown>,
    config: Config,
    store: Store,
    events: Events,
    balance: Balance,
    destinations: BTreeMap<String, Destination>,
    backup: ToldBackup,
    alerts: Alerts,
}

#[derive(Debug, Deserialize)]
struct ToldBackup {
    every: Option<String>,
    running: bool,
    last_success: Option<TakenBackup>,
    last_error: Option<LastError>,
    not_removed: Option<LastError>,
    next_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TakenBackup {
    at: String,
    bytes: u64,
}

/// Automatic backups as they are shown.
struct Backup {
    every: String,
    last: Option<(When, String)>,
    /// What is wrong in a word or two, when that was, and why.
    errors: Vec<(&'static str, When, Shown)>,
    next: Option<When>,
    running: bool,
}

#[derive(Debug, Deserialize)]
struct Config {
    hash: Shown,
    loaded_at: String,
    error: Option<ConfigError>,
    needs_restart: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
struct ConfigError {
    at: String,
    problems: Vec<ConfigProblem>,
}

#[derive(Debug, Deserialize)]
struct ConfigProblem {
    file: Shown,
    line: Option<u64>,
    key: Shown,
    detail: Shown,
}

#[derive(Debug, Deserialize)]
struct Store {
    bytes: u64,
    free_disk_bytes: Option<u64>,
    commit_ms: Quantiles,
}

#[derive(Debug, Default, Deserialize)]
struct Quantiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Events {
    accepted: u64,
    duplicates: u64,
    conflicts: u64,
    rejected: u64,
}

#[derive(Debug, Deserialize)]
struct Balance {
    accepted: u64,
    pending: u64,
    failed: u64,
    sent: u64,
    failed_permanently: u64,
    skipped: u64,
    discarded: u64,
    #[serde(default)]
    balanced: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Pair<T> {
    #[serde(rename = "1h")]
    hour: T,
    #[serde(rename = "24h")]
    day: T,
}

#[derive(Debug, Deserialize)]
struct Destination {
    kind: Option<Shown>,
    state: Shown,
    reason: Option<Shown>,
    until: Option<String>,
    counts: Balance,
    in_flight: u64,
    oldest_owed_s: Option<u64>,
    next_attempt_at: Option<String>,
    success_rate: Pair<Option<f64>>,
    latency_ms: Pair<Quantiles>,
    last_error: Option<LastError>,
    proxy: Option<Proxy>,
}

#[derive(Clone, Debug, Deserialize)]
struct LastError {
    at: String,
    message: Shown,
}

#[derive(Clone, Debug, Deserialize)]
struct Proxy {
    routes: Vec<Route>,
    in_use: Option<Shown>,
}

#[derive(Clone, Debug, Deserialize)]
struct Route {
    address: Shown,
    state: Shown,
    last_error: Option<LastError>,
}

/// One destination.
struct Card {
    name: String,
    kind: Shown,
    state: Shown,
    reason: Option<Shown>,
    until: Option<When>,
    counts: Vec<(&'static str, String, String)>,
    dlq: String,
    dlq_link: String,
    has_dead: bool,
    in_flight: String,
    oldest: Option<String>,
    next: Option<When>,
    rates: [String; 2],
    /// p50, p95, p99 of each window.
    latencies: [[String; 3]; 2],
    /// Its message only where the reason above does not say the same.
    last_error: Option<(When, Option<Shown>)>,
    proxy: Option<Proxy>,
    spark: Spark,
    verbs: Verbs,
}

/// What may be said to it as it is.
struct Verbs {
    pause: bool,
    resume: bool,
    release: bool,
}

/// `GET /`
pub(super) async fn overview(State(state): State<AppState>, frame: Frame, form: Form) -> Result<Response, Problem> {
    let answer = status::status(State(state.clone()), HeaderMap::new(), RawQuery(Some("format=json".to_owned())));
    let status: Status = ask::answer(answer.await).await?;
    let now = state.clock.now();
    let mut series = state.pipeline.series(now);
    let cards = status.destinations.iter().map(|(name, destination)| {
        let spark = series.remove(name.as_str()).map_or_else(|| Spark::new(&Default::default()), |of| Spark::new(&of));
        card(name, destination, spark, now)
    });
    let cards = cards.collect();
    let (dead, total) = dlq::newest(&state, DEAD).await?;
    let filter = form.only(&FILTERS);
    let rows = log::rows(&state, &filter, LATEST).await?.deliveries;
    let filters = Filters::of(&state, &filter).await?;
    Ok(render::page(&Overview {
        frame: Frame { part: "overview", ..frame },
        uptime: text::span(status.uptime_s),
        store: store(&status.store),
        backup: status.backup.shown(now),
        loaded: When::new(&status.config.loaded_at, now),
        refused: status.config.error.as_ref().and_then(|error| When::new(&error.at, now)),
        balance: books(&status.balance).map(|(word, number)| (word, text::count(number))).to_vec(),
        accepted: text::count(status.balance.accepted),
        events: events(&status.events),
        told: status.alerts.told(now),
        deaf: status.alerts.deaf(now),
        cards,
        jobs: jobs::running(&state).await?,
        dead,
        dead_total: text::count(total),
        filters,
        rows,
        status,
    }))
}

fn store(store: &Store) -> String {
    let free = store.free_disk_bytes.map(|free| format!(", {} of disk free", text::bytes(free))).unwrap_or_default();
    let commit = match store.commit_ms.p50 {
        None => String::new(),
        p50 => format!(", commit p50 {} p99 {}", text::millis(p50), text::millis(store.commit_ms.p99)),
    };
    format!("{}{free}{commit}", text::bytes(store.bytes))
}

impl ToldBackup {
    fn shown(&self, now: UnixMs) -> Option<Backup> {
        let last =
            self.last_success.as_ref().and_then(|last| Some((When::new(&last.at, now)?, text::bytes(last.bytes))));
        let told = |word, error: &Option<LastError>| {
            error.as_ref().and_then(|error| Some((word, When::new(&error.at, now)?, error.message.clone())))
        };
        let errors = [told("failed", &self.last_error), told("older ones could not be removed", &self.not_removed)];
        Some(Backup {
            every: self.every.clone()?,
            last,
            errors: errors.into_iter().flatten().collect(),
            next: self.next_at.as_deref().and_then(|at| When::new(at, now)),
            running: self.running,
        })
    }
}

fn events(events: &Events) -> String {
    let [accepted, duplicates, conflicts, rejected] =
        [events.accepted, events.duplicates, events.conflicts, events.rejected].map(text::count);
    format!("{accepted} accepted, {duplicates} duplicates ({conflicts} conflicts), {rejected} rejected")
}

fn books(of: &Balance) -> [(&'static str, u64); 6] {
    [
        ("pending", of.pending),
        ("failed", of.failed),
        ("sent", of.sent),
        ("failed_permanently", of.failed_permanently),
        ("skipped", of.skipped),
        ("discarded", of.discarded),
    ]
}

fn card(name: &str, of: &Destination, spark: Spark, now: UnixMs) -> Card {
    let here = Form::default().with("destination", name);
    let link = |status: &str| here.clone().with("status", status).link("/ui/log");
    let quantiles = |of: &Quantiles| [of.p50, of.p95, of.p99].map(text::millis);
    let configured = of.kind.is_some();
    Card {
        name: name.to_owned(),
        kind: of.kind.clone().unwrap_or_else(|| Shown::new("not configured")),
        state: of.state.clone(),
        reason: of.reason.clone(),
        until: of.until.as_deref().and_then(|at| When::new(at, now)),
        counts: books(&of.counts)
            .into_iter()
            .filter(|(word, number)| *number > 0 || matches!(*word, "pending" | "sent"))
            .map(|(word, number)| (word, text::count(number), link(word)))
            .collect(),
        dlq: text::count(of.counts.failed_permanently),
        dlq_link: here.link("/ui/dlq"),
        has_dead: of.counts.failed_permanently > 0,
        in_flight: text::count(of.in_flight),
        oldest: of.oldest_owed_s.map(text::span),
        next: of.next_attempt_at.as_deref().and_then(|at| When::new(at, now)),
        rates: [of.success_rate.hour, of.success_rate.day].map(text::percent),
        latencies: [quantiles(&of.latency_ms.hour), quantiles(&of.latency_ms.day)],
        last_error: of.last_error.as_ref().and_then(|error| Some((When::new(&error.at, now)?, new_to(error, of)))),
        proxy: of.proxy.clone(),
        spark,
        verbs: Verbs {
            pause: configured && !matches!(of.state.as_str(), "paused" | "disabled"),
            resume: configured && of.state.as_str() == "paused",
            release: configured && matches!(of.state.as_str(), "held" | "open" | "throttled"),
        },
    }
}

/// The message of the last error, unless the reason of the state is that very one.
fn new_to(error: &LastError, of: &Destination) -> Option<Shown> {
    let reason = of.reason.as_ref().map_or("", Shown::as_str);
    (!error.message.as_str().starts_with(reason) || reason.is_empty()).then(|| error.message.clone())
}
