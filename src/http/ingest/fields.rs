//! Taking an object apart field by field, collecting what is wrong with each.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::domain::json::{JsonValue, Members, RESERVED_PREFIX};
use crate::http::problem::FieldError;

/// Faults told of one event; who has more has another problem than fields.
const FAULTS_MAX: usize = 50;

/// What an object's members may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    Scalars,
    ScalarsOrLists,
    Any,
}

/// An object of which fields are taken until the unknown ones are left.
pub(super) struct Fields<'j, 'a> {
    /// In the sender's order. Some ten of them: looking through is less work than hashing every name that is asked for.
    members: Vec<(Cow<'j, str>, JsonValue<'j>)>,
    at: &'a str,
    faults: Vec<FieldError>,
}

impl<'j, 'a> Fields<'j, 'a> {
    pub(super) fn new(object: Members<'j>, at: &'a str) -> Self {
        Self { members: object.into_iter().collect(), at, faults: Vec::new() }
    }

    /// Whether something is wrong with the field already.
    pub(super) fn has_fault(&self, name: &str) -> bool {
        let path = member(self.at, name);
        self.faults.iter().any(|fault| fault.path == path)
    }

    pub(super) fn fault(&mut self, name: &str, code: &'static str, detail: impl AsRef<str>) {
        push(&mut self.faults, &member(self.at, name), code, detail);
    }

    pub(super) fn fault_type(&mut self, name: &str, wanted: &str, given: &JsonValue<'_>) {
        self.fault(name, "type", wrong_type(wanted, given));
    }

    /// Refuses what could not be stored and shown faithfully: NUL in any text or name. The member is taken out, so that
    /// it has no further fault.
    pub(super) fn refuse_unstorable(&mut self) {
        let (at, faults) = (self.at, &mut self.faults);
        self.members.retain(|(name, value)| {
            if storable_name(name) && storable(value) {
                return true;
            }
            let (path, before) = (member(at, name), faults.len());
            unstorable_name(name, &path, faults);
            unstorable(value, &path, faults);
            faults.len() == before
        });
    }

    /// The value under the first of `names` that has one. Empty and `null` are missing; another of the names with another
    /// value is a fault.
    pub(super) fn take(&mut self, names: &[&'static str]) -> Option<(&'static str, JsonValue<'j>)> {
        let mut found: Option<(&'static str, JsonValue<'j>)> = None;
        for name in names {
            let Some(value) = self.remove(name) else { continue };
            if missing(&value) {
                continue;
            }
            match &found {
                Some((first, known)) if text_of(known) != text_of(&value) => {
                    let detail = format!("{first} says something else; send only one of them");
                    self.fault(name, "contradiction", detail);
                }
                Some(_) => {}
                None => found = Some((*name, value)),
            }
        }
        found
    }

    fn remove(&mut self, name: &str) -> Option<JsonValue<'j>> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(at).1)
    }

    pub(super) fn text(&mut self, names: &[&'static str], bytes_max: usize) -> Option<String> {
        let (name, value) = self.take(names)?;
        match value {
            JsonValue::Text(text) => self.bounded(name, text, bytes_max),
            JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::List(_) | JsonValue::Object(_) => {
                self.fault_type(name, "a text", &value);
                None
            }
        }
    }

    /// A text; a number is taken as its written digits.
    pub(super) fn id_text(&mut self, names: &[&'static str], bytes_max: usize) -> Option<String> {
        let (name, value) = self.take(names)?;
        match value {
            JsonValue::Text(text) => self.bounded(name, text, bytes_max),
            JsonValue::Number(number) => self.bounded(name, number.to_string().into(), bytes_max),
            JsonValue::Null | JsonValue::Bool(_) | JsonValue::List(_) | JsonValue::Object(_) => {
                self.fault_type(name, "a text or a number", &value);
                None
            }
        }
    }

    fn bounded(&mut self, name: &str, text: Cow<'_, str>, bytes_max: usize) -> Option<String> {
        if text.len() <= bytes_max {
            return Some(text.into_owned());
        }
        let detail = format!("{} bytes long; at most {bytes_max} are kept", text.len());
        self.fault(name, "too_long", detail);
        None
    }

    pub(super) fn object(&mut self, name: &'static str, allowed: Allowed) -> Members<'j> {
        let Some((_, value)) = self.take(&[name]) else { return Members::default() };
        let JsonValue::Object(object) = value else {
            self.fault_type(name, "an object, like {\"key\": \"value\"}", &value);
            return Members::default();
        };
        for (key, value) in object.iter() {
            let wanted = match allowed {
                Allowed::Scalars if !scalar(value) => "a text, a number, true or false",
                Allowed::ScalarsOrLists if !scalar_or_list(value) => {
                    "a text, a number, true or false, or a list of them"
                }
                Allowed::Scalars | Allowed::ScalarsOrLists | Allowed::Any => continue,
            };
            let path = member(&member(self.at, name), key);
            push(&mut self.faults, &path, "type", wrong_type(wanted, value));
        }
        object
    }

    /// What is left goes into `data`; a name that is in both must say the same.
    pub(super) fn finish(mut self, mut data: Members<'j>) -> (Members<'j>, Vec<FieldError>) {
        let mut rest = std::mem::take(&mut self.members);
        if !rest.is_empty() && !data.is_empty() {
            let known: HashMap<&str, &JsonValue<'_>> = data.iter().collect();
            rest.retain(|(name, value)| match known.get(&**name) {
                Some(same) => {
                    if *same != value {
                        let detail = "data has a field of this name that says something else; send one of them";
                        self.fault(name, "contradiction", detail);
                    }
                    false
                }
                None => true,
            });
        }
        data.extend(rest);
        (data, self.faults)
    }
}

/// `at` and a member's name: `$.field`, or `$["odd name"]`.
pub(super) fn member(at: &str, name: &str) -> String {
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain {
        format!("{at}.{name}")
    } else {
        format!("{at}[{}]", Value::from(crate::domain::message::cut(name, 100)))
    }
}

/// What is said of a value of the wrong type.
pub(super) fn wrong_type(wanted: &str, given: &JsonValue<'_>) -> String {
    let given = match given {
        JsonValue::Null => "null",
        JsonValue::Bool(_) => "true or false",
        JsonValue::Number(_) => "a number",
        JsonValue::Text(_) => "a text",
        JsonValue::List(_) => "a list",
        JsonValue::Object(_) => "an object",
    };
    format!("this is {given}; write {wanted}")
}

fn push(faults: &mut Vec<FieldError>, path: &str, code: &'static str, detail: impl AsRef<str>) {
    if faults.len() < FAULTS_MAX {
        faults.push(FieldError::new(path, code, detail));
    }
}

fn missing(value: &JsonValue<'_>) -> bool {
    match value {
        JsonValue::Null => true,
        JsonValue::Text(text) => text.is_empty(),
        JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::List(_) | JsonValue::Object(_) => false,
    }
}

/// For comparing a field with its alias: `7` is `"7"`.
fn text_of<'v>(value: &'v JsonValue<'_>) -> Cow<'v, str> {
    match value {
        JsonValue::Text(text) => Cow::Borrowed(text),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::List(_) | JsonValue::Object(_) => {
            value.to_string().into()
        }
    }
}

fn scalar(value: &JsonValue<'_>) -> bool {
    !matches!(value, JsonValue::List(_) | JsonValue::Object(_))
}

fn scalar_or_list(value: &JsonValue<'_>) -> bool {
    match value {
        JsonValue::List(items) => items.iter().all(scalar),
        JsonValue::Object(_) => false,
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::Text(_) => true,
    }
}

fn storable_name(name: &str) -> bool {
    !name.as_bytes().contains(&0) && !name.starts_with(RESERVED_PREFIX)
}

/// The quick look that nearly every event passes; [`unstorable`] then says what and where.
fn storable(value: &JsonValue<'_>) -> bool {
    match value {
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) => true,
        JsonValue::Text(text) => !text.as_bytes().contains(&0),
        JsonValue::List(items) => items.iter().all(storable),
        JsonValue::Object(object) => object.iter().all(|(name, value)| storable_name(name) && storable(value)),
    }
}

fn unstorable_name(name: &str, path: &str, faults: &mut Vec<FieldError>) {
    if name.contains('\0') {
        push(faults, path, "nul", "the name holds a NUL character; leave it out");
    }
    if name.starts_with(RESERVED_PREFIX) {
        push(faults, path, "reserved", "this name is reserved; choose another");
    }
}

/// Recursion is bounded by the depth the JSON reader accepts.
fn unstorable(value: &JsonValue<'_>, path: &str, faults: &mut Vec<FieldError>) {
    match value {
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) => {}
        JsonValue::Text(text) => {
            if text.contains('\0') {
                push(faults, path, "nul", "the text holds a NUL character; leave it out");
            }
        }
        JsonValue::List(items) => {
            for (index, item) in items.iter().enumerate() {
                if !matches!(item, JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_)) {
                    unstorable(item, &format!("{path}[{index}]"), faults);
                }
            }
        }
        JsonValue::Object(object) => {
            for (name, value) in object.iter() {
                let path = member(path, name);
                unstorable_name(name, &path, faults);
                unstorable(value, &path, faults);
            }
        }
    }
}
