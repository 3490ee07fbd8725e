//! The store's rules as tests, on a disk in memory except where files are the subject.

mod alerting;
pub(super) mod backing;
mod compacting;
mod dedupe;
mod desk;
mod model;
mod opening;
mod pausing;
mod purging;
mod reading;
mod restoring;
mod settling;
mod stats;
mod suspecting;
mod sweeping;
mod verifying;
mod wrecking;
mod zoning;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::read::{Bodies, OutboxCursor};
use super::write::{Accept, Applied, Discard, Owed, Planned, Purge, Queued, Replay, Settle, WriteOp};
use super::*;
use crate::domain::dedupe::{DedupeKey, Discriminator};
use crate::domain::delivery::{Attempt, Delivery, Phases};
use crate::domain::event::{Event, OccurredAt, tests::sample};
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::outcome::{DeadReason, Disposition, RetryReason, SkipReason};
use crate::domain::time::{DurationMs, UnixMs};

const OPTIONS: Options = Options { cache: 4 << 20 };
const ONE: DestinationId = DestinationId(1);
const TWO: DestinationId = DestinationId(2);

/// Numbers that only look random, the same in every run.
#[derive(Debug, Default)]
struct Dice(AtomicU64);

impl Entropy for Dice {
    fn next_u64(&self) -> u64 {
        (self.0.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A disk whose bytes outlive the database, and whose writes can be made to fail.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }

    fn store(&self) -> Store {
        let disk = self.clone();
        Store::open_backend(move || Ok(disk.clone()), OPTIONS, &Dice::default()).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.bytes.lock().unwrap().len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// An event with that id, received then.
fn event(id: &str, received_at: u64) -> Event {
    let received_at = UnixMs(received_at);
    Event { event_id: Some(id.to_owned()), received_at, occurred_at: OccurredAt::Received(received_at), ..sample() }
}

fn owe(destination: DestinationId) -> Planned {
    Planned::Owe { destination, target: "Purchase".parse().unwrap() }
}

fn skip(destination: DestinationId) -> Planned {
    Planned::Skip { destination, reason: SkipReason::Unmapped }
}

impl Store {
    fn accept_op(&self, event: Event, plan: Vec<Planned>) -> WriteOp {
        let id = event.event_id.clone().unwrap_or_default();
        let key: DedupeKey = self.hash_key().dedupe_key(&event, &Discriminator::EventId(id));
        let content = self.hash_key().content(&event);
        let (heard_at, repeat_since) = (event.received_at, UnixMs(0));
        WriteOp::Accept(Accept { event: Arc::new(event), key, content, heard_at, repeat_since, plan })
    }

    fn one(&mut self, op: WriteOp) -> Applied {
        let mut applied = self.commit(&[op]).unwrap();
        assert_eq!(applied.len(), 1);
        applied.remove(0)
    }

    fn accept(&mut self, event: Event, plan: Vec<Planned>) -> Queued {
        let op = self.accept_op(event, plan);
        let applied = self.one(op);
        let Applied::Queued(queued) = applied else { panic!("not queued: {applied:?}") };
        queued
    }

    /// Settles with one attempt at `at`, from where the delivery is owed now.
    fn settle(&mut self, key: DeliveryKey, at: u64, disposition: Disposition) -> Option<Owed> {
        let due_at = self.delivery(key).state.due_at().unwrap();
        let op = settle_op(key, due_at, at, Some(200), disposition);
        let applied = self.one(op);
        let Applied::Settled { now, .. } = applied else { panic!("not settled: {applied:?}") };
        now
    }

    fn delivery(&self, key: DeliveryKey) -> Delivery {
        self.reader().delivery(key).unwrap().unwrap()
    }

    fn counts(&self, destination: DestinationId) -> Counts {
        self.reader().ledger().deliveries.get(&destination).copied().unwrap_or_default()
    }

    #[track_caller]
    fn assert_sound(&self) {
        assert_eq!(self.reader().verify().unwrap(), Vec::<String>::new());
        assert_eq!(self.reader().damaged_rows(), 0);
    }
}

fn key(seq: EventSeq, destination: DestinationId) -> DeliveryKey {
    DeliveryKey { seq, destination }
}

fn attempt(at: u64, http_status: Option<u16>) -> Attempt {
    Attempt {
        // None that any history knows; the store numbers it.
        n: u32::MAX,
        at: UnixMs(at),
        took: DurationMs(5),
        http_status,
        verdict: "transient".to_owned(),
        response: "busy".to_owned(),
        left_out: Vec::new(),
        phases: Phases::default(),
        proxy: None,
        called: None,
    }
}

fn settle_op(key: DeliveryKey, due_at: UnixMs, at: u64, status: Option<u16>, disposition: Disposition) -> WriteOp {
    let attempt = Some(attempt(at, status));
    WriteOp::Settle(Settle { key, due_at, at: UnixMs(at), attempt, disposition, autopsy: None })
}

fn retry(at: u64) -> Disposition {
    Disposition::Retry { at: UnixMs(at), reason: RetryReason::Transient }
}

const DEAD: Disposition = Disposition::Dead { reason: DeadReason::Permanent };

fn replay_op(at: u64, keys: &[DeliveryKey]) -> WriteOp {
    WriteOp::Replay(Replay { at: UnixMs(at), keys: keys.to_vec() })
}

fn discard_op(at: u64, keys: &[DeliveryKey]) -> WriteOp {
    WriteOp::Discard(Discard { at: UnixMs(at), keys: keys.to_vec(), reason: "test data".to_owned() })
}

fn purge_op(at: u64, destination: DestinationId, under_way: BTreeSet<EventSeq>, limit: usize) -> WriteOp {
    WriteOp::Purge(Purge { destination, at: UnixMs(at), reason: "left us".to_owned(), under_way, limit })
}
