//! Events that come as URL parameters: `GET /e?token=&event=&uid=&value=&currency=&eid=&t=`.
//!
//! Networks fire such URLs with macros they did not fill in; those count as missing. Parameters we have no name for go
//! to `data`, also those that are called `user`, `click`, `page` or `data`, which are objects in JSON and texts here.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::fields::member;
use super::items::{Candidate, Rejected};
use super::validate::{Context, EVENT_ID_NAMES, incoming};
use crate::domain::dedupe::Discriminator;
use crate::domain::event::Object;
use crate::domain::limits::EVENT_ID_BYTES;
use crate::domain::message::cut;
use crate::http::problem::FieldError;
use crate::inbound::placeholder::{counting, unexpanded};

/// Parameters that are fields of an event; all others are its data.
const FIELDS: [&str; 12] = [
    "event",
    "canonical",
    "event_id",
    "eid",
    "eventId",
    "uid",
    "value",
    "currency",
    "occurred_at_ms",
    "occurred_at",
    "t",
    "action_source",
];

/// Name and value of every parameter, in order. What is not UTF-8 once decoded (a campaign name in a code page of old)
/// stays encoded as it came: forced into letters, different values would become the same, and one event would be taken
/// for a repeat of another.
pub(super) fn parameters(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn text(encoded: &str) -> String {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map_or_else(|_| encoded.to_owned(), std::borrow::Cow::into_owned)
}

/// The event that `parameters` (in order, without the token) are.
pub(super) fn event(parameters: Vec<(String, String)>, context: &Context) -> Candidate {
    let mut object = Object::new();
    let mut data = Object::new();
    let mut errors = Vec::new();
    for (name, value) in &parameters {
        if counting(value).is_none() {
            continue;
        }
        let place = if FIELDS.contains(&name.as_str()) { &mut object } else { &mut data };
        match place.get(name) {
            Some(Value::String(known)) if known != value => {
                let detail = "the parameter stands twice with different values; send it once";
                errors.push(FieldError::new(member("$", name), "contradiction", detail));
            }
            _ => {
                place.insert(name.clone(), Value::from(value.as_str()));
            }
        }
    }
    let event_id = EVENT_ID_NAMES.iter().find_map(|name| object.get(*name)).and_then(Value::as_str);
    let event_id = event_id.map(|id| cut(id, EVENT_ID_BYTES).to_owned());
    object.insert("data".to_owned(), Value::Object(data));
    match incoming(object.into(), "$", context, Some(Discriminator::Parameters(parameters))) {
        Ok(incoming) if errors.is_empty() => Ok(incoming),
        Ok(_) => Err(Rejected { event_id, errors }),
        Err(faults) => {
            errors.extend(faults);
            Err(Rejected { event_id, errors })
        }
    }
}

/// Names of the parameters that came as macros, each once.
pub(super) fn unexpanded_names(parameters: &[(String, String)]) -> Vec<String> {
    let mut names: Vec<String> =
        parameters.iter().filter(|(_, value)| unexpanded(value)).map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dedupe::HashKey;
    use crate::domain::time::UnixMs;

    fn read(query: &str) -> Candidate {
        let context = Context {
            source: "app".parse().unwrap(),
            default_currency: "USD".parse().unwrap(),
            received_at: UnixMs(1),
            hash: HashKey([7; 16]),
        };
        event(parameters(query), &context)
    }

    #[test]
    fn parameters_are_the_fields_of_the_same_name() {
        let got =
            read("event=deposit&uid=u%201&value=25.00&currency=eur&eid=t-1&t=1795304438000&sub_id=7&click=x").unwrap();
        assert_eq!(got.discriminator, Discriminator::EventId("t-1".to_owned()));
        assert_eq!(got.event.uid.as_deref(), Some("u 1"));
        assert_eq!(got.event.value.map(|value| value.to_string()).as_deref(), Some("25.00"));
        assert_eq!(got.event.occurred_at.given(), Some(UnixMs(1_795_304_438_000)));
        assert_eq!(got.event.data.text(), r#"{"sub_id":"7","click":"x"}"#);
    }

    #[test]
    fn without_id_and_time_the_parameters_tell_events_apart() {
        let told = |query: &str| read(query).unwrap().discriminator;
        assert_eq!(told("event=lead&uid=1"), told("event=lead&uid=1"));
        assert_ne!(told("event=lead&uid=1&x=1"), told("event=lead&uid=1&x=2"));
        assert!(matches!(told("event=lead&t=5"), Discriminator::Parameters(_)), "a time alone tells nobody apart");
        assert_eq!(told("event=lead&uid=1&t=5"), Discriminator::OccurredAtMs(5));
    }

    #[test]
    fn parameters_are_decoded_and_what_is_not_utf8_stays_as_it_came() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parameters("a=1&&b=x+y%20z%2B&c&d=%D0%9B=1&%65=&f=%CF+%F0&g=100%"),
            [
                pair("a", "1"),
                pair("b", "x y z+"),
                pair("c", ""),
                pair("d", "Л=1"),
                pair("e", ""),
                pair("f", "%CF+%F0"),
                pair("g", "100%")
            ]
        );
        let told = |query: &str| read(query).unwrap().discriminator;
        assert_ne!(told("event=lead&sub=%CF%F0"), told("event=lead&sub=%C0%C1"), "two events, not one and its repeat");
        assert_ne!(told("event=lead&eid=%ff"), told("event=lead&eid=%fe"));
    }

    #[test]
    fn macros_that_nobody_filled_in_are_missing() {
        let got = read("event=lead&uid={click_id}&eid=%257Bid%257D&sub=${SUB}").unwrap();
        assert_eq!((got.event.uid, got.event.event_id), (None, None));
        assert!(got.event.data.is_empty());
        let names = unexpanded_names(&parameters("a=1&uid=[UID]&sub=${SUB}&uid=[UID]&b="));
        assert_eq!(names, ["sub", "uid"]);
    }

    #[test]
    fn faults_are_those_of_json() {
        let codes = |query: &str| -> Vec<String> {
            let errors = read(query).unwrap_err().errors;
            errors.iter().map(|error| format!("{} {}", error.path, error.code)).collect()
        };
        assert_eq!(codes("uid=1"), ["$.event required"]);
        assert_eq!(codes("event=lead&uid=1&uid=2&value=1,5"), ["$.uid contradiction", "$.value invalid"]);
        assert_eq!(codes("event=lead&uid=1&uid=2"), ["$.uid contradiction"]);
        assert_eq!(read("event=lead&uid=1&uid=1").unwrap().event.uid.as_deref(), Some("1"));
        assert_eq!(codes("event=lead&uid=%00"), ["$.uid nul"]);
        assert_eq!(codes("event=lead&%24serde_json%3A%3Aprivate%3A%3ANumber=1").len(), 1);
    }
}
