//! What a disk holds, and what it may hold after the power was cut.
//!
//! Images share their pages, so that thousands of them cost little. A [`Cutter`] walks along what was done to a disk and
//! says, at each operation, what is certain to survive (everything up to the last sync that did its work) and what may: the
//! rest, in pieces of a sector, in any order, with or without each change of the length.

use std::sync::Arc;

use super::tape::Op;
use crate::rng::Rng;

/// The engine's page, too.
pub const PAGE: usize = 4096;
/// The piece a torn write breaks at.
const SECTOR: usize = 512;

/// Bytes of a disk. A page that was never written holds zeros and is not there.
#[derive(Clone, Default)]
pub struct Image {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    len: usize,
}

impl Image {
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is cut off is gone: where the file grows again, it holds zeros.
    pub fn set_len(&mut self, len: usize) {
        let rest = len % PAGE;
        if len < self.len && rest > 0 {
            self.page(len / PAGE)[rest..].fill(0);
        }
        self.pages.resize(len.div_ceil(PAGE), None);
        self.len = len;
    }

    /// Both lie within the length.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        for (place, from, to) in pieces(offset, out.len()) {
            match &self.pages[place] {
                Some(page) => out[to.clone()].copy_from_slice(&page[from..from + to.len()]),
                None => out[to].fill(0),
            }
        }
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (place, at, from) in pieces(offset, data.len()) {
            let length = from.len();
            self.page(place)[at..at + length].copy_from_slice(&data[from]);
        }
    }

    /// Turns one bit over.
    pub fn flip(&mut self, offset: usize, bit: u32) {
        self.page(offset / PAGE)[offset % PAGE] ^= 1 << bit;
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    /// Where the pages begin that were ever written to.
    pub fn written(&self) -> Vec<usize> {
        let pages = self.pages.iter().enumerate().filter(|(_, page)| page.is_some());
        pages.map(|(place, _)| place * PAGE).collect()
    }

    fn page(&mut self, place: usize) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages[place].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// The pages a span lies in: each with where in it the piece begins, and which part of the span it is.
fn pieces(offset: usize, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let piece = (PAGE - at % PAGE).min(len - done);
        let part = done..done + piece;
        done += piece;
        (piece > 0).then_some((at / PAGE, at % PAGE, part))
    })
}

/// What of the unsynced operations arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Everything,
    /// Each sector of each write, and each change of the length, with this chance in a hundred; in order or in any.
    Torn {
        percent: u64,
        reordered: bool,
    },
}

impl Keep {
    pub fn any(rng: &Rng) -> Self {
        match rng.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Torn { percent: rng.between(3, 97), reordered: rng.percent(50) },
        }
    }
}

/// Walks along what was done.
pub struct Cutter<'t> {
    ops: &'t [Op],
    at: usize,
    durable: Image,
    pending: Vec<&'t Op>,
}

impl<'t> Cutter<'t> {
    pub fn new(base: &Image, ops: &'t [Op]) -> Self {
        Self { ops, at: 0, durable: base.clone(), pending: Vec::new() }
    }

    /// The first `count` operations have been asked for. Never goes back.
    pub fn advance(&mut self, count: usize) {
        for op in &self.ops[self.at..count] {
            match op {
                Op::Write { .. } | Op::SetLen(_) => self.pending.push(op),
                Op::Sync => {
                    for op in self.pending.drain(..) {
                        apply(op, &mut self.durable);
                    }
                }
                // The pages are clean now and their bytes are nowhere; the length is in the journal.
                Op::SyncLost => self.pending.retain(|op| matches!(op, Op::SetLen(_))),
                Op::SyncLied => {}
            }
        }
        self.at = count;
    }

    /// What is certain to survive.
    pub fn durable(&self) -> &Image {
        &self.durable
    }

    /// Whether nothing is left to chance.
    pub fn is_certain(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is found when the power comes back.
    pub fn cut(&self, keep: Keep, rng: &Rng) -> Image {
        let mut image = self.durable.clone();
        match keep {
            Keep::Nothing => {}
            Keep::Everything => self.pending.iter().for_each(|op| apply(op, &mut image)),
            Keep::Torn { percent, reordered } => {
                let mut pending = self.pending.clone();
                if reordered {
                    shuffle(&mut pending, rng);
                }
                for op in pending {
                    tear(op, &mut image, percent, rng);
                }
            }
        }
        image
    }
}

fn apply(op: &Op, image: &mut Image) {
    match op {
        // Where the length did not arrive there is no room for it.
        Op::Write { offset, data } if offset + data.len() <= image.len() => image.write(*offset, data),
        Op::SetLen(len) => image.set_len(*len),
        Op::Write { .. } | Op::Sync | Op::SyncLost | Op::SyncLied => {}
    }
}

fn tear(op: &Op, image: &mut Image, percent: u64, rng: &Rng) {
    let Op::Write { offset, data } = op else {
        if rng.percent(percent) {
            apply(op, image);
        }
        return;
    };
    for (piece, bytes) in data.chunks(SECTOR).enumerate() {
        let at = offset + piece * SECTOR;
        if rng.percent(percent) && at + bytes.len() <= image.len() {
            image.write(at, bytes);
        }
    }
}

fn shuffle(ops: &mut [&Op], rng: &Rng) {
    for at in (1..ops.len()).rev() {
        ops.swap(at, usize::try_from(rng.below(at as u64 + 1)).expect("small"));
    }
}
