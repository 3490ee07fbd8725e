//! An event in memory as its row stands in the file: about a tenth of what the same event takes apart.

use std::sync::Arc;

use super::row::{self, EventRow};
use crate::domain::event::Event;

/// The row of one event. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
struct Packed(Arc<[u8]>);

impl Packed {
    fn new(row: &[u8]) -> Self {
        Self(Arc::from(row))
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The event; `None` where the row is damaged.
    fn unpack(&self) -> Option<Event> {
        row::decode::<EventRow>(&self.0).and_then(Event::try_from).ok()
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} bytes)", self.bytes())
    }
}

/// An event that need not be read from the file.
#[derive(Clone, Debug)]
pub struct AtHand {
    packed: Packed,
    whole: Option<Arc<Event>>,
}

impl AtHand {
    /// As it has just come in.
    pub(crate) fn fresh(event: &Arc<Event>, row: &[u8]) -> Self {
        Self { packed: Packed::new(row), whole: Some(Arc::clone(event)) }
    }

    /// As it was read.
    pub(super) fn packed(row: &[u8]) -> Self {
        Self { packed: Packed::new(row), whole: None }
    }

    /// Bytes of the row, whatever else is at hand.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Keeps the row only: for one that is not sent at once.
    pub fn pack(&mut self) {
        self.whole = None;
    }

    /// The event; `None` where its row is damaged, which whoever reads it from the file reports.
    pub fn event(self) -> Option<Arc<Event>> {
        self.whole.or_else(|| self.packed.unpack().map(Arc::new))
    }
}
