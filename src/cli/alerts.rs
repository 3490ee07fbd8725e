//! `postbackd alerts`: what is wrong and who was told, and whether telling works.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::args::AlertsVerb;
use super::client::Daemon;
use super::deliveries::cell;
use super::out;

pub async fn alerts(daemon: &Daemon, verb: &AlertsVerb, json: bool) -> anyhow::Result<ExitCode> {
    match verb {
        AlertsVerb::List => list(daemon, json).await,
        AlertsVerb::Test { channel } => test(daemon, channel.as_deref(), json).await,
    }
}

async fn list(daemon: &Daemon, json: bool) -> anyhow::Result<ExitCode> {
    let alerts = daemon.get("/v1/alerts").await?;
    if json {
        out::json(&alerts)?;
    } else {
        out::line(&text(&alerts))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(alerts: &Value) -> String {
    let mut lines = Vec::new();
    let open = alerts.get("open").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for problem in open {
        let part = |name: &str| out::plain(&cell(problem, name)).into_owned();
        lines.push(format!("{}  {}", part("/severity"), part("/text")));
        lines.push(format!("  since {}, told {}×, last at {}", part("/since"), part("/told"), part("/last_told")));
        lines.push(format!("  to do: {}", part("/todo")));
    }
    if open.is_empty() {
        let watched = alerts.get("watched") == Some(&Value::Bool(true));
        lines
            .push(if watched { "nothing is wrong" } else { "nothing is watched: no channel is configured" }.to_owned());
    }
    let channels = alerts.get("channels").and_then(Value::as_object);
    let named = channels.into_iter().flatten().map(|(name, channel)| (name.as_str(), channel));
    let beat = alerts.get("heartbeat").filter(|beat| beat.is_object()).map(|beat| ("heartbeat", beat));
    let rows: Vec<Vec<String>> = named.chain(beat).map(|(name, channel)| row(name, channel)).collect();
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(out::table(&["CHANNEL", "KIND", "SENT", "FAILED", "WAITING", "LAST SUCCESS", "LAST ERROR"], rows));
    }
    lines.join("\n")
}

fn row(name: &str, channel: &Value) -> Vec<String> {
    let part = |path: &str| cell(channel, path);
    let kind = if channel.get("enabled") == Some(&Value::Bool(false)) { "disabled".to_owned() } else { part("/kind") };
    let error = match channel.pointer("/last_error/message").and_then(Value::as_str) {
        Some(message) => format!("{} {}", part("/last_error/at"), out::excerpt(message, 100)),
        None => "-".to_owned(),
    };
    vec![name.to_owned(), kind, part("/sent"), part("/failed"), part("/waiting"), part("/last_success"), error]
}

/// Exit code 1 unless all that were tested took it.
async fn test(daemon: &Daemon, channel: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let wanted = channel.map(|name| ("channel".to_owned(), Value::from(name)));
    let told = daemon.post("/v1/alerts/test", &Value::Object(Map::from_iter(wanted))).await?;
    if json {
        out::json(&told)?;
    } else {
        for (name, result) in told.get("channels").and_then(Value::as_object).into_iter().flatten() {
            let said = match result.get("error").and_then(Value::as_str) {
                Some(error) => format!("did not take it: {error}"),
                None => "took it".to_owned(),
            };
            out::line(&out::plain(&format!("{name}: {said}")))?;
        }
    }
    Ok(if told.get("ok") == Some(&Value::Bool(true)) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_stands_above_who_was_told() {
        let alerts = json!({ "watched": true, "open": [{ "severity": "critical", "text": "crm is held\u{1b}", "since": "S",
            "told": 2, "last_told": "T", "todo": "postbackd release crm" }],
            "channels": { "ops": { "kind": "webhook", "enabled": true, "sent": 1, "failed": 0, "waiting": 0,
                "last_success": "U", "last_error": null } }, "heartbeat": null });
        insta::assert_snapshot!(text(&alerts), @r"
        critical  crm is held�
          since S, told 2×, last at T
          to do: postbackd release crm

        CHANNEL  KIND     SENT  FAILED  WAITING  LAST SUCCESS  LAST ERROR
        ops      webhook  1     0       0        U             -
        ");
        assert_eq!(text(&json!({ "watched": true, "open": [] })), "nothing is wrong");
    }
}
