//! Bodies as JSON without room for interpretation: UTF-8 only, no lone surrogates, and what [`JsonValue`] refuses.
//!
//! A large body is read in two steps. [`split`] finds the events in it without building anything, so that an oversized event
//! or batch costs no memory; [`parse`] then builds the value of one event. In a small one all values are built at once, by
//! [`parse`] or [`parse_list`]. Errors carry line and column in the body.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::domain::json::JsonValue;

/// Where the JSON ends to be JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SyntaxError {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in bytes.
    pub(crate) column: usize,
    pub(crate) detail: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.line, self.column, self.detail)
    }
}

/// What a body is, seen from outside.
#[derive(Debug)]
pub(crate) enum Document<'a> {
    Object(&'a str),
    /// `total` may exceed `items`, which ends at the limit that was asked for.
    Array {
        items: Vec<&'a str>,
        total: usize,
    },
    /// A text, a number, `true`, `false` or `null`.
    Scalar,
}

/// What a body can only be, or a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Object,
    Array,
    /// Nothing at all, too.
    Other,
}

pub(crate) fn shape(body: &str) -> Shape {
    match first(body) {
        Some(b'{') => Shape::Object,
        Some(b'[') => Shape::Array,
        Some(_) | None => Shape::Other,
    }
}

/// The first byte that says something.
fn first(body: &str) -> Option<u8> {
    body.bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Splits a body into its events, at most `limit` of them.
pub(crate) fn split(body: &str, limit: usize) -> Result<Document<'_>, SyntaxError> {
    let mut reader = Deserializer::from_str(body);
    let document = match first(body) {
        None => {
            return Err(SyntaxError { line: 1, column: 1, detail: "the body is empty; send a JSON object".to_owned() });
        }
        Some(b'[') => {
            let list = reader.deserialize_seq(List { limit, of: PhantomData::<&RawValue> });
            list.map(|(items, total)| Document::Array { items: items.into_iter().map(RawValue::get).collect(), total })
        }
        Some(b'{') => <&RawValue>::deserialize(&mut reader).map(|raw| Document::Object(raw.get())),
        Some(_) => IgnoredAny::deserialize(&mut reader).map(|_| Document::Scalar),
    };
    let document = document.map_err(|error| syntax_error(&error))?;
    reader.end().map_err(|error| syntax_error(&error))?;
    Ok(document)
}

/// Builds the value of one event. `text` may be a slice of `body`: positions are those in `body`.
pub(crate) fn parse<'a>(text: &'a str, body: &str) -> Result<JsonValue<'a>, SyntaxError> {
    let mut reader = Deserializer::from_str(text);
    let value = JsonValue::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| syntax_error(&error).moved(start_of(text, body)))
}

/// Builds the values of an array, at most `limit` of them, and says how many there are.
pub(crate) fn parse_list(body: &str, limit: usize) -> Result<(Vec<JsonValue<'_>>, usize), SyntaxError> {
    let mut reader = Deserializer::from_str(body);
    let list = reader.deserialize_seq(List { limit, of: PhantomData::<JsonValue<'_>> });
    list.and_then(|list| reader.end().map(|()| list)).map_err(|error| syntax_error(&error))
}

/// A body as text.
pub(crate) fn utf8(body: &[u8]) -> Result<&str, SyntaxError> {
    std::str::from_utf8(body).map_err(|error| {
        let good = body.get(..error.valid_up_to()).and_then(|head| std::str::from_utf8(head).ok()).unwrap_or_default();
        let (line, column) = position(good);
        SyntaxError { line, column, detail: "not UTF-8; send JSON as UTF-8".to_owned() }
    })
}

/// Line and column right after `head`, from 1.
fn position(head: &str) -> (usize, usize) {
    let line = head.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = head.len() - head.rfind('\n').map_or(0, |at| at + 1) + 1;
    (line, column)
}

/// Where `text`, a slice of `body`, begins in it; the very beginning where it is no slice of it.
fn start_of(text: &str, body: &str) -> (usize, usize) {
    let offset = text.as_ptr().addr().checked_sub(body.as_ptr().addr());
    offset.and_then(|offset| body.get(..offset)).map_or((1, 1), position)
}

impl SyntaxError {
    fn moved(mut self, (line, column): (usize, usize)) -> Self {
        if self.line <= 1 {
            self.column += column - 1;
        }
        self.line = self.line.max(1) + line - 1;
        self
    }
}

fn syntax_error(error: &serde_json::Error) -> SyntaxError {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let detail = match whole.strip_suffix(&place).unwrap_or(&whole) {
        "trailing characters" => {
            "something follows the JSON value; send several events as a JSON array, or one per line as application/x-ndjson"
        }
        // serde_json has met the first letter of null, true or false and not the others.
        "expected ident" => "expected a JSON value",
        other => other,
    };
    SyntaxError { line: error.line().max(1), column: error.column().max(1), detail: detail.to_owned() }
}

/// Collects the items of an array and counts those beyond the limit.
struct List<T> {
    limit: usize,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = (Vec<T>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.limit {
            let Some(item) = list.next_element()? else {
                let total = items.len();
                return Ok((items, total));
            };
            items.push(item);
        }
        let mut total = items.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        Ok((items, total))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::json::DEPTH_MAX;

    fn refused(text: &str) -> String {
        parse(text, text).unwrap_err().to_string()
    }

    #[test]
    fn good_json_is_what_serde_json_reads() {
        let text = r#"{"a":[1,2.50,-0.1e5,"x\u00e9\ud83d\ude00",null,true,{}],"b":{"c":[]},"big":123456789012345678901234567890}"#;
        let wanted: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text, text).map(Value::from), Ok(wanted));
    }

    #[test]
    fn numbers_keep_their_written_digits() {
        let text = r#"{"a":25.00,"b":0.10000000000000000000001}"#;
        assert_eq!(parse(text, "").map(|value| value.to_string()).as_deref(), Ok(text));
    }

    #[test]
    fn a_name_may_stand_once() {
        assert_eq!(
            refused(r#"{"a":1,"b":{"x":1,"x":1}}"#),
            r#"line 1 column 21: the name "x" stands twice in one object"#
        );
        assert!(refused(r#"{"a":1,"\u0061":2}"#).contains("twice"), "also where it is written differently");
    }

    #[test]
    fn lone_surrogates_and_bare_control_characters_are_refused() {
        for text in [r#"{"a":"\ud800"}"#, r#"{"a":"\ud800\u0041"}"#, r#"{"\udc00":1}"#, "{\"a\":\"\n\"}"] {
            assert!(parse(text, text).is_err(), "{text}");
        }
        assert_eq!(
            utf8(b"{\n\"a\":\"\xff\"}").unwrap_err().to_string(),
            "line 2 column 6: not UTF-8; send JSON as UTF-8"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(DEPTH_MAX), "").is_ok());
        assert!(refused(&nested(DEPTH_MAX + 1)).contains("deeper than 32"));
        let objects = format!("{}{{}}{}", r#"{"a":"#.repeat(DEPTH_MAX), "}".repeat(DEPTH_MAX));
        assert!(refused(&objects).contains("deeper than 32"), "an empty object is a level too");
        let million = nested(1_000_000);
        assert!(matches!(split(&million, 10), Ok(Document::Array { total: 1, .. })), "splitting needs no stack");
        assert!(parse(&million, "").is_err());
    }

    #[test]
    fn names_that_serde_json_uses_for_itself_are_refused() {
        for text in [
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"\u0024serde_json::private::Number":"1"}"#,
            r#"{"$serde_json::private::Number":"\u0031"}"#,
            r#"{"a":{"$serde_json::private::RawValue":"{"}}"#,
            r#"{"a":1,"$serde_json::private::RawValue":"1"}"#,
            r#"{"$serde_json::private::Number":1}"#,
        ] {
            assert!(refused(text).contains("reserved"), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn a_body_is_split_without_being_built() {
        let body = " [ {\"a\":1}, 2 ,[3]]\n";
        match split(body, 10) {
            Ok(Document::Array { items, total }) => {
                assert_eq!(items, [r#"{"a":1}"#, "2", "[3]"]);
                assert_eq!(total, 3);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(split("[1,2,3,4]", 2), Ok(Document::Array { items, total: 4 }) if items.len() == 2));
        assert!(matches!(split("\n{\"a\":1} ", 1), Ok(Document::Object("{\"a\":1}"))));
        assert!(matches!(split(" \"x\"", 1), Ok(Document::Scalar)));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        let refused = |body: &str| split(body, 10).map(|_| ()).unwrap_err().to_string();
        assert_eq!(refused("{\"a\":1,\n}"), "line 2 column 1: key must be a string");
        assert_eq!(refused(""), "line 1 column 1: the body is empty; send a JSON object");
        assert!(refused("{\"a\":1}\n{\"a\":2}").contains("application/x-ndjson"));
        for body in ["{", "[1,]", "[1", "nul", "{'a':1}", "01", "\u{feff}{}", "{\"a\":NaN}"] {
            assert!(split(body, 10).is_err(), "{body}");
        }
    }

    #[test]
    fn positions_are_those_in_the_body() {
        let body = "[{\"a\":1},\n  {\"b\":1,\"b\":2}]";
        let Ok(Document::Array { items, .. }) = split(body, 10) else { panic!() };
        let error = parse(items[1], body).unwrap_err();
        assert_eq!((error.line, error.column), (2, 12));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            proptest::prop_assert!(split(&text, 3).is_err() || serde_json::from_str::<IgnoredAny>(&text).is_ok());
            let ours = parse(&text, &text);
            if let Ok(value) = ours {
                proptest::prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value.into()));
            }
        }
    }
}
