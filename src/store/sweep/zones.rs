//! Giving zones of a file from before there were any their row, from the newest down: what is new is what people look for.

use redb::ReadableTable;

use super::{Sweep, Zoning};
use crate::domain::id::EventSeq;
use crate::store::error::StoreError;
use crate::store::row::{DeliveryRow, EventRow, ZoneRow, ZoneUidsRow};
use crate::store::schema::{self, DeliveryRowKey, InboxKey};
use crate::store::zone::DlqChange;

/// Zones one call asks whether they have a row, which takes some 25 µs each.
const LOOKS: usize = 1024;
/// Zones that are asked also where the time of the slice is over.
const LOOKS_LEAST: usize = 16;

impl Sweep<'_, '_> {
    /// Makes at most one row, which takes some milliseconds; the number made.
    pub(super) fn make_zones(&mut self) -> Result<usize, StoreError> {
        let newest = EventSeq(self.next_seq.saturating_sub(1));
        let mut next = match self.marks.zones {
            Zoning::Unlooked => Some(schema::zone_of(newest)),
            Zoning::From(zone) => Some(zone),
            Zoning::Done => None,
        };
        let oldest = ReadableTable::first(&self.tables.deliveries)?
            .map(|(key, _)| schema::zone_of(schema::read_delivery_key(key.value()).seq));
        let mut made = 0;
        for looks in 0..LOOKS {
            if looks >= LOOKS_LEAST && (self.enough)() {
                break;
            }
            // Numbers may have been skipped, by the million: a restore does that.
            if let Some(zone) = next {
                let (_, high) = schema::deliveries_of_zone(zone);
                let below = self.tables.deliveries.range::<&DeliveryRowKey>(..=&high)?.next_back().transpose()?;
                next = below.map(|(key, _)| schema::zone_of(schema::read_delivery_key(key.value()).seq));
            }
            let (Some(zone), Some(oldest)) = (next, oldest) else { break };
            if zone < oldest || made > 0 {
                next = next.filter(|zone| *zone >= oldest);
                break;
            }
            if !self.zones.has(zone)? && self.make_zone(zone)? {
                made += 1;
            }
            next = zone.checked_sub(1);
        }
        self.marks.zones = next.filter(|_| oldest.is_some()).map_or(Zoning::Done, Zoning::From);
        Ok(made)
    }

    /// Whether there is anything in the zone.
    fn make_zone(&mut self, number: u64) -> Result<bool, StoreError> {
        let (mut zone, mut uids) = (ZoneRow::default(), ZoneUidsRow::default());
        let (first, last) = schema::zone_range(number);
        let (low, high) = (schema::inbox_key(first), schema::inbox_key(last));
        for entry in self.tables.inbox.range::<&InboxKey>(&low..=&high)? {
            let (key, bytes) = entry?;
            // Its deliveries could not be told: a zone with a damaged row is always looked through.
            let Some(event) = self.damage.read::<EventRow, EventRow>("inbox", key.value(), bytes.value()) else {
                return Ok(false);
            };
            zone.event(&event.canonical, crate::domain::time::UnixMs(event.received_at));
            if let Some(uid) = &event.uid {
                uids.insert(self.zones.hash(), uid);
            }
        }
        let (low, high) = schema::deliveries_of_zone(number);
        for entry in self.tables.deliveries.range::<&DeliveryRowKey>(&low..=&high)? {
            let (key, bytes) = entry?;
            let Some(delivery) = self.damage.read::<DeliveryRow, _>("deliveries", key.value(), bytes.value()) else {
                return Ok(false);
            };
            zone.count(schema::read_delivery_key(key.value()), &delivery);
        }
        for entry in self.tables.dlq.range::<&DeliveryRowKey>(&low..=&high)? {
            let destination = schema::read_delivery_key(entry?.0.value()).destination;
            zone.dlq(destination, DlqChange::Entered);
        }
        let found = !zone.counts.is_empty();
        if found {
            self.zones.put(number, zone, uids);
        }
        Ok(found)
    }
}
