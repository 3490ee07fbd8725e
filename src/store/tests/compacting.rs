//! Compacting gives space back and changes nothing else, offline and at the daemon's start.

use std::fs;
use std::path::Path;

use super::backing::lived_in;
use super::*;
use crate::store::compact::Compacted;
use crate::store::offline::{Contents, Offline};

/// A closed store most of whose file is free, and what it holds.
fn mostly_free(dir: &Path) -> (Ledger, Contents) {
    let mut store = lived_in(dir, 3);
    let ops: Vec<_> = (0..3000).map(|n| store.accept_op(event(&format!("x{n}"), 100), vec![skip(ONE)])).collect();
    store.commit(&ops).unwrap();
    let plan = SweepPlan { events_before: Some(UnixMs(101)), ..SweepPlan::default() };
    while store.sweep(&plan).unwrap() > 0 {}
    let held = (Ledger::clone(&store.reader().ledger()), store.contents().unwrap());
    store.close().unwrap();
    held
}

fn assert_compacted(dir: &Path, store: &Store, held: &(Ledger, Contents), compacted: Compacted) {
    let Compacted { before, after } = compacted;
    assert!(after < before / 2, "{before} to {after}");
    assert_eq!(after, fs::metadata(dir.join("postbackd.redb")).unwrap().len());
    store.assert_sound();
    assert_eq!((Ledger::clone(&store.reader().ledger()), store.contents().unwrap()), *held);
}

#[test]
fn compacting_gives_space_back_and_changes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let held = mostly_free(dir.path());
    let compacted = Offline::claim(dir.path(), "stop it").unwrap().compact(OPTIONS).unwrap();
    let store = Store::open(dir.path(), OPTIONS, &Dice::default()).unwrap();
    assert_compacted(dir.path(), &store, &held, compacted);
}

#[test]
fn a_start_that_compacts_first_opens_the_same_store_in_less_space() {
    let dir = tempfile::tempdir().unwrap();
    let held = mostly_free(dir.path());
    let (mut store, compacted) = Store::open_compacted(dir.path(), OPTIONS, &Dice::default()).unwrap();
    assert_compacted(dir.path(), &store, &held, compacted);
    store.accept(event("after", 5000), vec![owe(ONE)]);
    store.assert_sound();
    drop(store);
    // A first start has nothing to compact and makes its store all the same.
    let fresh = tempfile::tempdir().unwrap();
    let (store, _) = Store::open_compacted(fresh.path(), OPTIONS, &Dice::default()).unwrap();
    store.assert_sound();
}

#[test]
fn what_does_not_open_is_not_compacted() {
    let dir = tempfile::tempdir().unwrap();
    drop(mostly_free(dir.path()));
    let file = dir.path().join("postbackd.redb");
    let cut = fs::read(&file).unwrap()[..20_000].to_vec();
    for bytes in [cut, b"redb no, notes".to_vec(), Vec::new()] {
        fs::write(&file, &bytes).unwrap();
        Store::open_compacted(dir.path(), OPTIONS, &Dice::default()).unwrap_err();
        assert!(fs::read(&file).unwrap() == bytes, "it was touched");
    }
}
