//! Pauses outlive the process, and a file from before there were any takes them.

use super::*;
use crate::domain::limits::PAUSE_REASON_BYTES;
use crate::domain::pause::{Pause, PausedBy};
use crate::store::handle::Finish;
use crate::store::row::PauseRow;

fn pause(since: u64, until: Option<u64>, by: PausedBy) -> Pause {
    Pause { since: UnixMs(since), until: until.map(UnixMs), reason: "stock is counted".to_owned(), by }
}

fn operators(since: u64, until: Option<u64>) -> Pause {
    pause(since, until, PausedBy::Operator)
}

impl Store {
    /// As it stands in the store afterwards.
    fn pause(&mut self, destination: DestinationId, pause: &Pause) -> Pause {
        let applied = self.one(WriteOp::Pause { destination, pause: pause.clone() });
        let Applied::Paused { destination: told, pause } = applied else { panic!("{applied:?}") };
        assert_eq!(told, destination);
        pause
    }

    fn resume(&mut self, destination: DestinationId) {
        let applied = self.one(WriteOp::Resume { destination });
        assert!(matches!(applied, Applied::Resumed { destination: told } if told == destination));
    }

    fn pauses(&self) -> Vec<(DestinationId, Pause)> {
        self.reader().pauses().unwrap().into_iter().collect()
    }

    /// With destinations one and two.
    fn numbered(disk: &Disk) -> Self {
        let mut store = disk.store();
        store.number_destinations(&["one".parse().unwrap(), "two".parse().unwrap()]).unwrap();
        store
    }
}

#[test]
fn a_pause_outlives_the_process_until_it_is_resumed() {
    let disk = Disk::default();
    let mut store = Store::numbered(&disk);
    let (first, second) = (operators(100, None), pause(200, Some(900), PausedBy::Destination));
    assert_eq!(store.pause(ONE, &first), first);
    store.pause(TWO, &second);
    store.close().unwrap();
    let mut store = disk.store();
    assert_eq!(store.pauses(), [(ONE, first), (TWO, second.clone())]);
    store.assert_sound();
    store.resume(ONE);
    store.resume(ONE);
    store.reopen().unwrap();
    assert_eq!(store.pauses(), [(TWO, second)]);
    store.assert_sound();
}

#[test]
fn the_latest_word_holds_and_the_pause_goes_on_from_the_first() {
    let mut store = Store::numbered(&Disk::default());
    store.pause(ONE, &pause(100, None, PausedBy::Destination));
    assert_eq!(store.pause(ONE, &operators(300, Some(500))), operators(100, Some(500)));
    assert_eq!(store.pause(ONE, &operators(600, None)), operators(600, None), "the one before had ended");
    assert_eq!(store.pause(ONE, &pause(700, None, PausedBy::Destination)), operators(600, None), "an operator's stays");
    assert_eq!(store.pauses(), [(ONE, operators(600, None))]);
}

#[test]
fn a_pause_shares_its_transaction_with_what_comes_together() {
    let mut store = Store::numbered(&Disk::default());
    let accept = store.accept_op(event("a", 100), vec![owe(ONE)]);
    let ops =
        [accept, WriteOp::Pause { destination: ONE, pause: operators(1, None) }, WriteOp::Resume { destination: ONE }];
    let applied = store.commit(&ops).unwrap();
    assert!(
        matches!(applied[..], [Applied::Queued(_), Applied::Paused { .. }, Applied::Resumed { .. }]),
        "{applied:?}"
    );
    assert_eq!(store.pauses(), []);
    store.assert_sound();
}

#[test]
fn a_file_from_before_there_were_pauses_is_read_and_takes_the_first() {
    let disk = Disk::default();
    let mut store = Store::numbered(&disk);
    store.accept(event("a", 100), vec![owe(ONE)]);
    let drop_table =
        |transaction: &redb::WriteTransaction| Ok((transaction.delete_table(schema::PAUSES)?, Finish::Commit));
    assert!(store.shared.write(drop_table).unwrap(), "new files have the table");
    store.close().unwrap();
    let mut store = disk.store();
    assert_eq!(store.pauses(), []);
    store.assert_sound();
    store.accept(event("b", 100), vec![owe(ONE)]);
    store.resume(ONE);
    store.pause(ONE, &operators(100, None));
    store.close().unwrap();
    let store = disk.store();
    assert_eq!(store.pauses(), [(ONE, operators(100, None))]);
    store.assert_sound();
}

#[test]
fn a_reason_that_is_too_long_is_cut_rather_than_the_pause_lost() {
    let mut store = Store::numbered(&Disk::default());
    store.pause(ONE, &Pause { reason: "é".repeat(PAUSE_REASON_BYTES), ..operators(1, None) });
    assert_eq!(store.pauses()[0].1.reason.len(), PAUSE_REASON_BYTES);
}

#[test]
fn a_damaged_pause_is_passed_over_found_and_mended_by_the_next_word() {
    let mut store = Store::numbered(&Disk::default());
    store.pause(ONE, &operators(100, None));
    store.pause(TWO, &operators(100, None));
    let unknown = PauseRow { since: 1, until: None, reason: String::new(), by: "moon".to_owned() };
    let harm = |transaction: &redb::WriteTransaction| {
        let mut table = transaction.open_table(schema::PAUSES)?;
        table.insert(&schema::pause_key(ONE), row::encode(&unknown)?.as_slice())?;
        table.insert(
            &schema::pause_key(DestinationId(9)),
            row::encode(&PauseRow::from(&operators(1, None)))?.as_slice(),
        )?;
        Ok(((), Finish::Commit))
    };
    store.shared.write(harm).unwrap();
    assert_eq!(store.pauses().iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2, 9]);
    assert_eq!(store.reader().damaged_rows(), 1);
    let findings = store.reader().verify().unwrap();
    let wanted = [
        "pause of destination 1: the row holds no valid author of a pause",
        "destination 9 is paused, but no destination has that number",
    ];
    assert_eq!(findings, wanted);
    store.pause(ONE, &operators(300, None));
    assert_eq!(store.pauses()[0], (ONE, operators(300, None)));
}
