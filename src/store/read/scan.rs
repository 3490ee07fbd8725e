//! Looking through the store for rows that cannot be read, in pages of bounded work: what nobody has met yet.
//!
//! Table after table, each in the order of its keys; the outbox first, so that it is known where a delivery that cannot be read
//! is owed. Small tables that every start reads as a whole (destinations, books, pauses, statistics, alerts) are not among them.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, Value};

use super::{DamagedRow, Deliveries, Reader};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::id::DeliveryKey;
use crate::domain::limits::{API_PAGE_DEFAULT, API_PAGE_WORK};
use crate::store::StoreError;
use crate::store::damage::{Damage, Damaged, hex};
use crate::store::job::{Job, Kept};
use crate::store::row::{
    self, AttemptRow, AuditRow, AutopsyRow, DedupeRow, DeliveryRow, EventRow, FilterRow, JobRow, Row, RowError,
    ZoneRow, ZoneUidsRow,
};
use crate::store::schema::{
    self, ATTEMPTS, AUDIT, DEDUPE, DELIVERIES, DLQ, FILTERS, INBOX, JOBS, OUTBOX, ZONE_UIDS, ZONES,
};

/// Looking up the delivery of an outbox row, in the work of looking at a row.
const LOOKUP: usize = 4;
/// Bytes of a row whose reading is as much work as the row itself.
const BYTES: usize = 512;

/// The tables that are looked through, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Table {
    Outbox,
    Deliveries,
    Inbox,
    Dlq,
    Attempts,
    Dedupe,
    Filters,
    Zones,
    ZoneUids,
    Jobs,
    Audit,
}

/// Where a scan goes on: behind a key of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanCursor {
    table: Table,
    after: Vec<u8>,
}

/// What a page has found, and may still do.
struct Page<'r> {
    transaction: &'r ReadTransaction,
    damage: &'r Damage,
    found: Vec<Damaged>,
    work: usize,
}

impl Reader {
    /// Damaged rows of the next part of the store, and where it goes on; `None` at its end.
    pub fn scan(&self, from: Option<&ScanCursor>) -> Result<(Vec<DamagedRow>, Option<ScanCursor>), StoreError> {
        let (found, next) = self.shared.read(|transaction| {
            let mut page = Page { transaction, damage: &self.shared.damage, found: Vec::new(), work: 0 };
            let first = from.map_or(0, |from| Table::ALL.iter().take_while(|table| **table != from.table).count());
            for table in Table::ALL.into_iter().skip(first) {
                let after = from.filter(|from| from.table == table).map(|from| from.after.as_slice());
                if let Some(after) = page.look_through(table, after)? {
                    return Ok((page.found, Some(ScanCursor { table, after })));
                }
            }
            Ok((page.found, None))
        })?;
        Ok((found.into_iter().map(|row| self.around(row)).collect::<Result<_, _>>()?, next))
    }
}

impl Page<'_> {
    /// The last key that was looked at where the page ends within the table.
    fn look_through(&mut self, table: Table, after: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        match table {
            Table::Outbox => {
                let deliveries = Deliveries::open(self.transaction, self.damage)?;
                self.rows(table, OUTBOX, after, LOOKUP, |row, ()| {
                    let (destination, due_at, seq) = schema::read_outbox_key(row);
                    let due = deliveries.get(DeliveryKey { seq, destination })?.and_then(|found| found.state.due_at());
                    Ok((due != Some(due_at)).then(|| "no delivery is due then".to_owned()))
                })
            }
            Table::Deliveries => self.rows(table, DELIVERIES, after, 0, |_, bytes| {
                Ok(match read::<DeliveryRow, Delivery>(bytes) {
                    Ok(delivery) if delivery.target.is_none() && delivery.state.due_at().is_some() => {
                        Some("an owed delivery without target".to_owned())
                    }
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                })
            }),
            Table::Inbox => self.rows(table, INBOX, after, 0, |_, bytes| unread::<EventRow, Event>(bytes)),
            Table::Dlq => self.rows(table, DLQ, after, 0, |_, bytes| unread::<AutopsyRow, AutopsyRow>(bytes)),
            Table::Attempts => self.rows(table, ATTEMPTS, after, 0, |_, bytes| unread::<AttemptRow, AttemptRow>(bytes)),
            Table::Dedupe => self.rows(table, DEDUPE, after, 0, |_, bytes| unread::<DedupeRow, DedupeRow>(bytes)),
            Table::Filters => self.rows(table, FILTERS, after, 0, |_, bytes| unread::<FilterRow, FilterRow>(bytes)),
            Table::Zones => self.rows(table, ZONES, after, 0, |_, bytes| unread::<ZoneRow, ZoneRow>(bytes)),
            Table::ZoneUids => {
                self.rows(table, ZONE_UIDS, after, 0, |_, bytes| unread::<ZoneUidsRow, ZoneUidsRow>(bytes))
            }
            Table::Jobs => self.rows(table, JOBS, after, 0, |_, bytes| unread::<JobRow, Job>(bytes)),
            Table::Audit => self.rows(table, AUDIT, after, 0, |_, bytes| unread::<AuditRow, Kept>(bytes)),
        }
    }

    /// `beside` is the work of a row beyond reading it; `look` says what is wrong with it.
    fn rows<const N: usize, V: Value + 'static>(
        &mut self,
        table: Table,
        definition: TableDefinition<'static, &'static [u8; N], V>,
        after: Option<&[u8]>,
        beside: usize,
        look: impl Fn(&[u8; N], V::SelfType<'_>) -> Result<Option<String>, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let opened = match self.transaction.open_table(definition) {
            Ok(opened) => opened,
            // A file from before it was kept.
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let after: Option<[u8; N]> = after.and_then(|after| after.try_into().ok());
        let low = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        for entry in ReadableTable::range::<&[u8; N]>(&opened, (low, Bound::Unbounded))? {
            let (key, value) = entry?;
            let value = value.value();
            self.work = self.work.saturating_add(1 + beside + V::as_bytes(&value).as_ref().len() / BYTES);
            if let Some(what) = look(key.value(), value)? {
                self.damage.report(table.as_str(), key.value(), &what);
                self.found.push((table.as_str(), key.value().to_vec(), what));
            }
            if self.work >= API_PAGE_WORK || self.found.len() >= API_PAGE_DEFAULT {
                return Ok(Some(key.value().to_vec()));
            }
        }
        Ok(None)
    }
}

fn read<R: Row, T: TryFrom<R>>(bytes: &[u8]) -> Result<T, RowError>
where
    RowError: From<T::Error>,
{
    row::decode::<R>(bytes).and_then(|row| T::try_from(row).map_err(RowError::from))
}

/// Why the row cannot be read.
#[allow(clippy::unnecessary_wraps, reason = "some tables are looked at by reading others, which may fail")]
fn unread<R: Row, T: TryFrom<R>>(bytes: &[u8]) -> Result<Option<String>, StoreError>
where
    RowError: From<T::Error>,
{
    Ok(read::<R, T>(bytes).err().map(|error| error.to_string()))
}

impl Table {
    const ALL: [Self; 11] = [
        Self::Outbox,
        Self::Deliveries,
        Self::Inbox,
        Self::Dlq,
        Self::Attempts,
        Self::Dedupe,
        Self::Filters,
        Self::Zones,
        Self::ZoneUids,
        Self::Jobs,
        Self::Audit,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Deliveries => "deliveries",
            Self::Inbox => "inbox",
            Self::Dlq => "dlq",
            Self::Attempts => "attempts",
            Self::Dedupe => "dedupe",
            Self::Filters => "filters",
            Self::Zones => "zones",
            Self::ZoneUids => "zone_uids",
            Self::Jobs => "jobs",
            Self::Audit => "audit",
        }
    }

    fn key_bytes(self) -> usize {
        match self {
            Self::Outbox | Self::Dedupe => 20,
            Self::Attempts => 16,
            Self::Deliveries | Self::Dlq => 12,
            Self::Inbox | Self::Zones | Self::ZoneUids | Self::Jobs | Self::Audit => 8,
            Self::Filters => 4,
        }
    }
}

/// `deliveries.000000000000000100000001`
impl fmt::Display for ScanCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table.as_str(), hex(&self.after))
    }
}

impl FromStr for ScanCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, digits) = text.split_once('.').ok_or(())?;
        let table = Table::ALL.into_iter().find(|table| table.as_str() == name).ok_or(())?;
        // A number could have a sign.
        let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())).ok_or(())?;
        let after =
            digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let after: Vec<u8> = after.collect::<Option<_>>().ok_or(())?;
        if after.len() == table.key_bytes() { Ok(Self { table, after }) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_nothing_else_is() {
        for table in Table::ALL {
            let cursor = ScanCursor { table, after: vec![0xa7; table.key_bytes()] };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for wrong in
            ["", "inbox", "inbox.", "inbox.00", "inbox.+1+1+1+1+1+1+1+1", "sent.0000000000000001", "inbox.éééé"]
        {
            assert_eq!(wrong.parse::<ScanCursor>(), Err(()), "{wrong}");
        }
    }
}
