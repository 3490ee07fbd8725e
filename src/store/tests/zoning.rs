//! A list that goes by zones shows what looking at every row would.

use proptest::prelude::*;
use redb::TableDefinition;

use super::*;
use crate::domain::delivery::Status;
use crate::store::read::{DeliveryFilter, Total};

#[derive(Clone, Debug)]
enum Step {
    Accept {
        name: u8,
        uid: Option<u8>,
        ahead: u16,
        plan: [Option<bool>; 2],
    },
    /// Settles the nth owed delivery: sent, retried, dead.
    Settle {
        pick: u16,
        outcome: u8,
    },
    Replay {
        pick: u16,
    },
    Discard {
        pick: u16,
    },
    Sweep {
        events: u16,
        dlq: u16,
    },
    /// As a file that was written before there were zones.
    Forget,
    Reopen,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u8, prop::option::of(0..5_u8), 0..40_u16, any::<[Option<bool>; 2]>())
            .prop_map(|(name, uid, ahead, plan)| Step::Accept { name, uid, ahead, plan }),
        8 => (any::<u16>(), 0..3_u8).prop_map(|(pick, outcome)| Step::Settle { pick, outcome }),
        2 => any::<u16>().prop_map(|pick| Step::Replay { pick }),
        2 => any::<u16>().prop_map(|pick| Step::Discard { pick }),
        2 => (0..100_u16, 0..100_u16).prop_map(|(events, dlq)| Step::Sweep { events, dlq }),
        1 => Just(Step::Forget),
        1 => Just(Step::Reopen),
    ]
}

fn pick(store: &Store, pick: u16, wanted: impl Fn(&Delivery) -> bool) -> Option<DeliveryKey> {
    let rows = store.reader().deliveries(&DeliveryFilter::default(), None, usize::MAX).unwrap().rows;
    let some: Vec<_> = rows.iter().filter(|row| wanted(&row.delivery)).map(|row| row.key).collect();
    (!some.is_empty()).then(|| some[usize::from(pick) % some.len()])
}

fn step(store: &mut Store, now: u64, number: usize, step: &Step) {
    let dead = |delivery: &Delivery| delivery.state.status() == Status::FailedPermanently;
    match step {
        Step::Accept { name, uid, ahead, plan } => {
            let mut event = event(&format!("e{number}"), now + u64::from(*ahead));
            event.canonical = format!("name_{name}").parse().unwrap();
            event.uid = uid.map(|uid| format!("u-{uid}"));
            let planned = [ONE, TWO].into_iter().zip(plan).filter_map(|(destination, owed)| {
                owed.map(|owed| if owed { owe(destination) } else { skip(destination) })
            });
            let planned = planned.collect();
            store.accept(event, planned);
        }
        Step::Settle { pick: number, outcome } => {
            let Some(key) = pick(store, *number, |delivery| delivery.state.due_at().is_some()) else { return };
            let disposition = [Disposition::Sent, retry(now + 7), DEAD][usize::from(*outcome)];
            store.settle(key, now, disposition);
        }
        Step::Replay { pick: number } => {
            if let Some(key) = pick(store, *number, dead) {
                store.one(replay_op(now, &[key]));
            }
        }
        Step::Discard { pick: number } => {
            if let Some(key) = pick(store, *number, dead) {
                store.one(discard_op(now, &[key]));
            }
        }
        Step::Sweep { events, dlq } => {
            let at = |age: u16| Some(UnixMs(now.saturating_sub(u64::from(age))));
            let plan = SweepPlan { events_before: at(*events), dlq_before: at(*dlq), ..SweepPlan::default() };
            store.sweep(&plan).unwrap();
        }
        Step::Forget => forget(store),
        Step::Reopen => store.reopen().unwrap(),
    }
}

fn forget(store: &mut Store) {
    let without = store.shared.write(|transaction| {
        transaction.delete_table(schema::ZONES)?;
        transaction.delete_table(schema::ZONE_UIDS)?;
        Ok(((), Finish::Commit))
    });
    without.unwrap();
    store.reopen().unwrap();
}

fn filters() -> Vec<DeliveryFilter> {
    let mut filters = Vec::new();
    for destination in [None, Some(ONE), Some(TWO)] {
        for status in std::iter::once(None).chain(Status::ALL.map(Some)) {
            let base = DeliveryFilter { destination, status, ..DeliveryFilter::default() };
            filters.push(base.clone());
            filters.push(DeliveryFilter { event: Some("name_1".to_owned()), ..base.clone() });
            filters.push(DeliveryFilter { uid: Some("u-3".to_owned()), ..base.clone() });
            filters.push(DeliveryFilter { reason: Some("transient".to_owned()), ..base.clone() });
            filters.push(DeliveryFilter { reason: Some("test data".to_owned()), ..base.clone() });
            filters.push(DeliveryFilter { since: Some(UnixMs(120)), until: Some(UnixMs(170)), ..base });
        }
    }
    filters
}

fn takes(filter: &DeliveryFilter, key: DeliveryKey, delivery: &Delivery, event: &Event) -> bool {
    filter.destination.is_none_or(|wanted| wanted == key.destination)
        && filter.status.is_none_or(|wanted| wanted == delivery.state.status())
        && filter.event.as_deref().is_none_or(|wanted| wanted == event.canonical.as_str())
        && filter.uid.as_deref().is_none_or(|wanted| Some(wanted) == event.uid.as_deref())
        && filter.reason.as_deref().is_none_or(|wanted| Some(wanted) == delivery.state.reason())
        && filter.since.is_none_or(|since| delivery.received_at >= since)
        && filter.until.is_none_or(|until| delivery.received_at < until)
}

#[track_caller]
fn compare(store: &Store) {
    let reader = store.reader();
    let everything = reader.deliveries(&DeliveryFilter::default(), None, usize::MAX).unwrap().rows;
    for filter in filters() {
        let wanted: Vec<_> = everything
            .iter()
            .filter(|row| takes(&filter, row.key, &row.delivery, &row.event))
            .map(|row| (row.key, reader.dlq_entry(row.key).unwrap().is_some()))
            .collect();
        let (mut found, mut dead, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = reader.deliveries(&filter, after, 3).unwrap();
            found.extend(page.rows.iter().map(|row| row.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted.iter().map(|(key, _)| *key).collect::<Vec<_>>(), "{filter:?}");
        loop {
            let page = reader.dlq(&filter, after, 3).unwrap();
            dead.extend(page.rows.iter().map(|row| row.entry.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(
            dead,
            wanted.iter().filter(|(_, dead)| *dead).map(|(key, _)| *key).collect::<Vec<_>>(),
            "{filter:?}"
        );
        assert_eq!(reader.dlq_keys(&filter, None, usize::MAX).unwrap().rows, dead, "{filter:?}");
        let count = u64::try_from(dead.len()).unwrap();
        assert_eq!(reader.dlq_total(&filter).unwrap(), (count, Total::Exact), "{filter:?}");
    }
    store.assert_sound();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_list_by_zones_is_the_list_by_rows(steps in prop::collection::vec(steps(), 1..60)) {
        let mut store = Disk::default().store();
        for (number, what) in steps.iter().enumerate() {
            step(&mut store, 100 + 2 * u64::try_from(number).unwrap(), number, what);
        }
        compare(&store);
        while store.sweep(&SweepPlan::default()).unwrap() > 0 {}
        compare(&store);
    }
}

/// Every zone of `store` that has a row.
pub(super) fn zones(store: &Store) -> Vec<u64> {
    let read = store.shared.read(|transaction| {
        let table = transaction.open_table(schema::ZONES)?;
        redb::ReadableTable::iter(&table)?.map(|row| Ok(schema::read_zone_key(*row?.0.value()))).collect()
    });
    read.unwrap()
}

#[test]
fn retention_completes_the_zones_of_a_file_from_before_and_drops_those_of_nothing() {
    let mut store = Disk::default().store();
    for number in 0..14 {
        store.accept(event(&format!("e{number}"), number), vec![skip(ONE)]);
    }
    assert_eq!(zones(&store), [0, 1, 2, 3]);
    forget(&mut store);
    store.accept(event("e14", 20), vec![skip(ONE)]);
    assert_eq!(zones(&store), Vec::<u64>::new(), "of zone 3 not everything is known");
    store.accept(event("e15", 21), vec![skip(ONE)]);
    assert_eq!(zones(&store), [4]);
    let mut made = 0;
    while store.sweep(&SweepPlan::default()).unwrap() > 0 {
        made += 1;
        store.assert_sound();
    }
    assert_eq!((made, zones(&store)), (4, vec![0, 1, 2, 3, 4]));
    let old = SweepPlan { events_before: Some(UnixMs(8)), ..SweepPlan::default() };
    while store.sweep(&old).unwrap() > 0 {}
    assert_eq!(zones(&store), [2, 3, 4]);
    store.assert_sound();
}

// A file of ten million events has ten thousand zones, and every start looks at all of them.
#[test]
fn looking_for_zones_without_a_row_ends_with_the_time_of_the_slice_and_comes_to_its_end() {
    let mut store = Disk::default().store();
    for number in 0..400 {
        store.accept(event(&format!("e{number}"), number), vec![skip(ONE)]);
    }
    let mut slices = 0;
    loop {
        let slice = Slice { plan: SweepPlan::default(), excess: 0, enough: &|| true };
        let (_, swept) = store.commit_beside(&[], Some(&slice), Rush::Calm).unwrap();
        slices += 1;
        if swept.unwrap().ended {
            break;
        }
        assert!(!store.marks.zoned() && slices < 50);
    }
    assert!(store.marks.zoned() && slices > 4, "100 zones in {slices} slices");
}

#[test]
fn a_zone_that_has_no_row_is_looked_through_also_between_two_that_have() {
    let mut store = Disk::default().store();
    for number in 0..14 {
        store.accept(event(&format!("e{number}"), 100 + number), vec![owe(ONE)]);
    }
    let without = store.shared.write(|transaction| {
        transaction.open_table(schema::ZONES)?.remove(&schema::zone_key(2))?;
        Ok(((), Finish::Commit))
    });
    without.unwrap();
    assert_eq!(zones(&store), [0, 1, 3]);
    let listed = |since| {
        let filter = DeliveryFilter { since, ..DeliveryFilter::default() };
        let rows = store.reader().deliveries(&filter, None, 99).unwrap().rows;
        rows.iter().map(|row| row.key.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(listed(None), (1..=14).rev().collect::<Vec<_>>());
    assert_eq!(listed(Some(UnixMs(113))), [14], "the last of its zone");
}

#[test]
fn a_page_that_finds_nothing_in_its_share_of_work_goes_on_where_it_was() {
    let mut store = Disk::default().store();
    let ops: Vec<_> = (0..11_000)
        .map(|number| store.accept_op(event(&format!("e{number}"), number), vec![owe(ONE), skip(TWO)]))
        .collect();
    store.commit(&ops).unwrap();
    // A damaged zone row is no row: the zone is looked through.
    let broken: TableDefinition<'_, &schema::ZoneKey, &[u8]> = schema::ZONES;
    let damaged = store.shared.write(|transaction| {
        for zone in 0..3000 {
            transaction.open_table(broken)?.insert(&schema::zone_key(zone), b"noise".as_slice())?;
        }
        Ok(((), Finish::Commit))
    });
    damaged.unwrap();
    let filter = DeliveryFilter { destination: Some(ONE), until: Some(UnixMs(3)), ..DeliveryFilter::default() };
    let (mut found, mut after, mut pages) = (0, None, 0);
    loop {
        let page = store.reader().deliveries(&filter, after, 100).unwrap();
        (found, pages) = (found + page.rows.len(), pages + 1);
        assert!(page.next.is_none() || page.next != after);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 3);
    assert!(pages > 1, "{pages}");
}

// Rows 80 and 81: a version from before zones wrote into a file that had them.
#[test]
fn zones_of_an_older_format_are_not_believed_and_are_made_anew() {
    let disk = Disk::default();
    let mut store = disk.store();
    store.number_destinations(&["one".parse().unwrap()]).unwrap();
    for number in 0..6 {
        store.accept(event(&format!("e{number}"), 100 + number), vec![owe(ONE)]);
    }
    let filter = DeliveryFilter { status: Some(Status::Sent), ..DeliveryFilter::default() };
    let sent = |store: &Store| store.reader().deliveries(&filter, None, 10).unwrap().rows.len();
    // It settles a delivery, and neither knows the zones nor the new format.
    let stale = store.shared.write(|transaction| {
        let table = transaction.open_table(schema::ZONES)?;
        let rows =
            redb::ReadableTable::iter(&table)?.map(|row| row.map(|(key, row)| (*key.value(), row.value().to_vec())));
        Ok((rows.collect::<Result<Vec<_>, redb::StorageError>>()?, Finish::Abandon))
    });
    store.settle(DeliveryKey { seq: EventSeq(2), destination: ONE }, 200, Disposition::Sent);
    store
        .shared
        .write(|transaction| {
            for (key, row) in stale.unwrap() {
                transaction.open_table(schema::ZONES)?.insert(&key, row.as_slice())?;
            }
            transaction.open_table(schema::META)?.insert(schema::META_FORMAT, 1_u32.to_be_bytes().as_slice())?;
            Ok(((), Finish::Commit))
        })
        .unwrap();
    assert_eq!(sent(&store), 0, "a stale zone hides it");
    drop(store);
    let mut store = disk.store();
    store.assert_sound();
    assert_eq!(sent(&store), 1);
    while store.sweep(&SweepPlan::default()).unwrap() > 0 {}
    assert_eq!((sent(&store), zones(&store)), (1, vec![0, 1]));
    store.assert_sound();
    let format = store.shared.read(|transaction| {
        let meta = transaction.open_table(schema::META)?;
        Ok(redb::ReadableTable::get(&meta, schema::META_FORMAT)?.map(|bytes| bytes.value().to_vec()))
    });
    assert_eq!(format.unwrap().unwrap(), schema::FORMAT.to_be_bytes());
}

#[test]
fn a_damaged_uid_filter_means_any_uid_and_stays_so() {
    let mut store = Disk::default().store();
    let with = |id: &str, uid: &str| {
        let mut event = event(id, 100);
        event.uid = Some(uid.to_owned());
        event
    };
    store.accept(with("before", "early"), vec![skip(ONE)]);
    let damaged = store.shared.write(|transaction| {
        transaction.open_table(schema::ZONE_UIDS)?.insert(&schema::zone_key(0), b"noise".as_slice())?;
        Ok(((), Finish::Commit))
    });
    damaged.unwrap();
    // In the same zone: a filter made anew here would say of the early one that it is not there.
    store.accept(with("after", "late"), vec![skip(ONE)]);
    for (uid, count) in [("early", 1), ("late", 1), ("nobody", 0)] {
        let filter = DeliveryFilter { uid: Some(uid.to_owned()), ..DeliveryFilter::default() };
        assert_eq!(store.reader().deliveries(&filter, None, 9).unwrap().rows.len(), count, "{uid}");
    }
}
