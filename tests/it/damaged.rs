//! Rows of the store that cannot be read, under the real process: never sent, never silently dropped, seen, and given up by
//! whoever says so.

use redb::{Database, TableDefinition};
use serde_json::json;

use crate::support::daemon::{Daemon, webhook};
use crate::support::sink::Sink;

const DELIVERIES: TableDefinition<'static, &'static [u8; 12], &'static [u8]> = TableDefinition::new("deliveries");
const INBOX: TableDefinition<'static, &'static [u8; 8], &'static [u8]> = TableDefinition::new("inbox");

/// Writes junk over the first row of each of both tables: of the delivery of one event, and of another event.
fn spoil(daemon: &Daemon) {
    let database = Database::open(daemon.path("data/postbackd.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut key = [0; 12];
    (key[7], key[11]) = (1, 1);
    transaction.open_table(DELIVERIES).unwrap().insert(&key, b"junk".as_slice()).unwrap().expect("a delivery");
    let key = 2_u64.to_be_bytes();
    transaction.open_table(INBOX).unwrap().insert(&key, b"junk".as_slice()).unwrap().expect("an event");
    transaction.commit().unwrap();
}

// Rows 11 and 82.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_listed_with_what_can_be_read_and_given_up_by_its_id() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("shop", &sink.url("/"))).await;
    assert_eq!(daemon.post("/v1/destinations/shop/pause", r#"{"reason":"for now"}"#).await.status, 200);
    for id in ["row", "event", "fine"] {
        let event = json!({ "event": "deposit", "event_id": id });
        assert_eq!(daemon.post("/v1/events", &event.to_string()).await.status, 202);
    }
    daemon.terminate();
    spoil(&daemon);
    daemon.restart().await;
    // Whether anybody has met them or not.
    let all = daemon.cli(&["dlq", "damaged", "--all", "--json"], "").await.json();
    let found: Vec<_> = all["rows"].as_array().unwrap().iter().map(|row| (&row["table"], &row["discard"][0])).collect();
    let (row, event) = (&all["rows"][0]["discard"][0], &all["rows"][2]["discard"][0]);
    assert_eq!(found, [(&json!("outbox"), row), (&json!("deliveries"), row), (&json!("inbox"), event)], "{all:#}");
    assert!(row.is_string() && event.is_string() && row != event, "{all:#}");
    for wrong in ["all=yes", "cursor=inbox", "cursor=x.00", "limit=5"] {
        assert_eq!(daemon.get(&format!("/v1/dlq/damaged?{wrong}")).await.status, 422, "{wrong}");
    }
    assert_eq!(daemon.post("/v1/destinations/shop/resume", "").await.status, 200);
    let says = |status: &serde_json::Value| {
        let reasons = status["reasons"].as_array().unwrap();
        reasons.iter().any(|why| why.as_str().unwrap().contains("postbackd dlq damaged"))
    };
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1 && says(status)).await;
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    let listed = daemon.cli(&["dlq", "damaged"], "").await;
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.out.contains("inbox") && listed.out.contains("deliveries"), "{}", listed.out);
    let listed = daemon.cli(&["dlq", "damaged", "--json"], "").await.json();
    let rows = listed["rows"].as_array().unwrap();
    let of = |table: &str| rows.iter().find(|row| row["table"] == table).unwrap_or_else(|| panic!("{listed:#}"));
    assert_eq!(of("deliveries")["event"]["event_id"], "row", "the event is there to be sent again");
    let owed = &of("inbox")["deliveries"][0];
    assert_eq!((&owed["status"], &owed["destination"]), (&json!("pending"), &json!("shop")));
    let ids: Vec<&str> =
        ["deliveries", "inbox"].iter().map(|table| of(table)["discard"][0].as_str().unwrap()).collect();
    let refused = daemon.cli(&["dlq", "discard", ids[0]], "").await;
    assert_eq!(refused.code, 2, "not without a reason: {refused:?}");
    let given_up = daemon.cli(&["dlq", "discard", ids[0], ids[1], "--reason", "disk of Tuesday", "--json"], "").await;
    assert_eq!(given_up.json()["discarded"], 2, "{given_up:?}");
    let again = daemon.cli(&["dlq", "discard", ids[0], ids[1], "--reason", "twice", "--json"], "").await;
    assert_eq!(again.json()["discarded"], 0, "{again:?}");
    let status = daemon.wait_for_status(|status| status["state"] == "ok").await;
    for (count, wanted) in [("accepted", 3), ("sent", 1), ("discarded", 2), ("pending", 0)] {
        assert_eq!(status["balance"][count], wanted, "{status:#}");
    }
    let audit = daemon.cli(&["audit"], "").await;
    assert!(audit.out.contains("discard") && audit.out.contains("disk of Tuesday"), "{}", audit.out);
    assert_eq!(sink.seen().len(), 1, "what cannot be read was never sent");
    let left = daemon.cli(&["dlq", "damaged", "--all"], "").await;
    assert!(left.out.contains("inbox") && left.err.contains("it goes with its event"), "{left:?}");
    daemon.terminate();
    let verified = daemon.cli(&["verify"], "").await;
    assert_eq!(verified.out.lines().filter(|line| line.starts_with("event ")).count(), 1, "{}", verified.out);
    assert!(!verified.out.contains("delivery "), "{}", verified.out);
}
