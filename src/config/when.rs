//! What a destination takes: `events`, `sources` and `when`.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Reading, nearest, shown};
use super::raw::{Node, Place, Table, Value, dotted};
use super::section::Section;
use crate::destination::event_map::EventMap;
use crate::destination::filter::{Condition, Test};
use crate::domain::name::{CanonicalName, SourceName, TargetName};

/// Fields a condition may stand on by themselves, and objects it may look into.
const FIELDS: [&str; 9] =
    ["event", "canonical", "source", "event_id", "uid", "value", "currency", "action_source", "occurred_at_ms"];
const OBJECTS: [&str; 4] = ["user", "click", "page", "data"];

/// `events`: canonical name → the destination's name, or false.
pub(crate) fn events(parent: &mut Section<'_>, cx: &mut Reading<'_>) -> EventMap {
    let section = parent.section("events", cx);
    let mut entries = BTreeMap::new();
    for entry in section.entries() {
        let (at, key) = (&entry.node.at, section.key(&entry.key));
        let name = entry.key.parse::<CanonicalName>();
        let target: Option<Option<TargetName>> = match &entry.node.value {
            Value::Bool(false) => Some(None),
            Value::Text(text) => match text.parse() {
                Ok(target) => Some(Some(target)),
                Err(error) => {
                    cx.problem(at, key.as_str(), format!("{error}"));
                    None
                }
            },
            Value::Bool(true)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Time(_)
            | Value::List(_)
            | Value::Table(_) => {
                let wanted = "the destination's name for the event, like \"Purchase\", or false to leave it out";
                cx.wrong_type(at, key.as_str(), &entry.node.value, wanted);
                None
            }
        };
        match (name, target) {
            (Ok(name), Some(target)) => drop(entries.insert(name, target)),
            (Ok(_), None) => {}
            (Err(error), _) => cx.problem(at, key, error.to_string()),
        }
    }
    EventMap::new(entries)
}

/// `sources`: the only sources whose events are taken.
pub(crate) fn sources(
    parent: &mut Section<'_>,
    known: &[String],
    cx: &mut Reading<'_>,
) -> Option<BTreeSet<SourceName>> {
    let texts = parent.texts("sources", cx)?;
    let (place, key) = (parent.place("sources"), parent.key("sources"));
    if texts.is_empty() {
        let detail = "takes events of no source; leave it out for all sources, or write enabled = false";
        cx.problem(&place, key.as_str(), detail);
    }
    let mut names = BTreeSet::new();
    for (text, node) in texts {
        match text.parse::<SourceName>() {
            Ok(name) if known.iter().any(|one| one == text) => drop(names.insert(name)),
            Ok(_) | Err(_) => {
                let remedy = match nearest(text, known.iter().map(String::as_str)) {
                    Some(word) => format!("did you mean \"{word}\"?"),
                    None => format!("add [{}] or remove it", dotted("sources", text)),
                };
                cx.problem(&node.at, key.as_str(), format!("{} is not a source; {remedy}", shown(text)));
            }
        }
    }
    Some(names)
}

/// `when`: field → what must hold of it.
pub(crate) fn conditions(parent: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<Condition> {
    let section = parent.section("when", cx);
    let mut all = Vec::new();
    for entry in section.entries() {
        condition(&entry.key, &entry.node, section.path(), &mut all, cx);
    }
    all
}

/// Dotted keys are tables in TOML (`data.plan = "gold"` as well as `"data.plan" = "gold"`), so a table is walked unless it
/// is a test of its own.
fn condition(path: &str, node: &Node, parent: &str, all: &mut Vec<Condition>, cx: &mut Reading<'_>) {
    let key = format!("{parent}.{path}");
    if let Value::Table(table) = &node.value
        && !is_test(table)
    {
        if table.entries.is_empty() {
            cx.problem(&node.at, key, "is empty; write a text, a list, { not = … } or { present = true }");
        }
        for entry in &table.entries {
            condition(&format!("{path}.{}", entry.key), &entry.node, parent, all, cx);
        }
        return;
    }
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let readable = match rest {
        None => FIELDS.contains(&head),
        Some(rest) => OBJECTS.contains(&head) && !rest.is_empty(),
    };
    if !readable {
        let fields = FIELDS.join(", ");
        let detail =
            format!("{} is not a field of an event; write {fields}, user.…, click.…, page.… or data.…", shown(path));
        cx.problem(&node.at, key.as_str(), detail);
    }
    if let Some(test) = test(node, &key, cx) {
        all.push(Condition { path: path.to_owned(), test });
    }
}

fn is_test(table: &Table) -> bool {
    !table.entries.is_empty() && table.entries.iter().all(|entry| matches!(entry.key.as_str(), "not" | "present"))
}

fn test(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<Test> {
    let Value::Table(table) = &node.value else {
        return values(node, key, cx).map(Test::OneOf);
    };
    let mut section = Section::new(table, key.to_owned(), node.at.clone());
    let not = section.node("not", cx);
    let present = section.node("present", cx);
    match (not, present) {
        (Some(not), None) => values(not, &section.key("not"), cx).map(Test::NoneOf),
        (None, Some(Node { value: Value::Bool(true), .. })) => Some(Test::Present),
        (None, Some(Node { value: Value::Bool(false), .. })) => Some(Test::Missing),
        (None, Some(other)) => {
            cx.wrong_type(&other.at, section.key("present"), &other.value, "true or false, without quotes");
            None
        }
        (Some(_), Some(_)) | (None, None) => {
            cx.problem(&node.at, key, "holds two tests; write either { not = … } or { present = true }");
            None
        }
    }
}

/// Texts to compare with: one scalar or a list of them.
fn values(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<Vec<String>> {
    let items = if let Value::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
    if items.is_empty() {
        cx.problem(&node.at, key, "is an empty list, which nothing matches; add a value or remove it");
        return None;
    }
    items.iter().map(|item| scalar(&item.value, &item.at, key, cx)).collect()
}

fn scalar(value: &Value, at: &Place, key: &str, cx: &mut Reading<'_>) -> Option<String> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text.clone()),
        Value::Text(_) => {
            cx.problem(at, key, "is empty: empty fields count as missing; write { present = false }");
            None
        }
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Time(_) | Value::List(_) | Value::Table(_) => {
            cx.wrong_type(at, key, value, "a text, a number, true or false, or a list of these");
            None
        }
    }
}
