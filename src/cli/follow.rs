//! `postbackd deliveries --follow`: each delivery as it comes, and again whenever it changes.
//!
//! The newest rows are asked for every second, and older ones up to what was seen before. What has fallen out of the newest
//! [`WATCHED`] is not watched any more. A daemon that is away is waited for.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::client::Daemon;
use super::deliveries::{Listing, cell};
use super::out;

/// Rows asked for at once, and so the rows whose changes are seen.
const WATCHED: u32 = 500;
/// Pages between two looks: what came faster is told, not shown.
const PAGES: usize = 20;
const EVERY: Duration = Duration::from_secs(1);

/// Follows until it is interrupted. Rows that are there already are shown first, `backlog` of them.
pub async fn follow(daemon: &Daemon, list: &Listing<'_>, backlog: u32, json: bool) -> anyhow::Result<ExitCode> {
    let mut seen = Seen::default();
    let mut away = false;
    let mut first = true;
    loop {
        match look(daemon, list, &seen).await {
            Ok(rows) => {
                if std::mem::take(&mut away) {
                    out::note("the daemon is back");
                }
                let fresh = seen.take(rows);
                let skip =
                    if first { fresh.len().saturating_sub(usize::try_from(backlog).unwrap_or(usize::MAX)) } else { 0 };
                first = false;
                for row in fresh.iter().skip(skip) {
                    out::line(&if json { row.to_string() } else { line(row) })?;
                }
            }
            Err(error) if first => return Err(error),
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    out::note(&format!("waiting for the daemon: {}", out::plain(&format!("{error:#}"))));
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The newest rows, and those behind them up to what is known.
async fn look(daemon: &Daemon, list: &Listing<'_>, seen: &Seen) -> anyhow::Result<Vec<Value>> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES {
        let page = list.page(daemon, WATCHED, cursor.as_deref()).await?;
        let met = page.rows.iter().any(|row| seen.knows(row));
        rows.extend(page.rows);
        cursor = page.cursor;
        let enough = met || (seen.rows.is_empty() && rows.len() >= usize::try_from(WATCHED).unwrap_or(usize::MAX));
        if enough || cursor.is_none() {
            return Ok(rows);
        }
    }
    out::note("more came than can be shown; some rows are left out");
    Ok(rows)
}

/// What was shown of the newest rows.
#[derive(Debug, Default)]
struct Seen {
    rows: HashMap<String, String>,
}

impl Seen {
    fn knows(&self, row: &Value) -> bool {
        self.rows.contains_key(&cell(row, "/id"))
    }

    /// The rows that are new or changed, oldest first; of the rest only what is still watched is remembered.
    fn take(&mut self, rows: Vec<Value>) -> Vec<Value> {
        let mut now = HashMap::new();
        let mut fresh = Vec::new();
        for row in rows.into_iter().rev() {
            let (id, state) = (cell(&row, "/id"), fingerprint(&row));
            if self.rows.get(&id) != Some(&state) && now.get(&id) != Some(&state) {
                fresh.push(row);
            }
            now.insert(id, state);
        }
        self.rows = now;
        fresh
    }
}

/// What a change would change.
fn fingerprint(row: &Value) -> String {
    ["/status", "/reason", "/attempt_count", "/last_at"].map(|at| cell(row, at)).join(" ")
}

fn line(row: &Value) -> String {
    let parts = [
        "/id",
        "/event/event",
        "/event/event_id",
        "/destination",
        "/status",
        "/reason",
        "/attempt_count",
        "/last_status",
    ]
    .map(|at| cell(row, at));
    let time = if cell(row, "/last_at") == "-" { cell(row, "/received_at") } else { cell(row, "/last_at") };
    out::plain(&format!("{time}  {}", parts.join("  "))).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_shown_once_and_again_when_it_changes() {
        let row = |id: &str, status: &str| json!({ "id": id, "status": status, "attempt_count": 0 });
        let ids = |rows: Vec<Value>| rows.iter().map(|row| cell(row, "/id")).collect::<Vec<_>>();
        let mut seen = Seen::default();
        assert_eq!(ids(seen.take(vec![row("b", "pending"), row("a", "sent")])), ["a", "b"]);
        assert_eq!(ids(seen.take(vec![row("b", "pending"), row("a", "sent")])), Vec::<String>::new());
        assert_eq!(ids(seen.take(vec![row("c", "sent"), row("b", "sent"), row("a", "sent")])), ["b", "c"]);
        assert!(seen.knows(&row("a", "sent")) && !seen.knows(&row("d", "sent")));
    }
}
