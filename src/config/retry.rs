//! `[retry]` and `destinations.NAME.retry`: the defaults, overridden key by key.

use super::findings::{Reading, shown};
use super::raw::{Node, Place, Value};
use super::section::{Section, Whole};
use super::values;
use crate::domain::retry::RetryPolicy;

/// A policy and where its longest wait was written, for the kinds that accept no event older than their window.
#[derive(Clone)]
pub(crate) struct Retry {
    pub(crate) policy: RetryPolicy,
    /// Key and place of `give_up_after`, where it is written.
    pub(crate) give_up_at: Option<(String, Place)>,
}

/// Statuses that may be worth another try: 1xx never end an exchange, 2xx are success.
const RETRIED: (u16, u16) = (300, 599);

/// Reads the table `retry` of `parent` over `base`.
pub(crate) fn read(parent: &mut Section<'_>, base: &Retry, cx: &mut Reading<'_>) -> Retry {
    let mut section = parent.section("retry", cx);
    let old = &base.policy;
    let first = section.duration("first", old.first, cx);
    let multiplier = factor(&mut section, "multiplier", (1000, 100_000), cx).unwrap_or(old.multiplier_permille);
    let max_delay = section.span("max_delay", old.max_delay, cx);
    let jitter = factor(&mut section, "jitter", (0, 1000), cx).unwrap_or(old.jitter_permille);
    let give_up_after = section.span("give_up_after", old.give_up_after, cx);
    let rule = Whole { bounds: 0..=u64::from(u32::MAX), default: u64::from(old.max_attempts) };
    let max_attempts = u32::try_from(section.whole("max_attempts", &rule, cx)).unwrap_or(old.max_attempts);
    let statuses = match section.node("statuses", cx).map(|node| values::statuses(node, RETRIED)) {
        None => old.statuses.clone(),
        Some(Ok(set)) => set,
        Some(Err(item)) => {
            let wanted = "write statuses from 300 to 599 and ranges of them, like [408, 429, \"500-599\"]";
            cx.problem(&item.at, section.key("statuses"), format!("holds what is no status; {wanted}"));
            old.statuses.clone()
        }
    };
    let written = section.node("first", cx).is_some() || section.node("max_delay", cx).is_some();
    if written && max_delay < first {
        let place = section.place("max_delay");
        let detail =
            format!("{max_delay} is shorter than first ({first}): every delay is {max_delay}; raise max_delay");
        cx.warn(&place, section.key("max_delay"), detail);
    }
    let given = section.node("give_up_after", cx);
    let give_up_at = given.map(|node| (section.key("give_up_after"), node.at.clone())).or(base.give_up_at.clone());
    section.finish(cx);
    Retry {
        policy: RetryPolicy {
            first,
            multiplier_permille: multiplier,
            max_delay,
            jitter_permille: jitter,
            give_up_after,
            max_attempts,
            statuses,
        },
        give_up_at,
    }
}

/// A decimal number as thousandths, within `bounds`.
pub(super) fn factor(
    section: &mut Section<'_>,
    key: &'static str,
    bounds: (u32, u32),
    cx: &mut Reading<'_>,
) -> Option<u32> {
    let node: &Node = section.node(key, cx)?;
    let written = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::Float(text) => text.clone(),
        Value::Text(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => {
            cx.wrong_type(&node.at, section.key(key), &node.value, "a number without quotes, like 0.5 or 2");
            return None;
        }
    };
    let read = values::permille(&written).filter(|permille| (bounds.0..=bounds.1).contains(permille));
    if read.is_none() {
        let (from, to) = (values::show_permille(bounds.0), values::show_permille(bounds.1));
        let wanted = format!("write a number from {from} to {to} with at most three digits after the point");
        cx.problem(&node.at, section.key(key), format!("{} does not fit; {wanted}", shown(&written)));
    }
    read
}
