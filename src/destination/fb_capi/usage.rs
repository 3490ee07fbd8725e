//! The headers in which Meta tells how much of its limits is used up (platforms.md 1.6): shown with an error, and read for
//! when the limit ends where there is no `Retry-After`.
//!
//! - `x-app-usage`: percentages `call_count`, `total_time`, `total_cputime`.
//! - `x-business-use-case-usage`: by business id a list of the same, with `estimated_time_to_regain_access` in minutes.
//! - `x-ad-account-usage`: `acc_id_util_pct`, and `reset_time_duration` in seconds.
//!
//! What cannot be read is not there: the delay is the planned one then.

use serde_json::Value;

use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::Answer;

/// Percentages from here on are worth telling: at 100 calls fail.
const NEAR_PERCENT: f64 = 90.0;

/// When calls are taken again, if the answer says so: the latest of the times it names. Zero is none.
pub(super) fn regain_access(answer: &Answer, now: UnixMs) -> Option<UnixMs> {
    let business = read(answer, "x-business-use-case-usage");
    let entries = business.iter().filter_map(Value::as_object).flat_map(serde_json::Map::values);
    let minutes = entries
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|entry| entry.get("estimated_time_to_regain_access")?.as_u64())
        .map(|minutes| minutes.saturating_mul(60));
    let account = read(answer, "x-ad-account-usage");
    let seconds = account.as_ref().and_then(|usage| usage.get("reset_time_duration")?.as_u64());
    let wait = minutes.chain(seconds).max().filter(|seconds| *seconds > 0)?;
    Some(now + DurationMs::from_secs(wait))
}

/// `, used up: call_count 100 %`; empty where nothing is near its limit.
pub(super) fn told(answer: &Answer) -> String {
    let mut found: Vec<String> = Vec::new();
    for header in ["x-app-usage", "x-business-use-case-usage", "x-ad-account-usage"] {
        if let Some(usage) = read(answer, header) {
            percentages(&usage, &mut found);
        }
    }
    if found.is_empty() { String::new() } else { format!(", used up: {}", found.join(", ")) }
}

/// Gathers percentages near the limit, at any depth: only names we know, so that nothing else of a header is shown.
fn percentages(usage: &Value, found: &mut Vec<String>) {
    match usage {
        Value::Object(members) => {
            for name in ["call_count", "total_time", "total_cputime", "acc_id_util_pct"] {
                if let Some(percent) = members.get(name).and_then(Value::as_f64).filter(|used| *used >= NEAR_PERCENT) {
                    let text = format!("{name} {percent} %");
                    if !found.contains(&text) {
                        found.push(text);
                    }
                }
            }
            members.values().for_each(|value| percentages(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| percentages(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn read(answer: &Answer, header: &str) -> Option<Value> {
    serde_json::from_str(answer.header(header)?).ok()
}
