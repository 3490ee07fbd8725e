//! `postbackd backup`: have the daemon write a backup of its store while it runs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{BackupArgs, Globals};
use super::client::Daemon;
use super::deliveries::cell;
use super::out;
use crate::domain::time::{DurationMs, UnixMs};

/// A large store takes its time: some hundred thousand rows a second at best, and a slow disk much longer.
const TIMEOUT: DurationMs = DurationMs::from_hours(12);

pub async fn backup(globals: &Globals, args: &BackupArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let daemon = Daemon::connect_patiently(globals, now, TIMEOUT)?;
    let answer = daemon.post("/v1/backup", &json!({ "name": args.name })).await?;
    if globals.json {
        out::json(&answer)?;
    } else {
        out::line(&out::plain(&made(&answer)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn made(answer: &Value) -> String {
    format!(
        "{}: {} rows, {} bytes, as of {}, in {} ms",
        cell(answer, "/file"),
        cell(answer, "/rows"),
        cell(answer, "/bytes"),
        cell(answer, "/taken_at"),
        cell(answer, "/took_ms")
    )
}
