//! What an operator may rely on when telling a destination to wait or to go on (SPEC 2, 5, 6, 8.1, 8.3), and when a webhook's
//! receiver says that it is gone.

use postbackd::domain::time::UnixMs;
use serde_json::{Value, json};

use crate::support::daemon::{Answer, Daemon, Said};
use crate::support::desk::{SLOW, delivery, deposit, problem, settled, webhook};
use crate::support::sink::{Act, Reply, Sink};

async fn tell(daemon: &Daemon, name: &str, verb: &str, body: &str) -> Answer {
    daemon.post(&format!("/v1/destinations/{name}/{verb}"), body).await
}

/// The state after it.
async fn told(daemon: &Daemon, name: &str, verb: &str, body: &str) -> Value {
    let answer = tell(daemon, name, verb, body).await;
    assert_eq!(answer.status, 200, "{verb} {body}: {}", answer.text());
    answer.json()
}

async fn state(daemon: &Daemon, name: &str, wanted: &str) -> Value {
    let status = daemon.wait_for_status(|status| status["destinations"][name]["state"] == wanted).await;
    status["destinations"][name].clone()
}

// Row 50.
#[tokio::test]
async fn a_410_pauses_its_destination_until_an_operator_resumes_it_also_over_a_crash() {
    let (gone, other) =
        (Sink::start(vec![Act::Reply(Reply::new(410, "moved\non"))]).await, Sink::with_status(200).await);
    let config = [webhook("hook", &gone.url("/"), ""), webhook("other", &other.url("/"), "")];
    let mut daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    let hook = state(&daemon, "hook", "paused").await;
    let reason = "gone: HTTP 410, the receiver says this webhook is gone for good: moved on";
    assert_eq!(
        (&hook["reason"], &hook["until"], &hook["paused_by"]),
        (&json!(reason), &Value::Null, &json!("destination"))
    );
    assert_eq!(hook["next_attempt_at"], Value::Null);
    assert_eq!((&hook["last_error"]["status"], &hook["last_error"]["reason"]), (&json!(410), &json!("gone")));
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(
        (&status["state"], &status["reasons"]),
        (&json!("degraded"), &json!([format!("hook is paused: {reason}")]))
    );
    let kept = delivery(&daemon, "1", "hook").await;
    assert_eq!((&kept["status"], &kept["attempt_count"]), (&json!("pending"), &json!(0)), "nothing is lost or spent");
    let attempt = &kept["attempts"][0];
    assert_eq!((&attempt["status"], &attempt["verdict"]), (&json!(410), &json!("destination_fault")));

    daemon.kill();
    daemon.restart().await;
    assert_eq!(state(&daemon, "hook", "paused").await["reason"], reason);
    deposit(&daemon, "2").await;
    settled(&daemon, &[("pending", 2), ("sent", 2)]).await;
    assert_eq!(gone.seen().len(), 1, "one delivery found out, and no other");

    gone.set(vec![Act::Reply(Reply::new(200, ""))]);
    let after = told(&daemon, "hook", "resume", "").await;
    let wanted = (json!("hook"), json!("active"), Value::Null, Value::Null);
    assert_eq!(
        (after["destination"].clone(), after["state"].clone(), after["reason"].clone(), after["paused_by"].clone()),
        wanted
    );
    settled(&daemon, &[("pending", 0), ("sent", 4)]).await;
    let ids: Vec<String> = gone.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
    assert!(ids.len() == 3 && ids[1..].contains(&ids[0]), "the first is sent again, under its id: {ids:?}");
    daemon.kill();
    daemon.restart().await;
    assert_eq!(
        daemon.wait_for_status(|status| status["state"] == "ok").await["destinations"]["hook"]["state"],
        "active"
    );
}

// Row 50.
#[tokio::test]
async fn a_410_that_the_operator_wants_retried_is_a_failure_like_others() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(410, ""))]).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "retry = { first = \"1h\", statuses = [410] }")).await;
    deposit(&daemon, "1").await;
    let status = settled(&daemon, &[("failed", 1)]).await;
    assert_eq!(status["destinations"]["hook"]["state"], "active");
}

#[tokio::test]
async fn a_pause_for_a_span_ends_by_itself_also_over_a_crash() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    for (id, crash) in [("1", false), ("2", true)] {
        let paused = told(&daemon, "hook", "pause", r#"{"reason":"stock is counted","for":"1s500ms"}"#).await;
        assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("stock is counted")));
        assert_eq!(paused["paused_by"], "operator");
        deposit(&daemon, id).await;
        let shown = daemon.get("/status").await.json();
        assert_eq!(shown["state"], "ok", "an operator's pause is meant");
        assert_eq!(shown["destinations"]["hook"]["until"], paused["until"]);
        assert_eq!(shown["destinations"]["hook"]["next_attempt_at"], paused["until"]);
        if crash {
            daemon.kill();
            daemon.restart().await;
        }
        settled(&daemon, &[("pending", 0), ("sent", id.parse().unwrap())]).await;
        let sent = delivery(&daemon, id, "hook").await["attempts"][0]["at"].as_str().unwrap().to_owned();
        let ms = |text: &str| UnixMs::parse_rfc3339(text).unwrap();
        let until = ms(paused["until"].as_str().unwrap());
        assert!(ms(&sent) >= until, "sent at {sent} and paused until {until}");
        assert_eq!(state(&daemon, "hook", "active").await["reason"], Value::Null);
    }
}

#[tokio::test]
async fn what_is_in_flight_when_a_pause_begins_is_finished_and_nothing_follows() {
    let late = Act::Late(std::time::Duration::from_secs(1), Reply::new(200, ""));
    let sink = Sink::start(vec![late, Act::Reply(Reply::new(200, ""))]).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "concurrency = 1")).await;
    deposit(&daemon, "1").await;
    sink.wait_for(1).await;
    deposit(&daemon, "2").await;
    let paused = told(&daemon, "hook", "pause", r#"{"reason":"x"}"#).await;
    assert_eq!((&paused["state"], &paused["in_flight"]), (&json!("paused"), &json!(1)));
    settled(&daemon, &[("sent", 1), ("pending", 1)]).await;
    let again = told(&daemon, "hook", "pause", r#"{"reason":"another reason","for":"2h"}"#).await;
    assert_eq!((&again["reason"], &again["in_flight"]), (&json!("another reason"), &json!(0)), "the latest word holds");
    assert!(again["until"].is_string());
    assert_eq!(told(&daemon, "hook", "release", "").await["state"], "paused", "a pause is ended by its own word");
    assert_eq!(sink.seen().len(), 1);
    told(&daemon, "hook", "resume", "{}").await;
    settled(&daemon, &[("sent", 2)]).await;
}

#[tokio::test]
async fn a_release_probes_a_held_destination_at_once_and_costs_one_attempt_if_it_came_too_early() {
    let sink = Sink::with_status(401).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "concurrency = 1")).await;
    deposit(&daemon, "1").await;
    state(&daemon, "hook", "held").await;
    for id in ["2", "3"] {
        deposit(&daemon, id).await;
    }
    let early = told(&daemon, "hook", "release", "").await;
    assert_eq!((&early["state"], &early["in_flight"]), (&json!("held"), &json!(1)), "the probe is on its way");
    sink.wait_for(2).await;
    daemon.wait_for_status(|status| status["destinations"]["hook"]["in_flight"] == 0).await;
    let held = state(&daemon, "hook", "held").await;
    assert_eq!((&held["counts"]["pending"], sink.seen().len()), (&json!(3), 2), "the next probe is due by hold_probe");
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    told(&daemon, "hook", "release", "").await;
    settled(&daemon, &[("sent", 3)]).await;
    assert_eq!(state(&daemon, "hook", "active").await["in_flight"], 0);
}

#[tokio::test]
async fn a_release_ends_a_throttle() {
    let busy = Reply::new(429, "").header("retry-after", "3600");
    let sink = Sink::start(vec![Act::Reply(busy), Act::Reply(Reply::new(200, ""))]).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    deposit(&daemon, "1").await;
    state(&daemon, "hook", "throttled").await;
    deposit(&daemon, "2").await;
    assert_eq!(told(&daemon, "hook", "release", "").await["state"], "active");
    settled(&daemon, &[("sent", 1), ("failed", 1)]).await;
}

#[tokio::test]
async fn what_is_not_understood_changes_nothing_and_what_holds_already_is_answered() {
    let config =
        [webhook("hook", "http://127.0.0.1:9/", SLOW), webhook("off", "http://127.0.0.1:9/", "enabled = false")];
    let daemon = Daemon::start(&config.concat()).await;
    for verb in ["pause", "resume", "release"] {
        for stranger in ["nobody", "Hook", "%20"] {
            let said = problem(&tell(&daemon, stranger, verb, r#"{"reason":"x"}"#).await, 404, "not_found");
            assert!(said["detail"].as_str().unwrap().ends_with("; it has hook, off"), "{said}");
        }
        problem(&tell(&daemon, "%ff", verb, "").await, 422, "invalid");
        for body in ["{", r#"{"reason":"x","reason":"x"}"#] {
            problem(&tell(&daemon, "hook", verb, body).await, 400, "invalid_json");
        }
        for body in [r#"{"why":"x"}"#, "[]", "7"] {
            assert_eq!(tell(&daemon, "hook", verb, body).await.status, 422, "{verb} {body}");
        }
        assert_eq!(daemon.get(&format!("/v1/destinations/hook/{verb}")).await.status, 405);
        problem(&tell(&daemon, "hook", verb, &" ".repeat(20_000)).await, 413, "body_too_large");
    }
    for (body, path) in [
        ("", "$.reason"),
        (r#"{"reason":" "}"#, "$.reason"),
        (r#"{"reason":"x","for":"2 h"}"#, "$.for"),
        (r#"{"reason":"x","for":7200}"#, "$.for"),
    ] {
        let answer = tell(&daemon, "hook", "pause", body).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{body}");
    }
    for verb in ["resume", "release"] {
        assert_eq!(told(&daemon, "hook", verb, "").await["state"], "active");
        assert_eq!(told(&daemon, "off", verb, "").await["state"], "disabled");
        assert_eq!(told(&daemon, "hook", verb, r#"{"reason":"mended"}"#).await["state"], "active");
        let kept = daemon.get("/v1/audit?limit=1").await.json()["deeds"][0].clone();
        let said = (&kept["action"], &kept["target"], &kept["reason"]);
        assert_eq!(said, (&json!(verb), &json!("hook"), &json!("mended")), "{kept}");
        assert_eq!(tell(&daemon, "hook", verb, r#"{"for":"2h"}"#).await.status, 422, "{verb} is for good");
    }
    assert_eq!(told(&daemon, "off", "pause", r#"{"reason":"x"}"#).await["state"], "paused");
    assert_eq!(told(&daemon, "off", "resume", "").await["state"], "disabled", "as the configuration says");
}

#[tokio::test]
async fn the_command_line_says_the_same_and_exits_by_it() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    let cli = async |words: &[&str]| -> Said { daemon.cli(words, "").await };
    let paused = cli(&["pause", "hook", "--reason", "stock is counted"]).await;
    assert_eq!((paused.code, paused.out.trim_end()), (0, "hook is paused: stock is counted"));
    let spanned = cli(&["pause", "hook", "--reason", "stock is counted", "--for", "2h", "--json"]).await;
    assert_eq!((spanned.code, &spanned.json()["state"]), (0, &json!("paused")));
    let until = UnixMs::parse_rfc3339(spanned.json()["until"].as_str().unwrap()).unwrap();
    let since =
        UnixMs::parse_rfc3339(&daemon.get("/status").await.json()["config"]["loaded_at"].to_string().replace('"', ""))
            .unwrap();
    assert!((7_200_000..7_260_000).contains(&until.since(since).0), "{until}");
    deposit(&daemon, "1").await;
    assert_eq!(cli(&["status", "--check"]).await.code, 0, "an operator's pause is meant");
    let resumed = cli(&["resume", "hook", "--reason", "counted"]).await;
    assert_eq!(resumed.code, 0);
    assert_eq!(daemon.get("/v1/audit").await.json()["deeds"][0]["reason"], "counted");
    assert!(resumed.out.starts_with("hook is active"), "{resumed:?}");
    settled(&daemon, &[("sent", 1)]).await;
    assert_eq!(cli(&["release", "hook"]).await.out.trim_end(), "hook is active");
    for verb in [&["pause", "nobody", "--reason", "x"][..], &["resume", "nobody"], &["release", "nobody"]] {
        let refused = cli(verb).await;
        assert_eq!(refused.code, 1, "{verb:?}");
        assert!(refused.err.contains("it has hook"), "{refused:?}");
    }
    assert_eq!(cli(&["pause", "hook", "--reason", " "]).await.code, 1);
    for usage in [
        &["pause", "hook"][..],
        &["pause", "--reason", "x"],
        &["pause", "hook", "--reason", "x", "--for", "soon"],
        &["resume"],
        &["release"],
    ] {
        assert_eq!(cli(usage).await.code, 2, "{usage:?}");
    }
}

#[tokio::test]
async fn an_answer_tells_the_state_that_holds_however_busy_the_daemon_is() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    let busy = async {
        for batch in 0..150 {
            let event = |n| json!({ "event": "deposit", "event_id": format!("{batch}-{n}") });
            let events: Vec<Value> = (0..20).map(event).collect();
            assert_eq!(daemon.post("/v1/events", &Value::from(events).to_string()).await.status, 202);
        }
    };
    let operator = async {
        for _ in 0..150 {
            assert_eq!(told(&daemon, "hook", "pause", r#"{"reason":"x"}"#).await["state"], "paused");
            assert_eq!(told(&daemon, "hook", "resume", "").await["state"], "active");
        }
    };
    tokio::join!(busy, operator);
    settled(&daemon, &[("sent", 3000)]).await;
}
