//! Rolling statistics of one destination over the last hour and the last day, in bounded memory.
//!
//! An hour is 60 slots of a minute, a day 96 slots of a quarter of an hour; a slot in which nothing happened costs
//! nothing. A window ends now and begins with a slot, so it covers up to one slot less than its name says.
//!
//! Memory of one destination: 156 slots with two histograms of at most 240 buckets (8 bytes each) and at most
//! [`EVENTS_MAX`] + 1 event names (12 bytes each) stay below 750 KB even where every bucket is hit. Real latencies hit
//! about twenty buckets a slot and a handful of names: about 80 KB after a busy day, nothing for an idle destination.

mod histogram;
pub mod saved;
mod series;
mod window;

use std::collections::BTreeMap;

use crate::domain::delivery::LeftOut;
use crate::domain::message;
use crate::domain::name::CanonicalName;
use crate::domain::time::{DurationMs, UnixMs};
pub use histogram::RELATIVE_ERROR_MAX;
use histogram::{Histogram, Sum};
pub use series::{HOURS, HourTally};
use window::Window;

/// Event names told apart; those beyond are counted together as [`OTHER`].
pub const EVENTS_MAX: usize = 64;
/// Fields told apart among those that were left out; a sender may name any.
pub const FIELDS_MAX: usize = 64;
/// The name under which the rest is counted.
pub const OTHER: &str = "other";
/// What is kept of the last error's message, bytes.
const MESSAGE_BYTES: usize = 512;

/// Statistics of one destination.
#[derive(Debug)]
pub struct DestinationStats {
    hour: Window<Slot>,
    day: Window<Slot>,
    /// The place of a name is its number in the slots.
    names: Vec<CanonicalName>,
    /// Numbers whose names no slot holds any more.
    free: Vec<u8>,
    /// The hour's slot in which we last looked for such names.
    tidied: Option<u64>,
    last_error: Option<LastError>,
    left_out: BTreeMap<String, u64>,
    /// Whether anything changed since [`DestinationStats::changes`] was last asked.
    unsaved: bool,
    streak: Streak,
}

/// Attempts that failed since the last one that delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Streak {
    pub failures: u32,
    /// When the first of them failed.
    pub since: Option<UnixMs>,
    pub last_delivered: Option<UnixMs>,
}

/// What happened in one slot.
#[derive(Debug, Default)]
struct Slot {
    latency: Histogram,
    exchange: Histogram,
    /// A name's number (`None` for the rest) and its attempts.
    events: Vec<(Option<u8>, Tally)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    delivered: u32,
    finished: u32,
}

/// One value for each window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Windows<T> {
    pub hour: T,
    pub day: T,
}

/// Percentiles in milliseconds, each within [`RELATIVE_ERROR_MAX`] of the true one; `None` where nothing was measured.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Percentiles {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

/// Success and number of attempts of one canonical name.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct EventStats {
    /// Attempts delivered ÷ attempts finished; `None` where there were none.
    pub success_rate: Windows<Option<f64>>,
    pub attempts: Windows<u64>,
}

/// The last attempt that did not deliver.
#[derive(Clone, PartialEq, Debug)]
pub struct LastError {
    pub at: UnixMs,
    pub http_status: Option<u16>,
    /// A retry or DLQ reason word, or a verdict.
    pub reason: String,
    /// At most 512 bytes are kept.
    pub message: String,
}

/// What `/status` shows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StatsView {
    pub success_rate: Windows<Option<f64>>,
    /// Receipt to `sent`.
    pub latency_ms: Windows<Percentiles>,
    /// The HTTP exchange alone.
    pub exchange_ms: Windows<Percentiles>,
    /// Names with attempts in the last day; at most [`EVENTS_MAX`] and [`OTHER`].
    pub by_event: BTreeMap<CanonicalName, EventStats>,
    pub last_error: Option<LastError>,
    /// How many delivered requests went without a field; at most [`FIELDS_MAX`] fields and [`OTHER`].
    pub left_out: BTreeMap<String, u64>,
    pub streak: Streak,
}

impl Default for DestinationStats {
    fn default() -> Self {
        Self {
            hour: Window::new(60_000, 60),
            day: Window::new(15 * 60_000, 96),
            names: Vec::new(),
            free: Vec::new(),
            tidied: None,
            last_error: None,
            left_out: BTreeMap::new(),
            unsaved: false,
            streak: Streak::default(),
        }
    }
}

impl DestinationStats {
    /// A finished attempt that counts for the success rate.
    pub fn attempt(&mut self, at: UnixMs, event: &CanonicalName, delivered: bool, exchange: DurationMs) {
        self.unsaved = true;
        self.streak.attempt(at, delivered);
        let number = self.number(at, event);
        for slot in [self.hour.slot(at), self.day.slot(at)] {
            slot.exchange.record(exchange.0);
            slot.count(number, delivered);
        }
    }

    /// A delivery that was taken.
    pub fn sent(&mut self, at: UnixMs, latency: DurationMs) {
        self.unsaved = true;
        for slot in [self.hour.slot(at), self.day.slot(at)] {
            slot.latency.record(latency.0);
        }
    }

    /// A request that was taken went without these fields.
    pub fn left_out(&mut self, fields: &[LeftOut]) {
        self.unsaved |= !fields.is_empty();
        for LeftOut { field, .. } in fields {
            let known = self.left_out.len() < FIELDS_MAX || self.left_out.contains_key(field);
            let name = if known { field.as_str() } else { OTHER };
            let count = self.left_out.entry(name.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Remembers `error` as the last one.
    pub fn error(&mut self, mut error: LastError) {
        error.message.truncate(message::cut(&error.message, MESSAGE_BYTES).len());
        self.last_error = Some(error);
        self.unsaved = true;
    }

    /// What the windows that end at `now` hold. Costs a walk over the slots: for a page, not for every event.
    pub fn view(&self, now: UnixMs) -> StatsView {
        let hour = Totals::of(&self.hour, now);
        let day = Totals::of(&self.day, now);
        let other: Option<CanonicalName> = OTHER.parse().ok();
        let mut by_event: BTreeMap<CanonicalName, EventTotals> = BTreeMap::new();
        for (number, tally) in &day.events {
            if let Some(name) = self.name(*number).or(other.as_ref()) {
                by_event.entry(name.clone()).or_default().day.add(*tally);
            }
        }
        for (number, tally) in &hour.events {
            if let Some(name) = self.name(*number).or(other.as_ref()) {
                by_event.entry(name.clone()).or_default().hour.add(*tally);
            }
        }
        StatsView {
            success_rate: Windows { hour: hour.all.rate(), day: day.all.rate() },
            latency_ms: Windows { hour: hour.latency, day: day.latency },
            exchange_ms: Windows { hour: hour.exchange, day: day.exchange },
            by_event: by_event.into_iter().map(|(name, totals)| (name, totals.view())).collect(),
            last_error: self.last_error.clone(),
            left_out: self.left_out.clone(),
            streak: self.streak,
        }
    }

    fn name(&self, number: Option<u8>) -> Option<&CanonicalName> {
        self.names.get(usize::from(number?))
    }

    /// The number under which `event` is counted; `None` where the table is full.
    fn number(&mut self, at: UnixMs, event: &CanonicalName) -> Option<u8> {
        if let Some(place) = self.names.iter().position(|name| name == event) {
            let number = u8::try_from(place).ok();
            self.free.retain(|free| Some(*free) != number);
            return number;
        }
        if self.names.len() < EVENTS_MAX {
            self.names.push(event.clone());
            return u8::try_from(self.names.len() - 1).ok();
        }
        self.tidy(at);
        let number = self.free.pop()?;
        *self.names.get_mut(usize::from(number))? = event.clone();
        Some(number)
    }

    /// Finds the names no slot holds any more. Once a minute at most, so that a sender who invents names does not cost a
    /// walk over all slots for each.
    fn tidy(&mut self, at: UnixMs) {
        // Touched first, so that what has expired is gone.
        self.hour.slot(at);
        self.day.slot(at);
        if self.tidied == Some(self.hour.newest()) {
            return;
        }
        self.tidied = Some(self.hour.newest());
        let mut used = [false; EVENTS_MAX];
        for (number, _) in self.hour.held().chain(self.day.held()).flat_map(|slot| &slot.events) {
            if let Some(place) = number.and_then(|number| used.get_mut(usize::from(number))) {
                *place = true;
            }
        }
        self.free = (0..).zip(used).filter(|(_, used)| !used).map(|(number, _)| number).collect();
    }
}

impl Streak {
    fn attempt(&mut self, at: UnixMs, delivered: bool) {
        if delivered {
            *self = Self { last_delivered: Some(at), ..Self::default() };
        } else {
            self.failures = self.failures.saturating_add(1);
            self.since.get_or_insert(at);
        }
    }
}

impl Slot {
    fn count(&mut self, number: Option<u8>, delivered: bool) {
        let one = Tally { delivered: u32::from(delivered), finished: 1 };
        if let Some((_, tally)) = self.events.iter_mut().find(|(known, _)| *known == number) {
            tally.delivered = tally.delivered.saturating_add(one.delivered);
            tally.finished = tally.finished.saturating_add(one.finished);
        } else {
            self.events.reserve_exact(1);
            self.events.push((number, one));
        }
    }
}

/// Attempts of many slots.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    delivered: u64,
    finished: u64,
}

impl Sums {
    fn add(&mut self, tally: Tally) {
        self.delivered = self.delivered.saturating_add(u64::from(tally.delivered));
        self.finished = self.finished.saturating_add(u64::from(tally.finished));
    }

    /// Delivered ÷ finished.
    fn rate(self) -> Option<f64> {
        // Halved together until they fit the integers a double holds without question; four thousand million attempts a
        // day lose nothing that anyone could see.
        let halvings = (u64::BITS - self.finished.leading_zeros()).saturating_sub(u32::BITS);
        let part = u32::try_from(self.delivered >> halvings).ok()?;
        let whole = u32::try_from(self.finished >> halvings).ok()?;
        (whole > 0).then(|| f64::from(part) / f64::from(whole))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct EventTotals {
    hour: Sums,
    day: Sums,
}

impl EventTotals {
    fn view(self) -> EventStats {
        EventStats {
            success_rate: Windows { hour: self.hour.rate(), day: self.day.rate() },
            attempts: Windows { hour: self.hour.finished, day: self.day.finished },
        }
    }
}

/// One window added up.
#[derive(Debug)]
struct Totals {
    all: Sums,
    events: Vec<(Option<u8>, Tally)>,
    latency: Percentiles,
    exchange: Percentiles,
}

impl Totals {
    fn of(window: &Window<Slot>, now: UnixMs) -> Self {
        let events: Vec<_> = window.live(now).flat_map(|slot| slot.events.iter().copied()).collect();
        let mut all = Sums::default();
        for (_, tally) in &events {
            all.add(*tally);
        }
        let latency = percentiles(&Sum::of(window.live(now).map(|slot| &slot.latency)));
        let exchange = percentiles(&Sum::of(window.live(now).map(|slot| &slot.exchange)));
        Self { all, events, latency, exchange }
    }
}

fn percentiles(sum: &Sum) -> Percentiles {
    Percentiles { p50: sum.percentile(50), p95: sum.percentile(95), p99: sum.percentile(99) }
}

#[cfg(test)]
mod tests;
