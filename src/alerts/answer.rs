//! What a channel's answer that is no success means: how long it wants to be left alone, and which key is to be looked at. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::config::alerts::{Shape, Target};
use crate::env::transport::Answer;

/// The longest that a channel may ask us to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(30);

/// For how long it wants to be left alone: `Retry-After` in seconds (Slack, Discord), `parameters.retry_after` (Telegram), or
/// `retry_after` (Discord, in fractions).
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    let header = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
    let seconds: f64 = header.or_else(|| {
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        body.pointer("/parameters/retry_after").or(body.get("retry_after")).and_then(Value::as_f64)
    })?;
    let asked = Duration::try_from_secs_f64(seconds.ceil()).ok()?;
    Some(asked.min(RETRY_AFTER_MAX))
}

/// What to look at; `None` where the channel may well mend by itself.
pub(super) fn advice(target: &Target, answer: &Answer) -> Option<String> {
    let status = answer.status;
    match target {
        Target::Telegram { .. } => telegram(answer),
        Target::Webhook { shape: Shape::Slack | Shape::Discord, .. } => {
            matches!(status, 400..=407 | 409..=424 | 426..=428).then(|| "check url and shape".to_owned())
        }
        Target::Webhook { shape: Shape::Json, .. } => {
            let is_ours = matches!(status, 300..=407 | 409..=424 | 426..=428);
            is_ours.then(|| "check url and headers".to_owned())
        }
        Target::Email(_) => None,
    }
}

fn telegram(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(id) = body.pointer("/parameters/migrate_to_chat_id").and_then(Value::as_i64) {
        return Some(format!("the group has a new id; write chat_id = \"{id}\""));
    }
    match answer.status {
        401 | 404 => Some("check bot_token, as @BotFather gave it".to_owned()),
        400 => Some("check chat_id".to_owned()),
        403 => Some("write to the bot once, or let it into the chat of chat_id".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, headers, body: body.into() }
    }

    #[test]
    fn each_messenger_says_in_its_own_way_how_long_to_wait_and_none_longer_than_half_an_hour() {
        let seconds =
            |headers: &[(&str, &str)], body: &str| retry_after(&answer(429, headers, body)).map(|time| time.as_secs());
        let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
        assert_eq!(seconds(&[], telegram), Some(35));
        assert_eq!(seconds(&[("retry-after", "30")], "ok"), Some(30));
        assert_eq!(
            seconds(&[], r#"{"message":"You are being rate limited.","retry_after":0.65,"global":false}"#),
            Some(1)
        );
        assert_eq!(seconds(&[("retry-after", "86400")], ""), Some(1800));
        assert_eq!(seconds(&[], &telegram.replace("35}", "999999999}")), Some(1800));
        for odd in ["-1", "NaN", "1e400", "soon"] {
            assert_eq!(seconds(&[("retry-after", odd)], "").filter(|seconds| *seconds != 1800), None, "{odd}");
        }
        assert_eq!(seconds(&[], "{}"), None);
    }

    #[test]
    fn what_nobody_but_the_operator_can_mend_names_its_key() {
        let telegram =
            Target::Telegram { base_url: String::new(), token: Secret::new("1:x".to_owned()), chat_id: "1".to_owned() };
        let url = Secret::new("https://h.example.com/".to_owned());
        let hook = |shape| Target::Webhook { url: url.clone(), shape, headers: Vec::new() };
        let says = |target: &Target, status, body: &str| advice(target, &answer(status, &[], body)).unwrap_or_default();
        assert_eq!(says(&telegram, 401, "{}"), "check bot_token, as @BotFather gave it");
        assert_eq!(says(&telegram, 404, "not json"), "check bot_token, as @BotFather gave it");
        assert_eq!(says(&telegram, 400, r#"{"description":"Bad Request: chat not found"}"#), "check chat_id");
        assert!(says(&telegram, 403, "{}").starts_with("write to the bot once"));
        let moved = r#"{"ok":false,"error_code":400,"parameters":{"migrate_to_chat_id":-1001234}}"#;
        assert_eq!(says(&telegram, 400, moved), "the group has a new id; write chat_id = \"-1001234\"");
        assert_eq!(says(&hook(Shape::Slack), 404, "no_service"), "check url and shape");
        assert_eq!(says(&hook(Shape::Discord), 401, ""), "check url and shape");
        assert_eq!(says(&hook(Shape::Json), 301, ""), "check url and headers");
        for target in [telegram, hook(Shape::Slack), hook(Shape::Json)] {
            for status in [408, 425, 429, 500, 503] {
                assert_eq!(says(&target, status, "{}"), "", "{status}");
            }
        }
    }
}
