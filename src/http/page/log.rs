//! The delivery log, newest first, with its filters.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::form::Form;
use super::render::{self, Frame};
use super::text::{Shown, When};
use super::{ask, kind};
use crate::destination::Kind;
use crate::domain::delivery::Status;
use crate::domain::time::UnixMs;
use crate::http::problem::Problem;
use crate::http::{AppState, deliveries};

/// Rows of one page.
const ROWS: usize = 50;
/// The filters of the log, as the API knows them, and the kind.
pub(super) const FILTERS: [&str; 8] = ["destination", "kind", "status", "event", "uid", "event_id", "since", "until"];

/// What the API says of one delivery.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) id: Shown,
    pub(super) event: Brief,
    pub(super) destination: Shown,
    pub(super) status: Shown,
    pub(super) target: Option<Shown>,
    pub(super) reason: Option<Shown>,
    received_at: String,
    pub(super) attempt_count: u32,
    pub(super) last_status: Option<u16>,
    next_attempt_at: Option<String>,
    /// Filled in here.
    #[serde(skip)]
    pub(super) received: When,
    #[serde(skip)]
    pub(super) next: Option<When>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Brief {
    pub(super) id: Shown,
    pub(super) event_id: Option<Shown>,
    pub(super) event: Shown,
}

/// A page of the log.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Rows {
    pub(super) deliveries: Vec<Row>,
    pub(super) cursor: Option<String>,
}

/// One choice of a filter.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) chosen: bool,
}

/// The filter form as it is filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    pub(super) destinations: Vec<Choice>,
    pub(super) kinds: Vec<Choice>,
    pub(super) statuses: Vec<Choice>,
    pub(super) reasons: Vec<Choice>,
    pub(super) event: String,
    pub(super) uid: String,
    pub(super) event_id: String,
    pub(super) since: String,
    pub(super) until: String,
    /// Of the DLQ only.
    pub(super) response_status: String,
    pub(super) detail: String,
    pub(super) fault: String,
    /// Whether anything is filtered.
    pub(super) any: bool,
}

#[derive(Template)]
#[template(path = "log.html", config = "src/http/page/askama.toml")]
struct LogPage {
    frame: Frame,
    filters: Filters,
    rows: Vec<Row>,
    /// What was wrong with the filter.
    wrong: Option<Shown>,
    first: Option<String>,
    next: Option<String>,
}

/// `GET /ui/log`
pub(super) async fn log(State(state): State<AppState>, frame: Frame, form: Form) -> Result<Response, Problem> {
    let filter = form.only(&FILTERS);
    let filters = Filters::of(&state, &filter).await?;
    let asked = form.get("cursor").map(|cursor| filter.clone().with("cursor", cursor));
    let (rows, wrong) = match rows(&state, asked.as_ref().unwrap_or(&filter), ROWS).await {
        Ok(rows) => (rows, None),
        // A filter that was not understood is shown again with what is wrong, to be mended in its place.
        Err(problem) if problem.said().0 != "store_unavailable" => (Rows::default(), Some(told(&problem))),
        Err(problem) => return Err(problem),
    };
    let frame = Frame { part: "log", ..frame };
    let first = asked.is_some().then(|| filter.link("/ui/log"));
    let next = rows.cursor.map(|cursor| filter.with("cursor", &cursor).link("/ui/log"));
    Ok(render::page(&LogPage { frame, filters, rows: rows.deliveries, wrong, first, next }))
}

/// What is wrong first, with its place.
pub(super) fn told(problem: &Problem) -> Shown {
    let (_, path, detail) = problem.said();
    if path.is_empty() { Shown::new(detail) } else { Shown::new(&format!("{path}: {detail}")) }
}

/// A page of the log as the API has it; where only the kind is named, of all destinations of that kind.
pub(super) async fn rows(state: &AppState, filter: &Form, limit: usize) -> Result<Rows, Problem> {
    let filter = filter.clone().with("limit", &limit.to_string());
    let named = filter.only(&["destination"]);
    let mut rows = match filter.get("kind") {
        Some(wanted) if named.is_empty() => {
            let plain = filter.only(&["status", "event", "uid", "event_id", "since", "until", "limit", "cursor"]);
            let mut pages = Vec::new();
            for name in kind::destinations(state, wanted)? {
                pages.push(one(state, &plain.clone().with("destination", &name)).await?);
            }
            kind::merge(pages, limit)
        }
        Some(_) | None => {
            let all = ["destination", "status", "event", "uid", "event_id", "since", "until", "limit", "cursor"];
            one(state, &filter.only(&all)).await?
        }
    };
    let now = state.clock.now();
    rows.deliveries.iter_mut().for_each(|row| row.fill(now));
    Ok(rows)
}

async fn one(state: &AppState, filter: &Form) -> Result<Rows, Problem> {
    ask::answer(deliveries::list(State(state.clone()), axum::extract::RawQuery(Some(filter.query()))).await).await
}

impl Row {
    fn fill(&mut self, now: UnixMs) {
        self.received = When::new(&self.received_at, now).unwrap_or_default();
        self.next = self.next_attempt_at.as_deref().and_then(|at| When::new(at, now));
    }
}

impl Filters {
    pub(super) async fn of(state: &AppState, filter: &Form) -> Result<Self, Problem> {
        let choices = |key: &str, values: Vec<String>| {
            let choice = |value: String| Choice { chosen: filter.get(key) == Some(&value), value };
            values.into_iter().map(choice).collect::<Vec<_>>()
        };
        let names = state.names().await?.iter().map(|(name, _)| name.to_string()).collect();
        let words = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
        let reasons = crate::domain::outcome::DeadReason::ALL.map(crate::domain::outcome::DeadReason::as_str);
        Ok(Self {
            destinations: choices("destination", names),
            kinds: choices("kind", words(Kind::ALL.map(Kind::as_str).to_vec())),
            statuses: choices("status", words(Status::ALL.map(Status::as_str).to_vec())),
            reasons: choices("reason", words(reasons.to_vec())),
            event: filter.field("event"),
            uid: filter.field("uid"),
            event_id: filter.field("event_id"),
            since: filter.field("since"),
            until: filter.field("until"),
            response_status: filter.field("response_status"),
            detail: filter.field("detail"),
            fault: filter.field("fault"),
            any: !filter.is_empty(),
        })
    }
}
