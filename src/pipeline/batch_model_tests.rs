//! Random interleavings of everything that can happen to exchanges of several deliveries, against an outbox of a few lines:
//! whatever happens, each delivery is leased at most once at a time, no permit is lost, and once all is well everything
//! is over. Unlike the simulator it also knows requests without room for all, and answers worth few attempts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Arrive(u8),
    /// The exchange of that number ends; `room` deliveries found room, those in `unsendable` could not be sent.
    End {
        which: u8,
        how: u8,
        room: u8,
        unsendable: u8,
    },
    /// So many outcomes are committed.
    Commit(u8),
    /// The next commit is durable, and nobody knows.
    CommitInTheDark(u8),
    Page {
        fails: bool,
    },
    Pass(u32),
    Back(u32),
    Rescan,
    Control(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1_u8..6).prop_map(Op::Arrive),
        6 => (any::<u8>(), 0_u8..9, 1_u8..6, any::<u8>())
            .prop_map(|(which, how, room, unsendable)| Op::End { which, how, room, unsendable }),
        6 => (1_u8..8).prop_map(Op::Commit),
        1 => (1_u8..4).prop_map(Op::CommitInTheDark),
        3 => prop::bool::weighted(0.1).prop_map(|fails| Op::Page { fails }),
        3 => (0_u32..3_000_000).prop_map(Op::Pass),
        1 => (0_u32..3_000_000).prop_map(Op::Back),
        1 => Just(Op::Rescan),
        1 => (0_u8..5).prop_map(Op::Control),
    ]
}

fn rules(batch: usize, concurrency: usize, rate: bool) -> Rules {
    Rules {
        enabled: true,
        concurrency,
        batch,
        batch_wait: DurationMs::from_secs(1),
        hold_probe: DurationMs::from_secs(900),
        rate_limit: rate.then_some(RateLimit { count: 1, per: DurationMs::from_secs(2) }),
        breaker: Some(BreakerPolicy { failures: 3, ..BreakerPolicy::default() }),
        retry: RetryPolicy { max_attempts: 5, ..RetryPolicy::default() },
    }
}

/// The daemon around the scheduler.
struct Model {
    scheduler: Scheduler,
    now: UnixMs,
    next: u64,
    outbox: BTreeMap<u64, Owed>,
    /// Exchanges under way.
    open: Vec<Vec<Owed>>,
    leased: BTreeSet<u64>,
    /// Outcomes that wait for their commit; `true` where it is durable already.
    settles: Vec<(Settle, bool)>,
    page: Option<(Vec<Owed>, bool)>,
    sent: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    batch: usize,
    concurrency: usize,
}

impl Model {
    fn new(batch: usize, concurrency: usize, rate: bool) -> Self {
        let rules = BTreeMap::from([(A, rules(batch, concurrency, rate))]);
        let mut model = Self {
            scheduler: Scheduler::with_capacity(rules, 6, NOW),
            now: NOW,
            next: 1,
            outbox: BTreeMap::new(),
            open: Vec::new(),
            leased: BTreeSet::new(),
            settles: Vec::new(),
            page: None,
            sent: BTreeSet::new(),
            dead: BTreeSet::new(),
            batch,
            concurrency,
        };
        model.step(Input::Tick);
        model
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.scheduler.step(input, self.now, &Dice, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send(batch) => {
                    assert!(!batch.is_empty() && batch.len() <= self.batch, "{} at once", batch.len());
                    for owed in &batch {
                        let seq = owed.key.seq.0;
                        assert!(self.leased.insert(seq), "{seq} is leased twice");
                        assert!(!self.sent.contains(&seq) && !self.dead.contains(&seq), "{seq} is over");
                    }
                    self.open.push(batch);
                    assert!(self.open.len() <= self.concurrency);
                }
                Effect::Settle(settle) => self.settles.push((*settle, false)),
                Effect::Pause { destination, pause } => {
                    // Made durable at once: controls are the business of other tests.
                    self.step(Input::Control(Control::Paused { destination, pause }));
                }
                Effect::Load { after, limit, .. } => {
                    assert!(self.page.is_none(), "two pages at a time");
                    let mut rows: Vec<Owed> = self.outbox.values().cloned().collect();
                    rows.sort_by_key(|owed| (owed.due_at, owed.key.seq));
                    rows.retain(|owed| {
                        after.is_none_or(|after| (owed.due_at, owed.key.seq) > (after.due_at, after.seq))
                    });
                    let limit = limit.min(4);
                    rows.truncate(limit);
                    let end = rows.len() < limit;
                    self.page = Some((rows, end));
                }
            }
        }
    }

    fn arrive(&mut self, count: u8) {
        let range = self.next..self.next + u64::from(count);
        self.next = range.end;
        let now = self.now;
        let owed: Vec<Owed> = range.map(|seq| Owed { history: History::new(now), ..fresh(A, seq, now) }).collect();
        self.outbox.extend(owed.iter().map(|owed| (owed.key.seq.0, owed.clone())));
        self.step(Input::Owed(owed));
    }

    fn end(&mut self, which: u8, how: u8, room: u8, unsendable: u8) {
        if self.open.is_empty() {
            return;
        }
        let batch = self.open.remove(usize::from(which) % self.open.len());
        let refused = Verdict::Permanent { reason: DeadReason::Permanent };
        let (verdict, attempts_max) = match how {
            0 => (Verdict::Delivered, None),
            1 => (TRANSIENT, None),
            2 => (TRANSIENT, Some(2)),
            3 => (Verdict::BatchFault, None),
            4 => (Verdict::DestinationFault, None),
            5 => (Verdict::Throttled { not_before: Some(self.now + DurationMs::from_secs(100)) }, None),
            6 => (refused, None),
            7 => (Verdict::ProxyFault { usable_at: self.now + DurationMs::from_secs(30) }, None),
            _ => (Verdict::Gone, None),
        };
        let mut exchanged = false;
        let parts: Vec<Part> = batch
            .iter()
            .enumerate()
            .map(|(at, owed)| {
                let end = if unsendable & (1 << at.min(7)) != 0 {
                    PartEnd::Unsent { verdict: refused, autopsy: autopsy() }
                } else if at >= usize::from(room) {
                    PartEnd::NoRoom
                } else {
                    exchanged = true;
                    PartEnd::Exchanged { attempt: attempt(owed.history.exchanges + 1, self.now), autopsy: autopsy() }
                };
                self.leased.remove(&owed.key.seq.0);
                Part { key: owed.key, end }
            })
            .collect();
        // Where none was in the request, none was kept out by want of room.
        let parts = if exchanged {
            parts
        } else {
            let dead = |part: Part| Part { end: PartEnd::Unsent { verdict: refused, autopsy: autopsy() }, ..part };
            parts.into_iter().map(dead).collect()
        };
        // Their lease lasts until the commit.
        let kept = parts.iter().filter(|part| !matches!(part.end, PartEnd::NoRoom));
        self.leased.extend(kept.map(|part| part.key.seq.0));
        let answer = exchanged.then(|| Judgement { verdict, detail: "why".to_owned(), attempts_max, warns: false });
        self.step(Input::Ended(Ended { answer, parts }));
    }

    /// As the store does it: only where the lease was taken, and each attempt once.
    fn apply(&mut self, settle: &Settle) -> bool {
        let seq = settle.key.seq.0;
        let Some(row) = self.outbox.get_mut(&seq) else { return false };
        let known = settle.attempt.as_ref().is_some_and(|attempt| attempt.n <= row.history.exchanges);
        if row.due_at != settle.due_at || known {
            return false;
        }
        let counts = match settle.disposition {
            Disposition::Keep { .. } => 0,
            Disposition::Sent | Disposition::Retry { .. } | Disposition::Dead { .. } => 1,
        };
        if settle.attempt.is_some() {
            row.history.exchanges += 1;
            row.history.counted += counts;
            row.history.counted_since_owed += counts;
        }
        match settle.disposition {
            Disposition::Keep { at } => row.due_at = at,
            Disposition::Retry { at, reason } => {
                row.due_at = at;
                row.state = State::Failed { due_at: at, reason };
            }
            Disposition::Sent => {
                self.outbox.remove(&seq);
                self.sent.insert(seq);
            }
            Disposition::Dead { .. } => {
                self.outbox.remove(&seq);
                self.dead.insert(seq);
            }
        }
        true
    }

    fn commit(&mut self, count: u8) {
        for _ in 0..count {
            if self.settles.is_empty() {
                return;
            }
            let (settle, _) = self.settles.remove(0);
            let key = settle.key;
            self.leased.remove(&key.seq.0);
            let input = if self.apply(&settle) {
                Input::Settled { key, owed: self.outbox.get(&key.seq.0).cloned() }
            } else {
                Input::Stale { key }
            };
            self.step(input);
        }
    }

    fn commit_in_the_dark(&mut self, count: u8) {
        for at in 0..usize::from(count).min(self.settles.len()) {
            let (settle, durable) = self.settles[at].clone();
            if !durable {
                self.apply(&settle);
                self.settles[at].1 = true;
            }
        }
        self.step(Input::Rescan);
    }

    fn page(&mut self, fails: bool) {
        if let Some((rows, end)) = self.page.take() {
            self.step(if fails {
                Input::PageFailed { destination: A }
            } else {
                Input::Page { destination: A, rows, end }
            });
        }
    }

    fn control(&mut self, which: u8) {
        let pause = |until: Option<u64>| Pause {
            since: self.now,
            until: until.map(|span| self.now + DurationMs(span)),
            reason: String::new(),
            by: crate::domain::pause::PausedBy::Operator,
        };
        let control = match which {
            0 => Control::Paused { destination: A, pause: pause(None) },
            1 => Control::Paused { destination: A, pause: pause(Some(60_000)) },
            2 | 3 => Control::Resumed { destination: A },
            _ => Control::Release { destination: A },
        };
        self.step(Input::Control(control));
    }

    fn happen(&mut self, op: Op) {
        match op {
            Op::Arrive(count) => self.arrive(count),
            Op::End { which, how, room, unsendable } => {
                self.end(which, how, room, unsendable & unsendable.rotate_left(3));
            }
            Op::Commit(count) => self.commit(count),
            Op::CommitInTheDark(count) => self.commit_in_the_dark(count),
            Op::Page { fails } => self.page(fails),
            Op::Pass(span) => {
                self.now = self.now + DurationMs(u64::from(span));
                self.step(Input::Tick);
            }
            Op::Back(span) => {
                self.now = self.now - DurationMs(u64::from(span));
                self.step(Input::Tick);
            }
            Op::Rescan => self.step(Input::Rescan),
            Op::Control(which) => self.control(which),
        }
        let lane = self.scheduler.lane(A).unwrap();
        assert_eq!(lane.in_flight(), self.open.len(), "a permit for each exchange");
    }

    /// All is well from here on; one delivery is refused wherever it turns up.
    fn heal(&mut self) {
        self.step(Input::Control(Control::Resumed { destination: A }));
        let guilty = self.outbox.keys().next().copied();
        for round in 0_u32.. {
            assert!(round < 5_000, "never over: {:?}", self.outbox.keys());
            self.page(false);
            self.commit(u8::MAX);
            while let Some(batch) = self.open.first() {
                let holds = batch.iter().any(|owed| Some(owed.key.seq.0) == guilty);
                let how = match (holds, batch.len()) {
                    (false, _) => 0,
                    (true, 1) => 6,
                    (true, _) => 3,
                };
                self.end(0, how, u8::MAX, 0);
                self.commit(u8::MAX);
            }
            if self.outbox.is_empty() && self.settles.is_empty() && self.page.is_none() {
                break;
            }
            if self.page.is_some() {
                continue;
            }
            let before = self.now;
            let wake = self.scheduler.next_wake().expect("something is owed, and nothing wakes the scheduler");
            self.now = self.now.max(wake);
            self.step(Input::Tick);
            let idle = self.open.is_empty() && self.page.is_none() && self.settles.is_empty();
            let again = self.scheduler.next_wake().is_some_and(|next| next <= self.now);
            assert!(!(idle && again && before == self.now), "a wake in the past that a tick does not clear");
        }
        let lane = self.scheduler.lane(A).unwrap();
        assert_eq!((lane.in_flight(), lane.known(), lane.unsettled()), (0, 0, 0));
        assert_eq!(self.sent.len() + self.dead.len(), usize::try_from(self.next - 1).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_batches_everything_is_over_once(
        ops in prop::collection::vec(op(), 1..120), batch in 1_usize..8, concurrency in 1_usize..4, rate: bool,
    ) {
        let mut model = Model::new(batch, concurrency, rate);
        for op in ops {
            model.happen(op);
        }
        model.heal();
    }
}
