//! Zone maps: what occurs in each stretch of 1,024 events, so that a filtered list passes over stretches that hold nothing
//! of what it looks for, without an index of every row.
//!
//! A zone's row says exactly how many of its deliveries stand where, and names at least the event names, reasons and uids
//! in it. It changes in the same transaction as the rows it tells of: a batch reads each zone it touches once and writes it
//! once, some 200 bytes, and the uids (1.3 KB) only where events came in. Of 10 million events all rows together are 2 MB,
//! and 13 MB of uids.
//!
//! A file from before there were zone maps has rows only for what came after it; a zone without a row is looked through, as
//! is one whose row is damaged. Retention completes the rows ([`super::sweep`]), a zone at a time, and removes those of
//! zones that have nothing left.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::damage::Damage;
use super::error::StoreError;
use super::row::{self, ZoneCountsRow, ZoneRow, ZoneUidsRow};
use super::schema::{self, DeliveryRowKey, ZONE_UIDS, ZONES, ZoneKey};
use crate::domain::dedupe::HashKey;
use crate::domain::delivery::{Delivery, State, Status};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::time::UnixMs;

/// Event names, and reasons, told apart in one zone; where there are more, every one may be in it.
const WORDS_MAX: usize = 64;
/// Bytes of the filter of uids: ten bits for each of 1,024, which says "maybe" wrongly once in a hundred times.
const UID_BYTES: usize = 1280;
const UID_PROBES: u64 = 6;

/// The zones of one transaction that were looked at, each written once at its end.
pub(super) struct Zones<'t> {
    rows: Table<'t, &'static ZoneKey, &'static [u8]>,
    uids: Table<'t, &'static ZoneKey, &'static [u8]>,
    held: BTreeMap<u64, Held>,
    hash: HashKey,
    damage: &'t Damage,
}

/// What became of an entry of the DLQ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DlqChange {
    Entered,
    Left,
}

/// `None` where the zone has no row and must not get one, since nobody knows all that is in it.
#[derive(Default)]
struct Held {
    zone: Option<ZoneRow>,
    changed: bool,
    /// Read only where an event comes in.
    uids: Option<ZoneUidsRow>,
}

impl<'t> Zones<'t> {
    pub fn open(transaction: &'t WriteTransaction, hash: HashKey, damage: &'t Damage) -> Result<Self, StoreError> {
        let (rows, uids) = (transaction.open_table(ZONES)?, transaction.open_table(ZONE_UIDS)?);
        Ok(Self { rows, uids, held: BTreeMap::new(), hash, damage })
    }

    /// An event came in. Called before its deliveries are written.
    pub fn event(
        &mut self,
        deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
        seq: EventSeq,
        (name, uid, received_at): (&str, Option<&str>, UnixMs),
    ) -> Result<(), StoreError> {
        let number = schema::zone_of(seq);
        let hash = self.hash;
        let held = self.hold(deliveries, number)?;
        let Some(zone) = &mut held.zone else { return Ok(()) };
        held.changed = true;
        zone.event(name, received_at);
        if let Some(uid) = uid {
            if held.uids.is_none() {
                let bytes = self.uids.get(&schema::zone_key(number))?;
                let known = bytes.map(|bytes| row::decode::<ZoneUidsRow>(bytes.value())).transpose();
                // A damaged one stays as it is, which means any uid: a new one would not know those before.
                let Ok(known) = known else { return Ok(()) };
                self.held.entry(number).or_default().uids = Some(known.unwrap_or_default());
            }
            if let Some(uids) = &mut self.held.entry(number).or_default().uids {
                uids.insert(hash, uid);
            }
        }
        Ok(())
    }

    /// A delivery was written. `before` is what its row was, if it had one.
    pub fn delivery(
        &mut self,
        deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
        key: DeliveryKey,
        before: Option<Status>,
        now: &State,
    ) -> Result<(), StoreError> {
        let held = self.hold(deliveries, schema::zone_of(key.seq))?;
        let Some(zone) = &mut held.zone else { return Ok(()) };
        held.changed |= zone.moved(key.destination, before, Some(now));
        Ok(())
    }

    /// A delivery came into the DLQ, or left it. Its row is there.
    pub fn dlq(
        &mut self,
        deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
        key: DeliveryKey,
        change: DlqChange,
    ) -> Result<(), StoreError> {
        let held = self.hold(deliveries, schema::zone_of(key.seq))?;
        let Some(zone) = &mut held.zone else { return Ok(()) };
        zone.dlq(key.destination, change);
        held.changed = true;
        Ok(())
    }

    /// A delivery's row was removed.
    pub fn removed(
        &mut self,
        deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
        key: DeliveryKey,
        status: Status,
    ) -> Result<(), StoreError> {
        let held = self.hold(deliveries, schema::zone_of(key.seq))?;
        let Some(zone) = &mut held.zone else { return Ok(()) };
        held.changed |= zone.moved(key.destination, Some(status), None);
        Ok(())
    }

    /// Takes a zone's row away, whatever was to be written of it: retention makes it anew from what is in it.
    pub fn forget(&mut self, number: u64) -> Result<(), StoreError> {
        let key = schema::zone_key(number);
        self.rows.remove(&key)?;
        self.uids.remove(&key)?;
        self.held.insert(number, Held::default());
        Ok(())
    }

    /// What uids are hashed with.
    pub fn hash(&self) -> HashKey {
        self.hash
    }

    /// Whether a zone has a row.
    pub fn has(&self, number: u64) -> Result<bool, StoreError> {
        Ok(self.rows.get(&schema::zone_key(number))?.is_some())
    }

    /// Gives a zone the row that was made by looking at all that is in it.
    pub fn put(&mut self, number: u64, zone: ZoneRow, uids: ZoneUidsRow) {
        self.held.insert(number, Held { zone: Some(zone), changed: true, uids: Some(uids) });
    }

    /// Writes what changed.
    pub fn finish(mut self) -> Result<(), StoreError> {
        for (number, held) in std::mem::take(&mut self.held) {
            let (Some(zone), true) = (&held.zone, held.changed) else { continue };
            let key = schema::zone_key(number);
            if zone.counts.is_empty() {
                self.rows.remove(&key)?;
                self.uids.remove(&key)?;
                continue;
            }
            self.rows.insert(&key, row::encode(zone)?.as_slice())?;
            if let Some(uids) = held.uids.filter(|uids| !uids.bits.is_empty()) {
                self.uids.insert(&key, row::encode(&uids)?.as_slice())?;
            }
        }
        Ok(())
    }

    /// The zone, read once. One without a row begins one only where it has no deliveries yet.
    fn hold(
        &mut self,
        deliveries: &impl ReadableTable<&'static DeliveryRowKey, &'static [u8]>,
        number: u64,
    ) -> Result<&mut Held, StoreError> {
        if !self.held.contains_key(&number) {
            let key = schema::zone_key(number);
            let zone = if let Some(bytes) = self.rows.get(&key)? {
                self.damage.read::<ZoneRow, ZoneRow>("zones", &key, bytes.value())
            } else {
                let (low, high) = schema::deliveries_of_zone(number);
                let first = deliveries.range::<&DeliveryRowKey>(&low..=&high)?.next().transpose()?;
                first.is_none().then(ZoneRow::default)
            };
            self.held.insert(number, Held { zone, ..Held::default() });
        }
        Ok(self.held.entry(number).or_default())
    }
}

impl ZoneRow {
    pub fn event(&mut self, name: &str, received_at: UnixMs) {
        if self.names.is_empty() && self.counts.is_empty() {
            (self.first, self.last) = (received_at.0, received_at.0);
        }
        (self.first, self.last) = (self.first.min(received_at.0), self.last.max(received_at.0));
        learn(&mut self.names, name);
    }

    /// Moves one delivery from one status to another; `None` where it was not there, or is no more. Whether that changed
    /// anything.
    pub fn moved(&mut self, destination: DestinationId, before: Option<Status>, now: Option<&State>) -> bool {
        // An operator's words on discarding are without bound; they are looked for wherever something was discarded.
        let told = now.filter(|now| now.status() != Status::Discarded);
        let learned = told.and_then(State::reason).is_some_and(|reason| learn(&mut self.reasons, reason));
        let status = now.map(State::status);
        if before == status {
            return learned;
        }
        self.shift(destination, before, status);
        true
    }

    /// Counts one delivery.
    pub fn tally(&mut self, destination: DestinationId, status: Status) {
        self.shift(destination, None, Some(status));
    }

    fn shift(&mut self, destination: DestinationId, before: Option<Status>, status: Option<Status>) {
        let at = match self.counts.binary_search_by_key(&destination.0, |counts| counts.destination) {
            Ok(at) => at,
            Err(at) => {
                self.counts.insert(at, ZoneCountsRow { destination: destination.0, ..ZoneCountsRow::default() });
                at
            }
        };
        if let Some(counts) = self.counts.get_mut(at) {
            if let Some(before) = before {
                let slot = counts.slot(before);
                *slot = slot.saturating_sub(1);
            }
            if let Some(status) = status {
                let slot = counts.slot(status);
                *slot = slot.saturating_add(1);
            }
            if counts.total() == 0 {
                self.counts.remove(at);
            }
        }
    }

    /// Counts a delivery, as the row is made from all that is in the zone.
    pub fn count(&mut self, key: DeliveryKey, delivery: &Delivery) {
        self.moved(key.destination, None, Some(&delivery.state));
    }

    /// Deliveries with `status` (of any where `None`) of `destination` (of all where `None`).
    pub fn of(&self, destination: Option<DestinationId>, status: Option<Status>) -> u64 {
        let wanted =
            self.counts.iter().filter(|counts| destination.is_none_or(|wanted| wanted.0 == counts.destination));
        let count =
            |counts: &ZoneCountsRow| status.map_or_else(|| counts.total(), |status| u64::from(counts.of(status)));
        wanted.map(count).sum()
    }

    /// Entries of the DLQ.
    pub fn dead(&self, destination: Option<DestinationId>) -> u64 {
        let wanted =
            self.counts.iter().filter(|counts| destination.is_none_or(|wanted| wanted.0 == counts.destination));
        wanted.map(|counts| u64::from(counts.dlq)).sum()
    }

    /// An entry came into the DLQ, or left it.
    pub fn dlq(&mut self, destination: DestinationId, change: DlqChange) {
        let at = self.counts.binary_search_by_key(&destination.0, |counts| counts.destination);
        if let Some(counts) = at.ok().and_then(|at| self.counts.get_mut(at)) {
            counts.dlq = match change {
                DlqChange::Entered => counts.dlq.saturating_add(1),
                DlqChange::Left => counts.dlq.saturating_sub(1),
            };
        }
    }

    pub fn may_have_name(&self, name: &str) -> bool {
        may_have(&self.names, name)
    }

    pub fn may_have_reason(&self, reason: &str) -> bool {
        may_have(&self.reasons, reason) || self.of(None, Some(Status::Discarded)) > 0
    }
}

impl ZoneCountsRow {
    pub fn of(&self, status: Status) -> u32 {
        match status {
            Status::Pending => self.pending,
            Status::Failed => self.failed,
            Status::Sent => self.sent,
            Status::FailedPermanently => self.failed_permanently,
            Status::Skipped => self.skipped,
            Status::Discarded => self.discarded,
        }
    }

    fn slot(&mut self, status: Status) -> &mut u32 {
        match status {
            Status::Pending => &mut self.pending,
            Status::Failed => &mut self.failed,
            Status::Sent => &mut self.sent,
            Status::FailedPermanently => &mut self.failed_permanently,
            Status::Skipped => &mut self.skipped,
            Status::Discarded => &mut self.discarded,
        }
    }

    fn total(&self) -> u64 {
        Status::ALL.iter().map(|status| u64::from(self.of(*status))).sum()
    }
}

/// Adds a word, once; whether it is new. A list that is full is told by being longer than [`WORDS_MAX`].
fn learn(words: &mut Vec<String>, word: &str) -> bool {
    if words.len() > WORDS_MAX || words.iter().any(|known| known == word) {
        return false;
    }
    words.push(word.to_owned());
    true
}

fn may_have(words: &[String], word: &str) -> bool {
    words.len() > WORDS_MAX || words.iter().any(|known| known == word)
}

impl ZoneUidsRow {
    pub fn insert(&mut self, hash: HashKey, uid: &str) {
        self.bits.resize(UID_BYTES, 0);
        for (byte, mask) in probes(hash, uid) {
            if let Some(byte) = self.bits.get_mut(byte) {
                *byte |= mask;
            }
        }
    }

    pub fn may_have(&self, hash: HashKey, uid: &str) -> bool {
        probes(hash, uid).all(|(byte, mask)| self.bits.get(byte).is_some_and(|byte| byte & mask != 0))
    }
}

/// Byte and bit of each probe. The hash is the store's own, so that no sender can aim at a bit.
fn probes(hash: HashKey, uid: &str) -> impl Iterator<Item = (usize, u8)> {
    let hash = hash.sender_id(uid);
    let (start, step) = (hash >> 32, (hash & 0xffff_ffff) | 1);
    (0..UID_PROBES).map(move |probe| {
        let bit = usize::try_from(start.wrapping_add(probe.wrapping_mul(step))).unwrap_or(0) % (UID_BYTES * 8);
        (bit / 8, 1 << (bit % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_that_are_there_are_found_and_others_rarely() {
        let (hash, mut uids) = (HashKey([7; 16]), ZoneUidsRow::default());
        for number in 0..1024 {
            uids.insert(hash, &format!("u-{number}"));
        }
        assert!((0..1024).all(|number| uids.may_have(hash, &format!("u-{number}"))));
        let wrong = (0..10_000).filter(|number| uids.may_have(hash, &format!("x-{number}"))).count();
        assert!(wrong < 200, "{wrong} of 10,000 strangers were taken for known ones");
        assert!(!ZoneUidsRow::default().may_have(hash, "u-1"), "nobody is in an empty one");
    }

    #[test]
    fn a_zone_with_too_many_names_may_have_every_one() {
        let mut zone = ZoneRow::default();
        for number in 0..WORDS_MAX {
            zone.event(&format!("event_{number}"), UnixMs(5));
        }
        assert!(zone.may_have_name("event_3") && !zone.may_have_name("other"));
        zone.event("one_more", UnixMs(3));
        assert!(zone.may_have_name("other"));
        assert_eq!((zone.first, zone.last), (3, 5));
    }
}
