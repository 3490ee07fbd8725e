//! A JSON value as it was written: texts borrowed from what they were read from, members in their order, numbers in their
//! digits.
//!
//! Reading it leaves no room for interpretation: no name twice in an object, and no more than [`DEPTH_MAX`] levels.
//! What a sender writes is read into this; what is kept of an event is text ([`super::json_object`]).
//!
//! `serde_json` marks numbers and raw values by member names of its own. Such names are refused: written to the store they
//! would come back as something else, or not at all.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

/// Levels of objects and lists inside an event, the event itself included: no real conversion comes near it.
pub const DEPTH_MAX: usize = 32;

/// Member names that begin like this belong to `serde_json`.
pub const RESERVED_PREFIX: &str = "$serde_json::private::";

/// Room an object is given at its first member: most of an event's need no more, and growing costs more than the rest.
const ROOM: usize = 7;

/// Up to so many members, looking through all is less work than hashing their names.
const FEW: usize = 32;

/// See the module's page.
#[derive(Clone, PartialEq, Debug)]
pub enum JsonValue<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<JsonValue<'a>>),
    Object(Members<'a>),
}

/// The members of an object in the order they were written; each name stands once.
#[derive(Clone, Default, Debug)]
pub struct Members<'a>(Vec<(Cow<'a, str>, JsonValue<'a>)>);

impl<'a> JsonValue<'a> {
    /// The value as the text a URL or a header would carry; `None` for `null` and for the empty text.
    pub fn scalar_text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) => (!text.is_empty()).then(|| text.clone()),
            Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => Some(self.to_string().into()),
        }
    }
}

impl<'a> Members<'a> {
    pub fn get(&self, name: &str) -> Option<&JsonValue<'a>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Adds members whose names do not stand in it.
    pub fn extend(&mut self, fresh: impl IntoIterator<Item = (Cow<'a, str>, JsonValue<'a>)>) {
        self.0.extend(fresh);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &JsonValue<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name, whatever order they were written in.
    pub fn sorted(&self) -> Vec<(&str, &JsonValue<'a>)> {
        let mut members: Vec<_> = self.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        members
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (Cow<'a, str>, JsonValue<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Whatever the order of the members.
impl PartialEq for Members<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.sorted() == other.sorted()
    }
}

impl From<serde_json::Map<String, Value>> for Members<'_> {
    fn from(object: serde_json::Map<String, Value>) -> Self {
        Self(object.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl From<Value> for JsonValue<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(truth),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(object) => Self::Object(object.into()),
        }
    }
}

impl From<JsonValue<'_>> for Value {
    fn from(json: JsonValue<'_>) -> Self {
        match json {
            JsonValue::Null => Self::Null,
            JsonValue::Bool(truth) => Self::Bool(truth),
            JsonValue::Number(number) => Self::Number(number),
            JsonValue::Text(text) => Self::String(text.into_owned()),
            JsonValue::List(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            JsonValue::Object(members) => {
                Self::Object(members.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect())
            }
        }
    }
}

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => members.serialize(serializer),
        }
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// As JSON.
impl fmt::Display for JsonValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl<'de> Deserialize<'de> for JsonValue<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Reading::default().deserialize(reader)
    }
}

/// Builds a value; `depth` is how many levels are open around it.
#[derive(Clone, Copy, Default, Debug)]
struct Reading {
    depth: usize,
}

impl Reading {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested deeper than {DEPTH_MAX} levels; flatten the event")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = JsonValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<JsonValue<'de>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Bool(truth))
    }

    /// Integers of up to 64 bits come like this; all other numbers come to [`Reading::visit_map`].
    fn visit_u64<E>(self, number: u64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number(number.into()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(text.into()))
    }

    /// One with escapes in it.
    fn visit_str<E>(self, text: &str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonValue<'de>, A::Error> {
        let inside = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(inside)? {
            items.push(item);
        }
        Ok(JsonValue::List(items))
    }

    /// Objects, and numbers: with arbitrary precision `serde_json` hands a number over as an object of one member.
    fn visit_map<A: MapAccess<'de>>(self, mut written: A) -> Result<JsonValue<'de>, A::Error> {
        let Some(first) = written.next_key_seed(Name)? else {
            self.deeper::<A::Error>()?;
            return Ok(JsonValue::Object(Members::default()));
        };
        if first.starts_with(RESERVED_PREFIX) {
            return written.next_value::<Digits>().map(|digits| JsonValue::Number(digits.0));
        }
        let inside = self.deeper()?;
        let mut members: Vec<(Cow<'de, str>, JsonValue<'de>)> = Vec::with_capacity(ROOM);
        // Those of all members, once they are many.
        let mut names: HashSet<Cow<'de, str>> = HashSet::new();
        let mut next = Some(first);
        while let Some(name) = next {
            if name.starts_with(RESERVED_PREFIX) {
                return Err(reserved());
            }
            let fresh = if members.len() < FEW {
                members.iter().all(|(known, _)| *known != name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|(known, _)| known.clone()));
                }
                names.insert(name.clone())
            };
            if !fresh {
                return Err(de::Error::custom(format!("the name {} stands twice in one object", quoted(&name))));
            }
            members.push((name, written.next_value_seed(inside)?));
            next = written.next_key_seed(Name)?;
        }
        Ok(JsonValue::Object(Members(members)))
    }
}

/// Reads the name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(name.into())
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(name.to_owned().into())
    }
}

fn reserved<E: de::Error>() -> E {
    E::custom(format!("names that begin with {RESERVED_PREFIX} are reserved; choose another name"))
}

/// A name as it may be shown: cut, control characters escaped.
fn quoted(name: &str) -> String {
    format!("{:?}", super::message::cut(name, 100))
}

/// The digits of a number. `serde_json` hands those over as an owned text, while what a sender wrote comes borrowed: so
/// an object that only looks like a number is told apart and refused.
struct Digits(Number);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Owned;
        impl Visitor<'_> for Owned {
            type Value = Digits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "another name; those that begin with {RESERVED_PREFIX} are reserved")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Digits, E> {
                Err(reserved())
            }

            fn visit_string<E: de::Error>(self, digits: String) -> Result<Digits, E> {
                digits.parse().map(Digits).map_err(|_| E::custom("not a number"))
            }
        }
        reader.deserialize_any(Owned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> JsonValue<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn texts_are_borrowed_unless_they_are_escaped() {
        let JsonValue::Object(members) = read(r#"{"plain":"x","\u0065scaped":"\n"}"#) else { panic!() };
        let borrowed = |(name, value): &(Cow<'_, str>, JsonValue<'_>)| {
            matches!(name, Cow::Borrowed(_)) && matches!(value, JsonValue::Text(Cow::Borrowed(_)))
        };
        assert_eq!(members.0.iter().map(borrowed).collect::<Vec<_>>(), [true, false]);
        assert_eq!(members.get("escaped"), Some(&JsonValue::Text("\n".into())));
    }

    #[test]
    fn the_name_that_stands_twice_is_found_among_few_and_among_many() {
        for count in [1, FEW - 1, FEW, FEW + 1, 3 * FEW] {
            let text = |twice: usize| {
                let names = (0..count).chain([twice]).map(|n| format!(r#""n{n}":1"#));
                format!("{{{}}}", names.collect::<Vec<_>>().join(","))
            };
            for twice in [0, count / 2, count - 1] {
                let error = serde_json::from_str::<JsonValue<'_>>(&text(twice)).unwrap_err().to_string();
                assert!(error.contains(&format!("the name \"n{twice}\" stands twice")), "{count}: {error}");
            }
            let text = text(count);
            let JsonValue::Object(members) = read(&text) else { panic!() };
            assert_eq!(members.len(), count + 1);
        }
    }

    #[test]
    fn objects_are_equal_whatever_their_order() {
        assert_eq!(read(r#"{"a":1,"b":{"c":1,"d":2}}"#), read(r#"{"b":{"d":2,"c":1},"a":1}"#));
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":{"c":1,"d":3}}"#, r#"{"a":1,"x":{"c":1,"d":2}}"#] {
            assert_ne!(read(r#"{"a":1,"b":{"c":1,"d":2}}"#), read(other));
        }
    }

    #[test]
    fn the_text_of_a_value_is_what_a_url_would_carry() {
        for (json, wanted) in [
            ("null", None),
            (r#""""#, None),
            (r#""x""#, Some("x")),
            ("1.10", Some("1.10")),
            ("true", Some("true")),
            (r#"[1,"a"]"#, Some(r#"[1,"a"]"#)),
        ] {
            assert_eq!(read(json).scalar_text().as_deref(), wanted, "{json}");
        }
    }

    /// Values of every kind with names and texts that have to be escaped, and numbers of every form.
    fn values() -> impl Strategy<Value = Value> {
        let number =
            prop::sample::select(vec!["0", "-0", "-7", "1.50", "1E400", "18446744073709551616", "9007199254740993"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(|digits| Value::Number(digits.parse().unwrap())),
            ".{0,6}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((".{0,4}", inner), 0..40).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_the_value_that_serde_json_reads_and_writes(value in values()) {
            let text = value.to_string();
            let json = read(&text);
            prop_assert_eq!(json.to_string(), text.as_str());
            prop_assert_eq!(JsonValue::from(value.clone()), json.clone());
            prop_assert_eq!(Value::from(json), value);
        }
    }
}
