//! A backup is the store of one moment, and a file under a final name is whole.

use std::fs;
use std::path::{Path, PathBuf};

use redb::{Database, Key, ReadableDatabase, ReadableTable, Value};

use super::*;
use crate::store::backup::{Backup, BackupError, Order};
use crate::store::schema::{
    ALERTS, ATTEMPTS, AUDIT, COUNTS, DEDUPE, DELIVERIES, DESTINATIONS, DLQ, Definition, EVENT_COUNTS, FILTERS, INBOX,
    JOBS, META, META_BACKUP_TAKEN, OUTBOX, PAUSES, STATS, ZONE_UIDS, ZONES,
};

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn order(name: &str) -> Order {
    Order { name: name.to_owned(), at: UnixMs(5000), reserve: 0, directory: None }
}

/// Every row of every table, as bytes.
fn dump(transaction: &redb::ReadTransaction) -> BTreeMap<&'static str, Rows> {
    fn rows<K: Key + 'static, V: Value + 'static>(from: &redb::ReadTransaction, table: Definition<K, V>) -> Rows {
        let Ok(table) = from.open_table(table) else { return Vec::new() };
        let row = |entry: Result<(redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>), _>| {
            let (key, value) = entry.unwrap();
            (K::as_bytes(&key.value()).as_ref().to_vec(), V::as_bytes(&value.value()).as_ref().to_vec())
        };
        table.iter().unwrap().map(row).collect()
    }
    let mut all = BTreeMap::new();
    macro_rules! dump {
        ($($table:ident),*) => { $(all.insert(stringify!($table), rows(transaction, $table));)* };
    }
    dump!(
        META,
        DESTINATIONS,
        INBOX,
        DEDUPE,
        FILTERS,
        DELIVERIES,
        OUTBOX,
        DLQ,
        ATTEMPTS,
        COUNTS,
        EVENT_COUNTS,
        PAUSES,
        JOBS,
        AUDIT,
        STATS,
        ZONES,
        ZONE_UIDS,
        ALERTS
    );
    all
}

fn dump_file(path: &Path) -> BTreeMap<&'static str, Rows> {
    let database = Database::open(path).unwrap();
    dump(&database.begin_read().unwrap())
}

/// A store in a directory, with events in every state.
pub(in crate::store) fn lived_in(dir: &Path, events: u64) -> Store {
    let mut store = Store::open(dir, OPTIONS, &Dice::default()).unwrap();
    store.number_destinations(&["one".parse().unwrap(), "two".parse().unwrap()]).unwrap();
    for number in 0..events {
        let seq = store.accept(event(&format!("e{number}"), 100 + number), vec![owe(ONE), owe(TWO)]).seq;
        let key = |destination| DeliveryKey { seq, destination };
        match number % 4 {
            0 => drop(store.settle(key(ONE), 200 + number, Disposition::Sent)),
            1 => drop(store.settle(key(ONE), 200 + number, Disposition::Dead { reason: DeadReason::Permanent })),
            _ => {}
        }
    }
    store
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("backups")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_holds_every_row_of_one_moment_while_a_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 40);
    let (before, reader) = (dump(&store.shared.view().unwrap()), store.reader());
    let writer = Arc::new(Mutex::new((store, 0)));
    let meanwhile = Arc::clone(&writer);
    let rest = move || {
        let (store, written) = &mut *meanwhile.lock().unwrap();
        *written += 1;
        let seq = store.accept(event(&format!("new{written}"), 900), vec![owe(ONE), owe(TWO)]).seq;
        store.settle(DeliveryKey { seq, destination: TWO }, 901, Disposition::Sent);
        Ok(())
    };
    let Backup { file, rows, bytes, .. } = reader.backup(&order("a"), Box::new(rest)).unwrap();
    let (store, written) = &*writer.lock().unwrap();
    assert!(*written > 20, "it went on meanwhile");
    store.assert_sound();
    assert_eq!(bytes, fs::metadata(&file).unwrap().len());
    let mut copied = dump_file(&file);
    let meta = copied.get_mut("META").unwrap();
    let taken = meta.iter().position(|(name, _)| name == META_BACKUP_TAKEN.as_bytes()).expect("when it was taken");
    meta.remove(taken);
    for (table, rows) in &before {
        assert!(copied[table] == *rows, "{table} differs");
    }
    assert_eq!(rows, before.values().map(|rows| u64::try_from(rows.len()).unwrap()).sum::<u64>() + 1);
    // It opens as a store, and its rules hold.
    let other = tempfile::tempdir().unwrap();
    fs::copy(&file, other.path().join("postbackd.redb")).unwrap();
    Store::open(other.path(), OPTIONS, &Dice::default()).unwrap().assert_sound();
}

// Row 18.
#[test]
fn a_backup_that_is_given_up_leaves_nothing_and_the_next_one_sweeps_up_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let reader = lived_in(dir.path(), 20).reader();
    assert!(reader.backup(&order("x"), Box::new(|| Ok(()))).is_err(), "the store is closed");
    let store = Store::open(dir.path(), OPTIONS, &Dice::default()).unwrap();
    let given_up = store.reader().backup(&order("a"), Box::new(|| Err(BackupError::Stopped)));
    assert!(matches!(given_up, Err(BackupError::Stopped)), "{given_up:?}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
    let mine = store.reader().unfinished_backup(&order("dead")).unwrap();
    fs::write(&mine, "half").unwrap();
    fs::write(dir.path().join("backups/postbackd-x.0000000000.redb.tmp"), "another store's, at work").unwrap();
    fs::write(dir.path().join("backups/notes.tmp"), "an operator's own").unwrap();
    store.reader().backup(&order("a"), Box::new(|| Ok(()))).unwrap();
    assert_eq!(names(dir.path()), ["notes.tmp", "postbackd-a.redb", "postbackd-x.0000000000.redb.tmp"]);
    let again = store.reader().backup(&order("a"), Box::new(|| Ok(())));
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
}

// A stop does not wait for the check of a large copy.
#[test]
fn a_backup_can_be_ended_while_its_checksums_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 20);
    let rests = Arc::new(Mutex::new(0_u32));
    let until = |most: u32| {
        let rests = Arc::clone(&rests);
        *rests.lock().unwrap() = 0;
        Box::new(move || {
            let mut rests = rests.lock().unwrap();
            *rests += 1;
            if *rests > most { Err(BackupError::Stopped) } else { Ok(()) }
        })
    };
    let rows = store.reader().copy_into(Disk::default(), UnixMs(5000), until(u32::MAX)).unwrap();
    let copied = *rests.lock().unwrap();
    let ended = store.reader().backup(&order("a"), until(copied));
    assert!(matches!(ended, Err(BackupError::Stopped)), "{ended:?}");
    assert_eq!(names(dir.path()), Vec::<String>::new());
    assert_eq!(store.reader().backup(&order("a"), until(u32::MAX)).unwrap().rows, rows, "the same without its file");
}

#[test]
fn backups_are_listed_by_name_with_their_sizes_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let reader = store.reader();
    assert_eq!(reader.backups(None), []);
    let taken = ["b", "a"].map(|name| reader.backup(&order(name), Box::new(|| Ok(()))).unwrap());
    fs::write(reader.unfinished_backup(&order("c")).unwrap(), "half").unwrap();
    fs::write(dir.path().join("backups/notes"), "an operator's own").unwrap();
    let [b, a] = taken.map(|backup| (backup.file, backup.bytes));
    assert_eq!(reader.backups(None), [a, b]);
}

#[test]
fn what_this_store_left_unfinished_is_counted_and_a_directory_that_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let reader = store.reader();
    assert_eq!(reader.clear_unfinished_backups(None).unwrap(), 0, "there is no directory yet");
    assert_eq!(reader.series(None, UnixMs(1)).unwrap(), [], "nor is there then a series");
    fs::create_dir(dir.path().join("backups")).unwrap();
    let unfinished = ["x", "y", "z"].map(|name| reader.unfinished_backup(&order(name)).unwrap());
    for file in &unfinished {
        assert!(file.display().to_string().ends_with(&format!(".{:010x}.redb.tmp", store.instance().get())));
        fs::write(file, "half").unwrap();
    }
    assert_eq!(reader.clear_unfinished_backups(None).unwrap(), 3);
    let no_directory = dir.path().join("postbackd.redb");
    assert!(reader.clear_unfinished_backups(Some(&no_directory)).is_err());
    assert!(reader.series(Some(&no_directory), UnixMs(1)).is_err());
}

#[test]
fn a_backup_leaves_the_reserve_free_and_is_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let greedy = Order { reserve: u64::MAX, ..order("a") };
    let refused = store.reader().backup(&greedy, Box::new(|| Ok(())));
    assert!(matches!(refused, Err(BackupError::Disk { .. })), "{refused:?}");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let Backup { file, .. } = store.reader().backup(&order("a"), Box::new(|| Ok(()))).unwrap();
    assert_eq!((mode(file), mode(dir.path().join("backups"))), (0o600, 0o700));
}

#[test]
fn a_store_that_is_reopened_meanwhile_does_not_wait_for_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 40);
    let reader = store.reader();
    let store = Arc::new(Mutex::new(store));
    let (meanwhile, mut reopened) = (Arc::clone(&store), false);
    let rest = move || {
        if !std::mem::replace(&mut reopened, true) {
            meanwhile.lock().unwrap().reopen().unwrap();
        }
        Ok(())
    };
    let cut = reader.backup(&order("a"), Box::new(rest));
    store.lock().unwrap().assert_sound();
    // What is read already may do without the file; nothing half is left either way.
    assert_eq!(names(dir.path()).len(), usize::from(cut.is_ok()), "{cut:?}");
}

#[test]
fn the_oldest_of_the_series_go_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let reader = store.reader();
    let elsewhere = dir.path().join("elsewhere");
    let take = |at: u64| {
        let name = reader.series_name(UnixMs(at));
        let order = Order { at: UnixMs(at), directory: Some(elsewhere.clone()), ..order(&name) };
        let file = reader.backup(&order, Box::new(|| Ok(()))).unwrap().file;
        (reader.prune(Some(&elsewhere), 2, (&file, UnixMs(at))).unwrap(), file)
    };
    let own = ["postbackd-mine.redb", "postbackd-auto-0000000000-20260101T000000.000Z.redb", "notes"];
    let (gone, first) = take(1000);
    assert_eq!(gone, 0);
    for name in own {
        fs::write(elsewhere.join(name), "an operator's").unwrap();
    }
    let (_, second) = take(2000);
    let (gone, third) = take(3000);
    assert_eq!((gone, first.exists(), second.exists()), (1, false, true));
    // The clock was put back: the newest is the one just made, whatever its name says.
    let (gone, fourth) = take(1500);
    let left: Vec<_> = reader.series(Some(&elsewhere), UnixMs(1500)).unwrap();
    let left: Vec<_> = left.into_iter().map(|kept| kept.file).collect();
    assert_eq!((gone, left), (1, vec![third, fourth]));
    assert!(!second.exists() && own.iter().all(|name| elsewhere.join(name).exists()));
    assert!(!dir.path().join("backups").exists());
}

#[test]
fn one_of_the_series_that_cannot_be_removed_keeps_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let reader = store.reader();
    let home = dir.path().join("elsewhere");
    let [stuck, old, fresh] =
        [1000, 2000, 3000].map(|at| home.join(format!("postbackd-{}.redb", reader.series_name(UnixMs(at)))));
    fs::create_dir_all(&stuck).unwrap();
    for file in [&old, &fresh] {
        fs::write(file, "").unwrap();
    }
    let said = reader.prune(Some(&home), 1, (&fresh, UnixMs(3000))).unwrap_err().to_string();
    assert!(said.contains(&stuck.display().to_string()), "{said}");
    assert!(!old.exists() && fresh.exists());
}

#[test]
fn a_disk_that_fails_is_not_said_to_be_the_store_s_where_it_may_be_the_backup_s() {
    let said = BackupError::from(redb::StorageError::Io(std::io::Error::from_raw_os_error(5))).to_string();
    assert!(said.contains("Input/output error") && !said.contains("under the store"), "{said}");
}

#[test]
fn a_directory_without_a_parent_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = lived_in(dir.path(), 3);
    let nowhere = Order { directory: Some(dir.path().join("a/b")), ..order("a") };
    let refused = store.reader().backup(&nowhere, Box::new(|| Ok(()))).unwrap_err().to_string();
    assert!(refused.contains("neither") && refused.contains("backup.dir"), "{refused}");
}
