//! From a template to an answer: the frame around every page, and the headers that keep a browser from doing more than
//! showing it.

use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use super::text::Shown;
use crate::domain::id::JobId;
use crate::http::problem::Problem;

/// Nothing from elsewhere, nothing inline, no frame around it, no form to elsewhere. The icon is the one image, and the
/// refresh the one connection.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What every page has around its own part.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) csrf: String,
    pub(super) logged_in: bool,
    /// What came of the form that led here.
    pub(super) notice: Option<Notice>,
    /// Which part of the page it is; marks the link to it.
    pub(super) part: &'static str,
}

/// What came of a form, with the job that it started as a link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Notice {
    pub(super) before: Shown,
    pub(super) job: Option<Shown>,
    pub(super) after: Shown,
}

impl Notice {
    pub(super) fn new(text: &str) -> Self {
        let is_job = |word: &&str| word.parse::<JobId>().is_ok();
        let job = text.split([' ', ';', ',', ':']).find(is_job);
        match job.and_then(|job| Some((job, text.split_once(job)?))) {
            Some((job, (before, after))) => {
                Self { before: Shown::new(before), job: Some(Shown::new(job)), after: Shown::new(after) }
            }
            None => Self { before: Shown::new(text), ..Self::default() },
        }
    }
}

impl Frame {
    pub(super) fn alone(csrf: &str) -> Self {
        Self { csrf: csrf.to_owned(), ..Self::default() }
    }
}

/// A page as an answer.
pub(super) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => guarded(Html(text).into_response()),
        Err(error) => {
            tracing::error!(%error, "A page could not be made.");
            guarded(Problem::internal("the page could not be made; the log says why").into_response())
        }
    }
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        // Other sites learn nothing. With no-referrer a browser would leave the origin out of our own forms as well.
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// On to another page of ours.
pub(super) fn see(link: &str) -> Response {
    let link = HeaderValue::try_from(link).unwrap_or_else(|_| HeaderValue::from_static("/"));
    guarded((StatusCode::SEE_OTHER, [(header::LOCATION, link)]).into_response())
}

/// The same page, asked for by itself.
pub(super) fn again() -> Response {
    let mut response = page(&Again { frame: Frame::default() });
    response.headers_mut().insert(header::REFRESH, HeaderValue::from_static("0"));
    response
}

/// Path and query of a request for a page.
pub(super) fn here(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// An error as a page, with the status and the headers it has in the API.
pub(super) async fn problem(frame: Frame, problem: impl IntoResponse) -> Response {
    let (head, body) = problem.into_response().into_parts();
    let said = super::ask::read::<Said>(body).await.unwrap_or_default();
    let mut response = page(&ProblemPage { frame, said });
    *response.status_mut() = head.status;
    carry(&head.headers, response.headers_mut());
    response
}

fn carry(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::ALLOW, header::CONNECTION] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

#[derive(Template)]
#[template(path = "again.html", config = "src/http/page/askama.toml")]
struct Again {
    frame: Frame,
}

#[derive(Template)]
#[template(path = "problem.html", config = "src/http/page/askama.toml")]
struct ProblemPage {
    frame: Frame,
    said: Said,
}

/// What an error of the API says.
#[derive(Debug, Default, Deserialize)]
struct Said {
    status: u16,
    title: Shown,
    detail: Shown,
    path: Option<Shown>,
    #[serde(default)]
    errors: Vec<SaidField>,
    /// Where a sender's id stands for several events: which.
    #[serde(default)]
    events: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
struct SaidField {
    path: Shown,
    detail: Shown,
}
