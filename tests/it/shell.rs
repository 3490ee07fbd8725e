//! The async shell around scheduler and store, on a wire that does what it is told, a panic included.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postbackd::config::snapshot::{NetworkPolicy, Snapshot};
use postbackd::destination::registry::{Spec, build};
use postbackd::destination::webhook::WebhookSpec;
use postbackd::domain::audit::{Deed, Right, Who};
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::delivery::{Delivery, State};
use postbackd::domain::event::{Event, OccurredAt};
use postbackd::domain::id::{DeliveryKey, EventSeq};
use postbackd::domain::job::JobKind;
use postbackd::domain::json_object::JsonObject;
use postbackd::domain::name::DestinationName;
use postbackd::domain::net::AllowPrivate;
use postbackd::domain::retry::RetryPolicy;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::Env;
use postbackd::env::clock::SystemClock;
use postbackd::env::entropy::SystemEntropy;
use postbackd::env::transport::{Answer, Exchange, ExchangeFuture, Method, Request, Trail, Transport};
use postbackd::pipeline::{Incoming, Receipt, Running, Unavailable, start};
use postbackd::store::read::Reader;
use postbackd::store::{Options, Store};

use crate::support::daemon::PATIENCE;
use crate::support::destinations::snapshot;

/// What the wire does with one request; 200 when the script has ended.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(u16),
    Hang,
    Panic,
}

#[derive(Debug)]
struct Wire {
    script: Mutex<VecDeque<Act>>,
    /// Exchanges that were begun.
    begun: Arc<AtomicUsize>,
}

impl Transport for Wire {
    fn exchange<'a>(&'a self, _: &'a DestinationName, _: u64, _: Request) -> ExchangeFuture<'a> {
        let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::Answer(200));
        self.begun.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let status = match act {
                Act::Answer(status) => status,
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("as the script says"),
            };
            Exchange {
                took: DurationMs(1),
                trail: Trail::default(),
                result: Ok(Answer { status, ..Answer::default() }),
            }
        })
    }
}

struct Bench {
    running: Running,
    reader: Reader,
    begun: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
}

/// Exchanges at a time, where a test says nothing else.
const TURNS: usize = 100;

fn config() -> Snapshot {
    config_of(&["there"])
}

fn config_of(names: &[&str]) -> Snapshot {
    let network =
        NetworkPolicy { timeout: DurationMs::from_secs(60), allow_private: AllowPrivate::No, proxies: Vec::new() };
    let mut config = snapshot(names.iter().map(|name| (*name, network.clone())).collect());
    config.storage.reserve = Some(0);
    for destination in config.destinations.values_mut() {
        let destination = Arc::get_mut(destination).unwrap();
        destination.retry = RetryPolicy { first: DurationMs(10), ..RetryPolicy::default() };
        destination.adapter = build(Spec::Webhook(WebhookSpec {
            url: "https://there.example/".parse().unwrap(),
            method: Method::Post,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            include_user: Vec::new(),
            template: None,
            hidden: Vec::new(),
        }))
        .unwrap();
    }
    config
}

fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, Options { cache: 1 << 20 }, &SystemEntropy).unwrap()
}

impl Bench {
    fn new(script: &[Act]) -> Self {
        Self::with_turns(script, TURNS)
    }

    fn with_turns(script: &[Act], turns: usize) -> Self {
        let begun = Arc::<AtomicUsize>::default();
        let wire = Wire { script: Mutex::new(script.iter().copied().collect()), begun: Arc::clone(&begun) };
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut config = config();
        dir.path().clone_into(&mut config.storage.path);
        let env =
            Env { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy), transport: Arc::new(wire) };
        let running = start(store, Arc::new(config), env, turns).unwrap();
        let reader = running.pipeline.reader().clone();
        Self { running, reader, begun, dir }
    }

    /// Hands in an event; where its one delivery is.
    async fn ingest(&self, id: &str) -> DeliveryKey {
        let receipts = self.hand_in(id).await.unwrap();
        let [Receipt::Queued { id, .. }] = receipts[..] else { panic!("{receipts:?}") };
        self.key(id.seq)
    }

    async fn hand_in(&self, id: &str) -> Result<Vec<Receipt>, Unavailable> {
        let event = Event {
            source: "app".parse().unwrap(),
            canonical: "deposit".parse().unwrap(),
            event_id: Some(id.to_owned()),
            uid: None,
            occurred_at: OccurredAt::Given(UnixMs(1_764_000_000_000)),
            received_at: UnixMs(1_764_000_000_000),
            value: None,
            currency: None,
            action_source: None,
            user: JsonObject::default(),
            click: JsonObject::default(),
            page: JsonObject::default(),
            data: JsonObject::default(),
        };
        let discriminator = Discriminator::EventId(id.to_owned());
        let content = self.running.pipeline.hash_key().content(&event);
        let incoming = Incoming { event, discriminator, content };
        self.running.pipeline.ingest(vec![incoming]).await
    }

    fn key(&self, seq: EventSeq) -> DeliveryKey {
        let destination = *self.running.pipeline.destination_ids().values().next().unwrap();
        DeliveryKey { seq, destination }
    }

    async fn wait_for(&self, key: DeliveryKey, wanted: impl Fn(&Delivery) -> bool) -> Delivery {
        let started = Instant::now();
        loop {
            let delivery = self.reader.delivery(key).unwrap().unwrap();
            if wanted(&delivery) {
                return delivery;
            }
            assert!(started.elapsed() < PATIENCE, "it never gets there: {delivery:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn is_sent(delivery: &Delivery) -> bool {
    matches!(delivery.state, State::Sent { .. })
}

// Row 26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_panics_counts_and_is_tried_again() {
    let bench = Bench::new(&[Act::Panic, Act::Panic, Act::Answer(503)]);
    let key = bench.ingest("a").await;
    // Received long ago, so `give_up_after` has passed: the first failure is the end, and the operator replays.
    let dead = bench.wait_for(key, |delivery| matches!(delivery.state, State::FailedPermanently { .. })).await;
    assert_eq!((dead.history.counted, dead.history.exchanges), (1, 1));
    let deed = Deed::new(Who::nobody(Right::Signal), "replay");
    let replayed = bench.running.pipeline.change_dead(JobKind::Replay, vec![key], "a test".to_owned(), deed).await;
    assert_eq!(replayed, Ok(1));
    let sent = bench.wait_for(key, is_sent).await;
    assert_eq!((sent.history.counted, sent.history.exchanges), (4, 4), "two panics, a 503, a 200");
    let (_, _, attempts) = bench.reader.trace(key.seq).unwrap().remove(0);
    let verdicts: Vec<&str> = attempts.iter().map(|attempt| attempt.verdict.as_str()).collect();
    assert_eq!(verdicts, ["ambiguous", "ambiguous", "transient", "delivered"]);
    assert_eq!(bench.running.pipeline.metrics().panics(), 2);
    bench.running.stop(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_off_what_hangs_and_keeps_it_owed() {
    let bench = Bench::new(&[Act::Hang, Act::Answer(200)]);
    let hangs = bench.ingest("a").await;
    let fine = bench.ingest("b").await;
    bench.wait_for(fine, is_sent).await;
    let started = Instant::now();
    bench.running.stop(Duration::from_millis(50)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    let store = open(bench.dir.path());
    let delivery = store.reader().delivery(hangs).unwrap().unwrap();
    assert!(matches!(delivery.state, State::Pending { .. }), "{delivery:?}");
    assert_eq!(delivery.history.exchanges, 0, "an attempt that was cut off is none");
    assert_eq!(store.reader().verify().unwrap(), Vec::<String>::new());
}

// Row 29: with fewer turns than the lane has places, what is beyond them waits, and that is no attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_the_daemon_stops_is_refused_and_what_is_under_way_ends() {
    let bench = Bench::new(&[Act::Answer(200)]);
    let taken = bench.ingest("a").await;
    bench.running.refuse_new();
    assert!(matches!(bench.hand_in("b").await, Err(Unavailable::Stopping)));
    assert!(bench.running.pipeline.is_stopping());
    bench.wait_for(taken, is_sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_beyond_the_turns_wait_and_spend_nothing() {
    let bench = Bench::with_turns(&[Act::Hang, Act::Hang], 2);
    let hanging = [bench.ingest("a").await, bench.ingest("b").await];
    let started = Instant::now();
    while bench.begun.load(Ordering::SeqCst) < 2 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let waiting = [bench.ingest("c").await, bench.ingest("d").await];
    let name: DestinationName = "there".parse().unwrap();
    let in_flight = || bench.running.pipeline.lanes().get(&name).map(|lane| lane.in_flight);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((bench.begun.load(Ordering::SeqCst), in_flight()), (2, Some(2)), "the lane knows how many it has");
    bench.running.stop(Duration::from_millis(50)).await.unwrap();
    let store = open(bench.dir.path());
    for key in hanging.into_iter().chain(waiting) {
        let delivery = store.reader().delivery(key).unwrap().unwrap();
        assert!(matches!(delivery.state, State::Pending { .. }), "{delivery:?}");
        assert_eq!(delivery.history.exchanges, 0);
    }
}

/// On one thread the driver finds the new configuration and the order at the same moment, in no particular order.
#[tokio::test]
async fn an_operator_can_speak_to_a_destination_as_soon_as_it_is_configured() {
    let bench = Bench::new(&[]);
    let pipeline = &bench.running.pipeline;
    for n in 0..20 {
        let name = format!("new-{n}");
        let config = config_of(&["there", &name]);
        let numbered = pipeline.number(config.destinations.keys().cloned().collect()).await.unwrap();
        pipeline.reload(Arc::new(config), numbered);
        let id = pipeline.destination_ids()[&name.parse::<DestinationName>().unwrap()];
        assert_eq!(pipeline.release(id).await.map(|lane| lane.state), Ok("active"), "{name}");
    }
    bench.running.stop(Duration::from_secs(10)).await.unwrap();
}
