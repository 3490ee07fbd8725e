//! Rules of exchanges that carry several deliveries: gathering, and splitting what was refused as a whole.

use super::*;

const WAIT: DurationMs = DurationMs::from_secs(1);

fn gathering(batch: usize) -> Bench {
    Bench::with(move |rules| {
        rules.batch = batch;
        rules.batch_wait = WAIT;
        rules.concurrency = 8;
    })
}

fn some(seqs: impl IntoIterator<Item = u64>) -> Vec<Owed> {
    seqs.into_iter().map(|seq| fresh(A, seq, NOW)).collect()
}

fn keys(seqs: impl IntoIterator<Item = u64>) -> Vec<DeliveryKey> {
    seqs.into_iter().map(|seq| key(A, seq)).collect()
}

/// The outcomes of `done` are committed as they are, and what is still owed comes back.
fn commit(bench: &mut Bench, done: Done) -> Done {
    let mut all = Done::default();
    for settle in done.settled {
        let exchanges = u32::from(settle.attempt.is_some());
        let history = |counted| History { exchanges, counted, counted_since_owed: counted, ..History::new(NOW) };
        let owed = match settle.disposition {
            Disposition::Keep { at } => {
                Some(Owed { due_at: at, history: history(0), ..fresh(A, settle.key.seq.0, at) })
            }
            Disposition::Retry { at, .. } => Some(retry(A, settle.key.seq.0, at)),
            Disposition::Sent | Disposition::Dead { .. } => None,
        };
        let more = bench.step(Input::Settled { key: settle.key, owed });
        all.sent.extend(more.sent);
        all.batches.extend(more.batches);
        all.settled.extend(more.settled);
    }
    all
}

#[test]
fn a_full_batch_goes_at_once_and_the_rest_within_the_wait() {
    let mut bench = gathering(3);
    assert_eq!(bench.step(Input::Owed(some(1..=4))).batches, [[1, 2, 3]]);
    assert_eq!(bench.scheduler.next_wake(), Some(NOW + WAIT));
    bench.now = NOW + DurationMs(999);
    assert!(bench.step(Input::Tick).sent.is_empty(), "others may still come");
    assert!(bench.step(Input::Owed(some([5]))).sent.is_empty());
    bench.now = NOW + WAIT;
    assert_eq!(bench.step(Input::Tick).batches, [[4, 5]], "the wait counts from the first of them");
    assert_eq!(bench.scheduler.next_wake(), None);
}

#[test]
fn what_could_not_be_sent_shares_no_blame_with_the_one_that_was_refused() {
    let mut bench = gathering(2);
    assert_eq!(bench.step(Input::Owed(some(1..=2))).batches, [[1, 2]]);
    let parts = vec![
        Part { key: key(A, 1), end: PartEnd::Exchanged { attempt: attempt(1, NOW), autopsy: autopsy() } },
        Part { key: key(A, 2), end: PartEnd::Unsent { verdict: REFUSED, autopsy: autopsy() } },
    ];
    let detail = "why".to_owned();
    let answer = Some(Judgement { verdict: Verdict::BatchFault, detail, attempts_max: None, warns: false });
    let ended = bench.step(Input::Ended(Ended { answer, parts }));
    let dead = |settle: &Settle| matches!(settle.disposition, Disposition::Dead { .. });
    assert!(ended.settled.len() == 2 && ended.settled.iter().all(dead), "{ended:?}");
}

#[test]
fn an_exchange_of_many_takes_one_permit_and_one_turn_of_the_rate() {
    let mut bench = Bench::with(|rules| {
        rules.batch = 10;
        rules.concurrency = 1;
        rules.rate_limit = Some(RateLimit { count: 1, per: DurationMs::from_secs(10) });
    });
    assert_eq!(bench.step(Input::Owed(some(1..=20))).batches, [(1..=10).collect::<Vec<u64>>()]);
    assert!(bench.all_ended(&keys(1..=10), Verdict::Delivered, None).sent.is_empty(), "one exchange in ten seconds");
    bench.now = NOW + DurationMs::from_secs(10);
    assert_eq!(bench.step(Input::Tick).batches, [(11..=20).collect::<Vec<u64>>()]);
    assert_eq!(bench.scheduler.in_flight(), 1);
}

// Row 51.
#[test]
fn a_refused_batch_is_halved_until_only_the_guilty_one_is_dead() {
    let mut bench = gathering(8);
    let mut open = bench.step(Input::Owed(some(1..=8))).batches;
    let (mut sent, mut dead, mut exchanges) = (Vec::new(), Vec::new(), 0);
    while let Some(batch) = open.pop() {
        exchanges += 1;
        let guilty = batch.contains(&6);
        let verdict = match batch.len() {
            _ if !guilty => Verdict::Delivered,
            1 => Verdict::Permanent { reason: DeadReason::Permanent },
            _ => Verdict::BatchFault,
        };
        let done = bench.all_ended(&keys(batch.clone()), verdict, None);
        for settle in &done.settled {
            match settle.disposition {
                Disposition::Sent => sent.push(settle.key.seq.0),
                Disposition::Dead { .. } => dead.push(settle.key.seq.0),
                Disposition::Keep { at } => {
                    assert_eq!(at, NOW, "it keeps its place");
                    assert_eq!(settle.attempt.as_ref().map(|attempt| attempt.verdict.as_str()), Some("batch_fault"));
                }
                Disposition::Retry { .. } => panic!("{settle:?}: nothing is punished with a wait"),
            }
        }
        open.extend(commit(&mut bench, done).batches);
    }
    sent.sort_unstable();
    assert_eq!(sent, [1, 2, 3, 4, 5, 7, 8]);
    assert_eq!(dead, [6]);
    assert_eq!(exchanges, 1 + 2 * 3, "log2 of 8 steps of two halves");
}

#[test]
fn a_half_is_not_filled_up_with_others() {
    let mut bench = gathering(4);
    bench.step(Input::Owed(some(1..=4)));
    let done = bench.all_ended(&keys(1..=4), Verdict::BatchFault, None);
    let halves = commit(&mut bench, done).batches;
    assert_eq!(halves, [[1, 2], [3, 4]]);
    assert_eq!(bench.step(Input::Owed(some(5..=8))).batches, [[5, 6, 7, 8]], "new ones go their own way");
}

#[test]
fn others_that_wait_do_not_join_a_half() {
    let mut bench = Bench::with(|rules| {
        rules.batch = 4;
        rules.concurrency = 1;
    });
    assert_eq!(bench.step(Input::Owed(some(1..=6))).batches, [[1, 2, 3, 4]]);
    let done = bench.all_ended(&keys(1..=4), Verdict::BatchFault, None);
    assert_eq!(done.batches, [[5, 6]], "nothing waits for the commit");
    let done = commit(&mut bench, done);
    assert!(done.sent.is_empty(), "one exchange at a time");
    bench.step(Input::Owed(some(7..=8)));
    assert_eq!(bench.all_ended(&keys(5..=6), Verdict::Delivered, None).batches, [[1, 2]]);
    assert_eq!(bench.all_ended(&keys(1..=2), Verdict::Delivered, None).batches, [[3, 4]], "halves come first");
    assert_eq!(bench.all_ended(&keys(3..=4), Verdict::Delivered, None).batches, [[7, 8]]);
}

#[test]
fn a_half_goes_without_a_member_that_is_over_or_has_moved() {
    let mut bench = gathering(8);
    bench.step(Input::Owed(some(1..=6)));
    bench.now = NOW + WAIT;
    assert_eq!(bench.step(Input::Tick).batches.len(), 1);
    bench.all_ended(&keys(1..=6), Verdict::BatchFault, None);
    // What the writer could not commit in time was committed all the same, or was purged meanwhile.
    let mut sent = bench.step(Input::Stale { key: key(A, 1) }).batches;
    sent.extend(bench.step(Input::Settled { key: key(A, 5), owed: None }).batches);
    for seq in [2, 3, 4, 6] {
        sent.extend(bench.step(Input::Settled { key: key(A, seq), owed: Some(retry(A, seq, NOW)) }).batches);
    }
    assert_eq!(sent, [[2, 3], [4, 6]]);
}

#[test]
fn a_batch_fault_of_one_is_its_own_fault() {
    let mut bench = gathering(1);
    bench.step(Input::Owed(some([1])));
    let done = bench.ended(key(A, 1), Verdict::BatchFault);
    assert_eq!(done.settled[0].disposition, Disposition::Dead { reason: DeadReason::Permanent });
}

#[test]
fn a_transient_answer_brings_the_batch_back_together() {
    let mut bench = Bench::with(|rules| {
        rules.batch = 3;
        rules.batch_wait = WAIT;
        rules.retry.jitter_permille = 200;
    });
    bench.step(Input::Owed(some(1..=3)));
    let done = bench.all_ended(&keys(1..=3), TRANSIENT, None);
    let due: Vec<Option<UnixMs>> = done
        .settled
        .iter()
        .map(|settle| match settle.disposition {
            Disposition::Retry { at, .. } => Some(at),
            Disposition::Sent | Disposition::Dead { .. } | Disposition::Keep { .. } => None,
        })
        .collect();
    assert!(due[0].is_some() && due.iter().all(|at| *at == due[0]), "{due:?}");
    commit(&mut bench, done);
    bench.now = due[0].unwrap();
    assert_eq!(bench.step(Input::Tick).batches, [[1, 2, 3]]);
}

#[test]
fn an_answer_that_is_worth_few_attempts_is_a_refusal_after_them() {
    let mut bench = gathering(1);
    let last = |seq| Owed {
        history: History { exchanges: 7, counted: 7, counted_since_owed: 7, ..History::new(NOW) },
        ..retry(A, seq, NOW)
    };
    bench.step(Input::Owed(vec![last(1)]));
    let done = bench.all_ended(&keys([1]), TRANSIENT, Some(8));
    assert_eq!(done.settled[0].disposition, Disposition::Dead { reason: DeadReason::Permanent });
    bench.step(Input::Owed(vec![last(2)]));
    let done = bench.all_ended(&keys([2]), TRANSIENT, Some(9));
    assert!(matches!(done.settled[0].disposition, Disposition::Retry { .. }), "{done:?}");
}

#[test]
fn a_worn_out_answer_about_several_splits_them_first() {
    let mut bench = gathering(2);
    let worn = Owed {
        history: History { exchanges: 7, counted: 7, counted_since_owed: 7, ..History::new(NOW) },
        ..retry(A, 1, NOW)
    };
    assert_eq!(bench.step(Input::Owed(vec![worn, fresh(A, 2, NOW)])).batches.len(), 1);
    let done = bench.all_ended(&keys([1, 2]), TRANSIENT, Some(8));
    assert!(done.settled.iter().all(|settle| settle.disposition == Disposition::Keep { at: NOW }), "{done:?}");
    assert_eq!(commit(&mut bench, done).batches, [[1], [2]]);
}

#[test]
fn what_found_no_room_in_the_exchange_is_sent_next_without_a_wait() {
    let mut bench = gathering(3);
    bench.step(Input::Owed(some(1..=3)));
    let mut ended = |exchanged: u64, no_room: &[u64]| {
        let attempt = Attempt { http_status: Some(200), ..attempt(1, NOW) };
        let sent = Part { key: key(A, exchanged), end: PartEnd::Exchanged { attempt, autopsy: autopsy() } };
        let rest = no_room.iter().map(|seq| Part { key: key(A, *seq), end: PartEnd::NoRoom });
        let parts = std::iter::once(sent).chain(rest).collect();
        let answer = Judgement::new(Verdict::Delivered, "");
        bench.step(Input::Ended(Ended { answer: Some(answer), parts }))
    };
    let done = ended(1, &[2, 3]);
    assert_eq!(done.settled.len(), 1, "nothing happened to the others");
    let mut next = done.batches.concat();
    next.sort_unstable();
    assert_eq!(next, [2, 3]);
}

// Row 51: what is too old is found before anything is sent.
#[test]
fn an_unsendable_neighbour_is_dead_and_the_others_are_judged_by_their_answer() {
    let mut bench = gathering(2);
    bench.step(Input::Owed(some(1..=2)));
    let attempt = Attempt { http_status: Some(503), ..attempt(1, NOW) };
    let refused = Verdict::Permanent { reason: DeadReason::Expired };
    let parts = vec![
        Part { key: key(A, 1), end: PartEnd::Unsent { verdict: refused, autopsy: autopsy() } },
        Part { key: key(A, 2), end: PartEnd::Exchanged { attempt, autopsy: autopsy() } },
    ];
    let answer = Some(Judgement::new(TRANSIENT, ""));
    let done = bench.step(Input::Ended(Ended { answer, parts }));
    assert_eq!(done.settled[0].disposition, Disposition::Dead { reason: DeadReason::Expired });
    assert!(matches!(done.settled[1].disposition, Disposition::Retry { .. }));
    assert_eq!(bench.scheduler.in_flight(), 0);
}

#[test]
fn an_unsendable_neighbour_does_not_shorten_the_patience_that_was_asked_for() {
    let mut bench = gathering(2);
    bench.step(Input::Owed(some(1..=2)));
    let attempt = Attempt { http_status: Some(429), ..attempt(1, NOW) };
    let refused = Verdict::Permanent { reason: DeadReason::Invalid };
    let parts = vec![
        Part { key: key(A, 1), end: PartEnd::Unsent { verdict: refused, autopsy: autopsy() } },
        Part { key: key(A, 2), end: PartEnd::Exchanged { attempt, autopsy: autopsy() } },
    ];
    let until = NOW + DurationMs::from_hours(1);
    let answer = Some(Judgement::new(Verdict::Throttled { not_before: Some(until) }, ""));
    bench.step(Input::Ended(Ended { answer, parts }));
    assert_eq!(*bench.state(A), LaneState::Throttled { until });
}

#[test]
fn a_held_lane_is_probed_with_one_delivery() {
    let mut bench = gathering(3);
    bench.step(Input::Owed(some(1..=3)));
    let done = bench.all_ended(&keys(1..=3), Verdict::DestinationFault, None);
    assert!(commit(&mut bench, done).sent.is_empty());
    bench.now = NOW + DurationMs::from_secs(900);
    let probe = bench.step(Input::Tick);
    assert_eq!(probe.sent.len(), 1, "{probe:?}");
    let rest = bench.ended(key(A, probe.sent[0]), Verdict::Delivered);
    assert_eq!(rest.sent.len(), 2, "a probe that goes through opens the lane");
}

/// What was refused as a whole comes back in halves, and meanwhile the lane is held: a probe spends one attempt, not those of a
/// half.
#[test]
fn a_held_lane_that_has_halves_is_probed_with_one_delivery() {
    let mut bench = gathering(4);
    assert_eq!(bench.step(Input::Owed(some(1..=8))).batches, [[1, 2, 3, 4], [5, 6, 7, 8]]);
    let refused = bench.all_ended(&keys(1..=4), Verdict::BatchFault, None);
    let held = bench.all_ended(&keys(5..=8), Verdict::DestinationFault, None);
    assert!(commit(&mut bench, refused).sent.is_empty() && commit(&mut bench, held).sent.is_empty());
    bench.now = NOW + DurationMs::from_secs(900);
    assert_eq!(bench.step(Input::Tick).batches, [[1]]);
    let rest = bench.ended(key(A, 1), Verdict::Delivered);
    assert_eq!(rest.batches[..2], [vec![2], vec![3, 4]], "the rest of the half stays by itself");
}

#[test]
fn a_clock_set_back_does_not_make_a_gathering_lane_wait_longer() {
    let mut bench = gathering(3);
    bench.step(Input::Owed(some([1])));
    bench.now = NOW - DurationMs::from_hours(1);
    bench.step(Input::Tick);
    bench.now = bench.now + WAIT;
    assert_eq!(bench.step(Input::Tick).sent, [1]);
}
