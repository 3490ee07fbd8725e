//! Signals at every inconvenient moment: twice, by the thousands, and while it starts (rows 22, 23 and 28 of the fault catalogue).

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::daemon::{Daemon, webhook};
use crate::support::desk::{deposit, settled};
use crate::support::reload::{in_force, replace, text};
use crate::support::sender::{self, GoodSender};
use crate::support::sink::{Act, Reply, Sink};

// Rows 22 and 23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_cuts_nothing_short() {
    let sink = Sink::start(vec![Act::Late(Duration::from_millis(700), Reply::new(200, ""))]).await;
    let mut daemon = Daemon::start(&webhook("late", &sink.url("/"))).await;
    deposit(&daemon, "1").await;
    sink.wait_for(1).await;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::TERM] {
        daemon.signal(signal);
    }
    // With one more; it must end with 0.
    daemon.terminate();
    daemon.restart().await;
    settled(&daemon, &[("accepted", 1), ("sent", 1)]).await;
    assert_eq!(sink.seen().len(), 1, "what was in flight was finished and recorded");
}

// Row 23: the last state of the file wins, whatever came when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_sighups_ends_with_the_last_file_in_force() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"))).await;
    let base = text(&daemon);
    let good = GoodSender::start(&daemon, "good");
    for n in 0..100 {
        let edited = if n % 5 == 4 {
            "[broken".to_owned()
        } else {
            base.replace("[destinations.hook]", &format!("[destinations.hook-{n}]"))
        };
        replace(&daemon.config(), &edited);
        for _ in 0..20 {
            daemon.hang_up();
        }
        // The daemon has its turn in the middle of it.
        tokio::task::yield_now().await;
    }
    replace(&daemon.config(), &(base + &webhook("last", &sink.url("/last"))));
    daemon.hang_up();
    in_force(&daemon, &["hook", "last"]).await;
    good.stop_undisturbed().await;
    deposit(&daemon, "at-the-end").await;
    let has_come = |status: &serde_json::Value| status["destinations"]["last"]["counts"]["sent"].as_u64() >= Some(1);
    let status = daemon.wait_for_status(has_come).await;
    assert_eq!(status["balance"]["balanced"], true);
}

/// Whether the process has its own idea of what to do at this signal.
fn catches(daemon: &Daemon, signal: Signal) -> bool {
    // The process may not be there any more.
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}

async fn listens(daemon: &Daemon) -> bool {
    TcpStream::connect(("127.0.0.1", daemon.port)).await.is_ok()
}

// Row 23.
#[tokio::test]
async fn signals_while_it_starts_do_no_harm() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::prepare("", &webhook("hook", &sink.url("/")));
    let hung_up = std::cell::Cell::new(0);
    for round in 0..20_u64 {
        // Hung up on from the first moment it can be: it becomes ready all the same.
        daemon
            .restart_when(async |daemon| {
                if catches(daemon, Signal::HUP) {
                    daemon.hang_up();
                    hung_up.set(hung_up.get() + 1);
                } else {
                    assert!(
                        !listens(daemon).await || catches(daemon, Signal::HUP),
                        "it can be seen and not be hung up on"
                    );
                }
                daemon.try_request("GET", "/readyz", "", None).await.is_some_and(|answer| answer.status == 200)
            })
            .await;
        deposit(&daemon, &round.to_string()).await;
        daemon.kill();
        // Stopped from the first moment it can be: a clean stop, and nothing of what is owed is lost.
        daemon.restart_when(async |daemon| catches(daemon, Signal::TERM)).await;
        daemon.terminate();
    }
    // On a busy machine a start may be over between two looks, but not all of them.
    assert!(hung_up.get() > 0);
    daemon.restart().await;
    settled(&daemon, &[("accepted", 20), ("sent", 20)]).await;
}

// Row 28: a process that stood still, as a virtual machine does that is paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_stood_still_goes_on_without_a_stampede_and_answers_those_who_waited() {
    let sink = Sink::with_status(503).await;
    let shop = webhook("shop", &sink.url("/")) + "breaker = false\nconcurrency = 4\n";
    let mut daemon = Daemon::start(&shop).await;
    for id in 0..40 {
        let event = format!(r#"{{"event":"deposit","event_id":"e-{id}"}}"#);
        assert_eq!(daemon.post("/v1/events", &event).await.status, 202);
    }
    daemon.wait_for_status(|status| status["balance"]["failed"] == 40).await;
    daemon.signal(Signal::STOP);
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    // By the time it goes on all of them are due, and connections that were kept are older than they may be.
    let port = daemon.port;
    let waiting =
        tokio::spawn(async move { sender::post(port, r#"{"event":"deposit","event_id":"meanwhile"}"#).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (tried, connections) = (sink.seen().len(), sink.connections());
    daemon.signal(Signal::CONT);
    assert_eq!(waiting.await.unwrap().expect("an answer").status, 202);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 41).await;
    assert_eq!(sink.seen().len(), tried + 41, "each once");
    assert!(sink.connections() <= connections + 8, "four at a time: {} and {connections}", sink.connections());
    daemon.terminate();
}
