//! What fuzzing may reach of ingest: from bytes a stranger sends to events, or to why there are none. Built only for
//! `cargo fuzz`; what must hold for any bytes is asserted here, beside what it is about.

use serde_json::Value;

use super::items::{self, Candidate, Form, Parsed, Rejected};
use super::validate::Context;
use super::{pixel, postback};
use crate::domain::dedupe::HashKey;
use crate::domain::event::{Event, Object};
use crate::domain::limits::{EVENT_ID_BYTES, SHORT_TEXT_BYTES, UID_BYTES};
use crate::domain::time::UnixMs;
use crate::inbound::parameters::Parameter;
use crate::inbound::presets;
use crate::pipeline::Incoming;

/// Small, so that the limit is met often.
const LIMIT: usize = 8;

const KEY: HashKey = HashKey([7; 16]);

fn context() -> Option<Context> {
    let (source, default_currency) = ("app".parse().ok()?, "USD".parse().ok()?);
    Some(Context { source, default_currency, received_at: UnixMs(1_764_000_000_000), hash: KEY })
}

/// A body of `POST /v1/events`; the first byte says whether it is JSON or NDJSON.
pub fn body(data: &[u8]) {
    let (Some((form, body)), Some(context)) = (data.split_first(), context()) else { return };
    let form = if form % 2 == 0 { Form::Json } else { Form::Lines };
    match items::parse(body, form, LIMIT, &context) {
        Ok(Parsed::One(candidate)) => judged(&candidate),
        Ok(Parsed::Many(candidates)) => {
            assert!(!candidates.is_empty() && candidates.len() <= LIMIT, "{} candidates", candidates.len());
            candidates.iter().for_each(judged);
        }
        Err(refusal) => assert!(refusal.count() > 0, "a refusal counts in the books"),
    }
}

/// A query of `GET /e`.
pub fn query(data: &[u8]) {
    let (Ok(query), Some(context)) = (std::str::from_utf8(data), context()) else { return };
    judged(&pixel::event(pixel::parameters(query), &context));
}

/// A postback of `/v1/postback/{source}`; the first byte says which preset the source has, the second whether the parameters stand
/// in the URL or how they stand in the body.
pub fn postback(data: &[u8]) {
    let ([which, place, rest @ ..], Some(context)) = (data, context()) else { return };
    let Some(preset) = presets::ALL.get(usize::from(*which) % presets::ALL.len()) else { return };
    let given = match (place % 3, std::str::from_utf8(rest)) {
        (0, Ok(query)) => {
            pixel::parameters(query).into_iter().map(|(name, value)| Parameter::text(name, value)).collect()
        }
        (0, Err(_)) => return,
        (1, _) => postback::in_body(postback::Form::Parameters, rest).unwrap_or_default(),
        (_, _) => postback::in_body(postback::Form::Json, rest).unwrap_or_default(),
    };
    if let Ok(postback::Read { incoming: Some(incoming), .. }) = postback::read(&preset.recipe(), given, &context) {
        well_formed(&incoming);
    }
}

fn judged(candidate: &Candidate) {
    match candidate {
        Ok(incoming) => well_formed(incoming),
        Err(Rejected { event_id, errors }) => {
            assert!(!errors.is_empty(), "a refusal without a reason");
            assert!(event_id.as_ref().is_none_or(|id| id.len() <= EVENT_ID_BYTES));
        }
    }
}

/// What the rest of the daemon relies on.
fn well_formed(incoming: &Incoming) {
    let Event { event_id, uid, action_source, value, currency, user, click, page, data, .. } = &incoming.event;
    for (text, bytes) in [(event_id, EVENT_ID_BYTES), (uid, UID_BYTES), (action_source, SHORT_TEXT_BYTES)] {
        assert!(text.as_ref().is_none_or(|text| !text.is_empty() && text.len() <= bytes && !text.contains('\0')));
    }
    assert!(value.is_none() || currency.is_some(), "an amount has a currency");
    assert!([user, click, page, data].into_iter().all(|object| without_nul(object)), "NUL is refused everywhere");
    let key = || KEY.dedupe_key(&incoming.event, &incoming.discriminator);
    assert!(key() == key(), "the same event has the same key");
    assert!(KEY.content(&incoming.event) == incoming.content, "its content is what is kept of it");
}

fn without_nul(object: &Object) -> bool {
    object.iter().all(|(name, value)| !name.contains('\0') && plain(value))
}

fn plain(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(plain),
        Value::Object(object) => without_nul(object),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}
