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
                    let delivered = answer.verdict == Verdict::Delivered;
                    if delivered {
                        self.board.left_out(self.destination, &attempt.left_out);
                    }
                    if std::mem::replace(&mut said, true) {
                        continue;
                    }
                    if delivered && answer.warns {
                        journal.warned(self.destination, delivery, &answer.detail, self.monotonic);
                    } else if !delivered {
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
    use crate::destination::Judgement;
    use crate::domain::delivery::{Attempt, Autopsy, Phases};
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
    use crate::pipeline::scheduler::{Ended, Part};

    const NOW: UnixMs = UnixMs(1_764_000_000_000);

    fn report(verdict: Verdict, warns: bool) -> Report {
        let part = |seq| {
            let attempt = Attempt {
                n: 1,
                at: NOW,
                took: DurationMs(1),
                http_status: Some(200),
                verdict: verdict.as_str().to_owned(),
                response: String::new(),
                left_out: Vec::new(),
                phases: Phases::default(),
                proxy: None,
                called: None,
            };
            let autopsy = Autopsy { detail: String::new(), request: None, http_status: None, response: String::new() };
            let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) };
            Part { key, end: PartEnd::Exchanged { attempt, autopsy } }
        };
        let answer = Judgement { warns, ..Judgement::new(verdict, "HTTP 200, warning: 2 sent, 1 received") };
        let ended = Ended { answer: Some(answer), parts: vec![part(1), part(2)] };
        let event = std::sync::Arc::new(sample());
        Report { ended, events: vec![Some(event.clone()), Some(event)], took: DurationMs(1) }
    }

    #[test]
    fn an_exchange_is_told_once_where_it_failed_or_was_taken_with_a_warning() {
        let refused = Verdict::Transient { reason: RetryReason::Transient, not_before: None };
        for (verdict, warns, lines) in
            [(Verdict::Delivered, false, 0), (Verdict::Delivered, true, 1), (refused, false, 1)]
        {
            let (board, mut journal) = (Board::default(), Journal::default());
            let recorder = Recorder {
                board: &board,
                destination: &"meta".parse().unwrap(),
                instance: InstanceId::from_random(1),
                now: NOW,
                monotonic: Duration::ZERO,
            };
            recorder.record(&report(verdict, warns), &mut journal);
            assert_eq!(journal.lines(DestinationId(1)), lines, "{verdict:?} {warns}");
        }
    }
}
