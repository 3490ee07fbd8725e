//! What readers see.

use super::*;
use crate::domain::delivery::{Autopsy, Status};
use crate::domain::fault::{FaultId, normal_form};
use crate::store::read::{Answered, DeliveryFilter, Reader};

/// Every row of the log under `filter`, in pages of `limit`.
fn all(reader: &Reader, filter: &DeliveryFilter, limit: usize) -> Vec<DeliveryKey> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = reader.deliveries(filter, after, limit).unwrap();
        assert!(page.rows.len() <= limit);
        keys.extend(page.rows.iter().map(|row| row.key));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

fn filled() -> Store {
    let mut store = Disk::default().store();
    for number in 0..20_u64 {
        let seq = store.accept(event(&format!("e{}", number % 10), number * 10), vec![owe(ONE), skip(TWO)]).seq;
        store.memory.filters = filter::Filters::default();
        if number % 2 == 0 {
            store.settle(key(seq, ONE), number * 10 + 5, DEAD);
        }
    }
    store
}

#[test]
fn pages_of_any_size_show_every_row_once_newest_first() {
    let store = filled();
    let reader = store.reader();
    let whole = all(&reader, &DeliveryFilter::default(), 1000);
    assert_eq!(whole.len(), 40);
    assert!(whole.windows(2).all(|pair| pair[0] > pair[1]));
    for limit in [1, 3, 7, 40] {
        assert_eq!(all(&reader, &DeliveryFilter::default(), limit), whole, "{limit}");
    }
}

#[test]
fn every_filter_filters() {
    let store = filled();
    let reader = store.reader();
    let count = |filter: DeliveryFilter| all(&reader, &filter, 3).len();
    let none = DeliveryFilter::default;
    assert_eq!(count(DeliveryFilter { destination: Some(ONE), ..none() }), 20);
    assert_eq!(count(DeliveryFilter { status: Some(Status::FailedPermanently), ..none() }), 10);
    assert_eq!(count(DeliveryFilter { reason: Some("unmapped".to_owned()), ..none() }), 20);
    assert_eq!(count(DeliveryFilter { event: Some("deposit".to_owned()), ..none() }), 40);
    assert_eq!(count(DeliveryFilter { event: Some("lead".to_owned()), ..none() }), 0);
    assert_eq!(count(DeliveryFilter { uid: Some("u-2".to_owned()), ..none() }), 0);
    assert_eq!(count(DeliveryFilter { since: Some(UnixMs(50)), until: Some(UnixMs(100)), ..none() }), 10);
    // The window has let the id come twice; within one bucket the newer event is the one that is found.
    assert_eq!(count(DeliveryFilter { event_id: Some("e3".to_owned()), ..none() }), 2);
    assert_eq!(count(DeliveryFilter { event_id: Some("e33".to_owned()), ..none() }), 0);
}

#[test]
fn the_dlq_is_paged_like_the_log() {
    let store = filled();
    let reader = store.reader();
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = reader.dlq(&DeliveryFilter::default(), after, 3).unwrap();
        keys.extend(page.rows.iter().map(|row| row.entry.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(keys.len(), 10);
    assert!(keys.windows(2).all(|pair| pair[0] > pair[1]));
    let none = reader.dlq(&DeliveryFilter { destination: Some(TWO), ..DeliveryFilter::default() }, None, 9).unwrap();
    assert!(none.rows.is_empty() && none.next.is_none());
}

// Keys are what is counted, replayed and discarded; entries are what an operator saw before.
#[test]
fn a_filter_takes_the_same_of_the_dlq_for_its_entries_and_for_their_keys() {
    let mut store = Disk::default().store();
    let ends = [(Some(400), "No user 17", ""), (Some(500), "boom", ""), (None, "", "refused by 5")];
    for (n, (http_status, detail, response)) in (1..).zip(ends) {
        let mut event = event(&format!("e{n}"), 100);
        event.canonical = format!("name_{n}").parse().unwrap();
        event.uid = Some(format!("u-{n}"));
        let seq = store.accept(event, vec![owe(ONE)]).seq;
        let (detail, response) = (detail.to_owned(), response.to_owned());
        let autopsy = Some(Autopsy { detail, request: None, http_status, response });
        let (key, due_at, at) = (key(seq, ONE), UnixMs(100), UnixMs(110));
        store.one(WriteOp::Settle(Settle { key, due_at, at, attempt: None, disposition: DEAD, autopsy }));
    }
    let reader = store.reader();
    let text = |text: &str| Some(text.to_owned());
    let all = DeliveryFilter::default();
    let boom = Some(FaultId::of(&normal_form("boom", "")));
    let [by_400, by_500] = [400, 500].map(|status| Some(Answered::Status(status)));
    for (filter, wanted) in [
        (all.clone(), vec![3, 2, 1]),
        (DeliveryFilter { event: text("name_2"), ..all.clone() }, vec![2]),
        (DeliveryFilter { uid: text("u-1"), ..all.clone() }, vec![1]),
        (DeliveryFilter { event_id: text("e3"), ..all.clone() }, vec![3]),
        (DeliveryFilter { response_status: by_400, ..all.clone() }, vec![1]),
        (DeliveryFilter { response_status: Some(Answered::Nothing), ..all.clone() }, vec![3]),
        (DeliveryFilter { detail: text("no USER"), ..all.clone() }, vec![1]),
        (DeliveryFilter { fault: boom, ..all.clone() }, vec![2]),
        (DeliveryFilter { response_status: by_500, fault: boom, ..all.clone() }, vec![2]),
        (DeliveryFilter { response_status: by_400, fault: boom, ..all.clone() }, vec![]),
        (DeliveryFilter { response_status: by_500, detail: text("user"), ..all.clone() }, vec![]),
        (DeliveryFilter { detail: text("user"), fault: boom, ..all.clone() }, vec![]),
        (DeliveryFilter { event: text("name_2"), response_status: by_400, ..all.clone() }, vec![]),
        (DeliveryFilter { event: text("name_2"), response_status: by_500, ..all.clone() }, vec![2]),
    ] {
        let entries = reader.dlq(&filter, None, 9).unwrap().rows;
        let entries: Vec<_> = entries.into_iter().map(|row| row.entry.key).collect();
        assert_eq!(entries.iter().map(|key| key.seq.0).collect::<Vec<_>>(), wanted, "{filter:?}");
        assert_eq!(reader.dlq_keys(&filter, None, 9).unwrap().rows, entries, "{filter:?}");
    }
}

#[test]
fn the_outbox_is_paged_in_due_order_strictly_after_the_cursor() {
    let mut store = Disk::default().store();
    for number in 0..10_u64 {
        store.accept(event(&format!("e{number}"), 1000 - number % 3), vec![owe(ONE), owe(TWO)]);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.reader().outbox_page(ONE, after, 3, Bodies::NONE).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(OutboxCursor { due_at: last.due_at, seq: last.key.seq });
        seen.extend(page.iter().map(|owed| (owed.due_at, owed.key.seq)));
        assert!(page.iter().all(|owed| owed.key.destination == ONE));
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(store.reader().oldest_owed(ONE).unwrap(), Some(UnixMs(998)));
    assert_eq!(store.reader().next_due(ONE).unwrap(), Some(UnixMs(998)));
    assert_eq!(store.reader().oldest_owed(DestinationId(3)).unwrap(), None);
}

#[test]
fn the_oldest_that_is_owed_need_not_be_due_first_and_a_stray_row_owes_nothing() {
    let mut store = Disk::default().store();
    let oldest = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    store.accept(event("b", 200), vec![owe(ONE)]);
    store.settle(key(oldest, ONE), 110, retry(900));
    assert_eq!(store.reader().oldest_owed(ONE).unwrap(), Some(UnixMs(100)));
    let stray = store.shared.write(|transaction| {
        transaction.open_table(schema::OUTBOX)?.insert(&schema::outbox_key(ONE, UnixMs(7), oldest), ())?;
        Ok(((), Finish::Commit))
    });
    stray.unwrap();
    let page = store.reader().outbox_page(ONE, None, 9, Bodies::NONE).unwrap();
    assert_eq!(page.iter().map(|owed| owed.due_at).collect::<Vec<_>>(), [UnixMs(200), UnixMs(900)]);
}

#[test]
fn a_page_brings_the_events_that_are_due_as_far_as_the_bytes_reach() {
    let mut store = Disk::default().store();
    for number in 0..10_u64 {
        store.accept(event(&format!("e{number}"), 100 + number), vec![owe(ONE)]);
    }
    let brought = |due_by, bytes| -> Vec<String> {
        let page = store.reader().outbox_page(ONE, None, 8, Bodies { due_by: UnixMs(due_by), bytes }).unwrap();
        assert_eq!(page.len(), 8);
        let events = page.into_iter().map_while(|owed| owed.event);
        events.filter_map(|event| event.event_id.clone()).collect()
    };
    assert_eq!(brought(104, usize::MAX), ["e0", "e1", "e2", "e3", "e4"], "what is not due waits without its event");
    let bytes = store.reader().outbox_page(ONE, None, 1, Bodies { due_by: UnixMs(500), bytes: 10_000 }).unwrap();
    let one = bytes[0].event.as_ref().unwrap().footprint();
    assert_eq!(brought(500, 3 * one), ["e0", "e1", "e2"]);
    assert!(brought(500, 0).is_empty());
}

// Rows 11 and 82.
#[test]
fn a_damaged_delivery_is_neither_leased_nor_forgotten() {
    let mut store = Disk::default().store();
    let seqs: Vec<_> = ["a", "b", "c"].map(|id| store.accept(event(id, 100), vec![owe(ONE)]).seq).to_vec();
    let row = schema::delivery_key(key(seqs[1], ONE));
    let broken = store.shared.write(|transaction| {
        transaction.open_table(schema::DELIVERIES)?.insert(&row, b"noise".as_slice())?;
        Ok(((), Finish::Commit))
    });
    broken.unwrap();
    let page = store.reader().outbox_page(ONE, None, 2, Bodies::NONE).unwrap();
    assert_eq!(page.iter().map(|owed| owed.key.seq).collect::<Vec<_>>(), [seqs[0], seqs[2]]);
    assert!(store.reader().damaged_rows() > 0);
    assert_eq!(store.counts(ONE).pending, 3);
    assert!(!store.reader().verify().unwrap().is_empty());
    assert_eq!(all(&store.reader(), &DeliveryFilter::default(), 9).len(), 2);
}

#[test]
fn a_closed_store_says_so() {
    let store = Disk::default().store();
    let reader = store.reader();
    store.close().unwrap();
    let StoreError::Failed(text) = reader.event(EventSeq(1)).unwrap_err() else { panic!() };
    assert!(text.contains("closed"), "{text}");
}

#[test]
fn events_are_read_in_order_until_their_budget_is_used_up() {
    let mut store = Disk::default().store();
    let large = |number: u64| {
        let mut large = event(&format!("e{number}"), number);
        large.data.insert("note".to_owned(), "x".repeat(1000).into());
        large
    };
    let seqs: Vec<EventSeq> = (1..=5).map(|number| store.accept(large(number), vec![owe(ONE)]).seq).collect();
    let reader = store.reader();
    let ids = |budget| -> Vec<Option<String>> {
        let found = reader.events_of_each(std::slice::from_ref(&seqs), budget).unwrap();
        found.into_iter().flatten().map(|event| event.and_then(|event| event.event_id.clone())).collect()
    };
    assert_eq!(ids(1).len(), 1, "the first always");
    assert_eq!(ids(2500).len(), 3);
    let all: Vec<Option<String>> = (1..=5).map(|number| Some(format!("e{number}"))).collect();
    assert_eq!(ids(1_000_000), all);
    let unknown = vec![seqs[0], EventSeq(999), seqs[1]];
    let found = reader.events_of_each(&[seqs.clone(), unknown], 2500).unwrap();
    assert_eq!((found[0].len(), found[1].len()), (3, 3), "each list has a budget of its own");
    assert!(found[1][1].is_none(), "what is not there keeps its place");
}

#[test]
fn the_size_of_a_store_is_that_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice::default()).unwrap();
    let file = std::fs::metadata(dir.path().join("postbackd.redb")).unwrap().len();
    assert_eq!(store.reader().file_bytes(), file);
    assert_eq!(Disk::default().store().reader().file_bytes(), 0, "none is known where there is no file");
}
