//! `postbackd jobs`, and staying with a job until it has ended.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::args::JobsArgs;
use super::client::{self, Daemon};
use super::deliveries::cell;
use super::out;

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub async fn jobs(daemon: &Daemon, args: &JobsArgs, json: bool) -> anyhow::Result<ExitCode> {
    let one = match (&args.cancel, &args.id) {
        (Some(id), _) => Some(daemon.delete(&path(id)).await?),
        (None, Some(id)) => Some(daemon.get(&path(id)).await?),
        (None, None) => None,
    };
    if let Some(job) = one {
        if json {
            out::json(&job)?;
        } else {
            out::line(&text(&job))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = daemon.get("/v1/jobs").await?;
    let rows = found.get("jobs").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        out::json(&found)?;
    } else if rows.is_empty() {
        out::note("no jobs");
    } else {
        out::line(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a job's progress on a terminal until it has ended; where there is none, only if it is to be waited for. Ctrl-C leaves
/// the job alone. Exit code 1 where it ended without having done all.
pub async fn follow(daemon: &Daemon, id: &str, wait: bool, json: bool) -> anyhow::Result<ExitCode> {
    let watched = stderr().is_terminal() && !json;
    if !watched && !wait {
        return Ok(ExitCode::SUCCESS);
    }
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} ({per_sec}, {eta} left)")?);
    let job = tokio::select! {
        job = ended(daemon, id, &bar) => job?,
        _ = tokio::signal::ctrl_c() => {
            bar.abandon();
            let id = out::plain(id);
            out::note(&format!("the job goes on; look: postbackd jobs {id}; cancel: postbackd jobs --cancel {id}"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    bar.finish_and_clear();
    if json {
        out::json(&job)?;
    } else {
        out::line(&text(&job))?;
    }
    let whole = cell(&job, "/state") == "done" && cell(&job, "/failed") == "0";
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ended(daemon: &Daemon, id: &str, bar: &ProgressBar) -> anyhow::Result<Value> {
    let path = path(id);
    loop {
        let job = daemon.get(&path).await?;
        let number = |name: &str| job.get(name).and_then(Value::as_u64).unwrap_or(0);
        bar.set_length(number("matched"));
        bar.set_position(number("done"));
        if cell(&job, "/state") != "running" {
            return Ok(job);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn path(id: &str) -> String {
    format!("/v1/jobs/{}", client::encoded(id))
}

/// One line: `job_… replay done: 700 of 700`.
fn text(job: &Value) -> String {
    let part = |name: &str| out::plain(&cell(job, name)).into_owned();
    let mut text =
        format!("{} {} {}: {} of {}", part("/id"), part("/kind"), part("/state"), part("/done"), part("/matched"));
    if !matches!(part("/failed").as_str(), "0" | "-") {
        text = format!("{text}; {} had left the DLQ before it was their turn", part("/failed"));
    }
    text
}

fn table(rows: &[Value]) -> String {
    let columns = [
        ("JOB", "/id"),
        ("KIND", "/kind"),
        ("STATE", "/state"),
        ("MATCHED", "/matched"),
        ("DONE", "/done"),
        ("FAILED", "/failed"),
        ("RATE", "/rate"),
        ("STARTED", "/started_at"),
        ("FINISHED", "/finished_at"),
        ("REASON", "/reason"),
    ];
    let line = |row: &Value| columns.iter().map(|(_, at)| cell(row, at)).collect();
    out::table(&columns.map(|(title, _)| title), rows.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_one_line() {
        let mut job = json!({ "id": "job_1", "kind": "replay", "state": "done", "done": 5, "matched": 7, "failed": 2 });
        assert_eq!(text(&job), "job_1 replay done: 5 of 7; 2 had left the DLQ before it was their turn");
        job["failed"] = 0.into();
        assert_eq!(text(&job), "job_1 replay done: 5 of 7");
    }
}
