//! Which dedupe keys may be in the file: one small Bloom filter per bucket of 16,384 events.
//!
//! A dedupe key must be looked for in every bucket of the window. Without a filter that is hundreds of reads of random
//! leaves per event; with one it is a memory access per bucket at most, and a read only where the filter says "maybe".
//!
//! Each filter is 48 KiB: 24 bits an event, 3 MB per million events of the window. All six bits of a key lie within one
//! 64-byte block, so that a probe touches one cache line. A full bucket says "maybe" wrongly about once in 5,000 probes: among
//! ten million events every ninth is looked for in vain; with a third less memory every second was.
//! Where there are many buckets, those that are full are asked 64 at a time ([`group`]).
//! Keys are hashed with the store's secret, so no sender can aim at a block. A set of sorted fingerprints would need
//! twice the memory and moves on every insert; a general crate would bring its own hashing of hashes.
//!
//! The filter of a full bucket is kept in the file, since nothing comes to its keys any more until they are removed: to read it
//! is far less work than to make it anew from its rows, which is what a start does where there is none.
//!
//! Filters may hold keys that never were committed: that costs a read, never a wrong answer.

mod group;

use std::collections::{BTreeMap, BTreeSet};

use super::row::FilterRow;
use crate::domain::dedupe::DedupeKey;
use crate::domain::time::UnixMs;

use group::Group;

/// 64 bytes.
type Block = [u64; 8];
/// 768 for 16,384 keys.
const BLOCKS: usize = 768;
/// What a filter takes in the file.
pub(super) const BYTES: usize = BLOCKS * 64;
/// Nine bits of the identity each.
const PROBES: usize = 6;
/// A group takes as much memory as the filters of all its buckets, so it has to hold half of them.
const GROUP_FROM: usize = 32;

/// The filters of all buckets in the file.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Those of them that are in no group.
    buckets: BTreeMap<u32, Bucket>,
    groups: BTreeMap<u32, Group>,
    /// Those that are not in the file.
    unkept: BTreeSet<u32>,
    /// The latest receipt of any key.
    newest: UnixMs,
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
        self.newest = self.newest.max(received_at);
        if let Some(group) = self.groups.get_mut(&group::of(bucket)).filter(|group| group.has(bucket)) {
            group.insert(bucket, key, received_at);
            return;
        }
        if !self.buckets.contains_key(&bucket) {
            self.gather(bucket);
            self.unkept.insert(bucket);
        }
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

    /// Takes a filter that was kept; `false` where it is none of ours.
    pub fn take(&mut self, bucket: u32, row: &FilterRow) -> bool {
        if row.bits.len() != BYTES {
            return false;
        }
        let newest = UnixMs(row.newest);
        let words = row.bits.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut blocks = vec![[0; 8]; BLOCKS].into_boxed_slice();
        for (to, word) in blocks.iter_mut().flatten().zip(words) {
            *to = word;
        }
        self.newest = self.newest.max(newest);
        self.gather(bucket);
        self.buckets.insert(bucket, Bucket { newest, blocks });
        true
    }

    /// The first filter that is not kept and should be; buckets from `open` on are not full yet.
    pub fn unkept(&self, open: u32) -> Option<(u32, FilterRow)> {
        let number = *self.unkept.range(..open).next()?;
        let row = |newest: UnixMs, words: &mut dyn Iterator<Item = u64>| FilterRow {
            newest: newest.0,
            bits: words.flat_map(u64::to_le_bytes).collect(),
        };
        let grouped = || {
            let group = self.groups.get(&group::of(number))?;
            Some(row(group.newest(number)?, &mut group.words(number)))
        };
        let alone = self.buckets.get(&number);
        let alone = alone.map(|bucket| row(bucket.newest, &mut bucket.blocks.iter().flatten().copied()));
        Some((number, alone.or_else(grouped)?))
    }

    /// The filter is in the file.
    pub fn kept(&mut self, bucket: u32) {
        self.unkept.remove(&bucket);
    }

    /// Moves the buckets before `next`, which are full, into their groups where that is worth it.
    fn gather(&mut self, next: u32) {
        let mut full: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (bucket, _) in self.buckets.range(..next) {
            full.entry(group::of(*bucket)).or_default().push(*bucket);
        }
        for (number, buckets) in full {
            if buckets.len() < GROUP_FROM && !self.groups.contains_key(&number) {
                continue;
            }
            let group = self.groups.entry(number).or_insert_with(|| Group::new(number));
            for number in buckets {
                if let Some(Bucket { newest, blocks }) = self.buckets.remove(&number) {
                    group.add(number, newest, &blocks);
                }
            }
        }
    }

    /// The latest receipt of any key.
    pub fn newest(&self) -> UnixMs {
        self.newest
    }

    /// The buckets that may hold `key` with a receipt of `since` or later, newest first.
    pub fn candidates(&self, key: DedupeKey, since: UnixMs) -> Vec<u32> {
        let (index, mask) = (block_index(key), mask(key));
        let maybe = |bucket: &Bucket| {
            let block = bucket.blocks.get(index);
            block.is_some_and(|block| block.iter().zip(mask).all(|(word, mask)| word & mask == mask))
        };
        let alone = self.buckets.iter().filter(|(_, bucket)| maybe(bucket));
        let alone = alone.map(|(number, bucket)| (*number, bucket.newest));
        let grouped = self.groups.values().flat_map(|group| group.candidates(key));
        let mut found: Vec<u32> =
            alone.chain(grouped).filter(|(_, newest)| *newest >= since).map(|(number, _)| number).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found
    }

    /// Buckets with nothing received at `before` or later, oldest first.
    pub fn expired(&self, before: UnixMs) -> Vec<u32> {
        let mut expired: Vec<u32> =
            self.all().filter(|(_, newest)| *newest < before).map(|(number, _)| number).collect();
        expired.sort_unstable();
        expired
    }

    /// Forgets a bucket that is no longer in the file.
    pub fn remove(&mut self, bucket: u32) {
        self.buckets.remove(&bucket);
        self.unkept.remove(&bucket);
        let number = group::of(bucket);
        if self.groups.get_mut(&number).is_some_and(|group| group.remove(bucket)) {
            self.groups.remove(&number);
        }
        self.newest = self.all().map(|(_, newest)| newest).max().unwrap_or(UnixMs(0));
    }

    /// Every bucket with the latest receipt of any key in it.
    fn all(&self) -> impl Iterator<Item = (u32, UnixMs)> {
        let alone = self.buckets.iter().map(|(number, bucket)| (*number, bucket.newest));
        alone.chain(self.groups.values().flat_map(Group::buckets))
    }
}

/// By the high half of a product: the bits of the identity that no probe uses decide it as much as those that one does, so that
/// keys of one block are spread over it.
///
/// Kept filters go by this and by [`bits`]: another way needs another version of [`FilterRow`].
fn block_index(key: DedupeKey) -> usize {
    let mixed = key.identity.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(mixed).map_or(0, |mixed| (mixed * BLOCKS) >> 32)
}

/// The bits of `key` in its block, of 512.
fn bits(key: DedupeKey) -> [usize; PROBES] {
    std::array::from_fn(|probe| usize::try_from((key.identity >> (9 * probe)) & 511).unwrap_or(0))
}

/// The bits of `key` in the whole filter.
fn places(key: DedupeKey) -> [usize; PROBES] {
    bits(key).map(|bit| block_index(key) * 512 + bit)
}

/// The bits of `key` in its block.
fn mask(key: DedupeKey) -> Block {
    let mut mask = [0; 8];
    for bit in bits(key) {
        if let Some(word) = mask.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dedupe::HashKey;
    use crate::domain::time::DurationMs;

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
        assert!(wrong < 40, "{wrong} of 100,000 foreign keys were taken for known ones");
    }

    // Filters are kept in the file: whoever changes this gives FilterRow another version.
    #[test]
    fn a_key_has_its_bits_where_kept_filters_have_them() {
        let key = DedupeKey { discriminator: 1, identity: 0x0123_4567_89ab_cdef };
        let expected = [19439, 19430, 19050, 19185, 19030, 19226];
        assert_eq!(places(key), expected);
        let mut filters = Filters::default();
        filters.insert(0, key, UnixMs(1));
        let (_, row) = filters.unkept(1).unwrap();
        assert!(expected.iter().all(|place| row.bits[place / 8] >> (place % 8) & 1 == 1));
        assert_eq!(row.bits.iter().map(|byte| byte.count_ones()).sum::<u32>(), 6);
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

    /// One key in each of so many buckets, received at the bucket's number.
    fn one_in_each(buckets: u32) -> Filters {
        let mut filters = Filters::default();
        for bucket in 0..buckets {
            filters.insert(bucket, key(usize::try_from(bucket).unwrap()), UnixMs(bucket.into()));
        }
        filters
    }

    #[test]
    fn many_buckets_answer_as_few_do_wherever_they_are() {
        let filters = one_in_each(150);
        assert_eq!((filters.groups.len(), filters.buckets.len()), (2, 22), "too few for a third group");
        for bucket in 0..150 {
            let (known, at) = (key(usize::try_from(bucket).unwrap()), UnixMs(bucket.into()));
            assert_eq!(filters.candidates(known, at), [bucket]);
            assert!(filters.candidates(known, at + DurationMs(1)).is_empty(), "out of the window");
        }
        let wrong = (1000..100_000).filter(|number| !filters.candidates(key(*number), UnixMs(0)).is_empty()).count();
        assert!(wrong < 50, "{wrong}");
    }

    #[test]
    fn buckets_of_groups_expire_and_go_like_others_and_a_group_with_its_last() {
        let mut filters = one_in_each(150);
        assert_eq!(filters.expired(UnixMs(130)), (0..130).collect::<Vec<_>>());
        for bucket in (0..130).filter(|bucket| *bucket != 64) {
            filters.remove(bucket);
        }
        assert_eq!(filters.groups.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(filters.candidates(key(64), UnixMs(0)), [64]);
        assert!(filters.candidates(key(65), UnixMs(0)).is_empty());
        assert_eq!(filters.newest(), UnixMs(149));
        (65..150).chain([64]).for_each(|bucket| filters.remove(bucket));
        assert!(filters.groups.is_empty());
        assert_eq!(filters.newest(), UnixMs(0));
    }

    // A transaction that was given up leaves its keys, and the sequence goes back.
    #[test]
    fn a_key_that_comes_late_into_a_group_is_found_in_its_bucket() {
        let mut filters = one_in_each(40);
        filters.insert(3, key(1000), UnixMs(900));
        filters.insert(2, key(1000), UnixMs(5));
        assert_eq!((filters.groups.len(), filters.buckets.len()), (1, 1), "a full one joins the group there is");
        assert_eq!(filters.candidates(key(1000), UnixMs(0)), [3, 2]);
        assert_eq!(filters.candidates(key(1000), UnixMs(6)), [3]);
        assert_eq!(filters.newest(), UnixMs(900));
        filters.remove(3);
        assert_eq!(filters.newest(), UnixMs(39));
    }

    #[test]
    fn what_is_newer_comes_first_also_where_older_buckets_are_in_no_group() {
        let mut filters = Filters::default();
        for bucket in (60..200).filter(|bucket| bucket % 2 == 1 || *bucket > 127) {
            filters.insert(bucket, key(7), UnixMs(1));
        }
        let all = filters.candidates(key(7), UnixMs(0));
        assert!(filters.groups.len() == 2 && filters.buckets.contains_key(&61), "{:?}", filters.groups.keys());
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]) && all.len() == 106, "{all:?}");
    }

    #[test]
    fn a_filter_is_kept_and_taken_again_as_it_was_alone_and_in_a_group() {
        for buckets in [2, 40] {
            let mut filters = one_in_each(buckets);
            (5000..6000).for_each(|number| filters.insert(1, key(number), UnixMs(7)));
            filters.kept(0);
            let (bucket, row) = filters.unkept(2).unwrap();
            assert_eq!((bucket, row.newest, row.bits.len()), (1, 7, BYTES));
            let mut again = Filters::default();
            assert!(again.take(1, &row));
            assert_eq!((again.newest(), again.unkept(u32::MAX)), (UnixMs(7), None));
            for number in (0..300).chain(4900..6100) {
                let known = filters.candidates(key(number), UnixMs(7)).contains(&1);
                assert_eq!(!again.candidates(key(number), UnixMs(7)).is_empty(), known, "{number} of {buckets}");
            }
            assert!(!again.take(2, &FilterRow { newest: 0, bits: vec![0; BYTES - 8] }), "of another size");
        }
    }

    #[test]
    fn filters_are_kept_in_order_once_they_are_full_and_not_when_they_are_gone() {
        let mut filters = one_in_each(40);
        let first = |filters: &Filters, open| filters.unkept(open).map(|(bucket, _)| bucket);
        assert_eq!((first(&filters, 0), first(&filters, 1)), (None, Some(0)));
        filters.kept(0);
        filters.remove(1);
        assert_eq!((first(&filters, 2), first(&filters, 40)), (None, Some(2)));
    }
}
