//! What was told outlives the process; a file in which nothing was ever told is as good.

use super::*;
use crate::domain::alert::{AlertMemory, Notice, NoticeKind, Problem, Rhythm, Rule, Severity, Waiting, Why};
use crate::store::handle::Finish;

fn problem(id: &str, rule: Rule) -> Problem {
    Problem {
        id: id.to_owned(),
        rule,
        severity: Severity::Critical,
        worst: Severity::Critical,
        title: "crm is held".to_owned(),
        text: "crm is held (HTTP 401)".to_owned(),
        remedy: "postbackd release crm".to_owned(),
        since: UnixMs(100),
        told_at: Some(UnixMs(200)),
        told: 3,
        good_since: None,
    }
}

/// It was worse than it is.
fn lesser(problem: Problem) -> Problem {
    Problem { severity: Severity::Warning, ..problem }
}

#[test]
fn what_was_told_outlives_the_process_and_is_replaced_as_a_whole() {
    let disk = Disk::default();
    let mut store = disk.store();
    assert_eq!(store.reader().alerts().unwrap(), AlertMemory::default(), "no table yet");
    // Every rule's word is read back.
    let open: Vec<Problem> = Rule::ALL.into_iter().map(|rule| problem(rule.as_str(), rule)).collect();
    let rhythm = Rhythm { total: 9, last_event_at: Some(UnixMs(7)), newest: 981_415, counts: vec![1, 0, 8] };
    // And every kind of message that may wait, in its order.
    let closed = Why::ALL.map(NoticeKind::Closed);
    let kinds = [NoticeKind::Recovered, NoticeKind::Problem, NoticeKind::Worse, NoticeKind::Reminder];
    let waiting = kinds.into_iter().chain(closed).map(|kind| Waiting {
        channel: format!("to-{}", kind.as_str()),
        notice: Arc::new(Notice { kind, problem: lesser(problem("crm/down", Rule::Held)), at: UnixMs(300) }),
    });
    let waiting = waiting.collect();
    let mut memory = AlertMemory { open, rhythms: [("app".parse().unwrap(), rhythm)].into(), waiting };
    memory.open.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(matches!(store.one(WriteOp::Alerts(memory.clone())), Applied::Counted));
    store.close().unwrap();
    let mut store = disk.store();
    assert_eq!(store.reader().alerts().unwrap(), memory);
    let fewer = AlertMemory { open: vec![problem("crm/down", Rule::Held)], ..AlertMemory::default() };
    store.one(WriteOp::Alerts(fewer.clone()));
    store.reopen().unwrap();
    assert_eq!(store.reader().alerts().unwrap(), fewer);
    store.assert_sound();
}

#[test]
fn a_damaged_row_is_passed_over_and_found() {
    let mut store = Disk::default().store();
    store.one(WriteOp::Alerts(AlertMemory { open: vec![problem("crm/down", Rule::Held)], ..AlertMemory::default() }));
    let harm = |transaction: &redb::WriteTransaction| {
        transaction.open_table(schema::ALERTS)?.insert("problem/x", b"nonsense".as_slice())?;
        Ok(((), Finish::Commit))
    };
    store.shared.write(harm).unwrap();
    assert_eq!(store.reader().alerts().unwrap().open.len(), 1);
    assert_eq!(store.reader().verify().unwrap(), ["alerts problem/x: the row's checksum is wrong"]);
}
