//! A hierarchical timer wheel with millisecond resolution: insert, advance, earliest slot, each in constant time but for
//! the cascades (at most ten per entry over its whole life).
//!
//! Level `l` holds the entries whose due time first differs from the wheel's time in bits `6l..6l+6`; slot is those six
//! bits. So every entry of a level lies in a later slot than the wheel's own, every entry of a lower level is due before
//! every entry of a higher one, and eleven levels reach to the end of `u64`: no due time is out of range.
//!
//! The wheel is a cache over the durable outbox: dropping it loses nothing. Entries are not removed one by one; who owns
//! the entry checks, when it fires, whether it still means something.

use crate::domain::time::UnixMs;

const LEVELS: usize = 11;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;

/// Entries by due time.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Everything due at or before this has fired, or is in `overdue`.
    now: u64,
    levels: Vec<Level<T>>,
    /// Inserted when already due; fire at the next advance.
    overdue: Vec<(UnixMs, T)>,
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// Bit `s` is set where slot `s` is not empty.
    occupied: u64,
    slots: Vec<Vec<(UnixMs, T)>>,
}

impl<T> Wheel<T> {
    /// An empty wheel that stands at `now`.
    pub fn new(now: UnixMs) -> Self {
        let level = || Level { occupied: 0, slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect() };
        Self { now: now.0, levels: std::iter::repeat_with(level).take(LEVELS).collect(), overdue: Vec::new(), len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry; one that is due already fires at the next [`Wheel::advance`].
    pub fn insert(&mut self, due: UnixMs, item: T) {
        self.len += 1;
        self.place(due, item);
    }

    /// When to advance next: never later than the earliest due time, possibly earlier (a cascade). `None` when empty.
    pub fn next_wake(&self) -> Option<UnixMs> {
        if !self.overdue.is_empty() {
            return Some(UnixMs(self.now));
        }
        self.earliest().map(|(_, _, start)| UnixMs(start))
    }

    /// Moves to `to` and appends everything due by then to `fired`, ordered by due time; entries due at the same
    /// millisecond keep no order. A `to` in the past fires only what was inserted overdue.
    pub fn advance(&mut self, to: UnixMs, fired: &mut Vec<(UnixMs, T)>) {
        let first = fired.len();
        fired.append(&mut self.overdue);
        while let Some((level, slot, start)) = self.earliest() {
            if start > to.0 {
                break;
            }
            self.now = start;
            for (due, item) in self.take(level, slot) {
                if due.0 <= self.now {
                    fired.push((due, item));
                } else {
                    self.place(due, item);
                }
            }
        }
        self.now = self.now.max(to.0);
        self.len = self.len.saturating_sub(fired.len() - first);
        if let Some(new) = fired.get_mut(first..) {
            new.sort_by_key(|(due, _)| *due);
        }
    }

    fn place(&mut self, due: UnixMs, item: T) {
        let differs = due.0 ^ self.now;
        if due.0 <= self.now {
            self.overdue.push((due, item));
            return;
        }
        let level = differs.ilog2() / SLOT_BITS;
        let slot = slot_of(due.0, level);
        if let Some(level) = usize::try_from(level).ok().and_then(|at| self.levels.get_mut(at))
            && let Some(entries) = level.slots.get_mut(slot)
        {
            level.occupied |= 1 << slot;
            entries.push((due, item));
        }
    }

    /// The earliest slot that holds anything: its level, its number, and the time it starts.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let (at, level) = self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0)?;
        let slot = usize::try_from(level.occupied.trailing_zeros()).ok()?;
        let shift = SLOT_BITS * u32::try_from(at).ok()?;
        let above = shift + SLOT_BITS;
        let kept = self.now.checked_shr(above).unwrap_or(0).checked_shl(above).unwrap_or(0);
        Some((at, slot, kept | u64::try_from(slot).ok()? << shift))
    }

    fn take(&mut self, level: usize, slot: usize) -> Vec<(UnixMs, T)> {
        let Some(level) = self.levels.get_mut(level) else { return Vec::new() };
        level.occupied &= !(1 << slot);
        level.slots.get_mut(slot).map(std::mem::take).unwrap_or_default()
    }
}

fn slot_of(due: u64, level: u32) -> usize {
    usize::try_from((due >> (SLOT_BITS * level)) & 63).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Advance(u64),
        AdvanceToWake,
        Back(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let span = prop_oneof![0_u64..200, 0_u64..100_000, 0_u64..4_000_000_000, Just(u64::MAX / 2)];
        let step = prop_oneof![
            4 => span.clone().prop_map(Step::Insert),
            2 => span.prop_map(Step::Advance),
            3 => Just(Step::AdvanceToWake),
            1 => (0_u64..100).prop_map(Step::Back),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        // Row 32.
        #[test]
        fn the_wheel_fires_exactly_what_a_sorted_set_would(start in prop_oneof![0_u64..1000, Just(1_764_000_000_000)], steps in steps()) {
            let mut wheel = Wheel::new(UnixMs(start));
            let mut model: BTreeSet<(u64, usize)> = BTreeSet::new();
            let mut now = start;
            for (id, step) in steps.into_iter().enumerate() {
                let to = match step {
                    Step::Insert(span) => {
                        // Some are due already when they come in.
                        let due = now.saturating_add(span).saturating_sub(50);
                        wheel.insert(UnixMs(due), id);
                        model.insert((due, id));
                        continue;
                    }
                    Step::Advance(span) => now.saturating_add(span),
                    Step::AdvanceToWake => wheel.next_wake().map_or(now, |wake| wake.0.max(now)),
                    Step::Back(span) => now.saturating_sub(span),
                };
                if let (Some(wake), Some((due, _))) = (wheel.next_wake(), model.first()) {
                    prop_assert!(wake.0 <= (*due).max(now), "woken too late");
                }
                now = now.max(to);
                // What fired before and was not looked at yet.
                let mut fired = vec![(UnixMs(u64::MAX), usize::MAX)];
                wheel.advance(UnixMs(to), &mut fired);
                prop_assert_eq!(fired.remove(0), (UnixMs(u64::MAX), usize::MAX));
                let mut got: Vec<(u64, usize)> = fired.iter().map(|(due, id)| (due.0, *id)).collect();
                prop_assert!(got.is_sorted_by_key(|(due, _)| *due));
                got.sort_unstable();
                let wanted: Vec<(u64, usize)> = model.iter().copied().take_while(|(due, _)| *due <= now).collect();
                prop_assert_eq!(&got, &wanted);
                for key in wanted {
                    model.remove(&key);
                }
                prop_assert_eq!((wheel.len(), wheel.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(wheel.next_wake().is_none(), model.is_empty());
            }
        }
    }

    // Row 33.
    #[test]
    fn the_end_of_time_is_within_range() {
        let mut wheel = Wheel::new(UnixMs(0));
        wheel.insert(UnixMs(u64::MAX), "last");
        let mut fired = Vec::new();
        wheel.advance(UnixMs(u64::MAX - 1), &mut fired);
        assert!(fired.is_empty());
        wheel.advance(UnixMs(u64::MAX), &mut fired);
        assert_eq!(fired, [(UnixMs(u64::MAX), "last")]);
    }
}
