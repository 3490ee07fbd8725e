//! The lives of the process: each begins with a start that knows nothing but what is on the disk, and ends with the power, by
//! a kill, or by itself where the disk has failed under the store. Such a store is suspect, and the next start reads all of
//! it first. A commit that merely found no room is no end: the file is opened again.

use postbackd::domain::dedupe::HashKey;
use postbackd::domain::id::InstanceId;
use postbackd::domain::name::DestinationName;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::{Committer, Request};
use postbackd::pipeline::guarded::GuardedClock;
use postbackd::pipeline::scheduler::{Input, Scheduler};
use postbackd::store::read::Reader;
use postbackd::store::{Options, Store, StoreError};

use crate::disk::{Disk, Fault};
use crate::rng::Rng;
use crate::world::{Happening, Medium, Phase, Waiting, World};

const MINUTE: u64 = 60_000;
const OPTIONS: Options = Options { cache: 1024 * 1024 };
/// Commits after a trouble of the disk that are looked at as a power cut would leave them.
const LOOKED_AT: u32 = 2;

/// One run of the daemon between its start and its end.
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) committer: Committer,
    /// The store could not be opened again yet.
    pub(super) closed: bool,
    /// Commits in a row that have failed.
    failures: u32,
    pub(super) reader: Reader,
    pub(super) scheduler: Scheduler,
    /// What each of its lanes has room for.
    pub(super) capacity: usize,
    pub(super) instance: InstanceId,
    pub(super) hash_key: HashKey,
    pub(super) guard: GuardedClock,
    pub(super) queue: Vec<Request<Waiting>>,
    pub(super) commit_planned: bool,
    pub(super) tick_at: Option<UnixMs>,
}

/// The store on a disk; what is wrong with it, in words. Half of the files are taken for large ones, of which only calm
/// transactions leave what an opening after a crash needs.
fn open(disk: &Disk, is_large: bool, rng: &Rng) -> Result<Store, String> {
    let disk = disk.clone();
    let store = Store::open_backend(move || Ok(disk.clone()), OPTIONS, rng).map_err(|error| error.to_string())?;
    Ok(if is_large { store.quick_up_to(0) } else { store })
}

impl World {
    pub(super) fn is_alive(&self, life: u64) -> bool {
        self.life.as_ref().is_some_and(|alive| alive.number == life)
    }

    /// The power goes, and comes back some time later.
    pub(super) fn crash(&mut self) {
        self.tally.power_cuts += 1;
        // Nobody closes the file.
        self.disk.cut_off();
        drop(self.end_life());
        self.disk.cut_power(&self.rng);
        // Now and then it goes again before the daemon runs.
        if self.phase == Phase::Trouble && self.rng.percent(20) {
            self.disk.arm(self.rng.below(8), Fault::PowerCut);
        }
        let down = self.rng.between(0, 2 * MINUTE);
        self.now = self.now + DurationMs(down);
        self.start();
    }

    /// The process dies and nothing else: what it wrote is there, synced or not.
    pub(super) fn kill(&mut self) {
        if self.life.is_none() {
            return;
        }
        self.tally.kills += 1;
        // Nobody closes the file.
        self.disk.cut_off();
        drop(self.end_life());
        self.disk.plug_in();
        self.start();
    }

    /// Whatever was in memory is gone, and nobody is answered.
    pub(super) fn end_life(&mut self) -> Option<Life> {
        let mut life = self.life.take();
        let queue = life.as_mut().map(|life| std::mem::take(&mut life.queue)).unwrap_or_default();
        for waiting in queue.into_iter().filter_map(|request| request.reply) {
            self.refuse(waiting);
        }
        self.oracle.crashed();
        life
    }

    /// The process ends by itself, and the service manager starts it again.
    fn end_by_itself(&mut self) {
        drop(self.end_life());
        let pause = self.rng.between(1000, 10_000);
        self.plan_in(pause, Happening::Start);
    }

    /// A commit or a sweep failed.
    pub(super) fn recover(&mut self, error: &StoreError) {
        if self.disk.is_dead() {
            self.tally.cuts_in_commit += 1;
            return self.crash();
        }
        let Some(life) = &mut self.life else { return };
        life.failures += 1;
        match error {
            StoreError::Medium(_) => {
                self.tally.ends += 1;
                assert!(life.committer.store().medium_fault().is_some(), "the failure of the disk is forgotten");
                assert!(life.committer.store().seal().is_err(), "written to a disk that has failed");
                self.medium = Medium::Suspect;
                self.end_by_itself();
            }
            StoreError::Failed(_) if life.failures > 1 => self.end_by_itself(),
            StoreError::Full(_) | StoreError::Failed(_) => self.reopen(),
        }
    }

    /// As the writer does: opens the file again until it works, and looks at everything again.
    pub(super) fn reopen(&mut self) {
        self.calm_down();
        let Some(life) = &mut self.life else { return };
        life.closed = life.committer.reopen().is_err();
        if life.closed {
            self.tally.failed_reopens += 1;
            let number = life.number;
            let pause = self.rng.between(1000, 10_000);
            return self.plan_in(pause, Happening::Recover { life: number });
        }
        self.check_acknowledged();
        self.looked_at = LOOKED_AT;
        self.look_at_a_cut();
        self.tell_pauses();
        self.step(Input::Rescan);
        self.plan_commit();
    }

    /// It worked; for some time after a failure it is looked at closely, and now and then without one.
    pub(super) fn committed(&mut self) {
        if let Some(life) = &mut self.life {
            life.failures = 0;
        }
        if self.looked_at > 0 || self.rng.percent(1) {
            self.looked_at = self.looked_at.saturating_sub(1);
            self.look_at_a_cut();
        }
    }

    /// Were the power cut now, whatever was acknowledged would be there.
    fn look_at_a_cut(&mut self) {
        self.tally.images += 1;
        let disk = self.disk.after_a_cut(&self.rng);
        let store = open(&disk, self.is_large, &self.rng);
        let store = store.unwrap_or_else(|error| panic!("it would not open after a power cut: {error}"));
        let findings = store.reader().verify().expect("readable");
        assert!(findings.is_empty(), "after a power cut there would be: {findings:#?}");
        self.check_stored(&store.reader());
    }

    /// The service manager starts the daemon, again and again until it runs.
    pub(super) fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        let before = self.disk.failures();
        if let Err(why) = self.try_to_start() {
            if self.disk.is_dead() {
                self.tally.cuts_in_start += 1;
                return self.crash();
            }
            let failed = self.disk.failures();
            assert!(failed != before, "the store does not open on a sound disk: {why}");
            if failed.medium != before.medium {
                self.medium = Medium::Suspect;
            }
            self.tally.failed_starts += 1;
            let pause = self.rng.between(5000, 60_000);
            self.plan_in(pause, Happening::Start);
        }
    }

    fn try_to_start(&mut self) -> Result<(), String> {
        if self.medium == Medium::Suspect {
            self.read_everything()?;
        }
        let mut store = open(&self.disk, self.is_large, &self.rng)?;
        let reader = store.reader();
        let findings = reader.verify().expect("readable");
        assert!(findings.is_empty(), "after a restart: {findings:#?}");
        let names: Vec<DestinationName> = self.snapshot.destinations.keys().cloned().collect();
        self.ids = store.number_destinations(&names).map_err(|error| error.to_string())?;
        let pauses = reader.pauses().expect("readable");
        self.oracle.pausing.restarted(&pauses);
        self.oracle.alerts_found(&reader.alerts().expect("readable"));
        let known = store.known_time().expect("readable");
        let guard = GuardedClock::new(known, self.wall(), self.monotonic());
        store.keep_first_time(guard.known(self.monotonic())).map_err(|error| error.to_string())?;
        self.lives += 1;
        self.granted.clear();
        self.calm_down();
        let rules = self.rules();
        // Often less than what is owed, so that lanes live from page to page.
        let capacity = usize::try_from(self.rng.between(2, 40)).expect("small");
        self.life = Some(Life {
            number: self.lives,
            reader,
            instance: store.instance(),
            hash_key: store.hash_key(),
            guard,
            committer: Committer::new(store),
            closed: false,
            failures: 0,
            scheduler: Scheduler::with_capacity(rules, capacity, self.wall()).with_pauses(pauses),
            capacity,
            queue: Vec::new(),
            commit_planned: false,
            tick_at: None,
        });
        self.check_acknowledged();
        self.step(Input::Tick);
        Ok(())
    }

    /// What a start does beside the mark that a failed disk has left: it reads every page and every row as the medium has
    /// them, and the mark goes.
    fn read_everything(&mut self) -> Result<(), String> {
        let keeps = self.rng.percent(25);
        self.disk.forget_cached(keeps).map_err(|error| error.to_string())?;
        let dir = tempfile::tempdir().expect("a directory");
        let mark = dir.path().join("postbackd.suspect");
        std::fs::write(dir.path().join("postbackd.redb"), self.disk.bytes()).expect("room for it");
        std::fs::write(&mark, "simulated").expect("room for it");
        let store = Store::open(dir.path(), OPTIONS, &*self.rng);
        let store = store.unwrap_or_else(|error| panic!("a sound store is refused after its disk failed: {error}"));
        assert!(!mark.exists(), "the mark stays");
        self.check_stored(&store.reader());
        self.medium = Medium::Trusted;
        self.tally.checked_media += 1;
        Ok(())
    }
}
