//! What matters to one kind of destination before it goes live.

use serde_json::Value;

use super::{Entry, looks_made_up, takes};
use crate::config::snapshot::Destination;
use crate::destination::{Kind, LeftOut, PreparedRequest, Unsendable, example};

/// Members of `click` that say where a click came from, not which it was.
const NOT_A_CLICK: [&str; 9] = [
    "campaign_id",
    "campaign_name",
    "adset_id",
    "adset_name",
    "ad_id",
    "ad_name",
    "placement",
    "country",
    "clicked_at_ms",
];

/// Looks at the request of a whole example event, and at that of one without anybody's data.
pub(super) fn look(
    destination: &Destination,
    whole: &PreparedRequest,
    bare: Result<&(PreparedRequest, Vec<LeftOut>), &Unsendable>,
    entry: &mut Entry,
) {
    match destination.kind {
        Kind::Webhook => entry.open.extend(unsigned(whole)),
        Kind::S2sPostback => entry.open.extend(macros(destination, whole)),
        Kind::FbCapi => fb_capi(whole, bare, entry),
    }
}

fn unsigned(whole: &PreparedRequest) -> Option<String> {
    let signed = whole.request.headers.iter().any(|(name, _)| name == "webhook-signature");
    let why = "the receiver cannot tell its requests from a stranger's";
    (!signed).then(|| format!("does not sign its requests: {why}; add signing_secrets"))
}

fn macros(destination: &Destination, whole: &PreparedRequest) -> Vec<String> {
    let macros = destination.adapter.url_macros();
    let has = |wanted: &dyn Fn(&str) -> bool| macros.iter().any(|name| wanted(name));
    let is_data = |name: &str| name.starts_with("data.");
    let is_click = |name: &str| match name.strip_prefix("click.") {
        Some(member) => !NOT_A_CLICK.contains(&member),
        None => matches!(name, "uid" | "tg_id" | "fbclid"),
    };
    let mut notes = Vec::new();
    if !has(&|name| is_click(name) || is_data(name)) {
        notes.push(
            "sends no click id: the network cannot tell whose conversion it is; add {uid} or {click.NAME}".to_owned(),
        );
    }
    if !has(&|name| matches!(name, "event_id" | "delivery_id") || is_data(name)) {
        let why = "the network cannot tell a repeat from a second conversion";
        notes.push(format!("sends no transaction id: {why}; add {{event_id}}"));
    }
    let several = example::WELL_KNOWN.into_iter().filter(|name| takes(destination, name)).count() > 1;
    if several && !has(&|name| matches!(name, "event" | "canonical")) {
        let remedy = "add {event}, or let one event through with when = { event = \"deposit\" }";
        let by_when = destination.when.iter().any(|condition| matches!(condition.path.as_str(), "event" | "canonical"));
        if !by_when {
            notes.push(format!("says the same of a lead as of a deposit; {remedy}"));
        }
    }
    let view = super::view(destination, whole);
    let written = view.url.to_ascii_lowercase() + &view.body.to_ascii_lowercase();
    if has(&|name| name == "value") && !has(&|name| name == "currency") && !written.contains("cur") {
        notes.push(
            "sends {value} without a currency; add {currency}, or make sure that all your values are in the network's"
                .to_owned(),
        );
    }
    notes
}

fn fb_capi(whole: &PreparedRequest, bare: Result<&(PreparedRequest, Vec<LeftOut>), &Unsendable>, entry: &mut Entry) {
    let body = json(whole);
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let pixel = whole.request.url.path_segments().and_then(|mut path| path.nth_back(1)).unwrap_or_default();
    if is_made_up(pixel) {
        entry.open.push(format!("has the pixel_id {pixel} of an example; copy yours from Meta's Events Manager"));
    }
    if looks_made_up(text("access_token")) {
        let remedy = "generate one in Meta's Events Manager, Settings";
        entry.open.push(format!("has an access_token that looks like the one of an example; {remedy}"));
    }
    if !text("test_event_code").is_empty() {
        entry.open.push("sends a test_event_code: events may not count; remove it to go live".to_owned());
    }
    let with_browser = action_source(&body);
    match bare {
        Ok((request, left_out)) => {
            let without = action_source(&json(request));
            entry.facts.push(if with_browser == without {
                format!("action_source is {without} unless the event says another")
            } else {
                format!(
                    "action_source is {with_browser} where the event has a page or a browser's click, else {without}"
                )
            });
            let fields = ["email", "phone", "ip", "user_agent"].map(|name| format!("user.{name}")).join(", ");
            entry.facts.push(format!(
                "an event with nobody's data is matched by its uid alone; send {fields}, click.fbclid where you have them"
            ));
            let lacks: Vec<String> = left_out.iter().map(|LeftOut { field, why }| format!("{field} {why}")).collect();
            if !lacks.is_empty() {
                entry.open.push(format!("may lose events that have only ids and a value: {}", lacks.join("; ")));
            }
        }
        Err(unsendable) => {
            entry.open.push(format!("refuses events that have only ids and a value: {}", unsendable.detail));
        }
    }
}

fn json(prepared: &PreparedRequest) -> Value {
    serde_json::from_slice(&prepared.request.body).unwrap_or_default()
}

fn action_source(body: &Value) -> String {
    body.pointer("/data/0/action_source").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Digits that count up from 1, or one digit over and over.
fn is_made_up(pixel: &str) -> bool {
    let counted = "1234567890".bytes().cycle();
    let same = |digit: u8| pixel.bytes().all(|byte| byte == digit);
    pixel.bytes().zip(counted).all(|(byte, next)| byte == next) || pixel.bytes().next().is_some_and(same)
}
