//! `event` of a source: a fixed name, or a parameter with a map of its values.

use super::findings::{Reading, shown};
use super::raw::{Node, Value};
use super::section::{Section, text_of};
use crate::domain::name::CanonicalName;
use crate::inbound::event_name::{Choice, EventRule, Meaning, Naming};

const WANTED: &str = "a name like \"deposit\", or { param = \"status\", map = { ftd = \"deposit\", ping = false } }";

pub(super) fn read(parent: &mut Section<'_>, rule: &mut EventRule, cx: &mut Reading<'_>) {
    let Some(node) = parent.node("event", cx) else { return };
    let key = parent.key("event");
    match &node.value {
        Value::Text(_) => {
            if let Some(name) = name(node, &key, cx) {
                rule.naming = Naming::Fixed(name);
            }
        }
        Value::Table(table) => by_parameter(Section::new(table, key, node.at.clone()), rule, cx),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) => {
            cx.wrong_type(&node.at, key, &node.value, WANTED);
        }
    }
}

fn by_parameter(mut section: Section<'_>, rule: &mut EventRule, cx: &mut Reading<'_>) {
    let example = "param = \"status\" (their parameter that says what happened)";
    let key = section.key("param");
    let parameters = section.required("param", example, cx).and_then(|node| {
        let given =
            super::postback::texts(node, &key, "the parameter's name, like \"status\", or a list of names", cx)?;
        for (text, node) in &given {
            if text.contains(['{', '}']) {
                cx.problem(
                    &node.at,
                    key.as_str(),
                    format!("{} is no parameter's name; write it without braces", shown(text)),
                );
            }
        }
        Some(given.into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>())
    });
    let map = meanings(&mut section, cx);
    let default = section.node("default", cx).map(|node| name(node, &section.key("default"), cx));
    section.finish(cx);
    let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) else { return };
    lay_over(rule, parameters, map, default.flatten());
}

/// A parameter the preset looks at already keeps its other words; any other one takes the place of the preset's kind.
fn lay_over(
    rule: &mut EventRule,
    parameters: Vec<String>,
    map: Vec<(String, Meaning)>,
    default: Option<CanonicalName>,
) {
    if let Some(status) = rule.status.as_mut().filter(|status| status.looks_at(&parameters)) {
        extend(status, parameters, map);
        match (&mut rule.naming, default) {
            (_, None) => {}
            (Naming::By { default, .. }, given) => *default = given,
            (Naming::Own | Naming::Fixed(_), Some(name)) => rule.naming = Naming::Fixed(name),
        }
        return;
    }
    match &mut rule.naming {
        Naming::By { choice, default: standing } if choice.looks_at(&parameters) => {
            extend(choice, parameters, map);
            *standing = default.or_else(|| standing.take());
        }
        Naming::By { .. } | Naming::Own | Naming::Fixed(_) => {
            let choice = Choice { parameters, map: map.into_iter().collect() };
            rule.naming = Naming::By { choice, default };
        }
    }
}

/// An entry replaces the preset's word in whatever case it is written.
fn extend(choice: &mut Choice, parameters: Vec<String>, map: Vec<(String, Meaning)>) {
    let more: Vec<String> = parameters.into_iter().filter(|name| !choice.parameters.contains(name)).collect();
    choice.parameters.extend(more);
    for (value, meaning) in map {
        choice.map.retain(|known, _| !known.eq_ignore_ascii_case(&value));
        choice.map.insert(value, meaning);
    }
}

fn meanings(parent: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<(String, Meaning)> {
    let section = parent.section("map", cx);
    let mut map = Vec::new();
    for entry in section.entries() {
        let (at, key) = (&entry.node.at, section.key(&entry.key));
        if entry.key.is_empty() {
            cx.problem(
                at,
                key.as_str(),
                "is empty, and an empty parameter counts as missing; write default = \"…\" beside map",
            );
        }
        let meaning = match &entry.node.value {
            Value::Bool(false) => Some(Meaning::Ignored),
            Value::Text(_) => name(&entry.node, &key, cx).map(Meaning::Named),
            Value::Bool(true)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Time(_)
            | Value::List(_)
            | Value::Table(_) => {
                cx.wrong_type(at, key, &entry.node.value, "our name for it, like \"deposit\", or false to ignore it");
                None
            }
        };
        map.extend(meaning.map(|meaning| (entry.key.clone(), meaning)));
    }
    map
}

fn name(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<CanonicalName> {
    let text = text_of(node, key, cx)?;
    text.parse().map_err(|error| cx.problem(&node.at, key, format!("{error}"))).ok()
}
