//! Retention in a running daemon: what has ended goes, what is dead stays, and the books keep counting both.

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, settled, webhook};
use crate::support::sink::Sink;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_events_and_their_attempts_go_and_the_dead_and_the_memory_of_repeats_stay() {
    let (good, bad) = (Sink::with_status(200).await, Sink::with_status(400).await);
    let good = webhook("good", &good.url("/"), "events = { lead = false }");
    let bad = webhook("bad", &bad.url("/"), "events = { deposit = false }");
    let retention = "[retention]\nevents = \"1s\"\nattempts = \"1s\"\n".to_owned();
    let daemon = Daemon::start(&[good, bad, retention].concat()).await;
    let sent = accept(&daemon, json!({ "event": "deposit", "event_id": "s", "uid": "u" })).await;
    let dead = accept(&daemon, json!({ "event": "lead", "event_id": "d", "uid": "u" })).await;
    let status = settled(&daemon, &[("sent", 1), ("failed_permanently", 1)]).await;
    // Looked at until it is gone: retention goes round every few seconds.
    let gone = async |path: &str| daemon.get(path).await.status == 404;
    let started = std::time::Instant::now();
    while !gone(&format!("/v1/events/{sent}")).await {
        assert!(started.elapsed() < crate::support::daemon::PATIENCE, "it stays");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let trace = daemon.get(&format!("/v1/events/{dead}")).await.json();
    assert_eq!(trace["deliveries"].as_array().unwrap().len(), 2, "{trace:#}");
    let dlq = daemon.get("/v1/dlq").await.json();
    assert_eq!(dlq["entries"][0]["event"]["event_id"], "d", "dlq = \"never\" is the default: {dlq:#}");
    assert_eq!(daemon.get("/status").await.json()["balance"], status["balance"], "what went keeps counting");
    let repeat = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"s","uid":"u"}"#).await.json();
    assert_eq!(repeat["status"], "duplicate", "{repeat}");
}
