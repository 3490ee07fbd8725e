//! Shapes that several answers share: the canonical event, a request as it may be shown, ids, times.

use serde::Serialize;
use serde_json::Value;

use crate::domain::delivery::LeftOut;
use crate::domain::delivery::RequestView;
use crate::domain::event::{Event, Object};
use crate::domain::id::{DeliveryId, DeliveryKey, EventId, InstanceId};
use crate::domain::time::UnixMs;
use crate::pipeline::LaneView;

/// A whole canonical event, as the DLQ and the trace show it. It may name people: admin callers only.
#[derive(PartialEq, Debug, Serialize)]
pub(crate) struct EventDto<'a> {
    pub(crate) id: String,
    event: &'a str,
    event_id: Option<&'a str>,
    source: &'a str,
    uid: Option<&'a str>,
    received_at: String,
    occurred_at_ms: u64,
    value: Option<&'a str>,
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_source: Option<&'a str>,
    user: &'a Object,
    click: &'a Object,
    page: &'a Object,
    data: &'a Object,
}

impl<'a> EventDto<'a> {
    pub(crate) fn new(id: EventId, event: &'a Event) -> Self {
        Self {
            id: id.to_string(),
            event: event.canonical.as_str(),
            event_id: event.event_id.as_deref(),
            source: event.source.as_str(),
            uid: event.uid.as_deref(),
            received_at: event.received_at.to_rfc3339(),
            occurred_at_ms: event.occurred_at.time().0,
            value: event.value.as_ref().map(crate::domain::money::Decimal::as_str),
            currency: event.currency.as_ref().map(crate::domain::money::Currency::as_str),
            action_source: event.action_source.as_deref(),
            user: &event.user,
            click: &event.click,
            page: &event.page,
            data: &event.data,
        }
    }
}

/// A field that a request went without, and why.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(crate) struct LeftOutDto<'a> {
    pub(crate) field: &'a str,
    pub(crate) why: &'a str,
}

impl<'a> From<&'a LeftOut> for LeftOutDto<'a> {
    fn from(left: &'a LeftOut) -> Self {
        Self { field: &left.field, why: &left.why }
    }
}

/// An event in few words, as the delivery log shows it.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(crate) struct EventBrief {
    id: String,
    event_id: Option<String>,
    event: String,
}

impl EventBrief {
    pub(crate) fn new(id: EventId, event: &Event) -> Self {
        Self { id: id.to_string(), event_id: event.event_id.clone(), event: event.canonical.to_string() }
    }
}

/// A request, secrets replaced.
#[derive(Debug, Serialize)]
pub(crate) struct RequestDto<'a> {
    method: &'a str,
    url: &'a str,
    headers: Object,
    body: &'a str,
}

/// Headers as an object; a name that stands twice has its values joined, as HTTP allows.
pub(crate) fn request_dto(view: &RequestView) -> RequestDto<'_> {
    let mut headers = Object::new();
    for (name, value) in &view.headers {
        let joined = match headers.get(name).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.clone(),
        };
        headers.insert(name.clone(), joined.into());
    }
    RequestDto { method: &view.method, url: &view.url, headers, body: &view.body }
}

pub(crate) fn event_id(instance: InstanceId, key: DeliveryKey) -> EventId {
    EventId { instance, seq: key.seq }
}

pub(crate) fn delivery_id(instance: InstanceId, key: DeliveryKey) -> String {
    DeliveryId { instance, key }.to_string()
}

/// When what is due at `due` is sent at the earliest. A lane that is throttled or held waits for its own time, one that
/// waits for an operator has none, a pause that ends by itself has its end; `None` is a destination without a lane, whose deliveries are parked.
pub(crate) fn next_attempt(due: Option<UnixMs>, lane: Option<&LaneView>) -> Option<UnixMs> {
    let parked = |lane: &LaneView| match lane.state {
        "paused" => lane.until.is_none(),
        state => matches!(state, "disabled" | "orphaned" | "removed"),
    };
    let lane = lane.filter(|lane| !parked(lane))?;
    due.map(|due| due.max(lane.until.unwrap_or(due)))
}

pub(crate) fn rfc3339(time: Option<UnixMs>) -> Option<String> {
    time.map(UnixMs::to_rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_waits_for_its_lane() {
        let lane = |state, until| LaneView { state, reason: None, until, paused_by: None, in_flight: 0 };
        let at = |lane: Option<LaneView>| next_attempt(Some(UnixMs(10)), lane.as_ref());
        assert_eq!(at(Some(lane("active", None))), Some(UnixMs(10)));
        assert_eq!(at(Some(lane("held", Some(UnixMs(50))))), Some(UnixMs(50)));
        assert_eq!(at(Some(lane("throttled", Some(UnixMs(5))))), Some(UnixMs(10)), "not before its own time");
        assert_eq!(at(Some(lane("paused", Some(UnixMs(70))))), Some(UnixMs(70)));
        for state in ["paused", "disabled", "orphaned", "removed"] {
            assert_eq!(at(Some(lane(state, None))), None, "{state}");
        }
        assert_eq!(at(None), None);
        assert_eq!(next_attempt(None, Some(&lane("active", None))), None);
    }
}
