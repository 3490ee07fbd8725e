//! `postbackd dlq damaged`: rows of the store that cannot be read, and what to do about them.

use std::process::ExitCode;

use serde_json::Value;

use super::client::Daemon;
use super::deliveries::cell;
use super::out;

pub async fn damaged(daemon: &Daemon, json: bool) -> anyhow::Result<ExitCode> {
    let found = daemon.get("/v1/dlq/damaged").await?;
    if json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = found.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        out::note("no damaged row was met since the daemon started; postbackd verify reads all of a store or a backup");
        return Ok(ExitCode::SUCCESS);
    }
    out::line(&table(rows))?;
    let total = found.get("total").and_then(Value::as_u64).unwrap_or(0);
    let shown = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if total > shown {
        out::note(&format!("{shown} of {total} rows are shown"));
    }
    out::note("--json shows what can be read around them; to give one up: postbackd dlq discard ID --reason TEXT");
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Value]) -> String {
    let header = ["TABLE", "WHAT", "EVENT", "SENDER'S ID", "TO GIVE UP"];
    let line = |row: &Value| {
        let discard = row.get("discard").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = discard.iter().filter_map(Value::as_str).collect();
        let event = row.get("event").unwrap_or(&Value::Null);
        let to_give_up = if ids.is_empty() { "-".to_owned() } else { ids.join(" ") };
        vec![cell(row, "/table"), cell(row, "/what"), cell(event, "/event"), cell(event, "/event_id"), to_give_up]
    };
    out::table(&header, rows.iter().map(line).collect())
}
