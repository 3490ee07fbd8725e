//! Lists that are added up rather than shown: one request follows pages for a bounded time, and answers with the cursor
//! of what is left.
//!
//! By time, since what a row costs differs a hundredfold between a small one that is in memory and a large one that is not.

use std::time::Duration;

use super::problem::Problem;
use crate::domain::id::DeliveryKey;
use crate::env::clock::Clock;
use crate::store::read::Page;

/// After so long no further page is begun. A page's share of work is some 20 ms at most, so that the two together stay
/// under the 50 ms that every list has.
const LOOKS_FOR: Duration = Duration::from_millis(20);
/// Rows of one page: an entry of the DLQ may carry tens of kilobytes.
pub(super) const ROWS: usize = 200;

/// Gives `take` every row after `after`, page by page, at least one page. What is returned continues it; `None` is the end.
pub(super) async fn walk<T, Reading: Future<Output = Result<Page<T>, Problem>>>(
    clock: &dyn Clock,
    mut after: Option<DeliveryKey>,
    page: impl Fn(Option<DeliveryKey>) -> Reading,
    mut take: impl FnMut(&T),
) -> Result<Option<DeliveryKey>, Problem> {
    let deadline = clock.monotonic() + LOOKS_FOR;
    loop {
        let Page { rows, next } = page(after).await?;
        rows.iter().for_each(&mut take);
        after = next;
        if after.is_none() || clock.monotonic() >= deadline {
            return Ok(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::domain::time::UnixMs;

    /// Each look at it is so many milliseconds later than the last.
    struct Ticking(u64, AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.1.fetch_add(self.0, Ordering::Relaxed))
        }
    }

    /// Walks a list of rows 9 to 1, three a page.
    async fn walked(step: u64, after: Option<u64>) -> (Vec<u64>, Option<u64>) {
        let key = |number| DeliveryKey { seq: EventSeq(number), destination: DestinationId(1) };
        let page = |after: Option<DeliveryKey>| {
            let first = after.map_or(9, |key| key.seq.0 - 1);
            let rows: Vec<u64> = (1..=first).rev().take(3).collect();
            let next = rows.last().filter(|last| **last > 1).map(|last| key(*last));
            ready(Ok(Page { rows, next }))
        };
        let mut seen = Vec::new();
        let clock = Ticking(step, AtomicU64::new(0));
        let next = walk(&clock, after.map(key), page, |row| seen.push(*row)).await.unwrap();
        (seen, next.map(|key| key.seq.0))
    }

    #[tokio::test]
    async fn a_walk_ends_with_its_time_or_with_the_list_and_never_without_a_page() {
        assert_eq!(walked(1, None).await, (vec![9, 8, 7, 6, 5, 4, 3, 2, 1], None));
        assert_eq!(walked(15, None).await, (vec![9, 8, 7, 6, 5, 4], Some(4)));
        assert_eq!(walked(9999, Some(4)).await, (vec![3, 2, 1], None));
        assert_eq!(walked(9999, None).await, (vec![9, 8, 7], Some(7)));
    }
}
