//! One event as Meta wants it, or why it cannot be sent.

use serde_json::{Map, Value};

use super::{ACTION_SOURCES, custom_data, user_data};
use crate::destination::{LeftOut, Outgoing, Unsendable};
use crate::domain::event::Event;
use crate::domain::outcome::DeadReason;
use crate::domain::time::{DurationMs, UnixMs};

/// Older events make Meta refuse the whole request (platforms.md 1.5).
const WINDOW: DurationMs = DurationMs::from_days(7);
/// The same for `action_source = "physical_store"`.
const WINDOW_STORE: DurationMs = DurationMs::from_days(62);
/// A clock may run this far ahead of ours and the event counts as happening now.
const SKEW: DurationMs = DurationMs::from_secs(60);

/// Members of `data` that Meta wants beside `custom_data`, not in it.
pub(super) const EVENT_LEVEL: [&str; 6] = [
    "app_data",
    "original_event_data",
    "attribution_data",
    "opt_out",
    "messaging_channel",
    "advanced_measurement_table",
];

/// What the destination says about all its events.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub action_source: Option<String>,
    pub external_id_from_uid: bool,
    pub data_processing_options: Option<Vec<String>>,
    pub data_processing_options_country: Option<i64>,
    pub data_processing_options_state: Option<i64>,
}

/// Builds the event and lists what was left out or will be missed.
pub(super) fn build(
    delivery: &Outgoing<'_>,
    settings: &Settings,
    now: UnixMs,
) -> Result<(Map<String, Value>, Vec<LeftOut>), Unsendable> {
    let event = delivery.event;
    let action_source = action_source(event, settings)?;
    let event_time = event_time(event, action_source, now)?;
    let mut left_out = Vec::new();
    let user_data = user_data::build(event, settings.external_id_from_uid, &mut left_out);
    user_data::check_usable(&user_data)?;
    let custom_data = custom_data::build(event, &mut left_out);
    warn(delivery, action_source, &user_data, &custom_data, &mut left_out);

    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("event_name", delivery.target.as_str().into());
    put("event_time", event_time.into());
    put("event_id", event.event_id.clone().unwrap_or_else(|| delivery.id.to_string()).into());
    put("action_source", action_source.into());
    for (name, path) in [("event_source_url", "page.url"), ("referrer_url", "page.referrer")] {
        if let Some(text) = event.field(path) {
            put(name, text.into());
        }
    }
    put("user_data", user_data.into());
    if !custom_data.is_empty() {
        put("custom_data", custom_data.into());
    }
    for name in EVENT_LEVEL {
        if let Some(value) = event.data.get(name).filter(|value| !value.is_null()) {
            put(name, value.clone());
        }
    }
    if let Some(options) = &settings.data_processing_options {
        put("data_processing_options", options.clone().into());
        let details = [
            ("data_processing_options_country", settings.data_processing_options_country),
            ("data_processing_options_state", settings.data_processing_options_state),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                put(name, value.into());
            }
        }
    }
    Ok((out, left_out))
}

/// The event's, else the destination's, else `website` where something only a browser has is there (SPEC 8.2).
fn action_source<'a>(event: &'a Event, settings: &'a Settings) -> Result<&'a str, Unsendable> {
    if let Some(own) = event.action_source.as_deref() {
        return ACTION_SOURCES.iter().find(|known| **known == own).copied().ok_or_else(|| {
            invalid(format!("action_source \"{own}\" is none Meta knows; send one of {}", ACTION_SOURCES.join(", ")))
        });
    }
    if let Some(configured) = settings.action_source.as_deref() {
        return Ok(configured);
    }
    let browser = ["page.url", "user.fbc", "user.fbp", "click.fbclid"];
    let website = browser.iter().any(|path| event.field(path).is_some());
    Ok(if website { "website" } else { "system_generated" })
}

/// Seconds since 1970, at most `now`.
fn event_time(event: &Event, action_source: &str, now: UnixMs) -> Result<u64, Unsendable> {
    let occurred = event.occurred_at.time();
    if occurred > now + SKEW {
        return Err(invalid(format!(
            "occurred_at_ms is {occurred}, {} in the future; Meta refuses events that have not happened",
            occurred.since(now)
        )));
    }
    let window = if action_source == "physical_store" { WINDOW_STORE } else { WINDOW };
    if now.since(occurred) > window {
        let detail = format!("occurred_at_ms is {occurred}, more than {window} ago; Meta refuses older events");
        return Err(Unsendable { reason: DeadReason::Expired, detail });
    }
    Ok(occurred.min(now).seconds())
}

/// What Meta asks for and may refuse the event without; sent anyway, since the answer decides.
fn warn(
    delivery: &Outgoing<'_>,
    action_source: &str,
    user_data: &Map<String, Value>,
    custom_data: &Map<String, Value>,
    left_out: &mut Vec<LeftOut>,
) {
    let mut missing = |field: &str, why: &str| {
        left_out.push(LeftOut { field: field.to_owned(), why: why.to_owned() });
    };
    if action_source == "website" {
        if !user_data.contains_key("client_user_agent") {
            missing("user.user_agent", "is missing; Meta asks for it where action_source is website");
        }
        if delivery.event.field("page.url").is_none() {
            missing("page.url", "is missing; Meta asks for it where action_source is website");
        }
    }
    if delivery.target.as_str() == "Purchase" {
        for field in ["value", "currency"] {
            if !custom_data.contains_key(field) {
                missing(field, "is missing; Meta asks for value and currency with a Purchase");
            }
        }
    }
}

pub(super) fn invalid(detail: String) -> Unsendable {
    Unsendable { reason: DeadReason::Invalid, detail }
}
