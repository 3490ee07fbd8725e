//! Rules of this kind that need no fixture; requests and verdicts stand in `tests/contract`.

use proptest::prelude::*;

use super::*;
use crate::destination::template::tests::{delivery_id, outgoing};
use crate::destination::{LeftOut, Unsendable};
use crate::domain::event::tests::sample;
use crate::domain::event::{Event, OccurredAt};
use crate::domain::json_object::JsonObject;
use crate::domain::name::TargetName;
use crate::domain::outcome::{DeadReason, Verdict};
use crate::domain::retry::StatusSet;

const NOW: UnixMs = UnixMs(1_764_000_000_000);

fn spec() -> FbCapiSpec {
    FbCapiSpec {
        pixel_id: "1234567890".to_owned(),
        access_token: Secret::new("EAAB-secret-token".to_owned()),
        api_version: "v26.0".to_owned(),
        base_url: "https://graph.facebook.com".parse().unwrap(),
        test_event_code: None,
        action_source: None,
        external_id_from_uid: true,
        batch: 50,
        batch_wait: DurationMs::from_secs(1),
        data_processing_options: None,
        data_processing_options_country: None,
        data_processing_options_state: None,
        hidden: Vec::new(),
    }
}

fn prepare(events: &[Event]) -> (Option<Value>, Vec<Result<Vec<LeftOut>, Unsendable>>) {
    let target: TargetName = "Purchase".parse().unwrap();
    let deliveries: Vec<Outgoing<'_>> = events.iter().map(|event| outgoing(event, &target)).collect();
    let prepared = FbCapi::new(spec()).unwrap().prepare(&deliveries, NOW);
    let body = prepared.request.map(|made| serde_json::from_slice(&made.request.body).unwrap());
    (body, prepared.parts)
}

fn at(time: u64) -> Event {
    Event { occurred_at: OccurredAt::Given(UnixMs(time)), ..sample() }
}

#[test]
fn all_problems_of_a_spec_come_at_once() {
    let bad = FbCapiSpec {
        pixel_id: "my pixel".to_owned(),
        access_token: Secret::new(String::new()),
        api_version: "26".to_owned(),
        base_url: "https://graph.facebook.com/?x=1".parse().unwrap(),
        test_event_code: Some(" ".to_owned()),
        action_source: Some("web".to_owned()),
        batch: 1001,
        data_processing_options: None,
        data_processing_options_state: Some(1000),
        ..spec()
    };
    let keys: Vec<&str> = FbCapi::new(bad).unwrap_err().iter().map(|error| error.key).collect();
    assert_eq!(
        keys,
        [
            "base_url",
            "pixel_id",
            "access_token",
            "api_version",
            "test_event_code",
            "action_source",
            "batch",
            "data_processing_options_state"
        ]
    );
}

#[test]
fn only_good_events_of_a_slice_are_in_the_request() {
    let nobody = Event { user: JsonObject::default(), click: JsonObject::default(), uid: None, ..sample() };
    let old = at(NOW.0 - 7 * 86_400_000 - 1);
    let (body, parts) = prepare(&[sample(), old, nobody, at(NOW.0 + 60_001), sample()]);
    let reasons: Vec<Option<DeadReason>> =
        parts.iter().map(|part| part.as_ref().err().map(|refused| refused.reason)).collect();
    let (expired, invalid) = (Some(DeadReason::Expired), Some(DeadReason::Invalid));
    assert_eq!(reasons, [None, expired, invalid, invalid, None]);
    assert_eq!(body.unwrap()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_slice_without_good_events_makes_no_request() {
    let (body, parts) = prepare(&[at(1), at(2)]);
    assert!(body.is_none() && parts.len() == 2);
}

#[test]
fn the_window_is_seven_days_and_a_minute_of_skew() {
    let time = |occurred: u64| prepare(&[at(occurred)]).0.map(|body| body["data"][0]["event_time"].as_u64().unwrap());
    assert_eq!(time(NOW.0 - 7 * 86_400_000), Some(NOW.seconds() - 7 * 86_400));
    assert_eq!(time(NOW.0 - 7 * 86_400_000 - 1), None);
    assert_eq!(time(NOW.0 + 60_000), Some(NOW.seconds()));
    assert_eq!(time(NOW.0 + 60_001), None);
    let store = |age: u64| {
        let event = Event { action_source: Some("physical_store".to_owned()), ..at(NOW.0 - age) };
        prepare(&[event]).0.is_some()
    };
    assert!(store(62 * 86_400_000) && !store(62 * 86_400_000 + 1));
}

#[test]
fn the_event_id_is_the_senders_or_the_deliverys() {
    let id = |event: Event| prepare(&[event]).0.unwrap()["data"][0]["event_id"].as_str().unwrap().to_owned();
    assert_eq!(id(sample()), "trade-1");
    assert_eq!(id(Event { event_id: None, ..sample() }), delivery_id().to_string());
}

#[test]
fn identifiers_that_fit_everybody_are_refused_alone_and_taken_in_company() {
    let usable = |user: &str| {
        let event =
            Event { user: serde_json::from_str(user).unwrap(), uid: None, click: JsonObject::default(), ..sample() };
        prepare(&[event]).1.remove(0)
    };
    for broad in [
        r#"{"country": "de", "city": "Berlin", "user_agent": "x"}"#,
        r#"{"date_of_birth": "1990-04-25"}"#,
        r#"{"first_name": "Mary", "gender": "f"}"#,
        r#"{"user_agent": "x"}"#,
        r#"{"email": "nobody"}"#,
        r#"{"page_id": "31", "ig_account_id": "32", "whatsapp_business_account_id": "33"}"#,
        r#"{"page_id": "31", "gender": "f"}"#,
    ] {
        let refused = usable(broad).unwrap_err();
        assert_eq!(refused.reason, DeadReason::Invalid);
        assert!(refused.detail.contains("user.email"), "{}", refused.detail);
    }
    for good in [
        r#"{"ctwa_clid": "x"}"#,
        r#"{"ip": "203.0.113.7", "user_agent": "x"}"#,
        r#"{"fbp": "fb.1.2.3", "gender": "f"}"#,
    ] {
        assert!(usable(good).is_ok(), "{good}");
    }
}

#[test]
fn a_token_too_short_to_search_for_is_not_shown_either() {
    let target: TargetName = "Purchase".parse().unwrap();
    let event = sample();
    let adapter = FbCapi::new(FbCapiSpec { access_token: Secret::new("q9z".to_owned()), ..spec() }).unwrap();
    let made = adapter.prepare(&[outgoing(&event, &target)], NOW).request.unwrap();
    let shown = made.view(adapter.redactor()).body;
    assert!(shown.ends_with(r#""access_token":"[redacted]"}"#), "{shown}");
    assert!(String::from_utf8(made.request.body).unwrap().ends_with(r#""access_token":"q9z"}"#));
}

#[test]
fn the_same_delivery_renders_to_the_same_bytes() {
    assert_eq!(prepare(&[sample()]), prepare(&[sample()]));
}

#[test]
fn a_click_is_the_same_on_every_attempt() {
    let target: TargetName = "Purchase".parse().unwrap();
    let adapter = FbCapi::new(spec()).unwrap();
    let fbc = |click: &str, occurred_at: OccurredAt, now: UnixMs| {
        let event = Event { click: serde_json::from_str(click).unwrap(), occurred_at, ..sample() };
        let made = adapter.prepare(&[outgoing(&event, &target)], now).request.unwrap();
        let body: Value = serde_json::from_slice(&made.request.body).unwrap();
        body["data"][0]["user_data"]["fbc"].as_str().unwrap().to_owned()
    };
    let occurred = NOW.0 - 5000;
    for (click, wanted) in [
        (r#"{"fbclid": "IwAR0_aB-c.D", "clicked_at_ms": 1763990000123}"#, "fb.1.1763990000123.IwAR0_aB-c.D"),
        (r#"{"fbclid": "IwAR0", "clicked_at_ms": "1763990000123"}"#, "fb.1.1763990000123.IwAR0"),
        (r#"{"fbclid": "IwAR0"}"#, "fb.1.1763999995000.IwAR0"),
    ] {
        for time in [OccurredAt::Given(UnixMs(occurred)), OccurredAt::Received(UnixMs(occurred))] {
            for later in [0, 1, 3_600_000, 6 * 86_400_000] {
                assert_eq!(fbc(click, time, UnixMs(NOW.0 + later)), wanted);
            }
        }
    }
}

#[test]
fn amounts_reach_the_wire_digit_by_digit() {
    let target: TargetName = "Purchase".parse().unwrap();
    let adapter = FbCapi::new(spec()).unwrap();
    for (given, sent) in [
        ("25.00", "25.00"),
        ("0.1", "0.1"),
        ("19.99", "19.99"),
        ("0025.10", "25.10"),
        ("-0.30", "-0.30"),
        ("12345678901234567890.123456789012", "12345678901234567890.123456789012"),
    ] {
        let item = serde_json::json!([{"id": "1", "item_price": given}]);
        let mut event = Event { value: given.parse().ok(), ..sample() };
        event.data = [("contents".to_owned(), item), ("predicted_ltv".to_owned(), given.into())].into_iter().collect();
        let made = adapter.prepare(&[outgoing(&event, &target)], NOW).request.unwrap();
        let body = String::from_utf8(made.request.body).unwrap();
        for member in ["value", "item_price", "predicted_ltv"] {
            let (_, rest) = body.split_once(&format!("\"{member}\":")).unwrap();
            let number: String = rest.chars().take_while(|letter| !matches!(letter, ',' | '}')).collect();
            assert_eq!(number, sent, "{member}");
        }
    }
}

proptest! {
    #[test]
    fn any_answer_is_judged_and_no_token_gets_out(
        status in 100_u16..600, code in -5_i64..90_000, subcode in proptest::option::of(0_i64..3_000_000),
        transient: bool, noise in "\\PC{0,30}", sent in 1_usize..4,
    ) {
        let adapter = FbCapi::new(spec()).unwrap();
        let context = JudgeContext { sent, transient: &StatusSet::transient(), now: NOW };
        let error = serde_json::json!({"error": {"code": code, "error_subcode": subcode, "is_transient": transient,
            "message": format!("{noise}EAAB-secret-token{noise}")}});
        for body in [error.to_string(), format!("<p>{noise}EAAB-secret-token"), noise.clone()] {
            let answer = Answer { status, headers: Vec::new(), body: body.into_bytes() };
            let judged = adapter.judge(&answer, context);
            prop_assert!(!judged.detail.contains("EAAB-secret"), "{}", judged.detail);
            let alone = !matches!(judged.verdict, Verdict::Permanent { .. });
            prop_assert!(sent == 1 || alone, "{:?}", judged);
        }
    }
}
