//! From the format of an older version to this one, at the opening, in one transaction: cut short, it never was.
//!
//! Only what cannot be trusted is dropped here; what takes long to make anew is made by retention, a little at a time, while
//! everything goes on. There is no way back: an older version refuses the newer format and touches nothing.
//!
//! | from | what is done |
//! |---|---|
//! | 1 | The zones are dropped. A version from before there were any could have written deliveries into a file that had them, and left them stale: lists by zones would then pass over what they do not know. |

use std::path::Path;

use redb::{Builder, Database, ReadTransaction, ReadableDatabase};

use super::error::StoreError;
use super::handle::begin_write;
use super::load::{Unfit, check_format};
use super::schema::{FORMAT, META, META_FORMAT, ZONE_UIDS, ZONES};

/// Refuses a file of a newer version before anything is written to it: opening it the usual way marks it as being in use. One
/// that needs a repair first, or is no store, is left to the usual way, which refuses it too.
pub(super) fn refuse_newer(path: &Path, builder: &Builder) -> Result<(), Unfit> {
    let Ok(database) = builder.open_read_only(path) else { return Ok(()) };
    let Ok(format) = database.begin_read().map_err(StoreError::from).and_then(|read| format(&read)) else {
        return Ok(());
    };
    check_format(format)
}

fn format(transaction: &ReadTransaction) -> Result<Option<Vec<u8>>, StoreError> {
    let meta = transaction.open_table(META)?;
    Ok(redb::ReadableTable::get(&meta, META_FORMAT)?.map(|bytes| bytes.value().to_vec()))
}

/// Brings an open store to [`FORMAT`]; one that has it already is not written to.
pub(super) fn upgrade(database: &Database) -> Result<(), StoreError> {
    let format = format(&database.begin_read()?)?.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let format = format.map_or(FORMAT, u32::from_be_bytes);
    if format >= FORMAT {
        return Ok(());
    }
    let transaction = begin_write(database)?;
    transaction.delete_table(ZONES)?;
    transaction.delete_table(ZONE_UIDS)?;
    transaction.open_table(META)?.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
    transaction.commit()?;
    tracing::info!(from = format, to = FORMAT, "The store was brought to this version's format.");
    Ok(())
}

/// What an operator is told where that failed.
pub(super) fn upgrade_text(error: &StoreError) -> String {
    format!(
        "it could not be brought to this version's format ({error}); no event was changed: mend the cause and start again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_upgrade_is_told_why_and_what_to_do() {
        let text = upgrade_text(&StoreError::Failed("no space".to_owned()));
        for word in ["this version's format", "no space", "no event was changed", "start again"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
