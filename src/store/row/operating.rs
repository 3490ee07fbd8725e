//! Rows of what operators do, and of what they are told.

use super::{Decode, Encode, Row};

/// Pauses: the last one of a destination that was not resumed.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct PauseRow {
    pub since: u64,
    pub until: Option<u64>,
    pub reason: String,
    pub by: String,
}

/// Jobs: a replay or discard of many. Filter fields that are `None` do not filter.
#[derive(Encode, Decode, Clone, PartialEq, Debug, Default)]
pub(in crate::store) struct JobRow {
    pub kind: String,
    pub state: String,
    /// Sequence and destination, greatest first; where there are none, the filter says which.
    pub ids: Vec<(u64, u32)>,
    pub filter: JobFilterRow,
    /// Count, and in which milliseconds.
    pub rate: Option<(u32, u64)>,
    pub reason: String,
    pub matched: u64,
    pub done: u64,
    pub failed: u64,
    pub cursor: Option<(u64, u32)>,
    pub paced_to: u64,
    pub started_at: u64,
    pub finished_at: Option<u64>,
}

#[derive(Encode, Decode, Clone, PartialEq, Debug, Default)]
pub(in crate::store) struct JobFilterRow {
    pub destination: Option<u32>,
    pub event: Option<String>,
    pub uid: Option<String>,
    pub event_id: Option<String>,
    pub reason: Option<String>,
    /// 0: there was no answer.
    pub response_status: Option<u16>,
    pub detail: Option<String>,
    pub fault: Option<u64>,
    pub since: Option<u64>,
    pub until: Option<u64>,
}

/// Audit: what an operator did.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct AuditRow {
    pub at: u64,
    pub right: String,
    pub from: Option<String>,
    pub operator: Option<String>,
    pub action: String,
    pub target: String,
    pub arguments: String,
    pub reason: String,
    pub result: String,
}

/// Alerts: a problem that was told and is not over.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct ProblemRow {
    pub rule: String,
    pub severity: String,
    pub title: String,
    pub text: String,
    pub remedy: String,
    pub since: u64,
    pub told_at: Option<u64>,
    pub told: u32,
    pub good_since: Option<u64>,
}

/// Alerts: a message that a channel has not taken yet.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct WaitingRow {
    pub channel: String,
    pub kind: String,
    /// Of kind `closed`.
    pub why: Option<String>,
    pub at: u64,
    pub id: String,
    /// As it is told; that of the problem is the worst it was.
    pub severity: String,
    pub problem: ProblemRow,
}

/// Alerts: how often a source sends.
#[derive(Encode, Decode, Clone, PartialEq, Debug)]
pub(in crate::store) struct RhythmRow {
    pub total: u64,
    pub last_event_at: Option<u64>,
    pub newest: u64,
    pub counts: Vec<u32>,
}

impl Row for PauseRow {}
impl Row for JobRow {}
impl Row for AuditRow {}
impl Row for ProblemRow {}
impl Row for WaitingRow {}
impl Row for RhythmRow {}
