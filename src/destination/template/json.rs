//! Body templates: JSON text with macros inside its strings, and `{json:…}` where a whole value stands.
//!
//! `{"id": "{event_id}", "note": "deposit of {value} {currency}", "amount": {json:value}, "all": {json:data}}`
//!
//! - Inside a string a macro's text is escaped as JSON; a literal `{` is written `\u007b`.
//! - `{json:data}`, `{json:click}`, `{json:page}` and `{json:user}` (what `include_user` names) are whole objects;
//!   `{json:NAME}` of any other macro is its value as the sender wrote it: a number stays a number, missing is `null`.
//! - A template that is JSON with sample values is JSON with all values, so it is checked once, when it is compiled.

use serde_json::Value;

use super::{Macro, Scope, Source};
use crate::destination::Outgoing;
use crate::domain::event::{Event, Object};

/// A compiled template.
#[derive(Clone, Debug)]
pub struct JsonTemplate {
    parts: Vec<Part>,
    /// Members of `user` that may be shown.
    user: Vec<String>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// Inside a string.
    Inner(Macro),
    /// In place of a value.
    Whole(Whole),
}

#[derive(Clone, Debug)]
enum Whole {
    Data,
    Click,
    Page,
    User,
    Value(Macro),
}

impl JsonTemplate {
    /// Compiles, or lists everything that is wrong.
    pub fn compile(text: &str, user: &[String]) -> Result<Self, Vec<String>> {
        let scope = Scope { secrets: None, user };
        let mut wrong = Vec::new();
        let template = Self { parts: parts(text, scope, &mut wrong), user: user.to_vec() };
        if wrong.is_empty() {
            let sample: String = template.parts.iter().map(Part::sample).collect();
            if let Err(error) = serde_json::from_str::<Value>(&sample) {
                wrong.push(format!("is not JSON once its macros are filled in: {error}"));
            }
        }
        if wrong.is_empty() { Ok(template) } else { Err(wrong) }
    }

    /// The body for one delivery.
    pub fn render(&self, delivery: &Outgoing<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Inner(filled) => {
                    let quoted = Value::from(filled.value(delivery)).to_string();
                    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                    out.push_str(inner.unwrap_or_default());
                }
                Part::Whole(whole) => out.push_str(&self.whole(whole, delivery).to_string()),
            }
        }
        out
    }

    fn whole(&self, whole: &Whole, delivery: &Outgoing<'_>) -> Value {
        let event = delivery.event;
        match whole {
            Whole::Data => Object::clone(&event.data).into(),
            Whole::Click => Object::clone(&event.click).into(),
            Whole::Page => Object::clone(&event.page).into(),
            Whole::User => select(&event.user, &self.user).into(),
            Whole::Value(filled) => value(filled, delivery),
        }
    }
}

/// The members of `object` that `names` lists, in the order of `names`.
pub(in crate::destination) fn select(object: &Object, names: &[String]) -> Object {
    names.iter().filter_map(|name| object.get(name).map(|value| (name.clone(), value.clone()))).collect()
}

/// A macro's value as JSON: numbers and nested values as the sender wrote them.
fn value(filled: &Macro, delivery: &Outgoing<'_>) -> Value {
    let Source::Path(path) = &filled.source else { return filled.value(delivery).into() };
    let event = delivery.event;
    match path.as_str() {
        "value" => event.value.as_ref().map_or(Value::Null, |value| value.to_json_number().into()),
        "occurred_at_ms" => event.occurred_at.time().0.into(),
        path => member(event, path).cloned().unwrap_or_else(|| event.field(path).map_or(Value::Null, Value::from)),
    }
}

fn member<'a>(event: &'a Event, path: &str) -> Option<&'a Value> {
    let (head, rest) = path.split_once('.')?;
    let object = match head {
        "data" => &event.data,
        "click" => &event.click,
        "user" => &event.user,
        _ => return None,
    };
    walk(object, rest)
}

/// By the whole name first, then by its dots, as [`Event::field`] looks.
fn walk<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    object.get(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        walk(object.get(head)?.as_object()?, rest)
    })
}

impl Part {
    fn sample(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Inner(_) => "x",
            Self::Whole(_) => "null",
        }
    }
}

/// Cuts the text at its macros, minding which braces are JSON's own.
fn parts(text: &str, scope: Scope<'_>, wrong: &mut Vec<String>) -> Vec<Part> {
    let mut found = Vec::new();
    let mut literal = String::new();
    let mut in_string = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let (sign, tail) = rest.split_at_checked(letter.len_utf8()).unwrap_or((rest, ""));
        let name = tail.split_once('}').filter(|_| letter == '{').map(|(name, after)| (name.trim(), after));
        let part = match name {
            Some((name, after)) if in_string => Some((inner(name, scope), after)),
            Some((name, after)) => name.strip_prefix("json:").map(|name| (whole(name.trim(), scope), after)),
            None if letter == '{' && in_string => {
                Some((Err("a { in a string is not closed; write {name}, or \\u007b for the sign".to_owned()), ""))
            }
            None => None,
        };
        if let Some((part, after)) = part {
            found.push(Part::Text(std::mem::take(&mut literal)));
            match part {
                Ok(part) => found.push(part),
                Err(message) => wrong.push(message),
            }
            rest = after;
            continue;
        }
        if let Some((name, _)) = name.filter(|(name, _)| !in_string && is_name(name)) {
            wrong.push(format!("{{{name}}} stands outside a string; write \"{{{name}}}\" or {{json:{name}}}"));
        }
        literal.push_str(sign);
        rest = tail;
        if in_string && letter == '\\' {
            // The escaped letter is part of the string, also where it is a quote.
            let (escaped, tail) =
                rest.split_at_checked(rest.chars().next().map_or(0, char::len_utf8)).unwrap_or(("", ""));
            literal.push_str(escaped);
            rest = tail;
        } else if letter == '"' {
            in_string = !in_string;
        }
    }
    found.push(Part::Text(literal));
    found
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.')
}

fn inner(name: &str, scope: Scope<'_>) -> Result<Part, String> {
    if name.starts_with("json:") {
        return Err(format!("{{{name}}} is a whole value; write it without quotes around it"));
    }
    Macro::parse(name, scope)
        .map(Part::Inner)
        .map_err(|message| format!("{message} (\\u007b is a literal brace in JSON)"))
}

fn whole(name: &str, scope: Scope<'_>) -> Result<Part, String> {
    let whole = match name {
        "data" => Whole::Data,
        "click" => Whole::Click,
        "page" => Whole::Page,
        "user" if scope.user.is_empty() => {
            return Err("{json:user} would be empty; list the fields it may hold in include_user".to_owned());
        }
        "user" => Whole::User,
        name => Whole::Value(Macro::parse(name, scope)?),
    };
    Ok(Part::Whole(whole))
}

#[cfg(test)]
mod tests {
    use super::super::tests::outgoing;
    use super::*;
    use crate::domain::event::tests::sample;
    use crate::domain::name::TargetName;
    use proptest::prelude::*;

    fn render(text: &str, event: &Event) -> String {
        let target: TargetName = "Purchase".parse().unwrap();
        JsonTemplate::compile(text, &["email".to_owned()]).unwrap().render(&outgoing(event, &target))
    }

    #[test]
    fn macros_are_filled_in_strings_and_as_values() {
        let text = r#"{"e": "{event}/{canonical}", "\"{uid}\"": {"v": {json:value}, "t": {json:occurred_at_ms}},
            "d": {json:data.plan}, "n": {json:data.n}, "none": {json:placement}, "u": {json:user},
            "m": "{user.email}", "b": "\u007b\\", "c": [{json:tg_id}, {json:uid}, {}]}"#;
        let wanted = r#"{"e": "Purchase/deposit", "\"u-1\"": {"v": 25.00, "t": 1764000000000},
            "d": {"name":"gold","months":12}, "n": 1.10, "none": null, "u": {"email":"jane@example.com"},
            "m": "jane@example.com", "b": "\u007b\\", "c": [42, "u-1", {}]}"#;
        assert_eq!(render(text, &sample()), wanted);
    }

    #[test]
    fn bad_templates_are_refused_with_what_to_write() {
        for (text, wanted) in [
            ("", "is not JSON"),
            (r#"{"a": }"#, "is not JSON"),
            (r#"{"a": "{uid}"} x"#, "is not JSON"),
            (r#"{"a": {uid}}"#, r#"write "{uid}" or {json:uid}"#),
            (r#"{"a": "{udi}"}"#, "did you mean {uid}"),
            (r#"{"a": "{json:data}"}"#, "without quotes"),
            (r#"{"a": {json:nope}}"#, "no macro"),
            (r#"{"a": "{uid"}"#, "no macro"),
            (r#"["{uid"]"#, "not closed"),
            (r#"{"a": "{user.phone}"}"#, "include_user"),
            (r#"{"a": "{secret.x}"}"#, "headers"),
        ] {
            let wrong = JsonTemplate::compile(text, &["email".to_owned()]).unwrap_err();
            assert!(wrong.iter().any(|message| message.contains(wanted)), "{text}: {wrong:?}");
        }
        assert!(JsonTemplate::compile("{json:user}", &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_value_leaves_the_template_json(x in any::<String>()) {
            let mut event = sample();
            event.data.insert("x".to_owned(), x.clone().into());
            let body = render(r#"{"{data.x}": "<{data.x}>", "x": {json:data.x}}"#, &event);
            let body: Object = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(body.get("x").and_then(Value::as_str), Some(x.as_str()));
            let wrapped = format!("<{x}>");
            prop_assert!(x == "x" || body.get(&x).and_then(Value::as_str) == Some(wrapped.as_str()));
        }
    }
}
