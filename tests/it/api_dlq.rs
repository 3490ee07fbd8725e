//! What an operator may rely on when deliveries die (SPEC 5, 6.1, 8.2, 8.3): why they died, what they looked like, and that
//! replay and discard do exactly what was asked for, or nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, delivery, deposit, destination, problem, settled, walk, webhook};
use crate::support::sink::{Act, Reply, Sink};

/// A daemon whose destinations `a` and `b` have refused deposits 1 to `count` for good.
async fn with_dead(sink: &Sink, count: u64) -> Daemon {
    let config = [webhook("a", &sink.url("/a"), ""), webhook("b", &sink.url("/b"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    for number in 1..=count {
        deposit(&daemon, &number.to_string()).await;
    }
    settled(&daemon, &[("failed_permanently", count * 2)]).await;
    daemon
}

async fn refusing() -> Sink {
    Sink::start(vec![Act::Reply(Reply::new(400, "no"))]).await
}

async fn order(daemon: &Daemon, verb: &str, body: &Value) -> Value {
    let answer = daemon.post(&format!("/v1/dlq/{verb}"), &body.to_string()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

// Rows 49 and 50.
#[tokio::test]
async fn every_way_to_die_has_its_own_word_and_says_what_is_wrong() {
    let (bad, refusing, taking) = (Sink::with_status(500).await, refusing().await, Sink::with_status(200).await);
    let moved = Sink::start(vec![Act::Reply(Reply::new(301, "").header("location", "/there"))]).await;
    let config = [
        webhook("exhausted", &bad.url("/"), "retry = { first = \"10ms\", max_attempts = 3 }"),
        webhook("gave-up", &bad.url("/"), "retry = { first = \"60ms\", give_up_after = \"150ms\", max_attempts = 0 }"),
        webhook("refused", &refusing.url("/"), ""),
        webhook("moved", &moved.url("/"), ""),
        destination("meta", "fb_capi", &taking.url(""), ""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    accept(&daemon, json!({ "event": "deposit", "event_id": "old", "user": { "email": "a@b.c" }, "t": 1000 })).await;
    accept(&daemon, json!({ "event": "deposit", "event_id": "nameless" })).await;
    settled(&daemon, &[("failed_permanently", 10)]).await;
    for (event, name, reason, attempts, part) in [
        ("old", "exhausted", "attempts_exhausted", Some(3), "500"),
        ("old", "gave-up", "gave_up", None, "500"),
        ("old", "refused", "permanent", Some(1), "HTTP 400: no"),
        ("old", "moved", "permanent", Some(1), "redirect"),
        ("old", "meta", "expired", Some(0), "occurred_at_ms"),
        ("nameless", "meta", "invalid", Some(0), "user.email"),
    ] {
        let found = delivery(&daemon, event, name).await;
        let status = (&found["status"], &found["reason"], &found["next_attempt_at"]);
        assert_eq!(status, (&json!("failed_permanently"), &json!(reason), &Value::Null), "{name}");
        let entry = daemon.get(&format!("/v1/dlq/{}", found["id"].as_str().unwrap())).await.json();
        assert_eq!(entry["reason"], reason);
        assert!(entry["detail"].as_str().unwrap().contains(part), "{entry}");
        if let Some(attempts) = attempts {
            assert_eq!(entry["attempt_count"], attempts, "{entry}");
        }
        let listed = walk(&daemon, "/v1/dlq", "entries", &format!("destination={name}&reason={reason}")).await;
        assert!(listed.contains(&found["id"].as_str().unwrap().to_owned()), "{name}");
    }
    assert_eq!(taking.seen().len(), 0, "what is expired or invalid is never sent");
}

// Row 54.
#[tokio::test]
async fn an_entry_shows_the_whole_exchange_without_its_secrets() {
    let echo = async |echo: &str| Sink::start(vec![Act::Reply(Reply::new(400, echo))]).await;
    let sink = echo("refused: whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0 and canary-header").await;
    let meta = echo("refused: canary-meta-token").await;
    let secrets =
        "headers = { \"X-Key\" = \"canary-header\" }\nsigning_secrets = [\"whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0\"]";
    let config = [webhook("hook", &sink.url("/in?x=1"), secrets), destination("meta", "fb_capi", &meta.url(""), "")];
    let daemon = Daemon::start(&config.concat()).await;
    let id =
        accept(&daemon, json!({ "event": "deposit", "event_id": "1", "value": "25.00", "user": { "email": "a@b.c" } }))
            .await;
    settled(&daemon, &[("failed_permanently", 2)]).await;
    let page = daemon.get("/v1/dlq").await;
    assert!(!page.text().contains("canary"), "{}", page.text());
    assert!(!page.text().contains("Y2FuYXJ5"), "{}", page.text());
    let page = page.json();
    assert_eq!((&page["total"], &page["cursor"]), (&json!(2), &Value::Null));
    let entry = page["entries"].as_array().unwrap().iter().find(|entry| entry["destination"] == "hook").unwrap();
    assert_eq!((&entry["target"], &entry["attempt_count"]), (&json!("deposit"), &json!(1)));
    assert_eq!((&entry["event"]["id"], &entry["event"]["value"]), (&json!(id), &json!("25.00")));
    assert_eq!(entry["event"]["user"]["email"], "a@b.c", "the whole canonical event");
    let request = &entry["request"];
    assert_eq!((&request["method"], &request["url"]), (&json!("POST"), &json!(sink.url("/in?x=1"))));
    assert!(request["headers"].is_object() && request["headers"]["x-key"] == "[redacted]", "{request}");
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["event_id"], entry["id"]);
    assert_eq!(entry["response"]["status"], 400);
    assert!(entry["response"]["body"].as_str().unwrap().starts_with("refused: "), "{entry}");
    assert!(entry["first_attempt_at"].is_string() && entry["first_attempt_at"] == entry["last_attempt_at"]);
    let alone = daemon.get(&format!("/v1/dlq/{}", entry["id"].as_str().unwrap())).await.json();
    assert_eq!(alone, *entry);
    for stranger in ["dlv_1", "evt_1", "dlv_0000000000000000000010001", "%ff%00"] {
        let answer = daemon.get(&format!("/v1/dlq/{stranger}")).await;
        assert!(matches!(answer.status, 404 | 422), "{stranger}: {}", answer.text());
    }
    let whole_log = daemon.cli(&["dlq", "export"], "").await;
    assert!(!whole_log.out.contains("canary") && whole_log.out.lines().count() == 2, "{whole_log:?}");
}

#[tokio::test]
async fn an_order_that_is_not_understood_does_nothing() {
    let sink = refusing().await;
    let daemon = with_dead(&sink, 1).await;
    let id = walk(&daemon, "/v1/dlq", "entries", "").await.remove(0);
    let wrong = [
        (r"{}", "$"),
        (r"[]", "$"),
        (r"7", "$"),
        (r#"{"all":false}"#, "$"),
        (r#"{"all":null,"filter":null,"ids":null}"#, "$"),
        (r#"{"filter":{}}"#, "$.filter"),
        (r#"{"filter":{"destination":""}}"#, "$.filter"),
        (r#"{"filter":"a"}"#, "$.filter"),
        (r#"{"filter":{"destinatoin":"a"}}"#, "$.filter"),
        (r#"{"filter":{"destination":"nobody"}}"#, "$.filter.destination"),
        (r#"{"filter":{"reason":"tls"}}"#, "$.filter.reason"),
        (r#"{"filter":{"status":"sent"}}"#, "$.filter.status"),
        (r#"{"filter":{"since":"yesterday"}}"#, "$.filter.since"),
        (r#"{"filter":{"event":7}}"#, "$.filter.event"),
        (r#"{"ids":[]}"#, "$.ids"),
        (r#"{"ids":"dlv_1"}"#, "$.ids"),
        (r#"{"ids":["dlv_1"]}"#, "$.ids[0]"),
        (r#"{"ids":["dlv_1"],"all":true}"#, "$"),
        (r#"{"all":true,"dry_run":"yes"}"#, "$.dry_run"),
        (r#"{"all":true,"dryrun":true}"#, "$"),
        (r#"{"all":"true"}"#, "$.all"),
    ];
    for (body, path) in wrong {
        let answer = daemon.post("/v1/dlq/replay", body).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{body}: {}", answer.text());
        // The same with a reason: what is wrong is wrong for a discard too.
        if let Some(rest) = body.strip_prefix('{') {
            let comma = if rest == "}" { "" } else { "," };
            let answer = daemon.post("/v1/dlq/discard", &format!(r#"{{"reason":"x"{comma}{rest}"#)).await;
            assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{body}");
        }
    }
    for (verb, body, path) in [
        ("replay", json!({ "all": true, "rate": "fast" }), "$.rate"),
        ("replay", json!({ "all": true, "rate": "0/s" }), "$.rate"),
        ("replay", json!({ "all": true, "rate": 50 }), "$.rate"),
        ("discard", json!({ "all": true }), "$.reason"),
        ("discard", json!({ "ids": [id], "reason": " " }), "$.reason"),
        ("discard", json!({ "ids": [id], "reason": 7 }), "$.reason"),
        ("discard", json!({ "all": true, "reason": "x", "rate": "1/s" }), "$.rate"),
    ] {
        let answer = daemon.post(&format!("/v1/dlq/{verb}"), &body.to_string()).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{verb} {body}");
    }
    for body in ["", "{", r#"{"all":true,"all":true}"#] {
        problem(&daemon.post("/v1/dlq/replay", body).await, 400, "invalid_json");
    }
    settled(&daemon, &[("failed_permanently", 2), ("discarded", 0), ("pending", 0), ("failed", 0)]).await;
    assert_eq!(sink.seen().len(), 2, "nothing was sent again");
}

#[tokio::test]
async fn a_replay_takes_what_it_names_and_nothing_else() {
    let sink = refusing().await;
    let daemon = with_dead(&sink, 3).await;
    let all = r#"{"all":true,"dry_run":true}"#;
    assert_eq!(daemon.post("/v1/dlq/replay", all).await.json(), json!({ "matched": 6, "replayed": 0, "job": null }));
    settled(&daemon, &[("failed_permanently", 6)]).await;
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);

    let one = delivery(&daemon, "1", "a").await["id"].clone();
    let stranger = "dlv_0000000000000000000010001";
    let ids = json!({ "ids": [one, one, stranger] });
    assert_eq!(order(&daemon, "replay", &ids).await, json!({ "matched": 1, "replayed": 1, "job": null }));
    settled(&daemon, &[("sent", 1), ("failed_permanently", 5)]).await;
    assert_eq!(order(&daemon, "replay", &ids).await["matched"], 0, "what is sent is not dead");

    let filter = json!({ "filter": { "destination": "b", "event": "deposit", "since": "-1h" } });
    assert_eq!(order(&daemon, "replay", &filter).await, json!({ "matched": 3, "replayed": 3, "job": null }));
    settled(&daemon, &[("sent", 4), ("failed_permanently", 2)]).await;
    assert_eq!(order(&daemon, "replay", &json!({ "filter": { "until": "-1h" } })).await["matched"], 0);
    assert_eq!(order(&daemon, "replay", &json!({ "all": true })).await["replayed"], 2);
    settled(&daemon, &[("sent", 6), ("failed_permanently", 0), ("accepted", 6)]).await;
    let ids: BTreeSet<String> = sink.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!((ids.len(), sink.seen().len()), (6, 12), "each twice, under one id");
}

#[tokio::test]
async fn a_discard_keeps_its_reason_and_what_it_purged_stays_visible() {
    let sink = refusing().await;
    let mut daemon = with_dead(&sink, 2).await;
    let dry = json!({ "filter": { "destination": "a" }, "reason": "test traffic", "dry_run": true });
    assert_eq!(order(&daemon, "discard", &dry).await, json!({ "matched": 2, "discarded": 0, "job": null }));
    let real = json!({ "filter": { "destination": "a" }, "reason": "test traffic" });
    assert_eq!(order(&daemon, "discard", &real).await, json!({ "matched": 2, "discarded": 2, "job": null }));
    daemon.kill();
    daemon.restart().await;
    let status = settled(&daemon, &[("failed_permanently", 2), ("discarded", 2)]).await;
    assert_eq!(status["destinations"]["a"]["counts"]["discarded"], 2);
    assert_eq!((&status["destinations"]["a"]["dlq"], &status["destinations"]["b"]["dlq"]), (&json!(0), &json!(2)));
    let gone = delivery(&daemon, "1", "a").await;
    assert_eq!((&gone["status"], &gone["reason"]), (&json!("discarded"), &json!("test traffic")));
    assert_eq!(gone["attempts"][0]["status"], 400, "the trace stays");
    let id = gone["id"].as_str().unwrap();
    let said = problem(&daemon.get(&format!("/v1/dlq/{id}")).await, 404, "not_found");
    assert!(said["detail"].as_str().unwrap().contains("discarded"), "{said}");
    assert_eq!(order(&daemon, "replay", &json!({ "ids": [id] })).await["matched"], 0, "a purge is for good");
}
