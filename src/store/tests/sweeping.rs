//! Retention: what goes, what stays, and that it comes to an end.

use super::*;
use crate::domain::limits::SWEEP_ROWS;
use crate::domain::time::{DurationMs, KnownTime};
use crate::store::sweep::STRAYS;

const EVERYTHING: SweepPlan = SweepPlan {
    events_before: Some(UnixMs(u64::MAX)),
    attempts_before: Some(UnixMs(u64::MAX)),
    dlq_before: None,
    dedupe_before: Some(UnixMs(u64::MAX)),
    known: None,
};

/// A plan that only keeps the time.
fn keeping(at: u64) -> SweepPlan {
    let known = KnownTime { at: UnixMs(at), ahead: DurationMs(7), ran: DurationMs(8) };
    SweepPlan { known: Some(known), ..SweepPlan::default() }
}

// Row 30.
#[test]
fn what_is_known_of_the_time_is_kept_once_an_hour_and_where_it_is_taken_back() {
    const HOUR: u64 = 3_600_000;
    let disk = Disk::default();
    let mut store = disk.store();
    assert_eq!(store.known_time().unwrap(), None);
    store.accept(event("a", 5 * HOUR), vec![]);
    assert_eq!(store.known_time().unwrap().unwrap().at, UnixMs(5 * HOUR), "a file from before it was kept");
    for (told, kept) in
        [(9 * HOUR, 9), (10 * HOUR - 1, 9), (10 * HOUR, 10), (9 * HOUR + 1, 10), (9 * HOUR, 9), (3 * HOUR, 3)]
    {
        store.sweep(&keeping(told)).unwrap();
        let known = store.known_time().unwrap().unwrap();
        assert_eq!((known.at, known.ahead, known.ran), (UnixMs(kept * HOUR), DurationMs(7), DurationMs(8)));
    }
    drop(store);
    let mut store = disk.store();
    assert_eq!(store.known_time().unwrap().unwrap().at, UnixMs(3 * HOUR), "it is durable");
    let before = disk.bytes.lock().unwrap().clone();
    store.sweep(&keeping(3 * HOUR + 5)).unwrap();
    assert!(*disk.bytes.lock().unwrap() == before, "nothing is written for nothing");
}

// Row 30.
#[test]
fn what_somebody_vouches_for_is_kept_against_retention_that_was_ordered_before() {
    const HOUR: u64 = 3_600_000;
    let disk = Disk::default();
    let mut store = disk.store();
    store.sweep(&keeping(5 * HOUR)).unwrap();
    drop(store);
    let known = KnownTime { at: UnixMs(900 * HOUR), ahead: DurationMs::ZERO, ran: DurationMs::ZERO };
    // The first slice of a process, which knows of no time yet, and one after another.
    for _ in 0..2 {
        let mut store = disk.store();
        store.commit(&[WriteOp::KnowTime(known)]).unwrap();
        for _ in 0..2 {
            store.sweep(&keeping(5 * HOUR)).unwrap();
            assert_eq!(store.known_time().unwrap(), Some(known));
        }
    }
    // What knows of it may take it back, as where the clock was behind for long enough.
    let mut store = disk.store();
    store.commit(&[WriteOp::KnowTime(known)]).unwrap();
    store.sweep(&keeping(900 * HOUR)).unwrap();
    store.sweep(&keeping(6 * HOUR)).unwrap();
    assert_eq!(store.known_time().unwrap().unwrap().at, UnixMs(6 * HOUR));
}

#[test]
fn a_first_start_keeps_its_time_whatever_its_keys_are_stamped_with() {
    const HOUR: u64 = 3_600_000;
    let mut store = Disk::default().store();
    let known = |at: u64| KnownTime { at: UnixMs(at), ahead: DurationMs::ZERO, ran: DurationMs::ZERO };
    store.keep_first_time(known(5 * HOUR)).unwrap();
    store.accept(event("a", 700 * HOUR), vec![]);
    assert_eq!(store.known_time().unwrap(), Some(known(5 * HOUR)));
    store.keep_first_time(known(9 * HOUR)).unwrap();
    assert_eq!(store.known_time().unwrap(), Some(known(5 * HOUR)), "it was no first one");
}

/// Sweeps until nothing is left to do.
fn sweep_all(store: &mut Store, plan: &SweepPlan) -> usize {
    let mut removed = 0;
    loop {
        let slice = store.sweep(plan).unwrap();
        assert!(slice <= SWEEP_ROWS);
        store.assert_sound();
        if slice == 0 {
            return removed;
        }
        removed += slice;
    }
}

fn slice(store: &mut Store, slice: Slice<'_>) -> Swept {
    store.commit_beside(&[], Some(&slice), Rush::Calm).unwrap().1.unwrap()
}

fn shed(store: &mut Store, excess: u64) -> Swept {
    slice(store, Slice { plan: SweepPlan::default(), excess, enough: &|| false })
}

#[test]
fn slices_without_any_time_come_to_an_end_too() {
    let mut store = Disk::default().store();
    let seqs: Vec<_> = (0..400).map(|at| store.accept(event(&at.to_string(), 1), vec![owe(ONE)]).seq).collect();
    for seq in &seqs {
        let dead = seq.0 % 2 == 0;
        store.settle(key(*seq, ONE), 2, if dead { DEAD } else { Disposition::Sent });
    }
    let plan = SweepPlan { dlq_before: Some(UnixMs(u64::MAX)), ..EVERYTHING };
    let mut slices = 0;
    loop {
        let swept = slice(&mut store, Slice { plan, excess: 0, enough: &|| true });
        assert!(swept.rows < 50, "{} rows and no time", swept.rows);
        store.assert_sound();
        slices += 1;
        if swept.ended && swept.rows == 0 {
            break;
        }
        assert!(slices < 1000);
    }
    assert!(seqs.iter().all(|seq| store.reader().event(*seq).unwrap().is_none()), "after {slices} slices");
}

/// Slices without any time, until one says that there is nothing more.
fn slices(store: &mut Store, plan: SweepPlan) -> usize {
    let nothing_left = |swept: Swept| swept.ended && swept.rows == 0;
    let slices = std::iter::repeat_with(|| slice(store, Slice { plan, excess: 0, enough: &|| true }));
    slices.take(100).take_while(|swept| !nothing_left(*swept)).count()
}

#[test]
fn what_stays_is_not_looked_at_for_ever_where_there_is_no_time() {
    let mut store = Disk::default().store();
    for at in 0..300 {
        let seq = store.accept(event(&at.to_string(), 1), vec![owe(ONE)]).seq;
        store.settle(key(seq, ONE), 2, if at % 2 == 0 { DEAD } else { Disposition::Sent });
    }
    // All of them are younger than that.
    let all = Some(UnixMs(1));
    let plan = SweepPlan { events_before: all, attempts_before: all, dlq_before: all, dedupe_before: all, known: None };
    assert!(slices(&mut store, plan) < 10);
    store.assert_sound();
}

#[test]
fn each_part_has_its_turn_however_much_another_finds() {
    let mut store = Disk::default().store();
    let last = store.accept(event("final", 1), vec![skip(ONE)]).seq;
    for at in 0..200 {
        let seq = store.accept(event(&at.to_string(), 1), vec![owe(ONE)]).seq;
        store.settle(key(seq, ONE), 2, DEAD);
    }
    let plan = SweepPlan { dlq_before: Some(UnixMs(100)), ..EVERYTHING };
    for _ in 0..4 {
        slice(&mut store, Slice { plan, excess: 0, enough: &|| true });
    }
    assert!(store.reader().event(last).unwrap().is_none());
    let dead = store.reader().dlq_total(&read::DeliveryFilter::default()).unwrap().0;
    assert!((130..190).contains(&dead), "{dead} are left, so they had turns too");
}

#[test]
fn a_slice_that_only_passed_what_stays_is_not_the_end() {
    let mut store = Disk::default().store();
    for at in 0..600 {
        store.accept(event(&at.to_string(), 1), vec![owe(ONE)]);
    }
    let last = store.accept(event("last", 1), vec![skip(ONE)]).seq;
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert!((9..20).contains(&slices(&mut store, plan)));
    assert!(store.reader().event(last).unwrap().is_none());
}

#[test]
fn a_slice_that_removed_something_is_not_the_end_though_the_next_begins_at_the_same_event() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 1), vec![owe(ONE)]).seq, ONE);
    for due in 1..200 {
        store.settle(key, due, retry(due + 1));
    }
    store.settle(key, 300, Disposition::Sent);
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    while store.reader().event(key.seq).unwrap().is_some() {
        let swept = slice(&mut store, Slice { plan, excess: 0, enough: &|| true });
        assert!(swept.rows > 0 && !swept.ended || store.reader().event(key.seq).unwrap().is_none(), "{swept:?}");
    }
}

#[test]
fn a_slice_that_finds_nothing_to_do_is_the_end() {
    let mut store = Disk::default().store();
    store.accept(event("young", 500), vec![skip(ONE)]);
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    let swept = slice(&mut store, Slice { plan, excess: 0, enough: &|| false });
    assert_eq!(swept, Swept { rows: 0, freed: 0, ended: true });
}

/// Which of these are left of events that nothing is owed of, received then, once all before 100 are gone.
fn left_of(received: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut store = Disk::default().store();
    let received: Vec<u64> = received.into_iter().collect();
    let ops: Vec<_> =
        received.iter().enumerate().map(|(n, at)| store.accept_op(event(&format!("e{n}"), *at), vec![])).collect();
    store.commit(&ops).unwrap();
    sweep_all(&mut store, &SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() });
    let is_left = |(_, seq): &(&u64, u64)| store.reader().event(EventSeq(*seq)).unwrap().is_some();
    received.iter().zip(1..).filter(is_left).map(|(at, _)| *at).collect()
}

#[test]
fn so_many_young_ones_in_a_row_are_taken_for_the_end_and_fewer_are_not() {
    let young = |count| std::iter::repeat_n(900, count);
    assert_eq!(left_of(young(STRAYS - 1).chain([1])), vec![900; STRAYS - 1]);
    assert!(left_of(young(STRAYS).chain([1])).ends_with(&[900, 1]));
    let apart = young(STRAYS - 1).chain([1]).chain(young(STRAYS - 1)).chain([2]);
    assert_eq!(left_of(apart), vec![900; 2 * (STRAYS - 1)], "they are counted anew");
}

#[test]
fn a_scan_that_gets_no_further_is_over() {
    let mut store = Disk::default().store();
    store.accept(event("ahead", 1_000_000), vec![]);
    for at in 0..200 {
        store.accept(event(&at.to_string(), 1), vec![owe(ONE)]);
    }
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert!((1..10).contains(&slices(&mut store, plan)));
}

#[test]
fn a_slice_goes_along_with_what_is_committed_and_sees_it() {
    let mut store = Disk::default().store();
    let old = store.accept(event("old", 1), vec![owe(ONE)]).seq;
    let ops = [settle_op(key(old, ONE), UnixMs(1), 2, Some(200), Disposition::Sent)];
    let slice = Slice { plan: EVERYTHING, excess: 0, enough: &|| false };
    let (applied, swept) = store.commit_beside(&ops, Some(&slice), Rush::Hurried).unwrap();
    assert!(matches!(applied[..], [Applied::Settled { now: None, .. }]), "{applied:?}");
    assert!(swept.unwrap().rows >= 3, "{swept:?}");
    assert!(store.reader().event(old).unwrap().is_none());
    store.assert_sound();
}

// Row 60.
#[test]
fn what_is_owed_or_in_the_dlq_stays_whatever_its_age() {
    let mut store = Disk::default().store();
    let owed = store.accept(event("owed", 1), vec![owe(ONE), skip(TWO)]).seq;
    let dead = store.accept(event("dead", 1), vec![owe(ONE)]).seq;
    let sent = store.accept(event("sent", 1), vec![owe(ONE), skip(TWO)]).seq;
    store.settle(key(owed, ONE), 2, retry(9));
    store.settle(key(dead, ONE), 2, DEAD);
    store.settle(key(sent, ONE), 2, Disposition::Sent);
    let books = store.reader().ledger();
    assert_eq!(sweep_all(&mut store, &EVERYTHING), 4, "one event, two deliveries, one attempt");
    assert_eq!(store.reader().ledger(), books, "removed rows keep counting");
    let there = [owed, dead, sent].map(|seq| store.reader().event(seq).unwrap().is_some());
    assert_eq!(there, [true, true, false]);
    assert_eq!(store.reader().trace(owed).unwrap()[0].2.len(), 1, "the trace of what is owed is kept");
    assert_eq!(store.reader().events_by_sender_id("owed", 9).unwrap(), [owed]);
}

#[test]
fn what_was_passed_goes_once_it_is_final() {
    let mut store = Disk::default().store();
    let first = store.accept(event("a", 1), vec![owe(ONE)]).seq;
    let second = store.accept(event("b", 1), vec![owe(ONE)]).seq;
    store.settle(key(second, ONE), 2, Disposition::Sent);
    sweep_all(&mut store, &EVERYTHING);
    assert!(store.reader().event(second).unwrap().is_none());
    store.settle(key(first, ONE), 3, DEAD);
    assert_eq!(sweep_all(&mut store, &EVERYTHING), 0);
    store.one(discard_op(4, &[key(first, ONE)]));
    sweep_all(&mut store, &EVERYTHING);
    assert!(store.reader().event(first).unwrap().is_none());
}

#[test]
fn only_what_is_older_than_the_plan_says_goes() {
    let mut store = Disk::default().store();
    let seqs: Vec<_> = (0..10).map(|at| store.accept(event(&at.to_string(), at), vec![skip(ONE)]).seq).collect();
    let plan = SweepPlan { events_before: Some(UnixMs(4)), ..SweepPlan::default() };
    assert_eq!(sweep_all(&mut store, &plan), 8);
    let kept: Vec<_> = seqs.iter().filter(|seq| store.reader().event(**seq).unwrap().is_some()).collect();
    assert_eq!(kept.len(), 6);
    assert_eq!(sweep_all(&mut store, &SweepPlan { events_before: Some(UnixMs(6)), ..SweepPlan::default() }), 4);
    assert_eq!(store.sweep(&SweepPlan::default()).unwrap(), 0);
}

#[test]
fn an_event_from_a_clock_that_was_ahead_does_not_hold_up_the_others() {
    let mut store = Disk::default().store();
    store.accept(event("ahead", 1_000_000), vec![]);
    let after = store.accept(event("after", 5), vec![]).seq;
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert_eq!(sweep_all(&mut store, &plan), 1);
    assert!(store.reader().event(after).unwrap().is_none());
}

#[test]
fn a_dead_delivery_leaves_the_dlq_by_its_death_and_its_event_may_follow() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 10), vec![owe(ONE)]).seq, ONE);
    store.settle(key, 500, DEAD);
    let plan = |before| SweepPlan {
        events_before: Some(UnixMs(100)),
        dlq_before: Some(UnixMs(before)),
        ..SweepPlan::default()
    };
    assert_eq!(sweep_all(&mut store, &plan(500)), 0, "it died at 500");
    assert_eq!(sweep_all(&mut store, &SweepPlan { dlq_before: Some(UnixMs(501)), ..SweepPlan::default() }), 1);
    assert!(store.reader().dlq_entry(key).unwrap().is_none());
    assert_eq!(store.delivery(key).state.reason(), Some("permanent"), "it stays failed_permanently");
    assert!(matches!(store.one(replay_op(600, &[key])), Applied::Replayed(none) if none.is_empty()));
    assert_eq!(sweep_all(&mut store, &plan(501)), 3);
    assert_eq!(store.counts(ONE).failed_permanently, 1);
}

#[test]
fn numbers_are_not_used_again_after_their_events_are_gone() {
    let mut store = Disk::default().store();
    let last = store.accept(event("a", 1), vec![]).seq;
    assert_eq!(sweep_all(&mut store, &EVERYTHING), 2, "the event and its dedupe key");
    store.reopen().unwrap();
    assert!(store.accept(event("a", 2), vec![]).seq > last);
}

// Row 60.
#[test]
fn dedupe_keys_go_by_whole_buckets_once_their_events_are_gone() {
    let mut store = Disk::default().store();
    store.accept(event("a", 1), vec![skip(ONE)]);
    store.memory.next_seq = 1 << 14;
    store.accept(event("b", 1), vec![owe(ONE)]);
    let keys_only = SweepPlan { dedupe_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert_eq!(sweep_all(&mut store, &keys_only), 0, "both events are still there");
    let both = SweepPlan { events_before: Some(UnixMs(100)), ..keys_only };
    assert_eq!(sweep_all(&mut store, &both), 3, "an event, its delivery and its key");
    let again = store.accept_op(event("a", 200), vec![]);
    assert!(matches!(store.one(again), Applied::Queued(_)));
    let repeat = store.accept_op(event("b", 200), vec![]);
    assert!(matches!(store.one(repeat), Applied::Duplicate { .. }));
}

#[test]
fn more_than_a_slice_goes_in_slices_also_of_one_event() {
    let mut store = Disk::default().store();
    let key = key(store.accept(event("a", 1), vec![owe(ONE)]).seq, ONE);
    let mut due = 1;
    for _ in 0..4 {
        let ops: Vec<_> = (0..200)
            .map(|_| {
                let op = settle_op(key, UnixMs(due), due, None, retry(due + 1));
                due += 1;
                op
            })
            .collect();
        store.commit(&ops).unwrap();
    }
    store.settle(key, 5000, Disposition::Sent);
    let more: Vec<_> = (0..600).map(|n| store.accept_op(event(&format!("e{n}"), 2), vec![skip(ONE)])).collect();
    store.commit(&more).unwrap();
    assert_eq!(store.sweep(&EVERYTHING).unwrap(), SWEEP_ROWS);
    store.assert_sound();
    assert_eq!(SWEEP_ROWS + sweep_all(&mut store, &EVERYTHING), 801 + 2 + 1200 + 601);
    assert!(store.reader().deliveries(&read::DeliveryFilter::default(), None, 9).unwrap().rows.is_empty());
}

#[test]
fn one_slice_takes_the_attempts_of_many_deliveries() {
    let mut store = Disk::default().store();
    for at in 0..5 {
        let seq = store.accept(event(&at.to_string(), 1), vec![owe(ONE), owe(TWO)]).seq;
        for destination in [ONE, TWO] {
            store.settle(key(seq, destination), 2, Disposition::Sent);
        }
    }
    let plan = SweepPlan { attempts_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert_eq!(store.sweep(&plan).unwrap(), 10);
}

#[test]
fn attempts_go_before_their_events_where_the_plan_says_so() {
    let mut store = Disk::default().store();
    let sent = key(store.accept(event("a", 1), vec![owe(ONE)]).seq, ONE);
    let owed = key(store.accept(event("b", 1), vec![owe(ONE)]).seq, ONE);
    store.settle(owed, 2, retry(5));
    store.settle(sent, 2, Disposition::Sent);
    let plan = SweepPlan { attempts_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert_eq!(sweep_all(&mut store, &plan), 1);
    assert!(store.reader().trace(sent.seq).unwrap()[0].2.is_empty());
    assert_eq!(store.reader().trace(owed.seq).unwrap()[0].2.len(), 1);
    store.settle(owed, 6, Disposition::Sent);
    assert_eq!(sweep_all(&mut store, &plan), 2);
}

/// Bytes that the engine counts itself, walking every page.
fn counted_bytes(store: &Store) -> u64 {
    let counted = store.shared.write(|transaction| {
        let stats = transaction.stats()?;
        let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        Ok((bytes, Finish::Abandon))
    });
    counted.unwrap()
}

#[test]
fn what_rows_take_is_estimated_within_a_third_of_what_the_engine_counts() {
    let mut store = Disk::default().store();
    for n in 0..3000 {
        let event = Event { uid: Some("x".repeat(100 + n % 400)), ..event(&format!("e{n}"), 1) };
        let seq = store.accept(event, vec![owe(ONE), owe(TWO)]).seq;
        if n % 3 > 0 {
            store.settle(key(seq, ONE), 2, Disposition::Sent);
        }
    }
    let within_a_third = |store: &Store| {
        let (estimate, counted) = (store.reader().used_bytes().unwrap(), counted_bytes(store));
        assert!(estimate.abs_diff(counted) < counted / 3, "estimated {estimate}, counted {counted}");
    };
    within_a_third(&store);
    // Where receivers are down for long, attempts take more than anything else.
    let mut store = Disk::default().store();
    for n in 0..200 {
        let seq = store.accept(event(&format!("e{n}"), 1), vec![owe(ONE)]).seq;
        let tries = (1..40).map(|n| settle_op(key(seq, ONE), UnixMs(n), n + 1, Some(503), retry(n + 1)));
        store.commit(&tries.collect::<Vec<_>>()).unwrap();
        assert_eq!(store.delivery(key(seq, ONE)).history.exchanges, 39);
    }
    within_a_third(&store);
}

#[test]
fn beyond_its_size_the_oldest_finished_events_go_and_what_is_owed_or_dead_never() {
    let mut store = Disk::default().store();
    let mut finished = Vec::new();
    let mut kept = Vec::new();
    for n in 0..900 {
        let seq = store.accept(event(&format!("e{n}"), 1000 + n), vec![owe(ONE)]).seq;
        match n % 3 {
            0 => kept.push(seq),
            1 => {
                store.settle(key(seq, ONE), 2000, DEAD);
                kept.push(seq);
            }
            _ => {
                store.settle(key(seq, ONE), 2000, Disposition::Sent);
                finished.push(seq);
            }
        }
    }
    let is_there = |store: &Store, seq: &EventSeq| store.reader().event(*seq).unwrap().is_some();
    let before = store.reader().used_bytes().unwrap();
    let wanted = before / 10;
    let mut freed = 0;
    while freed < wanted {
        let shed = shed(&mut store, wanted - freed);
        assert!(shed.rows <= SWEEP_ROWS && !shed.ended);
        freed += shed.freed;
    }
    store.assert_sound();
    let gone = finished.iter().take_while(|seq| !is_there(&store, seq)).count();
    assert!(gone > 10 && finished[gone..].iter().all(|seq| is_there(&store, seq)), "the oldest first: {gone}");
    let smaller = store.reader().used_bytes().unwrap();
    assert!(smaller < before && before - smaller < 2 * wanted, "{before} -> {smaller}, wanted {wanted} less");
    while !shed(&mut store, u64::MAX).ended {}
    assert!(kept.iter().all(|seq| is_there(&store, seq)));
    assert!(finished.iter().all(|seq| !is_there(&store, seq)));
    store.assert_sound();
}

#[test]
fn what_retention_frees_is_used_again_and_the_file_stops_growing() {
    let disk = Disk::default();
    let mut store = disk.store();
    let mut sizes = Vec::new();
    for round in 0..8 {
        let ops: Vec<_> =
            (0..1500).map(|n| store.accept_op(event(&format!("e{round}-{n}"), 1), vec![owe(ONE)])).collect();
        for done in store.commit(&ops).unwrap() {
            let Applied::Queued(queued) = done else { panic!("{done:?}") };
            store.settle(key(queued.seq, ONE), 2, Disposition::Sent);
        }
        while store.sweep(&EVERYTHING).unwrap() > 0 {}
        sizes.push(store.reader().file_bytes().max(u64::try_from(disk.bytes.lock().unwrap().len()).unwrap()));
    }
    store.assert_sound();
    assert_eq!(store.reader().ledger().deliveries[&ONE].sent, 8 * 1500);
    assert_eq!(sizes[2..].iter().max(), sizes[2..].iter().min(), "{sizes:?}");
}
