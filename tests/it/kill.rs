//! SIGKILL at any moment loses nothing that was acknowledged; SIGTERM drains and exits 0.
//!
//! More cycles: `POSTBACKD_KILLS=1000 cargo test --release --test it kill -- --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TOKEN, webhook};
use crate::support::sink::{Act, At, Reply, Sink};

/// What senders were told, by the sender's own id: the event's id.
type Acknowledged = Arc<Mutex<BTreeMap<String, String>>>;

/// Senders that post one event after the other until they are stopped, and remember every 202.
struct Senders {
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Senders {
    fn start(port: u16, acknowledged: &Acknowledged, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (stop, acknowledged, next) = (Arc::clone(&stop), Arc::clone(acknowledged), Arc::clone(next));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let id = format!("order-{}", next.fetch_add(1, Ordering::SeqCst));
                    if let Some(stored) = post(port, &id).await {
                        acknowledged.lock().unwrap().insert(id, stored);
                    }
                }
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

/// Posts one event; the stored event's id where it was acknowledged.
async fn post(port: u16, id: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({ "event": "deposit", "event_id": id, "value": "25.00", "uid": "u" }).to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 202") {
        return None;
    }
    let answer: Value = serde_json::from_str(body).ok()?;
    answer["id"].as_str().map(str::to_owned)
}

/// Answers of a receiver that is mostly well.
fn moody() -> Vec<Act> {
    let reply = |status| Act::Reply(Reply::new(status, "said the sink"));
    let mut acts = Vec::new();
    for _ in 0..200 {
        acts.extend([
            reply(200),
            reply(200),
            reply(503),
            reply(200),
            Act::Reset(At::AfterRequest),
            reply(200),
            reply(200),
        ]);
    }
    acts.push(reply(200));
    acts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let kills: u64 = std::env::var("POSTBACKD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let steady = Sink::with_status(200).await;
    let trouble = Sink::start(moody()).await;
    let config = webhook("steady", &steady.url("/a")) + &webhook("trouble", &trouble.url("/b"));
    let mut daemon = Daemon::start(&config).await;
    let acknowledged = Acknowledged::default();
    let next = Arc::new(AtomicU64::new(0));
    for kill in 0..kills {
        let senders = Senders::start(daemon.port, &acknowledged, &next);
        let before = acknowledged.lock().unwrap().len();
        // Long enough that something was acknowledged, and then some: the moment differs from kill to kill.
        while acknowledged.lock().unwrap().len() < before + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(kill * 7919 % 30_000)).await;
        daemon.kill();
        senders.stop().await;
        trouble.set(moody());
        daemon.restart().await;
    }
    let status =
        daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    assert_eq!(status["balance"]["failed_permanently"], 0, "{status:#}");
    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut repeats = 0;
    for sink in [&steady, &trouble] {
        repeats += compare(&acknowledged, sink);
    }
    println!("{kills} kills, {} acknowledged, {repeats} repeats after crashes and cut answers", acknowledged.len());
    daemon.terminate();
}

/// Every acknowledged event arrived, always under the same id, and no id stands for two events.
fn compare(acknowledged: &BTreeMap<String, String>, sink: &Sink) -> usize {
    let seen = sink.seen();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in &seen {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let sender_id = body["source_event_id"].as_str().unwrap().to_owned();
        let id = request.header("webhook-id").unwrap().to_owned();
        assert_eq!(body["event_id"].as_str(), Some(id.as_str()));
        ids.entry(sender_id).or_default().insert(id);
    }
    for sender_id in acknowledged.keys() {
        assert!(ids.contains_key(sender_id), "{sender_id} was acknowledged and never arrived");
    }
    let mut all = BTreeSet::new();
    for (sender_id, ids) in &ids {
        assert_eq!(ids.len(), 1, "{sender_id} came under several ids: {ids:?}");
        assert!(ids.iter().all(|id| all.insert(id.clone())), "two events share an id: {ids:?}");
    }
    seen.len() - ids.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let late = Act::Late(Duration::from_millis(400), Reply::new(200, "late"));
    let sink = Sink::start(vec![late]).await;
    let mut daemon = Daemon::start(&webhook("slow", &sink.url("/"))).await;
    let answer = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    sink.wait_for(1).await;
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(status["balance"]["balanced"], true);
    assert_eq!(sink.seen().len(), 1, "what was in flight was finished, not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_does_not_wait_for_a_destination_that_hangs() {
    let sink = Sink::start(vec![Act::Hang]).await;
    let config = webhook("hangs", &sink.url("/")).replace("timeout = \"1s\"", "timeout = \"10m\"");
    let mut daemon = Daemon::start(&format!("{config}\n")).await;
    // A short drain, set where the test's own configuration has none.
    let text = std::fs::read_to_string(daemon.config()).unwrap().replace("[server]", "[server]\ndrain = \"500ms\"");
    daemon.terminate();
    std::fs::write(daemon.config(), text).unwrap();
    daemon.restart().await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    sink.wait_for(1).await;
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(5), "{took:?}");
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(status["balance"]["balanced"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_deliveries_share_one_drain_time() {
    use tokio::io::AsyncWriteExt;
    let sink = Sink::start(vec![Act::Hang]).await;
    let config = webhook("hangs", &sink.url("/")).replace("timeout = \"1s\"", "timeout = \"10m\"");
    let mut daemon = Daemon::start(&config).await;
    daemon.terminate();
    let text = std::fs::read_to_string(daemon.config()).unwrap().replace("[server]", "[server]\ndrain = \"8s\"");
    std::fs::write(daemon.config(), text).unwrap();
    daemon.restart().await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    sink.wait_for(1).await;
    // A sender that never finishes its request, and a receiver that never answers.
    let mut sender = tokio::net::TcpStream::connect(("127.0.0.1", daemon.port)).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    sender.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(daemon.get("/healthz").await.status, 200, "the head has been read");
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(11), "{took:?} instead of 8 s");
}
