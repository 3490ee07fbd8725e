//! Every rule between rows, broken once: verification must find each.

use redb::{ReadableTable, WriteTransaction};

use super::*;
use crate::domain::job::{JobKind, JobNumber, JobState};
use crate::store::job::{Job, Selection};
use crate::store::row::{EventRow, JobRow, NumberRow, ZoneRow};

/// A store with one delivery in each place: owed twice, sent, dead.
fn filled() -> Store {
    let mut store = Disk::default().store();
    for id in ["a", "b", "c", "d"] {
        store.accept(event(id, 100), vec![owe(ONE)]);
    }
    store.settle(key(EventSeq(2), ONE), 110, retry(500));
    store.settle(key(EventSeq(3), ONE), 110, Disposition::Sent);
    store.settle(key(EventSeq(4), ONE), 110, DEAD);
    store.assert_sound();
    store
}

#[track_caller]
fn finds(wanted: &str, harm: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>) {
    let store = filled();
    store.shared.write(|transaction| harm(transaction).map(|()| ((), Finish::Commit))).unwrap();
    let findings = store.reader().verify().unwrap();
    assert!(findings.iter().any(|finding| finding.contains(wanted)), "{findings:#?}");
}

#[test]
fn an_object_that_is_no_json_is_found() {
    finds("event 1: an object of it is no JSON", |transaction| {
        let mut inbox = transaction.open_table(schema::INBOX)?;
        let seq = schema::inbox_key(EventSeq(1));
        let mut event: EventRow = row::decode(inbox.get(&seq)?.unwrap().value()).unwrap();
        event.page = "{\"url\"}".to_owned();
        inbox.insert(&seq, row::encode(&event)?.as_slice())?;
        Ok(())
    });
}

#[test]
fn a_lost_due_row_is_found() {
    finds("delivery 1/1: owed at 1970-01-01T00:00:00.100Z, but not in the outbox", |transaction| {
        let place = schema::outbox_key(ONE, UnixMs(100), EventSeq(1));
        assert!(transaction.open_table(schema::OUTBOX)?.remove(&place)?.is_some());
        Ok(())
    });
}

#[test]
fn a_stray_due_row_is_found() {
    finds("delivery 3/1: in the outbox at", |transaction| {
        transaction.open_table(schema::OUTBOX)?.insert(&schema::outbox_key(ONE, UnixMs(7), EventSeq(3)), ())?;
        Ok(())
    });
    finds("2 owed in the books, 3 in the outbox", |transaction| {
        transaction.open_table(schema::OUTBOX)?.insert(&schema::outbox_key(ONE, UnixMs(7), EventSeq(1)), ())?;
        Ok(())
    });
}

#[test]
fn a_lost_dlq_row_is_found() {
    finds("delivery 4/1: dead since", |transaction| {
        transaction.open_table(schema::DLQ)?.remove(&schema::delivery_key(key(EventSeq(4), ONE)))?;
        Ok(())
    });
    // It died in the millisecond before which retention has removed them.
    finds("delivery 4/1: dead since", |transaction| {
        transaction.open_table(schema::DLQ)?.remove(&schema::delivery_key(key(EventSeq(4), ONE)))?;
        let swept = row::encode(&NumberRow(110))?;
        transaction.open_table(schema::META)?.insert(schema::META_DLQ_SWEPT, swept.as_slice())?;
        Ok(())
    });
}

#[test]
fn a_stray_dlq_row_is_found() {
    finds("delivery 3/1: in the DLQ, but it is sent", |transaction| {
        let mut dlq = transaction.open_table(schema::DLQ)?;
        let bytes = dlq.get(&schema::delivery_key(key(EventSeq(4), ONE)))?.unwrap().value().to_vec();
        dlq.insert(&schema::delivery_key(key(EventSeq(3), ONE)), bytes.as_slice())?;
        Ok(())
    });
}

#[test]
fn a_lost_event_is_found() {
    finds("delivery 1/1: its event is gone", |transaction| {
        transaction.open_table(schema::INBOX)?.remove(&schema::inbox_key(EventSeq(1)))?;
        Ok(())
    });
}

#[test]
fn a_lost_delivery_is_found() {
    finds("1 failed in the books, 0 in the rows", |transaction| {
        transaction.open_table(schema::DELIVERIES)?.remove(&schema::delivery_key(key(EventSeq(2), ONE)))?;
        Ok(())
    });
}

#[test]
fn a_stray_attempt_is_found() {
    finds("delivery 3/1: has an attempt 2", |transaction| {
        let mut attempts = transaction.open_table(schema::ATTEMPTS)?;
        let first = attempts.get(&schema::attempt_key(key(EventSeq(3), ONE), 1))?.unwrap().value().to_vec();
        attempts.insert(&schema::attempt_key(key(EventSeq(3), ONE), 2), first.as_slice())?;
        Ok(())
    });
}

#[test]
fn wrong_books_are_found() {
    finds("the books do not balance", |transaction| {
        let wrong = Counts { accepted: 9, pending: 1, failed: 1, sent: 1, failed_permanently: 1, ..Counts::default() };
        let bytes = row::encode(&row::CountsRow::from(&wrong))?;
        transaction.open_table(schema::COUNTS)?.insert(&schema::counts_key(ONE), bytes.as_slice())?;
        Ok(())
    });
    finds("has deliveries, but no books", |transaction| {
        transaction.open_table(schema::COUNTS)?.remove(&schema::counts_key(ONE))?;
        Ok(())
    });
}

#[test]
fn a_dedupe_key_from_the_future_is_found() {
    finds("which was never accepted", |transaction| {
        let bytes = row::encode(&row::DedupeRow { seq: 5, received_at: 1, content: 1 })?;
        let place = schema::dedupe_key(0, DedupeKey { discriminator: 1, identity: 1 });
        transaction.open_table(schema::DEDUPE)?.insert(&place, bytes.as_slice())?;
        Ok(())
    });
}

#[test]
fn two_names_with_one_number_are_found() {
    finds("have the same number 5", |transaction| {
        let bytes = row::encode(&NumberRow(5))?;
        let mut table = transaction.open_table(schema::DESTINATIONS)?;
        table.insert("x", bytes.as_slice())?;
        table.insert("y", bytes.as_slice())?;
        Ok(())
    });
}

/// Changes the row of the zone that the dead delivery is in.
fn with_zone(change: impl FnOnce(&mut ZoneRow)) -> impl FnOnce(&WriteTransaction) -> Result<(), StoreError> {
    |transaction| {
        let mut zones = transaction.open_table(schema::ZONES)?;
        let place = schema::zone_key(schema::zone_of(EventSeq(4)));
        let mut zone: ZoneRow = row::decode(zones.get(&place)?.unwrap().value()).unwrap();
        change(&mut zone);
        zones.insert(&place, row::encode(&zone)?.as_slice())?;
        Ok(())
    }
}

// A list by zones passes over what its zone does not know of.
#[test]
fn a_zone_that_does_not_know_what_is_in_it_is_found() {
    finds("counts [], found [", with_zone(|zone| zone.counts.clear()));
    finds("does not know of deposit, the name of event 4", with_zone(|zone| zone.names.clear()));
    finds("does not know of the reason permanent of delivery 4/1", with_zone(|zone| zone.reasons.clear()));
    let outside = "event 4 was received at 100, outside of it";
    finds(outside, with_zone(|zone| zone.first = 101));
    finds(outside, with_zone(|zone| zone.last = 99));
    finds("does not know of the uid of event 4", |transaction| {
        transaction.delete_table(schema::ZONE_UIDS)?;
        Ok(())
    });
}

#[test]
fn a_job_that_did_more_than_it_is_of_and_a_deed_that_cannot_be_read_are_found() {
    finds("job 3 has done 4 and failed 2 of 5", |transaction| {
        let job = Job {
            number: JobNumber(3),
            kind: JobKind::Discard,
            state: JobState::Running,
            selection: Selection::Filter(Box::default()),
            rate: None,
            reason: String::new(),
            matched: 5,
            done: 4,
            failed: 2,
            cursor: None,
            paced_to: UnixMs(1),
            started_at: UnixMs(1),
            finished_at: None,
        };
        let bytes = row::encode(&JobRow::from(&job))?;
        transaction.open_table(schema::JOBS)?.insert(&schema::desk_key(3), bytes.as_slice())?;
        Ok(())
    });
    finds("deed 7: the row's checksum is wrong", |transaction| {
        transaction.open_table(schema::AUDIT)?.insert(&schema::desk_key(7), b"12345678".as_slice())?;
        Ok(())
    });
}

// Row 82.
#[test]
fn a_row_that_cannot_be_read_is_found() {
    finds("event 1: the row's checksum is wrong", |transaction| {
        transaction.open_table(schema::INBOX)?.insert(&schema::inbox_key(EventSeq(1)), b"12345678".as_slice())?;
        Ok(())
    });
}
