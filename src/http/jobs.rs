//! `GET /v1/jobs`, `GET /v1/jobs/{id}` and `DELETE /v1/jobs/{id}`: replays and discards that go on by themselves.

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::dto::rfc3339;
use super::json::Json;
use super::problem::Problem;
use super::query::Query;
use crate::domain::audit::{Deed, Who};
use crate::domain::id::{InstanceId, JobId};
use crate::domain::pacing::RateLimit;
use crate::store::job::Job;

#[derive(Debug, Serialize)]
struct Jobs {
    jobs: Vec<JobDto>,
}

#[derive(Debug, Serialize)]
pub(crate) struct JobDto {
    id: String,
    kind: &'static str,
    state: &'static str,
    matched: u64,
    done: u64,
    failed: u64,
    started_at: String,
    finished_at: Option<String>,
    rate: Option<String>,
    reason: String,
}

impl JobDto {
    fn new(job: Job, instance: InstanceId) -> Self {
        Self {
            id: JobId { instance, number: job.number }.to_string(),
            kind: job.kind.as_str(),
            state: job.state.as_str(),
            matched: job.matched,
            done: job.done,
            failed: job.failed,
            started_at: job.started_at.to_rfc3339(),
            finished_at: rfc3339(job.finished_at),
            rate: job.rate.map(rate_text),
            reason: job.reason,
        }
    }
}

/// `50/s`
pub(crate) fn rate_text(rate: RateLimit) -> String {
    let unit = match rate.per.0 {
        1000 => "s",
        60_000 => "m",
        _ => "h",
    };
    format!("{}/{unit}", rate.count)
}

/// Running ones and the last hundred that have ended, newest first.
pub(super) async fn list(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[&[]])?;
    let instance = state.pipeline.instance();
    let jobs = state.read(crate::store::read::Reader::jobs).await?;
    let jobs = jobs.into_iter().map(|job| JobDto::new(job, instance)).collect();
    Ok(Json(Jobs { jobs }).into_response())
}

type Id = Result<Path<String>, PathRejection>;

pub(super) async fn show(State(state): State<AppState>, id: Id) -> Result<Response, Problem> {
    let id = parse(&state, id)?;
    Ok(Json(JobDto::new(find(&state, id).await?, id.instance)).into_response())
}

/// What it has done stays done; the rest stays in the DLQ. A job that has ended stays as it is.
pub(super) async fn cancel(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    id: Id,
) -> Result<Response, Problem> {
    let id = parse(&state, id)?;
    find(&state, id).await?;
    state.pipeline.cancel_job(id.number, Deed::new(who, "cancel").on(&id)).await?;
    let job = find(&state, id).await?;
    tracing::info!(job = %id, state = job.state.as_str(), done = job.done, "An operator cancelled a job.");
    Ok(Json(JobDto::new(job, id.instance)).into_response())
}

fn parse(state: &AppState, id: Id) -> Result<JobId, Problem> {
    let Path(given) = id.map_err(|_| Problem::field("id", "invalid", "the id in the path is not UTF-8"))?;
    let id: JobId = given.parse().map_err(|wrong: crate::domain::id::IdError| Problem::not_found(wrong.to_string()))?;
    if id.instance == state.pipeline.instance() { Ok(id) } else { Err(missing(id)) }
}

async fn find(state: &AppState, id: JobId) -> Result<Job, Problem> {
    state.read(move |reader| reader.job(id.number)).await?.ok_or_else(|| missing(id))
}

fn missing(id: JobId) -> Problem {
    Problem::not_found(format!("there is no job {id}; GET /v1/jobs lists those that run and the last that have ended"))
}
