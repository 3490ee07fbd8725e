//! `POST /v1/backup`: writes a backup of the store while everything goes on. `GET /v1/backup` lists those there are.
//!
//! A caller who hangs up does not end it: it is made, and kept in the audit trail, all the same.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::AppState;
use super::destinations;
use super::json::Json;
use super::problem::{FieldError, Problem};
use crate::domain::audit::{Deed, Who};
use crate::domain::event::Object;
use crate::pipeline::backups::Turn;
use crate::store::backup::series::{SERIES, stamp};
use crate::store::backup::{Backup, BackupError, Order};

const NAME_BYTES: usize = 64;

/// The answer.
#[derive(Debug, Serialize)]
struct Made {
    file: String,
    bytes: u64,
    rows: u64,
    took_ms: u64,
    taken_at: String,
}

/// A file in the directory of backups.
#[derive(Debug, Serialize)]
struct Listed {
    file: String,
    bytes: u64,
}

pub(super) async fn backup(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let said = destinations::said(&state, &headers, body).await?;
    let at = state.clock.now();
    let name = name(&said).map_err(Problem::fields)?.unwrap_or_else(|| stamp(at));
    let turn = state.pipeline.backup_turn().ok_or_else(|| {
        let detail = "a backup is being written; ask again when it is done (GET /v1/backup lists those there are)";
        Problem::new(StatusCode::CONFLICT, "backup_running", "A backup is being written", detail)
    })?;
    let order = state.pipeline.backup_order(name, at);
    let made = tokio::spawn(make(state, who, order, turn)).await;
    made.map_err(|_| Problem::internal("the backup ended by a defect; the log says more"))?
}

async fn make(state: AppState, who: Who, order: Order, turn: Turn) -> Result<Response, Problem> {
    let began = state.clock.monotonic();
    let made = state.pipeline.backup(order, turn).await;
    let took = state.clock.monotonic().saturating_sub(began);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let deed = Deed::new(who, "backup");
    match made {
        Ok(Backup { file, bytes, rows, taken_at }) => {
            let file = file.display().to_string();
            tracing::info!(file, bytes, rows, took_ms, "A backup was written.");
            state.keep(deed.on(&file).ended(&format!("{rows} rows, {bytes} bytes"))).await;
            Ok(Json(Made { file, bytes, rows, took_ms, taken_at: taken_at.to_rfc3339() }).into_response())
        }
        Err(error) => {
            tracing::warn!(%error, "A backup could not be written.");
            state.keep(deed.ended(&error)).await;
            Err(problem(&error))
        }
    }
}

pub(super) async fn list(State(state): State<AppState>) -> Result<Response, Problem> {
    let directory = state.pipeline.snapshot().backup.dir.clone();
    let backups = state.read(move |reader| Ok(reader.backups(directory.as_deref()))).await?;
    let listed = backups.into_iter().map(|(file, bytes)| Listed { file: file.display().to_string(), bytes });
    Ok(Json(json!({ "backups": listed.collect::<Vec<_>>() })).into_response())
}

fn problem(error: &BackupError) -> Problem {
    let (status, code, title) = match error {
        BackupError::Exists(_) => (StatusCode::CONFLICT, "backup_exists", "The backup is there already"),
        BackupError::Disk { .. } | BackupError::Full(_) => {
            (StatusCode::INSUFFICIENT_STORAGE, "disk", "There is no room for a backup")
        }
        BackupError::Parent(_) | BackupError::File { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "backup_file", "The file cannot be written")
        }
        BackupError::Medium(_) => (StatusCode::INTERNAL_SERVER_ERROR, "backup_disk", "A disk failed"),
        BackupError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store", "The store cannot be copied now"),
        BackupError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "The daemon is stopping"),
    };
    Problem::new(status, code, title, error.to_string())
}

/// The name that was asked for.
fn name(said: &Object) -> Result<Option<String>, Vec<FieldError>> {
    destinations::nothing_else(said, &["name"])?;
    let fit = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        plain && !text.is_empty() && text.len() <= NAME_BYTES
    };
    match said.get("name").filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(Value::String(text)) if text.starts_with(SERIES) => {
            let detail = format!("begins with {SERIES:?}, as those that are taken by themselves; give another name");
            Err(vec![FieldError::new("$.name", "invalid", detail)])
        }
        Some(Value::String(text)) if fit(text) => Ok(Some(text.clone())),
        Some(_) => {
            let detail = format!("write a word of at most {NAME_BYTES} letters, digits, dots, dashes and underscores");
            Err(vec![FieldError::new("$.name", "invalid", detail)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_that_leads_out_of_no_directory() {
        let read = |text: &str| name(&serde_json::from_str(text).unwrap());
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"name":"before-1.2"}"#), Ok(Some("before-1.2".to_owned())));
        for text in [
            r#"{"name":"../x"}"#,
            r#"{"name":""}"#,
            r#"{"name":"a b"}"#,
            r#"{"name":5}"#,
            r#"{"nam":"x"}"#,
            r#"{"name":"auto-x"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let long = json!({ "name": "x".repeat(NAME_BYTES + 1) });
        assert!(read(&long.to_string()).is_err());
    }
}
