//! How a problem ends that a look does not find any more. It may be over; it may be that nobody watches what it is about, which
//! is no recovery and is told as what it is; and where the books cannot be read, nobody knows.

use std::collections::BTreeSet;

use super::vitals::{BackupVitals, Books, Standing, Vitals};
use crate::config::alerts::Policy;
use crate::domain::alert::{Problem, Rule, Why};

/// What is to be made of a problem that was not found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is gone.
    Over,
    /// It cannot be judged now, so it stays as it is.
    Unknown,
    /// Nobody looks at it any more.
    Closed(Why),
}

/// What a problem is about.
enum Subject<'a> {
    Destination(&'a str),
    Source(&'a str),
    /// The daemon or its machine, as far as the books tell.
    Books,
    /// The daemon or its machine.
    Daemon,
    /// Backups that are taken by themselves.
    Backups,
}

impl<'a> Subject<'a> {
    fn of(problem: &'a Problem) -> Self {
        let id = problem.id.as_str();
        match problem.rule {
            Rule::Held
            | Rule::Open
            | Rule::Gone
            | Rule::Orphaned
            | Rule::Failing
            | Rule::SuccessRate
            | Rule::DlqGrowth
            | Rule::DlqDepth
            | Rule::OldestPending => Self::Destination(id.split_once('/').map_or(id, |(name, _)| name)),
            Rule::Silence => {
                let name = id.strip_prefix("source/").and_then(|rest| rest.strip_suffix("/silence"));
                Self::Source(name.unwrap_or(id))
            }
            Rule::Store if id == "store" => Self::Daemon,
            Rule::Store => Self::Books,
            Rule::Disk | Rule::Config | Rule::Clock => Self::Daemon,
            Rule::Backup => Self::Backups,
        }
    }
}

impl Why {
    /// `crm is paused by an operator`
    pub(super) fn words(self, problem: &Problem) -> String {
        let subject = match Subject::of(problem) {
            Subject::Destination(name) => name.to_owned(),
            Subject::Source(name) => format!("source {name}"),
            Subject::Books | Subject::Daemon => "this".to_owned(),
            Subject::Backups => "[backup]".to_owned(),
        };
        match self {
            Self::Removed => format!("{subject} is not in the configuration any more"),
            Self::Paused => format!("{subject} is paused by an operator"),
            Self::Disabled => format!("{subject} is switched off in the configuration"),
            Self::RuleOff => match Subject::of(problem) {
                Subject::Source(name) => format!("the rule silence is switched off for {name}"),
                Subject::Destination(_) | Subject::Books | Subject::Daemon | Subject::Backups => {
                    format!("the rule {} is switched off", Policy::key(problem.rule))
                }
            },
            Self::Idle => format!("nothing has been sent to {subject} for a day"),
            Self::NobodyToTell => "no channel is left".to_owned(),
        }
    }
}

/// Why nothing is concluded about a destination that stands so: somebody wants it so.
pub(super) fn meant(policy: &Policy, standing: Standing) -> Option<Why> {
    match standing {
        Standing::Paused => Some(Why::Paused),
        Standing::Disabled => Some(Why::Disabled),
        Standing::Orphaned if !policy.orphaned => Some(Why::Removed),
        Standing::Sends | Standing::Open | Standing::Held | Standing::Gone | Standing::Orphaned => None,
    }
}

/// `covered` are those behind a greater problem.
pub(super) fn fate(policy: &Policy, vitals: &Vitals, covered: &BTreeSet<String>, problem: &Problem) -> Fate {
    if !policy.is_on(problem.rule) {
        return Fate::Closed(Why::RuleOff);
    }
    let subject = Subject::of(problem);
    if let (Subject::Backups, BackupVitals::Off) = (&subject, &vitals.backups) {
        return Fate::Closed(Why::Disabled);
    }
    let Some(books) = &vitals.books else {
        return match subject {
            Subject::Destination(_) | Subject::Source(_) | Subject::Books => Fate::Unknown,
            Subject::Daemon | Subject::Backups => Fate::Over,
        };
    };
    let closed = match subject {
        Subject::Destination(name) => destination(policy, books, name, problem),
        Subject::Source(name) => source(policy, books, name),
        Subject::Books | Subject::Daemon | Subject::Backups => None,
    };
    match closed {
        Some(why) => Fate::Closed(why),
        None if covered.contains(&problem.id) => Fate::Unknown,
        None => Fate::Over,
    }
}

fn destination(policy: &Policy, books: &Books, name: &str, problem: &Problem) -> Option<Why> {
    let Some(vitals) = books.destinations.get(name) else {
        // An orphan that is owed nothing is what was asked for.
        return (problem.rule != Rule::Orphaned).then_some(Why::Removed);
    };
    // Its DLQ is looked at however it stands.
    let meant = meant(policy, vitals.state).filter(|_| problem.rule != Rule::DlqDepth);
    meant.or_else(|| {
        let event = problem.id.strip_prefix(name)?.strip_prefix("/rate/");
        let (_, day) = match event {
            Some(event) => vitals.by_event.get(event).copied().unwrap_or_default(),
            None => vitals.attempts,
        };
        (problem.rule == Rule::SuccessRate && day.attempts == 0).then_some(Why::Idle)
    })
}

fn source(policy: &Policy, books: &Books, name: &str) -> Option<Why> {
    if !books.sources.contains_key(name) {
        return Some(Why::Removed);
    }
    let set = policy.silence.as_ref().and_then(|rule| rule.sources.get(name));
    (set == Some(&None)).then_some(Why::RuleOff)
}
