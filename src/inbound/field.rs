//! Fields of an event as the configuration names them: `uid`, `user.email`, `click.campaign_id`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::domain::event::Object;

/// A field a parameter can be mapped to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Field(String);

/// Fields by themselves. The event's name is not among them: it has its own key, since a status may decide it.
pub const PLAIN: [&str; 7] = ["event_id", "uid", "occurred_at_ms", "occurred_at", "value", "currency", "action_source"];

/// Objects whose members are fields.
pub const OBJECTS: [&str; 4] = ["user", "click", "page", "data"];

/// Members of `user` that destinations know; others are kept all the same.
pub const USER: [&str; 20] = [
    "email",
    "phone",
    "first_name",
    "last_name",
    "gender",
    "date_of_birth",
    "city",
    "state",
    "zip",
    "country",
    "external_id",
    "ip",
    "user_agent",
    "fbc",
    "fbp",
    "ttp",
    "client_id",
    "lead_id",
    "subscription_id",
    "fb_login_id",
];

/// Not a field of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unknown;

impl Field {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the value at its place; the one that stood there before, if any.
    pub fn put(&self, object: &mut Object, value: String) -> Option<Value> {
        match self.0.split_once('.') {
            None => object.insert(self.0.clone(), Value::from(value)),
            Some((head, member)) => {
                let inner = object.entry(head).or_insert_with(|| Value::Object(Object::new()));
                inner.as_object_mut().and_then(|inner| inner.insert(member.to_owned(), Value::from(value)))
            }
        }
    }
}

impl FromStr for Field {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let known = match text.split_once('.') {
            None => PLAIN.contains(&text),
            Some((head, member)) => OBJECTS.contains(&head) && !member.is_empty() && !member.contains('\0'),
        };
        if known { Ok(Self(text.to_owned())) } else { Err(Unknown) }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_by_name_or_by_their_object() {
        for good in ["uid", "user.email", "data.a.b", "page.url"] {
            assert!(good.parse::<Field>().is_ok(), "{good}");
        }
        for bad in ["", "event", "user", "user.", "users.x", "uid.x", "token"] {
            assert_eq!(bad.parse::<Field>(), Err(Unknown), "{bad}");
        }
    }

    #[test]
    fn members_stand_in_their_object_under_their_whole_name() {
        let mut object = Object::new();
        for field in ["data.a.b", "uid", "data.c"] {
            assert_eq!(field.parse::<Field>().unwrap().put(&mut object, "1".to_owned()), None);
        }
        assert_eq!(Value::Object(object).to_string(), r#"{"data":{"a.b":"1","c":"1"},"uid":"1"}"#);
    }
}
