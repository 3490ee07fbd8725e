//! What fuzzing may reach of the store's rows. Built only for `cargo fuzz`.

use super::filter::Filters;
use super::row::{
    self, AttemptRow, AutopsyRow, CountsRow, DedupeRow, DeliveryRow, EventCountsRow, EventHead, EventRow, FilterRow,
    IdentityRow, NumberRow, PauseRow, Row,
};
use crate::domain::delivery::{Autopsy, Delivery};
use crate::domain::event::Event;
use crate::domain::pause::Pause;

/// Bytes as a damaged file may hold them; the first says which row they are taken for, the second whether they get the
/// right checksum, so that what is behind it is reached.
pub fn rows(data: &[u8]) {
    let [which, checksum, body @ ..] = data else { return };
    let mut bytes = body.to_vec();
    if checksum % 4 != 0 {
        bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    }
    match which % 11 {
        0 => {
            read::<EventRow>(&bytes).map(Event::try_from);
            row::decode_head::<EventHead>(&bytes).ok();
        }
        1 => drop(read::<DeliveryRow>(&bytes).map(Delivery::try_from)),
        2 => drop(read::<AttemptRow>(&bytes).map(|row| row.into_attempt(1))),
        3 => drop(read::<AutopsyRow>(&bytes).map(Autopsy::from)),
        4 => drop(read::<DedupeRow>(&bytes)),
        5 => drop(read::<CountsRow>(&bytes)),
        6 => drop(read::<EventCountsRow>(&bytes)),
        7 => drop(read::<PauseRow>(&bytes).map(Pause::try_from)),
        8 => drop(read::<IdentityRow>(&bytes)),
        9 => drop(read::<NumberRow>(&bytes)),
        _ => drop(read::<FilterRow>(&bytes).map(|row| Filters::default().take(0, &row))),
    }
}

/// What can be read is written so that it reads the same.
fn read<R: Row + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<R> {
    let found = row::decode::<R>(bytes).ok()?;
    let again = row::encode(&found).and_then(|bytes| row::decode::<R>(&bytes));
    assert_eq!(again.as_ref(), Ok(&found), "a row that can be read can be written");
    Some(found)
}
