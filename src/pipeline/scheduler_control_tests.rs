//! Pauses and releases, as the scheduler takes them.

use super::*;
use crate::domain::pause::PausedBy;

fn paused_until(until: Option<UnixMs>) -> Pause {
    Pause { since: NOW, until, reason: "stock is counted".to_owned(), by: PausedBy::Operator }
}

fn told(control: Control) -> Input {
    Input::Control(control)
}

#[test]
fn a_paused_lane_sends_nothing_settles_what_was_in_flight_and_goes_on_when_resumed() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(Input::Owed((1..=4).map(|seq| fresh(A, seq, NOW)).collect())).sent, [1, 2]);
    assert_eq!(bench.step(told(Control::Paused { destination: A, pause: paused_until(None) })).sent, [0; 0]);
    let done = bench.ended(key(A, 1), Verdict::Delivered);
    assert_eq!((done.sent.len(), done.settled[0].disposition), (0, Disposition::Sent));
    assert!(matches!(bench.ended(key(A, 2), TRANSIENT).settled[0].disposition, Disposition::Retry { .. }));
    assert_eq!(
        bench.step(Input::Owed(vec![fresh(A, 5, NOW), fresh(B, 5, NOW)])).sent,
        [5],
        "only the other lane sends"
    );
    bench.now = NOW + DurationMs::from_days(30);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    assert_eq!(bench.step(told(Control::Resumed { destination: A })).sent, [3, 4], "within its limits");
}

#[test]
fn a_pause_does_not_count_towards_giving_up() {
    let mut bench = Bench::new();
    bench.step(told(Control::Paused { destination: A, pause: paused_until(None) }));
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), retry(A, 2, NOW)]));
    // Four days paused, and give_up_after is three.
    bench.now = NOW + DurationMs::from_days(4);
    assert_eq!(bench.step(told(Control::Resumed { destination: A })).sent.len(), 2);
    for seq in [1, 2] {
        let done = bench.ended(key(A, seq), TRANSIENT);
        assert!(matches!(done.settled[0].disposition, Disposition::Retry { .. }), "{done:?}");
    }
}

#[test]
fn a_pause_that_ends_by_itself_wakes_the_scheduler_and_is_over_also_where_nothing_waits() {
    let mut bench = Bench::new();
    let until = NOW + DurationMs::from_hours(2);
    for destination in [A, B] {
        bench.step(told(Control::Paused { destination, pause: paused_until(Some(until)) }));
    }
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= until));
    bench.now = until - DurationMs(1);
    assert_eq!(bench.step(Input::Tick).sent, [0; 0]);
    bench.now = until;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
    assert_eq!(*bench.state(B), LaneState::Active);
}

#[test]
fn a_receiver_that_is_gone_is_paused_before_anything_more_is_sent_and_the_delivery_stays_owed() {
    let mut bench = Bench::new();
    bench.step(Input::Owed((1..=5).map(|seq| fresh(A, seq, NOW)).collect()));
    let done = bench.ended(key(A, 1), Verdict::Gone);
    assert_eq!(done.sent, [0; 0]);
    assert_eq!(done.settled[0].disposition, Disposition::Keep { at: NOW });
    let [(destination, pause)] = done.paused.as_slice() else { panic!("{done:?}") };
    assert_eq!((*destination, pause.by, pause.reason.as_str()), (A, PausedBy::Destination, "gone: why"));
    let second = bench.ended(key(A, 2), Verdict::Gone);
    assert!(second.paused.is_empty() && second.settled.len() == 1, "one pause is enough: {second:?}");
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, NOW)) });
    assert_eq!(bench.step(told(Control::Paused { destination: A, pause: pause.clone() })).sent, [0; 0]);
    assert_eq!(bench.step(told(Control::Resumed { destination: A })).sent.len(), 2);
}

#[test]
fn pauses_that_the_store_remembers_hold_from_the_first_step() {
    let rules = Bench::new().scheduler.lanes().map(|(id, lane)| (id, lane.rules.clone())).collect();
    let pauses = Pauses::from([(A, paused_until(None)), (DestinationId(9), paused_until(None))]);
    let scheduler = Scheduler::new(rules, NOW).with_pauses(pauses);
    let mut bench = Bench { scheduler, now: NOW, after: BTreeMap::new() };
    bench.step(Input::Tick);
    for destination in [A, B] {
        let rows = vec![fresh(destination, u64::from(destination.0), NOW)];
        let sent = bench.step(Input::Page { destination, rows, end: true }).sent;
        assert_eq!(sent.is_empty(), destination == A);
    }
}

#[test]
fn a_pause_that_ran_out_while_we_were_down_is_over_and_what_it_stood_still_counts() {
    let mut bench = Bench::new();
    let until = NOW + DurationMs::from_days(4);
    bench.now = until + DurationMs::from_hours(1);
    bench.step(told(Control::Pauses(Pauses::from([(A, paused_until(Some(until)))]))));
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 1, NOW)])).sent, [1]);
    let done = bench.ended(key(A, 1), TRANSIENT);
    assert!(matches!(done.settled[0].disposition, Disposition::Retry { .. }), "{done:?}");
}

#[test]
fn all_pauses_as_read_again_end_those_that_are_no_more_but_not_one_on_its_way_to_the_disk() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(B, 1, NOW)]));
    bench.step(told(Control::Paused { destination: A, pause: paused_until(None) }));
    bench.ended(key(B, 1), Verdict::Gone);
    bench.step(told(Control::Pauses(Pauses::new())));
    assert_eq!(*bench.state(A), LaneState::Active);
    assert!(matches!(bench.state(B), LaneState::Paused(_)));
    bench.step(told(Control::Pauses(Pauses::from([(A, paused_until(None))]))));
    assert_eq!(*bench.state(A), LaneState::Paused(paused_until(None)));
}

/// A row of a pause stays until the next `resume`, so every reopening of the store tells it again.
#[test]
fn a_pause_that_is_over_changes_nothing_when_it_is_told_again() {
    let over = || told(Control::Pauses(Pauses::from([(A, paused_until(Some(NOW + DurationMs(1))))])));
    let hour = DurationMs::from_hours(1);
    for (verdict, state) in
        [(Verdict::Throttled { not_before: Some(NOW + hour) }, "Throttled"), (Verdict::DestinationFault, "Held")]
    {
        let mut bench = Bench::new();
        bench.now = NOW + DurationMs::from_secs(1);
        bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
        bench.ended(key(A, 1), verdict);
        let before = bench.state(A).clone();
        assert!(format!("{before:?}").starts_with(state));
        bench.step(over());
        assert_eq!(*bench.state(A), before);
        assert_eq!(bench.step(Input::Owed(vec![fresh(A, 2, NOW)])).sent, [0; 0], "{state}");
    }
}

#[test]
fn a_pause_stands_still_once_however_often_it_is_told() {
    let mut bench = Bench::new();
    let days = DurationMs::from_days;
    bench.now = NOW + days(3);
    for _ in 0..4 {
        bench.step(told(Control::Pauses(Pauses::from([(A, paused_until(Some(NOW + days(2))))]))));
        bench.step(Input::Tick);
    }
    // Owed for three days since the pause began, of which two stood still: one is left of give_up_after, and no more.
    bench.now = NOW + days(5);
    bench.step(Input::Owed(vec![retry(A, 1, NOW)]));
    let done = bench.ended(key(A, 1), TRANSIENT);
    assert_eq!(done.settled[0].disposition, Disposition::Dead { reason: DeadReason::GaveUp });
}

#[test]
fn a_released_lane_probes_at_once() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Owed((2..=4).map(|seq| fresh(A, seq, NOW)).collect()));
    let release = || told(Control::Release { destination: A });
    let probe = bench.step(release()).sent;
    assert_eq!(probe.len(), 1);
    assert_eq!(bench.step(release()).sent, [0; 0]);
    assert_eq!(bench.ended(key(A, probe[0]), Verdict::Delivered).sent.len(), 2);
}

#[test]
fn the_scheduler_is_idle_only_while_no_time_matters() {
    let mut bench = Bench::new();
    bench.step(Input::Tick);
    assert!(bench.scheduler.is_idle());
    bench.step(told(Control::Paused { destination: A, pause: paused_until(None) }));
    assert!(bench.scheduler.is_idle(), "what waits for an operator does not wait for a time");
    let until = Some(NOW + DurationMs::from_hours(1));
    bench.step(told(Control::Paused { destination: A, pause: paused_until(until) }));
    assert!(!bench.scheduler.is_idle(), "the end of a pause is shown in time");
    bench.step(told(Control::Resumed { destination: A }));
    assert!(bench.scheduler.is_idle());
    bench.step(Input::Owed(vec![fresh(B, 1, NOW)]));
    assert!(!bench.scheduler.is_idle());
}
