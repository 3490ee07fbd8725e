//! Statistics, by destination, and their rows into telemetry's values and back.

use std::collections::BTreeMap;

use redb::{ReadOnlyTable, ReadTransaction, TableError};

use super::Reader;
use crate::domain::id::DestinationId;
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::row::{StatsHeadRow, StatsSlotRow};
use crate::store::schema::{self, STATS, StatsKey, StatsPart};
use crate::telemetry::rolling::saved::{Saved, SavedHead, SavedSlot};
use crate::telemetry::rolling::{LastError, Streak};

type Table = ReadOnlyTable<&'static StatsKey, &'static [u8]>;

/// `None` in a file from before statistics were kept.
pub(in crate::store) fn table(transaction: &ReadTransaction) -> Result<Option<Table>, StoreError> {
    match transaction.open_table(STATS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Reader {
    /// Everything that was kept of everyone's statistics.
    pub fn stats(&self) -> Result<BTreeMap<DestinationId, Saved>, StoreError> {
        let damage = &self.shared.damage;
        self.shared.read(|transaction| {
            let mut stats: BTreeMap<DestinationId, Saved> = BTreeMap::new();
            let Some(table) = table(transaction)? else { return Ok(stats) };
            for entry in redb::ReadableTable::iter(&table)? {
                let (key, bytes) = entry?;
                let (destination, part, number) = schema::read_stats_key(key.value());
                let saved = stats.entry(destination).or_default();
                let slot = || damage.read::<StatsSlotRow, StatsSlotRow>("stats", key.value(), bytes.value());
                match part {
                    Some(StatsPart::Head) => {
                        let row = damage.read::<StatsHeadRow, StatsHeadRow>("stats", key.value(), bytes.value());
                        saved.head = row.map(SavedHead::from).unwrap_or_default();
                    }
                    Some(StatsPart::Hour) => saved.hour.extend(slot().map(|row| row.into_slot(number))),
                    Some(StatsPart::Day) => saved.day.extend(slot().map(|row| row.into_slot(number))),
                    None => damage.report("stats", key.value(), "no part of statistics"),
                }
            }
            Ok(stats)
        })
    }
}

impl From<&SavedHead> for StatsHeadRow {
    fn from(head: &SavedHead) -> Self {
        let error = |error: &LastError| (error.at.0, error.http_status, error.reason.clone(), error.message.clone());
        Self {
            names: head.names.clone(),
            last_error: head.last_error.as_ref().map(error),
            left_out: head.left_out.iter().map(|(field, count)| (field.clone(), *count)).collect(),
            streak: (head.streak.failures, head.streak.since.map(|at| at.0), head.streak.last_delivered.map(|at| at.0)),
        }
    }
}

impl From<StatsHeadRow> for SavedHead {
    fn from(row: StatsHeadRow) -> Self {
        let error = |(at, http_status, reason, message)| LastError { at: UnixMs(at), http_status, reason, message };
        let (failures, since, last_delivered) = row.streak;
        Self {
            names: row.names,
            last_error: row.last_error.map(error),
            left_out: row.left_out.into_iter().collect(),
            streak: Streak { failures, since: since.map(UnixMs), last_delivered: last_delivered.map(UnixMs) },
        }
    }
}

impl From<&SavedSlot> for StatsSlotRow {
    fn from(slot: &SavedSlot) -> Self {
        Self { latency: slot.latency.clone(), exchange: slot.exchange.clone(), events: slot.events.clone() }
    }
}

impl StatsSlotRow {
    fn into_slot(self, number: u64) -> SavedSlot {
        SavedSlot { number, latency: self.latency, exchange: self.exchange, events: self.events }
    }
}
