//! What is about a person stays off the page: the values of `user`, wherever in a request or an answer they turn up
//! again. The event itself is not touched, and the API shows its payload to whoever may ask for it.
//!
//! Known values go in every form a redactor knows (percent-encoded, escaped as JSON). Short ones (`DE`, `f`) would shred
//! a text, so they are replaced only where a parameter or a member of JSON is exactly that. In JSON everything below
//! `user` and `user_data`, and whatever a name says is about a person, goes too, known or not.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::text::{MASKED, Shown};
use crate::destination::view::redactor;
use crate::domain::secret::{REDACTED, Redactor, Secret};

/// Members whose values are about a person as a whole.
const PEOPLE: [&str; 2] = ["user", "user_data"];
/// Names of members and parameters that hold something about a person.
const PERSONAL: [&str; 31] = [
    "address",
    "birthday",
    "birthdate",
    "client_ip_address",
    "client_user_agent",
    "date_of_birth",
    "dob",
    "e_mail",
    "email",
    "first_name",
    "firstname",
    "full_name",
    "gender",
    "ip",
    "ip_address",
    "last_name",
    "lastname",
    "mail",
    "mobile",
    "msisdn",
    "passport",
    "phone",
    "phone_number",
    "postcode",
    "street",
    "surname",
    "tel",
    "telephone",
    "user_agent",
    "zip",
    "zip_code",
];
/// Values from this length on are replaced wherever they stand.
const LONG: usize = 4;

/// What of one event is about a person.
#[derive(Debug, Default)]
pub(super) struct Mask {
    /// Lower case.
    values: BTreeSet<String>,
    redactor: Redactor,
}

impl Mask {
    /// Of an event as the API shows it.
    pub(super) fn of(payload: &Value) -> Self {
        let mut found = BTreeSet::new();
        for (name, value) in payload.as_object().into_iter().flatten() {
            collect(value, PEOPLE.contains(&name.as_str()), &mut found);
        }
        // Ids an operator searches by are shown on purpose.
        for shown in ["uid", "event_id", "id"] {
            if let Some(id) = payload.get(shown).and_then(Value::as_str) {
                found.remove(id);
            }
        }
        let long = |text: &&String| text.len() >= LONG;
        let forms = found.iter().filter(long).flat_map(|text| [text.clone(), text.to_lowercase(), text.to_uppercase()]);
        let digits = found.iter().map(|text| text.chars().filter(char::is_ascii_digit).collect::<String>());
        let secrets: Vec<Secret> = forms.chain(digits.filter(|digits| digits.len() >= 7)).map(Secret::new).collect();
        let values = found.iter().map(|text| text.to_lowercase()).collect();
        Self { values, redactor: redactor(&secrets) }
    }

    /// Any text.
    pub(super) fn text(&self, text: &str) -> Shown {
        Shown::new(&self.redactor.redact(&keep(text)).replace(REDACTED, MASKED).replace(KEPT, REDACTED))
    }

    /// A URL, or a body of a form.
    pub(super) fn parameters(&self, text: &str) -> Shown {
        let clean = text.split_inclusive(['?', '&', '#', '/']).map(|part| {
            let body = part.trim_end_matches(['?', '&', '#', '/']);
            let end = part.strip_prefix(body).unwrap_or_default();
            let (name, value) = body.split_once('=').unwrap_or(("", body));
            if self.is_value(&decoded(value)) || (!value.is_empty() && is_personal(&decoded(name))) {
                let joint = if body.contains('=') { "=" } else { "" };
                return format!("{name}{joint}{MASKED}{end}");
            }
            part.to_owned()
        });
        self.text(&clean.collect::<String>())
    }

    /// A body: JSON by its members, else as parameters.
    pub(super) fn body(&self, text: &str) -> Shown {
        match serde_json::from_str::<Value>(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => self.json(value),
            _ => self.parameters(text),
        }
    }

    /// JSON, indented.
    pub(super) fn json(&self, mut value: Value) -> Shown {
        self.cover(&mut value);
        self.text(&serde_json::to_string_pretty(&value).unwrap_or_default())
    }

    fn cover(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    if PEOPLE.contains(&name.as_str()) || is_personal(name) {
                        blind(member);
                    } else {
                        self.cover(member);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.cover(item)),
            Value::String(text) if self.is_value(text) => MASKED.clone_into(text),
            Value::Number(number) if self.is_value(&number.to_string()) => *value = MASKED.into(),
            Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) => {}
        }
    }

    fn is_value(&self, text: &str) -> bool {
        self.values.contains(&text.trim().to_lowercase())
    }
}

/// Stands for [`REDACTED`] while values are masked, so that a secret stays told apart from a value.
const KEPT: &str = "\u{E000}";

fn keep(text: &str) -> String {
    text.replace(KEPT, "").replace(REDACTED, KEPT)
}

fn is_personal(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    PERSONAL.contains(&name.rsplit('.').next().unwrap_or_default())
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Every scalar below a member that is about a person.
fn collect(value: &Value, personal: bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect(member, personal || is_personal(name), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, personal, found)),
        Value::String(text) if personal && !text.trim().is_empty() => {
            found.insert(text.trim().to_owned());
        }
        Value::Number(number) if personal => {
            found.insert(number.to_string());
        }
        Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) => {}
    }
}

/// What is left of a value: that there is one.
fn blind(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(blind),
        Value::Array(items) => items.iter_mut().for_each(blind),
        Value::String(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            "[masked: SHA-256]".clone_into(text);
        }
        Value::String(text) if !text.is_empty() => *text = format!("[masked: {} characters]", text.chars().count()),
        Value::Number(_) => *value = MASKED.into(),
        Value::String(_) | Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask() -> (Mask, Value) {
        let payload = json!({
            "event": "deposit", "uid": "click-77", "event_id": "t-1",
            "user": {
                "email": "Jane.Doe@example.com", "phone": "+49 176 12345678", "first_name": ["Jo"], "country": "DE",
                "ip": "203.0.113.7", "external_id": "click-77", "hash": "a".repeat(64), "n": 4_711_042, "ok": true
            },
            "click": { "tg_id": 42, "country": "DE", "email": "other@example.org" },
            "data": { "note": "for jane.doe@example.com", "plan": "gold" }
        });
        (Mask::of(&payload), payload)
    }

    #[test]
    fn a_payload_shows_which_fields_are_there_and_none_of_their_values() {
        let (mask, payload) = mask();
        let shown = mask.json(payload).to_string();
        for value in ["ane", "176", "203.0", "\"Jo\"", "DE", "aaaa", "4711042", "other@"] {
            assert!(!shown.contains(value), "{value} in {shown}");
        }
        for kept in [
            "\"email\": \"[masked: 20 characters]\"",
            "[masked: SHA-256]",
            "\"uid\": \"click-77\"",
            "\"tg_id\": 42",
            "\"plan\": \"gold\"",
            "\"note\": \"for [masked]\"",
        ] {
            assert!(shown.contains(kept), "{kept} not in {shown}");
        }
    }

    #[test]
    fn values_are_found_again_in_urls_bodies_and_answers() {
        let (mask, _) = mask();
        for (shown, wanted) in [
            (
                mask.parameters("https://h.example/in?em=Jane.Doe%40example.com&fn=jo&cc=DE&id=click-77"),
                "https://h.example/in?em=[masked]&fn=[masked]&cc=[masked]&id=click-77",
            ),
            (
                mask.parameters("https://h.example/DE/x?phone=1&sum=25.00#DE"),
                "https://h.example/[masked]/x?phone=[masked]&sum=25.00#[masked]",
            ),
            (mask.body("em=Jane.Doe%40example.com&p=%2B49+176+12345678"), "em=[masked]&p=[masked]"),
            (mask.text("bad address 203.0.113.7 of JANE.DOE@EXAMPLE.COM"), "bad address [masked] of [masked]"),
            (
                mask.text("number 4917612345678 is unknown; token [redacted]"),
                "number [masked] is unknown; token [redacted]",
            ),
        ] {
            assert_eq!(shown.as_str(), wanted);
        }
        let body =
            mask.body(r#"{"data":[{"user_data":{"em":["aa"],"fbc":"fb.1"},"x":"Jo","value":25.00}]}"#).to_string();
        assert!(!body.contains("\"aa\"") && !body.contains("fb.1") && !body.contains("\"Jo\""), "{body}");
        assert!(body.contains("25.00"), "digits stay as they were written: {body}");
    }
}
