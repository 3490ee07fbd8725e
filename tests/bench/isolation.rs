//! What one destination's trouble costs the others: `cargo bench --bench isolation`.
//!
//! Two daemons side by side, each with ten webhooks that get every event at a steady rate: with all ten well, and with one of
//! them dead, one that drips its answers and one that throttles. The other seven of each are compared: latency from the
//! event's receipt to its arrival, and how many arrived. Both run at the same time since a sync of the disk that takes 0.1 s
//! for no reason of ours is enough to move the p99 of ten seconds: so it meets both. It prints a table and judges nothing.
//! `POSTBACKD_BENCH_ROUNDS` (default 5) pairs; the ratio over all of them together counts, their medians show the noise.

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

#[allow(dead_code, reason = "the other bench uses more of it")]
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

/// The daemon with its receivers, and what is measured of the seven.
struct World {
    daemon: Daemon,
    receivers: Vec<Arrivals>,
    /// Kept so that its port stays open where it is well.
    _tenth: Arrivals,
}

/// What arrived at the seven.
struct Figures {
    /// Milliseconds, in order.
    latencies: Vec<f64>,
    per_second: f64,
}

#[tokio::main]
async fn main() {
    let (rounds, rate, span) = wire::rounds(5).map_or((1, 50, 1), |rounds| (rounds, 75, 20));
    println!("seven of ten destinations, {rate} events/s for {span} s, two daemons at the same time");
    println!("{:>5} {:<22} {:>10} {:>10} {:>14}", "round", "the other three", "p50 ms", "p99 ms", "deliveries/s");
    let (mut p50, mut p99, mut throughput) = (Vec::new(), Vec::new(), Vec::new());
    let (mut all_well, mut all_sick) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (well, sick) = pair(round, rate, span).await;
        print(&round.to_string(), "well", &well);
        print(&round.to_string(), "dead, dripping, busy", &sick);
        p50.push(sick.at(500) / well.at(500));
        p99.push(sick.at(990) / well.at(990));
        throughput.push(sick.per_second / well.per_second);
        all_well.extend(well.latencies);
        all_sick.extend(sick.latencies);
    }
    let (well, sick) = (Figures::new(all_well, 0.0), Figures::new(all_sick, 0.0));
    for (what, permille) in [("p50", 500), ("p99", 990)] {
        let (of_sick, of_well) = (sick.at(permille), well.at(permille));
        println!("{what} of all rounds, sick / well   {of_sick:.2} / {of_well:.2} ms = {:.3}", of_sick / of_well);
    }
    println!("{:<30} {:>8}   least – most", "of single rounds, sick / well", "median");
    for (what, mut ratios) in [("p50 latency", p50), ("p99 latency", p99), ("throughput", throughput)] {
        ratios.sort_by(f64::total_cmp);
        let (least, middle, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
        println!("{what:<30} {middle:>8.3}   {least:.3} – {most:.3}");
    }
}

fn print(round: &str, name: &str, figures: &Figures) {
    let (p50, p99) = (figures.at(500), figures.at(990));
    println!("{round:>5} {name:<22} {p50:>10.2} {p99:>10.2} {:>14.1}", figures.per_second);
}

/// Both at the same time; who starts first takes turns.
async fn pair(round: usize, rate: u64, span: u64) -> (Figures, Figures) {
    let sick_first = round.is_multiple_of(2);
    let first = World::start(sick_first).await;
    let second = World::start(!sick_first).await;
    let (first, second) = tokio::join!(first.measure(rate, span), second.measure(rate, span));
    if sick_first { (second, first) } else { (first, second) }
}

impl World {
    async fn start(sick: bool) -> Self {
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
        Self { daemon: Daemon::start(&destinations).await, receivers, _tenth: tenth }
    }

    async fn measure(self, rate: u64, span: u64) -> Figures {
        let started = Instant::now();
        steady(self.daemon.port, daemon::TOKEN, rate, Duration::from_secs(span)).await;
        let total = usize::try_from(rate * span).expect("small");
        let well = &self.receivers[9 - WELL..];
        while well.iter().any(|receiver| receiver.latencies().len() < total) {
            assert!(started.elapsed() < Duration::from_mins(2), "not everything is delivered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let elapsed = started.elapsed().as_secs_f64();
        let all: Vec<f64> = well.iter().flat_map(Arrivals::latencies).collect();
        let per_second = all.len() as f64 / elapsed;
        Figures::new(all, per_second)
    }
}

impl Figures {
    fn new(mut latencies: Vec<f64>, per_second: f64) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self { latencies, per_second }
    }

    fn at(&self, permille: usize) -> f64 {
        arrivals::at(&self.latencies, permille)
    }
}
