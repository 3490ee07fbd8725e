//! Giving up what a removed destination is owed: row 67 of the fault catalogue, the explicit command.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{delivery, deposit, problem, settled, webhook};
use crate::support::reload::{save, text};
use crate::support::sink::{Act, Reply, Sink};

async fn purge(daemon: &Daemon, body: &str) -> Value {
    let answer = daemon.post("/v1/destinations/goes/purge", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn goes(url: &str) -> String {
    webhook("goes", url, "retry = { first = \"1h\" }")
}

async fn backlog(daemon: &Daemon, count: usize) {
    let all: Vec<_> = (0..count).map(|n| json!({ "event": "deposit", "event_id": format!("b{n}") })).collect();
    assert_eq!(daemon.post("/v1/events", &Value::from(all).to_string()).await.status, 202);
}

#[tokio::test]
async fn what_a_removed_destination_is_owed_is_given_up_by_an_explicit_command_only() {
    let sink = Sink::start(vec![
        Act::Reply(Reply::new(400, "")),
        Act::Reply(Reply::new(503, "")),
        Act::Reply(Reply::new(401, "")),
    ])
    .await;
    let daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &goes(&sink.url("/")))).await;
    deposit(&daemon, "dead").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    let failed = deposit(&daemon, "failed").await;
    settled(&daemon, &[("failed", 1)]).await;
    deposit(&daemon, "holds").await;
    daemon.wait_for_status(|status| status["destinations"]["goes"]["state"] == "held").await;
    backlog(&daemon, 600).await;

    let refusal = problem(&daemon.post("/v1/destinations/goes/purge", "{\"reason\":\"x\"}").await, 409, "configured");
    assert!(refusal["detail"].as_str().unwrap().contains("take goes out of the file"), "{refusal}");
    save(&daemon, &(without.clone() + &goes(&sink.url("/")).replace("kind", "enabled = false\nkind"))).await;
    problem(&daemon.post("/v1/destinations/goes/purge", "{\"reason\":\"x\"}").await, 409, "configured");
    problem(&daemon.post("/v1/destinations/never/purge", "{\"reason\":\"x\"}").await, 404, "not_found");

    save(&daemon, &without).await;
    problem(&daemon.post("/v1/destinations/goes/purge", "").await, 422, "required");
    let status = settled(&daemon, &[("pending", 601), ("failed", 1)]).await;
    let told = status["reasons"][0].as_str().unwrap();
    assert!(told.contains("postbackd purge goes --reason"), "{told}");
    let counted = purge(&daemon, "{\"reason\":\"left us\",\"dry_run\":true}").await;
    assert_eq!(counted, json!({ "matched": 602, "discarded": 0, "in_flight": 0 }));
    settled(&daemon, &[("pending", 601), ("failed", 1), ("discarded", 0)]).await;
    let done = purge(&daemon, "{\"reason\":\"left us\"}").await;
    assert_eq!(done, json!({ "matched": 602, "discarded": 602, "in_flight": 0 }));
    let status =
        settled(&daemon, &[("pending", 0), ("failed", 0), ("discarded", 602), ("failed_permanently", 1)]).await;
    assert_eq!(status["state"], "ok", "nothing is owed any more: {status}");
    let given_up = delivery(&daemon, &failed, "goes").await;
    assert_eq!((&given_up["status"], &given_up["reason"]), (&json!("discarded"), &json!("left us")));
    assert_eq!(given_up["attempts"].as_array().unwrap().len(), 1, "its trace stays: {given_up}");
    assert_eq!(purge(&daemon, "{\"reason\":\"left us\"}").await["matched"], 0, "once is enough");

    // Its name returns: what was given up stays given up.
    let before = sink.seen().len();
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    save(&daemon, &(without + &goes(&sink.url("/")))).await;
    deposit(&daemon, "new").await;
    settled(&daemon, &[("sent", 1), ("discarded", 602)]).await;
    assert_eq!(sink.seen().len(), before + 1);
}

#[tokio::test]
async fn what_is_under_way_is_left_to_its_outcome() {
    let sink = Sink::start(vec![Act::Late(std::time::Duration::from_secs(3), Reply::new(200, ""))]).await;
    let daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &goes(&sink.url("/")).replace("kind", "concurrency = 1\nkind"))).await;
    let first = deposit(&daemon, "under way").await;
    sink.wait_for(1).await;
    deposit(&daemon, "waits").await;
    save(&daemon, &without).await;
    let done = purge(&daemon, "{\"reason\":\"left us\"}").await;
    assert_eq!(done, json!({ "matched": 2, "discarded": 1, "in_flight": 1 }));
    settled(&daemon, &[("sent", 1), ("discarded", 1), ("pending", 0)]).await;
    assert_eq!(delivery(&daemon, &first, "goes").await["status"], "sent");
}

#[tokio::test]
async fn the_command_says_what_it_gave_up() {
    let sink = Sink::with_status(401).await;
    let daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &goes(&sink.url("/")))).await;
    backlog(&daemon, 3).await;
    daemon.wait_for_status(|status| status["destinations"]["goes"]["state"] == "held").await;
    save(&daemon, &without).await;
    let counted = daemon.cli(&["purge", "goes", "--reason", "left us", "--dry-run"], "").await.out;
    assert!(counted.contains("goes is owed 3"), "{counted}");
    let done = daemon.cli(&["purge", "goes", "--reason", "left us"], "").await.out;
    assert!(done.contains("goes: 3 of 3 given up"), "{done}");
}
