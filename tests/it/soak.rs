//! Steady load for as long as one likes: nothing grows, nothing is lost.
//!
//! `POSTBACKD_SOAK_MINUTES=60 cargo test --release --test it soak -- --nocapture` sends 200 events a second to two destinations,
//! one of which is away for ten seconds in every thirty, with retention on, a reload every half minute and a backup every
//! minute. It prints a line a minute, and holds the last quarter of the time against the second. Without the variable it
//! does nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::daemon::Daemon;
use crate::support::reload::{reload, replace, text};
use crate::support::sender::post;
use crate::support::sink::{Act, Reply, Sink};

const MINUTES: &str = "POSTBACKD_SOAK_MINUTES";
const SENDERS: u64 = 4;
/// Of each sender: together 200 events a second.
const PAUSE: Duration = Duration::from_millis(20);
const SAMPLE: Duration = Duration::from_secs(5);
/// The one that flaps is away for one of so many of these.
const FLAP: Duration = Duration::from_secs(10);
const RELOAD: Duration = Duration::from_secs(30);
const BACKUP: Duration = Duration::from_mins(1);

/// What may be more at the end than it was before, as a share of it and beyond.
const RSS_GROWTH: (f64, f64) = (0.10, 4.0);
const FILE_GROWTH: (f64, f64) = (0.25, 8.0);
const HANDLE_GROWTH: (f64, f64) = (0.0, 4.0);

/// What the daemon takes at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rss_mb: f64,
    fds: f64,
    threads: f64,
    file_mb: f64,
}

fn sample(daemon: &Daemon) -> Sample {
    let (fds, threads) = daemon.handles();
    let bytes = std::fs::metadata(daemon.path("data/postbackd.redb")).map_or(0, |file| file.len());
    Sample { rss_mb: daemon.rss_mb(), fds: fds as f64, threads: threads as f64, file_mb: bytes as f64 / 1_048_576.0 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What comes and goes with the load, like connections, goes back to this; what leaks does not.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The load: ids that were acknowledged, by number.
struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<(Vec<u64>, u64)>,
}

impl Load {
    fn start(port: u16) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let senders = (0..SENDERS).map(|_| send(port, Arc::clone(&stop), Arc::clone(&next))).collect();
        Self { stop, senders }
    }

    /// Those that were acknowledged, and how many were not.
    async fn stop(self) -> (BTreeSet<u64>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = (BTreeSet::new(), 0);
        for (acknowledged, refused) in self.senders.join_all().await {
            all.0.extend(acknowledged);
            all.1 += refused;
        }
        all
    }
}

async fn send(port: u16, stop: Arc<AtomicBool>, next: Arc<AtomicU64>) -> (Vec<u64>, u64) {
    let mut clock = interval(PAUSE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        clock.tick().await;
        let n = next.fetch_add(1, Ordering::SeqCst);
        let user = json!({ "email": format!("person-{n}@mail.example"), "country": "de" });
        let click = json!({ "campaign_id": n % 50, "placement": "feed" });
        let event = json!({ "event": "deposit", "event_id": n.to_string(), "uid": format!("u-{}", n % 5000),
            "value": "25.00", "currency": "EUR", "user": user, "click": click });
        match post(port, &event.to_string()).await {
            Some(answer) if answer.status == 202 => acknowledged.push(n),
            Some(_) | None => refused += 1,
        }
    }
    (acknowledged, refused)
}

/// Moves what has arrived into `arrived`; how many requests that were.
fn fold(sink: &Sink, arrived: &mut BTreeSet<u64>) -> usize {
    let seen = sink.take();
    for request in &seen {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        arrived.insert(body["source_event_id"].as_str().unwrap().parse().unwrap());
    }
    seen.len()
}

async fn back_up(daemon: &Daemon) {
    std::fs::remove_file(daemon.path("data/backups/postbackd-soak.redb")).ok();
    let answer = daemon.post("/v1/backup", r#"{"name":"soak"}"#).await;
    assert!((200..300).contains(&answer.status), "{}", answer.text());
}

/// Every so often, by a clock of its own.
struct Every(Duration, Instant);

impl Every {
    fn new(pause: Duration) -> Self {
        Self(pause, Instant::now())
    }

    fn is_due(&mut self) -> bool {
        let due = self.1.elapsed() >= self.0;
        if due {
            self.1 += self.0;
        }
        due
    }
}

/// The configuration: what has ended is kept for a twelfth of the time, so that the second quarter is as full as the last.
fn config(minutes: u64, steady: &Sink, flapping: &Sink) -> String {
    let kept = minutes * 5;
    let hook = |name: &str, sink: &Sink| {
        format!(
            "[destinations.{name}]\nkind = \"webhook\"\nurl = \"{}\"\nallow_private = true\ntimeout = \"5s\"\n\
             breaker = {{ probe = \"1s\", probe_max = \"3s\" }}\n\
             retry = {{ first = \"1s\", max_delay = \"5s\", max_attempts = 0 }}\n",
            sink.url("/")
        )
    };
    format!(
        "[retention]\nevents = \"{kept}s\"\nattempts = \"{kept}s\"\ndedupe = \"{kept}s\"\n{}{}",
        hook("steady", steady),
        hook("flapping", flapping)
    )
}

fn hold_flat(what: &str, values: &[f64], judged_by: fn(&[f64]) -> f64, (share, more): (f64, f64)) {
    let quarter = values.len() / 4;
    let (second, last) = (judged_by(&values[quarter..2 * quarter]), judged_by(&values[values.len() - quarter..]));
    println!("{what}: {second:.1} in the second quarter, {last:.1} in the last");
    assert!(last <= second.mul_add(1.0 + share, more), "{what} grows: {second:.1}, then {last:.1}");
}

// I5 of the catalogue: memory, file descriptors, tasks and disk stay where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let Some(minutes) = std::env::var(MINUTES).ok().and_then(|text| text.parse::<u64>().ok()) else {
        println!("NOT SOAKED: set {MINUTES} to how many minutes it may take");
        return;
    };
    let (steady, flapping) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let daemon = Daemon::start(&config(minutes, &steady, &flapping)).await;
    let base = text(&daemon);
    let load = Load::start(daemon.port);
    let (begun, length) = (Instant::now(), Duration::from_mins(minutes));
    let (mut reloads, mut backups) = (Every::new(RELOAD), Every::new(BACKUP));
    let (mut flaps, mut lines, mut ticks) = (Every::new(FLAP), Every::new(Duration::from_mins(1)), interval(SAMPLE));
    let (mut samples, mut n) = (Vec::new(), (0, 0));
    let (mut at_steady, mut at_flapping, mut requests) = (BTreeSet::new(), BTreeSet::new(), [0; 2]);
    while begun.elapsed() < length {
        ticks.tick().await;
        samples.push(sample(&daemon));
        requests[0] += fold(&steady, &mut at_steady);
        requests[1] += fold(&flapping, &mut at_flapping);
        if flaps.is_due() {
            n.0 += 1;
            flapping.set(vec![Act::Reply(Reply::new(if n.0 % 3 == 0 { 503 } else { 200 }, ""))]);
        }
        if reloads.is_due() {
            n.1 += 1;
            replace(
                &daemon.config(),
                &base.replacen("timeout = \"5s\"", &format!("timeout = \"{}ms\"", 5000 + n.1), 1),
            );
            reload(&daemon).await;
        }
        if backups.is_due() {
            back_up(&daemon).await;
        }
        if lines.is_due() {
            report(&daemon, samples[samples.len() - 1], begun).await;
        }
    }
    let (acknowledged, refused) = load.stop().await;
    flapping.set(vec![Act::Reply(Reply::new(200, ""))]);
    let done = |status: &Value| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0;
    let status = daemon.wait_for_status(done).await;
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    requests[0] += fold(&steady, &mut at_steady);
    requests[1] += fold(&flapping, &mut at_flapping);
    let lost = [&at_steady, &at_flapping].map(|arrived| acknowledged.difference(arrived).count());
    println!(
        "{} acknowledged in {minutes} min ({:.0}/s), {refused} not; lost {} and {}, requests {} and {}",
        acknowledged.len(),
        acknowledged.len() as f64 / length.as_secs_f64(),
        lost[0],
        lost[1],
        requests[0],
        requests[1]
    );
    assert_eq!((lost, refused), ([0, 0], 0));
    // Again only where an exchange did not end well: on a machine that stands still for seconds, even the steady one is late.
    let unwell = unwell(&daemon.get("/metrics").await.text());
    assert!(requests[0] <= acknowledged.len() + unwell, "{} requests, {unwell} did not end well", requests[0]);
    assert_eq!(status["balance"]["sent"], 2 * acknowledged.len(), "{status:#}");
    let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
    hold_flat("RSS in MB", &all(|one| one.rss_mb), mean, RSS_GROWTH);
    hold_flat("file in MB", &all(|one| one.file_mb), mean, FILE_GROWTH);
    hold_flat("file descriptors, at the least", &all(|one| one.fds), least, HANDLE_GROWTH);
    hold_flat("threads, at the least", &all(|one| one.threads), least, HANDLE_GROWTH);
}

/// Attempts at the steady destination that were not delivered.
fn unwell(metrics: &str) -> usize {
    let attempts = metrics.lines().filter(|line| line.starts_with("postbackd_attempts_total{destination=\"steady\""));
    let unwell = attempts.filter(|line| !line.contains("verdict=\"delivered\""));
    unwell.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

async fn report(daemon: &Daemon, now: Sample, begun: Instant) {
    let status = daemon.get("/status").await.json();
    let balance = &status["balance"];
    println!(
        "{:4} min: RSS {:.1} MB, {} fds, {} threads, file {:.1} MB; accepted {}, sent {}, owed {} + {}, {}",
        begun.elapsed().as_secs() / 60,
        now.rss_mb,
        now.fds,
        now.threads,
        now.file_mb,
        status["events"]["accepted"],
        balance["sent"],
        balance["pending"],
        balance["failed"],
        status["state"],
    );
}
