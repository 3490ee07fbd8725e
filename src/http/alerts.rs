//! `GET /v1/alerts`: what is wrong and who was told; `POST /v1/alerts/test`: whether telling works.

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::dto::rfc3339;
use super::json::Json;
use super::preview;
use super::problem::Problem;
use super::{AppState, body};
use crate::alerts::{ChannelView, View};
use crate::domain::alert;
use crate::domain::audit::{Deed, Who};

/// A name and a few braces.
const BODY_BYTES: usize = 4096;

/// Member `alerts` of `/status`, and the whole of `/v1/alerts`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AlertsDto {
    /// Whether there is a channel or a heartbeat; without one no rule is looked at.
    pub(crate) watched: bool,
    /// What was told and is not over.
    pub(crate) open: Vec<OpenDto>,
    pub(crate) channels: BTreeMap<String, ChannelDto>,
    pub(crate) heartbeat: Option<ChannelDto>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OpenDto {
    pub(crate) id: String,
    pub(crate) rule: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) todo: String,
    pub(crate) since: String,
    pub(crate) told: u32,
    pub(crate) last_told: Option<String>,
    /// Since when it has been good; it is told as over once that lasts.
    pub(crate) good_since: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChannelDto {
    pub(crate) kind: &'static str,
    pub(crate) enabled: bool,
    pub(crate) last_success: Option<String>,
    pub(crate) last_error: Option<ErrorDto>,
    /// Since the start.
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) waiting: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorDto {
    pub(crate) at: String,
    pub(crate) message: String,
}

#[derive(Debug, Serialize)]
struct Tested {
    /// Whether all of them took it.
    ok: bool,
    channels: BTreeMap<String, TestedChannel>,
}

#[derive(Debug, Serialize)]
struct TestedChannel {
    ok: bool,
    error: Option<String>,
}

impl From<View> for AlertsDto {
    fn from(view: View) -> Self {
        let View { watched, open, channels, heartbeat } = view;
        Self {
            watched,
            open: open.into_iter().map(OpenDto::from).collect(),
            channels: channels.into_iter().map(|(name, channel)| (name, channel.into())).collect(),
            heartbeat: heartbeat.map(ChannelDto::from),
        }
    }
}

impl From<alert::Problem> for OpenDto {
    fn from(problem: alert::Problem) -> Self {
        Self {
            id: problem.id,
            rule: problem.rule.as_str(),
            severity: problem.severity.as_str(),
            title: problem.title,
            text: problem.text,
            todo: problem.remedy,
            since: problem.since.to_rfc3339(),
            told: problem.told,
            last_told: rfc3339(problem.told_at),
            good_since: rfc3339(problem.good_since),
        }
    }
}

impl From<ChannelView> for ChannelDto {
    fn from(view: ChannelView) -> Self {
        let ChannelView { kind, enabled, last_success, last_error, sent, failed, waiting } = view;
        let error = |(at, message): (crate::domain::time::UnixMs, String)| ErrorDto { at: at.to_rfc3339(), message };
        let (last_success, last_error) = (rfc3339(last_success), last_error.map(error));
        Self { kind, enabled, last_success, last_error, sent, failed, waiting }
    }
}

pub(super) async fn list(State(state): State<AppState>) -> Response {
    Json(AlertsDto::from(state.alerts.view())).into_response()
}

/// 200 whatever the channels said: that is the answer.
pub(super) async fn test(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (bytes, _share) = body::read(&headers, body, BODY_BYTES, &state.bodies).await?;
    let mut members = preview::members(&bytes, &["channel"])?;
    let channel = preview::text(&mut members, "channel")?;
    // It is never closed; were it, a test would matter more than the bound.
    let turn = state.tests.acquire().await;
    let results = state.alerts.test(channel.as_deref()).await.ok_or_else(|| {
        let name = channel.as_deref().unwrap_or_default();
        Problem::not_found(format!("the configuration has no [alerts.channels.{name}]"))
    })?;
    drop(turn);
    if results.is_empty() {
        let detail =
            "no channel is configured and enabled; add an [alerts.channels.NAME] (config.example.toml shows how)";
        return Err(Problem::new(StatusCode::CONFLICT, "no_channels", "Nobody to tell", detail));
    }
    let channels: BTreeMap<_, _> = results
        .into_iter()
        .map(|(name, result)| (name, TestedChannel { ok: result.is_ok(), error: result.err() }))
        .collect();
    let took = channels.values().filter(|channel| channel.ok).count();
    let came_of = format!("{took} of {} took it", channels.len());
    state.keep(Deed::new(who, "alerts test").on(&channel.unwrap_or_default()).ended(&came_of)).await;
    Ok(Json(Tested { ok: took == channels.len(), channels }).into_response())
}
