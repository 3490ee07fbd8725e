//! A disk that remembers everything that was done to it, and can fail on command.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::image::{Image, PAGE};

/// What changes a disk.
#[derive(Debug, Clone)]
pub enum Op {
    Write {
        offset: usize,
        data: Arc<[u8]>,
    },
    SetLen(usize),
    Sync,
    /// A sync that failed, and forgot what it had to write.
    SyncLost,
    /// A sync that answered and did nothing.
    SyncLied,
}

/// How an operation fails. What fails has done nothing, but for the lost sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This operation, once: an input/output error.
    Once,
    /// This one and all that follow, until the disk is mended.
    ForGood,
    /// The next sync: it fails and forgets, as Linux does, and later ones know of nothing.
    SyncLost,
    /// All syncs from here on answer at once and do nothing.
    SyncLies,
}

struct Reel {
    live: Image,
    ops: Vec<Op>,
    /// Changes until the fault, and the fault.
    fuse: Option<(u64, Fault)>,
    /// Where a page begins that cannot be read.
    spoiled: Option<usize>,
    is_broken: bool,
    lies: bool,
}

/// Shared by every handle that is opened on it.
#[derive(Clone)]
pub struct Tape(Arc<Mutex<Reel>>);

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape")
    }
}

impl Tape {
    pub fn new(base: Image) -> Self {
        let (ops, fuse, spoiled) = (Vec::new(), None, None);
        Self(Arc::new(Mutex::new(Reel { live: base, ops, fuse, spoiled, is_broken: false, lies: false })))
    }

    /// How much was done.
    pub fn position(&self) -> usize {
        self.lock().ops.len()
    }

    /// What a reader sees.
    pub fn live(&self) -> Image {
        self.lock().live.clone()
    }

    /// All that was done.
    pub fn ops(&self) -> Vec<Op> {
        self.lock().ops.clone()
    }

    /// The `after`-th change from now meets `fault`.
    pub fn arm(&self, after: u64, fault: Fault) {
        self.lock().fuse = Some((after, fault));
    }

    /// Whether a sync has said since then that all is well.
    pub fn synced_since(&self, position: usize) -> bool {
        self.lock().ops[position..].iter().any(|op| matches!(op, Op::Sync | Op::SyncLied))
    }

    /// Whatever touches the page that begins there is not read.
    pub fn spoil(&self, page: usize) {
        self.lock().spoiled = Some(page);
    }

    /// Nothing works any more: the power is off.
    pub fn kill(&self) {
        self.lock().is_broken = true;
    }

    pub fn mend(&self) {
        let mut reel = self.lock();
        (reel.fuse, reel.spoiled, reel.is_broken) = (None, None, false);
    }

    fn lock(&self) -> MutexGuard<'_, Reel> {
        self.0.lock().expect("the explorer uses a tape in one thread")
    }
}

fn broken() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

impl Reel {
    /// Counts a change and says whether it fails.
    fn step(&mut self, is_sync: bool) -> io::Result<()> {
        if self.is_broken {
            return Err(broken());
        }
        let Some((left, fault)) = &mut self.fuse else { return Ok(()) };
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        match fault {
            Fault::SyncLost if !is_sync => return Ok(()),
            Fault::SyncLies => {
                (self.fuse, self.lies) = (None, true);
                return Ok(());
            }
            Fault::Once => {}
            Fault::ForGood => self.is_broken = true,
            Fault::SyncLost => self.ops.push(Op::SyncLost),
        }
        self.fuse = None;
        Err(broken())
    }
}

impl StorageBackend for Tape {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let reel = self.lock();
        let offset = usize::try_from(offset).expect("small");
        if offset + out.len() > reel.live.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if reel.spoiled.is_some_and(|page| offset < page + PAGE && page < offset + out.len()) {
            return Err(broken());
        }
        reel.live.read(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut reel = self.lock();
        reel.step(false)?;
        let len = usize::try_from(len).expect("small");
        reel.live.set_len(len);
        reel.ops.push(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut reel = self.lock();
        reel.step(true)?;
        let done = if reel.lies { Op::SyncLied } else { Op::Sync };
        reel.ops.push(done);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut reel = self.lock();
        reel.step(false)?;
        let offset = usize::try_from(offset).expect("small");
        if offset + data.len() > reel.live.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        reel.live.write(offset, data);
        reel.ops.push(Op::Write { offset, data: data.into() });
        Ok(())
    }
}
