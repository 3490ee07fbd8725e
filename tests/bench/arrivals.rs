//! Receivers that know when each event was sent, and a sender that keeps a steady rate whatever the daemon does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::wire::read_message;

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Well,
    /// A byte now and then, and never an end.
    Drip,
    /// 429 and a second's patience.
    Throttle,
    /// 400, until it is mended.
    Refuse,
}

/// A receiver that remembers how long each event was under way, in milliseconds.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pub port: u16,
    latencies: Arc<Mutex<Vec<f64>>>,
    mended: Arc<AtomicBool>,
}

impl Arrivals {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (latencies, mended) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (kept, good) = (Arc::clone(&latencies), Arc::clone(&mended));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, manner, (Arc::clone(&kept), Arc::clone(&good))));
            }
        });
        Self { port, latencies, mended }
    }

    /// From here on it takes everything.
    pub fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
    }

    pub fn latencies(&self) -> Vec<f64> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(mut stream: TcpStream, manner: Manner, (latencies, mended): (Arc<Mutex<Vec<f64>>>, Arc<AtomicBool>)) {
    stream.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(sent) = read_stamped(&mut stream, &mut buffer).await else { return };
        let said: &[u8] = match manner {
            Manner::Refuse if !mended.load(Ordering::Relaxed) => b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n",
            Manner::Well | Manner::Refuse => {
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

/// Reads one request; when its event was sent, or now where it does not say.
async fn read_stamped(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<u64> {
    const MARK: &[u8] = b"\"sent_us\":\"";
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
            if buffer.len() >= end + 4 + length {
                let body: Vec<u8> = buffer.drain(..end + 4 + length).skip(end + 4).collect();
                let Some(at) = body.windows(MARK.len()).position(|window| window == MARK) else {
                    return Some(now_us());
                };
                let at = at + MARK.len();
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

/// Connections of a steady sender: so many that none still waits for its answer when its next event is due, or the sender
/// would be measured.
const SENDERS: usize = 64;

/// Sends `rate` events named `lead` a second for `span`, over some connections, by the clock and not by the acknowledgements.
/// How long each was waited for, from when it was due to its acknowledgement, in milliseconds. What an [`Arrivals`] measures of
/// them begins when they are written.
pub async fn steady(port: u16, token: &str, rate: u64, span: Duration) -> Vec<f64> {
    let mut tasks = tokio::task::JoinSet::new();
    let mut senders = Vec::with_capacity(SENDERS);
    for _ in 0..SENDERS {
        let (sender, numbers) = mpsc::unbounded_channel();
        senders.push(sender);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the daemon listens");
        tasks.spawn(send_each(stream, token.to_owned(), numbers));
    }
    let clock = std::thread::spawn(move || keep_time(&senders, rate, rate * span.as_secs()));
    let mut waits = Vec::new();
    while let Some(sender) = tasks.join_next().await {
        waits.extend(sender.expect("a sender"));
    }
    clock.join().expect("the clock's thread");
    waits
}

/// Tells each sender in turn when it is due. A thread of its own, since the runtime's timers round up to milliseconds.
fn keep_time(senders: &[mpsc::UnboundedSender<(u64, Instant)>], rate: u64, total: u64) {
    let began = Instant::now();
    for (number, sender) in (0..total).zip(senders.iter().cycle()) {
        let due = began + Duration::from_micros(number * 1_000_000 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sender.send((number, due)).expect("a sender");
    }
}

async fn send_each(
    mut stream: TcpStream,
    token: String,
    mut numbers: mpsc::UnboundedReceiver<(u64, Instant)>,
) -> Vec<f64> {
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = Vec::with_capacity(4096);
    let mut waits = Vec::new();
    while let Some((number, due)) = numbers.recv().await {
        let body = format!(
            r#"{{"event":"lead","event_id":"{number}","uid":"u-{number}","data":{{"sent_us":"{}"}}}}"#,
            now_us()
        );
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("the daemon reads");
        let head = read_message(&mut stream, &mut buffer).await.expect("the daemon answers");
        assert!(head.starts_with("http/1.1 202"), "{head}");
        waits.push(due.elapsed().as_secs_f64() * 1000.0);
    }
    waits
}

/// The latency that `permille` of all stay below; `sorted` is.
pub fn at(sorted: &[f64], permille: usize) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) * permille / 1000).copied().unwrap_or(f64::NAN)
}
