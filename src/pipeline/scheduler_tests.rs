//! Rules of the scheduler, one by one; the simulator checks them together.

#[path = "scheduler_control_tests.rs"]
mod controls;
#[path = "scheduler_gate_tests.rs"]
mod gates;
#[path = "scheduler_paging_tests.rs"]
mod pages;
#[path = "scheduler_room_tests.rs"]
mod rooms;

use super::*;
use crate::domain::delivery::{History, Phases, State};
use crate::domain::id::EventSeq;
use crate::domain::limits::LANE_UNSETTLED;
use crate::domain::outcome::{DeadReason, Disposition, RetryReason};
use crate::domain::pacing::{BreakerPolicy, RateLimit};
use crate::domain::retry::RetryPolicy;
use crate::domain::time::DurationMs;
use crate::pipeline::gate::LaneState;

const NOW: UnixMs = UnixMs(1_764_000_000_000);
const A: DestinationId = DestinationId(1);
const B: DestinationId = DestinationId(2);
const TRANSIENT: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };
const REFUSED: Verdict = Verdict::Permanent { reason: DeadReason::Invalid };

struct Dice;

impl Entropy for Dice {
    fn next_u64(&self) -> u64 {
        0
    }
}

struct Bench {
    scheduler: Scheduler,
    now: UnixMs,
    /// After which place a lane last asked for a page.
    after: BTreeMap<DestinationId, Option<OutboxCursor>>,
}

impl Bench {
    /// Two lanes of two exchanges each, whose outboxes were read to the end.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut Rules)) -> Self {
        let mut rules = Self::plain();
        change(&mut rules);
        let mut bench = Self::of(BTreeMap::from([(A, rules.clone()), (B, rules)]));
        assert_eq!(bench.step(Input::Tick).loads, [A, B]);
        for destination in [A, B] {
            bench.step(Input::Page { destination, rows: Vec::new(), end: true });
        }
        bench
    }

    fn plain() -> Rules {
        Rules {
            enabled: true,
            concurrency: 2,
            batch: 1,
            batch_wait: DurationMs::ZERO,
            hold_probe: DurationMs::from_secs(900),
            rate_limit: None,
            breaker: None,
            retry: RetryPolicy { jitter_permille: 0, ..RetryPolicy::default() },
        }
    }

    fn of(rules: BTreeMap<DestinationId, Rules>) -> Self {
        Self { scheduler: Scheduler::new(rules, NOW), now: NOW, after: BTreeMap::new() }
    }

    fn step(&mut self, input: Input) -> Done {
        let mut effects = Vec::new();
        self.scheduler.step(input, self.now, &Dice, &mut effects);
        let mut done = Done::default();
        for effect in effects {
            match effect {
                Effect::Send(batch) => {
                    let seqs: Vec<u64> = batch.iter().map(|owed| owed.key.seq.0).collect();
                    done.sent.extend(&seqs);
                    done.batches.push(seqs);
                }
                Effect::Settle(settle) => done.settled.push(*settle),
                Effect::Pause { destination, pause } => done.paused.push((destination, pause)),
                Effect::Load { destination, after, .. } => {
                    self.after.insert(destination, after);
                    done.loads.push(destination);
                }
            }
        }
        done
    }

    /// An exchange ended.
    fn ended(&mut self, key: DeliveryKey, verdict: Verdict) -> Done {
        self.all_ended(&[key], verdict, None)
    }

    /// An exchange of several ended with one answer, which is worth `attempts_max` attempts.
    fn all_ended(&mut self, keys: &[DeliveryKey], verdict: Verdict, attempts_max: Option<u32>) -> Done {
        let attempt = Attempt { verdict: verdict.as_str().to_owned(), ..attempt(1, self.now) };
        let end = || PartEnd::Exchanged { attempt: attempt.clone(), autopsy: autopsy() };
        let parts = keys.iter().map(|key| Part { key: *key, end: end() }).collect();
        let answer = Some(Judgement { verdict, detail: "why".to_owned(), attempts_max, warns: false });
        self.step(Input::Ended(Ended { answer, parts }))
    }

    /// No exchange was made.
    fn not_sent(&mut self, key: DeliveryKey, verdict: Verdict) -> Done {
        let part = Part { key, end: PartEnd::Unsent { verdict, autopsy: autopsy() } };
        self.step(Input::Ended(Ended { answer: None, parts: vec![part] }))
    }

    fn state(&self, destination: DestinationId) -> &LaneState {
        self.scheduler.lane(destination).expect("a lane").state()
    }
}

fn attempt(n: u32, at: UnixMs) -> Attempt {
    Attempt {
        n,
        at,
        took: DurationMs(1),
        http_status: None,
        verdict: String::new(),
        response: String::new(),
        left_out: Vec::new(),
        phases: Phases::default(),
        proxy: None,
        called: None,
    }
}

fn autopsy() -> Autopsy {
    Autopsy { detail: String::new(), request: None, http_status: None, response: String::new() }
}

#[derive(Default, Debug)]
struct Done {
    sent: Vec<u64>,
    /// The same, by exchange.
    batches: Vec<Vec<u64>>,
    settled: Vec<Settle>,
    loads: Vec<DestinationId>,
    paused: Vec<(DestinationId, Pause)>,
}

fn throttled(seconds: u64) -> Verdict {
    Verdict::Throttled { not_before: Some(NOW + DurationMs::from_secs(seconds)) }
}

fn key(destination: DestinationId, seq: u64) -> DeliveryKey {
    DeliveryKey { seq: EventSeq(seq), destination }
}

fn fresh(destination: DestinationId, seq: u64, due_at: UnixMs) -> Owed {
    Owed {
        key: key(destination, seq),
        due_at,
        state: State::Pending { due_at },
        history: History::new(NOW),
        target: "deposit".parse().expect("a name"),
        event: None,
    }
}

fn retry(destination: DestinationId, seq: u64, due_at: UnixMs) -> Owed {
    Owed {
        state: State::Failed { due_at, reason: RetryReason::Transient },
        history: History { exchanges: 1, counted: 1, counted_since_owed: 1, ..History::new(NOW) },
        ..fresh(destination, seq, due_at)
    }
}

// Row 53.
#[test]
fn a_lane_never_has_more_in_flight_than_it_may() {
    let mut bench = Bench::new();
    let owed = (1..=5).map(|seq| fresh(A, seq, NOW)).collect();
    assert_eq!(bench.step(Input::Owed(owed)).sent, [1, 2]);
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).sent, [3], "the permit is free when the exchange ends");
}

#[test]
fn a_lease_lasts_until_its_outcome_is_committed() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    let done = bench.ended(key(A, 1), Verdict::Delivered);
    assert_eq!(done.settled.len(), 1);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 1, NOW)])).sent, [0; 0], "it is still leased");
    bench.step(Input::Rescan);
    let page = Input::Page { destination: A, rows: vec![fresh(A, 1, NOW)], end: true };
    assert_eq!(bench.step(page).sent, [0; 0], "the outbox still shows it, and it is still leased");
    bench.step(Input::Settled { key: key(A, 1), owed: None });
    assert_eq!(bench.scheduler.lane(A).map(Lane::known), Some(0));
}

#[test]
fn a_retry_is_sent_when_it_is_due_and_not_before() {
    let mut bench = Bench::new();
    let due = NOW + DurationMs::from_secs(30);
    assert_eq!(bench.step(Input::Owed(vec![retry(A, 1, due)])).sent, [0; 0]);
    bench.now = due - DurationMs(1);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= due));
    bench.now = due;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
}

#[test]
fn a_draining_scheduler_sends_nothing_more() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.step(Input::Drain);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 2, NOW)])).sent, [0; 0]);
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).settled.len(), 1, "outcomes are still settled");
}

// Row 16: outcomes would be lost.
#[test]
fn a_halted_scheduler_sends_nothing_until_it_goes_on_and_settles_what_ends() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.step(Input::Halt);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 2, NOW), fresh(B, 3, NOW)])).sent, [0; 0]);
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).settled.len(), 1);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    assert_eq!(bench.scheduler.next_wake(), None, "there is nothing to wake up for");
    assert_eq!(bench.step(Input::Go).sent, [2, 3]);
}

#[test]
fn a_disabled_lane_parks_what_it_is_owed() {
    let rules = Rules {
        enabled: false,
        concurrency: 2,
        batch: 1,
        batch_wait: DurationMs::ZERO,
        hold_probe: DurationMs(1),
        rate_limit: None,
        breaker: None,
        retry: RetryPolicy::default(),
    };
    let mut bench = Bench::of(BTreeMap::from([(A, rules)]));
    let done = bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    assert!(done.sent.is_empty() && done.loads.is_empty());
}

#[test]
fn a_lane_stops_sending_while_outcomes_cannot_be_committed() {
    let mut bench = Bench::new();
    let mut waiting = bench.step(Input::Owed((1..5000).map(|seq| fresh(A, seq, NOW)).collect())).sent;
    let mut sent = waiting.clone();
    while let Some(seq) = waiting.pop() {
        let more = bench.ended(key(A, seq), Verdict::Delivered).sent;
        sent.extend(&more);
        waiting.extend(more);
    }
    assert!(sent.len() <= LANE_UNSETTLED + 2, "{} were sent that a crash would send again", sent.len());
    let more = bench.step(Input::Settled { key: key(A, sent[0]), owed: None }).sent;
    assert_eq!(more.len(), 1, "it goes on with the commits");
}

// Row 30.
#[test]
fn a_clock_that_is_set_back_brings_no_retry_early() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![retry(A, 1, NOW + DurationMs::from_secs(10))]));
    bench.now = NOW - DurationMs::from_hours(1);
    let due = bench.now + DurationMs::from_secs(30);
    let loads = bench.step(Input::Owed(vec![retry(A, 2, due)])).loads;
    assert_eq!(loads, [A, B], "everything is judged anew");
    let rows = vec![retry(A, 2, due), retry(A, 1, NOW + DurationMs::from_secs(10))];
    bench.step(Input::Page { destination: A, rows, end: true });
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    bench.now = due - DurationMs(1);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    bench.now = due;
    assert_eq!(bench.step(Input::Tick).sent, [2]);
    bench.now = NOW + DurationMs::from_secs(10);
    assert_eq!(bench.step(Input::Tick).sent, [1]);
}

// Rows 30 and 31.
#[test]
fn what_a_wrong_clock_planned_is_not_waited_for() {
    let mut bench = Bench::new();
    let year = NOW + DurationMs::from_days(365);
    let in_the_future = |owed: Owed| Owed { history: History { owed_since: year, ..owed.history }, ..owed };
    // Received by a clock a year ahead; and tried by it.
    assert_eq!(bench.step(Input::Owed(vec![in_the_future(fresh(A, 1, year))])).sent, [1]);
    assert_eq!(bench.step(Input::Owed(vec![in_the_future(retry(A, 2, year))])).sent, [2]);
    // What was made to wait after the clock was set back waits, although it came in later by the old clock.
    let waits = NOW + DurationMs::from_secs(30);
    let read_again = in_the_future(fresh(A, 3, waits));
    assert_eq!(bench.step(Input::Owed(vec![read_again])).sent, [0; 0]);
    // A hold of that clock left it in a place of its own.
    assert_eq!(bench.step(Input::Owed(vec![fresh(B, 1, year)])).sent, [1]);
}

#[test]
fn what_could_not_be_attempted_waits_and_stays_what_it_was() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    let later = NOW + DurationMs::from_secs(30);
    assert_eq!(bench.not_sent(key(A, 1), TRANSIENT).settled[0].disposition, Disposition::Keep { at: later });
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, later)) });
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    // Not for ever: what can never be read is seen in the DLQ in the end.
    bench.now = NOW + RetryPolicy::default().give_up_after;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
    let gave_up = Disposition::Dead { reason: DeadReason::GaveUp };
    assert_eq!(bench.not_sent(key(A, 1), TRANSIENT).settled[0].disposition, gave_up);
}

#[path = "batch_model_tests.rs"]
mod batch_model;
#[path = "batch_tests.rs"]
mod batches;
#[path = "isolation_tests.rs"]
mod isolation;
#[path = "outage_tests.rs"]
mod outages;
#[path = "reload_tests.rs"]
mod reloads;

/// Counts how often it is asked.
#[derive(Default)]
struct Counted(std::sync::atomic::AtomicU32);

impl Entropy for Counted {
    fn next_u64(&self) -> u64 {
        u64::from(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

#[test]
fn dice_are_rolled_for_what_failed_and_not_for_what_was_taken() {
    for (verdict, rolls) in [(Verdict::Delivered, 0), (TRANSIENT, 1), (throttled(5), 1)] {
        let (mut bench, dice) = (Bench::new(), Counted::default());
        bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
        let end = PartEnd::Exchanged { attempt: attempt(1, NOW), autopsy: autopsy() };
        let ended = Ended { answer: Some(Judgement::new(verdict, "why")), parts: vec![Part { key: key(A, 1), end }] };
        bench.scheduler.step(Input::Ended(ended), NOW, &dice, &mut Vec::new());
        assert_eq!(dice.0.into_inner(), rolls, "{verdict:?}");
    }
}
