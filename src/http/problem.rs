//! Errors as `application/problem+json` (RFC 9457): what is wrong, where, and what to write instead.
//!
//! Members: `type title status code detail`, `path` where one field is at fault, `errors` where several are. `code` is
//! stable, texts are for people. A detail may quote what a stranger sent, so control characters never pass.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::json;
use crate::domain::event::Object;
use crate::domain::message::printable;
use crate::pipeline::Unavailable;
use crate::store::StoreError;

/// A detail is a sentence or three; more is cut.
const DETAIL_BYTES: usize = 2048;

/// One wrong field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct FieldError {
    /// `$.field`, `$[3].field`, or the name of a query parameter.
    pub(crate) path: String,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl FieldError {
    pub(crate) fn new(path: impl Into<String>, code: &'static str, detail: impl AsRef<str>) -> Self {
        let detail = printable(detail.as_ref().as_bytes(), DETAIL_BYTES);
        Self { path: path.into(), code, detail }
    }
}

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    path: Option<String>,
    errors: Vec<FieldError>,
    members: Object,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    members: &'a Object,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl AsRef<str>) -> Self {
        let detail = printable(detail.as_ref().as_bytes(), DETAIL_BYTES);
        let (path, errors, members, headers) = (None, Vec::new(), Object::new(), Vec::new());
        Self(Box::new(Inner { status, code, title, detail, path, errors, members, headers }))
    }

    /// 422 for wrong fields: one is named by `path`, several by `errors`.
    pub(crate) fn fields(mut errors: Vec<FieldError>) -> Self {
        let title = "Some of it cannot be accepted";
        if errors.len() == 1
            && let Some(only) = errors.pop()
        {
            let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, only.code, title, only.detail);
            problem.0.path = Some(only.path);
            return problem;
        }
        let detail = format!("{} fields are wrong; each is listed in errors", errors.len());
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", title, detail);
        problem.0.errors = errors;
        problem
    }

    pub(crate) fn field(path: impl Into<String>, code: &'static str, detail: impl AsRef<str>) -> Self {
        Self::fields(vec![FieldError::new(path, code, detail)])
    }

    pub(crate) fn not_found(detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// Something of ours went wrong that the caller cannot mend.
    pub(crate) fn internal(detail: impl AsRef<str>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// Whether it says that the input is too large.
    pub(crate) fn is_too_large(&self) -> bool {
        self.0.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Whether the same request is worth sending again as it is.
    pub(crate) fn is_for_later(&self) -> bool {
        matches!(self.0.code, "backlog" | "body_timeout" | "body_incomplete")
    }

    /// Code, path and detail of what is wrong first, for the log.
    pub(crate) fn said(&self) -> (&'static str, &str, &str) {
        match self.0.errors.first() {
            Some(first) => (first.code, &first.path, &first.detail),
            None => (self.0.code, self.0.path.as_deref().unwrap_or_default(), &self.0.detail),
        }
    }

    /// The same problem under another status.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// A further member of the body.
    pub(crate) fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// The connection is closed after this answer.
    pub(crate) fn closing(self) -> Self {
        self.with_header(header::CONNECTION, "close")
    }

    /// The body as it is sent.
    fn body(&self) -> Vec<u8> {
        let Inner { status, code, title, detail, path, errors, members, .. } = &*self.0;
        let body = Body {
            r#type: format!("urn:postbackd:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail,
            path: path.as_deref(),
            errors,
            members,
        };
        json::bytes(&body).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.0.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        for (name, value) in self.0.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// Nothing was taken, and the sender should come again: always with `Retry-After`.
impl From<Unavailable> for Problem {
    fn from(cause: Unavailable) -> Self {
        let detail = format!("{cause}; send the same again later, a repeat is recognised");
        let (status, code, title, wait) = match cause {
            Unavailable::Backlog => (StatusCode::TOO_MANY_REQUESTS, "backlog", "Too many requests", "1"),
            Unavailable::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "Store unavailable", "5"),
            Unavailable::Slow => (StatusCode::SERVICE_UNAVAILABLE, "store_slow", "The store is slow", "5"),
            Unavailable::Disk => (StatusCode::SERVICE_UNAVAILABLE, "disk_low", "Disk space is low", "30"),
            Unavailable::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "The daemon is stopping", "5"),
        };
        Self::new(status, code, title, detail).with_header(header::RETRY_AFTER, wait)
    }
}

/// The store could not be read.
impl From<StoreError> for Problem {
    fn from(cause: StoreError) -> Self {
        tracing::error!(error = %cause, "The store could not be read.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "Store unavailable", cause.to_string())
            .with_header(header::RETRY_AFTER, "5")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The body as pretty JSON, for snapshots.
    pub(crate) fn shown(problem: &Problem) -> String {
        let body: Value = serde_json::from_slice(&problem.body()).unwrap();
        serde_json::to_string_pretty(&body).unwrap()
    }

    #[test]
    fn one_wrong_field_is_named_by_path() {
        insta::assert_snapshot!(shown(&Problem::field("$.event", "required", "write the event's name")), @r#"
        {
          "type": "urn:postbackd:problem:required",
          "title": "Some of it cannot be accepted",
          "status": 422,
          "code": "required",
          "detail": "write the event's name",
          "path": "$.event"
        }
        "#);
    }

    #[test]
    fn several_wrong_fields_are_listed() {
        let errors = vec![FieldError::new("$.a", "type", "one"), FieldError::new("$.b", "invalid", "two")];
        insta::assert_snapshot!(shown(&Problem::fields(errors)), @r#"
        {
          "type": "urn:postbackd:problem:invalid_fields",
          "title": "Some of it cannot be accepted",
          "status": 422,
          "code": "invalid_fields",
          "detail": "2 fields are wrong; each is listed in errors",
          "errors": [
            {
              "path": "$.a",
              "code": "type",
              "detail": "one"
            },
            {
              "path": "$.b",
              "code": "invalid",
              "detail": "two"
            }
          ]
        }
        "#);
    }

    #[test]
    fn whoever_must_wait_is_told_how_long() {
        for (cause, status) in [
            (Unavailable::Backlog, 429),
            (Unavailable::Store("x".to_owned()), 503),
            (Unavailable::Slow, 503),
            (Unavailable::Disk, 503),
            (Unavailable::Stopping, 503),
        ] {
            let response = Problem::from(cause).into_response();
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn control_characters_of_strangers_do_not_pass() {
        let body = Problem::field("$.x", "invalid", "\u{1b}[31m\u{9b}2J\u{7}").body();
        assert!(String::from_utf8(body).unwrap().chars().all(|letter| !letter.is_control()));
    }
}
