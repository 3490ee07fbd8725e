//! A clock that is further ahead than a store believes, under the real process: nothing expires by it, it is told, and an
//! operator may vouch for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postbackd::destination::example;
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::time::{DurationMs, KnownTime, UnixMs};
use postbackd::env::entropy::SystemEntropy;
use postbackd::store::write::{Accept, WriteOp};
use postbackd::store::{Options, Store};

use crate::support::daemon::{Daemon, PATIENCE};
use crate::support::desk::problem;
use crate::support::sink::Sink;

/// A store that knows of no later time than forty days ago, with an event of that day and one of twenty days before it.
fn forty_days_ago(daemon: &Daemon) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = UnixMs(u64::try_from(now.as_millis()).unwrap());
    let day = |ago| now - DurationMs::from_days(ago);
    let mut store = Store::open(&daemon.path("data"), Options { cache: 1 << 20 }, &SystemEntropy).unwrap();
    store.keep_first_time(KnownTime { at: day(40), ahead: DurationMs::ZERO, ran: DurationMs::ZERO }).unwrap();
    let accept = |ago| {
        let (id, at) = (format!("d{ago}"), day(ago));
        let event = example::bare("old", Some(id.clone()), "lead".parse().unwrap(), "app".parse().unwrap(), at);
        let key = store.hash_key().dedupe_key(&event, &Discriminator::EventId(id));
        let content = store.hash_key().content(&event);
        let (event, heard_at, repeat_since) = (Arc::new(event), at, UnixMs(0));
        WriteOp::Accept(Accept { event, key, content, heard_at, repeat_since, plan: Vec::new() })
    };
    let ops = [accept(60), accept(40)];
    store.commit(&ops).unwrap();
    store.close().unwrap();
}

async fn wait_until_gone(daemon: &Daemon, event: &str) {
    let started = Instant::now();
    while daemon.get(&format!("/v1/events/{event}")).await.status != 404 {
        assert!(started.elapsed() < PATIENCE, "{event} stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_doubted(status: &serde_json::Value) -> bool {
    let reasons = status["reasons"].as_array().unwrap();
    reasons.iter().any(|why| why.as_str().unwrap().contains("40 days ahead of the time this store knows"))
}

// Rows 30 and 31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_expires_by_a_doubted_clock_until_somebody_vouches_for_it_which_holds_at_once_and_after_a_crash() {
    let ops = Sink::with_status(200).await;
    let alerts = "[alerts]\nevery = \"50ms\"\nsettle = \"200ms\"\n[alerts.channels.ops]\nkind = \"webhook\"\nallow_private = true\n";
    let retention = "[retention]\nevents = \"10d\"\n";
    let mut daemon = Daemon::prepare("", &format!("{alerts}url = \"{}\"\n{retention}", ops.url("/")));
    forty_days_ago(&daemon);
    daemon.restart().await;
    assert!(is_doubted(&daemon.get("/status").await.json()));
    let told: serde_json::Value = serde_json::from_slice(&ops.wait_for(1).await[0].body).unwrap();
    assert_eq!((told["kind"].as_str(), told["id"].as_str()), (Some("problem"), Some("clock/doubted")), "{told}");
    assert!(told["todo"].as_str().unwrap().contains("postbackd clock confirm --reason TEXT"), "{told}");
    // What is old by the time that is known goes, and nothing else.
    wait_until_gone(&daemon, "d60").await;
    assert_eq!(daemon.get("/v1/events/d40").await.status, 200);
    for body in ["", "{}", r#"{"reason":" "}"#, r#"{"reason":"x","for":"2h"}"#] {
        assert_eq!(daemon.post("/v1/clock/confirm", body).await.status, 422, "{body}");
    }
    assert_eq!(daemon.get("/v1/events/d40").await.status, 200);
    let said = daemon.cli(&["clock", "confirm", "--reason", "the machine was off"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("the clock is believed: it is 2"), "{said:?}");
    assert!(!is_doubted(&daemon.get("/status").await.json()), "at once");
    let over: serde_json::Value = serde_json::from_slice(&ops.wait_for(2).await[1].body).unwrap();
    assert_eq!((over["kind"].as_str(), over["id"].as_str()), (Some("recovered"), Some("clock/doubted")), "{over}");
    daemon.kill();
    daemon.restart().await;
    assert!(!is_doubted(&daemon.get("/status").await.json()), "after a crash");
    wait_until_gone(&daemon, "d40").await;
    problem(&daemon.post("/v1/clock/confirm", r#"{"reason":"once more"}"#).await, 409, "not_doubted");
    let deeds = daemon.get("/v1/audit").await.json();
    let deed = &deeds["deeds"][0];
    assert_eq!((deed["action"].as_str(), deed["target"].as_str()), (Some("confirm"), Some("clock")), "{deeds:#}");
    assert_eq!(deed["reason"], "the machine was off");
    assert!(deed["result"].as_str().unwrap().contains("was known"), "{deed}");
    assert_eq!(deeds["deeds"].as_array().unwrap().len(), 1, "what was refused is no deed");
}
