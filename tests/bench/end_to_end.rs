//! What the main road costs, measured on the real binary: `cargo bench --bench end_to_end`.
//!
//! Load, daemon and receiver share the machine; every figure is durable (acknowledged after commit and sync). It prints a
//! table with the project's goals beside the medians, leaves it in `target/bench/end_to_end.json` for a later
//! `--compare FILE`, and judges nothing.
//!
//! `POSTBACKD_BENCH_ROUNDS` (default 3) repeats each figure. `POSTBACKD_BENCH_SCALE` (default 0.1) is how much of a million
//! owed deliveries is made for the figures of a backlog. Words as arguments choose parts: `throughput several batches
//! steady one backlog late idle`.

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

#[allow(dead_code, reason = "the other benches use more of it")]
mod arrivals;
#[path = "../it/support/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
mod lateness;
mod process;
mod sheet;
mod wire;

use std::time::{Duration, Instant};

use arrivals::steady;
use daemon::Daemon;
use lateness::Late;
use process::{pss_mb, sleeps, woken};
use sheet::{Goal, Sheet};
use wire::{Load, Receiver, load, load_together};

/// How often, and how much of everything.
#[derive(Clone, Copy)]
struct Extent {
    rounds: usize,
    /// Every number of events is divided by it.
    less: u64,
    /// Owed deliveries of the figures of a backlog.
    owed: u64,
}

#[tokio::main]
async fn main() {
    let scale: f64 = std::env::var("POSTBACKD_BENCH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(0.1);
    let extent = match wire::rounds(3) {
        Some(rounds) => Extent { rounds, less: 1, owed: (1_000_000.0 * scale) as u64 },
        None => Extent { rounds: 1, less: 100, owed: 500 },
    };
    let parts = ["throughput", "several", "batches", "steady", "one", "backlog", "late", "idle"];
    let asked: Vec<String> = std::env::args().filter(|argument| parts.contains(&argument.as_str())).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    let mut sheet = Sheet::new("end_to_end", extent.rounds);
    if wants("idle") {
        idle(extent, &mut sheet).await;
    }
    if wants("one") {
        one(extent, &mut sheet).await;
    }
    if wants("throughput") {
        throughput(64, 15_000.0, extent, &mut sheet).await;
        throughput(256, 18_000.0, extent, &mut sheet).await;
    }
    if wants("several") {
        several(extent, &mut sheet).await;
    }
    if wants("batches") {
        batches(extent, &mut sheet).await;
    }
    if wants("steady") {
        clocked(extent, &mut sheet).await;
    }
    if wants("backlog") {
        backlog(extent, &mut sheet).await;
    }
    if wants("late") {
        late(extent, &mut sheet).await;
    }
    sheet.finish();
}

/// A daemon with so many webhooks to one receiver.
async fn world(destinations: usize) -> (Daemon, Receiver) {
    let receiver = Receiver::start().await;
    let several: Vec<String> = (0..destinations).map(|n| destination(&format!("sink{n}"), receiver.port)).collect();
    (Daemon::start(&several.concat()).await, receiver)
}

/// One webhook; what fails is not tried again while the figures are taken.
fn destination(name: &str, port: u16) -> String {
    daemon::webhook(name, &format!("http://127.0.0.1:{port}/hook"))
        .replace("first = \"50ms\", max_delay = \"1s\"", "first = \"1h\", max_delay = \"1h\"")
        .replace("timeout", "concurrency = 64\ntimeout")
}

async fn all_arrive(receiver: &Receiver, count: u64, began: Instant) {
    while receiver.count() < count {
        assert!(began.elapsed() < Duration::from_mins(5), "not everything is delivered");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn idle(extent: Extent, sheet: &mut Sheet) {
    let (mut pss, mut wakes) = (vec![], vec![]);
    for _ in 0..extent.rounds {
        let (daemon, _receiver) = world(1).await;
        let span = if extent.less == 1 { 20 } else { 1 };
        // What starts with it has settled: threads that read files for the start end when they had nothing to do for ten seconds.
        tokio::time::sleep(Duration::from_secs(span * 3 / 4)).await;
        let before = sleeps(daemon.pid());
        tokio::time::sleep(Duration::from_secs(span)).await;
        wakes.push(woken(&before, &sleeps(daemon.pid())) as f64 / span as f64);
        pss.push(pss_mb(daemon.pid()));
    }
    sheet.add("PSS idle, MB", Goal::Below(10.0), &pss);
    sheet.add("threads woken a second, idle", Goal::Below(1.0), &wakes);
}

async fn one(extent: Extent, sheet: &mut Sheet) {
    let (mut p50, mut p99) = (vec![], vec![]);
    for _ in 0..extent.rounds {
        let (daemon, _receiver) = world(1).await;
        let load = load(daemon.port, daemon::TOKEN, 1, 4_000 / extent.less, "one").await;
        p50.push(load.percentile(50));
        p99.push(load.percentile(99));
    }
    sheet.add("one client, acknowledgement p50, ms", Goal::Below(0.8), &p50);
    sheet.add("one client, acknowledgement p99, ms", Goal::None, &p99);
}

async fn throughput(connections: u64, goal: f64, extent: Extent, sheet: &mut Sheet) {
    let total = 60_000 / extent.less;
    let (mut loads, mut delivered, mut pss, mut cpu) = (vec![], vec![], vec![], vec![]);
    for round in 0..extent.rounds {
        let (daemon, receiver) = world(1).await;
        let began = Instant::now();
        loads.push(load(daemon.port, daemon::TOKEN, connections, total, &format!("r{round}")).await);
        all_arrive(&receiver, total, began).await;
        delivered.push(total as f64 / began.elapsed().as_secs_f64());
        pss.push(pss_mb(daemon.pid()));
        cpu.push(daemon.cpu_us() / total as f64);
    }
    let of = |value: fn(&Load) -> f64| loads.iter().map(value).collect::<Vec<f64>>();
    let name = |what: &str| format!("{connections} connections, {what}");
    sheet.add(&name("events/s end to end"), Goal::AtLeast(goal), &delivered);
    sheet.add(&name("acknowledged events/s"), Goal::None, &of(Load::per_second));
    sheet.add(&name("acknowledgement p50, ms"), Goal::None, &of(|load| load.percentile(50)));
    sheet.add(&name("acknowledgement p99, ms"), Goal::None, &of(|load| load.percentile(99)));
    sheet.add(&name("daemon's processor time for an event, µs"), Goal::None, &cpu);
    sheet.add(&name(&format!("PSS after {total} events, MB")), Goal::Below(50.0), &pss);
}

async fn several(extent: Extent, sheet: &mut Sheet) {
    let (total, mut rates) = (30_000 / extent.less, vec![]);
    for round in 0..extent.rounds {
        let (daemon, receiver) = world(3).await;
        let began = Instant::now();
        load(daemon.port, daemon::TOKEN, 256, total, &format!("s{round}")).await;
        all_arrive(&receiver, 3 * total, began).await;
        rates.push(3.0 * total as f64 / began.elapsed().as_secs_f64());
    }
    sheet.add("3 destinations, deliveries/s", Goal::AtLeast(30_000.0), &rates);
}

async fn batches(extent: Extent, sheet: &mut Sheet) {
    let (total, mut acknowledged, mut delivered) = (100_000 / extent.less, vec![], vec![]);
    for round in 0..extent.rounds {
        let (daemon, receiver) = world(1).await;
        let began = Instant::now();
        let load = load_together(daemon.port, daemon::TOKEN, (16, 50), total, &format!("b{round}")).await;
        acknowledged.push(load.per_second());
        all_arrive(&receiver, total, began).await;
        delivered.push(total as f64 / began.elapsed().as_secs_f64());
    }
    sheet.add("50 events a request, acknowledged events/s", Goal::None, &acknowledged);
    sheet.add("50 events a request, events/s end to end", Goal::AtLeast(40_000.0), &delivered);
}

/// By the clock and not by the acknowledgements, so that a pause is paid for by everybody who was due in it.
async fn clocked(extent: Extent, sheet: &mut Sheet) {
    let (rate, span) = if extent.less == 1 { (5_000, 10) } else { (100, 1) };
    let (mut p50, mut p99) = (vec![], vec![]);
    for _ in 0..extent.rounds {
        let (daemon, _receiver) = world(1).await;
        let mut waits = steady(daemon.port, daemon::TOKEN, rate, Duration::from_secs(span)).await;
        waits.sort_by(f64::total_cmp);
        p50.push(arrivals::at(&waits, 500));
        p99.push(arrivals::at(&waits, 990));
    }
    sheet.add(&format!("{rate} events/s by the clock, acknowledgement p50, ms"), Goal::Below(2.5), &p50);
    sheet.add(&format!("{rate} events/s by the clock, acknowledgement p99, ms"), Goal::Below(5.0), &p99);
}

/// A destination that refuses connections: everything stays owed.
async fn backlog(extent: Extent, sheet: &mut Sheet) {
    let (mut pss, mut again, mut killed, mut stopped) = (vec![], vec![], vec![], vec![]);
    for round in 0..extent.rounds {
        let mut daemon = Daemon::start(&destination("down", daemon::free_port())).await;
        load_together(daemon.port, daemon::TOKEN, (16, 50), extent.owed, &format!("o{round}")).await;
        pss.push(pss_mb(daemon.pid()));
        daemon.kill();
        killed.push(daemon.restart().await.as_secs_f64() * 1000.0);
        again.push(pss_mb(daemon.pid()));
        daemon.terminate();
        stopped.push(daemon.restart().await.as_secs_f64() * 1000.0);
    }
    let owed = extent.owed;
    sheet.add(&format!("PSS with {owed} owed, MB"), Goal::Below(120.0), &pss);
    sheet.add(&format!("PSS after a restart with {owed} owed, MB"), Goal::Below(120.0), &again);
    sheet.add(&format!("ready after SIGKILL with {owed} owed, ms"), Goal::Below(500.0), &killed);
    sheet.add(&format!("ready after a clean stop with {owed} owed, ms"), Goal::Below(100.0), &stopped);
}

/// Retries that come due one after the other, while many more are scheduled.
async fn late(extent: Extent, sheet: &mut Sheet) {
    let pause = Duration::from_secs(2);
    let (rate, span) = if extent.less == 1 { (200, 10) } else { (50, 1) };
    let (mut p50, mut p99) = (vec![], vec![]);
    for round in 0..extent.rounds {
        let receiver = Late::start(pause).await;
        let retried = daemon::webhook("late", &format!("http://127.0.0.1:{}/", receiver.port))
            .replace("first = \"50ms\", max_delay = \"1s\"", "first = \"2s\", max_delay = \"2s\", jitter = 0.0")
            .replace("timeout", "breaker = false\nevents = { deposit = false }\ntimeout");
        let down = destination("down", daemon::free_port()).replace("timeout", "events = { lead = false }\ntimeout");
        let daemon = Daemon::start(&[retried, down].concat()).await;
        load_together(daemon.port, daemon::TOKEN, (16, 50), extent.owed, &format!("l{round}")).await;
        steady(daemon.port, daemon::TOKEN, rate, Duration::from_secs(span)).await;
        let (wanted, began) = (usize::try_from(rate * span).expect("small"), Instant::now());
        while receiver.late_ms().len() < wanted {
            assert!(began.elapsed() < Duration::from_mins(2), "not everything is tried again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let late = receiver.late_ms();
        p50.push(arrivals::at(&late, 500));
        p99.push(arrivals::at(&late, 990));
    }
    sheet.add(&format!("lateness of retries with {} scheduled, p50, ms", extent.owed), Goal::None, &p50);
    sheet.add(&format!("lateness of retries with {} scheduled, p99, ms", extent.owed), Goal::Below(50.0), &p99);
}
