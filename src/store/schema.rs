//! The tables of the file, and how their keys are spelled.
//!
//! Keys are big-endian numbers of fixed width, so that the order of bytes is the order of values. Values are rows as
//! [`super::row`] writes them, except for the outbox (nothing) and the format number (four plain bytes, so that every
//! version can read it). Changing anything here is a new [`FORMAT`]; a table more, without which a file is complete, is none.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | name | format, identity, floor of sequence numbers, reach of the DLQ's retention, known time, when a backup was taken |
//! | destinations | name | number, never reused |
//! | inbox | seq | event |
//! | dedupe | bucket (seq ÷ 2^14), discriminator, identity | first event with that key |
//! | filters | bucket | which keys a full bucket of `dedupe` may hold; optional, made anew where one is missing |
//! | deliveries | seq, destination | the one truth about a delivery |
//! | outbox | destination, due, seq | the due index: exactly the owed deliveries |
//! | dlq | seq, destination | what was kept of a dead delivery's end |
//! | attempts | seq, destination, n | one exchange |
//! | counts, `event_counts` | destination, source | the books |
//! | pauses | destination | the last pause that was not resumed; a file from before there were pauses lacks the table |
//! | jobs | number | a replay or discard of many, running or finished; optional likewise |
//! | audit | number | what an operator did; optional likewise |
//! | stats | destination, part, slot | rolling statistics; a file from before they were kept lacks the table |
//! | zones, `zone_uids` | zone (seq ÷ 2^10) | what is in it; a file from before there were zones lacks the tables |
//! | alerts | `problem/` id, `rhythm/` source | what was told and is not over, how often sources send; optional as well |

use redb::TableDefinition;

use crate::domain::dedupe::DedupeKey;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;

/// The version of everything in this file. A store with a greater one is refused, one with a lesser one is brought to it at
/// its opening (`upgrade`).
///
/// 1: with or without zones. 2: whatever zones there are were kept by whoever wrote deliveries.
pub(super) const FORMAT: u32 = 2;

type Row = &'static [u8];
pub(super) type InboxKey = [u8; 8];
pub(super) type BucketKey = [u8; 4];
pub(super) type DedupeRowKey = [u8; 20];
pub(super) type DeliveryRowKey = [u8; 12];
pub(super) type OutboxKey = [u8; 20];
pub(super) type AttemptKey = [u8; 16];
pub(super) type CountsKey = [u8; 4];
pub(super) type PauseKey = [u8; 4];
/// A number of a job or of a deed.
pub(super) type DeskKey = [u8; 8];
pub(super) type StatsKey = [u8; 13];
pub(super) type ZoneKey = [u8; 8];
pub(super) type Definition<K, V = Row> = TableDefinition<'static, K, V>;

pub(super) const META: Definition<&'static str> = TableDefinition::new("meta");
pub(super) const DESTINATIONS: Definition<&'static str> = TableDefinition::new("destinations");
pub(super) const INBOX: Definition<&'static InboxKey> = TableDefinition::new("inbox");
pub(super) const DEDUPE: Definition<&'static DedupeRowKey> = TableDefinition::new("dedupe");
pub(super) const FILTERS: Definition<&'static BucketKey> = TableDefinition::new("filters");
pub(super) const DELIVERIES: Definition<&'static DeliveryRowKey> = TableDefinition::new("deliveries");
pub(super) const OUTBOX: Definition<&'static OutboxKey, ()> = TableDefinition::new("outbox");
pub(super) const DLQ: Definition<&'static DeliveryRowKey> = TableDefinition::new("dlq");
pub(super) const ATTEMPTS: Definition<&'static AttemptKey> = TableDefinition::new("attempts");
pub(super) const COUNTS: Definition<&'static CountsKey> = TableDefinition::new("counts");
pub(super) const EVENT_COUNTS: Definition<&'static str> = TableDefinition::new("event_counts");
pub(super) const STATS: Definition<&'static StatsKey> = TableDefinition::new("stats");
pub(super) const PAUSES: Definition<&'static PauseKey> = TableDefinition::new("pauses");
pub(super) const JOBS: Definition<&'static DeskKey> = TableDefinition::new("jobs");
pub(super) const AUDIT: Definition<&'static DeskKey> = TableDefinition::new("audit");
pub(super) const ZONES: Definition<&'static ZoneKey> = TableDefinition::new("zones");
pub(super) const ZONE_UIDS: Definition<&'static ZoneKey> = TableDefinition::new("zone_uids");
pub(super) const ALERTS: Definition<&'static str> = TableDefinition::new("alerts");

/// `alerts`: what stands before the id of a problem.
pub(super) const ALERTS_PROBLEM: &str = "problem/";
/// `alerts`: what stands before the name of a source.
pub(super) const ALERTS_RHYTHM: &str = "rhythm/";
/// `alerts`: what stands before the place of a message that no channel has taken yet, in digits of one width.
pub(super) const ALERTS_WAITING: &str = "waiting/";

/// `meta`: four plain big-endian bytes.
pub(super) const META_FORMAT: &str = "format";
/// `meta`: instance and hash key.
pub(super) const META_IDENTITY: &str = "identity";
/// `meta`: no sequence number below this is free, whatever the inbox still holds. Written whenever events are removed.
pub(super) const META_FLOOR: &str = "seq_floor";
/// `meta`: dead deliveries that died before this may have left the DLQ by retention.
pub(super) const META_DLQ_SWEPT: &str = "dlq_swept";
/// `meta`, of a restored store: no job and no deed below this number is free. A file that was never restored lacks it.
pub(super) const META_DESK_FLOOR: &str = "desk_floor";
/// `meta`: what is known of the time. A file from before it was kept lacks it.
pub(super) const META_KNOWN_TIME: &str = "known_time";
/// `meta`, of a backup only: when it was taken.
pub(super) const META_BACKUP_TAKEN: &str = "backup_taken_at";

/// Events of one dedupe bucket: 2^14, since buckets of 8 to 32 thousand keep their leaves in few pages while expiry is
/// still by whole buckets.
const BUCKET_BITS: u32 = 14;

/// The dedupe bucket of an event.
pub(super) fn bucket_of(seq: EventSeq) -> u32 {
    u32::try_from(seq.0 >> BUCKET_BITS).unwrap_or(u32::MAX)
}

/// The first and the last sequence number of a bucket.
pub(super) fn bucket_range(bucket: u32) -> (EventSeq, EventSeq) {
    let first = u64::from(bucket) << BUCKET_BITS;
    (EventSeq(first), EventSeq(first | ((1 << BUCKET_BITS) - 1)))
}

pub(super) fn bucket_key(bucket: u32) -> BucketKey {
    bucket.to_be_bytes()
}

pub(super) fn read_bucket_key(key: BucketKey) -> u32 {
    u32::from_be_bytes(key)
}

/// Events of one zone: 2^10, since looking through a whole one takes some milliseconds, and the rows of all zones of
/// 10 million events are still read in few.
/// Tests have zones of four, so that a few events fill some.
const ZONE_BITS: u32 = if cfg!(test) { 2 } else { 10 };

/// The zone of an event.
pub(super) fn zone_of(seq: EventSeq) -> u64 {
    seq.0 >> ZONE_BITS
}

/// The first and the last sequence number of a zone.
pub(super) fn zone_range(zone: u64) -> (EventSeq, EventSeq) {
    let first = zone << ZONE_BITS;
    (EventSeq(first), EventSeq(first | ((1 << ZONE_BITS) - 1)))
}

pub(super) fn zone_key(zone: u64) -> ZoneKey {
    zone.to_be_bytes()
}

pub(super) fn read_zone_key(key: ZoneKey) -> u64 {
    u64::from_be_bytes(key)
}

/// The least and the greatest delivery key of a zone.
pub(super) fn deliveries_of_zone(zone: u64) -> (DeliveryRowKey, DeliveryRowKey) {
    let (first, last) = zone_range(zone);
    (deliveries_of(first).0, deliveries_of(last).1)
}

/// What a row of statistics is; the number is the key's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum StatsPart {
    Head,
    Hour,
    Day,
}

pub(super) fn stats_key(destination: DestinationId, part: StatsPart, slot: u64) -> StatsKey {
    let part: u8 = match part {
        StatsPart::Head => 0,
        StatsPart::Hour => 1,
        StatsPart::Day => 2,
    };
    join([&destination.0.to_be_bytes(), &[part], &slot.to_be_bytes()])
}

/// The part is `None` where the number is none of ours.
pub(super) fn read_stats_key(key: &StatsKey) -> (DestinationId, Option<StatsPart>, u64) {
    let part = match key.get(4) {
        Some(0) => Some(StatsPart::Head),
        Some(1) => Some(StatsPart::Hour),
        Some(2) => Some(StatsPart::Day),
        Some(_) | None => None,
    };
    (DestinationId(number32(key, 0)), part, number64(key, 5))
}

pub(super) fn inbox_key(seq: EventSeq) -> InboxKey {
    seq.0.to_be_bytes()
}

pub(super) fn read_inbox_key(key: InboxKey) -> EventSeq {
    EventSeq(u64::from_be_bytes(key))
}

pub(super) fn dedupe_key(bucket: u32, key: DedupeKey) -> DedupeRowKey {
    join([&bucket.to_be_bytes(), &key.discriminator.to_be_bytes(), &key.identity.to_be_bytes()])
}

/// The least and the greatest key of a bucket.
pub(super) fn dedupe_keys_of(bucket: u32) -> (DedupeRowKey, DedupeRowKey) {
    let key = |number| dedupe_key(bucket, DedupeKey { discriminator: number, identity: number });
    (key(0), key(u64::MAX))
}

pub(super) fn read_dedupe_key(key: &DedupeRowKey) -> (u32, DedupeKey) {
    (number32(key, 0), DedupeKey { discriminator: number64(key, 4), identity: number64(key, 12) })
}

pub(super) fn delivery_key(key: DeliveryKey) -> DeliveryRowKey {
    join([&key.seq.0.to_be_bytes(), &key.destination.0.to_be_bytes()])
}

pub(super) fn read_delivery_key(key: &DeliveryRowKey) -> DeliveryKey {
    DeliveryKey { seq: EventSeq(number64(key, 0)), destination: DestinationId(number32(key, 8)) }
}

/// The least and the greatest delivery key of an event.
pub(super) fn deliveries_of(seq: EventSeq) -> (DeliveryRowKey, DeliveryRowKey) {
    let key = |destination| delivery_key(DeliveryKey { seq, destination: DestinationId(destination) });
    (key(0), key(u32::MAX))
}

pub(super) fn outbox_key(destination: DestinationId, due_at: UnixMs, seq: EventSeq) -> OutboxKey {
    join([&destination.0.to_be_bytes(), &due_at.0.to_be_bytes(), &seq.0.to_be_bytes()])
}

pub(super) fn read_outbox_key(key: &OutboxKey) -> (DestinationId, UnixMs, EventSeq) {
    (DestinationId(number32(key, 0)), UnixMs(number64(key, 4)), EventSeq(number64(key, 12)))
}

pub(super) fn attempt_key(key: DeliveryKey, n: u32) -> AttemptKey {
    join([&key.seq.0.to_be_bytes(), &key.destination.0.to_be_bytes(), &n.to_be_bytes()])
}

pub(super) fn read_attempt_key(key: &AttemptKey) -> (DeliveryKey, u32) {
    let delivery = DeliveryKey { seq: EventSeq(number64(key, 0)), destination: DestinationId(number32(key, 8)) };
    (delivery, number32(key, 12))
}

pub(super) fn counts_key(destination: DestinationId) -> CountsKey {
    destination.0.to_be_bytes()
}

pub(super) fn read_counts_key(key: CountsKey) -> DestinationId {
    DestinationId(u32::from_be_bytes(key))
}

pub(super) fn pause_key(destination: DestinationId) -> PauseKey {
    destination.0.to_be_bytes()
}

pub(super) fn read_pause_key(key: PauseKey) -> DestinationId {
    DestinationId(u32::from_be_bytes(key))
}

pub(super) fn desk_key(number: u64) -> DeskKey {
    number.to_be_bytes()
}

pub(super) fn read_desk_key(key: DeskKey) -> u64 {
    u64::from_be_bytes(key)
}

/// The parts one after another; together they are exactly `N` bytes long.
fn join<const N: usize, const P: usize>(parts: [&[u8]; P]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    key
}

fn number64(key: &[u8], at: usize) -> u64 {
    key.iter().skip(at).take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn number32(key: &[u8], at: usize) -> u32 {
    key.iter().skip(at).take(4).fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deliveries() -> impl Strategy<Value = DeliveryKey> {
        (any::<u64>(), any::<u32>())
            .prop_map(|(seq, number)| DeliveryKey { seq: EventSeq(seq), destination: DestinationId(number) })
    }

    proptest! {
        #[test]
        fn delivery_keys_order_as_their_values(a in deliveries(), b in deliveries()) {
            prop_assert_eq!(delivery_key(a).cmp(&delivery_key(b)), a.cmp(&b));
            prop_assert_eq!(read_delivery_key(&delivery_key(a)), a);
            let (low, high) = deliveries_of(a.seq);
            prop_assert!(low <= delivery_key(a) && delivery_key(a) <= high);
        }

        #[test]
        fn outbox_keys_order_by_destination_then_due_then_sequence(a in any::<(u32, u64, u64)>(), b in any::<(u32, u64, u64)>()) {
            let key = |(number, due, seq)| outbox_key(DestinationId(number), UnixMs(due), EventSeq(seq));
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(read_outbox_key(&key(a)), (DestinationId(a.0), UnixMs(a.1), EventSeq(a.2)));
        }

        #[test]
        fn attempt_keys_order_by_delivery_then_number(a in (deliveries(), any::<u32>()), b in (deliveries(), any::<u32>())) {
            prop_assert_eq!(attempt_key(a.0, a.1).cmp(&attempt_key(b.0, b.1)), a.cmp(&b));
            prop_assert_eq!(read_attempt_key(&attempt_key(a.0, a.1)), a);
        }

        #[test]
        fn dedupe_keys_order_by_bucket_then_sender_id(a in any::<(u32, u64, u64)>(), b in any::<(u32, u64, u64)>()) {
            let key = |(bucket, discriminator, identity)| dedupe_key(bucket, DedupeKey { discriminator, identity });
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(read_dedupe_key(&key(a)), (a.0, DedupeKey { discriminator: a.1, identity: a.2 }));
        }

        #[test]
        fn inbox_keys_order_as_sequence_numbers(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(inbox_key(EventSeq(a)).cmp(&inbox_key(EventSeq(b))), a.cmp(&b));
            prop_assert_eq!(read_inbox_key(inbox_key(EventSeq(a))), EventSeq(a));
        }
    }

    #[test]
    fn a_bucket_holds_exactly_its_own_sequence_numbers() {
        for seq in [0, 1, 16_383, 16_384, 1 << 40] {
            let (first, last) = bucket_range(bucket_of(EventSeq(seq)));
            assert!(first.0 <= seq && seq <= last.0);
            assert_eq!(last.0 - first.0, 16_383);
            assert_ne!(bucket_of(EventSeq(last.0 + 1)), bucket_of(last));
        }
    }
}
