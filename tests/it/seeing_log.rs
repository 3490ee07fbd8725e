//! Seeing what became of events: statistics over a restart, the report, following the log.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, settled, webhook};
use crate::support::sink::Sink;

#[tokio::test]
async fn statistics_and_the_report_outlive_a_restart() {
    let (good, bad) = (Sink::with_status(200).await, Sink::with_status(400).await);
    let config = [webhook("good", &good.url("/"), ""), webhook("bad", &bad.url("/"), "")].concat();
    let mut daemon = Daemon::start(&config).await;
    for (id, value) in [("1", "10.10"), ("2", "0.20")] {
        let event = json!({ "event": "deposit", "event_id": id, "uid": "u", "value": value, "currency": "USD" });
        accept(&daemon, event).await;
    }
    settled(&daemon, &[("sent", 2), ("failed_permanently", 2)]).await;
    daemon.terminate();
    daemon.restart().await;
    let status = daemon.get("/status").await.json();
    let of = |name: &str| status["destinations"][name].clone();
    let (good, bad) = (of("good"), of("bad"));
    assert_eq!(good["success_rate"]["1h"], json!(1.0), "{good}");
    assert_eq!(bad["success_rate"]["1h"], json!(0.0), "{bad}");
    assert_eq!(bad["last_error"]["status"], json!(400), "{bad}");

    let rows = daemon.cli(&["report", "--json", "--destination", "good"], "").await.json();
    let row = &rows[0];
    assert_eq!(
        (&row["accepted"], &row["sent"], &row["value"]["USD"]),
        (&json!(2), &json!(2), &json!("10.30")),
        "{rows}"
    );
    let csv = daemon.cli(&["report", "--csv", "--by", "hour"], "").await;
    assert!(csv.out.contains(",good,2,2,0,0,0,0,0,USD,10.30\r\n"), "{csv:?}");
    assert!(csv.out.contains(",bad,2,0,0,0,2,0,0,,\r\n"), "{csv:?}");
    assert_eq!(daemon.get("/v1/report?by=week").await.status, 422);
}

/// The sender's ids of `sent` rows, as they are shown.
fn sent_ids(out: std::process::ChildStdout, into: &tokio::sync::mpsc::Sender<String>) {
    for line in BufReader::new(out).lines() {
        let row: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if row["status"] == "sent" && into.blocking_send(row["event"]["event_id"].as_str().unwrap().to_owned()).is_err()
        {
            return;
        }
    }
}

#[tokio::test]
async fn following_shows_each_delivery_once_also_over_a_restart() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("good", &sink.url("/"), "")).await;
    let mut command = daemon.command("deliveries");
    let mut child = command.args(["--follow", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (into, mut ids) = tokio::sync::mpsc::channel(16);
    let out = child.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || sent_ids(out, &into));
    accept(&daemon, json!({ "event": "deposit", "event_id": "first", "uid": "u" })).await;
    assert_eq!(ids.recv().await.as_deref(), Some("first"));
    daemon.terminate();
    daemon.restart().await;
    accept(&daemon, json!({ "event": "deposit", "event_id": "second", "uid": "u" })).await;
    assert_eq!(ids.recv().await.as_deref(), Some("second"), "and the first is not shown again");
    child.kill().unwrap();
    child.wait().unwrap();
    reading.await.unwrap();
}
