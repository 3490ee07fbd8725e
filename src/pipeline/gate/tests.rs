//! What is said to a gate, rule by rule; what it finds out by itself is tested with the scheduler.

use super::*;
use crate::domain::id::{DestinationId, EventSeq};
use crate::domain::outcome::RetryReason;
use crate::domain::pacing::{BreakerPolicy, RateLimit};
use crate::domain::pause::PausedBy;
use crate::domain::retry::RetryPolicy;

const NOW: UnixMs = UnixMs(1_764_000_000_000);
const MINUTE: DurationMs = DurationMs::from_secs(60);
const HOUR: DurationMs = DurationMs::from_hours(1);
const TRANSIENT: Verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };

fn rules() -> Rules {
    Rules {
        enabled: true,
        concurrency: 4,
        batch: 1,
        batch_wait: DurationMs::ZERO,
        hold_probe: DurationMs::from_secs(900),
        rate_limit: None,
        breaker: Some(BreakerPolicy { failures: 1, ..BreakerPolicy::default() }),
        retry: RetryPolicy::default(),
    }
}

fn gate() -> Gate {
    Gate::new(&rules(), NOW)
}

fn key(seq: u64) -> DeliveryKey {
    DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) }
}

fn pause(since: UnixMs, until: Option<UnixMs>) -> Pause {
    Pause { since, until, reason: "stock is counted".to_owned(), by: PausedBy::Operator }
}

impl Gate {
    fn hear(&mut self, seq: u64, verdict: Verdict, now: UnixMs) {
        self.ended(key(seq), &Said { verdict, patience: now + HOUR, detail: "why" }, now);
    }

    /// Whether it lets something through, which is not counted.
    fn sends(&mut self, now: UnixMs) -> bool {
        self.open(now).is_some()
    }
}

/// A gate in each state but paused.
fn everywhere() -> Vec<Gate> {
    let said = |verdict| {
        let mut gate = gate();
        gate.hear(1, verdict, NOW);
        gate
    };
    let all = vec![
        gate(),
        said(Verdict::Throttled { not_before: None }),
        said(TRANSIENT),
        said(Verdict::DestinationFault),
        Gate::new(&Rules { enabled: false, ..rules() }, NOW),
    ];
    let names: Vec<_> = all.iter().map(|gate| format!("{:?}", gate.state)).collect();
    for (name, wanted) in names.iter().zip(["Active", "Throttled", "Open", "Held", "Disabled"]) {
        assert!(name.starts_with(wanted), "{name}");
    }
    all
}

#[test]
fn a_pause_wins_over_everything_and_leads_back_to_what_the_configuration_says() {
    for mut gate in everywhere() {
        let enabled = gate.state != LaneState::Disabled;
        gate.pause(pause(NOW, None));
        assert!(!gate.sends(NOW + DurationMs::from_days(999)), "{gate:?}");
        assert_eq!(gate.next_wake(), None);
        gate.resume(NOW + HOUR);
        assert_eq!(gate.state, if enabled { LaneState::Active } else { LaneState::Disabled });
        assert_eq!(gate.sends(NOW + HOUR), enabled);
    }
}

#[test]
fn a_pause_with_an_end_ends_then_and_wakes_the_lane() {
    let mut gate = gate();
    gate.pause(pause(NOW, Some(NOW + HOUR)));
    assert_eq!(gate.next_wake(), Some(NOW + HOUR));
    assert!(!gate.sends(NOW + HOUR - DurationMs(1)));
    assert!(gate.sends(NOW + HOUR));
    assert_eq!(gate.state, LaneState::Active);
}

#[test]
fn what_is_in_flight_when_a_pause_begins_does_not_end_it() {
    for verdict in [
        Verdict::Delivered,
        TRANSIENT,
        Verdict::Throttled { not_before: None },
        Verdict::DestinationFault,
        Verdict::ProxyFault { usable_at: UnixMs(u64::MAX) },
        Verdict::Gone,
        Verdict::Cancelled,
    ] {
        let mut gate = gate();
        gate.pause(pause(NOW, Some(NOW + HOUR)));
        gate.hear(1, verdict, NOW + MINUTE);
        assert_eq!(gate.state, LaneState::Paused(pause(NOW, Some(NOW + HOUR))), "{verdict:?}");
        assert_eq!(gate.take_made_pause(), None);
    }
}

#[test]
fn a_probe_that_was_under_way_when_the_pause_began_opens_nothing() {
    let mut gate = gate();
    gate.hear(1, Verdict::DestinationFault, NOW);
    let probe_at = NOW + DurationMs::from_secs(900);
    assert_eq!(gate.open(probe_at), Some(Pass::Probe));
    gate.probing(key(2));
    gate.pause(pause(probe_at, None));
    gate.hear(2, Verdict::Delivered, probe_at + MINUTE);
    assert!(!gate.sends(probe_at + HOUR));
    gate.resume(probe_at + HOUR);
    assert_eq!(gate.open(probe_at + HOUR), Some(Pass::Any), "what held it before is found out anew");
    gate.hear(3, Verdict::DestinationFault, probe_at + HOUR);
    assert!(matches!(gate.state, LaneState::Held { .. }));
}

#[test]
fn a_hold_and_the_pause_after_it_stand_still_once_each() {
    let mut gate = gate();
    let at = |minutes: u64| NOW + DurationMs(MINUTE.0 * minutes);
    let stood = |gate: &Gate, now| gate.stood_still(NOW, now).0 / MINUTE.0;
    gate.hear(1, Verdict::DestinationFault, at(10));
    gate.pause(pause(at(30), None));
    assert_eq!(stood(&gate, at(40)), 30);
    // The same pause, as it comes back from the disk, and another over it.
    gate.pause(pause(at(30), None));
    gate.pause(pause(at(50), Some(at(60))));
    assert_eq!(stood(&gate, at(55)), 45);
    assert_eq!(stood(&gate, at(100)), 50, "it ended at its time, whenever that is noticed");
    assert!(gate.sends(at(100)));
    assert_eq!(stood(&gate, at(100)), 50);
    assert_eq!(gate.stood_still(at(45), at(100)).0 / MINUTE.0, 15, "what came in later stood still for less");
}

#[test]
fn a_receiver_that_is_gone_pauses_the_lane_and_that_is_told_once() {
    let mut gate = gate();
    gate.hear(1, Verdict::Gone, NOW);
    let made = gate.take_made_pause().unwrap();
    assert_eq!((made.reason.as_str(), made.by, made.until), ("gone: why", PausedBy::Destination, None));
    assert_eq!(gate.state, LaneState::Paused(made));
    gate.hear(2, Verdict::Gone, NOW + MINUTE);
    assert_eq!(gate.take_made_pause(), None, "others in flight meet the same answer");
    gate.resume(NOW + HOUR);
    gate.hear(3, Verdict::Gone, NOW + HOUR);
    assert!(gate.take_made_pause().is_some(), "it is still gone");
}

#[test]
fn a_released_hold_or_circuit_is_probed_at_once_and_one_probe_opens_it() {
    for verdict in [Verdict::DestinationFault, TRANSIENT] {
        let mut gate = gate();
        gate.hear(1, verdict, NOW);
        assert!(!gate.sends(NOW + MINUTE.min(DurationMs(29_999))));
        gate.release(NOW);
        assert_eq!(gate.next_wake(), Some(NOW));
        assert_eq!(gate.open(NOW), Some(Pass::Probe));
        gate.probing(key(2));
        gate.release(NOW);
        assert!(!gate.sends(NOW), "one probe at a time, however often it is released");
        gate.hear(2, Verdict::Delivered, NOW);
        assert_eq!(gate.open(NOW), Some(Pass::Any));
    }
}

#[test]
fn a_release_that_was_too_early_costs_one_probe() {
    let mut gate = gate();
    gate.hear(1, Verdict::DestinationFault, NOW);
    gate.release(NOW + MINUTE);
    gate.probing(key(2));
    gate.hear(2, Verdict::DestinationFault, NOW + MINUTE);
    let LaneState::Held { since, probe_at, .. } = &gate.state else { panic!("{gate:?}") };
    assert_eq!((*since, *probe_at), (NOW, NOW + MINUTE + DurationMs::from_secs(900)));
}

#[test]
fn a_release_ends_a_throttle_and_no_pause() {
    let mut gate = gate();
    gate.hear(1, Verdict::Throttled { not_before: None }, NOW);
    assert!(!gate.sends(NOW));
    gate.release(NOW);
    assert!(gate.sends(NOW));
    gate.pause(pause(NOW, None));
    gate.release(NOW);
    assert!(!gate.sends(NOW));
}

#[test]
fn a_release_ends_the_patience_that_was_asked_for_unless_the_lane_is_paused() {
    for is_paused in [false, true] {
        let mut gate = gate();
        gate.hear(1, Verdict::Throttled { not_before: None }, NOW);
        if is_paused {
            gate.pause(pause(NOW, None));
        }
        gate.release(NOW);
        gate.pause(pause(NOW, None));
        gate.resume(NOW + MINUTE);
        let left = LaneState::Throttled { until: NOW + HOUR };
        assert_eq!(gate.state, if is_paused { left } else { LaneState::Active });
    }
}

#[test]
fn a_pause_lasts_as_long_as_was_said_also_when_the_clock_is_set_back() {
    let mut gate = gate();
    gate.pause(pause(NOW, Some(NOW + HOUR)));
    gate.clock_set_back(DurationMs::from_days(1));
    let now = NOW - DurationMs::from_days(1);
    assert!(!gate.sends(now + MINUTE));
    assert!(gate.sends(now + HOUR));
}

fn tell(gate: &mut Gate, seq: u64, verdict: Verdict, now: UnixMs) {
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
    tell(&mut gate, 1, Verdict::ProxyFault { usable_at: NOW }, NOW);
    assert_eq!(gate.open(NOW), Some(Pass::Any), "another proxy works");
    let usable_at = NOW + DurationMs::from_secs(5);
    tell(&mut gate, 2, Verdict::ProxyFault { usable_at }, NOW);
    assert_eq!((gate.open(NOW), gate.next_wake()), (None, Some(usable_at)));
    probe(&mut gate, 3, usable_at);
    tell(&mut gate, 3, Verdict::ProxyFault { usable_at }, usable_at);
    probe(&mut gate, 4, usable_at);
    tell(&mut gate, 4, Verdict::Delivered, usable_at);
    assert_eq!(*gate.state(), LaneState::Active);
}

#[test]
fn an_answer_of_a_sick_destination_through_a_proxy_that_works_ends_the_hold() {
    for verdict in [TRANSIENT, Verdict::Ambiguous { reason: RetryReason::Timeout }] {
        let mut gate = gate();
        let usable_at = NOW + DurationMs::from_secs(5);
        tell(&mut gate, 1, Verdict::ProxyFault { usable_at }, NOW);
        probe(&mut gate, 2, usable_at);
        tell(&mut gate, 2, verdict, usable_at);
        assert_eq!(*gate.state(), LaneState::Active);
    }
}

#[test]
fn a_sick_proxy_does_not_clear_bad_credentials() {
    let mut gate = gate();
    tell(&mut gate, 1, Verdict::DestinationFault, NOW);
    let now = NOW + DurationMs::from_secs(900);
    probe(&mut gate, 2, now);
    let usable_at = now + DurationMs::from_secs(5);
    tell(&mut gate, 2, Verdict::ProxyFault { usable_at }, now);
    probe(&mut gate, 3, usable_at);
    tell(&mut gate, 3, TRANSIENT, usable_at);
    assert!(matches!(gate.state(), LaneState::Held { since: NOW, by: Hold::Credentials, .. }), "{:?}", gate.state());
}

// Row 48: whatever else befalls the lane in between, a Retry-After is kept to.
#[test]
fn patience_that_was_asked_for_outlives_a_pause_a_hold_and_an_outage() {
    let throttled = || {
        let mut gate = gate();
        gate.hear(1, Verdict::Throttled { not_before: None }, NOW);
        gate
    };
    let until = LaneState::Throttled { until: NOW + HOUR };
    let mut paused = throttled();
    paused.pause(pause(NOW, None));
    paused.resume(NOW + MINUTE);
    assert_eq!(paused.state, until);
    assert!(!paused.sends(NOW + MINUTE) && paused.sends(NOW + HOUR));

    let mut asked_while_paused = gate();
    asked_while_paused.pause(pause(NOW, Some(NOW + MINUTE)));
    asked_while_paused.hear(1, Verdict::Throttled { not_before: None }, NOW);
    assert!(!asked_while_paused.sends(NOW + MINUTE));
    assert_eq!(asked_while_paused.state, until);

    for verdict in [TRANSIENT, Verdict::DestinationFault, Verdict::ProxyFault { usable_at: NOW + MINUTE }] {
        let mut gate = throttled();
        gate.hear(2, verdict, NOW);
        assert!(!gate.sends(NOW + HOUR - DurationMs(1)) && gate.sends(NOW + HOUR), "{verdict:?}");
        // An operator knows better, and so does a change of the configuration.
        let mut gate = throttled();
        gate.hear(2, verdict, NOW);
        gate.release(NOW + MINUTE);
        assert!(gate.sends(NOW + MINUTE), "{verdict:?}");
    }
    let mut changed = throttled();
    changed.pause(pause(NOW, None));
    changed.reconfigure(&rules(), NOW);
    changed.resume(NOW + MINUTE);
    assert_eq!(changed.state, LaneState::Active);
}

#[test]
fn a_change_of_the_configuration_does_not_refill_the_rate() {
    let hourly = |count| Rules { rate_limit: Some(RateLimit { count, per: HOUR }), ..rules() };
    let mut gate = Gate::new(&hourly(1), NOW);
    assert!(gate.sends(NOW));
    gate.reconfigure(&hourly(1), NOW + MINUTE);
    assert!(!gate.sends(NOW + MINUTE), "one an hour is one an hour");
    // A new rate holds from now on: nothing waits longer for it than it says.
    gate.reconfigure(&hourly(60), NOW + MINUTE);
    assert!(!gate.sends(NOW + MINUTE) && gate.sends(NOW + MINUTE + MINUTE));
    assert!(!gate.sends(NOW + MINUTE + MINUTE));
}

#[test]
fn all_that_was_planned_moves_along_with_a_clock_that_is_set_back() {
    let mut paused = gate();
    paused.pause(pause(NOW, Some(NOW + HOUR)));
    for mut gate in everywhere().into_iter().chain([paused]) {
        let state = format!("{:?}", gate.state);
        let (later, wake) = (NOW + MINUTE, gate.next_wake());
        let still = gate.stood_still(NOW - MINUTE, later);
        gate.clock_set_back(HOUR);
        assert_eq!(gate.next_wake(), wake.map(|at| at - HOUR), "{state}");
        assert_eq!(gate.stood_still(NOW - MINUTE - HOUR, later - HOUR), still, "{state}");
        gate.pause(pause(later - HOUR, None));
        gate.resume(later - HOUR);
        let is_patient = state.starts_with("Throttled");
        assert_eq!(gate.next_wake(), wake.filter(|_| is_patient).map(|at| at - HOUR), "{state}");
    }
    let limit = RateLimit { count: 1, per: MINUTE };
    let mut gate = Gate::new(&Rules { rate_limit: Some(limit), ..rules() }, NOW);
    assert!(gate.sends(NOW) && !gate.sends(NOW));
    let wake = gate.next_wake();
    gate.clock_set_back(HOUR);
    assert_eq!(gate.next_wake(), wake.map(|at| at - HOUR));
}

#[test]
fn of_many_standstills_none_is_forgotten_and_few_are_kept() {
    let (mut gate, mut now) = (gate(), NOW);
    for round in 1..=100 {
        gate.pause(pause(now, None));
        gate.resume(now + MINUTE);
        now = now + HOUR;
        assert_eq!(gate.stood_still(NOW - DurationMs::from_days(9), now), DurationMs(round * MINUTE.0));
        assert!(gate.standstills.len() <= STANDSTILLS_MAX, "{} are kept", gate.standstills.len());
    }
}

#[test]
fn only_what_time_cannot_open_is_shut() {
    let shut: Vec<bool> = everywhere().iter().map(Gate::is_shut).collect();
    assert_eq!(shut, [false, false, false, false, true], "active, throttled, open, held, disabled");
    for until in [None, Some(NOW + HOUR)] {
        let mut gate = gate();
        gate.pause(pause(NOW, until));
        assert_eq!(gate.is_shut(), until.is_none());
    }
    for mut gate in everywhere() {
        gate.probing(key(7));
        let probes = matches!(gate.state, LaneState::Open { .. } | LaneState::Held { .. });
        assert_eq!(gate.is_shut(), probes || gate.state == LaneState::Disabled, "{:?}", gate.state);
    }
}
