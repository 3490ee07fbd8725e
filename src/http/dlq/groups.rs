//! `GET /v1/dlq/groups`: the dead by what went wrong, each group with the filter that selects exactly it.
//!
//! Looks at entries for a bounded time, newest receipt first. What it could not look at is behind `cursor`; until there is none,
//! every count means "at least". Who follows it adds the groups of the same key together.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::id::InstanceId;
use crate::http::AppState;
use crate::http::dto::delivery_id;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::query::{DEAD_KEYS, FILTER_KEYS, Frame, Names, Query, among_the_dead};
use crate::http::walk::{self, walk};
use crate::pipeline::faults::{Faults, Group, GroupKey};
use crate::store::read::Answered;

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// Entries looked at.
    entries: u64,
    /// Whether these were all; else counts mean "at least".
    complete: bool,
    groups: Vec<GroupDto<'a>>,
    /// Entries in none of the groups: only so many are told apart.
    others: u64,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct GroupDto<'a> {
    count: u64,
    destination: String,
    reason: &'a str,
    response_status: Option<u16>,
    fault: String,
    detail: &'a str,
    first_at: String,
    last_at: String,
    sample: String,
    /// As replay, discard, list and export take it.
    filter: Map<String, Value>,
}

pub(crate) async fn groups(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&FILTER_KEYS, &DEAD_KEYS, &["cursor"]])?;
    let instance = state.pipeline.instance();
    let names = state.names().await?;
    let filter = query.filter(Frame { names: &names, now: state.clock.now() })?;
    among_the_dead(&filter, "").map_err(Problem::fields)?;
    let after = query.window(instance)?.after;
    let mut faults = Faults::default();
    let page = |after| {
        let (state, filter) = (state.clone(), filter.clone());
        async move { state.read(move |reader| reader.dlq(&filter, after, walk::ROWS)).await }
    };
    let cursor = walk(&*state.clock, after, page, |row| faults.take(row)).await?;
    let groups = faults.ranked().into_iter().map(|(key, group)| shown(key, group, instance, &names, &query)).collect();
    let Faults { others, entries, .. } = faults;
    let complete = cursor.is_none() && query.get("cursor").is_none();
    let cursor = cursor.map(|key| delivery_id(instance, key));
    Ok(Json(Listing { entries, complete, groups, others, cursor }).into_response())
}

fn shown<'a>(key: &GroupKey, group: &'a Group, instance: InstanceId, names: &Names, query: &Query) -> GroupDto<'a> {
    let status = match key.answered {
        Answered::Nothing => None,
        Answered::Status(status) => Some(status),
    };
    let destination = names.shown(key.destination);
    let own = [
        ("destination", destination.clone()),
        ("reason", key.reason.to_owned()),
        ("response_status", status.map_or_else(|| "none".to_owned(), |status| status.to_string())),
        ("fault", key.fault.to_string()),
    ];
    // What the request asked for narrows the group, and so must its filter.
    let asked = ["event", "uid", "event_id", "detail", "since", "until"];
    let asked = asked.into_iter().filter_map(|name| Some((name, query.get(name)?.to_owned())));
    GroupDto {
        count: group.count,
        destination,
        reason: key.reason,
        response_status: status,
        fault: key.fault.to_string(),
        detail: &group.form,
        first_at: group.first_at.to_rfc3339(),
        last_at: group.last_at.to_rfc3339(),
        sample: delivery_id(instance, group.sample),
        filter: own.into_iter().chain(asked).map(|(name, value)| (name.to_owned(), value.into())).collect(),
    }
}
