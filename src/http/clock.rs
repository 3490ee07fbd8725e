//! `POST /v1/clock/confirm`: an operator says that the clock is right which is doubted ([`crate::pipeline::guarded`]).
//!
//! What is old by it may be removed from then on, so it takes a reason, and is refused where nothing is doubted: an order that
//! stands in a script would else be there before the doubt.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::destinations;
use super::json::Json;
use super::problem::{FieldError, Problem};
use crate::domain::audit::{Deed, Who};
use crate::domain::event::Object;

/// The answer.
#[derive(Debug, Serialize)]
struct Believed {
    /// The time that was known.
    before: String,
    /// The time that is known now: the clock's.
    after: String,
    ahead_s: u64,
}

pub(super) async fn confirm(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let reason = reason(&destinations::said(&state, &headers, body).await?).map_err(Problem::fields)?;
    let deed = Deed::new(who, "confirm").on("clock").because(&reason);
    let Some((before, after)) = state.pipeline.confirm_clock(deed).await? else {
        let detail = "nothing is doubted: the clock is at most a day ahead of the time this store knows, and things expire by it";
        return Err(Problem::new(StatusCode::CONFLICT, "not_doubted", "The clock is not doubted", detail));
    };
    let (before, ahead_s, after) = (before.to_rfc3339(), after.since(before).0 / 1000, after.to_rfc3339());
    tracing::info!(before, after, reason, "An operator says that the clock is right: it is believed.");
    Ok(Json(Believed { before, after, ahead_s }).into_response())
}

fn reason(said: &Object) -> Result<String, Vec<FieldError>> {
    let mut errors = destinations::nothing_else(said, &["reason"]).err().unwrap_or_default();
    let given = said.get("reason").filter(|value| !value.is_null());
    let asked = "say how you know that it is right; the audit trail keeps it";
    match destinations::reason(given, asked) {
        Ok(reason) if errors.is_empty() => Ok(reason),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}
