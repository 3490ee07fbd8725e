//! `rate_limit` and `breaker` of a destination.

use super::findings::{Reading, shown};
use super::raw::Value;
use super::retry::factor;
use super::section::{Section, Whole, text_of};
use crate::domain::pacing::{BreakerPolicy, RateLimit};

pub(crate) fn rate_limit(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<RateLimit> {
    let node = section.node("rate_limit", cx)?;
    let key = section.key("rate_limit");
    let text = text_of(node, &key, cx)?;
    let limit = RateLimit::parse(text);
    if limit.is_none() {
        let wanted = "write attempts per second, minute or hour, like \"50/s\", \"600/m\" or \"1000/h\"";
        cx.problem(&node.at, key, format!("{} is not a rate; {wanted}", shown(text)));
    }
    limit
}

/// `breaker = false` switches it off, a table overrides the defaults key by key; without it the defaults hold.
pub(crate) fn breaker(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<BreakerPolicy> {
    let old = BreakerPolicy::default();
    let Some(node) = section.node("breaker", cx) else { return Some(old) };
    match &node.value {
        Value::Bool(false) => return None,
        Value::Bool(true) => return Some(old),
        Value::Table(_) => {}
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Time(_) | Value::List(_) => {
            let wanted = "false, or a table like { failures = 10, probe = \"30s\" }";
            cx.wrong_type(&node.at, section.key("breaker"), &node.value, wanted);
            return Some(old);
        }
    }
    let mut table = section.section("breaker", cx);
    let mut number = |key, default: u32, cx: &mut Reading<'_>| {
        let rule = Whole { bounds: 1..=1_000_000, default: u64::from(default) };
        u32::try_from(table.whole(key, &rule, cx)).unwrap_or(default)
    };
    let failures = number("failures", old.failures, cx);
    let min = number("min", old.min, cx);
    let rate_permille = factor(&mut table, "rate", (1, 1000), cx).unwrap_or(old.rate_permille);
    let window = table.span("window", old.window, cx);
    let probe = table.span("probe", old.probe, cx);
    let probe_max = table.span("probe_max", old.probe_max.max(probe), cx);
    if probe_max < probe {
        let detail = format!("{probe_max} is shorter than probe ({probe}); write \"{probe}\" or more");
        cx.problem(&table.place("probe_max"), table.key("probe_max"), detail);
    }
    table.finish(cx);
    Some(BreakerPolicy { failures, rate_permille, min, window, probe, probe_max })
}
