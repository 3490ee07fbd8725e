//! Rules of the scheduler, one by one; the simulator checks them together.

use super::*;
use crate::domain::delivery::{History, State};
use crate::domain::id::EventSeq;
use crate::domain::outcome::{DeadReason, RetryReason};
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
}

impl Bench {
    /// Two lanes of two exchanges each, whose outboxes were read to the end.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut Rules)) -> Self {
        let mut rules = Rules {
            enabled: true,
            concurrency: 2,
            hold_probe: DurationMs::from_secs(900),
            rate_limit: None,
            breaker: None,
            retry: RetryPolicy { jitter_permille: 0, ..RetryPolicy::default() },
        };
        change(&mut rules);
        let rules = BTreeMap::from([(A, rules.clone()), (B, rules)]);
        let mut bench = Self { scheduler: Scheduler::new(rules, NOW), now: NOW };
        assert_eq!(bench.step(Input::Tick).loads, [A, B]);
        for destination in [A, B] {
            bench.step(Input::Page { destination, rows: Vec::new(), end: true });
        }
        bench
    }

    fn step(&mut self, input: Input) -> Done {
        let mut effects = Vec::new();
        self.scheduler.step(input, self.now, &Dice, &mut effects);
        let mut done = Done::default();
        for effect in effects {
            match effect {
                Effect::Send(owed) => done.sent.push(owed.key.seq.0),
                Effect::Settle(settle) => done.settled.push(settle),
                Effect::Load { destination, .. } => done.loads.push(destination),
            }
        }
        done
    }

    fn ended(&mut self, key: DeliveryKey, verdict: Verdict) -> Done {
        let autopsy = Autopsy { detail: String::new(), request: None, http_status: None, response: String::new() };
        let attempt = Some(Attempt {
            n: 1,
            at: self.now,
            took: DurationMs(1),
            http_status: None,
            verdict: verdict.as_str().to_owned(),
            response: String::new(),
        });
        self.step(Input::Ended(Ended { key, verdict, detail: "why".to_owned(), attempt, autopsy }))
    }

    /// The delivery turned out to be one no request can be made of.
    fn unsendable(&mut self, key: DeliveryKey) -> Done {
        let autopsy = Autopsy { detail: String::new(), request: None, http_status: None, response: String::new() };
        let verdict = Verdict::Permanent { reason: DeadReason::Expired };
        self.step(Input::Ended(Ended { key, verdict, detail: "why".to_owned(), attempt: None, autopsy }))
    }
}

#[derive(Default, Debug)]
struct Done {
    sent: Vec<u64>,
    settled: Vec<Settle>,
    loads: Vec<DestinationId>,
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
        hold_probe: DurationMs(1),
        rate_limit: None,
        breaker: None,
        retry: RetryPolicy::default(),
    };
    let mut bench = Bench { scheduler: Scheduler::new(BTreeMap::from([(A, rules)]), NOW), now: NOW };
    let done = bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    assert!(done.sent.is_empty() && done.loads.is_empty());
}

const FAILED: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };

/// A bench whose lane A is open after two failures in a row, with deliveries 3 to 9 waiting.
fn open_lane() -> Bench {
    let policy = BreakerPolicy { failures: 2, ..BreakerPolicy::default() };
    let mut bench = Bench::with(|rules| rules.breaker = Some(policy));
    bench.step(Input::Owed((1..=9).map(|seq| fresh(A, seq, NOW)).collect()));
    assert_eq!(bench.ended(key(A, 1), FAILED).sent, [3], "one failure is none");
    assert_eq!(bench.ended(key(A, 2), FAILED).sent, [0; 0], "the second opens the circuit");
    bench.ended(key(A, 3), FAILED);
    bench
}

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
        bench.ended(key(A, probe), FAILED);
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600]);
}

#[test]
fn an_open_circuit_is_one_lanes_own() {
    let mut bench = open_lane();
    assert_eq!(bench.step(Input::Owed(vec![fresh(B, 1, NOW)])).sent, [1]);
}

#[test]
fn a_probe_that_could_not_be_sent_releases_nothing() {
    let mut bench = Bench::new();
    bench.step(Input::Owed((1..=3).map(|seq| fresh(A, seq, NOW)).collect()));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.ended(key(A, 2), Verdict::DestinationFault);
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, NOW)) });
    bench.now = NOW + DurationMs::from_secs(900);
    assert_eq!(bench.step(Input::Tick).sent, [3]);
    assert_eq!(bench.unsendable(key(A, 3)).sent, [1], "the next delivery is the probe instead");
    assert!(matches!(bench.scheduler.lane(A).map(Lane::state), Some(LaneState::Held { .. })));
}

#[test]
fn a_shorter_patience_does_not_shorten_a_longer_one() {
    let mut bench = Bench::new();
    bench.step(Input::Owed((1..=3).map(|seq| fresh(A, seq, NOW)).collect()));
    let until = NOW + DurationMs::from_secs(300);
    bench.ended(key(A, 1), Verdict::Throttled { not_before: Some(until) });
    bench.ended(key(A, 2), Verdict::Throttled { not_before: None });
    assert_eq!(bench.scheduler.lane(A).map(Lane::state), Some(&LaneState::Throttled { until }));
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
