//! Jobs and deeds as they are kept, and how they become rows and come back.

use std::str::FromStr;

use super::convert::known;
use super::read::{Answered, DeliveryFilter};
use super::row::{AuditRow, JobFilterRow, JobRow, RowError};
use crate::domain::audit::{DEED_TEXT_BYTES, Deed, Right, Who};
use crate::domain::delivery::Status;
use crate::domain::fault::FaultId;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::job::{JobKind, JobNumber, JobState};
use crate::domain::message::cut;
use crate::domain::pacing::RateLimit;
use crate::domain::time::{DurationMs, UnixMs};

/// Which dead deliveries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Greatest first, each once: the order a job walks in.
    Ids(Vec<DeliveryKey>),
    /// An empty filter is all of them.
    Filter(Box<DeliveryFilter>),
}

/// A replay or discard of many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    pub number: JobNumber,
    pub kind: JobKind,
    pub state: JobState,
    pub selection: Selection,
    pub rate: Option<RateLimit>,
    pub reason: String,
    /// As counted before it began.
    pub matched: u64,
    pub done: u64,
    /// Known at its end: those that were counted and had left the DLQ, or died anew, before it was their turn.
    pub failed: u64,
    /// Everything before this (newer, greater) is done.
    pub cursor: Option<DeliveryKey>,
    /// See [`crate::domain::job::pace`].
    pub paced_to: UnixMs,
    pub started_at: UnixMs,
    pub finished_at: Option<UnixMs>,
}

/// A deed with its place and time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub number: u64,
    pub at: UnixMs,
    pub deed: Deed,
}

impl From<&Job> for JobRow {
    fn from(job: &Job) -> Self {
        let pair = |key: &DeliveryKey| (key.seq.0, key.destination.0);
        let (ids, filter) = match &job.selection {
            Selection::Ids(keys) => (keys.iter().map(pair).collect(), JobFilterRow::default()),
            Selection::Filter(filter) => (Vec::new(), JobFilterRow::from(&**filter)),
        };
        Self {
            kind: job.kind.as_str().to_owned(),
            state: job.state.as_str().to_owned(),
            ids,
            filter,
            rate: job.rate.map(|rate| (rate.count, rate.per.0)),
            reason: cut(&job.reason, DEED_TEXT_BYTES).to_owned(),
            matched: job.matched,
            done: job.done,
            failed: job.failed,
            cursor: job.cursor.as_ref().map(pair),
            paced_to: job.paced_to.0,
            started_at: job.started_at.0,
            finished_at: job.finished_at.map(|at| at.0),
        }
    }
}

/// Whose number is in the key; [`Job::numbered`] puts it in.
impl TryFrom<JobRow> for Job {
    type Error = RowError;

    fn try_from(row: JobRow) -> Result<Self, RowError> {
        let key = |(seq, destination)| DeliveryKey { seq: EventSeq(seq), destination: DestinationId(destination) };
        let selection = if row.ids.is_empty() {
            Selection::Filter(Box::new(DeliveryFilter::from(row.filter)))
        } else {
            Selection::Ids(row.ids.into_iter().map(key).collect())
        };
        Ok(Self {
            number: JobNumber(0),
            kind: known(&JobKind::ALL, JobKind::as_str, &row.kind, "kind of job")?,
            state: known(&JobState::ALL, JobState::as_str, &row.state, "state of a job")?,
            selection,
            rate: row.rate.map(|(count, per)| RateLimit { count, per: DurationMs(per) }),
            reason: row.reason,
            matched: row.matched,
            done: row.done,
            failed: row.failed,
            cursor: row.cursor.map(key),
            paced_to: UnixMs(row.paced_to),
            started_at: UnixMs(row.started_at),
            finished_at: row.finished_at.map(UnixMs),
        })
    }
}

impl Job {
    pub(super) fn numbered(self, number: u64) -> Self {
        Self { number: JobNumber(number), ..self }
    }

    /// No more of it will be done.
    pub(super) fn end(&mut self, state: JobState, at: UnixMs) {
        self.state = state;
        self.finished_at = Some(at);
        match state {
            JobState::Done => self.failed = self.matched.saturating_sub(self.done),
            JobState::Running | JobState::Cancelled => {}
        }
    }
}

impl From<&DeliveryFilter> for JobFilterRow {
    fn from(filter: &DeliveryFilter) -> Self {
        Self {
            destination: filter.destination.map(|id| id.0),
            event: filter.event.clone(),
            uid: filter.uid.clone(),
            event_id: filter.event_id.clone(),
            reason: filter.reason.clone(),
            response_status: filter.response_status.map(|answered| match answered {
                Answered::Nothing => 0,
                Answered::Status(status) => status,
            }),
            detail: filter.detail.clone(),
            fault: filter.fault.map(|fault| fault.0),
            since: filter.since.map(|time| time.0),
            until: filter.until.map(|time| time.0),
        }
    }
}

impl From<JobFilterRow> for DeliveryFilter {
    fn from(row: JobFilterRow) -> Self {
        Self {
            destination: row.destination.map(DestinationId),
            status: None::<Status>,
            event: row.event,
            uid: row.uid,
            event_id: row.event_id,
            reason: row.reason,
            response_status: row.response_status.map(|status| match status {
                0 => Answered::Nothing,
                status => Answered::Status(status),
            }),
            detail: row.detail,
            fault: row.fault.map(FaultId),
            since: row.since.map(UnixMs),
            until: row.until.map(UnixMs),
        }
    }
}

impl From<&Kept> for AuditRow {
    fn from(kept: &Kept) -> Self {
        let Deed { who, action, target, arguments, reason, result } = &kept.deed;
        let short = |text: &str| cut(text, DEED_TEXT_BYTES).to_owned();
        Self {
            at: kept.at.0,
            right: who.right.as_str().to_owned(),
            from: who.from.as_deref().map(short),
            operator: who.operator.as_deref().map(short),
            action: short(action),
            target: short(target),
            arguments: short(arguments),
            reason: short(reason),
            result: short(result),
        }
    }
}

/// Whose number is in the key.
impl TryFrom<AuditRow> for Kept {
    type Error = RowError;

    fn try_from(row: AuditRow) -> Result<Self, RowError> {
        let right = known(&Right::ALL, Right::as_str, &row.right, "right to act")?;
        let who = Who { right, from: row.from, operator: row.operator };
        let AuditRow { at, action, target, arguments, reason, result, .. } = row;
        Ok(Self { number: 0, at: UnixMs(at), deed: Deed { who, action, target, arguments, reason, result } })
    }
}

/// What a filter can ask of the answer: a number, or `none`.
impl FromStr for Answered {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "none" => Ok(Self::Nothing),
            number => {
                let plain = number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
                let status = number.parse().ok().filter(|status| plain && (100..1000).contains(status));
                status.map(Self::Status).ok_or(())
            }
        }
    }
}
