//! Row 29: few file descriptors, many connections: what comes in waits, the store and the operator do not.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::daemon::{Daemon, PATIENCE, webhook};
use crate::support::sink::{Act, Reply, Sink};

/// The daemon with so many descriptors, and a Unix socket beside its port.
async fn with_descriptors(count: u32, destinations: &str) -> Daemon {
    let mut daemon = Daemon::prepare("", destinations);
    let socket = format!("[\"127.0.0.1:{}\", \"unix:{}\"]", daemon.port, daemon.path("api.sock").display());
    daemon.edit(&format!("listen = \"127.0.0.1:{}\"", daemon.port), &format!("listen = {socket}"));
    daemon.set_log(daemon.path("log"));
    let limited = format!("ulimit -n {count}; exec \"$@\"");
    daemon.enter(["sh", "-c", &limited, "sh"].map(str::to_owned).to_vec());
    daemon.restart().await;
    daemon
}

async fn hold(port: u16, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    held
}

// Row 29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_take_all_they_may_leave_descriptors_to_the_store_and_the_operator() {
    let sink = Sink::with_status(200).await;
    let mut daemon = with_descriptors(160, &webhook("shop", &sink.url("/"))).await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"before"}"#).await.status, 202);
    let held = hold(daemon.port, 120).await;
    let url = format!("unix:{}", daemon.path("api.sock").display());
    let started = Instant::now();
    while daemon.handles().0 < 80 {
        assert!(started.elapsed() < PATIENCE, "they are never let in");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let spent = daemon.cpu_us();
    for words in [&["status", "--url", &url][..], &["backup", "--url", &url]] {
        let began = Instant::now();
        let said = daemon.cli(words, "").await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(8), "it waited for the others: {:?}", began.elapsed());
    }
    assert!(daemon.handles().0 < 160, "{:?}", daemon.handles());
    let spent = daemon.cpu_us() - spent;
    assert!(spent < 3e6, "it spins: {spent} us");
    // Idle ones are closed after ten seconds, and the next in the queue is served.
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"after"}"#).await.status, 202);
    drop(held);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 2).await;
    let log = std::fs::read_to_string(daemon.path("log")).unwrap();
    assert!(!log.contains("could not be accepted"), "{log}");
    daemon.terminate();
}

// Row 29: 160 descriptors leave 12 exchanges at a time, 6 for each of two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_take_turns_where_descriptors_are_few_and_one_that_hangs_takes_nobody_elses() {
    const EACH: u64 = 6;
    let (hanging, late) = (
        Sink::start(vec![Act::Hang]).await,
        Sink::start(vec![Act::Late(Duration::from_millis(100), Reply::new(200, ""))]).await,
    );
    let greedy = |name: &str, url: &str| webhook(name, url) + "concurrency = 100\nbreaker = false\n";
    let both = greedy("hanging", &hanging.url("/")) + &greedy("late", &late.url("/"));
    let mut daemon = with_descriptors(160, &both).await;
    for n in 0..100 {
        let event = format!(r#"{{"event":"deposit","event_id":"e-{n}"}}"#);
        assert_eq!(daemon.post("/v1/events", &event).await.status, 202);
    }
    let status = daemon
        .wait_for_status(|status| {
            for name in ["hanging", "late"] {
                let in_flight = status["destinations"][name]["in_flight"].as_u64().unwrap();
                assert!(in_flight <= EACH, "{name} has {in_flight}");
            }
            assert!(daemon.handles().0 < 160);
            status["destinations"]["late"]["counts"]["sent"] == 100
        })
        .await;
    assert_eq!(status["destinations"]["late"]["counts"]["failed"], 0);
    let seen = late.seen().len();
    assert_eq!(seen, 100, "each was attempted once");
    let log = std::fs::read_to_string(daemon.path("log")).unwrap();
    assert!(log.contains("Fewer exchanges at a time than configured"), "{log}");
    daemon.kill();
}
