//! `[alerts]`: what is worth telling, and whom. Types here, `rules` and `channels` read them.
//!
//! The rules hold by default; they are watched as soon as there is somebody to tell.

mod channels;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::findings::Reading;
use super::section::Section;
use super::snapshot::NetworkPolicy;
use crate::domain::alert::{Rule, Severity};
use crate::domain::name::SourceName;
use crate::domain::secret::{Redactor, Secret};
use crate::domain::time::DurationMs;

/// The name the heartbeat goes by among the channels.
pub const HEARTBEAT: &str = "heartbeat";

/// `[alerts]`
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    pub policy: Policy,
    /// By name.
    pub channels: BTreeMap<String, Arc<Channel>>,
    pub heartbeat: Option<Heartbeat>,
}

/// What is a problem, and how it is told; a rule that is `None` or `false` is switched off.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a rule that is on or off, as it stands in the configuration")]
pub struct Policy {
    /// How often is looked.
    pub every: DurationMs,
    /// How long a problem must be gone before that is told.
    pub settle: DurationMs,
    /// After how long an open problem is told again, and the longest this pause grows to; `None`: never.
    pub remind: Option<(DurationMs, DurationMs)>,
    pub success_rate: Option<RateRule>,
    /// Attempts that failed one after another.
    pub failures_in_row: Option<u32>,
    pub dlq_depth: Option<u64>,
    /// Deliveries that die within an hour.
    pub dlq_growth: Option<u64>,
    pub oldest_pending: Option<DurationMs>,
    /// Held by us, or gone by its own word.
    pub held: bool,
    /// How long a circuit may be open.
    pub open: Option<DurationMs>,
    pub orphaned: bool,
    pub silence: Option<SilenceRule>,
    pub disk: Option<DiskRule>,
    pub config: bool,
    /// The smallest step of the clock that is told.
    pub clock: Option<DurationMs>,
    pub store: bool,
    /// Automatic backups fail, or none was taken for too long.
    pub backup: bool,
}

/// When free disk space is too little.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskRule {
    /// Less than twice the reserve.
    TwiceReserve,
    /// Less than so many bytes.
    Below(u64),
}

/// When a success rate over an hour is too low.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RateRule {
    /// Below this share it always is.
    pub floor: f64,
    /// So far below the 23 hours before it is.
    pub drop: f64,
    /// With fewer attempts within the hour nothing is concluded.
    pub min_attempts: u64,
}

/// When a source has been silent for too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SilenceRule {
    /// Never sooner than this, where the source's own rhythm is what it is measured by.
    pub after: DurationMs,
    /// A set time in place of the rhythm; `None`: this source may be silent.
    pub sources: BTreeMap<SourceName, Option<DurationMs>>,
}

/// `[alerts.channels.NAME]`
#[derive(Debug)]
pub struct Channel {
    pub name: String,
    pub enabled: bool,
    pub min_severity: Severity,
    pub network: NetworkPolicy,
    /// Our own addresses, where nothing is sent.
    pub listen: Vec<SocketAddr>,
    pub target: Target,
    pub redactor: Redactor,
    /// Equal where nothing about it changed.
    pub fingerprint: u64,
}

/// Where a channel leads.
#[derive(Clone, Debug)]
pub enum Target {
    Webhook {
        /// A valid URL; those of Slack and Discord are secrets.
        url: Secret,
        shape: Shape,
        headers: Vec<(String, Secret)>,
    },
    Telegram {
        base_url: String,
        token: Secret,
        chat_id: String,
    },
    Email(Mail),
}

/// Whose form of a message a webhook takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Json,
    Slack,
    Discord,
}

/// A mail server, and who gets what it sends.
#[derive(Clone, Debug)]
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    /// User and password.
    pub login: Option<(Secret, Secret)>,
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailTls {
    /// From its first byte.
    Tls,
    /// After `STARTTLS`, without which nothing is sent.
    Starttls,
    None,
}

/// `[alerts.heartbeat]`
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub every: DurationMs,
    pub channel: Arc<Channel>,
}

impl Alerts {
    /// The channels that are told something.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.channels.values().filter(|channel| channel.enabled)
    }

    /// Whether there is anybody to tell.
    pub fn are_watched(&self) -> bool {
        self.heartbeat.is_some() || self.live().next().is_some()
    }
}

impl Target {
    /// The word users see.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Telegram { .. } => "telegram",
            Self::Email(_) => "email",
        }
    }
}

impl Policy {
    /// Whether what `rule` finds is told.
    pub fn is_on(&self, rule: Rule) -> bool {
        match rule {
            Rule::Held | Rule::Gone => self.held,
            Rule::Open => self.open.is_some(),
            Rule::Orphaned => self.orphaned,
            Rule::Failing => self.failures_in_row.is_some(),
            Rule::SuccessRate => self.success_rate.is_some(),
            Rule::DlqGrowth => self.dlq_growth.is_some(),
            Rule::DlqDepth => self.dlq_depth.is_some(),
            Rule::OldestPending => self.oldest_pending.is_some(),
            Rule::Silence => self.silence.is_some(),
            Rule::Disk => self.disk.is_some(),
            Rule::Config => self.config,
            Rule::Clock => self.clock.is_some(),
            Rule::Store => self.store,
            Rule::Backup => self.backup,
        }
    }

    /// The key of `[alerts.rules]` that switches `rule` on and off.
    pub fn key(rule: Rule) -> &'static str {
        match rule {
            Rule::Held | Rule::Gone => "held",
            Rule::Failing => "failures_in_row",
            Rule::Open
            | Rule::Orphaned
            | Rule::SuccessRate
            | Rule::DlqGrowth
            | Rule::DlqDepth
            | Rule::OldestPending
            | Rule::Silence
            | Rule::Disk
            | Rule::Config
            | Rule::Clock
            | Rule::Store
            | Rule::Backup => rule.as_str(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            every: DurationMs::from_secs(10),
            settle: DurationMs::from_secs(120),
            remind: Some((DurationMs::from_hours(1), DurationMs::from_hours(24))),
            success_rate: Some(RateRule { floor: 0.8, drop: 0.1, min_attempts: 20 }),
            failures_in_row: Some(3),
            dlq_depth: Some(100),
            dlq_growth: Some(10),
            oldest_pending: Some(DurationMs::from_hours(1)),
            held: true,
            open: Some(DurationMs::from_secs(120)),
            orphaned: true,
            silence: Some(SilenceRule { after: DurationMs::from_hours(1), sources: BTreeMap::new() }),
            disk: Some(DiskRule::TwiceReserve),
            config: true,
            clock: Some(DurationMs::from_secs(60)),
            store: true,
            backup: true,
        }
    }
}

/// `listen` and `sources` are what the rest of the file says.
pub(crate) fn read(root: &mut Section<'_>, listen: &[SocketAddr], sources: &[String], cx: &mut Reading<'_>) -> Alerts {
    let mut section = root.section("alerts", cx);
    let policy = rules::read(&mut section, sources, cx);
    let channels = channels::read(&mut section, listen, cx);
    let heartbeat = channels::heartbeat(&mut section, listen, cx);
    section.finish(cx);
    Alerts { policy, channels, heartbeat }
}

#[cfg(test)]
mod tests;
