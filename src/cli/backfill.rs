//! `postbackd send --since`: which lines of a file are sent again, and what of them.
//!
//! A line is a plain event as ingest takes it, a line of `dlq export`, or what `event --json` prints, on one line. Of the last
//! two the event is taken out of its wrapping, so that its dedupe key is the one it had: the daemon drops what it has.

use serde_json::{Map, Value};

use super::Usage;
use super::lines::Batch;
use crate::domain::time::{DurationMs, UnixMs};

/// Events that occurred from `since` on and before `until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    since: Option<UnixMs>,
    until: Option<UnixMs>,
    /// The source they are sent as, where it is known by name.
    source: Option<String>,
}

/// A batch as it is sent, and what became of the other lines.
#[derive(Debug, Default)]
pub struct Sifted {
    pub batch: Batch,
    pub out_of_range: u64,
    /// Lines that cannot be told, with why.
    pub refused: Vec<(u64, String)>,
}

enum Line {
    Send(String),
    OutOfRange,
}

impl Range {
    /// `None` where neither end is given: then lines are sent as they are.
    pub fn parse(
        since: Option<&str>,
        until: Option<&str>,
        source: Option<&str>,
        now: UnixMs,
    ) -> Result<Option<Self>, Usage> {
        let time = |option: &str, text: Option<&str>| {
            let wrong = || {
                let example =
                    "write RFC 3339 with its offset, like 2026-11-21T23:40:38Z, or a span before now, like -2h";
                Usage(format!("{option} {:?} is no time; {example}", text.unwrap_or_default()))
            };
            text.map(|text| instant(text, now).ok_or_else(wrong)).transpose()
        };
        let (since, until) = (time("--since", since)?, time("--until", until)?);
        let source = source.map(str::to_owned);
        Ok((since.is_some() || until.is_some()).then_some(Self { since, until, source }))
    }

    pub fn sift(&self, batch: Batch) -> Sifted {
        let mut sifted = Sifted::default();
        let Batch { numbers, body, too_long } = batch;
        sifted.batch.too_long = too_long;
        for (number, line) in numbers.into_iter().zip(body.split_inclusive(|byte| *byte == b'\n')) {
            match self.line(line) {
                Ok(Line::Send(text)) => {
                    sifted.batch.numbers.push(number);
                    sifted.batch.body.extend_from_slice(text.as_bytes());
                    sifted.batch.body.push(b'\n');
                }
                Ok(Line::OutOfRange) => sifted.out_of_range += 1,
                Err(why) => sifted.refused.push((number, why)),
            }
        }
        sifted
    }

    fn line(&self, line: &[u8]) -> Result<Line, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| {
            // What prints an event over several lines is likely ours, by `event --json`.
            let remedy = if error.is_eof() { "; an event stands on one line: jq -c . makes it so" } else { "" };
            format!("not JSON: {error}{remedy}")
        })?;
        let Value::Object(object) = value else { return Err("an event is a JSON object".to_owned()) };
        let (event, source) = unwrapped(object)?;
        if let (Some(ours), Some(source)) = (&self.source, &source)
            && ours != source
        {
            return Err(format!("it is an event of source {source:?}; send it with --source {source}"));
        }
        let at = time_of(&event).ok_or("it has no time to go by; add occurred_at_ms or occurred_at")?;
        let within = self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until);
        Ok(if within { Line::Send(Value::Object(sendable(event)).to_string()) } else { Line::OutOfRange })
    }
}

/// The event within a line, and the source it came from where the line says so.
fn unwrapped(mut line: Map<String, Value>) -> Result<(Map<String, Value>, Option<String>), String> {
    let id = line.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let inner = if id.starts_with("dlv_") {
        line.remove("event")
    } else if id.starts_with("evt_") {
        line.remove("payload")
    } else {
        return Ok((line, None));
    };
    match inner {
        Some(Value::Object(event)) => {
            let source = event.get("source").or_else(|| line.get("source")).and_then(Value::as_str).map(str::to_owned);
            Ok((event, source))
        }
        _ => Err("it looks like an export, but holds no event".to_owned()),
    }
}

/// When it occurred, else when it was received.
fn time_of(event: &Map<String, Value>) -> Option<UnixMs> {
    let number = |name: &str| event.get(name)?.as_u64().map(UnixMs);
    let text = |name: &str| UnixMs::parse_rfc3339(event.get(name)?.as_str()?);
    let given = number("occurred_at_ms").or_else(|| text("occurred_at")).or_else(|| number("t"));
    given.or_else(|| text("received_at"))
}

/// Without what only the store adds. A time that stood in for one nobody gave would make the repeat another event.
fn sendable(mut event: Map<String, Value>) -> Map<String, Value> {
    let received = event.get("received_at").and_then(Value::as_str).and_then(UnixMs::parse_rfc3339);
    let occurred = event.get("occurred_at_ms").and_then(Value::as_u64).map(UnixMs);
    if received.is_some() && received == occurred && event.get("event_id").is_some_and(Value::is_string) {
        event.remove("occurred_at_ms");
    }
    if event.get("id").and_then(Value::as_str).is_some_and(|id| id.starts_with("evt_")) {
        for name in ["id", "source", "received_at"] {
            event.remove(name);
        }
    }
    event.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    event
}

fn instant(text: &str, now: UnixMs) -> Option<UnixMs> {
    match text.strip_prefix('-') {
        Some(span) => DurationMs::parse(span).map(|span| now - span),
        None => UnixMs::parse_rfc3339(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_795_304_438_000);

    fn sift(range: &Range, lines: &[&str]) -> Sifted {
        let numbers = (1..).take(lines.len()).collect();
        let body = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        range.sift(Batch { numbers, body, too_long: Vec::new() })
    }

    fn range(since: &str, until: Option<&str>) -> Range {
        Range::parse(Some(since), until, Some("app"), NOW).unwrap().unwrap()
    }

    #[test]
    fn only_what_occurred_within_the_range_is_sent() {
        let range = range("-2h", Some("-1h"));
        let at = |hours: u64| (NOW - DurationMs::from_hours(hours)).0;
        let event = |at: u64| format!(r#"{{"event":"deposit","occurred_at_ms":{at},"value":25.00}}"#);
        let (early, first, last) = (event(at(3)), event(at(2)), event(at(1)));
        let rfc = r#"{"event":"deposit","occurred_at":"2026-11-21T22:00:00Z"}"#;
        let sifted = sift(&range, &[&early, &first, &last, rfc, r#"{"event":"x"}"#, "[]", "{"]);
        assert_eq!(sifted.batch.numbers, [2, 4], "since is inclusive, until is not");
        assert_eq!(sifted.out_of_range, 2);
        assert_eq!(sifted.refused.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [5, 6, 7]);
        assert!(String::from_utf8(sifted.batch.body).unwrap().contains("25.00"), "amounts keep their digits");
        let told: Vec<_> =
            sift(&range, &["{", "]"]).refused.into_iter().map(|(_, why)| why.contains("jq -c")).collect();
        assert_eq!(told, [true, false], "an event over several lines begins so");
    }

    #[test]
    fn an_exported_event_is_taken_out_of_its_wrapping() {
        let range = range("2020-01-01T00:00:00Z", None);
        let dead = r#"{"id":"dlv_1","destination":"crm","event":{"id":"evt_1","event":"deposit","event_id":"t-1","source":"app","uid":null,"received_at":"2026-11-21T22:00:00.000Z","occurred_at_ms":1795298400000,"value":"25.00","user":{},"data":{"a":1}}}"#;
        let foreign = dead.replace("\"source\":\"app\"", "\"source\":\"other\"");
        let sifted = sift(&range, &[dead, &foreign, r#"{"id":"evt_1"}"#]);
        let sent = String::from_utf8(sifted.batch.body).unwrap();
        assert_eq!(sent, "{\"event\":\"deposit\",\"event_id\":\"t-1\",\"value\":\"25.00\",\"data\":{\"a\":1}}\n");
        assert_eq!(sifted.refused.len(), 2);
    }

    #[test]
    fn a_range_has_an_end_or_is_none() {
        assert_eq!(Range::parse(None, None, None, NOW).unwrap(), None);
        assert!(Range::parse(Some("yesterday"), None, None, NOW).is_err());
    }
}
