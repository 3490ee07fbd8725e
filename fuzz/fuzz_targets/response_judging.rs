//! Answers of receivers, good, broken and hostile: every kind gives a verdict, within its bounds, without a secret in it.

#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use postbackd::destination::fb_capi::FbCapiSpec;
use postbackd::destination::registry::{Spec, build};
use postbackd::destination::s2s_postback::{OnFailurePattern, S2sMethod, S2sSpec};
use postbackd::destination::webhook::WebhookSpec;
use postbackd::destination::{Adapter, JudgeContext};
use postbackd::domain::delivery::History;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::retry::StatusSet;
use postbackd::domain::retry::{RETRY_AFTER_MAX, RetryPolicy, decide};
use postbackd::domain::secret::Secret;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::{Answer, Method};

const SECRET: &str = "s3cr3t-EAAB-token";
const NOW: UnixMs = UnixMs(1_764_000_000_000);

#[derive(Arbitrary, Debug)]
struct Input {
    status: u16,
    retry_after: Option<String>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the answer echoes the secret, and where.
    echo: Option<u16>,
    sent: u8,
    counted: u32,
    dice: u64,
}

fn adapters() -> &'static [Box<dyn Adapter>] {
    static ADAPTERS: OnceLock<Vec<Box<dyn Adapter>>> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let secret = || Secret::new(SECRET.to_owned());
        let webhook = WebhookSpec {
            url: "https://crm.example/in".parse().expect("a URL"),
            method: Method::Post,
            headers: vec![("x-token".to_owned(), secret())],
            signing_secrets: Vec::new(),
            include_user: Vec::new(),
            template: None,
            hidden: Vec::new(),
        };
        let s2s = S2sSpec {
            url_template: "https://net.example/p?c={uid}&t={secret.t}".to_owned(),
            method: S2sMethod::Get,
            expected_status: StatusSet::success(),
            success_pattern: Some("(?i)ok".to_owned()),
            failure_pattern: Some("error|fail".to_owned()),
            on_failure_pattern: OnFailurePattern::Permanent,
            secrets: BTreeMap::from([("t".to_owned(), secret())]),
        };
        let meta = FbCapiSpec {
            pixel_id: "1234567890".to_owned(),
            access_token: secret(),
            api_version: "v26.0".to_owned(),
            base_url: "https://graph.facebook.com".parse().expect("a URL"),
            test_event_code: None,
            action_source: None,
            external_id_from_uid: true,
            batch: 50,
            batch_wait: DurationMs::from_secs(1),
            data_processing_options: None,
            data_processing_options_country: None,
            data_processing_options_state: None,
            hidden: Vec::new(),
        };
        let specs = [Spec::Webhook(webhook), Spec::S2sPostback(s2s), Spec::FbCapi(meta)];
        specs.into_iter().map(|spec| build(spec).expect("a sound destination")).collect()
    })
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let Input { status, retry_after, headers, mut body, echo, sent, counted, dice } = input;
    if let Some(at) = echo {
        let at = usize::from(at) % (body.len() + 1);
        body.splice(at..at, SECRET.bytes());
    }
    let retry_after = retry_after.map(|text| ("retry-after".to_owned(), text));
    let headers: Vec<_> = retry_after.into_iter().chain(headers).collect();
    let answer = Answer { status, headers, body };
    let policy = RetryPolicy::default();
    let context = JudgeContext { sent: usize::from(sent).max(1), transient: &policy.statuses, now: NOW };
    let history = History { counted_since_owed: counted, counted, exchanges: counted, ..History::new(NOW) };
    for adapter in adapters() {
        let judgement = adapter.judge(&answer, context);
        assert!(!judgement.detail.is_empty() && judgement.detail.len() < 16 * 1024, "{}", judgement.detail.len());
        assert!(!judgement.detail.contains(SECRET), "{:?}: {}", adapter.kind(), judgement.detail);
        let latest = NOW + RETRY_AFTER_MAX;
        match decide(&policy, &history, judgement.verdict, NOW, dice) {
            Disposition::Retry { at, .. } => assert!(NOW < at && at <= latest, "{at:?}"),
            Disposition::Keep { at } => assert_eq!(at, NOW),
            Disposition::Sent | Disposition::Dead { .. } => {}
        }
    }
});
