//! How far a lane has read its outbox: a cursor that nothing slips past.
//!
//! Rows at or before the cursor are known to the lane, or were settled. A page is read in a transaction of its own while
//! commits go on, so two things are remembered as long as a page is under way: which deliveries were settled meanwhile
//! (the page may still show them) and which rows beyond the cursor were committed meanwhile (the page may miss them).

use std::collections::BTreeSet;

use crate::domain::id::EventSeq;
use crate::domain::time::UnixMs;
use crate::store::read::OutboxCursor;

/// Where a page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PageStart {
    Beginning,
    After(OutboxCursor),
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// `None`: nothing was read yet.
    cursor: Option<OutboxCursor>,
    /// There is nothing on disk beyond the cursor.
    end: bool,
    loading: Option<Loading>,
}

#[derive(Debug, Default)]
struct Loading {
    released: BTreeSet<EventSeq>,
    /// The first place that must be looked at again after this page.
    missed: Option<OutboxCursor>,
    restart: bool,
}

impl Paging {
    /// Whether a row at `place` is the lane's business now rather than a later page's.
    pub(super) fn covers(&self, place: OutboxCursor) -> bool {
        self.end || self.cursor.is_some_and(|cursor| place <= cursor)
    }

    /// A row beyond the cursor was committed and left to the outbox.
    pub(super) fn missed(&mut self, place: OutboxCursor) {
        if let Some(loading) = &mut self.loading {
            loading.missed = Some(loading.missed.map_or(place, |first| first.min(place)));
        }
    }

    /// A row the lane has no room for: a later page brings it.
    pub(super) fn pull_back(&mut self, place: OutboxCursor) {
        let before = before(place);
        if self.end || self.cursor.is_some_and(|cursor| cursor > before) {
            self.cursor = Some(before);
        }
        self.end = false;
        self.missed(place);
    }

    /// A row of the page was dealt with.
    pub(super) fn advance(&mut self, place: OutboxCursor) {
        self.cursor = Some(self.cursor.map_or(place, |cursor| cursor.max(place)));
    }

    /// A lease ended.
    pub(super) fn released(&mut self, seq: EventSeq) {
        if let Some(loading) = &mut self.loading {
            loading.released.insert(seq);
        }
    }

    pub(super) fn was_released(&self, seq: EventSeq) -> bool {
        self.loading.as_ref().is_some_and(|loading| loading.released.contains(&seq))
    }

    /// The page is dealt with. `stopped_at` is the first row there was no room for; `end` says that the outbox had no more.
    pub(super) fn loaded(&mut self, stopped_at: Option<OutboxCursor>, end: bool) {
        let loading = self.loading.take().unwrap_or_default();
        match stopped_at {
            // Nothing lies between the cursor and the row, so the cursor may stand right before it: that it is in the
            // future is then known without reading the page again.
            Some(place) => self.cursor = Some(before(place)),
            None => self.end = end,
        }
        if loading.restart {
            self.restart();
        } else if let Some(place) = loading.missed {
            if self.end || self.cursor.is_some_and(|cursor| cursor >= place) {
                self.cursor = Some(before(place));
            }
            self.end = false;
        }
    }

    /// The page could not be read: the cursor stays, a later page asks again.
    pub(super) fn failed(&mut self) {
        let restart = self.loading.take().is_some_and(|loading| loading.restart);
        if restart {
            self.restart();
        }
    }

    /// Everything has to be read again.
    pub(super) fn restart(&mut self) {
        self.cursor = None;
        self.end = false;
        if let Some(loading) = &mut self.loading {
            loading.restart = true;
        }
    }

    /// Whether what comes next may be due already.
    pub(super) fn is_in_the_past(&self, now: UnixMs) -> bool {
        self.cursor.is_none_or(|cursor| cursor.due_at <= now)
    }

    /// When what was left on disk may be due. What is due already is read as soon as there is room.
    pub(super) fn wake(&self, now: UnixMs) -> Option<UnixMs> {
        let waits = !self.end && self.loading.is_none();
        self.cursor.map(|cursor| cursor.due_at).filter(|due| waits && *due > now)
    }

    /// Starts a page where none is under way and there may be something: the place after which to read.
    pub(super) fn start(&mut self) -> Option<PageStart> {
        if self.end || self.loading.is_some() {
            return None;
        }
        self.loading = Some(Loading::default());
        Some(self.cursor.map_or(PageStart::Beginning, PageStart::After))
    }
}

/// The greatest place smaller than `place`.
fn before(place: OutboxCursor) -> OutboxCursor {
    match (place.due_at.0.checked_sub(1), place.seq.0.checked_sub(1)) {
        (_, Some(seq)) => OutboxCursor { due_at: place.due_at, seq: EventSeq(seq) },
        (Some(due), None) => OutboxCursor { due_at: UnixMs(due), seq: EventSeq(u64::MAX) },
        (None, None) => place,
    }
}
