//! A store whose file has lost its name while it is open.

use super::*;

// Row 16.
#[test]
fn who_finds_that_the_file_is_gone_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Fixed).unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    let bench = Bench::over(store, Disk::default(), 0);
    assert!(matches!(bench.accept("a"), Err(Unavailable::Store(_))));
    assert_eq!(bench.reader.ledger().deliveries.len(), 0);
    bench.stop().unwrap();
}

// Row 16.
#[test]
fn a_file_that_is_gone_is_missed_also_after_a_long_silence() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Fixed).unwrap();
    let bench = Bench::over(store, Disk::default(), 0);
    bench.accept("a").unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    bench.clock.0.fetch_add(60_000, Ordering::Relaxed);
    assert!(matches!(bench.accept("b"), Err(Unavailable::Store(_))));
    bench.stop().unwrap();
}
