//! What was told and is not over, and channels that do not take what they are sent, as the first page shows them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::text::{Shown, When};
use crate::domain::time::UnixMs;

/// What `/status` says of alerts, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Alerts {
    open: Vec<Open>,
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Deserialize)]
struct Open {
    severity: Shown,
    title: Shown,
    text: Shown,
    todo: Shown,
    since: String,
}

#[derive(Debug, Deserialize)]
struct Channel {
    last_success: Option<String>,
    last_error: Option<Failure>,
    waiting: usize,
}

#[derive(Debug, Deserialize)]
struct Failure {
    at: String,
    message: Shown,
}

/// A problem as it is shown.
pub(super) struct Told {
    pub(super) severity: Shown,
    pub(super) title: Shown,
    pub(super) text: Shown,
    pub(super) todo: Shown,
    pub(super) since: Option<When>,
}

/// A channel through which nobody is told.
pub(super) struct Deaf {
    pub(super) name: String,
    pub(super) at: Option<When>,
    pub(super) message: Shown,
    pub(super) waiting: usize,
}

impl Alerts {
    pub(super) fn told(&self, now: UnixMs) -> Vec<Told> {
        let told = |open: &Open| Told {
            severity: open.severity.clone(),
            title: open.title.clone(),
            text: open.text.clone(),
            todo: open.todo.clone(),
            since: When::new(&open.since, now),
        };
        self.open.iter().map(told).collect()
    }

    /// Those whose last message was not taken.
    pub(super) fn deaf(&self, now: UnixMs) -> Vec<Deaf> {
        let deaf = |(name, channel): (&String, &Channel)| {
            // Times of one width in UTC order as texts.
            let error = channel.last_error.as_ref().filter(|error| channel.last_success.as_ref() < Some(&error.at))?;
            let (name, waiting) = (name.clone(), channel.waiting);
            Some(Deaf { name, at: When::new(&error.at, now), message: error.message.clone(), waiting })
        };
        self.channels.iter().filter_map(deaf).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_told_is_shown_whole_and_in_its_places() {
        let open = json!({ "severity": "critical", "title": "crm is held", "text": "it refuses us", "todo": "release it",
            "since": "2026-11-26T01:33:00.000Z" });
        let channels = json!({ "ops": { "last_success": null, "waiting": 3,
            "last_error": { "at": "2026-11-26T01:33:05.000Z", "message": "HTTP 500" } } });
        let alerts: Alerts = serde_json::from_value(json!({ "open": [open], "channels": channels })).unwrap();
        let now = UnixMs::parse_rfc3339("2026-11-26T01:34:00.000Z").unwrap();
        let told = alerts.told(now);
        let [Told { severity, title, text, todo, since }] = &told[..] else { panic!("{} told", told.len()) };
        let shown = [severity, title, text, todo].map(Shown::as_str);
        assert_eq!(shown, ["critical", "crm is held", "it refuses us", "release it"]);
        assert_eq!(since.as_ref().map(|since| since.iso.as_str()), Some("2026-11-26T01:33:00.000Z"));
        let deaf = alerts.deaf(now);
        let [Deaf { name, at, message, waiting }] = &deaf[..] else { panic!("{} deaf", deaf.len()) };
        assert_eq!((name.as_str(), message.as_str(), *waiting), ("ops", "HTTP 500", 3));
        assert_eq!(at.as_ref().map(|at| at.full.as_str()), Some("2026-11-26 01:33:05 UTC"));
    }

    #[test]
    fn a_channel_is_deaf_while_its_last_message_was_not_taken() {
        let at = |second: u8| format!("2026-11-26T01:33:{second:02}.000Z");
        let channel = |success: Option<u8>, error: Option<u8>| {
            let error = error.map(|second| json!({ "at": at(second), "message": "HTTP 500" }));
            json!({ "last_success": success.map(at), "last_error": error, "waiting": 1 })
        };
        let channels = json!({
            "new": channel(None, None), "never": channel(None, Some(1)), "back": channel(Some(2), Some(1)),
            "gone": channel(Some(1), Some(2)), "well": channel(Some(1), None)
        });
        let alerts: Alerts = serde_json::from_value(json!({ "open": [], "channels": channels })).unwrap();
        let deaf: Vec<String> = alerts.deaf(UnixMs(0)).into_iter().map(|deaf| deaf.name).collect();
        assert_eq!(deaf, ["gone", "never"]);
    }
}
