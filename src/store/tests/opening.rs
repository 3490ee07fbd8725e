//! Opening files: what is created, what is refused, and that what is refused is left as it was.

use std::fs;
use std::path::PathBuf;

use crate::store::handle::begin_write;
use redb::Database;
use tempfile::TempDir;

use super::*;

struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.path().join("postbackd.redb")
    }

    fn marker(&self) -> PathBuf {
        self.path().join("postbackd.id")
    }

    fn open(&self) -> Result<Store, OpenError> {
        Store::open(&self.path(), OPTIONS, &Dice::default())
    }

    /// A home whose file holds `bytes` and nothing else is there.
    fn with_file(bytes: &[u8]) -> Self {
        let home = Self::new();
        fs::create_dir(home.path()).unwrap();
        fs::write(home.file(), bytes).unwrap();
        home
    }

    /// The refusal, after making sure that the file is what it was.
    #[track_caller]
    fn refusal(&self) -> String {
        let before = fs::read(self.file()).ok();
        let text = self.open().expect_err("must be refused").to_string();
        assert!(before == fs::read(self.file()).ok(), "the file was changed: {text}");
        text
    }

    /// A home with a used store, closed.
    fn used() -> Self {
        let home = Self::new();
        let mut store = home.open().unwrap();
        store.accept(event("a", 100), vec![owe(ONE)]);
        store.close().unwrap();
        home
    }
}

#[test]
fn a_new_store_is_made_with_its_directory_and_found_again() {
    let home = Home::new();
    let mut store = home.open().unwrap();
    let (instance, hash_key) = (store.instance(), store.hash_key());
    let seq = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    assert!(store.reader().file_bytes() > 0);
    store.close().unwrap();
    let mut names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["postbackd.id", "postbackd.redb"]);
    let store = Store::open(&home.path(), OPTIONS, &Dice(AtomicU64::new(99))).unwrap();
    assert_eq!((store.instance(), store.hash_key()), (instance, hash_key));
    assert_eq!(store.reader().event(seq).unwrap().unwrap().event_id.as_deref(), Some("a"));
    store.assert_sound();
}

#[test]
fn personal_data_is_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::used();
    assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(home.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

// Row 15.
#[test]
fn a_second_daemon_is_turned_away() {
    let home = Home::used();
    let first = home.open().unwrap();
    let text = home.refusal();
    assert!(text.contains("in use by another postbackd"), "{text}");
    drop(first);
    home.open().unwrap();
}

// Row 15: what lies there unfinished may be the first one's work.
#[test]
fn a_second_daemon_touches_nothing_before_it_is_turned_away() {
    let home = Home::used();
    let _first = home.open().unwrap();
    let unfinished = home.path().join("postbackd.redb.tmp");
    fs::write(&unfinished, "half of a restore").unwrap();
    home.open().unwrap_err();
    assert!(unfinished.exists());
}

#[test]
fn a_file_that_someone_else_has_open_is_refused() {
    let home = Home::used();
    let other = Database::open(home.file()).unwrap();
    let text = home.open().unwrap_err().to_string();
    assert!(text.contains("in use by another"), "{text}");
    drop(other);
    home.open().unwrap();
}

// Row 3.
#[test]
fn leftovers_of_an_unfinished_start_are_removed() {
    let home = Home::used();
    for name in ["postbackd.redb.tmp", "postbackd.id.tmp"] {
        fs::write(home.path().join(name), b"half").unwrap();
    }
    home.open().unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
}

// Row 3.
#[test]
fn a_start_that_died_while_creating_starts_anew() {
    let home = Home::new();
    fs::create_dir(home.path()).unwrap();
    fs::write(home.path().join("postbackd.redb.tmp"), b"half").unwrap();
    home.open().unwrap().assert_sound();
}

// Row 16.
#[test]
fn a_store_that_has_vanished_is_not_replaced_by_an_empty_one() {
    let home = Home::used();
    fs::remove_file(home.file()).unwrap();
    let text = home.refusal();
    assert!(text.contains("missing") && text.contains("delete") && text.contains("postbackd.id"), "{text}");
    assert!(!home.file().exists());
    fs::remove_file(home.marker()).unwrap();
    home.open().unwrap();
}

#[test]
fn a_lost_marker_is_written_again() {
    let home = Home::used();
    let marker = fs::read(home.marker()).unwrap();
    fs::remove_file(home.marker()).unwrap();
    home.open().unwrap();
    assert_eq!(fs::read(home.marker()).unwrap(), marker);
}

// Row 17.
#[test]
fn a_directory_without_parent_is_refused() {
    let home = Home::new();
    let text = Store::open(&home.path().join("deeper"), OPTIONS, &Dice::default()).unwrap_err().to_string();
    assert!(text.contains("parent") && text.contains("create"), "{text}");
}

// Row 17.
#[test]
fn a_path_that_is_a_file_is_refused() {
    let home = Home::new();
    fs::write(home.path(), b"hello").unwrap();
    let text = home.open().unwrap_err().to_string();
    assert!(text.contains("this is a file") && text.contains("storage.path"), "{text}");
    assert_eq!(fs::read(home.path()).unwrap(), b"hello");
}

// Row 12.
#[test]
fn a_store_that_is_a_directory_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.file()).unwrap();
    let text = home.open().unwrap_err().to_string();
    assert!(text.contains("this is no file"), "{text}");
}

// Row 12.
#[test]
fn a_foreign_file_is_refused() {
    let text = Home::with_file(b"SQLite format 3\0and more").refusal();
    assert!(text.contains("not a postbackd store"), "{text}");
    assert!(text.contains("name another file"), "it may have been named as a backup: {text}");
    let text = Home::with_file(b"re").refusal();
    assert!(text.contains("not a postbackd store"), "{text}");
}

// Row 12.
#[test]
fn an_empty_file_is_refused() {
    let text = Home::with_file(b"").refusal();
    assert!(text.contains("empty") && text.contains("backup"), "{text}");
}

// Row 12.
#[test]
fn a_file_that_was_cut_short_is_refused() {
    let whole = fs::read(Home::used().file()).unwrap();
    for keep in [9, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        let text = Home::with_file(&whole[..keep]).refusal();
        assert!(text.contains("damaged or cut short"), "{keep}: {text}");
    }
}

// Row 12.
#[test]
fn a_file_with_a_wrong_front_is_refused() {
    let mut bytes = fs::read(Home::used().file()).unwrap();
    bytes[9..4096].fill(0xff);
    let text = Home::with_file(&bytes).refusal();
    assert!(text.contains("damaged"), "{text}");
}

// Row 12.
#[test]
fn a_redb_file_of_another_program_is_refused() {
    let home = Home::new();
    fs::create_dir(home.path()).unwrap();
    for table in ["theirs", "meta"] {
        let database = Database::create(home.file()).unwrap();
        let transaction = begin_write(&database).unwrap();
        let definition: redb::TableDefinition<u64, u64> = redb::TableDefinition::new(table);
        transaction.open_table(definition).unwrap().insert(1, 1).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let text = home.open().unwrap_err().to_string();
        assert!(text.contains("not a postbackd store"), "{text}");
        fs::remove_file(home.file()).unwrap();
    }
}

// Row 80.
#[test]
fn a_store_of_a_newer_version_is_refused() {
    let before = newer();
    let home = Home::with_file(&before);
    let text = home.open().unwrap_err().to_string();
    assert!(fs::read(home.file()).unwrap() == before, "it was touched");
    assert!(text.contains("newer postbackd (format 3; this version reads 2)"), "{text}");
}

#[test]
fn a_generator_without_randomness_makes_no_store() {
    /// Gives these in turn: the instance, and both halves of the key.
    #[derive(Debug)]
    struct Given([u64; 3], AtomicU64);
    impl Entropy for Given {
        fn next_u64(&self) -> u64 {
            self.0[usize::try_from(self.1.fetch_add(1, Ordering::Relaxed)).unwrap()]
        }
    }
    let open = |given| {
        let home = Home::new();
        Store::open(&home.path(), OPTIONS, &Given(given, AtomicU64::new(0))).map(|store| store.hash_key().0)
    };
    let text = open([7, 0, 0]).unwrap_err().to_string();
    assert!(text.contains("randomness"), "{text}");
    for (high, low) in [(0, 7), (7, 0), (2, 3)] {
        let whole = [high, low].map(u64::to_be_bytes).concat();
        assert_eq!(open([7, high, low]).unwrap().as_slice(), whole, "all of the key is drawn");
    }
}

// Row 16.
#[test]
fn a_file_that_is_deleted_or_moved_is_missed_until_it_is_back_and_goes_on_meanwhile() {
    let home = Home::used();
    let mut store = home.open().unwrap();
    assert_eq!(store.lost(), None);
    let aside = home.file().with_extension("aside");
    fs::rename(home.file(), &aside).unwrap();
    assert!(store.lost().unwrap().contains("deleted or moved"));
    store.reopen().unwrap();
    assert!(!home.file().exists(), "reopening never creates");
    store.accept(event("b", 100), vec![owe(ONE)]);
    fs::rename(&aside, home.file()).unwrap();
    assert_eq!(store.lost(), None);
    store.reopen().unwrap();
    store.assert_sound();
    drop(store);
    assert_eq!(home.open().unwrap().reader().ledger().deliveries[&ONE].accepted, 2, "it was the same file all along");
}

// Row 16.
#[test]
fn reopening_is_never_opening_another_store_in_this_ones_place() {
    let (home, other) = (Home::used(), Home::new());
    Store::open(&other.path(), OPTIONS, &Dice(AtomicU64::new(99))).unwrap().close().unwrap();
    let mut store = home.open().unwrap();
    let instance = store.instance();
    fs::copy(other.file(), home.file().with_extension("new")).unwrap();
    fs::rename(home.file().with_extension("new"), home.file()).unwrap();
    let theirs = fs::read(home.file()).unwrap();
    assert!(store.lost().unwrap().contains("another file"));
    store.reopen().unwrap();
    store.accept(event("b", 100), vec![owe(ONE)]);
    assert_eq!(store.instance(), instance);
    store.assert_sound();
    assert!(fs::read(home.file()).unwrap() == theirs, "the other file was written to");
}

// Row 16: neither by a newer version's file, which a start would refuse, nor by what is no store at all.
#[test]
fn reopening_does_not_judge_a_file_that_took_this_ones_place() {
    for other in [b"an editor's idea of a copy".to_vec(), newer()] {
        let home = Home::used();
        let mut store = home.open().unwrap();
        fs::write(home.file().with_extension("new"), &other).unwrap();
        fs::rename(home.file().with_extension("new"), home.file()).unwrap();
        store.reopen().unwrap();
        store.accept(event("b", 100), vec![owe(ONE)]);
        store.assert_sound();
        assert!(fs::read(home.file()).unwrap() == other, "the other file was written to");
    }
}

/// The bytes of a store that a newer version wrote.
fn newer() -> Vec<u8> {
    let home = Home::used();
    let database = Database::open(home.file()).unwrap();
    let transaction = begin_write(&database).unwrap();
    let format = (schema::FORMAT + 1).to_be_bytes();
    transaction.open_table(schema::META).unwrap().insert(schema::META_FORMAT, format.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::read(home.file()).unwrap()
}

// Row 16: written over in place, so that the name still stands for the file.
#[test]
fn an_older_state_or_another_store_written_over_the_open_file_is_never_gone_on_with() {
    let older = Home::used();
    let older = fs::read(older.file()).unwrap();
    let other = Home::new();
    Store::open(&other.path(), OPTIONS, &Dice(AtomicU64::new(99))).unwrap().close().unwrap();
    let other = fs::read(other.file()).unwrap();
    for (bytes, what) in [(older, "an older state"), (other, "another store")] {
        let home = Home::used();
        let mut store = home.open().unwrap();
        store.accept(event("b", 100), vec![owe(ONE)]);
        // Once it is closed, so that the engine has nothing to write over it in turn.
        store.shared.close().unwrap();
        fs::write(home.file(), &bytes).unwrap();
        assert_eq!(store.lost(), None);
        let text = store.reopen().unwrap_err().to_string();
        assert!(text.contains(what) && text.contains("postbackd restore"), "{text}");
        assert!(store.medium_fault().unwrap().contains(what), "so the process ends");
        let refused = store.commit(&[settle_op(key(EventSeq(1), ONE), UnixMs(100), 1, None, DEAD)]);
        assert!(refused.is_err());
        assert!(home.path().join("postbackd.suspect").exists());
    }
}

#[test]
fn a_store_that_cannot_be_looked_for_is_not_called_lost() {
    let home = Home::used();
    let store = home.open().unwrap();
    let aside = home.path().with_extension("aside");
    fs::rename(home.path(), &aside).unwrap();
    // A name that leads to itself: there is no telling what is behind it.
    std::os::unix::fs::symlink(home.path(), home.path()).unwrap();
    assert_eq!(store.lost(), None);
    fs::remove_file(home.path()).unwrap();
    assert!(store.lost().is_some());
    fs::rename(aside, home.path()).unwrap();
    assert_eq!(store.lost(), None);
}

#[test]
fn a_store_whose_directory_is_gone_can_still_be_saved() {
    let home = Home::used();
    let store = home.open().unwrap();
    fs::remove_dir_all(home.path()).unwrap();
    assert!(store.lost().is_some());
    let order =
        crate::store::backup::Order { name: "rescue".to_owned(), at: UnixMs(5000), reserve: 0, directory: None };
    let saved = store.reader().backup(&order, Box::new(|| Ok(()))).unwrap();
    let saved = crate::store::offline::examine(&saved.file, OPTIONS).unwrap();
    assert_eq!(saved.reader().verify().unwrap(), Vec::<String>::new());
    assert_eq!(saved.contents().unwrap().events, 1);
}

// Row 11.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let whole = fs::read(Home::used().file()).unwrap();
    let mut dice = 7_u64;
    let mut refused = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..20 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(dice >> 33).unwrap() % bytes.len();
            bytes[at] ^= 1 << (dice & 7);
        }
        refused += usize::from(Home::with_file(&bytes).open().is_err());
    }
    assert!(refused > 0, "some of this damage must show at once");
}

/// How often an opening of this file as a crash leaves it tells how far it has come in reading all of it.
fn repair_of(home: &Home) -> u64 {
    let crashed = Home::with_file(&fs::read(home.file()).unwrap());
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let mut builder = Database::builder();
    builder.set_repair_callback(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    drop(builder.open(crashed.file()).unwrap());
    told.load(Ordering::Relaxed)
}

#[test]
fn what_a_hurried_transaction_leaves_is_repaired_and_what_is_sealed_opens_at_once() {
    let home = Home::new();
    let mut store = home.open().unwrap();
    let seq = store.accept(event("a", 100), vec![owe(ONE)]).seq;
    assert!(store.is_sealed() && repair_of(&home) == 0);
    let sent = settle_op(key(seq, ONE), UnixMs(100), 200, Some(200), Disposition::Sent);
    let (applied, _) = store.commit_beside(&[sent], None, Rush::Hurried).unwrap();
    assert!(matches!(applied[..], [Applied::Settled { now: None, .. }]), "{applied:?}");
    assert!(!store.is_sealed() && repair_of(&home) > 0);
    let crashed = Home::new();
    fs::create_dir(crashed.path()).unwrap();
    for (from, to) in [(home.file(), crashed.file()), (home.marker(), crashed.marker())] {
        fs::copy(from, to).unwrap();
    }
    let found = crashed.open().unwrap();
    assert_eq!(found.delivery(key(seq, ONE)).state, crate::domain::delivery::State::Sent { at: UnixMs(200) });
    found.assert_sound();
    store.seal().unwrap();
    assert!(store.is_sealed() && repair_of(&home) == 0);
}

#[test]
fn a_small_file_is_ready_for_a_crash_after_each_transaction_however_hurried() {
    let home = Home::new();
    let mut store = home.open().unwrap().quick_up_to(1 << 30);
    let accept = store.accept_op(event("a", 100), vec![owe(ONE)]);
    store.commit_beside(&[accept], None, Rush::Hurried).unwrap();
    assert!(store.is_sealed() && repair_of(&home) == 0);
}

#[test]
fn a_disk_that_does_not_let_a_store_close_is_told() {
    let disk = Disk::default();
    let mut store = disk.store();
    store.accept(event("a", 100), vec![]);
    disk.full.store(true, Ordering::Relaxed);
    assert!(matches!(store.close(), Err(StoreError::Full(_))));
}
