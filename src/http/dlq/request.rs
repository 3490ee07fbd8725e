//! What an operator asks for: which dead deliveries, and how. Anything not understood refuses the whole request, since
//! a misread filter would replay or purge what nobody meant.

use serde_json::Value;

use crate::domain::event::Object;
use crate::domain::id::{DeliveryId, DeliveryKey, InstanceId};
use crate::domain::job::JobKind;
use crate::domain::limits::API_PAGE_MAX;
use crate::domain::pacing::RateLimit;
use crate::http::problem::FieldError;
use crate::http::query::{DEAD_KEYS, FILTER_KEYS, Frame, among_the_dead, filter};
use crate::store::job::Selection;
use crate::store::read::DeliveryFilter;

/// An operator's words for a discard, bytes.
const REASON_BYTES: usize = 1024;

/// A whole request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Order {
    pub(super) selection: Selection,
    pub(super) dry_run: bool,
    pub(super) rate: Option<RateLimit>,
    pub(super) reason: Option<String>,
}

impl Order {
    pub(super) fn parse(
        body: &Value,
        verb: JobKind,
        instance: InstanceId,
        frame: Frame<'_>,
    ) -> Result<Self, Vec<FieldError>> {
        let Value::Object(body) = body else {
            return Err(vec![FieldError::new("$", "type", "write an object, like {\"ids\": [\"dlv_…\"]}")]);
        };
        let mut errors = Vec::new();
        for name in
            body.keys().filter(|name| !["ids", "filter", "all", "dry_run", "rate", "reason"].contains(&name.as_str()))
        {
            let detail = format!("unknown key {name:?}; known are ids, filter, all, dry_run, rate, reason");
            errors.push(FieldError::new("$", "unknown", detail));
        }
        let selection = collect(&mut errors, selection(body, instance, frame));
        let dry_run = collect(&mut errors, truth(body, "dry_run"));
        let rate = collect(&mut errors, rate(body, verb));
        let reason = collect(&mut errors, reason(body, verb));
        match (selection, dry_run, rate, reason) {
            (Some(selection), Some(dry_run), Some(rate), Some(reason)) if errors.is_empty() => {
                Ok(Self { selection, dry_run: dry_run.unwrap_or(false), rate, reason })
            }
            _ => Err(errors),
        }
    }
}

fn collect<T>(errors: &mut Vec<FieldError>, part: Result<T, Vec<FieldError>>) -> Option<T> {
    part.map_err(|more| errors.extend(more)).ok()
}

fn one<T>(path: &str, code: &'static str, detail: impl AsRef<str>) -> Result<T, Vec<FieldError>> {
    Err(vec![FieldError::new(path, code, detail)])
}

fn given<'a>(body: &'a Object, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn selection(body: &Object, instance: InstanceId, frame: Frame<'_>) -> Result<Selection, Vec<FieldError>> {
    const CHOOSE: &str = "say which deliveries: ids, a filter with at least one condition, or \"all\": true";
    let all = truth(body, "all")?;
    match (given(body, "ids"), given(body, "filter"), all) {
        (Some(list), None, None | Some(false)) => ids(list, instance).map(Selection::Ids),
        (None, Some(conditions), None | Some(false)) => {
            dead_filter(conditions, frame).map(|filter| Selection::Filter(Box::new(filter)))
        }
        (None, None, Some(true)) => Ok(Selection::Filter(Box::default())),
        (None, None, None | Some(false)) => one("$", "nothing_selected", CHOOSE),
        (Some(_), Some(_), _) | (Some(_), _, Some(true)) | (_, Some(_), Some(true)) => {
            one("$", "contradiction", "send only one of ids, filter and all")
        }
    }
}

fn ids(list: &Value, instance: InstanceId) -> Result<Vec<DeliveryKey>, Vec<FieldError>> {
    let Value::Array(list) = list else {
        return one("$.ids", "type", "write a list of delivery ids, like [\"dlv_…\"]");
    };
    if list.is_empty() {
        return one("$.ids", "nothing_selected", "the list is empty; name at least one delivery id");
    }
    if list.len() > API_PAGE_MAX {
        return one("$.ids", "too_long", format!("{} ids; at most {API_PAGE_MAX} at once", list.len()));
    }
    let mut keys = Vec::with_capacity(list.len());
    let mut seen = std::collections::BTreeSet::new();
    let mut errors = Vec::new();
    for (index, id) in list.iter().enumerate() {
        let parsed = id.as_str().map(str::parse::<DeliveryId>);
        match parsed {
            // An id of another store is a good id that matches nothing here.
            Some(Ok(id)) if id.instance == instance && seen.insert(id.key) => keys.push(id.key),
            Some(Ok(_)) => {}
            Some(Err(wrong)) => errors.push(FieldError::new(format!("$.ids[{index}]"), "invalid", wrong.to_string())),
            None => errors.push(FieldError::new(format!("$.ids[{index}]"), "type", "write a delivery id as text")),
        }
    }
    // The order in which the DLQ is walked: newest first.
    keys.sort_unstable_by(|a, b| b.cmp(a));
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}

fn dead_filter(conditions: &Value, frame: Frame<'_>) -> Result<DeliveryFilter, Vec<FieldError>> {
    let Value::Object(conditions) = conditions else {
        return one("$.filter", "type", "write an object, like {\"destination\": \"meta-eu\"}");
    };
    let mut errors = Vec::new();
    for (name, value) in conditions {
        let number = name == "response_status" && value.is_number();
        if !known().any(|known| known == name) {
            let detail = format!("unknown filter {name:?}; known are {}", known().collect::<Vec<_>>().join(", "));
            errors.push(FieldError::new("$.filter", "unknown", detail));
        } else if !value.is_string() && !value.is_null() && !number {
            errors.push(FieldError::new(format!("$.filter.{name}"), "type", "write a text"));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let get = |name: &str| match conditions.get(name)? {
        Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.as_str()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    if known().all(|name| get(name).is_none()) {
        let detail = "the filter is empty; write a condition, or \"all\": true if all are meant";
        return one("$.filter", "nothing_selected", detail);
    }
    let filter = filter(get, "$.filter.", frame)?;
    among_the_dead(&filter, "$.filter.")?;
    Ok(filter)
}

/// The keys of a filter of the dead.
fn known() -> impl Iterator<Item = &'static str> {
    FILTER_KEYS.into_iter().chain(DEAD_KEYS)
}

/// An order as the audit trail keeps it: how many ids, and no conditions that name a person or quote an answer.
pub(super) fn told(body: &Value) -> Value {
    let Value::Object(body) = body else { return Value::Null };
    let mut told = Object::new();
    for (name, value) in body {
        let value = match (name.as_str(), value) {
            ("ids", Value::Array(ids)) => format!("{} ids", ids.len()).into(),
            ("filter", Value::Object(conditions)) => {
                let private = |name: &str| matches!(name, "uid" | "event_id" | "detail");
                let condition = |(name, value): (&String, &Value)| {
                    (name.clone(), if private(name) { "(not kept)".into() } else { value.clone() })
                };
                Value::Object(conditions.iter().map(condition).collect())
            }
            ("reason", _) => continue,
            _ => value.clone(),
        };
        told.insert(name.clone(), value);
    }
    Value::Object(told)
}

fn truth(body: &Object, name: &str) -> Result<Option<bool>, Vec<FieldError>> {
    match given(body, name) {
        None => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        Some(_) => one(&format!("$.{name}"), "type", "write true or false"),
    }
}

fn rate(body: &Object, verb: JobKind) -> Result<Option<RateLimit>, Vec<FieldError>> {
    let Some(value) = given(body, "rate") else { return Ok(None) };
    match verb {
        JobKind::Discard => one("$.rate", "unknown", "a discard sends nothing and has no rate; leave it out"),
        JobKind::Replay => match value.as_str().and_then(RateLimit::parse) {
            Some(rate) => Ok(Some(rate)),
            None => one("$.rate", "invalid", "write a number per s, m or h, like \"50/s\""),
        },
    }
}

fn reason(body: &Object, verb: JobKind) -> Result<Option<String>, Vec<FieldError>> {
    let text = match given(body, "reason") {
        None => "",
        Some(Value::String(text)) => text.trim(),
        Some(_) => return one("$.reason", "type", "write a text"),
    };
    if text.len() > REASON_BYTES {
        return one("$.reason", "too_long", format!("{} bytes; at most {REASON_BYTES}", text.len()));
    }
    if text.contains(char::is_control) {
        return one("$.reason", "invalid", "write one line without control characters");
    }
    match verb {
        JobKind::Discard if text.is_empty() => {
            one("$.reason", "required", "say why these are purged; it stays with each of them")
        }
        JobKind::Discard | JobKind::Replay => Ok((!text.is_empty()).then(|| text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::http::query::Names;

    use crate::domain::time::{DurationMs, UnixMs};

    const NOW: UnixMs = UnixMs(1_795_304_438_000);

    fn instance() -> InstanceId {
        InstanceId::from_random(1)
    }

    fn id(seq: u64) -> String {
        let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
        DeliveryId { instance: instance(), key }.to_string()
    }

    fn order(text: &str, verb: JobKind) -> Result<Order, Vec<FieldError>> {
        let names = Names::new([("meta-eu".parse().unwrap(), DestinationId(1))]);
        Order::parse(&serde_json::from_str(text).unwrap(), verb, instance(), Frame { names: &names, now: NOW })
    }

    #[test]
    fn deliveries_are_named_by_id_by_filter_or_all() {
        let by_id = order(&format!(r#"{{"ids":["{}","{}","{}"]}}"#, id(2), id(1), id(2)), JobKind::Replay).unwrap();
        let key = |seq| DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
        assert_eq!(by_id.selection, Selection::Ids(vec![key(2), key(1)]), "each once");
        let by_filter =
            order(r#"{"filter":{"destination":"meta-eu","since":"-1h","event":null},"dry_run":true}"#, JobKind::Replay);
        let by_filter = by_filter.unwrap();
        let wanted = DeliveryFilter {
            destination: Some(DestinationId(1)),
            since: Some(NOW - DurationMs::from_hours(1)),
            ..DeliveryFilter::default()
        };
        assert_eq!(by_filter.selection, Selection::Filter(Box::new(wanted)));
        assert!(by_filter.dry_run);
        let all = order(r#"{"all":true,"rate":"50/s"}"#, JobKind::Replay).unwrap();
        assert_eq!(all.selection, Selection::Filter(Box::default()));
        assert!(all.rate.is_some() && !all.dry_run);
    }

    #[test]
    fn what_selects_nothing_or_too_much_is_refused() {
        for (text, path) in [
            ("{}", "$"),
            ("[]", "$"),
            (r#"{"all":false}"#, "$"),
            (r#"{"filter":{}}"#, "$.filter"),
            (r#"{"filter":{"destination":""}}"#, "$.filter"),
            (r#"{"ids":[]}"#, "$.ids"),
            (r#"{"all":true,"filter":{"event":"a"}}"#, "$"),
            (r#"{"ids":["x"],"filter":{"event":"a"}}"#, "$"),
            (r#"{"all":"yes"}"#, "$.all"),
            (r#"{"all":true,"dry_run":1}"#, "$.dry_run"),
            (r#"{"all":true,"dryrun":true}"#, "$"),
            (r#"{"filter":{"destinatoin":"meta-eu"}}"#, "$.filter"),
            (r#"{"filter":{"destination":"meta"}}"#, "$.filter.destination"),
            (r#"{"filter":{"reason":"tls"}}"#, "$.filter.reason"),
            (r#"{"filter":{"event":5}}"#, "$.filter.event"),
            (r#"{"ids":["evt_1"]}"#, "$.ids[0]"),
            (r#"{"all":true,"rate":"fast"}"#, "$.rate"),
        ] {
            let errors = order(text, JobKind::Replay).map(|order| panic!("{text}: {order:?}")).unwrap_err();
            assert_eq!(errors[0].path, path, "{text}");
        }
    }

    #[test]
    fn a_discard_has_a_reason_and_no_rate() {
        assert_eq!(order(r#"{"all":true}"#, JobKind::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":" "}"#, JobKind::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":"a\nb"}"#, JobKind::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":"x","rate":"1/s"}"#, JobKind::Discard).unwrap_err()[0].path, "$.rate");
        assert_eq!(
            order(r#"{"all":true,"reason":" test data "}"#, JobKind::Discard).unwrap().reason.as_deref(),
            Some("test data")
        );
    }

    #[test]
    fn the_audit_trail_keeps_no_person_and_no_list_of_ids() {
        let body = r#"{"filter":{"destination":"hook","uid":"jane","event_id":"t-1","detail":"x"},"reason":"r"}"#;
        insta::assert_snapshot!(told(&serde_json::from_str(body).unwrap()), @r#"{"filter":{"destination":"hook","uid":"(not kept)","event_id":"(not kept)","detail":"(not kept)"}}"#);
        let ids = serde_json::from_str(r#"{"ids":["a","b"],"rate":"5/s"}"#).unwrap();
        assert_eq!(told(&ids).to_string(), r#"{"ids":"2 ids","rate":"5/s"}"#);
    }
}
