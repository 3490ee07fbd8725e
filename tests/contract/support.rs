//! Reading fixtures: specs, events and files.

use std::path::PathBuf;

use postbackd::destination::fb_capi::FbCapiSpec;
use postbackd::destination::registry::{Spec, build};
use postbackd::destination::s2s_postback::{OnFailurePattern, S2sMethod, S2sSpec};
use postbackd::destination::webhook::WebhookSpec;
use postbackd::destination::{Adapter, Kind};
use postbackd::domain::event::{Event, Object, OccurredAt};
use postbackd::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
use postbackd::domain::retry::StatusSet;
use postbackd::domain::secret::Secret;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Method;
use serde_json::Value;

fn path(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/contract/fixtures").join(of)
}

pub fn exists(file: &str) -> bool {
    path(file).exists()
}

pub fn json(file: &str) -> Value {
    let text = std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What a folder holds, sorted.
pub fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The case folders of a kind, sorted.
pub fn cases(kind: Kind) -> Vec<String> {
    let folders = names(kind.as_str()).into_iter().filter(|name| !name.contains('.'));
    folders.map(|name| format!("{}/{name}", kind.as_str())).collect()
}

/// `{VERSION}` stands for ours.
pub fn with_version(value: &Value) -> Value {
    serde_json::from_str(&value.to_string().replace("{VERSION}", env!("CARGO_PKG_VERSION"))).unwrap()
}

/// `dlv_0000000500000000000070003`
pub fn delivery_id() -> DeliveryId {
    let key = DeliveryKey { seq: EventSeq(7), destination: DestinationId(3) };
    DeliveryId { instance: InstanceId::from_random(5), key }
}

/// An event as ingest would have made it of this JSON, received two seconds before now.
pub fn event(given: &Value) -> Event {
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let object = |name: &str| given[name].as_object().cloned().unwrap_or_default().into();
    let received_at = UnixMs(1_763_999_998_000);
    Event {
        source: "app".parse().unwrap(),
        canonical: text("event").unwrap().parse().unwrap(),
        event_id: text("event_id"),
        uid: text("uid"),
        occurred_at: given["occurred_at_ms"]
            .as_u64()
            .map_or(OccurredAt::Received(received_at), |ms| OccurredAt::Given(UnixMs(ms))),
        received_at,
        value: text("value").map(|value| value.parse().unwrap()),
        currency: text("currency").map(|currency| currency.parse().unwrap()),
        action_source: text("action_source"),
        user: object("user"),
        click: object("click"),
        page: object("page"),
        data: object("data"),
    }
}

pub fn adapter(kind: Kind, given: &Value) -> Box<dyn Adapter> {
    let spec = match kind {
        Kind::Webhook => Spec::Webhook(webhook(given)),
        Kind::S2sPostback => Spec::S2sPostback(s2s(given)),
        Kind::FbCapi => Spec::FbCapi(fb_capi(given)),
    };
    assert_eq!(spec.kind(), kind);
    build(spec).unwrap_or_else(|wrong| panic!("{given}: {wrong:?}"))
}

fn secret(value: &Value) -> Secret {
    Secret::new(value.as_str().unwrap().to_owned())
}

fn text(given: &Value, name: &str) -> Option<String> {
    given[name].as_str().map(str::to_owned)
}

fn texts(given: &Value) -> Option<Vec<String>> {
    Some(given.as_array()?.iter().map(|value| value.as_str().unwrap().to_owned()).collect())
}

fn members(given: &Value) -> Object {
    given.as_object().cloned().unwrap_or_default()
}

fn webhook(given: &Value) -> WebhookSpec {
    let method = given["method"].as_str().unwrap_or("POST");
    WebhookSpec {
        url: given["url"].as_str().unwrap().parse().unwrap(),
        method: Method::ALL.into_iter().find(|known| known.as_str() == method).unwrap(),
        headers: members(&given["headers"]).iter().map(|(name, value)| (name.clone(), secret(value))).collect(),
        signing_secrets: given["signing_secrets"].as_array().into_iter().flatten().map(secret).collect(),
        include_user: texts(&given["include_user"]).unwrap_or_default(),
        template: text(given, "template"),
        hidden: Vec::new(),
    }
}

fn s2s(given: &Value) -> S2sSpec {
    let ranges = given["expected_status"].as_array().map(|list| {
        let end = |value: &Value, at: usize| u16::try_from(value[at].as_u64().unwrap()).unwrap();
        StatusSet::new(list.iter().map(|range| (end(range, 0), end(range, 1))).collect())
    });
    S2sSpec {
        url_template: text(given, "url_template").unwrap(),
        method: match given["method"].as_str().unwrap_or("get") {
            "get" => S2sMethod::Get,
            "query" => S2sMethod::PostQuery,
            "form" => S2sMethod::PostForm,
            "json" => S2sMethod::PostJson,
            other => panic!("{other}"),
        },
        expected_status: ranges.unwrap_or_else(StatusSet::success),
        success_pattern: text(given, "success_pattern"),
        failure_pattern: text(given, "failure_pattern"),
        on_failure_pattern: match given["on_failure_pattern"].as_str().unwrap_or("permanent") {
            "permanent" => OnFailurePattern::Permanent,
            "retry" => OnFailurePattern::Retry,
            other => panic!("{other}"),
        },
        secrets: members(&given["secrets"]).iter().map(|(name, value)| (name.clone(), secret(value))).collect(),
    }
}

fn fb_capi(given: &Value) -> FbCapiSpec {
    FbCapiSpec {
        pixel_id: text(given, "pixel_id").unwrap_or_else(|| "1234567890".to_owned()),
        access_token: Secret::new("s3cr3t-EAAB/token".to_owned()),
        api_version: "v26.0".to_owned(),
        base_url: text(given, "base_url").unwrap_or_else(|| "https://graph.facebook.com".to_owned()).parse().unwrap(),
        test_event_code: text(given, "test_event_code"),
        action_source: text(given, "action_source"),
        external_id_from_uid: given["external_id_from_uid"].as_bool().unwrap_or(true),
        batch: 50,
        batch_wait: DurationMs::from_secs(1),
        data_processing_options: texts(&given["data_processing_options"]),
        data_processing_options_country: given["data_processing_options_country"].as_i64(),
        data_processing_options_state: given["data_processing_options_state"].as_i64(),
        hidden: Vec::new(),
    }
}
