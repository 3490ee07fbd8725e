//! Memory for events at hand, over all lanes: what does not fit is read again when it is its turn.
//!
//! A lane may keep as many bytes as are left for all: so one lane alone has half of everything, the next half of the rest,
//! and however many destinations are down, the others still have room. What is kept gives its bytes back by itself when it
//! is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One lane's purse, or the house's, from which lanes get theirs by [`Purse::of_a_lane`].
#[derive(Debug)]
pub(super) struct Purse {
    house: Arc<Used>,
    own: Arc<Used>,
    /// Bytes for all lanes together.
    total: usize,
}

/// Bytes in use. The scheduler belongs to one task at a time, so nothing is ordered by it.
type Used = AtomicUsize;

/// Bytes that are in use until this is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    house: Arc<Used>,
    own: Arc<Used>,
    bytes: usize,
}

impl Purse {
    pub(super) fn new(total: usize) -> Self {
        Self { house: Arc::default(), own: Arc::default(), total }
    }

    /// A purse of its own for a lane.
    pub(super) fn of_a_lane(&self) -> Self {
        Self { house: Arc::clone(&self.house), own: Arc::default(), total: self.total }
    }

    /// Bytes the lane may still keep.
    pub(super) fn room(&self) -> usize {
        let left = self.total.saturating_sub(self.house.load(Ordering::Relaxed));
        left.saturating_sub(self.own.load(Ordering::Relaxed)) / 2
    }

    /// Room for `bytes`; `None` where there is not enough.
    pub(super) fn keep(&self, bytes: usize) -> Option<Kept> {
        if bytes > self.room() {
            return None;
        }
        self.house.fetch_add(bytes, Ordering::Relaxed);
        self.own.fetch_add(bytes, Ordering::Relaxed);
        Some(Kept { house: Arc::clone(&self.house), own: Arc::clone(&self.own), bytes })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.house.fetch_sub(self.bytes, Ordering::Relaxed);
        self.own.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Row 38.
    #[test]
    fn one_lane_never_takes_what_another_needs() {
        let house = Purse::new(1024);
        let (dead, live) = (house.of_a_lane(), house.of_a_lane());
        let fill = |purse: &Purse| std::iter::from_fn(|| purse.keep(1)).collect::<Vec<_>>();
        let hoard = fill(&dead);
        assert_eq!(hoard.len(), 512);
        let kept = fill(&live);
        assert_eq!((kept.len(), live.room()), (256, 0));
        assert!(house.of_a_lane().room() > 0, "there is always room for one more");
        drop((hoard, kept));
        assert_eq!(live.room(), 512, "what is dropped is given back");
    }
}
