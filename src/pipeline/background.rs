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
