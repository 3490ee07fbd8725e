//! `postbackd reload`: have the daemon read its configuration now, and say what came of it.
//!
//! As `ExecReload=` of the systemd unit it may not have the admin token: credentials are handed to the daemon alone. Nor is
//! a new `server.listen` the address of the running daemon. There the daemon is known by its process id, `MAINPID`, and told
//! by signal where it cannot be asked.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use super::args::Globals;
use super::client::{self, Daemon};
use super::deliveries::cell;
use super::out;
use crate::domain::time::UnixMs;
use crate::egress::api_client::ApiResponse;

/// A token that was just changed is not the daemon's yet: by then it is.
const TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// Exit code 0 where the configuration is in force, 1 where it is refused.
pub async fn reload(globals: &Globals, now: UnixMs) -> anyhow::Result<ExitCode> {
    let response = match ask(globals, now).await {
        Ok(response) if response.status == 401 => {
            tokio::time::sleep(TOKEN_PAUSE).await;
            ask(globals, now).await
        }
        first => first,
    };
    let main = std::env::var("MAINPID").ok().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    match (response, main) {
        (Ok(response), _) if response.status != 401 => tell(&response, globals.json),
        (Ok(response), None) => client::success(&response).map(|_| ExitCode::SUCCESS),
        (Err(error), None) => Err(error),
        (_, Some(main)) => signal(main),
    }
}

async fn ask(globals: &Globals, now: UnixMs) -> anyhow::Result<ApiResponse> {
    Daemon::connect(globals, now)?.post_whatever("/v1/reload", &json!({})).await
}

fn signal(main: Pid) -> anyhow::Result<ExitCode> {
    rustix::process::kill_process(main, Signal::HUP).context("the daemon (MAINPID) cannot be sent SIGHUP")?;
    out::note("the daemon is told to reload; its status line and its log say what comes of it");
    Ok(ExitCode::SUCCESS)
}

fn tell(response: &ApiResponse, as_json: bool) -> anyhow::Result<ExitCode> {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
    let refused = response.status == 422 && body.get("problems").is_some_and(Value::is_array);
    if !refused && !(200..300).contains(&response.status) {
        client::success(response)?;
    }
    if as_json {
        out::json(&body)?;
    } else {
        out::line(&out::plain_lines(&if refused { refusal(&body) } else { applied(&body) }))?;
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn applied(body: &Value) -> String {
    let names = |within: &Value, key: &str| -> Option<String> {
        let list: Vec<&str> = within.get(key)?.as_array()?.iter().filter_map(Value::as_str).collect();
        (!list.is_empty()).then(|| list.join(" "))
    };
    let mut lines = vec![format!("the configuration is in force ({})", cell(body, "/hash"))];
    let titles =
        [("added", "added"), ("changed", "changed"), ("removed", "removed"), ("needs_restart", "waits for a restart")];
    for (key, title) in titles {
        lines.extend(names(body, key).map(|names| format!("{title}: {names}")));
    }
    let is_new = ["added", "changed", "removed"].iter().any(|key| names(body, key).is_some());
    if let Some(last) = body.get("last_change").filter(|last| !is_new && last.is_object()) {
        let parts = ["added", "changed", "removed"].iter();
        let parts = parts.filter_map(|key| names(last, key).map(|names| format!("{key} {names}")));
        let parts: Vec<_> = parts.collect();
        lines.push(format!(
            "no destination differs from what ran; the last change was at {}: {}",
            cell(last, "/at"),
            parts.join(", ")
        ));
    }
    lines.join("\n")
}

fn refusal(body: &Value) -> String {
    let problem = |problem: &Value| {
        let line = problem.get("line").and_then(Value::as_u64).map(|line| format!(":{line}")).unwrap_or_default();
        let key = problem.get("key").and_then(Value::as_str).filter(|key| !key.is_empty());
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        format!("{}{line}: {key}{}", cell(problem, "/file"), cell(problem, "/detail"))
    };
    let all = body.get("problems").and_then(Value::as_array).into_iter().flatten();
    let mut lines: Vec<String> = all.map(problem).collect();
    lines.push("the configuration is refused; the one before goes on".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_told_in_a_few_lines() {
        let good = json!({ "hash": "ab", "added": ["crm"], "changed": [], "removed": ["old"], "needs_restart": ["server.listen"] });
        insta::assert_snapshot!(applied(&good), @r"
        the configuration is in force (ab)
        added: crm
        removed: old
        waits for a restart: server.listen
        ");
        let seen = json!({ "hash": "ab", "added": [], "changed": [], "removed": [], "needs_restart": [],
            "last_change": { "at": "2026-01-01T00:00:00.000Z", "added": ["crm"], "changed": [], "removed": ["old"] } });
        insta::assert_snapshot!(applied(&seen), @r"
        the configuration is in force (ab)
        no destination differs from what ran; the last change was at 2026-01-01T00:00:00.000Z: added crm, removed old
        ");
        let bad = json!({ "problems": [
            { "file": "c.toml", "line": 3, "key": "server.lisen", "detail": "unknown" },
            { "file": "c.toml", "line": null, "key": "", "detail": "the file does not exist" },
        ] });
        insta::assert_snapshot!(refusal(&bad), @r"
        c.toml:3: server.lisen: unknown
        c.toml: the file does not exist
        the configuration is refused; the one before goes on
        ");
    }
}
