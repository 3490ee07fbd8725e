//! From a body to candidates: one object, a JSON array, or one object per line (NDJSON).
//!
//! A JSON body is one document: a syntax fault anywhere refuses all of it. A bad NDJSON line is one rejected item.

use std::borrow::Cow;

use axum::http::StatusCode;

use super::fields::wrong_type;
use super::validate::{Context, EVENT_ID_NAMES, incoming};
use crate::domain::json::{JsonValue, Members};
use crate::domain::limits::{EVENT_BYTES, EVENT_ID_BYTES};
use crate::domain::message::cut;
use crate::http::problem::{FieldError, Problem};
use crate::http::strict_json::{self, Document, Shape, SyntaxError};
use crate::pipeline::Incoming;

/// How the body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Json,
    Lines,
}

/// An item that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rejected {
    /// The sender's id where it could be read, cut to its limit.
    pub(super) event_id: Option<String>,
    /// At least one.
    pub(super) errors: Vec<FieldError>,
}

/// An event, or why it is none.
pub(super) type Candidate = Result<Incoming, Rejected>;

/// What a body holds.
#[derive(Debug)]
pub(super) enum Parsed {
    One(Box<Candidate>),
    Many(Vec<Candidate>),
}

/// Why the body as a whole is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Syntax(SyntaxError),
    TooMany { given: usize, limit: usize },
    Empty,
    Scalar,
}

impl Refusal {
    /// Refused items, for the books.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::TooMany { given, .. } => u64::try_from(*given).unwrap_or(u64::MAX),
            Self::Syntax(_) | Self::Empty | Self::Scalar => 1,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Syntax(error) => {
                let (line, column) = (error.line, error.column);
                Self::new(StatusCode::BAD_REQUEST, "invalid_json", "The body is not valid JSON", error.to_string())
                    .with_member("line", line)
                    .with_member("column", column)
            }
            Refusal::TooMany { given, limit } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_many_events",
                "Too many events in one request",
                format!("{given} events in one request; send at most {limit} (server.batch_limit)"),
            )
            .with_member("limit", limit),
            Refusal::Empty => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no_events",
                "There is no event in it",
                "the batch is empty; send at least one event",
            ),
            Refusal::Scalar => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_an_event",
                "The body is no event",
                "the body is a single JSON value; send an object like {\"event\": \"deposit\", \"event_id\": \"…\"}, or an array of them",
            ),
        }
    }
}

/// Reads `body`, at most `limit` events.
pub(super) fn parse(body: &[u8], form: Form, limit: usize, context: &Context) -> Result<Parsed, Refusal> {
    // Files written on Windows begin with a byte order mark, which says nothing and breaks the JSON.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match form {
        Form::Json => document(strict_json::utf8(body).map_err(Refusal::Syntax)?, limit, context),
        Form::Lines => lines(body, limit, context),
    }
}

fn document(body: &str, limit: usize, context: &Context) -> Result<Parsed, Refusal> {
    // What cannot hold an event that is too large need not be measured before it is built.
    if body.len() <= EVENT_BYTES {
        match strict_json::shape(body) {
            Shape::Object => {
                return Ok(one(event(strict_json::parse(body, body).map_err(Refusal::Syntax)?, "$", context)));
            }
            Shape::Array => {
                let (values, total) = strict_json::parse_list(body, limit).map_err(Refusal::Syntax)?;
                return many(values, total, limit, |value, at| Ok(event(value, at, context)));
            }
            Shape::Other => {}
        }
    }
    match strict_json::split(body, limit).map_err(Refusal::Syntax)? {
        Document::Scalar => Err(Refusal::Scalar),
        Document::Object(text) => candidate(text, body, "$", context).map(one).map_err(Refusal::Syntax),
        Document::Array { items, total } => {
            many(items, total, limit, |text, at| candidate(text, body, at, context).map_err(Refusal::Syntax))
        }
    }
}

fn one(candidate: Candidate) -> Parsed {
    Parsed::One(Box::new(candidate))
}

/// The events of a batch of `total` items.
fn many<T>(
    items: Vec<T>,
    total: usize,
    limit: usize,
    read: impl Fn(T, &str) -> Result<Candidate, Refusal>,
) -> Result<Parsed, Refusal> {
    if total == 0 {
        return Err(Refusal::Empty);
    }
    if total > limit {
        return Err(Refusal::TooMany { given: total, limit });
    }
    let items = items.into_iter().enumerate();
    items.map(|(index, item)| read(item, &format!("$[{index}]"))).collect::<Result<_, _>>().map(Parsed::Many)
}

/// Lines are counted from 1 in texts, items from 0 in paths; empty lines are no items.
fn lines(body: &[u8], limit: usize, context: &Context) -> Result<Parsed, Refusal> {
    let filled = || body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let given = filled().count();
    if given == 0 {
        return Err(Refusal::Empty);
    }
    if given > limit {
        return Err(Refusal::TooMany { given, limit });
    }
    let items = filled().enumerate().map(|(index, (line_index, line))| {
        let at = format!("$[{index}]");
        let text = strict_json::utf8(line);
        text.and_then(|text| candidate(text, text, &at, context)).unwrap_or_else(|error| {
            let error = SyntaxError { line: error.line + line_index, ..error };
            Err(Rejected { event_id: None, errors: vec![FieldError::new(at, "invalid_json", error.to_string())] })
        })
    });
    Ok(Parsed::Many(items.collect()))
}

/// Reads one event. `text` is a slice of `body`.
fn candidate(text: &str, body: &str, at: &str, context: &Context) -> Result<Candidate, SyntaxError> {
    if text.len() > EVENT_BYTES {
        let detail = format!("the event is {} bytes long; at most {EVENT_BYTES} are taken", text.len());
        let errors = vec![FieldError::new(at, "event_too_large", detail)];
        return Ok(Err(Rejected { event_id: None, errors }));
    }
    Ok(event(strict_json::parse(text, body)?, at, context))
}

fn event(value: JsonValue<'_>, at: &str, context: &Context) -> Candidate {
    match value {
        JsonValue::Object(object) => {
            let event_id = sender_id(&object);
            incoming(object, at, context, None).map_err(|errors| {
                let event_id = event_id.map(|id| cut(&id, EVENT_ID_BYTES).to_owned());
                Rejected { event_id, errors }
            })
        }
        other @ (JsonValue::Null
        | JsonValue::Bool(_)
        | JsonValue::Number(_)
        | JsonValue::Text(_)
        | JsonValue::List(_)) => {
            let detail = wrong_type("an object like {\"event\": \"deposit\", \"event_id\": \"…\"}", &other);
            Err(Rejected { event_id: None, errors: vec![FieldError::new(at, "type", detail)] })
        }
    }
}

fn sender_id<'a>(object: &Members<'a>) -> Option<Cow<'a, str>> {
    EVENT_ID_NAMES.iter().find_map(|name| object.get(name))?.scalar_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dedupe::HashKey;
    use crate::domain::time::UnixMs;
    use crate::http::problem::tests::shown;

    fn context() -> Context {
        Context {
            source: "app".parse().unwrap(),
            default_currency: "USD".parse().unwrap(),
            received_at: UnixMs(1),
            hash: HashKey([7; 16]),
        }
    }

    fn read(body: &str, form: Form) -> Result<Parsed, Refusal> {
        parse(body.as_bytes(), form, 3, &context())
    }

    /// Per item `ok` or the path and code of its first fault.
    fn outline(parsed: Parsed) -> Vec<String> {
        let items = match parsed {
            Parsed::One(one) => vec![*one],
            Parsed::Many(items) => items,
        };
        let told = |item: Candidate| match item {
            Ok(_) => "ok".to_owned(),
            Err(rejected) => format!("{} {}", rejected.errors[0].path, rejected.errors[0].code),
        };
        items.into_iter().map(told).collect()
    }

    const GOOD: &str = r#"{"event":"a","event_id":"1"}"#;

    #[test]
    fn an_object_is_one_event_and_an_array_is_a_batch() {
        assert!(matches!(read(GOOD, Form::Json), Ok(Parsed::One(one)) if one.is_ok()));
        let batch = format!("[{GOOD},{{\"event\":\"a\"}},7]");
        assert_eq!(outline(read(&batch, Form::Json).unwrap()), ["ok", "$[1].event_id no_identity", "$[2] type"]);
    }

    #[test]
    fn events_are_read_alike_whether_or_not_they_are_measured_first() {
        let batches =
            [format!("[{GOOD},7,{{\"event\":\"a\"}}]"), format!("[{GOOD},{GOOD},{GOOD},{GOOD}]"), "[]".to_owned()];
        let deep = format!("[{}{}]", "[".repeat(32), "]".repeat(32));
        let broken = ["[", "[1,]", "[1]2", r#"[{"a":1,"a":2}]"#, deep.as_str()];
        for body in
            [GOOD, r#"{"event":7}"#, r#"{"a":1,"a":2}"#, r#"{"event":"a"}{"#, "{", r#" {"eid":5} 7"#, r#"{"a":[}"#]
                .into_iter()
                .chain(batches.iter().map(String::as_str))
                .chain(broken)
        {
            let padded = format!("{}{body}", " ".repeat(EVENT_BYTES));
            let outline = |body: &str| match read(body, Form::Json) {
                Ok(parsed) => outline(parsed),
                Err(refusal) => vec![format!("{} items refused", refusal.count())],
            };
            assert_eq!(outline(body), outline(&padded), "{body}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_read_over() {
        let marked = format!("\u{feff}{GOOD}");
        assert_eq!(outline(read(&marked, Form::Json).unwrap()), ["ok"]);
        assert_eq!(outline(read(&marked, Form::Lines).unwrap()), ["ok"]);
        assert!(read(&format!("\u{feff}{marked}"), Form::Json).is_err(), "only one, at the very beginning");
    }

    #[test]
    fn a_bad_line_is_one_rejected_item() {
        let body = format!("\n{GOOD}\r\n  \n{{\"event\":\n{{\"event\":\"a\",\"event_id\":\"2\",\"event_id\":\"3\"}}\n");
        let parsed = read(&body, Form::Lines).unwrap();
        let Parsed::Many(items) = parsed else { panic!() };
        let detail = &items[1].as_ref().unwrap_err().errors[0].detail;
        assert!(detail.starts_with("line 4 column "), "{detail}");
        assert_eq!(outline(Parsed::Many(items)), ["ok", "$[1] invalid_json", "$[2] invalid_json"]);
        let broken = [GOOD.as_bytes(), b"\n{\"event\":\"\xff\"}"].concat();
        assert_eq!(outline(parse(&broken, Form::Lines, 3, &context()).unwrap()), ["ok", "$[1] invalid_json"]);
    }

    #[test]
    fn a_document_with_a_fault_is_refused_as_a_whole() {
        for body in [format!("[{GOOD},{{\"a\":1,\"a\":2}}]"), format!("[{GOOD}"), format!("{GOOD}\n{GOOD}")] {
            assert!(matches!(read(&body, Form::Json), Err(Refusal::Syntax(_))), "{body}");
        }
    }

    #[test]
    fn batches_have_a_lower_and_an_upper_limit() {
        for (body, form) in [("[]", Form::Json), ("", Form::Lines), ("\n \r\n", Form::Lines)] {
            assert_eq!(read(body, form).unwrap_err(), Refusal::Empty);
        }
        let too_many = Refusal::TooMany { given: 4, limit: 3 };
        assert_eq!(read("[1,2,3,4]", Form::Json).unwrap_err(), too_many);
        assert_eq!(read("1\n2\n3\n4", Form::Lines).unwrap_err(), too_many);
        assert_eq!(too_many.count(), 4);
        assert!(read("[1,2,3]", Form::Json).is_ok() && read("1\n2\n3\n", Form::Lines).is_ok());
        assert_eq!(read("7", Form::Json).unwrap_err(), Refusal::Scalar);
    }

    #[test]
    fn an_oversized_event_is_refused_and_its_neighbours_are_not() {
        let large = format!(r#"{{"event":"a","event_id":"2","data":{{"x":"{}"}}}}"#, "x".repeat(EVENT_BYTES));
        let parsed = read(&format!("[{large},{GOOD}]"), Form::Json).unwrap();
        assert_eq!(outline(parsed), ["$[0] event_too_large", "ok"]);
        let padded =
            |bytes: usize| outline(read(&format!("{GOOD}{}", " ".repeat(bytes - GOOD.len())), Form::Lines).unwrap());
        assert_eq!([EVENT_BYTES, EVENT_BYTES + 1].map(padded).concat(), ["ok", "$[0] event_too_large"]);
    }

    #[test]
    fn a_rejected_item_tells_its_id() {
        let Ok(Parsed::One(one)) = read(r#"{"eid":5}"#, Form::Json) else { panic!() };
        assert_eq!(one.unwrap_err().event_id.as_deref(), Some("5"));
    }

    #[test]
    fn the_place_of_a_syntax_fault_is_told() {
        let problem = Problem::from(read("{\"event\":\n\"a\",}", Form::Json).unwrap_err());
        insta::assert_snapshot!(shown(&problem), @r#"
        {
          "type": "urn:postbackd:problem:invalid_json",
          "title": "The body is not valid JSON",
          "status": 400,
          "code": "invalid_json",
          "detail": "line 2 column 5: trailing comma",
          "line": 2,
          "column": 5
        }
        "#);
    }
}
