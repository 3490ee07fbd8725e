//! Statistics outlive the process.

use super::*;
use crate::telemetry::rolling::saved::{Changes, SavedHead, SavedSlot, SavedWindow};
use crate::telemetry::rolling::{DestinationStats, LastError};

#[test]
fn statistics_come_back_after_a_crash_and_shed_what_is_out_of_reach() {
    let disk = Disk::default();
    let mut store = disk.store();
    let mut stats = DestinationStats::default();
    let (start, name) = (UnixMs(1_764_000_000_000), "deposit".parse().unwrap());
    for minute in 0..200_u64 {
        let at = start + DurationMs(minute * 60_000);
        stats.attempt(at, &name, minute % 2 == 0, DurationMs(minute));
        stats.sent(at, DurationMs(minute));
        let error =
            LastError { at, http_status: Some(503), reason: "transient".to_owned(), message: "busy".to_owned() };
        stats.error(error);
        if minute % 10 == 0 {
            let changes = Box::new(stats.changes().unwrap());
            store.one(WriteOp::SaveStats { destination: TWO, changes });
        }
    }
    let changes = Box::new(stats.changes().unwrap());
    store.one(WriteOp::SaveStats { destination: TWO, changes });
    // Not closed, like a crash.
    let mut saved = disk.store().reader().stats().unwrap();
    assert_eq!(saved.keys().copied().collect::<Vec<_>>(), [TWO]);
    let saved = saved.remove(&TWO).unwrap();
    assert_eq!((saved.hour.len(), saved.day.len()), (60, 14));
    let now = start + DurationMs(200 * 60_000);
    assert_eq!(DestinationStats::restore(saved).view(now), stats.view(now));
    drop(store);
}

#[test]
fn a_damaged_slot_costs_that_slot() {
    let mut store = Disk::default().store();
    let slot = |number| SavedSlot { number, events: vec![(None, 1, 1)], ..SavedSlot::default() };
    let window = SavedWindow { slots: vec![slot(5), slot(6)], first: 1, last: 6 };
    let changes = Changes { head: SavedHead::default(), hour: window.clone(), day: window };
    store.one(WriteOp::SaveStats { destination: ONE, changes: Box::new(changes) });
    let damaged = store.shared.write(|transaction| {
        let key = schema::stats_key(ONE, schema::StatsPart::Hour, 5);
        transaction.open_table(schema::STATS)?.insert(&key, b"noise".as_slice())?;
        Ok(((), Finish::Commit))
    });
    damaged.unwrap();
    let saved = store.reader().stats().unwrap().remove(&ONE).unwrap();
    assert_eq!((saved.hour, saved.day.len()), (vec![slot(6)], 2));
    assert_eq!(store.reader().damaged_rows(), 1);
}
