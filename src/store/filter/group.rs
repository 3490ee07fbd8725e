//! The filters of 64 neighbouring buckets, turned on their side: one word for each bit of a filter, in which each bucket has
//! a bit.
//!
//! Asking 64 filters one by one touches 64 places of memory, asking a group touches six. The bits are the same, so the answers
//! are, too.

use super::{BLOCKS, Block, PROBES, places};
use crate::domain::dedupe::DedupeKey;
use crate::domain::time::UnixMs;

/// Buckets of a group.
const BUCKETS: u32 = u64::BITS;
/// Bits of a filter.
const ROWS: usize = BLOCKS * 512;

/// The group a bucket belongs to.
pub(super) fn of(bucket: u32) -> u32 {
    bucket / BUCKETS
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Group {
    first: u32,
    rows: Box<[u64]>,
    /// The buckets that are in it.
    members: u64,
    /// The latest receipt of any key of each.
    newest: Vec<UnixMs>,
}

impl Group {
    /// The group with this number, without any bucket in it.
    pub fn new(number: u32) -> Self {
        let newest = vec![UnixMs(0); usize::try_from(BUCKETS).unwrap_or(0)];
        Self { first: number.saturating_mul(BUCKETS), rows: vec![0; ROWS].into_boxed_slice(), members: 0, newest }
    }

    /// Takes in the filter of a bucket of this group.
    pub fn add(&mut self, bucket: u32, newest: UnixMs, blocks: &[Block]) {
        let column = self.column(bucket);
        self.members |= column;
        self.saw(bucket, newest);
        for (row, word) in self.rows.chunks_exact_mut(64).zip(blocks.iter().flatten()) {
            let mut left = *word;
            while left != 0 {
                if let Some(row) = usize::try_from(left.trailing_zeros()).ok().and_then(|bit| row.get_mut(bit)) {
                    *row |= column;
                }
                left &= left - 1;
            }
        }
    }

    /// Whether the bucket is in it.
    pub fn has(&self, bucket: u32) -> bool {
        self.members & self.column(bucket) != 0
    }

    /// One key more of a bucket that is in it.
    pub fn insert(&mut self, bucket: u32, key: DedupeKey, received_at: UnixMs) {
        let column = self.column(bucket);
        self.saw(bucket, received_at);
        for place in places(key) {
            if let Some(row) = self.rows.get_mut(place) {
                *row |= column;
            }
        }
    }

    /// The buckets that may hold `key`.
    pub fn candidates(&self, key: DedupeKey) -> impl Iterator<Item = (u32, UnixMs)> {
        let rows: [u64; PROBES] = places(key).map(|place| self.rows.get(place).copied().unwrap_or(0));
        self.those_of(rows.into_iter().fold(self.members, |maybe, row| maybe & row))
    }

    /// The buckets that are in it, oldest first, with the latest receipt of any key of each.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, UnixMs)> {
        self.those_of(self.members)
    }

    fn those_of(&self, mut columns: u64) -> impl Iterator<Item = (u32, UnixMs)> {
        std::iter::from_fn(move || {
            let index = columns.trailing_zeros();
            // Beyond the last where no column is left.
            let newest = usize::try_from(index).ok().and_then(|index| self.newest.get(index))?;
            columns &= columns.wrapping_sub(1);
            Some((self.first.saturating_add(index), *newest))
        })
    }

    /// The latest receipt of any key of a bucket; `None` where it is not in it.
    pub fn newest(&self, bucket: u32) -> Option<UnixMs> {
        self.those_of(self.members & self.column(bucket)).map(|(_, newest)| newest).next()
    }

    /// The filter of a bucket, as it was before.
    pub fn words(&self, bucket: u32) -> impl Iterator<Item = u64> {
        let column = self.column(bucket);
        let word =
            move |rows: &[u64]| rows.iter().rev().fold(0, |word, row| (word << 1) | u64::from(row & column != 0));
        self.rows.chunks_exact(64).map(word)
    }

    /// Removes a bucket; whether it was the last. Its bits stay: should the bucket come back, it is asked once too often.
    pub fn remove(&mut self, bucket: u32) -> bool {
        self.members &= !self.column(bucket);
        self.members == 0
    }

    fn column(&self, bucket: u32) -> u64 {
        1_u64.checked_shl(bucket.wrapping_sub(self.first)).unwrap_or(0)
    }

    fn saw(&mut self, bucket: u32, at: UnixMs) {
        let newest = usize::try_from(bucket.wrapping_sub(self.first)).ok().and_then(|index| self.newest.get_mut(index));
        if let Some(newest) = newest {
            *newest = at.max(*newest);
        }
    }
}
