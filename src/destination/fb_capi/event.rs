//! One event as Meta wants it, or why it cannot be sent.

use serde_json::{Map, Value};

use super::requirements::{self, Made};
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
pub(super) const EVENT_LEVEL: [&str; 9] = [
    "app_data",
    "original_event_data",
    "attribution_data",
    "opt_out",
    "messaging_channel",
    "advanced_measurement_table",
    "data_processing_options",
    "data_processing_options_country",
    "data_processing_options_state",
];

/// Those of them that [`processing`] reads.
const PROCESSING: [&str; 3] =
    ["data_processing_options", "data_processing_options_country", "data_processing_options_state"];

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
    let made = Made { delivery, action_source, user_data: &user_data, custom_data: &custom_data };
    requirements::check(made, &mut left_out)?;
    let processing = processing(event, settings)?;

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
    for name in EVENT_LEVEL.into_iter().filter(|name| !PROCESSING.contains(name)) {
        if let Some(value) = event.data.get(name).filter(|value| !value.is_null()) {
            put(name, value.clone());
        }
    }
    for (name, value) in processing {
        put(name, value);
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

/// Limited data use: the event's own where it has any, since it is a person's choice, else the destination's. One that cannot
/// be read stops the event, because sending it without would ignore that choice.
fn processing(event: &Event, settings: &Settings) -> Result<Vec<(&'static str, Value)>, Unsendable> {
    let [options, country, state] = PROCESSING;
    let own = |name: &str| event.data.get(name).filter(|value| !value.is_null()).cloned();
    let (list, details) = match own(options) {
        Some(list) => (Some(list), [(country, own(country)), (state, own(state))]),
        None => (
            settings.data_processing_options.clone().map(Value::from),
            [
                (country, settings.data_processing_options_country.map(Value::from)),
                (state, settings.data_processing_options_state.map(Value::from)),
            ],
        ),
    };
    let Some(list) = list else { return Ok(Vec::new()) };
    let known = list.as_array().is_some_and(|list| list.iter().all(|option| option == "LDU"));
    if !known {
        return Err(invalid(format!("data.{options} is none Meta knows; send [\"LDU\"] or []")));
    }
    let mut out = vec![(options, list)];
    for (name, value) in details {
        match value {
            Some(value) if value.is_i64() => out.push((name, value)),
            Some(_) => return Err(invalid(format!("data.{name} is not a whole number; send one like 0 or 1"))),
            None => {}
        }
    }
    Ok(out)
}

pub(super) fn invalid(detail: String) -> Unsendable {
    Unsendable { reason: DeadReason::Invalid, detail }
}
