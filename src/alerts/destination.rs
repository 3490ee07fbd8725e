//! The rules about one destination. One cause, one message: what keeps it from being reached is the problem
//! `NAME/down`, whatever form it takes, and covers what follows from it (rates, age, growth); these cover each other.

use std::collections::BTreeSet;

use super::book::{Book, Finding};
use super::ending;
use super::vitals::{DestinationVitals, Standing, Tally};
use super::words;
use crate::config::alerts::{Policy, RateRule};
use crate::domain::alert::{Rule, Severity};
use crate::domain::name::DestinationName;
use crate::domain::time::{DurationMs, UnixMs};

/// Failures in a row that came at once are a blip of a busy destination.
const STREAK_LASTS: DurationMs = DurationMs::from_secs(120);
/// A lane that is held right now may be probed well the next moment.
const HOLD: DurationMs = DurationMs::ZERO;

/// What was before.
pub(super) struct Past<'a> {
    pub(super) book: &'a Book,
    /// Deliveries that died within the hour.
    pub(super) grown: u64,
    /// Not so in the first hour after a start.
    pub(super) knows_an_hour: bool,
    /// Whether it was down within the hour, whose attempts say nothing else then.
    pub(super) was_down: bool,
}

/// Where findings go.
struct Bench<'a> {
    name: &'a DestinationName,
    past: &'a Past<'a>,
    found: &'a mut Vec<Finding>,
    covered: &'a mut BTreeSet<String>,
}

/// Whether it is down.
pub(super) fn judge(
    policy: &Policy,
    now: UnixMs,
    name: &DestinationName,
    vitals: &DestinationVitals,
    past: &Past<'_>,
    found: &mut Vec<Finding>,
    covered: &mut BTreeSet<String>,
) -> bool {
    let mut bench = Bench { name, past, found, covered };
    bench.depth(policy, vitals);
    if ending::meant(policy, vitals.state).is_some() {
        return false;
    }
    if !past.knows_an_hour {
        // Nothing proves that it has stopped.
        let growth = bench.id("growth");
        bench.covered.insert(growth);
    }
    let down = bench.down(policy, now, vitals);
    let candidates = [bench.rate(policy, vitals), bench.growth(policy, vitals), bench.oldest(policy, now, vitals)];
    // The one that was told goes on, else the first.
    let chosen = candidates.iter().flatten().map(|finding| finding.id.clone()).collect::<Vec<_>>();
    let told = chosen.iter().find(|id| past.book.open(id).is_some()).or(chosen.first()).cloned();
    for finding in candidates.into_iter().flatten() {
        let echo = past.was_down && finding.rule == Rule::SuccessRate;
        if !down && !echo && Some(&finding.id) == told.as_ref() {
            bench.found.push(finding);
        } else {
            bench.covered.insert(finding.id);
        }
    }
    for finding in bench.events(policy, vitals) {
        if down || past.was_down || told.is_some() {
            bench.covered.insert(finding.id);
        } else {
            bench.found.push(finding);
        }
    }
    down
}

impl Bench<'_> {
    fn id(&self, kind: &str) -> String {
        format!("{}/{kind}", self.name)
    }

    /// Whether it cannot be delivered to at all.
    fn down(&mut self, policy: &Policy, now: UnixMs, vitals: &DestinationVitals) -> bool {
        let id = self.id("down");
        let Some((rule, title, text, remedy, since, hold)) = self.cause(policy, now, vitals) else {
            return false;
        };
        let waiting = words::deliveries(vitals.owed);
        let mends_itself = matches!(rule, Rule::Open | Rule::Orphaned);
        let severity = if mends_itself { Severity::Warning } else { Severity::Critical };
        let text = format!("{text}; {waiting} waiting, nothing is lost");
        self.found.push(Finding { id, rule, severity, title, text, remedy, since, hold });
        true
    }

    fn cause(&self, policy: &Policy, now: UnixMs, vitals: &DestinationVitals) -> Option<Cause> {
        let name = self.name;
        let http = vitals.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
        let status = "postbackd status says why".to_owned();
        match vitals.state {
            Standing::Held if policy.held => {
                let why = if vitals.status.is_some() {
                    format!("{name} is held: it refuses our credentials{http}")
                } else {
                    format!("{name} is held")
                };
                let remedy =
                    format!("postbackd status says why; correct it in the configuration, or: postbackd release {name}");
                return Some((Rule::Held, format!("{name} is held"), why, remedy, None, HOLD));
            }
            Standing::Gone if policy.held => {
                let why = format!("{name} says that it is gone{http} and is paused");
                let remedy = format!("correct its url, then: postbackd resume {name}");
                return Some((Rule::Gone, format!("{name} is gone"), why, remedy, None, HOLD));
            }
            Standing::Orphaned if policy.orphaned => {
                let why = format!("{name} is not in the configuration any more and is still owed");
                let remedy = format!(
                    "put it back under its name, and what waits is sent; or give that up: postbackd purge {name} --reason TEXT"
                );
                return Some((Rule::Orphaned, format!("{name} is orphaned"), why, remedy, None, HOLD));
            }
            Standing::Open => {
                if let Some(hold) = policy.open {
                    let why = format!("{name} does not answer as it should{http}; one delivery at a time tries it");
                    return Some((Rule::Open, format!("{name} is down"), why, status, None, hold));
                }
            }
            Standing::Sends
            | Standing::Held
            | Standing::Gone
            | Standing::Orphaned
            | Standing::Paused
            | Standing::Disabled => {}
        }
        let streak = vitals.streak;
        let lasts = streak.since.is_some_and(|since| now.since(since) >= STREAK_LASTS);
        if policy.failures_in_row.is_some_and(|limit| streak.failures >= limit) && lasts {
            let why = format!("nothing arrives at {name}: the last {} attempts failed", streak.failures);
            let title = format!("nothing arrives at {name}");
            let remedy = format!(
                "postbackd deliveries --destination {name} --status failed; postbackd dlq list --destination {name}"
            );
            return Some((Rule::Failing, title, why, remedy, streak.since, DurationMs::ZERO));
        }
        // That it stands still no longer proves nothing while it is owed: only a delivery does.
        let open = self.past.book.open(&self.id("down")).filter(|open| policy.is_on(open.rule))?;
        let delivered = streak.last_delivered.is_some_and(|at| at >= open.since);
        if vitals.owed > 0 && !delivered && open.rule != Rule::Orphaned {
            let why = format!("{name} has taken nothing since");
            return Some((open.rule, open.title.clone(), why, status, Some(open.since), DurationMs::ZERO));
        }
        None
    }

    fn rate(&self, policy: &Policy, vitals: &DestinationVitals) -> Option<Finding> {
        let (hour, day) = vitals.attempts;
        self.low_rate(policy.success_rate.as_ref()?, self.id("rate"), self.name.as_str(), hour, day)
    }

    fn events(&self, policy: &Policy, vitals: &DestinationVitals) -> Vec<Finding> {
        let Some(rule) = &policy.success_rate else { return Vec::new() };
        let of = vitals.by_event.iter();
        of.filter_map(|(event, (hour, day))| {
            self.low_rate(rule, self.id(&format!("rate/{event}")), &format!("{event} to {}", self.name), *hour, *day)
        })
        .collect()
    }

    /// Below the floor, or so far below the 23 hours before that chance does not explain it.
    fn low_rate(&self, rule: &RateRule, id: String, what: &str, hour: Tally, day: Tally) -> Option<Finding> {
        let before = day.without(hour);
        let open = self.past.book.open(&id);
        if u64::from(hour.attempts) < rule.min_attempts {
            // Too few to say that it is over, unless a day has passed without any.
            let open = open.filter(|_| day.attempts > 0)?;
            return Some(Finding { text: open.text.clone(), ..self.rate_finding(id, what, hour, "") });
        }
        // Half of the drop ends it, so that a rate at the bound does not flap.
        let slack = if open.is_some() { rule.drop / 2.0 } else { 0.0 };
        let below_floor = hour.rate < rule.floor + slack;
        let enough = u64::from(before.attempts) >= rule.min_attempts;
        let below_usual = enough && hour.rate < before.rate - rule.drop + slack;
        let attempts = f64::from(hour.attempts);
        let expected = attempts * (1.0 - before.rate);
        let failed = attempts - hour.delivered();
        let by_chance = open.is_none() && enough && failed < expected + 3.0 * (expected + 1.0).sqrt();
        if !below_floor && (!below_usual || by_chance) {
            return None;
        }
        let usual = if enough { format!(", {} in the day before", words::percent(before.rate)) } else { String::new() };
        Some(self.rate_finding(id, what, hour, &usual))
    }

    fn rate_finding(&self, id: String, what: &str, hour: Tally, usual: &str) -> Finding {
        let rate = words::percent(hour.rate);
        Finding {
            id,
            rule: Rule::SuccessRate,
            severity: Severity::Warning,
            title: format!("{what}: {rate} delivered"),
            text: format!("{what}: {rate} of {} attempts within the hour were delivered{usual}", hour.attempts),
            remedy: format!(
                "postbackd deliveries --destination {} --status failed; postbackd dlq list --destination {}",
                self.name, self.name
            ),
            since: None,
            hold: DurationMs::ZERO,
        }
    }

    fn growth(&self, policy: &Policy, vitals: &DestinationVitals) -> Option<Finding> {
        let limit = policy.dlq_growth?;
        let (id, grown, name) = (self.id("growth"), self.past.grown, self.name);
        let bound = if self.past.book.open(&id).is_some() { limit.div_ceil(2) } else { limit };
        (grown >= bound).then(|| Finding {
            id,
            rule: Rule::DlqGrowth,
            severity: Severity::Warning,
            title: format!("{name} refuses events: {grown} more in the DLQ"),
            text: format!("{name} has refused {} for good within the hour; {} in the DLQ", words::deliveries(grown), vitals.dlq),
            remedy: format!("postbackd dlq list --destination {name}; correct the mapping, then: postbackd dlq replay --destination {name}"),
            since: None,
            hold: DurationMs::ZERO,
        })
    }

    fn depth(&mut self, policy: &Policy, vitals: &DestinationVitals) {
        let Some(limit) = policy.dlq_depth else { return };
        let (id, name) = (self.id("dlq"), self.name);
        let bound = if self.past.book.open(&id).is_some() { limit.saturating_sub(limit / 10) } else { limit };
        if vitals.dlq < bound {
            return;
        }
        self.found.push(Finding {
            id,
            rule: Rule::DlqDepth,
            severity: Severity::Warning,
            title: format!("{} in the DLQ of {name}", vitals.dlq),
            text: format!("{} to {name} failed for good and wait in the DLQ", words::deliveries(vitals.dlq)),
            remedy: format!("postbackd dlq list --destination {name}; then dlq replay, or dlq discard"),
            since: None,
            hold: DurationMs::ZERO,
        });
    }

    fn oldest(&self, policy: &Policy, now: UnixMs, vitals: &DestinationVitals) -> Option<Finding> {
        let (limit, name) = (policy.oldest_pending?, self.name);
        let age = now.since(vitals.oldest_owed_at?);
        (age >= limit).then(|| Finding {
            id: self.id("oldest"),
            rule: Rule::OldestPending,
            severity: Severity::Warning,
            title: format!("{name} is {} behind", words::span(age)),
            text: format!(
                "the oldest of {} to {name} has waited for {}",
                words::deliveries(vitals.owed),
                words::span(age)
            ),
            remedy: format!("postbackd deliveries --destination {name} --status failed"),
            since: None,
            hold: DurationMs::ZERO,
        })
    }
}

/// Rule, title, text, remedy, beginning, and how long it must last.
type Cause = (Rule, String, String, String, Option<UnixMs>, DurationMs);
