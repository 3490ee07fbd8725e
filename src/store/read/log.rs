//! The delivery log and the DLQ: newest first, filtered, in pages of bounded work.

use std::collections::VecDeque;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::event::Events;
use super::page::{Look, Route, page};
use super::zones::{self, Asked, Listed, Walk};
use super::{Answered, Deliveries, DeliveryEntry, DeliveryFilter, DlqEntry, Page, Reader, Total};
use crate::domain::delivery::{Autopsy, Delivery};
use crate::domain::event::Event;
use crate::domain::fault::{FaultId, normal_form};
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::limits::{API_PAGE_MAX, API_PAGE_WORK};
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::row::{AutopsyRow, DeliveryRow, EventRow, ZoneRow};
use crate::store::schema::{self, DELIVERIES, DLQ, DeliveryRowKey, ZONES};

/// Bytes of an event, or of what was kept of an end, that are as much work as looking at one delivery.
const WORK_BYTES: usize = 512;
/// What reading the delivery of an entry of the DLQ is.
const LOOK_WORK: usize = 8;

impl Reader {
    /// The delivery log, newest receipt first, after `after`. Does no more than [`crate::domain::limits::API_PAGE_WORK`]:
    /// a page may be short, even empty, and still have a `next`.
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Page<DeliveryEntry>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let mut sieve = Sieve::open(transaction, damage, filter)?;
            let route = self.route(transaction, (filter, Listed::Deliveries), after)?;
            page(transaction, DELIVERIES, route, (limit, API_PAGE_WORK), |key, bytes| {
                let row = damage.read::<DeliveryRow, _>("deliveries", &schema::delivery_key(key), bytes);
                let found = row.map_or(Ok(Look::Miss), |delivery| sieve.entry(key, delivery))?;
                Ok((found, sieve.take_work()))
            })
        })
    }

    /// The DLQ, newest receipt first; bounded as [`Reader::deliveries`].
    pub fn dlq(
        &self,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Page<DlqEntry>, StoreError> {
        self.dlq_within(filter, after, (limit, API_PAGE_WORK))
    }

    fn dlq_within(
        &self,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        within: (usize, usize),
    ) -> Result<Page<DlqEntry>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let deliveries = Deliveries::open(transaction, damage)?;
            let mut sieve = Sieve::open(transaction, damage, filter)?;
            let route = self.route(transaction, (filter, Listed::Dlq), after)?;
            page(transaction, DLQ, route, within, |key, bytes| {
                let Some(delivery) = deliveries.get(key)? else { return Ok((Look::Miss, LOOK_WORK)) };
                let found = match sieve.entry(key, delivery)? {
                    Look::Hit(entry) => dlq_entry(damage, entry, bytes)
                        .filter(|row| takes_autopsy(filter, &row.autopsy))
                        .map_or(Look::Miss, Look::Hit),
                    Look::Miss => Look::Miss,
                    Look::TooOld => Look::TooOld,
                };
                Ok((found, sieve.take_work() + LOOK_WORK + bytes.len() / WORK_BYTES))
            })
        })
    }

    /// As [`Reader::dlq`], without what is not needed to tell which ones: for counting, and for changing many.
    pub fn dlq_keys(
        &self,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Page<DeliveryKey>, StoreError> {
        let damage = &self.shared.damage;
        let by_event = filter.event.is_some() || filter.uid.is_some() || filter.event_id.is_some();
        let by_autopsy = filter.response_status.is_some() || filter.detail.is_some() || filter.fault.is_some();
        self.shared.read(|transaction| {
            let deliveries = Deliveries::open(transaction, damage)?;
            let mut sieve = Sieve::open(transaction, damage, filter)?;
            let route = self.route(transaction, (filter, Listed::Dlq), after)?;
            page(transaction, DLQ, route, (limit, API_PAGE_WORK), |key, bytes| {
                let Some(delivery) = deliveries.get(key)? else { return Ok((Look::Miss, LOOK_WORK)) };
                if sieve.is_too_old(&delivery) {
                    return Ok((Look::TooOld, LOOK_WORK));
                }
                let row = || damage.read::<AutopsyRow, Autopsy>("dlq", &schema::delivery_key(key), bytes);
                let taken = sieve.takes_delivery(key, &delivery)
                    && (!by_autopsy || row().is_some_and(|autopsy| takes_autopsy(filter, &autopsy)))
                    && (!by_event || sieve.event(key.seq)?.is_some());
                let work = LOOK_WORK + sieve.take_work() + if by_autopsy { bytes.len() / WORK_BYTES } else { 0 };
                Ok((if taken { Look::Hit(key) } else { Look::Miss }, work))
            })
        })
    }

    /// One entry of the DLQ; `None` where the delivery is not in it.
    pub fn dlq_entry(&self, key: DeliveryKey) -> Result<Option<DlqEntry>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let table = transaction.open_table(DLQ)?;
            let Some(bytes) = ReadableTable::get(&table, &schema::delivery_key(key))? else { return Ok(None) };
            let Some(delivery) = Deliveries::open(transaction, damage)?.get(key)? else { return Ok(None) };
            let all = DeliveryFilter::default();
            Ok(match Sieve::open(transaction, damage, &all)?.entry(key, delivery)? {
                Look::Hit(entry) => dlq_entry(damage, entry, bytes.value()),
                Look::Miss | Look::TooOld => None,
            })
        })
    }

    /// The keys to look at. A sender's id leads straight to its events.
    fn route<'r>(
        &'r self,
        transaction: &ReadTransaction,
        (filter, listed): (&'r DeliveryFilter, Listed),
        after: Option<DeliveryKey>,
    ) -> Result<Route<'r>, StoreError> {
        let high = match after.map(schema::delivery_key).map(predecessor) {
            Some(None) => return Ok(Route::Spans(VecDeque::new())),
            Some(Some(before)) => before,
            None => greatest(transaction)?,
        };
        let Some(event_id) = &filter.event_id else {
            let asked = Asked { filter, listed, hash: self.shared.identity.hash_key };
            return Ok(Route::Zones(Box::new(Walk::begin(transaction, &self.shared.damage, asked, high)?)));
        };
        let found = self.find_sender_id(transaction, event_id, API_PAGE_MAX)?;
        let spans = found.into_iter().rev().map(schema::deliveries_of).filter(|(low, _)| *low <= high);
        Ok(Route::Spans(spans.map(|(low, end)| (low, end.min(high))).collect()))
    }

    /// How many entries of the DLQ match, and whether that is all of them: where more than the destination is asked, only a
    /// quarter of a page's work is done for it.
    pub fn dlq_total(&self, filter: &DeliveryFilter) -> Result<(u64, Total), StoreError> {
        let plain = DeliveryFilter { destination: filter.destination, ..DeliveryFilter::default() };
        if *filter == plain
            && let Some(total) = self.count_dead(filter.destination)?
        {
            return Ok((total, Total::Exact));
        }
        let page = self.dlq_within(filter, None, (usize::MAX, API_PAGE_WORK / 4))?;
        let total = if page.next.is_none() { Total::Exact } else { Total::AtLeast };
        Ok((u64::try_from(page.rows.len()).unwrap_or(u64::MAX), total))
    }

    /// Entries of the DLQ as the zones count them; `None` where some zone has no row yet.
    fn count_dead(&self, destination: Option<DestinationId>) -> Result<Option<u64>, StoreError> {
        self.shared.read(|transaction| {
            let table = transaction.open_table(DLQ)?;
            let all = ReadableTableMetadata::len(&table)?;
            if destination.is_none() {
                return Ok(Some(all));
            }
            let Some(zones) = zones::table(transaction, ZONES)? else { return Ok(None) };
            let (mut counted, mut wanted) = (0_u64, 0_u64);
            for entry in zones.iter()? {
                let (key, bytes) = entry?;
                let row = self.shared.damage.read::<ZoneRow, ZoneRow>("zones", key.value(), bytes.value());
                let Some(row) = row else { return Ok(None) };
                counted = counted.saturating_add(row.dead(None));
                wanted = wanted.saturating_add(row.dead(destination));
            }
            Ok((counted == all).then_some(wanted))
        })
    }
}

/// The greatest key there is.
fn greatest(transaction: &ReadTransaction) -> Result<DeliveryRowKey, StoreError> {
    let table = transaction.open_table(DELIVERIES)?;
    let last = ReadableTable::last(&table)?.map(|(key, _)| *key.value());
    Ok(last.unwrap_or_else(|| schema::deliveries_of(EventSeq(0)).0))
}

fn dlq_entry(damage: &Damage, entry: DeliveryEntry, bytes: &[u8]) -> Option<DlqEntry> {
    let autopsy = damage.read::<AutopsyRow, Autopsy>("dlq", &schema::delivery_key(entry.key), bytes)?;
    Some(DlqEntry { entry, autopsy })
}

fn takes_autopsy(filter: &DeliveryFilter, autopsy: &Autopsy) -> bool {
    let Autopsy { detail, http_status, response, .. } = autopsy;
    filter.response_status.is_none_or(|wanted| wanted == Answered::from(*http_status))
        && filter.detail.as_ref().is_none_or(|words| detail.to_lowercase().contains(&words.to_lowercase()))
        && filter.fault.is_none_or(|wanted| wanted == FaultId::of(&normal_form(detail, response)))
}

/// The greatest key before `key`.
fn predecessor(mut key: DeliveryRowKey) -> Option<DeliveryRowKey> {
    for byte in key.iter_mut().rev() {
        match byte.checked_sub(1) {
            Some(less) => {
                *byte = less;
                return Some(key);
            }
            None => *byte = u8::MAX,
        }
    }
    None
}

/// The filter, with the event last read: deliveries of one event lie side by side.
struct Sieve<'r> {
    filter: &'r DeliveryFilter,
    events: Events<'r>,
    last: Option<(EventSeq, Option<Arc<Event>>)>,
    work: usize,
}

impl<'r> Sieve<'r> {
    fn open(transaction: &ReadTransaction, damage: &'r Damage, filter: &'r DeliveryFilter) -> Result<Self, StoreError> {
        Ok(Self { filter, events: Events::open(transaction, damage)?, last: None, work: 0 })
    }

    fn entry(&mut self, key: DeliveryKey, delivery: Delivery) -> Result<Look<DeliveryEntry>, StoreError> {
        if self.is_too_old(&delivery) {
            return Ok(Look::TooOld);
        }
        if !self.takes_delivery(key, &delivery) {
            return Ok(Look::Miss);
        }
        Ok(self.event(key.seq)?.map_or(Look::Miss, |event| Look::Hit(DeliveryEntry { key, delivery, event })))
    }

    fn is_too_old(&self, delivery: &Delivery) -> bool {
        self.filter.since.is_some_and(|since| delivery.received_at < since)
    }

    /// The work done since this was last asked.
    fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    fn takes_delivery(&self, key: DeliveryKey, delivery: &Delivery) -> bool {
        let filter = self.filter;
        filter.destination.is_none_or(|wanted| wanted == key.destination)
            && filter.status.is_none_or(|wanted| wanted == delivery.state.status())
            && filter.reason.as_deref().is_none_or(|wanted| delivery.state.reason() == Some(wanted))
            && filter.until.is_none_or(|until| delivery.received_at < until)
    }

    fn takes_event(&self, row: &EventRow) -> bool {
        let filter = self.filter;
        filter.event.as_ref().is_none_or(|wanted| *wanted == row.canonical)
            && filter.uid.as_ref().is_none_or(|wanted| Some(wanted) == row.uid.as_ref())
            && filter.event_id.as_ref().is_none_or(|wanted| Some(wanted) == row.event_id.as_ref())
    }

    /// The event, if the filter takes it; its objects are parsed only then.
    fn event(&mut self, seq: EventSeq) -> Result<Option<Arc<Event>>, StoreError> {
        if let Some((known, event)) = &self.last
            && *known == seq
        {
            return Ok(event.clone());
        }
        let row = self.events.row(seq)?;
        self.work += 4 + row.as_ref().map_or(0, EventRow::bytes) / WORK_BYTES;
        let row = row.filter(|row| self.takes_event(row));
        let event = row.and_then(|row| self.events.event(seq, row)).map(Arc::new);
        self.last = Some((seq, event.clone()));
        Ok(event)
    }
}
