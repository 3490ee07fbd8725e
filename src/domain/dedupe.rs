//! When are two events the same? (SPEC 3)
//!
//! The key is (source, canonical name, uid or nothing, `event_id`), with the sender's time in place of a missing
//! `event_id`. The content is everything the sender said. Both are kept as keyed hashes: ids come from strangers, who
//! without the store's key cannot construct two that meet. Every field is length-prefixed, so that no crafted value
//! can imitate another split of the same bytes.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::event::Event;
use super::json::{JsonValue, Members};
use super::json_object::JsonObject;

/// The store's 128 secret bits for hashing what strangers send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// What makes an event the same as another. `discriminator` hashes the sender's `event_id` alone, so that an operator can
/// find events by it; `identity` hashes the whole key. Two events are the same where both are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DedupeKey {
    pub discriminator: u64,
    pub identity: u64,
}

/// A hash of everything the sender said, to tell a repeat from a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentHash(pub u64);

/// What an event is told apart by. The caller decides, since it depends on how the event came in: JSON must bring an id
/// or a time, a URL without either is told apart by the hash of its parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Discriminator {
    EventId(String),
    OccurredAtMs(u64),
    /// The parameters as they came, in order, without the token.
    Parameters(Vec<(String, String)>),
}

impl HashKey {
    /// The hash under which [`DedupeKey::discriminator`] holds a sender's id.
    pub fn sender_id(self, event_id: &str) -> u64 {
        let mut hash = self.hasher(b"event_id");
        put(&mut hash, event_id.as_bytes());
        hash.finish128().h1
    }

    /// The dedupe key of `event`.
    pub fn dedupe_key(self, event: &Event, discriminator: &Discriminator) -> DedupeKey {
        let mut hash = self.hasher(b"dedupe");
        put(&mut hash, event.source.as_str().as_bytes());
        put(&mut hash, event.canonical.as_str().as_bytes());
        match &event.uid {
            Some(uid) => put(&mut hash, uid.as_bytes()),
            None => hash.write_u8(0),
        }
        let discriminator = match discriminator {
            Discriminator::EventId(id) => {
                hash.write_u8(1);
                put(&mut hash, id.as_bytes());
                self.sender_id(id)
            }
            Discriminator::OccurredAtMs(time) => {
                hash.write_u8(2);
                hash.write_u64(*time);
                hash.clone().finish128().h2
            }
            Discriminator::Parameters(parameters) => {
                hash.write_u8(3);
                for (name, value) in parameters {
                    put(&mut hash, name.as_bytes());
                    put(&mut hash, value.as_bytes());
                }
                hash.clone().finish128().h2
            }
        };
        DedupeKey { discriminator, identity: hash.finish128().h1 }
    }

    /// The content of `event`, whose objects are read for it, without its receipt and a defaulted time. Amounts count as
    /// numbers (`25.0` = `25.00`), times as instants, members of objects in any order.
    pub fn content(self, event: &Event) -> ContentHash {
        self.content_of(event, event.objects().map(members).each_ref())
    }

    /// The same for who has just read `objects`, which are [`Event::objects`].
    pub fn content_of(self, event: &Event, objects: [&Members<'_>; 4]) -> ContentHash {
        let mut hash = self.hasher(b"content");
        for text in [&event.event_id, &event.uid, &event.action_source] {
            put_option(&mut hash, text.as_deref());
        }
        put_option(&mut hash, event.value.as_ref().map(super::money::Decimal::canonical).as_deref());
        put_option(&mut hash, event.currency.as_ref().map(super::money::Currency::as_str));
        match event.occurred_at.given() {
            Some(time) => hash.write_u64(time.0),
            None => hash.write_u8(0),
        }
        for object in objects {
            put_object(&mut hash, object);
        }
        ContentHash(hash.finish128().h1)
    }

    fn hasher(self, purpose: &[u8]) -> SipHasher24 {
        let mut hash = SipHasher24::new_with_key(&self.0);
        put(&mut hash, purpose);
        hash
    }
}

fn put(hash: &mut SipHasher24, bytes: &[u8]) {
    hash.write_u64(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    hash.write(bytes);
}

fn put_option(hash: &mut SipHasher24, text: Option<&str>) {
    match text {
        Some(text) => {
            hash.write_u8(1);
            put(hash, text.as_bytes());
        }
        None => hash.write_u8(0),
    }
}

/// What stands in an object; nothing where it cannot be read.
fn members(object: &JsonObject) -> Members<'_> {
    match serde_json::from_str(object.json()) {
        Ok(JsonValue::Object(members)) => members,
        Ok(_) | Err(_) => Members::default(),
    }
}

fn put_object(hash: &mut SipHasher24, object: &Members<'_>) {
    hash.write_u64(u64::try_from(object.len()).unwrap_or(u64::MAX));
    for (name, value) in object.sorted() {
        put(hash, name.as_bytes());
        put_value(hash, value);
    }
}

/// Recursion is bounded by the depth the JSON reader accepts.
fn put_value(hash: &mut SipHasher24, value: &JsonValue<'_>) {
    match value {
        JsonValue::Null => hash.write_u8(0),
        JsonValue::Bool(truth) => hash.write_u8(if *truth { 2 } else { 1 }),
        JsonValue::Number(number) => {
            hash.write_u8(3);
            put(hash, number.to_string().as_bytes());
        }
        JsonValue::Text(text) => {
            hash.write_u8(4);
            put(hash, text.as_bytes());
        }
        JsonValue::List(items) => {
            hash.write_u8(5);
            hash.write_u64(u64::try_from(items.len()).unwrap_or(u64::MAX));
            for item in items {
                put_value(hash, item);
            }
        }
        JsonValue::Object(object) => {
            hash.write_u8(6);
            put_object(hash, object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{OccurredAt, tests::sample};
    use super::super::time::UnixMs;
    use super::*;

    const KEY: HashKey = HashKey(*b"0123456789abcdef");

    fn key(uid: Option<&str>, event_id: &str) -> DedupeKey {
        let event = Event { uid: uid.map(str::to_owned), ..sample() };
        KEY.dedupe_key(&event, &Discriminator::EventId(event_id.to_owned()))
    }

    #[test]
    fn no_other_split_of_the_same_bytes_has_the_same_key() {
        assert_ne!(key(Some("ab"), "c"), key(Some("a"), "bc"));
        assert_ne!(key(None, "x"), key(Some(""), "x"));
        assert_ne!(key(Some("1"), "2"), key(Some("2"), "2"), "trackers number transactions per player");
        assert_eq!(key(Some("1"), "2"), key(Some("1"), "2"));
        let by_time = KEY.dedupe_key(&sample(), &Discriminator::OccurredAtMs(5));
        let by_id = KEY.dedupe_key(&sample(), &Discriminator::EventId("5".to_owned()));
        assert_ne!(by_time, by_id);
    }

    #[test]
    fn a_sender_id_is_found_whatever_else_the_key_holds() {
        assert_eq!(key(Some("1"), "trade-9").discriminator, KEY.sender_id("trade-9"));
        assert_eq!(key(None, "trade-9").discriminator, KEY.sender_id("trade-9"));
    }

    #[test]
    fn ids_have_hashes_of_their_own_that_nobody_knows_without_the_key() {
        let other = HashKey(*b"fedcba9876543210");
        assert_ne!(KEY.sender_id("trade-9"), KEY.sender_id("trade-8"));
        assert_ne!(KEY.sender_id("trade-9"), other.sender_id("trade-9"));
    }

    #[test]
    fn content_is_what_was_said_not_how_it_was_written() {
        let plain = KEY.content(&sample());
        let other_digits = Event { value: "25.0".parse().ok(), ..sample() };
        assert_eq!(KEY.content(&other_digits), plain);
        let other_order = Event {
            user: serde_json::from_str(r#"{"ip":"203.0.113.7","email":"jane@example.com"}"#).unwrap_or_default(),
            ..sample()
        };
        assert_eq!(KEY.content(&other_order), plain);
        let later_receipt = Event { received_at: UnixMs(9), ..sample() };
        assert_eq!(KEY.content(&later_receipt), plain);
        let other_amount = Event { value: "26".parse().ok(), ..sample() };
        assert_ne!(KEY.content(&other_amount), plain);
        let other_time = Event { occurred_at: OccurredAt::Given(UnixMs(1)), ..sample() };
        assert_ne!(KEY.content(&other_time), plain);
    }

    #[test]
    fn another_name_or_value_in_an_object_is_another_content() {
        let all = [
            r"{}",
            r#"{"a":1}"#,
            r#"{"b":1}"#,
            r#"{"a":2}"#,
            r#"{"a":"1"}"#,
            r#"{"a":true}"#,
            r#"{"a":false}"#,
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{"b":2}}"#,
        ];
        let said = |text: &str| KEY.content(&Event { data: serde_json::from_str(text).unwrap(), ..sample() });
        for (at, text) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| said(other) != said(text)), "{text}");
        }
    }

    // Row 80.
    #[test]
    fn contents_that_stores_hold_keep_their_hashes() {
        let text = r#"{"z":{"y":[1,{"q":1.50,"p":-0}],"x":null},"a":18446744073709551615,"t":true,"f":false,"s":"é"}"#;
        let said = Event { data: JsonObject::read(text).unwrap(), ..sample() };
        assert_eq!(KEY.content(&said), ContentHash(7_114_119_819_543_283_223));
    }

    #[test]
    fn a_defaulted_time_is_not_content() {
        let at = |ms| KEY.content(&Event { occurred_at: OccurredAt::Received(UnixMs(ms)), ..sample() });
        assert_eq!(at(1), at(2));
    }
}
