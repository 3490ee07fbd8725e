//! Kind `fb_capi`: the Meta Conversions API (platforms.md 1).
//!
//! - One POST to `{base_url}/{api_version}/{pixel_id}/events`; the token travels in the JSON body, so that it stays out
//!   of URLs.
//! - `event_id` is the sender's own id where there is one, since the browser pixel's copy carries it; else the delivery's.
//!   Either is the same on every attempt, and Meta drops the repeat.
//! - What Meta would refuse for certain (too old, in the future, nobody to match, a purchase without value) never reaches a
//!   request, because one bad event makes it refuse its neighbours. What it might refuse is sent with a warning.
//!
//! `event` makes one event, `user_data` and `custom_data` its halves, `requirements` checks the whole; `codes` is the table
//! of error codes, `usage` reads the headers about limits, `verdict` judges.
//!
//! Absent on purpose: gathering deliveries and splitting a refused request, which is the scheduler's part; `prepare` takes
//! any number, and `judge` says [`crate::domain::outcome::Verdict::BatchFault`].

mod codes;
mod custom_data;
mod event;
mod requirements;
mod usage;
mod user_data;
mod verdict;

use serde_json::Value;
use url::Url;

use super::registry::SpecError;
use super::view::{self, Draft, Header, Sight};
use super::webhook::check_url;
use super::{Adapter, JudgeContext, Judgement, Kind, Outgoing, Prepared};
use crate::domain::limits::BATCH_BODY_BYTES;
use crate::domain::secret::{REDACTED, Redactor, Secret};
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::{Answer, Method};

/// The most events Meta takes in one request (platforms.md 1.5).
pub const BATCH_MAX: usize = 1000;

/// What Meta calls the ways an event can come about.
const ACTION_SOURCES: [&str; 9] = [
    "email",
    "website",
    "app",
    "phone_call",
    "chat",
    "physical_store",
    "system_generated",
    "business_messaging",
    "other",
];

/// Default map: platforms.md 1.7.
const DEFAULT_MAP: [(&str, &str); 12] = [
    ("contact", "Contact"),
    ("subscribed", "Lead"),
    ("registration", "CompleteRegistration"),
    ("deposit", "Purchase"),
    ("purchase", "Purchase"),
    ("lead", "Lead"),
    ("add_to_cart", "AddToCart"),
    ("checkout", "InitiateCheckout"),
    ("page_view", "PageView"),
    ("view_content", "ViewContent"),
    ("search", "Search"),
    ("trial", "StartTrial"),
];

/// Keys of kind `fb_capi` (SPEC 8.1).
#[derive(Clone, Debug)]
pub struct FbCapiSpec {
    pub pixel_id: String,
    pub access_token: Secret,
    /// As `v26.0`.
    pub api_version: String,
    /// Default `https://graph.facebook.com`.
    pub base_url: url::Url,
    pub test_event_code: Option<String>,
    pub action_source: Option<String>,
    pub external_id_from_uid: bool,
    pub batch: usize,
    pub batch_wait: DurationMs,
    pub data_processing_options: Option<Vec<String>>,
    pub data_processing_options_country: Option<i64>,
    pub data_processing_options_state: Option<i64>,
    /// Texts of other keys that came from a secret's source: to be redacted like the token.
    pub hidden: Vec<Secret>,
}

#[derive(Debug)]
pub struct FbCapi {
    endpoint: Url,
    access_token: Secret,
    test_event_code: Option<String>,
    settings: event::Settings,
    batch: usize,
    batch_wait: DurationMs,
    redactor: Redactor,
}

impl FbCapi {
    pub fn new(spec: FbCapiSpec) -> Result<Self, Vec<SpecError>> {
        let wrong = check(&spec);
        let mut endpoint = spec.base_url;
        let pathless = endpoint
            .path_segments_mut()
            .map(|mut path| {
                path.pop_if_empty().extend([spec.api_version.as_str(), spec.pixel_id.as_str(), "events"]);
            })
            .is_err();
        if pathless || !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            endpoint,
            redactor: view::redactor(spec.hidden.iter().chain([&spec.access_token])),
            access_token: spec.access_token,
            test_event_code: spec.test_event_code,
            batch: spec.batch,
            batch_wait: spec.batch_wait,
            settings: event::Settings {
                action_source: spec.action_source,
                external_id_from_uid: spec.external_id_from_uid,
                data_processing_options: spec.data_processing_options,
                data_processing_options_country: spec.data_processing_options_country,
                data_processing_options_state: spec.data_processing_options_state,
            },
        })
    }

    /// The body around `events`, which are a JSON array already.
    fn body(events: &str, code: Option<&str>, token: &str) -> String {
        let code = match code {
            Some(code) => format!(",\"test_event_code\":{}", Value::from(code)),
            None => String::new(),
        };
        format!("{{\"data\":{events}{code},\"access_token\":{}}}", Value::from(token))
    }

    /// `prepare`, with this `test_event_code` or none.
    fn request(&self, deliveries: &[Outgoing<'_>], now: UnixMs, code: Option<&str>) -> Prepared {
        let mut events = String::new();
        let mut parts = Vec::new();
        for delivery in deliveries {
            match event::build(delivery, &self.settings, now) {
                Ok((event, left_out)) => {
                    let event = Value::from(event).to_string();
                    if !events.is_empty() && events.len() + event.len() > BATCH_BODY_BYTES {
                        break;
                    }
                    events.push(if events.is_empty() { '[' } else { ',' });
                    events.push_str(&event);
                    parts.push(Ok(left_out));
                }
                Err(unsendable) => parts.push(Err(unsendable)),
            }
        }
        if events.is_empty() {
            return Prepared { request: None, parts };
        }
        events.push(']');
        let draft = Draft {
            method: Method::Post,
            url: self.endpoint.clone(),
            headers: vec![
                Header::open("content-type", "application/json"),
                Header::open("user-agent", view::USER_AGENT),
            ],
            body: Self::body(&events, code, self.access_token.expose()).into_bytes(),
        };
        let shown = Self::body(&events, code, REDACTED);
        let request = view::finish(draft, Sight { url: None, body: Some(shown) });
        Prepared { request: Some(request), parts }
    }
}

impl Adapter for FbCapi {
    fn kind(&self) -> Kind {
        Kind::FbCapi
    }

    fn batch_max(&self) -> usize {
        self.batch
    }

    fn batch_wait(&self) -> DurationMs {
        self.batch_wait
    }

    fn default_target(&self, canonical: &str) -> Option<String> {
        DEFAULT_MAP.iter().find(|(known, _)| *known == canonical).map(|(_, target)| (*target).to_owned())
    }

    fn prepare(&self, deliveries: &[Outgoing<'_>], now: UnixMs) -> Prepared {
        self.request(deliveries, now, self.test_event_code.as_deref())
    }

    fn prepare_test(&self, delivery: &Outgoing<'_>, now: UnixMs, code: Option<&str>) -> Result<Prepared, String> {
        let code = code.or(self.test_event_code.as_deref()).ok_or(
            "Meta would count the test as a real conversion: give the code that Events Manager shows under Test events, \
             as test_event_code (--test-event-code TEST12345), or set test_event_code of the destination while you try it",
        )?;
        Ok(self.request(std::slice::from_ref(delivery), now, Some(code)))
    }

    fn judge(&self, answer: &Answer, context: JudgeContext<'_>) -> Judgement {
        verdict::judge(answer, context, &self.redactor)
    }

    fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

fn check(spec: &FbCapiSpec) -> Vec<SpecError> {
    let mut wrong = check_url("base_url", &spec.base_url);
    let mut complain = |key, detail: String| wrong.push(SpecError::new(key, detail));
    if spec.base_url.query().is_some() {
        complain("base_url", "has a ? part; write only scheme, host and path".to_owned());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if spec.pixel_id.is_empty() || !spec.pixel_id.bytes().all(plain) {
        complain("pixel_id", "is not the number of a pixel or data set; copy it from Meta's Events Manager".to_owned());
    }
    let token = spec.access_token.expose();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        complain(
            "access_token",
            "is empty or holds white space; copy the whole token from Meta's Events Manager".to_owned(),
        );
    }
    if !is_version(&spec.api_version) {
        let given = spec.api_version.escape_debug();
        complain("api_version", format!("\"{given}\" is not a version of the Graph API; write one like \"v26.0\""));
    }
    if spec.test_event_code.as_deref().is_some_and(|code| code.trim().is_empty()) {
        complain("test_event_code", "is empty; write the code of the Test Events page or take the key out".to_owned());
    }
    if let Some(source) = spec.action_source.as_deref().filter(|source| !ACTION_SOURCES.contains(source)) {
        let given = source.escape_debug();
        complain(
            "action_source",
            format!("\"{given}\" is none Meta knows; write one of {}", ACTION_SOURCES.join(", ")),
        );
    }
    if !(1..=BATCH_MAX).contains(&spec.batch) {
        complain("batch", format!("{} is not from 1 to {BATCH_MAX}, the most Meta takes in one request", spec.batch));
    }
    if let Some(option) = spec.data_processing_options.iter().flatten().find(|option| *option != "LDU") {
        let given = option.escape_debug();
        complain("data_processing_options", format!("\"{given}\" is none Meta knows; write [\"LDU\"] or []"));
    }
    if spec.data_processing_options.is_none() {
        let dependent = [
            ("data_processing_options_country", spec.data_processing_options_country),
            ("data_processing_options_state", spec.data_processing_options_state),
        ];
        for (key, _) in dependent.into_iter().filter(|(_, value)| value.is_some()) {
            complain(key, "means nothing without data_processing_options; add [\"LDU\"] there".to_owned());
        }
    }
    wrong
}

/// `v`, digits, a dot, digits.
fn is_version(text: &str) -> bool {
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(major, minor)| number(major) && number(minor))
}

#[cfg(test)]
mod tests;
