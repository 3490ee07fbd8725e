//! The real binary as a child process in a directory of its own: started, killed, stopped, started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The token of the one source every test configuration has (`app`).
pub const TOKEN: &str = "app-token-0123456789";

/// How long anything may take before a test calls it broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon under test.
#[derive(Debug)]
pub struct Daemon {
    pub port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

/// An answer of the daemon.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Daemon {
    /// Starts with the source `app` and `destinations` (TOML), and waits until it is ready.
    pub async fn start(destinations: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let store = dir.path().join("data");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n[storage]\npath = \"{}\"\nreserve = \"1MiB\"\n\
             [sources.app]\ntoken = \"{TOKEN}\"\n{destinations}\n",
            store.display()
        );
        std::fs::write(dir.path().join("config.toml"), config).expect("a writable directory");
        let mut daemon = Self { port, dir, child: None };
        daemon.restart().await;
        daemon
    }

    /// Starts it (again) and waits until it is ready: how long that took.
    pub async fn restart(&mut self) -> Duration {
        assert!(self.child.is_none(), "it still runs");
        let started = Instant::now();
        self.child = Some(self.command("run").spawn().expect("the binary starts"));
        while !self.is_ready().await {
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("the daemon ended while starting: {status}");
            }
            assert!(started.elapsed() < PATIENCE, "the daemon does not become ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    /// A command of the binary with this daemon's configuration.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postbackd"));
        command.arg(verb).arg("--config").arg(self.config()).stdin(Stdio::null());
        command.env("POSTBACKD_LOG", std::env::var("POSTBACKD_LOG").unwrap_or_else(|_| "error".to_owned()));
        command
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// SIGKILL, at whatever it is doing.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child");
        child.wait().expect("a child");
    }

    /// SIGTERM; how long the clean stop took.
    pub fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().expect("it runs");
        let started = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child");
        let status = child.wait().expect("a child");
        assert!(status.success(), "a clean stop exits 0, not {status}");
        started.elapsed()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_request("GET", path, "", None).await.expect("the daemon answers")
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.try_request("POST", path, body, None).await.expect("the daemon answers")
    }

    /// One request with the source's token; `None` where no whole answer came back.
    pub async fn try_request(&self, method: &str, path: &str, body: &str, kind: Option<&str>) -> Option<Answer> {
        let kind = kind.unwrap_or("application/json");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok()?;
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: bytes[end + 4..].to_vec() })
    }

    /// Asks for `/status` until `wanted` holds; panics with the last answer where it never does.
    pub async fn wait_for_status(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let status = self.get("/status").await.json();
            if wanted(&status) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon never gets there: {status:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Memory the process holds now.
    pub fn rss_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }

    /// Processor time it has used so far, in microseconds, as the kernel counts it (ticks of 10 ms).
    pub fn cpu_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("Linux");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: f64 = rest.split_whitespace().skip(11).take(2).map(|text| text.parse::<f64>().expect("ticks")).sum();
        ticks * 10_000.0
    }

    async fn is_ready(&self) -> bool {
        self.try_request("GET", "/readyz", "", None).await.is_some_and(|answer| answer.status == 200)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A port nobody listens on right now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A webhook destination named `name` that sends to `url` and retries at once.
pub fn webhook(name: &str, url: &str) -> String {
    format!(
        "[destinations.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\ntimeout = \"1s\"\n\
         retry = {{ first = \"50ms\", max_delay = \"1s\", max_attempts = 0 }}\n"
    )
}
