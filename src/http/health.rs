//! `/healthz`: the process answers. `/readyz`: it can take events. Open to everyone, so the reasons are only those of
//! [`crate::pipeline::Health`], which name no secrets.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::json::Json;

#[derive(Debug, Serialize)]
struct Alive {
    ok: bool,
}

#[derive(Debug, Serialize)]
struct Ready {
    ok: bool,
    /// Why events cannot be taken now.
    reasons: Vec<String>,
}

pub(super) async fn alive() -> Response {
    Json(Alive { ok: true }).into_response()
}

pub(super) async fn ready(State(state): State<AppState>) -> Response {
    readiness(state.pipeline.health().failing)
}

fn readiness(reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        return Json(Ready { ok: true, reasons }).into_response();
    }
    let body = Json(Ready { ok: false, reasons });
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_take_events_is_not_ready() {
        assert_eq!(readiness(Vec::new()).status(), StatusCode::OK);
        let failing = readiness(vec!["disk".to_owned()]);
        assert_eq!(failing.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(failing.headers().contains_key(header::RETRY_AFTER));
    }
}
