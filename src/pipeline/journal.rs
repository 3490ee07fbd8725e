//! What the log is told about destinations: attempts that failed, and when one is no longer sent to, or again.
//!
//! A destination that is down for a night fails once for every retry of every delivery. A log of all of them would push
//! everything else out of the journal, so each destination has [`LINES`] lines in [`WINDOW`]; the next line after that
//! says how many were left out. Nothing is lost by it: every attempt stands in the trace of its event.

use std::collections::HashMap;
use std::time::Duration;

use tracing::{info, warn};

use crate::domain::id::{DeliveryId, DestinationId};
use crate::domain::name::DestinationName;
use crate::domain::outcome::Verdict;
use crate::domain::pause::PausedBy;
use crate::domain::time::UnixMs;

use super::LaneView;

/// Lines about failed attempts of one destination within [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Journal {
    quotas: HashMap<DestinationId, Quota>,
    /// Why a destination was not sent to when it was last looked at: `held`, `open` or `paused`.
    stopped: HashMap<DestinationId, Option<&'static str>>,
}

/// An exchange that did not deliver, or a delivery none could be made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// The first of those that were sent together.
    pub delivery: DeliveryId,
    pub together: usize,
    /// Number and HTTP status of its attempt.
    pub attempt: Option<u32>,
    pub http_status: Option<u16>,
    pub verdict: Verdict,
    /// In words.
    pub detail: &'a str,
}

/// How much was said of one destination lately.
#[derive(Debug, Default)]
struct Quota {
    window_began: Option<Duration>,
    said: u32,
    left_out: u64,
}

impl Journal {
    /// An exchange that did not deliver, or a delivery none could be made for. `now` is monotonic.
    pub(super) fn failed(
        &mut self,
        destination: &DestinationName,
        failure: &Failure<'_>,
        reason: &'static str,
        now: Duration,
    ) {
        let Failure { delivery, together, attempt, http_status, detail, .. } = *failure;
        let Some(left_out) = self.quotas.entry(delivery.key.destination).or_default().take(now) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let together = (together > 1).then_some(together);
        if attempt.is_some() {
            warn!(%destination, %delivery, together, attempt, http_status, reason, detail, left_out, "An attempt failed.");
        } else {
            warn!(%destination, %delivery, reason, detail, left_out, "No request can be made of the event.");
        }
    }

    /// Lines said of a destination lately.
    #[cfg(test)]
    pub(super) fn lines(&self, id: DestinationId) -> u32 {
        self.quotas.get(&id).map_or(0, |quota| quota.said)
    }

    /// An exchange that delivered, with something an operator should see; `delivery` is the first of those in it. `now` is
    /// monotonic.
    pub(super) fn warned(&mut self, destination: &DestinationName, delivery: DeliveryId, detail: &str, now: Duration) {
        let Some(left_out) = self.quotas.entry(delivery.key.destination).or_default().take(now) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        warn!(%destination, %delivery, detail, left_out, "The destination took what was sent, with a warning.");
    }

    /// The state of a destination, told whenever it may have changed.
    pub(super) fn lane(&mut self, id: DestinationId, destination: &DestinationName, view: &LaneView) {
        let stopped = matches!(view.state, "held" | "open" | "paused").then_some(view.state);
        let before = std::mem::replace(self.stopped.entry(id).or_default(), stopped);
        if before == stopped {
            return;
        }
        let reason = view.reason.as_deref().unwrap_or_default();
        let next_try = view.until.map(UnixMs::to_rfc3339).unwrap_or_default();
        match stopped {
            Some("held") => {
                warn!(%destination, reason, next_try, "The destination is held; one delivery at a time tries it.");
            }
            Some("paused") if view.paused_by == Some(PausedBy::Destination) => {
                warn!(
                    %destination, reason,
                    "The destination is paused, for its receiver is gone. Correct its url and restart, then: \
                     postbackd resume {destination}"
                );
            }
            Some("paused") => info!(%destination, reason, until = next_try, "The destination is paused."),
            Some(_) => {
                warn!(%destination, reason, next_try, "The destination is down; one delivery at a time tries it.");
            }
            None if view.state == "disabled" => info!(%destination, "The pause is over; the destination is disabled."),
            None => info!(%destination, state = view.state, "The destination is sent to again."),
        }
    }
}

impl Quota {
    /// Whether one more line may be said, and how many were left out before it.
    fn take(&mut self, now: Duration) -> Option<u64> {
        if self.window_began.is_none_or(|began| now.saturating_sub(began) >= WINDOW) {
            self.window_began = Some(now);
            self.said = 0;
        }
        if self.said >= LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_is_a_few_lines_and_then_a_count() {
        let mut quota = Quota::default();
        let at = Duration::from_millis;
        let said = (0..1000).filter(|ms| quota.take(at(*ms)).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(quota.take(at(9_999)), None);
        assert_eq!(quota.take(at(10_000)), Some(991));
        assert_eq!(quota.take(at(10_001)), Some(0));
    }

    #[test]
    fn a_quiet_destination_has_a_line_for_every_failure() {
        let mut quota = Quota::default();
        assert!((0..100).all(|minute| quota.take(Duration::from_secs(60 * minute)) == Some(0)));
    }
}
