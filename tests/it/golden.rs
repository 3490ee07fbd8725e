//! Store files of every format there was open with this version, and nothing of them is lost.
//!
//! Each holds the same: seven events for three destinations, one of which took all (`good`), one refused them and had six
//! discarded (`bad`), and one answered 503, was then paused, and did not want one of them (`slow`). A new format gets a file
//! of its own, made by a daemon of that format, stopped, compacted, and packed with `gzip -9n`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::desk::webhook;

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/golden");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A daemon over that file, not started yet.
fn over(file: &Path) -> Daemon {
    let nowhere = |name| webhook(name, "http://127.0.0.1:9/", "");
    // Whenever this runs, nothing is too old.
    let retention = "[retention]\nevents = \"never\"\nattempts = \"never\"\ndedupe = \"36500d\"\n";
    let config = [nowhere("good"), nowhere("bad"), nowhere("slow"), retention.to_owned()];
    let daemon = Daemon::prepare("", &config.concat());
    let unpacked = Command::new("gzip").arg("-dc").arg(file).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    std::fs::create_dir(daemon.path("data")).unwrap();
    std::fs::write(daemon.path("data/postbackd.redb"), unpacked.stdout).unwrap();
    daemon
}

// Row 80.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_there_was_opens_and_its_books_are_whole() {
    let files = files();
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let mut daemon = over(&file);
        let said = daemon.cli(&["verify", "--json"], "").await;
        assert_eq!((said.code, &said.json()["events"]), (0, &json!(7)), "{}: {said:?}", file.display());
        daemon.restart().await;
        let status = daemon.wait_for_status(|status| status["destinations"]["slow"]["state"] == "paused").await;
        assert_eq!(
            status["balance"],
            json!({ "accepted": 21, "pending": 1, "failed": 5, "sent": 7, "failed_permanently": 1, "skipped": 1,
                "discarded": 6, "balanced": true }),
            "{}",
            file.display()
        );
        assert_eq!(status["destinations"]["slow"]["reason"], "waiting for them");
        let trace = daemon.get("/v1/events/trade-3").await.json();
        assert_eq!(trace["deliveries"].as_array().unwrap().len(), 3, "{trace:#}");
        let repeat = r#"{"event":"deposit","event_id":"trade-3","uid":"click-3","value":"25.00"}"#;
        let told = daemon.post("/v1/events", repeat).await.json();
        assert_eq!((&told["status"], told.get("conflict")), (&json!("duplicate"), None), "what it says is known, too");
        for (status, count) in [("sent", 7), ("skipped", 1), ("discarded", 6), ("failed", 5), ("pending", 1)] {
            let listed = daemon.get(&format!("/v1/deliveries?status={status}")).await.json();
            assert_eq!(listed["deliveries"].as_array().unwrap().len(), count, "{status} of {}", file.display());
        }
        assert_eq!(daemon.get("/v1/dlq").await.json()["entries"].as_array().unwrap().len(), 1);
        let trail = daemon.get("/v1/audit").await.json();
        assert_eq!(trail["deeds"].as_array().unwrap().len(), 2, "{trail:#}");
        daemon.terminate();
        assert_eq!(daemon.cli(&["verify"], "").await.code, 0);
    }
}
