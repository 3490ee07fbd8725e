//! What the rules look at: the daemon as of one moment, in plain numbers that whoever owns both gathers.

use std::collections::BTreeMap;

use crate::domain::name::{CanonicalName, DestinationName, SourceName};
use crate::domain::time::{ClockDoubt, UnixMs};
use crate::telemetry::rolling::Streak;

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    pub now: UnixMs,
    /// By how much the wall clock has jumped since the look before, milliseconds.
    pub clock_step_ms: i64,
    /// Nothing expires by the wall clock.
    pub clock_doubt: Option<ClockDoubt>,
    /// `None` where they cannot be read: nothing that they would tell is known then.
    pub books: Option<Books>,
    pub free_disk_bytes: Option<u64>,
    /// Below it events are refused.
    pub reserve_bytes: u64,
    /// New events are refused because of it.
    pub disk_is_short: bool,
    /// Why the files of the configuration are refused: file, line and key of the first problem.
    pub config_refused: Option<String>,
    /// Why nothing can be committed.
    pub store_fault: Option<String>,
    pub backups: BackupVitals,
}

/// Backups that are taken by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum BackupVitals {
    /// The configuration wants none.
    #[default]
    Off,
    Well,
    /// Why somebody has to look after them.
    Trouble(String),
}

/// What the store tells.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Some destination's do not add up.
    pub unbalanced: bool,
    pub damaged_rows: u64,
    /// The configured ones, and those that are gone and still owed.
    pub destinations: BTreeMap<DestinationName, DestinationVitals>,
    /// What was counted of each configured source.
    pub sources: BTreeMap<SourceName, u64>,
}

/// One destination, also one that the configuration no longer has.
#[derive(Clone, Debug)]
pub struct DestinationVitals {
    pub state: Standing,
    /// The HTTP status that a hold or an open circuit is about.
    pub status: Option<u16>,
    pub owed: u64,
    pub dlq: u64,
    pub oldest_owed_at: Option<UnixMs>,
    /// The last hour and the last day.
    pub attempts: (Tally, Tally),
    pub by_event: BTreeMap<CanonicalName, (Tally, Tally)>,
    pub streak: Streak,
}

/// What a destination does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Sends, or waits as long as it was asked to.
    #[default]
    Sends,
    /// Its circuit is open.
    Open,
    /// It refuses our credentials, or no proxy works.
    Held,
    /// It said that it is gone.
    Gone,
    /// An operator wants it so.
    Paused,
    /// The configuration wants it so.
    Disabled,
    /// Not configured, and still owed.
    Orphaned,
}

/// Attempts of a window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Tally {
    /// Share delivered; 0 where there were none.
    pub rate: f64,
    pub attempts: u32,
}

impl Tally {
    pub fn delivered(self) -> f64 {
        self.rate * f64::from(self.attempts)
    }

    /// Of these, without the `part`.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        let attempts = self.attempts.saturating_sub(part.attempts);
        let delivered = (self.delivered() - part.delivered()).max(0.0);
        let rate = if attempts == 0 { 0.0 } else { (delivered / f64::from(attempts)).min(1.0) };
        Self { rate, attempts }
    }
}

impl Default for DestinationVitals {
    fn default() -> Self {
        Self {
            state: Standing::Sends,
            status: None,
            owed: 0,
            dlq: 0,
            oldest_owed_at: None,
            attempts: (Tally::default(), Tally::default()),
            by_event: BTreeMap::new(),
            streak: Streak::default(),
        }
    }
}
