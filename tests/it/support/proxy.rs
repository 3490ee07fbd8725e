//! A proxy that works (HTTP and SOCKS 5 on one port, by the first byte that comes) or fails as it is told, and remembers
//! what it was asked. Whatever destination it is asked for, it connects to its one target.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The head of a request that is longer is a mistake of the test.
const HEAD_MAX: usize = 64 * 1024;
/// "Succeeded", and an IPv4 address.
const SOCKS_OK: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// What it does with a new connection.
#[derive(Clone, Debug)]
pub enum Manner {
    Works,
    /// Works, with these bytes as the last word of its SOCKS handshake.
    WorksSaying(Vec<u8>),
    /// For each of these it reads one message (or a whole HTTP request) and says it; then it ends.
    Says(Vec<Vec<u8>>, End),
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Close,
    Reset,
    Hang,
}

/// Says one thing to whatever comes, and closes.
pub fn says(bytes: impl Into<Vec<u8>>) -> Manner {
    Manner::Says(vec![bytes.into()], End::Close)
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    login: Option<(String, String)>,
    manner: Mutex<Manner>,
    asked: Mutex<Vec<String>>,
    connections: AtomicUsize,
    forwarded: AtomicUsize,
}

/// A running proxy; gone, with all its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Proxy {
    pub async fn start(target: SocketAddr, manner: Manner) -> Self {
        Self::with_login(target, manner, None).await
    }

    /// One that lets in who knows this user and password only.
    pub async fn with_login(target: SocketAddr, manner: Manner, login: Option<(&str, &str)>) -> Self {
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let shared = Shared {
            target,
            login,
            manner: Mutex::new(manner),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            forwarded: AtomicUsize::new(0),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(shared);
        let task = Some(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { address, shared, task }
    }

    /// What it does with connections from now on.
    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Stops listening and drops every connection.
    pub async fn down(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        task.await.unwrap_err();
    }

    /// Listens again, at the same address.
    pub async fn up(&mut self) {
        assert!(self.task.is_none(), "it listens");
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    /// An address of it for a configuration; `login` ends with `@` or is empty.
    pub fn url(&self, scheme: &str, login: &str) -> String {
        format!("{scheme}://{login}{}", self.address)
    }

    /// What it was asked for, in words: `CONNECT host:port`, `POST http://…`, `SOCKS host:port`.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections it made to its target.
    pub fn forwarded(&self) -> usize {
        self.shared.forwarded.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move { serve(stream, &shared).await.unwrap_or_default() });
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let manner = shared.manner.lock().unwrap().clone();
    match manner {
        Manner::Works => work(stream, shared, &SOCKS_OK).await,
        Manner::WorksSaying(last) => work(stream, shared, &last).await,
        Manner::Says(words, end) => {
            for word in words {
                message(&mut stream).await?;
                stream.write_all(&word).await?;
            }
            match end {
                End::Hang => std::future::pending().await,
                // Closing with a linger of zero sends RST instead of FIN.
                End::Reset => stream.set_zero_linger(),
                End::Close => {
                    stream.shutdown().await?;
                    // What was not read would turn the end into a reset.
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
                }
            }
        }
    }
}

async fn work(mut stream: TcpStream, shared: &Shared, last: &[u8]) -> io::Result<()> {
    let first = message(&mut stream).await?;
    let rest = if first.first() == Some(&5) {
        if !socks(&mut stream, shared, &first, last).await? {
            return Ok(());
        }
        Vec::new()
    } else {
        match http(&mut stream, shared, &first).await? {
            Some(rest) => rest,
            None => return Ok(()),
        }
    };
    shared.forwarded.fetch_add(1, Ordering::SeqCst);
    let mut target = TcpStream::connect(shared.target).await?;
    target.write_all(&rest).await?;
    copy_bidirectional(&mut stream, &mut target).await.map(|_| ())
}

/// What is to be passed on; `None` where it was turned away.
async fn http(stream: &mut TcpStream, shared: &Shared, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let text = String::from_utf8_lossy(request).into_owned();
    let (line, headers) = text.split_once("\r\n").unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    shared.asked.lock().unwrap().push(format!("{method} {target}"));
    if let Some((user, password)) = &shared.login {
        let wanted = format!("proxy-authorization: Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        if !headers.lines().any(|line| line.eq_ignore_ascii_case(&wanted)) {
            stream.write_all(b"HTTP/1.1 407 Login\r\ncontent-length: 0\r\nproxy-authenticate: Basic\r\n\r\n").await?;
            return Ok(None);
        }
    }
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        return Ok(Some(Vec::new()));
    }
    let path = target.splitn(4, '/').nth(3).unwrap_or_default();
    Ok(Some(format!("{method} /{path} HTTP/1.1\r\n{headers}").into_bytes()))
}

/// Whether the peer is let in.
async fn socks(stream: &mut TcpStream, shared: &Shared, hello: &[u8], last: &[u8]) -> io::Result<bool> {
    let method: u8 = if shared.login.is_some() { 2 } else { 0 };
    if !hello.get(2..).is_some_and(|offered| offered.contains(&method)) {
        stream.write_all(&[5, 0xff]).await?;
        return Ok(false);
    }
    stream.write_all(&[5, method]).await?;
    if let Some((user, password)) = &shared.login {
        let given = message(stream).await?;
        let wanted = [&[1, user.len() as u8], user.as_bytes(), &[password.len() as u8], password.as_bytes()].concat();
        if given != wanted {
            stream.write_all(&[1, 1]).await?;
            return Ok(false);
        }
        stream.write_all(&[1, 0]).await?;
    }
    let request = message(stream).await?;
    let (address, port) = request[3..].split_at(request.len() - 5);
    let host = match address[0] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(&address[1..]).unwrap()).to_string(),
        3 => String::from_utf8_lossy(&address[2..]).into_owned(),
        _ => format!("[{}]", std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&address[1..]).unwrap())),
    };
    shared.asked.lock().unwrap().push(format!("SOCKS {host}:{}", u16::from_be_bytes([port[0], port[1]])));
    stream.write_all(last).await?;
    Ok(true)
}

/// What comes in one go; of HTTP, a whole request with its body.
async fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !bytes[0].is_ascii_uppercase() {
            return Ok(bytes);
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            assert!(bytes.len() < HEAD_MAX, "the request's head is too long");
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if bytes.len() >= end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
            return Ok(bytes);
        }
    }
}
