//! What becomes of a delivery.

use super::*;
use crate::domain::delivery::{Autopsy, State, Status};
use crate::domain::name::TargetName;

#[test]
fn an_accepted_event_is_owed_where_planned_and_skipped_where_not() {
    let mut store = Disk::default().store();
    let queued = store.accept(event("a", 100), vec![owe(ONE), skip(TWO)]);
    let [owed] = &queued.owed[..] else { panic!() };
    assert_eq!((owed.key, owed.due_at), (key(queued.seq, ONE), UnixMs(100)));
    assert!(owed.event.is_some());
    assert_eq!(store.counts(TWO), Counts { accepted: 1, skipped: 1, ..Counts::default() });
    assert_eq!(store.delivery(key(queued.seq, TWO)).state.reason(), Some("unmapped"));
    store.assert_sound();
}

#[test]
fn a_destination_planned_twice_is_owed_once() {
    let mut store = Disk::default().store();
    let queued = store.accept(event("a", 100), vec![owe(ONE), owe(ONE)]);
    assert_eq!(queued.owed.len(), 1);
    assert_eq!(store.counts(ONE).accepted, 1);
    store.assert_sound();
}

#[test]
fn a_retry_moves_in_the_outbox_and_counts() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    let owed = store.settle(key, 150, retry(1000)).unwrap();
    assert_eq!((owed.due_at, owed.history.counted, owed.history.counted_since_owed), (UnixMs(1000), 1, 1));
    assert_eq!((owed.history.first_attempt_at, owed.history.last_http_status), (Some(UnixMs(150)), Some(200)));
    assert_eq!(store.reader().next_due(ONE).unwrap(), Some(UnixMs(1000)));
    assert_eq!(store.counts(ONE).failed, 1);
    assert!(store.settle(key, 1001, Disposition::Sent).is_none());
    assert_eq!(store.reader().next_due(ONE).unwrap(), None);
    let trace = store.reader().trace(key.seq).unwrap();
    let attempts: Vec<_> = trace[0].2.iter().map(|attempt| (attempt.n, attempt.at.0)).collect();
    assert_eq!(attempts, [(1, 150), (2, 1001)]);
    store.assert_sound();
}

#[test]
fn an_outcome_for_a_delivery_that_has_moved_changes_nothing() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    store.settle(key, 150, retry(1000));
    let before = store.delivery(key);
    for stale in [
        settle_op(key, UnixMs(100), 160, None, Disposition::Sent),
        settle_op(DeliveryKey { seq: EventSeq(99), ..key }, UnixMs(100), 160, None, DEAD),
    ] {
        assert!(matches!(store.one(stale), Applied::Stale { .. }));
    }
    assert_eq!(store.delivery(key), before);
    store.settle(key, 1001, Disposition::Sent);
    let late = settle_op(key, UnixMs(1000), 1002, None, retry(2000));
    assert!(matches!(store.one(late), Applied::Stale { .. }), "what is sent stays sent");
    store.assert_sound();
}

#[test]
fn keeping_moves_the_due_time_and_traces_without_counting() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    let owed = store.settle(key, 150, Disposition::Keep { at: UnixMs(900) }).unwrap();
    assert_eq!(owed.state, State::Pending { due_at: UnixMs(900) });
    assert_eq!((owed.history.counted, owed.history.exchanges), (0, 1));
    store.settle(key, 901, retry(2000));
    let owed = store.settle(key, 2001, Disposition::Keep { at: UnixMs(3000) }).unwrap();
    assert_eq!(owed.state, State::Failed { due_at: UnixMs(3000), reason: RetryReason::Transient });
    assert_eq!((owed.history.counted, owed.history.exchanges), (1, 3));
    assert_eq!(store.counts(ONE).failed, 1);
    store.assert_sound();
}

#[test]
fn a_delivery_is_called_what_it_was_called_in_its_last_exchange() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    let called: Option<TargetName> = "Bought".parse().ok();
    assert_ne!(store.delivery(key).target, called);
    let attempt = Some(Attempt { called: called.clone(), ..attempt(150, Some(503)) });
    let op = Settle { key, due_at: UnixMs(100), at: UnixMs(150), attempt, disposition: retry(900), autopsy: None };
    let Applied::Settled { now: Some(owed), .. } = store.one(WriteOp::Settle(op)) else { panic!("it is owed") };
    assert_eq!(Some(owed.target), called);
    store.settle(key, 901, Disposition::Sent);
    assert_eq!(store.delivery(key).target, called);
}

#[test]
fn an_outcome_that_is_repeated_after_an_unknown_commit_counts_once() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    for disposition in [Disposition::Keep { at: UnixMs(100) }, retry(100)] {
        let n = store.delivery(key).history.exchanges + 1;
        let attempt = Some(Attempt { n, ..attempt(150, Some(401)) });
        let op = Settle { key, due_at: UnixMs(100), at: UnixMs(150), attempt, disposition, autopsy: None };
        assert!(matches!(store.one(WriteOp::Settle(op.clone())), Applied::Settled { .. }));
        assert!(matches!(store.one(WriteOp::Settle(op)), Applied::Stale { .. }), "{disposition:?}");
    }
    assert_eq!((store.delivery(key).history.counted, store.delivery(key).history.exchanges), (1, 2));
    assert_eq!(store.reader().trace(key.seq).unwrap()[0].2.len(), 2);
    store.assert_sound();
}

#[test]
fn a_dead_delivery_is_in_the_dlq_with_what_was_kept_of_its_end() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    let kept =
        Autopsy { detail: "no email".to_owned(), request: None, http_status: Some(400), response: "bad".to_owned() };
    let op = settle_op(key, UnixMs(100), 150, Some(400), DEAD);
    let WriteOp::Settle(settle) = op else { panic!() };
    store.one(WriteOp::Settle(Settle { autopsy: Some(kept.clone()), ..settle }));
    let entry = store.reader().dlq_entry(key).unwrap().unwrap();
    assert_eq!(entry.autopsy, kept);
    assert_eq!(entry.entry.delivery.state.reason(), Some("permanent"));
    assert_eq!(store.counts(ONE).failed_permanently, 1);
    store.assert_sound();
}

#[test]
fn an_autopsy_too_large_to_keep_does_not_stop_the_outcome() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    let huge = Autopsy { detail: "x".repeat(2 << 20), request: None, http_status: Some(400), response: String::new() };
    let WriteOp::Settle(settle) = settle_op(key, UnixMs(100), 150, Some(400), DEAD) else { panic!() };
    store.one(WriteOp::Settle(Settle { autopsy: Some(huge), ..settle }));
    assert_eq!(store.reader().dlq_entry(key).unwrap().unwrap().autopsy.http_status, Some(400));
    store.assert_sound();
}

#[test]
fn a_replay_starts_anew_but_goes_on_numbering() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    store.settle(key, 150, DEAD);
    let Applied::Replayed(replayed) = store.one(replay_op(5000, &[key, key])) else { panic!() };
    let [owed] = &replayed[..] else { panic!("a key named twice is replayed once: {replayed:?}") };
    assert_eq!(owed.state, State::Pending { due_at: UnixMs(5000) });
    assert_eq!((owed.history.owed_since, owed.history.counted_since_owed, owed.history.counted), (UnixMs(5000), 0, 1));
    assert!(store.reader().dlq_entry(key).unwrap().is_none());
    store.settle(key, 5001, Disposition::Sent);
    assert_eq!(store.reader().trace(key.seq).unwrap()[0].2.last().unwrap().n, 2);
    assert!(matches!(store.one(replay_op(6000, &[key])), Applied::Replayed(none) if none.is_empty()));
    store.assert_sound();
}

#[test]
fn a_discarded_delivery_leaves_the_dlq_for_good() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 100), vec![owe(ONE)]).seq, ONE);
    assert!(matches!(store.one(discard_op(140, &[key])), Applied::Discarded { count: 0 }), "it is owed");
    store.settle(key, 150, DEAD);
    assert!(matches!(store.one(discard_op(160, &[key, key])), Applied::Discarded { count: 1 }));
    assert_eq!(store.delivery(key).state.status(), Status::Discarded);
    assert_eq!(store.delivery(key).state.reason(), Some("test data"));
    assert!(matches!(store.one(replay_op(170, &[key])), Applied::Replayed(none) if none.is_empty()));
    store.assert_sound();
}

#[test]
fn a_batch_of_nothing_but_stale_outcomes_is_not_synced() {
    let disk = Disk::default();
    let mut store = disk.store();
    let before = disk.bytes.lock().unwrap().clone();
    store.one(settle_op(key(EventSeq(7), ONE), UnixMs(1), 2, None, DEAD));
    assert!(before == *disk.bytes.lock().unwrap());
}

#[test]
fn a_name_keeps_its_number_also_while_it_is_absent() {
    let disk = Disk::default();
    let mut store = disk.store();
    let names = |list: &[&str]| list.iter().map(|name| name.parse().unwrap()).collect::<Vec<DestinationName>>();
    let first = store.number_destinations(&names(&["b", "a", "b"])).unwrap();
    assert_eq!(first.len(), 2);
    store.reopen().unwrap();
    let second = store.number_destinations(&names(&["c", "a"])).unwrap();
    assert_eq!(second[&names(&["a"])[0]], first[&names(&["a"])[0]]);
    assert!(!first.values().any(|number| *number == second[&names(&["c"])[0]]), "numbers are never reused");
    assert_eq!(store.reader().destination_names().unwrap().len(), 3);
    store.assert_sound();
}

#[test]
fn the_last_number_is_given_and_after_it_none_and_nothing_is_changed() {
    let mut store = Disk::default().store();
    let name = |name: &str| name.parse::<DestinationName>().unwrap();
    store.memory.destinations.insert(name("old"), DestinationId(DestinationId::MAX.0 - 1));
    assert_eq!(store.number_destinations(&[name("last")]).unwrap()[&name("last")], DestinationId::MAX);
    let refused = store.number_destinations(&[name("old"), name("late"), name("later")]).unwrap_err();
    assert!(refused.to_string().contains("no number left for destination late"), "{refused}");
    assert_eq!(store.reader().destination_names().unwrap(), [(name("last"), DestinationId::MAX)]);
}

#[test]
fn rejected_events_are_counted_by_source() {
    let mut store = Disk::default().store();
    let source: crate::domain::name::SourceName = "app".parse().unwrap();
    store.one(WriteOp::CountRejected { source: source.clone(), count: 3 });
    store.reopen().unwrap();
    assert_eq!(store.reader().ledger().events[&source].rejected, 3);
}

// Row 20.
#[test]
fn a_panic_within_a_transaction_changes_nothing_and_poisons_nothing() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut store = Disk::default().store();
    let shared = Arc::clone(&store.shared);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        shared.write::<()>(|transaction| {
            transaction.open_table(schema::OUTBOX)?.insert(&[7; 20], ())?;
            panic!("planted")
        })
    }));
    assert!(panicked.is_err());
    store.accept(event("a", 100), vec![owe(ONE)]);
    store.assert_sound();
}
