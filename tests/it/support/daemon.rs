//! The real binary as a child process in a directory of its own: started, killed, stopped, started again.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
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
    config: PathBuf,
    env: Vec<(&'static str, String)>,
    log: Option<PathBuf>,
    options: Vec<&'static str>,
    passed: Option<TcpListener>,
    /// What is put before the command.
    wrap: Vec<String>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An answer of the daemon.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads one answer; `None` where its head is not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Daemon {
    /// Starts with the source `app` and `destinations` (TOML), and waits until it is ready.
    pub async fn start(destinations: &str) -> Self {
        Self::start_with("", destinations).await
    }

    /// As [`Daemon::start`], with further keys of `[server]`; `more` may hold any other table.
    pub async fn start_with(server: &str, more: &str) -> Self {
        let mut daemon = Self::prepare(server, more);
        daemon.restart().await;
        daemon
    }

    /// As [`Daemon::start_with`], not started yet.
    pub fn prepare(server: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let store = dir.path().join("data");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n{server}\n[storage]\npath = \"{}\"\nreserve = \"1MiB\"\n\
             [sources.app]\ntoken = \"{TOKEN}\"\n{more}\n",
            store.display()
        );
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config).expect("a writable directory");
        let (options, wrap) = (Vec::new(), Vec::new());
        Self { port, dir, child: None, config: path, env: Vec::new(), log: None, options, passed: None, wrap }
    }

    /// A file of the daemon's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From the next start on the configuration is this file.
    pub fn set_config(&mut self, path: PathBuf) {
        self.config = path;
    }

    /// From the next start on the daemon has this in its environment.
    pub fn set_env(&mut self, name: &'static str, value: String) {
        self.env.push((name, value));
    }

    /// From the next start on `run` has this option too.
    pub fn run_with(&mut self, option: &'static str) {
        self.options.push(option);
    }

    /// From the next start on everything from `info` up is logged to this file.
    pub fn set_log(&mut self, path: PathBuf) {
        self.set_log_from("info", path);
    }

    /// From the next start on all it says goes to this file, and its log from `level` up.
    pub fn set_log_from(&mut self, level: &str, path: PathBuf) {
        self.env.push(("POSTBACKD_LOG", level.to_owned()));
        self.log = Some(path);
    }

    /// From the next start on the daemon is run by this command, which has to become it.
    pub fn enter(&mut self, wrap: Vec<String>) {
        self.wrap = wrap;
    }

    /// From the next start on the daemon is passed this socket, as systemd does it: as file descriptor 3.
    pub fn pass(&mut self, socket: TcpListener) {
        self.port = socket.local_addr().expect("an address").port();
        self.passed = Some(socket);
    }

    /// Starts it (again) and waits until it is ready: how long that took.
    pub async fn restart(&mut self) -> Duration {
        self.restart_until("/readyz").await
    }

    /// As [`Daemon::restart`], for a daemon that will not become ready: waits until `path` is answered with 200.
    pub async fn restart_until(&mut self, path: &str) -> Duration {
        self.spawn(async |daemon: &Self| {
            daemon.try_request("GET", path, "", None).await.is_some_and(|answer| answer.status == 200)
        })
        .await
    }

    /// As [`Daemon::restart`], but waits only until its port is open.
    pub async fn restart_until_listening(&mut self) -> Duration {
        self.spawn(async |daemon: &Self| TcpStream::connect(("127.0.0.1", daemon.port)).await.is_ok()).await
    }

    /// As [`Daemon::restart`], for a daemon that is up when this says so.
    pub async fn restart_when(&mut self, is_up: impl AsyncFn(&Self) -> bool) -> Duration {
        self.spawn(is_up).await
    }

    /// Starts it, which must fail: what it said.
    pub fn start_and_fail(&self) -> String {
        self.start_and_end_with(1)
    }

    /// Starts it, which must end with this exit code: what it said.
    pub fn start_and_end_with(&self, code: i32) -> String {
        let output = self.run_command().stderr(Stdio::piped()).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    fn run_command(&self) -> Command {
        let mut command = self.command("run");
        command.args(&self.options);
        if let Some(socket) = &self.passed {
            command = passing(&command, socket);
        }
        if let Some((first, rest)) = self.wrap.split_first() {
            let mut wrapped = Command::new(first);
            wrapped.args(rest).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
            wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command = wrapped;
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    async fn spawn(&mut self, is_up: impl AsyncFn(&Self) -> bool) -> Duration {
        assert!(self.child.is_none(), "it still runs");
        let started = Instant::now();
        let mut command = self.run_command();
        if let Some(log) = &self.log {
            let file = std::fs::File::create(log).expect("a writable directory");
            command.stdout(file.try_clone().expect("a handle")).stderr(file);
        }
        self.child = Some(command.spawn().expect("the binary starts"));
        while !is_up(self).await {
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
        // Receivers with TLS have a certificate of the tests' own CA.
        command.env("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/ca.pem"));
        command.env("POSTBACKD_LOG", std::env::var("POSTBACKD_LOG").unwrap_or_else(|_| "error".to_owned()));
        command
    }

    /// A command of the binary with this daemon's configuration, run to its end with `input` on its standard input.
    /// It runs from now on; the future waits for its end.
    pub fn cli(&self, words: &[&str], input: &str) -> impl Future<Output = Said> + use<> {
        self.cli_with(words, input, &[])
    }

    /// As [`Daemon::cli`], with these environment variables.
    pub fn cli_with(&self, words: &[&str], input: &str, env: &[(&str, &str)]) -> impl Future<Output = Said> + use<> {
        let (verb, rest) = words.split_first().expect("a verb");
        let mut command = self.command(verb);
        command.args(rest).envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            // A command that does not read its input may have ended before all of it was written.
            stdin.write_all(input.as_bytes()).ok();
            drop(stdin);
            child.wait_with_output().expect("a child")
        });
        async {
            let output = output.await.expect("no panic");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            Said { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
        }
    }

    /// Changes the configuration file in place.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).expect("a configuration");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(self.config(), text.replacen(from, to, 1)).expect("a writable directory");
    }

    pub fn config(&self) -> PathBuf {
        self.config.clone()
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

    /// Waits for it to end by itself: its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it runs");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return status.code();
            }
            if started.elapsed() > PATIENCE {
                child.kill().expect("a child");
                panic!("the daemon does not end");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        rustix::process::kill_process(pid, signal).expect("a child");
    }

    /// SIGTERM; how long the clean stop took.
    pub fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().expect("it runs");
        let started = Instant::now();
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).expect("a child");
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
        Answer::read(&self.exchange(request.as_bytes()).await?)
    }

    /// One request with exactly these headers besides the length.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        let head =
            format!("{method} {path} HTTP/1.1\r\n{lines}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let bytes = self.exchange(&[head.as_bytes(), body].concat()).await.expect("the daemon answers");
        Answer::read(&bytes).unwrap_or_else(|| panic!("{method} {path}: {}", String::from_utf8_lossy(&bytes)))
    }

    /// Sends `bytes` and reads until the daemon closes the connection.
    pub async fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(bytes).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(answer)
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

    /// Open file descriptors and threads of the process.
    pub fn handles(&self) -> (usize, usize) {
        let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", self.pid())).expect("Linux").count();
        (count("fd"), count("task"))
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

/// The command, with a socket as file descriptor 3: a shell takes it in as its standard input, and becomes the daemon.
fn passing(command: &Command, socket: &TcpListener) -> Command {
    let mut shell = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$0\" \"$@\"";
    shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(OwnedFd::from(socket.try_clone().expect("a file descriptor")));
    shell
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
