//! The machine and the daemon itself: disk, configuration, clock; and how often anything is told.

use super::*;

#[test]
fn low_disk_is_told_before_events_are_refused_and_is_over_with_a_tenth_more() {
    let mut world = World::new();
    let gib = |tenths: u64| Some((tenths << 30) / 10);
    world.vitals.free_disk_bytes = gib(100);
    world.minutes(5, |_| ());
    assert_eq!(world.told, [], "twice the reserve is enough");
    world.vitals.free_disk_bytes = gib(99);
    world.minutes(5, |_| ());
    assert_eq!(world.said(), ["problem disk"]);
    assert_eq!(world.watcher.open()[0].severity, Severity::Warning);
    world.vitals.free_disk_bytes = gib(109);
    world.minutes(5, |_| ());
    assert_eq!(world.said(), ["problem disk"], "a file that comes and goes ends nothing");
    world.vitals.disk_is_short = true;
    world.minutes(5, |_| ());
    assert_eq!(world.said()[1..], ["worse disk"]);
    assert_eq!(world.watcher.open()[0].severity, Severity::Critical);
    (world.vitals.disk_is_short, world.vitals.free_disk_bytes) = (false, gib(110));
    world.minutes(5, |_| ());
    assert_eq!(world.said()[2..], ["recovered disk"]);
    world.policy.disk = Some(DiskRule::Below(12 << 30));
    world.minutes(5, |_| ());
    assert_eq!(world.said()[3..], ["problem disk"], "by a bound of one's own");
}

#[test]
fn a_configuration_that_is_refused_is_told_with_its_place_and_its_correction_too() {
    let mut world = World::new();
    world.vitals.config_refused = Some("config.toml line 3 server.listen".to_owned());
    world.minutes(5, |_| ());
    assert_eq!(world.said(), ["problem config"]);
    let problem = &world.watcher.open()[0];
    assert!(problem.text.ends_with("see config.toml line 3 server.listen"), "{problem:?}");
    world.vitals.config_refused = None;
    world.minutes(5, |_| ());
    assert_eq!(world.said()[1..], ["recovered config"]);
}

#[test]
fn reminders_come_ever_more_seldom_and_at_least_once_in_remind_max() {
    let mut world = World::new();
    world.policy.remind = Some((DurationMs::from_hours(1), DurationMs::from_hours(6)));
    world.crm().state = Standing::Held;
    world.minutes(60 * 30, |_| ());
    let hours: Vec<u64> = world.told.iter().map(|(at, _)| (at - 1) / 60).collect();
    assert_eq!(hours, [0, 1, 3, 7, 13, 19, 25], "after 1, 2, 4, then every 6 hours");
    assert!(world.said()[1..].iter().all(|text| *text == "reminder crm/down"));
    world.policy.remind = None;
    world.minutes(60 * 30, |_| ());
    assert_eq!(world.told.len(), 7);
}

#[test]
fn what_is_over_is_told_once_and_what_comes_back_within_settle_was_never_over() {
    let mut world = World::new();
    world.policy.settle = DurationMs::from_secs(600);
    world.vitals.config_refused = Some("config.toml".to_owned());
    world.minutes(5, |_| ());
    for _ in 0..5 {
        world.vitals.config_refused = None;
        world.minutes(9, |_| ());
        world.vitals.config_refused = Some("config.toml".to_owned());
        world.minutes(2, |_| ());
    }
    assert_eq!(world.said(), ["problem config"]);
    world.vitals.config_refused = None;
    world.minutes(60, |_| ());
    assert_eq!(world.said(), ["problem config", "recovered config"]);
}

/// An event every ten minutes of the day, of which a look sees one in ten.
fn every_ten_minutes(world: &mut World) {
    let minute = world.vitals.now.since(MONDAY).0 / MINUTE.0;
    *world.app() += u64::from(minute.is_multiple_of(10));
}

fn jump(world: &mut World, minutes: i64) {
    let step = minutes * 60_000;
    world.vitals.now = UnixMs(world.vitals.now.0.checked_add_signed(step).unwrap());
    world.vitals.clock_step_ms = step;
    world.minute(every_ten_minutes);
}

#[test]
fn a_clock_that_jumps_ahead_makes_no_source_silent() {
    let mut world = World::new();
    world.minutes(1440 * 5 + 601, every_ten_minutes);
    jump(&mut world, 5 * 60);
    world.minutes(30, every_ten_minutes);
    assert_eq!(world.said(), ["problem clock"]);
}

#[test]
fn a_clock_that_is_set_back_forgets_no_rhythm() {
    let mut world = World::new();
    world.policy.remind = None;
    world.minutes(1440 * 5 + 601, every_ten_minutes);
    jump(&mut world, -40);
    world.minutes(60, every_ten_minutes);
    assert_eq!(world.said(), ["problem clock"]);
    world.minutes(240, |_| ());
    assert_eq!(world.said()[1..], ["problem source/app/silence"]);
}

/// The clock jumps `days` ahead, and is doubted from then on.
fn doubted(world: &mut World, days: u64) {
    let (ahead, left) = (DurationMs::from_days(days), DurationMs::from_hours(72));
    world.vitals.clock_doubt = Some(ClockDoubt { ahead, left });
    jump(world, i64::try_from(days).unwrap() * 1440);
}

// Row 30.
#[test]
fn a_doubted_clock_is_told_once_in_place_of_its_step_and_is_over_when_the_doubt_is() {
    let mut world = World::new();
    world.policy.remind = None;
    world.minutes(5, |_| ());
    doubted(&mut world, 3652);
    world.minutes(60, |_| ());
    world.restart();
    world.minutes(5, |_| ());
    assert_eq!(world.said(), ["problem clock/doubted"], "its step and a restart tell nothing more");
    let problem = &world.watcher.open()[0];
    assert_eq!((problem.rule, problem.severity), (Rule::Clock, Severity::Warning));
    assert!(problem.title.contains("3652d") && problem.text.contains("nothing expires"), "{problem:?}");
    world.vitals.clock_doubt = None;
    world.minutes(5, |_| ());
    assert_eq!(world.said()[1..], ["recovered clock/doubted"]);
}

// Row 30.
#[test]
fn a_doubted_clock_that_is_set_right_is_over_and_its_step_back_is_told() {
    let mut world = World::new();
    doubted(&mut world, 40);
    world.vitals.clock_doubt = None;
    jump(&mut world, -40 * 1440);
    world.minutes(5, |_| ());
    assert_eq!(world.said(), ["problem clock/doubted", "problem clock", "recovered clock/doubted"]);
}

#[test]
fn a_doubted_clock_is_not_told_where_the_rule_is_off() {
    let mut world = World::new();
    world.policy.clock = None;
    doubted(&mut world, 40);
    world.minutes(5, |_| ());
    assert_eq!(world.told, []);
}

#[test]
fn a_dlq_that_grew_before_a_restart_is_not_told_as_over_by_it() {
    let mut world = World::new();
    world.policy = Policy { remind: None, failures_in_row: None, ..Policy::default() };
    world.minutes(70, |_| ());
    world.minutes(20, |world| world.crm().dlq += 1);
    assert_eq!(world.said(), ["problem crm/growth"]);
    world.restart();
    world.minutes(55, |_| ());
    assert_eq!(world.said(), ["problem crm/growth"]);
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["recovered crm/growth"]);
}
