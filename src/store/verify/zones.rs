//! A zone's row against all that is in the zone. One that has no row is looked through whenever something is looked for, so
//! that it can be no worse than slow.

use redb::ReadableTable;

use super::Check;
use crate::domain::dedupe::HashKey;
use crate::domain::id::DeliveryKey;
use crate::store::error::StoreError;
use crate::store::read::zones;
use crate::store::row::{self, DeliveryRow, EventRow, ZoneRow, ZoneUidsRow};
use crate::store::schema::{self, DELIVERIES, DLQ, DeliveryRowKey, INBOX, ZONE_UIDS, ZONES};
use crate::store::zone::DlqChange;

pub(super) fn check(check: &mut Check<'_>, hash: HashKey) -> Result<(), StoreError> {
    let Some(table) = zones::table(check.transaction, ZONES)? else { return Ok(()) };
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let number = schema::read_zone_key(*key.value());
        let Some(zone) = check.read::<ZoneRow, ZoneRow>(&format!("zone {number}"), bytes.value()) else { continue };
        let mut found = ZoneRow::default();
        let (low, high) = schema::deliveries_of_zone(number);
        for entry in check.transaction.open_table(DELIVERIES)?.range::<&DeliveryRowKey>(&low..=&high)? {
            let (row, bytes) = entry?;
            let key = schema::read_delivery_key(row.value());
            // One that cannot be read was told already, and is in no list.
            let Ok(delivery) = row::decode::<DeliveryRow>(bytes.value()) else { continue };
            let status = delivery.state.status();
            found.tally(key.destination, status);
            if let Some(reason) = delivery.state.reason().filter(|reason| !zone.may_have_reason(reason)) {
                check.find(format!("zone {number}: does not know of the reason {reason} of {}", super::named(key)));
            }
            event(check, (number, &zone), key, hash)?;
        }
        for entry in check.transaction.open_table(DLQ)?.range::<&DeliveryRowKey>(&low..=&high)? {
            found.dlq(schema::read_delivery_key(entry?.0.value()).destination, DlqChange::Entered);
        }
        if found.counts != zone.counts {
            check.find(format!("zone {number}: counts {:?}, found {:?}", zone.counts, found.counts));
        }
    }
    Ok(())
}

/// Whether the zone knows of the delivery's event.
fn event(
    check: &mut Check<'_>,
    (number, zone): (u64, &ZoneRow),
    key: DeliveryKey,
    hash: HashKey,
) -> Result<(), StoreError> {
    let inbox = check.transaction.open_table(INBOX)?;
    let bytes = ReadableTable::get(&inbox, &schema::inbox_key(key.seq))?;
    let Some(event) = bytes.and_then(|bytes| row::decode::<EventRow>(bytes.value()).ok()) else { return Ok(()) };
    let seq = key.seq.0;
    if !zone.may_have_name(&event.canonical) {
        check.find(format!("zone {number}: does not know of {}, the name of event {seq}", event.canonical));
    }
    if event.received_at < zone.first || event.received_at > zone.last {
        check.find(format!("zone {number}: event {seq} was received at {}, outside of it", event.received_at));
    }
    let Some(uid) = &event.uid else { return Ok(()) };
    let uids = match zones::table(check.transaction, ZONE_UIDS)? {
        Some(table) => ReadableTable::get(&table, &schema::zone_key(number))?
            .and_then(|bytes| row::decode::<ZoneUidsRow>(bytes.value()).ok()),
        None => None,
    };
    if !uids.is_some_and(|uids| uids.may_have(hash, uid)) {
        check.find(format!("zone {number}: does not know of the uid of event {seq}"));
    }
    Ok(())
}
