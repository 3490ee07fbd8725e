//! `server.listen = "unix:/path"`: who is served there, by which rights, and what becomes of the socket's file.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::daemon::{Answer, Daemon, TOKEN};

/// A daemon that listens on a port and on `api.sock` of its directory, not started yet.
fn prepared(server: &str) -> Daemon {
    let daemon = Daemon::prepare(server, "");
    let (port, socket) = (daemon.port, daemon.path("api.sock"));
    daemon.edit(
        &format!("listen = \"127.0.0.1:{port}\""),
        &format!("listen = [\"127.0.0.1:{port}\", \"unix:{}\"]", socket.display()),
    );
    daemon
}

async fn ask(socket: &Path, request: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Answer::read(&bytes).unwrap()
}

fn get(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n")
}

#[tokio::test]
async fn callers_behind_the_socket_are_local_and_events_come_in_there_too() {
    let mut daemon = prepared("socket_mode = \"0600\"");
    daemon.restart().await;
    let socket = daemon.path("api.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&socket, &get("/status", "")).await.status, 200);
    assert_eq!(ask(&socket, &get("/status", "x-forwarded-for: 192.0.2.1\r\n")).await.status, 403);
    let event = r#"{"event":"deposit","event_id":"1"}"#;
    let length = event.len();
    let post = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{event}"
    );
    assert_eq!(ask(&socket, &post).await.status, 202);
    daemon.terminate();
    assert!(!socket.exists(), "a clean stop takes the file away");
}

#[tokio::test]
async fn the_admin_token_is_asked_for_behind_the_socket_too() {
    let mut daemon = prepared("admin_token = \"s3cret-s3cret-s3cret\"");
    daemon.restart().await;
    let socket = daemon.path("api.sock");
    assert_eq!(ask(&socket, &get("/status", "")).await.status, 401);
    let token = "authorization: Bearer s3cret-s3cret-s3cret\r\n";
    assert_eq!(ask(&socket, &get("/status", token)).await.status, 200);
}

#[tokio::test]
async fn the_verbs_talk_over_the_socket() {
    let mut daemon = prepared("");
    daemon.restart().await;
    let url = format!("unix:{}", daemon.path("api.sock").display());
    let said = daemon.cli(&["status", "--json", "--url", &url], "").await;
    assert_eq!((said.code, said.json()["state"].as_str()), (0, Some("ok")), "{said:?}");
    let event = r#"{"event":"deposit","event_id":"2"}"#;
    let said = daemon.cli(&["send", "-", "--source", "app", "--url", &url], event).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = daemon.cli(&["status", "--check", "--url", "unix:/nowhere/api.sock"], "").await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.contains("unix:/nowhere/api.sock"), "{said:?}");
}

#[tokio::test]
async fn a_configuration_with_a_socket_alone_opens_no_port_and_is_enough_for_the_verbs() {
    let mut daemon = prepared("");
    let port = daemon.port;
    daemon.edit(&format!("\"127.0.0.1:{port}\", "), "");
    let socket = daemon.path("api.sock");
    daemon.restart_when(async |_: &Daemon| UnixStream::connect(&socket).await.is_ok()).await;
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
    let said = daemon.cli(&["status", "--json"], "").await;
    assert_eq!((said.code, said.json()["state"].as_str()), (0, Some("ok")), "{said:?}");
}

#[tokio::test]
async fn what_a_crash_left_is_replaced_and_a_living_one_is_left_alone() {
    let mut daemon = prepared("");
    daemon.restart().await;
    let socket = daemon.path("api.sock");
    daemon.kill();
    assert!(socket.exists(), "a crash leaves it");
    daemon.restart().await;
    assert_eq!(ask(&socket, &get("/healthz", "")).await.status, 200);
    daemon.terminate();
    let living = UnixListener::bind(&socket).unwrap();
    let said = daemon.cli(&["run"], "").await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("cannot listen on unix:") && said.err.contains("listens there already"), "{said:?}");
    assert!(UnixStream::connect(&socket).await.is_ok());
    drop(living);
}
