//! `GET|POST|HEAD /v1/postback/{source}`: events of networks that can only fire a URL, read by the source's own rules.
//!
//! The order is source, token, type, size, syntax, hash, fields, disk. The parameters are those of the query and of the
//! body together. Whoever sends is a machine that shows its answers to nobody: every refusal is logged.

use axum::body::{Body, HttpBody as _};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::{CONTROLS, percent_encode};
use serde_json::Value;

use super::fields::{member, wrong_type};
use super::items::Rejected;
use super::validate::{Context, EVENT_ID_NAMES, incoming};
use super::{commit_one, content_type, context, pixel, refused_single, unsupported};
use crate::config::snapshot::Source;
use crate::domain::dedupe::Discriminator;
use crate::domain::json::JsonValue;
use crate::domain::limits::{EVENT_BYTES, EVENT_ID_BYTES};
use crate::domain::message::cut;
use crate::http::json::Json;
use crate::http::problem::{FieldError, Problem};
use crate::http::strict_json::{self, Document};
use crate::http::{AppState, auth, body};
use crate::inbound::parameters::{Parameter, Parameters, Written};
use crate::inbound::signature::Disbelief;
use crate::inbound::{Fault, Mapped, Outcome, Recipe, TOKEN};
use crate::pipeline::Incoming;

/// How the body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Nothing,
    Parameters,
    Json,
}

/// A postback that can be accepted.
#[derive(Debug)]
pub(super) struct Read {
    /// `None` where a map says `false`.
    pub(super) incoming: Option<Incoming>,
    /// Parameters that came as macros.
    unexpanded: Vec<String>,
}

/// `GET /v1/postback/{source}`: a body, if there is one, says nothing.
pub(in crate::http) async fn get(
    state: State<AppState>,
    source: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    answer(&state, source, &headers, query, Body::empty()).await
}

/// `POST /v1/postback/{source}`
pub(in crate::http) async fn post(
    state: State<AppState>,
    source: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    answer(&state, source, &headers, query, body).await
}

async fn answer(
    state: &AppState,
    source: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let snapshot = state.pipeline.snapshot();
    let query = pixel::parameters(&query.unwrap_or_default());
    let named = source.map(|Path(name)| name).unwrap_or_default();
    let known = snapshot.sources.get(named.as_str());
    let sender = known.ok_or_else(unknown_source).and_then(|source| {
        let in_query = query.iter().find(|(name, _)| name == TOKEN).map(|(_, value)| value.as_str());
        let token = in_query.or_else(|| auth::bearer(headers));
        if token.is_some_and(|token| source.accepts(token, state.clock.now())) {
            Ok(source)
        } else {
            Err(auth::unknown_sender_of(token))
        }
    });
    let source = match sender {
        Ok(source) => source,
        Err(problem) => {
            state.noticed.turned_away(known.map(|source| &source.name), &named, &problem);
            body::discard(headers, body).await;
            return Err(problem);
        }
    };
    let refused = |problem: Problem| {
        state.pipeline.count_rejected(&source.name, 1);
        let (code, path, detail) = problem.said();
        tracing::warn!(source = %source.name, code, path, detail, "A postback was refused.");
        problem
    };
    let given = match gather(state, query, headers, body, snapshot.server.body_limit).await {
        Ok(given) => given,
        Err(problem) if problem.is_for_later() => return Err(problem),
        Err(problem) => return Err(refused(problem)),
    };
    let context = context(&snapshot, &source.name, state);
    let Read { incoming, unexpanded } = read(&source.postback, given, &context).map_err(refused)?;
    state.noticed.unexpanded(&source.name, &unexpanded);
    let Some(incoming) = incoming else {
        state.noticed.ignored(&source.name);
        return Ok(told(source, || Json(super::dto::Ignored::new(unexpanded)).into_response()));
    };
    let single = commit_one(&state.pipeline, &source.name, incoming).await?.with_unexpanded(unexpanded);
    Ok(told(source, || Json(single).into_response()))
}

/// The source's own text, or what `GET /e` says.
fn told(source: &Source, ours: impl FnOnce() -> Response) -> Response {
    match &source.postback.answer {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.clone()).into_response(),
        None => ours(),
    }
}

fn unknown_source() -> Problem {
    Problem::not_found("no source has the name in the path; write /v1/postback/NAME for [sources.NAME]")
}

/// All parameters of the query and the body.
async fn gather(
    state: &AppState,
    query: Vec<(String, String)>,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Vec<Parameter>, Problem> {
    let mut given: Vec<Parameter> = query.into_iter().map(|(name, value)| Parameter::text(name, value)).collect();
    let form = match form(headers, &body) {
        Ok(form) => form,
        Err(problem) => {
            body::discard(headers, body).await;
            return Err(problem);
        }
    };
    if form == Form::Nothing {
        return Ok(given);
    }
    let (bytes, _share) = body::read(headers, body, limit, &state.bodies).await?;
    if bytes.len() > EVENT_BYTES {
        let detail = format!("the postback is {} bytes long; at most {EVENT_BYTES} are taken", bytes.len());
        let title = "The postback is too large";
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "event_too_large", title, detail));
    }
    given.extend(in_body(form, &bytes)?);
    Ok(given)
}

/// The parameters of a body. One that is sent in chunks shows only now that it is empty.
pub(super) fn in_body(form: Form, bytes: &[u8]) -> Result<Vec<Parameter>, Problem> {
    match form {
        Form::Nothing => Ok(Vec::new()),
        Form::Json if bytes.is_empty() => Ok(Vec::new()),
        Form::Parameters => {
            // Bytes that are no UTF-8 stay apart from each other: see `pixel::parameters`.
            let pairs = pixel::parameters(&percent_encode(bytes, CONTROLS).to_string());
            Ok(pairs.into_iter().map(|(name, value)| Parameter::text(name, value)).collect())
        }
        Form::Json => flat(bytes),
    }
}

/// What the headers say of the body. One that is empty has no form: many networks post a bare URL.
fn form(headers: &HeaderMap, body: &Body) -> Result<Form, Problem> {
    if body.is_end_stream() {
        return Ok(Form::Nothing);
    }
    match content_type(headers)?.as_deref() {
        Some("application/x-www-form-urlencoded") => Ok(Form::Parameters),
        Some("application/json") | None => Ok(Form::Json),
        Some(other) => Err(unsupported(&format!(
            "the body is {other:?}; send application/x-www-form-urlencoded, or application/json (one flat object), or \
             everything in the URL"
        ))),
    }
}

/// The members of a JSON object without objects or lists in it.
fn flat(bytes: &[u8]) -> Result<Vec<Parameter>, Problem> {
    let body = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let syntax = |error| Problem::from(super::items::Refusal::Syntax(error));
    let body = strict_json::utf8(body).map_err(syntax)?;
    let Document::Object(text) = strict_json::split(body, 1).map_err(syntax)? else {
        return Err(Problem::field(
            "$",
            "type",
            "a postback is one event; send one flat object, like {\"uid\": \"…\"}",
        ));
    };
    let JsonValue::Object(object) = strict_json::parse(text, body).map_err(syntax)? else { return Ok(Vec::new()) };
    let mut parameters = Vec::with_capacity(object.len());
    let mut errors = Vec::new();
    for (name, value) in object {
        let written = match &value {
            JsonValue::Number(_) => Written::Number,
            JsonValue::Text(_) | JsonValue::Bool(_) | JsonValue::Null => Written::Text,
            JsonValue::List(_) | JsonValue::Object(_) => {
                let wanted = "a text, a number, true or false: the parameters of a postback are flat";
                errors.push(FieldError::new(member("$", &name), "type", wrong_type(wanted, &value)));
                continue;
            }
        };
        let value = value.scalar_text().unwrap_or_default().into_owned();
        parameters.push(Parameter { name: name.into_owned(), value, written });
    }
    if errors.is_empty() { Ok(parameters) } else { Err(Problem::fields(errors)) }
}

/// Judges the hash, then reads the event.
pub(super) fn read(recipe: &Recipe, given: Vec<Parameter>, context: &Context) -> Result<Read, Problem> {
    let mut parameters = Parameters::join(given).map_err(problem)?;
    if let Some(hash) = &recipe.hash {
        hash.check(&parameters).map_err(|why| disbelieved(why, &hash.parameter))?;
    }
    recipe.strip(&mut parameters);
    let unexpanded = parameters.unexpanded();
    let empty = !parameters.names().any(|name| parameters.value(name).is_some());
    let pairs = parameters.pairs();
    match recipe.read(parameters, context.default_currency) {
        Ok(Outcome::Ignored) => Ok(Read { incoming: None, unexpanded }),
        Ok(Outcome::Event(_)) if empty => Err(nothing_in_it(&unexpanded)),
        Ok(Outcome::Event(mapped)) => {
            let incoming = validated(&mapped, context, pairs)?;
            Ok(Read { incoming: Some(incoming), unexpanded })
        }
        Err(faults) => Err(problem(faults)),
    }
}

/// A fixed event name makes an event of anything; one without any value would be taken for a repeat of the one before.
fn nothing_in_it(unexpanded: &[String]) -> Problem {
    let why = match unexpanded {
        [] => "no parameter has a value".to_owned(),
        names => format!("no parameter has a value: the network did not fill in {}", names.join(", ")),
    };
    let detail = format!("{why}; repeats of such a postback could not be told apart: correct the URL at the network");
    Problem::field("$", "no_identity", detail)
}

fn validated(mapped: &Mapped, context: &Context, pairs: Vec<(String, String)>) -> Result<Incoming, Problem> {
    let object = mapped.object.clone().into();
    incoming(object, "$", context, Some(Discriminator::Parameters(pairs))).map_err(|errors| {
        let event_id = EVENT_ID_NAMES.iter().find_map(|name| mapped.object.get(*name)).and_then(Value::as_str);
        let event_id = event_id.map(|id| cut(id, EVENT_ID_BYTES).to_owned());
        let errors = errors.into_iter().map(|error| with_their_name(error, mapped)).collect();
        refused_single(Rejected { event_id, errors })
    })
}

/// Says how the network calls the field that is wrong.
fn with_their_name(error: FieldError, mapped: &Mapped) -> FieldError {
    let theirs = error.path.strip_prefix("$.").and_then(|field| mapped.from.get(field));
    match theirs {
        Some(theirs) => {
            FieldError::new(error.path, error.code, format!("{} (from the parameter {theirs})", error.detail))
        }
        None => error,
    }
}

fn problem(faults: Vec<Fault>) -> Problem {
    let errors = faults.into_iter().map(|fault| {
        let path = fault.field.split('.').fold("$".to_owned(), |at, name| member(&at, name));
        FieldError::new(path, fault.code, fault.detail)
    });
    Problem::fields(errors.collect())
}

fn disbelieved(why: Disbelief, parameter: &str) -> Problem {
    let (code, detail) = match why {
        Disbelief::Missing => (
            "hash_missing",
            format!("the parameter {parameter}, which holds the hash, is missing; the source asks for it (hash)"),
        ),
        Disbelief::Wrong => {
            let detail = "is not that of this postback; compare secret, kind and over of the source's hash with what the network does";
            ("hash_wrong", format!("the hash in the parameter {parameter} {detail}"))
        }
    };
    Problem::new(StatusCode::FORBIDDEN, code, "The postback is not believed", detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::dedupe::HashKey;
    use crate::domain::time::UnixMs;
    use crate::http::problem::tests::shown;
    use crate::inbound::presets;
    use crate::inbound::signature::{self, HashCheck};

    fn context() -> Context {
        Context {
            source: "net".parse().unwrap(),
            default_currency: "USD".parse().unwrap(),
            received_at: UnixMs(1),
            hash: HashKey([7; 16]),
        }
    }

    fn told(recipe: &Recipe, query: &str) -> Result<Read, Problem> {
        let given = pixel::parameters(query).into_iter().map(|(name, value)| Parameter::text(name, value));
        read(recipe, given.collect(), &context())
    }

    #[test]
    fn the_type_of_a_body_decides_how_it_is_read_and_an_empty_one_has_none() {
        let asked = |kind: Option<&'static str>, body: &'static str| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            form(&headers, &Body::from(body)).ok()
        };
        assert_eq!(asked(Some("application/x-www-form-urlencoded; charset=utf-8"), "a=1"), Some(Form::Parameters));
        assert_eq!(asked(Some("Application/Json"), "{}"), Some(Form::Json));
        assert_eq!(asked(None, "{}"), Some(Form::Json));
        assert_eq!(asked(Some("text/plain"), "a=1"), None);
        assert_eq!(asked(Some("text/plain"), ""), Some(Form::Nothing));
    }

    #[test]
    fn a_body_in_chunks_that_turns_out_to_be_empty_says_nothing() {
        for form in [Form::Nothing, Form::Parameters, Form::Json] {
            assert_eq!(in_body(form, b"").unwrap(), [], "{form:?}");
        }
        assert!(in_body(Form::Json, b" ").is_err(), "what is there must be JSON");
    }

    #[test]
    fn a_fault_says_how_the_network_calls_the_field() {
        let recipe = presets::find("keitaro").unwrap().recipe();
        let long = format!("subid={}&payout=1e5", "u".repeat(513));
        let problem = told(&recipe, "payout=25,00&status=sale").unwrap_err();
        insta::assert_snapshot!(shown(&problem), @r#"
        {
          "type": "urn:postbackd:problem:invalid",
          "title": "Some of it cannot be accepted",
          "status": 422,
          "code": "invalid",
          "detail": "\"25,00\" is not an amount; this source sends amounts like 25.00 or 1,234.50 (decimal = \"dot\") (from the parameter payout)",
          "path": "$.value"
        }
        "#);
        assert!(told(&recipe, &long).unwrap_err().said().2.contains("from the parameter payout"));
        let problem = told(&recipe, &long.replace("1e5", "5")).unwrap_err();
        assert_eq!((problem.said().0, problem.said().1), ("too_long", "$.uid"));
        assert!(problem.said().2.ends_with("(from the parameter subid)"), "{}", problem.said().2);
    }

    #[test]
    fn what_tells_postbacks_apart_is_all_that_is_kept() {
        let over = signature::parts("{a}").unwrap();
        let secret = crate::domain::secret::Secret::new("key".to_owned());
        let hash = HashCheck { parameter: "sig".to_owned(), secret, kind: signature::Kind::HmacMd5, over };
        let recipe = Recipe { hash: Some(hash), ..Recipe::default() };
        // printf 1 | openssl dgst -md5 -hmac key
        let read =
            told(&recipe, "event=lead&a=1&token=t&sig=4af35dc1cd7f387546377a4f2b548d0c&b=").unwrap().incoming.unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = vec![pair("a", "1"), pair("b", ""), pair("event", "lead")];
        assert_eq!(read.discriminator, Discriminator::Parameters(pairs));
    }

    #[test]
    fn a_postback_without_any_value_is_no_event() {
        let recipe = presets::find("cake").unwrap().recipe();
        for (query, wanted) in [("token=t", "no parameter has a value;"), ("r=%23reqid%23&t=", "did not fill in r;")] {
            let problem = told(&recipe, query).unwrap_err();
            let (code, path, detail) = problem.said();
            assert_eq!((code, path), ("no_identity", "$"), "{query}");
            assert!(detail.contains(wanted), "{detail}");
        }
        assert!(told(&recipe, "r=%23reqid%23&sub=7").unwrap().incoming.is_some(), "one value tells it from others");
    }

    proptest! {
        /// Whatever a stranger sends is an event or a problem, by whatever rules it is read.
        #[test]
        fn any_parameters_are_an_event_or_a_problem(
            preset in 0..=presets::ALL.len(),
            given in proptest::collection::vec(
                (
                    "event|status|et|type|uid|subid|tid|transaction_id|goal_id|payout|sum|p|value|currency|t|occurred_at|data|user\\.email|\\PC{0,6}",
                    "[0-9.,$€{}#-]{0,10}|USD|\\PC{0,12}|.{0,4}",
                ),
                0..10,
            ),
        ) {
            let recipe = presets::ALL.get(preset).map(presets::Preset::recipe).unwrap_or_default();
            let given = given.into_iter().map(|(name, value)| Parameter::text(name, value)).collect();
            if let Ok(Read { incoming: Some(incoming), .. }) = read(&recipe, given, &context()) {
                prop_assert!(!incoming.event.data.contains_key(TOKEN));
            }
        }
    }
}
