//! What would be said again and again while nothing changes is said once a minute: a disk that is full for a night must not
//! be filled up further by the words about it.
//!
//! Pure: every time comes with the question.

use std::time::Duration;

/// The same thing is said again after so long.
const AGAIN: Duration = Duration::from_mins(1);

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Rarely {
    said: Option<(String, Duration)>,
    left_out: u32,
}

impl Rarely {
    /// Whether to say `what` now, and how often it was left out since it was said last; something else is always said.
    pub(super) fn say(&mut self, what: &str, now: Duration) -> Option<u32> {
        let is_known = |(said, at): &(String, Duration)| said == what && now.saturating_sub(*at) < AGAIN;
        if self.said.as_ref().is_some_and(is_known) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.said = Some((what.to_owned(), now));
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_with_what_was_left_out_and_something_else_at_once() {
        let mut rarely = Rarely::default();
        let mut said = Vec::new();
        for quarter in 0..600_u32 {
            let now = Duration::from_millis(250) * quarter;
            said.extend(rarely.say("full", now).map(|left_out| (quarter, left_out)));
        }
        assert_eq!(said, [(0, 0), (240, 239), (480, 239)]);
        let now = Duration::from_millis(250) * 600;
        assert_eq!(rarely.say("torn", now), Some(119));
        assert_eq!(rarely.say("full", now), Some(0));
    }
}
