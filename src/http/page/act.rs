//! What forms do: replay and discard, pause, resume and release. Each is the API's own verb with the form's fields for a
//! body, and leads back to where the form was with a notice of what came of it.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::visitor::Visitor;
use super::{ask, dlq as desk, noticed, own_path, render, text};
use crate::domain::audit::Who;
use crate::http::destinations::Word;
use crate::http::problem::Problem;
use crate::http::{AppState, destinations, dlq};

/// The API's answer to a replay or a discard.
#[derive(Debug, Deserialize)]
struct Done {
    matched: u64,
    replayed: Option<u64>,
    discarded: Option<u64>,
    /// What is left is worked on behind our back.
    job: Option<text::Shown>,
}

/// The API's answer to a verb for a destination.
#[derive(Debug, Deserialize)]
struct Lane {
    state: text::Shown,
    until: Option<text::Shown>,
}

/// How many entries a filter matches; none changes.
pub(super) async fn count(state: &AppState, who: Who, filter: &Form) -> Result<u64, Problem> {
    let mut order = order(&if filter.is_empty() { filter.clone().with("all", "true") } else { filter.clone() });
    order.insert("dry_run".to_owned(), true.into());
    let to = (State(state.clone()), Extension(who));
    let done: Done = ask::answer(dlq::replay(to.0, to.1, HeaderMap::new(), body(order)).await).await?;
    Ok(done.matched)
}

/// `POST /ui/dlq/replay`
pub(super) async fn replay(
    State(state): State<AppState>,
    who: Extension<Who>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let mut order = order(&form);
    put(&mut order, "rate", form.get("rate"));
    let answer = dlq::replay(State(state.clone()), who, HeaderMap::new(), body(order)).await;
    let done: Done = ask::answer(answer).await?;
    let changed = done.replayed.unwrap_or_default();
    let notice = done.notice(changed, "replayed: it is owed again", "replayed: they are owed again");
    Ok(render::see(&noticed(&state, &visitor, own_path(form.get("back")), &notice)))
}

/// `POST /ui/dlq/discard`
pub(super) async fn discard(
    State(state): State<AppState>,
    who: Extension<Who>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let mut order = order(&form);
    // In a filter "reason" is that of the death; the operator's own words have a name of their own in the form.
    put(&mut order, "reason", form.get("why"));
    let answer = dlq::discard(State(state.clone()), who, HeaderMap::new(), body(order)).await;
    let done: Done = ask::answer(answer).await?;
    let notice = done.notice(done.discarded.unwrap_or_default(), "discarded", "discarded");
    Ok(render::see(&noticed(&state, &visitor, own_path(form.get("back")), &notice)))
}

/// `POST /ui/destinations/{name}/pause`, `…/resume`, `…/release`
pub(super) async fn destination(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
    Extension(who): Extension<Who>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let Path((name, verb)) = path.map_err(|_| Problem::not_found("there is no such form"))?;
    let mut said = Map::new();
    let word = match verb.as_str() {
        "pause" => {
            put(&mut said, "reason", form.get("reason"));
            put(&mut said, "for", form.get("for"));
            Word::Pause
        }
        "resume" => Word::Resume,
        "release" => Word::Release,
        _ => return Err(Problem::not_found("there is no such form; there are pause, resume and release")),
    };
    let found = destinations::find(&state, Ok(Path(name.clone())))?;
    let answer = destinations::obey(&state, (word, who), found, &said).await;
    let Lane { state: lane, until } = ask::answer(answer).await?;
    let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
    let notice = format!("{name} is {lane}{until}");
    Ok(render::see(&noticed(&state, &visitor, own_path(form.get("back")), &notice)))
}

/// Which deliveries: the one of an entry's own form, those of a filter, or all where the form says so. A form that says
/// nothing makes an empty filter, which the API refuses.
fn order(form: &Form) -> Map<String, Value> {
    let filter = form.only(&desk::FILTERS);
    let mut order = Map::new();
    match (form.get("id"), form.get("all")) {
        (Some(id), _) => order.insert("ids".to_owned(), json!([id])),
        (None, Some(all)) if filter.is_empty() => order.insert("all".to_owned(), (all == "true").into()),
        (None, _) => {
            let conditions: Map<String, Value> =
                filter.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            order.insert("filter".to_owned(), conditions.into())
        }
    };
    order
}

fn put(order: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    order.extend(value.map(|value| (name.to_owned(), value.into())));
}

fn body(order: Map<String, Value>) -> Body {
    Body::from(Value::Object(order).to_string())
}

impl Done {
    fn notice(&self, changed: u64, one: &str, many: &str) -> String {
        let counted = |number: u64| match number {
            1 => format!("1 delivery {one}"),
            number => format!("{} deliveries {many}", text::count(number)),
        };
        match &self.job {
            Some(job) if changed == 0 => format!("{} matched; {job} works on them", text::count(self.matched)),
            Some(job) => {
                format!("{}; {} matched, {job} works on the rest", counted(changed), text::count(self.matched))
            }
            None if self.matched == 0 => "nothing matched: what you saw may have been worked on since".to_owned(),
            None => counted(changed),
        }
    }
}
