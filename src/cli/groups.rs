//! `postbackd dlq groups`: the dead by what went wrong, each with the command that replays exactly it.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, Daemon};
use super::deliveries::cell;
use super::out;

pub async fn groups(daemon: &Daemon, filter: &[(&str, Option<&str>)], json: bool) -> anyhow::Result<ExitCode> {
    let found = daemon.get(&client::query("/v1/dlq/groups", filter)).await?;
    if json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let groups = found.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    if groups.is_empty() {
        out::note("no dead deliveries");
        return Ok(ExitCode::SUCCESS);
    }
    out::line(&table(&groups))?;
    if let Some(largest) = groups.first() {
        out::note(&format!("to deliver the first group again: {}", command(largest)));
    }
    let others = found.get("others").and_then(Value::as_u64).unwrap_or(0);
    if others > 0 {
        out::note(&format!("{others} more are of further kinds; narrow it down with --destination or --reason"));
    }
    if found.get("complete").and_then(Value::as_bool) == Some(false) {
        let looked_at = cell(&found, "/entries");
        out::note(&format!(
            "these are the newest {looked_at} only: every count is at least that; narrow it with --since"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(groups: &[Value]) -> String {
    let columns = [
        ("COUNT", "/count"),
        ("DESTINATION", "/destination"),
        ("REASON", "/reason"),
        ("HTTP", "/response_status"),
        ("FAULT", "/fault"),
        ("FIRST", "/first_at"),
        ("LAST", "/last_at"),
        ("SAMPLE", "/sample"),
    ];
    let mut header = columns.map(|(title, _)| title).to_vec();
    header.push("WHAT");
    let line = |group: &Value| {
        let mut cells: Vec<String> = columns.iter().map(|(_, at)| cell(group, at)).collect();
        cells.push(out::excerpt(&cell(group, "/detail"), 80));
        cells
    };
    out::table(&header, groups.iter().map(line).collect())
}

/// `postbackd dlq replay --destination crm …`
fn command(group: &Value) -> String {
    let filter = group.get("filter").and_then(Value::as_object).cloned().unwrap_or_default();
    let option = |(name, value): (&String, &Value)| {
        let name = if name == "reason" { "with-reason".to_owned() } else { name.replace('_', "-") };
        format!(" --{name} {}", quoted(value.as_str().unwrap_or_default()))
    };
    let options: String = filter.iter().map(option).collect();
    format!("postbackd dlq replay{options}")
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':' | '+');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", out::plain(text).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_s_command_is_what_a_shell_takes() {
        let filter =
            json!({ "destination": "crm", "reason": "permanent", "response_status": "400", "detail": "it's; rm" });
        let wanted = r"postbackd dlq replay --destination crm --with-reason permanent --response-status 400 --detail 'it'\''s; rm'";
        assert_eq!(command(&json!({ "filter": filter })), wanted);
    }
}
