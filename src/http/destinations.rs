//! `POST /v1/destinations/{name}/pause`, `…/resume` and `…/release`: what an operator says to a destination.
//!
//! Each answers 200 with the state that holds after it, also where there was nothing to change: resuming what is not
//! paused, or releasing what is not held, leaves it as it is. Anything not understood changes nothing.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, post};
use serde::Serialize;
use serde_json::Value;

use super::dto::rfc3339;
use super::json::Json;
use super::problem::{FieldError, Problem};
use super::{AppState, body, strict_json};
use crate::domain::audit::{Deed, Who};
use crate::domain::event::Object;
use crate::domain::id::DestinationId;
use crate::domain::limits::PAUSE_REASON_BYTES;
use crate::domain::name::DestinationName;
use crate::domain::pause::PausedBy;
use crate::domain::time::DurationMs;
use crate::pipeline::LaneView;

/// A reason and a span, with room to spare.
const BODY_BYTES: usize = 16 * 1024;
/// A pause that is to be longer needs no end.
const SPAN_MAX: DurationMs = DurationMs::from_days(366);

/// The state after the verb.
#[derive(Debug, Serialize)]
struct StateDto {
    destination: String,
    state: &'static str,
    reason: Option<String>,
    /// End of a pause or a throttle, or the next probe.
    until: Option<String>,
    paused_by: Option<&'static str>,
    /// Exchanges that were under way; they end as they would have.
    in_flight: usize,
}

/// What a pause says.
#[derive(Clone, PartialEq, Eq, Debug)]
struct PauseOrder {
    reason: String,
    span: Option<DurationMs>,
}

pub(super) type Name = Result<Path<String>, PathRejection>;

/// What may be said to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    Pause,
    Resume,
    Release,
}

pub(super) fn on(word: Word) -> MethodRouter<AppState> {
    post(
        move |State(state): State<AppState>,
              Extension(who): Extension<Who>,
              name: Name,
              headers: HeaderMap,
              body: Body| async move {
            let (name, id) = find(&state, name)?;
            let said = said(&state, &headers, body).await?;
            obey(&state, (word, who), (name, id), &said).await
        },
    )
}

/// Does what was said in the fields of `said`.
pub(super) async fn obey(
    state: &AppState,
    (word, who): (Word, Who),
    (name, id): (DestinationName, DestinationId),
    said: &Object,
) -> Result<Response, Problem> {
    let view = match word {
        Word::Pause => {
            let PauseOrder { reason, span } = pause_order(said).map_err(Problem::fields)?;
            let mut deed = Deed::new(who, "pause").on(&name).because(&reason);
            if let Some(span) = span {
                deed = deed.with(&serde_json::json!({ "for": span.to_string() }));
            }
            state.pipeline.pause(id, reason, span, deed).await?
        }
        Word::Resume => {
            let why = why(said).map_err(Problem::fields)?;
            state.pipeline.resume(id, Deed::new(who, "resume").on(&name).because(&why)).await?
        }
        Word::Release => {
            let why = why(said).map_err(Problem::fields)?;
            let view = state.pipeline.release(id).await?;
            state.keep(Deed::new(who, "release").on(&name).because(&why).ended(view.state)).await;
            view
        }
    };
    let until = rfc3339(view.until);
    tracing::info!(destination = %name, ?word, state = view.state, reason = view.reason, until, "An operator said so.");
    Ok(answer(&name, view))
}

fn answer(name: &DestinationName, view: LaneView) -> Response {
    let LaneView { state, reason, until, paused_by, in_flight } = view;
    Json(StateDto {
        destination: name.to_string(),
        state,
        reason,
        until: rfc3339(until),
        paused_by: paused_by.map(PausedBy::as_str),
        in_flight,
    })
    .into_response()
}

pub(super) fn given(name: Name) -> Result<String, Problem> {
    let Path(given) = name.map_err(|_| Problem::field("name", "invalid", "the name in the path is not UTF-8"))?;
    Ok(given)
}

/// Only a destination of the running configuration has a lane to be told.
pub(super) fn find(state: &AppState, name: Name) -> Result<(DestinationName, DestinationId), Problem> {
    let given = given(name)?;
    let configured = state.pipeline.destination_ids();
    let found = configured.iter().find(|(name, _)| name.as_str() == given);
    found.map(|(name, id)| (name.clone(), *id)).ok_or_else(|| {
        let known: Vec<&str> = configured.keys().map(DestinationName::as_str).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        Problem::not_found(format!("the configuration has no destination {given:?}; {known}"))
    })
}

/// The body as an object; none at all is an empty one.
pub(super) async fn said(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Object, Problem> {
    let (bytes, _share) = body::read(headers, body, BODY_BYTES, &state.bodies).await?;
    object(&bytes)
}

fn object(bytes: &[u8]) -> Result<Object, Problem> {
    let invalid =
        |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON", detail);
    let text = strict_json::utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Object::new());
    }
    match strict_json::parse(text, text).map(Value::from).map_err(|error| invalid(error.to_string()))? {
        Value::Object(said) => Ok(said),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Problem::field("$", "type", "write an object, like {\"reason\": \"maintenance\", \"for\": \"2h\"}"))
        }
    }
}

pub(super) fn nothing_else(said: &Object, known: &[&str]) -> Result<(), Vec<FieldError>> {
    let detail = |name: &str| match known {
        [] => format!("unknown key {name:?}; this takes none"),
        known => format!("unknown key {name:?}; known are {}", known.join(", ")),
    };
    let strangers = said.keys().filter(|name| !known.contains(&name.as_str()));
    let errors: Vec<_> = strangers.map(|name| FieldError::new("$", "unknown", detail(name))).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn pause_order(said: &Object) -> Result<PauseOrder, Vec<FieldError>> {
    let mut errors = nothing_else(said, &["reason", "for"]).err().unwrap_or_default();
    let given = |name: &str| said.get(name).filter(|value| !value.is_null());
    let asked = "say why it is paused; whoever looks at the status reads it";
    let reason = reason(given("reason"), asked).map_err(|error| errors.push(error)).ok();
    let span = span(given("for")).map_err(|error| errors.push(error)).ok();
    match (reason, span) {
        (Some(reason), Some(span)) if errors.is_empty() => Ok(PauseOrder { reason, span }),
        _ => Err(errors),
    }
}

/// A reason for the audit trail, which may be left out.
fn why(said: &Object) -> Result<String, Vec<FieldError>> {
    nothing_else(said, &["reason"])?;
    match said.get("reason").filter(|value| !value.is_null()) {
        None => Ok(String::new()),
        given => reason(given, "write why, or leave it out").map_err(|error| vec![error]),
    }
}

/// `asked` says what the reason is wanted for.
pub(super) fn reason(given: Option<&Value>, asked: &str) -> Result<String, FieldError> {
    let wrong = |code, detail: &str| Err(FieldError::new("$.reason", code, detail));
    let text = match given {
        None => "",
        Some(Value::String(text)) => text.trim(),
        Some(_) => return wrong("type", "write a text"),
    };
    if text.is_empty() {
        return wrong("required", asked);
    }
    if text.len() > PAUSE_REASON_BYTES {
        return wrong("too_long", &format!("{} bytes; at most {PAUSE_REASON_BYTES}", text.len()));
    }
    if text.contains(char::is_control) {
        return wrong("invalid", "write one line without control characters");
    }
    Ok(text.to_owned())
}

fn span(given: Option<&Value>) -> Result<Option<DurationMs>, FieldError> {
    let Some(value) = given else { return Ok(None) };
    let wrong = |code, detail: &str| Err(FieldError::new("$.for", code, detail));
    match value.as_str().map(DurationMs::parse) {
        Some(Some(span)) if span > SPAN_MAX => {
            wrong("too_long", &format!("at most {SPAN_MAX}; leave it out to pause until a resume"))
        }
        Some(Some(span)) if span > DurationMs::ZERO => Ok(Some(span)),
        Some(_) => wrong("invalid", "write a span of time, like \"30m\", \"2h\" or \"1d\""),
        None => wrong("type", "write a span of time as text, like \"2h\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<PauseOrder, Vec<FieldError>> {
        pause_order(&object(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_pause_has_a_reason_and_may_have_a_span() {
        let wanted = |reason: &str, span| Ok(PauseOrder { reason: reason.to_owned(), span });
        assert_eq!(order(r#"{"reason":" stock is counted "}"#), wanted("stock is counted", None));
        assert_eq!(order(r#"{"reason":"é","for":"1h30m"}"#), wanted("é", Some(DurationMs(5_400_000))));
        assert_eq!(order(r#"{"reason":"x","for":null}"#), wanted("x", None));
        assert!(order(&format!(r#"{{"reason":"{}"}}"#, "x".repeat(PAUSE_REASON_BYTES))).is_ok());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(PAUSE_REASON_BYTES + 1));
        for (text, paths) in [
            ("", vec!["$.reason"]),
            ("{}", vec!["$.reason"]),
            (r#"{"reason":"  "}"#, vec!["$.reason"]),
            (r#"{"reason":7}"#, vec!["$.reason"]),
            (r#"{"reason":"a\nb"}"#, vec!["$.reason"]),
            (long.as_str(), vec!["$.reason"]),
            (r#"{"reason":"x","for":"2 hours"}"#, vec!["$.for"]),
            (r#"{"reason":"x","for":"0s"}"#, vec!["$.for"]),
            (r#"{"reason":"x","for":"367d"}"#, vec!["$.for"]),
            (r#"{"reason":"x","for":7200}"#, vec!["$.for"]),
            (r#"{"reason":"x","span":"2h"}"#, vec!["$"]),
            (r#"{"for":"soon","until":1}"#, vec!["$", "$.reason", "$.for"]),
        ] {
            let errors = order(text).expect_err(text);
            assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), paths, "{text}");
        }
    }

    #[test]
    fn a_resume_and_a_release_may_have_a_reason_and_nothing_else() {
        assert_eq!(object(b" \n").unwrap(), Object::new());
        let said = |text: &str| why(&object(text.as_bytes()).unwrap());
        for (text, wanted) in [("", ""), ("{}", ""), (r#"{"reason":null}"#, ""), (r#"{"reason":" mended "}"#, "mended")]
        {
            assert_eq!(said(text), Ok(wanted.to_owned()), "{text}");
        }
        for wrong in [r#"{"reason":" "}"#, r#"{"reason":7}"#, r#"{"reason":"x","for":"2h"}"#] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
        for wrong in [&b"[]"[..], b"7", b"null", b"{", b"{\"a\":1,\"a\":2}", b"\xff"] {
            assert!(object(wrong).is_err(), "{wrong:?}");
        }
    }
}
