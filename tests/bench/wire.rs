//! The least HTTP/1.1 that load and receiver need, so that the figures are the daemon's and not theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How often each figure is measured: `usual`, or what the environment says; `None` where `cargo test --benches` asks for a run
/// that only shows that it works.
pub fn rounds(usual: usize) -> Option<usize> {
    if std::env::args().any(|argument| argument == "--test") {
        return None;
    }
    Some(std::env::var("POSTBACKD_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual))
}

/// A receiver that answers 200 to everything and counts.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub port: u16,
    count: Arc<AtomicU64>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_all(stream, Arc::clone(&counter)));
            }
        });
        Self { port, count }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

async fn answer_all(mut stream: TcpStream, count: Arc<AtomicU64>) {
    stream.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(8192);
    while read_message(&mut stream, &mut buffer).await.is_some() {
        count.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Reads one message with a `content-length`; its head as text, its body dropped. What follows it stays in `buffer`.
pub async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0);
            let whole = end + 4 + length;
            while buffer.len() < whole {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            buffer.drain(..whole);
            return Some(head);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// What a closed loop of senders measured.
#[derive(Debug)]
pub struct Load {
    pub sent: u64,
    pub took: Duration,
    /// Acknowledgement latencies, sorted.
    pub latencies: Vec<Duration>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }

    pub fn percentile(&self, percent: usize) -> f64 {
        let at = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// `connections` senders post `total` single events, each its next one as soon as the last was acknowledged with 202.
pub async fn load(port: u16, token: &str, connections: u64, total: u64, run: &str) -> Load {
    load_together(port, token, (connections, 1), total, run).await
}

/// The same with so many events in each request; latencies are those of requests.
#[allow(dead_code, reason = "not every bench sends several together")]
pub async fn load_together(port: u16, token: &str, (connections, together): (u64, u64), total: u64, run: &str) -> Load {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let next = Arc::new(AtomicU64::new(0));
    for _ in 0..connections {
        let (next, token, run) = (Arc::clone(&next), token.to_owned(), run.to_owned());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the daemon listens");
            stream.set_nodelay(true).expect("a socket");
            let mut buffer = Vec::with_capacity(8192);
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(together, Ordering::Relaxed);
                if number >= total {
                    return latencies;
                }
                let body = if together == 1 {
                    event(&run, number)
                } else {
                    let events: Vec<String> =
                        (number..total.min(number + together)).map(|number| event(&run, number)).collect();
                    format!("[{}]", events.join(","))
                };
                let request = format!(
                    "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let at = Instant::now();
                stream.write_all(request.as_bytes()).await.expect("the daemon reads");
                let head = read_message(&mut stream, &mut buffer).await.expect("the daemon answers");
                assert!(head.starts_with("http/1.1 202"), "{head}");
                latencies.push(at.elapsed());
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(own) = tasks.join_next().await {
        latencies.extend(own.expect("a sender"));
    }
    latencies.sort_unstable();
    Load { sent: total, took: started.elapsed(), latencies }
}

/// About 600 bytes, like a real one.
fn event(run: &str, number: u64) -> String {
    format!(
        r#"{{"event":"deposit","event_id":"{run}-{number}","uid":"u-{number}","occurred_at_ms":1764000000000,"value":"25.00","currency":"USD","user":{{"email":"jane{number}@example.com","phone":"+1 650 555 {number}","first_name":"Jane","last_name":"Doe","ip":"203.0.113.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}},"click":{{"fbclid":"IwAR0abcdefghijklmnopqrstuvwxyz","campaign_id":"1200000000{number}","campaign_name":"summer sale","adset_id":"23","ad_id":"42","placement":"feed"}},"page":{{"url":"https://shop.example/thanks?order={number}"}},"data":{{"order_id":"{number}","plan":"gold"}}}}"#
    )
}
