//! Taking events: `POST /v1/events`, `POST /events`, `GET /e`, and in `postback` `/v1/postback/{source}`.
//!
//! The order is token, type, size, syntax, fields, disk. Nothing is answered with 2xx before it is durable; all good items
//! of a request go to the pipeline in one call. Refused items are counted in the books once it is certain that the
//! sender is told so: a 429 or 503 will be repeated and would count twice.

mod dto;
mod fields;
#[cfg(fuzzing)]
pub mod fuzzing;
mod items;
mod look;
mod noticed;
pub(crate) mod pixel;
pub(super) mod postback;
mod validate;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use self::dto::{Answered, Batch, Single};
use self::items::{Candidate, Form, Parsed, Rejected};
pub(super) use self::look::{Look, look};
pub(super) use self::noticed::{Counts, Noticed};
pub(super) use self::validate::Context;
use super::json::Json;
use super::problem::Problem;
use super::{AppState, auth, body};
use crate::config::snapshot::Snapshot;
use crate::domain::name::SourceName;
use crate::inbound::TOKEN;
use crate::pipeline::{Incoming, Pipeline, Receipt, Unavailable};

/// A body above this is read on a thread of its own, so that it does not hold up the others.
const INLINE_BYTES: usize = 64 * 1024;

/// `POST /v1/events` and `POST /events`.
pub(super) async fn events(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let snapshot = state.pipeline.snapshot();
    let now = state.clock.now();
    let token = auth::bearer(&headers);
    let Some(source) = token.and_then(|token| auth::source_of(&snapshot, token, now)) else {
        body::discard(&headers, body).await;
        return Err(auth::unknown_sender(token));
    };
    let refused = |problem: Problem| {
        state.pipeline.count_rejected(source, 1);
        problem
    };
    let form = match form(&headers) {
        Ok(form) => form,
        Err(problem) => {
            body::discard(&headers, body).await;
            return Err(refused(problem));
        }
    };
    let read = body::read(&headers, body, snapshot.server.body_limit, &state.bodies).await;
    let (bytes, _share) = read.map_err(|problem| if problem.is_too_large() { refused(problem) } else { problem })?;
    let context = context(&snapshot, source, &state);
    let limit = snapshot.server.batch_limit;
    let parsed = if bytes.len() <= INLINE_BYTES {
        items::parse(&bytes, form, limit, &context)
    } else {
        let parsing = tokio::task::spawn_blocking(move || items::parse(&bytes, form, limit, &context));
        parsing.await.map_err(|_| Problem::internal("the body could not be read"))?
    };
    let parsed = parsed.map_err(|refusal| {
        state.pipeline.count_rejected(source, refusal.count());
        Problem::from(refusal)
    })?;
    match parsed {
        Parsed::One(candidate) => {
            let single = single(&state.pipeline, source, *candidate).await?;
            Ok((StatusCode::ACCEPTED, Json(single)).into_response())
        }
        Parsed::Many(candidates) => batch(&state.pipeline, source, candidates).await,
    }
}

/// `GET /e`: the same under the names that trackers use, with 200.
pub(super) async fn get_e(
    State(state): State<AppState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let snapshot = state.pipeline.snapshot();
    let mut parameters = pixel::parameters(&query.unwrap_or_default());
    let in_query = parameters.iter().find(|(name, _)| name == TOKEN).map(|(_, value)| value.clone());
    parameters.retain(|(name, _)| name != TOKEN);
    let token = in_query.as_deref().or_else(|| auth::bearer(&headers));
    let source = token.and_then(|token| auth::source_of(&snapshot, token, state.clock.now()));
    let source = source.ok_or_else(|| auth::unknown_sender(token))?;
    let unexpanded = pixel::unexpanded_names(&parameters);
    let candidate = pixel::event(parameters, &context(&snapshot, source, &state));
    let single = single(&state.pipeline, source, candidate).await?;
    state.noticed.unexpanded(source, &unexpanded);
    Ok(Json(single.with_unexpanded(unexpanded)).into_response())
}

/// `HEAD /e` and `HEAD /v1/postback/…`: link checkers and previews ask like this; nothing happens.
pub(super) async fn head_e() -> StatusCode {
    StatusCode::OK
}

fn context(snapshot: &Snapshot, source: &SourceName, state: &AppState) -> Context {
    let received_at = state.clock.now();
    let hash = state.pipeline.hash_key();
    Context { source: source.clone(), default_currency: snapshot.default_currency, received_at, hash }
}

/// What the headers say of the body.
fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    // Without a type the body is taken for JSON: it says by itself whether it is.
    match content_type(headers)?.as_deref() {
        Some("application/json") | None => Ok(Form::Json),
        Some("application/x-ndjson" | "application/ndjson") => Ok(Form::Lines),
        Some(other) => Err(unsupported(&format!(
            "the body is {other:?}; send application/json (an object or an array), or application/x-ndjson (one object per line)"
        ))),
    }
}

/// The media type in lower case and without its parameters; a compressed body is refused.
fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    if encoding.is_some_and(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")) {
        return Err(unsupported("compressed bodies are not read; send it as it is, without Content-Encoding"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let whole = value.to_str().unwrap_or_default();
    Ok(Some(whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", "The type is not supported", detail)
}

async fn single(pipeline: &Pipeline, source: &SourceName, candidate: Candidate) -> Result<Single, Problem> {
    match candidate {
        Ok(incoming) => commit_one(pipeline, source, incoming).await,
        Err(rejected) => {
            pipeline.count_rejected(source, 1);
            Err(refused_single(rejected))
        }
    }
}

async fn commit_one(pipeline: &Pipeline, source: &SourceName, incoming: Incoming) -> Result<Single, Problem> {
    let event_id = incoming.event.event_id.clone();
    let receipts = commit(pipeline, source, vec![incoming]).await?;
    let receipt = receipts.into_iter().next().ok_or_else(no_receipt)?;
    Ok(Single::new(receipt, event_id))
}

fn refused_single(rejected: Rejected) -> Problem {
    let too_large = rejected.errors.iter().any(|error| error.code == "event_too_large");
    let problem = Problem::fields(rejected.errors);
    if too_large { problem.with_status(StatusCode::PAYLOAD_TOO_LARGE) } else { problem }
}

async fn batch(pipeline: &Pipeline, source: &SourceName, candidates: Vec<Candidate>) -> Result<Response, Problem> {
    let mut good = Vec::with_capacity(candidates.len());
    let mut outline = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        match candidate {
            Ok(incoming) => {
                outline.push(Ok(incoming.event.event_id.clone()));
                good.push(incoming);
            }
            Err(rejected) => outline.push(Err(rejected)),
        }
    }
    let receipts = if good.is_empty() { Vec::new() } else { commit(pipeline, source, good).await? };
    let batch = Batch::new(paired(outline, receipts).ok_or_else(no_receipt)?);
    if batch.rejected > 0 {
        pipeline.count_rejected(source, u64::try_from(batch.rejected).unwrap_or(u64::MAX));
    }
    Ok(batch_answer(batch))
}

/// Gives every good item its receipt; `None` where the numbers differ.
fn paired(outline: Vec<Result<Option<String>, Rejected>>, receipts: Vec<Receipt>) -> Option<Vec<Answered>> {
    let mut receipts = receipts.into_iter();
    let mut items = Vec::with_capacity(outline.len());
    for item in outline {
        items.push(match item {
            Ok(event_id) => Ok((receipts.next()?, event_id)),
            Err(rejected) => Err(rejected),
        });
    }
    receipts.next().is_none().then_some(items)
}

/// 202 where at least one item was good, else a problem that lists all.
fn batch_answer(batch: Batch) -> Response {
    if batch.rejected < batch.results.len() {
        return (StatusCode::ACCEPTED, Json(batch)).into_response();
    }
    let title = "No event of the batch can be accepted";
    let detail =
        format!("all {} items were refused; each is listed in results with what to write instead", batch.rejected);
    let mut problem =
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "all_rejected", title, detail).with_errors(batch.errors());
    for (name, count) in [("queued", 0), ("duplicate", 0), ("rejected", batch.rejected)] {
        problem = problem.with_member(name, count);
    }
    let results = serde_json::to_value(&batch.results).unwrap_or_default();
    problem.with_member("ok", false).with_member("results", results).into_response()
}

/// Waits until the events are durable.
async fn commit(pipeline: &Pipeline, source: &SourceName, events: Vec<Incoming>) -> Result<Vec<Receipt>, Unavailable> {
    let receipts = pipeline.ingest(events).await?;
    for receipt in &receipts {
        if let Receipt::Duplicate { id, conflict: true } = receipt {
            tracing::warn!(%source, event = %id, "An event came again with another content; the first one is kept.");
        }
    }
    Ok(receipts)
}

fn no_receipt() -> Problem {
    Problem::internal(
        "the events were handed over, but not every one was answered for; send them again, repeats are recognised",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::domain::id::{EventId, EventSeq, InstanceId};
    use crate::http::problem::FieldError;

    fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn the_content_type_decides_how_a_body_is_read() {
        for (value, wanted) in [
            ("application/json", Some(Form::Json)),
            ("Application/JSON; charset=utf-8", Some(Form::Json)),
            ("application/x-ndjson", Some(Form::Lines)),
            ("text/plain", None),
            ("application/x-www-form-urlencoded", None),
            ("application/jsonx", None),
            ("", None),
        ] {
            assert_eq!(form(&with(header::CONTENT_TYPE, value)).ok(), wanted, "{value}");
        }
        assert_eq!(form(&HeaderMap::new()).ok(), Some(Form::Json));
        assert!(form(&with(header::CONTENT_ENCODING, "gzip")).is_err());
        assert!(form(&with(header::CONTENT_ENCODING, "identity")).is_ok());
    }

    fn rejected(index: usize, code: &'static str) -> Rejected {
        Rejected { event_id: None, errors: vec![FieldError::new(format!("$[{index}].event"), code, "why")] }
    }

    #[test]
    fn every_good_item_has_the_receipt_of_its_place() {
        let receipt = |seq| Receipt::Duplicate {
            id: EventId { instance: InstanceId::from_random(0), seq: EventSeq(seq) },
            conflict: false,
        };
        let outline = || vec![Ok(Some("a".to_owned())), Err(rejected(1, "type")), Ok(None)];
        let items = paired(outline(), vec![receipt(1), receipt(2)]).unwrap();
        assert_eq!(items[0], Ok((receipt(1), Some("a".to_owned()))));
        assert_eq!(items[2], Ok((receipt(2), None)));
        assert!(paired(outline(), vec![receipt(1)]).is_none());
        assert!(paired(outline(), vec![receipt(1), receipt(2), receipt(3)]).is_none());
    }

    #[tokio::test]
    async fn a_batch_without_a_good_item_is_a_problem_that_lists_all() {
        let response = batch_answer(Batch::new(vec![Err(rejected(0, "required")), Err(rejected(1, "type"))]));
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "all_rejected");
        assert_eq!(body["errors"][1]["path"], "$[1].event");
        assert_eq!(body["results"][0]["status"], "rejected");
        assert_eq!(body["rejected"], 2);
    }

    #[test]
    fn an_oversized_single_event_is_413() {
        let status = |code| refused_single(rejected(0, code)).into_response().status();
        assert_eq!(status("event_too_large"), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status("required"), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
