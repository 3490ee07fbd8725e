//! Judging Meta's answers: the body's error code first, then its `is_transient`, then the HTTP status, because Meta sends
//! token errors with HTTP 500 and limits with HTTP 400.
//!
//! A refusal of a request with several events is a batch fault: some event in it is guilty, and only splitting tells
//! which. An answer that may mean a bad event or a bad minute is tried again, but only [`UNSURE_ATTEMPTS`] times. HTML instead of JSON is somebody between us and Meta, and passes. Localised texts (`error_user_title`,
//! `error_user_msg`) are shown, never read.

use serde_json::Value;

use super::codes::{self, Class};
use super::usage;
use crate::destination::http_status::{self, retry_after};
use crate::destination::view;
use crate::destination::{JudgeContext, Judgement};
use crate::domain::outcome::{DeadReason, RetryReason, Verdict};
use crate::domain::retry::StatusSet;
use crate::domain::secret::Redactor;
use crate::env::transport::Answer;

/// Counting attempts after which an answer that explains nothing is taken for the event's fault: about an hour of the
/// default delays (30 s doubling seven times), which outlives an ordinary disturbance.
const UNSURE_ATTEMPTS: u32 = 8;

pub(super) fn judge(answer: &Answer, context: JudgeContext<'_>, redactor: &Redactor) -> Judgement {
    let by_status = http_status::judge(answer, context, &StatusSet::success(), redactor);
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let judged = match body.as_ref().and_then(|body| body.get("error")) {
        Some(error) => judge_error(error, answer, context, &by_status, redactor),
        None if is_html(answer) => html(by_status, answer, context),
        None => warned(by_status, body.as_ref(), context, redactor),
    };
    match judged.verdict {
        Verdict::Permanent { .. } if context.sent > 1 => Judgement { verdict: Verdict::BatchFault, ..judged },
        Verdict::Permanent { .. }
        | Verdict::Delivered
        | Verdict::Transient { .. }
        | Verdict::Throttled { .. }
        | Verdict::DestinationFault
        | Verdict::Gone
        | Verdict::BatchFault
        | Verdict::Ambiguous { .. }
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled => judged,
    }
}

fn judge_error(
    error: &Value,
    answer: &Answer,
    context: JudgeContext<'_>,
    by_status: &Judgement,
    redactor: &Redactor,
) -> Judgement {
    let not_before = retry_after(answer, context.now).or_else(|| usage::regain_access(answer, context.now));
    let transient = Verdict::Transient { reason: RetryReason::Transient, not_before };
    let code = number(error.get("code"));
    let subcode = number(error.get("error_subcode"));
    let says_transient = error.get("is_transient").and_then(Value::as_bool).unwrap_or(false);
    let row = code.and_then(|code| codes::find(code, subcode));
    let mut attempts_max = None;
    let verdict = match row.map(|row| row.class) {
        Some(Class::Transient) => transient,
        Some(Class::Unsure) => {
            attempts_max = Some(UNSURE_ATTEMPTS);
            transient
        }
        Some(Class::Throttled) => Verdict::Throttled { not_before },
        Some(Class::DestinationFault) => Verdict::DestinationFault,
        Some(Class::Parameter) | None if says_transient => transient,
        Some(Class::Parameter) => Verdict::Permanent { reason: DeadReason::Permanent },
        Some(Class::Event(reason)) => Verdict::Permanent { reason },
        // Of several events only some may have been taken before.
        Some(Class::Duplicate) if context.sent > 1 => Verdict::BatchFault,
        Some(Class::Duplicate) => Verdict::Delivered,
        None => match by_status.verdict {
            Verdict::Throttled { .. } => Verdict::Throttled { not_before },
            Verdict::DestinationFault => Verdict::DestinationFault,
            // Not Meta's own form of an error: somebody before it, whose status says enough.
            Verdict::Transient { .. } if code.is_none() => transient,
            // A code nobody has described is no proof against the event, and none for it.
            Verdict::Delivered
            | Verdict::Permanent { .. }
            | Verdict::Transient { .. }
            | Verdict::Gone
            | Verdict::BatchFault
            | Verdict::Ambiguous { .. }
            | Verdict::ProxyFault { .. }
            | Verdict::Cancelled => {
                attempts_max = Some(UNSURE_ATTEMPTS);
                transient
            }
        },
    };
    let meaning = row.map_or("a code postbackd does not know", |row| row.meaning);
    let name = match (code, subcode) {
        (Some(code), Some(subcode)) => format!("Meta error {code}/{subcode}"),
        (Some(code), None) => format!("Meta error {code}"),
        (None, _) => "Meta error without a code".to_owned(),
    };
    let usage = usage::told(answer);
    let detail = format!("{name} (HTTP {}), {meaning}{usage}{}", answer.status, said(error, redactor));
    Judgement { verdict, detail, attempts_max, warns: false }
}

/// Meta's own words, and the fields it blames.
fn said(error: &Value, redactor: &Redactor) -> String {
    let mut out = String::new();
    for name in ["message", "error_user_msg"] {
        if let Some(text) = error.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty()) {
            out.push_str(": ");
            out.push_str(&view::line(text, redactor));
        }
    }
    let blamed = blamed(error);
    if !blamed.is_empty() {
        out.push_str("; it blames ");
        out.push_str(&view::line(&blamed.join(" "), redactor));
    }
    out
}

/// `error_data` is an object or a JSON text; each of its `blame_field_specs` is a path as a list.
fn blamed(error: &Value) -> Vec<String> {
    let parsed = match error.get("error_data") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(value) => value.clone(),
        None => Value::Null,
    };
    let specs = parsed.get("blame_field_specs").and_then(Value::as_array);
    let paths = specs.into_iter().flatten().map(|spec| match spec {
        Value::Array(path) => path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."),
        Value::String(path) => path.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    });
    paths.filter(|path| !path.is_empty()).collect()
}

/// A number that may have come as text.
fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_html(answer: &Answer) -> bool {
    let typed = answer.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("text/html"));
    typed || answer.body.trim_ascii_start().starts_with(b"<")
}

/// A page instead of an answer is transient, also with HTTP 200; redirects and limits stay what the status says.
fn html(by_status: Judgement, answer: &Answer, context: JudgeContext<'_>) -> Judgement {
    let keep = (300..400).contains(&answer.status) || matches!(by_status.verdict, Verdict::Throttled { .. });
    if keep {
        return by_status;
    }
    let not_before = retry_after(answer, context.now);
    let detail = format!("HTML instead of JSON, {}", by_status.detail);
    Judgement::new(Verdict::Transient { reason: RetryReason::Transient, not_before }, detail)
}

/// Adds what Meta said about a request it took: how many events it saw, where that is not what was sent, and its warnings.
fn warned(judged: Judgement, body: Option<&Value>, context: JudgeContext<'_>, redactor: &Redactor) -> Judgement {
    let (Verdict::Delivered, Some(body)) = (judged.verdict, body) else { return judged };
    let Judgement { mut detail, mut warns, .. } = judged;
    let received = number(body.get("events_received"));
    if let Some(received) = received.filter(|received| usize::try_from(*received) != Ok(context.sent)) {
        detail = format!("{detail}, warning: {} sent, {received} received", context.sent);
        warns = true;
    }
    let messages: Vec<&str> =
        body.get("messages").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if !messages.is_empty() {
        detail.push_str(", Meta says: ");
        detail.push_str(&view::line(&messages.join("; "), redactor));
        warns = true;
    }
    Judgement { detail, warns, ..judged }
}
