//! Rules that keep what has just come in quick, and a destination that has just come back standing.

use super::*;

fn wide(concurrency: usize) -> Bench {
    Bench::with(move |rules| rules.concurrency = concurrency)
}

/// `count` deliveries that have waited before, as a page of the outbox brings them.
fn backlog(bench: &mut Bench, count: u64) -> Vec<u64> {
    let rows: Vec<Owed> = (1..=count).map(|seq| retry(A, seq, NOW)).collect();
    bench.step(Input::Owed(rows)).sent
}

// Row 53.
#[test]
fn a_slow_backlog_leaves_permits_for_what_has_just_come_in() {
    let mut bench = wide(16);
    assert_eq!(backlog(&mut bench, 100).len(), 14, "two of sixteen are kept");
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 1000, NOW), fresh(A, 1001, NOW)])).sent, [1000, 1001]);
    assert!(bench.step(Input::Owed(vec![fresh(A, 1002, NOW)])).sent.is_empty(), "no more than sixteen");
    assert_eq!(bench.ended(key(A, 1000), Verdict::Delivered).sent, [1002], "a kept permit goes to the fresh one");
    assert!(bench.ended(key(A, 1001), Verdict::Delivered).sent.is_empty(), "and to nobody else");
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).sent.len(), 1, "the backlog goes on with its own");
}

#[test]
fn what_is_read_from_the_outbox_is_backlog_also_where_it_was_never_tried() {
    let mut bench = Bench::of(BTreeMap::from([(A, Rules { concurrency: 16, ..Bench::plain() })]));
    bench.step(Input::Tick);
    let rows = (1..=100).map(|seq| fresh(A, seq, NOW)).collect();
    let sent = bench.step(Input::Page { destination: A, rows, end: true }).sent;
    assert_eq!(sent.len(), 14, "after days of an outage all of it is new to the destination, and none of it is fresh");
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 1000, NOW)])).sent, [1000]);
}

#[test]
fn a_narrow_lane_takes_turns() {
    let mut bench = wide(2);
    assert_eq!(backlog(&mut bench, 10), [1, 2]);
    bench.step(Input::Owed(vec![fresh(A, 1000, NOW), fresh(A, 1001, NOW)]));
    let mut sent = bench.ended(key(A, 1), Verdict::Delivered).sent;
    sent.extend(bench.ended(key(A, 2), Verdict::Delivered).sent);
    assert!(sent.contains(&1000) && !sent.contains(&1001), "one for one: {sent:?}");
}

// Row 38.
#[test]
fn a_destination_that_comes_back_is_met_gently() {
    let mut bench = Bench::with(|rules| {
        rules.concurrency = 16;
        rules.breaker = Some(BreakerPolicy { failures: 2, ..BreakerPolicy::default() });
    });
    let mut in_flight = bench.step(Input::Owed((1..=200).map(|seq| fresh(A, seq, NOW)).collect())).sent;
    assert_eq!(in_flight.len(), 16);
    while let Some(seq) = in_flight.pop() {
        in_flight.extend(bench.ended(key(A, seq), TRANSIENT).sent);
    }
    assert!(matches!(bench.state(A), LaneState::Open { .. }));
    bench.now = NOW + DurationMs::from_secs(31);
    let probe = bench.step(Input::Tick).sent;
    assert_eq!(probe.len(), 1);
    let mut round = bench.ended(key(A, probe[0]), Verdict::Delivered).sent;
    let mut sizes = vec![round.len()];
    for _ in 0..4 {
        let mut next = Vec::new();
        for seq in round {
            next.extend(bench.ended(key(A, seq), Verdict::Delivered).sent);
        }
        sizes.push(next.len());
        round = next;
    }
    assert_eq!(sizes, [2, 4, 8, 16, 16]);
}
