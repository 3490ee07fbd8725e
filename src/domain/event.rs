//! The canonical event: one accepted conversion, as every destination sees it.

use std::borrow::Cow;

use serde_json::Value;

use super::json_object::JsonObject;
use super::money::{Currency, Decimal};
use super::name::{CanonicalName, SourceName};
use super::time::UnixMs;

/// What the texts of an event take beside their bytes: some ten of them, 24 each.
const PLACES_BYTES: usize = 256;

/// A JSON object in the sender's own field order.
pub type Object = serde_json::Map<String, Value>;

/// When a conversion happened, and who said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OccurredAt {
    /// The sender's own time.
    Given(UnixMs),
    /// Not given: the time of receipt stands in.
    Received(UnixMs),
}

impl OccurredAt {
    pub fn time(self) -> UnixMs {
        match self {
            Self::Given(time) | Self::Received(time) => time,
        }
    }

    /// The sender's own time, if there was one.
    pub fn given(self) -> Option<UnixMs> {
        match self {
            Self::Given(time) => Some(time),
            Self::Received(_) => None,
        }
    }
}

/// One conversion after validation: every text is within its limit and free of NUL, empty texts are `None`.
///
/// `user`, `click` and `page` hold what the sender wrote there; `data` holds its `data` object and every top-level field
/// we have no name for.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub source: SourceName,
    pub canonical: CanonicalName,
    /// The sender's id, at most 256 bytes.
    pub event_id: Option<String>,
    /// Click id or user id, at most 512 bytes.
    pub uid: Option<String>,
    pub occurred_at: OccurredAt,
    pub received_at: UnixMs,
    pub value: Option<Decimal>,
    pub currency: Option<Currency>,
    pub action_source: Option<String>,
    pub user: JsonObject,
    pub click: JsonObject,
    pub page: JsonObject,
    pub data: JsonObject,
}

impl Event {
    /// Bytes of all its names and texts: about what it takes in the store.
    pub fn bytes(&self) -> usize {
        let texts = [&self.event_id, &self.uid, &self.action_source];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        texts + self.objects().into_iter().map(|object| object.text().len()).sum::<usize>()
    }

    /// Bytes of memory it takes while its objects are not taken apart, with a place of its own for each text.
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.bytes() + PLACES_BYTES
    }

    /// Forgets what was taken apart of its objects: for one that waits.
    pub fn fold(&mut self) {
        [&mut self.user, &mut self.click, &mut self.page, &mut self.data].into_iter().for_each(JsonObject::fold);
    }

    pub fn objects(&self) -> [&JsonObject; 4] {
        [&self.user, &self.click, &self.page, &self.data]
    }

    /// The value at a dotted path, as text, as templates and conditions see it: `event` (the canonical name), `source`,
    /// `event_id`, `uid`, `value`, `currency`, `occurred_at_ms`, `action_source`, and `user.x`, `click.x`, `page.x`,
    /// `data.x.y`. Numbers keep their digits, objects and lists are their JSON, `null` and empty texts are missing.
    pub fn field(&self, path: &str) -> Option<Cow<'_, str>> {
        let (head, rest) = match path.split_once('.') {
            Some((head, rest)) => (head, Some(rest)),
            None => (path, None),
        };
        match (head, rest) {
            ("event" | "canonical", None) => Some(self.canonical.as_str().into()),
            ("source", None) => Some(self.source.as_str().into()),
            ("event_id", None) => self.event_id.as_deref().map(Cow::from),
            ("uid", None) => self.uid.as_deref().map(Cow::from),
            ("value", None) => self.value.as_ref().map(|value| value.as_str().into()),
            ("currency", None) => self.currency.as_ref().map(|currency| currency.as_str().into()),
            ("occurred_at_ms", None) => Some(self.occurred_at.time().0.to_string().into()),
            ("action_source", None) => self.action_source.as_deref().map(Cow::from),
            ("user", Some(rest)) => lookup(&self.user, rest),
            ("click", Some(rest)) => lookup(&self.click, rest),
            ("page", Some(rest)) => lookup(&self.page, rest),
            ("data", Some(rest)) => lookup(&self.data, rest),
            _ => None,
        }
    }
}

/// A member by its whole name first (`utm.source` may be one key), else by walking the dots.
fn lookup<'a>(object: &'a Object, path: &str) -> Option<Cow<'a, str>> {
    if let Some(value) = object.get(path) {
        return scalar_text(value);
    }
    let (head, rest) = path.split_once('.')?;
    lookup(object.get(head)?.as_object()?, rest)
}

/// A JSON value as the text a URL or a header would carry; `None` for `null` and for the empty text.
pub fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => (!text.is_empty()).then(|| text.as_str().into()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string().into()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small event that unit tests in this crate start from.
    pub(crate) fn sample() -> Event {
        let object = |text: &str| JsonObject::read(text).unwrap_or_default();
        Event {
            source: "app".parse().unwrap_or_else(|_| unreachable!()),
            canonical: "deposit".parse().unwrap_or_else(|_| unreachable!()),
            event_id: Some("trade-1".to_owned()),
            uid: Some("u-1".to_owned()),
            occurred_at: OccurredAt::Given(UnixMs(1_764_000_000_000)),
            received_at: UnixMs(1_764_000_001_000),
            value: "25.00".parse().ok(),
            currency: "USD".parse().ok(),
            action_source: None,
            user: object(r#"{"email":"jane@example.com","ip":"203.0.113.7"}"#),
            click: object(r#"{"tg_id":42,"fbclid":"IwAR0","campaign_name":"Лето — 夏"}"#),
            page: object(r#"{"url":"https://shop.example/thanks"}"#),
            data: object(r#"{"plan":{"name":"gold","months":12},"utm.source":"x","none":null,"n":1.10}"#),
        }
    }

    #[test]
    fn fields_are_found_by_path_with_their_written_digits() {
        let event = sample();
        let field = |path: &str| event.field(path).map(Cow::into_owned);
        assert_eq!(field("event").as_deref(), Some("deposit"));
        assert_eq!(field("value").as_deref(), Some("25.00"));
        assert_eq!(field("click.tg_id").as_deref(), Some("42"));
        assert_eq!(field("data.plan.name").as_deref(), Some("gold"));
        assert_eq!(field("data.utm.source").as_deref(), Some("x"));
        assert_eq!(field("data.n").as_deref(), Some("1.10"));
        assert_eq!(field("data.plan").as_deref(), Some(r#"{"name":"gold","months":12}"#));
        for missing in ["data.none", "data.plan.x", "nothing", "user", "click.", "uid.x"] {
            assert_eq!(field(missing), None, "{missing}");
        }
    }
}
