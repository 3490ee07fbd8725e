//! Kind `s2s_postback`: a URL with macros, as affiliate networks take conversions.
//!
//! `GET` sends the rendered template. `POST` sends its query as the URL has it, as a form, or as a JSON object of texts;
//! a form body is the query letter by letter, never taken apart and rebuilt.
//!
//! An answer is judged by its status first. Only where the status is expected are the patterns read, on the first 4 KiB of
//! the body: the answer counts as delivered if `failure_pattern` does not match and `success_pattern`, where there is one,
//! does; otherwise `on_failure_pattern` decides between the DLQ and another try.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};
use url::Url;

use super::registry::SpecError;
use super::template::Scope;
use super::template::url::{Parameter, Rendered, UrlTemplate};
use super::view::{self, Draft, Header, Sight};
use super::{
    Adapter, JudgeContext, Judgement, Kind, LeftOut, Outgoing, Prepared, PreparedRequest, Unsendable, event_map,
    http_status, one_by_one,
};
use crate::domain::limits::RESPONSE_EXCERPT_BYTES;
use crate::domain::outcome::{DeadReason, RetryReason, Verdict};
use crate::domain::retry::StatusSet;
use crate::domain::secret::{Redactor, Secret};
use crate::domain::time::UnixMs;
use crate::env::transport::{Answer, Method};

/// Keys of kind `s2s_postback` (SPEC 8.1).
#[derive(Clone, Debug)]
pub struct S2sSpec {
    pub url_template: String,
    pub method: S2sMethod,
    pub expected_status: StatusSet,
    pub success_pattern: Option<String>,
    pub failure_pattern: Option<String>,
    pub on_failure_pattern: OnFailurePattern,
    /// `{secret.NAME}` of the template.
    pub secrets: BTreeMap<String, Secret>,
}

/// How the request goes out; POST carries its parameters where `body` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum S2sMethod {
    Get,
    PostQuery,
    PostForm,
    PostJson,
}

/// What an answer that matches `failure_pattern` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailurePattern {
    Permanent,
    Retry,
}

#[derive(Debug)]
pub struct S2sPostback {
    template: UrlTemplate,
    carrier: Carrier,
    expected: StatusSet,
    success: Option<Regex>,
    failure: Option<Regex>,
    on_failure: OnFailurePattern,
    redactor: Redactor,
}

/// Where the parameters travel.
#[derive(Debug)]
enum Carrier {
    Url(Method),
    Form,
    Json(Vec<Parameter>),
}

impl S2sPostback {
    pub fn new(spec: S2sSpec) -> Result<Self, Vec<SpecError>> {
        let mut wrong = Vec::new();
        let scope = Scope { secrets: Some(&spec.secrets), user: &[] };
        let mut reject =
            |bad: Vec<String>| wrong.extend(bad.into_iter().map(|text| SpecError::new("url_template", text)));
        let template = UrlTemplate::compile(&spec.url_template, scope).map_err(&mut reject).ok();
        let carrier = match spec.method {
            S2sMethod::Get => Some(Carrier::Url(Method::Get)),
            S2sMethod::PostQuery => Some(Carrier::Url(Method::Post)),
            S2sMethod::PostForm => Some(Carrier::Form),
            S2sMethod::PostJson => template
                .as_ref()
                .and_then(|template| template.parameters().map_err(&mut reject).ok())
                .map(Carrier::Json),
        };
        let success = pattern("success_pattern", spec.success_pattern.as_deref(), &mut wrong);
        let failure = pattern("failure_pattern", spec.failure_pattern.as_deref(), &mut wrong);
        match (template, carrier) {
            (Some(template), Some(carrier)) if wrong.is_empty() => Ok(Self {
                template,
                carrier,
                expected: spec.expected_status,
                success,
                failure,
                on_failure: spec.on_failure_pattern,
                redactor: view::redactor(spec.secrets.values()),
            }),
            _ => Err(wrong),
        }
    }

    fn request(&self, delivery: &Outgoing<'_>) -> Result<(PreparedRequest, Vec<LeftOut>), Unsendable> {
        let Rendered { wire, shown } = self.template.render(delivery)?;
        let mut headers = vec![Header::open("user-agent", view::USER_AGENT)];
        let (method, url, url_shown, body, body_shown) = match &self.carrier {
            Carrier::Url(method) => {
                (*method, wire.whole().into_owned(), shown.whole().into_owned(), String::new(), String::new())
            }
            Carrier::Form => {
                headers.push(Header::open("content-type", "application/x-www-form-urlencoded"));
                let (body, body_shown) = (wire.query.unwrap_or_default(), shown.query.unwrap_or_default());
                (Method::Post, wire.front, shown.front, body, body_shown)
            }
            Carrier::Json(parameters) => {
                headers.push(Header::open("content-type", "application/json"));
                let (mut body, mut body_shown) = (Map::new(), Map::new());
                for parameter in parameters {
                    let (value, value_shown) = parameter.render(delivery);
                    body.insert(parameter.name.clone(), value.into());
                    body_shown.insert(parameter.name.clone(), value_shown.into());
                }
                (
                    Method::Post,
                    wire.front,
                    shown.front,
                    Value::from(body).to_string(),
                    Value::from(body_shown).to_string(),
                )
            }
        };
        let url: Url = url.parse().map_err(|error| Unsendable {
            reason: DeadReason::Invalid,
            detail: format!("the template makes no URL of this event: {error}"),
        })?;
        // Shown as a URL reader writes it, like the one that is sent.
        let url_shown = url_shown.parse().map_or(url_shown, |url: Url| url.to_string());
        let draft = Draft { method, url, headers, body: body.into_bytes() };
        Ok((view::finish(draft, Sight { url: Some(url_shown), body: Some(body_shown) }), Vec::new()))
    }

    /// What the patterns say of an answer with an expected status; `None` where it is a success.
    fn refusal(&self, answer: &Answer) -> Option<&'static str> {
        let head = answer.body.get(..RESPONSE_EXCERPT_BYTES).unwrap_or(&answer.body);
        let text = String::from_utf8_lossy(head);
        if self.failure.as_ref().is_some_and(|pattern| pattern.is_match(&text)) {
            return Some("the answer matches failure_pattern");
        }
        let success = self.success.as_ref().is_none_or(|pattern| pattern.is_match(&text));
        (!success).then_some("the answer does not match success_pattern")
    }
}

impl Adapter for S2sPostback {
    fn kind(&self) -> Kind {
        Kind::S2sPostback
    }

    fn batch_max(&self) -> usize {
        1
    }

    fn default_target(&self, canonical: &str) -> Option<String> {
        event_map::identity(canonical)
    }

    fn prepare(&self, deliveries: &[Outgoing<'_>], _now: UnixMs) -> Prepared {
        one_by_one(deliveries, |delivery| self.request(delivery))
    }

    fn url_macros(&self) -> Vec<&str> {
        self.template.macros()
    }

    fn judge(&self, answer: &Answer, context: JudgeContext<'_>) -> Judgement {
        let judged = http_status::judge(answer, context, &self.expected, &self.redactor);
        let refusal = match judged.verdict {
            Verdict::Delivered => self.refusal(answer),
            Verdict::Transient { .. }
            | Verdict::Throttled { .. }
            | Verdict::Permanent { .. }
            | Verdict::DestinationFault
            | Verdict::Gone
            | Verdict::BatchFault
            | Verdict::Ambiguous { .. }
            | Verdict::ProxyFault { .. }
            | Verdict::Cancelled => None,
        };
        let Some(refusal) = refusal else { return judged };
        let verdict = match self.on_failure {
            OnFailurePattern::Permanent => Verdict::Permanent { reason: DeadReason::Permanent },
            OnFailurePattern::Retry => Verdict::Transient {
                reason: RetryReason::Transient,
                not_before: http_status::retry_after(answer, context.now),
            },
        };
        let said = view::excerpt(answer, &self.redactor);
        Judgement::new(verdict, format!("HTTP {}, but {refusal}: {said}", answer.status))
    }

    fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

fn pattern(key: &'static str, text: Option<&str>, wrong: &mut Vec<SpecError>) -> Option<Regex> {
    let text = text?;
    if text.is_empty() {
        wrong.push(SpecError::new(key, "is empty and would match anything; write a pattern or take it out"));
        return None;
    }
    Regex::new(text).map_err(|error| wrong.push(SpecError::new(key, format!("is no regular expression: {error}")))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url_template: &str) -> S2sSpec {
        S2sSpec {
            url_template: url_template.to_owned(),
            method: S2sMethod::Get,
            expected_status: StatusSet::success(),
            success_pattern: None,
            failure_pattern: None,
            on_failure_pattern: OnFailurePattern::Permanent,
            secrets: BTreeMap::new(),
        }
    }

    #[test]
    fn all_problems_of_a_spec_come_at_once() {
        let spec = S2sSpec {
            success_pattern: Some("(".to_owned()),
            failure_pattern: Some(String::new()),
            ..spec("https://n.example/?a={udi}#x")
        };
        let keys: Vec<&str> = S2sPostback::new(spec).unwrap_err().iter().map(|error| error.key).collect();
        assert_eq!(keys, ["url_template", "url_template", "success_pattern", "failure_pattern"]);
    }

    #[test]
    fn a_json_body_refuses_a_parameter_that_stands_twice() {
        let spec = S2sSpec { method: S2sMethod::PostJson, ..spec("https://n.example/?a=1&a=2") };
        assert_eq!(S2sPostback::new(spec).unwrap_err().len(), 1);
    }

    #[test]
    fn patterns_are_read_on_the_first_4_kib() {
        let spec = S2sSpec { failure_pattern: Some("err".to_owned()), ..spec("https://n.example/") };
        let adapter = S2sPostback::new(spec).unwrap();
        let refusal = |before: usize| {
            let body = format!("{}err", "x".repeat(before)).into_bytes();
            adapter.refusal(&Answer { status: 200, headers: Vec::new(), body })
        };
        assert!(refusal(4093).is_some());
        assert!(refusal(4094).is_none());
    }
}
