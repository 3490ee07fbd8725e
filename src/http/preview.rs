//! `POST /v1/preview`: the exact request a destination would get for an event. Nothing is stored, nothing is sent.
//!
//! Exactly one of `request` and `refused` is null. An event that would be skipped is shown all the same where a request
//! can be made of it, so that a destination can be looked at before it is enabled.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;

use super::dto::{LeftOutDto, RequestDto, request_dto};
use super::ingest::{Context, Look, look};
use super::json::Json;
use super::problem::{FieldError, Problem};
use super::{AppState, body, strict_json};
use crate::config::snapshot::{Destination, Snapshot};
use crate::destination::{LeftOut, Unsendable};
use crate::domain::event::{Event, Object};
use crate::domain::limits::EVENT_BYTES;
use crate::domain::name::{CanonicalName, SourceName, TargetName};
use crate::domain::outcome::SkipReason;
use crate::pipeline::trial::Made;

/// One event with a few words around it.
const BODY_BYTES: usize = EVENT_BYTES + 16 * 1024;

/// The source of an event that is looked at where no source is configured.
const NOBODY: &str = "preview";

const KEYS: [&str; 4] = ["destination", "event", "source", "target"];

#[derive(Debug, Serialize)]
struct PreviewDto<'a> {
    destination: &'a str,
    kind: &'static str,
    source: &'a str,
    event: &'a str,
    target: Option<&'a str>,
    skipped: Option<WhyDto>,
    request: Option<RequestDto<'a>>,
    refused: Option<WhyDto>,
    left_out: Vec<LeftOutDto<'a>>,
    warnings: Vec<LeftOutDto<'a>>,
}

/// A word for scripts and a sentence for people.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(super) struct WhyDto {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// `POST /v1/preview`
pub(super) async fn preview(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (bytes, _share) = body::read(&headers, body, BODY_BYTES, &state.bodies).await?;
    let mut members = members(&bytes, &KEYS)?;
    let snapshot = state.pipeline.snapshot();
    let Some(name) = text(&mut members, "destination")? else {
        return Err(Problem::field("$.destination", "required", "say which destination, by its name"));
    };
    let destination = destination(&snapshot, &name)?;
    let source = source(&snapshot, destination, text(&mut members, "source")?)?;
    let target: Option<TargetName> = match text(&mut members, "target")? {
        Some(text) => Some(text.parse().map_err(|wrong: crate::domain::name::NameError| {
            Problem::field("$.target", "invalid", wrong.to_string())
        })?),
        None => None,
    };
    let Some(event) = event(&mut members)? else {
        return Err(Problem::field(
            "$.event",
            "required",
            "write the event as an object, as it would be sent to ingest",
        ));
    };
    let Look { event, has_identity } = read(&state, &snapshot, event, source)?;
    let rendering = state.pipeline.preview(destination, &event, target);
    let mut answer = PreviewDto {
        destination: destination.name.as_str(),
        kind: destination.kind.as_str(),
        source: event.source.as_str(),
        event: event.canonical.as_str(),
        target: rendering.target.as_ref().map(TargetName::as_str),
        skipped: rendering.skipped.map(|reason| skipped(reason, destination, &event)),
        request: None,
        refused: None,
        left_out: Vec::new(),
        warnings: if has_identity { Vec::new() } else { vec![NO_IDENTITY] },
    };
    let view;
    match &rendering.made {
        Made::Request(prepared, left_out) => {
            view = prepared.view(destination.adapter.redactor());
            answer.request = Some(request_dto(&view));
            answer.left_out = left_out_dto(left_out);
        }
        Made::Unmapped => answer.refused = Some(unmapped(destination, &event.canonical)),
        Made::Refused(unsendable) => answer.refused = Some(refused(unsendable)),
    }
    Ok(Json(answer).into_response())
}

const NO_IDENTITY: LeftOutDto<'static> = LeftOutDto {
    field: "event_id",
    why: "ingest would refuse this event: its repeats could not be told apart; send event_id, or both uid and occurred_at_ms",
};

/// The members of a request, which has none but these; an empty body has none at all.
pub(super) fn members(bytes: &[u8], known: &[&str]) -> Result<Object, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Object::new());
    }
    let value =
        strict_json::utf8(bytes).and_then(|text| strict_json::parse(text, text).map(Value::from)).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON", error.to_string())
        })?;
    let Value::Object(members) = value else {
        return Err(Problem::field("$", "type", format!("write an object with {}", known.join(", "))));
    };
    let unknown = members.keys().filter(|name| !known.contains(&name.as_str()));
    let errors: Vec<FieldError> = unknown
        .map(|name| FieldError::new("$", "unknown", format!("unknown key {name:?}; known are {}", known.join(", "))))
        .collect();
    if errors.is_empty() { Ok(members) } else { Err(Problem::fields(errors)) }
}

/// A text that may be missing; empty is missing.
pub(super) fn text(members: &mut Object, name: &str) -> Result<Option<String>, Problem> {
    match members.shift_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Problem::field(format!("$.{name}"), "type", "write a text"))
        }
    }
}

/// The event, if there is one.
pub(super) fn event(members: &mut Object) -> Result<Option<Object>, Problem> {
    match members.shift_remove("event") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(event)) => Ok(Some(event)),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            let wanted = "write the event as one object, like {\"event\": \"deposit\", \"event_id\": \"…\"}";
            Err(Problem::field("$.event", "type", wanted))
        }
    }
}

/// Reads an event by the rules of ingest.
pub(super) fn read(state: &AppState, snapshot: &Snapshot, event: Object, source: SourceName) -> Result<Look, Problem> {
    let received_at = state.clock.now();
    let context =
        Context { source, default_currency: snapshot.default_currency, received_at, hash: state.pipeline.hash_key() };
    look(event.into(), "$.event", &context).map_err(Problem::fields)
}

/// The destination of that name, else 404 with the names there are.
pub(super) fn destination<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Destination>, Problem> {
    snapshot.destinations.get(name).ok_or_else(|| {
        let known: Vec<&str> = snapshot.destinations.keys().map(crate::domain::name::DestinationName::as_str).collect();
        Problem::not_found(match known.as_slice() {
            [] => format!("there is no destination {name:?}; the running configuration has none"),
            known => format!("there is no destination {name:?}; known are {}", known.join(", ")),
        })
    })
}

/// Who is taken to have sent the event: the given source, else the first the destination takes events of.
pub(super) fn source(
    snapshot: &Snapshot,
    destination: &Destination,
    given: Option<String>,
) -> Result<SourceName, Problem> {
    let Some(given) = given else {
        let taken = |name: &&SourceName| destination.sources.as_ref().is_none_or(|taken| taken.contains(*name));
        let speaks_json =
            |name: &&SourceName| snapshot.sources.get(*name).is_some_and(|source| source.postback.is_plain());
        let names = || snapshot.sources.keys().filter(taken);
        // An event that is written as JSON comes from an application sooner than from a network.
        let likely = names().find(speaks_json).or_else(|| names().next());
        let nobody = || NOBODY.parse().map_err(|_| Problem::internal("no source could be made up"));
        return likely.cloned().map_or_else(nobody, Ok);
    };
    snapshot.sources.keys().find(|known| known.as_str() == given).cloned().ok_or_else(|| {
        let known: Vec<&str> = snapshot.sources.keys().map(SourceName::as_str).collect();
        let detail = format!("{given:?} is no source; known are {}", known.join(", "));
        Problem::field("$.source", "invalid", detail)
    })
}

/// Why ingest would not owe the event to the destination.
pub(super) fn skipped(reason: SkipReason, destination: &Destination, event: &Event) -> WhyDto {
    let key = format!("destinations.{}", destination.name);
    let detail = match reason {
        SkipReason::Disabled => format!("{key}.enabled is false; set it to true to go live"),
        SkipReason::Source => format!("{key}.sources does not hold {}", event.source),
        SkipReason::Unmapped => unmapped(destination, &event.canonical).detail,
        SkipReason::Filter => {
            let failed = destination.when.iter().find(|condition| !condition.holds(event));
            let field = failed.map_or("", |condition| condition.path.as_str());
            format!("{key}.when: the condition on {field} does not hold for this event")
        }
    };
    WhyDto { reason: reason.as_str(), detail }
}

pub(super) fn unmapped(destination: &Destination, canonical: &CanonicalName) -> WhyDto {
    let key = format!("destinations.{}.events", destination.name);
    let detail = format!("the destination has no name for {canonical}; add \"{canonical}\" = \"THEIR NAME\" to {key}");
    WhyDto { reason: SkipReason::Unmapped.as_str(), detail }
}

pub(super) fn refused(unsendable: &Unsendable) -> WhyDto {
    WhyDto { reason: unsendable.reason.as_str(), detail: unsendable.detail.clone() }
}

pub(super) fn left_out_dto(left_out: &[LeftOut]) -> Vec<LeftOutDto<'_>> {
    left_out.iter().map(LeftOutDto::from).collect()
}
