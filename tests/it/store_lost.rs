//! The store's file is deleted, moved or replaced under the daemon: it says so, refuses events, sends nothing more, and what
//! is open can be saved whole.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, webhook};
use crate::support::sink::{Act, Reply, Seen, Sink};

fn event(id: u32) -> String {
    json!({ "event": "deposit", "event_id": format!("e-{id}") }).to_string()
}

fn says_lost(status: &Value) -> bool {
    let reasons = status["reasons"].as_array().unwrap();
    status["state"] == "failing" && reasons.iter().any(|why| why.as_str().unwrap().contains("has lost its file"))
}

/// What somebody does to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Delete,
    DeleteTheDirectory,
    Replace,
}

// Row 16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_is_told_and_everything_in_it_is_saved_without_sending_anything_twice() {
    for deed in [Deed::Delete, Deed::DeleteTheDirectory, Deed::Replace] {
        // The receiver is down at first, so that something is owed.
        let sink = Sink::with_status(503).await;
        let ops = Sink::with_status(200).await;
        let channel = format!(
            "breaker = false\n[alerts.channels.ops]\nkind = \"webhook\"\nallow_private = true\nurl = \"{}\"\n",
            ops.url("/")
        );
        let shop = webhook("shop", &sink.url("/")) + &channel;
        let mut daemon = Daemon::start(&shop).await;
        for id in 0..20 {
            assert_eq!(daemon.post("/v1/events", &event(id)).await.status, 202);
        }
        daemon.wait_for_status(|status| status["balance"]["failed"] == 20).await;
        let file = daemon.path("data/postbackd.redb");
        match deed {
            Deed::Delete => fs::remove_file(&file).unwrap(),
            Deed::DeleteTheDirectory => fs::remove_dir_all(daemon.path("data")).unwrap(),
            Deed::Replace => {
                fs::write(daemon.path("other"), "an editor's idea of a copy").unwrap();
                fs::rename(daemon.path("other"), &file).unwrap();
            }
        }
        daemon.wait_for_status(says_lost).await;
        let refused = daemon.post("/v1/events", &event(99)).await;
        assert_eq!(refused.status, 503, "{deed:?}");
        assert!(refused.header("retry-after").is_some());
        assert!(refused.text().contains("postbackd.redb"), "{}", refused.text());
        assert_eq!(daemon.get("/readyz").await.status, 503);
        // Whatever else it tells meanwhile, that the receiver fails among it.
        let told = |told: &Seen| {
            let told = String::from_utf8_lossy(&told.body).into_owned();
            told.contains("lost its file") && told.contains("critical")
        };
        let mut messages = 1;
        while !ops.wait_for(messages).await.iter().any(told) {
            messages += 1;
        }
        // The receiver is well again, and is sent nothing: the outcomes would be lost.
        let tried = sink.seen().len();
        sink.set(vec![Act::Reply(Reply::new(200, ""))]);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(sink.seen().len(), tried, "{deed:?}: it was sent to");
        let saved = daemon.post("/v1/backup", "").await;
        assert_eq!(saved.status, 200, "{}", saved.text());
        let saved = saved.json()["file"].as_str().unwrap().to_owned();
        daemon.terminate();
        if deed == Deed::Delete {
            let said = daemon.start_and_fail();
            assert!(said.contains("is missing") && said.contains("backup"), "never an empty store: {said}");
        }
        let restored = daemon.cli(&["restore", &saved], "").await;
        assert_eq!(restored.code, 0, "{restored:?}");
        daemon.restart().await;
        assert_eq!(daemon.post("/v1/destinations/shop/resume", "").await.status, 200);
        let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 20).await;
        assert_eq!(status["balance"]["balanced"], true, "{status:#}");
        assert_eq!(sink.seen().len(), tried + 20, "each was taken once");
        daemon.terminate();
    }
}

// Row 16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_back_ends_it_all_without_a_restart() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("shop", &sink.url("/"))).await;
    let file = daemon.path("data/postbackd.redb");
    fs::rename(&file, daemon.path("elsewhere")).unwrap();
    daemon.wait_for_status(says_lost).await;
    fs::rename(daemon.path("elsewhere"), &file).unwrap();
    daemon.wait_for_status(|status| status["state"] == "ok").await;
    assert_eq!(daemon.post("/v1/events", &event(1)).await.status, 202);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    daemon.terminate();
}

// Row 17.
#[tokio::test]
async fn a_directory_that_cannot_be_used_is_refused_with_its_path_and_our_uid() {
    let daemon = Daemon::prepare("", "");
    let run = |user: &str, path: &str| {
        let from = format!("path = \"{}\"", daemon.path("data").display());
        let text = fs::read_to_string(daemon.config()).unwrap().replace(&from, &format!("path = \"{path}\""));
        fs::write(daemon.path("wrong.toml"), text).unwrap();
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", user, "--clear-groups", env!("CARGO_BIN_EXE_postbackd"), "run", "--config"]);
        let output = command.arg(daemon.path("wrong.toml")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let own = rustix::process::geteuid().as_raw().to_string();
    let (code, said) = run(&own, "/nowhere/at/all");
    assert_eq!(code, Some(1));
    assert!(said.contains("/nowhere/at/all") && said.contains("parent"), "{said}");
    if own != "0" {
        println!("SKIPPED: only root can become somebody who may not write");
        return;
    }
    // Everybody may come as far as to the directory itself.
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let dir = home.path().join("data");
    fs::create_dir(&dir).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_postbackd"), home.path().join("postbackd")).unwrap();
    open_to_all(home.path(), 0o755);
    let config = home.path().join("config.toml");
    fs::write(
        &config,
        fs::read_to_string(daemon.config())
            .unwrap()
            .replace(&daemon.path("data").display().to_string(), dir.to_str().unwrap()),
    )
    .unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "12345", "--clear-groups"]).arg(home.path().join("postbackd"));
    let output = command.args(["run", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in [dir.to_str().unwrap(), "uid 12345", "permission"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing was made");
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

// Row 15.
#[tokio::test]
async fn a_second_daemon_on_the_same_data_ends_at_once_and_the_first_goes_on() {
    let mut daemon = Daemon::start("").await;
    assert_eq!(daemon.post("/v1/events", &event(1)).await.status, 202);
    let text = fs::read_to_string(daemon.config()).unwrap();
    let other = text.replace(&format!("127.0.0.1:{}", daemon.port), "127.0.0.1:0");
    fs::write(daemon.path("second.toml"), other).unwrap();
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_postbackd"));
    let output = second.arg("run").arg("--config").arg(daemon.path("second.toml")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another postbackd"), "{said}");
    assert_eq!(daemon.post("/v1/events", &event(2)).await.status, 202, "the first is undisturbed");
    daemon.terminate();
}
