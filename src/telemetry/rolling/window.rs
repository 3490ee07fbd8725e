//! A stretch of time cut into slots that are forgotten one by one.
//!
//! Time only goes forward here. Where the clock steps back by less than the window, what happens is counted into the
//! newest slot until the clock has caught up; where it steps back further, the newest slots are nonsense and everything
//! is forgotten. Either way the number of slots is bounded and nothing waits for a future that was a mistake.

use std::collections::VecDeque;

use crate::domain::time::UnixMs;

/// At most `count` slots of `width_ms`; one in which nothing happened does not exist. The window covers the time from the
/// beginning of its oldest slot: between `count - 1` and `count` widths.
#[derive(Debug)]
pub(super) struct Window<S> {
    width_ms: u64,
    count: u64,
    /// Oldest first, all before `newest`.
    older: VecDeque<(u64, S)>,
    /// The only slot that is written. Number 0 and empty before anything happened.
    newest: (u64, S),
    /// The slot that was the newest when the window was last saved: it and those after it may have changed since.
    saved: u64,
}

impl<S: Default> Window<S> {
    /// `width_ms` and `count` are at least 1.
    pub(super) fn new(width_ms: u64, count: u64) -> Self {
        Self { width_ms, count, older: VecDeque::new(), newest: (0, S::default()), saved: 0 }
    }

    /// The slot of `at`, for writing.
    pub(super) fn slot(&mut self, at: UnixMs) -> &mut S {
        let number = self.number(at);
        if self.is_mistaken_at(number) {
            self.older.clear();
            self.newest = (number, S::default());
        }
        if self.newest.0 < number {
            let left = std::mem::replace(&mut self.newest, (number, S::default()));
            self.older.push_back(left);
            let oldest = number.saturating_sub(self.count - 1);
            while self.older.front().is_some_and(|(known, _)| *known < oldest) {
                self.older.pop_front();
            }
        }
        &mut self.newest.1
    }

    /// Slots that may have changed since [`Window::saved`], with their numbers.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, &S)> {
        let slots = self.older.iter().chain(std::iter::once(&self.newest));
        // After a step back everything there is is younger than what was saved.
        let since = if self.newest.0 < self.saved { 0 } else { self.saved };
        slots.filter(move |(number, _)| *number >= since && *number > 0).map(|(number, slot)| (*number, slot))
    }

    /// What there is now need not be saved again.
    pub(super) fn saved(&mut self) {
        self.saved = self.newest.0;
    }

    /// The first and the last slot there may be.
    pub(super) fn reach(&self) -> (u64, u64) {
        (self.newest.0.saturating_sub(self.count - 1), self.newest.0)
    }

    /// Takes over slots that were saved, in place of its own.
    pub(super) fn restore(&mut self, mut slots: Vec<(u64, S)>) {
        slots.sort_by_key(|(number, _)| *number);
        slots.dedup_by_key(|(number, _)| *number);
        let Some(newest) = slots.pop() else { return };
        self.newest = newest;
        let (oldest, _) = self.reach();
        slots.retain(|(number, _)| *number >= oldest);
        self.older = slots.into();
        self.saved();
    }

    /// The number of the slot that is written now: changes when time moves on.
    pub(super) fn newest(&self) -> u64 {
        self.newest.0
    }

    /// All slots, whatever the time.
    pub(super) fn held(&self) -> impl Iterator<Item = &S> {
        self.older.iter().chain(std::iter::once(&self.newest)).map(|(_, slot)| slot)
    }

    /// The slots that are within the window at `now`.
    pub(super) fn live(&self, now: UnixMs) -> impl Iterator<Item = &S> {
        self.numbered(now).map(|(_, slot)| slot)
    }

    /// The slots that are within the window at `now`, with their numbers.
    pub(super) fn numbered(&self, now: UnixMs) -> impl Iterator<Item = (u64, &S)> {
        let number = self.number(now);
        let oldest = if self.is_mistaken_at(number) {
            u64::MAX
        } else {
            number.max(self.newest.0).saturating_sub(self.count - 1)
        };
        let slots = self.older.iter().chain(std::iter::once(&self.newest));
        slots.filter(move |(known, _)| *known >= oldest).map(|(known, slot)| (*known, slot))
    }

    fn number(&self, at: UnixMs) -> u64 {
        at.0 / self.width_ms
    }

    /// Whether the newest slot lies a whole window in the future of slot `number`.
    fn is_mistaken_at(&self, number: u64) -> bool {
        self.newest.0 >= number.saturating_add(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_764_000_000_000;

    fn add(window: &mut Window<u32>, ms: u64) {
        *window.slot(UnixMs(START + ms)) += 1;
    }

    fn total(window: &Window<u32>, ms: u64) -> u32 {
        window.live(UnixMs(START + ms)).sum()
    }

    #[test]
    fn a_window_forgets_slot_by_slot() {
        let mut window = Window::new(1000, 3);
        for ms in [0, 500, 1000, 2000] {
            add(&mut window, ms);
        }
        assert_eq!([2999, 3000, 4000, 5000].map(|now| total(&window, now)), [4, 2, 1, 0]);
        add(&mut window, 3000);
        assert_eq!(window.older.len(), 2);
    }

    #[test]
    fn a_small_step_back_loses_nothing() {
        let mut window = Window::new(1000, 3);
        add(&mut window, 2000);
        add(&mut window, 500);
        assert_eq!(total(&window, 500), 2);
        assert_eq!(total(&window, 4999), 2);
        assert_eq!(total(&window, 5000), 0);
    }

    #[test]
    fn a_future_that_was_a_mistake_is_forgotten() {
        let mut window = Window::new(1000, 3);
        add(&mut window, 1_000_000);
        assert_eq!(total(&window, 0), 0);
        add(&mut window, 0);
        assert_eq!(total(&window, 0), 1);
        add(&mut window, 1000);
        assert_eq!(total(&window, 1000), 2);
    }

    #[test]
    fn slots_are_bounded_whatever_the_clock_does() {
        let mut window = Window::new(1000, 5);
        let mut dice = 1_u64;
        for _ in 0..10_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            add(&mut window, (dice >> 33) % 50_000);
            assert!(window.older.len() < 5);
        }
    }
}
