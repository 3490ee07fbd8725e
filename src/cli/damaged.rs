//! `postbackd dlq damaged`: rows of the store that cannot be read, and what to do about them.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{self, Daemon};
use super::deliveries::cell;
use super::{cursor, out};

/// What was met since the start, or all there are in the store.
pub async fn damaged(daemon: &Daemon, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (total, rows) = found(daemon, all).await?;
    if json {
        out::json(&json!({ "total": total, "rows": rows, "cursor": null }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !rows.is_empty() {
        out::line(&table(&rows))?;
    }
    for note in notes(total, &rows, all) {
        out::note(&note);
    }
    Ok(ExitCode::SUCCESS)
}

/// How many were met since the start, and the rows.
async fn found(daemon: &Daemon, all: bool) -> anyhow::Result<(u64, Vec<Value>)> {
    let all = all.then_some("true");
    let (mut rows, mut at) = (Vec::new(), None::<String>);
    loop {
        let mut answer =
            daemon.get(&client::query("/v1/dlq/damaged", &[("all", all), ("cursor", at.as_deref())])).await?;
        let Some(found) = answer.get_mut("rows").and_then(Value::as_array_mut) else {
            anyhow::bail!("the answer has no list \"rows\"; is it a postbackd that answers at this address?");
        };
        rows.append(found);
        at = cursor::next(&answer, at.as_deref())?;
        if at.is_none() {
            return Ok((answer.get("total").and_then(Value::as_u64).unwrap_or_default(), rows));
        }
    }
}

/// What is said beside the table.
fn notes(total: u64, rows: &[Value], all: bool) -> Vec<String> {
    let mut notes = Vec::new();
    match (rows.is_empty(), all) {
        (true, true) => notes.push("every row can be read".to_owned()),
        (true, false) => {
            notes.push("no damaged row was met since the daemon started; --all looks through the store".to_owned());
        }
        (false, _) => {
            let shown = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            if total > shown {
                notes.push(format!("{shown} of {total} rows are shown; --all looks through the store for all of them"));
            }
            if rows.iter().any(|row| !discards(row).is_empty()) {
                notes.push(
                    "--json shows what can be read around them; to give one up: postbackd dlq discard ID --reason TEXT"
                        .to_owned(),
                );
            }
            if rows.iter().any(|row| discards(row).is_empty()) {
                notes.push(
                    "what keeps nothing from ending is owed to nobody: it goes with its event (retention)".to_owned(),
                );
            }
        }
    }
    notes
}

fn discards(row: &Value) -> Vec<&str> {
    let ids = row.get("discard").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ids.iter().filter_map(Value::as_str).collect()
}

fn table(rows: &[Value]) -> String {
    let header = ["TABLE", "WHAT", "EVENT", "SENDER'S ID", "TO GIVE UP"];
    let line = |row: &Value| {
        let ids = discards(row);
        let event = row.get("event").unwrap_or(&Value::Null);
        let to_give_up = if ids.is_empty() { "-".to_owned() } else { ids.join(" ") };
        vec![cell(row, "/table"), cell(row, "/what"), cell(event, "/event"), cell(event, "/event_id"), to_give_up]
    };
    out::table(&header, rows.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_is_said_of_what_there_is() {
        let (owed, ended) = (json!({ "discard": ["dlv_1"] }), json!({ "discard": [] }));
        assert_eq!(notes(0, &[], true), ["every row can be read"]);
        assert!(notes(0, &[], false)[0].contains("--all"));
        let said = notes(3, &[owed.clone(), ended.clone()], false);
        assert!(said[0].starts_with("2 of 3 rows are shown; --all"), "{said:?}");
        assert!(said[1].contains("dlq discard ID") && said[2].contains("retention"), "{said:?}");
        assert!(notes(1, &[owed], true)[0].contains("dlq discard ID"));
        assert!(notes(1, &[ended], true)[0].contains("retention"));
    }
}
