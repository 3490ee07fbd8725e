//! What destinations say and how their lanes take it: patience, holds, circuits, probes, rates.

use super::*;

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

// Row 74: what the proxies did says nothing about the destination, whichever of them failed and how often.
#[test]
fn a_proxys_failures_bring_no_circuit_nearer_to_opening() {
    let breaker = Some(BreakerPolicy { failures: 3, min: 3, ..BreakerPolicy::default() });
    let mut bench = Bench::with(|rules| rules.breaker = breaker);
    bench.step(Input::Owed((1..=20).map(|seq| fresh(A, seq, NOW)).collect()));
    for seq in [1, 2, 3, 4] {
        // Another proxy works, so the lane goes on at once.
        bench.ended(key(A, seq), Verdict::ProxyFault { usable_at: NOW });
    }
    bench.ended(key(A, 5), TRANSIENT);
    bench.ended(key(A, 6), TRANSIENT);
    assert_eq!(*bench.state(A), LaneState::Active, "two of its own are not three");
    bench.ended(key(A, 7), TRANSIENT);
    assert!(matches!(bench.state(A), LaneState::Open { .. }));
}
