//! Rows of what is counted: the books, zones of the log, statistics.

use super::{Decode, Encode, Row};

#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct CountsRow {
    pub accepted: u64,
    pub pending: u64,
    pub failed: u64,
    pub sent: u64,
    pub failed_permanently: u64,
    pub skipped: u64,
    pub discarded: u64,
}

#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct EventCountsRow {
    pub accepted: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub rejected: u64,
}

/// Zones: what is in one. Names and reasons in no order; more than are told apart mean any.
#[derive(Encode, Decode, Clone, PartialEq, Debug, Default)]
pub(in crate::store) struct ZoneRow {
    /// Receipt of its events: the earliest and the latest.
    pub first: u64,
    pub last: u64,
    pub names: Vec<String>,
    pub reasons: Vec<String>,
    /// By destination; none where nothing of it is left.
    pub counts: Vec<ZoneCountsRow>,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Debug, Default)]
pub(in crate::store) struct ZoneCountsRow {
    pub destination: u32,
    pub pending: u32,
    pub failed: u32,
    pub sent: u32,
    pub failed_permanently: u32,
    pub skipped: u32,
    pub discarded: u32,
    /// Of those that failed permanently, the ones that are still in the DLQ.
    pub dlq: u32,
}

/// Zones: the uids of one, as a Bloom filter; empty for none.
#[derive(Encode, Decode, Clone, PartialEq, Debug, Default)]
pub(in crate::store) struct ZoneUidsRow {
    pub bits: Vec<u8>,
}

/// Stats: names, the last error (time, HTTP status, reason, message) and fields that were left out.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct StatsHeadRow {
    pub names: Vec<String>,
    pub last_error: Option<(u64, Option<u16>, String, String)>,
    pub left_out: Vec<(String, u64)>,
    /// Failures in a row, since when, and when one was last delivered.
    pub streak: (u32, Option<u64>, Option<u64>),
}

/// Stats: one slot, with histograms as buckets and counts, and names' numbers with delivered and finished.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct StatsSlotRow {
    pub latency: Vec<(u8, u32)>,
    pub exchange: Vec<(u8, u32)>,
    pub events: Vec<(Option<u8>, u32, u32)>,
}

/// Filters: the keys of a full dedupe bucket, with the latest receipt of any of them.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct FilterRow {
    pub newest: u64,
    pub bits: Vec<u8>,
}

impl Row for FilterRow {
    fn room(&self) -> usize {
        self.bits.len() + 32
    }
}

impl Row for CountsRow {}
impl Row for EventCountsRow {}
impl Row for ZoneRow {}
impl Row for ZoneUidsRow {}
impl Row for StatsHeadRow {}
impl Row for StatsSlotRow {}
