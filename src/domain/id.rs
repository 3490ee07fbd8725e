//! Identities: of the store, of an event, of a destination, of a delivery.
//!
//! A public id carries its place in the store, so that finding a row needs no index: `evt_` + instance + sequence,
//! `dlv_` + instance + sequence + destination, in lower-case Crockford base 32 of fixed width. The instance is drawn
//! once per store, so that a new store never repeats an id a receiver has already seen. The alphabet holds no dot,
//! which Standard Webhooks forbids in a `webhook-id`.

use std::fmt;
use std::str::FromStr;

use super::job::JobNumber;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const INSTANCE_CHARS: usize = 8;
const SEQ_CHARS: usize = 13;
const DESTINATION_CHARS: usize = 4;
/// The longest id, a delivery's, with its prefix.
const ID_BYTES: usize = 4 + INSTANCE_CHARS + SEQ_CHARS + DESTINATION_CHARS;

/// The store's own random 40 bits: the same for its whole life, different for every new store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstanceId(u64);

impl InstanceId {
    /// Keeps the lower 40 bits of `random`.
    pub fn from_random(random: u64) -> Self {
        Self(random & 0xff_ffff_ffff)
    }

    /// The 40 bits, as they are stored.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// An event's place in the order of acceptance, from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EventSeq(pub u64);

/// A destination's number in the store. A name keeps its number for the store's whole life, also while it is absent
/// from the configuration. Below 2^20 ([`DestinationId::MAX`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DestinationId(pub u32);

impl DestinationId {
    /// The largest number that fits the four characters a delivery id has for it.
    pub const MAX: Self = Self(0xf_ffff);
}

/// Event × destination: which delivery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryKey {
    pub seq: EventSeq,
    pub destination: DestinationId,
}

/// The public id of an event, `evt_…`, 25 characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId {
    pub instance: InstanceId,
    pub seq: EventSeq,
}

/// The public id of a delivery, `dlv_…`, 29 characters: the same on every attempt, retry and replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliveryId {
    pub instance: InstanceId,
    pub key: DeliveryKey,
}

/// A text that is not an id of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is not {wanted}")]
pub struct IdError {
    given: String,
    wanted: &'static str,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_base32(f, "evt_", &[(self.instance.0, INSTANCE_CHARS), (self.seq.0, SEQ_CHARS)])
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = u64::from(self.key.destination.0);
        let parts = [(self.instance.0, INSTANCE_CHARS), (self.key.seq.0, SEQ_CHARS), (destination, DESTINATION_CHARS)];
        write_base32(f, "dlv_", &parts)
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts = text.strip_prefix("evt_").and_then(|rest| split_base32(rest, [INSTANCE_CHARS, SEQ_CHARS]));
        match parts {
            Some([instance, seq]) => Ok(Self { instance: InstanceId(instance), seq: EventSeq(seq) }),
            None => Err(IdError { given: excerpt(text), wanted: "an event id (evt_ and 21 letters or digits)" }),
        }
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { given: excerpt(text), wanted: "a delivery id (dlv_ and 25 letters or digits)" };
        let rest = text.strip_prefix("dlv_").ok_or_else(wrong)?;
        let [instance, seq, destination] =
            split_base32(rest, [INSTANCE_CHARS, SEQ_CHARS, DESTINATION_CHARS]).ok_or_else(wrong)?;
        let destination = u32::try_from(destination).map_err(|_| wrong())?;
        let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId(destination) };
        Ok(Self { instance: InstanceId(instance), key })
    }
}

/// The public id of a job, `job_…`, 25 characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobId {
    pub instance: InstanceId,
    pub number: JobNumber,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_base32(f, "job_", &[(self.instance.0, INSTANCE_CHARS), (self.number.0, SEQ_CHARS)])
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts = text.strip_prefix("job_").and_then(|rest| split_base32(rest, [INSTANCE_CHARS, SEQ_CHARS]));
        match parts {
            Some([instance, number]) => Ok(Self { instance: InstanceId(instance), number: JobNumber(number) }),
            None => Err(IdError { given: excerpt(text), wanted: "a job id (job_ and 21 letters or digits)" }),
        }
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Writes a prefix and numbers in so many characters each, in one piece: an id is made for every event and every attempt.
fn write_base32(f: &mut fmt::Formatter<'_>, prefix: &str, parts: &[(u64, usize)]) -> fmt::Result {
    let digits = parts.iter().flat_map(|(value, chars)| {
        (0..*chars).rev().map(move |place| {
            let digit = value.checked_shr(u32::try_from(place * 5).unwrap_or(u32::MAX)).unwrap_or(0) & 31;
            usize::try_from(digit).ok().and_then(|at| ALPHABET.get(at)).copied().unwrap_or(b'0')
        })
    });
    let mut text = [0; ID_BYTES];
    let mut length = 0;
    for (to, from) in text.iter_mut().zip(prefix.bytes().chain(digits)) {
        *to = from;
        length += 1;
    }
    f.write_str(text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default())
}

/// Splits `text` into numbers of the given widths; `None` where the length, a letter or a range is wrong.
fn split_base32<const N: usize>(text: &str, widths: [usize; N]) -> Option<[u64; N]> {
    let mut bytes = text.as_bytes();
    let mut numbers = [0_u64; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let (head, tail) = bytes.split_at_checked(width)?;
        for letter in head {
            let digit = ALPHABET.iter().position(|known| known == letter)?;
            *number = number.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)?;
        }
        bytes = tail;
    }
    bytes.is_empty().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_way_through_text() {
        let instance = InstanceId::from_random(u64::MAX);
        for seq in [0, 1, 31, 32, u64::MAX] {
            let event = EventId { instance, seq: EventSeq(seq) };
            assert_eq!(event.to_string().parse::<EventId>(), Ok(event));
            let key = DeliveryKey { seq: EventSeq(seq), destination: DestinationId::MAX };
            let delivery = DeliveryId { instance, key };
            assert_eq!(delivery.to_string().len(), 29);
            assert_eq!(delivery.to_string().parse::<DeliveryId>(), Ok(delivery));
        }
    }

    #[test]
    fn later_events_have_greater_ids() {
        let id = |seq| EventId { instance: InstanceId::from_random(7), seq: EventSeq(seq) }.to_string();
        assert!(id(9) < id(10) && id(31) < id(32) && id(1 << 40) < id((1 << 40) + 1));
    }

    #[test]
    fn foreign_texts_are_no_ids() {
        for text in
            ["", "evt_", "evt_0", "dlv_00000000", "evt_000000000000000000zzu", "evt_00000000zzzzzzzzzzzzz", "évt_"]
        {
            assert!(text.parse::<EventId>().is_err(), "{text}");
            assert!(text.parse::<DeliveryId>().is_err(), "{text}");
        }
    }
}
