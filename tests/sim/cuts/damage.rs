//! What is not a power cut: creation that was cut short, bits that turned over, pages that cannot be read.

use std::panic::{AssertUnwindSafe, catch_unwind};

use postbackd::domain::time::UnixMs;
use postbackd::store::offline::examine;
use postbackd::store::{Options, Store};

use super::image::{Cutter, Image, Keep};
use super::moment::Moment;
use super::run::{Run, open};
use super::tape::Tape;
use super::{Sum, Trouble, record};
use crate::rng::Rng;

const OPTIONS: Options = Options { cache: 256 * 1024 };

fn recorded(seed: u64) -> (Run, Rng) {
    let rng = Rng::new(seed);
    let run = record(&rng, Trouble::None, &mut Sum::default()).expect("a sound disk");
    (run, rng)
}

/// The file of a store that was closed, and what it told.
fn closed(run: &Run) -> (Image, &Moment) {
    let mut cutter = run.cutter();
    cutter.advance(run.ops.len());
    (cutter.durable().clone(), &run.span(run.ops.len()).expect("there is a store").allowed[0])
}

// Row 3: a new file is made under another name, so whatever the power left of it is thrown away by the next start.
#[test]
fn a_power_cut_during_first_creation_needs_no_hand() {
    let (run, rng) = recorded(1);
    let mut cutter = run.cutter();
    for place in (0..run.begins()).filter(|_| rng.percent(12)) {
        cutter.advance(place);
        let dir = tempfile::tempdir().expect("a directory");
        let left = cutter.cut(Keep::any(&rng), &rng).bytes();
        std::fs::write(dir.path().join("postbackd.redb.tmp"), left).expect("room for it");
        for _ in 0..2 {
            let store = Store::open(dir.path(), OPTIONS, &rng);
            let store = store.unwrap_or_else(|error| panic!("cut at change {place} of a creation: {error}"));
            assert!(store.reader().verify().expect("readable").is_empty());
            store.close().expect("a sound disk");
        }
    }
}

/// How a damaged file was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// It tells what it told.
    Harmless,
    Refused,
    /// By the checksum of a row, by an error, or by the rules between rows.
    Noticed,
}

/// Nothing is told of an event that was not so; whatever is missing is noticed.
fn meet(image: Image, was: &Moment, rng: &Rng) -> Met {
    let bytes = image.bytes();
    let Ok(store) = open(&Tape::new(image), rng) else { return Met::Refused };
    let reader = store.reader();
    let read = || {
        let found = Moment::read(&reader, was.newest())?;
        assert!(found.tells_no_other_event(was), "it tells another event: {}", was.difference(&found));
        let sound = reader.damaged_rows() == 0 && reader.verify()?.is_empty();
        let differs = found != *was;
        assert!(
            found.owes_the_same(was) || !sound,
            "it lost something and nothing notices: {}",
            was.difference(&found)
        );
        // Of the rest, the key of a row may have changed: whoever looks with the daemon stopped is told.
        assert!(!differs || !sound || is_refused(&bytes), "not even offline: {}", was.difference(&found));
        Ok::<_, postbackd::store::StoreError>(!differs && sound)
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(true)) => Met::Harmless,
        Ok(Ok(false) | Err(_)) => Met::Noticed,
        // The engine gives up on pages that make no sense, and whoever asked is told.
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(!text.starts_with("it ") && !text.starts_with("not "), "{text}");
            Met::Noticed
        }
    }
}

/// What `postbackd verify` does.
fn is_refused(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("room for it");
    examine(file.path(), OPTIONS)
        .map_or(true, |store| store.reader().verify().is_ok_and(|findings| !findings.is_empty()))
}

// Row 11: a bit turned over, or a sector that reads as zeros, anywhere in the file of a stopped daemon.
#[test]
fn a_flipped_bit_is_noticed_or_harmless_and_never_another_event() {
    let (mut harmless, mut refused, mut noticed) = (0, 0, 0);
    for seed in 0..4 {
        let (run, rng) = recorded(seed);
        let (image, was) = closed(&run);
        let written = image.written();
        for _ in 0..60 {
            let mut image = image.clone();
            let page = written[usize::try_from(rng.below(written.len() as u64)).expect("small")];
            let offset = page + usize::try_from(rng.below(4096)).expect("small");
            if rng.percent(80) {
                image.flip(offset, u32::try_from(rng.below(8)).expect("small"));
            } else {
                image.write(offset / 512 * 512, &[0; 512]);
            }
            match meet(image, was, &rng) {
                Met::Harmless => harmless += 1,
                Met::Refused => refused += 1,
                Met::Noticed => noticed += 1,
            }
        }
    }
    println!("damaged files: {harmless} harmless, {refused} refused, {noticed} noticed");
    assert!(harmless > 0 && refused > 0 && noticed > 0, "{harmless} {refused} {noticed}");
}

// Row 10: a page that cannot be read. What needs it fails and says so, and once the disk is well everything is there.
#[test]
fn a_page_that_cannot_be_read_fails_what_needs_it_and_nothing_else() {
    let (mut failed, mut served) = (0, 0);
    for seed in 0..4 {
        let (run, rng) = recorded(seed);
        let (image, was) = closed(&run);
        let written = image.written();
        for _ in 0..20 {
            let page = written[usize::try_from(rng.below(written.len() as u64)).expect("small")];
            let tape = Tape::new(image.clone());
            tape.spoil(page);
            if let Ok(store) = open(&tape, &rng) {
                match Moment::read(&store.reader(), was.newest()) {
                    Ok(found) => {
                        assert!(found == *was, "{}", was.difference(&found));
                        served += 1;
                    }
                    Err(_) => failed += 1,
                }
            } else {
                failed += 1;
            }
            tape.mend();
            let store = open(&tape, &rng).expect("the disk is well");
            let found = Moment::read(&store.reader(), was.newest()).expect("the disk is well");
            assert!(found == *was, "{}", was.difference(&found));
        }
    }
    assert!(failed > 0 && served > 0, "{failed} failed, {served} served");
}

// Row 18: a backup that was cut short is no store, and one that is a store is whole; the store it was taken of is never touched.
#[test]
fn a_backup_that_was_cut_short_is_no_store() {
    let (mut whole, mut none) = (0, 0);
    for seed in 0..3 {
        let (run, rng) = recorded(seed);
        let (image, was) = closed(&run);
        let (from, to) = (Tape::new(image), Tape::new(Image::default()));
        let store = open(&from, &rng).expect("a sound disk");
        let before = from.position();
        store.reader().copy_into(to.clone(), UnixMs(5000), Box::new(|| Ok(()))).expect("a sound disk");
        assert_eq!(from.position(), before, "the store was written to");
        let ops = to.ops();
        let mut cutter = Cutter::new(&Image::default(), &ops);
        for place in (0..=ops.len()).filter(|place| *place == ops.len() || rng.percent(20)) {
            cutter.advance(place);
            let left = cutter.cut(Keep::any(&rng), &rng).bytes();
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), left).expect("room for it");
            if let Ok(store) = examine(file.path(), OPTIONS) {
                let found = Moment::read(&store.reader(), was.newest()).expect("readable");
                assert!(found == *was, "at change {place} of {}: {}", ops.len(), was.difference(&found));
                assert_eq!(store.contents().expect("readable").taken_at, Some(UnixMs(5000)));
                whole += 1;
            } else {
                none += 1;
            }
        }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} none");
}

// Row 18: what `compact` does to the file, cut anywhere.
#[test]
fn compaction_that_was_cut_short_leaves_the_store_as_it_was() {
    let mut moved = 0;
    for seed in 0..3 {
        let (run, rng) = recorded(seed);
        let (image, was) = closed(&run);
        let tape = Tape::new(image.clone());
        let mut database = redb::Builder::new().create_with_backend(tape.clone()).expect("a sound disk");
        while database.compact().expect("a sound disk") {
            moved += 1;
        }
        database.close().expect("a sound disk");
        let ops = tape.ops();
        let mut cutter = Cutter::new(&image, &ops);
        for place in (0..=ops.len()).filter(|_| rng.percent(15)) {
            cutter.advance(place);
            let store = open(&Tape::new(cutter.cut(Keep::any(&rng), &rng)), &rng);
            let store = store.unwrap_or_else(|error| panic!("at change {place} of {}: {error}", ops.len()));
            let found = Moment::read(&store.reader(), was.newest()).expect("readable");
            assert!(found == *was, "at change {place} of {}: {}", ops.len(), was.difference(&found));
            assert_eq!(store.reader().verify().expect("readable"), Vec::<String>::new());
        }
    }
    assert!(moved > 0, "there was nothing to compact");
}
