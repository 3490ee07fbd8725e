//! Keeps the log readable while a destination is down: one line a second for each destination, and how many were left out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::id::DestinationId;

/// The least time between two lines about one destination.
const EVERY: Duration = Duration::from_secs(1);

/// Who was written about, and when.
#[derive(Debug, Default)]
pub(super) struct Notices {
    last: BTreeMap<DestinationId, Line>,
}

#[derive(Debug, Default)]
struct Line {
    at: Duration,
    left_out: u64,
}

impl Notices {
    /// Whether a line may be written now (monotonic time): then the number of lines that were left out before it.
    pub(super) fn allow(&mut self, destination: DestinationId, now: Duration) -> Option<u64> {
        let Some(line) = self.last.get_mut(&destination) else {
            self.last.insert(destination, Line { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_sub(line.at) < EVERY {
            line.left_out += 1;
            return None;
        }
        line.at = now;
        Some(std::mem::take(&mut line.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_destination_has_a_line_a_second_and_nothing_is_left_out_unsaid() {
        let mut notices = Notices::default();
        let (a, b) = (DestinationId(1), DestinationId(2));
        let at = Duration::from_millis;
        assert_eq!(notices.allow(a, at(0)), Some(0));
        assert_eq!(notices.allow(b, at(1)), Some(0), "one destination's noise hides nobody else");
        assert_eq!(notices.allow(a, at(10)), None);
        assert_eq!(notices.allow(a, at(999)), None);
        assert_eq!(notices.allow(a, at(1000)), Some(2));
        assert_eq!(notices.allow(a, at(2000)), Some(0));
    }
}
