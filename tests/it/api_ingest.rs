//! What a sender may rely on (SPEC 3, 8.2, 8.3): every form of ingest, batches, repeats and conflicts, tokens, against the
//! real daemon. What is not taken stands in `api_refusals`.

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TOKEN};
use crate::support::desk::{NDJSON, books, events, lines, pixel, problem, webhook};
use crate::support::sink::Sink;

#[tokio::test]
async fn every_form_of_ingest_says_what_became_of_the_event() {
    let sink = Sink::with_status(200).await;
    let hook = |name: &str, more: &str| webhook(name, &sink.url("/"), more);
    let daemon = Daemon::start(&[hook("a", ""), hook("b", ""), hook("off", "enabled = false")].concat()).await;
    let one = |id: &str| json!({ "event": "deposit", "event_id": id }).to_string();

    let answer = daemon.post("/v1/events", &one("1")).await;
    assert_eq!((answer.status, answer.header("content-type")), (202, Some("application/json")));
    let id = answer.json()["id"].clone();
    assert!(id.as_str().is_some_and(|id| id.starts_with("evt_")), "{id}");
    let owed = json!({ "ok": true, "status": "queued", "id": id, "event_id": "1", "deliveries": 2 });
    assert_eq!(answer.json(), owed, "deliveries counts what is owed, not what is skipped");

    let answer = daemon.post("/events", &one("1")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), json!({ "ok": true, "status": "duplicate", "id": id, "event_id": "1" }));
    let answer = pixel(&daemon, "event=deposit&eid=1").await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("duplicate")));
    let answer = pixel(&daemon, "event=deposit&eid=2").await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("queued")));
    let bearer = [("authorization", format!("Bearer {TOKEN}"))];
    let bearer: Vec<(&str, &str)> = bearer.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(daemon.request("GET", "/e?event=deposit&eid=3", &bearer, b"").await.status, 200);

    for (batch, kind) in [(format!("[{}]", one("4")), "application/json"), (one("5"), NDJSON)] {
        let answer = daemon.try_request("POST", "/v1/events", &batch, Some(kind)).await.unwrap();
        let body = answer.json();
        assert_eq!((answer.status, &body["ok"], &body["queued"]), (202, &json!(true), &json!(1)), "{body}");
        assert_eq!((&body["duplicate"], &body["rejected"]), (&json!(0), &json!(0)), "{body}");
        assert_eq!(body["results"][0]["status"], "queued", "one line is a batch too: {body}");
    }
    let typeless = daemon.request("POST", "/v1/events", &bearer, one("6").as_bytes()).await;
    assert_eq!(typeless.status, 202, "without a type the body is JSON");
    let accepted = json!({ "accepted": 6, "duplicates": 2, "conflicts": 0, "rejected": 0 });
    assert_eq!(events(&daemon).await, accepted);
}

#[tokio::test]
async fn a_batch_lists_every_item_in_order_and_keeps_the_good_ones() {
    let mut daemon = Daemon::start("").await;
    let items = r#"[{"event":"a","event_id":"1"},{"event":"a","event_id":"1"},{"event":"a b","event_id":"2","value":"x"},
                    7,{"event":"a","event_id":"1","value":5},{"event":"a","event_id":"3"}]"#;
    let answer = daemon.post("/v1/events", items).await;
    assert_eq!(answer.status, 202);
    let body = answer.json();
    assert_eq!((&body["ok"], &body["queued"]), (&json!(true), &json!(2)));
    assert_eq!((&body["duplicate"], &body["rejected"]), (&json!(2), &json!(2)));
    let results = body["results"].as_array().unwrap();
    assert!(results.iter().enumerate().all(|(index, item)| item["index"] == index), "{body}");
    let told: Vec<&str> = results.iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["queued", "duplicate", "rejected", "rejected", "duplicate", "queued"]);
    assert_eq!(results[1]["id"], results[0]["id"], "a repeat inside the batch has the first id");
    assert_eq!((&results[1]["conflict"], &results[4]["conflict"]), (&Value::Null, &json!(true)));
    assert_eq!((&results[2]["path"], &results[2]["code"]), (&json!("$[2].event"), &json!("invalid")));
    assert_eq!((&results[2]["event_id"], &results[2]["errors"][1]["path"]), (&json!("2"), &json!("$[2].value")));
    assert_eq!((&results[3]["path"], &results[3]["code"]), (&json!("$[3]"), &json!("type")));

    let body = lines(&daemon, "{\"event\":\"b\",\"event_id\":\"4\"}\n\n{bad\r\n{\"event\":\"b\",\"event_id\":\"5\"}")
        .await
        .json();
    let told: Vec<&str> =
        body["results"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["queued", "rejected", "queued"], "a bad line is one rejected item");
    assert_eq!((&body["results"][1]["path"], &body["results"][1]["code"]), (&json!("$[1]"), &json!("invalid_json")));
    books(&daemon, 3).await;

    daemon.kill();
    daemon.restart().await;
    for id in ["1", "3", "4", "5"] {
        assert_eq!(daemon.get(&format!("/v1/events/{id}")).await.status, 200, "{id} was acknowledged");
    }
    assert_eq!(daemon.get("/v1/events/2").await.status, 404);
    let events = events(&daemon).await;
    assert_eq!(events, json!({ "accepted": 4, "duplicates": 2, "conflicts": 1, "rejected": 3 }));
}

#[tokio::test]
async fn a_batch_without_a_good_item_is_refused_as_a_whole_and_lists_them() {
    let daemon = Daemon::start("").await;
    let array = daemon.post("/v1/events", r#"[{"event":"a"},7]"#).await;
    let body = problem(&array, 422, "all_rejected");
    assert_eq!((&body["ok"], &body["rejected"], &body["queued"]), (&json!(false), &json!(2), &json!(0)));
    assert_eq!(
        body["results"][1],
        json!({ "index": 1, "status": "rejected", "path": "$[1]", "code": "type",
        "detail": body["errors"][1]["detail"] })
    );
    problem(&lines(&daemon, "{\n}\n").await, 422, "all_rejected");
    assert_eq!(books(&daemon, 4).await["accepted"], 0);
}

#[tokio::test]
async fn a_repeat_is_a_duplicate_however_it_is_written_and_after_a_crash() {
    let mut daemon = Daemon::start("").await;
    let first = daemon
        .post(
            "/v1/events",
            r#"{"event":"deposit","event_id":"7","uid":"u","value":25.00,"occurred_at_ms":1795304438000,"plan":{"a":1,"b":2}}"#,
        )
        .await
        .json();
    assert_eq!(first["status"], "queued");
    daemon.kill();
    daemon.restart().await;
    for again in [
        r#"{"plan":{"b":2,"a":1},"canonical":"deposit","eid":7,"uid":"u","value":"25.0","currency":"usd","t":"1795304438000"}"#,
        r#"{"event":"deposit","eventId":"7","uid":"u","value":"025.000","currency":"USD","data":{"plan":{"a":1,"b":2}},
            "occurred_at":"2026-11-22T01:40:38+02:00","action_source":"","user":{},"click":null}"#,
    ] {
        let answer = daemon.post("/v1/events", again).await;
        let wanted = json!({ "ok": true, "status": "duplicate", "id": first["id"], "event_id": "7" });
        assert_eq!((answer.status, answer.json()), (202, wanted), "{again}");
    }
    assert_eq!(events(&daemon).await, json!({ "accepted": 1, "duplicates": 2, "conflicts": 0, "rejected": 0 }));
}

// Row 58.
#[tokio::test]
async fn the_same_key_with_another_content_is_a_conflict_and_the_first_is_kept() {
    let daemon = Daemon::start("").await;
    let first =
        daemon.post("/v1/events", r#"{"event":"deposit","event_id":"7","uid":"u","value":"25.00"}"#).await.json();
    for other in [
        r#"{"event":"deposit","event_id":"7","uid":"u","value":"25.01"}"#,
        r#"{"event":"deposit","event_id":"7","uid":"u","value":"25.00","currency":"EUR"}"#,
        r#"{"event":"deposit","event_id":"7","uid":"u","value":"25.00","note":"x"}"#,
        r#"{"event":"deposit","event_id":"7","uid":"u"}"#,
    ] {
        let body = daemon.post("/v1/events", other).await.json();
        let wanted = json!({ "ok": true, "status": "duplicate", "id": first["id"], "event_id": "7", "conflict": true });
        assert_eq!(body, wanted, "{other}");
    }
    let kept = daemon.get("/v1/events/7").await.json();
    assert_eq!((&kept["payload"]["value"], &kept["payload"]["currency"]), (&json!("25.00"), &json!("USD")));
    let events = events(&daemon).await;
    assert_eq!(events, json!({ "accepted": 1, "duplicates": 4, "conflicts": 4, "rejected": 0 }));
}

#[tokio::test]
async fn source_name_uid_and_id_tell_events_apart() {
    let daemon = Daemon::start("[sources.other]\ntoken = \"other-token-0123456789\"").await;
    for body in [
        r#"{"event":"deposit","event_id":"2"}"#,
        r#"{"event":"deposit","event_id":"2","uid":"a"}"#,
        r#"{"event":"deposit","event_id":"2","uid":"b"}"#,
        r#"{"event":"registration","event_id":"2","uid":"b"}"#,
        r#"{"event":"deposit","uid":"b","occurred_at_ms":2}"#,
        r#"{"event":"deposit","uid":"b","occurred_at_ms":3}"#,
    ] {
        assert_eq!(daemon.post("/v1/events", body).await.json()["status"], "queued", "{body}");
    }
    let other = [("authorization", "Bearer other-token-0123456789")];
    let answer = daemon.request("POST", "/v1/events", &other, br#"{"event":"deposit","event_id":"2"}"#).await;
    assert_eq!(answer.json()["status"], "queued");
    assert_eq!(events(&daemon).await["accepted"], 7);
}

#[tokio::test]
async fn a_parameter_url_is_told_apart_by_all_its_parameters() {
    let daemon = Daemon::start("").await;
    for (parameters, wanted) in [
        ("event=lead", "queued"),
        ("event=lead", "duplicate"),
        ("event=lead&sub=1", "queued"),
        ("event=lead&sub=2", "queued"),
        ("event=lead&t=5", "queued"),
        ("event=lead&uid=9&t=1795304438000", "queued"),
        ("event=lead&uid=9&occurred_at=2026-11-21T23:40:38Z", "duplicate"),
        // A code page of old: the letters cannot be read, the events are two all the same.
        ("event=lead&sub=%CF%F0", "queued"),
        ("event=lead&sub=%C0%C1", "queued"),
        ("event=lead&eid=%ff", "queued"),
        ("event=lead&eid=%fe", "queued"),
        // Macros that nobody filled in are missing: no id, so the parameters decide.
        ("event=lead&eid={click_id}&sub=3", "queued"),
        ("event=lead&eid=%7Bclick_id%7D&sub=4", "queued"),
    ] {
        let answer = pixel(&daemon, parameters).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!(wanted)), "{parameters}");
    }
    for (parameters, path) in [
        ("uid=1", "$.event"),
        ("event=lead&value=1,5", "$.value"),
        ("event=lead&uid=%00", "$.uid"),
        ("event=lead&uid=1&uid=2", "$.uid"),
    ] {
        let answer = pixel(&daemon, parameters).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{parameters}");
    }
    books(&daemon, 4).await;
}

#[tokio::test]
async fn an_ended_token_is_refused_and_its_successor_is_not() {
    let tokens = "[{ value = \"old-token-0123456789\", until = \"2020-01-01T00:00:00Z\" }, \
                  { value = \"next-token-0123456789\", until = \"2999-01-01T00:00:00Z\" }, \"newest-token-0123456789\"]";
    let daemon = Daemon::start(&format!("[sources.rotated]\ntoken = {tokens}")).await;
    for (token, status) in [("old", 401), ("next", 202), ("newest", 202)] {
        let value = format!("Bearer {token}-token-0123456789");
        let headers = [("authorization", value.as_str())];
        let body = format!(r#"{{"event":"a","event_id":"{token}"}}"#);
        assert_eq!(daemon.request("POST", "/v1/events", &headers, body.as_bytes()).await.status, status, "{token}");
    }
    assert_eq!(daemon.get("/v1/events/next").await.json()["source"], "rotated");
}
