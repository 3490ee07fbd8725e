//! A receiver that does what it is told: answers, stalls, resets, floods and lies, and remembers what it was sent.
//!
//! Raw TCP rather than an HTTP server, because most of what it does no server would do. It speaks just enough HTTP/1.1
//! to read requests with a `Content-Length`. It never waits for time to pass except where an act says so.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// A head that is longer is a mistake of the test.
const HEAD_MAX: usize = 256 * 1024;

/// What to do with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A proper answer; the connection stays open.
    Reply(Reply),
    /// A proper answer after a while.
    Late(Duration, Reply),
    /// Never answers, never closes.
    Hang,
    /// Closes politely without a word.
    Close,
    /// Resets the connection at that point.
    Reset(At),
    /// These bytes and no more; the connection stays open.
    Raw(Vec<u8>),
    /// These bytes, then a polite end.
    RawThenClose(Vec<u8>),
    /// The first bytes, then the second again and again, one every so often, for ever.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// The first bytes, then the second again and again, as fast as they are taken.
    Flood(Vec<u8>, Vec<u8>),
}

/// Where a connection is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The request was read, nothing was answered.
    AfterRequest,
    /// In the middle of the answer's headers.
    InHeaders,
    /// In the middle of the answer's body.
    InBody,
}

/// A proper answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With its own `Content-Length`.
    pub fn bytes(&self) -> Vec<u8> {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| [name.as_str(), ": ", value, "\r\n"].concat()).collect();
        let head = format!(
            "HTTP/1.1 {} Whatever\r\n{}content-length: {}\r\n\r\n",
            self.status,
            headers.concat(),
            self.body.len()
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// A request as it came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query as they stood in the request line.
    pub target: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// On which connection, from 1.
    pub connection: usize,
    /// When it was whole.
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
    connections: AtomicUsize,
    script: Mutex<VecDeque<Act>>,
}

/// A running receiver; gone, with all its connections, when dropped.
#[derive(Debug)]
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1 and answers the requests by `acts`, in order of arrival; the last act holds for
    /// all that follow.
    pub async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        let sink = Self { address, shared, task };
        sink.set(acts);
        sink
    }

    /// Answers every request with `status`.
    pub async fn with_status(status: u16) -> Self {
        Self::start(vec![Act::Reply(Reply::new(status, ""))]).await
    }

    /// Replaces what is to be done with the requests that have not come yet.
    pub fn set(&self, acts: Vec<Act>) {
        assert!(!acts.is_empty(), "a sink must know what to do");
        *self.shared.script.lock().unwrap() = acts.into();
    }

    /// An URL of this sink; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All whole requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The same, and forgets them.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }

    /// Waits until `count` requests have come, and gives them all. The test's own time limit is the limit.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        loop {
            let arrived = self.shared.arrived.notified();
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            arrived.await;
        }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let shared = Arc::clone(&shared);
        // A peer that goes away in the middle is what many tests want: no error of ours.
        connections.spawn(async move { serve(stream, number, &shared).await.unwrap_or_default() });
    }
}

async fn serve(mut stream: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(&mut stream, &mut buffer).await? {
        seen.connection = number;
        let act = {
            let mut all = shared.seen.lock().unwrap();
            let mut script = shared.script.lock().unwrap();
            all.push(seen);
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        shared.arrived.notify_waiters();
        if !perform(&mut stream, act.expect("a sink must know what to do")).await? {
            break;
        }
    }
    Ok(())
}

/// Whether the connection goes on.
async fn perform(stream: &mut TcpStream, act: Act) -> io::Result<bool> {
    match act {
        Act::Reply(reply) => stream.write_all(&reply.bytes()).await?,
        Act::Late(wait, reply) => {
            tokio::time::sleep(wait).await;
            stream.write_all(&reply.bytes()).await?;
        }
        Act::Hang => std::future::pending().await,
        Act::Close => return Ok(false),
        Act::Reset(at) => {
            let bytes: &[u8] = match at {
                At::AfterRequest => b"",
                At::InHeaders => b"HTTP/1.1 200 OK\r\ncontent-le",
                At::InBody => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
            };
            stream.write_all(bytes).await?;
            // Closing with a linger of zero sends RST instead of FIN.
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Act::Raw(bytes) => stream.write_all(&bytes).await?,
        Act::RawThenClose(bytes) => {
            stream.write_all(&bytes).await?;
            return Ok(false);
        }
        Act::Drip(first, drop, every) => {
            stream.write_all(&first).await?;
            loop {
                tokio::time::sleep(every).await;
                stream.write_all(&drop).await?;
            }
        }
        Act::Flood(first, wave) => {
            stream.write_all(&first).await?;
            let wave = wave.repeat(64 * 1024 / wave.len().max(1) + 1);
            loop {
                stream.write_all(&wave).await?;
                // Loopback takes everything at once; others must have their turn too.
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(true)
}

/// The next whole request; `None` where the peer ended before one.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(buffer.len() < HEAD_MAX, "the request's head is too long");
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let rest = buffer.split_off(end + 4);
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut seen = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: rest,
        connection: 0,
        at: Instant::now(),
    };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while seen.body.len() < length {
        if stream.read_buf(&mut seen.body).await? == 0 {
            return Ok(None);
        }
    }
    *buffer = seen.body.split_off(length);
    seen.at = Instant::now();
    Ok(Some(seen))
}
