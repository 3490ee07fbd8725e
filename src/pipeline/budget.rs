//! What the writer may spend on work that nobody waits for: retention, pages of jobs, the upkeep of zones.
//!
//! One account for all of it, in time. While somebody sends, a twentieth of what passes is put into it; each piece of work
//! takes out what it cost, so that three kinds of work at once cost those who send no more than one. A piece that shares a
//! commit with others is dear only by what it adds; one that needs a commit of its own waits until that is paid for. When
//! nobody has sent for a second, everything may be spent.
//!
//! It always comes to an end: the share is paid however much traffic there is, and grows where it was not enough for
//! [`PATIENCE`], up to half. Half of the writer's time removes more than the other half takes in.
//!
//! Pure: every time comes with the question.

use std::time::Duration;

/// Thousandths of the time that are paid in while somebody sends. A twentieth is below what can be told from chance at the
/// 99th percentile of a commit of some milliseconds, and replays 100,000 in five minutes.
const SHARE: i64 = 50;
/// The share doubles each time so much has passed in which there was always more to do than could be paid for.
const PATIENCE: Duration = Duration::from_mins(5);
const SHARE_MOST: i64 = 500;
/// Nobody sends any more when so much has passed since the last event.
const QUIET: Duration = Duration::from_secs(1);
/// What can be saved up: more would be spent at once, where it can be felt.
const SAVED_MOST_NS: i64 = 5_000_000;
/// What has to be there for a piece of work that needs a commit of its own. Earned in ten milliseconds, in which somebody may
/// come with whom the commit is shared.
const ALONE_NS: i64 = 500_000;
/// Where nothing was spent for so long and enough is there, nothing is left to do.
const AT_REST: Duration = Duration::from_millis(50);
/// How long one piece may take while the share is the usual one; more where it has grown, up to [`PIECE_MOST`].
const PIECE: Duration = Duration::from_millis(1);
/// How long a piece may take whatever the share, also while nobody sends: somebody may come.
const PIECE_MOST: Duration = Duration::from_millis(5);
/// A disk that stalled for long must not stop everything for twenty times as long.
const OVERDRAWN_MOST_NS: i64 = 500_000_000;

/// Whether a commit is made anyway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Company {
    Some,
    Alone,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Nanoseconds that may be spent; below zero where a piece cost more than was there.
    credit: i64,
    /// Up to when the share is paid in.
    paid_to: Duration,
    /// When the last event came.
    traffic_at: Option<Duration>,
    /// Since when there was always more to do than could be paid for.
    behind_since: Option<Duration>,
    /// When something was spent last.
    spent_at: Duration,
}

impl Budget {
    /// Somebody waits for a commit.
    pub(super) fn saw_traffic(&mut self, now: Duration) {
        self.traffic_at = Some(now);
    }

    /// Whether nobody sends.
    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        self.traffic_at.is_none_or(|at| now.saturating_sub(at) >= QUIET)
    }

    /// Whether the next piece of work may be done now. Asked only where there is one.
    pub(super) fn allows(&mut self, now: Duration, company: Company) -> bool {
        self.pay_in(now);
        if self.is_quiet(now) {
            (self.credit, self.behind_since) = (0, None);
            return true;
        }
        let allowed = self.credit > needed(company);
        if !allowed {
            self.behind_since.get_or_insert(now);
        }
        allowed
    }

    /// How long until a piece of work may be done alone.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        self.pay_in(now);
        let missing = needed(Company::Alone).saturating_sub(self.credit).saturating_add(1).max(0);
        let passes = missing.saturating_mul(1000) / self.share(now);
        let quiet_at = self.traffic_at.map_or(now, |at| at.saturating_add(QUIET));
        nanoseconds(passes).min(quiet_at.saturating_sub(now))
    }

    /// A piece of work has cost so much.
    pub(super) fn spend(&mut self, cost: Duration) {
        let cost = i64::try_from(cost.as_nanos()).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_sub(cost).max(-OVERDRAWN_MOST_NS);
        self.spent_at = self.paid_to;
    }

    /// How long the next piece may take.
    pub(super) fn piece(&self, now: Duration) -> Duration {
        let grown = u32::try_from(self.share(now) / SHARE).unwrap_or(1);
        if self.is_quiet(now) { PIECE_MOST } else { PIECE.saturating_mul(grown).min(PIECE_MOST) }
    }

    fn pay_in(&mut self, now: Duration) {
        let passed = i64::try_from(now.saturating_sub(self.paid_to).as_nanos()).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(passed.saturating_mul(self.share(now)) / 1000);
        self.paid_to = now;
        if self.credit >= SAVED_MOST_NS {
            self.credit = SAVED_MOST_NS;
            if now.saturating_sub(self.spent_at) >= AT_REST {
                self.behind_since = None;
            }
        }
    }

    fn share(&self, now: Duration) -> i64 {
        let behind = self.behind_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let doublings = u32::try_from(behind.as_secs() / PATIENCE.as_secs()).unwrap_or(u32::MAX).min(8);
        (SHARE << doublings).min(SHARE_MOST)
    }
}

fn needed(company: Company) -> i64 {
    match company {
        Company::Some => 0,
        Company::Alone => ALONE_NS,
    }
}

fn nanoseconds(count: i64) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Work without end, in pieces of `piece`, while events come every 7 ms: what was spent of each of `minutes`.
    fn spent(piece: Duration, minutes: u32, company: Company) -> Vec<Duration> {
        let (mut budget, mut now, mut spent) = (Budget::default(), Duration::ZERO, Vec::new());
        for minute in 1..=minutes {
            let mut sum = Duration::ZERO;
            while now < Duration::from_mins(1) * minute {
                budget.saw_traffic(now);
                if budget.allows(now, company) {
                    budget.spend(piece);
                    sum += piece;
                }
                now += 7 * MS;
            }
            spent.push(sum);
        }
        spent
    }

    #[test]
    fn work_takes_a_twentieth_of_the_time_while_somebody_sends_however_large_its_pieces_are() {
        for piece in [MS / 10, MS, 5 * MS, 50 * MS] {
            for company in [Company::Some, Company::Alone] {
                let spent = spent(piece, 4, company);
                for minute in spent {
                    let share = minute.as_secs_f64() / 60.0;
                    assert!(share < 0.051 && (share > 0.049 || piece < MS), "{share} in pieces of {piece:?}");
                }
            }
        }
    }

    #[test]
    fn work_that_falls_behind_gets_more_up_to_half_and_loses_it_when_it_has_caught_up() {
        let spent = spent(5 * MS, 30, Company::Some);
        let share = |minute: usize| spent[minute].as_secs_f64() / 60.0;
        assert!(share(3) < 0.051 && share(6) > 0.09 && share(11) > 0.19 && share(21) > 0.39, "{spent:?}");
        assert!(spent.iter().all(|minute| minute.as_secs_f64() <= 30.1), "{spent:?}");
        let mut budget = Budget { behind_since: Some(Duration::ZERO), ..Budget::default() };
        let later = Duration::from_hours(1);
        budget.saw_traffic(later);
        assert_eq!((budget.share(later), budget.piece(later)), (SHARE_MOST, PIECE_MOST));
        budget.allows(later, Company::Some);
        assert_eq!(budget.share(later), SHARE, "an hour was not used up");
    }

    #[test]
    fn nothing_is_spent_that_is_not_there_and_a_commit_of_its_own_is_saved_for() {
        let mut budget = Budget::default();
        budget.saw_traffic(Duration::ZERO);
        assert!(!budget.allows(Duration::ZERO, Company::Some));
        assert_eq!(budget.wait(Duration::ZERO).as_millis(), 10);
        assert_eq!(budget.piece(Duration::ZERO), PIECE);
        for (passed, alone) in [(5 * MS, false), (11 * MS, true)] {
            let allowed = [Company::Some, Company::Alone].map(|company| budget.allows(passed, company));
            assert_eq!(allowed, [true, alone], "after {passed:?}");
        }
    }

    #[test]
    fn whoever_was_refused_for_long_enough_gets_twice_as_much() {
        let mut budget = Budget::default();
        budget.saw_traffic(Duration::ZERO);
        assert!(!budget.allows(Duration::ZERO, Company::Some));
        budget.saw_traffic(PATIENCE);
        assert_eq!((budget.share(PATIENCE.saturating_sub(MS)), budget.share(PATIENCE)), (SHARE, 2 * SHARE));
        assert_eq!(budget.piece(PATIENCE), 2 * PIECE);
    }

    #[test]
    fn what_nobody_is_disturbed_by_costs_nothing() {
        let mut budget = Budget::default();
        budget.saw_traffic(Duration::ZERO);
        budget.spend(Duration::from_secs(9));
        let almost = Duration::from_millis(999);
        assert!(!budget.allows(almost, Company::Some));
        assert_eq!(budget.wait(almost), MS);
        for _ in 0..100 {
            assert!(budget.allows(QUIET, Company::Alone) && budget.wait(QUIET) == Duration::ZERO);
            budget.spend(Duration::from_secs(1));
        }
        budget.saw_traffic(QUIET + MS);
        assert!(!budget.allows(QUIET + MS, Company::Some), "whoever comes is not disturbed at once");
    }

    #[test]
    fn a_wait_ends_when_the_next_piece_may_be_done_alone() {
        let mut budget = Budget::default();
        let mut now = Duration::from_secs(1000);
        for cost in [0, 1, 30, 400, 90_000] {
            budget.saw_traffic(now);
            budget.allows(now, Company::Alone);
            budget.spend(MS * cost);
            let wait = budget.wait(now);
            assert!(wait <= QUIET);
            assert!(wait == QUIET || wait.is_zero() || !budget.allows(now + wait.mul_f64(0.99), Company::Alone));
            now += wait;
            assert!(budget.allows(now, Company::Alone), "after {wait:?}");
        }
    }

    #[test]
    fn a_stalled_disk_stops_work_for_seconds_and_not_for_good() {
        let mut budget = Budget::default();
        budget.saw_traffic(Duration::ZERO);
        budget.spend(Duration::from_hours(1));
        let now = Duration::from_secs(11);
        budget.saw_traffic(now);
        assert!(budget.allows(now, Company::Some));
    }
}
