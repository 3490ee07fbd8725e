//! A running daemon whose configuration is edited.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::Daemon;

/// What only the poll would see comes about five seconds after the last look; a hint makes it a fraction of one. In between
/// lies whatever a busy machine adds.
const HINTED: Duration = Duration::from_secs(3);

/// Names of the destinations of the running configuration.
pub fn configured(status: &Value) -> Vec<String> {
    let all = status["destinations"].as_object().expect("an object");
    all.iter().filter(|(_, destination)| !destination["kind"].is_null()).map(|(name, _)| name.clone()).collect()
}

/// Waits until exactly these are configured and nothing is refused.
pub async fn in_force(daemon: &Daemon, wanted: &[&str]) -> Value {
    daemon.wait_for_status(|status| status["config"]["error"].is_null() && configured(status) == wanted).await
}

/// As [`in_force`], which must not take as long as it takes without a hint.
pub async fn soon_in_force(daemon: &Daemon, wanted: &[&str]) {
    let started = Instant::now();
    in_force(daemon, wanted).await;
    assert!(started.elapsed() < HINTED, "{wanted:?}: only the poll saw it");
    // It looks once more after a change; what comes next must not be seen by that.
    tokio::time::sleep(Duration::from_millis(400)).await;
}

/// Waits until the files are refused with a problem that says `word`.
pub async fn refused(daemon: &Daemon, word: &str) -> Value {
    let says = |status: &Value| {
        let problems = status["config"]["error"]["problems"].as_array();
        problems.into_iter().flatten().any(|problem| problem["detail"].as_str().expect("a text").contains(word))
    };
    daemon.wait_for_status(says).await
}

/// `POST /v1/reload`, which must succeed.
pub async fn reload(daemon: &Daemon) -> Value {
    let answer = daemon.post("/v1/reload", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Writes the configuration and has it taken over.
pub async fn save(daemon: &Daemon, text: &str) -> Value {
    std::fs::write(daemon.config(), text).expect("a writable directory");
    reload(daemon).await
}

pub fn text(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.config()).expect("a configuration")
}

/// Writes beside and renames over, as careful editors do.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a writable directory");
    std::fs::rename(beside, path).expect("a writable directory");
}
