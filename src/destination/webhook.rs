//! Kind `webhook`: JSON to any URL, signed by Standard Webhooks where there is a secret.
//!
//! The body's `event_id` and the `webhook-id` header are the delivery's id, the same on every attempt and replay; the time
//! stamp and the signature are the attempt's. Personal data goes out only where `include_user` names it. Configured header
//! values and signatures are never shown.
//!
//! 410 says that the receiver is gone for good (Standard Webhooks): [`Verdict::Gone`], unless the operator put it into
//! `retry.statuses`.
//!
//! Absent on purpose: redirects (3xx is permanent), and what being gone does to the destination, which is the lane's part.

use serde::Serialize;
use url::Url;

use super::registry::SpecError;
use super::signing::SigningKeys;
use super::template::json::{JsonTemplate, select};
use super::view::{self, Draft, Header, Sight};
use super::{Adapter, JudgeContext, Judgement, Kind, Outgoing, Prepared, event_map, http_status, one_by_one};
use crate::domain::event::Event;
use crate::domain::money::{Currency, Decimal};
use crate::domain::outcome::Verdict;
use crate::domain::retry::StatusSet;
use crate::domain::secret::{Redactor, Secret};
use crate::domain::time::UnixMs;
use crate::env::transport::{Answer, Method};

/// Keys of kind `webhook` (SPEC 8.1).
#[derive(Clone, Debug)]
pub struct WebhookSpec {
    pub url: url::Url,
    pub method: Method,
    /// Header values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// First is current.
    pub signing_secrets: Vec<Secret>,
    pub include_user: Vec<String>,
    /// Body template (JSON text with macros), if any.
    pub template: Option<String>,
    /// Texts of other keys that came from a secret's source: to be redacted like the secrets.
    pub hidden: Vec<Secret>,
}

/// Headers that are ours or the connection's.
const RESERVED: [&str; 11] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "trailer",
    "expect",
];

/// A JSON object in the making; what is JSON already goes in as it is.
struct Members(Vec<u8>);

impl Members {
    /// Room for those of `body` without the event's own objects.
    const ROOM: usize = 512;

    /// Goes on behind the members of `object`, which are so many that there are some or none.
    fn behind(object: &str, room: usize) -> Self {
        let mut json = Vec::with_capacity(object.len() + room);
        json.extend_from_slice(object.strip_suffix('}').unwrap_or("{").as_bytes());
        Self(json)
    }

    /// `name` needs no escapes.
    fn name(&mut self, name: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn member(&mut self, name: &str, value: impl Serialize) {
        self.name(name);
        // Texts, numbers and maps with text keys are always JSON, and memory takes everything.
        serde_json::to_writer(&mut self.0, &value).unwrap_or_default();
    }

    fn json(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// The event's `data`, with its value and currency in the place of what stands there under these names.
fn data(event: &Event) -> Vec<u8> {
    let own = [
        ("value", event.value.as_ref().map(Decimal::as_str)),
        ("currency", event.currency.as_ref().map(Currency::as_str)),
    ];
    let own = || own.iter().filter_map(|(name, text)| Some((*name, (*text)?)));
    // It may stand elsewhere in the text: then nothing was saved.
    let may_hold = |name: &str| event.data.text().contains(&format!("\"{name}\""));
    if own().any(|(name, _)| may_hold(name)) {
        let mut data = event.data.clone();
        own().for_each(|(name, text)| data.insert(name.to_owned(), text.into()));
        return data.json().as_bytes().to_vec();
    }
    let mut data = Members::behind(event.data.json(), 64);
    own().for_each(|(name, text)| data.member(name, text));
    data.end()
}

#[derive(Debug)]
pub struct Webhook {
    url: Url,
    method: Method,
    headers: Vec<(String, Secret)>,
    keys: SigningKeys,
    include_user: Vec<String>,
    template: Option<JsonTemplate>,
    delivered: StatusSet,
    redactor: Redactor,
}

impl Webhook {
    pub fn new(spec: WebhookSpec) -> Result<Self, Vec<SpecError>> {
        let mut wrong = check_url("url", &spec.url);
        let headers = check_headers(&spec.headers, &mut wrong);
        let keys = SigningKeys::parse(&spec.signing_secrets).unwrap_or_else(|bad| {
            wrong.extend(bad.into_iter().map(|(place, error)| {
                SpecError::new("signing_secrets", format!("secret number {} {error}", place.saturating_add(1)))
            }));
            SigningKeys::default()
        });
        if spec.include_user.iter().any(String::is_empty) {
            wrong.push(SpecError::new("include_user", "holds an empty name; write fields of user, like \"email\""));
        }
        let template = spec.template.as_deref().and_then(|text| {
            JsonTemplate::compile(text, &spec.include_user)
                .map_err(|bad| wrong.extend(bad.into_iter().map(|detail| SpecError::new("template", detail))))
                .ok()
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let headers_and_keys = spec.headers.iter().map(|(_, value)| value).chain(&spec.signing_secrets);
        let redactor = view::redactor(headers_and_keys.chain(&spec.hidden));
        Ok(Self {
            url: spec.url,
            method: spec.method,
            headers,
            keys,
            include_user: spec.include_user,
            template,
            delivered: StatusSet::success(),
            redactor,
        })
    }

    fn body(&self, delivery: &Outgoing<'_>, id: &str) -> Vec<u8> {
        if let Some(template) = &self.template {
            return template.render(delivery).into_bytes();
        }
        let event = delivery.event;
        let data = data(event);
        let mut body = Members::behind("{}", Members::ROOM + event.click.text().len() + data.len());
        body.member("event", delivery.target.as_str());
        body.member("canonical", event.canonical.as_str());
        body.member("event_id", id);
        body.member("source_event_id", event.event_id.as_deref());
        body.member("occurred_at_ms", event.occurred_at.time().0);
        body.member("uid", event.uid.as_deref());
        body.json("click", event.click.json().as_bytes());
        body.json("data", &data);
        if !self.include_user.is_empty() {
            body.member("user", select(&event.user, &self.include_user));
        }
        body.end()
    }

    fn headers(&self, id: &str, now: UnixMs, body: &[u8]) -> Vec<Header> {
        let mut headers = Vec::with_capacity(5 + self.headers.len());
        for (name, value) in [("content-type", "application/json"), ("user-agent", view::USER_AGENT)] {
            // The operator's own header takes the place of ours.
            if self.headers.iter().all(|(known, _)| known != name) {
                headers.push(Header::open(name, value));
            }
        }
        headers.extend(self.headers.iter().map(|(name, value)| Header::hidden(name, value.expose())));
        headers.push(Header::open("webhook-id", id));
        headers.push(Header::open("webhook-timestamp", now.seconds().to_string()));
        if !self.keys.is_empty() {
            let signature = self.keys.sign(id, now.seconds(), body);
            headers.push(Header::hidden("webhook-signature", signature));
        }
        headers
    }
}

impl Adapter for Webhook {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn batch_max(&self) -> usize {
        1
    }

    fn default_target(&self, canonical: &str) -> Option<String> {
        event_map::identity(canonical)
    }

    fn prepare(&self, deliveries: &[Outgoing<'_>], now: UnixMs) -> Prepared {
        one_by_one(deliveries, |delivery| {
            let id = delivery.id.to_string();
            let body = self.body(delivery, &id);
            let draft =
                Draft { method: self.method, url: self.url.clone(), headers: self.headers(&id, now, &body), body };
            Ok((view::finish(draft, Sight::default()), Vec::new()))
        })
    }

    fn judge(&self, answer: &Answer, context: JudgeContext<'_>) -> Judgement {
        let mut judged = http_status::judge(answer, context, &self.delivered, &self.redactor);
        if answer.status == 410 && matches!(judged.verdict, Verdict::Permanent { .. }) {
            let said = judged.detail.strip_prefix("HTTP 410").unwrap_or_default();
            judged.detail = format!("HTTP 410, the receiver says this webhook is gone for good{said}");
            judged.verdict = Verdict::Gone;
        }
        judged
    }

    fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

/// What every configured URL must be; `key` is the setting it stands in.
pub(super) fn check_url(key: &'static str, url: &Url) -> Vec<SpecError> {
    let mut wrong = Vec::new();
    if !matches!(url.scheme(), "http" | "https") {
        wrong.push(SpecError::new(key, format!("has the scheme {}; write https:// or http://", url.scheme())));
    } else if url.host_str().is_none_or(str::is_empty) {
        wrong.push(SpecError::new(key, "has no host; write the whole URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        wrong.push(SpecError::new(key, "has user info before the host; take it out and put credentials into headers"));
    }
    if url.fragment().is_some() {
        wrong.push(SpecError::new(key, "has a # part, which is never sent; take it out, or write %23 for the sign"));
    }
    wrong
}

fn check_headers(given: &[(String, Secret)], wrong: &mut Vec<SpecError>) -> Vec<(String, Secret)> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    let mut complain = |detail: String| wrong.push(SpecError::new("headers", detail));
    for (name, value) in given {
        let name = name.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            complain(format!("\"{}\" is no header name; write letters, digits and -", name.escape_debug()));
        } else if RESERVED.contains(&name.as_str()) {
            complain(format!("{name} is set by postbackd itself; take it out"));
        } else if headers.iter().any(|(known, _)| *known == name) {
            complain(format!("{name} stands twice; keep one"));
        }
        if !value.expose().bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            complain(format!("the value of {name} holds a line break, a control character or a letter beyond ASCII"));
        }
        headers.push((name, value.clone()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};

    fn spec() -> WebhookSpec {
        WebhookSpec {
            url: "https://hook.example/in".parse().unwrap(),
            method: Method::Post,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            include_user: Vec::new(),
            template: None,
            hidden: Vec::new(),
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn all_problems_of_a_spec_come_at_once() {
        let spec = WebhookSpec {
            url: "ftp://u:p@hook.example/in#x".parse().unwrap(),
            headers: ["Bad Name", "webhook-id", "x-a", "X-A"].map(|name| (name.to_owned(), secret("v"))).to_vec(),
            signing_secrets: vec![secret("whsec_"), secret("whsec_QKqCJZhD")],
            include_user: vec![String::new()],
            template: Some("{\"a\": \"{udi}\"}".to_owned()),
            ..spec()
        };
        let wrong = Webhook::new(spec).unwrap_err();
        let keys: Vec<&str> = wrong.iter().map(|error| error.key).collect();
        assert_eq!(
            keys,
            ["url", "url", "url", "headers", "headers", "headers", "signing_secrets", "include_user", "template"]
        );
    }

    #[test]
    fn a_header_value_with_a_line_break_is_refused_and_not_shown() {
        let spec = WebhookSpec { headers: vec![("x-token".to_owned(), secret("s3cr3t\r\nevil: 1"))], ..spec() };
        let wrong = Webhook::new(spec).unwrap_err();
        assert_eq!(wrong.len(), 1);
        assert!(!wrong.iter().any(|error| error.to_string().contains("s3cr3t")));
    }

    #[test]
    fn value_and_currency_take_the_place_of_what_stands_under_their_names() {
        let webhook = Webhook::new(spec()).unwrap();
        let target = "Purchase".parse().unwrap();
        let body = |data: &str, value: Option<&str>| {
            let mut event = crate::domain::event::tests::sample();
            event.data = serde_json::from_str(data).unwrap();
            event.value = value.map(|text| text.parse().unwrap());
            event.currency = value.and("USD".parse().ok());
            let key = DeliveryKey { seq: EventSeq(1), destination: DestinationId(1) };
            let id = DeliveryId { instance: InstanceId::from_random(1), key };
            let body = webhook.body(&Outgoing { id, target: &target, event: &event }, "dlv_1");
            let body = String::from_utf8(body).unwrap();
            let data = body.split_once(r#""data":"#).unwrap().1;
            data.strip_suffix('}').unwrap().to_owned()
        };
        let given = r#"{"value":1,"x":[1.10],"currency":null}"#;
        assert_eq!(body(given, Some("25.00")), r#"{"value":"25.00","x":[1.10],"currency":"USD"}"#);
        assert_eq!(body(r#"{"x":1}"#, Some("25.00")), r#"{"x":1,"value":"25.00","currency":"USD"}"#);
        assert_eq!(body(given, None), given);
    }
}
