//! Real proxies, from Debian's packages tinyproxy-bin and microsocks: the gate installs them. Where they are missing the tests
//! say so and pass, so that `cargo test` works on a machine that has a Rust toolchain and nothing else.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};
use crate::support::desk::{deposit, settled, webhook};
use crate::support::sink::Sink;
use crate::support::tls::TlsFront;

/// A program of the system; `None`, loudly, where it is not installed.
fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let note = format!("NOT TESTED against {name}: it is not installed; run: apt-get install {package}\n");
        std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes()).unwrap();
    }
    found
}

/// A proxy as a child process on a port of its own; killed when dropped.
struct RealProxy {
    port: u16,
    command: Box<dyn Fn() -> Command>,
    child: Option<Child>,
}

impl RealProxy {
    async fn start(port: u16, command: impl Fn() -> Command + 'static) -> Self {
        let mut proxy = Self { port, command: Box::new(command), child: None };
        proxy.up().await;
        proxy
    }

    async fn up(&mut self) {
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.child.insert(command.spawn().unwrap());
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "the proxy ended");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    fn down(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The same life with every kind of proxy: good and bad login, a death, a return. `schemes` are what it speaks.
async fn a_life(proxy: &mut RealProxy, schemes: &[&str]) {
    let sink = Sink::with_status(200).await;
    let tls = TlsFront::start(sink.address).await;
    let mut toml = String::new();
    let quick = "hold_probe = \"300ms\"\nretry = { max_attempts = 1 }";
    for scheme in schemes {
        for (over, address) in [("http", sink.address), ("https", tls.address)] {
            let url = format!("{over}://localhost:{}/", address.port());
            let with = |login: &str| format!("{quick}\nproxy = \"{scheme}://{login}@127.0.0.1:{}\"", proxy.port);
            toml += &webhook(&format!("good-{scheme}-{over}"), &url, &with("user:right"));
            toml += &webhook(&format!("bad-{scheme}-{over}"), &url, &with("user:canary"));
        }
    }
    let good = 2 * schemes.len() as u64;
    let daemon = Daemon::start(&toml).await;
    deposit(&daemon, "one").await;
    settled(&daemon, &[("sent", good), ("pending", good)]).await;
    let each = |status: &Value, begins: &str, holds: &dyn Fn(&Value) -> bool| {
        let all = status["destinations"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with(begins));
        all.map(|(_, destination)| destination).all(holds)
    };
    let status = daemon.wait_for_status(|status| each(status, "bad", &|bad| bad["state"] == "held")).await;
    // What is said to CONNECT is known as a refusal only, which may be one of the login.
    let refused = |bad: &Value| {
        let reason = bad["reason"].as_str().unwrap();
        (reason.contains("check them in proxy") || reason.contains("the login"))
            && bad["proxy"]["in_use"] == Value::Null
    };
    assert!(each(&status, "bad", &refused), "{status:#}");
    assert!(each(&status, "good", &|good| good["state"] == "active" && good["proxy"]["routes"][0]["used"] == 1));

    proxy.down();
    deposit(&daemon, "two").await;
    daemon.wait_for_status(|status| each(status, "", &|any| any["state"] == "held")).await;
    let log = daemon.get("/v1/deliveries?status=pending&limit=1000").await.json();
    assert!(log["deliveries"].as_array().unwrap().iter().all(|row| row["attempt_count"] == 0), "{log:#}");
    assert_eq!(sink.seen().len() as u64, good, "nothing went directly");

    proxy.up().await;
    let status = settled(&daemon, &[("sent", 2 * good), ("pending", 2 * good), ("failed", 0)]).await;
    assert!(!status.to_string().contains("canary"));
    let seen = sink.seen();
    assert_eq!(seen.len() as u64, 2 * good, "each once");
    assert!(
        seen.iter().all(|request| request.header("proxy-authorization").is_none()),
        "the login stays with the proxy"
    );
    assert_eq!(daemon.get("/v1/dlq").await.json()["total"], json!(0));
}

// Row 74, against a real HTTP proxy with Basic authentication.
// Row 74.
#[tokio::test]
async fn tinyproxy_with_a_login() {
    let Some(binary) = program("tinyproxy", "tinyproxy-bin") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (port, file) = (free_port(), dir.path().join("tinyproxy.conf"));
    let conf =
        format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nBasicAuth user right\nLogLevel Error\n");
    std::fs::write(&file, conf).unwrap();
    let command = move || {
        let mut command = Command::new(&binary);
        command.arg("-d").arg("-c").arg(&file);
        command
    };
    let mut proxy = RealProxy::start(port, command).await;
    a_life(&mut proxy, &["http"]).await;
}

// Rows 74 and 76, against a real SOCKS 5 proxy with user and password.
// Row 76.
#[tokio::test]
async fn microsocks_with_a_login() {
    let Some(binary) = program("microsocks", "microsocks") else { return };
    let port = free_port();
    let command = move || {
        let mut command = Command::new(&binary);
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-u", "user", "-P", "right"]);
        command
    };
    let mut proxy = RealProxy::start(port, command).await;
    a_life(&mut proxy, &["socks5", "socks5h"]).await;
}

// A destination that is down behind a proxy that works: what each of them says about it.
#[tokio::test]
async fn a_destination_that_is_down_behind_a_real_proxy_spends_nothing() {
    let (Some(tinyproxy), Some(microsocks)) =
        (program("tinyproxy", "tinyproxy-bin"), program("microsocks", "microsocks"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (http, socks, dead) = (free_port(), free_port(), free_port());
    let file = dir.path().join("tinyproxy.conf");
    std::fs::write(&file, format!("Port {http}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nLogLevel Error\n"))
        .unwrap();
    let _http = RealProxy::start(http, move || {
        let mut command = Command::new(&tinyproxy);
        command.arg("-d").arg("-c").arg(&file);
        command
    })
    .await;
    let _socks = RealProxy::start(socks, move || {
        let mut command = Command::new(&microsocks);
        command.args(["-i", "127.0.0.1", "-p", &socks.to_string()]);
        command
    })
    .await;
    let mut toml = String::new();
    for (n, (over, proxy)) in [
        ("http", format!("http://127.0.0.1:{http}")),
        ("https", format!("http://127.0.0.1:{http}")),
        ("http", format!("socks5h://127.0.0.1:{socks}")),
        ("https", format!("socks5://127.0.0.1:{socks}")),
    ]
    .into_iter()
    .enumerate()
    {
        let more = format!("retry = {{ max_attempts = 1 }}\nproxy = \"{proxy}\"");
        toml += &webhook(&format!("d{n}"), &format!("{over}://127.0.0.1:{dead}/"), &more);
    }
    let daemon = Daemon::start(&toml).await;
    deposit(&daemon, "one").await;
    let held = |destination: &Value| destination["state"] == "held" && destination["proxy"]["in_use"] == Value::Null;
    let status = daemon.wait_for_status(|status| status["destinations"].as_object().unwrap().values().all(held)).await;
    assert_eq!((&status["balance"]["pending"], &status["balance"]["failed"]), (&json!(4), &json!(0)), "{status:#}");
}
