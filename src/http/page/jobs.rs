//! Replays and discards that go on by themselves: how far they are, and a form that ends one.

use askama::Template;
use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Deserialize;

use super::form::Form;
use super::render::{self, Frame};
use super::text::{self, Shown, When};
use super::visitor::Visitor;
use super::{ask, noticed, own_path};
use crate::domain::audit::Who;
use crate::domain::time::UnixMs;
use crate::http::problem::Problem;
use crate::http::{AppState, jobs};

#[derive(Debug, Deserialize)]
struct Listing {
    jobs: Vec<Told>,
}

/// What the API says of a job.
#[derive(Debug, Deserialize)]
struct Told {
    id: Shown,
    kind: Shown,
    state: Shown,
    matched: u64,
    done: u64,
    failed: u64,
    started_at: String,
    finished_at: Option<String>,
    rate: Option<Shown>,
    reason: Shown,
}

/// A job as it is shown.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Shown,
    pub(super) kind: Shown,
    pub(super) state: Shown,
    pub(super) runs: bool,
    /// How many it has come to, of how many.
    pub(super) progress: (u64, u64),
    pub(super) words: String,
    pub(super) rate: Option<Shown>,
    pub(super) reason: Shown,
    pub(super) started: Option<When>,
    pub(super) finished: Option<When>,
}

#[derive(Template)]
#[template(path = "jobs.html", config = "src/http/page/askama.toml")]
struct JobsPage {
    frame: Frame,
    jobs: Vec<Job>,
    back: &'static str,
}

/// `GET /ui/jobs`
pub(super) async fn list(State(state): State<AppState>, frame: Frame) -> Result<Response, Problem> {
    let jobs = all(&state).await?;
    Ok(render::page(&JobsPage { frame: Frame { part: "jobs", ..frame }, jobs, back: "/ui/jobs" }))
}

/// `POST /ui/jobs/{id}/cancel`
pub(super) async fn cancel(
    State(state): State<AppState>,
    who: Extension<Who>,
    id: Result<Path<String>, PathRejection>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let told: Told = ask::answer(jobs::cancel(State(state.clone()), who, id).await).await?;
    let job = told.shown(state.clock.now());
    let notice = format!("{} is {}: {}", job.id, job.state, job.words);
    Ok(render::see(&noticed(&state, &visitor, own_path(form.get("back")), &notice)))
}

/// Those that run now.
pub(super) async fn running(state: &AppState) -> Result<Vec<Job>, Problem> {
    let mut jobs = all(state).await?;
    jobs.retain(|job| job.runs);
    Ok(jobs)
}

async fn all(state: &AppState) -> Result<Vec<Job>, Problem> {
    let listing: Listing = ask::answer(jobs::list(State(state.clone()), RawQuery(None)).await).await?;
    let now = state.clock.now();
    Ok(listing.jobs.into_iter().map(|told| told.shown(now)).collect())
}

impl Told {
    fn shown(self, now: UnixMs) -> Job {
        let Self { id, kind, state, matched, done, failed, started_at, finished_at, rate, reason } = self;
        let mut words = format!("{} of {}", text::count(done), text::count(matched));
        if failed > 0 {
            words = format!("{words}, {} had left the DLQ before it was their turn", text::count(failed));
        }
        Job {
            runs: state.as_str() == "running",
            progress: (done.saturating_add(failed), matched),
            words,
            started: When::new(&started_at, now),
            finished: finished_at.as_deref().and_then(|at| When::new(at, now)),
            id,
            kind,
            state,
            rate,
            reason,
        }
    }
}
