//! The keys of each kind: from a table to the kind's [`Spec`]. What only the kind itself can judge (templates, patterns,
//! signing keys) is left to its builder, which is asked where a spec could be made.

use std::collections::BTreeMap;

use url::Url;

use super::endpoint::{Judge, is_plain_public};
use super::findings::Reading;
use super::raw::{Node, Value};
use super::secret_source::{self, Ends, Form};
use super::section::{Section, text_of};
use super::values;
use crate::destination::Kind;
use crate::destination::registry::Spec;
use crate::destination::s2s_postback::{OnFailurePattern, S2sMethod, S2sSpec};
use crate::destination::webhook::WebhookSpec;
use crate::domain::retry::StatusSet;
use crate::domain::secret::Secret;
use crate::env::transport::Method;

/// Keys that only some kinds have, to say where a stray one belongs; a test holds them to what the readers ask for.
pub(crate) fn keys(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Webhook => &["url", "method", "headers", "signing_secrets", "include_user", "template"],
        Kind::S2sPostback => &[
            "url_template",
            "method",
            "body",
            "expected_status",
            "success_pattern",
            "failure_pattern",
            "on_failure_pattern",
            "secrets",
        ],
        Kind::FbCapi => &[
            "pixel_id",
            "access_token",
            "api_version",
            "base_url",
            "test_event_code",
            "action_source",
            "external_id_from_uid",
            "batch",
            "batch_wait",
            "data_processing_options",
            "data_processing_options_country",
            "data_processing_options_state",
        ],
    }
}

/// An address in place of one that was refused, so that the kind's builder still judges the other keys and all problems
/// are told at once. Nothing is ever sent there: a configuration with a problem is not used.
const STAND_IN: &str = "https://hooks.example.com/";

/// Reads the keys of `kind`. What is missing or wrong is a problem, and something stands in for it.
pub(crate) fn read(kind: Kind, section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Spec> {
    match kind {
        Kind::Webhook => webhook(section, judge, cx).map(Spec::Webhook),
        Kind::S2sPostback => Some(Spec::S2sPostback(s2s(section, judge, cx))),
        Kind::FbCapi => super::fb_capi::read(section, judge, cx).map(Spec::FbCapi),
    }
}

fn webhook(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<WebhookSpec> {
    let mut hidden = Vec::new();
    let node = section.required("url", "url = \"https://hooks.example.com/path\"", cx);
    let url = node.and_then(|node| {
        let text = open_or_secret(node, &section.key("url"), &mut hidden, cx)?;
        url(&text, node, &section.key("url"), judge, cx)
    });
    let methods = Method::ALL.map(|method| (method.as_str(), method));
    let method = section.choice("method", &methods, cx).unwrap_or(Method::Post);
    let headers = headers(section, cx);
    let key = section.key("signing_secrets");
    let secrets = section.node("signing_secrets", cx);
    let found =
        secrets.map(|node| secret_source::read_list(node, &key, Form::Text, Ends::Never, cx)).unwrap_or_default();
    let fields = section.texts("include_user", cx).unwrap_or_default();
    let template = section.text("template", cx).map(str::to_owned);
    Some(WebhookSpec {
        url: url.or_else(|| Url::parse(STAND_IN).ok())?,
        method,
        headers,
        signing_secrets: found.into_iter().map(|(found, _)| found.secret).collect(),
        include_user: fields.into_iter().map(|(text, _)| text.to_owned()).collect(),
        template,
        hidden,
    })
}

/// A text of a destination that may come from a secret's source; `hidden` gathers those that did, to be redacted.
pub(crate) fn open_or_secret(node: &Node, key: &str, hidden: &mut Vec<Secret>, cx: &mut Reading<'_>) -> Option<String> {
    if matches!(node.value, Value::Table(_)) {
        let secret = secret_source::read(node, key, Form::Text, Ends::Never, cx)?.secret;
        let text = secret.expose().to_owned();
        hidden.push(secret);
        return Some(text);
    }
    text_of(node, key, cx).map(str::to_owned)
}

/// A whole URL that passes the judge.
pub(crate) fn url(text: &str, node: &Node, key: &str, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Url> {
    match judge.url(text) {
        Ok(url) => {
            warn_plain(&url, node, key, cx);
            Some(url)
        }
        Err(why) => {
            cx.problem(&node.at, key, why);
            None
        }
    }
}

fn warn_plain(url: &Url, node: &Node, key: &str, cx: &mut Reading<'_>) {
    if is_plain_public(url) {
        cx.warn(&node.at, key, "is http: events and tokens cross the Internet readable by anyone; write https");
    }
}

pub(crate) fn headers(parent: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<(String, Secret)> {
    let section = parent.section("headers", cx);
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for entry in section.entries() {
        let (at, key) = (&entry.node.at, section.key(&entry.key));
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let named = !entry.key.is_empty() && entry.key.bytes().all(token);
        let again = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(&entry.key));
        if !named {
            cx.problem(at, key.as_str(), "is not a header name; write letters, digits and -, like X-Api-Key");
        }
        if again {
            cx.problem(at, key.as_str(), "is given twice (header names ignore case); keep one");
        }
        let Some(found) = secret_source::read(&entry.node, &key, Form::Text, Ends::Never, cx) else { continue };
        if found.secret.expose().chars().any(|letter| letter.is_control() && letter != '\t') {
            cx.problem(at, key, "holds a line break or another control character; write one line");
        } else if named && !again {
            headers.push((entry.key.clone(), found.secret));
        }
    }
    headers
}

fn s2s(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> S2sSpec {
    let template = url_template(section, judge, cx);
    let method = s2s_method(section, cx);
    let wanted = "write 200, \"200-204\" or a list like [200, \"202-204\"]";
    let expected_status = match section.node("expected_status", cx).map(|node| values::statuses(node, (200, 599))) {
        None => StatusSet::success(),
        Some(Ok(set)) if set.is_empty() => {
            let detail = format!("names no status, so that no answer would be a good one; {wanted}");
            cx.problem(&section.place("expected_status"), section.key("expected_status"), detail);
            set
        }
        Some(Ok(set)) => set,
        Some(Err(item)) => {
            cx.problem(&item.at, section.key("expected_status"), format!("is no status from 200 to 599; {wanted}"));
            StatusSet::success()
        }
    };
    let success_pattern = section.text("success_pattern", cx).map(str::to_owned);
    let failure_pattern = section.text("failure_pattern", cx).map(str::to_owned);
    let words = [("permanent", OnFailurePattern::Permanent), ("retry", OnFailurePattern::Retry)];
    let on_failure = section.choice("on_failure_pattern", &words, cx);
    if on_failure.is_some() && section.node("failure_pattern", cx).is_none() {
        let detail = "has no effect without failure_pattern; add failure_pattern or remove it";
        cx.problem(&section.place("on_failure_pattern"), section.key("on_failure_pattern"), detail);
    }
    let table = section.section("secrets", cx);
    let mut secrets = BTreeMap::new();
    for entry in table.entries() {
        let key = table.key(&entry.key);
        let found = secret_source::read(&entry.node, &key, Form::Text, Ends::Never, cx);
        // One that cannot be read is there all the same: the template that names it is not wrong.
        secrets.insert(entry.key.clone(), found.map_or_else(|| Secret::new(String::new()), |found| found.secret));
    }
    S2sSpec {
        url_template: template.unwrap_or_else(|| STAND_IN.to_owned()),
        method,
        expected_status,
        success_pattern,
        failure_pattern,
        on_failure_pattern: on_failure.unwrap_or(OnFailurePattern::Permanent),
        secrets,
    }
}

fn url_template(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<String> {
    let example = "url_template = \"https://tracker.example.com/postback?click_id={uid}&payout={value}\"";
    let node = section.required("url_template", example, cx)?;
    let key = section.key("url_template");
    if matches!(node.value, Value::Table(_)) {
        let detail = "cannot be a secret as a whole; write the template as a text and its token as {secret.NAME}, \
                      with NAME in the destination's secrets table";
        cx.problem(&node.at, key, detail);
        return None;
    }
    let text = text_of(node, &key, cx)?;
    match judge.template(text) {
        Ok(url) => {
            if let Some(url) = url {
                warn_plain(&url, node, &key, cx);
            }
            Some(text.to_owned())
        }
        Err(why) => {
            cx.problem(&node.at, key, why);
            None
        }
    }
}

fn s2s_method(section: &mut Section<'_>, cx: &mut Reading<'_>) -> S2sMethod {
    let post = section.choice("method", &[("GET", false), ("POST", true)], cx).unwrap_or(false);
    let words = [("query", S2sMethod::PostQuery), ("form", S2sMethod::PostForm), ("json", S2sMethod::PostJson)];
    match section.choice("body", &words, cx) {
        Some(body) if post => body,
        Some(_) => {
            let detail = "needs method = \"POST\"; add it or remove body";
            cx.problem(&section.place("body"), section.key("body"), detail);
            S2sMethod::Get
        }
        None if post => S2sMethod::PostQuery,
        None => S2sMethod::Get,
    }
}
