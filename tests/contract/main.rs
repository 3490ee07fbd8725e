//! The contract of every kind of destination, as fixtures.
//!
//! `fixtures/<kind>/<case>/` holds `spec.json`, `event.json` and either `request.json` (what goes out, letter by letter)
//! or `refused.json` (why nothing does). `fixtures/<kind>/answers.json` holds groups of a spec and a table of answers with
//! their verdicts; `"any_status": true` in a row says that the HTTP status changes nothing. Every secret in a spec begins with `s3cr3t`: that text may be on the wire and nowhere else.
//!
//! The expected digests and signatures were made by other programs than the one under test.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fixture that cannot be read is a failed test, and JSON is matched by what a fixture may hold"
)]

mod signatures;
mod support;
mod templates;

use std::collections::BTreeSet;

use postbackd::destination::{Adapter, JudgeContext, Kind, Outgoing, Prepared};
use postbackd::domain::name::TargetName;
use postbackd::domain::outcome::Verdict;
use postbackd::domain::retry::StatusSet;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Answer;
use serde_json::Value;

/// 2025-11-24T16:00:00Z
const NOW: UnixMs = UnixMs(1_764_000_000_000);

#[test]
fn every_kind_has_cases_and_answers() {
    let known: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let found: BTreeSet<String> = support::names("").into_iter().collect();
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), known, "one fixtures folder per kind");
    for kind in known {
        let names = support::names(kind);
        assert!(names.len() >= 4, "{kind} has too few cases");
        assert!(names.iter().any(|name| name == "answers.json"), "{kind} has no answers.json");
    }
}

#[test]
fn requests_are_as_the_fixtures_say() {
    for kind in Kind::ALL {
        for case in support::cases(kind) {
            let adapter = support::adapter(kind, &support::json(&format!("{case}/spec.json")));
            let given = support::json(&format!("{case}/event.json"));
            let event = support::event(&given);
            let target = target(adapter.as_ref(), event.canonical.as_str(), &given);
            let delivery = Outgoing { id: support::delivery_id(), target: &target, event: &event };
            let prepared = adapter.prepare(&[delivery], NOW);
            if support::exists(&format!("{case}/refused.json")) {
                check_refused(&case, &prepared, &support::json(&format!("{case}/refused.json")));
            } else {
                check_request(&case, adapter.as_ref(), &prepared, &support::json(&format!("{case}/request.json")));
            }
        }
    }
}

fn target(adapter: &dyn Adapter, canonical: &str, given: &Value) -> TargetName {
    let name = given["target"].as_str().map(str::to_owned).or_else(|| adapter.default_target(canonical));
    name.unwrap_or_else(|| panic!("{canonical} has no target")).parse().unwrap()
}

fn check_refused(case: &str, prepared: &Prepared, wanted: &Value) {
    assert!(prepared.request.is_none(), "{case}: a request was made");
    let refused = prepared.parts[0].as_ref().unwrap_err();
    assert_eq!(refused.reason.as_str(), wanted["reason"].as_str().unwrap(), "{case}");
    let says = wanted["says"].as_str().unwrap();
    assert!(refused.detail.contains(says), "{case}: {}", refused.detail);
}

fn check_request(case: &str, adapter: &dyn Adapter, prepared: &Prepared, wanted: &Value) {
    let left_out: Vec<Value> = match &prepared.parts[0] {
        Ok(left_out) => left_out.iter().map(|left| serde_json::json!([left.field, left.why])).collect(),
        Err(refused) => panic!("{case}: {}", refused.detail),
    };
    assert_eq!(Value::from(left_out), wanted["left_out"], "{case}: left out");
    let made = prepared.request.as_ref().unwrap();
    assert_eq!(made.request.method.as_str(), wanted["method"].as_str().unwrap(), "{case}");
    assert_eq!(made.request.url.as_str(), wanted["url"].as_str().unwrap(), "{case}");
    let headers: Vec<Value> =
        made.request.headers.iter().map(|(name, value)| serde_json::json!([name, value])).collect();
    assert_eq!(Value::from(headers), support::with_version(&wanted["headers"]), "{case}: headers");
    let body = String::from_utf8(made.request.body.clone()).unwrap();
    match &wanted["body"] {
        Value::String(text) => assert_eq!(&body, text, "{case}: body"),
        // Numbers are compared by their digits.
        object => assert_eq!(&serde_json::from_str::<Value>(&body).unwrap(), object, "{case}: body"),
    }
    let view = &made.view(adapter.redactor());
    let shown = format!("{view:?}");
    assert!(!shown.contains("s3cr3t"), "{case}: the view shows a secret: {shown}");
    assert_eq!(view.method, made.request.method.as_str(), "{case}");
    let open = |text: &str| !text.contains("s3cr3t");
    for ((name, value), (shown_name, shown_value)) in made.request.headers.iter().zip(&view.headers) {
        assert_eq!(name, shown_name, "{case}");
        let hidden = shown_value == "[redacted]";
        assert!(hidden || shown_value == value, "{case}: {name} is shown as {shown_value}");
        assert_eq!(hidden, wanted["hidden"].as_array().unwrap().contains(&name.as_str().into()), "{case}: {name}");
    }
    assert!(!open(&body) || view.body == body, "{case}: the body is shown otherwise");
    assert!(!open(made.request.url.as_str()) || view.url == made.request.url.as_str(), "{case}: {}", view.url);
}

// Rows 47, 48, 50 and 51.
#[test]
fn answers_are_judged_as_the_tables_say() {
    for kind in Kind::ALL {
        let mut rows = 0;
        for group in support::json(&format!("{}/answers.json", kind.as_str())).as_array().unwrap() {
            let adapter = support::adapter(kind, &group["spec"]);
            for row in group["rows"].as_array().unwrap() {
                check_row(kind, adapter.as_ref(), row);
                rows += 1;
            }
        }
        assert!(rows >= 25, "{} has only {rows} answers", kind.as_str());
    }
}

fn check_row(kind: Kind, adapter: &dyn Adapter, row: &Value) {
    let headers = row["headers"].as_object().into_iter().flatten();
    let body = match &row["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    let answer = Answer {
        status: u16::try_from(row["status"].as_u64().unwrap()).unwrap(),
        headers: headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
        body: body.into_bytes(),
    };
    let sent = row["sent"].as_u64().map_or(1, |sent| usize::try_from(sent).unwrap());
    let transient = row["retry"].as_array().map_or_else(StatusSet::transient, |list| {
        let status = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        StatusSet::new(list.iter().map(|value| (status(value), status(value))).collect())
    });
    let context = JudgeContext { sent, transient: &transient, now: NOW };
    let judged = adapter.judge(&answer, context);
    if row["any_status"] == true {
        check_any_status(adapter, &answer, context, row);
    }
    let (reason, not_before) = match judged.verdict {
        Verdict::Transient { reason, not_before } => (Some(reason.as_str()), not_before),
        Verdict::Throttled { not_before } => (None, not_before),
        Verdict::Permanent { reason } => (Some(reason.as_str()), None),
        Verdict::Ambiguous { reason } => (Some(reason.as_str()), None),
        Verdict::Gone => (Some("gone"), None),
        Verdict::Delivered
        | Verdict::DestinationFault
        | Verdict::BatchFault
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled => (None, None),
    };
    let told = format!("{} {row}: {judged:?}", kind.as_str());
    let wanted = row["verdict"].as_str().unwrap();
    assert_eq!(judged.verdict.as_str(), wanted, "{told}");
    let wanted_reason = row["reason"].as_str().or((wanted == "transient" || wanted == "permanent").then_some(wanted));
    assert_eq!(reason, wanted_reason, "{told}");
    assert_eq!(judged.attempts_max.map(u64::from), row["attempts_max"].as_u64(), "{told}");
    let wanted_time = row["after_s"].as_u64().map(|seconds| NOW + DurationMs::from_secs(seconds));
    assert_eq!(not_before, wanted_time, "{told}");
    assert!(judged.detail.contains(row["says"].as_str().unwrap_or_default()), "{told}");
    assert_eq!(judged.warns, row["warns"] == true, "{told}");
    assert!(!judged.detail.contains("s3cr3t"), "{told}");
    assert!(!judged.detail.is_empty() && judged.detail.len() < 1000, "{told}");
}

/// The body's code decides, whatever the status beside it and however the code is written.
fn check_any_status(adapter: &dyn Adapter, answer: &Answer, context: JudgeContext<'_>, row: &Value) {
    let judged = adapter.judge(answer, context);
    let mut as_text = row["body"].clone();
    for name in ["code", "error_subcode"] {
        if let Some(number) = as_text["error"].get_mut(name).filter(|value| value.is_number()) {
            *number = number.to_string().into();
        }
    }
    assert_ne!(as_text, row["body"], "{row} has no code");
    for status in [200, 400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 599] {
        for body in [answer.body.clone(), as_text.to_string().into_bytes()] {
            let other = adapter.judge(&Answer { status, body, ..answer.clone() }, context);
            assert_eq!(other.verdict, judged.verdict, "{row} with HTTP {status}");
            assert_eq!(other.attempts_max, judged.attempts_max, "{row} with HTTP {status}");
        }
    }
}

#[test]
fn unapproved_conversions_have_no_default_target_anywhere() {
    for kind in Kind::ALL {
        let case = support::cases(kind).remove(0);
        let adapter = support::adapter(kind, &support::json(&format!("{case}/spec.json")));
        for canonical in ["conversion_pending", "conversion_declined", "conversion_rejected"] {
            assert_eq!(adapter.default_target(canonical), None, "{case}");
        }
        assert_eq!(adapter.kind(), kind);
        assert!(adapter.batch_max() >= 1);
        assert!(!format!("{adapter:?}").contains("s3cr3t"), "{case}");
    }
}

#[test]
fn default_targets_are_the_documented_ones() {
    let meta = [
        ("contact", "Contact"),
        ("subscribed", "Lead"),
        ("registration", "CompleteRegistration"),
        ("deposit", "Purchase"),
        ("purchase", "Purchase"),
        ("lead", "Lead"),
        ("add_to_cart", "AddToCart"),
        ("checkout", "InitiateCheckout"),
        ("page_view", "PageView"),
        ("view_content", "ViewContent"),
        ("search", "Search"),
        ("trial", "StartTrial"),
    ];
    for kind in Kind::ALL {
        let case = support::cases(kind).remove(0);
        let adapter = support::adapter(kind, &support::json(&format!("{case}/spec.json")));
        for (canonical, theirs) in meta {
            let wanted = match kind {
                Kind::Webhook | Kind::S2sPostback => canonical,
                Kind::FbCapi => theirs,
            };
            assert_eq!(adapter.default_target(canonical).as_deref(), Some(wanted));
        }
        let own = adapter.default_target("my.own:name");
        assert_eq!(own.as_deref(), (kind != Kind::FbCapi).then_some("my.own:name"));
    }
}
