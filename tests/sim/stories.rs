//! Stories of one trouble each, longer or larger than chance would make them.

use std::sync::Arc;

use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::lane::Lane;

use crate::peers::Temper;
use crate::setup::{Plan, START, STRANGERS};
use crate::world::World;

fn requests(count: u64, over: DurationMs, together: usize) -> Vec<Vec<Plan>> {
    let at = |identity: u64| START + DurationMs(over.0 * identity / count);
    let plans: Vec<Plan> = (0..count).map(|identity| Plan { identity, variant: 0, at: at(identity) }).collect();
    plans.chunks(together).map(<[Plan]>::to_vec).collect()
}

fn temper(world: &mut World, temper: Temper) {
    for peer in world.peers.values_mut() {
        peer.temper = temper;
    }
}

/// Deliveries in memory, over all lanes.
fn in_memory(world: &World) -> usize {
    world.life.as_ref().map_or(0, |life| life.scheduler.lanes().map(|(_, lane)| Lane::known(lane)).sum())
}

// Rows 38 and 78: every receiver is down for a week. What is too old by then is in the DLQ; a replay of all of it, through a
// crash, delivers every event once it is back.
#[test]
fn a_week_without_any_receiver_loses_nothing() {
    let mut world = World::calm(3, requests(8, DurationMs::from_days(4), 2));
    temper(&mut world, Temper::Down);
    let back = START + DurationMs::from_days(7);
    world.run_until(back);
    let dead = |world: &World| -> u64 {
        let life = world.life.as_ref().expect("alive");
        life.reader.ledger().deliveries.values().map(|counts| counts.failed_permanently).sum()
    };
    assert!(dead(&world) > 10, "only {} gave up", dead(&world));
    world.crash();
    temper(&mut world, Temper::Healthy);
    let mut now = world.now;
    while dead(&world) > world.hopeless() && now < back + DurationMs::from_days(2) {
        now = now + DurationMs::from_secs(60);
        world.run_until(now);
        world.work_off_jobs();
        if world.tally.job_replays == 20 {
            world.crash();
        }
    }
    world.run_until(now + DurationMs::from_days(1));
    assert!(world.is_quiet(), "something is still owed a day after all receivers were back");
    assert_eq!(dead(&world), world.hopeless(), "all that can be delivered is");
    world.final_check();
}

// Rows 34 and 77: far more is due at once than memory holds, and the power goes in the midst of it.
#[test]
fn what_is_due_at_once_is_paged_and_memory_stays_small() {
    let mut world = World::calm(5, requests(900, DurationMs(1), 30));
    temper(&mut world, Temper::Down);
    world.run_until(START + DurationMs::from_secs(20));
    world.crash();
    temper(&mut world, Temper::Healthy);
    let (mut most, mut now) = (0, world.now);
    while !world.is_quiet() && now < START + DurationMs::from_hours(80) {
        now = now + DurationMs(500);
        world.run_until(now);
        most = most.max(in_memory(&world));
    }
    assert!(world.is_quiet(), "something is still owed");
    assert!((10..600).contains(&most), "of 3,500 deliveries {most} were in memory at once");
    world.final_check();
}

// Row 60: a flood of ids that never come again makes nobody's repeat forgotten, nor does a clock that jumps ahead or retention
// that frees room; what makes a repeat is forgotten by its age, and then the same id is another event.
#[test]
fn a_flood_of_ids_makes_no_repeat_forgotten_before_its_time() {
    let senders = || requests(10, DurationMs::from_hours(1), 1);
    let mut world = World::calm(7, senders());
    let window = DurationMs::from_days(2);
    Arc::make_mut(&mut world.snapshot).retention.dedupe = window;
    world.run_until(START + DurationMs::from_hours(2));
    for request in flood(600) {
        world.submit(request);
    }
    world.run_until(START + DurationMs::from_hours(8));
    let first = world.oracle.acknowledged.len();
    assert_eq!(first, 610, "all are there");
    let ten_years = DurationMs::from_days(3650).0.cast_signed();
    for skew in [0, ten_years] {
        world.set_skew(skew);
        for _ in 0..40 {
            world.sweep();
        }
        let known = world.tally.duplicates;
        for request in senders() {
            world.submit(request);
        }
        world.run_until(world.now + DurationMs::from_secs(60));
        assert_eq!(world.tally.duplicates, known + 10, "with a clock that is off by {skew} ms");
    }
    assert!(world.tally.swept_rows > 600 && world.tally.shed_rows > 0, "{:?}", world.tally);
    world.set_skew(0);
    world.final_check();
    world.run_until(START + DurationMs::from_hours(2) + window);
    world.oracle.forget_senders();
    let (known, acknowledged) = (world.tally.duplicates, world.tally.acknowledged);
    for request in senders() {
        world.submit(request);
    }
    world.run_until(world.now + DurationMs::from_hours(1));
    assert_eq!((world.tally.duplicates, world.tally.acknowledged), (known, acknowledged + 10));
}

/// So many ids of strangers, some together.
fn flood(count: u64) -> Vec<Vec<Plan>> {
    let plans: Vec<Plan> =
        (STRANGERS..STRANGERS + count).map(|identity| Plan { identity, variant: 0, at: START }).collect();
    plans.chunks(30).map(<[Plan]>::to_vec).collect()
}

// Rows 30, 31 and 32: the clock is years off when an event comes in and the daemon starts, then right again. Nothing is
// forgotten by it, and nothing waits for years.
#[test]
fn a_clock_that_is_years_off_forgets_nothing_and_delays_nothing() {
    let year = DurationMs::from_days(365).0.cast_signed();
    for (seed, skew) in [(0, 10 * year), (1, -year), (2, 5000 - START.0.cast_signed())] {
        let mut world = World::calm(seed, requests(20, DurationMs::from_hours(1), 1));
        temper(&mut world, Temper::Locked);
        world.run_until(START + DurationMs(1_500_000));
        world.set_skew(skew);
        world.crash();
        world.run_until(world.now + DurationMs(600_000));
        // With an event that was received by the wrong clock.
        world.crash();
        world.sweep();
        temper(&mut world, Temper::Healthy);
        world.run_until(world.now + DurationMs::from_hours(2));
        world.set_skew(0);
        // Every sender comes again, and each is told that its event is there.
        for request in requests(20, DurationMs::from_hours(1), 1) {
            let stored = world.oracle.acknowledged.len();
            world.submit(request);
            world.run_until(world.now + DurationMs::from_secs(1));
            assert_eq!(world.oracle.acknowledged.len(), stored);
        }
        let end = world.now + DurationMs::from_hours(30);
        world.run_until(end);
        assert!(world.is_quiet(), "clock off by {skew} ms: something is still owed after {}", UnixMs(end.0));
        world.final_check();
    }
}
