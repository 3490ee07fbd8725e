//! What there is room for in memory, and when the scheduler wants to be woken.

use super::*;
use crate::domain::limits::LANE_ENTRIES_MAX;
use crate::domain::pause::PausedBy;
use crate::domain::retry::RETRY_AFTER_MAX;

fn room() -> u64 {
    u64::try_from(LANE_ENTRIES_MAX).expect("small")
}

fn known(bench: &Bench) -> u64 {
    let known = bench.scheduler.lane(A).map_or(0, Lane::known);
    u64::try_from(known).expect("small")
}

fn paused() -> Input {
    let pause = Pause { since: NOW, until: None, reason: "stock is counted".to_owned(), by: PausedBy::Operator };
    Input::Control(Control::Paused { destination: A, pause })
}

#[test]
fn many_lanes_share_the_room() {
    let lanes = |count| (1..=count).map(|n| (DestinationId(n), Bench::plain())).collect();
    for (count, room) in [(1, LANE_ENTRIES_MAX), (64, SCHEDULER_ENTRIES / 64), (10_000, LANE_ENTRIES_MIN)] {
        assert_eq!(Scheduler::new(lanes(count), NOW).capacity, room, "{count} lanes");
    }
}

#[test]
fn each_part_of_a_lane_is_filled_to_its_room_and_no_further() {
    let mut bench = Bench::new();
    bench.step(paused());
    bench.step(Input::Owed((1..=room() + 5).map(|seq| retry(A, seq, NOW)).collect()));
    assert_eq!(known(&bench), room());
    let late = NOW + DurationMs::from_secs(60);
    bench.step(Input::Page { destination: A, rows: Vec::new(), end: true });
    bench.step(Input::Owed((1..=room() + 5).map(|seq| retry(A, 1_000_000 + seq, late)).collect()));
    assert_eq!(known(&bench), 2 * room());
}

#[test]
fn fresh_ones_beyond_half_of_the_room_wait_for_their_page() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    bench.step(Input::Owed((1..=room()).map(|seq| fresh(A, seq, NOW)).collect()));
    assert_eq!(known(&bench), room() / 2);
}

#[test]
fn a_retry_does_not_pass_what_is_older_on_disk() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    assert_eq!(bench.step(Input::Owed(vec![retry(A, 1, NOW)])).sent, [0; 0]);
}

#[test]
fn a_page_brings_events_unless_the_lane_is_shut() {
    let mut bench = Bench::new();
    let bytes = |bench: &mut Bench| {
        let mut effects = Vec::new();
        bench.scheduler.step(Input::Rescan, NOW, &Dice, &mut effects);
        let load = effects.iter().find_map(|effect| match effect {
            Effect::Load { destination, bodies, .. } if *destination == A => Some(bodies.bytes),
            Effect::Load { .. } | Effect::Send(_) | Effect::Settle(_) | Effect::Pause { .. } => None,
        });
        bench.step(Input::Page { destination: A, rows: Vec::new(), end: true });
        load.expect("a page of it is asked for")
    };
    assert!(bytes(&mut bench) > 1024 * 1024);
    bench.step(paused());
    assert_eq!(bytes(&mut bench), 0);
}

#[test]
fn a_place_on_the_wheel_that_was_overtaken_means_nothing() {
    let mut bench = Bench::new();
    let (first, second) = (NOW + DurationMs::from_secs(60), NOW + DurationMs::from_secs(120));
    bench.step(Input::Owed(vec![retry(A, 1, first)]));
    for enabled in [false, true] {
        let rules = BTreeMap::from([(A, Rules { enabled, ..Bench::plain() }), (B, Bench::plain())]);
        bench.step(Input::Rules { rules, changed: BTreeSet::from([A]), pauses: Pauses::new() });
    }
    bench.step(Input::Page { destination: A, rows: vec![retry(A, 1, second)], end: true });
    bench.now = first;
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    bench.now = second;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
}

#[test]
fn one_permit_of_four_is_kept_for_what_has_just_come_in() {
    for (concurrency, backlog) in [(3, 3), (4, 3), (16, 14)] {
        let mut bench = Bench::with(|rules| rules.concurrency = concurrency);
        let sent = bench.step(Input::Owed((1..=20).map(|seq| retry(A, seq, NOW)).collect())).sent;
        assert_eq!(sent.len(), backlog, "of {concurrency}");
        let fresh = bench.step(Input::Owed(vec![fresh(A, 99, NOW)])).sent;
        assert_eq!(fresh.len(), usize::from(concurrency > backlog), "of {concurrency}");
    }
}

#[test]
fn a_lane_without_a_free_permit_wakes_nobody() {
    let mut bench = Bench::with(|rules| {
        rules.rate_limit = Some(RateLimit { count: 10, per: DurationMs::from_secs(1) });
    });
    bench.step(Input::Owed((1..=5).map(|seq| fresh(A, seq, NOW)).collect()));
    bench.now = NOW + DurationMs::from_secs(5);
    bench.step(Input::Tick);
    assert_eq!(bench.scheduler.in_flight(), 2);
    assert_eq!(bench.scheduler.next_wake(), None, "the end of an exchange does");
}

#[test]
fn who_drains_or_is_halted_is_not_woken() {
    let mut bench = Bench::new();
    let due = NOW + DurationMs::from_secs(30);
    bench.step(Input::Owed(vec![retry(A, 1, due)]));
    bench.step(Input::Halt);
    assert_eq!(bench.scheduler.next_wake(), None);
    bench.step(Input::Go);
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= due));
    bench.step(Input::Drain);
    assert_eq!(bench.scheduler.next_wake(), None);
}

#[test]
fn the_longest_wait_that_can_be_planned_is_waited_for() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    let until = NOW + RETRY_AFTER_MAX;
    let verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: Some(until) };
    bench.ended(key(A, 1), verdict);
    let owed = Some(retry(A, 1, until));
    assert_eq!(bench.step(Input::Settled { key: key(A, 1), owed }).sent, [0; 0]);
    bench.now = until;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
}

#[test]
fn an_attempt_has_the_number_after_the_last() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), retry(A, 2, NOW)]));
    assert_eq!([1, 2].map(|seq| bench.scheduler.next_attempt(key(A, seq))), [1, 2]);
}

#[test]
fn what_had_no_room_in_its_exchange_goes_on_as_what_it_was() {
    let mut bench = Bench::with(|rules| (rules.concurrency, rules.batch) = (4, 2));
    bench.step(Input::Owed((1..=7).map(|seq| retry(A, seq, NOW)).collect()));
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 10, NOW), fresh(A, 11, NOW)])).batches, [[10, 11]]);
    let parts = vec![
        Part { key: key(A, 10), end: PartEnd::Exchanged { attempt: attempt(1, NOW), autopsy: autopsy() } },
        Part { key: key(A, 11), end: PartEnd::NoRoom },
    ];
    let detail = "why".to_owned();
    let answer = Some(Judgement { verdict: Verdict::Delivered, detail, attempts_max: None, warns: false });
    assert_eq!(
        bench.step(Input::Ended(Ended { answer, parts })).sent,
        [11],
        "by the permit that is kept for what is new"
    );
}
