//! Many small histograms of milliseconds.
//!
//! Our own sixty lines rather than a crate, because of memory: a destination keeps over three hundred histograms, most of
//! them nearly empty, and the well-known crates allocate every bucket of each (2 to 60 KiB). Here a bucket that was never
//! hit costs nothing and one that was costs eight bytes.
//!
//! Buckets are log-linear: values below 16 exactly, above that eight per power of two. A percentile is within
//! [`RELATIVE_ERROR_MAX`] of the true one.

/// A bucket `[low, high)` is shown as the point that is equally wrong, relatively, for both its ends; with eight buckets to
/// the power of two that is at most one seventeenth.
pub const RELATIVE_ERROR_MAX: f64 = 1.0 / 17.0;

/// Powers of two are split into `2^SPLIT_BITS` buckets.
const SPLIT_BITS: u32 = 3;
const SPLIT: u32 = 1 << SPLIT_BITS;
/// Buckets of all values of a `u32`: 49 days in milliseconds, where larger values are counted too.
pub(super) const BUCKETS: usize = 240;

/// Counts of values by bucket; only buckets that were hit.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// Bucket and count, sorted by bucket.
    hit: Vec<(u8, u32)>,
}

impl Histogram {
    /// Buckets with their counts, sorted.
    pub(super) fn pairs(&self) -> &[(u8, u32)] {
        &self.hit
    }

    /// From what [`Histogram::pairs`] gave, once; what is no bucket is left out.
    pub(super) fn from_pairs(mut hit: Vec<(u8, u32)>) -> Self {
        hit.retain(|(bucket, _)| usize::from(*bucket) < BUCKETS);
        hit.sort_by_key(|(bucket, _)| *bucket);
        hit.dedup_by_key(|(bucket, _)| *bucket);
        Self { hit }
    }

    pub(super) fn record(&mut self, ms: u64) {
        let bucket = bucket(u32::try_from(ms).unwrap_or(u32::MAX));
        match self.hit.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, count)) = self.hit.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => {
                if self.hit.len() == self.hit.capacity() {
                    // Not doubled: most histograms stay at a few buckets for their whole life.
                    self.hit.reserve_exact(8);
                }
                self.hit.insert(at, (bucket, 1));
            }
        }
    }
}

/// Histograms added up, to ask for percentiles.
#[derive(Debug)]
pub(super) struct Sum {
    counts: [u64; BUCKETS],
    total: u64,
}

impl Sum {
    pub(super) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut sum = Self { counts: [0; BUCKETS], total: 0 };
        for (bucket, count) in histograms.flat_map(|histogram| &histogram.hit) {
            if let Some(known) = sum.counts.get_mut(usize::from(*bucket)) {
                *known = known.saturating_add(u64::from(*count));
            }
            sum.total = sum.total.saturating_add(u64::from(*count));
        }
        sum
    }

    /// The value that `percent` of all values do not exceed (nearest rank); `None` where there are no values.
    pub(super) fn percentile(&self, percent: u64) -> Option<f64> {
        let rank = self.total.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0_u64;
        self.counts.iter().zip(0_u8..).find_map(|(count, bucket)| {
            seen = seen.saturating_add(*count);
            (*count > 0 && seen >= rank).then(|| middle(bucket))
        })
    }
}

fn bucket(value: u32) -> u8 {
    let power = value.checked_ilog2().unwrap_or(0);
    let Some(shift) = power.checked_sub(SPLIT_BITS) else {
        return u8::try_from(value).unwrap_or(u8::MAX);
    };
    // `value >> shift` is 8 to 15: the position within its power of two, with the leading bit.
    u8::try_from(shift * SPLIT + (value >> shift)).unwrap_or(u8::MAX)
}

/// What stands for all values of a bucket.
fn middle(bucket: u8) -> f64 {
    let bucket = u32::from(bucket);
    if bucket < 2 * SPLIT {
        return f64::from(bucket);
    }
    let shift = bucket / SPLIT - 1;
    let low = u64::from(SPLIT + bucket % SPLIT) << shift;
    let high = low + (1_u64 << shift);
    // Both fit 33 bits and so, exactly, a double.
    let (low, high) = (exact(low), exact(high));
    2.0 * low * high / (low + high)
}

/// A number below 2^53 as a double, without loss.
fn exact(value: u64) -> f64 {
    let high = u32::try_from(value >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn buckets_grow_with_their_values_and_fit_the_table() {
        let mut last = 0;
        for value in (0..4096).chain((12..32).flat_map(|power| [(1_u32 << power) - 1, 1 << power])) {
            let now = bucket(value);
            assert!(now == last || now == last + 1 || value > 4096, "{value}: {last} then {now}");
            assert!(now >= last);
            last = now;
        }
        assert_eq!(usize::from(bucket(u32::MAX)), BUCKETS - 1);
    }

    #[test]
    fn values_below_sixteen_are_exact() {
        for value in 0..16 {
            assert_eq!(Sum::of([filled(&[value])].iter()).percentile(50), Some(exact(value)));
        }
    }

    #[test]
    fn no_values_have_no_percentile() {
        assert_eq!(Sum::of([Histogram::default()].iter()).percentile(50), None);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_the_stated_error_of_a_sorted_list(
            mut values in proptest::collection::vec(prop_oneof![0_u64..50, 0_u64..20_000, 0_u64..400_000_000], 1..200),
            split in 0_usize..200,
            percent in 1_u64..=100,
        ) {
            let (left, right) = values.split_at(split.min(values.len()));
            let shown = Sum::of([filled(left), filled(right)].iter()).percentile(percent).unwrap();
            values.sort_unstable();
            let rank = (values.len() * usize::try_from(percent).unwrap()).div_ceil(100).max(1);
            let truth = exact(values[rank - 1]);
            prop_assert!((shown - truth).abs() <= truth * RELATIVE_ERROR_MAX + 1e-9, "{shown} for {truth}");
        }
    }
}
