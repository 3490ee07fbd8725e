//! When to try again: one pure function from the policy, the past and the verdict to what becomes of the delivery.

use super::delivery::History;
use super::outcome::{DeadReason, Disposition, RetryReason, Verdict};
use super::time::{DurationMs, UnixMs};

/// `Retry-After` is honoured up to a day (SPEC 5).
pub const RETRY_AFTER_MAX: DurationMs = DurationMs::from_hours(24);

/// `[retry]`, per destination. Factors are whole thousandths, so that a delay never depends on binary floats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Delay before the second attempt.
    pub first: DurationMs,
    /// Factor between delays, in thousandths; at least 1000.
    pub multiplier_permille: u32,
    pub max_delay: DurationMs,
    /// Spread around the delay, in thousandths: 200 is ±20 %; at most 1000.
    pub jitter_permille: u32,
    /// From receipt (or replay) to giving up.
    pub give_up_after: DurationMs,
    /// Counting attempts before giving up; 0 is no limit.
    pub max_attempts: u32,
    /// HTTP statuses that are worth another try.
    pub statuses: StatusSet,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: DurationMs::from_secs(30),
            multiplier_permille: 2000,
            max_delay: DurationMs::from_hours(1),
            jitter_permille: 200,
            give_up_after: DurationMs::from_hours(72),
            max_attempts: 100,
            statuses: StatusSet::transient(),
        }
    }
}

/// A set of HTTP statuses as inclusive ranges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    pub fn new(ranges: Vec<(u16, u16)>) -> Self {
        Self(ranges)
    }

    /// 408, 425, 429 and 5xx.
    pub fn transient() -> Self {
        Self(vec![(408, 408), (425, 425), (429, 429), (500, 599)])
    }

    /// 2xx.
    pub fn success() -> Self {
        Self(vec![(200, 299)])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// What becomes of a delivery whose attempt ended with `verdict` at `now`. `history` is the past before this attempt;
/// `dice` is any 64 random bits.
///
/// Verdicts that say nothing about the event itself ([`Verdict::DestinationFault`], [`Verdict::Gone`],
/// [`Verdict::ProxyFault`], [`Verdict::Cancelled`], [`Verdict::BatchFault`]) keep it as it was: the lane decides when it goes on.
pub fn decide(policy: &RetryPolicy, history: &History, verdict: Verdict, now: UnixMs, dice: u64) -> Disposition {
    match verdict {
        Verdict::Delivered => Disposition::Sent,
        Verdict::Permanent { reason } => Disposition::Dead { reason },
        Verdict::DestinationFault
        | Verdict::Gone
        | Verdict::BatchFault
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled => Disposition::Keep { at: now },
        Verdict::Transient { reason, not_before } => again(policy, history, reason, not_before, now, dice),
        Verdict::Ambiguous { reason } => again(policy, history, reason, None, now, dice),
        Verdict::Throttled { not_before } => again(policy, history, RetryReason::Throttled, not_before, now, dice),
    }
}

fn again(
    policy: &RetryPolicy,
    history: &History,
    reason: RetryReason,
    not_before: Option<UnixMs>,
    now: UnixMs,
    dice: u64,
) -> Disposition {
    let made = history.counted_since_owed.saturating_add(1);
    if policy.max_attempts != 0 && made >= policy.max_attempts {
        return Disposition::Dead { reason: DeadReason::AttemptsExhausted };
    }
    let deadline = history.owed_since + policy.give_up_after;
    if now >= deadline {
        return Disposition::Dead { reason: DeadReason::GaveUp };
    }
    // A wait that would outlast the deadline becomes one last attempt at the deadline (SPEC 8.2).
    Disposition::Retry { at: patience(policy, history, not_before, now, dice).min(deadline), reason }
}

/// Until when a destination that asked for patience is left alone, whatever becomes of the delivery it was asked with:
/// `Retry-After`, at most a day, or the planned delay where that is longer or nothing was named.
pub fn patience(policy: &RetryPolicy, history: &History, not_before: Option<UnixMs>, now: UnixMs, dice: u64) -> UnixMs {
    let planned = now + delay(policy, history.counted_since_owed.saturating_add(1), dice);
    not_before.map_or(planned, |time| planned.max(time.min(now + RETRY_AFTER_MAX)))
}

/// The longest wait a plan can hold: what is due later than that was planned by a clock that was set back since.
pub fn longest_wait(policy: &RetryPolicy) -> DurationMs {
    let cap = u128::from(policy.max_delay.0);
    whole(cap + spread(policy, cap)).max(RETRY_AFTER_MAX)
}

/// The planned delay after the `made`-th counting attempt (from 1): `first × multiplier^(made-1)`, capped, ± jitter.
pub fn delay(policy: &RetryPolicy, made: u32, dice: u64) -> DurationMs {
    let mut base = u128::from(policy.first.0);
    let cap = u128::from(policy.max_delay.0);
    let factor = u128::from(policy.multiplier_permille.max(1000));
    if factor > 1000 {
        for _ in 1..made {
            if base >= cap || base == 0 {
                break;
            }
            // Rounded up, so that a short delay grows too.
            base = (base * factor).div_ceil(1000);
        }
    }
    let base = base.min(cap);
    let spread = spread(policy, base);
    whole(base - spread + u128::from(dice) % (2 * spread + 1))
}

/// How far a delay of `base` may be off it.
fn spread(policy: &RetryPolicy, base: u128) -> u128 {
    base * u128::from(policy.jitter_permille.min(1000)) / 1000
}

fn whole(ms: u128) -> DurationMs {
    DurationMs(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: UnixMs = UnixMs(1_764_000_000_000);
    const TRANSIENT: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };

    fn past(counted: u32) -> History {
        History { counted_since_owed: counted, counted, exchanges: counted, ..History::new(START) }
    }

    fn steady() -> RetryPolicy {
        RetryPolicy { jitter_permille: 0, ..RetryPolicy::default() }
    }

    #[test]
    fn delays_double_from_thirty_seconds_to_an_hour() {
        let delays: Vec<u64> = (1..=9).map(|made| delay(&steady(), made, 0).0 / 1000).collect();
        assert_eq!(delays, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn retry_after_moves_an_attempt_later_but_never_earlier() {
        let at = |seconds: u64| {
            let verdict = Verdict::Throttled { not_before: Some(START + DurationMs::from_secs(seconds)) };
            decide(&steady(), &past(0), verdict, START, 0)
        };
        let retry =
            |seconds| Disposition::Retry { at: START + DurationMs::from_secs(seconds), reason: RetryReason::Throttled };
        assert_eq!(at(5), retry(30));
        assert_eq!(at(90), retry(90));
    }

    #[test]
    fn retry_after_is_clamped_to_a_day() {
        let verdict = Verdict::Throttled { not_before: Some(START + DurationMs::from_days(30)) };
        let said = decide(&steady(), &past(0), verdict, START, 0);
        assert_eq!(said, Disposition::Retry { at: START + RETRY_AFTER_MAX, reason: RetryReason::Throttled });
    }

    #[test]
    fn a_wait_beyond_the_deadline_becomes_one_last_attempt_at_it() {
        let policy = RetryPolicy { give_up_after: DurationMs::from_secs(100), ..steady() };
        let verdict = Verdict::Throttled { not_before: Some(START + DurationMs::from_hours(1)) };
        let deadline = START + DurationMs::from_secs(100);
        let said = decide(&policy, &past(0), verdict, START, 0);
        assert_eq!(said, Disposition::Retry { at: deadline, reason: RetryReason::Throttled });
        assert_eq!(decide(&policy, &past(1), TRANSIENT, deadline, 0), Disposition::Dead { reason: DeadReason::GaveUp });
    }

    #[test]
    fn the_last_allowed_attempt_is_the_last() {
        let policy = RetryPolicy { max_attempts: 3, ..steady() };
        assert!(matches!(decide(&policy, &past(1), TRANSIENT, START, 0), Disposition::Retry { .. }));
        let dead = Disposition::Dead { reason: DeadReason::AttemptsExhausted };
        assert_eq!(decide(&policy, &past(2), TRANSIENT, START, 0), dead);
        let endless = RetryPolicy { max_attempts: 0, ..steady() };
        assert!(matches!(decide(&endless, &past(u32::MAX), TRANSIENT, START, 0), Disposition::Retry { .. }));
    }

    #[test]
    fn a_replay_starts_both_limits_anew() {
        let policy = RetryPolicy { max_attempts: 3, give_up_after: DurationMs::from_secs(100), ..steady() };
        let replayed_at = START + DurationMs::from_hours(5);
        let history = History { owed_since: replayed_at, counted_since_owed: 0, ..past(3) };
        assert!(matches!(decide(&policy, &history, TRANSIENT, replayed_at, 0), Disposition::Retry { .. }));
    }

    #[test]
    fn the_longest_wait_is_the_longest_that_can_be_planned_and_no_longer() {
        let slow = RetryPolicy { max_delay: DurationMs(100_000_001), ..RetryPolicy::default() };
        let longest = longest_wait(&slow);
        assert_eq!(longest, DurationMs(120_000_001));
        // The dice run once through both sides.
        let unlucky = 2 * 20_000_000;
        assert_eq!(delay(&slow, 50, unlucky), longest);
        assert_eq!(delay(&slow, 50, unlucky + 1), DurationMs(80_000_001));
        assert_eq!(longest_wait(&RetryPolicy::default()), RETRY_AFTER_MAX, "which a receiver may ask for");
    }

    #[test]
    fn what_is_not_the_events_fault_changes_nothing() {
        let proxy_fault = Verdict::ProxyFault { usable_at: UnixMs(9) };
        for verdict in [Verdict::DestinationFault, Verdict::Gone, proxy_fault, Verdict::BatchFault, Verdict::Cancelled]
        {
            assert_eq!(decide(&steady(), &past(99), verdict, START, 0), Disposition::Keep { at: START });
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_never_past_its_bounds(
            first in 0_u64..10_000_000, multiplier in 0_u32..20_000, cap in 0_u64..100_000_000, jitter in 0_u32..2000,
            counted in 0_u32..200, asked in proptest::option::of(0_u64..200_000_000), dice: u64,
        ) {
            let policy = RetryPolicy {
                first: DurationMs(first), multiplier_permille: multiplier, max_delay: DurationMs(cap),
                jitter_permille: jitter, give_up_after: DurationMs(50_000_000), max_attempts: 0,
                statuses: StatusSet::transient(),
            };
            let not_before = asked.map(|ms| START + DurationMs(ms));
            let verdict = Verdict::Transient { reason: RetryReason::Transient, not_before };
            match decide(&policy, &past(counted), verdict, START, dice) {
                Disposition::Retry { at, .. } => {
                    prop_assert!(at >= START && at <= START + policy.give_up_after);
                    let wanted = not_before.unwrap_or(START).min(START + RETRY_AFTER_MAX).min(START + policy.give_up_after);
                    prop_assert!(at >= wanted);
                    let most = policy.first.max(policy.max_delay).0.saturating_mul(2);
                    prop_assert!(at.since(START).0 <= most.max(wanted.since(START).0));
                }
                other @ (Disposition::Sent | Disposition::Dead { .. } | Disposition::Keep { .. }) => {
                    prop_assert!(false, "{other:?}");
                }
            }
        }

        #[test]
        fn jitter_stays_within_its_share(made in 1_u32..30, dice: u64) {
            let plain = delay(&steady(), made, 0).0;
            let spread = delay(&RetryPolicy::default(), made, dice).0;
            prop_assert!(spread >= plain * 8 / 10 && spread <= plain * 12 / 10);
        }
    }
}
