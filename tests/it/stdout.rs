//! Row 79: whatever becomes of the log, the daemon goes on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, PATIENCE, webhook};
use crate::support::sink::Sink;

/// The daemon run by a shell that does this to its outputs first.
async fn with_outputs(redirections: &str, destinations: &str) -> Daemon {
    let mut daemon = Daemon::prepare("", destinations);
    daemon.set_env("POSTBACKD_LOG", "trace".to_owned());
    daemon.enter(["sh", "-c", &format!("exec \"$@\" {redirections}"), "sh"].map(str::to_owned).to_vec());
    daemon.restart().await;
    daemon
}

fn event(id: u32) -> String {
    serde_json::json!({ "event": "deposit", "event_id": format!("e-{id}") }).to_string()
}

fn counted(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("postbackd_log_lines_dropped_total "));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no such line in {metrics}"))
}

// Row 79.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_outputs_and_a_full_disk_for_the_log_end_nothing() {
    for redirections in [">&- 2>&-", ">/dev/full 2>/dev/full"] {
        let sink = Sink::with_status(200).await;
        let mut daemon = with_outputs(redirections, &webhook("shop", &sink.url("/"))).await;
        for id in 0..50 {
            assert_eq!(daemon.post("/v1/events", &event(id)).await.status, 202, "{redirections}");
        }
        daemon.wait_for_status(|status| status["balance"]["sent"] == 50).await;
        daemon.terminate();
    }
}

/// The daemon with a pipe for its log that nobody reads until somebody opens it.
async fn with_a_pipe(destinations: &str) -> Daemon {
    let mut daemon = Daemon::prepare("", destinations);
    let pipe = daemon.path("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    daemon.set_env("POSTBACKD_LOG", "trace".to_owned());
    // Its own reader, so that it opens.
    let run = format!("exec \"$@\" 2<>{}", pipe.display());
    daemon.enter(["sh", "-c", &run, "sh"].map(str::to_owned).to_vec());
    daemon.restart().await;
    daemon
}

/// Sends events until lines of the log are dropped: how many events.
async fn flood(daemon: &Daemon) -> u32 {
    let started = Instant::now();
    let mut sent = 0;
    while counted(&daemon.get("/metrics").await.text()) == 0 {
        for _ in 0..50 {
            sent += 1;
            let began = Instant::now();
            assert_eq!(daemon.post("/v1/events", &event(sent)).await.status, 202);
            assert!(began.elapsed() < Duration::from_secs(5), "the log holds it up");
        }
        assert!(started.elapsed() < PATIENCE, "nothing is ever dropped");
    }
    sent
}

// Row 79: whoever comes in time for the end reads why it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_lines_come_out_of_a_full_queue_where_somebody_reads_at_the_end() {
    let sink = Sink::with_status(200).await;
    let mut daemon = with_a_pipe(&webhook("shop", &sink.url("/"))).await;
    flood(&daemon).await;
    let heard = daemon.path("heard");
    let mut cat = Command::new("timeout");
    cat.args(["20", "cat"]).arg(daemon.path("log")).stdout(std::fs::File::create(&heard).unwrap());
    let mut reader = cat.spawn().unwrap();
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(15), "{took:?}");
    reader.wait().unwrap();
    let said = std::fs::read_to_string(heard).unwrap();
    let end: Vec<&str> = said.lines().rev().take(20).collect();
    assert!(end.iter().any(|line| line.contains("Stopped.")), "{end:#?}");
    assert!(said.contains("Lines of the log were dropped"));
}

// Row 79.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_blocks_nobody_and_what_was_dropped_is_counted_and_told() {
    let sink = Sink::with_status(200).await;
    let mut daemon = with_a_pipe(&webhook("shop", &sink.url("/"))).await;
    let pipe = daemon.path("log");
    let started = Instant::now();
    let sent = flood(&daemon).await;
    daemon.wait_for_status(|status| status["balance"]["sent"] == sent).await;
    // Somebody reads again, and is told.
    let mut reader = Command::new("grep")
        .args(["-m1", "Lines of the log were dropped"])
        .arg(&pipe)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while reader.try_wait().unwrap().is_none() {
        daemon.get("/status").await;
        assert!(started.elapsed() < 2 * PATIENCE, "it is never told");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(reader.wait().unwrap().success());
    // Nobody reads any more, and it ends all the same.
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(15), "{took:?}");
}
