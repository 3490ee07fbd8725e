//! `postbackd audit`: what operators did.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::Daemon;
use super::deliveries::{Listing, cell};
use super::out;

pub async fn audit(daemon: &Daemon, limit: u32, cursor: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let listing = Listing { path: "/v1/audit", member: "deeds", filter: &[] };
    let found = listing.collect(daemon, limit, cursor).await?;
    if json {
        out::json(&json!({ "deeds": found.rows, "cursor": found.cursor }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.rows.is_empty() {
        out::note("nothing was done yet");
    } else {
        out::line(&table(&found.rows))?;
    }
    found.note_more();
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Value]) -> String {
    let columns = [
        ("AT", "/at"),
        ("WHO", "/operator"),
        ("BY", "/by"),
        ("FROM", "/from"),
        ("ACTION", "/action"),
        ("TARGET", "/target"),
        ("ARGUMENTS", "/arguments"),
        ("REASON", "/reason"),
        ("RESULT", "/result"),
    ];
    let line = |row: &Value| columns.iter().map(|(_, at)| out::excerpt(&cell(row, at), 80)).collect();
    out::table(&columns.map(|(title, _)| title), rows.iter().map(line).collect())
}
