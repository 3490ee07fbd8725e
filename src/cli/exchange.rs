//! A request and what came back, as lines for people: what the DLQ, `preview` and `test` have in common.

use serde_json::Value;

use super::deliveries::cell;
use super::out;

/// The request under `request`, after an empty line; nothing where there is none.
pub fn request_lines(whole: &Value) -> Vec<String> {
    if whole.get("request").is_none_or(Value::is_null) {
        return Vec::new();
    }
    let name = |pointer: &str| out::plain(&cell(whole, pointer)).into_owned();
    let mut lines = vec![String::new(), format!("{} {}", name("/request/method"), name("/request/url"))];
    lines.extend(header_lines(whole.pointer("/request/headers")));
    let body = cell(whole, "/request/body");
    if !body.is_empty() {
        lines.extend([String::new(), out::plain_lines(&body)]);
    }
    lines
}

/// Headers are an object, or a list of pairs where names repeat.
pub fn header_lines(headers: Option<&Value>) -> Vec<String> {
    let line = |name: &str, value: &Value| out::plain(&format!("{name}: {}", cell(value, ""))).into_owned();
    match headers {
        Some(Value::Object(headers)) => headers.iter().map(|(name, value)| line(name, value)).collect(),
        Some(Value::Array(headers)) => {
            headers.iter().map(|pair| line(&cell(pair, "/0"), pair.get(1).unwrap_or(&Value::Null))).collect()
        }
        Some(_) | None => Vec::new(),
    }
}
