//! When an event is a repeat.

use super::*;

fn with_window(op: WriteOp, since: u64) -> WriteOp {
    let WriteOp::Accept(accept) = op else { panic!("not an event: {op:?}") };
    WriteOp::Accept(Accept { repeat_since: UnixMs(since), ..accept })
}

#[test]
fn a_repeat_names_the_first_and_owes_nothing() {
    let mut store = Disk::default().store();
    let first = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    let op = store.accept_op(event("a", 200), vec![owe(ONE)]);
    let Applied::Duplicate { first: found, conflict: false } = store.one(op) else { panic!() };
    assert_eq!(found, first);
    assert_eq!(store.counts(ONE).accepted, 1);
    let events = store.reader().ledger().events["app"];
    assert_eq!(events, EventCounts { accepted: 1, duplicates: 1, ..EventCounts::default() });
    store.assert_sound();
}

// Row 58.
#[test]
fn a_repeat_with_another_content_is_a_conflict_and_the_first_is_kept() {
    let mut store = Disk::default().store();
    let seq = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    let other = Event { value: "99".parse().ok(), ..event("a", 200) };
    let op = store.accept_op(other, vec![owe(ONE)]);
    assert!(matches!(store.one(op), Applied::Duplicate { conflict: true, .. }));
    assert_eq!(store.reader().event(seq).unwrap().unwrap().value, "25.00".parse().ok());
    let events = store.reader().ledger().events["app"];
    assert_eq!((events.duplicates, events.conflicts), (1, 1));
}

#[test]
fn repeats_within_one_batch_are_found() {
    let mut store = Disk::default().store();
    let op = store.accept_op(event("a", 100), vec![owe(ONE)]);
    let applied = store.commit(&[op.clone(), op]).unwrap();
    assert!(matches!(applied[..], [Applied::Queued(_), Applied::Duplicate { first: EventSeq(1), conflict: false }]));
    assert_eq!(store.counts(ONE).pending, 1);
}

#[test]
fn a_key_older_than_the_window_makes_no_repeat_and_the_newer_one_wins() {
    let mut store = Disk::default().store();
    let first = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    store.accept(event("a newer one in the same bucket", 400), vec![]);
    let again = with_window(store.accept_op(event("a", 500), vec![owe(ONE)]), 101);
    let Applied::Queued(second) = store.one(again) else { panic!() };
    assert_ne!(second.seq, first);
    let third = with_window(store.accept_op(event("a", 600), vec![owe(ONE)]), 101);
    let Applied::Duplicate { first: found, .. } = store.one(third) else { panic!() };
    assert_eq!(found, second.seq);
    store.assert_sound();
}

#[test]
fn a_key_exactly_as_old_as_the_window_is_still_a_repeat() {
    let mut store = Disk::default().store();
    store.accept(event("a", 100), vec![]);
    let again = with_window(store.accept_op(event("a", 500), vec![]), 100);
    assert!(matches!(store.one(again), Applied::Duplicate { .. }));
}

#[test]
fn repeats_are_known_after_reopening_also_from_other_buckets() {
    let disk = Disk::default();
    let mut store = disk.store();
    store.accept(event("a", 100), vec![owe(ONE)]);
    store.memory.next_seq = 5 << 14;
    store.accept(event("b", 100), vec![owe(ONE)]);
    store.reopen().unwrap();
    for id in ["a", "b"] {
        let op = store.accept_op(event(id, 200), vec![owe(ONE)]);
        assert!(matches!(store.one(op), Applied::Duplicate { .. }), "{id}");
    }
    assert_eq!(store.reader().events_by_sender_id("a", 9).unwrap(), [EventSeq(1)]);
    assert_eq!(store.reader().events_by_sender_id("b", 9).unwrap(), [EventSeq(5 << 14)]);
    store.assert_sound();
}

#[test]
fn a_damaged_key_makes_no_repeat_and_is_counted() {
    let mut store = Disk::default().store();
    let first = store.accept_op(event("a", 100), vec![owe(ONE)]);
    store.one(first.clone());
    let WriteOp::Accept(accept) = &first else { panic!() };
    let row = schema::dedupe_key(0, accept.key);
    let broken = store.shared.write(|transaction| {
        transaction.open_table(schema::DEDUPE)?.insert(&row, b"noise".as_slice())?;
        Ok(((), Finish::Commit))
    });
    broken.unwrap();
    assert!(matches!(store.one(first), Applied::Queued(_)), "an event is rather sent twice than lost");
    assert_eq!(store.reader().damaged_rows(), 1);
}

// Row 5.
#[test]
fn a_failed_commit_acknowledges_nothing_and_a_repeat_after_reopening_is_safe() {
    let disk = Disk::default();
    let mut store = disk.store();
    let reader = store.reader();
    store.accept(event("a", 100), vec![owe(ONE)]);
    let op = store.accept_op(event("b", 200), vec![owe(ONE)]);
    disk.full.store(true, Ordering::Relaxed);
    assert!(matches!(store.commit(std::slice::from_ref(&op)), Err(StoreError::Full(_))));
    assert_eq!(reader.ledger().deliveries[&ONE].accepted, 1, "books are as of the last commit");
    disk.full.store(false, Ordering::Relaxed);
    let refused = store.commit(std::slice::from_ref(&op)).unwrap_err().to_string();
    assert!(refused.contains("must be reopened"), "nothing is written before reopening: {refused}");
    store.reopen().unwrap();
    assert!(matches!(store.one(op.clone()), Applied::Queued(_) | Applied::Duplicate { .. }));
    assert!(matches!(store.one(op), Applied::Duplicate { .. }));
    assert_eq!(reader.ledger().deliveries[&ONE].pending, 2, "readers survive a reopening");
    store.assert_sound();
}

// Rows 30 and 31: the clock was a year behind, or at 1970, when the event came in.
#[test]
fn what_came_in_while_the_clock_was_behind_is_a_repeat_once_it_is_right() {
    let mut store = Disk::default().store();
    store.accept(event("before", 1000), vec![owe(ONE)]);
    store.accept(event("behind", 10), vec![owe(ONE)]);
    for _ in 0..2 {
        let again = with_window(store.accept_op(event("behind", 1100), vec![owe(ONE)]), 990);
        assert!(matches!(store.one(again), Applied::Duplicate { .. }));
        store.reopen().unwrap();
    }
    store.assert_sound();
}

/// Numbers of the kept filters.
fn kept(store: &Store) -> Vec<u32> {
    let read = store.shared.read(|transaction| {
        let table = transaction.open_table(schema::FILTERS)?;
        redb::ReadableTable::iter(&table)?.map(|row| Ok(schema::read_bucket_key(*row?.0.value()))).collect()
    });
    read.unwrap()
}

fn write_filter(store: &Store, bucket: u32, bytes: &[u8]) {
    let write = store.shared.write(|transaction| {
        transaction.open_table(schema::FILTERS)?.insert(&schema::bucket_key(bucket), bytes)?;
        Ok(((), Finish::Commit))
    });
    write.unwrap();
}

/// An event in each of so many buckets: `e0` in the first.
fn in_buckets(store: &mut Store, count: u64) {
    for bucket in 0..count {
        store.memory.next_seq = (bucket << 14).max(1);
        store.accept(event(&format!("e{bucket}"), 100 + bucket), vec![skip(ONE)]);
    }
}

fn is_repeat(store: &mut Store, id: &str) -> bool {
    let op = store.accept_op(event(id, 900), vec![skip(ONE)]);
    matches!(store.one(op), Applied::Duplicate { .. })
}

#[test]
fn the_filter_of_a_full_bucket_is_kept_and_a_start_goes_by_it() {
    let mut store = Disk::default().store();
    in_buckets(&mut store, 3);
    assert_eq!(kept(&store), [0, 1], "the third is not full");
    store.assert_sound();
    store.reopen().unwrap();
    assert_eq!(store.memory.filters.unkept(u32::MAX).map(|(bucket, _)| bucket), Some(2), "made from its rows");
    assert!(["e0", "e1", "e2"].iter().all(|id| is_repeat(&mut store, id)));
    // What is looked at is the kept one: a start that read the rows would not notice.
    let empty = row::FilterRow { newest: 100, bits: vec![0; filter::BYTES] };
    write_filter(&store, 0, &row::encode(&empty).unwrap());
    let findings = store.reader().verify().unwrap();
    assert!(findings.len() == 1 && findings[0].starts_with("dedupe filter 0: does not know key"), "{findings:?}");
    store.reopen().unwrap();
    assert!(!is_repeat(&mut store, "e0"));
}

#[test]
fn a_filter_that_cannot_be_read_is_made_anew_and_replaced() {
    let damaged = b"noise".to_vec();
    let of_another_size = row::encode(&row::FilterRow { newest: 100, bits: vec![0; 64] }).unwrap();
    for bytes in [damaged, of_another_size] {
        let mut store = Disk::default().store();
        in_buckets(&mut store, 3);
        write_filter(&store, 0, &bytes);
        assert_eq!(store.reader().verify().unwrap().len(), 1);
        store.reopen().unwrap();
        assert!(is_repeat(&mut store, "e0"));
        assert!(!is_repeat(&mut store, "new"));
        assert_eq!(store.reader().verify().unwrap(), Vec::<String>::new());
        assert_eq!(kept(&store), [0, 1]);
    }
}

// Another version, or another read, may understand the row.
#[test]
fn a_kept_filter_knows_the_key_of_a_row_that_could_not_be_read_when_it_was_made() {
    let mut store = Disk::default().store();
    let WriteOp::Accept(accept) = store.accept_op(event("e0", 100), vec![skip(ONE)]) else { panic!() };
    let row = schema::dedupe_key(0, accept.key);
    store.one(WriteOp::Accept(accept));
    let write = |store: &Store, bytes: &[u8]| {
        let written = store.shared.write(|transaction| {
            let mut table = transaction.open_table(schema::DEDUPE)?;
            let before = table.insert(&row, bytes)?.map(|before| before.value().to_vec());
            Ok((before, Finish::Commit))
        });
        written.unwrap().unwrap()
    };
    let good = write(&store, b"noise");
    store.reopen().unwrap();
    store.accept(event("beside", 100), vec![]);
    store.memory.next_seq = 1 << 14;
    store.accept(event("e1", 100), vec![]);
    assert_eq!(kept(&store), [0]);
    write(&store, &good);
    store.reopen().unwrap();
    assert!(is_repeat(&mut store, "e0"));
}

// None is ever written; a file may hold anything.
#[test]
fn a_filter_of_a_bucket_that_is_not_full_is_not_believed() {
    let mut store = Disk::default().store();
    in_buckets(&mut store, 2);
    let empty = row::FilterRow { newest: 100, bits: vec![0; filter::BYTES] };
    write_filter(&store, 1, &row::encode(&empty).unwrap());
    store.reopen().unwrap();
    assert!(is_repeat(&mut store, "e1"));
}

#[test]
fn a_file_from_before_filters_were_kept_gets_them_one_with_each_transaction() {
    let mut store = Disk::default().store();
    in_buckets(&mut store, 4);
    let drop = store.shared.write(|transaction| {
        transaction.delete_table(schema::FILTERS)?;
        Ok(((), Finish::Commit))
    });
    drop.unwrap();
    store.reopen().unwrap();
    for (id, found) in [("a", 1), ("b", 2), ("c", 3), ("d", 3)] {
        store.accept(event(id, 900), vec![]);
        assert_eq!(kept(&store).len(), found);
    }
    store.assert_sound();
    assert!(["e0", "e1", "e2", "e3"].iter().all(|id| is_repeat(&mut store, id)));
}

#[test]
fn a_filter_goes_with_the_keys_of_its_bucket() {
    let mut store = Disk::default().store();
    in_buckets(&mut store, 3);
    let before = Some(UnixMs(101));
    let plan = SweepPlan { events_before: before, dedupe_before: before, ..SweepPlan::default() };
    while store.sweep(&plan).unwrap() > 0 {}
    assert_eq!(kept(&store), [1]);
    store.assert_sound();
    store.reopen().unwrap();
    assert!(!is_repeat(&mut store, "e0") && is_repeat(&mut store, "e1"));
}

// Its row went with the transaction.
#[test]
fn a_filter_is_not_taken_for_kept_where_its_transaction_failed() {
    let disk = Disk::default();
    let mut store = disk.store();
    in_buckets(&mut store, 1);
    store.memory.next_seq = 1 << 14;
    let mut large = event("large", 900);
    large.data.insert("x".to_owned(), "x".repeat(2 << 20).into());
    let ops = [store.accept_op(event("e1", 900), vec![]), store.accept_op(large, vec![])];
    assert!(store.commit(&ops).is_err());
    assert_eq!(kept(&store), Vec::<u32>::new());
    store.accept(event("e2", 900), vec![]);
    assert_eq!(kept(&store), [0]);
    store.assert_sound();
}
