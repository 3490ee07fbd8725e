//! `POST /v1/dlq/replay` and `POST /v1/dlq/discard`.
//!
//! Matches are counted first, and no more than were counted are changed. A few are done, in one durable step, when the answer
//! leaves; more of them, and any with a `rate`, are a job that goes on by itself ([`crate::pipeline::jobs`]).

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;

use super::request::{Order, told};
use crate::domain::audit::{Deed, Who};
use crate::domain::id::JobId;
use crate::domain::job::{JOBS_RUNNING, JobKind};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::query::Frame;
use crate::http::{AppState, body, strict_json};
use crate::pipeline::jobs::{self, Found};
use crate::store::StoreError;
use crate::store::job::Selection;
use crate::store::read::Reader;
use crate::store::write::JobPlan;

/// A request names at most a thousand ids of 29 characters.
const ORDER_BYTES: usize = 256 * 1024;
/// So many are done when the answer leaves: a transaction of some ten milliseconds.
const FEW: usize = 500;

/// The answer to a replay.
#[derive(Debug, Serialize)]
struct ReplayDone {
    matched: u64,
    replayed: u64,
    job: Option<String>,
}

/// The answer to a discard.
#[derive(Debug, Serialize)]
struct DiscardDone {
    matched: u64,
    discarded: u64,
    job: Option<String>,
}

/// How far it came.
#[derive(Debug, Default)]
struct Done {
    matched: u64,
    changed: u64,
    job: Option<String>,
}

pub(crate) async fn replay(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Done { matched, changed, job } = work(&state, who, JobKind::Replay, &headers, body).await?;
    Ok(Json(ReplayDone { matched, replayed: changed, job }).into_response())
}

pub(crate) async fn discard(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Done { matched, changed, job } = work(&state, who, JobKind::Discard, &headers, body).await?;
    Ok(Json(DiscardDone { matched, discarded: changed, job }).into_response())
}

async fn work(state: &AppState, who: Who, kind: JobKind, headers: &HeaderMap, body: Body) -> Result<Done, Problem> {
    let (bytes, _share) = body::read(headers, body, ORDER_BYTES, &state.bodies).await?;
    let text = strict_json::utf8(&bytes).and_then(|text| strict_json::parse(text, text).map(Value::from));
    let value = text.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON", error.to_string())
    })?;
    let names = state.names().await?;
    let frame = Frame { names: &names, now: state.clock.now() };
    let order = Order::parse(&value, kind, state.pipeline.instance(), frame).map_err(Problem::fields)?;
    let reason = order.reason.clone().unwrap_or_default();
    let deed = Deed::new(who, kind.as_str()).with(&told(&value)).because(&reason);
    let done = carry_out(state, kind, order, deed).await?;
    let Done { matched, changed, job } = &done;
    tracing::info!(verb = kind.as_str(), matched, changed, job, reason, "The DLQ was worked on.");
    Ok(done)
}

/// What is meant. Whoever discards by ids may also mean what is damaged.
fn find(reader: &Reader, kind: JobKind, selection: &Selection, few: usize) -> Result<Found, StoreError> {
    let mut found = jobs::find(reader, selection, few)?;
    if let (JobKind::Discard, Selection::Ids(ids), Found::Few(keys)) = (kind, selection, &mut found) {
        let room = few.saturating_sub(keys.len());
        let wrecks = reader.wrecks(ids)?.into_iter().filter(|key| !keys.contains(key)).take(room).collect::<Vec<_>>();
        keys.extend(wrecks);
    }
    Ok(found)
}

async fn carry_out(state: &AppState, kind: JobKind, order: Order, deed: Deed) -> Result<Done, Problem> {
    let Order { selection, dry_run, rate, reason } = order;
    let reason = reason.unwrap_or_default();
    // What dies while they are counted is not counted for sure, so it is not meant.
    let at = state.clock.now();
    let few = if rate.is_some() { 0 } else { FEW };
    let wanted = selection.clone();
    let found = state.read(move |reader| find(reader, kind, &wanted, few)).await?;
    let (matched, keys) = match found {
        Found::Few(keys) => (u64::try_from(keys.len()).unwrap_or(u64::MAX), Some(keys)),
        Found::Many { count } => (count, None),
    };
    match keys {
        _ if dry_run => Ok(Done { matched, ..Done::default() }),
        Some(keys) => {
            let changed = state.pipeline.change_dead(kind, keys, reason, deed).await?;
            Ok(Done { matched, changed, job: None })
        }
        None => {
            let running = state.read(Reader::running_jobs).await?.len();
            if running >= JOBS_RUNNING {
                let detail = format!("{running} jobs are running; wait for one to end, or cancel one (GET /v1/jobs)");
                return Err(Problem::new(StatusCode::CONFLICT, "too_many_jobs", "Too many jobs", detail));
            }
            let job = state.pipeline.start_job(JobPlan { at, kind, selection, rate, reason, matched }, deed).await?;
            let instance = state.pipeline.instance();
            let job = job.map(|job| JobId { instance, number: job.number }.to_string());
            Ok(Done { matched, changed: 0, job })
        }
    }
}
