//! The power goes at every single change of a recorded run of the store, and whatever was not synced is lost, kept or torn.
//!
//! A run is some dozen transactions of every kind (`script`) on a disk that remembers its changes (`tape`). For each place
//! of the tape images are made of what the disk may hold there (`image`); each is opened, must tell exactly what it told
//! after the last transaction that was acknowledged or after the one that was under way (`moment`), and its rules between
//! rows must hold. Then some recoveries, and some work that goes on after them, are cut again, up to five deep.
//!
//! `cargo test --test sim` cuts some thousand times. More, on all cores, with a summary:
//! `POSTBACKD_SIM_CUTS=250000 cargo test --release --test sim power_cut -- --nocapture`. One run again:
//! `POSTBACKD_SIM_CUT_SEED=7 cargo test --test sim power_cut -- --nocapture`.

mod damage;
mod image;
mod moment;
mod run;
mod script;
mod tape;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use image::{Image, Keep};
use run::{Hand, Run, Span, Step, difference};
use tape::Fault;

use crate::rng::Rng;

/// Cuts within what came after a cut, one inside the other.
const DEPTH: u32 = 5;
/// Transactions of a run.
const STEPS: u64 = 40;

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    runs: u64,
    cuts: u64,
    /// Of these: with some of the unsynced pieces kept and others not, in another order, within a recovery, and the deepest.
    torn: u64,
    reordered: u64,
    in_recovery: u64,
    nested: u64,
    deepest: u32,
    failed_operations: u64,
    /// Openings that had to write.
    repairs: u64,
    /// Facts that were acknowledged, looked up and found.
    certainties: u64,
    lost: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.cuts += other.cuts;
        self.torn += other.torn;
        self.reordered += other.reordered;
        self.in_recovery += other.in_recovery;
        self.nested += other.nested;
        self.deepest = self.deepest.max(other.deepest);
        self.failed_operations += other.failed_operations;
        self.repairs += other.repairs;
        self.certainties += other.certainties;
        self.lost += other.lost;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, cuts, torn, reordered, in_recovery, nested, deepest, .. } = self;
        let Self { failed_operations, repairs, certainties, lost, .. } = self;
        write!(
            f,
            "{cuts} power cuts in {runs} runs: {torn} torn, {reordered} of them reordered, {in_recovery} inside a recovery, \
             {nested} after another cut (at most {deepest} deep); {failed_operations} failed operations, {repairs} repairs; \
             {certainties} certainties looked up, {lost} lost"
        )
    }
}

/// How much is tried of a run.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Of the places of the tape, in a hundred.
    places: u64,
    /// Images made at a place where something is left to chance.
    images: u64,
}

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Now and then an operation fails, or a sync that forgets what it had to write.
    Failures,
    /// From some place on, syncs lie.
    Lies,
}

fn record(rng: &Rng, trouble: Trouble, sum: &mut Sum) -> Result<Run, String> {
    let mut hand = Hand::create(rng);
    if trouble == Trouble::Lies {
        hand.tape().arm(rng.below(400), Fault::SyncLies);
    }
    for _ in 0..STEPS {
        if trouble == Trouble::Failures && rng.percent(15) {
            let fault = [Fault::Once, Fault::ForGood, Fault::SyncLost][usize::try_from(rng.below(3)).expect("small")];
            hand.tape().arm(rng.below(40), fault);
        }
        sum.failed_operations += u64::from(hand.step(rng)? == Step::Failed);
    }
    hand.tape().mend();
    hand.verify()?;
    hand.close()
}

/// Cuts a run everywhere.
fn explore(run: &Run, effort: Effort, rng: &Rng, sum: &mut Sum) -> Result<(), String> {
    let mut cutter = run.cutter();
    for place in run.begins()..=run.ops.len() {
        if !rng.percent(effort.places) {
            continue;
        }
        cutter.advance(place);
        let span = run.span(place).expect("there is a store");
        let images = if cutter.is_certain() { 1 } else { effort.images };
        for _ in 0..images {
            let keep = Keep::any(rng);
            recover(cutter.cut(keep, rng), span, (keep, 1), rng, sum)
                .map_err(|error| format!("cut at change {place} of {}, {keep:?}: {error}", run.ops.len()))?;
        }
    }
    Ok(())
}

/// The power comes back: what was acknowledged is there, and the work goes on, until the next cut.
fn recover(image: Image, span: &Span, (keep, depth): (Keep, u32), rng: &Rng, sum: &mut Sum) -> Result<(), String> {
    sum.cuts += 1;
    sum.deepest = sum.deepest.max(depth);
    sum.nested += u64::from(depth > 1);
    if let Keep::Torn { reordered, .. } = keep {
        sum.torn += 1;
        sum.reordered += u64::from(reordered);
    }
    let mut hand = Hand::find(image, span.script.clone(), rng)?;
    let opened = hand.tape().position();
    sum.repairs += u64::from(opened > 0);
    if !span.allowed.iter().any(|allowed| **allowed == *hand.moment()) {
        return Err(difference(&span.allowed, hand.moment()));
    }
    sum.certainties += hand.moment().facts();
    if rng.percent(50) {
        hand.verify()?;
    }
    if rng.percent(30) {
        hand.repeat(rng)?;
        for _ in 0..rng.below(4) {
            hand.step(rng)?;
        }
        hand.verify()?;
    }
    if depth == DEPTH || rng.percent(40) {
        hand.drop_dead();
        return Ok(());
    }
    let run = if rng.percent(50) { hand.close()? } else { hand.drop_dead() };
    // Half of the time within the recovery itself.
    let until = if opened > 0 && rng.percent(50) { opened } else { run.ops.len() };
    let place = usize::try_from(rng.below(until as u64 + 1)).expect("small");
    sum.in_recovery += u64::from(place < opened);
    let mut cutter = run.cutter();
    cutter.advance(place);
    let keep = Keep::any(rng);
    let span = run.span(place).expect("it was found");
    recover(cutter.cut(keep, rng), span, (keep, depth + 1), rng, sum).map_err(|error| {
        format!("then at change {place} of {} ({opened} of them recovery), {keep:?}: {error}", run.ops.len())
    })
}

/// One run and all its cuts.
fn attempt(seed: u64, effort: Effort, trouble: Trouble) -> (Sum, Result<(), String>) {
    let (rng, mut sum) = (Rng::new(seed), Sum { runs: 1, ..Sum::default() });
    let result = record(&rng, trouble, &mut sum).and_then(|run| explore(&run, effort, &rng, &mut sum));
    (sum, result)
}

/// Runs of seeds from `first` on all cores, until there were `wanted` cuts.
fn campaign(first: u64, wanted: u64, effort: Effort) -> Sum {
    let (next, total) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while total.lock().expect("no thread panicked").cuts < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let trouble = if seed.is_multiple_of(3) { Trouble::Failures } else { Trouble::None };
                    let (sum, result) = attempt(seed, effort, trouble);
                    if let Err(error) = result {
                        panic!("POSTBACKD_SIM_CUT_SEED={seed} (of a campaign with {effort:?}): {error}");
                    }
                    total.lock().expect("no thread panicked").add(&sum);
                }
            });
        }
    });
    total.into_inner().expect("no thread panicked")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// All places of a run; some of them where there is little time.
const WHOLE: Effort = Effort { places: 100, images: 3 };
const SHARE: Effort = Effort { places: 10, images: 1 };

// Rows 1, 2, 8 and 9: a cut at any change, with any part of what was not synced; another within the recovery, and so on; operations
// and syncs that failed before.
#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let began = Instant::now();
    let sum = if let Some(seed) = number("POSTBACKD_SIM_CUT_SEED") {
        campaign(seed, 1, WHOLE)
    } else if let Some(wanted) = number("POSTBACKD_SIM_CUTS") {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        campaign(since.as_secs() << 20, wanted, WHOLE)
    } else {
        campaign(0, 1200, SHARE)
    };
    println!(
        "{sum}; {} cuts a second",
        sum.cuts * 1000 / u64::try_from(began.elapsed().as_millis()).expect("short").max(1)
    );
    assert_eq!(sum.lost, 0);
    let Sum { torn, reordered, in_recovery, failed_operations, repairs, certainties, deepest, .. } = sum;
    let met = [torn, reordered, in_recovery, failed_operations, repairs, certainties, u64::from(deepest / 3)];
    assert!(sum.cuts < 1000 || met.iter().all(|count| *count > 0), "a run that never met its troubles: {sum:?}");
}

/// Were nothing found here, the explorer would be blind.
#[test]
fn a_sync_that_lies_is_seen_to_lose() {
    let lost = (0..20).filter(|seed| attempt(*seed, SHARE, Trouble::Lies).1.is_err()).count();
    assert!(lost >= 15, "only {lost} of 20 disks that lie were seen to lose something");
}
