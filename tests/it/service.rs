//! What the service manager sees: messages in order, signs of life, and a listening socket that outlives the daemon.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::daemon::{Answer, Daemon, PATIENCE, TOKEN};
use crate::support::reload::{reload, text};

/// In place of systemd.
struct Manager(UnixDatagram);

impl Manager {
    /// The daemon tells this manager, and is to show a sign of life within `watchdog`.
    fn of(daemon: &mut Daemon, watchdog: Option<Duration>) -> Self {
        let path = daemon.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        daemon.set_env("NOTIFY_SOCKET", path.display().to_string());
        if let Some(limit) = watchdog {
            daemon.set_env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        Self(socket)
    }

    /// The next message, one line for each part of it.
    fn next(&self) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect())
    }

    fn expect(&self, wanted: &str) -> Vec<String> {
        let found = self.next().unwrap_or_else(|| panic!("{wanted} does not come"));
        assert!(found.iter().any(|line| line == wanted), "{found:?} is not {wanted}");
        found
    }

    /// Whether a sign of life comes within `span`.
    fn beats_within(&self, span: Duration) -> bool {
        self.0.set_read_timeout(Some(span)).unwrap();
        self.next().is_some_and(|found| found == ["WATCHDOG=1"])
    }

    /// Forgets what has come so far.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.next().is_some() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_is_told_of_start_reload_refusal_and_stop() {
    let mut daemon = Daemon::prepare("", "");
    let manager = Manager::of(&mut daemon, None);
    daemon.restart().await;
    let ready = manager.expect("READY=1");
    assert!(ready.iter().any(|line| line == "STATUS=running"), "{ready:?}");
    let before = text(&daemon);
    reload(&daemon).await;
    // Both in one message, or systemd takes the reload for one that never ends.
    let reloading = manager.expect("RELOADING=1");
    let since = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let off = since.parse::<f64>().unwrap() / 1e6 - uptime;
    assert!(off.abs() < 60.0, "{since} is {off} s off the time since the machine started");
    manager.expect("READY=1");
    std::fs::write(daemon.config(), "[server]\nlisten = 1\n").unwrap();
    daemon.hang_up();
    manager.expect("RELOADING=1");
    let refused = manager.expect("READY=1");
    let status = refused.iter().find_map(|line| line.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains("refused") && status.contains("server.listen"), "it says why: {status}");
    std::fs::write(daemon.config(), before).unwrap();
    reload(&daemon).await;
    manager.expect("RELOADING=1");
    assert!(manager.expect("READY=1").iter().any(|line| line == "STATUS=running"), "the refusal is over");
    daemon.terminate();
    manager.expect("STOPPING=1");
}

// Rows 22 and 23: a check of a large store on a dying disk may take hours. In its place, a mark that never ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_store_is_being_opened_is_obeyed_at_once_and_clean() {
    let mut daemon = Daemon::start("").await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"1"}"#).await.status, 202);
    daemon.terminate();
    let before = std::fs::read(daemon.path("data/postbackd.redb")).unwrap();
    let mark = daemon.path("data/postbackd.suspect");
    assert!(std::process::Command::new("mkfifo").arg(&mark).status().unwrap().success());
    let manager = Manager::of(&mut daemon, None);
    for (signal, first) in [(Signal::TERM, None), (Signal::INT, None), (Signal::TERM, Some("--compact"))] {
        if let Some(option) = first {
            daemon.run_with(option);
        }
        daemon.restart_until_listening().await;
        daemon.signal(signal);
        let began = Instant::now();
        assert_eq!(daemon.ended().await, Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // A compaction may have been told before it.
        let mut said = std::iter::from_fn(|| manager.next());
        let stopping = said.find(|lines| lines.iter().any(|line| line == "STOPPING=1")).unwrap();
        assert!(stopping.iter().any(|line| line.contains("before the store was open")), "{stopping:?}");
    }
    assert!(std::fs::read(daemon.path("data/postbackd.redb")).unwrap() == before, "it was written to");
    std::fs::remove_file(mark).unwrap();
    daemon.restart().await;
    daemon.wait_for_status(|status| status["events"]["accepted"] == 1).await;
}

// Row 27.
#[tokio::test(flavor = "multi_thread")]
async fn signs_of_life_come_in_half_the_time_and_not_from_a_daemon_that_is_stopped() {
    const LIMIT: Duration = Duration::from_secs(1);
    let mut daemon = Daemon::prepare("", "");
    let manager = Manager::of(&mut daemon, Some(LIMIT));
    daemon.restart().await;
    manager.forget();
    // Its own halves, and as much again for a machine that has other things to do.
    let started = Instant::now();
    assert!((0..4).all(|_| manager.beats_within(LIMIT)), "it lives");
    assert!(started.elapsed() >= LIMIT, "not more often than it is asked for");
    daemon.signal(Signal::STOP);
    manager.forget();
    assert!(!manager.beats_within(2 * LIMIT), "a process that is stopped says nothing");
    daemon.signal(Signal::CONT);
    assert!(manager.beats_within(10 * LIMIT), "and goes on");
}

#[tokio::test]
async fn a_passed_socket_wins_and_its_address_counts_as_ours() {
    let mut daemon = Daemon::prepare("", "");
    let configured = daemon.port;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    daemon.pass(socket);
    daemon.restart().await;
    assert_ne!(daemon.port, configured);
    assert!(TcpStream::connect(("127.0.0.1", configured)).await.is_err(), "server.listen opens nothing");
    // Neither the address that is not in force nor a change of it is news to anybody.
    let answer = reload(&daemon).await;
    assert_eq!(answer["needs_restart"], serde_json::json!([]), "{answer}");
}

#[tokio::test]
async fn a_passed_socket_that_others_reach_needs_an_admin_token() {
    let mut daemon = Daemon::prepare("admin_token = \"s3cret-s3cret-s3cret\"", "");
    daemon.pass(TcpListener::bind("0.0.0.0:0").unwrap());
    daemon.restart().await;
    daemon.edit("admin_token", "# admin_token");
    let token = ("authorization", "Bearer s3cret-s3cret-s3cret");
    let answer = daemon.request("POST", "/v1/reload", &[("host", "localhost"), token], b"").await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("admin_token is missing"), "{}", answer.text());
    let still = daemon.request("GET", "/status", &[("host", "localhost")], b"").await;
    assert_eq!(still.status, 401, "the one before goes on");
    daemon.terminate();
    let said = daemon.start_and_fail();
    assert!(said.contains("admin_token is missing"), "{said}");
}

/// Sends events, each over a connection of its own, until it is told to stop; counts those that were taken.
async fn sender(port: u16, number: usize, stop: Arc<AtomicBool>, taken: Arc<AtomicU64>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        count += 1;
        match send(port, &format!("{number}-{count}")).await {
            Ok(202) => {
                taken.fetch_add(1, Ordering::AcqRel);
            }
            Ok(status) => failures.push(format!("{count}: status {status}")),
            Err(error) => failures.push(format!("{count}: {error}")),
        }
    }
    failures
}

async fn send(port: u16, id: &str) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let event = format!(r#"{{"event":"deposit","event_id":"{id}"}}"#);
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{event}",
        event.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let answer = Answer::read(&bytes).ok_or_else(|| std::io::Error::other("closed without an answer"))?;
    Ok(answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_refuse_no_connection_where_the_socket_is_passed() {
    let mut daemon = Daemon::prepare("", "");
    daemon.pass(TcpListener::bind("127.0.0.1:0").unwrap());
    daemon.restart().await;
    let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> =
        (0..8).map(|number| tokio::spawn(sender(daemon.port, number, Arc::clone(&stop), Arc::clone(&taken)))).collect();
    let mut before = 0;
    for _ in 0..3 {
        // Until it is under load again.
        while taken.load(Ordering::Acquire) < before + 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        daemon.terminate();
        before = taken.load(Ordering::Acquire);
        daemon.restart().await;
    }
    stop.store(true, Ordering::Release);
    for sender in senders {
        assert_eq!(sender.await.unwrap(), Vec::<String>::new());
    }
    let status = daemon.get("/status").await.json();
    assert_eq!(status["events"]["accepted"], serde_json::json!(taken.load(Ordering::Acquire)), "{status:#}");
}
