//! Lanes through hours and days of trouble, over an outbox of their own: a week without any destination, a receiver that
//! fails half the time, and one that is slow.

use std::collections::BTreeSet;

use super::*;

/// Lanes driven through time. Every exchange takes as long as its lane's receiver needs.
struct Course {
    bench: Bench,
    outbox: BTreeMap<(DestinationId, UnixMs, u64), Owed>,
    /// By when they end.
    under_way: BTreeSet<(UnixMs, DestinationId, u64)>,
    took: BTreeMap<DestinationId, DurationMs>,
    /// Every exchange that began, and how many of its lane were under way then, itself included.
    began: Vec<Began>,
    delivered: BTreeMap<(DestinationId, u64), u32>,
    dead: Vec<(DestinationId, DeadReason, DurationMs)>,
    known_most: usize,
    /// Exchanges of A that have ended, and how many had when its circuit opened and closed: the first opening first.
    ended: usize,
    turns: Vec<(UnixMs, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    at: UnixMs,
    destination: DestinationId,
    seq: u64,
    abreast: usize,
}

impl Course {
    fn new(change: impl Fn(&mut Rules), took: [DurationMs; 2]) -> Self {
        Self {
            bench: Bench::with(change),
            outbox: BTreeMap::new(),
            under_way: BTreeSet::new(),
            took: BTreeMap::from([(A, took[0]), (B, took[1])]),
            began: Vec::new(),
            delivered: BTreeMap::new(),
            dead: Vec::new(),
            known_most: 0,
            ended: 0,
            turns: Vec::new(),
        }
    }

    fn receive(&mut self, owed: Vec<Owed>) {
        for one in &owed {
            self.outbox.insert((one.key.destination, one.due_at, one.key.seq.0), one.clone());
        }
        let done = self.bench.step(Input::Owed(owed));
        self.take(done);
    }

    fn new_event(&mut self, destination: DestinationId, seq: u64) {
        let now = self.bench.now;
        self.receive(vec![Owed { history: History::new(now), ..fresh(destination, seq, now) }]);
    }

    /// Until nothing is left to do before `until`; `answer` is what a receiver says.
    fn run(&mut self, until: UnixMs, mut answer: impl FnMut(DestinationId) -> Verdict) {
        loop {
            let ends = self.under_way.first().map(|(at, ..)| *at);
            let wakes = self.bench.scheduler.next_wake();
            let next = ends.into_iter().chain(wakes).min().map_or(until, |at| at.max(self.bench.now));
            if next >= until {
                self.bench.now = until;
                return;
            }
            self.bench.now = next;
            let done = match self.under_way.first().copied() {
                Some(ended @ (at, destination, seq)) if at <= next => {
                    self.under_way.remove(&ended);
                    self.ended += usize::from(destination == A);
                    self.bench.ended(key(destination, seq), answer(destination))
                }
                Some(_) | None => self.bench.step(Input::Tick),
            };
            let is_open = matches!(self.bench.state(A), LaneState::Open { .. });
            if is_open != (self.turns.len() % 2 == 1) {
                self.turns.push((next, self.ended));
            }
            let idle = ends.is_none_or(|at| at > next) && done.sent.is_empty() && done.loads.is_empty();
            self.take(done);
            if idle && self.bench.scheduler.next_wake().is_some_and(|wake| wake <= next) {
                // A wake that nothing came of: the next millisecond will do.
                self.bench.now = next + DurationMs(1);
            }
        }
    }

    /// Carries out what was decided, as the driver and the store would.
    fn take(&mut self, done: Done) {
        let mut all = std::collections::VecDeque::from([done]);
        while let Some(done) = all.pop_front() {
            for batch in done.batches {
                self.begin(batch[0]);
            }
            for settle in done.settled {
                let owed = self.settle(&settle);
                all.push_back(self.bench.step(Input::Settled { key: settle.key, owed }));
            }
            for destination in done.loads {
                let after = self.bench.after[&destination].map_or((UnixMs(0), 0), |at| (at.due_at, at.seq.0));
                let from = (destination, after.0, after.1 + 1);
                let to = (destination, UnixMs(u64::MAX), u64::MAX);
                let rows: Vec<Owed> =
                    self.outbox.range(from..to).take(PAGE_ROWS).map(|(_, owed)| owed.clone()).collect();
                let end = rows.len() < PAGE_ROWS;
                all.push_back(self.bench.step(Input::Page { destination, rows, end }));
            }
            for destination in [A, B] {
                let known = self.bench.scheduler.lane(destination).map_or(0, Lane::known);
                self.known_most = self.known_most.max(known);
            }
        }
    }

    fn begin(&mut self, seq: u64) {
        let now = self.bench.now;
        // Sequence numbers tell the lanes apart: those of B begin at a million.
        let destination = if seq >= OF_B { B } else { A };
        self.under_way.insert((now + self.took[&destination], destination, seq));
        let abreast = self.under_way.iter().filter(|(_, of, _)| *of == destination).count();
        self.began.push(Began { at: now, destination, seq, abreast });
    }

    fn settle(&mut self, settle: &Settle) -> Option<Owed> {
        let (destination, seq) = (settle.key.destination, settle.key.seq.0);
        let mut owed = self.outbox.remove(&(destination, settle.due_at, seq)).expect("it is owed");
        let counted = u32::from(settle.attempt.is_some());
        match settle.disposition {
            Disposition::Sent => {
                *self.delivered.entry((destination, seq)).or_default() += 1;
                return None;
            }
            Disposition::Dead { reason } => {
                self.dead.push((destination, reason, settle.at.since(owed.history.owed_since)));
                return None;
            }
            Disposition::Keep { at } => owed.due_at = at,
            Disposition::Retry { at, reason } => {
                owed.due_at = at;
                owed.state = State::Failed { due_at: at, reason };
                owed.history.counted += counted;
                owed.history.counted_since_owed += counted;
            }
        }
        owed.history.exchanges += counted;
        self.outbox.insert((destination, owed.due_at, seq), owed.clone());
        Some(owed)
    }

    fn began(&self, destination: DestinationId, from: UnixMs) -> Vec<Began> {
        self.began.iter().filter(|began| began.destination == destination && began.at >= from).copied().collect()
    }
}

const OF_B: u64 = 1_000_000;

// Row 38. Both destinations are down for a week and come back: memory stays bounded, only what was tried after its
// deadline is given up, and the backlog drains gently.
#[test]
fn a_week_without_any_destination_is_caught_up_with_gently() {
    let change = |rules: &mut Rules| {
        rules.concurrency = 16;
        rules.breaker = Some(BreakerPolicy::default());
    };
    let mut course = Course::new(change, [DurationMs(100), DurationMs(100)]);
    let total = 3 * u64::try_from(LANE_ENTRIES_MAX).expect("small");
    let first: Vec<Owed> = (1..=total).flat_map(|seq| [fresh(A, seq, NOW), fresh(B, OF_B + seq, NOW)]).collect();
    course.receive(first);
    let week = NOW + DurationMs::from_days(7);
    let mut late = total;
    while course.bench.now < week {
        late += 1;
        course.new_event(A, late);
        course.new_event(B, OF_B + late);
        course.run((course.bench.now + DurationMs::from_hours(1)).min(week), |_| TRANSIENT);
    }
    assert!(course.known_most <= 2 * LANE_ENTRIES_MAX, "{} in memory", course.known_most);
    let attempts = course.began.len();
    assert!((200..2500).contains(&attempts), "{attempts} attempts at two dead destinations in a week");
    assert!(course.delivered.is_empty() && !course.dead.is_empty());
    for (_, reason, age) in &course.dead {
        assert_eq!(*reason, DeadReason::GaveUp);
        assert!(*age >= RetryPolicy::default().give_up_after, "given up after {age}");
    }
    assert!(course.dead.len() < attempts, "an open circuit kills nothing that was not tried");

    course.run(week + DurationMs::from_hours(3), |_| Verdict::Delivered);
    assert!(course.outbox.is_empty(), "{} are never sent", course.outbox.len());
    assert!(course.delivered.values().all(|times| *times == 1));
    assert_eq!(course.delivered.len() + course.dead.len(), 2 * usize::try_from(late).expect("small"));
    for destination in [A, B] {
        let back = course.began(destination, week);
        let probe = back[0].at;
        let most = |within: u64| {
            let until = probe + DurationMs(within);
            back.iter().filter(|began| began.at < until).map(|began| began.abreast).max()
        };
        assert_eq!([most(100), most(200), most(300), most(400), most(1000)], [1, 2, 4, 8, 16].map(Some));
    }
}

/// Half of all answers, the same ones in every run.
fn coin() -> impl FnMut() -> bool {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.is_multiple_of(2)
    }
}

// Row 52. A receiver that fails every other time: its circuit opens and closes, each time after a fair trial, pauses
// between, and does not eat more attempts than its failures are worth.
#[test]
fn a_flapping_destination_is_probed_and_does_not_oscillate() {
    let change = |rules: &mut Rules| rules.breaker = Some(BreakerPolicy::default());
    let mut course = Course::new(change, [DurationMs(50), DurationMs(50)]);
    let mut coin = coin();
    for seq in 1..=7200 {
        course.new_event(A, seq);
        course.new_event(B, OF_B + seq);
        course.run(course.bench.now + DurationMs::from_secs(1), |destination| {
            if destination == B || coin() { Verdict::Delivered } else { TRANSIENT }
        });
    }
    let turns = &course.turns;
    assert!(turns.len() > 10, "{turns:?}");
    for pair in turns.chunks_exact(2) {
        let [(opened, _), (closed, _)] = pair else { panic!("pairs") };
        assert!(closed.since(*opened) >= DurationMs::from_secs(30), "closed after {}", closed.since(*opened));
    }
    for pair in turns[1..].chunks_exact(2) {
        let [(_, closed), (_, opened)] = pair else { panic!("pairs") };
        assert!(opened - closed >= 10, "opened after {} exchanges: {turns:?}", opened - closed);
    }
    let attempts = course.began(A, NOW).len();
    let delivered = course.delivered.keys().filter(|(destination, _)| *destination == A).count();
    assert!(delivered > 1000 && attempts < delivered * 5 / 2, "{attempts} attempts for {delivered} deliveries");
    assert!(course.dead.is_empty(), "{:?}", course.dead);
    let prompt = course.began(B, NOW);
    assert!(
        prompt.len() == 7200
            && prompt.iter().all(|began| began.at == NOW + DurationMs::from_secs(began.seq - OF_B - 1))
    );
}

// Row 53. A receiver that works and takes half a minute for each.
#[test]
fn a_slow_destination_keeps_its_bounds_and_its_order_and_holds_nobody_up() {
    let mut course = Course::new(|_| {}, [DurationMs::from_secs(30), DurationMs(10)]);
    let due = |seq: u64| NOW + DurationMs(seq * 7919 % 600_000);
    course.receive((1..=60).map(|seq| retry(A, seq, due(seq))).collect());
    for seq in 0..1800 {
        course.new_event(B, OF_B + seq);
        course.run(course.bench.now + DurationMs::from_secs(1), |_| Verdict::Delivered);
    }
    let slow = course.began(A, NOW);
    assert_eq!(slow.len(), 60);
    assert!(slow.iter().all(|began| began.abreast <= 2 && began.at >= due(began.seq)), "{slow:?}");
    assert!(slow.is_sorted_by_key(|began| due(began.seq)), "{slow:?}");
    let quick = course.began(B, NOW);
    assert!(quick.len() == 1800 && quick.iter().all(|began| began.at == NOW + DurationMs::from_secs(began.seq - OF_B)));
}
