//! Rules of taking over another configuration while deliveries wait and exchanges are under way.

use super::*;

fn rules() -> Rules {
    Bench::plain()
}

impl Bench {
    /// These destinations are all there are; `changed` are new or not what they were.
    fn reload(&mut self, of: impl IntoIterator<Item = (DestinationId, Rules)>, changed: &[DestinationId]) -> Done {
        self.reload_paused(of, changed, Pauses::new())
    }

    fn reload_paused(
        &mut self,
        of: impl IntoIterator<Item = (DestinationId, Rules)>,
        changed: &[DestinationId],
        pauses: Pauses,
    ) -> Done {
        let rules = of.into_iter().collect();
        self.step(Input::Rules { rules, changed: changed.iter().copied().collect(), pauses })
    }

    fn page(&mut self, destination: DestinationId, rows: Vec<Owed>) -> Done {
        self.step(Input::Page { destination, rows, end: true })
    }
}

#[test]
fn a_new_destination_is_sent_what_it_is_owed() {
    let mut bench = Bench::of(BTreeMap::from([(A, rules())]));
    assert!(bench.step(Input::Owed(vec![fresh(B, 1, NOW)])).sent.is_empty(), "there is no lane yet");
    assert_eq!(bench.reload([(A, rules()), (B, rules())], &[B]).loads, [A, B]);
    assert_eq!(bench.page(B, vec![fresh(B, 1, NOW)]).sent, [1]);
}

#[test]
fn what_did_not_change_goes_on_as_it_was() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Owed(vec![fresh(B, 2, NOW), fresh(B, 3, NOW), fresh(B, 4, NOW)]));
    let done = bench.reload([(A, rules()), (B, rules())], &[]);
    assert!(done.sent.is_empty() && done.loads.is_empty(), "{done:?}");
    assert!(matches!(bench.state(A), LaneState::Held { .. }), "nothing of it was mended");
    assert_eq!(bench.ended(key(B, 2), Verdict::Delivered).sent, [4]);
}

#[test]
fn a_changed_destination_is_no_longer_held_and_keeps_its_leases() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW), fresh(A, 3, NOW)]));
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.now = NOW + DurationMs::from_hours(1);
    let done = bench.reload([(A, Rules { concurrency: 3, ..rules() }), (B, rules())], &[A]);
    assert_eq!(done.sent, [3], "2 is still in flight, 1 is not committed");
    assert_eq!(bench.ended(key(A, 2), Verdict::Delivered).settled.len(), 1, "work under way ends as it would");
}

#[test]
fn a_lowered_limit_holds_for_new_work() {
    let mut bench = Bench::new();
    bench.step(Input::Owed((1..=6).map(|seq| fresh(A, seq, NOW)).collect()));
    bench.reload([(A, Rules { concurrency: 1, ..rules() }), (B, rules())], &[A]);
    assert!(bench.ended(key(A, 1), Verdict::Delivered).sent.is_empty(), "one is still in flight");
    assert_eq!(bench.ended(key(A, 2), Verdict::Delivered).sent, [3]);
}

#[test]
fn a_removed_destination_parks_what_it_is_owed_and_settles_what_is_under_way() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![
        fresh(A, 1, NOW),
        fresh(A, 2, NOW),
        fresh(A, 3, NOW),
        retry(A, 4, NOW + DurationMs(5)),
    ]));
    let done = bench.reload([(B, rules())], &[]);
    assert!(done.sent.is_empty());
    assert_eq!(*bench.state(A), LaneState::Orphaned);
    let done = bench.ended(key(A, 1), Verdict::Delivered);
    assert_eq!(done.settled.len(), 1);
    assert!(done.sent.is_empty());
    bench.step(Input::Settled { key: key(A, 1), owed: None });
    bench.step(Input::Owed(vec![fresh(A, 5, NOW)]));
    bench.now = NOW + DurationMs::from_hours(5);
    let done = bench.step(Input::Tick);
    assert!(done.sent.is_empty() && done.loads.is_empty(), "parked: {done:?}");
    assert_eq!(bench.scheduler.next_wake(), None);
}

#[test]
fn a_name_that_returns_finds_everything_it_was_owed() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW), fresh(A, 3, NOW)]));
    bench.reload([(B, rules())], &[]);
    let done = bench.reload([(A, rules()), (B, rules())], &[A]);
    assert_eq!(done.loads, [A]);
    assert_eq!(bench.after[&A], None, "from the beginning");
    let rows = (1..=3).map(|seq| fresh(A, seq, NOW)).collect();
    assert!(bench.page(A, rows).sent.is_empty(), "1 and 2 are still in flight, and leased once only");
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).sent, [3]);
}

#[test]
fn a_page_that_comes_while_the_lane_is_parked_is_not_taken() {
    let mut bench = Bench::of(BTreeMap::from([(A, rules())]));
    bench.step(Input::Tick);
    bench.reload([(A, Rules { enabled: false, ..rules() })], &[A]);
    assert!(bench.page(A, vec![fresh(A, 1, NOW)]).sent.is_empty());
    assert_eq!(bench.reload([(A, rules())], &[A]).loads, [A], "and is asked for again");
    assert_eq!(bench.page(A, vec![fresh(A, 1, NOW)]).sent, [1]);
}

#[test]
fn being_parked_does_not_count_towards_giving_up() {
    let policy = RetryPolicy { give_up_after: DurationMs::from_hours(1), jitter_permille: 0, ..RetryPolicy::default() };
    let tight = || Rules { retry: policy.clone(), ..rules() };
    let mut bench = Bench::of(BTreeMap::from([(A, tight())]));
    bench.step(Input::Tick);
    bench.page(A, Vec::new());
    bench.reload([], &[]);
    bench.now = NOW + DurationMs::from_hours(30);
    bench.reload([(A, tight())], &[A]);
    bench.page(A, vec![fresh(A, 1, NOW)]);
    let done = bench.ended(key(A, 1), TRANSIENT);
    assert!(matches!(done.settled[0].disposition, Disposition::Retry { .. }), "{done:?}");
}

#[test]
fn halves_of_a_refused_batch_are_not_sent_twice_over_a_reload() {
    let batched = || Rules { batch: 4, ..rules() };
    let mut bench = Bench::of(BTreeMap::from([(A, batched())]));
    bench.step(Input::Tick);
    bench.page(A, Vec::new());
    let owed: Vec<Owed> = (1..=4).map(|seq| fresh(A, seq, NOW)).collect();
    assert_eq!(bench.step(Input::Owed(owed.clone())).batches.len(), 1);
    let keys: Vec<DeliveryKey> = (1..=4).map(|seq| key(A, seq)).collect();
    bench.all_ended(&keys, Verdict::BatchFault, None);
    bench.reload([], &[]);
    for owed in owed.clone() {
        assert!(bench.step(Input::Settled { key: owed.key, owed: Some(owed) }).sent.is_empty());
    }
    bench.reload([(A, batched())], &[A]);
    assert_eq!(bench.page(A, owed).batches, [[1, 2, 3, 4]]);
}

#[test]
fn a_pause_goes_on_over_a_reload_and_is_known_when_the_name_returns() {
    let pause =
        Pause { since: NOW, until: None, reason: "stock".to_owned(), by: crate::domain::pause::PausedBy::Operator };
    let mut bench = Bench::new();
    bench.step(Input::Control(Control::Paused { destination: A, pause: pause.clone() }));
    bench.reload([(A, Rules { concurrency: 1, ..rules() }), (B, rules())], &[A]);
    assert!(matches!(bench.state(A), LaneState::Paused(_)), "a changed destination stays paused");
    bench.reload([(B, rules())], &[]);
    bench.reload([(A, rules()), (B, rules())], &[A]);
    assert!(matches!(bench.state(A), LaneState::Paused(_)));
    bench.step(Input::Control(Control::Resumed { destination: A }));
    assert_eq!(*bench.state(A), LaneState::Active);
    // After a restart only the store knows of the pause of a destination that is not configured.
    let mut bench = Bench::of(BTreeMap::from([(B, rules())]));
    bench.reload_paused([(A, rules()), (B, rules())], &[A], Pauses::from([(A, pause)]));
    assert!(bench.page(A, vec![fresh(A, 1, NOW)]).sent.is_empty());
    assert!(matches!(bench.state(A), LaneState::Paused(_)));
}

#[test]
fn what_was_sent_before_a_change_says_nothing_about_the_destination_as_it_is_now() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![fresh(A, 1, NOW), fresh(A, 2, NOW), fresh(A, 3, NOW)]));
    bench.reload([(A, rules()), (B, rules())], &[A]);
    let done = bench.ended(key(A, 1), Verdict::DestinationFault);
    assert_eq!(*bench.state(A), LaneState::Active, "the token was revoked because there is a new one");
    assert_eq!((done.sent, done.settled.len()), (vec![3], 1));
    bench.step(Input::Settled { key: key(A, 1), owed: Some(fresh(A, 1, NOW)) });
    assert_eq!(bench.ended(key(A, 2), Verdict::Delivered).sent, [1]);
    bench.ended(key(A, 1), Verdict::DestinationFault);
    assert!(matches!(bench.state(A), LaneState::Held { .. }), "the new one is refused too");
}

/// Row 67: given up while its name returned. Nothing of it is sent by a page that was read before the commit, and what is
/// under way ends the lease it has.
#[test]
fn what_was_given_up_is_not_sent_where_the_name_returns_meanwhile() {
    let mut bench = Bench::new();
    bench.step(Input::Owed((1..=3).map(|seq| fresh(A, seq, NOW)).collect()));
    bench.reload([(B, rules())], &[]);
    assert_eq!(bench.scheduler.lane(A).unwrap().under_way(), BTreeSet::from([EventSeq(1), EventSeq(2)]));
    bench.ended(key(A, 2), Verdict::Delivered);
    assert_eq!(bench.scheduler.lane(A).unwrap().under_way().len(), 2, "its outcome is not committed");
    assert_eq!(bench.reload([(A, rules()), (B, rules())], &[A]).loads, [A]);
    let purged = Input::Purged { destination: A, seqs: vec![EventSeq(3), EventSeq(4)] };
    assert!(bench.step(purged).sent.is_empty());
    let read_before = vec![fresh(A, 3, NOW), fresh(A, 4, NOW), fresh(A, 5, NOW)];
    assert_eq!(bench.page(A, read_before).sent, [5]);
    assert!(bench.step(Input::Owed(vec![fresh(A, 6, NOW)])).sent.is_empty(), "two are in flight");
    assert_eq!(bench.ended(key(A, 1), Verdict::Delivered).sent, [6]);
    // It was sent just before the commit: its outcome will meet a delivery that is over.
    bench.step(Input::Purged { destination: A, seqs: vec![EventSeq(6)] });
    assert!(bench.scheduler.lane(A).unwrap().leased(key(A, 6)).is_some());
    bench.ended(key(A, 6), Verdict::Delivered);
    bench.step(Input::Stale { key: key(A, 6) });
    assert!(bench.scheduler.lane(A).unwrap().leased(key(A, 6)).is_none());
}
