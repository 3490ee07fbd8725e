//! What of an outbox is in memory, and what is left on disk.

use super::*;

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
fn what_was_put_back_where_the_page_ends_is_read_by_the_next() {
    let mut bench = Bench::new();
    bench.step(Input::Owed(vec![retry(A, 1, NOW)]));
    bench.step(Input::Rescan);
    // It was sent, and stands where it stood, while the page that ends with it is read.
    bench.ended(key(A, 1), Verdict::DestinationFault);
    bench.step(Input::Control(Control::Release { destination: A }));
    bench.step(Input::Settled { key: key(A, 1), owed: Some(retry(A, 1, NOW)) });
    let page = Input::Page { destination: A, rows: vec![retry(A, 1, NOW)], end: false };
    assert_eq!(bench.step(page).loads, [A]);
    let place = OutboxCursor { due_at: NOW, seq: EventSeq(1) };
    assert!(bench.after[&A].is_some_and(|after| after < place), "{:?}", bench.after[&A]);
    assert_eq!(bench.step(Input::Page { destination: A, rows: vec![retry(A, 1, NOW)], end: true }).sent, [1]);
}

#[test]
fn fresh_deliveries_do_not_wait_behind_a_backlog_on_disk() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    assert_eq!(bench.step(Input::Owed(vec![fresh(A, 9, NOW)])).sent, [9]);
}

// Row 38.
// Rows 34 and 77.
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
fn a_backlog_of_retries_does_not_keep_out_what_has_just_come_in() {
    let mut bench = Bench::new();
    let capacity = u64::try_from(LANE_ENTRIES_MAX).expect("small");
    // As many retries as may wait, all due at once, and as many again.
    let due = NOW + DurationMs::from_secs(30);
    bench.step(Input::Owed((1..=capacity).map(|seq| retry(A, seq, due)).collect()));
    bench.now = due;
    let first = bench.step(Input::Tick).sent;
    assert_eq!(first.len(), 2);
    bench.step(Input::Owed((1..=10).map(|seq| retry(A, capacity + seq, due)).collect()));
    bench.step(Input::Owed(vec![fresh(A, 1_000_000, due)]));
    let mut sent = bench.ended(key(A, first[0]), TRANSIENT).sent;
    sent.extend(bench.ended(key(A, first[1]), TRANSIENT).sent);
    assert!(sent.contains(&1_000_000), "one for one: {sent:?}");
}

#[test]
fn what_there_was_no_room_for_wakes_the_lane_when_it_is_due() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    bench.step(Input::Page { destination: A, rows: Vec::new(), end: true });
    let capacity = u64::try_from(LANE_ENTRIES_MAX).expect("small");
    let (soon, late) = (NOW + DurationMs::from_secs(30), NOW + DurationMs::from_hours(1));
    bench.step(Input::Owed((1..=capacity).map(|seq| retry(A, seq, late)).collect()));
    bench.step(Input::Owed(vec![retry(A, capacity + 1, soon)]));
    assert!(bench.scheduler.next_wake().is_some_and(|wake| wake <= soon), "nothing in memory is due by then");
    bench.now = soon;
    assert_eq!(bench.step(Input::Tick).loads, [A]);
}

#[test]
fn a_page_that_could_not_be_read_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.step(Input::Rescan);
    bench.step(Input::Owed(vec![retry(A, 1, NOW + DurationMs::from_secs(30))]));
    assert_eq!(bench.step(Input::PageFailed { destination: A }).loads, [A]);
    let rows = vec![retry(A, 1, NOW)];
    assert_eq!(bench.step(Input::Page { destination: A, rows, end: true }).sent, [1]);
}

// Rows 34 and 77.
#[test]
fn an_outbox_larger_than_memory_is_read_page_by_page_to_its_end() {
    let mut bench = Bench::new();
    let total = u64::try_from(3 * LANE_ENTRIES_MAX).expect("small");
    let mut outbox: BTreeMap<u64, Owed> = (1..=total).map(|seq| (seq, retry(A, seq, NOW))).collect();
    let mut loads = bench.step(Input::Rescan).loads;
    let mut pages = 0;
    while !outbox.is_empty() {
        assert!(loads.contains(&A), "{} rows are never read", outbox.len());
        pages += 1;
        let after = bench.after[&A].map_or(0, |cursor| cursor.seq.0);
        let rows: Vec<Owed> = outbox.range(after + 1..).take(PAGE_ROWS).map(|(_, owed)| owed.clone()).collect();
        let end = rows.len() < PAGE_ROWS;
        let done = bench.step(Input::Page { destination: A, rows, end });
        let mut sent = done.sent;
        loads = done.loads;
        while let Some(seq) = sent.pop() {
            sent.extend(bench.ended(key(A, seq), Verdict::Delivered).sent);
            assert!(outbox.remove(&seq).is_some(), "{seq} was sent twice");
            let done = bench.step(Input::Settled { key: key(A, seq), owed: None });
            sent.extend(done.sent);
            loads.extend(done.loads);
        }
    }
    assert!(pages <= total / 256, "{pages} pages: it spins");
}

#[test]
fn what_found_no_room_is_asked_for_when_there_is_room() {
    let mut bench = Bench::new();
    let mut sent = bench.step(Input::Owed((1..=20_000).map(|seq| fresh(A, seq, NOW)).collect())).sent;
    let mut loads = Vec::new();
    while let Some(seq) = sent.pop() {
        let ended = bench.ended(key(A, seq), Verdict::Delivered);
        let settled = bench.step(Input::Settled { key: key(A, seq), owed: None });
        for done in [ended, settled] {
            sent.extend(done.sent);
            loads.extend(done.loads);
        }
    }
    assert_eq!(loads, [A], "the outbox holds what memory could not");
}
