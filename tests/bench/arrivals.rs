//! Receivers that know when each event was sent, and a sender that keeps a steady rate whatever the daemon does.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::read_message;

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Well,
    /// A byte now and then, and never an end.
    Drip,
    /// 429 and a second's patience.
    Throttle,
}

/// A receiver that remembers how long each event was under way, in milliseconds.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pub port: u16,
    latencies: Arc<Mutex<Vec<f64>>>,
}

impl Arrivals {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let latencies = Arc::new(Mutex::default());
        let kept = Arc::clone(&latencies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, manner, Arc::clone(&kept)));
            }
        });
        Self { port, latencies }
    }

    pub fn latencies(&self) -> Vec<f64> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(mut stream: TcpStream, manner: Manner, latencies: Arc<Mutex<Vec<f64>>>) {
    stream.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(sent) = read_stamped(&mut stream, &mut buffer).await else { return };
        let said: &[u8] = match manner {
            Manner::Well => {
                let under_way = now_us().saturating_sub(sent) as f64 / 1000.0;
                latencies.lock().unwrap_or_else(PoisonError::into_inner).push(under_way);
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            Manner::Throttle => b"HTTP/1.1 429 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
            Manner::Drip => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
        };
        if stream.write_all(said).await.is_err() {
            return;
        }
        if manner == Manner::Drip {
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            return;
        }
    }
}

/// Reads one request; when its event was sent.
async fn read_stamped(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<u64> {
    const MARK: &[u8] = b"\"sent_us\":\"";
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
            if buffer.len() >= end + 4 + length {
                let body: Vec<u8> = buffer.drain(..end + 4 + length).skip(end + 4).collect();
                let at = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
                let digits: String =
                    body[at..].iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
                return digits.parse().ok();
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Microseconds since the bench began.
fn now_us() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_micros()).expect("a short bench")
}

/// Sends `rate` events a second for `span`, over some connections, by the clock and not by the acknowledgements.
pub async fn steady(port: u16, token: &str, rate: u64, span: Duration) {
    const SENDERS: u64 = 16;
    let began = Instant::now();
    let total = rate * span.as_secs();
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let token = token.to_owned();
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the daemon listens");
            stream.set_nodelay(true).expect("a socket");
            let mut buffer = Vec::with_capacity(4096);
            let mut number = sender;
            while number < total {
                let due = began + Duration::from_micros(number * 1_000_000 / rate);
                tokio::time::sleep_until(due.into()).await;
                let body = format!(
                    r#"{{"event":"deposit","event_id":"{number}","uid":"u-{number}","data":{{"sent_us":"{}"}}}}"#,
                    now_us()
                );
                let request = format!(
                    "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(request.as_bytes()).await.expect("the daemon reads");
                let head = read_message(&mut stream, &mut buffer).await.expect("the daemon answers");
                assert!(head.starts_with("http/1.1 202"), "{head}");
                number += SENDERS;
            }
        });
    }
    while let Some(sender) = tasks.join_next().await {
        sender.expect("a sender");
    }
}
