//! A file that is looked into without being changed: what the engine writes (repair after a crash, its own bookkeeping)
//! stays in memory and is forgotten.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Bytes of a piece that is kept once any of it is written.
const PIECE: u64 = 4096;
const PIECE_BYTES: usize = 4096;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Up to here the file's own bytes count; what was cut off once is zero ever after.
    own: u64,
    pieces: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, written: Mutex::new(Written { len, own: len, pieces: BTreeMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's own bytes from `offset`, zero beyond its end.
    fn own(&self, own: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(own.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (front, back) = out.split_at_mut(there);
        back.fill(0);
        self.file.read_exact_at(front, offset)
    }
}

/// The pieces that `offset` and `len` touch: number of the piece, where in it, and how many bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, len);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let start = usize::try_from(at % PIECE).unwrap_or(0);
        let count = left.min(PIECE_BYTES.saturating_sub(start));
        let part = (at / PIECE, start, count);
        at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        left = left.saturating_sub(count);
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        let end = offset.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        if end > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.own(written.own, offset, out)?;
        let mut rest = out;
        for (piece, start, count) in parts(offset, rest.len()) {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(count);
            let kept = written.pieces.get(&piece).and_then(|piece| piece.get(start..start.saturating_add(count)));
            if let Some(kept) = kept {
                now.copy_from_slice(kept);
            }
            rest = later;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        if len < written.len {
            written.own = written.own.min(len);
            let last = len / PIECE;
            drop(written.pieces.split_off(&last.saturating_add(1)));
            let keep = usize::try_from(len % PIECE).unwrap_or(0);
            if let Some(piece) = written.pieces.get_mut(&last) {
                piece.iter_mut().skip(keep).for_each(|byte| *byte = 0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let mut rest = data;
        for (number, start, count) in parts(offset, data.len()) {
            if !written.pieces.contains_key(&number) {
                let mut piece = vec![0; PIECE_BYTES].into_boxed_slice();
                self.own(written.own, number.saturating_mul(PIECE), &mut piece)?;
                written.pieces.insert(number, piece);
            }
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let place =
                written.pieces.get_mut(&number).and_then(|piece| piece.get_mut(start..start.saturating_add(count)));
            if let Some(place) = place {
                place.copy_from_slice(now);
            }
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_as_a_file_that_was_written_to(
            start in proptest::collection::vec(any::<u8>(), 0..20_000),
            steps in proptest::collection::vec((0_usize..25_000, 1_usize..9000, any::<u8>(), any::<bool>()), 1..12),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &start).unwrap();
            let overlay = Overlay::new(File::open(file.path()).unwrap()).unwrap();
            let mut model = start.clone();
            for (offset, count, byte, cut) in steps {
                if cut || model.len() < offset + count {
                    model.resize(offset + count, 0);
                    overlay.set_len(u64::try_from(offset + count).unwrap()).unwrap();
                }
                if !cut {
                    model[offset..offset + count].fill(byte);
                    overlay.write(u64::try_from(offset).unwrap(), &vec![byte; count]).unwrap();
                }
                let mut seen = vec![1; model.len()];
                overlay.read(0, &mut seen).unwrap();
                prop_assert!(seen == model);
            }
            prop_assert_eq!(std::fs::read(file.path()).unwrap(), start);
        }
    }
}
