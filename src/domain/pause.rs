//! A pause: a destination is sent nothing until somebody, or a time that was named, says otherwise.

use super::limits::PAUSE_REASON_BYTES;
use super::message::{cut, printable};
use super::time::UnixMs;

/// See the module's page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    pub since: UnixMs,
    /// When it ends by itself; `None` waits for a `resume`.
    pub until: Option<UnixMs>,
    /// For people; at most [`PAUSE_REASON_BYTES`].
    pub reason: String,
    pub by: PausedBy,
}

/// Who wanted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PausedBy {
    Operator,
    /// The receiver said that it is gone (410): a fault that nobody chose.
    Destination,
}

impl Pause {
    /// The receiver says that it is gone; `detail` are its words.
    pub fn gone(since: UnixMs, detail: &str) -> Self {
        let words = printable(format!("gone: {detail}").replace(['\n', '\t'], " ").as_bytes(), PAUSE_REASON_BYTES);
        Self { since, until: None, reason: cut(&words, PAUSE_REASON_BYTES).to_owned(), by: PausedBy::Destination }
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self, now: UnixMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// What holds where this one comes over `earlier`. The latest word does, and the destination has been standing still
    /// since the first one; but a receiver that says it is gone takes nothing from what an operator has ordered.
    #[must_use]
    pub fn over(self, earlier: &Self) -> Self {
        if earlier.is_over(self.since) {
            return self;
        }
        match (earlier.by, self.by) {
            (PausedBy::Operator, PausedBy::Destination) => earlier.clone(),
            (PausedBy::Operator, PausedBy::Operator) | (PausedBy::Destination, _) => {
                Self { since: self.since.min(earlier.since), ..self }
            }
        }
    }
}

impl PausedBy {
    pub const ALL: [Self; 2] = [Self::Operator, Self::Destination];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Destination => "destination",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(since: u64, until: Option<u64>) -> Pause {
        Pause { since: UnixMs(since), until: until.map(UnixMs), reason: String::new(), by: PausedBy::Operator }
    }

    #[test]
    fn a_pause_ends_at_its_time_and_not_before() {
        assert!(!pause(0, Some(10)).is_over(UnixMs(9)));
        assert!(pause(0, Some(10)).is_over(UnixMs(10)));
        assert!(!pause(0, None).is_over(UnixMs(u64::MAX)));
    }

    #[test]
    fn a_pause_over_a_pause_goes_on_from_the_first() {
        assert_eq!(pause(20, None).over(&pause(5, None)).since, UnixMs(5));
        assert_eq!(pause(20, None).over(&pause(5, Some(20))).since, UnixMs(20), "that one had ended");
    }

    #[test]
    fn an_operators_pause_stays_when_the_receiver_goes_and_replaces_the_one_that_a_receiver_made() {
        let gone = Pause::gone(UnixMs(20), "HTTP 410");
        assert_eq!(gone.clone().over(&pause(5, Some(30))), pause(5, Some(30)));
        assert_eq!(gone.clone().over(&pause(5, Some(20))), gone);
        let replaced = pause(40, None).over(&gone);
        assert_eq!((replaced.since, replaced.by), (UnixMs(20), PausedBy::Operator));
    }

    #[test]
    fn the_words_of_a_receiver_are_one_line_of_bounded_length() {
        let gone = Pause::gone(UnixMs(1), &format!("HTTP 410\n\u{1b}[31m{}", "é".repeat(500)));
        assert!(gone.reason.starts_with("gone: HTTP 410 ") && !gone.reason.contains(char::is_control));
        assert!(gone.reason.len() <= PAUSE_REASON_BYTES);
        assert_eq!(gone.by, PausedBy::Destination);
    }
}
