//! An object of an event as JSON text, which is taken apart when somebody first asks for a member.
//!
//! Most events are stored and sent as they came, and nobody looks into them after they were taken in; a tree of small texts takes
//! eight times the memory of the text it was made of. The text is valid JSON: it was made here, or read from a row whose
//! checksum is right. Where it is not, the object has no members, which [`JsonObject::is_sound`] tells.

use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::event::Object;
use super::json::Members;

/// Room for the text of most objects: growing costs more than the rest of the writing.
pub const TEXT_BYTES: usize = 512;

/// See the module's page.
#[derive(Clone, Default)]
pub struct JsonObject {
    /// Empty for an object without members.
    text: Box<str>,
    tree: OnceLock<Box<Object>>,
}

impl JsonObject {
    /// An object that was written by [`JsonObject::text`]; `None` for what cannot be one. It is not looked through.
    pub fn read(text: impl Into<Box<str>>) -> Option<Self> {
        let text = text.into();
        let enclosed = text.starts_with('{') && text.ends_with('}');
        (text.is_empty() || enclosed).then(|| Self { text, tree: OnceLock::new() })
    }

    /// Writes what was read, not taken apart. `room` is for writing in, best with [`TEXT_BYTES`]: what is in it is lost.
    pub fn write(members: &Members<'_>, room: &mut Vec<u8>) -> Self {
        Self { text: written(members, room), tree: OnceLock::new() }
    }

    /// As it is stored: JSON, or nothing where there are no members.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it is sent.
    pub fn json(&self) -> &str {
        if self.text.is_empty() { "{}" } else { &self.text }
    }

    pub fn has_members(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether the text is JSON throughout.
    pub fn is_sound(&self) -> bool {
        self.parsed().is_some()
    }

    /// Adds a member, or replaces its value.
    pub fn insert(&mut self, name: String, value: Value) {
        let mut object = Object::clone(self);
        object.insert(name, value);
        *self = object.into();
    }

    /// Forgets the members that were taken apart, until somebody asks again.
    pub fn fold(&mut self) {
        self.tree = OnceLock::new();
    }

    fn parsed(&self) -> Option<Object> {
        serde_json::from_str(self.json()).ok()
    }
}

impl FromIterator<(String, Value)> for JsonObject {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        members.into_iter().collect::<Object>().into()
    }
}

impl From<Object> for JsonObject {
    fn from(object: Object) -> Self {
        let text = written(&object, &mut Vec::with_capacity(TEXT_BYTES));
        Self { text, tree: OnceLock::from(Box::new(object)) }
    }
}

/// An object as it is stored.
fn written(object: &impl Serialize, room: &mut Vec<u8>) -> Box<str> {
    room.clear();
    // Names are texts, so that it is always JSON, and JSON is text.
    let text = serde_json::to_writer(&mut *room, object).ok().and_then(|()| std::str::from_utf8(room).ok());
    text.filter(|text| *text != "{}").unwrap_or_default().into()
}

impl Deref for JsonObject {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.tree.get_or_init(|| Box::new(self.parsed().unwrap_or_default()))
    }
}

/// Whatever the order of the members.
impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Object::deserialize(reader).map(Self::from)
    }
}

impl std::fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.json())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::JsonValue;
    use super::*;

    #[test]
    fn what_was_written_is_read_with_its_order_and_its_digits() {
        let text = r#"{"b":1.10,"a":[{"c":null}]}"#;
        let read = JsonObject::read(text).unwrap();
        assert!(read.is_sound() && read.has_members());
        assert_eq!(read.keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(JsonObject::from(Object::clone(&read)).text(), text);
    }

    #[test]
    fn what_was_read_is_written_without_being_taken_apart() {
        let mut room = b"old".to_vec();
        for (text, wanted) in [(r#"{ "b": 1.10, "a": [{"c": null}] }"#, r#"{"b":1.10,"a":[{"c":null}]}"#), ("{}", "")] {
            let JsonValue::Object(members) = serde_json::from_str(text).unwrap() else { panic!() };
            let written = JsonObject::write(&members, &mut room);
            assert_eq!((written.text(), written.tree.get()), (wanted, None));
        }
    }

    #[test]
    fn an_object_without_members_is_no_text_and_is_sent_as_one() {
        let none = JsonObject::from(Object::new());
        assert_eq!((none.text(), none.json(), none.has_members()), ("", "{}", false));
        assert_eq!(JsonObject::read(""), Some(none));
    }

    #[test]
    fn what_is_no_object_is_refused_and_what_is_no_json_has_no_members() {
        for text in ["[]", "7", "{", "null"] {
            assert!(JsonObject::read(text).is_none(), "{text}");
        }
        let broken = JsonObject::read(r#"{"a":}"#).unwrap();
        assert!(broken.is_empty() && !broken.is_sound());
    }

    #[test]
    fn a_member_that_is_added_stands_in_the_text_too() {
        let mut object = JsonObject::read(r#"{"a":1}"#).unwrap();
        object.insert("b".to_owned(), true.into());
        object.fold();
        assert_eq!(object.text(), r#"{"a":1,"b":true}"#);
        assert_eq!(object["b"], true);
    }
}
