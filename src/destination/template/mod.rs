//! Templates with `{macro}`s: compiled when the configuration is loaded, so that nothing but a value can go wrong later.
//!
//! | macro | value |
//! |---|---|
//! | `{uid}` `{value}` `{currency}` `{occurred_at_ms}` `{source}` `{canonical}` | the event's field |
//! | `{event}` | the target name, what this destination calls the event |
//! | `{event_id}` | the sender's id, else the delivery's |
//! | `{delivery_id}` | the delivery's id, the same on every attempt |
//! | `{click.x}` `{data.x}` `{data.x.y}` | a member of `click` or `data` |
//! | `{tg_id}` `{fbclid}` `{campaign_id}` `{campaign_name}` `{adset_id}` `{adset_name}` `{ad_id}` `{ad_name}` `{placement}` | short for `{click.…}` |
//! | `{secret.NAME}` | a secret of the destination (`s2s_postback`) |
//! | `{user.x}` | only where the destination's `include_user` names it (`webhook`) |
//!
//! A value that is missing becomes nothing. Values are encoded for the place they land in, always: what an event says can
//! never become structure.

pub mod json;
pub mod url;
mod url_checks;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Outgoing;
use crate::domain::secret::Secret;

/// Short names of click fields (the macros existing trackers have).
const CLICK_SHORT: [&str; 9] =
    ["tg_id", "fbclid", "campaign_id", "campaign_name", "adset_id", "adset_name", "ad_id", "ad_name", "placement"];

/// Macros without a dot; the event's own field of that name unless said otherwise above.
const PLAIN: [&str; 9] =
    ["uid", "event", "canonical", "event_id", "delivery_id", "source", "value", "currency", "occurred_at_ms"];

/// What a template may name beyond the event's open fields.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `None` where the kind has no `secrets` table.
    pub secrets: Option<&'a BTreeMap<String, Secret>>,
    /// Members of `user` the destination may see.
    pub user: &'a [String],
}

/// One compiled macro.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Macro {
    /// As written, for messages.
    name: String,
    source: Source,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Source {
    Target,
    /// The sender's id, else the delivery's.
    EventId,
    DeliveryId,
    /// A path for [`crate::domain::event::Event::field`].
    Path(String),
    Secret(Secret),
}

/// Literal text or a macro.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Text(String),
    Macro(Macro),
}

impl Macro {
    /// Compiles what stands between the braces.
    fn parse(name: &str, scope: Scope<'_>) -> Result<Self, String> {
        let made = |source| Ok(Self { name: name.to_owned(), source });
        match name {
            "event" => return made(Source::Target),
            "event_id" => return made(Source::EventId),
            "delivery_id" => return made(Source::DeliveryId),
            _ if PLAIN.contains(&name) => return made(Source::Path(name.to_owned())),
            _ if CLICK_SHORT.contains(&name) => return made(Source::Path(format!("click.{name}"))),
            _ => {}
        }
        match name.split_once('.') {
            Some((_, rest)) if rest.is_empty() || rest.chars().any(char::is_whitespace) => {
                Err(format!("{{{name}}} names no field; write one behind the dot, like {{data.order_id}}"))
            }
            Some(("data" | "click", _)) => made(Source::Path(name.to_owned())),
            Some(("user", member)) if scope.user.iter().any(|known| known == member) => {
                made(Source::Path(name.to_owned()))
            }
            Some(("user", member)) if scope.secrets.is_none() => {
                Err(format!("{{{name}}} would send personal data; add \"{member}\" to include_user if it should"))
            }
            Some(("secret", secret)) => match scope.secrets.and_then(|secrets| secrets.get(secret)) {
                Some(secret) => made(Source::Secret(secret.clone())),
                None if scope.secrets.is_some() => Err(format!(
                    "{{{name}}} is not in this destination's secrets; add {secret} = \"…\" to its secrets table"
                )),
                None => Err(format!("{{{name}}}: this kind has no secrets table; put tokens into headers")),
            },
            _ => Err(unknown(name)),
        }
    }

    /// The value, not encoded; empty where the event has none.
    fn value<'a>(&'a self, delivery: &Outgoing<'a>) -> Cow<'a, str> {
        let value = match &self.source {
            Source::Target => Some(delivery.target.as_str().into()),
            Source::EventId => {
                let own = delivery.event.event_id.as_deref().map(Cow::from);
                Some(own.unwrap_or_else(|| delivery.id.to_string().into()))
            }
            Source::DeliveryId => Some(delivery.id.to_string().into()),
            Source::Path(path) => delivery.event.field(path),
            Source::Secret(secret) => Some(secret.expose().into()),
        };
        value.unwrap_or_default()
    }

    fn is_secret(&self) -> bool {
        match self.source {
            Source::Secret(_) => true,
            Source::Target | Source::EventId | Source::DeliveryId | Source::Path(_) => false,
        }
    }
}

/// The message about a name that is no macro, with the nearest one that is.
fn unknown(name: &str) -> String {
    if name.split_once(':').is_some_and(|(head, _)| !head.is_empty()) {
        return format!(
            "{{{name}}} holds a map or a format, which macros here do not have; write a plain one like {{event}}, and put the \
             network's own names for events into this destination's events"
        );
    }
    if let Some(plain) = name.strip_prefix('_').filter(|plain| !plain.is_empty()) {
        return format!(
            "{{{name}}} asks for a value that is not encoded, and values are always encoded, so that none can change where a \
             request goes; write {{{plain}}}"
        );
    }
    let known = PLAIN.iter().chain(&CLICK_SHORT);
    let near = known
        .map(|known| (strsim::damerau_levenshtein(known, &name.to_lowercase()), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, known)) => format!("{{{name}}} is no macro; did you mean {{{known}}}?"),
        None => format!(
            "{{{name}}} is no macro; write one of {{{}}}, {{{}}}, {{click.NAME}}, {{data.NAME}}",
            PLAIN.join("} {"),
            CLICK_SHORT.join("} {")
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
    use crate::domain::name::TargetName;

    pub(in crate::destination) fn delivery_id() -> DeliveryId {
        let key = DeliveryKey { seq: EventSeq(7), destination: DestinationId(3) };
        DeliveryId { instance: InstanceId::from_random(5), key }
    }

    pub(in crate::destination) fn outgoing<'a>(event: &'a Event, target: &'a TargetName) -> Outgoing<'a> {
        Outgoing { id: delivery_id(), target, event }
    }

    #[test]
    fn every_documented_macro_has_its_value() {
        let secrets = BTreeMap::from([("token".to_owned(), Secret::new("s3cr3t".to_owned()))]);
        let user = ["email".to_owned()];
        let scope = Scope { secrets: Some(&secrets), user: &user };
        let mut event = sample();
        let target: TargetName = "Purchase".parse().unwrap();
        let value = |event: &Event, name: &str| {
            Macro::parse(name, scope).unwrap().value(&outgoing(event, &target)).into_owned()
        };
        for (name, wanted) in [
            ("uid", "u-1"),
            ("event", "Purchase"),
            ("canonical", "deposit"),
            ("event_id", "trade-1"),
            ("delivery_id", &delivery_id().to_string()),
            ("source", "app"),
            ("value", "25.00"),
            ("currency", "USD"),
            ("occurred_at_ms", "1764000000000"),
            ("tg_id", "42"),
            ("fbclid", "IwAR0"),
            ("campaign_name", "Лето — 夏"),
            ("placement", ""),
            ("click.tg_id", "42"),
            ("data.plan.name", "gold"),
            ("data.absent", ""),
            ("user.email", "jane@example.com"),
            ("secret.token", "s3cr3t"),
        ] {
            assert_eq!(value(&event, name), wanted, "{name}");
        }
        event.event_id = None;
        assert_eq!(value(&event, "event_id"), delivery_id().to_string());
        for name in PLAIN.iter().chain(&CLICK_SHORT) {
            assert!(Macro::parse(name, scope).is_ok(), "{name}");
        }
    }

    #[test]
    fn unknown_macros_are_refused_with_what_to_write() {
        let empty = BTreeMap::new();
        let s2s = Scope { secrets: Some(&empty), user: &[] };
        let webhook = Scope { secrets: None, user: &[] };
        let error = |name: &str, scope| Macro::parse(name, scope).unwrap_err();
        assert_eq!(error("udi", s2s), "{udi} is no macro; did you mean {uid}?");
        assert_eq!(error("UID", s2s), "{UID} is no macro; did you mean {uid}?");
        assert!(error("PAYOUT", s2s).contains("is no macro; write one of {uid}"));
        assert!(error("status:lead=0 sale=1", s2s).contains("write a plain one like {event}"));
        assert!(error("date:Y-m-d,UTC", webhook).contains("a map or a format"));
        assert!(error("_uid", s2s).contains("values are always encoded"));
        assert!(error("data.", s2s).contains("names no field"));
        assert!(error("user.email", s2s).contains("is no macro"));
        assert!(error("user.email", webhook).contains("include_user"));
        assert!(error("secret.x", s2s).contains("add x ="));
        assert!(error("secret.x", webhook).contains("no secrets table"));
    }
}
