//! A disk that can lose power: what was not synced is kept, lost or torn, in pieces and in any order.
//!
//! It can also fail on command: the k-th operation from now answers with an error, once or until the power is cut.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use crate::rng::Rng;

/// The piece a torn write breaks at: a sector.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct Image {
    /// What a reader sees.
    live: Vec<u8>,
    /// What is certain to survive.
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Operations until a fault strikes.
    fuse: Option<(u64, Fault)>,
    /// Every operation fails, until the power is cut.
    dead: bool,
    /// Every operation fails, until space is freed.
    full: bool,
    /// Every operation fails, until the disk is mended.
    broken: bool,
    /// The file cannot grow beyond this.
    limit: Option<usize>,
    failures: Failures,
}

/// Operations that failed, since there is a disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// For want of room.
    pub full: u64,
    /// Because of the medium.
    pub medium: u64,
}

#[derive(Debug, Clone)]
enum Unsynced {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file system is full: this operation fails, the next may work.
    Full,
    /// The file system is full until space is freed.
    StaysFull,
    /// This and every further operation fails until the power is cut: what a crash inside a commit looks like.
    PowerCut,
    /// An input/output error, once.
    Once,
    /// This and every further operation fails until the disk is mended.
    ForGood,
    /// A sync fails once and forgets what it had to write, as Linux does; the next sync succeeds without it.
    SyncLost,
    /// The same for want of room: a file system may find out only now that there is none for what it took.
    RoomLost,
}

/// Shared by every handle that is opened on it.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Image>>);

impl Disk {
    /// The `after`-th operation from now meets `fault`.
    pub fn arm(&self, after: u64, fault: Fault) {
        self.lock().fuse = Some((after, fault));
    }

    /// Whether the power is off.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Whoever has it open gets nothing done any more; what was written stays.
    pub fn cut_off(&self) {
        self.lock().dead = true;
    }

    /// It can be opened again.
    pub fn plug_in(&self) {
        self.lock().dead = false;
    }

    pub fn disarm(&self) {
        self.lock().mend();
    }

    /// From now on the file has room for so many bytes more, until space is freed.
    pub fn limit(&self, room: usize) {
        let mut image = self.lock();
        image.limit = Some(image.live.len() + room);
    }

    /// Whether there was a limit.
    pub fn lift_limit(&self) -> bool {
        self.lock().limit.take().is_some()
    }

    pub fn failures(&self) -> Failures {
        self.lock().failures
    }

    /// What has not been synced is, and whoever opens the file now reads the medium. Some file systems keep what they have in
    /// memory nevertheless.
    pub fn forget_cached(&self, keeps: bool) -> io::Result<()> {
        self.sync_data()?;
        let mut image = self.lock();
        if !keeps {
            let Image { live, durable, .. } = &mut *image;
            live.clone_from(durable);
        }
        Ok(())
    }

    /// A disk as this one might be found, were the power cut now.
    pub fn after_a_cut(&self, rng: &Rng) -> Self {
        let image = self.lock();
        let (durable, unsynced) = (image.durable.clone(), image.unsynced.clone());
        let disk = Self(Arc::new(Mutex::new(Image { durable, unsynced, ..Image::default() })));
        disk.cut_power(rng);
        disk
    }

    /// What a reader sees: all of it is there, where whoever had it open has closed it.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().live.clone()
    }

    /// Other bytes take its place, durably.
    pub fn replace(&self, bytes: Vec<u8>) {
        *self.lock() = Image { live: bytes.clone(), durable: bytes, ..Image::default() };
    }

    /// Power goes and comes back: the disk holds what was durable, and of the rest whatever chance kept.
    pub fn cut_power(&self, rng: &Rng) {
        let mut image = self.lock();
        let mut kept = image.durable.clone();
        let mut pending = std::mem::take(&mut image.unsynced);
        match rng.below(4) {
            0 => pending.clear(),
            1 => {}
            _ => shuffle(&mut pending, rng),
        }
        for unsynced in pending {
            match unsynced {
                Unsynced::SetLen(len) => {
                    if rng.percent(70) {
                        kept.resize(len, 0);
                    }
                }
                Unsynced::Write { offset, data } => {
                    for (piece, bytes) in data.chunks(SECTOR).enumerate() {
                        let at = offset + piece * SECTOR;
                        if rng.percent(60) && at + bytes.len() <= kept.len() {
                            kept[at..at + bytes.len()].copy_from_slice(bytes);
                        }
                    }
                }
            }
        }
        image.live.clone_from(&kept);
        image.durable = kept;
        image.dead = false;
        image.mend();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Image> {
        self.0.lock().expect("the simulator is single-threaded")
    }
}

fn shuffle(items: &mut [Unsynced], rng: &Rng) {
    for at in (1..items.len()).rev() {
        let other = usize::try_from(rng.below(at as u64 + 1)).expect("small");
        items.swap(at, other);
    }
}

fn broken() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Image {
    fn mend(&mut self) {
        (self.fuse, self.limit) = (None, None);
        (self.full, self.broken) = (false, false);
    }

    /// Counts an operation and says whether it fails.
    fn step(&mut self, is_sync: bool) -> io::Result<()> {
        let done = self.meet(is_sync);
        match &done {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => self.failures.full += 1,
            Err(_) if !self.dead => self.failures.medium += 1,
            Err(_) | Ok(()) => {}
        }
        done
    }

    fn meet(&mut self, is_sync: bool) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        if self.full {
            return Err(full());
        }
        if self.broken {
            return Err(broken());
        }
        let Some((left, fault)) = &mut self.fuse else { return Ok(()) };
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        let fault = *fault;
        let waits_for_sync = matches!(fault, Fault::SyncLost | Fault::RoomLost);
        if waits_for_sync && !is_sync {
            return Ok(());
        }
        self.fuse = None;
        match fault {
            Fault::Full => Err(full()),
            Fault::StaysFull => {
                self.full = true;
                Err(full())
            }
            Fault::Once => Err(broken()),
            Fault::ForGood => {
                self.broken = true;
                Err(broken())
            }
            Fault::PowerCut => {
                self.dead = true;
                Err(io::Error::other("the power is off"))
            }
            Fault::SyncLost => {
                self.forget();
                Err(broken())
            }
            Fault::RoomLost => {
                self.forget();
                Err(full())
            }
        }
    }

    /// The pages are clean now, and their bytes are not on the medium: a reader still sees them.
    fn forget(&mut self) {
        self.unsynced.retain(|unsynced| matches!(unsynced, Unsynced::SetLen(_)));
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.lock();
        if image.dead {
            return Err(io::Error::other("the power is off"));
        }
        let from = usize::try_from(offset).expect("small");
        let bytes =
            image.live.get(from..from + out.len()).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut image = self.lock();
        image.step(false)?;
        let len = usize::try_from(len).expect("small");
        if image.limit.is_some_and(|limit| len > limit) {
            image.failures.full += 1;
            return Err(full());
        }
        image.live.resize(len, 0);
        image.unsynced.push(Unsynced::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.lock();
        image.step(true)?;
        let pending = std::mem::take(&mut image.unsynced);
        for unsynced in pending {
            match unsynced {
                Unsynced::SetLen(len) => image.durable.resize(len, 0),
                Unsynced::Write { offset, data } => {
                    let end = offset + data.len();
                    if image.durable.len() < end {
                        image.durable.resize(end, 0);
                    }
                    image.durable[offset..end].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut image = self.lock();
        image.step(false)?;
        let offset = usize::try_from(offset).expect("small");
        let end = offset + data.len();
        if image.live.len() < end {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        image.live[offset..end].copy_from_slice(data);
        image.unsynced.push(Unsynced::Write { offset, data: data.to_vec() });
        Ok(())
    }
}
