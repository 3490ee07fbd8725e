//! Free disk space, and the reserve that ingest must leave to the outcomes of deliveries.

use std::path::PathBuf;
use std::time::Duration;

use tracing::{info, warn};

use crate::env::clock::Clock;

use super::board::Board;

/// How often the file system is asked.
const EVERY: Duration = Duration::from_secs(1);
/// The least that is kept free where nothing is configured.
const RESERVE_MIN: u64 = 64 * 1024 * 1024;

/// Watches the file system the store lies on.
#[derive(Debug)]
pub(super) struct DiskGuard {
    path: PathBuf,
    /// `None`: the larger of 64 MiB and 5 % of the file system.
    reserve: Option<u64>,
    asked: Option<Duration>,
    short: bool,
}

impl DiskGuard {
    pub(super) fn new(path: PathBuf, reserve: Option<u64>) -> Self {
        Self { path, reserve, asked: None, short: false }
    }

    /// Whether less than the reserve is free; asks the file system at most once a second.
    pub(super) fn is_short(&mut self, clock: &dyn Clock, board: &Board) -> bool {
        let now = clock.monotonic();
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= EVERY) {
            self.asked = Some(now);
            if let Ok(stat) = rustix::fs::statvfs(&self.path) {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let size = stat.f_blocks.saturating_mul(stat.f_frsize);
                let reserve = reserve(self.reserve, size);
                let was_short = std::mem::replace(&mut self.short, falls_short(free, reserve));
                match (was_short, self.short) {
                    (false, true) => warn!(free, reserve, "Disk space is low: new events are refused with 503."),
                    (true, false) => info!(free, reserve, "There is disk space again: new events are taken."),
                    (true, true) | (false, false) => {}
                }
                board.set_disk(free, reserve, self.short);
            }
        }
        self.short
    }
}

fn falls_short(free: u64, reserve: u64) -> bool {
    free < reserve
}

/// Bytes to keep free on a file system of `size` bytes. The default never asks for more than a quarter of a small one.
fn reserve(configured: Option<u64>, size: u64) -> u64 {
    configured.unwrap_or_else(|| RESERVE_MIN.max(size / 20).min(size / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMs;

    /// So many milliseconds after the start.
    struct At(u64);

    impl Clock for At {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0)
        }
    }

    #[test]
    fn the_file_system_is_asked_once_a_second() {
        let (mut guard, board) = (DiskGuard::new(std::env::temp_dir(), Some(u64::MAX)), Board::default());
        let mut is_short = |ms, reserve| {
            guard.reserve = Some(reserve);
            guard.is_short(&At(ms), &board)
        };
        assert!(is_short(0, u64::MAX));
        assert!(is_short(999, 0), "as it was when it was asked last");
        assert!(!is_short(1000, 0));
        assert!(!is_short(1999, u64::MAX));
        assert!(is_short(2000, u64::MAX));
    }

    #[test]
    fn the_reserve_itself_is_enough() {
        assert_eq!([6, 7, 8].map(|free| falls_short(free, 7)), [true, false, false]);
    }

    #[test]
    fn the_default_reserve_follows_the_size_of_the_file_system() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(reserve(None, 100 * GIB), 5 * GIB);
        assert_eq!(reserve(None, GIB), 64 * 1024 * 1024);
        assert_eq!(reserve(None, 100 * 1024 * 1024), 25 * 1024 * 1024);
        assert_eq!(reserve(Some(7), 100 * GIB), 7);
    }
}
