//! Which dedupe keys may be in the file: one small Bloom filter per bucket of 16,384 events.
//!
//! A dedupe key must be looked for in every bucket of the window. Without a filter that is hundreds of reads of random
//! leaves per event; with one it is a memory access per bucket, and a read only where the filter says "maybe".
//!
//! Each filter is 32 KiB: 16 bits an event, 2 MB per million events of the window. All six bits of a key lie within one
//! 64-byte block, so that a probe touches one cache line. A full bucket says "maybe" wrongly about once in 800 probes.
//! Keys are hashed with the store's secret, so no sender can aim at a block. A set of sorted fingerprints would need
//! twice the memory and moves on every insert; a general crate would bring its own hashing of hashes.
//!
//! Filters may hold keys that never were committed: that costs a read, never a wrong answer.

use std::collections::BTreeMap;

use crate::domain::dedupe::DedupeKey;
use crate::domain::time::UnixMs;

/// 64 bytes.
type Block = [u64; 8];
/// Indexed by the lowest nine bits of a key's identity.
const BLOCKS: usize = 512;
/// Nine bits each from the rest of the identity.
const PROBES: u32 = 6;

/// The filters of all buckets in the file.
#[derive(Debug, Default)]
pub(super) struct Filters {
    buckets: BTreeMap<u32, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// The latest receipt of any key in it.
    newest: UnixMs,
    blocks: Box<[Block]>,
}

impl Filters {
    /// Remembers that `key`, received at `received_at`, is in `bucket`.
    pub fn insert(&mut self, bucket: u32, key: DedupeKey, received_at: UnixMs) {
        let bucket = self
            .buckets
            .entry(bucket)
            .or_insert_with(|| Bucket { newest: received_at, blocks: vec![[0; 8]; BLOCKS].into_boxed_slice() });
        bucket.newest = bucket.newest.max(received_at);
        if let Some(block) = bucket.blocks.get_mut(block_index(key)) {
            for (word, mask) in block.iter_mut().zip(mask(key)) {
                *word |= mask;
            }
        }
    }

    /// The latest receipt of any key.
    pub fn newest(&self) -> UnixMs {
        self.buckets.values().map(|bucket| bucket.newest).max().unwrap_or(UnixMs(0))
    }

    /// The buckets that may hold `key` with a receipt of `since` or later, newest first.
    pub fn candidates(&self, key: DedupeKey, since: UnixMs) -> Vec<u32> {
        let (index, mask) = (block_index(key), mask(key));
        let maybe = |bucket: &Bucket| {
            let block = bucket.blocks.get(index);
            bucket.newest >= since
                && block.is_some_and(|block| block.iter().zip(mask).all(|(word, mask)| word & mask == mask))
        };
        self.buckets.iter().rev().filter(|(_, bucket)| maybe(bucket)).map(|(number, _)| *number).collect()
    }

    /// Buckets with nothing received at `before` or later, oldest first.
    pub fn expired(&self, before: UnixMs) -> Vec<u32> {
        self.buckets.iter().filter(|(_, bucket)| bucket.newest < before).map(|(number, _)| *number).collect()
    }

    /// Forgets a bucket that is no longer in the file.
    pub fn remove(&mut self, bucket: u32) {
        self.buckets.remove(&bucket);
    }
}

fn block_index(key: DedupeKey) -> usize {
    usize::try_from(key.identity & 511).unwrap_or(0)
}

/// The bits of `key` in its block.
fn mask(key: DedupeKey) -> Block {
    let mut mask = [0; 8];
    for probe in 1..=PROBES {
        let bit = (key.identity >> (9 * probe)) & 511;
        let word = usize::try_from(bit >> 6).unwrap_or(0);
        if let Some(word) = mask.get_mut(word) {
            *word |= 1 << (bit & 63);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dedupe::HashKey;

    fn key(number: usize) -> DedupeKey {
        let identity = HashKey([7; 16]).sender_id(&number.to_string());
        DedupeKey { discriminator: 0, identity }
    }

    #[test]
    fn a_key_that_is_there_is_always_found_and_others_rarely() {
        let mut filters = Filters::default();
        for number in 0..16_384 {
            filters.insert(3, key(number), UnixMs(10));
        }
        assert!((0..16_384).all(|number| filters.candidates(key(number), UnixMs(0)) == [3]));
        let wrong = (100_000..200_000).filter(|number| !filters.candidates(key(*number), UnixMs(0)).is_empty()).count();
        assert!(wrong < 300, "{wrong} of 100,000 foreign keys were taken for known ones");
    }

    #[test]
    fn buckets_are_looked_at_from_the_newest_and_only_within_the_window() {
        let mut filters = Filters::default();
        filters.insert(1, key(5), UnixMs(10));
        filters.insert(2, key(5), UnixMs(20));
        assert_eq!(filters.candidates(key(5), UnixMs(0)), [2, 1]);
        assert_eq!(filters.candidates(key(5), UnixMs(11)), [2]);
        assert_eq!(filters.expired(UnixMs(11)), [1]);
        filters.remove(1);
        assert_eq!(filters.candidates(key(5), UnixMs(0)), [2]);
    }
}
