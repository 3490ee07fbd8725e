//! Reading an event only to look at it: by the very rules of ingest, but one that ingest would refuse for want of an
//! identity passes, since it is not kept.

use super::validate::{Context, incoming};
use crate::domain::dedupe::Discriminator;
use crate::domain::event::Event;
use crate::domain::json::Members;
use crate::http::problem::FieldError;

/// An event to look at.
#[derive(Debug)]
pub(in crate::http) struct Look {
    pub(in crate::http) event: Event,
    /// Whether ingest could tell its repeats apart.
    pub(in crate::http) has_identity: bool,
}

/// The event that `object` is, or all that is wrong with it. `at` is the object's own path.
pub(in crate::http) fn look(object: Members<'_>, at: &str, context: &Context) -> Result<Look, Vec<FieldError>> {
    let stand_in = Discriminator::Parameters(Vec::new());
    let read = incoming(object, at, context, Some(stand_in.clone()))?;
    Ok(Look { has_identity: read.discriminator != stand_in, event: read.event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dedupe::HashKey;
    use crate::domain::json::JsonValue;
    use crate::domain::time::UnixMs;

    #[test]
    fn an_event_without_an_identity_can_be_looked_at_and_that_is_told() {
        let context = Context {
            source: "app".parse().unwrap(),
            default_currency: "USD".parse().unwrap(),
            received_at: UnixMs(1),
            hash: HashKey([7; 16]),
        };
        for (text, wanted) in [
            (r#"{"event":"a"}"#, false),
            (r#"{"event":"a","event_id":"1"}"#, true),
            (r#"{"event":"a","uid":"1","t":5}"#, true),
        ] {
            let JsonValue::Object(object) = serde_json::from_str(text).unwrap() else { panic!() };
            let seen = look(object, "$", &context).unwrap();
            assert_eq!(seen.has_identity, wanted, "{text}");
        }
    }
}
