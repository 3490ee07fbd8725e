//! `POST /v1/dlq/replay` and `POST /v1/dlq/discard`.
//!
//! Matches are counted first and worked off page by page, never more than were counted: a delivery that dies again
//! while a replay of many runs is not replayed twice by it. Each page is one durable step, so that an answer that does
//! not arrive has still done what its pages did. A `rate` spreads the due times that are written to the outbox, so it
//! survives a restart. There is no job in this version: the answer leaves when all is done.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::request::{Order, Selection, Verb};
use super::{WALK_ROWS, count};
use crate::domain::delivery::Status;
use crate::domain::id::DeliveryKey;
use crate::domain::time::UnixMs;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::query::Frame;
use crate::http::{AppState, body, strict_json};
use crate::pipeline::Unavailable;
use crate::store::read::DeliveryFilter;

/// A request names at most a thousand ids of 29 characters.
const ORDER_BYTES: usize = 256 * 1024;

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
}

pub(crate) async fn replay(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let order = order(&state, &headers, body, Verb::Replay).await?;
    let Done { matched, changed } = work(&state, order, Verb::Replay).await?;
    Ok(Json(ReplayDone { matched, replayed: changed, job: None }).into_response())
}

pub(crate) async fn discard(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let order = order(&state, &headers, body, Verb::Discard).await?;
    let Done { matched, changed } = work(&state, order, Verb::Discard).await?;
    Ok(Json(DiscardDone { matched, discarded: changed, job: None }).into_response())
}

async fn order(state: &AppState, headers: &HeaderMap, body: Body, verb: Verb) -> Result<Order, Problem> {
    let (bytes, _share) = body::read(headers, body, ORDER_BYTES, &state.bodies).await?;
    let text = strict_json::utf8(&bytes).and_then(|text| strict_json::parse(text, text));
    let value = text.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON", error.to_string())
    })?;
    let names = state.names().await?;
    let frame = Frame { names: &names, now: state.clock.now() };
    Order::parse(&value, verb, state.pipeline.instance(), frame).map_err(Problem::fields)
}

async fn work(state: &AppState, order: Order, verb: Verb) -> Result<Done, Problem> {
    let start = state.clock.now();
    let mut done = Done::default();
    let Order { selection, dry_run, rate, reason } = order;
    let mut pages = match selection {
        Selection::Ids(ids) => Pages::Ids(dead(state, ids).await?),
        Selection::Filter(filter) => {
            let counted = filter.clone();
            let left = state.read(move |reader| count(reader, &counted)).await?;
            Pages::Filter { filter: Box::new(filter), after: None, left }
        }
    };
    done.matched = pages.left();
    if dry_run {
        return Ok(done);
    }
    let mut place = 0_u64;
    while let Some(keys) = pages.next(state).await? {
        let changed = match verb {
            Verb::Replay => {
                let spread = |(index, key): (usize, DeliveryKey)| {
                    let place = place.saturating_add(u64::try_from(index).unwrap_or(u64::MAX));
                    (key, rate.map_or(start, |rate| rate.due(start, place)))
                };
                let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
                let due: Vec<(DeliveryKey, UnixMs)> = keys.into_iter().enumerate().map(spread).collect();
                place = place.saturating_add(count);
                state.pipeline.replay(due).await
            }
            Verb::Discard => state.pipeline.discard(keys, reason.clone().unwrap_or_default()).await,
        };
        done.changed = done.changed.saturating_add(changed.map_err(|cause| stopped(cause, verb, &done))?);
    }
    let verb = match verb {
        Verb::Replay => "replay",
        Verb::Discard => "discard",
    };
    tracing::info!(verb, matched = done.matched, changed = done.changed, reason, "The DLQ was worked on.");
    Ok(done)
}

/// The pages before the one that failed are done.
fn stopped(cause: Unavailable, verb: Verb, done: &Done) -> Problem {
    let name = match verb {
        Verb::Replay => "replayed",
        Verb::Discard => "discarded",
    };
    Problem::from(cause).with_member("matched", done.matched).with_member(name, done.changed)
}

/// Those of `ids` that are in the DLQ now.
async fn dead(state: &AppState, ids: Vec<DeliveryKey>) -> Result<Vec<DeliveryKey>, Problem> {
    state
        .read(move |reader| {
            let mut dead = Vec::with_capacity(ids.len());
            for key in ids {
                let status = reader.delivery(key)?.map(|delivery| delivery.state.status());
                if status == Some(Status::FailedPermanently) {
                    dead.push(key);
                }
            }
            Ok(dead)
        })
        .await
}

/// What is still to be worked off.
enum Pages {
    Ids(Vec<DeliveryKey>),
    Filter { filter: Box<DeliveryFilter>, after: Option<DeliveryKey>, left: u64 },
}

impl Pages {
    fn left(&self) -> u64 {
        match self {
            Self::Ids(keys) => u64::try_from(keys.len()).unwrap_or(u64::MAX),
            Self::Filter { left, .. } => *left,
        }
    }

    /// The next keys, never none; `None` at the end.
    async fn next(&mut self, state: &AppState) -> Result<Option<Vec<DeliveryKey>>, Problem> {
        match self {
            Self::Ids(keys) => {
                let page: Vec<_> = keys.drain(..keys.len().min(WALK_ROWS)).collect();
                Ok((!page.is_empty()).then_some(page))
            }
            Self::Filter { filter, after, left } => {
                while *left > 0 {
                    let (wanted, begin) = (filter.clone(), *after);
                    let page = state.read(move |reader| reader.dlq(&wanted, begin, WALK_ROWS)).await?;
                    let room = usize::try_from(*left).unwrap_or(usize::MAX);
                    let keys: Vec<_> = page.rows.iter().map(|row| row.entry.key).take(room).collect();
                    *left = left.saturating_sub(u64::try_from(keys.len()).unwrap_or(u64::MAX));
                    match page.next {
                        Some(next) => *after = Some(next),
                        None => *left = 0,
                    }
                    if !keys.is_empty() {
                        return Ok(Some(keys));
                    }
                }
                Ok(None)
            }
        }
    }
}
