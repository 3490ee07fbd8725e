//! Row 29: few file descriptors, many connections: what comes in waits, the store and the operator do not.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;

use crate::support::daemon::{Daemon, PATIENCE, webhook};
use crate::support::sender;
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

// Row 29: they are what tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_tests_get_through_where_receivers_that_hang_hold_every_turn() {
    const TURNS: usize = 12;
    let (hanging, ops) = (Sink::with_status(200).await, Sink::with_status(200).await);
    hanging.set([vec![Act::Hang; TURNS], vec![Act::Reply(Reply::new(200, ""))]].concat());
    let greedy = webhook("shop", &hanging.url("/")).replace("timeout = \"1s\"", "timeout = \"60s\"")
        + "concurrency = 100\nbreaker = false\n";
    let channel =
        format!("[alerts.channels.ops]\nkind = \"webhook\"\nallow_private = true\nurl = \"{}\"\n", ops.url("/"));
    // What is disabled wants no turn.
    let disabled = webhook("off", &hanging.url("/")) + "concurrency = 100\nenabled = false\n";
    let mut daemon = with_descriptors(160, &(greedy + &disabled + &channel)).await;
    for n in 0..20 {
        let event = format!(r#"{{"event":"deposit","event_id":"e-{n}"}}"#);
        assert_eq!(daemon.post("/v1/events", &event).await.status, 202);
    }
    daemon.wait_for_status(|status| status["destinations"]["shop"]["in_flight"] == TURNS).await;
    assert_eq!(hanging.wait_for(TURNS).await.len(), TURNS);
    assert_eq!(daemon.post("/v1/alerts/test", "").await.json()["ok"], true);
    assert_eq!(daemon.post("/v1/destinations/shop/test", "").await.json()["ok"], true);
    assert_eq!(daemon.get("/status").await.json()["destinations"]["shop"]["in_flight"], TURNS, "they still hang");
    // A reload makes no descriptors.
    daemon.edit("concurrency = 100", "concurrency = 101");
    assert_eq!(daemon.cli(&["reload"], "").await.code, 0);
    let started = Instant::now();
    while !std::fs::read_to_string(daemon.path("log")).unwrap().contains("configured=101 concurrency=12") {
        assert!(started.elapsed() < PATIENCE, "it is not told that there are fewer turns");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.kill();
}

// Row 29: 100 descriptors leave eight exchanges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_are_fewer_turns_than_destinations_they_wait_for_each_other() {
    const TURNS: usize = 8;
    let sink = Sink::with_status(200).await;
    sink.set([vec![Act::Hang; TURNS], vec![Act::Reply(Reply::new(200, ""))]].concat());
    let all: Vec<_> = (0..TURNS + 2).map(|n| webhook(&format!("d{n}"), &sink.url("/"))).collect();
    let mut daemon = with_descriptors(100, &all.concat()).await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"1"}"#).await.status, 202);
    daemon.wait_for_status(|status| status["balance"]["sent"] == TURNS + 2).await;
    let arrived: Vec<Instant> = sink.seen().iter().map(|seen| seen.at).collect();
    assert_eq!(arrived.len(), 2 * TURNS + 2, "those that waited were attempted once");
    // The timeout of one of the first is a second.
    assert!(arrived[TURNS] - arrived[0] > Duration::from_millis(500), "the ninth waited for nobody");
    daemon.terminate();
}

// Row 29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tests_are_sent_at_a_time() {
    const TESTS: usize = 4;
    let held = Duration::from_millis(200);
    let slow = Sink::start(vec![Act::Late(held, Reply::new(200, ""))]).await;
    let daemon = Daemon::start(&webhook("shop", &slow.url("/"))).await;
    let tests: Vec<_> = (0..3 * TESTS).map(|_| daemon.cli(&["test", "shop"], "")).collect();
    for test in tests {
        assert_eq!(test.await.code, 0);
    }
    let mut arrived: Vec<Instant> = slow.seen().iter().map(|seen| seen.at).collect();
    arrived.sort();
    assert_eq!(arrived.len(), 3 * TESTS);
    assert!(arrived.windows(TESTS + 1).all(|five| five[TESTS] - five[0] >= held), "five were there at a time");
}

// Row 29: no descriptor is left for one that comes in, as where somebody lowers the limit, or the whole system has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_without_a_descriptor_waits_without_spinning_and_accepts_again_once_there_is_one() {
    let mut daemon = Daemon::prepare("", "");
    daemon.set_log(daemon.path("log"));
    daemon.restart().await;
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap();
    let port = daemon.port;
    let waiting =
        tokio::spawn(async move { sender::post(port, r#"{"event":"deposit","event_id":"meanwhile"}"#).await });
    let (started, spent) = (Instant::now(), daemon.cpu_us());
    let failed = |daemon: &Daemon| {
        let log = std::fs::read_to_string(daemon.path("log")).unwrap();
        log.matches("could not be accepted").count()
    };
    while failed(&daemon) < 2 {
        assert!(started.elapsed() < PATIENCE, "it is accepted all the same");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(daemon.cpu_us() - spent < 1e6, "it spins");
    assert!(failed(&daemon) < 100, "it fills the log");
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(1024), maximum }).unwrap();
    assert_eq!(waiting.await.unwrap().expect("an answer").status, 202);
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"after"}"#).await.status, 202);
    daemon.terminate();
}
