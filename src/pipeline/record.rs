//! What an exchange leaves behind for people: statistics, the last error, a line in the log. Nothing is decided by it.

use std::time::Duration;

use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, InstanceId};
use crate::domain::name::DestinationName;
use crate::domain::outcome::{RetryReason, Verdict};
use crate::domain::time::{DurationMs, UnixMs};
use crate::telemetry::rolling::LastError;

use super::board::Board;
use super::dispatch::Report;
use super::journal::{Failure, Journal};
use super::scheduler::PartEnd;

/// Where and when an exchange ended.
#[derive(Debug)]
pub(super) struct Recorder<'a> {
    pub board: &'a Board,
    pub destination: &'a DestinationName,
    pub instance: InstanceId,
    pub now: UnixMs,
    pub monotonic: Duration,
}

impl Recorder<'_> {
    /// Counts every delivery of the exchange, and says once what kept it from being taken.
    pub(super) fn record(&self, report: &Report, journal: &mut Journal) {
        let answer = report.ended.answer.as_ref();
        let together = report.ended.parts.iter().filter(|part| matches!(part.end, PartEnd::Exchanged { .. })).count();
        if together > 0 {
            self.board.metrics().exchange(self.destination, report.took);
        }
        let mut said = false;
        for (part, event) in report.ended.parts.iter().zip(&report.events) {
            let delivery = DeliveryId { instance: self.instance, key: part.key };
            match (&part.end, answer) {
                (PartEnd::Exchanged { attempt, .. }, Some(answer)) => {
                    self.board.metrics().attempt(self.destination, answer.verdict.as_str());
                    if let Some(event) = event {
                        self.count(event, answer.verdict, report.took);
                    }
                    if answer.verdict == Verdict::Delivered {
                        self.board.left_out(self.destination, &attempt.left_out);
                        if !said && is_remark(&answer.detail, attempt.http_status) {
                            said = true;
                            journal.remark(self.destination, delivery, together, &answer.detail, self.monotonic);
                        }
                    } else if !said {
                        said = true;
                        let (attempt, http_status) = (Some(attempt.n), attempt.http_status);
                        let (verdict, detail) = (answer.verdict, answer.detail.as_str());
                        self.failed(Failure { delivery, together, attempt, http_status, verdict, detail }, journal);
                    }
                }
                (PartEnd::Unsent { verdict, autopsy }, _) => {
                    let (verdict, detail) = (*verdict, autopsy.detail.as_str());
                    let failure = Failure { delivery, together: 1, attempt: None, http_status: None, verdict, detail };
                    self.failed(failure, journal);
                }
                (PartEnd::Exchanged { .. } | PartEnd::NoRoom, _) => {}
            }
        }
    }

    /// What is not the event's own doing counts neither for nor against the destination's success.
    fn count(&self, event: &Event, verdict: Verdict, took: DurationMs) {
        let delivered = match verdict {
            Verdict::Delivered => true,
            Verdict::Transient { .. }
            | Verdict::Throttled { .. }
            | Verdict::Permanent { .. }
            | Verdict::Ambiguous { .. } => false,
            Verdict::BatchFault
            | Verdict::DestinationFault
            | Verdict::Gone
            | Verdict::ProxyFault { .. }
            | Verdict::Cancelled => return,
        };
        self.board.attempt(self.destination, self.now, &event.canonical, delivered, took);
        if delivered {
            self.board.sent(self.destination, self.now, self.now.since(event.received_at));
        }
    }

    fn failed(&self, failure: Failure<'_>, journal: &mut Journal) {
        let reason = reason_word(failure.verdict);
        journal.failed(self.destination, &failure, reason, self.monotonic);
        let Failure { http_status, detail, .. } = failure;
        let error = LastError { at: self.now, http_status, reason: reason.to_owned(), message: detail.to_owned() };
        self.board.error(self.destination, error);
    }
}

/// Whether the words for a delivered answer say more than its status: fewer events were counted, or a message came.
fn is_remark(detail: &str, http_status: Option<u16>) -> bool {
    http_status.is_none_or(|status| detail != format!("HTTP {status}"))
}

fn reason_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Transient { reason, .. } | Verdict::Ambiguous { reason } => reason.as_str(),
        Verdict::Throttled { .. } => RetryReason::Throttled.as_str(),
        Verdict::Permanent { reason } => reason.as_str(),
        Verdict::Gone => "gone",
        Verdict::Delivered
        | Verdict::DestinationFault
        | Verdict::BatchFault
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled => verdict.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivered_answer_is_remarked_on_where_it_says_more_than_its_status() {
        assert!(!is_remark("HTTP 200", Some(200)));
        for said in ["HTTP 200, warning: 2 sent, 1 received", "HTTP 200, Meta says: late", "HTTP 2000"] {
            assert!(is_remark(said, Some(200)), "{said}");
        }
    }
}
