//! Backups that the daemon takes by itself: which stay, what is said of them, and what a stop or a kill leaves.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::backup::{backups, fill, unfinished};
use crate::support::daemon::{Daemon, PATIENCE};
use crate::support::desk::webhook;

const OFTEN: &str = "[backup]\nevery = \"1s\"\nkeep = 2\n";

/// Looks until it is so.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: never");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn nowhere() -> String {
    webhook("crm", "http://127.0.0.1:9/", "enabled = false")
}

/// What the audit trail has of them, newest first.
async fn kept(daemon: &Daemon) -> Vec<String> {
    let trail = daemon.get("/v1/audit").await.json();
    let deeds = trail["deeds"].as_array().unwrap().iter();
    let own = deeds.filter(|deed| deed["action"] == "backup" && deed["by"] == "file");
    own.map(|deed| deed["result"].as_str().unwrap().to_owned()).collect()
}

/// A name of the same series, of years ago.
fn old_name(name: &str) -> String {
    let (series, _) = name.rsplit_once('-').unwrap();
    format!("{series}-20200101T000000.000Z.redb")
}

#[tokio::test]
async fn check_refuses_a_directory_that_cannot_be_one_and_warns_of_one_that_might_not_do() {
    let daemon = Daemon::prepare("", "");
    let plain = std::fs::read_to_string(daemon.config()).unwrap();
    let check = async |dir: &str| {
        std::fs::write(daemon.config(), format!("{plain}[backup]\ndir = \"{}\"\n", daemon.path(dir).display()))
            .unwrap();
        daemon.cli(&["check"], "").await
    };
    std::fs::write(daemon.path("file"), "").unwrap();
    let refused = check("file").await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        format!("{refused:?}").contains("backup.dir") && format!("{refused:?}").contains("is no directory"),
        "{refused:?}"
    );
    std::fs::create_dir(daemon.path("open")).unwrap();
    std::fs::set_permissions(daemon.path("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let warned = check("open").await;
    assert_eq!(warned.code, 0, "{warned:?}");
    assert!(format!("{warned:?}").contains("backup.dir") && format!("{warned:?}").contains("chmod go-w"), "{warned:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_stay_and_a_failure_is_told_until_they_are_switched_off() {
    let daemon = Daemon::start(&[nowhere(), OFTEN.to_owned()].concat()).await;
    let first = daemon.get("/metrics").await.text();
    assert!(first.contains("postbackd_backup_ok 1\n"), "it is there from the first second: {first}");
    // One at a time: another may be in the way.
    while daemon.cli(&["backup", "mine"], "").await.code != 0 {}
    let is_auto = |name: &String| name.starts_with("postbackd-auto-") && name.strip_suffix(".tmp").is_none();
    let series = || backups(&daemon).into_iter().filter(is_auto).collect::<Vec<_>>();
    until("a first one", || !series().is_empty()).await;
    let oldest = series().remove(0);
    until("the oldest goes", || !series().contains(&oldest)).await;
    assert!(series().len() <= 3 && backups(&daemon).contains("postbackd-mine.redb"), "{:?}", backups(&daemon));
    let status = daemon.wait_for_status(|status| !status["backup"]["last_success"].is_null()).await;
    assert_eq!((&status["state"], &status["backup"]["every"]), (&"ok".into(), &"1s".into()), "{status:#}");
    let text = daemon.get("/status?format=text").await.text();
    assert!(text.contains("\nbackup   every 1s, 2 kept: last 20"), "{text}");
    let page = daemon.get("/").await.text();
    assert!(page.contains("<dt>Backup</dt><dd>every 1s, last <time"), "{page}");
    assert_eq!(kept(&daemon).await, [""; 0], "those that are as they should be push nothing out of the trail");

    // One that cannot be removed is no failed backup.
    let old = daemon.path("data/backups").join(old_name(&oldest));
    std::fs::create_dir(&old).unwrap();
    let status = daemon.wait_for_status(|status| !status["backup"]["not_removed"].is_null()).await;
    let reason = status["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("older automatic backups cannot be removed: "), "{status:#}");
    assert!(status["backup"]["last_error"].is_null(), "{status:#}");
    assert!(daemon.get("/status?format=text").await.text().contains("; older ones could not be removed 20"));
    assert!(
        daemon.get("/").await.text().contains("<strong class=\"bad-word\">older ones could not be removed</strong>")
    );
    std::fs::remove_dir(&old).unwrap();
    daemon.wait_for_status(|status| status["state"] == "ok" && status["backup"]["not_removed"].is_null()).await;

    // From now on they go where nothing can be written.
    std::fs::write(daemon.path("file"), "").unwrap();
    daemon.edit("keep = 2", &format!("keep = 2\ndir = \"{}\"", daemon.path("file/x").display()));
    assert_eq!(daemon.post("/v1/reload", "").await.status, 200);
    let status = daemon.wait_for_status(|status| status["state"] == "degraded").await;
    assert!(status["reasons"][0].as_str().unwrap().starts_with("the last automatic backup failed: "), "{status:#}");
    assert!(!status["backup"]["last_error"].is_null(), "{status:#}");
    let page = daemon.get("/").await.text();
    assert!(page.contains("<strong class=\"bad-word\">failed</strong> <time"), "{page}");
    assert!(daemon.get("/metrics").await.text().contains("postbackd_backup_ok 0\n"));
    // However often it failed, the first failure is kept, and the success that ends the row.
    let failed = |text: &str| text.contains("postbackd_backups_total{outcome=\"failed\"} 3\n");
    while !failed(&daemon.get("/metrics").await.text()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kept(&daemon).await.len(), 1);
    std::fs::remove_file(daemon.path("file")).unwrap();
    std::fs::create_dir(daemon.path("file")).unwrap();
    daemon.wait_for_status(|status| status["state"] == "ok").await;
    while kept(&daemon).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    std::fs::remove_dir_all(daemon.path("file")).unwrap();
    std::fs::write(daemon.path("file"), "").unwrap();
    daemon.wait_for_status(|status| status["state"] == "degraded").await;
    daemon.edit("every = \"1s\"", "every = \"never\"");
    assert_eq!(daemon.post("/v1/reload", "").await.status, 200);
    let status = daemon.wait_for_status(|status| status["state"] == "ok").await;
    assert!(status["backup"]["last_error"].is_null() && status["backup"]["next_at"].is_null(), "{status:#}");
}

// Row 18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_nothing_half_done_and_a_start_clears_what_a_kill_left() {
    let mut daemon = Daemon::start(&[nowhere(), "[backup]\nevery = \"never\"\n".to_owned()].concat()).await;
    fill(&daemon, "a", 40).await;
    for kill in [true, false, true] {
        daemon.edit("every = \"never\"", "every = \"1h\"");
        assert_eq!(daemon.post("/v1/reload", "").await.status, 200);
        until("one is begun", || unfinished(&daemon).count() == 1).await;
        if kill {
            daemon.kill();
            assert_eq!((backups(&daemon).len(), unfinished(&daemon).count()), (1, 1));
        } else {
            daemon.terminate();
            assert_eq!(backups(&daemon).len(), 0, "{:?}", backups(&daemon));
        }
        daemon.edit("every = \"1h\"", "every = \"never\"");
        daemon.restart().await;
        assert_eq!(backups(&daemon).len(), 0, "{:?}", backups(&daemon));
    }
    // Undisturbed it becomes whole, and its time outlives a restart.
    daemon.edit("every = \"never\"", "every = \"1h\"");
    daemon.terminate();
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| !status["backup"]["last_success"].is_null()).await;
    let file = status["backup"]["last_success"]["file"].as_str().unwrap();
    let checked = daemon.cli(&["verify", file, "--json"], "").await;
    assert_eq!((checked.code, &checked.json()["events"]), (0, &20_000.into()), "{checked:?}");
    daemon.terminate();
    daemon.restart().await;
    let again = daemon.get("/status").await.json();
    assert_eq!(again["backup"]["last_success"], status["backup"]["last_success"]);
    assert_eq!(again["backup"]["next_at"], status["backup"]["next_at"]);
}
