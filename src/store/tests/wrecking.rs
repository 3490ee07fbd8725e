//! Deliveries that cannot be read: seen, left alone by everything, and given up by an operator with the books in order.

use redb::ReadableTable;

use super::zoning::zones;
use super::*;
use crate::domain::delivery::State;
use crate::domain::limits::API_PAGE_DEFAULT;
use crate::store::handle::Finish;
use crate::store::row::DeliveryRow;
use crate::store::schema::{DELIVERIES, INBOX};

/// Writes junk over the row.
fn spoil_delivery(store: &Store, key: DeliveryKey) {
    let spoil = |transaction: &redb::WriteTransaction| {
        transaction.open_table(DELIVERIES)?.insert(&schema::delivery_key(key), b"junk".as_slice())?;
        Ok(((), Finish::Commit))
    };
    store.shared.write(spoil).unwrap();
}

fn spoil_event(store: &Store, seq: EventSeq) {
    let spoil = |transaction: &redb::WriteTransaction| {
        transaction.open_table(INBOX)?.insert(&schema::inbox_key(seq), b"junk".as_slice())?;
        Ok(((), Finish::Commit))
    };
    store.shared.write(spoil).unwrap();
}

fn discard(store: &mut Store, key: DeliveryKey) -> u64 {
    let op = Discard { at: UnixMs(900), keys: vec![key], reason: "it is spoilt".to_owned() };
    let applied = store.commit(&[WriteOp::Discard(op)]).unwrap();
    let [Applied::Discarded { count }] = applied[..] else { panic!("{applied:?}") };
    count
}

/// Owed, owed after a failure, dead, sent: four deliveries of as many events.
fn four(store: &mut Store) -> [DeliveryKey; 4] {
    let keys = ["owed", "failed", "dead", "sent"].map(|id| key(store.accept(event(id, 100), vec![owe(ONE)]).seq, ONE));
    store.settle(keys[1], 150, retry(200));
    store.settle(keys[2], 160, DEAD);
    store.settle(keys[3], 160, Disposition::Sent);
    store.assert_sound();
    keys
}

fn counts(store: &Store) -> Counts {
    store.reader().ledger().deliveries[&ONE]
}

// Rows 11 and 82.
#[test]
fn a_delivery_whose_row_is_damaged_is_given_up_once_and_the_books_agree() {
    let mut store = Disk::default().store();
    let keys = four(&mut store);
    for key in keys {
        spoil_delivery(&store, key);
    }
    // Whoever looks for work meets what is owed.
    let page = store.reader().outbox_page(ONE, None, 10, Bodies::NONE).unwrap();
    assert_eq!(page.len(), 0, "never sent");
    let [owed, failed, dead, sent] = keys;
    let reader = store.reader();
    assert_eq!(reader.wrecks(&keys).unwrap(), [owed, failed, dead], "what has ended is left alone");
    let rows = reader.damaged(100).unwrap();
    let row = rows.iter().find(|row| row.table == "deliveries" && row.seq == Some(owed.seq)).unwrap();
    assert_eq!((row.wrecks.as_slice(), row.event.as_ref().unwrap().event_id.as_deref()), (&[owed][..], Some("owed")));
    for key in [owed, failed, dead] {
        assert_eq!((discard(&mut store, key), discard(&mut store, key)), (1, 0));
        let delivery = store.delivery(key);
        assert_eq!(delivery.state, State::Discarded { at: UnixMs(900), reason: "it is spoilt".to_owned() });
        assert_eq!(delivery.received_at, UnixMs(100), "what the event tells is kept");
    }
    assert_eq!(discard(&mut store, sent), 0);
    let Counts { accepted, pending, failed, sent, failed_permanently, discarded, .. } = counts(&store);
    assert_eq!((accepted, pending, failed, failed_permanently, discarded, sent), (4, 0, 0, 0, 3, 1));
    let findings = store.reader().verify().unwrap();
    // The one that has ended is still damaged, and missed in its zone.
    let is_of_the_last = |finding: &String| finding.starts_with("delivery 4/1") || finding.starts_with("zone 1:");
    assert!(findings.iter().all(is_of_the_last), "{findings:?}");
    assert_eq!(store.reader().damaged_rows(), 1);
    sweep(&mut store, 100);
    assert_eq!(store.reader().damaged_rows(), 1, "not before its event");
    sweep(&mut store, 101);
    store.assert_sound();
    assert_eq!(store.reader().damaged_rows(), 0, "and it goes with its event");
    assert!(store.reader().trace(keys[3].seq).unwrap().is_empty());
}

/// Retention, by receipt before that time, until there is nothing to do.
fn sweep(store: &mut Store, before: u64) {
    let (events_before, attempts_before) = (Some(UnixMs(before)), Some(UnixMs(before)));
    let plan = SweepPlan { events_before, attempts_before, ..SweepPlan::default() };
    // A slice may look and remove nothing.
    for _ in 0..20 {
        store.sweep(&plan).unwrap();
    }
}

// Row 11.
#[test]
fn what_may_be_owed_or_is_dead_stays_with_its_event_however_damaged_it_is() {
    let mut store = Disk::default().store();
    let keys = four(&mut store);
    let ended = key(store.accept(event("ended", 100), vec![owe(ONE), owe(TWO)]).seq, ONE);
    let other = DeliveryKey { destination: TWO, ..ended };
    store.settle(ended, 160, Disposition::Sent);
    store.settle(other, 160, Disposition::Sent);
    // One destination is owed nothing, the other is owed something else.
    for key in [keys[0], keys[1], keys[2], ended, other] {
        spoil_delivery(&store, key);
    }
    sweep(&mut store, 1000);
    let left = |key: DeliveryKey| store.reader().event(key.seq).unwrap().is_some();
    assert_eq!([keys[0], keys[1], keys[2], keys[3], other].map(left), [true, true, true, false, false]);
    let Counts { pending, failed, failed_permanently, sent, .. } = counts(&store);
    assert_eq!((pending, failed, failed_permanently, sent), (1, 1, 1, 2), "the books keep counting");
    // Given up, they go too, and the zone that was counted anew is right.
    let page = store.reader().outbox_page(ONE, None, 10, Bodies::NONE).unwrap();
    assert_eq!(page.len(), 0);
    assert_eq!([keys[0], keys[1], keys[2]].map(|key| discard(&mut store, key)), [1, 1, 1]);
    store.assert_sound();
    sweep(&mut store, 1000);
    store.assert_sound();
    assert_eq!(store.reader().damaged_rows(), 0);
}

#[test]
fn a_zone_that_lost_a_delivery_nobody_could_read_is_counted_anew() {
    let mut store = Disk::default().store();
    let [.., sent] = four(&mut store);
    let young = key(store.accept(event("young", 2000), vec![owe(ONE)]).seq, ONE);
    store.settle(young, 2000, Disposition::Sent);
    sweep(&mut store, 0);
    let both = schema::zone_of(sent.seq);
    assert!(schema::zone_of(young.seq) == both && zones(&store).contains(&both));
    spoil_delivery(&store, sent);
    sweep(&mut store, 1000);
    assert!(store.reader().trace(sent.seq).unwrap().is_empty());
    assert!(zones(&store).contains(&both), "it has a row");
    store.assert_sound();
}

/// All pages of a scan: table and event of each row, and how many pages there were.
fn scanned(store: &Store) -> (Vec<(&'static str, Option<u64>)>, usize) {
    let (mut found, mut pages, mut at) = (Vec::new(), 0, None);
    loop {
        let (rows, next) = store.reader().scan(at.as_ref()).unwrap();
        assert!(rows.len() <= API_PAGE_DEFAULT, "{}", rows.len());
        found.extend(rows.iter().map(|row| (row.table, row.seq.map(|seq| seq.0))));
        pages += 1;
        at = next.map(|next| next.to_string().parse().unwrap());
        if at.is_none() {
            return (found, pages);
        }
    }
}

// Row 11: as after a restart, when nobody has met them yet.
#[test]
fn a_scan_finds_what_nobody_has_met_and_says_what_can_be_given_up() {
    let disk = Disk::default();
    let mut store = disk.store();
    let [owed, failed, dead, sent] = four(&mut store);
    assert_eq!(scanned(&store), (Vec::new(), 1));
    for key in [owed, dead, sent] {
        spoil_delivery(&store, key);
    }
    spoil_event(&store, failed.seq);
    drop(store);
    let mut store = disk.store();
    assert_eq!(store.reader().damaged_rows(), 0, "a start has met none of them");
    let seq = |key: DeliveryKey| Some(key.seq.0);
    let damaged = ["outbox", "deliveries", "deliveries", "deliveries", "inbox"];
    let wanted: Vec<_> = damaged.into_iter().zip([owed, owed, dead, sent, failed].map(seq)).collect();
    assert_eq!(scanned(&store).0, wanted);
    let rows = store.reader().scan(None).unwrap().0;
    let wrecks: Vec<_> = rows.iter().map(|row| row.wrecks.as_slice()).collect();
    assert_eq!(wrecks, [&[owed][..], &[owed], &[dead], &[], &[failed]]);
    assert_eq!(store.reader().damaged_rows(), 5, "now they are met");
    assert_eq!([owed, dead, failed].map(|key| discard(&mut store, key)), [1, 1, 1]);
    let wanted = [("deliveries", seq(sent)), ("inbox", seq(failed))];
    assert_eq!(scanned(&store).0, wanted, "what was given up is as damaged as it was where it is not written anew");
}

#[test]
fn a_scan_is_in_pages_and_misses_nothing_between_them() {
    let mut store = Disk::default().store();
    let keys: Vec<_> =
        (0..230).map(|id| key(store.accept(event(&format!("e{id}"), 100), vec![owe(ONE)]).seq, ONE)).collect();
    for key in &keys {
        spoil_event(&store, key.seq);
    }
    // What the first page has found in tables before is not found again by the next.
    let spoil = |transaction: &redb::WriteTransaction| {
        let stray = schema::outbox_key(ONE, UnixMs(7), keys[0].seq);
        transaction.open_table(schema::OUTBOX)?.insert(&stray, ())?;
        let mut table = transaction.open_table(DELIVERIES)?;
        let place = schema::delivery_key(keys[1]);
        let without_target = row::decode::<DeliveryRow>(table.get(&place)?.unwrap().value()).unwrap();
        let without_target = DeliveryRow { target: None, ..without_target };
        table.insert(&place, row::encode(&without_target)?.as_slice())?;
        Ok(((), Finish::Commit))
    };
    store.shared.write(spoil).unwrap();
    let (found, pages) = scanned(&store);
    let mut wanted = vec![("outbox", Some(keys[0].seq.0)), ("deliveries", Some(keys[1].seq.0))];
    wanted.extend(keys.iter().map(|key| ("inbox", Some(key.seq.0))));
    assert_eq!((found, pages), (wanted, 3));
}

// Row 11.
#[test]
fn a_delivery_whose_event_is_damaged_can_be_given_up() {
    let mut store = Disk::default().store();
    let [owed, failed, dead, _] = four(&mut store);
    let healthy = key(store.accept(event("healthy", 100), vec![owe(ONE)]).seq, ONE);
    for key in [owed, failed] {
        spoil_event(&store, key.seq);
    }
    assert_eq!(store.reader().wrecks(&[owed, failed, dead, healthy]).unwrap(), [owed, failed]);
    assert_eq!(discard(&mut store, healthy), 0, "what can be sent is not given up by this");
    assert_eq!([owed, failed].map(|key| discard(&mut store, key)), [1, 1]);
    let Counts { pending, failed, discarded, .. } = counts(&store);
    assert_eq!((pending, failed, discarded), (1, 0, 2));
    let findings = store.reader().verify().unwrap();
    assert!(findings.iter().all(|finding| finding.starts_with("event ")), "{findings:?}");
    let page = store.reader().outbox_page(ONE, None, 10, Bodies::NONE).unwrap();
    assert_eq!(page.iter().map(|owed| owed.key).collect::<Vec<_>>(), [healthy]);
    // Read again or not, that is settled; and retention takes the events by the age of their deliveries.
    assert!(store.reader().event(owed.seq).unwrap().is_none());
    assert_eq!(store.reader().damaged_rows(), 0);
    let plan = SweepPlan { events_before: Some(UnixMs(100)), ..SweepPlan::default() };
    assert_eq!(store.sweep(&plan).unwrap(), 0, "they are not so old");
    let plan = SweepPlan { events_before: Some(UnixMs(101)), ..SweepPlan::default() };
    while store.sweep(&plan).unwrap() > 0 {}
    store.assert_sound();
}
