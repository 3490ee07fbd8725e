//! When a transaction leaves what an opening after a crash needs, in a file that is so large that this costs something.
//!
//! Where nothing else waits, for some fortieth of the time, at most ten times a second and at least every two seconds; and soon
//! after the last transaction of all, so that a crash in a quiet moment costs no long start. A crash in the middle of a rush may:
//! reading the whole file takes some 2 s for each GB.

use std::time::Duration;

use crate::store::Rush;

/// Between two of them, at least.
const EVERY: Duration = Duration::from_millis(100);
/// And so many times what the last one took, with all else that was in it: it writes some 130 KB for each GB of the file, and
/// whoever sends waits for it.
const TIMES: u32 = 40;
/// But no longer than this, however slow the disk is.
const EVERY_MOST: Duration = Duration::from_secs(2);

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Seal {
    next_at: Duration,
}

impl Seal {
    /// How the next transaction is made; `waiting` are the requests behind it.
    pub(super) fn rush(&self, now: Duration, waiting: usize) -> Rush {
        if waiting == 0 && self.wait(now).is_zero() { Rush::Calm } else { Rush::Hurried }
    }

    /// How long until it may be done again.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.next_at.saturating_sub(now)
    }

    /// It was done, and the transaction took so long.
    pub(super) fn done(&mut self, now: Duration, took: Duration) {
        self.next_at = now.saturating_add(took.saturating_mul(TIMES).clamp(EVERY, EVERY_MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is done within a second where each takes so long.
    fn in_a_second(took: Duration) -> usize {
        let (mut seal, mut count, mut now) = (Seal::default(), 0, Duration::ZERO);
        while now < Duration::from_secs(1) {
            assert_eq!(seal.rush(now, 1), Rush::Hurried, "somebody waits");
            if seal.rush(now, 0) == Rush::Calm {
                now += took;
                seal.done(now, took);
                count += 1;
            }
            now += Duration::from_millis(1);
        }
        count
    }

    #[test]
    fn it_is_done_in_calm_moments_ten_times_a_second_at_most_and_for_a_fortieth_of_the_time() {
        assert_eq!(in_a_second(Duration::from_millis(1)), 10);
        assert_eq!(in_a_second(Duration::from_millis(10)), 3);
    }

    #[test]
    fn a_slow_disk_does_not_keep_it_from_being_done_for_long() {
        let mut seal = Seal::default();
        let stalled = Duration::from_mins(1);
        seal.done(stalled, stalled);
        assert_eq!(seal.wait(stalled), EVERY_MOST);
        assert_eq!(seal.wait(stalled + EVERY_MOST), Duration::ZERO);
    }
}
