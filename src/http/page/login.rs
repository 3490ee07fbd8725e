//! Logging in with the admin token, and out again.

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::form::Form;
use super::render::{self, Frame};
use super::session::{GUESS_WINDOW, Purpose, fresh_id};
use super::visitor::{Visitor, set_cookie};
use crate::http::AppState;
use crate::http::auth::Peer;
use crate::http::problem::Problem;

#[derive(Template)]
#[template(path = "login.html", config = "src/http/page/askama.toml")]
struct Login {
    frame: Frame,
    /// Where to go afterwards.
    next: String,
    /// What was wrong with the last try.
    wrong: Option<String>,
}

/// The form that asks for the admin token; 401, since nothing else is shown.
pub(super) fn form(frame: Frame, next: String, wrong: Option<String>) -> Response {
    let mut response = render::page(&Login { frame, next, wrong });
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"postbackd\""));
    response
}

/// `GET /ui/login`: for whoever is let in already there is nothing to do.
pub(super) async fn show() -> Response {
    render::see("/")
}

/// `POST /ui/login`
pub(super) async fn login(
    State(state): State<AppState>,
    visitor: Visitor,
    frame: Frame,
    form: Form,
    request: Request,
) -> Result<Response, Problem> {
    let snapshot = state.pipeline.snapshot();
    let Some(wanted) = &snapshot.server.admin_token else { return Ok(render::see("/")) };
    let next = super::own_path(form.get("next")).to_owned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.network());
    let now = state.clock.monotonic();
    let may_guess = peer.zip(state.desk.guesses()).is_some_and(|(peer, mut guesses)| guesses.take(peer, now));
    if !may_guess {
        tracing::warn!(peer = ?peer, "Too many wrong admin tokens on the status page; this address has to wait.");
        let wait = GUESS_WINDOW.as_secs();
        let why = format!("too many wrong tokens from this address; try again in {wait} s");
        let mut response = self::form(frame, next, Some(why));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        return Ok(response);
    }
    let given = form.get("token").unwrap_or_default();
    if !bool::from(wanted.expose().as_bytes().ct_eq(given.as_bytes())) {
        let why = "this is not the admin token; compare server.admin_token".to_owned();
        return Ok(self::form(frame, next, Some(why)));
    }
    let opened = fresh_id().and_then(|id| {
        let who = state.desk.mac(Purpose::Session, &[&id])?;
        let token = state.desk.mac(Purpose::Token, &[wanted.expose()])?;
        state.desk.sessions()?.open(who, token, now);
        Some(id)
    });
    let Some(id) = opened else { return Err(Problem::internal("the system has no randomness to give; try again")) };
    if let Some((peer, mut guesses)) = peer.zip(state.desk.guesses()) {
        guesses.forgive(peer);
    }
    close(&state, &visitor);
    tracing::info!(peer = ?peer, "An operator logged in to the status page.");
    Ok(with_cookie(render::see(&next), &id, Some(()), request.headers()))
}

/// `POST /ui/logout`
pub(super) async fn logout(State(state): State<AppState>, visitor: Visitor, headers: HeaderMap) -> Response {
    close(&state, &visitor);
    match fresh_id() {
        Some(id) => with_cookie(render::see("/"), &id, None, &headers),
        None => render::see("/"),
    }
}

fn close(state: &AppState, visitor: &Visitor) {
    if let Some((who, mut sessions)) = state.desk.mac(Purpose::Session, &[&visitor.id]).zip(state.desk.sessions()) {
        sessions.close(&who);
    }
}

fn with_cookie(mut response: Response, id: &str, session: Option<()>, headers: &HeaderMap) -> Response {
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(id, session, headers));
    response
}
