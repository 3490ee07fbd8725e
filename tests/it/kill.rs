//! SIGKILL at any moment loses nothing that was acknowledged; SIGTERM drains and exits 0.
//!
//! Thousands of cycles, with a summary: `POSTBACKD_KILLS=3000 cargo test --release --test it sigkill -- --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TOKEN, webhook};
use crate::support::sender::post;
use crate::support::sink::{Act, At, Reply, Seen, Sink};

/// How long an outcome may wait for its commit while commits are made. On a busy machine a commit takes many times the ten
/// milliseconds that outcomes wait for company: of some 200 kills beside a compiler one met an outcome of 272 ms. A disk may
/// stall for longer, of which the acknowledgements tell: then none is given.
const SETTLING: Duration = Duration::from_secs(1);
/// Of so many cycles one goes on for longer, so that most of what it sent is settled when it ends.
const LONG_EVERY: u64 = 8;

/// What senders were told, by the sender's own id.
#[derive(Debug, Default)]
struct Told {
    /// The event's id.
    acknowledged: BTreeMap<String, String>,
    /// Sent, and no answer came.
    unanswered: BTreeSet<String>,
    /// When the last of those that were acknowledged was sent.
    sent_last: Option<Instant>,
}

/// Senders that post one event after the other until they are stopped or get no answer, and remember every 202.
struct Senders {
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Senders {
    fn start(port: u16, told: &Arc<Mutex<Told>>, next: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (stop, told, next) = (Arc::clone(&stop), Arc::clone(told), Arc::clone(next));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let id = format!("order-{}", next.fetch_add(1, Ordering::SeqCst));
                    let sent = Instant::now();
                    let Some(answer) = post_deposit(port, &id).await else {
                        told.lock().unwrap().unanswered.insert(id);
                        return;
                    };
                    let mut told = told.lock().unwrap();
                    told.acknowledged.insert(id, stored(&answer));
                    told.sent_last = told.sent_last.max(Some(sent));
                }
            });
        }
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
    }
}

/// The answer where there was one; it can only be 202.
async fn post_deposit(port: u16, id: &str) -> Option<Value> {
    let body = json!({ "event": "deposit", "event_id": id, "value": "25.00", "uid": "u" }).to_string();
    let answer = post(port, &body).await?;
    // One that was cut in the middle of its body is none.
    let whole = answer.header("content-length")?.parse() == Ok(answer.body.len());
    assert!(!whole || answer.status == 202, "{}", answer.text());
    whole.then(|| answer.json())
}

fn stored(answer: &Value) -> String {
    answer["id"].as_str().expect("an id").to_owned()
}

/// Answers of a receiver that is mostly well.
fn moody() -> Vec<Act> {
    let reply = |status| Act::Reply(Reply::new(status, "said the sink"));
    let mut acts = Vec::new();
    for _ in 0..200 {
        acts.extend([
            reply(200),
            reply(200),
            reply(503),
            reply(200),
            Act::Reset(At::AfterRequest),
            reply(200),
            reply(200),
        ]);
    }
    acts.push(reply(200));
    acts
}

/// What has arrived at a receiver, by the sender's id.
#[derive(Debug, Default)]
struct Arrived {
    events: BTreeMap<String, Arrival>,
    /// Requests beyond the first of each event.
    repeats: usize,
}

#[derive(Debug)]
struct Arrival {
    id: String,
    body: u64,
    /// When it came the last time, and when the last event that was acknowledged before the next kill was sent: an outcome
    /// that was there long before is in its transaction at the latest.
    at: Instant,
    committed: Option<Instant>,
}

impl Arrival {
    /// Whether its outcome may not have been committed when the daemon was killed.
    fn may_come_again(&self) -> bool {
        self.committed.is_some_and(|committed| self.at + SETTLING > committed)
    }
}

/// How a receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Temper {
    /// Takes everything at once.
    Steady,
    /// Refuses some, cuts off others.
    Moody,
}

impl Arrived {
    /// Takes in what came before a kill, before which what was sent at `committed` was acknowledged; the number of repeats among
    /// it, and which of them nothing excuses. All of an event comes under one id with one body, and to a steady receiver again
    /// only where a kill came before its outcome was on disk (I3).
    fn fold(&mut self, seen: &[Seen], committed: Option<Instant>, temper: Temper) -> (usize, Vec<String>) {
        let (mut repeats, mut wrong) = (0, Vec::new());
        for request in seen {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let sender_id = body["source_event_id"].as_str().unwrap().to_owned();
            let id = request.header("webhook-id").unwrap().to_owned();
            assert_eq!(body["event_id"].as_str(), Some(id.as_str()));
            let mut hasher = DefaultHasher::new();
            request.body.hash(&mut hasher);
            let now = Arrival { id, body: hasher.finish(), at: request.at, committed };
            match self.events.get_mut(&sender_id) {
                None => drop(self.events.insert(sender_id, now)),
                Some(before) => {
                    assert_eq!((&before.id, before.body), (&now.id, now.body), "{sender_id} came as something else");
                    if temper == Temper::Steady && !before.may_come_again() {
                        wrong.push(sender_id);
                    }
                    *before = now;
                    repeats += 1;
                }
            }
        }
        self.repeats += repeats;
        (repeats, wrong)
    }

    /// Those that were acknowledged and never came; no two events share an id.
    fn lost(&self, told: &Told) -> Vec<String> {
        let ids: BTreeSet<&str> = self.events.values().map(|arrival| arrival.id.as_str()).collect();
        assert_eq!(ids.len(), self.events.len(), "two events share an id");
        told.acknowledged.keys().filter(|id| !self.events.contains_key(*id)).cloned().collect()
    }
}

/// Whoever got no answer asks again (row 4): the same event, whether it was committed or not. How many had been.
async fn ask_again(port: u16, told: &Arc<Mutex<Told>>) -> usize {
    let unanswered = std::mem::take(&mut told.lock().unwrap().unanswered);
    let mut committed = 0;
    for id in unanswered {
        let answer = post_deposit(port, &id).await.expect("nobody kills it now");
        committed += usize::from(answer["status"] == "duplicate");
        told.lock().unwrap().acknowledged.insert(id, stored(&answer));
    }
    // And what was answered gets the same answer (I2).
    let last = told.lock().unwrap().acknowledged.iter().next_back().map(|(id, stored)| (id.clone(), stored.clone()));
    if let Some((id, first)) = last {
        let answer = post_deposit(port, &id).await.expect("nobody kills it now");
        assert_eq!((&answer["status"], stored(&answer)), (&json!("duplicate"), first), "{id}");
    }
    committed
}

// Rows 4, 21 and 24: I1 to I3 over as many kills as one likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let kills: u64 = std::env::var("POSTBACKD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let steady = Sink::with_status(200).await;
    let trouble = Sink::start(moody()).await;
    // An answer that a busy machine keeps for a second would be another reason to send again.
    let patient = webhook("steady", &steady.url("/a")).replace("timeout = \"1s\"", "timeout = \"30s\"");
    let mut daemon = Daemon::start(&(patient + &webhook("trouble", &trouble.url("/b")))).await;
    let (told, next) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicU64::new(0)));
    let (mut at_steady, mut at_trouble) = (Arrived::default(), Arrived::default());
    let (begun, mut slowest, mut committed, mut most) = (Instant::now(), Duration::ZERO, 0, 0);
    for kill in 0..kills {
        let senders = Senders::start(daemon.port, &told, &next);
        let before = told.lock().unwrap().acknowledged.len();
        // Long enough that something was acknowledged, and then some: the moment differs from kill to kill.
        while told.lock().unwrap().acknowledged.len() < before + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let long = if kill % LONG_EVERY == 0 { 2 * SETTLING } else { Duration::ZERO };
        tokio::time::sleep(long + Duration::from_micros(kill * 7919 % 30_000)).await;
        let committed_last = told.lock().unwrap().sent_last;
        daemon.kill();
        senders.stop().await;
        let (repeats, wrong) = at_steady.fold(&steady.take(), committed_last, Temper::Steady);
        most = most.max(repeats);
        at_trouble.fold(&trouble.take(), committed_last, Temper::Moody);
        trouble.set(moody());
        slowest = slowest.max(daemon.restart().await);
        if let Some(id) = wrong.first() {
            let trace = daemon.get(&format!("/v1/events/{id}")).await.text();
            panic!("{id} came again although its outcome had had time to be committed before kill {kill}: {trace}");
        }
        committed += ask_again(daemon.port, &told).await;
    }
    let per_kill = begun.elapsed() / u32::try_from(kills.max(1)).unwrap();
    let status =
        daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;
    assert_eq!(status["balance"]["balanced"], true, "{status:#}");
    assert_eq!(status["balance"]["failed_permanently"], 0, "{status:#}");
    let told = told.lock().unwrap();
    assert_eq!(status["events"]["accepted"], told.acknowledged.len(), "{status:#}");
    let (_, wrong) = at_steady.fold(&steady.take(), None, Temper::Steady);
    assert_eq!(wrong, Vec::<String>::new());
    at_trouble.fold(&trouble.take(), None, Temper::Moody);
    let lost = [at_steady.lost(&told), at_trouble.lost(&told)];
    println!(
        "{kills} kills, {per_kill:?} each; {} acknowledged, {committed} of them committed without an answer at first; lost {} and \
         {}; repeats {} (at most {most} behind one kill) and {} (with cut and bad answers); slowest restart {slowest:?}",
        told.acknowledged.len(),
        lost[0].len(),
        lost[1].len(),
        at_steady.repeats,
        at_trouble.repeats,
    );
    assert_eq!(lost, [Vec::<String>::new(), Vec::new()]);
    daemon.terminate();
}

// Row 24, at the very point: the request is out, its outcome is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_killed_between_request_and_outcome_is_sent_once_more_under_its_id() {
    let sink = Sink::start(vec![Act::Hang]).await;
    let mut daemon = Daemon::start(&webhook("hangs", &sink.url("/"))).await;
    post_deposit(daemon.port, "frozen").await.unwrap();
    sink.wait_for(1).await;
    daemon.kill();
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(status["balance"]["balanced"], true);
    let seen = sink.seen();
    assert_eq!(seen.len(), 2, "one repeat");
    assert_eq!((seen[0].header("webhook-id"), &seen[0].body), (seen[1].header("webhook-id"), &seen[1].body));
}

// Row 22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let late = Act::Late(Duration::from_millis(400), Reply::new(200, "late"));
    let sink = Sink::start(vec![late]).await;
    let mut daemon = Daemon::start(&webhook("slow", &sink.url("/"))).await;
    let answer = daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    sink.wait_for(1).await;
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(status["balance"]["balanced"], true);
    assert_eq!(sink.seen().len(), 1, "what was in flight was finished, not sent again");
}

// Row 22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_does_not_wait_for_a_destination_that_hangs() {
    let sink = Sink::start(vec![Act::Hang]).await;
    let config = webhook("hangs", &sink.url("/")).replace("timeout = \"1s\"", "timeout = \"10m\"");
    let mut daemon = Daemon::start(&format!("{config}\n")).await;
    // A short drain, set where the test's own configuration has none.
    let text = std::fs::read_to_string(daemon.config()).unwrap().replace("[server]", "[server]\ndrain = \"500ms\"");
    daemon.terminate();
    std::fs::write(daemon.config(), text).unwrap();
    daemon.restart().await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    sink.wait_for(1).await;
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(5), "{took:?}");
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.restart().await;
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!(status["balance"]["balanced"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_deliveries_share_one_drain_time() {
    use tokio::io::AsyncWriteExt;
    let sink = Sink::start(vec![Act::Hang]).await;
    let config = webhook("hangs", &sink.url("/")).replace("timeout = \"1s\"", "timeout = \"10m\"");
    let mut daemon = Daemon::start(&config).await;
    daemon.terminate();
    let text = std::fs::read_to_string(daemon.config()).unwrap().replace("[server]", "[server]\ndrain = \"8s\"");
    std::fs::write(daemon.config(), text).unwrap();
    daemon.restart().await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"t-1"}"#).await;
    sink.wait_for(1).await;
    // A sender that never finishes its request, and a receiver that never answers.
    let mut sender = tokio::net::TcpStream::connect(("127.0.0.1", daemon.port)).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    sender.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(daemon.get("/healthz").await.status, 200, "the head has been read");
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(11), "{took:?} instead of 8 s");
}
