//! The way through the log by its zones: which spans of keys a filter has to look at, newest first.

use std::collections::VecDeque;

use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::DeliveryFilter;
use crate::domain::dedupe::HashKey;
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::row::{ZoneRow, ZoneUidsRow};
use crate::store::schema::{self, DeliveryRowKey, ZONE_UIDS, ZONES, ZoneKey};

type Table = ReadOnlyTable<&'static ZoneKey, &'static [u8]>;

/// Which table is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listed {
    Deliveries,
    Dlq,
}

/// A step of the walk, from the newest down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// These keys are to be looked at, from the least to the greatest.
    Look { low: DeliveryRowKey, high: DeliveryRowKey, known: Known },
    /// There is nothing to find from this key on, up to where the walk was.
    Pass { low: DeliveryRowKey },
}

/// Whether a span is of zones whose rows were asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    Zoned,
    Unzoned,
}

/// One of the zones' tables; `None` in a file from before there were any.
pub(in crate::store) fn table(
    transaction: &ReadTransaction,
    definition: TableDefinition<'static, &'static ZoneKey, &'static [u8]>,
) -> Result<Option<Table>, StoreError> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// See the module's page.
pub(super) struct Walk<'r> {
    rows: Option<Range<'static, &'static ZoneKey, &'static [u8]>>,
    uids: Option<Table>,
    /// The greatest zone that was not walked through yet; `None` at the end.
    next: Option<u64>,
    /// Nothing above is of interest.
    high: DeliveryRowKey,
    waiting: VecDeque<Step>,
    asked: Asked<'r>,
    damage: &'r Damage,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'r> {
    pub filter: &'r DeliveryFilter,
    pub listed: Listed,
    pub hash: HashKey,
}

impl<'r> Walk<'r> {
    /// Begins at `high`.
    pub fn begin(
        transaction: &ReadTransaction,
        damage: &'r Damage,
        asked: Asked<'r>,
        high: DeliveryRowKey,
    ) -> Result<Self, StoreError> {
        let last = schema::zone_of(schema::read_delivery_key(&high).seq);
        let rows = match table(transaction, ZONES)? {
            Some(table) => Some(table.range::<&ZoneKey>(..=&schema::zone_key(last))?),
            None => None,
        };
        let uids = table(transaction, ZONE_UIDS)?;
        Ok(Self { rows, uids, next: Some(last), high, waiting: VecDeque::new(), asked, damage })
    }

    /// The next step; `None` at the end.
    pub fn step(&mut self) -> Result<Option<Step>, StoreError> {
        if let Some(step) = self.waiting.pop_front() {
            return Ok(Some(step));
        }
        let Some(next) = self.next else { return Ok(None) };
        let Some(entry) = self.rows.as_mut().and_then(std::iter::DoubleEndedIterator::next_back) else {
            self.next = None;
            return Ok(Some(self.look(0, next, Known::Unzoned)));
        };
        let (key, bytes) = entry?;
        let zone = schema::read_zone_key(*key.value());
        self.next = zone.checked_sub(1);
        let step = match self.damage.read::<ZoneRow, ZoneRow>("zones", key.value(), bytes.value()) {
            None => self.look(zone, zone, Known::Unzoned),
            Some(row) if self.asked.may_be_in(&row) && self.may_have_uid(zone)? => self.look(zone, zone, Known::Zoned),
            Some(_) => Step::Pass { low: schema::deliveries_of_zone(zone).0 },
        };
        if zone < next {
            self.waiting.push_back(step);
            return Ok(Some(self.look(zone.saturating_add(1), next, Known::Unzoned)));
        }
        Ok(Some(step))
    }

    fn look(&self, first: u64, last: u64, known: Known) -> Step {
        let (low, high) = (schema::deliveries_of_zone(first).0, schema::deliveries_of_zone(last).1);
        Step::Look { low, high: high.min(self.high), known }
    }

    fn may_have_uid(&self, zone: u64) -> Result<bool, StoreError> {
        let (Some(uid), Some(table)) = (&self.asked.filter.uid, &self.uids) else { return Ok(true) };
        let key = schema::zone_key(zone);
        let Some(bytes) = ReadableTable::get(table, &key)? else { return Ok(false) };
        let row = self.damage.read::<ZoneUidsRow, ZoneUidsRow>("zone_uids", &key, bytes.value());
        Ok(row.is_none_or(|row| row.may_have(self.asked.hash, uid)))
    }
}

impl Asked<'_> {
    fn may_be_in(&self, zone: &ZoneRow) -> bool {
        let DeliveryFilter { destination, status, event, reason, since, until, .. } = self.filter;
        since.is_none_or(|since| zone.last >= since.0)
            && until.is_none_or(|until| zone.first < until.0)
            && zone.of(*destination, *status) > 0
            && (self.listed == Listed::Deliveries || zone.dead(*destination) > 0)
            && event.as_ref().is_none_or(|event| zone.may_have_name(event))
            && reason.as_ref().is_none_or(|reason| zone.may_have_reason(reason))
    }
}
