//! Keys of `[sources.NAME]` for postbacks: `preset`, `params`, `event`, `decimal`, `answer`, `hash`.
//!
//! What is written here is laid over the preset: a field in `params` replaces that field, entries of `event.map` replace
//! those statuses. A preset's statuses stay in force also where `event` gives a fixed name or looks at another parameter,
//! so that renaming a sale never turns a declined conversion into one.

use super::findings::{Reading, nearest, shown};
use super::raw::{Node, Place, Value};
use super::section::{Section, text_of};
use crate::inbound::amount::Style;
use crate::inbound::field::{Field, OBJECTS, PLAIN, USER};
use crate::inbound::pick::{Pick, Source};
use crate::inbound::presets::{self, Preset};
use crate::inbound::{Names, Recipe, TOKEN};

/// The longest `answer`, bytes: networks want `OK` or `1`.
const ANSWER_BYTES: usize = 1024;

/// Keys that make a source one of a network, whose short parameter names are not ours.
const OF_A_NETWORK: [&str; 2] = ["preset", "params"];

pub(crate) fn read(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Recipe {
    let names: Vec<(&'static str, &'static Preset)> = presets::ALL.iter().map(|preset| (preset.name, preset)).collect();
    let preset = section.choice("preset", &names, cx);
    let mut recipe = preset.map(Preset::recipe).unwrap_or_default();
    params(section, &mut recipe, cx);
    super::postback_event::read(section, &mut recipe.event, cx);
    let styles = [Style::Dot, Style::Comma].map(|style| (style.word(), style));
    recipe.amounts = section.choice("decimal", &styles, cx).unwrap_or_default();
    recipe.answer = answer(section, cx);
    recipe.hash = super::postback_hash::read(section, cx);
    if OF_A_NETWORK.into_iter().any(|key| section.node(key, cx).is_some()) {
        recipe.names = Names::Whole;
    }
    refuse_hidden(section, &recipe, cx);
    recipe
}

/// `params`: our field → their parameter, or several of which the first with a value counts.
fn params(parent: &mut Section<'_>, recipe: &mut Recipe, cx: &mut Reading<'_>) {
    let section = parent.section("params", cx);
    for entry in section.entries() {
        field(&entry.key, &entry.node, section.path(), recipe, cx);
    }
}

/// Dotted keys are tables in TOML: `user.email = "mail"` as well as `"user.email" = "mail"`.
fn field(path: &str, node: &Node, parent: &str, recipe: &mut Recipe, cx: &mut Reading<'_>) {
    let key = format!("{parent}.{path}");
    if let Value::Table(table) = &node.value {
        if table.entries.is_empty() {
            cx.problem(&node.at, key, "is empty; write the parameter's name, like \"sub_id\"");
        }
        for entry in &table.entries {
            field(&format!("{path}.{}", entry.key), &entry.node, parent, recipe, cx);
        }
        return;
    }
    let pick = pick(node, &key, cx);
    match path.parse::<Field>() {
        Ok(field) => {
            warn_of_odd_member(path, &node.at, &key, cx);
            if let Some(pick) = pick {
                recipe.fields.insert(field, pick);
            }
        }
        Err(_) => cx.problem(&node.at, key, unknown_field(path)),
    }
}

fn unknown_field(path: &str) -> String {
    if matches!(path, "event" | "canonical") {
        return "has a key of its own; write event = { param = \"…\" } beside params".to_owned();
    }
    let near = nearest(path, PLAIN).map(str::to_owned).or_else(|| {
        let (head, member) = path.split_once('.')?;
        nearest(head, OBJECTS).map(|head| format!("{head}.{member}"))
    });
    let near = near.or_else(|| nearest(path, USER).map(|member| format!("user.{member}")));
    match near {
        Some(word) => format!("is not a field of an event; did you mean \"{word}\"?"),
        None => format!(
            "is not a field of an event; write {}, user.…, click.…, page.… or data.… (what is not mapped is kept in data)",
            PLAIN.join(", ")
        ),
    }
}

/// `user` is open, but `user.emial` is hardly meant.
fn warn_of_odd_member(path: &str, at: &Place, key: &str, cx: &mut Reading<'_>) {
    let Some(member) = path.strip_prefix("user.").filter(|member| !USER.contains(member)) else { return };
    if let Some(word) = nearest(member, USER) {
        cx.warn(at, key, format!("is no field that a destination knows; did you mean \"user.{word}\"?"));
    }
}

/// One parameter or a list of them; each may be a template.
fn pick(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<Pick> {
    let mut sources = Vec::new();
    for (text, node) in texts(node, key, "the parameter's name, like \"sub_id\", or a list of names", cx)? {
        match Source::parse(text) {
            Ok(source) => sources.push(source),
            Err(why) => cx.problem(&node.at, key, format!("{} {why}", shown(text))),
        }
    }
    (!sources.is_empty()).then_some(Pick(sources))
}

/// A text or a list of texts, none of them empty.
pub(super) fn texts<'a>(
    node: &'a Node,
    key: &str,
    wanted: &str,
    cx: &mut Reading<'_>,
) -> Option<Vec<(&'a str, &'a Node)>> {
    let items = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        Value::List(items) => items.as_slice(),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::Table(_) => {
            cx.wrong_type(&node.at, key, &node.value, wanted);
            return None;
        }
    };
    if items.is_empty() {
        cx.problem(&node.at, key, format!("is an empty list; write {wanted}"));
        return None;
    }
    Some(items.iter().filter_map(|item| text_of(item, key, cx).map(|text| (text, item))).collect())
}

fn answer(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<String> {
    let text = section.text("answer", cx)?;
    if text.len() > ANSWER_BYTES {
        let detail = format!("is {} bytes long; write at most {ANSWER_BYTES}, like \"OK\"", text.len());
        cx.problem(&section.place("answer"), section.key("answer"), detail);
    }
    Some(text.to_owned())
}

/// The token and the hash are no part of an event.
fn refuse_hidden(section: &Section<'_>, recipe: &Recipe, cx: &mut Reading<'_>) {
    let hash = recipe.hash.as_ref().map(|hash| hash.parameter.as_str());
    let mapped = recipe
        .fields
        .iter()
        .flat_map(|(field, pick)| pick.parameters().map(move |name| ("params", field.as_str(), name)));
    let deciding = recipe.event.parameters().map(|name| ("event", "param", name));
    for (key, member, name) in mapped.chain(deciding) {
        let why = if name == TOKEN {
            "is the parameter of the source's own token"
        } else if Some(name) == hash {
            "is the parameter of the hash"
        } else {
            continue;
        };
        let detail = format!("\"{name}\" {why}, which is kept nowhere; write another parameter");
        cx.problem(&section.place(key), format!("{}.{member}", section.key(key)), detail);
    }
}
