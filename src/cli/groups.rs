//! `postbackd dlq groups`: the dead by what went wrong, each with the command that replays exactly it.
//!
//! The daemon looks for a second, newest first. Where that was not enough, or an earlier look counted a part already, a
//! count is a bound and told as one; `--cursor` goes on.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, Daemon};
use super::deliveries::{Total, cell};
use super::out;

pub async fn groups(
    daemon: &Daemon,
    filter: &[(&str, Option<&str>)],
    cursor: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let parameters = [filter, &[("cursor", cursor)]].concat();
    let found = daemon.get(&client::query("/v1/dlq/groups", &parameters)).await?;
    if json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let groups = found.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    if !groups.is_empty() {
        out::line(&table(&groups, is_complete(&found)))?;
    }
    notes(&found, &groups, cursor).iter().for_each(|note| out::note(note));
    Ok(ExitCode::SUCCESS)
}

fn is_complete(found: &Value) -> bool {
    found.get("complete").and_then(Value::as_bool) != Some(false)
}

/// What is said beside the table: what to do with it, and what is not in it.
fn notes(found: &Value, groups: &[Value], asked: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    match groups.first() {
        Some(largest) => notes.push(format!("to deliver the first group again: {}", command(largest))),
        None => notes.push("no dead deliveries".to_owned()),
    }
    let others = found.get("others").and_then(Value::as_u64).unwrap_or(0);
    if others > 0 {
        let others = counted(others, is_complete(found));
        notes.push(format!("{others} more are of further kinds; narrow it down with --destination or --reason"));
    }
    let looked_at = cell(found, "/entries");
    match (found.get("cursor").and_then(Value::as_str), asked) {
        (Some(next), _) => {
            let which = if asked.is_some() { "next" } else { "newest" };
            let next = out::plain(next);
            notes.push(format!(
                "these are the {which} {looked_at} only; count on with --cursor {next}, or narrow it with --since"
            ));
        }
        (None, Some(_)) => notes.push(format!("these are the last {looked_at}; earlier answers counted those before")),
        (None, None) => {}
    }
    notes
}

fn counted(count: u64, is_complete: bool) -> Total {
    if is_complete { Total::Exact(count) } else { Total::AtLeast(count) }
}

fn table(groups: &[Value], is_complete: bool) -> String {
    let columns = [
        ("DESTINATION", "/destination"),
        ("REASON", "/reason"),
        ("HTTP", "/response_status"),
        ("FAULT", "/fault"),
        ("FIRST", "/first_at"),
        ("LAST", "/last_at"),
        ("SAMPLE", "/sample"),
    ];
    let mut header = vec!["COUNT"];
    header.extend(columns.map(|(title, _)| title));
    header.push("WHAT");
    let line = |group: &Value| {
        let count = group.get("count").and_then(Value::as_u64).unwrap_or(0);
        let mut cells = vec![counted(count, is_complete).to_string()];
        cells.extend(columns.iter().map(|(_, at)| cell(group, at)));
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
    fn a_count_that_is_a_bound_is_told_as_a_bound_and_how_to_count_on() {
        let mut found = json!({
            "entries": 9, "complete": false, "others": 2, "cursor": "dlv_5",
            "groups": [{ "count": 7, "destination": "crm", "reason": "permanent", "filter": { "destination": "crm" } }]
        });
        let told = |found: &Value, asked: Option<&str>| {
            let groups = found["groups"].as_array().unwrap();
            (table(groups, is_complete(found)), notes(found, groups, asked).split_off(1))
        };
        let (shown, notes) = told(&found, None);
        assert!(shown.lines().nth(1).unwrap().starts_with("at least 7  crm"), "{shown}");
        let others = "2 more are of further kinds; narrow it down with --destination or --reason";
        let on = "only; count on with --cursor dlv_5, or narrow it with --since";
        assert_eq!(notes, [format!("at least {others}"), format!("these are the newest 9 {on}")]);
        assert_eq!(told(&found, Some("dlv_8")).1.pop().unwrap(), format!("these are the next 9 {on}"));
        found["cursor"] = Value::Null;
        let rest = told(&found, Some("dlv_8"));
        assert!(rest.0.contains("at least 7"), "what an earlier answer counted is not in it: {}", rest.0);
        assert_eq!(rest.1.last().unwrap(), "these are the last 9; earlier answers counted those before");
        found["complete"] = true.into();
        let (shown, notes) = told(&found, None);
        assert!(shown.lines().nth(1).unwrap().starts_with("7  "), "{shown}");
        assert_eq!(notes, [others]);
    }

    #[test]
    fn a_group_s_command_is_what_a_shell_takes() {
        let filter =
            json!({ "destination": "crm", "reason": "permanent", "response_status": "400", "detail": "it's; rm" });
        let wanted = r"postbackd dlq replay --destination crm --with-reason permanent --response-status 400 --detail 'it'\''s; rm'";
        assert_eq!(command(&json!({ "filter": filter })), wanted);
    }
}
