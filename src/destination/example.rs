//! An ordinary event, for looking at a destination before anything real is sent: `check` renders it for its checklist,
//! a test send puts its mark on it and sends it.

use serde_json::Value;

use super::Adapter;
use super::event_map::EventMap;
use crate::domain::event::{Event, OccurredAt};
use crate::domain::json_object::JsonObject;
use crate::domain::name::{CanonicalName, SourceName, TargetName};
use crate::domain::time::UnixMs;

/// Names the platforms' default maps know (platforms.md 0.1), the most telling first: a deposit carries a value.
pub const WELL_KNOWN: [&str; 9] =
    ["deposit", "purchase", "registration", "subscribed", "lead", "contact", "add_to_cart", "checkout", "page_view"];

/// Further names that some platform's default map knows.
pub const LESS_KNOWN: [&str; 3] = ["view_content", "search", "trial"];

/// The first of the well-known names, else of the configured ones, that the destination takes.
pub fn choice(events: &EventMap, adapter: &dyn Adapter) -> Option<(CanonicalName, TargetName)> {
    let known = WELL_KNOWN.into_iter().filter_map(|name| name.parse().ok());
    known.chain(events.names().cloned()).find_map(|name: CanonicalName| {
        let target = events.target(&name, adapter)?;
        Some((name, target))
    })
}

/// An event with everything a tracker with a page of its own usually knows. `word` begins what is made up (`test-user`).
pub fn whole(word: &str, event_id: Option<String>, canonical: CanonicalName, source: SourceName, now: UnixMs) -> Event {
    let object = |pairs: &[(&str, &str)]| -> JsonObject {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    };
    Event {
        user: object(&[("email", "jane@example.com"), ("ip", "8.8.8.8"), ("user_agent", "Mozilla/5.0")]),
        click: object(&[("fbclid", &format!("{word}-click")), ("campaign_id", &format!("{word}-campaign"))]),
        page: object(&[("url", "https://shop.example.com/thanks")]),
        ..bare(word, event_id, canonical, source, now)
    }
}

/// An event with what a network's postback brings: ids, a value, and nobody's data.
pub fn bare(word: &str, event_id: Option<String>, canonical: CanonicalName, source: SourceName, now: UnixMs) -> Event {
    Event {
        source,
        canonical,
        event_id,
        uid: Some(format!("{word}-user")),
        occurred_at: OccurredAt::Received(now),
        received_at: now,
        value: "25.00".parse().ok(),
        currency: "USD".parse().ok(),
        action_source: None,
        user: JsonObject::default(),
        click: JsonObject::default(),
        page: JsonObject::default(),
        data: JsonObject::default(),
    }
}
