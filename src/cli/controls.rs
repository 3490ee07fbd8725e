//! `postbackd pause`, `resume`, `release` and `purge`: what an operator says to a destination; and `clock confirm`.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::args::{ClockVerb, EndArgs, Globals, PauseArgs, PurgeArgs};
use super::client::{self, Daemon};
use super::deliveries::cell;
use super::out;
use crate::domain::time::{DurationMs, UnixMs};

/// Millions may be owed; the daemon gives up some ten thousand in a second.
const PURGE_TIMEOUT: DurationMs = DurationMs::from_secs(600);

pub async fn pause(daemon: &Daemon, args: &PauseArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mut body = Map::from_iter([("reason".to_owned(), Value::from(args.reason.clone()))]);
    if let Some(span) = args.span {
        body.insert("for".to_owned(), span.to_string().into());
    }
    say(daemon, &args.name, "pause", body, json).await
}

pub async fn resume(daemon: &Daemon, args: &EndArgs, json: bool) -> anyhow::Result<ExitCode> {
    say(daemon, &args.name, "resume", why(args), json).await
}

pub async fn release(daemon: &Daemon, args: &EndArgs, json: bool) -> anyhow::Result<ExitCode> {
    say(daemon, &args.name, "release", why(args), json).await
}

fn why(args: &EndArgs) -> Map<String, Value> {
    args.reason.iter().map(|reason| ("reason".to_owned(), reason.clone().into())).collect()
}

pub async fn purge(globals: &Globals, args: &PurgeArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let daemon = Daemon::connect_patiently(globals, now, PURGE_TIMEOUT)?;
    let path = format!("/v1/destinations/{}/purge", client::encoded(&args.name));
    let answer = daemon.post(&path, &json!({ "reason": args.reason, "dry_run": args.dry_run })).await?;
    if globals.json {
        out::json(&answer)?;
    } else {
        out::line(&purged(&args.name, &answer, args.dry_run))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn clock(daemon: &Daemon, verb: &ClockVerb, json: bool) -> anyhow::Result<ExitCode> {
    let ClockVerb::Confirm { reason } = verb;
    let answer = daemon.post("/v1/clock/confirm", &json!({ "reason": reason })).await?;
    if json {
        out::json(&answer)?;
    } else {
        let part = |name: &str| out::plain(&cell(&answer, name)).into_owned();
        out::line(&format!("the clock is believed: it is {}, and {} was known", part("/after"), part("/before")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn purged(name: &str, answer: &Value, dry_run: bool) -> String {
    let (name, count) = (out::plain(name), |what: &str| answer.get(what).and_then(Value::as_u64).unwrap_or_default());
    let (matched, discarded, in_flight) = (count("matched"), count("discarded"), count("in_flight"));
    let line = if dry_run {
        format!("{name} is owed {matched}; without --dry-run they are given up")
    } else {
        format!("{name}: {discarded} of {matched} given up")
    };
    if in_flight == 0 {
        return line;
    }
    format!("{line}; {in_flight} under way end by their own outcome: run it again for what is owed still")
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
    fn a_purge_says_what_it_did_and_what_it_left() {
        let told = |in_flight: u64, dry_run| {
            purged("old", &json!({ "matched": 3, "discarded": 3 - in_flight, "in_flight": in_flight }), dry_run)
        };
        insta::assert_snapshot!(told(0, true), @"old is owed 3; without --dry-run they are given up");
        insta::assert_snapshot!(told(0, false), @"old: 3 of 3 given up");
        insta::assert_snapshot!(told(1, false), @"old: 2 of 3 given up; 1 under way end by their own outcome: run it again for what is owed still");
    }

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
