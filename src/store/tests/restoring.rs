//! A restored store is the backup's, paused, and repeats no id; what is not sound takes no store's place.

use std::fs;
use std::path::{Path, PathBuf};

use super::backing::lived_in;
use super::*;
use crate::domain::pause::PausedBy;
use crate::store::backup::Order;
use crate::store::handle::Finish;
use crate::store::offline::restore::{Present, Report};
use crate::store::offline::{Offline, examine};

const DAY: u64 = 24 * 3600 * 1000;
/// When backups are taken.
const TAKEN: UnixMs = UnixMs(1_764_000_000_000);

fn backup(store: &Store, name: &str) -> PathBuf {
    let order = Order { name: name.to_owned(), at: TAKEN, reserve: 0 };
    store.reader().backup(&order, &mut || Ok(())).unwrap().file
}

fn restore(dir: &Path, file: &Path, now: UnixMs) -> Result<Report, OpenError> {
    Offline::claim(dir, "stop it").unwrap().restore(file, now, OPTIONS)
}

fn reopen(dir: &Path) -> Store {
    Store::open(dir, OPTIONS, &Dice::default()).unwrap()
}

fn later(ms: u64) -> UnixMs {
    TAKEN + DurationMs(ms)
}

/// Names and contents of the files in a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_restored_store_is_that_of_the_backup_with_everything_paused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 40);
    let (before, instance) = (Ledger::clone(&store.reader().ledger()), store.instance());
    let file = backup(&store, "a");
    // Since then: three new events, and of what was owed two were sent and one died.
    for number in 0..3 {
        store.accept(event(&format!("new{number}"), 900), vec![owe(ONE)]);
    }
    for (seq, disposition) in
        [(1, Disposition::Sent), (2, Disposition::Sent), (3, Disposition::Dead { reason: DeadReason::Permanent })]
    {
        store.settle(DeliveryKey { seq: EventSeq(seq), destination: TWO }, 950, disposition);
    }
    store.close().unwrap();
    let then = files(dir.path());
    let told = Offline::claim(dir.path(), "stop it").unwrap().rehearse(&file, later(5000), OPTIONS).unwrap();
    assert_eq!(files(dir.path()), then, "a rehearsal changes nothing");
    let report = restore(dir.path(), &file, later(5000)).unwrap();
    assert_eq!(Report { aside: report.aside.clone(), ..told }, report);
    assert_eq!(report.present, Present::Same { newer: 3 });
    let owed: Vec<_> =
        report.owed.iter().map(|each| (each.destination.as_str(), each.owed, each.sent, each.ended)).collect();
    assert_eq!(owed, [("one", 20, 0, 0), ("two", 40, 2, 1)]);
    assert_eq!(fs::read(report.aside.unwrap()).unwrap(), then["postbackd.redb"], "what was there is kept");
    let store = reopen(dir.path());
    store.assert_sound();
    assert_eq!((Ledger::clone(&store.reader().ledger()), store.instance()), (before, instance));
    let pauses = store.reader().pauses().unwrap();
    assert_eq!(pauses.keys().copied().collect::<Vec<_>>(), [ONE, TWO]);
    for pause in pauses.values() {
        assert_eq!((pause.since, pause.until, pause.by), (later(5000), None, PausedBy::Operator));
        assert_eq!(pause.reason, format!("restored from a backup of {}", TAKEN.to_rfc3339()));
    }
    assert_eq!(store.contents().unwrap().taken_at, None, "it is a store as any other");
}

#[test]
fn no_id_is_handed_out_twice() {
    // What is known of the time of the backup, and how long ago it was.
    for (known, ago) in [(true, 0), (true, 40), (true, 400 * DAY), (false, 40), (false, 400 * DAY)] {
        let dir = tempfile::tempdir().unwrap();
        let store = lived_in(dir.path(), 10);
        let mut file = backup(&store, "a");
        store.close().unwrap();
        if !known {
            file = dir.path().join("copy");
            fs::copy(dir.path().join("postbackd.redb"), &file).unwrap();
        }
        // As many as one file can take in the meantime, on a machine that is lost with them.
        let mut handed_out = 10 + ago * 60 + 1_000_000;
        for again in 1..4 {
            let other = tempfile::tempdir().unwrap();
            restore(other.path(), &file, later(ago + again)).unwrap();
            let mut store = reopen(other.path());
            let first = store.accept(event("fresh", 900), vec![owe(ONE)]).seq.0;
            assert!(first > handed_out, "{first} after {handed_out}: known {known}, {ago} ms ago, restore {again}");
            let next = store.accept(event("fresher", 901), vec![owe(ONE)]).seq.0;
            assert_eq!(next, first + 1);
            // One millisecond later it is lost too.
            handed_out = next + 60;
            store.assert_sound();
            for _ in 0..3 {
                store
                    .sweep(&SweepPlan {
                        events_before: None,
                        attempts_before: None,
                        dlq_before: None,
                        dedupe_before: None,
                    })
                    .unwrap();
            }
            assert!(store.marks.zoned(), "the gap is not walked through");
            store.close().unwrap();
            assert_eq!(
                reopen(other.path()).accept(event("freshest", 902), vec![owe(ONE)]).seq.0,
                next + 1,
                "and that lasts"
            );
        }
    }
}

#[test]
fn repeats_are_known_across_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 10);
    let file = backup(&store, "a");
    store.close().unwrap();
    restore(dir.path(), &file, later(DAY)).unwrap();
    let mut store = reopen(dir.path());
    store.accept(event("fresh", 900), vec![owe(ONE)]);
    for (id, received_at) in [("e3", 103), ("fresh", 900)] {
        let op = store.accept_op(event(id, received_at), vec![owe(ONE)]);
        assert!(matches!(store.one(op), Applied::Duplicate { .. }), "{id}");
    }
    store.assert_sound();
}

#[test]
fn what_is_not_sound_takes_no_stores_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 40);
    let good = backup(&store, "good");
    // One byte in the middle of a page.
    let bad = dir.path().join("flipped");
    let mut bytes = fs::read(&good).unwrap();
    let place = bytes.windows(8).position(|window| window == b"Purchase").expect("a row");
    bytes[place] ^= 1;
    fs::write(&bad, bytes).unwrap();
    // One row of an index.
    let lacking = dir.path().join("lacking");
    let key = schema::outbox_key(TWO, UnixMs(100), EventSeq(1));
    store
        .shared
        .write(|transaction| {
            let removed = transaction.open_table(schema::OUTBOX)?.remove(&key)?.is_some();
            assert!(removed);
            Ok(((), Finish::Commit))
        })
        .unwrap();
    fs::copy(backup(&store, "lacking"), &lacking).unwrap();
    store.close().unwrap();
    let cut = dir.path().join("cut");
    fs::write(&cut, &fs::read(&good).unwrap()[..50_000]).unwrap();
    let before = files(dir.path());
    for (file, words) in [(&bad, "damaged"), (&lacking, "never be sent"), (&cut, "damaged")] {
        let text = restore(dir.path(), file, later(1)).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains(&file.display().to_string()), "{text}");
        assert!(files(dir.path()) == before, "nothing was changed");
    }
    let findings = examine(&lacking, OPTIONS).unwrap().reader().verify().unwrap();
    assert!(findings.iter().any(|finding| finding.contains("delivery 1/2: owed at")), "{findings:?}");
    // The present one lacks the same row and can be replaced all the same.
    restore(dir.path(), &good, later(1)).unwrap();
    reopen(dir.path()).assert_sound();
}

#[test]
fn a_store_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let file = backup(&store, "a");
    let text = Offline::claim(dir.path(), "stop it").unwrap_err().to_string();
    assert!(text.contains("postbackd runs on this store; stop it"), "{text}");
    let text = examine(&dir.path().join("postbackd.redb"), OPTIONS).unwrap_err().to_string();
    assert!(text.contains("postbackd runs on this file"), "{text}");
    examine(&file, OPTIONS).unwrap();
    drop(store);
    Offline::claim(dir.path(), "stop it").unwrap().examine(OPTIONS).unwrap();
}
