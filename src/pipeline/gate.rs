//! Whether a lane may send now: throttled, open circuit, held, paced, disabled.
//!
//! ```text
//!   Active ──429──> Throttled ──until──> Active
//!   Active ──breaker──> Open ──probe goes through──> Active   (a probe that fails doubles the pause)
//!   Active ──credential fault──> Held ──probe is not a fault──> Active
//!   Active ──no proxy works──> Held ──probe got through one──> Active, whatever the destination said to it
//!   Disabled (by configuration) never sends.
//! ```

use std::collections::VecDeque;

use crate::domain::id::DeliveryKey;
use crate::domain::outcome::Verdict;
use crate::domain::time::{DurationMs, UnixMs};

use super::breaker::{Breaker, Sign};
use super::lane::Rules;
use super::pace::Pace;

/// A wait that must not count against `give_up_after`.
#[derive(Clone, Copy, Debug)]
struct Standstill {
    from: UnixMs,
    to: UnixMs,
}

/// Standstills remembered; older ones are merged into the oldest kept.
const STANDSTILLS_MAX: usize = 64;

/// Whether the lane may send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaneState {
    Active,
    /// The destination asked for patience.
    Throttled {
        until: UnixMs,
    },
    /// The destination is down: what waits spends no attempts, one probe at a time after growing pauses.
    Open {
        since: UnixMs,
        last: String,
        pause: DurationMs,
        probe_at: UnixMs,
        probing: Option<DeliveryKey>,
    },
    /// Every delivery would fare the same: one probe at a time, until one is not met by the fault.
    Held {
        since: UnixMs,
        by: Hold,
        fault: String,
        probe_at: UnixMs,
        probing: Option<DeliveryKey>,
    },
    /// Switched off in the configuration; what it is owed is parked.
    Disabled,
}

/// What a lane is held by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The destination refuses what every delivery carries.
    Credentials,
    /// None of its proxies works.
    Proxy,
}

/// How an exchange ended, as far as the gate is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub verdict: Verdict,
    /// Until when a destination that asked for patience is left alone.
    pub patience: UnixMs,
    /// In words.
    pub detail: &'a str,
}

/// What may go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pass {
    Any,
    /// One delivery, to see how the destination is.
    Probe,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Gate {
    state: LaneState,
    hold_probe: DurationMs,
    pace: Option<Pace>,
    breaker: Option<Breaker>,
    standstills: VecDeque<Standstill>,
}

impl Gate {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            state: if rules.enabled { LaneState::Active } else { LaneState::Disabled },
            hold_probe: rules.hold_probe,
            pace: rules.rate_limit.map(Pace::new),
            breaker: rules.breaker.map(Breaker::new),
            standstills: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> &LaneState {
        &self.state
    }

    /// Whether a delivery may be sent now; if so it is counted against the rate, so one must follow.
    pub(super) fn open(&mut self, now: UnixMs) -> Option<Pass> {
        let pass = match &self.state {
            LaneState::Active => Pass::Any,
            LaneState::Throttled { until } if *until <= now => {
                self.state = LaneState::Active;
                Pass::Any
            }
            LaneState::Held { probe_at, probing: None, .. } | LaneState::Open { probe_at, probing: None, .. }
                if *probe_at <= now =>
            {
                Pass::Probe
            }
            LaneState::Throttled { .. } | LaneState::Open { .. } | LaneState::Held { .. } | LaneState::Disabled => {
                return None;
            }
        };
        let paced = self.pace.as_mut().is_none_or(|pace| pace.take(now));
        paced.then_some(pass)
    }

    /// The delivery that goes out is the probe.
    pub(super) fn probing(&mut self, key: DeliveryKey) {
        if let LaneState::Held { probing, .. } | LaneState::Open { probing, .. } = &mut self.state {
            *probing = Some(key);
        }
    }

    /// When [`Gate::open`] should be asked again; `None` where time alone changes nothing.
    pub(super) fn next_wake(&self) -> Option<UnixMs> {
        let gate = match &self.state {
            LaneState::Active => None,
            LaneState::Throttled { until } => Some(*until),
            LaneState::Held { probe_at, probing: None, .. } | LaneState::Open { probe_at, probing: None, .. } => {
                Some(*probe_at)
            }
            LaneState::Open { .. } | LaneState::Held { .. } | LaneState::Disabled => return None,
        };
        gate.max(self.pace.as_ref().map(Pace::next))
    }

    /// Whether only something other than time lets the next delivery through.
    pub(super) fn is_shut(&self) -> bool {
        match &self.state {
            LaneState::Active | LaneState::Throttled { .. } => false,
            LaneState::Open { probing, .. } | LaneState::Held { probing, .. } => probing.is_some(),
            LaneState::Disabled => true,
        }
    }

    /// How long since `owed_since` the lane waited for an operator.
    pub(super) fn stood_still(&self, owed_since: UnixMs, now: UnixMs) -> DurationMs {
        let held = match &self.state {
            LaneState::Held { since, .. } => Some(Standstill { from: *since, to: now }),
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } | LaneState::Disabled => None,
        };
        let all = self.standstills.iter().copied().chain(held);
        DurationMs(all.map(|still| still.to.since(still.from.max(owed_since)).0).sum())
    }

    /// An exchange has ended.
    pub(super) fn ended(&mut self, key: DeliveryKey, said: &Said<'_>, now: UnixMs) {
        let Said { verdict, patience, detail } = *said;
        let under_way = self.probe();
        let probe = under_way == Some(key);
        if under_way.is_some() && !probe {
            // It was sent before; the probe that is under way will tell.
            return;
        }
        let trips = self.breaker.as_mut().is_some_and(|breaker| breaker.count(Sign::of(verdict), now));
        match verdict {
            Verdict::DestinationFault => self.hold(now, Hold::Credentials, now + self.hold_probe, detail),
            Verdict::ProxyFault { usable_at } if usable_at > now => self.hold(now, Hold::Proxy, usable_at, detail),
            // Another proxy works, so there is nothing to wait for.
            Verdict::ProxyFault { .. } | Verdict::Cancelled => self.forget_probe(key),
            Verdict::Delivered | Verdict::Permanent { .. } | Verdict::BatchFault => self.recover(probe, now),
            Verdict::Throttled { .. } => {
                self.recover(probe, now);
                self.throttle(patience);
            }
            Verdict::Transient { .. } | Verdict::Ambiguous { .. } if probe && self.waits_for_a_proxy() => {
                self.recover(probe, now);
            }
            Verdict::Transient { .. } | Verdict::Ambiguous { .. } if probe => self.probe_failed(now, detail),
            Verdict::Transient { .. } | Verdict::Ambiguous { .. } if trips => self.trip(now, detail),
            Verdict::Transient { .. } | Verdict::Ambiguous { .. } => {}
        }
    }

    /// The probe under way.
    fn probe(&self) -> Option<DeliveryKey> {
        match &self.state {
            LaneState::Held { probing, .. } | LaneState::Open { probing, .. } => *probing,
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Disabled => None,
        }
    }

    /// If that delivery was the probe, it was none after all: the next one is.
    pub(super) fn forget_probe(&mut self, key: DeliveryKey) {
        if let LaneState::Held { probing, .. } | LaneState::Open { probing, .. } = &mut self.state
            && *probing == Some(key)
        {
            *probing = None;
        }
    }

    /// The clock was set back: what it had planned moves along.
    pub(super) fn clock_set_back(&mut self, by: DurationMs) {
        match &mut self.state {
            LaneState::Throttled { until } => *until = *until - by,
            LaneState::Held { since, probe_at, .. } | LaneState::Open { since, probe_at, .. } => {
                *since = *since - by;
                *probe_at = *probe_at - by;
            }
            LaneState::Active | LaneState::Disabled => {}
        }
    }

    fn waits_for_a_proxy(&self) -> bool {
        match &self.state {
            LaneState::Held { by, .. } => *by == Hold::Proxy,
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } | LaneState::Disabled => false,
        }
    }

    fn hold(&mut self, now: UnixMs, by: Hold, probe_at: UnixMs, fault: &str) {
        let (since, by) = match &self.state {
            // A probe that got through no proxy has not cleared the credentials.
            LaneState::Held { since, by: Hold::Credentials, .. } => (*since, Hold::Credentials),
            LaneState::Held { since, by: Hold::Proxy, .. } => (*since, by),
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } => (now, by),
            LaneState::Disabled => return,
        };
        self.state = LaneState::Held { since, by, fault: fault.to_owned(), probe_at, probing: None };
    }

    /// The longest wait asked for holds: answers of one moment come in any order.
    fn throttle(&mut self, patience: UnixMs) {
        match &mut self.state {
            LaneState::Active => self.state = LaneState::Throttled { until: patience },
            LaneState::Throttled { until } => *until = patience.max(*until),
            LaneState::Open { .. } | LaneState::Held { .. } | LaneState::Disabled => {}
        }
    }

    fn trip(&mut self, now: UnixMs, detail: &str) {
        let Some(breaker) = &self.breaker else { return };
        let pause = breaker.policy().probe;
        match &self.state {
            LaneState::Active | LaneState::Throttled { .. } => {
                let last = detail.to_owned();
                self.state = LaneState::Open { since: now, last, pause, probe_at: now + pause, probing: None };
            }
            LaneState::Open { .. } | LaneState::Held { .. } | LaneState::Disabled => {}
        }
    }

    /// A probe met trouble that is not the fault it was sent to look at, or is: try again later.
    fn probe_failed(&mut self, now: UnixMs, detail: &str) {
        let pause_max = self.breaker.as_ref().map_or(DurationMs::ZERO, |breaker| breaker.policy().probe_max);
        match &mut self.state {
            LaneState::Held { probe_at, probing, .. } => {
                *probing = None;
                *probe_at = now + self.hold_probe;
            }
            LaneState::Open { last, pause, probe_at, probing, .. } => {
                detail.clone_into(last);
                *pause = DurationMs(pause.0.saturating_mul(2)).min(pause_max.max(*pause));
                *probe_at = now + *pause;
                *probing = None;
            }
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Disabled => {}
        }
    }

    /// A probe went through: the lane is open again.
    fn recover(&mut self, probe: bool, now: UnixMs) {
        if !probe {
            return;
        }
        if let LaneState::Held { since, .. } = &self.state {
            let still = Standstill { from: *since, to: now };
            if self.standstills.len() >= STANDSTILLS_MAX
                && let (Some(oldest), Some(next)) = (self.standstills.pop_front(), self.standstills.front_mut())
            {
                next.from = next.from - oldest.to.since(oldest.from);
            }
            self.standstills.push_back(still);
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.reset();
        }
        self.state = LaneState::Active;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::domain::outcome::RetryReason;
    use crate::domain::retry::RetryPolicy;

    const NOW: UnixMs = UnixMs(1_000_000);
    const TRANSIENT: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };

    fn gate() -> Gate {
        Gate::new(&Rules {
            enabled: true,
            concurrency: 4,
            batch: 1,
            batch_wait: DurationMs::ZERO,
            hold_probe: DurationMs::from_secs(900),
            rate_limit: None,
            breaker: None,
            retry: RetryPolicy::default(),
        })
    }

    fn key(seq: u64) -> DeliveryKey {
        DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) }
    }

    fn ended(gate: &mut Gate, seq: u64, verdict: Verdict, now: UnixMs) {
        gate.ended(key(seq), &Said { verdict, patience: now, detail: "why" }, now);
    }

    fn probe(gate: &mut Gate, seq: u64, now: UnixMs) {
        assert_eq!(gate.open(now), Some(Pass::Probe));
        gate.probing(key(seq));
    }

    // Row 74.
    #[test]
    fn a_lane_is_held_only_while_no_proxy_works() {
        let mut gate = gate();
        ended(&mut gate, 1, Verdict::ProxyFault { usable_at: NOW }, NOW);
        assert_eq!(gate.open(NOW), Some(Pass::Any), "another proxy works");
        let usable_at = NOW + DurationMs::from_secs(5);
        ended(&mut gate, 2, Verdict::ProxyFault { usable_at }, NOW);
        assert_eq!((gate.open(NOW), gate.next_wake()), (None, Some(usable_at)));
        probe(&mut gate, 3, usable_at);
        ended(&mut gate, 3, Verdict::ProxyFault { usable_at }, usable_at);
        probe(&mut gate, 4, usable_at);
        ended(&mut gate, 4, Verdict::Delivered, usable_at);
        assert_eq!(*gate.state(), LaneState::Active);
    }

    #[test]
    fn an_answer_of_a_sick_destination_through_a_proxy_that_works_ends_the_hold() {
        for verdict in [TRANSIENT, Verdict::Ambiguous { reason: RetryReason::Timeout }] {
            let mut gate = gate();
            let usable_at = NOW + DurationMs::from_secs(5);
            ended(&mut gate, 1, Verdict::ProxyFault { usable_at }, NOW);
            probe(&mut gate, 2, usable_at);
            ended(&mut gate, 2, verdict, usable_at);
            assert_eq!(*gate.state(), LaneState::Active);
        }
    }

    #[test]
    fn a_sick_proxy_does_not_clear_bad_credentials() {
        let mut gate = gate();
        ended(&mut gate, 1, Verdict::DestinationFault, NOW);
        let now = NOW + DurationMs::from_secs(900);
        probe(&mut gate, 2, now);
        let usable_at = now + DurationMs::from_secs(5);
        ended(&mut gate, 2, Verdict::ProxyFault { usable_at }, now);
        probe(&mut gate, 3, usable_at);
        ended(&mut gate, 3, TRANSIENT, usable_at);
        assert!(
            matches!(gate.state(), LaneState::Held { since: NOW, by: Hold::Credentials, .. }),
            "{:?}",
            gate.state()
        );
    }
}
