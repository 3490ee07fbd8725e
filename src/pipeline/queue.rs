//! What of a lane may be sent now: what has just come in, the backlog behind it, and the halves of refused exchanges.
//!
//! Two queues, so that neither starves the other: they take turns, and the lane may ask for what has just come in alone.
//! *Backlog* is everything that has waited before: retries, replays, and what was read from the outbox.

use std::collections::VecDeque;

use crate::domain::id::EventSeq;
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::write::Owed;

use super::halves::Halves;
use super::purse::{Kept, Purse};

/// A delivery that is due.
#[derive(Debug)]
struct Ready {
    owed: Owed,
    /// Since when it could be sent: `batch_wait` counts from here.
    since: UnixMs,
    /// The room its event takes.
    _room: Option<Kept>,
}

/// Which queue has its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Fresh,
    Backlog,
}

/// What may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Share {
    All,
    /// Only what has just come in.
    FreshOnly,
}

/// How deliveries share an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Together {
    /// At most; at least 1.
    pub most: usize,
    /// How long one may wait for others.
    pub wait: DurationMs,
}

/// What was taken for one exchange.
#[derive(Debug)]
pub(super) struct Taken {
    /// Never empty.
    pub batch: Vec<Owed>,
    /// Whether any of it has just come in.
    pub part: Part,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Queue {
    fresh: VecDeque<Ready>,
    backlog: VecDeque<Ready>,
    halves: Halves,
    turn: Part,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { fresh: VecDeque::new(), backlog: VecDeque::new(), halves: Halves::default(), turn: Part::Fresh }
    }

    /// Deliveries in both queues.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.backlog.len()
    }

    pub(super) fn len_of(&self, part: Part) -> usize {
        match part {
            Part::Fresh => self.fresh.len(),
            Part::Backlog => self.backlog.len(),
        }
    }

    /// What there is no room for in `purse` reads its event when it is its turn.
    pub(super) fn push(&mut self, part: Part, mut owed: Owed, now: UnixMs, purse: &Purse) {
        let room = owed.event.as_ref().and_then(|event| purse.keep(event.footprint()));
        if room.is_none() {
            owed.event = None;
        }
        self.part(part).push_back(Ready { owed, since: now, _room: room });
    }

    /// It is the next, and has waited for others already.
    pub(super) fn put_back(&mut self, part: Part, owed: Owed) {
        self.part(part).push_front(Ready { owed, since: UnixMs(0), _room: None });
    }

    fn part(&mut self, part: Part) -> &mut VecDeque<Ready> {
        match part {
            Part::Fresh => &mut self.fresh,
            Part::Backlog => &mut self.backlog,
        }
    }

    /// Takes a member of a refused exchange that is owed again; gives back what is none.
    pub(super) fn take_half(&mut self, owed: Owed) -> Option<Owed> {
        self.halves.take(owed)
    }

    pub(super) fn split(&mut self, members: &[EventSeq]) {
        self.halves.split(members);
    }

    pub(super) fn is_over(&mut self, seq: EventSeq) {
        self.halves.forget(seq);
    }

    /// Leaves everything to the outbox.
    pub(super) fn clear(&mut self) {
        *self = Self { turn: self.turn, ..Self::new() };
    }

    /// When something may be sent as far as company goes: at once where it fills an exchange, or is a half, which waits for
    /// nobody; else when the first of it has waited long enough. `None` where nothing is there.
    pub(super) fn ready_at(&self, share: Share, together: Together) -> Option<UnixMs> {
        let (halves, backlog) = match share {
            Share::All => (self.halves.is_ready(), self.backlog.front()),
            Share::FreshOnly => (false, None),
        };
        if halves {
            return Some(UnixMs(0));
        }
        let first = self.fresh.front().into_iter().chain(backlog).map(|ready| ready.since).min()?;
        let count = match share {
            Share::All => self.len(),
            Share::FreshOnly => self.fresh.len(),
        };
        Some(if count >= together.most { first } else { first + together.wait })
    }

    /// The next exchange, of at most `most` deliveries; `None` where there is nothing to take.
    pub(super) fn take(&mut self, share: Share, most: usize) -> Option<Taken> {
        if share == Share::All
            && let Some(batch) = self.halves.pop(most)
        {
            return Some(Taken { batch, part: Part::Backlog });
        }
        let mut batch = Vec::new();
        let mut part = Part::Backlog;
        while batch.len() < most.max(1) {
            let next = match (share, self.turn) {
                (Share::FreshOnly, _) => self.pop(&[Part::Fresh]),
                (Share::All, Part::Fresh) => self.pop(&[Part::Fresh, Part::Backlog]),
                (Share::All, Part::Backlog) => self.pop(&[Part::Backlog, Part::Fresh]),
            };
            let Some((from, owed)) = next else { break };
            self.turn = if self.turn == Part::Fresh { Part::Backlog } else { Part::Fresh };
            if from == Part::Fresh {
                part = Part::Fresh;
            }
            batch.push(owed);
        }
        (!batch.is_empty()).then_some(Taken { batch, part })
    }

    /// From the first of `parts` that holds anything.
    fn pop(&mut self, parts: &[Part]) -> Option<(Part, Owed)> {
        parts.iter().find_map(|part| self.part(*part).pop_front().map(|Ready { owed, .. }| (*part, owed)))
    }

    /// The clock was set back by `by`.
    pub(super) fn clock_set_back(&mut self, by: DurationMs) {
        for ready in self.fresh.iter_mut().chain(&mut self.backlog) {
            ready.since = ready.since - by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::{History, State};
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DeliveryKey, DestinationId};

    const NOW: UnixMs = UnixMs(1_000);

    fn owed(seq: u64) -> Owed {
        Owed {
            key: DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) },
            due_at: NOW,
            state: State::Pending { due_at: NOW },
            history: History::new(NOW),
            target: "deposit".parse().unwrap(),
            event: Some(std::sync::Arc::new(sample())),
        }
    }

    fn at_hand(queue: &mut Queue) -> usize {
        let taken = std::iter::from_fn(|| queue.take(Share::All, 1));
        taken.flat_map(|taken| taken.batch).filter(|owed| owed.event.is_some()).count()
    }

    // Row 38.
    #[test]
    fn events_are_kept_as_far_as_the_purse_reaches_and_taken_ones_give_their_room_back() {
        let (each, house) = (sample().footprint(), Purse::new(100 * sample().footprint()));
        let (purse, mut queue) = (house.of_a_lane(), Queue::new());
        for _ in 0..3 {
            for seq in 0..500 {
                queue.push(if seq % 2 == 0 { Part::Fresh } else { Part::Backlog }, owed(seq), NOW, &purse);
            }
            assert_eq!(queue.len(), 500, "an event without room is still owed");
            assert_eq!(at_hand(&mut queue), 50, "half of the purse");
            assert_eq!(purse.room(), 50 * each);
        }
    }
}
