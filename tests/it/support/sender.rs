//! Senders over plain sockets: one that does everything right and measures how it fares, and bytes for those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::daemon::{Answer, Daemon, TOKEN};

/// How long a good sender may wait for one answer. Whatever holds it up on purpose lasts ten seconds and more; a machine
/// that has much to do is seldom late by as many.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The same for half of its answers.
const USUALLY_WITHIN: Duration = Duration::from_millis(500);

/// The head of a request for one event up to the lines that a test adds, ending with a line end.
pub fn head(more: &str) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n{more}"
    )
}

/// A whole request that posts `body` and ends its connection.
pub fn request(body: &str) -> String {
    head(&format!("connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

pub async fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await.ok()
}

/// Posts `body` on a connection of its own; `None` where no whole answer came back.
pub async fn post(port: u16, body: &str) -> Option<Answer> {
    let mut stream = connect(port).await?;
    stream.write_all(request(body).as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    Answer::read(&answer)
}

/// An honest sender: one event after the other until it is stopped.
#[derive(Debug)]
pub struct GoodSender {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Duration>>,
}

impl GoodSender {
    /// Sends under ids that begin with `name`.
    pub fn start(daemon: &Daemon, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, port) = (Arc::clone(&stop), daemon.port);
        let task = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let body = json!({ "event": "deposit", "event_id": format!("{name}-{}", took.len()) }).to_string();
                let begun = Instant::now();
                let answer = post(port, &body).await.unwrap_or_else(|| panic!("{name} got no answer"));
                assert_eq!(answer.status, 202, "{name}: {}", answer.text());
                took.push(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            took
        });
        Self { stop, task }
    }

    /// Stops it: it was served all the while. The number of its events.
    pub async fn stop_undisturbed(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut took = self.task.await.expect("it was answered every time");
        took.sort_unstable();
        let (middle, slowest) = (took[took.len() / 2], took[took.len() - 1]);
        println!("a good sender meanwhile: {} events, p50 {middle:?}, slowest {slowest:?}", took.len());
        assert!(middle < USUALLY_WITHIN && slowest < ANSWERED_WITHIN, "p50 {middle:?}, slowest {slowest:?}");
        took.len()
    }
}

/// The most memory the daemon held while `what` went on, beyond what it held before, in MB.
pub async fn growth_mb<T>(daemon: &Daemon, what: impl Future<Output = T>) -> (T, f64) {
    let before = daemon.rss_mb();
    let mut most = before;
    let mut what = std::pin::pin!(what);
    loop {
        match tokio::time::timeout(Duration::from_millis(20), what.as_mut()).await {
            Ok(done) => return (done, most.max(daemon.rss_mb()) - before),
            Err(_) => most = most.max(daemon.rss_mb()),
        }
    }
}
