//! `GET /v1/audit`: what operators did, newest first.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;

use super::AppState;
use super::deliveries::PAGE_KEYS;
use super::json::Json;
use super::problem::Problem;
use super::query::Query;
use crate::store::job::Kept;

#[derive(Debug, Serialize)]
struct Trail {
    deeds: Vec<DeedDto>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct DeedDto {
    at: String,
    /// By what right: `admin token`, `loopback`, `signal`, `file`.
    by: &'static str,
    from: Option<String>,
    operator: Option<String>,
    action: String,
    target: Option<String>,
    arguments: Value,
    reason: Option<String>,
    result: Option<String>,
}

pub(super) async fn list(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&PAGE_KEYS])?;
    let limit = query.limit()?;
    let wrong = "this is no cursor; send the one that came with the page before";
    let before = match query.get("cursor") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Problem::field("cursor", "invalid", wrong))?),
    };
    let (deeds, next) = state.read(move |reader| reader.audit(before, limit)).await?;
    let deeds = deeds.into_iter().map(shown).collect();
    Ok(Json(Trail { deeds, cursor: next.map(|number| number.to_string()) }).into_response())
}

fn shown(kept: Kept) -> DeedDto {
    let deed = kept.deed;
    let given = |text: String| (!text.is_empty()).then_some(text);
    DeedDto {
        at: kept.at.to_rfc3339(),
        by: deed.who.right.as_str(),
        from: deed.who.from,
        operator: deed.who.operator,
        action: deed.action,
        target: given(deed.target),
        arguments: serde_json::from_str(&deed.arguments).unwrap_or(Value::Null),
        reason: given(deed.reason),
        result: given(deed.result),
    }
}
