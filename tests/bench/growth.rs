//! How figures change as work grows: `cargo bench --bench growth`.
//!
//! Three curves, each with the same load of fresh events on top: rows of the log (deliveries that were sent), rows that are
//! owed to a destination that is down, and configured destinations. It prints a table, leaves it in
//! `target/bench/growth.json` and draws it as `target/bench/growth.svg`. `POSTBACKD_BENCH_ROWS` is the most rows there are
//! (default 1,000,000; 10,000,000 needs some 6 GB in `TMPDIR`).

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
mod fill;
mod picture;
#[allow(dead_code, reason = "the other benches use more of it")]
mod process;
#[allow(dead_code, reason = "the other benches use more of it")]
mod sheet;
#[allow(dead_code, reason = "the other benches use more of it")]
mod wire;

use std::time::{Duration, Instant};

use daemon::Daemon;
use fill::{Fill, State};
use picture::Curve;
use sheet::{Goal, Sheet};
use wire::{Receiver, load};

/// What is measured at each step.
const FIGURES: [&str; 5] = ["events/s end to end", "acknowledgement p99, ms", "ready, ms", "PSS, MB", "file, MB"];
/// Rows written at most while destinations are measured: each event makes one for each destination.
const ROWS_OF_DESTINATIONS: u64 = 200_000;

#[tokio::main]
async fn main() {
    let full = wire::rounds(1).is_some();
    let most: u64 = std::env::var("POSTBACKD_BENCH_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let (most, fresh) = if full { (most, 20_000) } else { (1_000, 200) };
    let steps: Vec<u64> = [0, 100_000, 1_000_000, 10_000_000].into_iter().filter(|rows| *rows <= most).collect();
    let steps = if full { steps } else { vec![0, most] };
    let mut sheet = Sheet::new("growth", 1);
    let mut curves = Vec::new();
    for state in [State::Sent, State::Owed] {
        let mut steps_of = Vec::new();
        for rows in &steps {
            let what = format!("{rows} rows {}", state.as_str());
            steps_of.push((rows.to_string(), measure(&what, 1, Fill { rows: *rows, state }, fresh, &mut sheet).await));
        }
        curves.push(Curve { title: format!("rows {}", state.as_str()), steps: steps_of });
    }
    let mut steps = Vec::new();
    for destinations in if full { vec![1, 10, 100, 1000] } else { vec![1, 10] } {
        let (what, none) = (format!("{destinations} destinations"), Fill { rows: 0, state: State::Sent });
        let count = fresh.min(ROWS_OF_DESTINATIONS / destinations);
        steps.push((destinations.to_string(), measure(&what, destinations, none, count, &mut sheet).await));
    }
    curves.push(Curve { title: "destinations".to_owned(), steps });
    sheet.finish();
    println!("drawn as {}", picture::draw(&FIGURES, &curves));
}

/// One step of a curve: its figures.
async fn measure(what: &str, destinations: u64, fill: Fill, fresh: u64, sheet: &mut Sheet) -> Vec<f64> {
    let receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    // The first gets what is fresh, the second what the store is filled with; the others are there.
    let mut toml =
        daemon::webhook("live", &url).replace("timeout", "concurrency = 64\nevents = { lead = false }\ntimeout");
    let down = format!("http://127.0.0.1:{}/", daemon::free_port());
    for number in 1..destinations.max(2) {
        toml += &daemon::webhook(&format!("other{number}"), &down)
            .replace("first = \"50ms\", max_delay = \"1s\"", "first = \"1h\", max_delay = \"1h\"")
            .replace("timeout", "events = { deposit = false }\ntimeout");
    }
    let mut daemon = Daemon::prepare("", &toml);
    fill.write(&daemon.path("data"), "other1");
    let ready = daemon.restart().await;
    let began = Instant::now();
    let load = load(daemon.port, daemon::TOKEN, 64, fresh, "g").await;
    while receiver.count() < fresh {
        assert!(began.elapsed() < Duration::from_mins(5), "not everything is delivered");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = fresh as f64 / began.elapsed().as_secs_f64();
    let file = std::fs::metadata(daemon.path("data/postbackd.redb")).expect("a store").len();
    let figures = vec![
        rate,
        load.percentile(99),
        ready.as_secs_f64() * 1000.0,
        process::pss_mb(daemon.pid()),
        file as f64 / 1_048_576.0,
    ];
    for (figure, value) in FIGURES.iter().zip(&figures) {
        sheet.add(&format!("{what}: {figure}"), Goal::None, &[*value]);
    }
    figures
}
