//! Answers as JSON in which no control character stands bare.
//!
//! JSON escapes those below U+0020 anyway; DEL and the C1 set (U+007F to U+009F), which some terminals obey, it does not.
//! Here they are escaped too, so that whoever prints an answer is safe and whoever parses it gets the same text.

use std::io::{Result, Write};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// A body of type `application/json`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match bytes(&self.0) {
            Some(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// `value` as JSON; `None` where a value of ours has no JSON form, which none has.
pub(crate) fn bytes(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut body, Harmless)).ok()?;
    Some(body)
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> Result<()> {
        let mut rest = fragment;
        while let Some((plain, found)) = rest.find(char::is_control).and_then(|at| rest.split_at_checked(at)) {
            writer.write_all(plain.as_bytes())?;
            let mut letters = found.chars();
            if let Some(control) = letters.next() {
                write!(writer, "\\u{:04x}", u32::from(control))?;
            }
            rest = letters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_is_escaped_and_survives() {
        let text: String = (0..0x100).filter_map(char::from_u32).chain("é\u{2028}x".chars()).collect();
        let body = bytes(&text).unwrap();
        let shown = std::str::from_utf8(&body).unwrap();
        assert!(shown.chars().all(|letter| !letter.is_control()), "{shown}");
        assert_eq!(serde_json::from_str::<String>(shown).unwrap(), text);
        assert_eq!(bytes(&"a\u{9b}2J\u{7f}").unwrap(), br#""a\u009b2J\u007f""#);
    }
}
