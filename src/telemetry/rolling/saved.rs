//! Statistics as they outlive the process: what changed since they were last handed out, and the way back.
//!
//! Slots carry their absolute number, so that time that passed while nobody counted stays an empty stretch: after a night's
//! rest the hour is empty and the day lacks the night.

use std::collections::BTreeMap;

use super::histogram::Histogram;
use super::window::Window;
use super::{DestinationStats, EVENTS_MAX, FIELDS_MAX, LastError, Slot, Streak, Tally};
use crate::domain::name::CanonicalName;

/// What the statistics are made of beside their slots.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SavedHead {
    /// The place of a name is its number in the slots.
    pub names: Vec<String>,
    pub last_error: Option<LastError>,
    pub left_out: BTreeMap<String, u64>,
    pub streak: Streak,
}

/// One slot. Histograms are buckets with their counts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SavedSlot {
    /// Which stretch of time since 1970, in widths of a slot.
    pub number: u64,
    pub latency: Vec<(u8, u32)>,
    pub exchange: Vec<(u8, u32)>,
    /// A name's number (`None` for the rest), delivered, finished.
    pub events: Vec<(Option<u8>, u32, u32)>,
}

/// Slots of one window that changed, and the first and the last number that is still worth keeping.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SavedWindow {
    pub slots: Vec<SavedSlot>,
    pub first: u64,
    pub last: u64,
}

/// What changed of one destination.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Changes {
    pub head: SavedHead,
    pub hour: SavedWindow,
    pub day: SavedWindow,
}

/// Everything that was kept of one destination, slots in any order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Saved {
    pub head: SavedHead,
    pub hour: Vec<SavedSlot>,
    pub day: Vec<SavedSlot>,
}

impl DestinationStats {
    /// What changed since this was last asked; `None` where nothing did.
    pub fn changes(&mut self) -> Option<Changes> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        let head = SavedHead {
            names: self.names.iter().map(|name| name.as_str().to_owned()).collect(),
            last_error: self.last_error.clone(),
            left_out: self.left_out.clone(),
            streak: self.streak,
        };
        Some(Changes { head, hour: changed(&mut self.hour), day: changed(&mut self.day) })
    }

    /// The statistics that were kept. What makes no sense is left out.
    pub fn restore(saved: Saved) -> Self {
        let Saved { head, hour, day } = saved;
        let names: Option<Vec<CanonicalName>> = head.names.iter().map(|name| name.parse().ok()).collect();
        let names = names.filter(|names| names.len() <= EVENTS_MAX).unwrap_or_default();
        let mut stats = Self {
            last_error: head.last_error,
            left_out: head.left_out.into_iter().take(FIELDS_MAX + 1).collect(),
            streak: head.streak,
            ..Self::default()
        };
        stats.hour.restore(slots(hour, names.len()));
        stats.day.restore(slots(day, names.len()));
        stats.names = names;
        stats
    }
}

fn changed(window: &mut Window<Slot>) -> SavedWindow {
    let (first, last) = window.reach();
    let slots = window.changed().map(|(number, slot)| saved(number, slot)).collect();
    window.saved();
    SavedWindow { slots, first, last }
}

fn saved(number: u64, slot: &Slot) -> SavedSlot {
    SavedSlot {
        number,
        latency: slot.latency.pairs().to_vec(),
        exchange: slot.exchange.pairs().to_vec(),
        events: slot.events.iter().map(|(name, tally)| (*name, tally.delivered, tally.finished)).collect(),
    }
}

fn slots(saved: Vec<SavedSlot>, names: usize) -> Vec<(u64, Slot)> {
    let known = |name: &Option<u8>| name.is_none_or(|name| usize::from(name) < names);
    let slot = |saved: SavedSlot| {
        let events = saved.events.into_iter().filter(|(name, ..)| known(name));
        let slot = Slot {
            latency: Histogram::from_pairs(saved.latency),
            exchange: Histogram::from_pairs(saved.exchange),
            events: events.map(|(name, delivered, finished)| (name, Tally { delivered, finished })).collect(),
        };
        (saved.number, slot)
    };
    saved.into_iter().map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{DurationMs, UnixMs};

    const START: UnixMs = UnixMs(1_764_000_000_000);

    /// As the store keeps it: rows by number, those out of reach dropped.
    #[derive(Default)]
    struct Shelf {
        head: SavedHead,
        hour: BTreeMap<u64, SavedSlot>,
        day: BTreeMap<u64, SavedSlot>,
    }

    impl Shelf {
        fn put(&mut self, changes: Changes) {
            self.head = changes.head;
            for (rows, window) in [(&mut self.hour, changes.hour), (&mut self.day, changes.day)] {
                rows.extend(window.slots.into_iter().map(|slot| (slot.number, slot)));
                rows.retain(|number, _| (window.first..=window.last).contains(number));
            }
        }

        fn restored(&self) -> DestinationStats {
            let all = |rows: &BTreeMap<u64, SavedSlot>| rows.values().rev().cloned().collect();
            DestinationStats::restore(Saved { head: self.head.clone(), hour: all(&self.hour), day: all(&self.day) })
        }
    }

    #[test]
    fn what_was_saved_piece_by_piece_comes_back_as_it_was() {
        let (mut stats, mut shelf) = (DestinationStats::default(), Shelf::default());
        assert_eq!(stats.changes(), None);
        for minute in 0..300_u64 {
            let at = START + DurationMs(minute * 60_000);
            let name = ["a", "b", "c"][usize::try_from(minute % 3).unwrap()].parse().unwrap();
            stats.attempt(at, &name, minute % 4 > 0, DurationMs(minute));
            stats.sent(at, DurationMs(10 * minute));
            if minute % 7 == 0 {
                shelf.put(stats.changes().unwrap());
                assert_eq!(shelf.restored().view(at), stats.view(at), "{minute}");
                // As after a restart: what comes now adds to what was.
                stats = shelf.restored();
            }
        }
        shelf.put(stats.changes().unwrap());
        let end = START + DurationMs(300 * 60_000);
        assert_eq!(shelf.restored().view(end), stats.view(end));
        assert!(shelf.hour.len() <= 60 && shelf.day.len() <= 96);
    }

    #[test]
    fn time_that_nobody_counted_is_an_empty_stretch() {
        let (mut stats, mut shelf) = (DestinationStats::default(), Shelf::default());
        stats.attempt(START, &"a".parse().unwrap(), false, DurationMs(5));
        shelf.put(stats.changes().unwrap());
        let view = shelf.restored().view(START + DurationMs::from_hours(2));
        assert_eq!((view.success_rate.hour, view.success_rate.day), (None, Some(0.0)));
        assert_eq!(shelf.restored().view(START + DurationMs::from_hours(25)).success_rate.day, None);
    }

    #[test]
    fn a_clock_that_was_ahead_leaves_nothing_behind() {
        let (mut stats, mut shelf) = (DestinationStats::default(), Shelf::default());
        stats.attempt(START + DurationMs::from_days(900), &"a".parse().unwrap(), false, DurationMs(5));
        shelf.put(stats.changes().unwrap());
        let mut stats = shelf.restored();
        stats.attempt(START, &"a".parse().unwrap(), true, DurationMs(5));
        shelf.put(stats.changes().unwrap());
        assert_eq!(shelf.restored().view(START).success_rate.day, Some(1.0));
        assert_eq!((shelf.hour.len(), shelf.day.len()), (1, 1));
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let slot = SavedSlot {
            number: START.0 / 60_000,
            latency: vec![(250, 1), (9, 2), (3, 4), (9, 1)],
            exchange: vec![],
            events: vec![(Some(7), 1, 1), (None, 1, 2)],
        };
        let head = SavedHead { names: vec!["a".to_owned()], ..SavedHead::default() };
        let view = DestinationStats::restore(Saved { head, hour: vec![slot], day: vec![] }).view(START);
        assert_eq!(view.success_rate.hour, Some(0.5));
        assert_eq!(view.latency_ms.hour.p50, Some(3.0));
    }
}
