//! What looking at a large store costs: `POSTBACKD_BENCH_ROWS=10000000 cargo bench --bench log`.
//!
//! Fills a store of that many deliveries (default 200,000) in a temporary directory (`TMPDIR`) through the store's own
//! writing, one event for four destinations, a tenth of it dead for one of them, something rare every now and then. Then it
//! starts the real binary on it and asks for every kind of list, filter, report, page and status over HTTP, following the cursor
//! of a list for some pages. It prints what each call took, and what `postbackd report` takes over everything; it judges nothing.

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

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use daemon::Daemon;
use postbackd::domain::audit::{DEEDS_KEPT, Deed, Right, Who};
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::delivery::Autopsy;
use postbackd::domain::event::{Event, OccurredAt};
use postbackd::domain::id::{DeliveryKey, DestinationId, EventSeq};
use postbackd::domain::json_object::JsonObject;
use postbackd::domain::outcome::{DeadReason, Disposition, RetryReason, SkipReason};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::entropy::SystemEntropy;
use postbackd::store::write::{Accept, Planned, Settle, WriteOp};
use postbackd::store::{Options, Store};

const DESTINATIONS: [&str; 4] = ["main", "second", "third", "rare"];
/// Events of one commit.
const BATCH: u64 = 5000;
/// The time over which the events are spread.
const DAYS: u64 = 20;
/// Pages of a list that are asked for, and how often each call is made.
const PAGES: usize = 4;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let trial = std::env::args().any(|argument| argument == "--test");
    let rows: u64 = std::env::var("POSTBACKD_BENCH_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let events = if trial { 1000 } else { (rows / 4).max(1000) };
    let mut daemon = Daemon::prepare("", &configuration());
    let started = Instant::now();
    let last = fill(&daemon, events);
    let size = std::fs::metadata(daemon.path("data/postbackd.redb")).map_or(0, |meta| meta.len());
    println!(
        "{} deliveries written in {:.0} s, {:.2} GB; ready in {:.1} s",
        events * 4,
        started.elapsed().as_secs_f64(),
        size as f64 / 1e9,
        daemon.restart().await.as_secs_f64()
    );
    println!("{:<64} {:>5} {:>7} {:>9} {:>9}", "call", "pages", "rows", "median ms", "max ms");
    let group = daemon.get("/v1/dlq/groups?destination=second").await.json();
    let fault = group["groups"][0]["fault"].as_str().expect("a group of the dead").to_owned();
    for path in calls(last, &fault) {
        ask(&daemon, &path).await;
    }
    for by in ["hour", "day"] {
        let started = Instant::now();
        let said = daemon.cli(&["report", "--by", by], "").await;
        let lines = said.out.lines().count();
        println!("postbackd report --by {by}: {lines} lines in {:.1} s", started.elapsed().as_secs_f64());
    }
    daemon.terminate();
}

fn configuration() -> String {
    let table =
        |name: &&str| daemon::webhook(name, "http://127.0.0.1:9/hook").replace("timeout", "enabled = false\ntimeout");
    DESTINATIONS.iter().map(table).collect()
}

fn calls(last: u64, fault: &str) -> Vec<String> {
    let day = |back: u64| {
        let at = UnixMs(now().0 - back * 86_400_000);
        at.to_rfc3339()
    };
    let window = format!("since={}&until={}", day(DAYS - 1), day(DAYS - 2));
    let mut calls: Vec<String> =
        ["", "limit=1000", "destination=rare", "destination=rare&status=sent", "event=rare_event"]
            .iter()
            .map(|filter| format!("/v1/deliveries?{filter}"))
            .collect();
    for status in ["pending", "failed", "sent", "failed_permanently", "skipped", "discarded"] {
        calls.push(format!("/v1/deliveries?status={status}"));
    }
    for filter in [
        "uid=u-77777",
        "uid=nobody",
        "event_id=order-123456",
        "destination=main&event=rare_event&status=sent",
        "destination=third&event=rare_event",
        window.as_str(),
        "until=2020-01-01T00:00:00Z",
    ] {
        calls.push(format!("/v1/deliveries?{filter}"));
    }
    calls.push(format!("/v1/deliveries?destination=rare&{window}"));
    for filter in ["", "destination=second", "destination=rare", "event=rare_event", "reason=expired", "uid=u-77777"] {
        calls.push(format!("/v1/dlq?{filter}"));
    }
    calls.push(format!("/v1/dlq?{window}"));
    for filter in
        ["response_status=400", "response_status=503", "response_status=none", "detail=field", "detail=nowhere"]
    {
        calls.push(format!("/v1/dlq?{filter}"));
    }
    calls.extend([format!("/v1/dlq?fault={fault}"), "/v1/dlq?fault=000000000000".to_owned()]);
    calls.extend(["/v1/dlq/groups".to_owned(), "/v1/dlq/groups?destination=rare".to_owned()]);
    calls.extend(["/v1/events/order-123456".to_owned(), format!("/v1/events/order-{last}")]);
    for filter in ["", "by=hour", "destination=rare", "event=rare_event", window.as_str()] {
        calls.push(format!("/v1/report?{filter}"));
    }
    for path in ["/v1/audit", "/v1/audit?limit=1000", "/v1/jobs", "/v1/alerts", "/status", "/metrics", "/healthz"] {
        calls.push(path.to_owned());
    }
    // The page's views; what the log and the DLQ show is narrowed by the same filters.
    for path in ["/", "/ui/log", "/ui/log?uid=nobody", "/ui/dlq", "/ui/dlq?detail=nowhere", "/ui/events/order-123456"] {
        calls.push(path.to_owned());
    }
    calls
}

/// Makes a call some times, follows its cursor, and prints what it took.
async fn ask(daemon: &Daemon, path: &str) {
    let (mut took, mut rows, mut pages) = (Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let started = Instant::now();
            let answer = daemon.get(&format!("{path}{cursor}")).await;
            took.push(started.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            if !["/v1/d", "/v1/report", "/v1/audit"].iter().any(|list| path.starts_with(list)) {
                break;
            }
            let page = answer.json();
            let listed =
                ["deliveries", "entries", "groups", "rows", "deeds"].iter().find_map(|name| page[name].as_array());
            let listed = listed.expect("a list");
            if round == 0 {
                (rows, pages) = (rows + listed.len(), pages + 1);
            }
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("{}cursor={next}", if path.contains('?') { '&' } else { '?' });
        }
    }
    took.sort_by(f64::total_cmp);
    println!("{path:<64} {pages:>5} {rows:>7} {:>9.1} {:>9.1}", took[took.len() / 2], took[took.len() - 1]);
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    UnixMs(u64::try_from(since.as_millis()).expect("not that late"))
}

/// Writes the events; the number of the last.
fn fill(daemon: &Daemon, events: u64) -> u64 {
    let mut store =
        Store::open(&daemon.path("data"), Options { cache: 512 << 20 }, &SystemEntropy).expect("a new store");
    let names = DESTINATIONS.map(|name| name.parse().expect("a name"));
    let numbers = store.number_destinations(&names).expect("numbers");
    let numbers = names.map(|name| numbers[&name]);
    let step = DAYS * 86_400_000 / events;
    let start = now().0 - DAYS * 86_400_000;
    let mut number = 0;
    while number < events {
        let mut ops = Vec::new();
        for number in number..(number + BATCH).min(events) {
            push(&store, &mut ops, number, UnixMs(start + number * step), numbers);
        }
        store.commit(&ops).expect("a commit");
        number += BATCH;
    }
    let deed = Deed {
        who: Who::nobody(Right::Signal),
        action: "pause".to_owned(),
        target: "main".to_owned(),
        arguments: "{\"for\":\"2h\"}".to_owned(),
        reason: "they are moving".to_owned(),
        result: "paused".to_owned(),
    };
    let deeds: Vec<WriteOp> =
        (0..events.min(DEEDS_KEPT)).map(|_| WriteOp::Audit { at: now(), deed: Box::new(deed.clone()) }).collect();
    store.commit(&deeds).expect("a commit");
    store.close().expect("a clean end");
    events - 1
}

/// An event and what became of it: sent to the first, sent to or dead for the second, skipped for the third, and for the
/// fourth only now and then.
fn push(
    store: &Store,
    ops: &mut Vec<WriteOp>,
    number: u64,
    at: UnixMs,
    [main, second, third, rare]: [DestinationId; 4],
) {
    let event = Arc::new(event(number, at));
    let id = Discriminator::EventId(event.event_id.clone().unwrap_or_default());
    let owe = |destination| Planned::Owe { destination, target: "Purchase".parse().expect("a name") };
    let skip = |destination| Planned::Skip { destination, reason: SkipReason::Unmapped };
    let is_rare = number % 50_000 == 777;
    let plan = vec![owe(main), owe(second), skip(third), if is_rare { owe(rare) } else { skip(rare) }];
    let key = store.hash_key().dedupe_key(&event, &id);
    let content = store.hash_key().content(&event);
    let (heard_at, repeat_since) = (event.received_at, UnixMs(0));
    ops.push(WriteOp::Accept(Accept { event, key, content, heard_at, repeat_since, plan }));
    let mut settle = |destination, disposition| {
        let key = DeliveryKey { seq: EventSeq(number + 1), destination };
        let autopsy = matches!(disposition, Disposition::Dead { .. }).then(|| Autopsy {
            detail: "HTTP 400: the field is not known here".to_owned(),
            request: None,
            http_status: Some(400),
            response: "{\"error\":\"unknown field\"}".repeat(8),
        });
        let op = Settle { key, due_at: at, at: at + DurationMs(900), attempt: None, disposition, autopsy };
        ops.push(WriteOp::Settle(op));
    };
    if number % 20_000 != 11 {
        settle(main, Disposition::Sent);
    }
    let expired = number % 100_000 == 50;
    match number % 5 {
        0 | 1 => {
            let reason = if expired { DeadReason::Expired } else { DeadReason::Permanent };
            settle(second, Disposition::Dead { reason });
        }
        _ if number % 30_000 == 17 => {
            let retry = UnixMs(at.0 + 30 * 86_400_000);
            settle(second, Disposition::Retry { at: retry, reason: RetryReason::Transient });
        }
        _ => settle(second, Disposition::Sent),
    }
    if is_rare {
        settle(rare, Disposition::Sent);
    }
}

fn event(number: u64, at: UnixMs) -> Event {
    let name =
        if number % 200_000 == 1234 { "rare_event" } else { ["deposit", "lead", "signup"][(number % 3) as usize] };
    let mut click = JsonObject::default();
    click.insert("fbclid".to_owned(), format!("IwAR{number:020}").into());
    let mut page = JsonObject::default();
    page.insert("url".to_owned(), format!("https://shop.example/thanks?order={number}").into());
    Event {
        source: "app".parse().expect("a name"),
        canonical: name.parse().expect("a name"),
        event_id: Some(format!("order-{number}")),
        uid: Some(format!("u-{}", number % 1_000_000)),
        occurred_at: OccurredAt::Received(at),
        received_at: at,
        value: "25.00".parse().ok(),
        currency: "USD".parse().ok(),
        action_source: None,
        user: JsonObject::default(),
        click,
        page,
        data: JsonObject::default(),
    }
}
