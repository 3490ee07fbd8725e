//! The writer on a disk that fails on command: who is told what, and what is on disk then.

use std::collections::VecDeque;
use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::*;
use crate::domain::dedupe::Discriminator;
use crate::domain::delivery::State;
use crate::domain::event::{Event, tests::sample};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::outcome::Disposition;
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::UnixMs;
use crate::env::entropy::Entropy;
use crate::pipeline::control::Pauses;
use crate::store::read::Reader;
use crate::store::write::{Accept, Applied, Planned, Settle};
use crate::store::{Options, StorageBackend, Store};

const FIRST: DeliveryKey = DeliveryKey { seq: EventSeq(1), destination: DestinationId(1) };
const NOW: UnixMs = UnixMs(1_764_000_000_000);

struct Fixed;

impl Entropy for Fixed {
    fn next_u64(&self) -> u64 {
        7
    }
}

/// A clock on which a millisecond passes with every look.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> UnixMs {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// One operation finds the disk full.
    FullOnce,
    /// One operation fails.
    Broken,
    /// Every operation from then on fails.
    Dead,
    /// Every operation from then on finds the disk full.
    Full,
    /// One operation meets a defect of ours, or of the engine.
    Panic,
}

#[path = "writer_lost_tests.rs"]
mod lost;
#[path = "writer_numbering_tests.rs"]
mod numbering_tests;
#[path = "writer_panic_tests.rs"]
mod panics;
#[path = "writer_rush_tests.rs"]
mod rush;

/// A disk in memory that knows what would survive a power cut.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    live: Vec<u8>,
    durable: Vec<u8>,
    fuse: Option<(u64, Fault)>,
    fault: Option<Fault>,
    /// Reading fails.
    unreadable: bool,
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some((0, fault)) => {
                self.fault = Some(*fault);
                self.fuse = None;
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        match self.fault {
            None => Ok(()),
            Some(Fault::Full) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(Fault::Dead) => Err(io::Error::other("bad sector")),
            Some(Fault::FullOnce) => {
                self.fault = None;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Some(Fault::Broken | Fault::Panic) => {
                self.fault = None;
                Err(io::Error::other("bad sector"))
            }
        }
    }
}

impl Disk {
    fn fail_after(&self, operations: u64, fault: Fault) {
        self.0.lock().unwrap().fuse = Some((operations, fault));
    }

    /// The platter for one operation, unless it fails.
    fn step(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.0.lock().unwrap();
        let panics = matches!(platter.fuse, Some((0, Fault::Panic)));
        let stepped = platter.step();
        if panics {
            // Not with the platter in our hands: others would find it poisoned.
            drop(platter);
            panic!("a defect");
        }
        stepped.map(|()| platter)
    }

    fn mend(&self) {
        let mut platter = self.0.lock().unwrap();
        platter.fault = None;
        platter.fuse = None;
    }

    /// The disk as it is after a power cut.
    fn cut(&self) -> Self {
        let durable = self.0.lock().unwrap().durable.clone();
        Self(Arc::new(Mutex::new(Platter { live: durable.clone(), durable, ..Platter::default() })))
    }

    fn store(&self) -> Store {
        self.store_with(1 << 20)
    }

    fn store_with(&self, cache: usize) -> Store {
        let disk = self.clone();
        Store::open_backend(move || Ok(disk.clone()), Options { cache }, &Fixed).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.lock().unwrap().live.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let platter = self.0.lock().unwrap();
        if platter.unreadable {
            return Err(io::Error::other("bad sector"));
        }
        out.copy_from_slice(&platter.live[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.step()?;
        platter.live.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.step()?;
        platter.durable = platter.live.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.step()?;
        let start = usize::try_from(offset).unwrap();
        platter.live[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A writer at work on a thread of its own.
struct Bench {
    disk: Disk,
    reader: Reader,
    hash_key: crate::domain::dedupe::HashKey,
    commands: mpsc::Sender<Command>,
    facts: Facts,
    board: Arc<Board>,
    clock: Arc<Ticking>,
    thread: JoinHandle<Result<(), WriterFault>>,
}

/// What the driver is told, one by one.
struct Facts {
    told: mpsc::Receiver<Vec<Input>>,
    next: VecDeque<Input>,
}

impl Facts {
    fn blocking_recv(&mut self) -> Option<Input> {
        if self.next.is_empty() {
            self.next.extend(self.told.blocking_recv()?);
        }
        self.next.pop_front()
    }

    fn try_recv(&mut self) -> Result<Input, mpsc::error::TryRecvError> {
        if self.next.is_empty() {
            self.next.extend(self.told.try_recv()?);
        }
        self.next.pop_front().ok_or(mpsc::error::TryRecvError::Empty)
    }
}

type Answer = Result<Vec<Applied>, Unavailable>;

impl Bench {
    fn new() -> Self {
        Self::with_reserve(0)
    }

    fn with_reserve(reserve: u64) -> Self {
        Self::with(reserve, 1 << 20)
    }

    fn with(reserve: u64, cache: usize) -> Self {
        let disk = Disk::default();
        let store = disk.store_with(cache);
        Self::over(store, disk, reserve)
    }

    fn over(store: Store, disk: Disk, reserve: u64) -> Self {
        let (reader, hash_key) = (store.reader(), store.hash_key());
        let (commands, commands_rx) = mpsc::channel(64);
        let (facts_tx, told) = mpsc::channel(1024);
        let facts = Facts { told, next: VecDeque::new() };
        let (board, clock) = (Arc::new(Board::default()), Arc::new(Ticking::default()));
        let writer = Writer {
            committer: Committer::new(store),
            commands: commands_rx,
            facts: facts_tx,
            rejected: Rejected::default(),
            board: Arc::clone(&board),
            clock: Arc::<Ticking>::clone(&clock),
            disk: DiskGuard::new(std::env::temp_dir(), Some(reserve)),
            pause: Duration::from_millis(1),
            looked_at: None,
            rarely: Rarely::default(),
            stopping: false,
            outcomes: Outcomes::default(),
            background: Background::default(),
            seal: Seal::default(),
            numbering: Numbering::default(),
        };
        let thread = std::thread::spawn(move || writer.run());
        Self { disk, reader, hash_key, commands, facts, board, clock, thread }
    }

    fn ask(&self, op: WriteOp) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.commands.blocking_send(Command::Write(Request { ops: vec![op], reply: Some(reply) })).ok();
        answer
    }

    /// Sends an event and waits for what the sender is told.
    fn accept(&self, id: &str) -> Answer {
        self.ask(self.event(id)).blocking_recv().unwrap_or(Err(Unavailable::Stopping))
    }

    fn event(&self, id: &str) -> WriteOp {
        let event = Arc::new(Event { event_id: Some(id.to_owned()), received_at: NOW, ..sample() });
        let key = self.hash_key.dedupe_key(&event, &Discriminator::EventId(id.to_owned()));
        let content = self.hash_key.content(&event);
        let owe = Planned::Owe { destination: FIRST.destination, target: "Purchase".parse().unwrap() };
        let (heard_at, repeat_since) = (event.received_at, UnixMs(0));
        WriteOp::Accept(Accept { event, key, content, heard_at, repeat_since, plan: vec![owe] })
    }

    /// An outcome, as the driver hands it over: nobody waits.
    fn settle(&self) {
        self.hand_over(vec![sent(FIRST)]);
    }

    fn hand_over(&self, ops: Vec<WriteOp>) {
        self.commands.blocking_send(Command::Write(Request { ops, reply: None })).unwrap();
    }

    /// The store was opened again: the pauses there are, then everything is looked at again.
    #[track_caller]
    fn reopened(&mut self) -> Pauses {
        let Some(Input::Control(Control::Pauses(pauses))) = self.facts.blocking_recv() else { panic!("no pauses") };
        assert!(matches!(self.facts.blocking_recv(), Some(Input::Rescan)), "everything is looked at again");
        pauses
    }

    fn stop(self) -> Result<(), WriterFault> {
        self.commands.blocking_send(Command::Stop).ok();
        self.thread.join().unwrap()
    }
}

fn sent(key: DeliveryKey) -> WriteOp {
    WriteOp::Settle(Settle { key, due_at: NOW, at: NOW, attempt: None, disposition: Disposition::Sent, autopsy: None })
}

// Row 1.
#[test]
fn what_ends_the_process_is_said_in_one_even_line() {
    let said = WriterFault::Medium("EIO".to_owned()).to_string();
    assert!(said.contains("EIO") && !said.contains("  ") && !said.contains('\n'), "{said}");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let mut acknowledged = 0;
    for operations in 0..80 {
        let bench = Bench::new();
        bench.disk.fail_after(operations, Fault::Dead);
        let answer = bench.accept("a");
        // What is on disk at the moment of the answer: stopping would sync it.
        let disk = bench.disk.cut();
        let found = disk.store().reader().event(FIRST.seq).unwrap();
        if answer.is_ok() {
            acknowledged += 1;
            assert!(found.is_some(), "acknowledged and lost, cut after {operations} operations");
        }
        assert_eq!(disk.store().reader().verify().unwrap(), Vec::<String>::new());
        bench.disk.mend();
        drop(bench.stop());
    }
    assert!((1..80).contains(&acknowledged), "{acknowledged} of 80: cuts have to hit commits and miss them");
}

// Rows 4 and 5.
#[test]
fn a_failed_commit_is_never_answered_with_a_receipt_and_the_repeat_is() {
    let mut bench = Bench::new();
    bench.disk.fail_after(0, Fault::FullOnce);
    assert!(matches!(bench.accept("a"), Err(Unavailable::Store(_))));
    // Until it is open again.
    let applied = std::iter::repeat_with(|| bench.accept("a")).find_map(Result::ok).unwrap();
    assert!(matches!(applied[..], [Applied::Queued(_) | Applied::Duplicate { .. }]), "{applied:?}");
    bench.reopened();
    bench.stop().unwrap();
}

#[test]
fn an_outcome_whose_commit_failed_is_committed_after_reopening() {
    let mut bench = Bench::new();
    bench.accept("a").unwrap();
    bench.disk.fail_after(0, Fault::FullOnce);
    bench.settle();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Owed(_))));
    bench.reopened();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Settled { key: FIRST, owed: None })));
    assert!(matches!(bench.reader.delivery(FIRST).unwrap().unwrap().state, State::Sent { .. }));
    bench.stop().unwrap();
}

#[test]
fn an_outcome_goes_along_with_an_event_and_soon_by_itself_where_none_comes() {
    let mut bench = Bench::new();
    bench.accept("a").unwrap();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Owed(_))));
    bench.settle();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Settled { key: FIRST, owed: None })), "nobody else came");
    bench.accept("b").unwrap();
    // What gathers while a commit hangs is one transaction.
    let disk = bench.disk.clone();
    let stuck = disk.0.lock().unwrap();
    let second = bench.ask(bench.event("c"));
    let key = DeliveryKey { seq: EventSeq(2), ..FIRST };
    bench.hand_over(vec![sent(key)]);
    let third = bench.ask(bench.event("d"));
    drop(stuck);
    for answer in [second, third] {
        answer.blocking_recv().unwrap().unwrap();
    }
    assert!(matches!(bench.reader.delivery(key).unwrap().unwrap().state, State::Sent { .. }), "it did not wait");
    bench.stop().unwrap();
}

#[test]
fn after_a_rush_the_file_is_made_ready_for_a_crash_by_itself() {
    let bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.accept(id).unwrap();
    }
    let durable = || bench.disk.0.lock().unwrap().durable.clone();
    let after_the_rush = durable();
    // By now it is due.
    bench.clock.0.fetch_add(1000, Ordering::Relaxed);
    // Nobody asks for anything: it wakes by itself.
    let turned = (0..500).any(|_| {
        std::thread::park_timeout(Duration::from_millis(20));
        durable() != after_the_rush
    });
    assert!(turned, "it stays as the rush left it");
    assert_eq!(bench.disk.cut().store().reader().verify().unwrap(), Vec::<String>::new());
    bench.stop().unwrap();
}

#[test]
fn a_store_that_fails_twice_in_a_row_ends_the_writer() {
    let bench = Bench::new();
    bench.disk.fail_after(0, Fault::Dead);
    assert!(bench.accept("a").is_err());
    assert!(bench.thread.join().unwrap().is_err(), "the process must end non-zero");
}

// Rows 8 and 9: one failure is enough, whatever the disk says afterwards. The kernel takes pages that it could not write
// for clean, and a commit on top of them would be acknowledged and gone with the power.
#[test]
fn a_disk_that_failed_once_ends_the_writer_before_anything_else_is_acknowledged() {
    for operations in 0..12 {
        let bench = Bench::new();
        bench.accept("a").unwrap();
        bench.disk.fail_after(operations, Fault::Broken);
        let answers: Vec<Answer> = (0..12).map(|id| bench.accept(&id.to_string())).collect();
        let failed = answers.iter().position(Result::is_err).expect("the failure is told");
        assert!(answers[failed..].iter().all(Result::is_err), "acknowledged after a failure: {answers:?}");
        let fault = bench.thread.join().unwrap().unwrap_err();
        assert!(matches!(&fault, WriterFault::Medium(cause) if cause.contains("bad sector")), "{fault}");
        assert!(fault.is_of_the_medium());
    }
}

// Row 10.
#[test]
fn a_disk_that_a_reader_found_broken_ends_the_writer_too() {
    // Without a cache, whatever is read is read from the disk.
    let bench = Bench::with(0, 0);
    bench.accept("a").unwrap();
    bench.disk.0.lock().unwrap().unreadable = true;
    assert!(bench.reader.event(FIRST.seq).is_err());
    bench.commands.blocking_send(Command::Nudge).unwrap();
    assert!(matches!(bench.thread.join().unwrap(), Err(WriterFault::Medium(_))));
}

// Row 5.
#[test]
fn a_full_disk_is_waited_for_and_outcomes_are_kept() {
    let mut bench = Bench::new();
    bench.accept("a").unwrap();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Owed(_))));
    bench.disk.fail_after(0, Fault::Full);
    bench.settle();
    // Told at once, again and again, as long as it lasts.
    for _ in 0..20 {
        assert!(matches!(bench.accept("b"), Err(Unavailable::Store(_))));
    }
    assert!(bench.board.store_fault().is_some());
    // Many times as long as three tries to open it take.
    let ended = (0..10).any(|_| {
        std::thread::park_timeout(Duration::from_millis(5));
        bench.thread.is_finished()
    });
    assert!(!ended, "a full disk ends nothing");
    bench.disk.mend();
    let settled = std::iter::from_fn(|| bench.facts.blocking_recv())
        .find(|fact| !matches!(fact, Input::Rescan | Input::Control(_)));
    assert!(matches!(settled, Some(Input::Settled { key: FIRST, owed: None })), "{settled:?}");
    bench.accept("b").unwrap();
    assert_eq!(bench.board.store_fault(), None);
    bench.stop().unwrap();
}

#[test]
fn a_disk_that_stays_full_does_not_keep_the_daemon_from_stopping() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    bench.disk.fail_after(0, Fault::Full);
    bench.settle();
    assert!(bench.stop().is_err(), "an outcome could not be committed: the process must end non-zero");
}

#[test]
fn a_disk_that_is_full_for_a_moment_keeps_no_outcome_from_a_daemon_that_stops() {
    let bench = Bench::new();
    bench.accept("a").unwrap();
    let disk = bench.disk.clone();
    disk.fail_after(0, Fault::FullOnce);
    let stuck = disk.0.lock().unwrap();
    bench.settle();
    bench.commands.blocking_send(Command::Stop).unwrap();
    drop(stuck);
    bench.thread.join().unwrap().unwrap();
    let delivery = disk.cut().store().reader().delivery(FIRST).unwrap().unwrap();
    assert!(matches!(delivery.state, State::Sent { .. }), "{delivery:?}");
}

#[test]
fn a_writer_that_has_nothing_to_write_leaves_the_disk_alone() {
    let bench = Bench::new();
    bench.disk.fail_after(0, Fault::Dead);
    // More than there are milliseconds between two preparations for a crash.
    for _ in 0..300 {
        bench.commands.blocking_send(Command::Nudge).unwrap();
    }
    let (probe, answer) = crate::pipeline::pulse::Probe::new();
    bench.commands.blocking_send(Command::Probe(probe)).unwrap();
    answer.blocking_recv().unwrap();
    bench.disk.mend();
    bench.stop().unwrap();
}

// Row 6.
#[test]
fn below_the_reserve_events_are_refused_and_outcomes_committed() {
    let mut bench = Bench::with_reserve(u64::MAX);
    assert!(matches!(bench.accept("a"), Err(Unavailable::Disk)));
    bench.settle();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Stale { key: FIRST })), "it was looked at");
    bench.stop().unwrap();
}

fn pause(by: PausedBy) -> WriteOp {
    let pause = Pause { since: NOW, until: None, reason: "stock is counted".to_owned(), by };
    WriteOp::Pause { destination: FIRST.destination, pause }
}

#[test]
fn whoever_pauses_is_answered_when_the_driver_has_it_before_it() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        let answer = bench.ask(pause(PausedBy::Operator)).blocking_recv().unwrap();
        assert!(matches!(answer.unwrap()[..], [Applied::Paused { .. }]));
        assert!(matches!(bench.facts.try_recv(), Ok(Input::Control(Control::Paused { .. }))), "it is there already");
        let resume = WriteOp::Resume { destination: FIRST.destination };
        bench.ask(resume).blocking_recv().unwrap().unwrap();
        assert!(matches!(bench.facts.try_recv(), Ok(Input::Control(Control::Resumed { .. }))));
    }
    bench.stop().unwrap();
}

#[test]
fn a_lanes_own_pause_outlives_a_failed_commit_and_an_operators_is_to_be_said_again() {
    for by in PausedBy::ALL {
        let mut bench = Bench::new();
        bench.disk.fail_after(0, Fault::FullOnce);
        let answer = bench.ask(pause(by)).blocking_recv().unwrap();
        assert!(matches!(answer, Err(Unavailable::Store(_))));
        bench.reopened();
        bench.settle();
        let next = bench.facts.blocking_recv();
        let kept = matches!(&next, Some(Input::Control(Control::Paused { pause, .. })) if pause.by == by);
        assert_eq!(kept, by == PausedBy::Destination, "{next:?}");
        assert_eq!(bench.reader.pauses().unwrap().len(), usize::from(kept));
        bench.stop().unwrap();
    }
}

#[test]
fn pauses_are_told_again_after_the_store_was_opened_again() {
    let mut bench = Bench::new();
    bench.ask(pause(PausedBy::Operator)).blocking_recv().unwrap().unwrap();
    assert!(matches!(bench.facts.blocking_recv(), Some(Input::Control(Control::Paused { .. }))));
    bench.disk.fail_after(0, Fault::FullOnce);
    assert!(bench.accept("a").is_err());
    assert!(bench.reopened().contains_key(&FIRST.destination));
    bench.stop().unwrap();
}

// Rows 14 and 27.
#[test]
fn a_writer_that_hangs_in_a_commit_gives_no_sign_of_life() {
    let bench = Bench::new();
    let turns = || {
        let (probe, mut answer) = crate::pipeline::pulse::Probe::new();
        bench.commands.blocking_send(Command::Probe(probe)).unwrap();
        (0..100).any(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            answer.try_recv().is_ok()
        })
    };
    assert!(turns() && turns(), "with nothing to do");
    bench.accept("a").unwrap();
    let disk = bench.disk.clone();
    let stuck = disk.0.lock().unwrap();
    // An outcome, for which nobody waits. It is one of a delivery that is owed: what changes nothing is not committed.
    bench.settle();
    // Questions that the writer found beside the work may still have been answered before the commit.
    assert!((0..5).any(|_| !turns()), "the commit does not come back");
    drop(stuck);
    assert!(turns() && turns(), "it goes on");
    bench.stop().unwrap();
}
