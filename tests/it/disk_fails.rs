//! A disk that fails under the real process: it acknowledges nothing more, ends with 74, and the next start reads the whole
//! store before it takes events.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, webhook};
use crate::support::disk::{Kind, SmallDisk};
use crate::support::senders::{Acknowledged, Senders};
use crate::support::sink::Sink;

/// Every event that was acknowledged is in the store.
async fn assert_kept(daemon: &Daemon, acknowledged: &Acknowledged) {
    let acknowledged: BTreeMap<String, String> = acknowledged.lock().unwrap().clone();
    assert!(!acknowledged.is_empty());
    for (own, id) in &acknowledged {
        let answer = daemon.get(&format!("/v1/events/{id}")).await;
        assert_eq!(answer.status, 200, "{own} was acknowledged as {id} and is gone");
    }
}

/// What ends the daemon, and a word of what it says about it.
type Way = (fn(&SmallDisk), &'static str);

// Rows 8 and 13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_daemon_with_74_and_loses_nothing_that_was_acknowledged() {
    let ways: [Way; 2] =
        [(SmallDisk::pull_out, "Input/output error"), (SmallDisk::make_read_only, "Read-only file system")];
    for (fail, word) in ways {
        let sink = Sink::with_status(200).await;
        let mut daemon = Daemon::prepare("", &webhook("shop", &sink.url("/")));
        let Some(disk) = SmallDisk::mount(Kind::Ext4, &daemon.path("data"), 48) else { return };
        daemon.enter(disk.enter());
        daemon.set_log(daemon.path("log"));
        daemon.restart().await;
        let acknowledged = Acknowledged::default();
        let senders = Senders::start(daemon.port, &acknowledged, &Arc::default());
        while acknowledged.lock().unwrap().len() < 50 {
            tokio::task::yield_now().await;
        }
        fail(&disk);
        assert_eq!(daemon.ended().await, Some(74));
        senders.stop().await;
        let log = fs::read_to_string(daemon.path("log")).unwrap();
        for said in [word, "nothing is acknowledged any more", "postbackd.suspect"] {
            assert!(log.contains(said), "{said}: {log}");
        }
        if word == "Input/output error" {
            let said = daemon.start_and_end_with(74);
            assert!(said.contains(word) && said.contains("see to the disk"), "{said}");
        }
        disk.plug_in();
        daemon.restart().await;
        assert_kept(&daemon, &acknowledged).await;
        let status = daemon.wait_for_status(|status| status["balance"]["pending"] == 0).await;
        assert_eq!(status["balance"]["balanced"], true, "{status:#}");
        daemon.terminate();
    }
}

// Row 8: the mark is on a mount of its own, so that not even root can take it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_cannot_be_deleted_is_told_and_keeps_no_sound_store_from_serving() {
    let mut daemon = Daemon::prepare("", "");
    let Some(disk) = SmallDisk::mount(Kind::Tmpfs, &daemon.path("data"), 24) else { return };
    daemon.enter(disk.enter());
    daemon.set_log(daemon.path("log"));
    daemon.restart().await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"before"}"#).await.status, 202);
    daemon.terminate();
    fs::write(disk.path("postbackd.suspect"), "Input/output error (os error 5)\n").unwrap();
    disk.sh("mount --bind \"$DATA/postbackd.suspect\" \"$DATA/postbackd.suspect\"");
    for _ in 0..2 {
        daemon.restart().await;
        let log = fs::read_to_string(daemon.path("log")).unwrap();
        for said in ["reading all of it", "is sound", "cannot be removed", "until somebody deletes it"] {
            assert!(log.contains(said), "{said}: {log}");
        }
        assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"again"}"#).await.status, 202);
        daemon.terminate();
    }
    disk.sh("umount \"$DATA/postbackd.suspect\"");
    daemon.restart().await;
    assert!(!disk.path("postbackd.suspect").exists());
    daemon.terminate();
}

// Rows 10 and 12: a file that somebody cuts short under the daemon, which finds out by reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_cut_short_under_the_daemon_is_suspect_and_refused_until_it_is_whole() {
    let mut daemon = Daemon::prepare("", "");
    // The smallest cache there is, so that reading reads the file.
    let text = fs::read_to_string(daemon.config()).unwrap();
    fs::write(daemon.config(), text.replace("reserve = ", "cache = \"1MiB\"\nreserve = ")).unwrap();
    daemon.restart().await;
    let mut ids = Vec::new();
    for batch in 0..40 {
        let padding = "x".repeat(2000);
        let events: Vec<_> = (0..50)
            .map(|n| serde_json::json!({ "event": "deposit", "event_id": format!("{batch}-{n}"), "data": { "x": padding } }))
            .collect();
        let answer = daemon.post("/v1/events", &serde_json::to_string(&events).unwrap()).await.json();
        ids.push(answer["results"][0]["id"].as_str().unwrap().to_owned());
    }
    let file = daemon.path("data/postbackd.redb");
    let whole = fs::read(&file).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len(64 * 1024).unwrap();
    for id in &ids {
        // Its answer may or may not make it.
        daemon.try_request("GET", &format!("/v1/events/{id}"), "", None).await;
    }
    assert_eq!(daemon.ended().await, Some(74));
    assert!(daemon.path("data/postbackd.suspect").exists());
    let said = daemon.start_and_end_with(74);
    assert!(said.contains("postbackd.redb") && said.contains("backup"), "{said}");
    assert!(daemon.path("data/postbackd.suspect").exists(), "it stays suspect");
    // Somebody has a copy of it. It was not closed, which is no damage.
    fs::write(&file, whole).unwrap();
    daemon.restart().await;
    assert!(!daemon.path("data/postbackd.suspect").exists());
    for id in &ids {
        assert_eq!(daemon.get(&format!("/v1/events/{id}")).await.status, 200);
    }
    daemon.terminate();
}

// Row 14: a disk that hangs for longer than senders wait. They are told to come again, the operator is answered, and nothing
// is acknowledged before it is on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_sheds_senders_in_time_and_goes_on_where_it_was() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::prepare("", &webhook("shop", &sink.url("/")));
    let Some(disk) = SmallDisk::mount(Kind::Ext4, &daemon.path("data"), 48) else { return };
    daemon.enter(disk.enter());
    daemon.restart().await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"before"}"#).await.status, 202);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    disk.freeze();
    let began = Instant::now();
    let refused = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"during"}"#).await;
    let took = began.elapsed();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("store_slow") && refused.header("retry-after").is_some(), "{refused:?}");
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert_eq!(daemon.get("/healthz").await.status, 200);
    disk.thaw();
    let again = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"during"}"#).await;
    assert_eq!(again.status, 202, "{}", again.text());
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 2).await;
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    assert_eq!(sink.seen().len(), 2, "once each");
    daemon.terminate();
}
