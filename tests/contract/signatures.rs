//! What the webhook adapter signs, verified by the scheme's own implementation. It reads the real clock, as receivers do.

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use postbackd::destination::{Adapter, Kind, Outgoing};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Request;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::support;

const CURRENT: &str = "whsec_XyoLjSectKZBLBPZtq95ywqOE+u+tsa4Fs7mA5Aibg8=";
const PREVIOUS: &str = "whsec_Zb2nSCU7pCmBD4TvA18cM8qFfg0ihMwsqZSLM5Lhi3Y=";
const STRANGER: &str = "whsec_QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0=";

/// Longer than the five minutes that receivers allow.
const TOO_LONG: DurationMs = DurationMs::from_secs(310);

#[expect(clippy::disallowed_methods, reason = "the verifier compares with the real clock")]
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMs(u64::try_from(since.as_millis()).unwrap())
}

fn webhook(secrets: &[&str], template: Option<&str>) -> Box<dyn Adapter> {
    let spec = json!({"url": "https://hook.example/in", "signing_secrets": secrets, "template": template});
    support::adapter(Kind::Webhook, &spec)
}

/// The request of one attempt made at `at`.
fn attempt(adapter: &dyn Adapter, at: UnixMs) -> Request {
    let event = support::event(&json!({
        "event": "deposit", "event_id": "заказ-1", "uid": "a\"b\\c\n", "value": "25.00", "currency": "EUR",
        "click": {"campaign_name": "Лето — 夏 🎉"}, "data": {"note": "\u{7f}\u{2028}</script>"},
    }));
    let target = "Сделка".parse().unwrap();
    let prepared = adapter.prepare(&[Outgoing { id: support::delivery_id(), target: &target, event: &event }], at);
    prepared.request.unwrap().request
}

fn headers(request: &Request) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    request.headers.iter().map(pair).collect()
}

fn verifies(secret: &str, body: &[u8], headers: &HeaderMap) -> bool {
    Webhook::new(secret).unwrap().verify(body, headers).is_ok()
}

#[test]
fn every_body_verifies_with_the_scheme_s_own_implementation() {
    for template in [None, Some("{\n  \"note\": \"{data.note}\", \"all\": {json:click}\n}\n")] {
        let request = attempt(webhook(&[CURRENT], template).as_ref(), now());
        assert!(verifies(CURRENT, &request.body, &headers(&request)));
        assert!(!verifies(STRANGER, &request.body, &headers(&request)));
    }
}

#[test]
fn during_a_rotation_both_secrets_verify() {
    let request = attempt(webhook(&[CURRENT, PREVIOUS], None).as_ref(), now());
    for (secret, good) in [(CURRENT, true), (PREVIOUS, true), (STRANGER, false)] {
        assert_eq!(verifies(secret, &request.body, &headers(&request)), good, "{secret}");
    }
    let after = attempt(webhook(&[CURRENT], None).as_ref(), now());
    assert!(!verifies(PREVIOUS, &after.body, &headers(&after)), "the old secret was taken out");
}

#[test]
fn a_retry_keeps_the_id_and_has_a_stamp_of_its_own() {
    let adapter = webhook(&[CURRENT], None);
    let now = now();
    let first = attempt(adapter.as_ref(), UnixMs(now.0 - TOO_LONG.0));
    let retry = attempt(adapter.as_ref(), now);
    let (old, new) = (headers(&first), headers(&retry));
    assert!(!verifies(CURRENT, &first.body, &old), "the first attempt's stamp is too old by now");
    assert!(verifies(CURRENT, &retry.body, &new));
    assert_eq!(new["webhook-id"], support::delivery_id().to_string());
    assert_eq!(old["webhook-id"], new["webhook-id"]);
    assert_eq!(first.body, retry.body);
    for changed in ["webhook-timestamp", "webhook-signature"] {
        assert_ne!(old[changed], new[changed], "{changed}");
    }
}

#[test]
fn nothing_signed_can_be_changed_unnoticed() {
    let request = attempt(webhook(&[CURRENT, PREVIOUS], None).as_ref(), now());
    let good = headers(&request);
    let mut body = request.body.clone();
    *body.last_mut().unwrap() = b' ';
    assert!(!verifies(CURRENT, &body, &good), "the body");
    let stamp: u64 = good["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    for (name, value) in
        [("webhook-id", "dlv_0000000500000000000070004".to_owned()), ("webhook-timestamp", (stamp - 1).to_string())]
    {
        let mut changed = good.clone();
        changed.insert(name, HeaderValue::from_str(&value).unwrap());
        assert!(!verifies(CURRENT, &request.body, &changed), "{name}");
    }
}
