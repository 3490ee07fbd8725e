//! From a JSON object to a canonical event: every rule of the contract's field table, every fault of an event at once.
//!
//! Inside the daemon nothing is checked again. A top-level field we have no name for goes to `data`; where `data` says
//! something else under the same name, the event is refused, since either choice would drop what the sender said.

use super::fields::{Allowed, Fields};
use crate::domain::dedupe::{Discriminator, HashKey};
use crate::domain::event::{Event, OccurredAt};
use crate::domain::json::{JsonValue, Members};
use crate::domain::json_object::{JsonObject, TEXT_BYTES};
use crate::domain::limits::{EVENT_ID_BYTES, SHORT_TEXT_BYTES, UID_BYTES};
use crate::domain::money::{Currency, Decimal};
use crate::domain::name::{CanonicalName, SourceName};
use crate::domain::time::UnixMs;
use crate::http::problem::FieldError;
use crate::pipeline::Incoming;

/// The end of the year 9999, beyond which no RFC 3339 text reaches.
const LATEST: UnixMs = UnixMs(253_402_300_799_999);

/// Names of `event_id`, first the real one.
pub(super) const EVENT_ID_NAMES: [&str; 3] = ["event_id", "eid", "eventId"];

/// Names of what tells events apart.
const IDENTITY_NAMES: [&str; 7] = ["event_id", "eid", "eventId", "uid", "occurred_at_ms", "occurred_at", "t"];

/// What an event gets from where it came in.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) source: SourceName,
    pub(crate) default_currency: Currency,
    pub(crate) received_at: UnixMs,
    /// What contents are hashed with.
    pub(crate) hash: HashKey,
}

/// The event that `object` is, or all that is wrong with it. `at` is the object's own path (`$` or `$[3]`); `fallback`
/// tells it apart where it has neither an id nor both uid and time.
pub(crate) fn incoming(
    object: Members<'_>,
    at: &str,
    context: &Context,
    fallback: Option<Discriminator>,
) -> Result<Incoming, Vec<FieldError>> {
    let mut fields = Fields::new(object, at);
    fields.refuse_unstorable();
    let canonical = canonical(&mut fields);
    let event_id = fields.id_text(&EVENT_ID_NAMES, EVENT_ID_BYTES);
    let uid = fields.id_text(&["uid"], UID_BYTES);
    let given = occurred_at(&mut fields);
    let value = value(&mut fields);
    let currency = currency(&mut fields).or_else(|| value.as_ref().map(|_| context.default_currency));
    let action_source = fields.text(&["action_source"], SHORT_TEXT_BYTES);
    let user = fields.object("user", Allowed::ScalarsOrLists);
    let click = fields.object("click", Allowed::Scalars);
    let page = fields.object("page", Allowed::Scalars);
    let data = fields.object("data", Allowed::Any);

    let discriminator = match (&event_id, &uid, given) {
        (Some(id), _, _) => Some(Discriminator::EventId(id.clone())),
        (None, Some(_), Some(time)) => Some(Discriminator::OccurredAtMs(time.0)),
        (None, _, _) => fallback,
    };
    if discriminator.is_none() && !IDENTITY_NAMES.iter().any(|name| fields.has_fault(name)) {
        fields.fault(
            "event_id",
            "no_identity",
            "repeats of this event could not be told apart; send event_id, or both uid and occurred_at_ms",
        );
    }
    let (data, faults) = fields.finish(data);
    match (canonical, discriminator) {
        (Some(canonical), Some(discriminator)) if faults.is_empty() => {
            let received_at = context.received_at;
            let occurred_at = given.map_or(OccurredAt::Received(received_at), OccurredAt::Given);
            let source = context.source.clone();
            let mut room = Vec::with_capacity(TEXT_BYTES);
            let mut written = |object| JsonObject::write(object, &mut room);
            let event = Event {
                source,
                canonical,
                event_id,
                uid,
                occurred_at,
                received_at,
                value,
                currency,
                action_source,
                user: written(&user),
                click: written(&click),
                page: written(&page),
                data: written(&data),
            };
            let content = context.hash.content_of(&event, [&user, &click, &page, &data]);
            Ok(Incoming { event, discriminator, content })
        }
        _ => Err(faults),
    }
}

fn canonical(fields: &mut Fields<'_, '_>) -> Option<CanonicalName> {
    let Some((name, value)) = fields.take(&["event", "canonical"]) else {
        if !fields.has_fault("event") && !fields.has_fault("canonical") {
            fields.fault("event", "required", "the event has no name; write what happened, like \"deposit\"");
        }
        return None;
    };
    let JsonValue::Text(text) = value else {
        fields.fault_type(name, "a text like \"deposit\"", &value);
        return None;
    };
    match text.parse() {
        Ok(canonical) => Some(canonical),
        Err(wrong) => {
            fields.fault(name, "invalid", wrong.to_string());
            None
        }
    }
}

/// `occurred_at_ms`, `t` and `occurred_at`: one instant, however often it is given.
fn occurred_at(fields: &mut Fields<'_, '_>) -> Option<UnixMs> {
    let mut found: Option<(&'static str, UnixMs)> = None;
    for name in ["occurred_at_ms", "occurred_at", "t"] {
        let Some((_, value)) = fields.take(&[name]) else { continue };
        let time = match &value {
            JsonValue::Number(number) if name != "occurred_at" => milliseconds(&number.to_string()),
            JsonValue::Text(text) if name == "occurred_at" => UnixMs::parse_rfc3339(text),
            JsonValue::Text(text) if name == "t" => milliseconds(text).or_else(|| UnixMs::parse_rfc3339(text)),
            JsonValue::Text(text) => milliseconds(text),
            JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) | JsonValue::List(_) | JsonValue::Object(_) => {
                None
            }
        };
        let Some(time) = time.filter(|time| *time <= LATEST) else {
            fields.fault(name, "invalid", wanted_time(name));
            continue;
        };
        match found {
            Some((other, known)) if known != time => {
                let detail = format!("{other} says another instant; send only one of them");
                fields.fault(name, "contradiction", detail);
            }
            Some(_) => {}
            None => found = Some((name, time)),
        }
    }
    found.map(|(_, time)| time)
}

fn wanted_time(name: &str) -> &'static str {
    match name {
        "occurred_at" => "not a time; write RFC 3339 with its offset, like 2026-11-21T23:40:38Z",
        "t" => "not a time; write whole milliseconds since 1970, like 1795304438000, or RFC 3339",
        _ => "not a time; write whole milliseconds since 1970, like 1795304438000",
    }
}

fn milliseconds(text: &str) -> Option<UnixMs> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok().map(UnixMs)).flatten()
}

fn value(fields: &mut Fields<'_, '_>) -> Option<Decimal> {
    let (name, value) = fields.take(&["value"])?;
    let text = match value {
        JsonValue::Text(text) => text,
        JsonValue::Number(number) => number.to_string().into(),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::List(_) | JsonValue::Object(_) => {
            fields.fault_type(name, "a decimal number, like 25.00 or \"25.00\"", &value);
            return None;
        }
    };
    match text.parse() {
        Ok(amount) => Some(amount),
        Err(wrong) => {
            fields.fault(name, "invalid", format!("{text:?} is {wrong}"));
            None
        }
    }
}

fn currency(fields: &mut Fields<'_, '_>) -> Option<Currency> {
    let text = fields.text(&["currency"], SHORT_TEXT_BYTES)?;
    match text.parse() {
        Ok(currency) => Some(currency),
        Err(wrong) => {
            fields.fault("currency", "invalid", format!("{text:?} is {wrong}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::RESERVED_PREFIX;

    const NOW: UnixMs = UnixMs(1_795_304_438_000);

    fn context() -> Context {
        Context {
            source: "app".parse().unwrap(),
            default_currency: "USD".parse().unwrap(),
            received_at: NOW,
            hash: HashKey([7; 16]),
        }
    }

    fn read(text: &str) -> Result<Incoming, Vec<FieldError>> {
        let JsonValue::Object(object) = crate::http::strict_json::parse(text, text).unwrap() else { panic!() };
        let read = incoming(object, "$", &context(), None)?;
        assert_eq!(context().hash.content(&read.event), read.content, "its content is that of the event");
        Ok(read)
    }

    fn good(text: &str) -> Event {
        read(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}")).event
    }

    /// Paths and codes, as `$.event required`.
    fn faults(text: &str) -> Vec<String> {
        let faults = read(text).map(|event| panic!("{text} was accepted: {event:?}")).unwrap_err();
        faults.iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect()
    }

    #[test]
    fn a_full_event_is_kept_as_it_was_written() {
        let event = good(
            r#"{"event":"deposit","event_id":"t-1","uid":"u","occurred_at_ms":1795304430000,"value":25.00,"currency":"eur",
                "user":{"email":["a@b.example","c@d.example"],"zip":123},"click":{"tg_id":42,"x":true},
                "page":{"url":"https://shop.example/"},"action_source":"website","data":{"a":{"b":[1]}},"order":7}"#,
        );
        assert_eq!(event.event_id.as_deref(), Some("t-1"));
        assert_eq!(event.value.map(|value| value.to_string()).as_deref(), Some("25.00"));
        assert_eq!(event.currency.map(|currency| currency.to_string()).as_deref(), Some("EUR"));
        assert_eq!(event.occurred_at, OccurredAt::Given(UnixMs(1_795_304_430_000)));
        assert_eq!(event.data.text(), r#"{"a":{"b":[1]},"order":7}"#);
        assert_eq!(event.user["email"][1], "c@d.example");
    }

    #[test]
    fn aliases_are_the_field_itself() {
        let event = good(r#"{"canonical":"lead","eid":17,"uid":5,"t":"2026-11-21T23:40:38Z","eventId":"17"}"#);
        assert_eq!(event.canonical.as_str(), "lead");
        assert_eq!((event.event_id.as_deref(), event.uid.as_deref()), (Some("17"), Some("5")));
        assert_eq!(event.occurred_at, OccurredAt::Given(UnixMs(1_795_304_438_000)));
        assert!(event.data.is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, wanted) in [
            (r#"{"event":"a","canonical":"b","event_id":"1"}"#, "$.canonical contradiction"),
            (r#"{"event":"a","event_id":"1","eid":"2"}"#, "$.eid contradiction"),
            (
                r#"{"event":"a","event_id":"1","occurred_at_ms":1,"occurred_at":"2026-11-21T23:40:38Z"}"#,
                "$.occurred_at contradiction",
            ),
            (r#"{"event":"a","event_id":"1","order":1,"data":{"order":2}}"#, "$.order contradiction"),
        ] {
            assert_eq!(faults(text), [wanted], "{text}");
        }
        good(r#"{"event":"a","event_id":"1","t":1795304438000,"occurred_at":"2026-11-22T00:40:38+01:00"}"#);
        good(r#"{"event":"a","event_id":"1","order":1,"data":{"order":1}}"#);
    }

    #[test]
    fn empty_is_missing() {
        let event = good(
            r#"{"event":"a","event_id":"","eid":"7","uid":null,"value":"","currency":"","user":null,"click":"","t":""}"#,
        );
        assert_eq!((event.event_id.as_deref(), event.uid, event.value, event.currency), (Some("7"), None, None, None));
        assert_eq!(faults(r#"{"event":"","event_id":"1"}"#), ["$.event required"]);
    }

    #[test]
    fn every_fault_of_an_event_is_told_at_once() {
        assert_eq!(
            faults(
                r#"{"event":"a b","uid":true,"value":"1,5","currency":"dollar","user":[],"click":{"x":{}},"page":{"url":[]},
                    "user_":1,"data":1,"occurred_at":"yesterday","action_source":5}"#
            ),
            [
                "$.event invalid",
                "$.uid type",
                "$.occurred_at invalid",
                "$.value invalid",
                "$.currency invalid",
                "$.action_source type",
                "$.user type",
                "$.click.x type",
                "$.page.url type",
                "$.data type",
            ]
        );
    }

    #[test]
    fn json_without_an_id_needs_uid_and_time() {
        for text in [r#"{"event":"a"}"#, r#"{"event":"a","uid":"1"}"#, r#"{"event":"a","t":1}"#] {
            assert_eq!(faults(text), ["$.event_id no_identity"], "{text}");
        }
        let incoming = read(r#"{"event":"a","uid":"1","t":5}"#).unwrap();
        assert_eq!(incoming.discriminator, Discriminator::OccurredAtMs(5));
        let incoming = read(r#"{"event":"a","uid":"1","t":5,"eid":"x"}"#).unwrap();
        assert_eq!(incoming.discriminator, Discriminator::EventId("x".to_owned()));
        assert_eq!(faults(r#"{"event":"a","event_id":{}}"#), ["$.event_id type"], "no second fault for the same field");
    }

    #[test]
    fn a_fallback_serves_only_where_id_or_uid_and_time_are_missing() {
        let fallback = Discriminator::Parameters(vec![("a".to_owned(), "b".to_owned())]);
        let told = |text: &str| {
            let JsonValue::Object(object) = serde_json::from_str(text).unwrap() else { panic!() };
            incoming(object, "$", &context(), Some(fallback.clone())).unwrap().discriminator
        };
        assert_eq!(told(r#"{"event":"a","t":5}"#), fallback);
        assert_eq!(told(r#"{"event":"a","uid":"1"}"#), fallback);
        assert_eq!(told(r#"{"event":"a","uid":"1","t":5}"#), Discriminator::OccurredAtMs(5));
    }

    #[test]
    fn texts_have_limits_in_bytes() {
        let event = |id: usize, uid: usize| {
            format!(r#"{{"event":"a","event_id":"{}","uid":"{}"}}"#, "é".repeat(id / 2), "u".repeat(uid))
        };
        good(&event(256, 512));
        assert_eq!(faults(&event(258, 513)), ["$.event_id too_long", "$.uid too_long"]);
        let name = |length: usize| format!(r#"{{"event":"{}","event_id":"1"}}"#, "a".repeat(length));
        good(&name(64));
        assert_eq!(faults(&name(65)), ["$.event invalid"]);
    }

    #[test]
    fn nul_is_refused_everywhere() {
        assert_eq!(
            faults(r#"{"event":"a","event_id":"x\u0000","data":{"a":[1,"\u0000"]},"user":{"k\u0000":1}}"#),
            ["$.event_id nul", "$.data.a[1] nul", r#"$.user["k\u0000"] nul"#]
        );
        assert_eq!(faults(r#"{"event":"a","event_id":"1","k\u0000":1}"#), [r#"$["k\u0000"] nul"#]);
        assert_eq!(faults(r#"{"event":"a\u0000","event_id":"1"}"#), ["$.event nul"], "and it is told once");
        assert_eq!(faults(r#"{"event_id":"1","uid":"\u0000"}"#), ["$.uid nul", "$.event required"]);
    }

    #[test]
    fn a_reserved_name_is_refused_wherever_it_stands() {
        let text = |text: &'static str| JsonValue::Text(text.into());
        let event = |more: Members<'static>| {
            let mut object = Members::default();
            object.extend([("event".into(), text("a")), ("event_id".into(), text("1"))]);
            object.extend(more);
            let refused = incoming(object, "$", &context(), None).unwrap_err();
            refused.iter().map(|error| error.code).collect::<Vec<_>>()
        };
        let one = |name: String, value| {
            let mut object = Members::default();
            object.extend([(name.into(), value)]);
            object
        };
        let reserved = || one(format!("{RESERVED_PREFIX}Number"), text("1"));
        assert_eq!(event(reserved()), ["reserved"]);
        assert_eq!(event(one("data".to_owned(), JsonValue::Object(reserved()))), ["reserved"]);
    }

    #[test]
    fn what_describes_a_person_is_a_value_or_a_list_of_values() {
        for (user, wanted) in
            [(r#"{"email":{"a":1}}"#, "$.user.email type"), (r#"{"email":["a",["b"]]}"#, "$.user.email type")]
        {
            assert_eq!(faults(&format!(r#"{{"event":"a","event_id":"1","user":{user}}}"#)), [wanted]);
        }
        good(r#"{"event":"a","event_id":"1","user":{"email":["a",5,true]}}"#);
    }

    #[test]
    fn a_fault_says_what_is_there_and_what_to_write() {
        for (member, wanted) in [
            (r#""event":true"#, "this is true or false; write a text"),
            (r#""event":1"#, "this is a number; write a text"),
            (r#""event":[]"#, "this is a list; write a text"),
            (r#""event":{}"#, "this is an object; write a text"),
            (r#""event":"a","user":"x""#, "this is a text; write an object"),
            (r#""event":"a","user":{"a":[null,[]]}"#, "this is a list; write a text, a number"),
            (r#""event":"a","occurred_at":"soon""#, "not a time; write RFC 3339 with its offset"),
            (r#""event":"a","occurred_at_ms":"soon""#, "not a time; write whole milliseconds"),
            (
                r#""event":"a","t":"soon""#,
                "not a time; write whole milliseconds since 1970, like 1795304438000, or RFC 3339",
            ),
        ] {
            let detail = read(&format!(r#"{{"event_id":"1",{member}}}"#)).unwrap_err()[0].detail.clone();
            assert!(detail.starts_with(wanted), "{member}: {detail}");
        }
    }

    #[test]
    fn no_more_than_fifty_faults_of_an_event_are_told() {
        let click: Vec<_> = (0..60).map(|n| format!(r#""k{n}":[]"#)).collect();
        let text = format!(r#"{{"event":"a","event_id":"1","click":{{{}}}}}"#, click.join(","));
        assert_eq!(faults(&text).len(), 50);
    }

    #[test]
    fn amounts_keep_their_digits_and_get_a_currency() {
        for (written, kept) in [("25.00", "25.00"), ("\"25.00\"", "25.00"), ("-3", "-3"), ("0.1", "0.1")] {
            let event = good(&format!(r#"{{"event":"a","event_id":"1","value":{written}}}"#));
            assert_eq!(event.value.map(|value| value.to_string()).as_deref(), Some(kept));
            assert_eq!(event.currency.map(|currency| currency.to_string()).as_deref(), Some("USD"));
        }
        for written in ["1e3", "\"1 000\"", "\"1,5\"", "true", "[1]", "123456789012345678901"] {
            let text = format!(r#"{{"event":"a","event_id":"1","value":{written}}}"#);
            assert!(faults(&text)[0].starts_with("$.value "), "{written}");
        }
    }

    #[test]
    fn times_are_whole_milliseconds() {
        for written in ["-1", "1.5", "1e3", "true", "\"now\"", "\"+5\"", "99999999999999999999", "253402300800000"] {
            let text = format!(r#"{{"event":"a","event_id":"1","occurred_at_ms":{written}}}"#);
            assert_eq!(faults(&text), ["$.occurred_at_ms invalid"], "{written}");
        }
        let numeric = r#"{"event":"a","event_id":"1","occurred_at":1795304438000}"#;
        assert_eq!(faults(numeric), ["$.occurred_at invalid"]);
        let written = r#"{"event":"a","event_id":"1","occurred_at_ms":"2026-11-21T23:40:38Z"}"#;
        assert_eq!(faults(written), ["$.occurred_at_ms invalid"]);
    }

    #[test]
    fn without_a_time_the_receipt_stands_in() {
        assert_eq!(good(r#"{"event":"a","event_id":"1"}"#).occurred_at, OccurredAt::Received(NOW));
    }
}
