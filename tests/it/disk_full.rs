//! A small disk that fills and empties under load: no restart, nothing lost, and back in a moment.
//!
//! Longer: `POSTBACKD_FULL_MINUTES=10 cargo test --release --test it disk_full -- --nocapture`.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::daemon::{Daemon, PATIENCE, webhook};
use crate::support::disk::{Kind, SmallDisk};
use crate::support::senders::{Acknowledged, Senders, post};
use crate::support::sink::{Act, Reply, Sink};

/// Back within: a quarter of a second on a quiet machine, and a busy one asks for some patience.
const BACK: Duration = Duration::from_secs(3);

/// The daemon on a small tmpfs; `None` where none can be mounted.
async fn on_a_small_disk(sink: &Sink, mib: u32) -> Option<(Daemon, SmallDisk)> {
    let mut daemon = Daemon::prepare("", &webhook("shop", &sink.url("/")));
    let disk = SmallDisk::mount(Kind::Tmpfs, &daemon.path("data"), mib)?;
    daemon.enter(disk.enter());
    // Without a reserve the disk really is full in the middle of a commit.
    let text = fs::read_to_string(daemon.config()).unwrap();
    fs::write(daemon.config(), text.replace("reserve = \"1MiB\"", "reserve = \"0B\"")).unwrap();
    daemon.restart().await;
    Some((daemon, disk))
}

/// How long until an event is acknowledged again.
async fn until_acknowledged(daemon: &Daemon, name: &str) -> Duration {
    let started = Instant::now();
    for n in 0.. {
        if post(daemon.port, &format!("{name}-{n}")).await.is_some() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

async fn arrived_once(daemon: &Daemon, sink: &Sink, acknowledged: &Acknowledged) {
    daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;
    let seen: std::collections::BTreeSet<String> = sink
        .seen()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap())
        .map(|body| body["source_event_id"].as_str().unwrap().to_owned())
        .collect();
    let acknowledged = acknowledged.lock().unwrap().clone();
    for id in acknowledged.keys() {
        assert!(seen.contains(id), "{id} was acknowledged and never arrived");
    }
}

// Rows 5 and 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_and_empties_under_load_costs_no_restart_and_no_event() {
    let held: u64 = std::env::var("POSTBACKD_FULL_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let held = Duration::from_secs((60 * held).max(1));
    let sink = Sink::with_status(200).await;
    let Some((mut daemon, disk)) = on_a_small_disk(&sink, 24).await else { return };
    let pid = daemon.pid();
    let (acknowledged, next) = (Acknowledged::default(), Arc::default());
    for round in 0..3 {
        let senders = Senders::start(daemon.port, &acknowledged, &next);
        let before = acknowledged.lock().unwrap().len();
        while acknowledged.lock().unwrap().len() < before + 50 {
            tokio::task::yield_now().await;
        }
        // The store has room of its own at first: until somebody is refused.
        let started = Instant::now();
        while daemon.get("/readyz").await.status != 503 {
            disk.fill();
            assert!(started.elapsed() < PATIENCE, "it never fills");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let refused = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"refused"}"#).await;
        if refused.status != 202 {
            assert_eq!(refused.status, 503, "{refused:?}");
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
        }
        tokio::time::sleep(if round == 0 { held } else { Duration::from_millis(500) }).await;
        let taken = acknowledged.lock().unwrap().len();
        senders.stop().await;
        disk.empty();
        let took = until_acknowledged(&daemon, &format!("back-{round}")).await;
        println!(
            "full for {held:?} at most: {taken} acknowledged so far, the first again {took:?} after there was space"
        );
        assert!(took < BACK, "{took:?}");
    }
    assert_eq!(daemon.pid(), pid);
    arrived_once(&daemon, &sink, &acknowledged).await;
    let status = daemon.get("/status").await.json();
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    daemon.terminate();
}

// Row 5: outcomes that cannot be recorded are bounded, since a crash would send all of them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_not_sent_beyond_a_bound_and_not_sent_again_later() {
    const EVENTS: usize = 3000;
    const UNSETTLED: usize = 1024 + 64;
    let sink = Sink::with_status(503).await;
    let Some((mut daemon, disk)) = on_a_small_disk(&sink, 32).await else { return };
    daemon.post("/v1/destinations/shop/pause", r#"{"reason":"until the disk is full"}"#).await;
    for batch in 0..EVENTS / 500 {
        let events: Vec<_> =
            (0..500).map(|n| serde_json::json!({ "event": "deposit", "event_id": format!("{batch}-{n}") })).collect();
        assert_eq!(daemon.post("/v1/events", &serde_json::to_string(&events).unwrap()).await.status, 202);
    }
    assert_eq!(daemon.post("/v1/destinations/shop/resume", "").await.status, 200);
    disk.fill();
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let started = Instant::now();
    let taken = |sink: &Sink| sink.seen().len();
    // Until nothing more is sent.
    let mut before = 0;
    while taken(&sink) != before || daemon.get("/readyz").await.status == 200 {
        before = taken(&sink);
        disk.fill();
        assert!(started.elapsed() < PATIENCE, "it is not full");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // Now and then the store is just being opened again.
    let status = daemon.wait_for_status(|status| status["balance"]["sent"].is_u64()).await;
    let sent = status["balance"]["sent"].as_u64().unwrap();
    let unrecorded = taken(&sink) - usize::try_from(sent).unwrap();
    println!("{unrecorded} outcomes wait for the disk, {sent} are recorded");
    assert!(unrecorded <= UNSETTLED, "{unrecorded}");
    disk.empty();
    daemon.wait_for_status(|status| status["balance"]["sent"] == EVENTS).await;
    daemon.terminate();
}

// Row 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_inodes_a_backup_fails_loudly_and_leaves_nothing_and_the_store_goes_on() {
    let sink = Sink::with_status(200).await;
    let Some((mut daemon, disk)) = on_a_small_disk(&sink, 48).await else { return };
    assert_eq!(daemon.post("/v1/backup", "").await.status, 200);
    disk.sh("mount -o remount,nr_inodes=64 \"$DATA\"");
    let filler = |n: u32| disk.path(&format!("filler-{n}"));
    let made = (0..1000).take_while(|n| fs::File::create(filler(*n)).is_ok()).count();
    assert!(made < 64 && disk.free() > 8 << 20, "there is room, and not for a name");
    let files = || fs::read_dir(disk.path("backups")).unwrap().count();
    let before = files();
    for id in 0..20 {
        let refused = daemon.post("/v1/backup", "").await;
        assert_eq!(refused.status, 507, "{}", refused.text());
        assert!(refused.text().contains("backups"), "it says where: {}", refused.text());
        let event = format!(r#"{{"event":"deposit","event_id":"e-{id}"}}"#);
        assert_eq!(daemon.post("/v1/events", &event).await.status, 202);
    }
    assert_eq!(files(), before);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 20).await;
    fs::remove_file(filler(0)).unwrap();
    let saved = daemon.post("/v1/backup", "").await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    // Neither a stop nor a start needs a new file.
    fs::File::create(filler(0)).unwrap_err();
    daemon.terminate();
    daemon.restart().await;
    daemon.wait_for_status(|status| status["balance"]["balanced"] == true && status["balance"]["sent"] == 20).await;
    daemon.terminate();
}

// Row 5: a limit on the size of files is a full disk too, and not the end of the process (SIGXFSZ).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_file_sizes_refuses_events_and_does_not_kill() {
    let mut daemon = Daemon::prepare("", "");
    // In blocks of 1024 bytes.
    let limited = ["sh", "-c", "ulimit -f 3000; exec \"$@\"", "sh"];
    daemon.enter(limited.map(str::to_owned).to_vec());
    daemon.restart().await;
    let padding = "x".repeat(200_000);
    let mut refused = None;
    for n in 0..100 {
        let event = serde_json::json!({ "event": "deposit", "event_id": format!("e-{n}"), "data": { "x": padding } });
        let answer = daemon.post("/v1/events", &event.to_string()).await;
        if answer.status != 202 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("3 MB do not hold 20");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(daemon.get("/healthz").await.status, 200, "it lives");
    daemon.wait_for_status(|status| status["balance"]["balanced"] == true).await;
    daemon.kill();
}
