//! What ends without being over: what nobody watches any more is told as closed, what cannot be seen is left alone.

use super::*;
use crate::alerts::message;
use crate::alerts::vitals::BackupVitals;
use crate::domain::alert::Why;

/// A held destination that was told.
fn held() -> World {
    let mut world = World::new();
    world.policy.remind = None;
    world.crm().state = Standing::Held;
    world.crm().owed = 3;
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down"]);
    world
}

#[test]
fn a_held_destination_that_is_paused_is_closed_and_not_over() {
    let mut world = held();
    world.crm().state = Standing::Paused;
    world.minutes(600, |_| ());
    assert_eq!(world.said(), ["problem crm/down", "closed crm/down"]);
    // Whoever resumes it wants to hear it if it was not mended.
    world.crm().state = Standing::Held;
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down", "closed crm/down", "problem crm/down"]);
}

#[test]
fn a_pause_shorter_than_settle_closes_nothing() {
    let mut world = held();
    world.minute(|world| world.crm().state = Standing::Paused);
    world.minute(|world| world.crm().state = Standing::Sends);
    world.minutes(10, |world| world.crm().state = Standing::Held);
    assert_eq!(world.said(), ["problem crm/down"]);
}

#[test]
fn what_a_paused_destination_was_behind_with_is_closed_and_its_dlq_goes_on() {
    let mut world = World::new();
    world.policy.remind = None;
    world.crm().owed = 5;
    world.crm().dlq = 200;
    world.crm().oldest_owed_at = Some(MONDAY);
    world.minutes(70, |_| ());
    assert_eq!(world.said(), ["problem crm/dlq", "problem crm/oldest"]);
    world.crm().state = Standing::Disabled;
    world.minutes(70, |_| ());
    assert_eq!(world.said()[2..], ["closed crm/oldest"]);
    world.minute(|world| world.crm().dlq = 0);
    world.minutes(5, |_| ());
    assert_eq!(world.said()[3..], ["recovered crm/dlq"]);
}

#[test]
fn what_left_the_configuration_is_closed_and_an_orphan_that_is_owed_nothing_is_over() {
    let mut world = held();
    *world.app() += 1;
    world.policy.silence.as_mut().unwrap().sources.insert("app".parse().unwrap(), Some(DurationMs::from_secs(300)));
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["problem source/app/silence"]);
    world.books().sources.clear();
    world.books().destinations.clear();
    world.minutes(10, |_| ());
    assert_eq!(world.said()[2..], ["closed crm/down", "closed source/app/silence"]);
    // Removed while it is owed something, it is an orphan until that is purged.
    let mut world = held();
    world.crm().state = Standing::Orphaned;
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down"], "it is the same problem in another form");
    assert_eq!(world.watcher.open()[0].rule, Rule::Orphaned);
    world.books().destinations.clear();
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["recovered crm/down"]);
}

#[test]
fn a_rule_that_is_switched_off_closes_what_it_found() {
    let mut world = held();
    world.vitals.config_refused = Some("config.toml".to_owned());
    world.crm().dlq = 200;
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["problem config", "problem crm/dlq"]);
    let off = Policy { held: false, config: false, dlq_depth: None, dlq_growth: None, ..Policy::default() };
    world.policy = Policy { remind: None, ..off };
    world.minutes(10, |_| ());
    assert_eq!(world.said()[3..], ["closed config", "closed crm/dlq", "closed crm/down"]);
    // Also where what it found is known by what it is still owed only.
    let mut world = held();
    world.crm().state = Standing::Sends;
    world.policy.held = false;
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["closed crm/down"]);
    // And an orphan that nobody wants to hear of.
    let mut world = held();
    world.crm().state = Standing::Orphaned;
    world.crm().streak = Streak { failures: 9, since: Some(MONDAY), ..Streak::default() };
    world.policy.orphaned = false;
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["closed crm/down"]);
}

#[test]
fn a_source_that_may_be_silent_from_now_on_is_closed() {
    let mut world = World::new();
    let limit = |world: &mut World, limit| {
        world.policy.silence.as_mut().unwrap().sources.insert("app".parse().unwrap(), limit);
    };
    limit(&mut world, Some(DurationMs::from_secs(300)));
    world.minute(|world| *world.app() += 1);
    world.minutes(10, |_| ());
    limit(&mut world, None);
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem source/app/silence", "closed source/app/silence"]);
}

#[test]
fn a_rate_that_nothing_is_left_to_judge_by_is_closed() {
    let mut world = World::new();
    world.policy = Policy { remind: None, failures_in_row: None, ..Policy::default() };
    world.minutes(60, |world| world.attempts(1, 1));
    assert_eq!(world.said(), ["problem crm/rate"]);
    world.minutes(1440 + 60, |_| ());
    assert_eq!(world.said()[1..], ["closed crm/rate"]);
}

#[test]
fn a_look_that_cannot_read_the_books_ends_nothing_and_forgets_nothing() {
    let mut world = held();
    world.minutes(1440 * 5 + 600, day_and_night);
    world.crm().dlq = 200;
    world.books().unbalanced = true;
    world.minutes(10, |world| *world.app() += 1);
    let before = world.said().len();
    let books = world.vitals.books.take();
    world.vitals.store_fault = Some("input/output error".to_owned());
    world.minutes(30, |_| ());
    assert_eq!(world.said()[before..], ["problem store"]);
    world.vitals.books = books;
    world.vitals.store_fault = None;
    world.minutes(10, |world| *world.app() += 1);
    assert_eq!(world.said()[before..], ["problem store", "recovered store"]);
    // The days of the source are still known.
    world.minutes(200, |_| ());
    assert_eq!(world.said()[before + 2..], ["problem source/app/silence"]);
}

#[test]
fn nobody_to_tell_forgets_what_was_told_and_somebody_new_is_told_what_is_wrong_then() {
    let mut world = held();
    assert!(world.watcher.take_changed());
    assert_eq!(world.watcher.close().len(), 1);
    assert!(world.watcher.take_changed(), "it has to be kept that nothing is open");
    assert_eq!(world.watcher.memory().open, []);
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem crm/down", "problem crm/down"]);
}

#[test]
fn whoever_heard_of_a_problem_hears_of_its_end_and_nobody_hears_twice_that_it_got_worse() {
    let mut world = World::new();
    world.crm().state = Standing::Open;
    world.minutes(5, |_| ());
    world.minutes(5, |world| world.crm().state = Standing::Held);
    // From critical to a warning and back: what was told is not told again.
    world.minutes(5, |world| world.crm().state = Standing::Open);
    world.minutes(5, |world| world.crm().state = Standing::Held);
    world.minutes(5, |world| world.crm().state = Standing::Open);
    assert_eq!(world.said(), ["problem crm/down", "worse crm/down"]);
    let now = &world.watcher.open()[0];
    assert_eq!((now.severity, now.worst), (Severity::Warning, Severity::Critical));
    let end = Notice { kind: NoticeKind::Recovered, problem: now.clone(), at: world.vitals.now };
    assert!(end.concerns(Severity::Critical));
    let reminder = Notice { kind: NoticeKind::Reminder, ..end };
    assert!(!reminder.concerns(Severity::Critical) && reminder.concerns(Severity::Warning));
}

#[test]
fn what_is_closed_says_why() {
    let mut world = held();
    let problem = world.watcher.open().remove(0);
    let silent = Problem { id: "source/app/silence".to_owned(), rule: Rule::Silence, ..problem.clone() };
    let rate = Problem { id: "crm/rate/deposit".to_owned(), rule: Rule::SuccessRate, ..problem.clone() };
    let text = |problem: &Problem, why| {
        let at = problem.since + DurationMs::from_hours(3);
        let notice = Notice { kind: NoticeKind::Closed(why), problem: problem.clone(), at };
        format!("{}\n{}\n", message::title(&notice), message::body(&notice))
    };
    let said = [
        text(&problem, Why::Paused),
        text(&problem, Why::Disabled),
        text(&silent, Why::Removed),
        text(&silent, Why::RuleOff),
        text(&rate, Why::RuleOff),
        text(&rate, Why::Idle),
    ];
    insta::assert_snapshot!(said.concat());
    world.crm().state = Standing::Orphaned;
    world.minute(|_| ());
    let remedy =
        "put it back under its name, and what waits is sent; or give that up: postbackd purge crm --reason TEXT";
    assert_eq!(world.watcher.open()[0].remedy, remedy);
}

#[test]
fn backups_that_fail_are_told_and_switched_off_they_are_closed_and_not_over() {
    let mut world = World::new();
    world.policy.remind = None;
    world.vitals.backups = BackupVitals::Trouble("the last automatic backup failed: no room".to_owned());
    world.minutes(10, |_| ());
    assert_eq!(world.said(), ["problem backup"]);
    world.vitals.backups = BackupVitals::Well;
    world.minutes(10, |_| ());
    assert_eq!(world.said()[1..], ["recovered backup"]);
    world.vitals.backups = BackupVitals::Trouble("no automatic backup since yesterday".to_owned());
    world.minutes(10, |_| ());
    world.vitals.backups = BackupVitals::Off;
    world.minutes(10, |_| ());
    assert_eq!(world.said()[2..], ["problem backup", "closed backup"]);
}
