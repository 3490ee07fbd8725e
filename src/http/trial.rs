//! `POST /v1/destinations/{name}/test`: one marked test event, sent now, and the whole exchange for an answer.
//!
//! 200 whatever the destination said: the exchange is the answer. It stays out of the books and moves no lane; where a
//! platform counts what has no mark of its own as real, nothing is sent.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::dto::{LeftOutDto, RequestDto, request_dto};
use super::json::Json;
use super::preview::{self, WhyDto};
use super::problem::Problem;
use super::{AppState, body};
use crate::config::snapshot::{Destination, Snapshot};
use crate::destination::example;
use crate::domain::audit::{Deed, Who};
use crate::domain::event::{Event, Object};
use crate::domain::limits::{EVENT_BYTES, SHORT_TEXT_BYTES};
use crate::domain::name::TargetName;
use crate::domain::outcome::Verdict;
use crate::pipeline::trial::{Response as Said, Sent, TrialEnd};

/// One event with a few words around it.
const BODY_BYTES: usize = EVENT_BYTES + 16 * 1024;

const KEYS: [&str; 2] = ["event", "test_event_code"];

#[derive(Debug, Serialize)]
struct TrialDto<'a> {
    /// Whether the destination took it.
    ok: bool,
    destination: &'a str,
    kind: &'static str,
    source: &'a str,
    event: &'a str,
    event_id: Option<&'a str>,
    target: Option<&'a str>,
    /// Why ingest would not owe such an event to the destination; it was sent all the same.
    skipped: Option<WhyDto>,
    request: Option<RequestDto<'a>>,
    /// Why nothing was sent.
    refused: Option<WhyDto>,
    left_out: Vec<LeftOutDto<'a>>,
    response: Option<ResponseDto<'a>>,
    ms: Option<u64>,
    verdict: Option<&'static str>,
    detail: &'a str,
    /// What would become of a real delivery that met this.
    consequence: &'static str,
}

#[derive(Debug, Serialize)]
struct ResponseDto<'a> {
    status: u16,
    headers: Object,
    body: &'a str,
}

/// `POST /v1/destinations/{name}/test`
pub(super) async fn test(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|_| Problem::field("name", "invalid", "the name in the path is not UTF-8"))?;
    let (bytes, _share) = body::read(&headers, body, BODY_BYTES, &state.bodies).await?;
    let snapshot = state.pipeline.snapshot();
    let destination = preview::destination(&snapshot, &name)?;
    let mut members = preview::members(&bytes, &KEYS)?;
    let code = code(&mut members)?;
    let event = event(&state, &snapshot, destination, &mut members)?;
    // It is never closed; were it, a test would matter more than the bound.
    let turn = state.tests.acquire().await;
    let trial = state.pipeline.trial(destination, event, code.as_deref()).await;
    drop(turn);
    let trial = trial.map_err(|why| Problem::field("$.test_event_code", "test_event_code", why))?;
    let came = match &trial.ended {
        TrialEnd::Sent(sent) => format!("sent: {}", sent.verdict.as_str()),
        TrialEnd::Unmapped | TrialEnd::Refused(_) => "nothing was sent".to_owned(),
    };
    state.keep(Deed::new(who, "test").on(&destination.name).ended(&came)).await;
    let answer = TrialDto {
        ok: false,
        destination: destination.name.as_str(),
        kind: destination.kind.as_str(),
        source: trial.event.source.as_str(),
        event: trial.event.canonical.as_str(),
        event_id: trial.event.event_id.as_deref(),
        target: trial.target.as_ref().map(TargetName::as_str),
        skipped: trial.skipped.map(|reason| preview::skipped(reason, destination, &trial.event)),
        request: None,
        refused: None,
        left_out: Vec::new(),
        response: None,
        ms: None,
        verdict: None,
        detail: "",
        consequence: "nothing was sent",
    };
    Ok(Json(match &trial.ended {
        TrialEnd::Sent(sent) => answer.with(sent),
        TrialEnd::Unmapped => {
            TrialDto { refused: Some(preview::unmapped(destination, &trial.event.canonical)), ..answer }
        }
        TrialEnd::Refused(unsendable) => TrialDto { refused: Some(preview::refused(unsendable)), ..answer },
    })
    .into_response())
}

impl<'a> TrialDto<'a> {
    fn with(self, sent: &'a Sent) -> Self {
        Self {
            ok: sent.verdict == Verdict::Delivered,
            request: Some(request_dto(&sent.request)),
            left_out: preview::left_out_dto(&sent.left_out),
            response: sent.response.as_ref().map(response_dto),
            ms: Some(sent.took.0),
            verdict: Some(sent.verdict.as_str()),
            detail: &sent.detail,
            consequence: consequence(sent.verdict),
            ..self
        }
    }
}

fn response_dto(said: &Said) -> ResponseDto<'_> {
    let headers = said.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    ResponseDto { status: said.status, headers, body: &said.body }
}

/// The code of the platform's test page.
fn code(members: &mut Object) -> Result<Option<String>, Problem> {
    let code = preview::text(members, "test_event_code")?;
    let fits = |code: &str| code.len() <= SHORT_TEXT_BYTES && code.bytes().all(|byte| byte.is_ascii_graphic());
    match code {
        Some(code) if !fits(&code) => {
            let wanted = "write the code as the platform's test page shows it, like TEST12345";
            Err(Problem::field("$.test_event_code", "invalid", wanted))
        }
        code => Ok(code),
    }
}

/// The event that was given, else an ordinary one the destination takes.
fn event(
    state: &AppState,
    snapshot: &Snapshot,
    destination: &Destination,
    members: &mut Object,
) -> Result<Event, Problem> {
    let source = preview::source(snapshot, destination, None)?;
    if let Some(given) = preview::event(members)? {
        return Ok(preview::read(state, snapshot, given, source)?.event);
    }
    let Some((canonical, _)) = example::choice(&destination.events, destination.adapter.as_ref()) else {
        let detail = "the destination takes no event by its configuration; give one, or map a name in events";
        return Err(Problem::field("$.event", "required", detail));
    };
    // Without an id, which the mark of a test gives it.
    Ok(example::whole("test", None, canonical, source, state.clock.now()))
}

fn consequence(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "a real delivery would be sent",
        Verdict::Transient { .. } | Verdict::Ambiguous { .. } => "a real delivery would be tried again by [retry]",
        Verdict::Throttled { .. } => "real deliveries would wait, then be tried again",
        Verdict::Permanent { .. } | Verdict::BatchFault => "a real delivery would go to the DLQ",
        Verdict::DestinationFault => "the destination would be held: deliveries wait, none is spent",
        Verdict::Gone => "the destination would be paused until an operator resumes it: deliveries wait, none is spent",
        Verdict::ProxyFault { .. } => "real deliveries would wait for the proxy, none is spent",
        Verdict::Cancelled => "the daemon is stopping; test again",
    }
}
