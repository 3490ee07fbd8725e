//! Shapes that several answers share: the canonical event, a delivery, the names of destinations.

use serde::Serialize;

use crate::domain::event::{Event, Object};
use crate::domain::id::{DeliveryId, DeliveryKey, EventId, InstanceId};
use crate::domain::time::UnixMs;
use crate::pipeline::{LaneView, Pipeline};

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

pub(crate) fn event_id(instance: InstanceId, key: DeliveryKey) -> EventId {
    EventId { instance, seq: key.seq }
}

pub(crate) fn delivery_id(instance: InstanceId, key: DeliveryKey) -> String {
    DeliveryId { instance, key }.to_string()
}

/// When a delivery that is due at `due` will be tried at the earliest, by the state of its destination; `None` where that
/// waits for an operator.
pub(crate) fn next_attempt(due: Option<UnixMs>, lane: Option<&LaneView>) -> Option<UnixMs> {
    let due = due?;
    match lane {
        Some(LaneView { state: "paused" | "disabled" | "orphaned", .. }) => None,
        Some(LaneView { until: Some(until), .. }) => Some(due.max(*until)),
        Some(LaneView { until: None, .. }) | None => Some(due),
    }
}

/// [`next_attempt`] by the name of the destination and the time the delivery is due, as things stand now.
pub(crate) fn forecast(pipeline: &Pipeline) -> impl Fn(&str, Option<UnixMs>) -> Option<UnixMs> {
    let (lanes, snapshot) = (pipeline.lanes(), pipeline.snapshot());
    move |name, due| {
        // What is no longer configured waits for its name to return.
        let due = due.filter(|_| snapshot.destinations.contains_key(name));
        next_attempt(due, lanes.get(name))
    }
}

pub(crate) fn rfc3339(time: Option<UnixMs>) -> Option<String> {
    time.map(UnixMs::to_rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_not_due_before_its_destination_is() {
        let lane = |state, until: Option<u64>| LaneView { state, reason: None, until: until.map(UnixMs), in_flight: 0 };
        let next =
            |due: Option<u64>, lane: Option<LaneView>| next_attempt(due.map(UnixMs), lane.as_ref()).map(|at| at.0);
        assert_eq!(next(Some(5), None), Some(5));
        assert_eq!(next(Some(5), Some(lane("active", None))), Some(5));
        assert_eq!(next(Some(5), Some(lane("held", Some(9)))), Some(9));
        assert_eq!(next(Some(5), Some(lane("throttled", Some(3)))), Some(5));
        assert_eq!(next(Some(5), Some(lane("disabled", None))), None);
        assert_eq!(next(None, Some(lane("held", Some(9)))), None);
    }
}
