//! What stands between a valid configuration and live traffic, for `postbackd check`.
//!
//! Each destination renders one example event, and the request it would send is looked at: what is told is what would
//! happen, not what a setting is called.

use serde_json::Value;

use super::snapshot::{Destination, Snapshot};
use crate::destination::{Kind, Outgoing, PreparedRequest};
use crate::domain::event::{Event, Object, OccurredAt};
use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
use crate::domain::name::{CanonicalName, SourceName};
use crate::domain::net::AllowPrivate;
use crate::domain::time::UnixMs;

/// Names the platforms' default maps know (platforms.md 0.1).
const WELL_KNOWN: [&str; 9] =
    ["contact", "subscribed", "registration", "deposit", "purchase", "lead", "add_to_cart", "checkout", "page_view"];

/// One line for each thing worth a look before going live; empty where there is nothing.
pub fn checklist(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, destination) in &snapshot.destinations {
        let notes = if destination.enabled {
            of_destination(destination, snapshot.loaded_at)
        } else {
            vec!["is disabled: its events are recorded as skipped; write enabled = true to go live".to_owned()]
        };
        lines.extend(notes.into_iter().map(|note| format!("destinations.{name} {note}")));
    }
    lines
}

fn of_destination(destination: &Destination, now: UnixMs) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(unmapped(destination));
    if destination.network.allow_private == AllowPrivate::All {
        notes.push(
            "may reach every private address; name the networks instead: allow_private = [\"10.0.0.0/8\"]".to_owned(),
        );
    }
    if destination.network.is_named_to_a_proxy() {
        let why = "names are resolved by the proxy; the address guard sees names and literals only";
        notes.push(format!("goes through a proxy: {why} (socks5:// resolves here)"));
    }
    if let Some(prepared) = example(destination, now) {
        notes.extend(of_request(destination.kind, &prepared));
    }
    notes
}

/// Well-known names this destination does not take.
fn unmapped(destination: &Destination) -> Option<String> {
    let missing: Vec<&str> = WELL_KNOWN
        .into_iter()
        .filter(|name| {
            let canonical: Option<CanonicalName> = name.parse().ok();
            canonical.is_some_and(|name| destination.events.target(&name, destination.adapter.as_ref()).is_none())
        })
        .collect();
    let all = missing.join(", ");
    (!missing.is_empty()).then(|| format!("does not take {all}; map them in events if your application sends them"))
}

/// What an ordinary deposit would look like at this destination, if it takes one of the well-known names.
fn example(destination: &Destination, now: UnixMs) -> Option<PreparedRequest> {
    let adapter = destination.adapter.as_ref();
    let found = WELL_KNOWN.into_iter().find_map(|name| {
        let canonical: CanonicalName = name.parse().ok()?;
        let target = destination.events.target(&canonical, adapter)?;
        Some((canonical, target))
    });
    let (canonical, target) = found?;
    let event = sample(canonical, now)?;
    let key = DeliveryKey { seq: EventSeq(0), destination: DestinationId(0) };
    let id = DeliveryId { instance: InstanceId::from_random(0), key };
    let outgoing = Outgoing { id, target: &target, event: &event };
    adapter.prepare(&[outgoing], now).request
}

fn of_request(kind: Kind, prepared: &PreparedRequest) -> Vec<String> {
    let request = &prepared.request;
    let mut notes = Vec::new();
    let signed = request.headers.iter().any(|(name, _)| name == "webhook-signature");
    if kind == Kind::Webhook && !signed {
        let why = "the receiver cannot tell its requests from a stranger's";
        notes.push(format!("does not sign its requests: {why}; add signing_secrets"));
    }
    if request.url.scheme() == "http" {
        notes.push("sends over http: what it sends can be read on the way; write https".to_owned());
    }
    let test = kind == Kind::FbCapi && String::from_utf8_lossy(&request.body).contains("test_event_code");
    if test {
        notes.push("sends a test_event_code: events may not count; remove it to go live".to_owned());
    }
    notes
}

fn sample(canonical: CanonicalName, now: UnixMs) -> Option<Event> {
    let object = |pairs: &[(&str, &str)]| -> Object {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    };
    Some(Event {
        source: "example".parse::<SourceName>().ok()?,
        canonical,
        event_id: Some("example-1".to_owned()),
        uid: Some("example-user".to_owned()),
        occurred_at: OccurredAt::Given(now),
        received_at: now,
        value: "25.00".parse().ok(),
        currency: "USD".parse().ok(),
        action_source: None,
        user: object(&[("email", "jane@example.com"), ("ip", "8.8.8.8"), ("user_agent", "Mozilla/5.0")]),
        click: object(&[("fbclid", "example-click")]),
        page: object(&[("url", "https://shop.example.com/thanks")]),
        data: Object::new(),
    })
}
