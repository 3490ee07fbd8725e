//! `postbackd status`: the daemon's own table, its JSON, or one line for a monitoring plugin.

use std::process::ExitCode;

use serde_json::Value;

use super::args::{Color, Globals, StatusArgs};
use super::client::{self, Daemon};
use super::{out, paint};
use crate::domain::time::UnixMs;

/// Exit codes of `--check`, as monitoring plugins expect them.
const OK: u8 = 0;
const WARNING: u8 = 1;
const CRITICAL: u8 = 2;

pub async fn status(globals: &Globals, args: &StatusArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    if args.check {
        let told = match Daemon::connect(globals, now) {
            Ok(daemon) => daemon.get("/status").await,
            Err(error) => Err(error),
        };
        let (code, text) = verdict(told.as_ref());
        // The exit code is the answer, also where nobody reads the line.
        out::line(&text).ok();
        return Ok(ExitCode::from(code));
    }
    let daemon = Daemon::connect(globals, now)?;
    if globals.json {
        out::json(&daemon.get("/status").await?)?;
    } else {
        let answer = daemon.ask("/status?format=text", "text/plain").await?;
        if answer.status != 200 {
            anyhow::bail!(client::refusal(&answer));
        }
        let text = out::plain_lines(&String::from_utf8_lossy(&answer.body));
        out::line(&if is_colored(args.color) { paint::status(&text) } else { text })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A pipe and a file get the plain text, unless they are meant to have colour.
fn is_colored(color: Color) -> bool {
    let set = |name: &str| std::env::var_os(name);
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            out::is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|terminal| terminal != "dumb")
        }
    }
}

/// One line with performance data, and its exit code. What cannot be understood is critical: nobody may take it for ok.
fn verdict(told: Result<&Value, &anyhow::Error>) -> (u8, String) {
    let status = match told {
        Ok(status) => status,
        Err(error) => return (CRITICAL, format!("POSTBACKD CRITICAL - {}", out::plain(&format!("{error:#}")))),
    };
    let (code, word) = match status.get("state").and_then(Value::as_str) {
        Some("ok") => (OK, "OK"),
        Some("degraded") => (WARNING, "WARNING"),
        Some(_) | None => (CRITICAL, "CRITICAL"),
    };
    let reasons: Vec<&str> =
        status.get("reasons").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let destinations = status.get("destinations").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let said = if reasons.is_empty() {
        format!("{destinations} destination{}", if destinations == 1 { "" } else { "s" })
    } else {
        reasons.join("; ")
    };
    let count = |name: &str| status.pointer(&format!("/balance/{name}")).and_then(Value::as_u64).unwrap_or(0);
    let text = format!(
        "POSTBACKD {word} - {} | pending={} failed={} failed_permanently={} sent={}c",
        out::plain(&said).replace('|', "/"),
        count("pending"),
        count("failed"),
        count("failed_permanently"),
        count("sent"),
    );
    (code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> (u8, String) {
        verdict(Ok(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn the_exit_code_follows_the_state() {
        let ok = r#"{"state":"ok","reasons":[],"destinations":{"a":{},"b":{}},
            "balance":{"pending":1,"failed":2,"failed_permanently":3,"sent":4}}"#;
        assert_eq!(
            told(ok),
            (0, "POSTBACKD OK - 2 destinations | pending=1 failed=2 failed_permanently=3 sent=4c".to_owned())
        );
        let degraded = told(r#"{"state":"degraded","reasons":["meta-eu is held","a|b"]}"#);
        assert_eq!(degraded.0, 1);
        assert!(degraded.1.starts_with("POSTBACKD WARNING - meta-eu is held; a/b | "), "{}", degraded.1);
        assert_eq!(told(r#"{"state":"failing"}"#).0, 2);
    }

    #[test]
    fn what_cannot_be_understood_is_critical() {
        assert_eq!(told("{}").0, 2);
        assert_eq!(verdict(Err(&anyhow::anyhow!("no\nanswer"))).0, 2);
    }
}
