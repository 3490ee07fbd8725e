//! What there is to be told: problems, notices of them, and what must survive a restart so that each is told, and none twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::name::SourceName;
use super::time::UnixMs;

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Something is not as it should be; events arrive or wait.
    Warning,
    /// Nothing goes on by itself: somebody has to act.
    Critical,
}

impl Severity {
    pub const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What raised a problem.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rule {
    Held,
    Open,
    Gone,
    Orphaned,
    Failing,
    SuccessRate,
    DlqGrowth,
    DlqDepth,
    OldestPending,
    Silence,
    Disk,
    Config,
    Clock,
    Store,
    Backup,
}

impl Rule {
    pub const ALL: [Self; 15] = [
        Self::Held,
        Self::Open,
        Self::Gone,
        Self::Orphaned,
        Self::Failing,
        Self::SuccessRate,
        Self::DlqGrowth,
        Self::DlqDepth,
        Self::OldestPending,
        Self::Silence,
        Self::Disk,
        Self::Config,
        Self::Clock,
        Self::Store,
        Self::Backup,
    ];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Gone => "gone",
            Self::Orphaned => "orphaned",
            Self::Failing => "failing",
            Self::SuccessRate => "success_rate",
            Self::DlqGrowth => "dlq_growth",
            Self::DlqDepth => "dlq_depth",
            Self::OldestPending => "oldest_pending",
            Self::Silence => "silence",
            Self::Disk => "disk",
            Self::Config => "config",
            Self::Clock => "clock",
            Self::Store => "store",
            Self::Backup => "backup",
        }
    }
}

/// One problem, from when it was first seen until it has been good for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Stable: the same problem has the same id however often it comes, as `crm/down`.
    pub id: String,
    pub rule: Rule,
    /// How bad it is now.
    pub severity: Severity,
    /// The worst that it was told as: whoever heard of it hears of its end.
    pub worst: Severity,
    /// A few words, for the subject of a mail: `crm is held`.
    pub title: String,
    /// What is wrong and how much.
    pub text: String,
    /// What to do.
    pub remedy: String,
    pub since: UnixMs,
    /// `None`: not told yet, because it has to last first.
    pub told_at: Option<UnixMs>,
    /// How often it was told.
    pub told: u32,
    /// Since when it has been good; it is over once that lasts.
    pub good_since: Option<UnixMs>,
}

/// What is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub kind: NoticeKind,
    pub problem: Problem,
    pub at: UnixMs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeKind {
    Problem,
    /// It has become worse than it was told.
    Worse,
    Reminder,
    Recovered,
    /// It may go on, but nobody looks at it any more.
    Closed(Why),
    Test,
}

/// Why nobody looks at a problem any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its destination or source left the configuration.
    Removed,
    /// An operator paused its destination.
    Paused,
    /// `enabled = false`
    Disabled,
    /// Its rule was switched off.
    RuleOff,
    /// A day has passed without anything to judge a rate by.
    Idle,
    /// There is nobody left to tell.
    NobodyToTell,
}

impl Why {
    pub const ALL: [Self; 6] =
        [Self::Removed, Self::Paused, Self::Disabled, Self::RuleOff, Self::Idle, Self::NobodyToTell];

    /// The word that the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::RuleOff => "rule_off",
            Self::Idle => "idle",
            Self::NobodyToTell => "nobody_to_tell",
        }
    }
}

impl Notice {
    /// Whether those are told who hear only of what is at least so bad.
    pub fn concerns(&self, least: Severity) -> bool {
        match self.kind {
            NoticeKind::Problem | NoticeKind::Worse | NoticeKind::Reminder | NoticeKind::Test => {
                self.problem.severity >= least
            }
            NoticeKind::Recovered | NoticeKind::Closed(_) => self.problem.worst >= least,
        }
    }
}

impl NoticeKind {
    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Worse => "worse",
            Self::Reminder => "reminder",
            Self::Recovered => "recovered",
            Self::Closed(_) => "closed",
            Self::Test => "test",
        }
    }

    /// From what the store keeps; a test is told at once or never, and kept nowhere.
    pub fn parse(word: &str, why: Option<&str>) -> Option<Self> {
        let closed = Why::ALL.into_iter().find(|reason| Some(reason.as_str()) == why).map(Self::Closed);
        [Some(Self::Problem), Some(Self::Worse), Some(Self::Reminder), Some(Self::Recovered), closed]
            .into_iter()
            .flatten()
            .find(|kind| kind.as_str() == word)
    }
}

/// A message that a channel has not taken yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub channel: String,
    pub notice: Arc<Notice>,
}

/// How many events a source sends, by half hours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rhythm {
    /// What the books had counted of it when it was last looked at.
    pub total: u64,
    /// Or when it was looked at first.
    pub last_event_at: Option<UnixMs>,
    /// Number of the newest half hour since 1970.
    pub newest: u64,
    /// Events of the half hours up to the newest, oldest first.
    pub counts: Vec<u32>,
}

/// What alerts know beyond the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AlertMemory {
    /// Told and not over yet.
    pub open: Vec<Problem>,
    pub rhythms: BTreeMap<SourceName, Rhythm>,
    /// Oldest first.
    pub waiting: Vec<Waiting>,
}
