//! How often a source sends, by half hours of the last week: what silence is measured by where no time was set.
//!
//! A source is silent where it has sent nothing for so long that on each of the days known (three to seven) at least
//! [`EXPECTED`] events came in the same hours. So nights, weekends and slow sources raise nothing.

use crate::domain::alert::Rhythm;
use crate::domain::time::{DurationMs, UnixMs};

const SLOT: DurationMs = DurationMs::from_secs(1800);
const SLOTS_OF_DAY: u64 = 48;
const DAYS: u64 = 7;
const DAYS_MIN: usize = 3;
/// Fewer could be chance.
const EXPECTED: u64 = 5;

fn slot(at: UnixMs) -> u64 {
    at.0 / SLOT.0
}

/// Counts what came since the last look.
pub(super) fn count(rhythm: &mut Rhythm, now: UnixMs, total: u64) {
    let mut number = slot(now);
    if (rhythm.newest.saturating_sub(SLOTS_OF_DAY)..rhythm.newest).contains(&number) {
        // A clock that was set back a little comes by again.
        number = rhythm.newest;
    }
    if rhythm.counts.is_empty() || number < rhythm.newest {
        // New, or of a clock that was wrong.
        let last_event_at = rhythm.last_event_at.or(Some(now));
        *rhythm = Rhythm { total, newest: number, counts: vec![0], last_event_at };
        return;
    }
    let gap = (number - rhythm.newest).min(SLOTS_OF_DAY * DAYS + 1);
    for _ in 0..gap {
        rhythm.counts.push(0);
    }
    rhythm.newest = number;
    let kept = usize::try_from(SLOTS_OF_DAY * DAYS + 1).unwrap_or(usize::MAX);
    let surplus = rhythm.counts.len().saturating_sub(kept);
    rhythm.counts.drain(..surplus);
    let more = total.saturating_sub(rhythm.total);
    rhythm.total = total;
    if more > 0 {
        rhythm.last_event_at = Some(now);
        if let Some(newest) = rhythm.counts.last_mut() {
            *newest = newest.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
    }
}

/// Nobody could send while the daemon was down, so a source was silent only for as long as it was listened to: to the half
/// hour, as that was kept last.
pub(super) fn wake(rhythm: &mut Rhythm, now: UnixMs) {
    let heard = UnixMs(rhythm.newest.saturating_add(1).saturating_mul(SLOT.0));
    if let Some(last) = &mut rhythm.last_event_at {
        *last = *last + now.since(heard.max(*last));
    }
}

/// How many events its worst day of the last ones had in the hours it has been silent for; `None` where that is not long
/// enough, or nothing is known.
pub(super) fn missed(rhythm: &Rhythm, now: UnixMs, after: DurationMs) -> Option<u64> {
    let last = rhythm.last_event_at?;
    let first_silent = slot(last) + 1;
    let silent = slot(now).saturating_sub(first_silent);
    if now.since(last) < after || silent == 0 {
        return None;
    }
    // Beyond a day, the day before would be silence too.
    let window = first_silent..first_silent + silent.min(SLOTS_OF_DAY);
    let first_known = rhythm.newest.saturating_sub(u64::try_from(rhythm.counts.len()).ok()?.saturating_sub(1));
    let of = |number: u64| {
        let index = usize::try_from(number.checked_sub(first_known)?).ok()?;
        rhythm.counts.get(index).map(|count| u64::from(*count))
    };
    // The oldest half hour known may have been joined in its middle.
    let days: Vec<u64> = (1..=DAYS)
        .filter(|day| window.start > first_known + day * SLOTS_OF_DAY)
        .map(|day| window.clone().filter_map(|number| of(number - day * SLOTS_OF_DAY)).sum())
        .collect();
    let least = days.iter().min().copied()?;
    (days.len() >= DAYS_MIN && least >= EXPECTED).then_some(least)
}
