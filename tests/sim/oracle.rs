//! What must be true after every step, worked out from the outside: from what peers saw and what senders were told.

use std::collections::{BTreeMap, BTreeSet};

use postbackd::domain::alert::AlertMemory;
use postbackd::domain::delivery::State;
use postbackd::domain::id::{DeliveryKey, EventSeq};
use postbackd::domain::job::JobNumber;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::store::SweepPlan;
use postbackd::store::write::Owed;

use crate::controls::Pausing;
use crate::peers::Retried;

/// Whether a delivery is over, as far as an outsider can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// A crash hid whether the outcome was committed.
    Maybe,
    Yes,
}

/// What is known about one delivery.
#[derive(Debug, Clone)]
struct Known {
    /// Counting attempts whose outcome is certainly committed.
    made: u32,
    not_before: UnixMs,
    over: Over,
    in_flight: bool,
    /// An outcome on its way to the disk.
    pending: Option<Outcome>,
    /// Whether the receiver took the last request.
    taken: bool,
    /// How often the receiver took it.
    accepted: u64,
    /// How often it may be taken once more: after a crash that forgot that it was taken, after it was taken without an
    /// answer, and after a backup was put in place that did not know of it.
    excused: u64,
    /// Why it was excused last.
    cause: Cause,
}

/// Why a receiver may see what it has seen before.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It came back from the DLQ.
    #[default]
    Replay,
    Crash,
    Doubt,
    Restore,
}

/// Events that receivers took again, by cause.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    pub crashes: u64,
    pub doubts: u64,
    pub restores: u64,
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    counts: bool,
    not_before: UnixMs,
    over: bool,
}

/// The longest wait that a receiver can ask for, and a plan can hold.
const LONGEST_WAIT: DurationMs = DurationMs::from_hours(24);

/// What an operator asked for, or alerts know: what is certain, and what else may be.
#[derive(Debug, Default, Clone)]
struct Alerts {
    certain: AlertMemory,
    maybe: Vec<AlertMemory>,
}

/// See the module's page.
#[derive(Debug, Default, Clone)]
pub struct Oracle {
    deliveries: BTreeMap<DeliveryKey, Known>,
    /// Identity → where its event is, once a sender was told.
    pub acknowledged: BTreeMap<u64, EventSeq>,
    places: BTreeMap<EventSeq, u64>,
    pub discard_asked: BTreeSet<DeliveryKey>,
    /// What each job has certainly replayed.
    pub by_job: BTreeSet<(JobNumber, DeliveryKey)>,
    pub pausing: Pausing,
    alerts: Alerts,
    /// By how much the clock was ever set back.
    set_back: DurationMs,
    /// Whether retention may have removed events, and attempts.
    pub events_swept: bool,
    pub attempts_swept: bool,
    pub repeats: Repeats,
}

impl Oracle {
    /// A delivery is about to be sent.
    pub fn sending(&mut self, owed: &Owed, now: UnixMs) {
        assert!(matches!(owed.state, State::Pending { .. } | State::Failed { .. }), "sent what is not owed: {owed:?}");
        self.pausing.sending(owed.key.destination, now);
        // What was ready when the clock was set back stays ready, and nobody waits longer than any plan holds.
        let other_clock = owed.due_at.since(now) > LONGEST_WAIT;
        let due = owed.due_at <= now + self.set_back || other_clock;
        assert!(due, "sent before it was due: {owed:?} at {now}, the clock was set back by {}", self.set_back);
        let known = self.deliveries.entry(owed.key).or_insert_with(Known::new);
        assert!(!known.in_flight, "leased twice: {owed:?}");
        assert!(known.pending.is_none(), "leased before the last outcome was committed: {owed:?}");
        assert_ne!(known.over, Over::Yes, "sent again after it was over: {owed:?}");
        assert!(
            now >= known.not_before || other_clock,
            "sent {} ms too early after {} attempts: {owed:?}",
            known.not_before.since(now).0,
            known.made
        );
        known.in_flight = true;
        known.taken = false;
    }

    /// The receiver took it; whether it will say so is another matter.
    pub fn taken(&mut self, key: DeliveryKey) {
        let known = self.deliveries.get_mut(&key).expect("it was sent");
        known.taken = true;
        known.accepted += 1;
        assert!(known.accepted <= 1 + known.excused, "{key:?} was taken again without an excuse: {known:?}");
        if known.accepted > 1 {
            match known.cause {
                Cause::Crash => self.repeats.crashes += 1,
                Cause::Doubt => self.repeats.doubts += 1,
                Cause::Restore => self.repeats.restores += 1,
                Cause::Replay => panic!("{key:?} was taken again without a cause: {known:?}"),
            }
        }
    }

    /// Counting attempts that are certainly committed.
    pub fn made(&self, key: DeliveryKey) -> u32 {
        self.deliveries.get(&key).map_or(0, |known| known.made)
    }

    /// Whether nothing more can be owed of it, as far as an outsider can know.
    pub fn may_be_over(&self, key: DeliveryKey) -> bool {
        self.deliveries.get(&key).is_some_and(|known| known.over != Over::No)
    }

    /// The exchange is over and its outcome is on its way to the disk.
    pub fn ended(&mut self, key: DeliveryKey, retried: Retried, not_before: UnixMs, dead: bool) {
        let known = self.deliveries.get_mut(&key).expect("it was sent");
        known.in_flight = false;
        if retried == Retried::Ambiguously && known.taken {
            known.excused += 1;
            known.cause = Cause::Doubt;
            known.taken = false;
        }
        known.pending = Some(Outcome {
            counts: !matches!(retried, Retried::NotCounted | Retried::Unread | Retried::Split),
            not_before,
            over: dead || retried == Retried::Never,
        });
    }

    /// The outcome is committed.
    pub fn settled(&mut self, key: DeliveryKey) {
        let known = self.deliveries.get_mut(&key).expect("it was sent");
        let outcome = known.pending.take().expect("it has ended");
        known.made += u32::from(outcome.counts);
        known.not_before = outcome.not_before;
        known.over = if outcome.over { Over::Yes } else { Over::No };
        known.taken = false;
    }

    /// An operator owes it again.
    pub fn replayed(&mut self, key: DeliveryKey, not_before: UnixMs) {
        let known = self.deliveries.entry(key).or_insert_with(Known::new);
        let Known { accepted, excused, cause, .. } = *known;
        *known = Known { not_before, accepted, excused, cause, ..Known::new() };
    }

    /// An operator asked, and nobody can say whether it was committed.
    pub fn maybe_replayed(&mut self, key: DeliveryKey) {
        if let Some(known) = self.deliveries.get_mut(&key) {
            known.over = Over::Maybe;
            known.not_before = UnixMs(0);
            known.made = 0;
        }
    }

    /// An operator gave it up; what is being sent is not given up.
    pub fn given_up(&mut self, key: DeliveryKey) {
        self.discard_asked.insert(key);
        let known = self.deliveries.entry(key).or_insert_with(Known::new);
        assert!(!known.in_flight && known.pending.is_none(), "{key:?} was given up while it was being sent");
        known.over = Over::Yes;
    }

    /// An operator wanted to give it up, and nobody can say whether it was committed.
    pub fn maybe_given_up(&mut self, key: DeliveryKey) {
        self.discard_asked.insert(key);
        let known = self.deliveries.entry(key).or_insert_with(Known::new);
        if known.over == Over::No {
            known.over = Over::Maybe;
        }
    }

    /// What alerts know is on its way to the disk.
    pub fn alerts_asked(&mut self, memory: AlertMemory) {
        self.alerts.maybe.push(memory);
    }

    /// It is there, and whatever was asked before it is not any more.
    pub fn alerts_kept(&mut self, memory: AlertMemory) {
        self.alerts = Alerts { certain: memory, maybe: Vec::new() };
    }

    /// What alerts find after a restart.
    pub fn alerts_found(&mut self, found: &AlertMemory) {
        let Alerts { certain, maybe } = &self.alerts;
        assert!(found == certain || maybe.contains(found), "alerts remember {found:?} and not {certain:?}");
        self.alerts = Alerts { certain: found.clone(), maybe: Vec::new() };
    }

    /// The world is as it was when the backup was taken, but for what receivers remember: what they took since may come
    /// again, as often as it could have come from there. Numbers are never given out again.
    pub fn restored(&mut self, taken: Self, floor: u64) {
        let before = std::mem::replace(self, taken);
        // By how much the clock was set back since.
        self.clock_set_back(DurationMs(before.set_back.0 - self.set_back.0));
        for (key, known) in before.deliveries {
            let left = self.deliveries.get(&key).map_or(1, |then| (1 + then.excused).saturating_sub(then.accepted));
            let now = self.deliveries.entry(key).or_insert_with(Known::new);
            now.accepted = known.accepted;
            now.excused = (known.accepted + left).saturating_sub(1);
            now.cause = Cause::Restore;
        }
        self.places = before.places;
        self.repeats = before.repeats;
        // Who was told of something is not told again.
        self.alerts = before.alerts;
        assert!(self.places.keys().all(|seq| seq.0 < floor), "a number may be given out again after {floor}");
        self.events_swept |= before.events_swept;
        self.attempts_swept |= before.attempts_swept;
        self.pausing.paused_all();
    }

    /// Everything in memory is gone: what was on its way may or may not be on disk.
    pub fn crashed(&mut self) {
        for known in self.deliveries.values_mut() {
            known.in_flight = false;
            if known.taken {
                known.excused += 1;
                known.cause = Cause::Crash;
                known.taken = false;
            }
            if let Some(outcome) = known.pending.take() {
                known.not_before = known.not_before.min(outcome.not_before);
                if outcome.over {
                    known.over = Over::Maybe;
                }
            }
        }
    }

    /// The wall clock was set back: what was due by it is still due.
    pub fn clock_set_back(&mut self, by: DurationMs) {
        self.set_back = DurationMs(self.set_back.0 + by.0);
        self.pausing.clock_set_back(by);
        for known in self.deliveries.values_mut() {
            known.not_before = known.not_before - by;
            if let Some(outcome) = &mut known.pending {
                outcome.not_before = outcome.not_before - by;
            }
        }
    }

    pub fn swept(&mut self, plan: &SweepPlan, excess: u64) {
        self.events_swept |= plan.events_before.is_some() || excess > 0;
        self.attempts_swept |= plan.attempts_before.is_some() || self.events_swept;
    }

    /// The time has come when a sender who comes again is taken for another.
    pub fn forget_senders(&mut self) {
        self.acknowledged.clear();
    }

    /// A sender was told that its event is stored at `seq`.
    pub fn acknowledged(&mut self, identity: u64, seq: EventSeq) {
        let first = *self.acknowledged.entry(identity).or_insert(seq);
        assert_eq!(first, seq, "identity {identity} was stored twice");
        let owner = *self.places.entry(seq).or_insert(identity);
        assert_eq!(owner, identity, "two events share the number {}", seq.0);
    }
}

impl Known {
    fn new() -> Self {
        Self {
            made: 0,
            not_before: UnixMs(0),
            over: Over::No,
            in_flight: false,
            pending: None,
            taken: false,
            accepted: 0,
            excused: 0,
            cause: Cause::default(),
        }
    }
}
