//! What a change of the configuration means for what is owed, under way or waiting (SPEC 2, 4, 5, 8; rows 67, 68 and 70 of the
//! fault catalogue).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{delivery, deposit, problem, settled, webhook};
use crate::support::reload::{in_force, save, text};
use crate::support::sink::{Act, Reply, Seen, Sink};

const NOWHERE: &str = "http://127.0.0.1:9/";

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

async fn state(daemon: &Daemon, name: &str, wanted: &str) -> Value {
    let status = daemon.wait_for_status(|status| status["destinations"][name]["state"] == wanted).await;
    status["destinations"][name].clone()
}

/// Row 68.
#[tokio::test]
async fn a_changed_url_token_and_name_hold_for_waiting_retries_and_replays() {
    let (before, after) = (
        Sink::start(vec![Act::Reply(Reply::new(400, "")), Act::Reply(Reply::new(503, ""))]).await,
        Sink::with_status(200).await,
    );
    let keys = |key: &str, name: &str, first: &str| {
        format!(
            "headers = {{ \"X-Key\" = \"{key}\" }}\nevents = {{ deposit = \"{name}\" }}\n\
             retry = {{ first = \"{first}\", jitter = 0 }}"
        )
    };
    let daemon = Daemon::start(&webhook("hook", &before.url("/old"), &keys("one", "Paid", "2s"))).await;
    let base = text(&daemon);
    let dead = deposit(&daemon, "dead").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    let waits = deposit(&daemon, "waits").await;
    settled(&daemon, &[("failed", 1)]).await;
    let planned = delivery(&daemon, &waits, "hook").await["next_attempt_at"].clone();
    let (base, _) = base.split_once("[destinations").unwrap();
    save(&daemon, &(base.to_owned() + &webhook("hook", &after.url("/new"), &keys("two", "Purchase", "1h")))).await;
    let told = delivery(&daemon, &waits, "hook").await;
    assert_eq!(told["next_attempt_at"], planned, "its own time is kept");
    assert_eq!(told["target"], "Purchase", "under the name that will be sent");
    let row = daemon.get("/v1/deliveries?status=failed").await.json()["deliveries"][0].clone();
    assert_eq!((&row["id"], &row["target"]), (&told["id"], &json!("Purchase")));
    assert_eq!(delivery(&daemon, &dead, "hook").await["target"], "Paid", "what has ended keeps the name it had");
    let replayed = daemon.post("/v1/dlq/replay", "{\"all\":true}").await.json();
    assert_eq!(replayed["replayed"], 1);
    settled(&daemon, &[("sent", 2)]).await;
    let (old, new) = (before.seen(), after.seen());
    assert_eq!((old.len(), new.len()), (2, 2), "one attempt each before, one each after");
    for seen in &old {
        let is = (seen.target.as_str(), seen.header("x-key"), body(seen)["event"].clone());
        assert_eq!(is, ("/old", Some("one"), json!("Paid")));
    }
    for seen in &new {
        let is = (seen.target.as_str(), seen.header("x-key"), body(seen)["event"].clone());
        assert_eq!(is, ("/new", Some("two"), json!("Purchase")));
    }
    let ids = |all: &[Seen]| {
        let mut ids: Vec<String> = all.iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&old), ids(&new), "the same ids");
    save(&daemon, &(base.to_owned() + &webhook("hook", &after.url("/new"), &keys("two", "Third", "1h")))).await;
    let sent = delivery(&daemon, &dead, "hook").await;
    assert_eq!((&sent["status"], &sent["target"]), (&json!("sent"), &json!("Purchase")), "the name it was sent under");
}

#[tokio::test]
async fn an_unchanged_destination_keeps_its_connection() {
    let (sink, other) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let stays = webhook("stays", &sink.url("/"), "concurrency = 1");
    let daemon = Daemon::start(&(stays + &webhook("other", &other.url("/"), ""))).await;
    let base = text(&daemon);
    let mut text = base.clone();
    for n in 0..10 {
        deposit(&daemon, &n.to_string()).await;
        sink.wait_for(n + 1).await;
        other.wait_for(n + 1).await;
        settled(&daemon, &[("sent", 2 * (n as u64 + 1))]).await;
        text = base.replace(&other.url("/"), &other.url(&format!("/{n}")))
            + &webhook(&format!("new-{n}"), NOWHERE, "enabled = false");
        save(&daemon, &text).await;
    }
    assert!(text.contains("/9"));
    assert!(sink.seen().iter().all(|seen| seen.connection == 1), "{} connections", sink.connections());
    assert!(other.connections() > 1, "a changed one has a client of its own");
}

/// Exchanges that began before a change end as they began, whatever becomes of their destination.
#[tokio::test]
async fn what_is_under_way_is_not_disturbed() {
    let late = || Act::Late(Duration::from_millis(1500), Reply::new(200, ""));
    let (changed, removed) = (Sink::start(vec![late()]).await, Sink::start(vec![late()]).await);
    let config = [webhook("changed", &changed.url("/"), ""), webhook("removed", &removed.url("/"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    let base = text(&daemon);
    let event = deposit(&daemon, "1").await;
    changed.wait_for(1).await;
    removed.wait_for(1).await;
    let (without, _) = base.split_once("[destinations.removed]").unwrap();
    save(&daemon, &without.replace(&changed.url("/"), NOWHERE)).await;
    let status = daemon.get("/status").await.json();
    assert_eq!(status["balance"]["pending"], 2, "the change came while they were under way: {status}");
    settled(&daemon, &[("sent", 2)]).await;
    for name in ["changed", "removed"] {
        let ended = delivery(&daemon, &event, name).await;
        assert_eq!((&ended["status"], &ended["attempt_count"]), (&json!("sent"), &json!(1)), "{name}");
    }
    assert_eq!((changed.seen().len(), removed.seen().len()), (1, 1));
}

/// What is owed to `goes` is visible, waits for nothing but its name, and nobody can be told anything about it.
async fn is_parked(daemon: &Daemon) {
    let status = in_force(daemon, &["stays"]).await;
    let reasons = status["reasons"].as_array().unwrap();
    let told = reasons.iter().any(|reason| reason.as_str().unwrap().starts_with("goes is orphaned: not in the config"));
    assert!(status["state"] == "degraded" && told, "{reasons:?}");
    let rows = daemon.get("/v1/deliveries?destination=goes").await.json()["deliveries"].clone();
    let row = |id: &str| {
        let found = rows.as_array().unwrap().iter().find(|row| row["event"]["event_id"] == id);
        let found = found.unwrap_or_else(|| panic!("{id} in {rows}"));
        (found["status"].clone(), found["next_attempt_at"].clone())
    };
    assert_eq!(row("failed"), (json!("failed"), Value::Null));
    assert_eq!(row("pending"), (json!("failed"), Value::Null));
    for verb in ["pause", "resume", "release", "test"] {
        let body = if verb == "pause" { "{\"reason\":\"x\"}" } else { "" };
        let answer = daemon.post(&format!("/v1/destinations/goes/{verb}"), body).await;
        let problem = problem(&answer, 404, "not_found");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains("\"goes\"") && said.ends_with("stays"), "{verb}: {said}");
    }
}

/// Row 67, also over a restart in between.
#[tokio::test]
async fn a_removed_destination_keeps_what_it_is_owed_until_its_name_returns() {
    let (sink, other) = (
        Sink::start(vec![Act::Reply(Reply::new(400, "")), Act::Reply(Reply::new(503, ""))]).await,
        Sink::with_status(200).await,
    );
    let goes =
        |url: &str, more: &str| webhook("goes", url, &format!("retry = {{ first = \"1h\", jitter = 0 }}\n{more}"));
    let mut daemon = Daemon::start(&webhook("stays", &other.url("/"), "")).await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &goes(&sink.url("/"), ""))).await;
    let dead = deposit(&daemon, "dead").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    let failed = deposit(&daemon, "failed").await;
    settled(&daemon, &[("failed", 1)]).await;
    assert_eq!(daemon.post("/v1/destinations/goes/pause", "{\"reason\":\"moving\"}").await.status, 200);
    let pending = deposit(&daemon, "pending").await;
    settled(&daemon, &[("pending", 1), ("sent", 3)]).await;
    assert_eq!(daemon.post("/v1/destinations/goes/resume", "").await.status, 200);
    sink.wait_for(3).await;
    settled(&daemon, &[("failed", 2)]).await;

    save(&daemon, &without).await;
    let parked = state(&daemon, "goes", "orphaned").await;
    assert_eq!((&parked["counts"]["failed"], &parked["next_attempt_at"]), (&json!(2), &Value::Null));
    is_parked(&daemon).await;
    // It can be owed more: what the DLQ holds is parked with the rest.
    let replayed = daemon.post("/v1/dlq/replay", "{\"filter\":{\"destination\":\"goes\"}}").await.json();
    assert_eq!(replayed["replayed"], 1);
    let waiting = delivery(&daemon, &dead, "goes").await;
    assert_eq!((&waiting["status"], &waiting["next_attempt_at"]), (&json!("pending"), &Value::Null));
    // Accepted now is owed to those who are configured now.
    let later = deposit(&daemon, "later").await;
    let trace = daemon.get(&format!("/v1/events/{later}")).await.json();
    assert_eq!(trace["deliveries"].as_array().unwrap().len(), 1);
    settled(&daemon, &[("sent", 4)]).await;

    daemon.kill();
    daemon.restart().await;
    is_parked(&daemon).await;
    settled(&daemon, &[("pending", 1), ("failed", 2), ("sent", 4)]).await;
    assert_eq!((sink.seen().len(), other.seen().len()), (3, 4), "sent to nobody else");

    let new = Sink::with_status(200).await;
    save(&daemon, &(without.clone() + &goes(&new.url("/"), "enabled = false"))).await;
    state(&daemon, "goes", "disabled").await;
    save(&daemon, &(without.clone() + &goes(&new.url("/"), ""))).await;
    // The replay is due at once, the retries at their own time.
    new.wait_for(1).await;
    settled(&daemon, &[("pending", 0), ("failed", 2), ("sent", 5)]).await;
    assert_eq!(state(&daemon, "goes", "active").await["counts"]["sent"], 1);
    for event in [&failed, &pending] {
        assert_ne!(delivery(&daemon, event, "goes").await["next_attempt_at"], Value::Null);
    }
    assert_eq!((sink.seen().len(), new.seen().len()), (3, 1));
    let ids: Vec<_> = sink.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
    assert!(ids.contains(&new.seen()[0].header("webhook-id").unwrap().to_owned()), "under the id it had");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Crash,
    Nothing,
}

/// Row 67: pending ones in great number.
#[tokio::test]
async fn a_backlog_of_a_removed_destination_is_delivered_when_its_name_returns() {
    backlog(Between::Nothing).await;
}

/// Row 67.
#[tokio::test]
async fn a_backlog_of_a_removed_destination_outlives_a_crash() {
    backlog(Between::Crash).await;
}

async fn backlog(between: Between) {
    let (held, new) = (Sink::with_status(401).await, Sink::with_status(200).await);
    let mut daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &webhook("goes", &held.url("/"), ""))).await;
    let events = |from: usize| -> String {
        let all = (from..from + 500).map(|n| json!({ "event": "deposit", "event_id": n.to_string() }));
        Value::from(all.collect::<Vec<_>>()).to_string()
    };
    for batch in 0..4 {
        assert_eq!(daemon.post("/v1/events", &events(batch * 500)).await.status, 202);
    }
    state(&daemon, "goes", "held").await;
    save(&daemon, &without).await;
    state(&daemon, "goes", "orphaned").await;
    assert_eq!(daemon.post("/v1/events", &events(5000)).await.json()["queued"], 500);
    if between == Between::Crash {
        daemon.kill();
        daemon.restart().await;
    }
    settled(&daemon, &[("pending", 2000), ("accepted", 2000)]).await;
    let other = webhook("newcomer", &held.url("/new"), "");
    save(&daemon, &(without.clone() + &webhook("goes", &new.url("/"), "") + &other)).await;
    settled(&daemon, &[("pending", 0), ("sent", 2000)]).await;
    assert_eq!(new.seen().len(), 2000);
    assert!(held.seen().iter().all(|seen| seen.target == "/"), "a newcomer is owed nothing of old");
}

#[tokio::test]
async fn a_removed_destination_that_is_owed_nothing_leaves_only_its_counts() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &webhook("goes", &sink.url("/"), ""))).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("sent", 1)]).await;
    save(&daemon, &without).await;
    let gone = state(&daemon, "goes", "removed").await;
    assert_eq!((&gone["reason"], &gone["kind"]), (&json!("not in the configuration; nothing is owed"), &Value::Null));
    let status = in_force(&daemon, &[]).await;
    assert_eq!((&status["state"], &status["balance"]["sent"]), (&json!("ok"), &json!(1)));
    let table = daemon.cli(&["status"], "").await.out;
    assert!(table.lines().any(|line| line.starts_with("goes         -     removed ")), "{table}");
}

/// Attempts of the last hour, by the statistics of one event name.
fn attempts(status: &Value, destination: &str) -> Value {
    status["destinations"][destination]["by_event"]["deposit"]["attempts"]["1h"].clone()
}

#[tokio::test]
async fn statistics_of_a_destination_that_leaves_are_kept_also_of_what_was_under_way() {
    let slow = Act::Late(Duration::from_millis(1500), Reply::new(200, ""));
    let sink = Sink::start(vec![Act::Reply(Reply::new(200, "")), slow]).await;
    let goes = webhook("goes", &sink.url("/"), "");
    let mut daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &goes)).await;
    deposit(&daemon, "before").await;
    settled(&daemon, &[("sent", 1)]).await;
    deposit(&daemon, "under way").await;
    sink.wait_for(2).await;
    save(&daemon, &without).await;
    state(&daemon, "goes", "orphaned").await;
    settled(&daemon, &[("sent", 2)]).await;
    assert_eq!(attempts(&daemon.get("/status").await.json(), "goes"), 2);

    // A start without it, and one with it again: what was kept is there each time, and nothing overwrote it.
    daemon.terminate();
    daemon.restart().await;
    assert_eq!(attempts(&daemon.get("/status").await.json(), "goes"), 2, "kept at the stop");
    save(&daemon, &(without + &goes)).await;
    deposit(&daemon, "after").await;
    settled(&daemon, &[("sent", 3)]).await;
    daemon.terminate();
    daemon.restart().await;
    assert_eq!(attempts(&daemon.get("/status").await.json(), "goes"), 3, "they return with its name");
}

#[tokio::test]
async fn a_held_destination_is_released_by_a_change_of_its_own() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(401, ""))]).await;
    let hook = |key: &str| webhook("hook", &sink.url("/"), &format!("headers = {{ \"X-Key\" = \"{key}\" }}"));
    let daemon = Daemon::start("").await;
    let base = text(&daemon);
    save(&daemon, &(base.clone() + &hook("revoked"))).await;
    for n in 0..5 {
        deposit(&daemon, &n.to_string()).await;
    }
    state(&daemon, "hook", "held").await;
    let spent = daemon.wait_for_status(|status| status["destinations"]["hook"]["in_flight"] == 0).await;
    assert_eq!(spent["balance"]["pending"], 5);
    let tried = sink.seen().len();
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    save(&daemon, &(base.clone() + &hook("revoked") + &webhook("other", NOWHERE, ""))).await;
    assert_eq!(state(&daemon, "hook", "held").await["counts"]["pending"], 5, "nothing of it has changed");
    assert_eq!(sink.seen().len(), tried);
    save(&daemon, &(base.clone() + &hook("mended"))).await;
    settled(&daemon, &[("pending", 0), ("sent", 5)]).await;
    assert!(sink.seen()[tried..].iter().all(|seen| seen.header("x-key") == Some("mended")));
    assert_eq!(state(&daemon, "hook", "active").await["counts"]["sent"], 5);
}

/// A token that is revoked while it is in use: what was sent with it fails after the new one is in force.
#[tokio::test]
async fn a_late_refusal_of_the_old_token_does_not_hold_the_new_one() {
    let refused = Act::Late(Duration::from_millis(1500), Reply::new(401, ""));
    let sink = Sink::start(vec![refused, Act::Reply(Reply::new(200, ""))]).await;
    let hook = |key: &str| webhook("hook", &sink.url("/"), &format!("headers = {{ \"X-Key\" = \"{key}\" }}"));
    let daemon = Daemon::start(&hook("old")).await;
    let base = text(&daemon);
    let event = deposit(&daemon, "1").await;
    sink.wait_for(1).await;
    save(&daemon, &base.replace("\"old\"", "\"new\"")).await;
    settled(&daemon, &[("sent", 1)]).await;
    let seen = sink.seen();
    assert_eq!((seen.len(), seen[1].header("x-key")), (2, Some("new")));
    assert_eq!(delivery(&daemon, &event, "hook").await["attempt_count"], 1, "the refusal is traced and does not count");
}

/// Row 70.
#[tokio::test]
async fn a_limit_lowered_below_what_is_in_use_holds_for_new_work() {
    let late = |ms| Act::Late(Duration::from_millis(ms), Reply::new(200, ""));
    let mut acts = vec![late(4000); 8];
    acts.push(late(200));
    let sink = Sink::start(acts).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "concurrency = 8")).await;
    let base = text(&daemon);
    for n in 0..12 {
        deposit(&daemon, &n.to_string()).await;
    }
    sink.wait_for(8).await;
    let lowered = base
        .replace("concurrency = 8", "concurrency = 1")
        .replace("[storage]", "batch_limit = 2\nbody_limit = 200\n[storage]");
    save(&daemon, &lowered).await;
    let status = in_force(&daemon, &["hook"]).await;
    assert!(status["balance"]["sent"].as_u64().unwrap() < 8, "the eight are still under way: {status}");
    settled(&daemon, &[("sent", 12), ("failed", 0)]).await;
    let seen = sink.seen();
    assert_eq!(seen.len(), 12);
    let arrivals: Vec<usize> = seen[8..].iter().map(|seen| seen.connection).collect();
    assert!(arrivals.windows(2).all(|pair| pair[0] == pair[1]), "one after the other: {arrivals:?}");
    let three = json!([{ "event": "x", "event_id": "a" }, { "event": "x", "event_id": "b" }, { "event": "x", "event_id": "c" }]);
    assert_eq!(daemon.post("/v1/events", &three.to_string()).await.status, 413);
    let long = json!({ "event": "x", "event_id": "y".repeat(200) });
    assert_eq!(daemon.post("/v1/events", &long.to_string()).await.status, 413);
    save(&daemon, &base).await;
    assert_eq!(daemon.post("/v1/events", &three.to_string()).await.status, 202);
}
