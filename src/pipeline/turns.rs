//! Turns: how many exchanges may be under way at a time, so that deliveries never take the file descriptors that the store
//! and those who come in need.
//!
//! There are so many turns in all, and they are shared out: each destination gets as many as its `concurrency` where there
//! are enough. Where there are not, those that want least get what they want and the others get alike, so that one whose
//! receiver hangs holds its own turns and nobody else's. Only where there are fewer turns than destinations do they wait for
//! each other, first come, first served. Whoever waits has begun no attempt: no time of it runs, and none is spent.
//!
//! They are of deliveries only: an alert, or an operator's test, must not wait for those it is about.

use std::collections::BTreeMap;

/// How many of `all` each gets of what it wants; never none.
pub(super) fn share<K: Ord + Copy>(all: usize, wanted: &BTreeMap<K, usize>) -> BTreeMap<K, usize> {
    let mut modest_first: Vec<(usize, K)> = wanted.iter().map(|(key, wanted)| (*wanted, *key)).collect();
    modest_first.sort_unstable();
    let (mut left, mut others) = (all, modest_first.len());
    let share = |(wanted, key): (usize, K)| {
        let fair = left / others.max(1);
        let got = wanted.min(fair).max(1);
        left = left.saturating_sub(got);
        others -= 1;
        (key, got)
    };
    modest_first.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared<const N: usize>(all: usize, wanted: [usize; N]) -> [usize; N] {
        let wanted: BTreeMap<usize, usize> = wanted.into_iter().enumerate().collect();
        let got = share(all, &wanted);
        std::array::from_fn(|key| got[&key])
    }

    // Row 29.
    #[test]
    fn each_gets_what_it_wants_while_there_is_enough_and_the_greedy_share_what_is_left() {
        assert_eq!(shared(120, [16, 16, 50]), [16, 16, 50]);
        assert_eq!(shared(120, [500, 16, 16]), [88, 16, 16]);
        assert_eq!(shared(120, [500, 16, 300]), [52, 16, 52]);
        assert_eq!(shared(8, [16, 16, 1]), [3, 4, 1]);
        assert_eq!(shared(2, [16, 16, 16]), [1, 1, 1], "they wait for each other");
        assert_eq!(share::<u8>(8, &BTreeMap::new()), BTreeMap::new());
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is_and_nothing_is_kept_back(
            all in 1_usize..300,
            wanted in proptest::collection::btree_map(0_u8..40, 1_usize..100, 1..30),
        ) {
            let got = share(all, &wanted);
            let (given, asked): (usize, usize) = (got.values().sum(), wanted.values().sum());
            prop_assert!(got.iter().all(|(key, got)| (1..=wanted[key]).contains(got)));
            if wanted.len() <= all {
                prop_assert_eq!(given, asked.min(all));
            }
        }
    }
}
