//! How much one transaction takes, and that whatever waits comes to its turn.

use super::*;
use crate::domain::limits::{OUTCOMES_AT_ONCE, ROW_BYTES};
use crate::pipeline::background::Page;
use crate::pipeline::upkeep::Upkeep;

#[test]
fn a_clean_stop_writes_all_outcomes_also_more_than_one_transaction_takes() {
    let count = u64::try_from(OUTCOMES_AT_ONCE).unwrap() * 2 + 10;
    let bench = Bench::new();
    let keys: Vec<_> = (1..=count).map(|seq| DeliveryKey { seq: EventSeq(seq), ..FIRST }).collect();
    let events = keys.iter().map(|key| bench.event(&key.seq.0.to_string())).collect();
    let (reply, answer) = oneshot::channel();
    bench.commands.blocking_send(Command::Write(Request { ops: events, reply: Some(reply) })).unwrap();
    answer.blocking_recv().unwrap().unwrap();
    let disk = bench.disk.clone();
    let stuck = disk.0.lock().unwrap();
    bench.hand_over(keys.iter().copied().map(sent).collect());
    bench.commands.blocking_send(Command::Stop).unwrap();
    drop(stuck);
    let mut facts = bench.facts;
    let settled = std::iter::from_fn(|| facts.blocking_recv()).filter(|fact| matches!(fact, Input::Settled { .. }));
    assert_eq!(settled.count(), keys.len());
    bench.thread.join().unwrap().unwrap();
    let store = disk.cut().store();
    let is_sent = |key| matches!(store.reader().delivery(key).unwrap().unwrap().state, State::Sent { .. });
    assert!(keys.into_iter().all(is_sent));
}

/// An event with so many bytes of data.
fn large(bench: &Bench, id: &str, bytes: usize) -> WriteOp {
    let WriteOp::Accept(accept) = bench.event(id) else { unreachable!() };
    let mut event = Event::clone(&accept.event);
    event.data.insert("x".to_owned(), "x".repeat(bytes).into());
    WriteOp::Accept(Accept { event: Arc::new(event), ..accept })
}

// No disk fails like that, and ingest takes no event that does: a row that is longer than any may be.
#[test]
fn what_fails_twice_in_a_row_ends_the_writer_whatever_it_is_and_what_fails_now_and_then_does_not() {
    let fail = |bench: &Bench, id: &str| {
        assert!(bench.ask(large(bench, id, ROW_BYTES)).blocking_recv().unwrap().is_err());
    };
    let bench = Bench::new();
    for id in ["a", "b", "c"] {
        fail(&bench, &format!("{id}-large"));
        bench.accept(id).unwrap();
    }
    fail(&bench, "d-large");
    fail(&bench, "e-large");
    assert!(bench.accept("e").is_err(), "nobody is there any more");
    let fault = bench.thread.join().unwrap().unwrap_err();
    assert!(matches!(fault, WriterFault::Store(_)) && !fault.is_of_the_medium(), "{fault}");
}

#[test]
fn a_transaction_ends_with_the_request_that_makes_it_large_and_is_told_in_one_piece() {
    let mut bench = Bench::new();
    let disk = bench.disk.clone();
    let stuck = disk.0.lock().unwrap();
    let mut answers = vec![bench.ask(bench.event("first"))];
    for request in 0..3 {
        let (reply, answer) = oneshot::channel();
        let ops = (0..3).map(|n| large(&bench, &format!("{request}-{n}"), 900_000)).collect();
        bench.commands.blocking_send(Command::Write(Request { ops, reply: Some(reply) })).unwrap();
        answers.push(answer);
    }
    drop(stuck);
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
    let mut told = Vec::new();
    while told.iter().sum::<usize>() < 10 {
        told.push(bench.facts.told.blocking_recv().unwrap().len());
    }
    // Whatever the first one met: two of the large ones share a transaction, and no more do.
    assert!(matches!(told.iter().max(), Some(6..=7)), "{told:?}");
}

#[test]
fn outcomes_that_wait_leave_half_a_transaction_to_events_and_no_more() {
    let mut bench = Bench::new();
    let more_than_one = u64::try_from(OUTCOMES_AT_ONCE).unwrap() + 600;
    let keys: Vec<_> = (1..=more_than_one).map(|seq| DeliveryKey { seq: EventSeq(seq), ..FIRST }).collect();
    let accept = |bench: &Bench, name: &str, count: u64| {
        let (reply, answer) = oneshot::channel();
        let ops = (0..count).map(|n| bench.event(&format!("{name}-{n}"))).collect();
        bench.commands.blocking_send(Command::Write(Request { ops, reply: Some(reply) })).unwrap();
        answer
    };
    accept(&bench, "old", more_than_one).blocking_recv().unwrap().unwrap();
    drop(bench.facts.told.blocking_recv());
    let disk = bench.disk.clone();
    let stuck = disk.0.lock().unwrap();
    let mut answers = vec![accept(&bench, "first", 1)];
    bench.hand_over(keys.into_iter().map(sent).collect());
    answers.extend((0..20).map(|n| accept(&bench, &format!("new-{n}"), 64)));
    drop(stuck);
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
    bench.commands.blocking_send(Command::Stop).unwrap();
    let (mut outcomes, mut most_beside) = (0, 0);
    while let Some(facts) = bench.facts.told.blocking_recv() {
        let settled = facts.iter().filter(|fact| matches!(fact, Input::Settled { .. })).count();
        let events = facts.len() - settled;
        assert!(settled <= OUTCOMES_AT_ONCE && (settled == 0 || events <= TRANSACTION_OPS / 2), "{settled}, {events}");
        outcomes += settled;
        most_beside = most_beside.max(if settled > 0 { events } else { 0 });
    }
    assert_eq!(most_beside, TRANSACTION_OPS / 2);
    assert_eq!(outcomes, usize::try_from(more_than_one).unwrap());
    bench.thread.join().unwrap().unwrap();
}

#[test]
fn how_long_a_commit_took_is_told_and_nothing_where_there_was_none() {
    let told = |deed: fn(&Bench)| {
        let bench = Bench::new();
        deed(&bench);
        let board = Arc::clone(&bench.board);
        bench.stop().unwrap();
        board.health().commit_ms_p50.is_some()
    };
    assert!(told(|bench| drop(bench.accept("a").unwrap())));
    assert!(!told(|bench| bench.commands.blocking_send(Command::Nudge).unwrap()));
}

#[test]
fn retention_that_found_nothing_counts_for_no_commit_and_one_that_removed_something_does() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    bench.settle();
    let disk = bench.disk.clone();
    bench.stop().unwrap();
    let bench = Bench::over(disk.store(), disk, 0);
    let order = |events_before| {
        let plan = SweepPlan { events_before, ..SweepPlan::default() };
        bench.commands.blocking_send(Command::Sweep(Upkeep { plan, size: None })).unwrap();
    };
    let turn = || {
        let (probe, answer) = crate::pipeline::pulse::Probe::new();
        bench.commands.blocking_send(Command::Probe(probe)).unwrap();
        answer.blocking_recv().unwrap();
    };
    let was_told = || bench.board.health().commit_ms_p50.is_some();
    order(None);
    // Also where it has to save for it first.
    (0..1000).for_each(|_| turn());
    assert!(!was_told());
    order(Some(UnixMs(u64::MAX)));
    let removed = (0..100_000).any(|_| {
        turn();
        bench.reader.event(FIRST.seq).unwrap().is_none()
    });
    turn();
    assert!(removed && was_told());
    bench.stop().unwrap();
}

// Pages of jobs are small meanwhile.
#[test]
fn jobs_are_told_while_somebody_sends_and_when_that_is_over() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    assert!(!bench.board.is_quiet());
    let is_over = (0..100_000).any(|_| {
        bench.commands.blocking_send(Command::Nudge).unwrap();
        bench.board.is_quiet()
    });
    assert!(is_over);
    bench.stop().unwrap();
}

#[test]
fn retention_and_jobs_end_under_traffic_without_end() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.accept(&format!("old-{n}")).unwrap();
    }
    let keys = (1..=100).map(|seq| DeliveryKey { seq: EventSeq(seq), ..FIRST });
    bench.hand_over(keys.clone().map(sent).collect());
    let everything = SweepPlan { events_before: Some(UnixMs(u64::MAX)), ..SweepPlan::default() };
    bench.commands.blocking_send(Command::Sweep(Upkeep { plan: everything, size: None })).unwrap();
    let page = |_| {
        let (reply, answer) = oneshot::channel();
        let at = WriteOp::JobCancel { job: crate::domain::job::JobNumber(9), at: NOW };
        let request = Request { ops: vec![at], reply: Some(reply) };
        bench.commands.blocking_send(Command::Page(Page { request, cost: Duration::from_millis(2) })).unwrap();
        answer
    };
    let mut answers: Vec<_> = (0..20).map(page).collect();
    let mut events = 0;
    loop {
        answers.retain_mut(|answer| answer.try_recv().is_err());
        if answers.is_empty() && bench.reader.event(EventSeq(100)).unwrap().is_none() {
            break;
        }
        bench.accept(&format!("new-{events}")).unwrap();
        while bench.facts.try_recv().is_ok() {}
        events += 1;
        assert!(events < 20_000, "{} pages still wait", answers.len());
    }
    assert!(events > 50, "they gave way to {events} events only");
    bench.stop().unwrap();
}
