//! The status page: what the API says, for people with a browser. Rendered here, complete without JavaScript; a small
//! script keeps it fresh. Everything it needs is in the binary, and its policy allows nothing else.
//!
//! ```text
//! visitor::admit (who, whose form) ──> overview  log  event  dlq  groups  jobs (reading: GET) ── ask ──> the API's own handlers
//!                                  └─> act  jobs (forms: POST, then 303)  login ── ask ─┘
//! ```
//!
//! [`text::Shown`] is how a text gets onto a page, [`mask`] what is about a person and does not. Templates lie in
//! `templates/`, style, script and icon in `static/`. Absent on purpose: a text of a stranger in a link's target, in a
//! style or in a script; any change by a GET.

mod act;
mod alerts;
mod ask;
mod assets;
mod dlq;
mod event;
mod form;
mod groups;
mod jobs;
mod kind;
mod log;
mod login;
mod mask;
mod overview;
mod render;
mod session;
mod spark;
mod text;
mod visitor;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware;
use axum::routing::{get, post};

use self::form::Form;
use self::render::{Frame, Notice};
use self::session::Purpose;
pub(super) use self::visitor::Desk;
use self::visitor::Visitor;
use super::problem::Problem;
use super::{AppState, Route, routed};

const LOGIN: &str = "/ui/login";

/// What only those get who were let in, or asked to log in.
pub(super) const BEHIND: &[Route] = &[
    ("/", || get(overview::overview)),
    ("/ui/log", || get(log::log)),
    ("/ui/events/{id}", || get(event::event)),
    ("/ui/dlq", || get(dlq::list)),
    ("/ui/dlq/groups", || get(groups::groups)),
    ("/ui/dlq/confirm", || get(dlq::confirm)),
    ("/ui/dlq/{id}", || get(dlq::entry)),
    ("/ui/dlq/replay", || post(act::replay)),
    ("/ui/dlq/discard", || post(act::discard)),
    ("/ui/jobs", || get(jobs::list)),
    ("/ui/jobs/{id}/cancel", || post(jobs::cancel)),
    ("/ui/destinations/{name}/{verb}", || post(act::destination)),
    ("/ui/logout", || post(login::logout)),
    (LOGIN, || get(login::show).post(login::login)),
];

/// What a login needs too.
pub(super) const ASSETS: &[Route] = &[("/ui/assets/{name}", || get(assets::asset))];

pub(super) fn router(state: &AppState) -> Router<AppState> {
    let behind = routed(BEHIND).layer(middleware::from_fn_with_state(state.clone(), visitor::admit));
    behind.merge(routed(ASSETS))
}

/// A link that leads to a page which says `notice`. The seal keeps others from putting words into our mouth.
fn noticed(state: &AppState, visitor: &Visitor, back: &str, notice: &str) -> String {
    let (path, query) = back.split_once('?').unwrap_or((back, ""));
    let form = Form::parse(query.as_bytes()).unwrap_or_default();
    let seal = state.desk.mac(Purpose::Notice, &[&visitor.id, notice]).unwrap_or_default();
    form.with("notice", notice).with("seal", &seal).link(path)
}

/// A path of the page itself, to go back to after a form; anything else is the first page.
fn own_path(given: Option<&str>) -> &str {
    let ours = |path: &&str| *path == "/" || path.starts_with("/?") || path.starts_with("/ui/");
    given.filter(ours).filter(|path| path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')).unwrap_or("/")
}

/// The frame of a page that was let in, with the notice it came with.
impl FromRequestParts<AppState> for Frame {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
        let told = query.get("notice").zip(query.get("seal"));
        let ours = |(notice, seal): &(&str, &str)| {
            state.desk.mac(Purpose::Notice, &[&visitor.id, notice]).is_some_and(|mac| mac == *seal)
        };
        let notice = told.filter(ours).map(|(notice, _)| Notice::new(notice));
        Ok(Self { csrf: visitor.csrf, logged_in: visitor.logged_in, notice, part: "" })
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::internal("this page has no visitor"))
    }
}
