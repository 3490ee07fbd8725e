//! What one destination's trouble costs the others: `cargo bench --bench isolation`.
//!
//! Ten webhooks get every event, at a steady rate. Twice, in turn: with all ten well, and with one of them dead, one that
//! drips its answers and one that throttles. The other seven are compared with themselves: latency from the event's receipt
//! to its arrival, and how many arrived. It prints a table and judges nothing; the ratios of each pair are what counts,
//! since a machine's speed drifts. `POSTBACKD_BENCH_ROUNDS` (default 5) pairs.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a bench measures with the machine's own clock and may stop at anything odd"
)]

mod arrivals;
#[path = "../it/support/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
#[allow(dead_code, reason = "the other bench uses more of it")]
mod wire;

use std::time::{Duration, Instant};

use arrivals::{Arrivals, Manner, steady};
use daemon::Daemon;

/// Destinations that are well in both cases.
const WELL: usize = 7;

/// What was measured of the seven.
#[derive(Debug, Clone, Copy)]
struct Figures {
    p50: f64,
    p99: f64,
    per_second: f64,
}

#[tokio::main]
async fn main() {
    let (rounds, rate, span) = wire::rounds(5).map_or((1, 50, 1), |rounds| (rounds, 150, 10));
    println!("seven of ten destinations, {rate} events/s for {span} s");
    println!("{:>5} {:<22} {:>10} {:>10} {:>14}", "round", "the other three", "p50 ms", "p99 ms", "deliveries/s");
    let mut ratios: Vec<(f64, f64)> = Vec::new();
    for round in 1..=rounds {
        let well = measure(false, rate, span).await;
        let sick = measure(true, rate, span).await;
        for (name, figures) in [("well", well), ("dead, dripping, busy", sick)] {
            let Figures { p50, p99, per_second } = figures;
            println!("{round:>5} {name:<22} {p50:>10.2} {p99:>10.2} {per_second:>14.1}");
        }
        ratios.push((sick.p99 / well.p99, sick.per_second / well.per_second));
    }
    let median = |mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        (list[0], list[list.len() / 2], list[list.len() - 1])
    };
    for (what, list) in [
        ("p99 latency, sick / well", ratios.iter().map(|pair| pair.0).collect::<Vec<_>>()),
        ("throughput, sick / well", ratios.iter().map(|pair| pair.1).collect()),
    ] {
        let (least, middle, most) = median(list);
        println!("{what:<30} {middle:>8.3}   {least:.3} – {most:.3}");
    }
}

async fn measure(sick: bool, rate: u64, span: u64) -> Figures {
    let manner = |place: usize| match place {
        0 if sick => Manner::Drip,
        1 if sick => Manner::Throttle,
        _ => Manner::Well,
    };
    let mut receivers = Vec::new();
    for place in 0..9 {
        receivers.push(Arrivals::start(manner(place)).await);
    }
    // The tenth: nobody listens where it is dead.
    let tenth = Arrivals::start(Manner::Well).await;
    let tenth_port = if sick { daemon::free_port() } else { tenth.port };
    let ports = receivers.iter().map(|receiver| receiver.port).chain([tenth_port]);
    let destination = |(place, port): (usize, u16)| {
        format!(
            "[destinations.d{place}]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\nallow_private = true\n\
             timeout = \"5s\"\n"
        )
    };
    let destinations = ports.enumerate().map(destination).collect::<Vec<_>>().concat();
    let daemon = Daemon::start(&destinations).await;
    let started = Instant::now();
    steady(daemon.port, daemon::TOKEN, rate, Duration::from_secs(span)).await;
    let total = usize::try_from(rate * span).expect("small");
    let well = &receivers[9 - WELL..];
    while well.iter().any(|receiver| receiver.latencies().len() < total) {
        assert!(started.elapsed() < Duration::from_mins(2), "not everything is delivered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let mut all: Vec<f64> = well.iter().flat_map(Arrivals::latencies).collect();
    all.sort_by(f64::total_cmp);
    let at = |permille: usize| all[(all.len() - 1) * permille / 1000];
    Figures { p50: at(500), p99: at(990), per_second: all.len() as f64 / elapsed }
}
