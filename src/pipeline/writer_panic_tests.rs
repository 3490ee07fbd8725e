//! A defect in the middle of a transaction, wherever it strikes: the writer ends, and with it the process; what was
//! acknowledged is there, and nothing of what was not is half there.

use super::*;

/// What the file is after the process has ended, and after a power cut too.
fn assert_kept(disk: &Disk, acknowledged: &[&str]) {
    for disk in [disk.clone(), disk.cut()] {
        let store = disk.store();
        let reader = store.reader();
        assert_eq!(reader.verify().unwrap(), Vec::<String>::new());
        let known: Vec<String> =
            (1..=3).filter_map(|seq| reader.event(EventSeq(seq)).unwrap()?.event_id.clone()).collect();
        assert!(known.len() <= 2, "{known:?}");
        assert!(acknowledged.iter().all(|id| known.iter().any(|known| known == id)), "{acknowledged:?}, {known:?}");
    }
}

// Rows 20 and 26.
#[test]
fn a_panic_inside_a_transaction_ends_the_writer_and_loses_nothing_that_was_acknowledged() {
    let mut panicked = 0;
    for operations in 0..40 {
        let bench = Bench::new();
        let mut acknowledged = Vec::new();
        bench.accept("a").unwrap();
        acknowledged.push("a");
        bench.disk.fail_after(operations, Fault::Panic);
        if bench.accept("b").is_ok() {
            acknowledged.push("b");
        }
        let Bench { disk, commands, facts, thread, .. } = bench;
        commands.blocking_send(Command::Stop).ok();
        drop(facts);
        panicked += u32::from(thread.join().is_err());
        disk.mend();
        assert_kept(&disk, &acknowledged);
    }
    assert!((5..40).contains(&panicked), "{panicked} of 40: panics have to hit the transaction and miss it");
}
