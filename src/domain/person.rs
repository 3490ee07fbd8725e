//! What is about a person does not get into a sentence: a receiver may quote in its answer what it was sent, and the
//! sentence made of it goes to the log, to `/status` and to alerts.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::event::Object;

/// What stands where a value was.
pub const MASKED: &str = "[masked]";

/// Shorter values stay: replacing them would shred every text.
const VALUE_BYTES_MIN: usize = 4;
/// Digits of a telephone number, however it was grouped.
const DIGITS_MIN: usize = 7;

/// All but the unreserved letters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `text` with every value of these `user` objects replaced, in whatever case (of ASCII) it stands, percent-encoded too,
/// and numbers of some length also without what groups them.
pub fn masked<'a>(text: &str, users: impl IntoIterator<Item = &'a Object>) -> String {
    let mut masked = text.to_owned();
    for user in users {
        user.values().for_each(|value| mask(&mut masked, value));
    }
    masked
}

fn mask(text: &mut String, value: &Value) {
    match value {
        Value::String(value) => mask_text(text, value.trim()),
        Value::Number(number) => mask_text(text, &number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| mask(text, item)),
        Value::Object(members) => members.values().for_each(|member| mask(text, member)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn mask_text(text: &mut String, value: &str) {
    replace(text, value);
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    if digits.len() >= DIGITS_MIN && digits != value {
        replace(text, &digits);
    }
    let percent = [NON_ALPHANUMERIC, RESERVED].map(|set| utf8_percent_encode(value, set).to_string());
    let ascii = json_ascii(value);
    let json = [value.replace('/', "\\/"), ascii.replace('/', "\\/"), ascii];
    for encoded in percent.into_iter().chain(json) {
        if encoded != value {
            replace(text, &encoded);
        }
    }
}

/// As JSON writers spell it that keep to ASCII.
fn json_ascii(value: &str) -> String {
    let mut units = [0; 2];
    let mut spelled = String::new();
    for letter in value.chars() {
        match letter {
            '"' | '\\' => spelled.extend(['\\', letter]),
            _ if letter.is_ascii() => spelled.push(letter),
            _ => spelled.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    spelled
}

fn replace(text: &mut String, value: &str) {
    if value.len() < VALUE_BYTES_MIN || value.len() > text.len() {
        return;
    }
    let wanted = value.to_ascii_lowercase();
    let mut from = 0;
    // Lower case of ASCII keeps every byte in its place.
    while let Some(at) = text.to_ascii_lowercase().get(from..).and_then(|rest| rest.find(&wanted)) {
        let at = from + at;
        text.replace_range(at..at + wanted.len(), MASKED);
        from = at + MASKED.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_as_json_writers_escape_them_too() {
        let user = serde_json::json!({ "last_name": "Müller-Lüdens", "email": "a/b@example.org" });
        let users = user.as_object();
        for said in ["M\\u00fcller-L\\u00fcdens", "M\\u00FCller-L\\u00FCdens", "a\\/b@example.org", "Müller-Lüdens"] {
            assert_eq!(masked(&format!("no {said}!"), users), "no [masked]!", "{said}");
        }
    }

    fn told(text: &str) -> String {
        let user = r#"{"email":"Jane@example.com","phone":"+49 176 12345678","first_name":["Jo","Änne"],"zip":4711,"x":{"ip":"203.0.113.7"}}"#;
        masked(text, [&serde_json::from_str(user).unwrap()])
    }

    #[test]
    fn what_a_receiver_quotes_of_a_person_is_masked() {
        for (text, wanted) in [
            ("bad jane@EXAMPLE.com, jane@example.com!", "bad [masked], [masked]!"),
            ("HTTP 400: em=Jane%40example%2ecom&e=jane%40example.com", "HTTP 400: em=[masked]&e=[masked]"),
            ("4917612345678 of Änne at 203.0.113.7 in 4711", "[masked] of [masked] at [masked] in [masked]"),
            ("Joanne is fine, İ too", "Joanne is fine, İ too"),
            ("", ""),
        ] {
            assert_eq!(told(text), wanted);
        }
    }

    #[test]
    fn a_value_that_is_the_mask_ends() {
        let user = serde_json::from_str(r#"{"a":"masked","b":"[masked]"}"#).unwrap();
        assert_eq!(masked("x masked", [&user]), "x [masked]");
    }
}
