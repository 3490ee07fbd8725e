//! Problems from first sight to the end. Pure: what is found comes in with its time, what is to be told goes out.
//!
//! ```text
//!   found ──lasts `hold`──> told ──> told again after `remind`, doubling ──> … ──gone for `settle`──> told as over, or as closed
//!     └──gone before──> forgotten      └──found again within `settle`: the same problem, nothing is told
//! ```

use std::collections::BTreeMap;

use super::ending::Fate;
use crate::config::alerts::Policy;
use crate::domain::alert::{Notice, NoticeKind, Problem, Rule, Severity};
use crate::domain::time::{DurationMs, UnixMs};

/// The problem that is over when it is told: a step of the clock.
pub(super) const STEP: &str = "clock";

/// What holds at one look.
#[derive(Clone, Debug)]
pub struct Finding {
    pub id: String,
    pub rule: Rule,
    pub severity: Severity,
    pub title: String,
    pub text: String,
    pub remedy: String,
    /// When it began, where that is known; else when it was first seen.
    pub since: Option<UnixMs>,
    /// How long it must last before it is told.
    pub hold: DurationMs,
}

/// By as much as the clock jumped.
pub(super) fn move_along(time: &mut UnixMs, step_ms: i64) {
    let span = DurationMs(step_ms.unsigned_abs());
    *time = if step_ms < 0 { *time - span } else { *time + span };
}

/// Every problem there is, by id.
#[derive(Debug, Default)]
pub struct Book {
    problems: BTreeMap<String, Problem>,
}

impl Book {
    pub fn new(open: Vec<Problem>) -> Self {
        Self { problems: open.into_iter().map(|problem| (problem.id.clone(), problem)).collect() }
    }

    /// The problem of that id, if it was told and is not over.
    pub fn open(&self, id: &str) -> Option<&Problem> {
        self.problems.get(id).filter(|problem| problem.told_at.is_some())
    }

    /// All that were told and are not over.
    pub fn all_open(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().filter(|problem| problem.told_at.is_some())
    }

    /// The clock jumped: what lasted goes on lasting as long as it did.
    pub fn shift(&mut self, step_ms: i64) {
        for problem in self.problems.values_mut() {
            let times = [&mut problem.since].into_iter().chain(&mut problem.told_at).chain(&mut problem.good_since);
            times.for_each(|time| move_along(time, step_ms));
        }
    }

    /// Nobody is left to tell: whoever comes next is told of what is wrong then. What was told until now.
    pub fn close(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems).into_values().filter(|problem| problem.told_at.is_some()).collect()
    }

    /// Takes in what holds now; `fate` is asked about what is not among it.
    pub fn look(
        &mut self,
        policy: &Policy,
        now: UnixMs,
        found: Vec<Finding>,
        fate: &dyn Fn(&Problem) -> Fate,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut seen = Vec::new();
        for finding in found {
            seen.push(finding.id.clone());
            notices.extend(self.see(policy, now, finding));
        }
        let mut over = Vec::new();
        for (id, problem) in self.problems.iter_mut().filter(|(id, _)| !seen.contains(id)) {
            let kind = match fate(problem) {
                Fate::Over => NoticeKind::Recovered,
                Fate::Closed(why) => NoticeKind::Closed(why),
                Fate::Unknown => {
                    problem.good_since = None;
                    continue;
                }
            };
            let good_since = *problem.good_since.get_or_insert(now);
            if problem.told_at.is_none() || now.since(good_since) >= policy.settle {
                over.push((id.clone(), kind));
            }
        }
        for (id, kind) in over {
            let told = self.problems.remove(&id).filter(|problem| problem.told_at.is_some());
            // Nobody waits for the end of what was over when it was told.
            notices.extend(told.filter(|problem| problem.id != STEP).map(|problem| Notice { kind, problem, at: now }));
        }
        notices
    }

    fn see(&mut self, policy: &Policy, now: UnixMs, finding: Finding) -> Option<Notice> {
        let Finding { id, rule, severity, title, text, remedy, since, hold } = finding;
        let since = since.unwrap_or(now);
        let fresh = |id| Problem {
            id,
            rule,
            severity,
            worst: severity,
            title: String::new(),
            text: String::new(),
            remedy: String::new(),
            since,
            told_at: None,
            told: 0,
            good_since: None,
        };
        let problem = self.problems.entry(id.clone()).or_insert_with(|| fresh(id));
        problem.good_since = None;
        problem.rule = rule;
        problem.severity = severity;
        (problem.title, problem.text, problem.remedy) = (title, text, remedy);
        let kind = match problem.told_at {
            None if now.since(problem.since) >= hold => NoticeKind::Problem,
            None => return None,
            Some(_) if severity > problem.worst => NoticeKind::Worse,
            Some(told_at) => {
                let (first, longest) = policy.remind?;
                let doublings = problem.told.saturating_sub(1).min(32);
                let pause = DurationMs(first.0.saturating_mul(1 << doublings)).min(longest);
                if now.since(told_at) < pause {
                    return None;
                }
                NoticeKind::Reminder
            }
        };
        problem.worst = if problem.told_at.is_none() { severity } else { problem.worst.max(severity) };
        problem.told_at = Some(now);
        problem.told = problem.told.saturating_add(1);
        Some(Notice { kind, problem: problem.clone(), at: now })
    }
}
