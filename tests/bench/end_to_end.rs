//! What the main road costs, measured on the real binary: `cargo bench --bench end_to_end`.
//!
//! Load, daemon and receiver share the machine; every figure is durable (acknowledged after commit and sync). It prints a
//! table and judges nothing. `POSTBACKD_BENCH_ROUNDS` (default 3) repeats each figure; medians are printed with the range.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench measures with the machine's own clock and may stop at anything odd"
)]

#[path = "../it/support/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
mod wire;

use std::time::{Duration, Instant};

use daemon::Daemon;
use wire::{Receiver, load};

#[tokio::main]
async fn main() {
    let (rounds, scale) = wire::rounds(3).map_or((1, 100), |rounds| (rounds, 1));
    println!("{:<58} {:>12}   range over {rounds} rounds", "figure", "median");
    // A number as argument asks for that many connections only.
    let only: Option<u64> = std::env::args().find_map(|argument| argument.parse().ok());
    for (connections, total) in [(1, 4_000), (64, 60_000), (256, 60_000)] {
        if only.is_some_and(|only| only != connections) {
            continue;
        }
        throughput(connections, total / scale, rounds).await;
    }
    if only.is_none() {
        backlog(100_000 / scale, rounds).await;
    }
}

async fn throughput(connections: u64, total: u64, rounds: usize) {
    let (mut acked, mut delivered, mut p50, mut p99) = (vec![], vec![], vec![], vec![]);
    let (mut rss, mut cpu) = (vec![], vec![]);
    for round in 0..rounds {
        let receiver = Receiver::start().await;
        let daemon = Daemon::start(&destination(receiver.port)).await;
        if round == 0 {
            report("RSS idle, MB", &[daemon.rss_mb()]);
        }
        let started = Instant::now();
        let load = load(daemon.port, daemon::TOKEN, connections, total, &format!("r{round}")).await;
        while receiver.count() < total {
            assert!(started.elapsed() < Duration::from_mins(5), "not everything is delivered");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delivered.push(total as f64 / started.elapsed().as_secs_f64());
        acked.push(load.per_second());
        p50.push(load.percentile(50));
        p99.push(load.percentile(99));
        rss.push(daemon.rss_mb());
        cpu.push(daemon.cpu_us() / total as f64);
    }
    report(&format!("durable single-event ingests/s, {connections} connections"), &acked);
    report(&format!("  acknowledgement p50, ms, {connections} connections"), &p50);
    report(&format!("  acknowledgement p99, ms, {connections} connections"), &p99);
    report(&format!("  delivered events/s end to end, {connections} connections"), &delivered);
    report(&format!("  daemon's CPU per event, µs, {connections} connections"), &cpu);
    report(&format!("  RSS after {total} events, MB"), &rss);
}

/// A destination that refuses connections: everything stays owed.
async fn backlog(owed: u64, rounds: usize) {
    let (mut rss, mut again, mut ready_killed, mut ready_stopped) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let mut daemon = Daemon::start(&destination(daemon::free_port())).await;
        load(daemon.port, daemon::TOKEN, 64, owed, &format!("b{round}")).await;
        rss.push(daemon.rss_mb());
        daemon.kill();
        ready_killed.push(daemon.restart().await.as_secs_f64() * 1000.0);
        again.push(daemon.rss_mb());
        daemon.terminate();
        ready_stopped.push(daemon.restart().await.as_secs_f64() * 1000.0);
    }
    report(&format!("RSS with {owed} owed, MB"), &rss);
    report(&format!("RSS after a restart with {owed} owed, MB"), &again);
    report(&format!("ready after SIGKILL with {owed} owed, ms"), &ready_killed);
    report(&format!("ready after SIGTERM with {owed} owed, ms"), &ready_stopped);
}

/// One webhook; what fails is not tried again while the figures are taken.
fn destination(port: u16) -> String {
    daemon::webhook("sink", &format!("http://127.0.0.1:{port}/hook"))
        .replace("first = \"50ms\", max_delay = \"1s\"", "first = \"1h\", max_delay = \"1h\"")
        .replace("timeout", "concurrency = 64\ntimeout")
}

fn report(what: &str, figures: &[f64]) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    println!("{what:<58} {median:>12.2}   {least:.2} – {most:.2}");
}
