//! Backups of a daemon under load, what a crash leaves of one, and the way back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, PATIENCE};
use crate::support::desk::{problem, webhook};
use crate::support::disk::{Kind, SmallDisk};
use crate::support::sink::{Seen, Sink};

fn events(prefix: &str, count: usize) -> String {
    let event = |n| json!({ "event": "deposit", "event_id": format!("{prefix}{n}"), "value": "25.00", "uid": "u" });
    Value::from((0..count).map(event).collect::<Vec<_>>()).to_string()
}

pub async fn fill(daemon: &Daemon, prefix: &str, batches: usize) {
    for batch in 0..batches {
        let answer = daemon.post("/v1/events", &events(&format!("{prefix}{batch}-"), 500)).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

async fn owed(daemon: &Daemon, count: u64) -> Value {
    let all = |status: &Value| {
        let of = |name: &str| status["balance"][name].as_u64().unwrap();
        of("pending") + of("failed") == count && status["balance"]["balanced"] == true
    };
    daemon.wait_for_status(all).await
}

/// Names in the directory of backups.
pub fn backups(daemon: &Daemon) -> BTreeSet<String> {
    let entries = std::fs::read_dir(daemon.path("data/backups"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub fn unfinished(daemon: &Daemon) -> impl Iterator<Item = String> {
    backups(daemon).into_iter().filter(|name| name.ends_with(".redb.tmp"))
}

fn ids(seen: &[Seen]) -> BTreeSet<String> {
    seen.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect()
}

// Row 19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_restored_paused_and_what_it_owes_is_sent_under_its_ids() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("crm", &sink.url("/"), "")).await;
    assert_eq!(daemon.cli(&["pause", "crm", "--reason", "wait"], "").await.code, 0);
    fill(&daemon, "a", 4).await;
    let busy = Arc::new(AtomicBool::new(true));
    let made = {
        let command = daemon.cli(&["backup", "--json"], "");
        let stop = Arc::clone(&busy);
        let waiting = tokio::spawn(async move {
            let said = command.await;
            stop.store(false, Ordering::SeqCst);
            said
        });
        let mut batch = 0;
        while busy.load(Ordering::SeqCst) {
            fill(&daemon, &format!("b{batch}-"), 1).await;
            batch += 1;
        }
        assert!(batch > 0, "events came in meanwhile");
        waiting.await.unwrap()
    };
    assert_eq!(made.code, 0, "{made:?}");
    let file = made.json()["file"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["bytes"].as_u64().unwrap(), std::fs::metadata(&file).unwrap().len());
    let trail = daemon.get("/v1/audit").await.json();
    assert_eq!((&trail["deeds"][0]["action"], &trail["deeds"][0]["target"]), (&json!("backup"), &json!(file)));
    let listed = daemon.get("/v1/backup").await.json();
    assert_eq!(listed["backups"][0]["file"], json!(file), "{listed}");

    // A running daemon is left alone, its backups are checked.
    for words in [&["verify"][..], &["restore", &file], &["compact"]] {
        let said = daemon.cli(words, "").await;
        assert!(said.code == 1 && said.err.contains("postbackd runs on this store"), "{said:?}");
    }
    let checked = daemon.cli(&["verify", &file, "--json"], "").await;
    assert_eq!((checked.code, &checked.json()["ok"]), (0, &json!(true)), "{checked:?}");
    let kept = checked.json()["events"].as_u64().unwrap();
    assert!(kept >= 2000, "{kept} events");

    // All of it is sent, then the machine goes back to the backup.
    assert_eq!(daemon.cli(&["resume", "crm"], "").await.code, 0);
    owed(&daemon, 0).await;
    let first = ids(&sink.seen());
    daemon.terminate();
    let rehearsed = daemon.cli(&["restore", &file, "--dry-run", "--json"], "").await.json();
    assert_eq!(rehearsed["restored"], false);
    let restored = daemon.cli(&["restore", &file, "--json"], "").await;
    assert_eq!(restored.code, 0, "{restored:?}");
    let crm = json!([{ "destination": "crm", "owed": kept, "sent_since": kept, "ended_since": 0, "settled": 0 }]);
    assert_eq!((&restored.json()["owed"], &rehearsed["owed"]), (&crm, &crm));
    assert!(PathBuf::from(restored.json()["set_aside"].as_str().unwrap()).exists());
    daemon.restart().await;
    owed(&daemon, kept).await;
    let status = daemon.wait_for_status(|status| status["destinations"]["crm"]["state"] == "paused").await;
    assert!(status["destinations"]["crm"]["reason"].as_str().unwrap().contains("restored from a backup of"));
    let before = sink.seen().len();
    fill(&daemon, "c", 1).await;
    assert_eq!(sink.seen().len(), before, "nothing is sent before somebody says so");
    assert_eq!(daemon.cli(&["resume", "crm"], "").await.code, 0);
    owed(&daemon, 0).await;
    let (repeats, fresh): (BTreeSet<_>, BTreeSet<_>) =
        ids(&sink.seen()[before..]).into_iter().partition(|id| first.contains(id));
    assert_eq!((repeats.len(), fresh.len()), (usize::try_from(kept).unwrap(), 500));
    daemon.terminate();
    let said = daemon.cli(&["verify"], "").await;
    assert!(said.code == 0 && said.out.contains("sound"), "{said:?}");
    let said = daemon.cli(&["compact"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    daemon.restart().await;
    owed(&daemon, 0).await;
}

// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_during_a_backup_leaves_nothing_under_a_final_name() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("crm", &sink.url("/"), "")).await;
    assert_eq!(daemon.cli(&["pause", "crm", "--reason", "wait"], "").await.code, 0);
    fill(&daemon, "a", 40).await;
    for name in ["cut1", "cut2", "cut3"] {
        let (cut, begun) = (daemon.cli(&["backup", name], ""), format!("postbackd-{name}."));
        let started = Instant::now();
        while !unfinished(&daemon).any(|name| name.starts_with(&begun)) {
            assert!(started.elapsed() < PATIENCE, "no backup begins: {:?}", backups(&daemon));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        problem(&daemon.post("/v1/backup", "").await, 409, "backup_running");
        daemon.kill();
        assert_eq!(cut.await.code, 1);
        assert!(backups(&daemon).len() == 1 && unfinished(&daemon).count() == 1, "{:?}", backups(&daemon));
        daemon.restart().await;
        assert_eq!(backups(&daemon).len(), 0, "the next start sweeps up");
    }
    let made = daemon.cli(&["backup", "whole"], "").await;
    assert!(made.code == 0 && made.out.contains("postbackd-whole.redb: "), "{made:?}");
    assert_eq!(backups(&daemon), BTreeSet::from(["postbackd-whole.redb".to_owned()]));
    problem(&daemon.post("/v1/backup", r#"{"name":"whole"}"#).await, 409, "backup_exists");
    problem(&daemon.post("/v1/backup", r#"{"name":"../x"}"#).await, 422, "invalid");
    owed(&daemon, 20_000).await;
}

// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_a_backup_is_written_is_told_as_full_and_keeps_nothing_half() {
    let mut daemon = Daemon::prepare("", &webhook("crm", "http://127.0.0.1:9/", "enabled = false"));
    let Some(disk) = SmallDisk::mount(Kind::Tmpfs, &daemon.path("elsewhere"), 64) else { return };
    daemon.enter(disk.enter());
    // Without a reserve the end of the room is met in the middle of a slice.
    daemon.edit("reserve = \"1MiB\"", "reserve = \"0B\"");
    daemon.edit("[server]", &format!("[backup]\ndir = \"{}\"\n[server]", daemon.path("elsewhere").display()));
    daemon.restart().await;
    fill(&daemon, "a", 40).await;
    let backup = daemon.post("/v1/backup", r#"{"name":"cut"}"#);
    let fills = async {
        let begun = || std::fs::read_dir(disk.path("")).unwrap().next().is_some();
        let started = Instant::now();
        while !begun() {
            assert!(started.elapsed() < PATIENCE, "no backup begins");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::spawn_blocking(move || {
            disk.fill();
            disk
        })
        .await
        .unwrap()
    };
    let (answer, disk) = tokio::join!(backup, fills);
    let said = problem(&answer, 507, "disk");
    assert!(said["detail"].as_str().unwrap().starts_with("the disk of the backups is full ("), "{said}");
    let left: Vec<_> = std::fs::read_dir(disk.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"]);
    disk.empty();
    let made = daemon.cli(&["backup", "whole"], "").await;
    assert_eq!(made.code, 0, "{made:?}");
}
