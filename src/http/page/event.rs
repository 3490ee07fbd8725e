//! One event: what came in, where it went, and every attempt.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::ask;
use super::mask::Mask;
use super::render::{self, Frame};
use super::text::{Shown, When};
use crate::domain::time::UnixMs;
use crate::http::problem::Problem;
use crate::http::{AppState, events};

/// What the API says of an event.
#[derive(Debug, Deserialize)]
struct Trace {
    id: Shown,
    event_id: Option<Shown>,
    event: Shown,
    source: Shown,
    received_at: String,
    payload: Value,
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Deserialize)]
struct Delivery {
    id: Shown,
    destination: Shown,
    status: Shown,
    target: Option<Shown>,
    reason: Option<String>,
    detail: Option<String>,
    attempt_count: u32,
    next_attempt_at: Option<String>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    n: u32,
    at: String,
    ms: u64,
    status: Option<u16>,
    verdict: Shown,
    response: String,
    phases: Phases,
    proxy: Option<Shown>,
    #[serde(default)]
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Deserialize)]
struct Phases {
    #[serde(rename = "connect_ms")]
    connect: Option<u64>,
    #[serde(rename = "first_byte_ms")]
    first_byte: Option<u64>,
    #[serde(rename = "body_ms")]
    body: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct LeftOut {
    field: Shown,
    why: Shown,
}

#[derive(Template)]
#[template(path = "event.html", config = "src/http/page/askama.toml")]
struct EventPage {
    frame: Frame,
    id: Shown,
    event_id: Option<Shown>,
    event: Shown,
    source: Shown,
    uid: Option<Shown>,
    received: Option<When>,
    payload: Shown,
    deliveries: Vec<Way>,
}

/// A delivery as it is shown.
struct Way {
    id: Shown,
    destination: Shown,
    status: Shown,
    target: Option<Shown>,
    reason: Option<Shown>,
    detail: Option<Shown>,
    next: Option<When>,
    count: u32,
    attempts: Vec<Step>,
}

/// An attempt as it is shown.
struct Step {
    n: u32,
    at: When,
    ms: u64,
    status: Option<u16>,
    verdict: Shown,
    response: Shown,
    phases: Option<String>,
    proxy: Option<Shown>,
    left_out: Vec<LeftOut>,
}

/// `GET /ui/events/{id}`
pub(super) async fn event(
    State(state): State<AppState>,
    frame: Frame,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let trace: Trace = ask::answer(events::event(State(state.clone()), id).await).await?;
    let mask = Mask::of(&trace.payload);
    let now = state.clock.now();
    Ok(render::page(&EventPage {
        frame: Frame { part: "log", ..frame },
        uid: trace.payload.get("uid").and_then(Value::as_str).map(Shown::new),
        received: When::new(&trace.received_at, now),
        payload: mask.json(trace.payload),
        deliveries: trace.deliveries.into_iter().map(|delivery| delivery.shown(&mask, now)).collect(),
        id: trace.id,
        event_id: trace.event_id,
        event: trace.event,
        source: trace.source,
    }))
}

impl Delivery {
    fn shown(self, mask: &Mask, now: UnixMs) -> Way {
        Way {
            id: self.id,
            destination: self.destination,
            status: self.status,
            target: self.target,
            reason: self.reason.map(|reason| mask.text(&reason)),
            detail: self.detail.map(|detail| mask.text(&detail)),
            next: self.next_attempt_at.as_deref().and_then(|at| When::new(at, now)),
            count: self.attempt_count,
            attempts: self.attempts.into_iter().map(|attempt| attempt.shown(mask, now)).collect(),
        }
    }
}

impl Phases {
    /// Those that were measured; `None` where none was.
    fn in_words(&self) -> Option<String> {
        let all = [("connect", self.connect), ("first byte", self.first_byte), ("body", self.body)];
        let known = all.into_iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {ms}")));
        Some(known.collect::<Vec<_>>().join(", ")).filter(|words| !words.is_empty())
    }
}

impl Attempt {
    fn shown(self, mask: &Mask, now: UnixMs) -> Step {
        Step {
            n: self.n,
            at: When::new(&self.at, now).unwrap_or_default(),
            ms: self.ms,
            status: self.status,
            verdict: self.verdict,
            response: mask.body(&self.response),
            phases: self.phases.in_words(),
            proxy: self.proxy,
            left_out: self.left_out,
        }
    }
}
