//! `POST /v1/reload`: read the configuration now, and say what came of it.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::AppState;
use super::json::Json;
use super::problem::Problem;
use crate::config::diff::Changes;
use crate::config::problem::Report;
use crate::config::reload::Outcome;
use crate::domain::audit::{Deed, Who};
use crate::domain::name::DestinationName;
use crate::domain::time::UnixMs;

/// Asks for a reload; the outcome comes back through what is sent.
pub type Reloads = mpsc::Sender<oneshot::Sender<Outcome>>;

/// A configuration that is in force.
#[derive(Debug, Serialize)]
struct Applied {
    ok: bool,
    hash: String,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    needs_restart: Vec<&'static str>,
    warnings: usize,
    /// Where this reload found nothing new, somebody else was first: the watcher of the files, mostly.
    last_change: Option<LastChange>,
}

/// The last reload that changed destinations, this one included.
#[derive(Debug, Serialize)]
struct LastChange {
    at: String,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

/// One problem, as `/status` and `check --json` show it (SPEC 8.3).
#[derive(PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ProblemDto {
    file: String,
    line: Option<usize>,
    key: String,
    detail: String,
}

pub(crate) fn problems(report: &Report) -> Vec<ProblemDto> {
    let problem = |problem: &crate::config::problem::Problem| ProblemDto {
        file: problem.file.display().to_string(),
        line: problem.line,
        key: problem.key.clone(),
        detail: problem.detail.clone(),
    };
    report.problems.iter().map(problem).collect()
}

pub(super) async fn reload(State(state): State<AppState>, Extension(who): Extension<Who>) -> Result<Response, Problem> {
    let (reply, outcome) = oneshot::channel();
    state.reloads.try_send(reply).map_err(|_| not_now("other reloads are waiting"))?;
    let outcome = outcome.await.map_err(|_| not_now("the daemon is stopping"))?;
    state.keep(Deed::new(who, "reload").ended(&outcome.summary())).await;
    answer(outcome, state.standing.load().last_change.as_ref())
}

fn names(list: &[DestinationName]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn answer(outcome: Outcome, last: Option<&(UnixMs, Changes)>) -> Result<Response, Problem> {
    match outcome {
        Outcome::Applied { hash, changes, warnings } => {
            let Changes { added, changed, removed, needs_restart } = changes;
            let (added, changed, removed) = (names(&added), names(&changed), names(&removed));
            let last_change = last.map(|(at, last)| LastChange {
                at: at.to_rfc3339(),
                added: names(&last.added),
                changed: names(&last.changed),
                removed: names(&last.removed),
            });
            let applied = Applied { ok: true, hash, added, changed, removed, needs_restart, warnings, last_change };
            Ok(Json(applied).into_response())
        }
        Outcome::Refused(report) => {
            let detail = "the configuration is refused and the one before goes on; every problem is listed in problems";
            let problem = Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "config_refused",
                "The configuration is refused",
                detail,
            );
            let list = serde_json::to_value(problems(&report)).unwrap_or(Value::Null);
            Err(problem.with_member("problems", list))
        }
        Outcome::Postponed(why) => Err(not_now(&why)),
    }
}

fn not_now(why: &str) -> Problem {
    let detail = format!("the configuration cannot be taken over now: {why}; ask again");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "reload_postponed", "Not now", detail)
        .with_header(header::RETRY_AFTER, "5")
}
