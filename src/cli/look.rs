//! `postbackd preview` and `postbackd test`: what a destination would get, and what it says to one marked test event.
//!
//! Both ask the running daemon, so that what is shown is what its configuration makes.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde_json::Value;
use serde_json::value::RawValue;

use super::args::{Globals, PreviewArgs, TestArgs};
use super::client::{self, Daemon};
use super::deliveries::{cell, left_out_lines};
use super::{Usage, exchange, out};
use crate::domain::limits::EVENT_BYTES;
use crate::domain::time::{DurationMs, UnixMs};

/// A test waits for the destination: the longest `timeout` there is, and a little for the way.
const TEST_TIMEOUT: DurationMs = DurationMs::from_secs(600 + 10);

/// Exits 0 where a request can be made of the event, else 1.
pub async fn preview(globals: &Globals, args: &PreviewArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let event = event(&args.file)?;
    let members = [
        ("destination", Some(text(&args.name))),
        ("event", Some(event)),
        ("source", args.source.as_deref().map(text)),
        ("target", args.target.as_deref().map(text)),
    ];
    let daemon = Daemon::connect(globals, now)?;
    let answer = daemon.post_raw("/v1/preview", object(&members)).await;
    let answer = answer.context("preview shows what the running daemon would send")?;
    out::line(&if globals.json { format!("{answer:#}") } else { preview_text(&answer) })?;
    Ok(exit(answer.get("request").is_some_and(|request| !request.is_null())))
}

/// Exits 0 where the destination took the event, else 1.
pub async fn test(globals: &Globals, args: &TestArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let event = args.file.as_deref().map(event).transpose()?;
    let members = [("event", event), ("test_event_code", args.test_event_code.as_deref().map(text))];
    let daemon = Daemon::connect_patiently(globals, now, TEST_TIMEOUT)?;
    let path = format!("/v1/destinations/{}/test", client::encoded(&args.name));
    let answer = daemon.post_raw(&path, object(&members)).await?;
    out::line(&if globals.json { format!("{answer:#}") } else { test_text(&answer) })?;
    Ok(exit(answer.get("ok").and_then(Value::as_bool).unwrap_or(false)))
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The one event in a file, letter by letter: numbers keep their digits, and what is wrong with it the daemon says.
fn event(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let bytes = read(file).with_context(|| format!("{name} cannot be read"))?;
    if bytes.len() > EVENT_BYTES {
        return Err(anyhow!("{name} is larger than an event may be ({EVENT_BYTES} bytes); write one event"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let one = "write one event as a JSON object, like {\"event\": \"deposit\", \"event_id\": \"trade-1\"}";
    let raw: &RawValue = serde_json::from_slice(bytes).map_err(|error| Usage(format!("{name}: {error}; {one}")))?;
    if !raw.get().starts_with('{') {
        return Err(Usage(format!("{name}: this is no JSON object; {one}")).into());
    }
    Ok(raw.get().to_owned())
}

/// At most a little more than an event may have.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let most = u64::try_from(EVENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// A JSON object of members that are JSON already.
fn object(members: &[(&str, Option<String>)]) -> Vec<u8> {
    let given = members.iter().filter_map(|(name, value)| Some(format!("{}:{}", text(name), value.as_ref()?)));
    format!("{{{}}}", given.collect::<Vec<_>>().join(",")).into_bytes()
}

fn preview_text(answer: &Value) -> String {
    let mut lines = vec![headline(answer)];
    lines.extend(notes(answer));
    lines.extend(exchange::request_lines(answer));
    lines.join("\n")
}

fn test_text(answer: &Value) -> String {
    let name = |pointer: &str| out::plain(&cell(answer, pointer)).into_owned();
    let mut lines = vec![format!("{}  {}", name("/event_id"), headline(answer))];
    lines.extend(notes(answer));
    lines.extend(exchange::request_lines(answer));
    let is_there = |member: &str| answer.get(member).is_some_and(|value| !value.is_null());
    if is_there("response") {
        lines.extend([String::new(), format!("answer {} in {} ms", name("/response/status"), name("/ms"))]);
        lines.extend(exchange::header_lines(answer.pointer("/response/headers")));
        let body = cell(answer, "/response/body");
        if !body.is_empty() {
            lines.extend([String::new(), out::plain_lines(&body)]);
        }
    } else if is_there("request") {
        lines.extend([String::new(), format!("no answer, after {} ms", name("/ms"))]);
    }
    if is_there("verdict") {
        lines.extend([String::new(), format!("{}: {}", name("/verdict"), name("/detail"))]);
    }
    lines.push(name("/consequence"));
    lines.join("\n")
}

/// What for whom.
fn headline(answer: &Value) -> String {
    let name = |pointer: &str| out::plain(&cell(answer, pointer)).into_owned();
    let target = match answer.get("target").and_then(Value::as_str) {
        Some(target) => format!(" as {}", out::plain(target)),
        None => String::new(),
    };
    format!("{}{target} for {} ({}), from {}", name("/event"), name("/destination"), name("/kind"), name("/source"))
}

/// Why it would not go out, what is missing in it, what else to know.
fn notes(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    // What has no name there is skipped for the same reason.
    let again = answer.get("skipped") == answer.get("refused");
    for word in if again { &["refused"][..] } else { &["skipped", "refused"] } {
        if let Some(why) = answer.get(*word).filter(|why| !why.is_null()) {
            lines.push(format!("{word}: {}: {}", cell(why, "/reason"), cell(why, "/detail")));
        }
    }
    lines.extend(left_out_lines(answer));
    for note in answer.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("warning: {}: {}", cell(note, "/field"), cell(note, "/why")));
    }
    lines.iter().map(|line| out::plain(line).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: fn(&Value) -> String, answer: &str) -> String {
        text(&serde_json::from_str(answer).unwrap())
    }

    #[test]
    fn a_preview_tells_what_would_go_out_and_what_is_missing() {
        let whole = r#"{"destination":"meta","kind":"fb_capi","source":"app","event":"deposit","target":"Purchase",
            "skipped":{"reason":"disabled","detail":"destinations.meta.enabled is false"},"refused":null,
            "request":{"method":"POST","url":"https://graph.facebook.com/v26.0/1/events",
            "headers":{"content-type":"application/json"},"body":"{\"data\":[]}"},
            "left_out":[{"field":"user.phone","why":"is no\u001b phone number"}],
            "warnings":[{"field":"event_id","why":"ingest would refuse this event"}]}"#;
        insta::assert_snapshot!(shown(preview_text, whole), @r#"
        deposit as Purchase for meta (fb_capi), from app
        skipped: disabled: destinations.meta.enabled is false
        left out: user.phone is no� phone number
        warning: event_id: ingest would refuse this event

        POST https://graph.facebook.com/v26.0/1/events
        content-type: application/json

        {"data":[]}
        "#);
        let refused = r#"{"destination":"meta","kind":"fb_capi","source":"app","event":"x","target":null,"skipped":{"reason":"unmapped","detail":"no name for x"},
            "request":null,"refused":{"reason":"unmapped","detail":"no name for x"},"left_out":[],"warnings":[]}"#;
        insta::assert_snapshot!(shown(preview_text, refused), @r"
        x for meta (fb_capi), from app
        refused: unmapped: no name for x
        ");
    }

    #[test]
    fn a_test_tells_the_whole_exchange() {
        let head = r#""destination":"crm","kind":"webhook","source":"app","event":"deposit","event_id":"test-1","target":"deposit",
            "skipped":null,"refused":null,"left_out":[],"request":{"method":"POST","url":"https://crm.acme.io/","headers":{},"body":"{}"}"#;
        let answered = format!(
            r#"{{{head},"ok":false,"response":{{"status":401,"headers":{{"server":"x"}},"body":"who\nare you"}},"ms":12,
            "verdict":"destination_fault","detail":"HTTP 401","consequence":"the destination would be held"}}"#
        );
        insta::assert_snapshot!(shown(test_text, &answered), @r"
        test-1  deposit as deposit for crm (webhook), from app

        POST https://crm.acme.io/

        {}

        answer 401 in 12 ms
        server: x

        who
        are you

        destination_fault: HTTP 401
        the destination would be held
        ");
        let silent = format!(
            r#"{{{head},"ok":false,"response":null,"ms":2000,"verdict":"ambiguous","detail":"no whole answer in time",
            "consequence":"a real delivery would be tried again"}}"#
        );
        insta::assert_snapshot!(shown(test_text, &silent), @r"
        test-1  deposit as deposit for crm (webhook), from app

        POST https://crm.acme.io/

        {}

        no answer, after 2000 ms

        ambiguous: no whole answer in time
        a real delivery would be tried again
        ");
    }

    #[test]
    fn an_event_goes_out_letter_by_letter() {
        let members = [("event", Some(r#"{"value": 25.00, "a": 1, "a": 2}"#.to_owned())), ("source", None)];
        assert_eq!(object(&members), br#"{"event":{"value": 25.00, "a": 1, "a": 2}}"#);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("event.json");
        let given = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            event(&file)
        };
        assert_eq!(given(b"\xef\xbb\xbf {\"value\": 25.00}\n").unwrap(), r#"{"value": 25.00}"#);
        for wrong in [&b"[]"[..], b"7", b"", b"{} {}", b"{},\"destination\":\"other\"", b"\xff"] {
            assert!(given(wrong).unwrap_err().is::<Usage>(), "{wrong:?}");
        }
        assert!(given(&vec![b' '; EVENT_BYTES + 1]).is_err());
        assert!(event(Path::new("/nowhere")).is_err());
    }
}
