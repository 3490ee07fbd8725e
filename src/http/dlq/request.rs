//! What an operator asks for: which dead deliveries, and how. Anything not understood refuses the whole request, since
//! a misread filter would replay or purge what nobody meant.

use serde_json::Value;

use crate::domain::event::Object;
use crate::domain::id::{DeliveryId, DeliveryKey, InstanceId};
use crate::domain::limits::API_PAGE_MAX;
use crate::domain::time::{DurationMs, UnixMs};
use crate::http::problem::FieldError;
use crate::http::query::{FILTER_KEYS, Frame, among_the_dead, filter};
use crate::store::read::DeliveryFilter;

/// An operator's words for a discard, bytes.
const REASON_BYTES: usize = 1024;

/// Which deliveries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Selection {
    /// In the order given, each once.
    Ids(Vec<DeliveryKey>),
    /// An empty filter is everything: only `"all": true` makes one.
    Filter(DeliveryFilter),
}

/// Deliveries per span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate {
    count: u64,
    per: DurationMs,
}

/// A whole request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Order {
    pub(super) selection: Selection,
    pub(super) dry_run: bool,
    pub(super) rate: Option<Rate>,
    pub(super) reason: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Replay,
    Discard,
}

impl Rate {
    /// `50/s`, `600/m`, `1000/h`.
    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let per = match unit {
            "s" => DurationMs::from_secs(1),
            "m" => DurationMs::from_secs(60),
            "h" => DurationMs::from_hours(1),
            _ => return None,
        };
        let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|count| plain && *count > 0)?;
        Some(Self { count, per })
    }

    /// When the delivery of that place (from 0) is due.
    pub(super) fn due(self, start: UnixMs, place: u64) -> UnixMs {
        start + DurationMs(place.saturating_mul(self.per.0) / self.count)
    }
}

impl Order {
    pub(super) fn parse(
        body: &Value,
        verb: Verb,
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
        (None, Some(conditions), None | Some(false)) => dead_filter(conditions, frame).map(Selection::Filter),
        (None, None, Some(true)) => Ok(Selection::Filter(DeliveryFilter::default())),
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
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}

fn dead_filter(conditions: &Value, frame: Frame<'_>) -> Result<DeliveryFilter, Vec<FieldError>> {
    let Value::Object(conditions) = conditions else {
        return one("$.filter", "type", "write an object, like {\"destination\": \"meta-eu\"}");
    };
    let mut errors = Vec::new();
    for (name, value) in conditions {
        if !FILTER_KEYS.contains(&name.as_str()) {
            let detail = format!("unknown filter {name:?}; known are {}", FILTER_KEYS.join(", "));
            errors.push(FieldError::new("$.filter", "unknown", detail));
        } else if !value.is_string() && !value.is_null() {
            errors.push(FieldError::new(format!("$.filter.{name}"), "type", "write a text"));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let get = |name: &str| conditions.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if FILTER_KEYS.iter().all(|name| get(name).is_none()) {
        let detail = "the filter is empty; write a condition, or \"all\": true if all are meant";
        return one("$.filter", "nothing_selected", detail);
    }
    let filter = filter(get, "$.filter.", frame)?;
    among_the_dead(&filter, "$.filter.")?;
    Ok(filter)
}

fn truth(body: &Object, name: &str) -> Result<Option<bool>, Vec<FieldError>> {
    match given(body, name) {
        None => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        Some(_) => one(&format!("$.{name}"), "type", "write true or false"),
    }
}

fn rate(body: &Object, verb: Verb) -> Result<Option<Rate>, Vec<FieldError>> {
    let Some(value) = given(body, "rate") else { return Ok(None) };
    match verb {
        Verb::Discard => one("$.rate", "unknown", "a discard sends nothing and has no rate; leave it out"),
        Verb::Replay => match value.as_str().and_then(Rate::parse) {
            Some(rate) => Ok(Some(rate)),
            None => one("$.rate", "invalid", "write a number per s, m or h, like \"50/s\""),
        },
    }
}

fn reason(body: &Object, verb: Verb) -> Result<Option<String>, Vec<FieldError>> {
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
        Verb::Discard if text.is_empty() => {
            one("$.reason", "required", "say why these are purged; it stays with each of them")
        }
        Verb::Discard | Verb::Replay => Ok((!text.is_empty()).then(|| text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::http::query::Names;

    const NOW: UnixMs = UnixMs(1_795_304_438_000);

    fn instance() -> InstanceId {
        InstanceId::from_random(1)
    }

    fn id(seq: u64) -> String {
        let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
        DeliveryId { instance: instance(), key }.to_string()
    }

    fn order(text: &str, verb: Verb) -> Result<Order, Vec<FieldError>> {
        let names = Names::new([("meta-eu".parse().unwrap(), DestinationId(1))]);
        Order::parse(&serde_json::from_str(text).unwrap(), verb, instance(), Frame { names: &names, now: NOW })
    }

    #[test]
    fn deliveries_are_named_by_id_by_filter_or_all() {
        let by_id = order(&format!(r#"{{"ids":["{}","{}","{}"]}}"#, id(2), id(1), id(2)), Verb::Replay).unwrap();
        let key = |seq| DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
        assert_eq!(by_id.selection, Selection::Ids(vec![key(2), key(1)]), "each once");
        let by_filter =
            order(r#"{"filter":{"destination":"meta-eu","since":"-1h","event":null},"dry_run":true}"#, Verb::Replay);
        let by_filter = by_filter.unwrap();
        let wanted = DeliveryFilter {
            destination: Some(DestinationId(1)),
            since: Some(NOW - DurationMs::from_hours(1)),
            ..DeliveryFilter::default()
        };
        assert_eq!(by_filter.selection, Selection::Filter(wanted));
        assert!(by_filter.dry_run);
        let all = order(r#"{"all":true,"rate":"50/s"}"#, Verb::Replay).unwrap();
        assert_eq!(all.selection, Selection::Filter(DeliveryFilter::default()));
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
            let errors = order(text, Verb::Replay).map(|order| panic!("{text}: {order:?}")).unwrap_err();
            assert_eq!(errors[0].path, path, "{text}");
        }
    }

    #[test]
    fn a_discard_has_a_reason_and_no_rate() {
        assert_eq!(order(r#"{"all":true}"#, Verb::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":" "}"#, Verb::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":"a\nb"}"#, Verb::Discard).unwrap_err()[0].path, "$.reason");
        assert_eq!(order(r#"{"all":true,"reason":"x","rate":"1/s"}"#, Verb::Discard).unwrap_err()[0].path, "$.rate");
        assert_eq!(
            order(r#"{"all":true,"reason":" test data "}"#, Verb::Discard).unwrap().reason.as_deref(),
            Some("test data")
        );
    }

    #[test]
    fn a_rate_spreads_due_times() {
        let rate = Rate::parse("50/s").unwrap();
        assert_eq!(rate.due(NOW, 0), NOW);
        assert_eq!(rate.due(NOW, 1), NOW + DurationMs(20));
        assert_eq!(rate.due(NOW, 500), NOW + DurationMs(10_000));
        assert_eq!(Rate::parse("3/s").unwrap().due(NOW, 3), NOW + DurationMs(1000), "no drift by rounding");
        assert_eq!(Rate::parse("60/m").unwrap().due(NOW, 2), NOW + DurationMs(2000));
        for bad in ["", "50", "0/s", "-1/s", "+1/s", "1/d", "1.5/s", "/s", "50 /s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }
}
