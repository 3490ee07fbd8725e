//! The DLQ: a list with its filters, an entry with everything that was kept of it, and the question before many are
//! replayed or discarded at once.

use askama::Template;
use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::form::Form;
use super::log::{Filters, told};
use super::mask::Mask;
use super::render::{self, Frame};
use super::text::{self, Shown, When};
use super::{act, ask};
use crate::domain::audit::Who;
use crate::domain::time::UnixMs;
use crate::http::dto::delivery_id;
use crate::http::problem::Problem;
use crate::http::{AppState, dlq};
use crate::store::read::DeliveryFilter;

/// Entries of one page: each carries a whole event and a request.
const ROWS: usize = 25;
/// The filters of the DLQ, as the API knows them.
pub(super) const FILTERS: [&str; 10] =
    ["destination", "event", "reason", "uid", "event_id", "since", "until", "response_status", "detail", "fault"];

#[derive(Debug, Default, Deserialize)]
struct Listing {
    total: u64,
    #[serde(default)]
    total_is_at_least: bool,
    entries: Vec<Entry>,
    cursor: Option<String>,
}

/// What the API says of one entry.
#[derive(Debug, Deserialize)]
struct Entry {
    id: Shown,
    destination: Shown,
    event: Value,
    target: Option<Shown>,
    reason: Option<Shown>,
    detail: String,
    request: Option<Request>,
    response: Answer,
    attempt_count: u32,
    first_attempt_at: Option<String>,
    last_attempt_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Request {
    method: Shown,
    url: String,
    headers: serde_json::Map<String, Value>,
    body: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: Option<u16>,
    body: String,
}

/// An entry as it is shown.
pub(super) struct Dead {
    pub(super) id: Shown,
    pub(super) destination: Shown,
    pub(super) event: Shown,
    pub(super) event_id: Option<Shown>,
    /// Ours.
    pub(super) event_key: Shown,
    pub(super) target: Option<Shown>,
    pub(super) reason: Shown,
    pub(super) detail: Shown,
    pub(super) status: Option<u16>,
    pub(super) attempts: u32,
    pub(super) first: Option<When>,
    pub(super) last: Option<When>,
    pub(super) received: Option<When>,
    payload: Shown,
    request: Option<Sent>,
    answer: Shown,
}

/// The request as it may be shown.
struct Sent {
    method: Shown,
    url: Shown,
    headers: Vec<(Shown, Shown)>,
    body: Shown,
}

#[derive(Template)]
#[template(path = "dlq.html", config = "src/http/page/askama.toml")]
struct DlqPage {
    frame: Frame,
    filters: Filters,
    entries: Vec<Dead>,
    /// In words: a bound where counting them all would have taken too long.
    total: String,
    /// What replaying or discarding all of them is called; `None` where there is none.
    all: Option<String>,
    wrong: Option<Shown>,
    replay: String,
    discard: String,
    /// The same entries by what went wrong.
    groups: String,
    /// Where a form of a row leads back to.
    back: String,
    first: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "entry.html", config = "src/http/page/askama.toml")]
struct EntryPage {
    frame: Frame,
    entry: Dead,
}

#[derive(Template)]
#[template(path = "confirm.html", config = "src/http/page/askama.toml")]
struct Confirm {
    frame: Frame,
    verb: &'static str,
    matched: String,
    none: bool,
    /// The filter in words, and as fields that the form carries on.
    conditions: Vec<(Shown, Shown)>,
    fields: Vec<(String, String)>,
    back: String,
}

/// `GET /ui/dlq`
pub(super) async fn list(State(state): State<AppState>, frame: Frame, form: Form) -> Result<Response, Problem> {
    let filter = form.only(&FILTERS);
    let filters = Filters::of(&state, &filter).await?;
    let asked = form.get("cursor").map(|cursor| filter.clone().with("cursor", cursor));
    let (listing, wrong) = match listing(&state, asked.as_ref().unwrap_or(&filter), ROWS).await {
        Ok(listing) => (listing, None),
        Err(problem) if problem.said().0 != "store_unavailable" => (Listing::default(), Some(told(&problem))),
        Err(problem) => return Err(problem),
    };
    let page = DlqPage::of(Frame { part: "dlq", ..frame }, (filters, &filter), listing, state.clock.now());
    let first = asked.is_some().then(|| filter.link("/ui/dlq"));
    Ok(render::page(&DlqPage { wrong, first, ..page }))
}

impl DlqPage {
    /// The first page of what a filter found.
    fn of(frame: Frame, (filters, filter): (Filters, &Form), listing: Listing, now: UnixMs) -> Self {
        let Listing { total, total_is_at_least, entries, cursor } = listing;
        let confirm = |verb: &str| filter.clone().with("verb", verb).link("/ui/dlq/confirm");
        let counted = text::count(total);
        let (total, all) = if total_is_at_least {
            (format!("at least {counted}"), "all".to_owned())
        } else {
            (counted.clone(), format!("all {counted}"))
        };
        Self {
            frame,
            filters,
            // Of a bound of 0 nobody knows that it is nothing.
            all: (counted != "0" || total_is_at_least).then_some(all),
            entries: entries.into_iter().map(|entry| entry.shown(now)).collect(),
            total,
            wrong: None,
            replay: confirm("replay"),
            discard: confirm("discard"),
            groups: filter.link("/ui/dlq/groups"),
            back: filter.link("/ui/dlq"),
            first: None,
            next: cursor.map(|cursor| filter.clone().with("cursor", &cursor).link("/ui/dlq")),
        }
    }
}

/// `GET /ui/dlq/{id}`
pub(super) async fn entry(
    State(state): State<AppState>,
    frame: Frame,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let entry: Entry = ask::answer(dlq::entry(State(state.clone()), id).await).await?;
    let entry = entry.shown(state.clock.now());
    Ok(render::page(&EntryPage { frame: Frame { part: "dlq", ..frame }, entry }))
}

/// `GET /ui/dlq/confirm`: how many it would be.
pub(super) async fn confirm(
    State(state): State<AppState>,
    Extension(who): Extension<Who>,
    frame: Frame,
    form: Form,
) -> Result<Response, Problem> {
    let verb = match form.get("verb") {
        Some("replay") => "replay",
        Some("discard") => "discard",
        Some(_) | None => return Err(Problem::field("verb", "invalid", "write replay or discard")),
    };
    let filter = form.only(&FILTERS);
    let matched = act::count(&state, who, &filter).await?;
    let conditions = filter.iter().map(|(name, value)| (Shown::new(name), Shown::new(value))).collect();
    let mut fields: Vec<_> = filter.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if fields.is_empty() {
        fields.push(("all".to_owned(), "true".to_owned()));
    }
    let frame = Frame { part: "dlq", ..frame };
    let (none, matched, back) = (matched == 0, text::count(matched), filter.link("/ui/dlq"));
    Ok(render::page(&Confirm { frame, verb, matched, none, conditions, fields, back }))
}

/// The entries that came last, and how many there are in all. The books know that without a walk through the DLQ, which
/// a page that refreshes itself must not cause.
pub(super) async fn newest(state: &AppState, limit: usize) -> Result<(Vec<Dead>, u64), Problem> {
    let total = state.reader.ledger().deliveries.values().map(|counts| counts.failed_permanently).sum();
    let page = state.read(move |reader| reader.dlq(&DeliveryFilter::default(), None, limit)).await?;
    let now = state.clock.now();
    let mut entries = Vec::new();
    for row in page.rows {
        let id = delivery_id(state.pipeline.instance(), row.entry.key);
        match ask::answer::<Entry>(dlq::entry(State(state.clone()), Ok(Path(id))).await).await {
            Ok(entry) => entries.push(entry.shown(now)),
            // Replayed or discarded since the page was read.
            Err(problem) if problem.said().0 == "not_found" => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok((entries, total))
}

/// What is said to be wrong with an entry, without what is about a person; nothing where it has left the DLQ.
pub(super) async fn detail(state: &AppState, id: &str) -> Result<Shown, Problem> {
    match ask::answer::<Entry>(dlq::entry(State(state.clone()), Ok(Path(id.to_owned()))).await).await {
        Ok(entry) => Ok(Mask::of(&entry.event).text(&entry.detail)),
        Err(problem) if problem.said().0 == "not_found" => Ok(Shown::default()),
        Err(problem) => Err(problem),
    }
}

async fn listing(state: &AppState, filter: &Form, limit: usize) -> Result<Listing, Problem> {
    let query = filter.clone().with("limit", &limit.to_string()).query();
    ask::answer(dlq::list(State(state.clone()), RawQuery(Some(query))).await).await
}

impl Entry {
    fn shown(self, now: UnixMs) -> Dead {
        let mask = Mask::of(&self.event);
        let of_event = |name: &str| self.event.get(name).and_then(Value::as_str).map(Shown::new);
        let when = |at: Option<&str>| at.and_then(|at| When::new(at, now));
        let request = self.request.as_ref().map(|request| Sent {
            method: request.method.clone(),
            url: mask.parameters(&request.url),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (Shown::new(name), mask.parameters(value.as_str().unwrap_or_default())))
                .collect(),
            body: mask.body(&request.body),
        });
        Dead {
            event: of_event("event").unwrap_or_default(),
            event_id: of_event("event_id"),
            event_key: of_event("id").unwrap_or_default(),
            received: when(self.event.get("received_at").and_then(Value::as_str)),
            detail: mask.text(&self.detail),
            answer: mask.body(&self.response.body),
            request,
            status: self.response.status,
            attempts: self.attempt_count,
            first: when(self.first_attempt_at.as_deref()),
            last: when(self.last_attempt_at.as_deref()),
            payload: mask.json(self.event),
            reason: self.reason.unwrap_or_default(),
            id: self.id,
            destination: self.destination,
            target: self.target,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(listing: Value) -> String {
        let listing = serde_json::from_value(listing).unwrap();
        let form = Form::default();
        DlqPage::of(Frame::default(), (Filters::default(), &form), listing, UnixMs(0)).render().unwrap()
    }

    #[test]
    fn a_total_that_is_a_bound_is_shown_as_a_bound() {
        let exact = page(json!({ "total": 1200, "entries": [], "cursor": null }));
        assert!(exact.contains("<small>1\u{202F}200 ") && exact.contains("Replay all 1\u{202F}200…"), "{exact}");
        let bound = page(json!({ "total": 1200, "total_is_at_least": true, "entries": [], "cursor": "dlv_1" }));
        assert!(bound.contains("<small>at least 1\u{202F}200 ") && bound.contains("Discard all…"), "{bound}");
        assert!(!bound.contains("all 1"), "what is asked before is counted then: {bound}");
        let unknown = page(json!({ "total": 0, "total_is_at_least": true, "entries": [], "cursor": "dlv_1" }));
        assert!(unknown.contains("Replay all…"), "none found so far is not none: {unknown}");
        assert!(!page(json!({ "total": 0, "entries": [], "cursor": null })).contains("Replay all"));
    }
}
