//! What is said of a delivery, whatever becomes of it (SPEC 2, 5, 8.2, 8.3): skipped, held, throttled, failed for now, parked,
//! and that neither a crash nor a changed configuration makes any of it untrue.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::daemon::{Daemon, free_port};
use crate::support::desk::{SLOW, accept, delivery, deposit, settled, walk, webhook};
use crate::support::sink::{Act, At, Reply, Sink};

#[tokio::test]
async fn what_is_not_for_a_destination_is_skipped_with_its_reason() {
    let url = "http://127.0.0.1:9/";
    let config = [
        webhook("unmapped", url, "events = { lead = false }"),
        webhook("source", url, "sources = [\"other\"]"),
        webhook("filter", url, "when = { currency = \"EUR\" }"),
        webhook("disabled", url, "enabled = false"),
        "[sources.other]\ntoken = \"other-token-0123456789\"\n".to_owned(),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let answer = daemon.post("/v1/events", r#"{"event":"lead","event_id":"1","value":1,"currency":"USD"}"#).await;
    assert_eq!(answer.json()["deliveries"], 0, "a receipt counts what is owed");
    for name in ["unmapped", "source", "filter", "disabled"] {
        let found = delivery(&daemon, "1", name).await;
        assert_eq!((&found["status"], &found["reason"]), (&json!("skipped"), &json!(name)));
    }
    // Nobody asked for these three by name, so no identity map takes them.
    for name in ["conversion_pending", "conversion_declined", "conversion_rejected"] {
        accept(&daemon, json!({ "event": name, "event_id": name, "currency": "EUR", "value": 1 })).await;
        let found = delivery(&daemon, name, "filter").await;
        assert_eq!((&found["status"], &found["reason"]), (&json!("skipped"), &json!("unmapped")), "{name}");
    }
}

// Row 50.
#[tokio::test]
async fn a_refused_credential_holds_the_destination_and_spends_nothing() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(401, "bad token"))]).await;
    let other = Sink::with_status(200).await;
    let config =
        [webhook("held", &sink.url("/"), "retry = { max_attempts = 1 }"), webhook("other", &other.url("/"), "")];
    let mut daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    let status = daemon.wait_for_status(|status| status["destinations"]["held"]["state"] == "held").await;
    let held = &status["destinations"]["held"];
    assert!(held["reason"].as_str().unwrap().contains("401"), "{held}");
    assert_eq!(held["last_error"]["reason"], "destination_fault");
    assert_eq!((&status["state"], held["counts"]["pending"].as_u64()), (&json!("degraded"), Some(1)));
    assert!(status["reasons"][0].as_str().unwrap().starts_with("held is held: "), "{status}");
    let probe = held["until"].clone();
    assert_eq!(held["next_attempt_at"], probe);

    // Later events wait without a request of their own; other destinations do not notice.
    deposit(&daemon, "2").await;
    settled(&daemon, &[("sent", 2), ("pending", 2)]).await;
    assert_eq!(sink.seen().len(), 1);
    let first = delivery(&daemon, "1", "held").await;
    assert_eq!(
        (&first["status"], &first["reason"], &first["attempt_count"]),
        (&json!("pending"), &Value::Null, &json!(0))
    );
    let attempt = &first["attempts"][0];
    assert_eq!((&attempt["n"], &attempt["status"]), (&json!(1), &json!(401)));
    assert_eq!((&attempt["verdict"], &attempt["response"]), (&json!("destination_fault"), &json!("bad token")));
    for id in ["1", "2"] {
        assert_eq!(delivery(&daemon, id, "held").await["next_attempt_at"], probe, "not a time that has passed");
    }
    let log = daemon.get("/v1/deliveries?status=pending").await.json();
    assert!(log["deliveries"].as_array().unwrap().iter().all(|row| row["next_attempt_at"] == probe), "{log}");

    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.terminate();
    daemon.restart().await;
    let status = settled(&daemon, &[("sent", 4), ("pending", 0)]).await;
    assert_eq!(status["state"], "ok");
    let first = delivery(&daemon, "1", "held").await;
    assert_eq!(
        (&first["attempt_count"], &first["attempts"][1]["n"]),
        (&json!(1), &json!(2)),
        "max_attempts = 1 was not spent"
    );
}

// Row 50.
#[tokio::test]
async fn a_held_destination_is_released_by_its_own_probe() {
    let refusal = Act::Reply(Reply::new(403, ""));
    let sink = Sink::start(vec![refusal.clone(), refusal, Act::Reply(Reply::new(200, ""))]).await;
    let daemon = Daemon::start(&webhook("held", &sink.url("/"), "hold_probe = \"100ms\"")).await;
    for id in ["1", "2", "3"] {
        deposit(&daemon, id).await;
    }
    let status = settled(&daemon, &[("sent", 3)]).await;
    assert_eq!(status["balance"]["failed_permanently"], 0);
    daemon
        .wait_for_status(|status| status["destinations"]["held"]["state"] == "active" && status["state"] == "ok")
        .await;
}

// Row 48.
#[tokio::test]
async fn a_throttled_destination_waits_as_long_as_it_asked_for() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(429, "slow down").header("retry-after", "7200"))]).await;
    let daemon = Daemon::start(&webhook("busy", &sink.url("/"), "retry = { first = \"1s\" }")).await;
    deposit(&daemon, "1").await;
    let status = daemon.wait_for_status(|status| status["destinations"]["busy"]["state"] == "throttled").await;
    let busy = &status["destinations"]["busy"];
    assert_eq!((&status["state"], &busy["counts"]["failed"]), (&json!("ok"), &json!(1)));
    let first = delivery(&daemon, "1", "busy").await;
    assert_eq!(
        (&first["status"], &first["reason"], &first["attempt_count"]),
        (&json!("failed"), &json!("throttled"), &json!(1))
    );
    assert_eq!(first["next_attempt_at"], busy["until"]);
    let attempt = &first["attempts"][0];
    assert_eq!((&attempt["status"], &attempt["verdict"]), (&json!(429), &json!("throttled")));
    let waits = millis(&busy["until"]) - millis(&attempt["at"]);
    assert!((7_200_000..7_260_000).contains(&waits), "{waits}");
    deposit(&daemon, "2").await;
    let second = delivery(&daemon, "2", "busy").await;
    assert_eq!((&second["status"], &second["next_attempt_at"]), (&json!("pending"), &busy["until"]), "the lane waits");
    assert_eq!(sink.seen().len(), 1);
}

/// RFC 3339 in milliseconds since 1970.
fn millis(time: &Value) -> u64 {
    let time = postbackd::domain::time::UnixMs::parse_rfc3339(time.as_str().unwrap());
    time.unwrap().0
}

/// The port of a receiver that answers TLS in plain HTTP.
async fn no_tls() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok();
        }
    });
    port
}

// Rows 35 and 45: the classes as an operator reads them.
#[tokio::test]
async fn every_way_to_fail_for_now_has_its_own_word() {
    let after = |act| Sink::start(vec![act]);
    let reply = |status| Act::Reply(Reply::new(status, "no"));
    let sinks = [
        ("transient", "transient", after(reply(500)).await),
        ("early", "transient", after(reply(425)).await),
        ("throttled", "throttled", after(Act::Reply(Reply::new(503, "").header("retry-after", "9999"))).await),
        ("ambiguous", "ambiguous", after(Act::Reset(At::InBody)).await),
        ("timeout", "timeout", after(Act::Hang).await),
        ("network", "network", after(reply(200)).await),
        ("tls", "tls", after(reply(200)).await),
    ];
    let plain = no_tls().await;
    let more = format!("{SLOW}\ntimeout = \"300ms\"");
    let mut config = String::new();
    for (name, _, sink) in &sinks {
        let url = match *name {
            "network" => format!("http://127.0.0.1:{}/", free_port()),
            "tls" => format!("https://127.0.0.1:{plain}/"),
            _ => sink.url("/"),
        };
        config.push_str(&webhook(name, &url, &more));
    }
    let daemon = Daemon::start(&config).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("failed", 7)]).await;
    for (name, reason, _) in &sinks {
        let found = delivery(&daemon, "1", name).await;
        let verdict = &found["attempts"][0]["verdict"];
        assert_eq!((&found["status"], &found["reason"]), (&json!("failed"), &json!(reason)), "{name}: {found}");
        let wanted: &[&str] = match *name {
            "throttled" => &["throttled"],
            "ambiguous" | "timeout" => &["ambiguous"],
            _ => &["transient"],
        };
        assert!(wanted.contains(&verdict.as_str().unwrap()), "{name}: {found}");
        assert!(millis(&found["next_attempt_at"]) > millis(&found["attempts"][0]["at"]), "{name}");
        let status = daemon.get("/status").await.json();
        assert_eq!(status["destinations"][*name]["last_error"]["reason"], *reason, "{name}");
    }
}

#[tokio::test]
async fn a_restart_forgets_no_status() {
    let sink = |status| Sink::with_status(status);
    let (good, bad, refusing, locked) = (sink(200).await, sink(500).await, sink(400).await, sink(401).await);
    let config = [
        webhook("sent", &good.url("/"), ""),
        webhook("failed", &bad.url("/"), SLOW),
        webhook("dead", &refusing.url("/"), ""),
        webhook("pending", &locked.url("/"), ""),
        webhook("skipped", &good.url("/"), "events = { deposit = false }"),
    ];
    let mut daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    deposit(&daemon, "2").await;
    settled(&daemon, &[("sent", 2), ("failed", 2), ("failed_permanently", 2), ("skipped", 2), ("pending", 2)]).await;
    let dead = delivery(&daemon, "1", "dead").await["id"].clone();
    let answer = daemon.post("/v1/dlq/discard", &json!({ "ids": [dead], "reason": "a test" }).to_string()).await;
    assert_eq!(answer.json()["discarded"], 1);
    let whole = async |daemon: &Daemon| {
        let mut rows = daemon.get("/v1/deliveries?limit=1000").await.json()["deliveries"].as_array().unwrap().clone();
        // What is held is probed again by every start.
        rows.retain(|row| row["destination"] != "pending");
        (
            daemon.get("/status").await.json()["balance"].clone(),
            daemon.get("/status").await.json()["events"].clone(),
            rows,
        )
    };
    let before = whole(&daemon).await;
    let wanted = json!({ "accepted": 10, "pending": 2, "failed": 2, "sent": 2, "failed_permanently": 1, "skipped": 2,
        "discarded": 1, "balanced": true });
    assert_eq!(before.0, wanted);
    for _ in 0..2 {
        daemon.kill();
        daemon.restart().await;
        daemon.wait_for_status(|status| status["destinations"]["pending"]["state"] == "held").await;
        assert_eq!(whole(&daemon).await, before);
    }
    daemon.terminate();
    daemon.restart().await;
    daemon.wait_for_status(|status| status["destinations"]["pending"]["state"] == "held").await;
    assert_eq!(whole(&daemon).await, before);
    let held = delivery(&daemon, "1", "pending").await;
    assert_eq!((&held["status"], &held["attempt_count"]), (&json!("pending"), &json!(0)));
}

#[tokio::test]
async fn what_a_destination_is_owed_waits_for_its_return_to_the_configuration() {
    let sink = Sink::with_status(500).await;
    let entry = webhook("leaving", &sink.url("/"), "retry = { first = \"10ms\", max_attempts = 0 }");
    let mut daemon = Daemon::start(&entry).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("failed", 1)]).await;
    daemon.terminate();
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);

    daemon.edit(&entry, "");
    daemon.restart().await;
    let gone = daemon.get("/status").await.json();
    assert_eq!((&gone["state"], &gone["destinations"]["leaving"]["state"]), (&json!("degraded"), &json!("orphaned")));
    assert_eq!((&gone["balance"]["failed"], &gone["balance"]["balanced"]), (&json!(1), &json!(true)));
    assert_eq!(walk(&daemon, "/v1/deliveries", "deliveries", "destination=leaving").await.len(), 1);
    assert_eq!(delivery(&daemon, "1", "leaving").await["next_attempt_at"], Value::Null, "nobody knows when");
    let unknown = deposit(&daemon, "2").await;
    assert_eq!(daemon.get(&format!("/v1/events/{unknown}")).await.json()["deliveries"], json!([]));
    daemon.terminate();

    daemon.edit("[sources.app]", &format!("{entry}enabled = false\n[sources.app]"));
    daemon.restart().await;
    let disabled = daemon.get("/status").await.json();
    let leaving = &disabled["destinations"]["leaving"];
    assert_eq!(
        (&leaving["state"], &leaving["counts"]["failed"], &disabled["state"]),
        (&json!("disabled"), &json!(1), &json!("ok"))
    );
    assert_eq!(delivery(&daemon, "1", "leaving").await["next_attempt_at"], Value::Null);
    daemon.terminate();

    let asked = sink.seen().len();
    daemon.edit("enabled = false\n", "");
    daemon.restart().await;
    settled(&daemon, &[("sent", 1), ("failed", 0)]).await;
    assert_eq!(sink.seen().len(), asked + 1);
}

#[tokio::test]
async fn a_stop_while_it_starts_is_a_clean_one() {
    let mut daemon = Daemon::start("").await;
    deposit(&daemon, "1").await;
    daemon.terminate();
    for _ in 0..5 {
        // The port is open before the store is: here a stop is as early as it can be.
        daemon.restart_until_listening().await;
        daemon.terminate();
    }
    daemon.restart().await;
    assert_eq!(daemon.get("/v1/events/1").await.status, 200);
}

#[tokio::test]
async fn one_event_has_one_id_at_its_destination_through_retry_crash_and_replay() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(500, "")), Act::Reply(Reply::new(400, ""))]).await;
    let mut daemon = Daemon::start(&webhook("hook", &sink.url("/"), "retry = { first = \"10ms\" }")).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    daemon.kill();
    daemon.restart().await;
    let dead = delivery(&daemon, "1", "hook").await;
    assert_eq!(dead["detail"], "HTTP 400, the answer has no body", "the trace says what is wrong, as the DLQ does");
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let replayed = daemon.post("/v1/dlq/replay", r#"{"all":true}"#).await.json();
    assert_eq!(replayed, json!({ "matched": 1, "replayed": 1, "job": null }));
    settled(&daemon, &[("sent", 1), ("failed_permanently", 0)]).await;
    let found = delivery(&daemon, "1", "hook").await;
    assert_eq!(found["detail"], Value::Null, "and no longer than it is wrong");
    let id = found["id"].as_str().unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(10), sink.wait_for(3)).await.unwrap();
    for request in &seen {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((request.header("webhook-id"), body["event_id"].as_str()), (Some(id), Some(id)));
        assert_eq!(body["source_event_id"], "1");
    }
    let attempts: BTreeMap<u64, u64> = found["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["n"].as_u64().unwrap(), attempt["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(attempts, BTreeMap::from([(1, 500), (2, 400), (3, 200)]), "n goes on");
    assert_eq!(found["attempt_count"], 3);
}
