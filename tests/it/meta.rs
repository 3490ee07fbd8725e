//! Against a receiver that behaves like Meta: whatever trouble it has, the good events end up counted there exactly once, and
//! only the bad ones in the DLQ, with its words. Holds for one event in each request and for batches alike.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{NDJSON, walk};
use crate::support::meta::{Asked, BANNED, Meta, PIXEL, Said, TOKEN, Trouble};

const EVENTS: usize = 5000;
const BATCH: usize = 50;

/// Troubles, by how many events count before each strikes.
const TROUBLES: [(usize, Trouble); 14] = [
    (0, Trouble::Html),
    (200, Trouble::Down),
    (500, Trouble::Token),
    (800, Trouble::Lost),
    (1200, Trouble::Limit),
    (1500, Trouble::Passing),
    (1700, Trouble::Unknown),
    (2000, Trouble::Lost),
    (2500, Trouble::Html),
    (3000, Trouble::Token),
    (3300, Trouble::Down),
    (3700, Trouble::Limit),
    (4200, Trouble::Lost),
    (4600, Trouble::Passing),
];

fn config(meta: &Meta) -> String {
    format!(
        "[destinations.meta]\nkind = \"fb_capi\"\npixel_id = \"{PIXEL}\"\naccess_token = \"{TOKEN}\"\n\
         base_url = \"http://{}\"\nallow_private = true\nbatch = {BATCH}\nbatch_wait = \"100ms\"\nhold_probe = \"50ms\"\n\
         retry = {{ first = \"50ms\", max_delay = \"500ms\", max_attempts = 0 }}\n",
        meta.address
    )
}

fn id(number: usize) -> String {
    format!("order-{number}")
}

/// One event in a hundred is bad, in a way that only the receiver can tell; they come alone and next to each other.
fn is_bad(number: usize) -> bool {
    matches!(number % 500, 7 | 8 | 9 | 250 | 499)
}

fn event(number: usize) -> Value {
    let canonical = ["deposit", "registration", "lead"][number % 3];
    let mut event = json!({
        "event": canonical, "event_id": id(number), "uid": format!("u{number}"),
        "value": "25.00", "currency": "EUR", "user": {"email": format!("user{number}@example.com")},
        "data": {"content_ids": [format!("sku-{number}")]},
    });
    if is_bad(number) {
        match number / 100 % 3 {
            0 => event["data"]["content_ids"] = json!(["sku-1", BANNED]),
            1 => event["user"]["lead_id"] = json!("77"),
            _ => event["data"]["content_type"] = json!("nonsense"),
        }
    }
    event
}

/// What Meta says of a bad event.
fn words(number: usize) -> &'static str {
    ["Invalid Content Ids", "Invalid Lead Id", "Invalid parameter"][number / 100 % 3]
}

// Rows 47 and 51: among its troubles are HTML with status 200, lost answers and poison within batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_good_events_count_and_each_of_them_once() {
    let meta = Meta::start(&TROUBLES).await;
    let daemon = Daemon::start(&config(&meta)).await;
    let numbers: Vec<usize> = (0..EVENTS).collect();
    for slice in numbers.chunks(1000) {
        let lines: Vec<String> = slice.iter().map(|number| event(*number).to_string()).collect();
        let answer = daemon.try_request("POST", "/v1/events", &lines.join("\n"), Some(NDJSON)).await.unwrap();
        assert_eq!(answer.json()["queued"], slice.len(), "{}", answer.text());
    }
    let status =
        daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;

    let bad: BTreeSet<String> = numbers.iter().filter(|number| is_bad(**number)).map(|number| id(*number)).collect();
    assert_eq!(bad.len(), EVENTS / 100);
    let books = &status["destinations"]["meta"]["counts"];
    assert_eq!(status["balance"]["balanced"], true);
    assert_eq!(books["accepted"], EVENTS, "{books:#}");
    assert_eq!(books["sent"], EVENTS - bad.len(), "{books:#}");
    assert_eq!(books["failed_permanently"], bad.len(), "{books:#}");

    let good: BTreeMap<String, u32> =
        numbers.iter().map(|number| (id(*number), 1)).filter(|(id, _)| !bad.contains(id)).collect();
    assert_eq!(meta.counts(), good, "exactly the good ones count, each once");
    assert_eq!(meta.troubles_left(), 0, "every trouble has struck");
    check_dlq(&daemon, &bad).await;
    check_requests(&meta.asked(), &bad);
}

#[test]
fn check_says_what_an_ordinary_event_would_lack() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let config = format!(
        "[storage]\npath = \"{}\"\n[sources.app]\ntoken = \"app-token\"\n[destinations.meta]\nkind = \"fb_capi\"\n\
         pixel_id = \"{PIXEL}\"\naccess_token = \"{TOKEN}\"\naction_source = \"app\"\n",
        dir.path().join("data").display()
    );
    std::fs::write(&file, config).unwrap();
    let said = Command::new(env!("CARGO_BIN_EXE_postbackd")).args(["check", "--config"]).arg(&file).output().unwrap();
    let told = String::from_utf8(said.stdout).unwrap();
    assert!(told.contains("cannot make a request of an ordinary deposit: data.app_data.extinfo is missing"), "{told}");
}

/// The DLQ holds the bad ones and nobody else, with what Meta said of them.
async fn check_dlq(daemon: &Daemon, bad: &BTreeSet<String>) {
    let page = daemon.get("/v1/dlq?limit=1000").await.json();
    let entries = page["entries"].as_array().unwrap();
    let dead: BTreeSet<String> =
        entries.iter().map(|entry| entry["event"]["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(&dead, bad);
    assert_eq!(walk(daemon, "/v1/dlq", "entries", "limit=7").await.len(), bad.len());
    for entry in entries {
        let number: usize = entry["event"]["event_id"].as_str().unwrap().trim_start_matches("order-").parse().unwrap();
        assert_eq!(entry["reason"], "permanent", "{entry:#}");
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.contains("Meta error 100") && detail.contains(words(number)), "{detail}");
        assert!(entry["response"]["body"].as_str().unwrap().contains(words(number)), "{entry:#}");
        assert_eq!(entry["response"]["status"], 400);
        assert!(!entry.to_string().contains(TOKEN), "{entry:#}");
    }
}

/// Where requests carry several events, finding the guilty ones stays cheap: what is asked again about the events of a
/// refused request are at most 2·log2(batch) + 1 requests for each guilty one.
fn check_requests(asked: &[Asked], bad: &BTreeSet<String>) {
    let largest = asked.iter().map(|asked| asked.ids.len()).max().unwrap();
    assert!(largest <= BATCH, "{largest} events in one request");
    if largest == 1 {
        // The bad ones once, the good ones once, and once more for each trouble; a held or throttled lane has others in flight.
        assert!(asked.len() <= EVENTS + 100, "{} requests", asked.len());
        return;
    }
    let (splits, troubles) = splits(asked);
    let allowed = allowed(bad.len(), troubles);
    assert!(splits <= allowed, "{splits} requests to find {} guilty events, {allowed} at most", bad.len());
}

/// Requests about nothing but events of refused requests, and requests that met trouble.
fn splits(asked: &[Asked]) -> (usize, usize) {
    let mut suspects: BTreeSet<&str> = BTreeSet::new();
    let (mut splits, mut troubles) = (0, 0);
    for request in asked {
        splits += usize::from(request.ids.iter().all(|id| suspects.contains(id.as_str())));
        match request.said {
            Said::Refused => suspects.extend(request.ids.iter().map(String::as_str)),
            Said::Trouble(_) => troubles += 1,
            Said::Taken => {}
        }
    }
    (splits, troubles)
}

/// Trouble makes a few of them necessary again: the request itself, and the probe of a held destination.
fn allowed(guilty: usize, troubles: usize) -> usize {
    let log2 = usize::try_from(BATCH.next_power_of_two().ilog2()).unwrap();
    guilty * (2 * log2 + 1) + 4 * troubles
}

// Row 51.
#[test]
fn the_bound_tells_halving_from_sending_one_by_one() {
    fn ask(numbers: &[usize], asked: &mut Vec<Asked>) -> bool {
        let refused = numbers.iter().any(|number| is_bad(*number));
        let said = if refused { Said::Refused } else { Said::Taken };
        asked.push(Asked { ids: numbers.iter().map(|number| id(*number)).collect(), said });
        refused
    }
    fn halve(numbers: &[usize], asked: &mut Vec<Asked>) {
        if ask(numbers, asked) && numbers.len() > 1 {
            let (left, right) = numbers.split_at(numbers.len() / 2);
            halve(left, asked);
            halve(right, asked);
        }
    }
    let numbers: Vec<usize> = (0..EVENTS).collect();
    let (mut halving, mut single) = (Vec::new(), Vec::new());
    for batch in numbers.chunks(BATCH) {
        halve(batch, &mut halving);
        if ask(batch, &mut single) {
            for number in batch {
                ask(&[*number], &mut single);
            }
        }
    }
    let bound = allowed(EVENTS / 100, 0);
    assert!(splits(&halving).0 > 0 && splits(&halving).0 <= bound, "{:?} of {bound}", splits(&halving));
    assert!(splits(&single).0 > bound, "{:?} of {bound}", splits(&single));
}
