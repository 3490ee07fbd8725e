//! The delivery log and the DLQ: newest first, filtered, in pages of bounded work.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::event::Events;
use super::{Answered, Deliveries, DeliveryEntry, DeliveryFilter, DlqEntry, Page, Reader};
use crate::domain::delivery::{Autopsy, Delivery};
use crate::domain::event::Event;
use crate::domain::fault::{FaultId, normal_form};
use crate::domain::id::{DeliveryKey, EventSeq};
use crate::domain::limits::{API_PAGE_MAX, API_SCAN_ROWS};
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::row::{AutopsyRow, DeliveryRow, EventRow};
use crate::store::schema::{self, DELIVERIES, DLQ, DeliveryRowKey};
use crate::store::sweep::STRAYS;

/// What looking at one row found.
enum Look<T> {
    Hit(T),
    Miss,
    /// Received before the filter's `since`; after enough of these in a row there is nothing more to find.
    TooOld,
}

impl Reader {
    /// The delivery log, newest receipt first, after `after`. Looks at no more than [`API_SCAN_ROWS`] rows: a page may be
    /// short, even empty, and still have a `next`.
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Page<DeliveryEntry>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let mut sieve = Sieve::open(transaction, damage, filter)?;
            let spans = self.spans(transaction, filter, after)?;
            page(transaction, DELIVERIES, &spans, limit, |key, bytes| {
                let row = damage.read::<DeliveryRow, _>("deliveries", &schema::delivery_key(key), bytes);
                row.map_or(Ok(Look::Miss), |delivery| sieve.entry(key, delivery))
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
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let deliveries = Deliveries::open(transaction, damage)?;
            let mut sieve = Sieve::open(transaction, damage, filter)?;
            let spans = self.spans(transaction, filter, after)?;
            page(transaction, DLQ, &spans, limit, |key, bytes| {
                let Some(delivery) = deliveries.get(key)? else { return Ok(Look::Miss) };
                Ok(match sieve.entry(key, delivery)? {
                    Look::Hit(entry) => dlq_entry(damage, entry, bytes)
                        .filter(|row| takes_autopsy(filter, &row.autopsy))
                        .map_or(Look::Miss, Look::Hit),
                    Look::Miss => Look::Miss,
                    Look::TooOld => Look::TooOld,
                })
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
            let spans = self.spans(transaction, filter, after)?;
            page(transaction, DLQ, &spans, limit, |key, bytes| {
                let Some(delivery) = deliveries.get(key)? else { return Ok(Look::Miss) };
                if sieve.is_too_old(&delivery) {
                    return Ok(Look::TooOld);
                }
                let row = || damage.read::<AutopsyRow, Autopsy>("dlq", &schema::delivery_key(key), bytes);
                let taken = sieve.takes_delivery(key, &delivery)
                    && (!by_autopsy || row().is_some_and(|autopsy| takes_autopsy(filter, &autopsy)))
                    && (!by_event || sieve.event(key.seq)?.is_some());
                Ok(if taken { Look::Hit(key) } else { Look::Miss })
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

    /// The spans of keys to look at, each from its least to its greatest key, newest span first. A sender's id leads
    /// straight to its events.
    fn spans(
        &self,
        transaction: &ReadTransaction,
        filter: &DeliveryFilter,
        after: Option<DeliveryKey>,
    ) -> Result<Vec<(DeliveryRowKey, DeliveryRowKey)>, StoreError> {
        let everything = || (schema::deliveries_of(EventSeq(0)).0, schema::deliveries_of(EventSeq(u64::MAX)).1);
        let mut spans = match &filter.event_id {
            None => vec![everything()],
            Some(event_id) => {
                let found = self.find_sender_id(transaction, event_id, API_PAGE_MAX)?;
                found.into_iter().rev().map(schema::deliveries_of).collect()
            }
        };
        if let Some(after) = after.map(schema::delivery_key) {
            let Some(last) = predecessor(after) else { return Ok(Vec::new()) };
            spans.retain(|(low, _)| *low <= last);
            for (_, high) in &mut spans {
                *high = (*high).min(last);
            }
        }
        Ok(spans)
    }
}

/// Walks the spans backwards, until the page is full, the budget is spent or nothing more can be found.
fn page<T>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, &'static DeliveryRowKey, &'static [u8]>,
    spans: &[(DeliveryRowKey, DeliveryRowKey)],
    limit: usize,
    mut look: impl FnMut(DeliveryKey, &[u8]) -> Result<Look<T>, StoreError>,
) -> Result<Page<T>, StoreError> {
    let table = transaction.open_table(table)?;
    let mut page = Page { rows: Vec::new(), next: None };
    let (mut looks, mut strays) = (0, 0);
    let mut last = None;
    for (low, high) in spans {
        for entry in ReadableTable::range::<&DeliveryRowKey>(&table, low..=high)?.rev() {
            let (key, bytes) = entry?;
            if page.rows.len() >= limit.max(1) || looks >= API_SCAN_ROWS {
                page.next = last;
                return Ok(page);
            }
            let key = schema::read_delivery_key(key.value());
            looks += 1;
            last = Some(key);
            match look(key, bytes.value())? {
                Look::Hit(row) => {
                    page.rows.push(row);
                    strays = 0;
                }
                Look::Miss => strays = 0,
                Look::TooOld => strays += 1,
            }
            if strays >= STRAYS {
                return Ok(page);
            }
        }
    }
    Ok(page)
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
}

impl<'r> Sieve<'r> {
    fn open(transaction: &ReadTransaction, damage: &'r Damage, filter: &'r DeliveryFilter) -> Result<Self, StoreError> {
        Ok(Self { filter, events: Events::open(transaction, damage)?, last: None })
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
        let row = self.events.row(seq)?.filter(|row| self.takes_event(row));
        let event = row.and_then(|row| self.events.event(seq, row)).map(Arc::new);
        self.last = Some((seq, event.clone()));
        Ok(event)
    }
}
