//! The health of a destination's proxies, and which one the next exchange takes. No waiting, no sockets: times come in.
//!
//! ```text
//!   Working ──failure──> Failing { next try after a pause } ──a try that gets through──> Working
//!                             └──a try that fails: the pause doubles──┘
//! ```
//!
//! The first of the list that works is taken; one whose pause is over is tried again in its place, by one exchange at a
//! time. An exchange that began before a route changed its state tells nothing about the state it is in now: sixteen
//! that were under way when a proxy died are one failure. Where no route may be tried, nothing is sent: there is no
//! direct way.

use std::time::Duration;

use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::{RouteState, RouteView};

/// The first pause of a route; the operator's `hold_probe` where that is shorter.
const PAUSE_FIRST: Duration = Duration::from_secs(30);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// For how long an answer proves that a proxy works, so that silence after it is the destination's.
const PROVEN: Duration = Duration::from_mins(1);

/// Now, by both clocks: pauses keep to the monotonic one, people are shown the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) monotonic: Duration,
    pub(super) wall: UnixMs,
}

/// The route an exchange takes, in the state it was then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    pub(super) index: usize,
    epoch: u64,
}

/// What an exchange made of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Failed { next_try: Duration },
    Back,
}

#[derive(Debug)]
struct Route {
    address: String,
    health: Health,
    /// Goes up with every change between working and failing.
    epoch: u64,
    since: UnixMs,
    last_error: Option<(UnixMs, String)>,
    used: u64,
    answered: Option<Duration>,
}

#[derive(Debug)]
enum Health {
    Working,
    Failing { failures: u32, next_try: Duration },
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Routes {
    all: Vec<Route>,
    pause: Pause,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    first: Duration,
    max: Duration,
}

impl Routes {
    /// All of `addresses` are thought to work until they are tried. No pause is longer than `hold_probe`: that is how
    /// often the operator wants a held destination to be tried.
    pub(super) fn new(addresses: Vec<String>, hold_probe: DurationMs, now: UnixMs) -> Self {
        let route = |address| Route {
            address,
            health: Health::Working,
            epoch: 0,
            since: now,
            last_error: None,
            used: 0,
            answered: None,
        };
        let most = hold_probe.to_std();
        let pause = Pause { first: PAUSE_FIRST.min(most), max: PAUSE_MAX.min(most) };
        Self { all: addresses.into_iter().map(route).collect(), pause }
    }

    /// The route to take, other than `tried`: the first that works or is due for another try.
    pub(super) fn pick(&mut self, tried: &[usize], now: Duration) -> Option<Ticket> {
        let pause = self.pause;
        for (index, route) in self.all.iter_mut().enumerate().filter(|(index, _)| !tried.contains(index)) {
            match &mut route.health {
                Health::Working => {}
                // Others wait until this try has told, or for the same pause again where it never tells.
                Health::Failing { failures, next_try } if *next_try <= now => *next_try = now + pause.after(*failures),
                Health::Failing { .. } => continue,
            }
            return Some(Ticket { index, epoch: route.epoch });
        }
        None
    }

    /// The proxy has failed an exchange.
    pub(super) fn failed(&mut self, ticket: Ticket, detail: &str, now: Moment) -> Option<Change> {
        let pause = self.pause;
        let route = self.all.get_mut(ticket.index)?;
        route.last_error = Some((now.wall, detail.to_owned()));
        if route.epoch != ticket.epoch {
            return None;
        }
        match &mut route.health {
            Health::Working => {
                let next_try = now.monotonic + pause.after(0);
                route.health = Health::Failing { failures: 1, next_try };
                route.epoch += 1;
                route.since = now.wall;
                route.answered = None;
                Some(Change::Failed { next_try: pause.after(0) })
            }
            Health::Failing { failures, next_try } => {
                *next_try = now.monotonic + pause.after(*failures);
                *failures = failures.saturating_add(1);
                None
            }
        }
    }

    /// The proxy has carried an exchange to the destination.
    pub(super) fn carried(&mut self, ticket: Ticket, now: Moment) -> Option<Change> {
        let route = self.all.get_mut(ticket.index)?;
        route.used = route.used.saturating_add(1);
        if route.epoch != ticket.epoch {
            return None;
        }
        route.answered = Some(now.monotonic);
        match route.health {
            Health::Working => None,
            Health::Failing { .. } => {
                route.health = Health::Working;
                route.epoch += 1;
                route.since = now.wall;
                Some(Change::Back)
            }
        }
    }

    /// Whether the route has carried an answer a short while ago.
    pub(super) fn is_proven(&self, ticket: Ticket, now: Duration) -> bool {
        let answered = self.all.get(ticket.index).and_then(|route| route.answered);
        answered.is_some_and(|at| now.saturating_sub(at) <= PROVEN)
    }

    /// How long until some route may be used.
    pub(super) fn usable_in(&self, now: Duration) -> Duration {
        let wait = |route: &Route| match route.health {
            Health::Working => Duration::ZERO,
            Health::Failing { next_try, .. } => next_try.saturating_sub(now),
        };
        self.all.iter().map(wait).min().unwrap_or_default()
    }

    /// The last words about a route that does not work.
    pub(super) fn complaint(&self) -> Option<&str> {
        let failing = self.all.iter().filter(|route| matches!(route.health, Health::Failing { .. }));
        failing.filter_map(|route| route.last_error.as_ref()).map(|(_, detail)| detail.as_str()).next()
    }

    pub(super) fn view(&self, now: Moment) -> Vec<RouteView> {
        let mut active = false;
        let mut views = Vec::new();
        for route in &self.all {
            let (state, next_try_at) = match route.health {
                Health::Working if active => (RouteState::Standby, None),
                Health::Working => (RouteState::Active, None),
                Health::Failing { next_try, .. } => {
                    (RouteState::Failing, Some(now.wall + rounded_up(next_try.saturating_sub(now.monotonic))))
                }
            };
            active |= state == RouteState::Active;
            views.push(RouteView {
                address: route.address.clone(),
                state,
                since: route.since,
                last_error: route.last_error.clone(),
                next_try_at,
                used: route.used,
            });
        }
        views
    }
}

impl Pause {
    /// After that many failures before this one.
    fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(failures)).min(self.max)
    }
}

/// Up, so that what is asked for by the wall clock then is due by the other one too.
pub(super) fn rounded_up(wait: Duration) -> DurationMs {
    DurationMs(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: DurationMs = DurationMs::from_hours(1);

    fn routes(count: usize, hold_probe: DurationMs) -> Routes {
        Routes::new((0..count).map(|n| format!("http://p{n}:1")).collect(), hold_probe, UnixMs(0))
    }

    fn at(seconds: u64) -> Moment {
        Moment { monotonic: Duration::from_secs(seconds), wall: UnixMs(seconds * 1000) }
    }

    fn pick(routes: &mut Routes, seconds: u64) -> Option<Ticket> {
        routes.pick(&[], at(seconds).monotonic)
    }

    /// The route is picked, and fails.
    fn fail(routes: &mut Routes, seconds: u64) -> usize {
        let ticket = pick(routes, seconds).unwrap();
        routes.failed(ticket, "refused", at(seconds));
        ticket.index
    }

    fn states(routes: &Routes, seconds: u64) -> Vec<&'static str> {
        routes.view(at(seconds)).iter().map(|view| view.state.as_str()).collect()
    }

    #[test]
    fn the_first_that_works_is_taken_and_preferred_again_once_it_is_back() {
        let mut routes = routes(3, HOUR);
        assert_eq!(states(&routes, 0), ["active", "standby", "standby"]);
        assert_eq!((fail(&mut routes, 0), fail(&mut routes, 0)), (0, 1));
        assert_eq!(states(&routes, 0), ["failing", "failing", "active"]);
        assert_eq!(pick(&mut routes, 29).unwrap().index, 2, "the pauses last");
        let again = pick(&mut routes, 30).unwrap();
        assert_eq!(again.index, 0);
        assert_eq!(routes.carried(again, at(31)), Some(Change::Back));
        assert_eq!(states(&routes, 31), ["active", "failing", "standby"]);
        assert_eq!(pick(&mut routes, 31).unwrap().index, 0);
    }

    #[test]
    fn nothing_is_picked_while_all_pauses_last_and_the_pauses_grow() {
        let mut routes = routes(2, HOUR);
        fail(&mut routes, 0);
        fail(&mut routes, 10);
        assert_eq!((pick(&mut routes, 29), routes.usable_in(at(10).monotonic)), (None, Duration::from_secs(20)));
        let mut due = 30;
        for pause in [60, 120, 240, 300, 300] {
            let ticket = routes.pick(&[1], at(due).monotonic).unwrap();
            routes.failed(ticket, "refused", at(due));
            assert_eq!(routes.pick(&[1], at(due + pause - 1).monotonic), None, "{pause}");
            due += pause;
        }
    }

    #[test]
    fn no_pause_is_longer_than_the_operator_wants() {
        let mut routes = routes(1, DurationMs::from_secs(2));
        for seconds in [0, 2, 4, 6] {
            fail(&mut routes, seconds);
            assert_eq!(pick(&mut routes, seconds + 1), None);
        }
    }

    #[test]
    fn one_exchange_at_a_time_tries_a_failing_route() {
        let mut routes = routes(1, HOUR);
        fail(&mut routes, 0);
        assert!(pick(&mut routes, 30).is_some());
        assert_eq!(pick(&mut routes, 30), None);
        assert!(pick(&mut routes, 90).is_some(), "the try was given up without a word");
    }

    #[test]
    fn what_was_under_way_before_a_change_tells_nothing_after_it() {
        let mut routes = routes(1, HOUR);
        let flying: Vec<Ticket> = (0..16).map(|_| pick(&mut routes, 0).unwrap()).collect();
        assert!(routes.failed(flying[0], "reset", at(1)).is_some());
        for ticket in &flying[1..15] {
            assert_eq!(routes.failed(*ticket, "reset", at(2)), None);
        }
        assert_eq!(routes.carried(flying[15], at(2)), None, "an old connection lives, new ones fail");
        assert_eq!(states(&routes, 2), ["failing"]);
        let ticket = pick(&mut routes, 31).unwrap();
        assert_eq!(routes.carried(ticket, at(31)), Some(Change::Back));
        assert_eq!(routes.failed(flying[0], "late", at(32)), None);
        assert_eq!(states(&routes, 32), ["active"]);
    }

    #[test]
    fn an_answer_proves_a_proxy_for_a_minute() {
        let mut routes = routes(1, HOUR);
        let ticket = pick(&mut routes, 0).unwrap();
        assert!(!routes.is_proven(ticket, at(0).monotonic), "nothing is known of it");
        routes.carried(ticket, at(10));
        assert!(routes.is_proven(ticket, at(70).monotonic));
        assert!(!routes.is_proven(ticket, at(71).monotonic));
        routes.failed(ticket, "silent", at(20));
        assert!(!routes.is_proven(ticket, at(20).monotonic));
    }

    #[test]
    fn a_view_says_what_an_operator_asks() {
        let mut routes = routes(2, HOUR);
        fail(&mut routes, 5);
        let ticket = pick(&mut routes, 6).unwrap();
        routes.carried(ticket, at(6));
        let views = routes.view(at(7));
        assert_eq!((views[0].since, views[0].next_try_at), (UnixMs(5000), Some(UnixMs(35_000))));
        assert_eq!(views[0].last_error, Some((UnixMs(5000), "refused".to_owned())));
        assert_eq!((views[1].since, views[1].used, views[1].next_try_at), (UnixMs(0), 1, None));
    }
}
