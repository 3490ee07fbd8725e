//! Giving up what a destination is owed: row 67 of the fault catalogue.

use super::*;
use crate::domain::delivery::State;

fn owed(store: &mut Store, count: u64, destinations: &[DestinationId]) -> Vec<EventSeq> {
    let plan = || destinations.iter().map(|id| owe(*id)).collect();
    (0..count).map(|n| store.accept(event(&n.to_string(), 100 + n), plan()).seq).collect()
}

fn purge(store: &mut Store, at: u64, under_way: &[EventSeq], limit: usize) -> Vec<EventSeq> {
    let op = purge_op(at, ONE, under_way.iter().copied().collect(), limit);
    let Applied::Purged { seqs, .. } = store.one(op) else { panic!("not purged") };
    seqs
}

#[test]
fn a_purge_takes_slices_of_what_one_destination_is_owed_and_nothing_else() {
    let (disk, mut reached) = (Disk::default(), Vec::new());
    let mut store = disk.store();
    let seqs = owed(&mut store, 5, &[ONE, TWO]);
    store.settle(key(seqs[0], ONE), 200, Disposition::Sent);
    store.settle(key(seqs[1], ONE), 200, DEAD);
    store.settle(key(seqs[2], ONE), 200, retry(900));
    let mut at = 300;
    loop {
        let slice = purge(&mut store, at, &[], 2);
        store.assert_sound();
        if slice.is_empty() {
            break;
        }
        // What a crash leaves of it is done, and the next slice goes on.
        store.reopen().unwrap();
        reached.extend(slice);
        at += 1;
    }
    assert_eq!(reached, [seqs[3], seqs[4], seqs[2]], "in the order of the outbox");
    let counts = store.counts(ONE);
    assert_eq!((counts.accepted, counts.sent, counts.failed_permanently, counts.discarded), (5, 1, 1, 3));
    assert_eq!((counts.pending, counts.failed, store.counts(TWO).pending), (0, 0, 5));
    assert!(store.reader().dlq_entry(key(seqs[1], ONE)).unwrap().is_some(), "the DLQ has a verb of its own");
    let given_up = store.delivery(key(seqs[2], ONE));
    assert_eq!(given_up.state, State::Discarded { at: UnixMs(301), reason: "left us".to_owned() });
    assert_eq!(given_up.history.counted, 1, "its attempts stay in the trace");
}

#[test]
fn what_is_under_way_ends_by_its_own_outcome() {
    let disk = Disk::default();
    let mut store = disk.store();
    let seqs = owed(&mut store, 3, &[ONE]);
    assert_eq!(purge(&mut store, 200, &[seqs[0]], 10), seqs[1..]);
    store.settle(key(seqs[0], ONE), 300, Disposition::Sent);
    // Should one be sent all the same, its outcome comes too late and the books count it once.
    let late = settle_op(key(seqs[1], ONE), UnixMs(101), 400, Some(200), Disposition::Sent);
    assert!(matches!(store.one(late), Applied::Stale { .. }));
    let counts = store.counts(ONE);
    assert_eq!((counts.accepted, counts.sent, counts.discarded), (3, 1, 2));
    store.assert_sound();
}
