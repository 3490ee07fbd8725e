//! The DLQ by what went wrong: each group with a link to its entries, and to the question before they are replayed.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Deserialize;

use super::ask;
use super::dlq::{FILTERS, detail};
use super::form::Form;
use super::log::told;
use super::render::{self, Frame};
use super::text::{self, Shown, When};
use crate::domain::time::UnixMs;
use crate::http::problem::Problem;
use crate::http::{AppState, dlq};

/// What an answer of the API says: it looks for a bounded time, so that counts may be bounds.
#[derive(Debug, Default, Deserialize)]
struct Listing {
    entries: u64,
    complete: bool,
    groups: Vec<Told>,
    others: u64,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Told {
    count: u64,
    destination: Shown,
    reason: Shown,
    response_status: Option<u16>,
    fault: Shown,
    sample: String,
    /// Of the sample, filled in here: only its event tells which words are about a person.
    #[serde(skip)]
    detail: Shown,
    last_at: String,
    filter: serde_json::Map<String, serde_json::Value>,
}

/// A group as it is shown.
struct Group {
    count: String,
    destination: Shown,
    reason: Shown,
    status: Option<u16>,
    fault: Shown,
    detail: Shown,
    last: Option<When>,
    link: String,
    replay: String,
}

#[derive(Template)]
#[template(path = "groups.html", config = "src/http/page/askama.toml")]
struct GroupsPage {
    frame: Frame,
    groups: Vec<Group>,
    /// How many entries were looked at, in words.
    counted: String,
    others: Option<String>,
    wrong: Option<Shown>,
    /// The same entries, one by one.
    list: String,
    next: Option<String>,
}

/// `GET /ui/dlq/groups`
pub(super) async fn groups(State(state): State<AppState>, frame: Frame, form: Form) -> Result<Response, Problem> {
    let filter = form.only(&FILTERS);
    let asked = form.get("cursor").map_or_else(|| filter.clone(), |cursor| filter.clone().with("cursor", cursor));
    let answer = dlq::groups(State(state.clone()), RawQuery(Some(asked.query()))).await;
    let (mut listing, wrong) = match ask::answer::<Listing>(answer).await {
        Ok(listing) => (listing, None),
        Err(problem) if problem.said().0 != "store_unavailable" => (Listing::default(), Some(told(&problem))),
        Err(problem) => return Err(problem),
    };
    for group in &mut listing.groups {
        group.detail = detail(&state, &group.sample).await?;
    }
    let page = GroupsPage::of(Frame { part: "dlq", ..frame }, &filter, listing, state.clock.now());
    Ok(render::page(&GroupsPage { wrong, ..page }))
}

impl GroupsPage {
    fn of(frame: Frame, filter: &Form, listing: Listing, now: UnixMs) -> Self {
        let Listing { entries, complete, groups, others, cursor } = listing;
        // The counts of a part are bounds, and are told as such.
        let bound = |number: u64| {
            let number = text::count(number);
            if complete { number } else { format!("at least {number}") }
        };
        Self {
            frame,
            counted: format!("{}{} looked at", if complete { "all " } else { "" }, text::count(entries)),
            others: (others > 0).then(|| bound(others)),
            groups: groups.into_iter().map(|told| told.shown(bound, now)).collect(),
            wrong: None,
            list: filter.link("/ui/dlq"),
            next: cursor.map(|cursor| filter.clone().with("cursor", &cursor).link("/ui/dlq/groups")),
        }
    }
}

impl Told {
    fn shown(self, bound: impl Fn(u64) -> String, now: UnixMs) -> Group {
        let fields = self.filter.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        let here = fields.fold(Form::default(), |form, (name, value)| form.with(name, value));
        Group {
            count: bound(self.count),
            last: When::new(&self.last_at, now),
            link: here.link("/ui/dlq"),
            replay: here.with("verb", "replay").link("/ui/dlq/confirm"),
            destination: self.destination,
            reason: self.reason,
            status: self.response_status,
            fault: self.fault,
            detail: self.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_counts_of_a_part_are_shown_as_bounds_and_lead_on() {
        let group = json!({
            "count": 7, "destination": "crm", "reason": "permanent", "response_status": 400, "fault": "0123456789ab",
            "sample": "dlv_1", "last_at": "2026-11-26T01:33:35.583Z", "filter": { "destination": "crm", "fault": "0123456789ab" }
        });
        let mut listing = json!({ "entries": 9, "complete": false, "groups": [group], "others": 2, "cursor": "dlv_5" });
        let page = |listing: &serde_json::Value| {
            let listing = serde_json::from_value(listing.clone()).unwrap();
            GroupsPage::of(Frame::default(), &Form::default().with("since", "-2h"), listing, UnixMs(0))
                .render()
                .unwrap()
        };
        let part = page(&listing);
        for wanted in
            [">at least 7<", "at least 2 are", "groups?cursor=dlv_5", "/ui/dlq?destination=crm", "verb=replay"]
        {
            assert!(part.contains(wanted), "{wanted} is not in {part}");
        }
        (listing["complete"], listing["cursor"]) = (true.into(), json!(null));
        let whole = page(&listing);
        assert!(whole.contains(">7<") && whole.contains("all 9 looked at") && !whole.contains("cursor"), "{whole}");
    }
}
