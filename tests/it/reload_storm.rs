//! Reloads without end and files without sense (rows 65, 66 and 69 of the fault catalogue).

use std::time::{Duration, Instant};

use postbackd::config::validate;
use postbackd::domain::time::UnixMs;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::webhook;
use crate::support::reload::{configured, in_force, reload, replace, text};
use crate::support::sink::Sink;

const NOWHERE: &str = "http://127.0.0.1:9/";

/// How long the storm lasts, in seconds; for a long look set this variable, to 60 and more.
const STORM: &str = "POSTBACKD_RELOAD_STORM_S";
/// Reloads asked for in a second, besides those that the watcher finds.
const PER_SECOND: u32 = 100;
/// What a process may hold more after a storm than before: buffers and allocator slack, not a client for each reload.
const RSS_SLACK_MB: f64 = 24.0;
const FD_SLACK: usize = 12;
const THREAD_SLACK: usize = 8;

fn seconds() -> u64 {
    std::env::var(STORM).ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// A quarter of a second of `PER_SECOND`: every reload changes a destination and adds or removes another.
async fn gust(daemon: &Daemon, base: &str, n: &mut u64) {
    for _ in 0..PER_SECOND / 4 {
        *n += 1;
        let edited = base.replace("/changes", &format!("/changes/{n}"));
        let more =
            if n.is_multiple_of(2) { webhook("comes-and-goes", NOWHERE, "enabled = false") } else { String::new() };
        replace(&daemon.config(), &(edited + &more));
        if n.is_multiple_of(10) {
            daemon.hang_up();
        }
        let answer = daemon.post("/v1/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Row 69.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reloads_leaks_nothing_and_every_event_is_delivered() {
    let (stays, changes) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let config =
        [webhook("stays", &stays.url("/"), "concurrency = 2"), webhook("changes", &changes.url("/changes"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    let base = text(&daemon);
    let mut n = 0;
    // What grows once grows before it is measured.
    gust(&daemon, &base, &mut n).await;
    let held = |daemon: &Daemon| (daemon.handles(), daemon.rss_mb());
    let ((fds, threads), rss) = held(&daemon);
    let started = Instant::now();
    let storm = async {
        while started.elapsed() < Duration::from_secs(seconds()) {
            let gust_began = Instant::now();
            gust(&daemon, &base, &mut n).await;
            tokio::time::sleep(Duration::from_millis(250).saturating_sub(gust_began.elapsed())).await;
        }
        n
    };
    let traffic = async {
        let mut sent = 0_u64;
        while started.elapsed() < Duration::from_secs(seconds()) {
            let event = json!({ "event": "deposit", "event_id": sent.to_string() }).to_string();
            let answer = daemon.post("/v1/events", &event).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            assert!(answer.json()["deliveries"].as_u64().unwrap() >= 2);
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    };
    let (reloads, sent) = tokio::join!(storm, traffic);
    let last = base.replace("/changes", "/last");
    replace(&daemon.config(), &last);
    reload(&daemon).await;
    in_force(&daemon, &["changes", "stays"]).await;
    let books = daemon.wait_for_status(|status| status["balance"]["sent"] == 2 * sent).await;
    let lost = ["pending", "failed", "failed_permanently", "discarded"].map(|name| books["balance"][name].clone());
    assert_eq!((lost, &books["balance"]["balanced"]), ([json!(0), json!(0), json!(0), json!(0)], &json!(true)));
    assert_eq!(stays.seen().len() as u64, sent, "once each");
    assert!(stays.connections() <= 2, "{} connections of an unchanged destination", stays.connections());
    daemon.post("/v1/events", &json!({ "event": "deposit", "event_id": "last" }).to_string()).await;
    daemon.wait_for_status(|status| status["balance"]["sent"] == 2 * sent + 2).await;
    assert_eq!(changes.seen().last().map(|seen| seen.target.clone()).as_deref(), Some("/last"));
    // Connections of replaced clients are closed by both sides in their own time.
    let patience = Instant::now();
    loop {
        let ((fds_now, threads_now), rss_now) = held(&daemon);
        if fds_now <= fds + FD_SLACK && threads_now <= threads + THREAD_SLACK && rss_now < rss + RSS_SLACK_MB {
            println!(
                "{reloads} reloads, {sent} events: fds {fds} -> {fds_now}, threads {threads} -> {threads_now}, {rss:.1} -> {rss_now:.1} MB"
            );
            return;
        }
        let grown = format!("fds {fds} -> {fds_now}, threads {threads} -> {threads_now}, {rss:.1} -> {rss_now:.1} MB");
        assert!(patience.elapsed() < Duration::from_secs(30), "after {reloads} reloads: {grown}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The numbers of a seed, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// One more thing that goes wrong.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return bytes.push(b'[');
    }
    let at = dice.below(bytes.len());
    match dice.below(7) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << dice.below(8),
        2 => {
            let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            lines.remove(dice.below(lines.len()));
            *bytes = lines.join(&b'\n');
        }
        3 => {
            let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            let line = lines[dice.below(lines.len())];
            lines.insert(dice.below(lines.len()), line);
            *bytes = lines.join(&b'\n');
        }
        4 => bytes.insert(at, b"\"[]{}=\n#,.0\\\0\xff"[dice.below(14)]),
        5 => {
            let end = at + dice.below(bytes.len() - at);
            bytes.drain(at..end);
        }
        _ => {
            let end = at + dice.below((bytes.len() - at).min(80));
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

/// Rows 65 and 66: broken again and again, each time a little more, mended in between.
#[tokio::test]
async fn no_damage_to_the_file_stops_the_daemon_or_changes_what_runs() {
    let config = [
        webhook("a", NOWHERE, "events = { deposit = \"paid\" }\nrate_limit = \"5/s\"\nbreaker = { failures = 3 }"),
        webhook("b", NOWHERE, "when = { currency = [\"USD\"] }\n[destinations.b.retry]\nfirst = \"1m\""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let good = text(&daemon);
    let before = reload(&daemon).await;
    let mut dice = Dice(0x706f_7374);
    let (mut applied, mut refused) = (0, 0);
    let mut bytes = good.clone().into_bytes();
    let mut running = before["hash"].clone();
    for step in 0..400 {
        if step % 5 == 0 {
            bytes = good.clone().into_bytes();
        }
        damage(&mut bytes, &mut dice);
        std::fs::write(daemon.config(), &bytes).unwrap();
        let wanted = validate::load(&daemon.config(), UnixMs(1_764_000_000_000));
        let answer = daemon.post("/v1/reload", "").await;
        let shown = || String::from_utf8_lossy(&bytes).into_owned();
        match wanted {
            Ok((snapshot, _)) => {
                assert_eq!(answer.status, 200, "step {step}: {} for {}", answer.text(), shown());
                assert_eq!(answer.json()["hash"], snapshot.hash);
                running = Value::from(snapshot.hash);
                applied += 1;
            }
            Err(report) => {
                assert_eq!(answer.status, 422, "step {step}: {} for {}", answer.text(), shown());
                assert_eq!(answer.json()["problems"].as_array().unwrap().len(), report.problems.len());
                refused += 1;
            }
        }
        // The loopback caller may be refused by what was just taken over; the answer itself says that it lives.
        let status = daemon.get("/status").await;
        if status.status == 200 {
            assert_eq!(status.json()["config"]["hash"], running, "step {step}: {}", shown());
        }
    }
    assert!(applied > 10 && refused > 50, "{applied} applied, {refused} refused: nothing was shown");
    std::fs::write(daemon.config(), &good).unwrap();
    let status = in_force(&daemon, &["a", "b"]).await;
    assert_eq!((&status["config"]["hash"], &status["state"]), (&before["hash"], &json!("ok")));
    assert_eq!(configured(&status), ["a", "b"]);
}
