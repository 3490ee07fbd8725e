//! A restored store is the backup's, paused, and repeats no id; what is not sound takes no store's place.

use std::fs;
use std::path::{Path, PathBuf};

use super::backing::lived_in;
use super::*;
use crate::domain::alert::{AlertMemory, Problem, Rule, Severity};
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryId, InstanceId};
use crate::domain::job::{JobKind, JobState};
use crate::domain::pause::PausedBy;
use crate::store::backup::Order;
use crate::store::handle::Finish;
use crate::store::job::Selection;
use crate::store::offline::restore::{Present, Report, Wish};
use crate::store::offline::{Offline, examine};
use crate::store::write::JobPlan;

const DAY: u64 = 24 * 3600 * 1000;
/// When backups are taken.
const TAKEN: UnixMs = UnixMs(1_764_000_000_000);

fn backup(store: &Store, name: &str) -> PathBuf {
    let order = Order { name: name.to_owned(), at: TAKEN, reserve: 0, directory: None };
    store.reader().backup(&order, Box::new(|| Ok(()))).unwrap().file
}

fn restore(dir: &Path, file: &Path, now: UnixMs) -> Result<Report, OpenError> {
    settle(dir, (file, None), now)
}

/// With what knows what was sent since.
fn settle(dir: &Path, (file, sent): (&Path, Option<&Path>), now: UnixMs) -> Result<Report, OpenError> {
    Offline::claim(dir, "stop it").unwrap().restore(&Wish { file, sent, now, options: OPTIONS })
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

// Row 19.
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
    let wish = Wish { file: &file, sent: None, now: later(5000), options: OPTIONS };
    let told = Offline::claim(dir.path(), "stop it").unwrap().rehearse(&wish).unwrap();
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
    assert_eq!(last_result(&store), format!("restored from a backup of {}", TAKEN.to_rfc3339()));
}

/// What the newest deed says of its end.
fn last_result(store: &Store) -> String {
    store.reader().audit(None, 1).unwrap().0.remove(0).deed.result
}

#[test]
fn what_is_owed_is_told_apart_from_what_retention_forgot_and_from_what_the_present_store_never_had() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 4);
    let present = dir.path().join("postbackd.redb");
    for seq in 1..=4 {
        store.settle(DeliveryKey { seq: EventSeq(seq), destination: TWO }, 950, Disposition::Sent);
    }
    store.close().unwrap();
    let older = fs::read(&present).unwrap();
    let mut store = reopen(dir.path());
    // The first is of the number that comes next in the older one.
    store.accept(event("new1", 900), vec![owe(TWO)]);
    store.accept(event("new2", 901), vec![owe(TWO)]);
    let file = backup(&store, "a");
    let owed = |file: &Path| {
        let wish = Wish { file, sent: None, now: later(1), options: OPTIONS };
        let report = Offline::claim(dir.path(), "stop it").unwrap().rehearse(&wish).unwrap();
        report.owed.into_iter().map(|each| (each.owed, each.sent, each.ended)).collect::<Vec<_>>()
    };
    for seq in 5..=6 {
        store.settle(DeliveryKey { seq: EventSeq(seq), destination: TWO }, 950, Disposition::Sent);
    }
    for seq in 3..=4 {
        store.settle(DeliveryKey { seq: EventSeq(seq), destination: ONE }, 950, Disposition::Sent);
    }
    let all = SweepPlan { events_before: Some(later(DAY)), ..SweepPlan::default() };
    while store.sweep(&all).unwrap() > 0 {}
    store.close().unwrap();
    assert_eq!(owed(&file), [(2, 0, 2), (2, 0, 2)], "forgotten");
    fs::write(&present, older).unwrap();
    assert_eq!(owed(&file), [(2, 0, 0), (2, 0, 0)], "never had");
}

// Row 19.
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
                store.sweep(&SweepPlan::default()).unwrap();
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
fn no_more_numbers_are_skipped_than_can_have_been_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 3);
    let newest = TAKEN.0 - 1000;
    store.accept(event("newest", newest), vec![owe(ONE)]);
    let known = backup(&store, "a");
    store.close().unwrap();
    let unknown = dir.path().join("copy");
    fs::copy(dir.path().join("postbackd.redb"), &unknown).unwrap();
    let other = tempfile::tempdir().unwrap();
    let skipped = |file: &Path, now: u64| {
        let wish = Wish { file, sent: None, now: UnixMs(now), options: OPTIONS };
        Offline::claim(other.path(), "stop it").unwrap().rehearse(&wish).unwrap().floor - 5
    };
    let (few, many) = (1 << 20, 1 << 36);
    assert_eq!(skipped(&known, TAKEN.0), few);
    assert_eq!(skipped(&known, TAKEN.0 + 40), few + 4000);
    // The clock was put back: nobody knows when it was taken, but not before its newest event.
    assert_eq!(skipped(&known, TAKEN.0 - 990), many + 1000);
    assert_eq!(skipped(&unknown, TAKEN.0), many + 100_000);
    assert_eq!(skipped(&unknown, newest), many);
    // What its newest event says cannot be believed either.
    assert_eq!(skipped(&unknown, newest - 1), many + (newest - 1 - 1_735_689_600_000) * 100);
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

#[test]
fn a_directory_without_a_store_and_one_that_is_in_disorder_are_not_said_to_be_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let text = Offline::claim(dir.path(), "stop it").unwrap().examine(OPTIONS).unwrap_err().to_string();
    assert!(text.contains("there is no store here yet"), "{text}");
    fs::create_dir(dir.path().join("postbackd.redb.tmp")).unwrap();
    let text = Offline::claim(dir.path(), "stop it").unwrap_err().to_string();
    assert!(text.contains("removing what an unfinished start left"), "{text}");
}

/// Sent since the backup: the first ten of destination two. Closed.
fn sent_since(dir: &Path) -> (PathBuf, InstanceId) {
    let mut store = lived_in(dir, 40);
    let file = backup(&store, "a");
    for seq in 1..=10 {
        store.settle(DeliveryKey { seq: EventSeq(seq), destination: TWO }, 900 + seq, Disposition::Sent);
    }
    let instance = store.instance();
    store.close().unwrap();
    (file, instance)
}

fn settled(report: &Report) -> Vec<(&str, u64, u64)> {
    report.owed.iter().map(|each| (each.destination.as_str(), each.owed, each.settled)).collect()
}

#[test]
fn what_a_newer_store_knows_as_sent_is_not_owed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = sent_since(dir.path());
    let present = dir.path().join("postbackd.redb");
    let before = files(dir.path());
    let wish = Wish { file: &file, sent: Some(&present), now: later(1), options: OPTIONS };
    let told = Offline::claim(dir.path(), "stop it").unwrap().rehearse(&wish).unwrap();
    assert_eq!(files(dir.path()), before, "a rehearsal changes nothing");
    let report = settle(dir.path(), (&file, Some(&present)), later(1)).unwrap();
    assert_eq!(Report { aside: report.aside.clone(), ..told }, report);
    assert_eq!(settled(&report), [("one", 20, 0), ("two", 40, 10)]);
    let check = |dir: &Path, sent_at: u64| {
        let store = reopen(dir);
        store.assert_sound();
        let counts = store.reader().ledger().deliveries[&TWO];
        assert_eq!((counts.pending, counts.sent, counts.accepted), (30, 10, 40));
        let delivery = store.reader().delivery(DeliveryKey { seq: EventSeq(3), destination: TWO }).unwrap().unwrap();
        assert_eq!(delivery.state.due_at(), None);
        assert_eq!(format!("{:?}", delivery.state), format!("Sent {{ at: {:?} }}", UnixMs(sent_at)));
        assert!(last_result(&store).ends_with(", 10 deliveries settled as sent since"), "{}", last_result(&store));
    };
    check(dir.path(), 903);
    // Later, with the one that was set aside, into a directory whose name has a space.
    let other = tempfile::Builder::new().prefix("a directory ").tempdir().unwrap();
    let aside = other.path().join("set aside.redb");
    fs::copy(report.aside.unwrap(), &aside).unwrap();
    let report = settle(other.path(), (&file, Some(&aside)), later(2)).unwrap();
    assert_eq!(settled(&report), [("one", 20, 0), ("two", 40, 10)]);
    check(other.path(), 903);
}

#[test]
fn an_export_settles_what_it_names_as_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (file, instance) = sent_since(dir.path());
    let export = dir.path().join("my export.json");
    let id = |seq, instance| DeliveryId { instance, key: DeliveryKey { seq: EventSeq(seq), destination: TWO } };
    let line = |seq, status: &str| format!("{{\"id\":\"{}\",\"status\":\"{status}\"}}", id(seq, instance));
    let page = format!("{{\"deliveries\":[{},{}],\"cursor\":null}}", line(1, "sent"), line(2, "failed"));
    let timed = format!("{{\"id\":\"{}\",\"status\":\"sent\",\"last_at\":\"2026-11-20T10:00:00Z\"}}", id(3, instance));
    fs::write(&export, [page, timed, line(4, "sent"), line(4000, "sent")].join("\n")).unwrap();
    let report = settle(dir.path(), (&file, Some(&export)), later(1)).unwrap();
    assert_eq!(settled(&report), [("one", 20, 0), ("two", 40, 3)]);
    let store = reopen(dir.path());
    store.assert_sound();
    let state = |seq| store.reader().delivery(id(seq, instance).key).unwrap().unwrap().state;
    assert!(matches!(state(1), State::Sent { at } if at == later(1)), "{:?}", state(1));
    assert!(matches!(state(3), State::Sent { at } if at.to_rfc3339().starts_with("2026-11-20T10")), "{:?}", state(3));
    assert!(state(2).due_at().is_some());
}

#[test]
fn what_cannot_know_what_was_sent_is_refused_in_words_that_help() {
    let dir = tempfile::tempdir().unwrap();
    let (file, instance) = sent_since(dir.path());
    let before = files(dir.path());
    let other = tempfile::tempdir().unwrap();
    let stranger = Store::open(other.path(), OPTIONS, &Dice(7.into())).unwrap();
    let strange_id =
        DeliveryId { instance: stranger.instance(), key: DeliveryKey { seq: EventSeq(1), destination: TWO } };
    stranger.close().unwrap();
    assert_ne!(strange_id.instance, instance);
    let write = |name: &str, text: &str| {
        let path = other.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let wanted = "`postbackd deliveries --status sent --all` prints";
    for (path, words) in [
        (other.path().join("postbackd.redb"), "it does not know what that one sent"),
        (other.path().join("nowhere"), "opening what knows what was sent"),
        (write("empty", ""), wanted),
        (write("text", "not what is wanted"), wanted),
        (write("events", "{\"id\":\"evt_1\"}"), wanted),
        (write("strange", &format!("{{\"id\":\"{strange_id}\",\"status\":\"sent\"}}")), "and the backup of"),
    ] {
        let text = settle(dir.path(), (&file, Some(&path)), later(1)).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains(&path.display().to_string()), "{text}");
        assert!(files(dir.path()) == before, "nothing was changed");
    }
}

fn deed(store: &mut Store) -> u64 {
    let deed = Box::new(Deed::new(Who::nobody(Right::Signal), "reload"));
    store.commit(&[WriteOp::Audit { at: UnixMs(1), deed }]).unwrap();
    store.reader().audit(None, 1).unwrap().0[0].number
}

fn job(store: &mut Store) -> u64 {
    let selection = Selection::Filter(Box::default());
    let reason = "left us".to_owned();
    let plan = JobPlan { at: UnixMs(1), kind: JobKind::Discard, selection, rate: None, reason, matched: 5 };
    let Applied::Job { job, .. } = store.one(WriteOp::JobStart(plan)) else { panic!("no job") };
    job.number.0
}

#[test]
fn jobs_end_and_no_number_of_a_job_or_a_deed_comes_again() {
    for same_machine in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = lived_in(dir.path(), 10);
        let running = job(&mut store);
        deed(&mut store);
        let file = backup(&store, "a");
        let last = (0..5).map(|_| (job(&mut store), deed(&mut store))).last().unwrap();
        store.close().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let to = if same_machine { dir.path() } else { elsewhere.path() };
        for again in 1..3 {
            let report = restore(to, &file, later(again)).unwrap();
            assert_eq!(report.jobs, 1);
            let mut store = reopen(to);
            let [ended] = store.reader().jobs().unwrap().try_into().unwrap();
            assert_eq!(
                (ended.number.0, ended.state, ended.finished_at),
                (running, JobState::Cancelled, Some(later(again)))
            );
            assert!(ended.reason.starts_with("left us (restored from a backup of "), "{}", ended.reason);
            let told = store.reader().audit(None, 1).unwrap().0.remove(0);
            assert!(told.number > last.1 && told.deed.action == "restore", "{told:?}");
            let next = (job(&mut store), deed(&mut store));
            assert!(next.0 > last.0 && next.1 > last.1, "{next:?} after {last:?}");
            assert_eq!((job(&mut store), deed(&mut store)), (next.0 + 1, next.1 + 1));
            store.assert_sound();
            store.close().unwrap();
        }
    }
}

// A backup of a store that was restored itself begins with its numbers far up.
#[test]
fn no_number_of_a_deed_comes_again_after_one_restore_upon_another() {
    let mut dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 3);
    for again in 1..4 {
        let file = backup(&store, "a");
        let lost = (0..5).map(|_| deed(&mut store)).last().unwrap();
        store.close().unwrap();
        let next = tempfile::tempdir().unwrap();
        // So soon that all of them skip equally much.
        restore(next.path(), &file, later(1)).unwrap();
        (store, dir) = (reopen(next.path()), next);
        assert!(deed(&mut store) > lost, "{}: restore {again}", dir.path().display());
    }
}

fn problem(id: &str) -> Problem {
    let text = String::new;
    Problem {
        id: id.to_owned(),
        rule: Rule::Held,
        severity: Severity::Critical,
        worst: Severity::Critical,
        title: text(),
        text: text(),
        remedy: text(),
        since: UnixMs(1),
        told_at: Some(UnixMs(2)),
        told: 1,
        good_since: None,
    }
}

#[test]
fn nobody_is_told_again_what_the_present_store_knows_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = lived_in(dir.path(), 3);
    let told = |store: &mut Store, ids: &[&str]| {
        let open = ids.iter().map(|id| problem(id)).collect();
        store.commit(&[WriteOp::Alerts(AlertMemory { open, ..AlertMemory::default() })]).unwrap();
    };
    told(&mut store, &["over since", "still open"]);
    let file = backup(&store, "a");
    told(&mut store, &["new", "still open"]);
    store.close().unwrap();
    let open = |dir: &Path| {
        let open = reopen(dir).reader().alerts().unwrap().open;
        open.into_iter().map(|problem| problem.id).collect::<Vec<_>>()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    restore(elsewhere.path(), &file, later(1)).unwrap();
    assert_eq!(
        open(elsewhere.path()),
        ["over since", "still open"],
        "what the backup knows, where nothing newer is there"
    );
    restore(dir.path(), &file, later(1)).unwrap();
    assert_eq!(open(dir.path()), ["new", "still open"]);
}
