//! What an HTTP status means where the body says nothing better: the rules every kind shares.
//!
//! ```text
//! expected by the kind          delivered
//! 429, 503 with Retry-After     throttled, not before that time
//! in retry.statuses             transient, not before Retry-After
//! 401, 403                      destination fault
//! anything else, also 3xx       permanent
//! ```
//!
//! A status an operator put into `retry.statuses` is retried, also 401 and 403. How far `Retry-After` may reach is
//! `domain::retry`'s business.

use jiff::fmt::rfc2822::DateTimeParser;

use super::view::{excerpt, header_line};
use super::{JudgeContext, Judgement};
use crate::domain::outcome::{DeadReason, RetryReason, Verdict};
use crate::domain::retry::StatusSet;
use crate::domain::secret::Redactor;
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::Answer;

/// Judges `answer` by status and `Retry-After`; `delivered` are the statuses that mean success.
pub fn judge(answer: &Answer, context: JudgeContext<'_>, delivered: &StatusSet, redactor: &Redactor) -> Judgement {
    let verdict = verdict(answer, context, delivered);
    let status = answer.status;
    let said = match excerpt(answer, redactor) {
        said if said.is_empty() => ", the answer has no body".to_owned(),
        said => format!(": {said}"),
    };
    let detail = match verdict {
        Verdict::Delivered => format!("HTTP {status}"),
        Verdict::Throttled { .. } => format!("HTTP {status}, the destination asks for patience{said}"),
        Verdict::DestinationFault => {
            format!("HTTP {status}, the destination refuses our credentials; check token and permissions{said}")
        }
        Verdict::Permanent { .. } if (300..400).contains(&status) => redirect_detail(answer, redactor),
        Verdict::Permanent { .. }
        | Verdict::Transient { .. }
        | Verdict::BatchFault
        | Verdict::Ambiguous { .. }
        | Verdict::Gone
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled => format!("HTTP {status}{said}"),
    };
    Judgement::new(verdict, detail)
}

fn verdict(answer: &Answer, context: JudgeContext<'_>, delivered: &StatusSet) -> Verdict {
    if delivered.contains(answer.status) {
        return Verdict::Delivered;
    }
    let not_before = retry_after(answer, context.now);
    match answer.status {
        429 => Verdict::Throttled { not_before },
        503 if not_before.is_some() => Verdict::Throttled { not_before },
        status if context.transient.contains(status) => {
            Verdict::Transient { reason: RetryReason::Transient, not_before }
        }
        401 | 403 => Verdict::DestinationFault,
        _ => Verdict::Permanent { reason: DeadReason::Permanent },
    }
}

fn redirect_detail(answer: &Answer, redactor: &Redactor) -> String {
    let to = answer.header("location").map(|to| header_line(to, redactor)).filter(|to| !to.is_empty());
    let to = to.map_or_else(String::new, |to| format!(" to {to}"));
    format!("HTTP {}, a redirect{to}; redirects are not followed, configure the final URL", answer.status)
}

/// `Retry-After` as a point of time: whole seconds from `now`, or an HTTP date. A date in the past and anything
/// unreadable count as not given.
pub fn retry_after(answer: &Answer, now: UnixMs) -> Option<UnixMs> {
    let text = answer.header("retry-after")?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds is still a wish for a long pause.
        return Some(now + DurationMs::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let parser = DateTimeParser::new().relaxed_weekday(true);
    let time = parser.parse_timestamp(text).ok()?.as_millisecond();
    u64::try_from(time).ok().map(UnixMs).filter(|time| *time > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-24T16:00:00Z
    const NOW: UnixMs = UnixMs(1_764_000_000_000);

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        let headers = retry_after.map(|text| ("retry-after".to_owned(), text.to_owned()));
        Answer { status, headers: headers.into_iter().collect(), body: b"said".to_vec() }
    }

    fn judged(status: u16, retry_after: Option<&str>, transient: &StatusSet) -> Judgement {
        let context = JudgeContext { sent: 1, transient, now: NOW };
        judge(&answer(status, retry_after), context, &StatusSet::success(), &Redactor::default())
    }

    // Row 48.
    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let read = |text: &str| retry_after(&answer(503, Some(text)), NOW);
        assert_eq!(read("120"), Some(NOW + DurationMs::from_secs(120)));
        assert_eq!(read(" 0 "), Some(NOW));
        assert_eq!(read("Mon, 24 Nov 2025 16:02:00 GMT"), Some(NOW + DurationMs::from_secs(120)));
        assert_eq!(read("Fri, 24 Nov 2025 16:02:00 GMT"), Some(NOW + DurationMs::from_secs(120)));
        assert_eq!(read("99999999999999999999999"), Some(UnixMs(u64::MAX)));
        for ignored in ["", "soon", "-5", "1.5", "Mon, 24 Nov 2025 15:59:59 GMT", "Mon, 24 Nov 1969 16:00:00 GMT"] {
            assert_eq!(read(ignored), None, "{ignored}");
        }
        assert_eq!(retry_after(&answer(503, None), NOW), None);
    }

    #[test]
    fn a_status_the_operator_wants_retried_is_retried() {
        let transient = StatusSet::new(vec![(403, 404)]);
        for status in [403, 404] {
            let verdict = judged(status, None, &transient).verdict;
            assert_eq!(verdict, Verdict::Transient { reason: RetryReason::Transient, not_before: None });
        }
        assert!(matches!(judged(500, None, &transient).verdict, Verdict::Permanent { .. }));
    }

    // Row 48.
    #[test]
    fn a_429_throttles_whatever_the_policy_lists() {
        let none = StatusSet::new(Vec::new());
        assert_eq!(judged(429, None, &none).verdict, Verdict::Throttled { not_before: None });
        let until = Verdict::Throttled { not_before: Some(NOW + DurationMs::from_secs(7)) };
        assert_eq!(judged(503, Some("7"), &none).verdict, until);
    }

    #[test]
    fn a_transient_answer_keeps_its_retry_after() {
        let verdict = judged(500, Some("7"), &StatusSet::transient()).verdict;
        let not_before = Some(NOW + DurationMs::from_secs(7));
        assert_eq!(verdict, Verdict::Transient { reason: RetryReason::Transient, not_before });
    }

    // Rows 49 and 54.
    #[test]
    fn a_redirect_is_permanent_and_says_where_to() {
        let mut moved = answer(301, None);
        moved.headers.push(("location".to_owned(), "https://other.example/x?token=s3cr3t".to_owned()));
        let redactor = super::super::view::redactor(&[crate::domain::secret::Secret::new("s3cr3t".to_owned())]);
        let context = JudgeContext { sent: 1, transient: &StatusSet::transient(), now: NOW };
        let judged = judge(&moved, context, &StatusSet::success(), &redactor);
        assert_eq!(judged.verdict, Verdict::Permanent { reason: DeadReason::Permanent });
        assert!(judged.detail.contains("https://other.example/x?token=[redacted]"), "{}", judged.detail);
    }
}
