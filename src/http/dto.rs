//! Shapes that several answers share: the canonical event, a delivery, the names of destinations.

use serde::Serialize;

use crate::domain::event::{Event, Object};
use crate::domain::id::{DeliveryId, DeliveryKey, EventId, InstanceId};
use crate::domain::time::UnixMs;

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

pub(crate) fn rfc3339(time: Option<UnixMs>) -> Option<String> {
    time.map(UnixMs::to_rfc3339)
}
