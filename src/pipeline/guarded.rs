//! The clock that things grow old by. Nothing is destroyed on the wall clock alone.
//!
//! The guarded clock starts at the wall clock and follows the monotonic one; it never runs ahead of what has really passed. A
//! wall clock that runs ahead of it is doubted: nothing grows old by the difference. That ends in one of three ways. The clock
//! is set right: then all is as it was. It stays what it is while the daemon runs for [`CONFIRMED_AFTER`]: then it was
//! right, as after a machine that was off for a month, and it is believed. Or somebody says that it is right, and it is believed
//! at once. A wall clock that is behind is followed at once,
//! and what grows old does so later; only what is known of the time stays, until the clock has been behind for as long.
//!
//! The store keeps what is known ([`KnownTime`]), so that a start finds out what a restart must not hide: a clock that is no
//! more than a day ahead of it is believed at once, and short runs add up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::domain::time::{ClockDoubt, DurationMs, KnownTime, UnixMs};
use crate::env::clock::Clock;

/// How far the wall clock may be ahead of what the store knows at a start, and be believed at once.
const CATCH_UP: DurationMs = DurationMs::from_hours(24);
/// How far the wall clock may run ahead of the monotonic one (drift, small corrections) and still be believed.
const SLACK: DurationMs = DurationMs::from_hours(1);
/// How long the daemon has to run with a clock that is ahead before it is believed: over a weekend, so that somebody sees it.
pub const CONFIRMED_AFTER: DurationMs = DurationMs::from_hours(72);

/// A wall clock that a step forward does not carry away; the simulator's too.
#[derive(Clone, Copy, Debug)]
pub struct GuardedClock {
    anchor: UnixMs,
    anchored_at: Duration,
    doubt: Option<Doubt>,
}

/// The wall clock says something else than what is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubt {
    off: Off,
    /// For how long it has said the same, as of `looked_at`.
    ran: DurationMs,
    looked_at: Duration,
    told: bool,
}

/// How far the wall clock is off what is known of the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Off {
    Ahead(DurationMs),
    Behind(DurationMs),
}

impl GuardedClock {
    pub fn new(known: Option<KnownTime>, wall: UnixMs, monotonic: Duration) -> Self {
        let Some(known) = known else { return Self::sure(wall, monotonic) };
        if wall <= known.at + CATCH_UP {
            // Where it is behind, what is known stays known.
            return Self::sure(wall.max(known.at), monotonic);
        }
        let ahead = wall.since(known.at);
        // It ran with the same clock before; meanwhile it may have been off for a day.
        let is_same = known.ahead > DurationMs::ZERO && near(ahead, known.ahead, CATCH_UP);
        let ran = if is_same { known.ran } else { DurationMs::ZERO };
        let doubt = Doubt { off: Off::Ahead(ahead), ran, looked_at: monotonic, told: false };
        Self { anchor: known.at, anchored_at: monotonic, doubt: Some(doubt) }
    }

    fn sure(at: UnixMs, monotonic: Duration) -> Self {
        Self { anchor: at, anchored_at: monotonic, doubt: None }
    }

    /// The clock that there is once somebody vouches for the wall clock; `None` where nobody needs to.
    pub fn confirmed(&self, wall: UnixMs, monotonic: Duration) -> Option<Self> {
        self.view().map(|_| Self::sure(wall, monotonic))
    }

    /// Never later than the wall clock, never later than what is known plus what has really passed.
    pub fn now(&self, wall: UnixMs, monotonic: Duration) -> UnixMs {
        wall.min(self.bound(monotonic) + SLACK)
    }

    /// When something was heard that is to be remembered for `window`: where the wall clock is ahead, as much later as it takes
    /// not to be forgotten early should it turn out to be right, but at most once the window.
    pub fn heard_at(&self, wall: UnixMs, monotonic: Duration, window: DurationMs) -> UnixMs {
        wall.min(self.now(wall, monotonic) + window)
    }

    /// What the store is to know of the time.
    pub fn known(&self, monotonic: Duration) -> KnownTime {
        let (ahead, ran) = match self.doubt {
            Some(Doubt { off: Off::Ahead(ahead), ran, .. }) => (ahead, ran),
            Some(Doubt { off: Off::Behind(_), .. }) | None => (DurationMs::ZERO, DurationMs::ZERO),
        };
        KnownTime { at: self.bound(monotonic), ahead, ran }
    }

    /// Looks at both clocks, every few seconds.
    pub fn look(&mut self, wall: UnixMs, monotonic: Duration) {
        let bound = self.bound(monotonic);
        let off = if wall > bound + SLACK {
            Some(Off::Ahead(wall.since(bound)))
        } else if bound > wall + CATCH_UP {
            Some(Off::Behind(bound.since(wall)))
        } else {
            None
        };
        match (self.doubt, off) {
            (None, None) => {}
            (Some(doubt), None) => {
                self.doubt = None;
                if doubt.told {
                    info!("The clock agrees with what is known of the time again.");
                }
            }
            (doubt, Some(off)) => self.doubt(doubt.filter(|doubt| doubt.off.is_same(off)), off, (wall, monotonic)),
        }
    }

    /// `before` is the doubt there was of the same clock.
    fn doubt(&mut self, before: Option<Doubt>, off: Off, (wall, monotonic): (UnixMs, Duration)) {
        let mut doubt = before.unwrap_or(Doubt { off, ran: DurationMs::ZERO, looked_at: monotonic, told: false });
        doubt.ran = DurationMs(doubt.ran.0.saturating_add(millis(monotonic.saturating_sub(doubt.looked_at))));
        doubt.looked_at = monotonic;
        if doubt.ran >= CONFIRMED_AFTER {
            info!(wall = %wall.to_rfc3339(), "The clock has stayed what it is for long enough: it is believed.");
            *self = Self::sure(wall, monotonic);
            return;
        }
        if let (Some(ClockDoubt { ahead, left }), false) = (doubt.view(), doubt.told) {
            doubt.told = true;
            warn!(
                wall = %wall.to_rfc3339(), ahead_s = ahead.0 / 1000, hours = left.0 / 3_600_000,
                "The clock is ahead of what is known of the time: nothing expires by it until it was so for as long."
            );
        }
        self.doubt = Some(doubt);
    }

    /// Where people should know of it.
    pub fn view(&self) -> Option<ClockDoubt> {
        self.doubt.as_ref().and_then(Doubt::view)
    }

    fn bound(&self, monotonic: Duration) -> UnixMs {
        self.anchor + DurationMs(millis(monotonic.saturating_sub(self.anchored_at)))
    }
}

impl Doubt {
    /// A machine that stood still for some hours is nothing to be told of.
    fn view(&self) -> Option<ClockDoubt> {
        match self.off {
            Off::Ahead(ahead) if ahead > CATCH_UP => {
                Some(ClockDoubt { ahead, left: DurationMs(CONFIRMED_AFTER.0.saturating_sub(self.ran.0)) })
            }
            Off::Ahead(_) | Off::Behind(_) => None,
        }
    }
}

impl Off {
    fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ahead(one), Self::Ahead(other)) | (Self::Behind(one), Self::Behind(other)) => {
                near(one, other, SLACK)
            }
            (Self::Ahead(_), Self::Behind(_)) | (Self::Behind(_), Self::Ahead(_)) => false,
        }
    }
}

fn near(one: DurationMs, other: DurationMs, within: DurationMs) -> bool {
    one.0.abs_diff(other.0) <= within.0
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The one of a pipeline: whoever takes events in asks it, and retention looks after it.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Mutex<GuardedClock>>);

impl Guard {
    pub(super) fn new(clock: GuardedClock) -> Self {
        Self(Arc::new(Mutex::new(clock)))
    }

    /// Held for a few instructions, never across a wait.
    pub(super) fn lock(&self) -> MutexGuard<'_, GuardedClock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where people should know of it, as of now.
    pub(super) fn doubt(&self, clock: &dyn Clock) -> Option<ClockDoubt> {
        let mut guarded = self.lock();
        guarded.look(clock.now(), clock.monotonic());
        guarded.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);
    const HOUR: Duration = Duration::from_hours(1);
    const WINDOW: DurationMs = DurationMs::from_days(30);

    fn days(count: u64) -> DurationMs {
        DurationMs::from_days(count)
    }

    fn hours(count: u64) -> DurationMs {
        DurationMs::from_hours(count)
    }

    fn knows(at: UnixMs) -> KnownTime {
        KnownTime { at, ahead: DurationMs::ZERO, ran: DurationMs::ZERO }
    }

    /// A run of so many hours with the wall clock going on from `wall`: what the guarded clock says at the end, and what the
    /// store knows then.
    fn run(known: KnownTime, wall: UnixMs, count: u32) -> (GuardedClock, UnixMs, KnownTime) {
        let mut clock = GuardedClock::new(Some(known), wall, Duration::ZERO);
        for hour in 0..=count {
            clock.look(wall + hours(hour.into()), hour * HOUR);
        }
        let end = count * HOUR;
        (clock, clock.now(wall + hours(count.into()), end), clock.known(end))
    }

    // Row 30.
    #[test]
    fn a_clock_that_jumps_ahead_ages_nothing() {
        let mut clock = GuardedClock::new(Some(knows(NOW)), NOW, Duration::ZERO);
        assert_eq!(clock.now(NOW + hours(1), HOUR), NOW + hours(1));
        let jumped = NOW + days(4000);
        assert_eq!(clock.now(jumped, HOUR), NOW + hours(2));
        clock.look(jumped, HOUR);
        assert_eq!(clock.view().map(|view| view.left), Some(CONFIRMED_AFTER));
        // Set right, all is as it was.
        clock.look(NOW + hours(2), 2 * HOUR);
        assert_eq!((clock.view(), clock.now(NOW + hours(2), 2 * HOUR)), (None, NOW + hours(2)));
    }

    // Rows 30 and 31: neither one start with a wrong clock nor a hundred.
    #[test]
    fn starts_with_a_clock_that_is_years_ahead_age_nothing_however_many_there_are() {
        let wrong = NOW + days(4000);
        let mut known = knows(NOW);
        for start in 0..100_u32 {
            let (clock, now, next) = run(known, wrong + hours((start / 2).into()), 0);
            assert!(now <= NOW + SLACK, "start {start}: {now:?}");
            assert_eq!(clock.view().map(|view| view.left), Some(CONFIRMED_AFTER));
            known = next;
        }
    }

    // Row 30.
    #[test]
    fn a_clock_that_was_right_after_all_is_believed_once_it_ran_for_long_enough_also_over_restarts() {
        let back = NOW + days(40);
        let (_, doubted, _) = run(knows(NOW), back, 71);
        assert!(doubted <= NOW + hours(72), "{doubted:?}");
        let (clock, believed, known) = run(knows(NOW), back, 72);
        assert_eq!((believed, clock.view(), known.at), (back + hours(72), None, back + hours(72)));
        // Three runs of a day, half an hour apart.
        let (mut known, mut wall) = (knows(NOW), back);
        for _ in 0..3 {
            let (_, now, next) = run(known, wall, 24);
            (known, wall) = (next, wall + hours(24) + DurationMs::from_secs(1800));
            if next.ahead == DurationMs::ZERO {
                assert!(now >= back + hours(72));
                return;
            }
        }
        panic!("it is never believed: {known:?}");
    }

    // Rows 30 and 31.
    #[test]
    fn a_clock_that_somebody_vouches_for_is_believed_at_once_and_by_the_next_start() {
        let back = NOW + days(400);
        let doubted = GuardedClock::new(Some(knows(NOW)), back, Duration::ZERO);
        assert!(doubted.now(back, Duration::ZERO) <= NOW + SLACK, "nobody has said so yet");
        let sure = doubted.confirmed(back, Duration::ZERO).unwrap();
        assert_eq!((sure.now(back, Duration::ZERO), sure.view()), (back, None));
        let next = GuardedClock::new(Some(sure.known(HOUR)), back + hours(2), Duration::ZERO);
        assert_eq!((next.now(back + hours(2), Duration::ZERO), next.view()), (back + hours(2), None));
        assert!(sure.confirmed(back, HOUR).is_none(), "there is nothing to vouch for any more");
        let hours_ahead = GuardedClock::new(Some(knows(NOW)), NOW + hours(9), Duration::ZERO);
        assert!(hours_ahead.confirmed(NOW + hours(9), Duration::ZERO).is_none());
    }

    // Row 30.
    #[test]
    fn a_clock_that_says_something_else_every_day_is_not_believed() {
        let mut known = knows(NOW);
        for round in 1..20 {
            let (_, now, next) = run(known, NOW + days(1000 * round), 30);
            assert!(now < NOW + days(40), "{now:?}");
            known = next;
        }
    }

    // Row 30.
    #[test]
    fn what_is_heard_while_the_clock_is_doubted_is_remembered_for_the_whole_window_whoever_is_right() {
        // A machine that was off for forty days.
        let back = NOW + days(40);
        let mut clock = GuardedClock::new(Some(knows(NOW)), back, Duration::ZERO);
        let heard = clock.heard_at(back, Duration::ZERO, WINDOW);
        for hour in 0..=72 {
            clock.look(back + hours(hour.into()), hour * HOUR);
        }
        let later = clock.now(back + hours(72), 72 * HOUR);
        assert!(heard + WINDOW > later, "forgotten early");
        // A clock that was wrong: not for years beyond the window.
        let wrong = GuardedClock::new(Some(knows(NOW)), NOW + days(4000), Duration::ZERO);
        assert_eq!(wrong.heard_at(NOW + days(4000), Duration::ZERO, WINDOW), NOW + SLACK + WINDOW);
        let right = GuardedClock::new(Some(knows(NOW)), NOW + hours(3), Duration::ZERO);
        assert_eq!(right.heard_at(NOW + hours(3), Duration::ZERO, WINDOW), NOW + hours(3));
    }

    // Row 31.
    #[test]
    fn a_start_at_1970_forgets_nothing_and_does_not_hold_the_time_back_once_it_is_known() {
        let mut clock = GuardedClock::new(Some(knows(NOW)), UnixMs(0), Duration::ZERO);
        assert_eq!(clock.now(UnixMs(0), Duration::ZERO), UnixMs(0), "later");
        clock.look(UnixMs(10_000), Duration::from_secs(10));
        assert!(clock.known(Duration::from_secs(10)).at >= NOW, "what is known stays known");
        let right = NOW + DurationMs::from_secs(600);
        clock.look(right, Duration::from_mins(2));
        assert_eq!((clock.now(right, Duration::from_mins(2)), clock.view()), (right, None));
    }

    #[test]
    fn what_was_known_wrongly_is_given_up_once_the_clock_was_behind_for_long_enough() {
        let wrong = NOW + days(4000);
        assert_eq!(run(knows(wrong), NOW, 71).2.at, wrong + hours(71));
        let (_, now, known) = run(knows(wrong), NOW, 72);
        assert_eq!((now, known.at), (NOW + hours(72), NOW + hours(72)));
    }

    // Row 30.
    #[test]
    fn a_clock_that_is_a_day_ahead_at_a_start_is_believed_at_once_and_one_beyond_that_is_not() {
        let starts_at = |wall| GuardedClock::new(Some(knows(NOW)), wall, Duration::ZERO).now(wall, Duration::ZERO);
        assert_eq!(starts_at(NOW + CATCH_UP), NOW + CATCH_UP);
        assert_eq!(starts_at(NOW + CATCH_UP + DurationMs(1)), NOW + SLACK);
    }

    /// What is known after a hundred hours with a clock that says `wall` at first, where `NOW` is known.
    fn known_after_days(wall: UnixMs) -> KnownTime {
        let mut clock = GuardedClock::new(Some(knows(NOW)), NOW, Duration::ZERO);
        for hour in 0..=100_u32 {
            clock.look(wall + hours(hour.into()), hour * HOUR);
        }
        clock.known(100 * HOUR)
    }

    #[test]
    fn an_hour_ahead_or_a_day_behind_is_no_doubt_however_long_it_lasts() {
        for wall in [NOW + SLACK, NOW, NOW - CATCH_UP] {
            assert_eq!(known_after_days(wall), knows(NOW + hours(100)), "{wall:?}");
        }
        for wall in [NOW + SLACK + DurationMs(1), NOW - CATCH_UP - DurationMs(1)] {
            assert_eq!(known_after_days(wall), knows(wall + hours(100)), "it is believed in the end: {wall:?}");
        }
    }

    // Row 30.
    #[test]
    fn a_clock_that_is_set_while_it_is_doubted_is_another_doubt() {
        let mut clock = GuardedClock::new(Some(knows(NOW)), NOW + days(1000), Duration::ZERO);
        for hour in 0..400_u32 {
            let wrong = match hour / 48 % 4 {
                0 => NOW + days(1000),
                1 => NOW + days(2000),
                2 => NOW - days(1000),
                _ => NOW - days(2000),
            };
            clock.look(wrong + hours(hour.into()), hour * HOUR);
            assert_eq!(clock.known(hour * HOUR).at, NOW + hours(hour.into()), "hour {hour}");
        }
    }

    #[test]
    fn a_store_that_knows_nothing_believes_the_clock() {
        let clock = GuardedClock::new(None, NOW, Duration::ZERO);
        assert_eq!((clock.now(NOW, Duration::ZERO), clock.view()), (NOW, None));
    }

    // Row 28: a virtual machine that was paused for some hours is nobody's news.
    #[test]
    fn some_hours_of_standing_still_are_not_told() {
        let mut clock = GuardedClock::new(Some(knows(NOW)), NOW, Duration::ZERO);
        clock.look(NOW + hours(10), HOUR);
        assert_eq!(clock.view(), None);
        assert_eq!(clock.now(NOW + hours(10), HOUR), NOW + hours(2));
        let told = |wall| {
            let mut clock = GuardedClock::new(Some(knows(NOW)), NOW, Duration::ZERO);
            clock.look(wall, HOUR);
            clock.view().map(|view| view.ahead)
        };
        let (day, beyond) = (NOW + hours(1) + CATCH_UP, DurationMs(CATCH_UP.0 + 1));
        assert_eq!([day, NOW + hours(1) + beyond].map(told), [None, Some(beyond)]);
    }
}
