//! Who looks at the page, and whether a form comes from it.
//!
//! Who may look is decided by the rule of the admin paths; where that asks for the admin token, a login is as good as
//! the token. A form must come from a page of ours, whoever sends it: a browser says so in `Sec-Fetch-Site` or `Origin`,
//! and the form carries the token of the visitor it was made for. Both are asked for also on loopback without any login,
//! where a page of another site could otherwise make the operator's browser post one. Reading changes nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::form::Form;
use super::render::{self, Frame};
use super::session::{Guesses, Key, Purpose, SESSION, Sessions, fresh_id, is_id};
use crate::http::problem::Problem;
use crate::http::{AppState, auth, body};

const PROBLEM: &str = "application/problem+json";
const COOKIE: &str = "postbackd_desk";
/// A form of ours is a filter, an id and a reason.
const FORM_BYTES: usize = 32 * 1024;

/// What the page remembers.
#[derive(Default)]
pub(in crate::http) struct Desk {
    keys: Option<Keys>,
}

struct Keys {
    key: Key,
    sessions: Mutex<Sessions>,
    guesses: Mutex<Guesses>,
}

impl Desk {
    pub(in crate::http) fn new() -> Self {
        let keys = |key| Keys { key, sessions: Mutex::default(), guesses: Mutex::default() };
        Self { keys: Key::random().map(keys) }
    }

    pub(super) fn sessions(&self) -> Option<MutexGuard<'_, Sessions>> {
        self.keys.as_ref().map(|keys| keys.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn guesses(&self) -> Option<MutexGuard<'_, Guesses>> {
        self.keys.as_ref().map(|keys| keys.guesses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `None` where the system gave no randomness for a key.
    pub(super) fn mac(&self, purpose: Purpose, parts: &[&str]) -> Option<String> {
        self.keys.as_ref().map(|keys| keys.key.mac(purpose, parts))
    }
}

/// Whose page it is.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) id: String,
    /// What the forms of the page carry.
    pub(super) csrf: String,
    /// Whether there is a login that can be ended.
    pub(super) logged_in: bool,
}

/// Stands before every path of the page.
pub(super) async fn admit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let known = cookie(request.headers()).map(str::to_owned);
    if known.is_none() && is_navigation_from_elsewhere(request.headers()) {
        // The cookie is not sent along with a link of another site; asked for from here, it is.
        return render::again();
    }
    let id = known.clone().or_else(fresh_id);
    let Some((id, csrf)) = id.and_then(|id| state.desk.mac(Purpose::Form, &[&id]).map(|csrf| (id, csrf))) else {
        let detail = "the system has no randomness to give, so that no form could be told from a forged one";
        let none = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", "Not now", detail);
        return render::problem(Frame::alone(""), none).await;
    };
    let logged_in = is_logged_in(&state, &id);
    let visitor = Visitor { id, csrf, logged_in };
    let cookie = known.is_none().then(|| set_cookie(&visitor.id, None, request.headers()));
    let mut response = match entry(&state, &visitor, &mut request).await {
        Ok(()) => {
            let frame = Frame { csrf: visitor.csrf.clone(), logged_in, ..Frame::default() };
            let who = auth::who(&state.pipeline.snapshot().server, &request);
            request.extensions_mut().insert(who);
            request.extensions_mut().insert(visitor);
            let response = next.run(request).await;
            // What the API tells programs is told to people here.
            let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
            if is_problem { render::problem(frame, response).await } else { response }
        }
        Err(response) => response,
    };
    if let Some(cookie) = cookie
        && !response.headers().contains_key(header::SET_COOKIE)
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Whether the request may go on; the form of a POST is read on the way.
async fn entry(state: &AppState, visitor: &Visitor, request: &mut Request) -> Result<(), Response> {
    let frame = || Frame { csrf: visitor.csrf.clone(), logged_in: visitor.logged_in, ..Frame::default() };
    let posts = request.method() != Method::GET && request.method() != Method::HEAD;
    let logs_in = posts && request.uri().path() == super::LOGIN;
    let needs_token = state.pipeline.snapshot().server.admin_token.is_some();
    if let Some(problem) = auth::refused(state, request)
        && !(needs_token && (visitor.logged_in || logs_in))
    {
        return Err(if needs_token && !posts {
            super::login::form(frame(), render::here(request.uri()), None)
        } else {
            render::problem(frame(), problem).await
        });
    }
    if !posts {
        return Ok(());
    }
    if !is_same_origin(request.headers()) {
        return Err(render::problem(frame(), forged("it does not come from a page of this daemon")).await);
    }
    let (head, bytes) = std::mem::take(request).into_parts();
    let read = body::read(&head.headers, bytes, FORM_BYTES, &state.bodies).await;
    let form = match read.and_then(|(bytes, _share)| Form::parse(&bytes)) {
        Ok(form) => form,
        Err(problem) => return Err(render::problem(frame(), problem).await),
    };
    if !bool::from(form.get("csrf").unwrap_or_default().as_bytes().ct_eq(visitor.csrf.as_bytes())) {
        let why = "its token is not the one of this browser: the page was open since before a restart or a login";
        return Err(render::problem(frame(), forged(why)).await);
    }
    *request = Request::from_parts(head, axum::body::Body::empty());
    request.extensions_mut().insert(form);
    Ok(())
}

fn forged(why: &str) -> Problem {
    let detail =
        format!("the form was refused and nothing was changed: {why}; open the page anew and send it from there");
    Problem::new(StatusCode::FORBIDDEN, "form_refused", "Forbidden", detail)
}

/// Whether the visitor has logged in with what is still the admin token.
fn is_logged_in(state: &AppState, id: &str) -> bool {
    let snapshot = state.pipeline.snapshot();
    let Some(token) = &snapshot.server.admin_token else { return false };
    let macs = state.desk.mac(Purpose::Session, &[id]).zip(state.desk.mac(Purpose::Token, &[token.expose()]));
    let now = state.clock.monotonic();
    macs.zip(state.desk.sessions()).is_some_and(|((who, token), sessions)| sessions.is_open(&who, &token, now))
}

/// The visitor's id; of several cookies of the name the first that has its form.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, id)| *name == COOKIE && is_id(id)).map(|(_, id)| id).next()
}

/// The cookie of a visitor. One that is logged in goes with the session, another with the browser.
pub(super) fn set_cookie(id: &str, session: Option<()>, headers: &HeaderMap) -> HeaderValue {
    let secure = if came_by_https(headers) { "; Secure" } else { "" };
    let age = session.map(|()| format!("; Max-Age={}", SESSION.as_secs())).unwrap_or_default();
    let text = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict{age}{secure}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn came_by_https(headers: &HeaderMap) -> bool {
    let first = text(headers, "x-forwarded-proto").and_then(|list| list.split(',').next());
    first.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

/// Whether a browser says that a page of this very origin sent it. One that says nothing is not believed.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = text(headers, "sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    match text(headers, "origin") {
        // Behind a reverse proxy the name by which the browser knows us may be the forwarded one.
        Some(origin) => {
            let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            let ours = [text(headers, "host"), text(headers, "x-forwarded-host")];
            name.is_some_and(|name| ours.into_iter().flatten().any(|host| host.eq_ignore_ascii_case(name)))
        }
        None => site.is_some(),
    }
}

fn is_navigation_from_elsewhere(headers: &HeaderMap) -> bool {
    text(headers, "sec-fetch-site") == Some("cross-site") && text(headers, "sec-fetch-mode") == Some("navigate")
}

/// A header that stands once.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[test]
    fn only_a_page_of_ours_may_send_a_form() {
        let host = ("host", "127.0.0.1:8460");
        for good in [
            &[host, ("origin", "http://127.0.0.1:8460"), ("sec-fetch-site", "same-origin")][..],
            &[host, ("origin", "http://127.0.0.1:8460")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "https://desk.example"), ("x-forwarded-host", "desk.example")],
            &[("host", "Desk.example"), ("origin", "https://desk.example")],
        ] {
            assert!(is_same_origin(&headers(good)), "{good:?}");
        }
        for bad in [
            &[host][..],
            &[host, ("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
            &[host, ("origin", "http://127.0.0.1:3000"), ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://127.0.0.1:3000")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "127.0.0.1:8460")],
            &[host, ("origin", "http://127.0.0.1:8460"), ("origin", "https://evil.example")],
            &[("origin", "http://127.0.0.1:8460")],
        ] {
            assert!(!is_same_origin(&headers(bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_this_host_alone_and_no_script() {
        let id = fresh_id().unwrap();
        let plain = set_cookie(&id, None, &headers(&[]));
        assert_eq!(plain.to_str().unwrap(), format!("postbackd_desk={id}; Path=/; HttpOnly; SameSite=Strict"));
        let behind_tls = set_cookie(&id, Some(()), &headers(&[("x-forwarded-proto", "https")]));
        assert!(behind_tls.to_str().unwrap().ends_with("; SameSite=Strict; Max-Age=43200; Secure"));
        let sent = headers(&[("cookie", &format!("a=b; postbackd_desk=x; postbackd_desk={id}"))]);
        assert_eq!(cookie(&sent), Some(id.as_str()), "what has not the form of an id is passed over");
    }
}
