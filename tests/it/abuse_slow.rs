//! Clients that are slow, silent, endless or many: they are cut off in time, take a bounded share of the memory, and those
//! who send as they should do not feel them (row 55 of the fault catalogue).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::daemon::{Answer, Daemon, PATIENCE};
use crate::support::desk::{events, problem};
use crate::support::sender::{GoodSender, connect, growth_mb, head, request};

/// Of each kind at once.
const CLIENTS: usize = 40;

/// A client that does not get on with it, and what becomes of it: the status it is told, none where it is just cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slow {
    /// Connects and says nothing.
    Silent,
    /// A header line every half second.
    DripsHead,
    /// Eight MiB declared, a byte sent.
    StopsInBody,
    /// Chunks, of which the next never comes.
    StopsInChunks,
    /// No token, and a body that never ends.
    NobodyDripsBody,
    /// Asks and asks, and takes no answer.
    NeverReads,
}

impl Slow {
    const ALL: [Self; 6] = [
        Self::Silent,
        Self::DripsHead,
        Self::StopsInBody,
        Self::StopsInChunks,
        Self::NobodyDripsBody,
        Self::NeverReads,
    ];

    fn first(self) -> String {
        match self {
            Self::Silent => String::new(),
            Self::DripsHead => "POST /v1/events HTTP/1.1\r\nhost: x\r\n".to_owned(),
            Self::StopsInBody => head("content-length: 8388608\r\n\r\n["),
            Self::StopsInChunks => head("transfer-encoding: chunked\r\n\r\n1\r\n[\r\n"),
            Self::NobodyDripsBody => "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".to_owned(),
            Self::NeverReads => "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10_000),
        }
    }

    fn drop(self) -> Option<&'static str> {
        match self {
            Self::Silent | Self::StopsInBody | Self::StopsInChunks => None,
            Self::DripsHead => Some("x-more: of it\r\n"),
            Self::NobodyDripsBody => Some("x"),
            Self::NeverReads => Some("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
        }
    }

    fn told(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Silent | Self::DripsHead | Self::NeverReads => None,
            Self::StopsInBody | Self::StopsInChunks => Some((408, "body_timeout")),
            Self::NobodyDripsBody => Some((401, "token_missing")),
        }
    }

    /// Goes on until the daemon has had enough.
    async fn go(self, port: u16) {
        let begun = Instant::now();
        let stream = connect(port).await.expect("a connection");
        let (mut from, mut to) = stream.into_split();
        let sending = async {
            // It may be cut off in the middle of it.
            to.write_all(self.first().as_bytes()).await.ok();
            while let Some(drop) = self.drop() {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if to.write_all(drop.as_bytes()).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        if self == Self::NeverReads {
            tokio::time::timeout(PATIENCE, sending).await.expect("it is cut off");
        } else {
            tokio::select! {
                () = sending => { from.read_to_end(&mut answer).await.ok(); }
                read = tokio::time::timeout(PATIENCE, from.read_to_end(&mut answer)) => { read.expect("it is cut off").ok(); }
            }
        }
        match self.told() {
            None => assert!(answer.is_empty(), "{self:?}: {}", String::from_utf8_lossy(&answer)),
            Some((status, code)) => {
                let answer = Answer::read(&answer).unwrap_or_else(|| panic!("{self:?} is told why"));
                problem(&answer, status, code);
            }
        }
        println!("{self:?}: cut off after {:?}", begun.elapsed());
    }
}

// Row 55: slow loris in head, body and answer, all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_off_and_nobody_waits_for_them() {
    let daemon = Daemon::start("").await;
    let good = GoodSender::start(&daemon, "good");
    let clients: JoinSet<()> = Slow::ALL
        .into_iter()
        .flat_map(|slow| (0..CLIENTS).map(move |_| slow))
        .map(|slow| slow.go(daemon.port))
        .collect();
    let (_, growth) = growth_mb(&daemon, clients.join_all()).await;
    println!("{} slow clients took {growth:.1} MB", CLIENTS * Slow::ALL.len());
    assert!(growth < 64.0, "{growth} MB");
    let sent = good.stop_undisturbed().await;
    let events = events(&daemon).await;
    assert_eq!((events["accepted"].as_u64(), events["rejected"].as_u64()), (Some(sent as u64), Some(0)), "{events}");
}

// Row 55: bytes without an end, as fast as they are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_requests_are_cut_off_by_their_size() {
    let daemon = Daemon::start_with("body_limit = \"256KiB\"", "").await;
    let good = GoodSender::start(&daemon, "good");
    let chunks = "1\r\nx\r\n".repeat(4096);
    let endless: [(&str, String, String, u16); 6] = [
        ("chunks", head("transfer-encoding: chunked\r\n\r\n"), chunks, 413),
        ("a chunk's extension", head("transfer-encoding: chunked\r\n\r\n1;"), "x".repeat(4096), 400),
        ("trailers", head("transfer-encoding: chunked\r\n\r\n0\r\n"), "x-trailer: more\r\n".repeat(4096), 400),
        ("headers", head(""), "x-header: more\r\n".repeat(4096), 431),
        ("a header", head("x-header: "), "x".repeat(4096), 431),
        ("a target", "GET /e?".to_owned(), "x".repeat(4096), 431),
    ];
    let flood = async {
        for (what, first, more, status) in endless {
            let mut stream = connect(daemon.port).await.expect("a connection");
            stream.write_all(first.as_bytes()).await.expect("the beginning is taken");
            let answer = flood(&mut stream, &more).await;
            let answer = Answer::read(&answer).unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(answer.status, status, "{what}: {}", answer.head);
        }
    };
    let ((), growth) = growth_mb(&daemon, flood).await;
    assert!(growth < 32.0, "{growth} MB");
    good.stop_undisturbed().await;
}

/// Sends `more` again and again until the daemon has answered and closed the connection, or for so long that it is a failure.
async fn flood(stream: &mut TcpStream, more: &str) -> Vec<u8> {
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        while to.write_all(more.as_bytes()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => {}
        // A reset behind the answer takes nothing of it away.
        read = tokio::time::timeout(PATIENCE, from.read_to_end(&mut answer)) => { read.expect("it is cut off").ok(); }
    }
    answer
}

/// Connections that fit into what this process and the daemon may open.
fn many() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum },
    )
    .expect("up to the hard limit");
    usize::try_from(most.saturating_sub(500)).unwrap_or(usize::MAX).min(9_500)
}

// Row 55: ten thousand idle connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_cost_little_and_are_closed() {
    let many = many();
    // Started after the limit was raised: the daemon inherits it.
    let daemon = Daemon::start("").await;
    let good = GoodSender::start(&daemon, "good");
    let (handles, _) = daemon.handles();
    let crowd = async {
        let mut idle = Vec::new();
        while idle.len() < many {
            idle.push(connect(daemon.port).await.expect("a connection"));
        }
        let most = daemon.handles().0;
        let mut one = connect(daemon.port).await.expect("a connection");
        one.write_all(request(r#"{"event":"a","event_id":"among-them"}"#).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        one.read_to_end(&mut answer).await.unwrap();
        assert_eq!(Answer::read(&answer).unwrap().status, 202);
        for stream in &mut idle {
            let mut nothing = Vec::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut nothing));
            read.await.expect("an idle connection is closed").ok();
            assert!(nothing.is_empty(), "{}", String::from_utf8_lossy(&nothing));
        }
        most
    };
    let (most, growth) = growth_mb(&daemon, crowd).await;
    println!("{many} idle connections: {most} file descriptors, {growth:.1} MB");
    assert!(most > many * 9 / 10, "{most} were open at once");
    assert!(growth < 160.0, "{growth} MB");
    good.stop_undisturbed().await;
    let started = Instant::now();
    while daemon.handles().0 > handles + 20 {
        assert!(started.elapsed() < PATIENCE, "{} file descriptors are left", daemon.handles().0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
