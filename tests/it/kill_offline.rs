//! SIGKILL inside `restore`, `compact` and a start that compacts first: the store is the one that was there, or the one
//! that was to be, and what was left half done is gone after the next command or start.
//!
//! More cycles: `POSTBACKD_KILLS=200 cargo test --test it kill_offline -- --nocapture`.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::webhook;

const BATCHES: usize = 16;
const BATCH: usize = 500;

async fn fill(daemon: &Daemon, prefix: &str, batches: usize) {
    for batch in 0..batches {
        let event = |n| json!({ "event": "deposit", "event_id": format!("{prefix}{batch}-{n}"), "uid": "u" });
        let body = Value::from((0..BATCH).map(event).collect::<Vec<_>>()).to_string();
        assert_eq!(daemon.post("/v1/events", &body).await.status, 202);
    }
}

/// A stopped daemon that owes as many events, none of which can be delivered.
async fn owing() -> Daemon {
    let daemon = Daemon::start(&webhook("crm", "http://127.0.0.1:9/", "")).await;
    assert_eq!(daemon.cli(&["pause", "crm", "--reason", "wait"], "").await.code, 0);
    fill(&daemon, "a", BATCHES).await;
    daemon
}

fn kills() -> u32 {
    std::env::var("POSTBACKD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Runs the command to its end: how long that took.
fn whole(daemon: &Daemon, words: &[&str]) -> Duration {
    let started = Instant::now();
    let status = daemon.command(words[0]).args(&words[1..]).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{words:?}: {status}");
    started.elapsed()
}

/// Whether a command lived to be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Working,
    Ended,
}

/// Runs the command and kills it after that time.
async fn cut(daemon: &Daemon, words: &[&str], after: Duration) -> Met {
    let mut command = daemon.command(words[0]);
    let mut child = command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(after).await;
    let met = if child.try_wait().unwrap().is_none() { Met::Working } else { Met::Ended };
    child.kill().ok();
    child.wait().unwrap();
    met
}

/// Moments within a span, and somewhat beyond, so that some fall behind the end.
fn moments(span: Duration) -> impl Iterator<Item = Duration> {
    let all = kills();
    (1..=all).map(move |n| span * n * 11 / (all * 10))
}

/// What a sound store holds: events, and deliveries owed.
async fn held(daemon: &Daemon) -> (u64, u64) {
    let said = daemon.cli(&["verify", "--json"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    let found = said.json();
    (found["events"].as_u64().unwrap(), found["owed"].as_u64().unwrap())
}

fn files(daemon: &Daemon) -> BTreeSet<String> {
    let entries = std::fs::read_dir(daemon.path("data")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn total(batches: usize) -> (u64, u64) {
    let events = u64::try_from(batches * BATCH).unwrap();
    (events, events)
}

// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_that_is_killed_costs_no_row() {
    let mut daemon = owing().await;
    daemon.terminate();
    let file = daemon.path("data/postbackd.redb");
    let loose = std::fs::read(&file).unwrap();
    let took = whole(&daemon, &["compact"]);
    let tight = std::fs::metadata(&file).unwrap().len();
    assert!(tight < u64::try_from(loose.len()).unwrap(), "there was something to give back");
    let mut inside = 0;
    for words in [&["compact"][..], &["run", "--compact"]] {
        for after in moments(took) {
            std::fs::write(&file, &loose).unwrap();
            inside += u32::from(cut(&daemon, words, after).await == Met::Working);
            assert_eq!(held(&daemon).await, total(BATCHES), "{words:?} cut after {after:?}");
        }
        // What a kill has left behind does not keep the next one from its work.
        whole(&daemon, &["compact"]);
        assert_eq!(held(&daemon).await, total(BATCHES));
    }
    println!("{inside} of {} kills met a process at work, which takes {took:?}", 2 * kills());
    assert!(inside > 0, "every kill came too late");
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["balanced"] == true).await;
    assert_eq!(status["balance"]["pending"], total(BATCHES).0);
}

// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_leaves_the_one_store_or_the_other() {
    let mut daemon = owing().await;
    assert_eq!(daemon.cli(&["backup", "a"], "").await.code, 0);
    fill(&daemon, "b", 1).await;
    daemon.terminate();
    let (file, backup) = (daemon.path("data/postbackd.redb"), daemon.path("data/backups/postbackd-a.redb"));
    let (present, taken) = (std::fs::read(&file).unwrap(), std::fs::read(&backup).unwrap());
    let words = ["restore", backup.to_str().unwrap()];
    let took = whole(&daemon, &words);
    assert_eq!(held(&daemon).await, total(BATCHES));
    let (mut inside, mut old) = (0, 0);
    for after in moments(took) {
        std::fs::write(&file, &present).unwrap();
        inside += u32::from(cut(&daemon, &words, after).await == Met::Working);
        let left = files(&daemon);
        let found = held(&daemon).await;
        assert!([total(BATCHES), total(BATCHES + 1)].contains(&found), "{found:?} after {after:?}, {left:?}");
        old += u32::from(found == total(BATCHES + 1));
        assert!(!files(&daemon).contains("postbackd.redb.tmp"), "the next command sweeps up");
        let aside = left.iter().filter(|name| name.starts_with("postbackd.redb.before-"));
        for name in aside {
            std::fs::remove_file(daemon.path("data").join(name)).unwrap();
        }
        assert!(std::fs::read(&backup).unwrap() == taken, "the backup is as it was");
    }
    println!("{inside} of {} kills met a restore at work, which takes {took:?}; {old} left the old store", kills());
    assert!(inside > 0, "every kill came too late");
    whole(&daemon, &words);
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["destinations"]["crm"]["state"] == "paused").await;
    assert_eq!(status["balance"]["pending"], total(BATCHES).0);
    let kept = files(&daemon).into_iter().filter(|name| !name.starts_with("postbackd.redb.before-"));
    assert_eq!(kept.collect::<Vec<_>>(), ["backups", "postbackd.id", "postbackd.redb"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_compacts_says_what_it_gave_back_and_serves_the_same_store() {
    let mut daemon = owing().await;
    daemon.terminate();
    let log = daemon.path("log");
    daemon.set_log(log.clone());
    daemon.run_with("--compact");
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["balanced"] == true).await;
    assert_eq!(status["balance"]["pending"], total(BATCHES).0);
    let said = std::fs::read_to_string(&log).unwrap();
    let bytes = |name: &str| -> u64 {
        let (_, rest) = said.split_once(name).unwrap_or_else(|| panic!("no {name} in {said}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(bytes("bytes_after=") < bytes("bytes_before="), "{said}");
    let (compacted, ready) = (said.find("The store is compacted.").unwrap(), said.find("is ready.").unwrap());
    assert!(compacted < ready, "{said}");
    daemon.terminate();
}
