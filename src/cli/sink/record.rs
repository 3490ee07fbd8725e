//! What is kept of a request.

use serde_json::{Map, Value, json};

use super::faults::Answer;
use crate::cli::out;
use crate::domain::time::UnixMs;

/// Letters of a body that are printed.
const EXCERPT_LETTERS: usize = 160;

/// A request as it came in, and how it was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub at: UnixMs,
    pub method: String,
    /// With its query.
    pub path: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// What is no UTF-8 is replaced.
    pub body: String,
    pub answer: Answer,
}

impl Record {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// One line of `--record`: `{"at","method","path","headers","body","answer"}`. Values of a header that came several
    /// times are joined by a comma.
    pub fn to_json(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let known = headers.get(name).and_then(Value::as_str);
            let joined = known.map_or_else(|| value.clone(), |known| format!("{known}, {value}"));
            headers.insert(name.clone(), joined.into());
        }
        let answer = match self.answer {
            Answer::Status(status) => Value::from(status),
            Answer::Reset => "reset".into(),
            Answer::Hang => "hang".into(),
        };
        json!({
            "at": self.at.to_rfc3339(),
            "method": self.method,
            "path": self.path,
            "headers": headers,
            "body": self.body,
            "answer": answer,
        })
    }

    /// One line for a person: time, answer, method, path, id, start of the body.
    pub fn to_line(&self) -> String {
        let answer = match self.answer {
            Answer::Status(status) => status.to_string(),
            Answer::Reset => "reset".to_owned(),
            Answer::Hang => "hang".to_owned(),
        };
        let id = self.id().unwrap_or_else(|| "-".to_owned());
        let body = out::excerpt(&self.body, EXCERPT_LETTERS);
        let line = format!("{} {answer} {} {} {id} {body}", self.at, self.method, self.path);
        out::plain(line.trim_end()).into_owned()
    }

    /// The id the request names: the `webhook-id` header, else `event_id` in the body or in the first of its `data`.
    pub fn id(&self) -> Option<String> {
        if let Some(id) = self.header("webhook-id") {
            return Some(id.to_owned());
        }
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let id = body.pointer("/data/0/event_id").or_else(|| body.get("event_id"))?;
        id.as_str().map(str::to_owned)
    }

    /// Meta's way to answer events, where the request looks like one: `{"events_received":N}`.
    pub fn meta_answer(&self) -> Option<Value> {
        let path = self.path.split('?').next().unwrap_or_default();
        if !path.ends_with("/events") {
            return None;
        }
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let events = body.get("data")?.as_array()?.len();
        Some(json!({ "events_received": events, "messages": [], "fbtrace_id": "sink" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, headers: &[(&str, &str)], body: &str) -> Record {
        Record {
            at: UnixMs(0),
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_owned(),
            answer: Answer::Status(200),
        }
    }

    #[test]
    fn a_record_is_one_line_of_json_with_everything_that_came() {
        let record = record("/x?a=1", &[("a", "1"), ("b", "2"), ("a", "3")], "l1\nl2");
        insta::assert_snapshot!(record.to_json().to_string(), @r#"{"at":"1970-01-01T00:00:00.000Z","method":"POST","path":"/x?a=1","headers":{"a":"1, 3","b":"2"},"body":"l1\nl2","answer":200}"#);
    }

    #[test]
    fn a_line_names_the_id_and_cannot_steer_the_terminal() {
        assert_eq!(
            record("/x", &[("webhook-id", "dlv_1")], "{\u{1b}").to_line(),
            "1970-01-01T00:00:00.000Z 200 POST /x dlv_1 {\u{fffd}"
        );
        let meta = record("/v26.0/1/events", &[], r#"{"data":[{"event_id":"t-1"},{"event_id":"t-2"}]}"#);
        assert_eq!(meta.id().as_deref(), Some("t-1"));
        assert_eq!(record("/x", &[], r#"{"event_id":"e"}"#).id().as_deref(), Some("e"));
        assert_eq!(record("/x", &[], "").to_line(), "1970-01-01T00:00:00.000Z 200 POST /x -");
    }

    #[test]
    fn only_what_looks_like_meta_is_answered_like_meta() {
        let body = r#"{"data":[{},{}]}"#;
        let received = |path: &str, body: &str| {
            record(path, &[], body).meta_answer().and_then(|answer| answer.get("events_received").cloned())
        };
        assert_eq!(received("/v26.0/1/events?x=1", body), Some(2.into()));
        assert_eq!(received("/hook", body), None);
        assert_eq!(received("/events", "[]"), None);
    }
}
