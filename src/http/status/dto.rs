//! The shape of `GET /status` (SPEC 6.1).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::time::UnixMs;
use crate::env::transport::{RouteState, RouteView};
use crate::http::alerts::AlertsDto;
use crate::http::reload::ProblemDto;
use crate::pipeline::backups::{BackupView, Failed, Taken};
use crate::store::{Counts, EventCounts};
use crate::telemetry::rolling::{EventStats, LastError, Percentiles, Windows};

#[derive(Debug, Serialize)]
pub(super) struct StatusDto {
    pub(super) version: &'static str,
    pub(super) uptime_s: u64,
    /// `ok`, `degraded` or `failing`.
    pub(super) state: &'static str,
    pub(super) reasons: Vec<String>,
    pub(super) config: Config,
    pub(super) store: StoreDto,
    pub(super) events: Events,
    /// What came in with 200 and is worth a look, by source, since the start.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) postbacks: BTreeMap<String, crate::http::ingest::Counts>,
    pub(super) balance: Balance,
    pub(super) destinations: BTreeMap<String, DestinationDto>,
    pub(super) alerts: AlertsDto,
    pub(super) backup: BackupDto,
}

/// The running configuration, and what is wrong with the files as they are now.
#[derive(Debug, Serialize)]
pub(super) struct Config {
    pub(super) hash: String,
    pub(super) loaded_at: String,
    pub(super) error: Option<ConfigError>,
    pub(super) needs_restart: Vec<&'static str>,
}

/// Why the files were refused.
#[derive(Debug, Serialize)]
pub(super) struct ConfigError {
    pub(super) message: String,
    pub(super) at: String,
    pub(super) problems: Vec<ProblemDto>,
}

#[derive(Debug, Serialize)]
pub(super) struct StoreDto {
    pub(super) bytes: u64,
    pub(super) free_disk_bytes: Option<u64>,
    pub(super) commit_ms: Commit,
}

/// Backups that the daemon takes by itself.
#[derive(Debug, Serialize)]
pub(super) struct BackupDto {
    /// `null`: none are taken.
    pub(super) every: Option<String>,
    pub(super) dir: String,
    pub(super) keep: usize,
    pub(super) running: bool,
    pub(super) last_success: Option<TakenDto>,
    /// The last failure since then.
    pub(super) last_error: Option<RouteErrorDto>,
    /// Why older ones than `keep` says are still there, if they are.
    pub(super) not_removed: Option<RouteErrorDto>,
    pub(super) next_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct TakenDto {
    pub(super) at: String,
    pub(super) file: String,
    pub(super) bytes: u64,
}

impl From<&BackupView> for BackupDto {
    fn from(view: &BackupView) -> Self {
        let taken = |taken: &Taken| TakenDto {
            at: taken.at.to_rfc3339(),
            file: taken.file.display().to_string(),
            bytes: taken.bytes,
        };
        let failed = |failed: &Failed| RouteErrorDto { at: failed.at.to_rfc3339(), message: failed.message.clone() };
        Self {
            every: view.every.map(|every| every.to_string()),
            dir: view.directory.display().to_string(),
            keep: view.keep,
            running: view.is_running,
            last_success: view.last.as_ref().map(taken),
            last_error: view.failed.as_ref().map(failed),
            not_removed: view.crowded.as_ref().map(failed),
            next_at: view.next_at.map(UnixMs::to_rfc3339),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Commit {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// Events of all sources.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) conflicts: u64,
    pub(super) rejected: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Balance {
    #[serde(flatten)]
    pub(super) books: Books,
    pub(super) balanced: bool,
}

/// The six counts and their sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Books {
    pub(super) accepted: u64,
    pub(super) pending: u64,
    pub(super) failed: u64,
    pub(super) sent: u64,
    pub(super) failed_permanently: u64,
    pub(super) skipped: u64,
    pub(super) discarded: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct DestinationDto {
    /// `null` for a destination that is no longer in the configuration.
    pub(super) kind: Option<&'static str>,
    pub(super) state: &'static str,
    pub(super) reason: Option<String>,
    /// End of a throttle or a pause, or the next probe.
    pub(super) until: Option<String>,
    /// `operator`, or `destination` where the receiver said that it is gone; `null` unless paused.
    pub(super) paused_by: Option<&'static str>,
    pub(super) counts: Books,
    /// Deliveries that failed permanently and were neither replayed nor discarded.
    pub(super) dlq: u64,
    pub(super) in_flight: usize,
    pub(super) oldest_owed_s: Option<u64>,
    pub(super) next_attempt_at: Option<String>,
    pub(super) success_rate: Pair<Option<f64>>,
    pub(super) latency_ms: Pair<PercentilesDto>,
    pub(super) exchange_ms: Pair<PercentilesDto>,
    pub(super) by_event: BTreeMap<String, ByEvent>,
    pub(super) last_error: Option<LastErrorDto>,
    /// How many delivered requests went without a field.
    pub(super) left_out: BTreeMap<String, u64>,
    /// `null` where it is reached directly.
    pub(super) proxy: Option<ProxyDto>,
}

/// The proxies of a destination, in the order they are preferred.
#[derive(Debug, Serialize)]
pub(super) struct ProxyDto {
    pub(super) routes: Vec<RouteDto>,
    /// The address the next exchange takes; `null` while all of them fail.
    pub(super) in_use: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteDto {
    /// Without its login.
    pub(super) address: String,
    /// `active`, `standby` or `failing`.
    pub(super) state: &'static str,
    /// Since when it works, or fails.
    pub(super) since: String,
    pub(super) last_error: Option<RouteErrorDto>,
    pub(super) next_try_at: Option<String>,
    /// Exchanges it has carried since the start.
    pub(super) used: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteErrorDto {
    pub(super) at: String,
    pub(super) message: String,
}

impl ProxyDto {
    pub(super) fn of(routes: &[RouteView]) -> Option<Self> {
        let in_use = routes.iter().find(|route| route.state == RouteState::Active).map(|route| route.address.clone());
        let routes: Vec<RouteDto> = routes.iter().map(RouteDto::from).collect();
        (!routes.is_empty()).then_some(Self { routes, in_use })
    }
}

impl From<&RouteView> for RouteDto {
    fn from(route: &RouteView) -> Self {
        let error = route.last_error.as_ref();
        Self {
            address: route.address.clone(),
            state: route.state.as_str(),
            since: route.since.to_rfc3339(),
            last_error: error.map(|(at, message)| RouteErrorDto { at: at.to_rfc3339(), message: message.clone() }),
            next_try_at: route.next_try_at.map(UnixMs::to_rfc3339),
            used: route.used,
        }
    }
}

/// A value for each window.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(super) struct Pair<T> {
    #[serde(rename = "1h")]
    pub(super) hour: T,
    #[serde(rename = "24h")]
    pub(super) day: T,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(super) struct PercentilesDto {
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct ByEvent {
    pub(super) success_rate: Pair<Option<f64>>,
    pub(super) attempts: Pair<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct LastErrorDto {
    pub(super) at: String,
    pub(super) status: Option<u16>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Events {
    pub(super) fn add(&mut self, counts: &EventCounts) {
        self.accepted = self.accepted.saturating_add(counts.accepted);
        self.duplicates = self.duplicates.saturating_add(counts.duplicates);
        self.conflicts = self.conflicts.saturating_add(counts.conflicts);
        self.rejected = self.rejected.saturating_add(counts.rejected);
    }
}

impl Books {
    /// Whether what was accepted is all somewhere.
    pub(super) fn hold(counts: &Counts) -> bool {
        let parts =
            [counts.pending, counts.failed, counts.sent, counts.failed_permanently, counts.skipped, counts.discarded];
        parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) == Some(counts.accepted)
    }
}

impl From<Counts> for Books {
    fn from(counts: Counts) -> Self {
        let Counts { accepted, pending, failed, sent, failed_permanently, skipped, discarded } = counts;
        Self { accepted, pending, failed, sent, failed_permanently, skipped, discarded }
    }
}

impl Pair<Option<f64>> {
    /// Shares of one, to four digits.
    pub(super) fn rates(windows: Windows<Option<f64>>) -> Self {
        let cut = |rate: Option<f64>| rate.map(|rate| (rate * 10_000.0).round() / 10_000.0);
        Self { hour: cut(windows.hour), day: cut(windows.day) }
    }
}

impl Pair<PercentilesDto> {
    pub(super) fn percentiles(windows: Windows<Percentiles>) -> Self {
        let cut = |of: Percentiles| PercentilesDto { p50: round(of.p50), p95: round(of.p95), p99: round(of.p99) };
        Self { hour: cut(windows.hour), day: cut(windows.day) }
    }
}

impl From<EventStats> for ByEvent {
    fn from(stats: EventStats) -> Self {
        let attempts = Pair { hour: stats.attempts.hour, day: stats.attempts.day };
        Self { success_rate: Pair::rates(stats.success_rate), attempts }
    }
}

impl From<LastError> for LastErrorDto {
    fn from(error: LastError) -> Self {
        let LastError { at, http_status, reason, message } = error;
        Self { at: at.to_rfc3339(), status: http_status, reason, message }
    }
}

/// Milliseconds to two digits: more is noise.
pub(super) fn round(ms: Option<f64>) -> Option<f64> {
    ms.map(|ms| (ms * 100.0).round() / 100.0)
}
