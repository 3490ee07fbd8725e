//! Scenarios in simulated time: a virtual minute is one look.

use super::*;
use crate::alerts::vitals::{DestinationVitals, Standing, Tally};
use crate::domain::alert::NoticeKind;
use crate::telemetry::rolling::Streak;

mod ending;
mod house;

/// A Monday, midnight.
const MONDAY: UnixMs = UnixMs(1_764_547_200_000);
const MINUTE: DurationMs = DurationMs::from_secs(60);

/// A daemon with one destination and one source, looked at once a minute.
struct World {
    watcher: Watcher,
    policy: Policy,
    vitals: Vitals,
    /// Attempts of each minute of the last day: delivered, finished.
    minutes: VecDeque<(u32, u32)>,
    told: Vec<(u64, String)>,
}

impl World {
    fn new() -> Self {
        let vitals = Vitals {
            now: MONDAY,
            books: Some(Books::default()),
            free_disk_bytes: Some(100 << 30),
            reserve_bytes: 5 << 30,
            ..Vitals::default()
        };
        let mut world = Self {
            watcher: Watcher::default(),
            policy: Policy::default(),
            vitals,
            minutes: VecDeque::new(),
            told: Vec::new(),
        };
        world.crm();
        world
    }

    fn books(&mut self) -> &mut Books {
        self.vitals.books.as_mut().unwrap()
    }

    fn crm(&mut self) -> &mut DestinationVitals {
        self.books().destinations.entry("crm".parse().unwrap()).or_default()
    }

    fn app(&mut self) -> &mut u64 {
        self.books().sources.entry("app".parse().unwrap()).or_default()
    }

    /// Attempts at this minute.
    fn attempts(&mut self, delivered: u32, failed: u32) {
        let now = self.vitals.now;
        if let Some(last) = self.minutes.back_mut() {
            *last = (last.0 + delivered, last.1 + delivered + failed);
        }
        let streak = &mut self.crm().streak;
        if failed > 0 {
            streak.failures += failed;
            streak.since.get_or_insert(now);
        }
        if delivered > 0 {
            *streak = Streak { last_delivered: Some(now), ..Streak::default() };
        }
    }

    /// One minute goes by, in which `act` happens.
    fn minute(&mut self, act: impl FnOnce(&mut Self)) {
        self.vitals.now = self.vitals.now + MINUTE;
        self.minutes.push_back((0, 0));
        if self.minutes.len() > 1440 {
            self.minutes.pop_front();
        }
        act(self);
        let tally = |minutes: &mut dyn Iterator<Item = &(u32, u32)>| {
            let (delivered, finished) = minutes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let rate = if finished == 0 { 0.0 } else { f64::from(delivered) / f64::from(finished) };
            Tally { rate, attempts: finished }
        };
        let hour = tally(&mut self.minutes.iter().rev().take(60));
        let day = tally(&mut self.minutes.iter());
        if let Some(crm) = self.vitals.books.as_mut().and_then(|books| books.destinations.get_mut("crm")) {
            crm.attempts = (hour, day);
        }
        let at = self.vitals.now.since(MONDAY).0 / MINUTE.0;
        for notice in self.watcher.look(&self.policy, &self.vitals) {
            self.told.push((at, format!("{} {}", notice.kind.as_str(), notice.problem.id)));
        }
        self.vitals.clock_step_ms = 0;
    }

    fn minutes(&mut self, count: u32, mut act: impl FnMut(&mut Self)) {
        for _ in 0..count {
            self.minute(&mut act);
        }
    }

    /// What was told, without the times.
    fn said(&self) -> Vec<&str> {
        self.told.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn restart(&mut self) {
        self.watcher = Watcher::new(self.watcher.memory());
        self.crm().streak = Streak::default();
        self.minutes.clear();
    }
}

#[test]
fn a_good_day_is_told_nothing_and_a_blip_neither() {
    let mut world = World::new();
    world.minutes(1440, |world| world.attempts(10, u32::from(world.vitals.now.0.is_multiple_of(7))));
    // A burst of failures that ends within the minute, and an open circuit that closes before two have passed.
    world.minute(|world| world.attempts(5, 9));
    world.minute(|world| world.crm().state = Standing::Open);
    world.minute(|world| world.crm().state = Standing::Sends);
    world.minutes(10, |world| world.attempts(10, 0));
    assert_eq!(world.told, []);
}

#[test]
fn a_slow_rise_of_refusals_is_told_once_and_its_end_once() {
    let mut world = World::new();
    world.policy.remind = None;
    world.minutes(1440, |world| world.attempts(10, 0));
    // One more of twenty is refused every hour.
    for refused in 1..=12 {
        world.minutes(60, |world| world.attempts(20 - refused, refused));
    }
    assert_eq!(world.said(), ["problem crm/rate"]);
    let at = world.told[0].0 - 1440;
    assert!((120..235).contains(&at), "after {at} minutes, with some 10 % refused, and not only at the floor");
    world.minutes(600, |world| world.attempts(20, 0));
    assert_eq!(world.said(), ["problem crm/rate", "recovered crm/rate"]);
}

#[test]
fn a_few_failures_of_a_slow_hour_are_chance() {
    let mut world = World::new();
    world.minutes(1440, |world| world.attempts(49, 1));
    world.minutes(60, |_| ());
    // 87 % of thirty, where 98 % were usual: four where one was to be expected.
    world.minutes(2, |world| world.attempts(13, 2));
    world.minutes(30, |_| ());
    assert_eq!(world.told, []);
    world.minutes(10, |world| world.attempts(13, 2));
    assert_eq!(world.said(), ["problem crm/rate"], "as many again and again are not");
}

#[test]
fn a_spike_of_refusals_is_told_although_the_rate_of_the_day_is_good() {
    let mut world = World::new();
    world.minutes(1440, |world| world.attempts(20, 0));
    world.minutes(15, |world| {
        world.attempts(10, 10);
        world.crm().dlq += 10;
    });
    world.minutes(90, |world| world.attempts(20, 0));
    assert_eq!(world.said().iter().filter(|text| text.starts_with("problem")).count(), 2, "{:?}", world.told);
    assert!(world.said().contains(&"problem crm/dlq"), "the DLQ is 150 deep, which is another problem");
    let end = world.said().iter().filter(|text| text.starts_with("recovered")).count();
    assert_eq!(end, 1, "the DLQ waits for somebody: {:?}", world.told);
}

#[test]
fn an_outage_at_night_is_one_problem_with_reminders_and_an_end() {
    let mut world = World::new();
    world.minutes(180, |world| world.attempts(2, 0));
    world.crm().state = Standing::Open;
    world.minutes(480, |world| {
        world.attempts(0, u32::from((world.vitals.now.0 / MINUTE.0).is_multiple_of(10)));
        world.crm().owed += 2;
        let since = MONDAY + DurationMs::from_hours(3);
        world.crm().oldest_owed_at = Some(since);
    });
    world.crm().state = Standing::Sends;
    world.minutes(30, |world| {
        world.attempts(20, 0);
        world.crm().owed = 0;
        world.crm().oldest_owed_at = None;
    });
    let (times, said): (Vec<u64>, Vec<&str>) = world.told.iter().map(|(at, text)| (*at, text.as_str())).unzip();
    assert_eq!(said[..4], ["problem crm/down", "reminder crm/down", "reminder crm/down", "reminder crm/down"]);
    assert_eq!(times[..4], [183, 243, 363, 603], "after two minutes, then after one, two and four hours more");
    assert_eq!(said[4..], ["recovered crm/down"]);
    assert_eq!(times[4], 663, "two good minutes after the first");
}

#[test]
fn a_rarely_used_destination_that_is_broken_is_told_by_its_failures_in_a_row() {
    let mut world = World::new();
    world.policy.remind = None;
    // One event every eight hours, each refused for good.
    for _ in 0..3 {
        world.minute(|world| {
            world.attempts(0, 1);
            world.crm().dlq += 1;
        });
        world.minutes(479, |_| ());
    }
    assert_eq!(world.told, [(961, "problem crm/down".to_owned())]);
    let problem = &world.watcher.open()[0];
    assert_eq!((problem.rule, problem.severity), (Rule::Failing, Severity::Critical));
    world.minute(|world| world.attempts(1, 0));
    world.minutes(3, |_| ());
    assert_eq!(world.said().last(), Some(&"recovered crm/down"));
}

#[test]
fn what_holds_a_destination_is_told_once_whatever_form_it_takes() {
    let mut world = World::new();
    world.minutes(5, |world| world.attempts(5, 0));
    world.crm().state = Standing::Open;
    world.minutes(5, |world| world.attempts(0, 1));
    world.crm().state = Standing::Held;
    world.crm().owed = 4;
    // It is probed, which looks like a way out for a moment.
    for _ in 0..5 {
        world.minute(|world| world.crm().state = Standing::Sends);
        world.minute(|world| world.crm().state = Standing::Held);
    }
    assert_eq!(world.said(), ["problem crm/down", "worse crm/down"]);
}

#[test]
fn a_restart_in_the_middle_tells_nothing_again_and_forgets_nothing() {
    let mut world = World::new();
    world.crm().state = Standing::Held;
    world.crm().owed = 3;
    world.minutes(10, |_| ());
    world.restart();
    // A hold is not durable: the lane looks good until it has tried.
    world.crm().state = Standing::Sends;
    world.minutes(10, |_| ());
    world.crm().state = Standing::Held;
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down"]);
    world.restart();
    world.crm().state = Standing::Sends;
    world.minutes(3, |world| {
        world.attempts(1, 0);
        world.crm().owed = 0;
    });
    assert_eq!(world.said(), ["problem crm/down", "recovered crm/down"]);
}

#[test]
fn the_dlq_is_told_when_it_grows_and_when_it_is_deep() {
    let mut world = World::new();
    world.policy.success_rate = None;
    world.policy.failures_in_row = None;
    world.crm().dlq = 50;
    world.minutes(60, |_| ());
    assert_eq!(world.told, [], "an old DLQ does not grow");
    world.minutes(9, |world| world.crm().dlq += 1);
    assert_eq!(world.told, []);
    world.minute(|world| world.crm().dlq += 1);
    assert_eq!(world.said(), ["problem crm/growth"]);
    world.minutes(90, |_| ());
    assert_eq!(world.said(), ["problem crm/growth", "recovered crm/growth"], "it has stopped growing");
    world.minute(|world| world.crm().dlq = 100);
    world.minutes(100, |_| ());
    assert!(world.said().contains(&"problem crm/dlq"), "{:?}", world.told);
    world.minute(|world| world.crm().dlq = 95);
    world.minutes(5, |_| ());
    assert!(!world.said().contains(&"recovered crm/dlq"), "a few fewer do not end it: {:?}", world.told);
    world.minute(|world| world.crm().dlq = 0);
    world.minutes(5, |_| ());
    assert!(world.said().contains(&"recovered crm/dlq"));
}

/// Events of a source by day: many from 8 to 22, hardly any at night.
fn day_and_night(world: &mut World) {
    let minute = world.vitals.now.since(MONDAY).0 / MINUTE.0 % 1440;
    let is_day = (480..1320).contains(&minute);
    *world.app() += u64::from(is_day || minute.is_multiple_of(200));
}

#[test]
fn a_source_with_nights_is_told_silent_by_day_only() {
    let mut world = World::new();
    world.minutes(1440 * 8, day_and_night);
    assert_eq!(world.told, [], "eight days and nights raise nothing");
    // It dies at ten in the morning.
    world.minutes(600, day_and_night);
    world.minutes(1440 * 9, |_| ());
    let problems: Vec<_> = world.told.iter().filter(|(_, text)| text.starts_with("problem")).collect();
    assert_eq!(problems.len(), 1, "{:?}", world.told);
    let after = problems[0].0 - (1440 * 8 + 600);
    assert!((60..=120).contains(&after), "after {after} minutes");
    assert!(!world.said().contains(&"recovered source/app/silence"), "time alone does not end a silence");
    world.minutes(5, day_and_night);
    world.minutes(120, |world| *world.app() += 1);
    assert_eq!(world.said().last(), Some(&"recovered source/app/silence"));
}

#[test]
fn two_days_are_too_few_to_know_a_source_by() {
    let mut world = World::new();
    world.minutes(1440 * 2 + 600, day_and_night);
    world.minutes(300, |_| ());
    assert_eq!(world.told, []);
}

#[test]
fn a_new_source_and_a_slow_one_raise_nothing_unless_a_time_is_set() {
    let mut world = World::new();
    *world.app() += 1;
    world.minutes(1440, |_| ());
    // One event every eight hours, then none.
    for _ in 0..15 {
        world.minute(|world| *world.app() += 1);
        world.minutes(479, |_| ());
    }
    assert_eq!(world.told, []);
    let limit = Some(DurationMs::from_hours(12));
    world.policy.silence.as_mut().unwrap().sources.insert("app".parse().unwrap(), limit);
    world.minutes(245, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence"]);
}

#[test]
fn a_source_with_a_set_time_that_never_sent_anything_is_told() {
    let mut world = World::new();
    let limit = Some(DurationMs::from_hours(12));
    world.policy.silence.as_mut().unwrap().sources.insert("app".parse().unwrap(), limit);
    world.minutes(720, |world| {
        world.app();
    });
    assert_eq!(world.told, []);
    world.restart();
    world.minutes(2, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence"]);
}

#[test]
fn the_rhythm_of_a_source_survives_a_restart() {
    let mut world = World::new();
    world.policy.remind = None;
    world.minutes(1440 * 5 + 600, day_and_night);
    world.restart();
    world.minutes(121, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence"]);
}

#[test]
fn time_in_which_the_daemon_was_down_is_no_silence_of_a_source() {
    let mut world = World::new();
    world.policy.remind = None;
    world.minutes(1440 * 5 + 600, day_and_night);
    let hours = DurationMs::from_hours(4);
    world.vitals.now = world.vitals.now + hours;
    world.restart();
    world.minutes(30, |_| ());
    assert_eq!(world.told, [], "nobody could send");
    world.minutes(120, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence"], "somebody could, and did not");
    world.vitals.now = world.vitals.now + hours;
    world.restart();
    world.minutes(30, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence"], "only an event ends it");
}

#[test]
fn a_clock_that_jumps_is_told_and_neither_reminds_nor_ends_anything() {
    let mut world = World::new();
    world.crm().state = Standing::Held;
    world.minutes(10, |_| ());
    let hours = 5 * 3_600_000;
    world.minute(|world| {
        world.vitals.now = UnixMs(world.vitals.now.0 + hours);
        world.vitals.clock_step_ms = i64::try_from(hours).unwrap();
    });
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down", "problem clock"]);
    assert_eq!(world.watcher.open().len(), 1, "the jump itself is over without a word");
}

#[test]
fn what_is_wrong_with_the_daemon_itself_is_told() {
    let mut world = World::new();
    world.vitals.config_refused = Some("config.toml line 3 server".to_owned());
    world.vitals.store_fault = Some("no space".to_owned());
    world.books().unbalanced = true;
    world.books().damaged_rows = 1;
    world.vitals.free_disk_bytes = Some(9 << 30);
    world.minute(|_| ());
    let mut said = world.said();
    said.sort_unstable();
    assert_eq!(said, ["problem books", "problem config", "problem damage", "problem disk", "problem store"]);
    world.vitals.disk_is_short = true;
    world.minute(|_| ());
    assert_eq!(world.said().last(), Some(&"worse disk"));
}

#[test]
fn what_somebody_wants_so_is_no_problem() {
    let mut world = World::new();
    world.minutes(60, |world| world.attempts(5, 0));
    world.crm().state = Standing::Paused;
    world.crm().owed = 500;
    world.crm().oldest_owed_at = Some(MONDAY);
    world.minutes(1440, |_| ());
    assert_eq!(world.told, []);
}

#[test]
fn one_event_that_is_refused_is_told_by_its_name() {
    let mut world = World::new();
    let (good, bad) = (Tally { rate: 1.0, attempts: 1000 }, Tally { rate: 0.0, attempts: 30 });
    world.minutes(30, |world| {
        world.attempts(100, 1);
        let events = [("deposit", (good, good)), ("trial", (bad, Tally { rate: 0.97, attempts: 1000 }))];
        world.crm().by_event = events.into_iter().map(|(name, tally)| (name.parse().unwrap(), tally)).collect();
    });
    assert_eq!(world.said(), ["problem crm/rate/trial"]);
}

#[test]
fn a_rule_that_is_off_says_nothing() {
    let mut world = World::new();
    world.policy = Policy { held: false, open: None, failures_in_row: None, ..Policy::default() };
    world.crm().state = Standing::Held;
    world.minutes(10, |world| world.attempts(0, 1));
    world.crm().state = Standing::Open;
    world.minutes(10, |_| ());
    assert_eq!(world.told, []);
}

#[test]
fn the_messages_are_short_and_say_what_to_do() {
    let mut world = World::new();
    world.vitals.now = world.vitals.now + MINUTE;
    world.crm().state = Standing::Held;
    world.crm().status = Some(401);
    world.crm().owed = 42;
    let policy = Policy::default();
    let notice = world.watcher.look(&policy, &world.vitals).remove(0);
    let text = |notice: &Notice| {
        format!("{}\n{}", crate::alerts::message::title(notice), crate::alerts::message::body(notice))
    };
    insta::assert_snapshot!(text(&notice), @r"
    ALERT: crm is held
    crm is held: it refuses our credentials (HTTP 401); 42 deliveries waiting, nothing is lost.
    Since 2025-12-01 00:01 UTC.
    To do: postbackd status says why; correct it in the configuration, or: postbackd release crm
    ");
    let later = Notice { kind: NoticeKind::Reminder, at: notice.at + DurationMs::from_hours(2), ..notice.clone() };
    insta::assert_snapshot!(text(&later), @r"
    still, for 2h: crm is held
    crm is held: it refuses our credentials (HTTP 401); 42 deliveries waiting, nothing is lost.
    Since 2025-12-01 00:01 UTC.
    To do: postbackd status says why; correct it in the configuration, or: postbackd release crm
    ");
    let over = Notice { kind: NoticeKind::Recovered, ..later };
    insta::assert_snapshot!(text(&over), @r"
    over: crm is held
    It lasted 2h, since 2025-12-01 00:01 UTC.
    ");
}
