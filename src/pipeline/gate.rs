//! Whether a lane may send now: throttled, open circuit, held, paused, paced, disabled.
//!
//! ```text
//!   Active ──429──> Throttled ──until──> Active
//!   Active ──breaker──> Open ──probe goes through──> Active   (a probe that fails doubles the pause)
//!   Active ──credential fault──> Held ──probe is not a fault──> Active
//!   Active ──no proxy works──> Held ──probe got through one──> Active, whatever the destination said to it
//!   any ──operator, or the receiver is gone──> Paused ──resume, or its time──> Active
//!   any ──configuration──> Disabled or Orphaned, which never send; from there, and wherever the destination's own
//!   configuration changed, back to Active: what was wrong may be mended
//! ```
//!
//! A pause wins over whatever else holds: what held the lane before is found out anew by the first attempt after it.
//! `release` is an operator's word that the fault is mended: a throttle ends, a hold and an open circuit are probed at once.
//!
//! Standstills, the spans that must not count against `give_up_after`, live in memory: of what happened before a restart
//! only the last pause is still known, by its row in the store.

mod controls;
mod ramp;

use std::collections::VecDeque;

use crate::domain::id::DeliveryKey;
use crate::domain::outcome::Verdict;
use crate::domain::pause::Pause;
use crate::domain::time::{DurationMs, UnixMs};

use super::breaker::{Breaker, Sign};
use super::lane::Rules;
use super::pace::Pace;

use ramp::Ramp;

/// A wait that must not count against `give_up_after`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Nothing is sent and nothing is spent; what is in flight ends as it would.
    Paused(Pause),
    /// Switched off in the configuration; what it is owed is parked.
    Disabled,
    /// Gone from the configuration; what it is owed is parked until the name returns.
    Orphaned,
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
    /// By the configuration: where a pause leads back to.
    home: Home,
    /// Since when it is parked.
    parked_since: UnixMs,
    /// Until when the destination asked to be left alone, whatever befell the lane since.
    patience: UnixMs,
    /// A pause of the gate's own making that has not been handed on yet.
    made: Option<Pause>,
    hold_probe: DurationMs,
    pace: Option<Pace>,
    breaker: Option<Breaker>,
    /// While the destination recovers from an outage.
    ramp: Option<Ramp>,
    concurrency: usize,
    standstills: VecDeque<Standstill>,
}

impl Gate {
    pub(super) fn new(rules: &Rules, now: UnixMs) -> Self {
        Self {
            state: Home::of(rules).state(),
            home: Home::of(rules),
            parked_since: now,
            patience: UnixMs(0),
            made: None,
            hold_probe: rules.hold_probe,
            pace: rules.rate_limit.map(Pace::new),
            breaker: rules.breaker.map(Breaker::new),
            ramp: None,
            concurrency: rules.concurrency,
            standstills: VecDeque::new(),
        }
    }

    /// The destination is configured otherwise from here on: what was wrong with it may be mended. A pause goes on.
    pub(super) fn reconfigure(&mut self, rules: &Rules, now: UnixMs) {
        self.hold_probe = rules.hold_probe;
        self.pace = rules.rate_limit.map(|limit| Pace::after(self.pace.as_ref(), limit, now));
        self.patience = UnixMs(0);
        self.breaker = rules.breaker.map(Breaker::new);
        self.concurrency = rules.concurrency;
        self.go_home(Home::of(rules), now);
    }

    /// The destination is gone from the configuration.
    pub(super) fn orphan(&mut self, now: UnixMs) {
        if self.home != Home::Orphaned {
            self.go_home(Home::Orphaned, now);
        }
    }

    fn go_home(&mut self, home: Home, now: UnixMs) {
        self.home = home;
        if !matches!(self.state, LaneState::Paused(_)) {
            self.remember_standstill(now);
            self.parked_since = now;
            self.state = home.state();
        }
    }

    pub(super) fn state(&self) -> &LaneState {
        &self.state
    }

    /// Whether a delivery may be sent now; if so it is counted against the rate, so one must follow.
    pub(super) fn open(&mut self, now: UnixMs) -> Option<Pass> {
        self.end_pause(now);
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
            LaneState::Throttled { .. }
            | LaneState::Open { .. }
            | LaneState::Held { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => return None,
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
            LaneState::Throttled { until } | LaneState::Paused(Pause { until: Some(until), .. }) => Some(*until),
            LaneState::Held { probe_at, probing: None, .. } | LaneState::Open { probe_at, probing: None, .. } => {
                Some(*probe_at)
            }
            LaneState::Open { .. }
            | LaneState::Held { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => return None,
        };
        gate.max(self.pace.as_ref().map(Pace::next))
    }

    /// Exchanges that may be in flight as far as the gate is concerned.
    pub(super) fn allowance(&self) -> usize {
        self.ramp.map_or(self.concurrency, Ramp::allowed)
    }

    /// Whether only something other than time lets the next delivery through.
    pub(super) fn is_shut(&self) -> bool {
        match &self.state {
            LaneState::Active | LaneState::Throttled { .. } => false,
            LaneState::Open { probing, .. } | LaneState::Held { probing, .. } => probing.is_some(),
            LaneState::Paused(pause) => pause.until.is_none(),
            LaneState::Disabled | LaneState::Orphaned => true,
        }
    }

    /// How long since `owed_since` the lane waited for an operator.
    pub(super) fn stood_still(&self, owed_since: UnixMs, now: UnixMs) -> DurationMs {
        let all = self.standstills.iter().copied().chain(self.standing_still(now));
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
        let sign = Sign::of(verdict);
        self.ramp = self.ramp.and_then(|ramp| ramp.after(sign, self.concurrency));
        let trips = self.breaker.as_mut().is_some_and(|breaker| breaker.count(sign, now));
        match verdict {
            Verdict::DestinationFault => self.hold(now, Hold::Credentials, now + self.hold_probe, detail),
            Verdict::Gone => self.gone(now, detail),
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
            LaneState::Active
            | LaneState::Throttled { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => None,
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
        self.patience = self.patience - by;
        if let Some(pace) = &mut self.pace {
            pace.clock_set_back(by);
        }
        match &mut self.state {
            LaneState::Throttled { until } => *until = *until - by,
            LaneState::Held { since, probe_at, .. } | LaneState::Open { since, probe_at, .. } => {
                *since = *since - by;
                *probe_at = *probe_at - by;
            }
            LaneState::Paused(pause) => {
                pause.since = pause.since - by;
                pause.until = pause.until.map(|until| until - by);
            }
            LaneState::Disabled | LaneState::Orphaned => self.parked_since = self.parked_since - by,
            LaneState::Active => {}
        }
    }

    fn waits_for_a_proxy(&self) -> bool {
        match &self.state {
            LaneState::Held { by, .. } => *by == Hold::Proxy,
            LaneState::Active
            | LaneState::Throttled { .. }
            | LaneState::Open { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => false,
        }
    }

    fn hold(&mut self, now: UnixMs, by: Hold, probe_at: UnixMs, fault: &str) {
        let (since, by) = match &self.state {
            // A probe that got through no proxy has not cleared the credentials.
            LaneState::Held { since, by: Hold::Credentials, .. } => (*since, Hold::Credentials),
            LaneState::Held { since, by: Hold::Proxy, .. } => (*since, by),
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } => (now, by),
            LaneState::Paused(_) | LaneState::Disabled | LaneState::Orphaned => return,
        };
        let probe_at = probe_at.max(self.patience);
        self.state = LaneState::Held { since, by, fault: fault.to_owned(), probe_at, probing: None };
    }

    /// The longest wait asked for holds: answers of one moment come in any order.
    fn throttle(&mut self, patience: UnixMs) {
        self.patience = self.patience.max(patience);
        match &mut self.state {
            LaneState::Active => self.state = LaneState::Throttled { until: self.patience },
            LaneState::Throttled { until } => *until = self.patience,
            LaneState::Open { .. }
            | LaneState::Held { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => {}
        }
    }

    fn trip(&mut self, now: UnixMs, detail: &str) {
        let Some(breaker) = &self.breaker else { return };
        let pause = breaker.policy().probe;
        match &self.state {
            LaneState::Active | LaneState::Throttled { .. } => {
                let last = detail.to_owned();
                let probe_at = (now + pause).max(self.patience);
                self.state = LaneState::Open { since: now, last, pause, probe_at, probing: None };
            }
            LaneState::Open { .. }
            | LaneState::Held { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => {}
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
            LaneState::Active
            | LaneState::Throttled { .. }
            | LaneState::Paused(_)
            | LaneState::Disabled
            | LaneState::Orphaned => {}
        }
    }

    /// A probe went through: the lane is open again.
    fn recover(&mut self, probe: bool, now: UnixMs) {
        if !probe {
            return;
        }
        self.remember_standstill(now);
        if let Some(breaker) = &mut self.breaker {
            breaker.reset();
        }
        self.ramp = Ramp::start(self.concurrency);
        self.state = self.at_home(now);
    }

    /// What the lane is where nothing but the configuration and the destination's own wish keeps it.
    fn at_home(&self, now: UnixMs) -> LaneState {
        match self.home {
            Home::Enabled if self.patience > now => LaneState::Throttled { until: self.patience },
            Home::Enabled | Home::Disabled | Home::Orphaned => self.home.state(),
        }
    }

    /// What the lane stands still for now, up to `now`.
    fn standing_still(&self, now: UnixMs) -> Option<Standstill> {
        match &self.state {
            LaneState::Held { since, .. } => Some(Standstill { from: *since, to: now }),
            LaneState::Paused(pause) => {
                Some(Standstill { from: pause.since, to: pause.until.map_or(now, |until| until.min(now)) })
            }
            LaneState::Disabled | LaneState::Orphaned => Some(Standstill { from: self.parked_since, to: now }),
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open { .. } => None,
        }
    }

    /// What the lane stood still for ends here.
    fn remember_standstill(&mut self, now: UnixMs) {
        if let Some(still) = self.standing_still(now) {
            self.remember(still);
        }
    }

    fn remember(&mut self, still: Standstill) {
        if self.standstills.contains(&still) {
            return;
        }
        if self.standstills.len() >= STANDSTILLS_MAX
            && let (Some(oldest), Some(next)) = (self.standstills.pop_front(), self.standstills.front_mut())
        {
            next.from = next.from - oldest.to.since(oldest.from);
        }
        self.standstills.push_back(still);
    }
}

/// What the configuration makes of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    Enabled,
    Disabled,
    Orphaned,
}

impl Home {
    fn of(rules: &Rules) -> Self {
        if rules.enabled { Self::Enabled } else { Self::Disabled }
    }

    /// What a lane is where nothing else keeps it.
    fn state(self) -> LaneState {
        match self {
            Self::Enabled => LaneState::Active,
            Self::Disabled => LaneState::Disabled,
            Self::Orphaned => LaneState::Orphaned,
        }
    }
}

#[cfg(test)]
mod tests;
