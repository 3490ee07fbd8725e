//! Rules of the scheduler, one by one; the simulator checks them together.

#[path = "scheduler_control_tests.rs"]
mod controls;

use super::*;
use crate::domain::delivery::{History, State};
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
        let attempt = Attempt {
            n: 1,
            at: self.now,
            took: DurationMs(1),
            http_status: None,
            verdict: verdict.as_str().to_owned(),
            response: String::new(),
            left_out: Vec::new(),
        };
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

// Row 39.
#[test]
fn a_throttled_lane_waits_and_leaves_the_others_alone() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    let until = NOW + DurationMs::from_secs(120);
    bench.ended(key(A, 1), Verdict::Throttled { not_before: Some(until) });
    assert_eq!(
        bench.step(Input::Owed(vec![fresh(A, 2, NOW), fresh(B, 2, NOW)])).sent,
        [2],
        "only the other lane sends"
    );
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= until));
    bench.now = until;
    assert_eq!(bench.step(Input::Tick).sent, [2]);
}

#[test]
fn a_credential_fault_holds_the_lane_and_one_probe_releases_it() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    let done = bench.ended(key(A, 1), Verdict::DestinationFault);
    assert_eq!(done.settled.first().map(|settle| settle.disposition), Some(Disposition::Keep { at: NOW }));
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, NOW)) });
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 2, NOW), fresh(A, 3, NOW)])).sent, [0; 0]);
    bench.now = NOW + DurationMs::from_secs(900);
    let probe = bench.step(Input::Tick).sent;
    assert_eq!(probe.len(), 1, "one probe, whatever the concurrency");
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    let released = bench.ended(key(A, probe[0]), Verdict::Delivered);
    assert_eq!(released.sent.len(), 2);
    assert_eq!(bench.scheduler.lane(A).map(Lane::state), Some(&LaneState::Active));
}

#[test]
fn a_hold_does_not_count_towards_giving_up() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, NOW)) });
    // Four days held, and give_up_after is three.
    bench.now = NOW + DurationMs::from_days(4);
    let probe = bench.step(Input::Tick).sent[0];
    bench.ended(key(A, probe), Verdict::Delivered);
    let transient = Verdict::Transient { reason: RetryReason::Transient, not_before: None };
    let done = bench.ended(key(A, 2), transient);
    assert!(matches!(done.settled[0].disposition, Disposition::Retry { .. }), "{done:?}");
}

#[test]
fn a_page_read_before_a_commit_never_brings_back_what_was_settled() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    assert_eq!(bench.step(Input::Rescan).loads, [A, B]);
    // The page is being read while the outcome is committed.
    bench.ended(key(A, 1), Verdict::Delivered);
    bench.step(Input::Settled { key: key(A, 1), owed: None });
    let page = Input::Page { destination: A, rows: vec![fresh(A, 1, NOW)], end: true };
    assert_eq!(bench.step(page).sent, [0; 0]);
}

#[test]
fn a_row_committed_while_a_page_is_read_is_read_by_the_next() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    let due = NOW + DurationMs::from_secs(30);
    bench.step(Input::Owed(vec![retry(A, 1, due)]));
    let again = bench.step(Input::Page { destination: A, rows: Vec::new(), end: true });
    assert_eq!(again.loads, [A], "the page could not know the row");
}

#[test]
fn fresh_deliveries_do_not_wait_behind_a_backlog_on_disk() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 9, NOW)])).sent, [9]);
}

// Row 38.
#[test]
fn memory_does_not_grow_with_what_is_owed() {
    let mut bench = Bench::new();
    for seq in 1..200_000 {
        bench.step(Input::Owed(vec![fresh(A, seq, NOW), retry(B, seq, NOW + DurationMs(seq))]));
    }
    for destination in [A, B] {
        let known = bench.scheduler.lane(destination).map_or(0, Lane::known);
        assert!((1..=2 * LANE_ENTRIES_MAX).contains(&known), "{known}");
    }
}

#[test]
fn a_draining_scheduler_sends_nothing_more() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.step(Input::Drain);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 2, NOW)])).sent, [0; 0]);
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).settled.len(), 1, "outcomes are still settled");
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

const TRANSIENT: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };

/// A bench whose lane A is open after two failures in a row, with deliveries 3 to 9 waiting.
fn open_lane() -> Bench {
    let policy = BreakerPolicy { failures: 2, ..BreakerPolicy::default() };
    let mut bench = Bench::with(|rules| rules.breaker = Some(policy));
    bench.step(Input::Owed((1..=9).map(|seq| fresh(A, seq, NOW)).collect()));
    assert_eq!(bench.ended(key(A, 1), TRANSIENT).sent, [3], "one failure is none");
    assert_eq!(bench.ended(key(A, 2), TRANSIENT).sent, [0; 0], "the second opens the circuit");
    bench.ended(key(A, 3), TRANSIENT);
    bench
}

// Row 52.
#[test]
fn an_open_circuit_spends_no_attempts_but_one_probe_at_a_time() {
    let mut bench = open_lane();
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    bench.now = NOW + DurationMs::from_secs(30);
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= bench.now));
    assert_eq!(bench.step(Input::Tick).sent, [4]);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    assert_eq!(bench.ended(key(A, 4), Verdict::Delivered).sent, [5, 6], "a probe that goes through closes it");
}

// Row 52.
#[test]
fn the_pause_between_probes_grows_to_its_bound() {
    let mut bench = open_lane();
    let mut pauses = Vec::new();
    for probe in 4..=9 {
        let LaneState::Open { pause, probe_at, .. } = bench.scheduler.lane(A).expect("a lane").state().clone() else {
            panic!("the circuit is open");
        };
        pauses.push(pause.0 / 1000);
        bench.now = probe_at;
        assert_eq!(bench.step(Input::Tick).sent, [probe]);
        bench.ended(key(A, probe), TRANSIENT);
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600]);
}

// Row 39.
#[test]
fn an_open_circuit_is_one_lanes_own() {
    let mut bench = open_lane();
    assert_eq!(bench.step(Input::Owed(vec![fresh(B, 1, NOW)])).sent, [1]);
}

#[test]
fn a_rate_limit_spreads_attempts_and_wakes_the_lane_again() {
    let limit = RateLimit { count: 2, per: DurationMs::from_secs(1) };
    let mut bench = Bench::with(|rules| {
        rules.rate_limit = Some(limit);
        rules.concurrency = 100;
    });
    let mut sent = bench.step(Input::Owed((1..=21).map(|seq| fresh(A, seq, NOW)).collect())).sent.len();
    assert_eq!(sent, 1);
    while let Some(wake) = bench.scheduler.next_wake()
        && wake <= NOW + DurationMs::from_secs(5)
    {
        assert!(wake > bench.now, "time must pass");
        bench.now = wake;
        sent += bench.step(Input::Tick).sent.len();
    }
    assert!((10..=12).contains(&sent), "{sent} in five seconds at two a second");
}

const REFUSED: Verdict = Verdict::Permanent { reason: DeadReason::Invalid };

fn throttled(seconds: u64) -> Verdict {
    Verdict::Throttled { not_before: Some(NOW + DurationMs::from_secs(seconds)) }
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
    // A replay that is spread over a year is meant so.
    assert_eq!(bench.step(Input::Owed(vec![fresh(B, 1, year)])).sent, [0; 0]);
}

#[test]
fn the_longest_patience_asked_for_holds() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW)]));
    bench.ended(key(A, 1), throttled(600));
    bench.ended(key(A, 2), throttled(60));
    assert_eq!(*bench.state(A), LaneState::Throttled { until: NOW + DurationMs::from_secs(600) });
}

#[test]
fn a_lane_is_patient_even_if_the_delivery_that_was_told_is_dead() {
    let rules = Rules {
        enabled: true,
        concurrency: 1,
        batch: 1,
        batch_wait: DurationMs::ZERO,
        hold_probe: DurationMs(1),
        rate_limit: None,
        breaker: None,
        retry: RetryPolicy { max_attempts: 1, ..RetryPolicy::default() },
    };
    let mut bench = Bench::of(BTreeMap::from([(A, rules)]));
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW)]));
    let done = bench.ended(key(A, 1), throttled(600));
    assert!(matches!(done.settled[0].disposition, Disposition::Dead { .. }));
    assert_eq!(done.sent, [0; 0], "the next would meet the same answer");
    bench.now = NOW + DurationMs::from_secs(600);
    assert_eq!(bench.step(Input::Tick).sent, [2]);
}

#[test]
fn a_probe_that_cannot_be_sent_tells_nothing_and_the_next_one_probes() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Owed((2..6).map(|seq| fresh(A, seq, NOW)).collect()));
    bench.now = NOW + DurationMs::from_secs(900);
    assert_eq!(bench.step(Input::Tick).sent, [2]);
    assert_eq!(bench.not_sent(key(A, 2), REFUSED).sent, [3], "one probe, not as many as the lane may send");
    assert_eq!(bench.ended(key(A, 3), Verdict::DestinationFault).sent, [0; 0]);
    assert!(matches!(bench.state(A), LaneState::Held { probing: None, .. }));
}

#[test]
fn an_answer_from_before_the_hold_does_not_hide_the_probe() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Owed(vec![fresh(A, 3, NOW)]));
    bench.now = NOW + DurationMs::from_secs(900);
    assert_eq!(bench.step(Input::Tick).sent, [3]);
    bench.ended(key(A, 2), Verdict::DestinationFault);
    bench.ended(key(A, 3), Verdict::Delivered);
    assert_eq!(*bench.state(A), LaneState::Active);
}

#[test]
fn a_probe_that_fails_otherwise_is_repeated_later() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW), fresh(A, 3, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.now = NOW + DurationMs::from_secs(900);
    assert_eq!(bench.step(Input::Tick).sent, [3]);
    assert_eq!(bench.ended(key(A, 3), TRANSIENT).sent, [0; 0]);
    let probe_at = bench.now + DurationMs::from_secs(900);
    assert!(matches!(bench.state(A), LaneState::Held { probe_at: at, probing: None, .. } if *at == probe_at));
}

#[test]
fn a_backlog_of_retries_does_not_keep_out_what_has_just_come_in() {
    let mut bench = Bench::new();
    let capacity = u64::try_from(LANE_ENTRIES_MAX).expect("small");
    // As many retries as may wait, all due at once, and as many again.
    let due = NOW + DurationMs::from_secs(30);
    bench.step(Input::Owed((1..=capacity).map(|seq| retry(A, seq, due)).collect()));
    bench.now = due;
    let first = bench.step(Input::Tick).sent;
    assert_eq!(first.len(), 2);
    bench.step(Input::Owed((1..=10).map(|seq| retry(A, capacity + seq, due)).collect()));
    bench.step(Input::Owed(vec![fresh(A, 1_000_000, due)]));
    let mut sent = bench.ended(key(A, first[0]), TRANSIENT).sent;
    sent.extend(bench.ended(key(A, first[1]), TRANSIENT).sent);
    assert!(sent.contains(&1_000_000), "one for one: {sent:?}");
}

#[test]
fn a_page_that_could_not_be_read_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    bench.step(Input::Owed(vec![retry(A, 1, NOW + DurationMs::from_secs(30))]));
    assert_eq!(bench.step(Input::PageFailed { destination: A }).loads, [A]);
    let rows = vec![retry(A, 1, NOW)];
    assert_eq!(bench.step(Input::Page { destination: A, rows, end: true }).sent, [1]);
}

#[test]
fn an_outbox_larger_than_memory_is_read_page_by_page_to_its_end() {
    let mut bench = Bench::new();
    let total = u64::try_from(3 * LANE_ENTRIES_MAX).expect("small");
    let mut outbox: BTreeMap<u64, Owed> = (1..=total).map(|seq| (seq, retry(A, seq, NOW))).collect();
    let mut loads = bench.step(Input::Rescan).loads;
    let mut pages = 0;
    while !outbox.is_empty() {
        assert!(loads.contains(&A), "{} rows are never read", outbox.len());
        pages += 1;
        let after = bench.after[&A].map_or(0, |cursor| cursor.seq.0);
        let rows: Vec<Owed> = outbox.range(after + 1..).take(PAGE_ROWS).map(|(_, owed)| owed.clone()).collect();
        let end = rows.len() < PAGE_ROWS;
        let done = bench.step(Input::Page { destination: A, rows, end });
        let mut sent = done.sent;
        loads = done.loads;
        while let Some(seq) = sent.pop() {
            sent.extend(bench.ended(key(A, seq), Verdict::Delivered).sent);
            assert!(outbox.remove(&seq).is_some(), "{seq} was sent twice");
            let done = bench.step(Input::Settled { key: key(A, seq), owed: None });
            sent.extend(done.sent);
            loads.extend(done.loads);
        }
    }
    assert!(pages <= total / 256, "{pages} pages: it spins");
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

#[test]
fn what_found_no_room_is_asked_for_when_there_is_room() {
    let mut bench = Bench::new();
    let mut sent = bench.step(Input::Owed((1..=20_000).map(|seq| fresh(A, seq, NOW)).collect())).sent;
    let mut loads = Vec::new();
    while let Some(seq) = sent.pop() {
        let ended = bench.ended(key(A, seq), Verdict::Delivered);
        let settled = bench.step(Input::Settled { key: key(A, seq), owed: None });
        for done in [ended, settled] {
            sent.extend(done.sent);
            loads.extend(done.loads);
        }
    }
    assert_eq!(loads, [A], "the outbox holds what memory could not");
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
