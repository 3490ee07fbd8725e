//! Query strings and filters: every key known, every value understood, or 422 and nothing happens.

use std::collections::BTreeMap;

use super::problem::{FieldError, Problem};
use crate::domain::delivery::Status;
use crate::domain::fault::FaultId;
use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, InstanceId};
use crate::domain::limits::{API_PAGE_DEFAULT, API_PAGE_MAX};
use crate::domain::name::{CanonicalName, DestinationName};
use crate::domain::outcome::DeadReason;
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::read::{Answered, DeliveryFilter};

/// The keys of a filter, in queries and in bodies.
pub(crate) const FILTER_KEYS: [&str; 8] =
    ["destination", "status", "event", "uid", "event_id", "reason", "since", "until"];

/// Further keys of a filter of the dead.
pub(crate) const DEAD_KEYS: [&str; 3] = ["response_status", "detail", "fault"];

/// Parameters by name, each once; empty ones are missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

/// Destinations by name and by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    by_name: BTreeMap<DestinationName, DestinationId>,
    by_id: BTreeMap<DestinationId, DestinationName>,
}

/// Where a page begins and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) after: Option<DeliveryKey>,
    pub(crate) limit: usize,
}

/// What a filter is read against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) names: &'a Names,
    pub(crate) now: UnixMs,
}

impl Query {
    /// Reads a query string that may have these keys.
    pub(crate) fn parse(raw: Option<&str>, allowed: &[&[&str]]) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            let known = allowed.iter().any(|keys| keys.contains(&&*name));
            if !known {
                let detail = format!("unknown parameter; known are {}", allowed.concat().join(", "));
                errors.push(FieldError::new(shown_name(&name), "unknown", detail));
            } else if value.is_empty() {
            } else if found.insert(name.to_string(), value.to_string()).is_some() {
                errors.push(FieldError::new(shown_name(&name), "contradiction", "this stands twice; send it once"));
            }
        }
        if errors.is_empty() { Ok(Self(found)) } else { Err(Problem::fields(errors)) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.get("limit") {
            None => Ok(API_PAGE_DEFAULT),
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=API_PAGE_MAX).contains(limit)).ok_or_else(|| {
                    Problem::field("limit", "invalid", format!("write a number from 1 to {API_PAGE_MAX}"))
                })
            }
        }
    }

    /// `limit` and `cursor`.
    pub(crate) fn window(&self, instance: InstanceId) -> Result<Window, Problem> {
        let limit = self.limit()?;
        let after = match self.get("cursor") {
            None => None,
            Some(text) => {
                let id = text.parse::<DeliveryId>().ok().filter(|id| id.instance == instance);
                let wrong = "this is no cursor; send the one that came with the page before";
                Some(id.ok_or_else(|| Problem::field("cursor", "invalid", wrong))?.key)
            }
        };
        Ok(Window { after, limit })
    }

    pub(crate) fn filter(&self, frame: Frame<'_>) -> Result<DeliveryFilter, Problem> {
        filter(|name| self.get(name), "", frame).map_err(Problem::fields)
    }
}

impl Names {
    pub(crate) fn new(pairs: impl IntoIterator<Item = (DestinationName, DestinationId)>) -> Self {
        let mut names = Self::default();
        for (name, id) in pairs {
            names.by_id.insert(id, name.clone());
            names.by_name.insert(name, id);
        }
        names
    }

    pub(crate) fn id(&self, name: &str) -> Option<DestinationId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, id: DestinationId) -> Option<&DestinationName> {
        self.by_id.get(&id)
    }

    /// The name as text; a number without a name, which only a damaged store has, is shown as `#7`.
    pub(crate) fn shown(&self, id: DestinationId) -> String {
        self.by_id.get(&id).map_or_else(|| format!("#{}", id.0), ToString::to_string)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationName, DestinationId)> {
        self.by_name.iter().map(|(name, id)| (name, *id))
    }
}

/// Reads a filter from texts; `prefix` stands before a key in paths (`$.filter.`).
pub(crate) fn filter<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
    prefix: &str,
    frame: Frame<'_>,
) -> Result<DeliveryFilter, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut wrong =
        |key: &str, detail: String| errors.push(FieldError::new(format!("{prefix}{key}"), "invalid", detail));
    let mut filter = DeliveryFilter::default();
    if let Some(name) = get("destination") {
        filter.destination = frame.names.id(name);
        if filter.destination.is_none() {
            let known: Vec<&str> = frame.names.by_name.keys().map(DestinationName::as_str).collect();
            wrong("destination", format!("there is no destination {name:?}; known are {}", known.join(", ")));
        }
    }
    if let Some(word) = get("status") {
        filter.status = Status::parse(word);
        if filter.status.is_none() {
            wrong("status", format!("not a status; write one of {}", Status::ALL.map(Status::as_str).join(", ")));
        }
    }
    if let Some(name) = get("event") {
        if let Err(error) = name.parse::<CanonicalName>() {
            wrong("event", error.to_string());
        }
        filter.event = Some(name.to_owned());
    }
    for (key, field) in [("since", &mut filter.since), ("until", &mut filter.until)] {
        if let Some(text) = get(key) {
            *field = instant(text, frame.now);
            if field.is_none() {
                let example =
                    "write RFC 3339 with its offset, like 2026-11-21T23:40:38Z, or a span before now, like -2h";
                wrong(key, format!("not a time; {example}"));
            }
        }
    }
    if let Some(text) = get("response_status") {
        filter.response_status = text.parse::<Answered>().ok();
        if filter.response_status.is_none() {
            wrong("response_status", "write a status, like 400, or none where nothing was answered".to_owned());
        }
    }
    if let Some(text) = get("fault") {
        filter.fault = FaultId::parse(text);
        if filter.fault.is_none() {
            wrong("fault", "write the twelve digits that /v1/dlq/groups shows, like 3f9a0c11d2e4".to_owned());
        }
    }
    filter.detail = get("detail").map(str::to_owned);
    filter.uid = get("uid").map(str::to_owned);
    filter.event_id = get("event_id").map(str::to_owned);
    filter.reason = get("reason").map(str::to_owned);
    if errors.is_empty() { Ok(filter) } else { Err(errors) }
}

/// Dead deliveries only: the reason must be one of theirs, a status can only say the same.
pub(crate) fn among_the_dead(filter: &DeliveryFilter, prefix: &str) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    if filter.status.is_some_and(|status| status != Status::FailedPermanently) {
        let detail = "only failed_permanently deliveries are in the DLQ; leave status out";
        errors.push(FieldError::new(format!("{prefix}status"), "invalid", detail));
    }
    let words = DeadReason::ALL.map(DeadReason::as_str);
    if filter.reason.as_deref().is_some_and(|reason| !words.contains(&reason)) {
        let detail = format!("not a reason of the DLQ; write one of {}", words.join(", "));
        errors.push(FieldError::new(format!("{prefix}reason"), "invalid", detail));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// RFC 3339, or `-2h`: that long before `now`.
fn instant(text: &str, now: UnixMs) -> Option<UnixMs> {
    if let Some(span) = text.strip_prefix('-') {
        return DurationMs::parse(span).map(|span| now - span);
    }
    // In a query an unescaped + of an offset arrives as a space.
    UnixMs::parse_rfc3339(text).or_else(|| match text.split_once(' ') {
        Some((time, offset)) if time.contains('T') => UnixMs::parse_rfc3339(&format!("{time}+{offset}")),
        _ => None,
    })
}

fn shown_name(name: &str) -> String {
    crate::domain::message::printable(name.as_bytes(), 100)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::domain::id::EventSeq;

    const NOW: UnixMs = UnixMs(1_795_304_438_000);

    fn names() -> Names {
        Names::new([("meta-eu".parse().unwrap(), DestinationId(3)), ("hook".parse().unwrap(), DestinationId(1))])
    }

    fn filtered(raw: &str) -> Result<DeliveryFilter, Problem> {
        Query::parse(Some(raw), &[&FILTER_KEYS])?.filter(Frame { names: &names(), now: NOW })
    }

    #[test]
    fn a_filter_is_what_its_words_say() {
        let filter = filtered(
            "destination=meta-eu&status=failed&event=deposit&uid=u&event_id=t&reason=tls&since=-2h&until=2026-11-21T23:40:38%2B00:00",
        );
        let wanted = DeliveryFilter {
            destination: Some(DestinationId(3)),
            status: Some(Status::Failed),
            event: Some("deposit".to_owned()),
            uid: Some("u".to_owned()),
            event_id: Some("t".to_owned()),
            reason: Some("tls".to_owned()),
            since: Some(NOW - DurationMs::from_hours(2)),
            until: Some(NOW),
            ..DeliveryFilter::default()
        };
        assert_eq!(filter.unwrap(), wanted);
        assert_eq!(filtered("destination=&status=").unwrap(), DeliveryFilter::default(), "empty is missing");
        assert_eq!(filtered("until=2026-11-22T00:40:38+01:00").unwrap().until, Some(NOW), "a bare + in a query");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for raw in [
            "destination=meta",
            "status=dead",
            "event=a+b",
            "since=yesterday",
            "since=2h",
            "until=-2",
            "since=2026-11-21",
            "foo=1",
            "foo=",
            "status=sent&status=failed",
            "limit=1",
        ] {
            let status = filtered(raw).unwrap_err().into_response().status();
            assert_eq!(status.as_u16(), 422, "{raw}");
        }
    }

    #[test]
    fn pages_have_limits_and_cursors_of_this_store() {
        let instance = InstanceId::from_random(5);
        let window = |raw: &str| Query::parse(Some(raw), &[&["limit", "cursor"]]).unwrap().window(instance);
        assert_eq!(window("").unwrap(), Window { after: None, limit: API_PAGE_DEFAULT });
        assert_eq!(window("limit=1000").unwrap().limit, 1000);
        let key = DeliveryKey { seq: EventSeq(9), destination: DestinationId(2) };
        let cursor = DeliveryId { instance, key };
        assert_eq!(window(&format!("cursor={cursor}")).unwrap().after, Some(key));
        let foreign = DeliveryId { instance: InstanceId::from_random(6), key };
        for raw in ["limit=0", "limit=1001", "limit=x", "limit=-1", "cursor=x", &format!("cursor={foreign}")] {
            assert!(window(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn the_dead_have_their_own_reasons() {
        let told = |raw: &str| among_the_dead(&filtered(raw).unwrap(), "");
        assert!(told("reason=gave_up").is_ok() && told("status=failed_permanently").is_ok() && told("").is_ok());
        assert!(told("reason=tls").is_err() && told("status=failed").is_err());
    }

    #[test]
    fn a_number_without_a_name_is_still_shown() {
        assert_eq!(names().shown(DestinationId(1)), "hook");
        assert_eq!(names().shown(DestinationId(7)), "#7");
        assert_eq!(names().iter().count(), 2);
    }
}
