//! A store whose disk failed: marked, not written to, and read as a whole before it is used again.

use std::fs;
use std::path::{Path, PathBuf};

use super::backing::lived_in;
use super::*;
use crate::store::handle::begin_write;
use crate::store::offline::Offline;
use crate::store::offline::restore::Wish;
use crate::store::schema::OUTBOX;

fn mark(dir: &Path) -> PathBuf {
    dir.join("postbackd.suspect")
}

/// A reader meets a bad sector.
fn fail(store: &Store) {
    let failed: Result<(), StoreError> =
        store.shared.read(|_| Err(StoreError::Medium("Input/output error (os error 5)".to_owned())));
    assert!(failed.is_err());
}

/// A store whose disk failed, closed.
fn marked() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 8);
    fail(&store);
    drop(store);
    assert!(mark(dir.path()).exists());
    dir
}

/// Loses every row of the outbox, as no crash would.
fn damage(dir: &Path) {
    let database = redb::Database::open(dir.join("postbackd.redb")).unwrap();
    let transaction = begin_write(&database).unwrap();
    transaction.open_table(OUTBOX).unwrap().retain(|_, ()| false).unwrap();
    transaction.commit().unwrap();
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, OPTIONS, &Dice::default())
}

// Row 8.
#[test]
fn after_a_failure_of_the_disk_nothing_is_written_and_a_mark_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 8);
    let reader = store.reader();
    assert_eq!((store.medium_fault(), reader.medium_fault()), (None, None));
    fail(&store);
    let refused = store.commit(&[settle_op(key(EventSeq(3), ONE), UnixMs(100), 1, None, DEAD)]);
    assert!(matches!(refused, Err(StoreError::Medium(_))), "{refused:?}");
    assert!(store.medium_fault().is_some_and(|cause| cause.contains("Input/output error")));
    assert_eq!(reader.medium_fault(), store.medium_fault(), "whoever reads can tell, too");
    assert!(store.number_destinations(&["new".parse().unwrap()]).is_err());
    let text = fs::read_to_string(mark(dir.path())).unwrap();
    assert!(text.starts_with("Input/output error"), "{text}");
}

#[test]
fn a_sound_store_loses_its_mark_at_the_next_start() {
    let dir = marked();
    let mut store = open(dir.path()).unwrap();
    assert!(!mark(dir.path()).exists());
    store.accept(event("more", 900), vec![owe(ONE)]);
    store.assert_sound();
}

// Row 11.
#[test]
fn a_suspect_store_that_is_damaged_is_refused_by_all_that_would_write_to_it() {
    let dir = marked();
    damage(dir.path());
    let before = fs::read(dir.path().join("postbackd.redb")).unwrap();
    let compacted = || Offline::claim(dir.path(), "").unwrap().compact(OPTIONS).unwrap_err();
    for refused in [open(dir.path()).unwrap_err(), compacted(), open(dir.path()).unwrap_err()] {
        let text = refused.to_string();
        for word in ["Input/output error", "not in the outbox", "postbackd restore", "postbackd.suspect"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(refused.medium(), Some("Input/output error (os error 5)"), "the process ends as by a failed disk");
    }
    assert!(fs::read(dir.path().join("postbackd.redb")).unwrap() == before, "it was written to");
    fs::remove_file(mark(dir.path())).unwrap();
    open(dir.path()).expect("who deletes the mark goes on with what there is");
}

/// Says what is there, as far as the mark knows.
fn refusal(dir: &Path) -> String {
    open(dir).unwrap_err().to_string()
}

// Row 11: a supervisor starts it again and again, and the medium may be dying.
#[test]
fn a_file_that_was_found_damaged_is_not_read_again_until_it_has_changed() {
    let dir = marked();
    damage(dir.path());
    let (first, second) = (refusal(dir.path()), refusal(dir.path()));
    assert!(!first.contains("not read again"), "{first}");
    for word in ["not read again", "not in the outbox", "Input/output error", "postbackd restore", "touch "] {
        assert!(second.contains(word), "{word}: {second}");
    }
    assert_eq!(second, refusal(dir.path()), "it does not grow");
    // As touch does, and whatever writes to it.
    let file = dir.path().join("postbackd.redb");
    fs::set_permissions(&file, fs::metadata(&file).unwrap().permissions()).unwrap();
    assert_eq!(refusal(dir.path()), first, "touched, so it was read");
    // Another file in its place is another question.
    let other = tempfile::tempdir().unwrap();
    lived_in(other.path(), 3).close().unwrap();
    fs::copy(other.path().join("postbackd.redb"), dir.path().join("new")).unwrap();
    fs::rename(dir.path().join("new"), &file).unwrap();
    open(dir.path()).unwrap().assert_sound();
    assert!(!mark(dir.path()).exists());
}

#[test]
fn a_mark_that_cannot_be_read_is_no_mark_that_is_not_there() {
    let dir = marked();
    fs::remove_file(mark(dir.path())).unwrap();
    fs::create_dir(mark(dir.path())).unwrap();
    let text = refusal(dir.path());
    for word in ["postbackd.suspect", "reading the mark failed", "start again"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    fs::remove_dir(mark(dir.path())).unwrap();
    open(dir.path()).unwrap().assert_sound();
}

// Row 16: opening again looks at the file that is open only, and does not read all of it because of a mark that stays.
#[test]
fn reopening_does_not_go_by_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 8);
    crate::store::suspect::mark(dir.path(), "from before");
    store.reopen().unwrap();
    assert!(mark(dir.path()).exists(), "that is for the next start");
    store.assert_sound();
}

#[test]
fn a_backup_that_takes_the_place_of_a_suspect_store_is_not_suspect() {
    let dir = marked();
    let other = tempfile::tempdir().unwrap();
    lived_in(other.path(), 3).close().unwrap();
    damage(dir.path());
    let claim = Offline::claim(dir.path(), "").unwrap();
    let file = other.path().join("postbackd.redb");
    let wish = Wish { file: &file, sent: None, now: UnixMs(1_764_000_000_000), options: OPTIONS };
    claim.restore(&wish).unwrap();
    drop(claim);
    assert!(!mark(dir.path()).exists());
    open(dir.path()).unwrap().assert_sound();
}

#[test]
fn a_file_that_is_only_looked_into_is_not_marked() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path(), 3).close().unwrap();
    let examined = crate::store::offline::examine(&dir.path().join("postbackd.redb"), OPTIONS).unwrap();
    fail(&examined);
    assert!(!mark(dir.path()).exists());
}
