//! One page of a list: bounded in rows and in work, whatever the filter.
//!
//! Work is counted, not timed, so that a page is a function of the file and its cursor. A page that has done its share ends
//! where it is, even without a row, and its cursor goes on from there.

use std::collections::VecDeque;

use redb::{ReadTransaction, ReadableTable, TableDefinition};

use super::Page;
use super::zones::{Known, Step, Walk};
use crate::domain::id::DeliveryKey;
use crate::store::StoreError;
use crate::store::schema::{self, DeliveryRowKey};
use crate::store::sweep::STRAYS;

/// What looking at one row found.
pub(super) enum Look<T> {
    Hit(T),
    Miss,
    /// Received before the filter's `since`; where there are no zones, after enough of these in a row there is nothing more
    /// to find.
    TooOld,
}

/// The keys to look at, newest first.
pub(super) enum Route<'r> {
    Spans(VecDeque<(DeliveryRowKey, DeliveryRowKey)>),
    Zones(Box<Walk<'r>>),
}

impl Route<'_> {
    fn step(&mut self) -> Result<Option<Step>, StoreError> {
        match self {
            Self::Spans(spans) => {
                let span = spans.pop_front();
                Ok(span.map(|(low, high)| Step::Look { low, high, known: Known::Zoned }))
            }
            Self::Zones(walk) => walk.step(),
        }
    }
}

/// Follows the route, until the page is full, its work is done or nothing more can be found. `look` also says what work it
/// was. `limit` are rows, `share` is work.
pub(super) fn page<T>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, &'static DeliveryRowKey, &'static [u8]>,
    mut route: Route<'_>,
    (limit, share): (usize, usize),
    mut look: impl FnMut(DeliveryKey, &[u8]) -> Result<(Look<T>, usize), StoreError>,
) -> Result<Page<T>, StoreError> {
    let table = transaction.open_table(table)?;
    let mut page = Page { rows: Vec::new(), next: None };
    let (mut work, mut strays) = (0_usize, 0);
    let mut last = None;
    while let Some(step) = route.step()? {
        work += 1;
        let (low, high, known) = match step {
            Step::Look { low, high, known } => (low, high, known),
            Step::Pass { low } => {
                last = Some(schema::read_delivery_key(&low));
                if work >= share {
                    page.next = last;
                    return Ok(page);
                }
                continue;
            }
        };
        if low > high {
            continue;
        }
        for entry in ReadableTable::range::<&DeliveryRowKey>(&table, &low..=&high)?.rev() {
            let (key, bytes) = entry?;
            if last.is_some() && (page.rows.len() >= limit.max(1) || work >= share) {
                page.next = last;
                return Ok(page);
            }
            let key = schema::read_delivery_key(key.value());
            last = Some(key);
            let (found, took) = look(key, bytes.value())?;
            work = work.saturating_add(took).saturating_add(1);
            match found {
                Look::Hit(row) => {
                    page.rows.push(row);
                    strays = 0;
                }
                Look::Miss => strays = 0,
                Look::TooOld => strays += 1,
            }
            if known == Known::Unzoned && strays >= STRAYS {
                return Ok(page);
            }
        }
    }
    Ok(page)
}
