//! Is a destination down? Failures in a row, or a share of failures within a window, say so.
//!
//! This counts only; what a lane does when it trips stands in `lane`. The window is kept in six slots, so it forgets in
//! steps of a sixth.

use std::collections::VecDeque;

use crate::domain::outcome::Verdict;
use crate::domain::pacing::BreakerPolicy;
use crate::domain::time::UnixMs;

const SLOTS: u64 = 6;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    in_a_row: u32,
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    ended: u32,
    failed: u32,
}

/// What a verdict says about the destination's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    Lives,
    Fails,
    /// It asked for patience, or the fault lies elsewhere.
    Nothing,
}

impl Sign {
    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Delivered | Verdict::Permanent { .. } | Verdict::BatchFault => Self::Lives,
            Verdict::Transient { .. } | Verdict::Ambiguous { .. } => Self::Fails,
            Verdict::Throttled { .. }
            | Verdict::DestinationFault
            | Verdict::Gone
            | Verdict::ProxyFault { .. }
            | Verdict::Cancelled => Self::Nothing,
        }
    }
}

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, in_a_row: 0, slots: VecDeque::new() }
    }

    pub(super) fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    /// Counts how an attempt ended; `true` where the destination now counts as down.
    pub(super) fn count(&mut self, sign: Sign, now: UnixMs) -> bool {
        let failed = match sign {
            Sign::Nothing => return false,
            Sign::Lives => {
                self.in_a_row = 0;
                false
            }
            Sign::Fails => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                true
            }
        };
        let number = now.0 / (self.policy.window.0 / SLOTS).max(1);
        self.slots.retain(|slot| slot.number <= number && number - slot.number < SLOTS);
        match self.slots.back_mut() {
            Some(slot) if slot.number == number => {
                slot.ended = slot.ended.saturating_add(1);
                slot.failed = slot.failed.saturating_add(u32::from(failed));
            }
            Some(_) | None => self.slots.push_back(Slot { number, ended: 1, failed: u32::from(failed) }),
        }
        failed && (self.in_a_row >= self.policy.failures || self.share_is_too_high())
    }

    /// Starts anew, as after a probe that went through.
    pub(super) fn reset(&mut self) {
        self.in_a_row = 0;
        self.slots.clear();
    }

    fn share_is_too_high(&self) -> bool {
        let (ended, failed) = self.slots.iter().fold((0_u64, 0_u64), |(ended, failed), slot| {
            (ended + u64::from(slot.ended), failed + u64::from(slot.failed))
        });
        ended >= u64::from(self.policy.min) && failed * 1000 >= ended * u64::from(self.policy.rate_permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{DeadReason, RetryReason};
    use crate::domain::time::DurationMs;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);

    // Row 52.
    #[test]
    fn ten_failures_in_a_row_trip_it_and_a_success_starts_the_row_anew() {
        let mut breaker = Breaker::new(BreakerPolicy { min: 1000, ..BreakerPolicy::default() });
        assert!((0..9).all(|_| !breaker.count(Sign::Fails, NOW)));
        assert!(!breaker.count(Sign::Lives, NOW));
        assert!((0..9).all(|_| !breaker.count(Sign::Fails, NOW)));
        assert!(breaker.count(Sign::Fails, NOW));
    }

    // Row 52.
    #[test]
    fn half_of_twenty_within_a_minute_trip_it() {
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1000, ..BreakerPolicy::default() });
        for _ in 0..10 {
            assert!(!breaker.count(Sign::Lives, NOW));
        }
        assert!((0..9).all(|_| !breaker.count(Sign::Fails, NOW)));
        assert!(breaker.count(Sign::Fails, NOW));
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1000, ..BreakerPolicy::default() });
        assert!((0..19).all(|_| !breaker.count(Sign::Fails, NOW)));
        assert!(!breaker.count(Sign::Fails, NOW + DurationMs::from_secs(61)));
    }

    #[test]
    fn each_attempt_counts_for_a_minute_from_its_own_end() {
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1000, ..BreakerPolicy::default() });
        let at = |seconds| NOW + DurationMs::from_secs(seconds);
        assert!(!breaker.count(Sign::Lives, NOW));
        assert!((31..49).all(|second| !breaker.count(Sign::Fails, at(second))));
        assert!(!breaker.count(Sign::Fails, at(70)), "the first does not count any more");
        assert!(breaker.count(Sign::Fails, at(70)), "all others do");
        assert!((0..1000).all(|_| breaker.count(Sign::Fails, at(70))));
        assert!(breaker.slots.len() <= 6, "{} slots", breaker.slots.len());
    }

    #[test]
    fn permanent_answers_show_that_the_receiver_lives() {
        assert_eq!(Sign::of(Verdict::Permanent { reason: DeadReason::Permanent }), Sign::Lives);
        assert_eq!(Sign::of(Verdict::Ambiguous { reason: RetryReason::Timeout }), Sign::Fails);
        assert_eq!(Sign::of(Verdict::Throttled { not_before: None }), Sign::Nothing);
        assert_eq!(Sign::of(Verdict::DestinationFault), Sign::Nothing);
        assert_eq!(Sign::of(Verdict::ProxyFault { usable_at: NOW }), Sign::Nothing);
    }
}
