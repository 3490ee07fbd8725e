//! When a transaction leaves what an opening after a crash needs, in a file that is so large that this costs something.
//!
//! Where nothing else waits, and at most ten times a second; and soon after the last transaction of all, so that a crash in a quiet
//! moment costs no long start. A crash in the middle of a rush may: reading the whole file takes some 2 s for each GB.

use std::time::Duration;

use crate::store::Rush;

/// Between two of them: each writes some 130 KB for each GB of the file.
const EVERY: Duration = Duration::from_millis(100);

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Seal {
    done_at: Option<Duration>,
}

impl Seal {
    /// How the next transaction is made; `waiting` are the requests behind it.
    pub(super) fn rush(&self, now: Duration, waiting: usize) -> Rush {
        if waiting == 0 && self.wait(now).is_zero() { Rush::Calm } else { Rush::Hurried }
    }

    /// How long until it may be done again.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.done_at.map_or(Duration::ZERO, |at| at.saturating_add(EVERY).saturating_sub(now))
    }

    pub(super) fn done(&mut self, now: Duration) {
        self.done_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_in_calm_moments_ten_times_a_second_at_most() {
        let (mut seal, mut count) = (Seal::default(), 0);
        for ms in 0..1000 {
            let now = Duration::from_millis(ms);
            assert_eq!(seal.rush(now, 1), Rush::Hurried);
            if seal.rush(now, 0) == Rush::Calm {
                seal.done(now);
                count += 1;
            }
        }
        assert_eq!(count, 10);
        assert_eq!(seal.wait(Duration::from_millis(999)), Duration::from_millis(1));
    }
}
