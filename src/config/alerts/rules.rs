//! How often is looked and told, and `[alerts.rules]`. Each rule is a threshold, or `false`.

use std::collections::BTreeMap;

use super::{DiskRule, Policy, RateRule, SilenceRule};
use crate::config::findings::{Reading, nearest};
use crate::config::raw::{Node, Value};
use crate::config::section::{Section, Whole};
use crate::config::values;
use crate::domain::time::DurationMs;

const EVERY_MAX: DurationMs = DurationMs::from_secs(600);

pub(super) fn read(section: &mut Section<'_>, sources: &[String], cx: &mut Reading<'_>) -> Policy {
    let usual = Policy::default();
    let every = section.span("every", usual.every, cx);
    if every > EVERY_MAX {
        let detail = format!("{every} is too seldom to be told in time; write \"{EVERY_MAX}\" or less");
        cx.problem(&section.place("every"), section.key("every"), detail);
    }
    let settle = section.duration("settle", usual.settle, cx);
    let remind = remind(section, usual.remind, cx);
    let mut rules = section.section("rules", cx);
    let on = |rules: &mut Section<'_>, key, cx: &mut Reading<'_>| rules.boolean(key, true, cx);
    let policy = Policy {
        every,
        settle,
        remind,
        success_rate: success_rate(&mut rules, usual.success_rate, cx),
        failures_in_row: count(&mut rules, "failures_in_row", 3, cx).and_then(|count| u32::try_from(count).ok()),
        dlq_depth: count(&mut rules, "dlq_depth", 100, cx),
        dlq_growth: count(&mut rules, "dlq_growth", 10, cx),
        oldest_pending: span(&mut rules, "oldest_pending", usual.oldest_pending, cx),
        held: on(&mut rules, "held", cx),
        open: span(&mut rules, "open", usual.open, cx),
        orphaned: on(&mut rules, "orphaned", cx),
        silence: silence(&mut rules, usual.silence, sources, cx),
        disk: disk(&mut rules, cx),
        config: on(&mut rules, "config", cx),
        clock: span(&mut rules, "clock", usual.clock, cx),
        store: on(&mut rules, "store", cx),
        backup: on(&mut rules, "backup", cx),
    };
    rules.finish(cx);
    policy
}

/// Whether the key says `false`.
fn is_off(section: &mut Section<'_>, key: &'static str, cx: &mut Reading<'_>) -> bool {
    matches!(section.node(key, cx), Some(Node { value: Value::Bool(false), .. }))
}

fn span(
    section: &mut Section<'_>,
    key: &'static str,
    usual: Option<DurationMs>,
    cx: &mut Reading<'_>,
) -> Option<DurationMs> {
    if is_off(section, key, cx) { None } else { Some(section.span(key, usual.unwrap_or_default(), cx)) }
}

fn count(section: &mut Section<'_>, key: &'static str, default: u64, cx: &mut Reading<'_>) -> Option<u64> {
    let rule = Whole { bounds: 1..=1_000_000_000, default };
    if is_off(section, key, cx) { None } else { Some(section.whole(key, &rule, cx)) }
}

/// `remind = false`, or the first pause; `remind_max` bounds how long it grows.
fn remind(
    section: &mut Section<'_>,
    usual: Option<(DurationMs, DurationMs)>,
    cx: &mut Reading<'_>,
) -> Option<(DurationMs, DurationMs)> {
    let (first, max) = usual?;
    let is_off = is_off(section, "remind", cx);
    let first = if is_off { first } else { section.span("remind", first, cx) };
    let given = section.node("remind_max", cx).is_some();
    let longest = section.span("remind_max", max.max(first), cx);
    if given && longest < first {
        let detail = format!("{longest} is shorter than remind ({first}); write \"{first}\" or more");
        cx.problem(&section.place("remind_max"), section.key("remind_max"), detail);
    }
    (!is_off).then_some((first, longest.max(first)))
}

fn success_rate(section: &mut Section<'_>, usual: Option<RateRule>, cx: &mut Reading<'_>) -> Option<RateRule> {
    let usual = usual?;
    if is_off(section, "success_rate", cx) {
        return None;
    }
    let mut table = section.section("success_rate", cx);
    let rule = RateRule {
        floor: share(&mut table, "floor", usual.floor, cx),
        drop: share(&mut table, "drop", usual.drop, cx),
        min_attempts: table.whole(
            "min_attempts",
            &Whole { bounds: 1..=1_000_000_000, default: usual.min_attempts },
            cx,
        ),
    };
    table.finish(cx);
    Some(rule)
}

/// A share from 0 to 1 with at most three digits after the point.
fn share(section: &mut Section<'_>, key: &'static str, default: f64, cx: &mut Reading<'_>) -> f64 {
    let Some(node) = section.node(key, cx) else { return default };
    let text = match &node.value {
        Value::Float(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Text(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => String::new(),
    };
    if let Some(permille) = values::permille(&text).filter(|permille| *permille <= 1000) {
        return f64::from(permille) / 1000.0;
    }
    let detail = format!("is no share from 0 to 1; write one like {default}, without quotes");
    cx.problem(&node.at, section.key(key), detail);
    default
}

fn silence(
    section: &mut Section<'_>,
    usual: Option<SilenceRule>,
    sources: &[String],
    cx: &mut Reading<'_>,
) -> Option<SilenceRule> {
    let usual = usual?;
    if is_off(section, "silence", cx) {
        return None;
    }
    let mut table = section.section("silence", cx);
    let after = table.span("after", usual.after, cx);
    let named = table.section("sources", cx);
    let mut times = BTreeMap::new();
    for entry in named.entries() {
        let (at, key) = (&entry.node.at, named.key(&entry.key));
        if !sources.contains(&entry.key) {
            let remedy = match nearest(&entry.key, sources.iter().map(String::as_str)) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "write the name of a [sources.NAME]".to_owned(),
            };
            cx.problem(at, key.as_str(), format!("is not a source; {remedy}"));
        }
        let set = match &entry.node.value {
            Value::Bool(false) => Some(None),
            Value::Text(text) => DurationMs::parse(text).filter(|time| *time > DurationMs::ZERO).map(Some),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(true)
            | Value::Time(_)
            | Value::List(_)
            | Value::Table(_) => None,
        };
        let Some(time) = set else {
            cx.problem(at, key, "is no time; write one in quotes, like \"6h\", or false where it may be silent");
            continue;
        };
        if let Ok(name) = entry.key.parse() {
            times.insert(name, time);
        }
    }
    table.finish(cx);
    Some(SilenceRule { after, sources: times })
}

fn disk(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<DiskRule> {
    if is_off(section, "disk", cx) {
        return None;
    }
    if matches!(section.node("disk", cx), Some(Node { value: Value::Text(text), .. }) if text == "auto") {
        return Some(DiskRule::TwiceReserve);
    }
    Some(section.size("disk", 1..=(1 << 50), cx).map_or(DiskRule::TwiceReserve, DiskRule::Below))
}
