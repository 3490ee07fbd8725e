//! What the operator's desk costs those who send: `cargo bench --bench desk`, with `POSTBACKD_BENCH_DEEDS` (some of `none replay sweep
//! backup all`, default all of them) and `POSTBACKD_BENCH_ROUNDS` (default 1; more are also printed together).
//!
//! Two daemons side by side, each with as many dead deliveries (`POSTBACKD_BENCH_DEAD`, default 100,000) and as many that
//! were sent. Fresh events come to both at a steady rate. At one of them nothing else happens; at the other the dead are
//! replayed by a job, retention is set to a second so that it sweeps, and an online backup is made. Compared are how long
//! a sender waits for the acknowledgement, and how long a fresh event is under way. Both at the same time, so that a slow
//! disk meets both. It prints a table and judges nothing.

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

#[allow(dead_code, reason = "the other bench uses more of it")]
mod arrivals;
#[path = "../it/support/daemon.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod daemon;
#[allow(dead_code, reason = "the other bench uses more of it")]
mod wire;

use std::time::{Duration, Instant};

use arrivals::{Arrivals, Manner, at, steady};
use daemon::Daemon;

/// What is done at one of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// To know what chance does.
    None,
    Replay,
    Sweep,
    Backup,
    All,
}

struct World {
    daemon: Daemon,
    live: Arrivals,
    dead: Arrivals,
    done: Arrivals,
}

/// Milliseconds, in order.
#[derive(Default)]
struct Figures {
    acknowledged: Vec<f64>,
    arrived: Vec<f64>,
}

impl Figures {
    fn add(&mut self, more: Self) {
        for (all, more) in [(&mut self.acknowledged, more.acknowledged), (&mut self.arrived, more.arrived)] {
            all.extend(more);
            all.sort_by(f64::total_cmp);
        }
    }
}

#[tokio::main]
async fn main() {
    let dead: u64 = std::env::var("POSTBACKD_BENCH_DEAD").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let rounds = wire::rounds(1);
    let (dead, rate, span) = if rounds.is_some() { (dead, 150, 20) } else { (500, 50, 1) };
    let wanted = std::env::var("POSTBACKD_BENCH_DEEDS").unwrap_or_default().to_lowercase();
    let is_wanted = |deed: &Deed| {
        wanted.is_empty() || wanted.split_whitespace().any(|word| word == format!("{deed:?}").to_lowercase())
    };
    let deeds: Vec<Deed> =
        [Deed::None, Deed::Replay, Deed::Sweep, Deed::Backup, Deed::All].into_iter().filter(is_wanted).collect();
    println!("{dead} dead and {dead} sent deliveries at each of two daemons; {rate} fresh events/s for {span} s");
    println!("{:<26} {:<12} {:>9} {:>9} {:>9} {:>9}", "what is done", "", "ack p50", "ack p99", "sent p50", "sent p99");
    for deed in deeds {
        let (mut all_quiet, mut all_busy) = (Figures::default(), Figures::default());
        for _ in 0..rounds.unwrap_or(1) {
            let (quiet, busy) = tokio::join!(World::start(dead), World::start(dead));
            let (quiet, (busy, took)) =
                tokio::join!(quiet.measure(rate, span), async { busy.measure_busy(deed, dead, rate, span).await });
            print_pair(&format!("{deed:?}, {took}"), &quiet, &busy);
            all_quiet.add(quiet);
            all_busy.add(busy);
        }
        if rounds.is_some_and(|rounds| rounds > 1) {
            print_pair(&format!("{deed:?}, all rounds"), &all_quiet, &all_busy);
        }
    }
}

fn print_pair(what: &str, quiet: &Figures, busy: &Figures) {
    print(what, "quiet", quiet);
    print("", "busy", busy);
    let ratio = |of: &dyn Fn(&Figures) -> f64| of(busy) / of(quiet);
    println!(
        "{:<26} {:<12} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        "",
        "busy / quiet",
        ratio(&|figures| at(&figures.acknowledged, 500)),
        ratio(&|figures| at(&figures.acknowledged, 990)),
        ratio(&|figures| at(&figures.arrived, 500)),
        ratio(&|figures| at(&figures.arrived, 990)),
    );
}

fn print(what: &str, who: &str, Figures { acknowledged, arrived }: &Figures) {
    println!(
        "{what:<26} {who:<12} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        at(acknowledged, 500),
        at(acknowledged, 990),
        at(arrived, 500),
        at(arrived, 990)
    );
}

impl World {
    /// A daemon with `dead` deliveries in the DLQ of one destination, and as many sent to another.
    async fn start(dead: u64) -> Self {
        let (live, refusing, done) = (
            Arrivals::start(Manner::Well).await,
            Arrivals::start(Manner::Refuse).await,
            Arrivals::start(Manner::Well).await,
        );
        let destination = |name: &str, port: u16, events: &str| {
            format!(
                "[destinations.{name}]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\nallow_private = true\n\
                 events = {{ {events} }}\n"
            )
        };
        let more = [
            "[retention]\nattempts = \"30d\"\nevents = \"30d\"\n".to_owned(),
            destination("live", live.port, "deposit = false"),
            destination("dead", refusing.port, "lead = false"),
            destination("done", done.port, "lead = false"),
        ];
        let daemon = Daemon::start(&more.concat()).await;
        wire::load(daemon.port, daemon::TOKEN, 64, dead, "old").await;
        let started = Instant::now();
        loop {
            let balance = daemon.get("/status").await.json()["balance"].clone();
            if balance["failed_permanently"] == dead && balance["sent"] == dead {
                break;
            }
            assert!(started.elapsed() < Duration::from_mins(5), "the deliveries never end: {balance}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { daemon, live, dead: refusing, done }
    }

    async fn measure(&self, rate: u64, span: u64) -> Figures {
        let mut acknowledged = steady(self.daemon.port, daemon::TOKEN, rate, Duration::from_secs(span)).await;
        let (total, started) = (usize::try_from(rate * span).expect("small"), Instant::now());
        while self.live.latencies().len() < total {
            assert!(started.elapsed() < Duration::from_mins(2), "not everything is delivered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut arrived = self.live.latencies();
        acknowledged.sort_by(f64::total_cmp);
        arrived.sort_by(f64::total_cmp);
        Figures { acknowledged, arrived }
    }

    /// As [`World::measure`], with `deed` beside it; what came of it.
    async fn measure_busy(&self, deed: Deed, dead: u64, rate: u64, span: u64) -> (Figures, String) {
        let began = Instant::now();
        let work = async {
            if matches!(deed, Deed::Sweep | Deed::All) {
                self.daemon.edit("attempts = \"30d\"\nevents = \"30d\"", "attempts = \"1s\"\nevents = \"1s\"");
                assert_eq!(self.daemon.post("/v1/reload", "").await.status, 200, "a reload");
            }
            if matches!(deed, Deed::Replay | Deed::All) {
                self.dead.mend();
                let order = r#"{"all":true}"#;
                assert_eq!(self.daemon.post("/v1/dlq/replay", order).await.status, 200, "a replay");
            }
            if matches!(deed, Deed::Backup | Deed::All) {
                let answer = self.daemon.post("/v1/backup", "").await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            loop {
                let replayed = self.dead.latencies().len() as u64 >= dead;
                if replayed || !matches!(deed, Deed::Replay | Deed::All) {
                    return began.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (figures, took) = tokio::join!(self.measure(rate, span), work);
        assert!(self.done.latencies().len() as u64 >= dead, "they were sent before");
        (figures, format!("{:.1} s", took.as_secs_f64()))
    }
}
