//! The rules that hold between rows, checked over the whole file.
//!
//! The delivery rows are the one truth; outbox and DLQ are indexes of it, the books count it. Each rule is checked from
//! both sides, so that a lost index row is found as surely as a stray one.

mod filters;
mod zones;

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable};

use super::damage::hex;
use super::error::StoreError;
use super::job::{Job, Kept};
use super::ledger::{Counts, Ledger};
use super::read::{alerts, desk, pauses};
use super::row::{
    self, AttemptRow, AuditRow, AutopsyRow, CountsRow, DedupeRow, DeliveryRow, EventRow, JobRow, NumberRow, PauseRow,
    ProblemRow, RhythmRow, Row, RowError, WaitingRow,
};
use super::schema::{
    self, ALERTS_RHYTHM, ALERTS_WAITING, ATTEMPTS, AUDIT, COUNTS, DEDUPE, DELIVERIES, DESTINATIONS, DLQ, INBOX, JOBS,
    META, META_DLQ_SWEPT, META_FLOOR, OUTBOX,
};
use crate::domain::alert::{Problem, Rhythm, Waiting};
use crate::domain::dedupe::HashKey;
use crate::domain::delivery::{Delivery, State, Status};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::json_object::JsonObject;
use crate::domain::pause::Pause;

/// Findings told; a file with more is bad enough.
const FINDINGS_MAX: usize = 1000;

/// Everything found wrong, in words; empty where the store is sound.
pub(super) fn verify(transaction: &ReadTransaction, ledger: &Ledger, hash: HashKey) -> Result<Vec<String>, StoreError> {
    let mut check = Check::open(transaction)?;
    check.inbox()?;
    check.deliveries()?;
    check.outbox()?;
    check.dlq()?;
    check.attempts()?;
    check.dedupe()?;
    filters::check(&mut check)?;
    check.destinations()?;
    check.pauses()?;
    check.desk()?;
    zones::check(&mut check, hash)?;
    check.alerts()?;
    check.books(ledger)?;
    Ok(check.findings)
}

struct Check<'t> {
    transaction: &'t ReadTransaction,
    findings: Vec<String>,
    next_seq: u64,
    dlq_swept: u64,
    /// Delivery rows by destination and status.
    rows: BTreeMap<DestinationId, Counts>,
    outbox_rows: BTreeMap<DestinationId, u64>,
}

fn named(key: DeliveryKey) -> String {
    format!("delivery {}/{}", key.seq.0, key.destination.0)
}

impl<'t> Check<'t> {
    fn open(transaction: &'t ReadTransaction) -> Result<Self, StoreError> {
        let meta = transaction.open_table(META)?;
        let number = |name: &str| -> Result<u64, StoreError> {
            let bytes = ReadableTable::get(&meta, name)?;
            Ok(bytes.and_then(|bytes| row::decode::<NumberRow>(bytes.value()).ok()).map_or(0, |row| row.0))
        };
        let last = transaction.open_table(INBOX)?.last()?.map(|(key, _)| schema::read_inbox_key(*key.value()).0);
        Ok(Self {
            transaction,
            findings: Vec::new(),
            next_seq: number(META_FLOOR)?.max(last.map_or(0, |last| last.saturating_add(1))),
            dlq_swept: number(META_DLQ_SWEPT)?,
            rows: BTreeMap::new(),
            outbox_rows: BTreeMap::new(),
        })
    }

    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn read<R: Row, T: TryFrom<R>>(&mut self, what: &str, bytes: &[u8]) -> Option<T>
    where
        RowError: From<T::Error>,
    {
        let value = row::decode::<R>(bytes).and_then(|row| T::try_from(row).map_err(RowError::from));
        value.map_err(|error| self.find(format!("{what}: {error}"))).ok()
    }

    fn inbox(&mut self) -> Result<(), StoreError> {
        for entry in self.transaction.open_table(INBOX)?.iter()? {
            let (key, bytes) = entry?;
            let seq = schema::read_inbox_key(*key.value());
            let event = self.read::<EventRow, Event>(&format!("event {}", seq.0), bytes.value());
            if event.is_some_and(|event| !event.objects().into_iter().all(JsonObject::is_sound)) {
                self.find(format!("event {}: an object of it is no JSON", seq.0));
            }
        }
        Ok(())
    }

    fn deliveries(&mut self) -> Result<(), StoreError> {
        let inbox = self.transaction.open_table(INBOX)?;
        let outbox = self.transaction.open_table(OUTBOX)?;
        let dlq = self.transaction.open_table(DLQ)?;
        for entry in self.transaction.open_table(DELIVERIES)?.iter()? {
            let (row, bytes) = entry?;
            let key = schema::read_delivery_key(row.value());
            let Some(delivery) = self.read::<DeliveryRow, Delivery>(&named(key), bytes.value()) else { continue };
            self.tally(key.destination, delivery.state.status());
            if ReadableTable::get(&inbox, &schema::inbox_key(key.seq))?.is_none() {
                self.find(format!("{}: its event is gone", named(key)));
            }
            match &delivery.state {
                State::Pending { due_at } | State::Failed { due_at, .. } => {
                    let place = schema::outbox_key(key.destination, *due_at, key.seq);
                    if ReadableTable::get(&outbox, &place)?.is_none() {
                        self.find(format!(
                            "{}: owed at {due_at}, but not in the outbox: it would never be sent",
                            named(key)
                        ));
                    }
                    if delivery.target.is_none() {
                        self.find(format!("{}: owed without a target name", named(key)));
                    }
                }
                State::FailedPermanently { at, .. } => {
                    let kept = ReadableTable::get(&dlq, row.value())?.is_some();
                    if !kept && at.max(&delivery.received_at).0 >= self.dlq_swept {
                        self.find(format!("{}: dead since {at}, but not in the DLQ", named(key)));
                    }
                }
                State::Sent { .. } | State::Skipped { .. } | State::Discarded { .. } => {}
            }
        }
        Ok(())
    }

    fn tally(&mut self, destination: DestinationId, status: Status) {
        let rows = self.rows.entry(destination).or_default();
        rows.add(status);
    }

    fn outbox(&mut self) -> Result<(), StoreError> {
        for entry in self.transaction.open_table(OUTBOX)?.iter()? {
            let (destination, due_at, seq) = schema::read_outbox_key(entry?.0.value());
            let key = DeliveryKey { seq, destination };
            let count = self.outbox_rows.entry(destination).or_default();
            *count = count.saturating_add(1);
            let due = self.delivery(key)?.and_then(|delivery| delivery.state.due_at());
            if due != Some(due_at) {
                let truth = due.map_or("it is not owed".to_owned(), |due| format!("it is owed at {due}"));
                self.find(format!("{}: in the outbox at {due_at}, but {truth}", named(key)));
            }
        }
        Ok(())
    }

    fn dlq(&mut self) -> Result<(), StoreError> {
        for entry in self.transaction.open_table(DLQ)?.iter()? {
            let (key, bytes) = entry?;
            let key = schema::read_delivery_key(key.value());
            self.read::<AutopsyRow, AutopsyRow>(&format!("DLQ entry of {}", named(key)), bytes.value());
            let status = self.delivery(key)?.map(|delivery| delivery.state.status());
            if status != Some(Status::FailedPermanently) {
                let truth = status.map_or("does not exist", Status::as_str);
                self.find(format!("{}: in the DLQ, but it is {truth}", named(key)));
            }
        }
        Ok(())
    }

    fn attempts(&mut self) -> Result<(), StoreError> {
        for entry in self.transaction.open_table(ATTEMPTS)?.iter()? {
            let (key, bytes) = entry?;
            let (key, n) = schema::read_attempt_key(key.value());
            self.read::<AttemptRow, AttemptRow>(&format!("attempt {n} of {}", named(key)), bytes.value());
            let exchanges = self.delivery(key)?.map(|delivery| delivery.history.exchanges);
            if exchanges.is_none_or(|exchanges| n == 0 || n > exchanges) {
                self.find(format!("{}: has an attempt {n} that its history does not know", named(key)));
            }
        }
        Ok(())
    }

    fn dedupe(&mut self) -> Result<(), StoreError> {
        for entry in self.transaction.open_table(DEDUPE)?.iter()? {
            let (key, bytes) = entry?;
            let what = format!("dedupe key {}", hex(key.value()));
            let (bucket, _) = schema::read_dedupe_key(key.value());
            let Some(row) = self.read::<DedupeRow, DedupeRow>(&what, bytes.value()) else { continue };
            if row.seq >= self.next_seq {
                self.find(format!("{what}: names event {}, which was never accepted", row.seq));
            }
            if schema::bucket_of(EventSeq(row.seq)) != bucket {
                self.find(format!("{what}: names event {} of another bucket", row.seq));
            }
        }
        Ok(())
    }

    fn destinations(&mut self) -> Result<(), StoreError> {
        let mut names = BTreeMap::new();
        for entry in self.transaction.open_table(DESTINATIONS)?.iter()? {
            let (name, bytes) = entry?;
            let name = name.value();
            let Some(number) = self.read::<NumberRow, NumberRow>(&format!("destination {name}"), bytes.value()) else {
                continue;
            };
            if let Some(other) = names.insert(number.0, name.to_owned()) {
                self.find(format!("destinations {other} and {name} have the same number {}", number.0));
            }
        }
        Ok(())
    }

    /// A pause is of a destination that has a number.
    fn pauses(&mut self) -> Result<(), StoreError> {
        let mut numbers = BTreeSet::new();
        for entry in self.transaction.open_table(DESTINATIONS)?.iter()? {
            numbers.extend(row::decode::<NumberRow>(entry?.1.value()).ok().map(|row| row.0));
        }
        let Some(table) = pauses::table(self.transaction)? else { return Ok(()) };
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            let number = schema::read_pause_key(*key.value()).0;
            self.read::<PauseRow, Pause>(&format!("pause of destination {number}"), bytes.value());
            if !numbers.contains(&u64::from(number)) {
                self.find(format!("destination {number} is paused, but no destination has that number"));
            }
        }
        Ok(())
    }

    /// Jobs and deeds can be read, and no job has done more than was counted.
    fn desk(&mut self) -> Result<(), StoreError> {
        if let Some(table) = desk::table(self.transaction, JOBS)? {
            for entry in table.iter()? {
                let (key, bytes) = entry?;
                let name = format!("job {}", schema::read_desk_key(*key.value()));
                let Some(job) = self.read::<JobRow, Job>(&name, bytes.value()) else { continue };
                if job.done.saturating_add(job.failed) > job.matched {
                    self.find(format!("{name} has done {} and failed {} of {}", job.done, job.failed, job.matched));
                }
            }
        }
        if let Some(table) = desk::table(self.transaction, AUDIT)? {
            for entry in table.iter()? {
                let (key, bytes) = entry?;
                let name = format!("deed {}", schema::read_desk_key(*key.value()));
                self.read::<AuditRow, Kept>(&name, bytes.value());
            }
        }
        Ok(())
    }

    fn alerts(&mut self) -> Result<(), StoreError> {
        let Some(table) = alerts::table(self.transaction)? else { return Ok(()) };
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            let what = format!("alerts {}", key.value());
            if key.value().starts_with(ALERTS_RHYTHM) {
                self.read::<RhythmRow, Rhythm>(&what, bytes.value());
            } else if key.value().starts_with(ALERTS_WAITING) {
                self.read::<WaitingRow, Waiting>(&what, bytes.value());
            } else {
                self.read::<ProblemRow, Problem>(&what, bytes.value());
            }
        }
        Ok(())
    }

    /// The books against the rows. Rows that retention removed still count, so only what is never removed must be equal.
    fn books(&mut self, ledger: &Ledger) -> Result<(), StoreError> {
        let mut books = BTreeMap::new();
        for entry in self.transaction.open_table(COUNTS)?.iter()? {
            let (key, bytes) = entry?;
            let destination = schema::read_counts_key(*key.value());
            let what = format!("books of destination {}", destination.0);
            if let Some(counts) = self.read::<CountsRow, Counts>(&what, bytes.value()) {
                books.insert(destination, counts);
            }
        }
        for destination in
            self.rows.keys().filter(|destination| !books.contains_key(destination)).copied().collect::<Vec<_>>()
        {
            self.find(format!("destination {} has deliveries, but no books", destination.0));
        }
        for (destination, counts) in books {
            self.book(destination, &counts, ledger.deliveries.get(&destination));
        }
        Ok(())
    }

    fn book(&mut self, destination: DestinationId, counts: &Counts, published: Option<&Counts>) {
        let number = destination.0;
        let rows = self.rows.get(&destination).copied().unwrap_or_default();
        if !counts.balanced() {
            self.find(format!("destination {number}: the books do not balance: {counts:?}"));
        }
        if published != Some(counts) {
            self.find(format!("destination {number}: the books in memory are {published:?}, on disk {counts:?}"));
        }
        for status in Status::ALL {
            let (counted, found) = (counts.of(status), rows.of(status));
            let exact = matches!(status, Status::Pending | Status::Failed);
            if found > counted || (exact && found != counted) {
                let word = status.as_str();
                self.find(format!("destination {number}: {counted} {word} in the books, {found} in the rows"));
            }
        }
        let owed = counts.pending.saturating_add(counts.failed);
        let queued = self.outbox_rows.get(&destination).copied().unwrap_or_default();
        if owed != queued {
            self.find(format!("destination {number}: {owed} owed in the books, {queued} in the outbox"));
        }
    }

    /// The delivery, without a finding where it cannot be read: that was told already.
    fn delivery(&self, key: DeliveryKey) -> Result<Option<Delivery>, StoreError> {
        let table = self.transaction.open_table(DELIVERIES)?;
        let bytes = ReadableTable::get(&table, &schema::delivery_key(key))?;
        let row = bytes.and_then(|bytes| row::decode::<DeliveryRow>(bytes.value()).ok());
        Ok(row.and_then(|row| Delivery::try_from(row).ok()))
    }
}
