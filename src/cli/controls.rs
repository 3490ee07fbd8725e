//! `postbackd pause`, `resume` and `release`: what an operator says to a destination.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::args::PauseArgs;
use super::client::{self, Daemon};
use super::deliveries::cell;
use super::out;

pub async fn pause(daemon: &Daemon, args: &PauseArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mut body = Map::from_iter([("reason".to_owned(), Value::from(args.reason.clone()))]);
    if let Some(span) = args.span {
        body.insert("for".to_owned(), span.to_string().into());
    }
    say(daemon, &args.name, "pause", body, json).await
}

pub async fn resume(daemon: &Daemon, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    say(daemon, name, "resume", Map::new(), json).await
}

pub async fn release(daemon: &Daemon, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    say(daemon, name, "release", Map::new(), json).await
}

async fn say(
    daemon: &Daemon,
    name: &str,
    verb: &str,
    body: Map<String, Value>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/destinations/{}/{verb}", client::encoded(name));
    let state = daemon.post(&path, &Value::Object(body)).await?;
    if json {
        out::json(&state)?;
    } else {
        out::line(&text(&state))?;
        let paused = state.pointer("/state").and_then(Value::as_str) == Some("paused");
        if verb == "release" && paused {
            out::note(&format!("a release ends no pause; for that: postbackd resume {}", out::plain(name)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line: `crm is paused, until 2026-01-01T00:00:00.000Z: stock is counted (2 in flight)`.
fn text(state: &Value) -> String {
    let part = |name: &str| out::plain(&cell(state, name)).into_owned();
    let given = |name: &str| state.pointer(name).is_some_and(|value| !value.is_null());
    let mut line = format!("{} is {}", part("/destination"), part("/state"));
    if given("/until") {
        let word = if matches!(part("/state").as_str(), "held" | "open") { "next try at" } else { "until" };
        line = format!("{line}, {word} {}", part("/until"));
    }
    if given("/reason") {
        line = format!("{line}: {}", part("/reason"));
    }
    if state.pointer("/in_flight").and_then(Value::as_u64).is_some_and(|count| count > 0) {
        line = format!("{line} ({} in flight)", part("/in_flight"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_after_a_verb_is_one_line() {
        let told = |text_of: &str| text(&serde_json::from_str(text_of).unwrap());
        insta::assert_snapshot!(told(r#"{"destination":"crm","state":"active","reason":null,"until":null,"in_flight":0}"#), @"crm is active");
        insta::assert_snapshot!(
            told(r#"{"destination":"crm","state":"paused","reason":"a\u001bb","until":"2026-01-01T00:00:00.000Z","in_flight":2}"#),
            @"crm is paused, until 2026-01-01T00:00:00.000Z: a�b (2 in flight)"
        );
        insta::assert_snapshot!(
            told(r#"{"destination":"crm","state":"held","reason":"HTTP 401","until":"2026-01-01T00:00:00.000Z","in_flight":0}"#),
            @"crm is held, next try at 2026-01-01T00:00:00.000Z: HTTP 401"
        );
    }
}
