//! The writer's work that nobody waits for: slices of retention and pages of jobs, which take turns, paid from one
//! [`Budget`].
//!
//! A piece goes along with the commit of whatever else there is, or by itself where nothing comes. Outcomes of attempts are
//! kept in [`super::outcomes`]: they are no such work, since a delivery is not over before they are written.

use std::collections::VecDeque;
use std::time::Duration;

use crate::store::{Store, StoreError, SweepPlan, Swept};

use super::board::Board;
use super::budget::{Budget, Company};
use super::commit::Request;
use super::upkeep::{Retention, Upkeep};

/// A page of a job that waits for its turn.
#[derive(Debug)]
pub(super) struct Page<R> {
    pub request: Request<R>,
    /// What it costs everybody, the sending of what it owes again included.
    pub cost: Duration,
}

/// What goes along with a commit.
#[derive(Debug)]
pub(super) enum Piece<R> {
    Page(Page<R>),
    Slice {
        plan: SweepPlan,
        excess: u64,
        /// It ends when so much has passed.
        limit: Duration,
    },
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Turn {
    #[default]
    Pages,
    Retention,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Background<R> {
    budget: Budget,
    pages: VecDeque<Page<R>>,
    retention: Retention,
    turn: Turn,
}

impl<R> Default for Background<R> {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            pages: VecDeque::new(),
            retention: Retention::default(),
            turn: Turn::default(),
        }
    }
}

impl<R> Background<R> {
    pub(super) fn order(&mut self, upkeep: Upkeep) {
        self.retention.order(upkeep);
    }

    pub(super) fn add(&mut self, page: Page<R>) {
        self.pages.push_back(page);
    }

    /// Somebody waits for a commit.
    pub(super) fn saw_traffic(&mut self, now: Duration) {
        self.budget.saw_traffic(now);
    }

    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        self.budget.is_quiet(now)
    }

    /// How long until a piece may be done alone; `None` where there is none.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        self.has_work().then(|| self.budget.wait(now))
    }

    /// The next piece, if there is one and it may be done now. What it cost is told by [`Background::cost`].
    pub(super) fn next(
        &mut self,
        now: Duration,
        company: Company,
        store: &Store,
    ) -> Result<Option<Piece<R>>, StoreError> {
        if !self.has_work() || !self.budget.allows(now, company) {
            return Ok(None);
        }
        let pages_first = self.turn == Turn::Pages || !self.retention.has_work();
        if pages_first && let Some(page) = self.pages.pop_front() {
            self.turn = Turn::Retention;
            return Ok(Some(Piece::Page(page)));
        }
        self.turn = Turn::Pages;
        let limit = self.budget.piece(now);
        let slice = self.retention.next(store)?;
        Ok(slice.map(|(plan, excess)| Piece::Slice { plan, excess, limit }))
    }

    pub(super) fn spend(&mut self, cost: Duration) {
        self.budget.spend(cost);
    }

    pub(super) fn swept(&mut self, swept: Swept, board: &Board) {
        self.retention.swept(swept, board);
    }

    /// A commit failed: retention waits for its next order.
    pub(super) fn failed(&mut self) {
        self.retention.failed();
    }

    /// Those that wait for their turn and will not get one.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = R> {
        std::mem::take(&mut self.pages).into_iter().filter_map(|page| page.request.reply)
    }

    fn has_work(&self) -> bool {
        !self.pages.is_empty() || self.retention.has_work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::entropy::Entropy;
    use crate::store::Options;

    const NOW: Duration = Duration::from_secs(1000);

    struct Dice;

    impl Entropy for Dice {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice).unwrap();
        (dir, store)
    }

    fn page(number: u8) -> Page<u8> {
        Page { request: Request { ops: Vec::new(), reply: Some(number) }, cost: Duration::ZERO }
    }

    /// The number of a page, 0 for a slice of retention.
    fn next(background: &mut Background<u8>, store: &Store) -> Option<u8> {
        background.next(NOW, Company::Alone, store).unwrap().map(|piece| match piece {
            Piece::Page(page) => page.request.reply.unwrap(),
            Piece::Slice { .. } => 0,
        })
    }

    #[test]
    fn pages_and_retention_take_turns_and_what_is_alone_need_not_wait() {
        let (_dir, store) = store();
        let mut background = Background::default();
        assert_eq!((background.wait(NOW), next(&mut background, &store)), (None, None));
        (1..=4).for_each(|number| background.add(page(number)));
        assert_eq!(background.wait(NOW), Some(Duration::ZERO));
        assert_eq!([(); 2].map(|()| next(&mut background, &store)), [Some(1), Some(2)]);
        background.order(Upkeep::default());
        assert_eq!([(); 5].map(|()| next(&mut background, &store)), [Some(0), Some(3), Some(0), Some(4), Some(0)]);
        assert_eq!(next(&mut background, &store), Some(0), "until it is over");
        background.swept(Swept { rows: 0, freed: 0, ended: true }, &Board::default());
        assert_eq!((background.wait(NOW), next(&mut background, &store)), (None, None));
    }

    #[test]
    fn what_is_not_paid_for_waits_while_somebody_sends() {
        let (_dir, store) = store();
        let mut background = Background::default();
        background.add(page(1));
        assert!(background.is_quiet(NOW));
        background.saw_traffic(NOW);
        background.wait(NOW);
        background.spend(Duration::from_secs(1));
        assert!(!background.is_quiet(NOW));
        assert_eq!(next(&mut background, &store), None);
        assert!(background.wait(NOW).is_some_and(|wait| wait > Duration::ZERO));
    }

    #[test]
    fn after_a_failure_retention_waits_for_its_order_and_pages_for_their_turn() {
        let (_dir, store) = store();
        let mut background = Background::default();
        background.order(Upkeep::default());
        (1..=3).for_each(|number| background.add(page(number)));
        background.failed();
        assert_eq!([(); 2].map(|()| next(&mut background, &store)), [Some(1), Some(2)]);
        assert_eq!(background.give_up().collect::<Vec<_>>(), [3]);
        assert_eq!(next(&mut background, &store), None);
    }
}
