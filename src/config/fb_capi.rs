//! The keys of `fb_capi`: a pixel, a token, and what Meta should be told beside the events.

use url::Url;

use super::endpoint::Judge;
use super::findings::{Reading, shown};
use super::kinds::{open_or_secret, url};
use super::raw::Value;
use super::secret_source::{self, Ends, Form};
use super::section::{Section, Whole, text_of};
use super::server::narrow;
use crate::destination::fb_capi::FbCapiSpec;
use crate::domain::secret::Secret;
use crate::domain::time::DurationMs;

const BASE_URL: &str = "https://graph.facebook.com";
const API_VERSION: &str = "v26.0";
const BATCH_DEFAULT: u64 = 50;
/// Meta takes at most this many events in one request (platforms.md 0).
const BATCH_MAX: u64 = 1000;
const BATCH_WAIT_DEFAULT: DurationMs = DurationMs::from_secs(1);
const BATCH_WAIT_MAX: DurationMs = DurationMs::from_secs(60);
/// platforms.md 1.2
const ACTION_SOURCES: [&str; 9] = [
    "email",
    "website",
    "app",
    "phone_call",
    "chat",
    "physical_store",
    "system_generated",
    "business_messaging",
    "other",
];

/// Meta's window for events (platforms.md 0): 7 days, and 62 for what happened in a shop.
pub(crate) fn window(spec: &FbCapiSpec) -> DurationMs {
    DurationMs::from_days(if spec.action_source.as_deref() == Some("physical_store") { 62 } else { 7 })
}

pub(crate) fn read(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<FbCapiSpec> {
    let mut hidden = Vec::new();
    let pixel_id = pixel_id(section, &mut hidden, cx);
    let example =
        "access_token = { file = \"/etc/postbackd/meta.token\" } (Events Manager, Settings, Generate access token)";
    let node = section.required("access_token", example, cx);
    let key = section.key("access_token");
    let token = node.and_then(|node| secret_source::read(node, &key, Form::Token, Ends::Never, cx));
    let api_version = api_version(section, cx);
    let base_url = base_url(section, judge, cx);
    let test_event_code = match section.node("test_event_code", cx) {
        Some(node) => {
            let key = section.key("test_event_code");
            let detail = "is set: events show under Test Events and may not count; remove it to go live";
            cx.warn(&node.at, key.as_str(), detail);
            open_or_secret(node, &key, &mut hidden, cx)
        }
        None => None,
    };
    let action_source = section.choice("action_source", &ACTION_SOURCES.map(|word| (word, word)), cx);
    let external_id_from_uid = section.boolean("external_id_from_uid", true, cx);
    let batch = section.whole("batch", &Whole { bounds: 1..=BATCH_MAX, default: BATCH_DEFAULT }, cx);
    let batch_wait = batch_wait(section, cx);
    let options = section.texts("data_processing_options", cx);
    let country = whole_if(section, "data_processing_options_country", cx);
    let state = whole_if(section, "data_processing_options_state", cx);
    // What is missing or wrong is a problem already; something stands in for it, and the other keys are judged all the same.
    let stand_in = || "stand-in".to_owned();
    Some(FbCapiSpec {
        pixel_id: pixel_id.unwrap_or_else(stand_in),
        access_token: token.map_or_else(|| Secret::new(stand_in()), |found| found.secret),
        api_version,
        base_url: base_url.or_else(|| Url::parse(BASE_URL).ok())?,
        test_event_code,
        action_source: action_source.map(str::to_owned),
        external_id_from_uid,
        batch: narrow(batch),
        batch_wait,
        data_processing_options: options.map(|all| all.into_iter().map(|(text, _)| text.to_owned()).collect()),
        data_processing_options_country: country,
        data_processing_options_state: state,
        hidden,
    })
}

fn pixel_id(section: &mut Section<'_>, hidden: &mut Vec<Secret>, cx: &mut Reading<'_>) -> Option<String> {
    let node = section.required("pixel_id", "pixel_id = \"1234567890\" (Events Manager, Data sources)", cx)?;
    let key = section.key("pixel_id");
    if let Value::Integer(number) = &node.value {
        cx.problem(&node.at, key, format!("is a number; write it in quotes: \"{number}\""));
        return None;
    }
    let text = open_or_secret(node, &key, hidden, cx)?;
    if text.len() > 32 || !text.bytes().all(|b| b.is_ascii_digit()) {
        cx.problem(&node.at, key, "is not a pixel or dataset id; write its digits in quotes, like \"1234567890\"");
        return None;
    }
    Some(text)
}

fn api_version(section: &mut Section<'_>, cx: &mut Reading<'_>) -> String {
    let Some(text) = section.text("api_version", cx) else { return API_VERSION.to_owned() };
    let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let numbers = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    if !numbers.is_some_and(|(major, minor)| digits(major) && digits(minor)) {
        let place = section.place("api_version");
        let detail = format!("{} is not a version of Meta's API; write one like \"{API_VERSION}\"", shown(text));
        cx.problem(&place, section.key("api_version"), detail);
    }
    text.to_owned()
}

fn base_url(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Url> {
    let Some(node) = section.node("base_url", cx) else { return Url::parse(BASE_URL).ok() };
    let key = section.key("base_url");
    let text = text_of(node, &key, cx)?;
    let base = url(text, node, &key, judge, cx)?;
    if base.query().is_some() || base.fragment().is_some() {
        cx.problem(&node.at, key, format!("holds ? or #; write the address alone, like \"{BASE_URL}\""));
        return None;
    }
    Some(base)
}

fn batch_wait(section: &mut Section<'_>, cx: &mut Reading<'_>) -> DurationMs {
    let wait = section.duration("batch_wait", BATCH_WAIT_DEFAULT, cx);
    if wait > BATCH_WAIT_MAX {
        let place = section.place("batch_wait");
        let detail = format!("{wait} would hold events back for long; write \"{BATCH_WAIT_MAX}\" or less");
        cx.problem(&place, section.key("batch_wait"), detail);
    }
    wait
}

fn whole_if(section: &mut Section<'_>, key: &'static str, cx: &mut Reading<'_>) -> Option<i64> {
    let node = section.node(key, cx)?;
    let number = if let Value::Integer(number) = &node.value { i64::try_from(*number).ok() } else { None };
    if number.is_none() {
        cx.wrong_type(&node.at, section.key(key), &node.value, "a whole number without quotes, like 0 or 1");
    }
    number
}
