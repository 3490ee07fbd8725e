//! What there is to see of automatic backups, when the next one is due, and when there is something to do about them. Pure.

use std::path::PathBuf;

use crate::domain::time::{DurationMs, UnixMs};

/// After a failure: a tenth of the usual time, between these.
const AGAIN: (DurationMs, DurationMs) = (DurationMs::from_secs(60), DurationMs::from_hours(1));

/// What there is to see of backups that are taken by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupView {
    /// `None`: none are taken.
    pub every: Option<DurationMs>,
    pub keep: usize,
    pub directory: PathBuf,
    /// Since when they are taken: the start, or the reload that said so.
    pub on_since: UnixMs,
    pub is_running: bool,
    pub last: Option<Taken>,
    /// The failures since the last success.
    pub failed: Option<Failed>,
    /// Older ones than are to be kept that cannot be removed.
    pub crowded: Option<Failed>,
    pub next_at: Option<UnixMs>,
    /// Since the start.
    pub written: u64,
    pub failures: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    pub at: UnixMs,
    pub file: PathBuf,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The first in a row.
    pub since: UnixMs,
    /// The last one.
    pub at: UnixMs,
    pub message: String,
}

/// When the next one is to be taken; `None` where none are.
pub(super) fn due(view: &BackupView, now: UnixMs) -> Option<UnixMs> {
    let every = view.every?;
    // What is of the future is of a clock that was put right since: it says nothing about how long ago it was.
    if let Some(failed) = view.failed.as_ref().filter(|failed| failed.at <= now) {
        let pause = DurationMs(every.0 / 10).clamp(AGAIN.0, AGAIN.1).min(every);
        return Some(failed.at + pause);
    }
    Some(view.last.as_ref().filter(|last| last.at <= now).map_or(now, |last| last.at + every))
}

impl BackupView {
    /// Why there is something to do about them, if so.
    pub fn trouble(&self, now: UnixMs) -> Option<String> {
        let every = self.every?;
        if let Some(failed) = &self.failed {
            return Some(format!("the last automatic backup failed: {}", failed.message));
        }
        if let Some(crowded) = &self.crowded {
            return Some(format!("older automatic backups cannot be removed: {}", crowded.message));
        }
        let since = self.last.as_ref().map_or(self.on_since, |last| last.at.max(self.on_since));
        let (excused, why) =
            if self.is_running { (RUN_MOST, "; one is still being written") } else { (DurationMs::ZERO, "") };
        let most = [every, every, LATE, excused].iter().fold(0_u64, |sum, span| sum.saturating_add(span.0));
        let late = now.since(since) > DurationMs(most);
        late.then(|| {
            format!("no automatic backup since {}, although one is due every {every}{why}", since.to_rfc3339())
        })
    }

    /// One is whole; whether that ends a row of failures. `stays` says why older ones than are to be kept are still there.
    pub(super) fn succeeded(&mut self, taken: Taken, stays: Option<String>, now: UnixMs) -> bool {
        let was_failing = self.failed.take().is_some();
        let since = self.crowded.take().map_or(now, |crowded| crowded.since);
        self.crowded = stays.map(|message| Failed { since, at: now, message });
        (self.is_running, self.last) = (false, Some(taken));
        self.written = self.written.saturating_add(1);
        self.next_at = due(self, now);
        was_failing
    }

    /// None came of it; whether it is the first failure in a row.
    pub(super) fn failed(&mut self, message: String, now: UnixMs) -> bool {
        let since = self.failed.take().map(|failed| failed.since);
        self.failed = Some(Failed { since: since.unwrap_or(now), at: now, message });
        self.is_running = false;
        self.failures = self.failures.saturating_add(1);
        self.next_at = due(self, now);
        since.is_none()
    }
}

/// What a backup may come later than it is due.
const LATE: DurationMs = DurationMs::from_secs(120);
/// What one that is being written may come later than that: more hangs, as a network's directory does.
const RUN_MOST: DurationMs = DurationMs::from_hours(6);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: DurationMs = DurationMs::from_days(1);
    const NOW: UnixMs = UnixMs(1_767_225_600_000);

    fn view(last: Option<UnixMs>) -> BackupView {
        let last = last.map(|at| Taken { at, file: PathBuf::new(), bytes: 1 });
        BackupView { every: Some(DAY), last, on_since: NOW, ..BackupView::default() }
    }

    fn failing(since: UnixMs, at: UnixMs) -> BackupView {
        let failed = Failed { since, at, message: "no room".to_owned() };
        BackupView { failed: Some(failed), ..view(None) }
    }

    #[test]
    fn the_next_is_due_a_span_after_the_last_and_at_once_where_there_is_none() {
        let hour = DurationMs::from_hours(1);
        assert_eq!(due(&view(None), NOW), Some(NOW));
        assert_eq!(due(&view(Some(NOW - hour)), NOW), Some(NOW - hour + DAY));
        // The clock was put back by a year.
        assert_eq!(due(&view(Some(NOW + DurationMs::from_days(365))), NOW), Some(NOW));
        assert_eq!(due(&BackupView { every: None, ..view(None) }, NOW), None);
    }

    #[test]
    fn a_failed_one_is_tried_again_soon_and_not_at_once() {
        let minute = DurationMs::from_secs(60);
        let of = |every| due(&BackupView { every: Some(every), ..failing(NOW, NOW) }, NOW);
        assert_eq!(of(DAY), Some(NOW + DurationMs::from_hours(1)));
        assert_eq!(of(DurationMs::from_secs(1200)), Some(NOW + DurationMs::from_secs(120)));
        assert_eq!(of(DurationMs::from_secs(300)), Some(NOW + minute));
        assert_eq!(of(DurationMs::from_secs(5)), Some(NOW + DurationMs::from_secs(5)));
        // The clock was put back by a year.
        let later = NOW + DurationMs::from_days(365);
        assert_eq!(due(&failing(later, later), NOW), Some(NOW));
    }

    #[test]
    fn trouble_is_a_failure_or_none_for_two_spans() {
        assert_eq!(view(None).trouble(NOW + DAY), None);
        assert!(view(None).trouble(NOW + DAY + DAY + DAY).unwrap().contains("no automatic backup since"));
        assert!(failing(NOW, NOW).trouble(NOW).unwrap().contains("failed: no room"));
        // Down for a week: its backups were not due then.
        let old = view(Some(NOW - DurationMs::from_days(7)));
        assert_eq!(old.trouble(NOW), None);
        assert!(old.trouble(NOW + DAY + DAY + DAY).is_some());
        let off = BackupView { every: None, ..failing(NOW, NOW) };
        assert_eq!(off.trouble(NOW), None);
        // One that takes its time is no trouble, one that hangs is.
        let running = BackupView { is_running: true, ..view(None) };
        assert_eq!(running.trouble(NOW + DAY + DAY + RUN_MOST), None);
        assert!(running.trouble(NOW + DAY + DAY + DAY).unwrap().contains("is still being written"));
    }

    #[test]
    fn an_old_one_that_stays_is_trouble_of_its_own_and_no_failed_backup() {
        let mut view = view(None);
        let taken = Taken { at: NOW, file: PathBuf::new(), bytes: 1 };
        assert!(!view.succeeded(taken.clone(), Some("x: busy".to_owned()), NOW));
        assert_eq!(view.trouble(NOW).unwrap(), "older automatic backups cannot be removed: x: busy");
        assert_eq!((view.written, view.failures, due(&view, NOW)), (1, 0, Some(NOW + DAY)), "another one is no remedy");
        view.succeeded(taken, None, NOW);
        assert_eq!(view.trouble(NOW), None);
    }

    #[test]
    fn of_a_row_of_failures_the_first_and_the_success_after_it_are_news() {
        let mut view = view(None);
        let taken = || Taken { at: NOW, file: PathBuf::new(), bytes: 1 };
        let is_news = [
            view.succeeded(taken(), None, NOW),
            view.failed("no room".to_owned(), NOW),
            view.failed("no room".to_owned(), NOW + DAY),
            view.succeeded(taken(), None, NOW + DAY),
            view.succeeded(taken(), None, NOW + DAY),
        ];
        assert_eq!(is_news, [false, true, false, true, false]);
        assert_eq!((view.written, view.failures, view.failed), (3, 2, None));
    }
}
