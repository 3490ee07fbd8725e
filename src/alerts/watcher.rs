//! One look: from what the daemon is like now to what there is to tell. Pure; [`super::book`] keeps what was told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::book::{Book, Finding, STEP, move_along};
use super::destination::{self, Past};
use super::ending;
use super::rhythm;
use super::vitals::{BackupVitals, Books, Vitals};
use super::words;
use crate::config::alerts::{DiskRule, Policy};
use crate::domain::alert::{AlertMemory, Notice, Problem, Rhythm, Rule, Severity};
use crate::domain::name::{DestinationName, SourceName};
use crate::domain::time::{ClockDoubt, DurationMs, UnixMs};

/// How long a step of the clock is a problem: long enough to be told.
const STEP_SHOWN: DurationMs = DurationMs::from_secs(60);
/// Sizes of the DLQ are compared over this time.
const HOUR: DurationMs = DurationMs::from_hours(1);
/// Sizes remembered of each destination: one a minute.
const SAMPLE_EVERY: DurationMs = DurationMs::from_secs(60);

/// Everything the rules know.
#[derive(Debug, Default)]
pub struct Watcher {
    book: Book,
    rhythms: BTreeMap<SourceName, Rhythm>,
    /// Sizes of DLQs within the last hour, oldest first.
    dlqs: BTreeMap<DestinationName, VecDeque<(UnixMs, u64)>>,
    /// When a destination was down last.
    downs: BTreeMap<DestinationName, UnixMs>,
    stepped: Option<(UnixMs, i64)>,
    /// Sources were not looked at since an earlier process ended.
    slept: bool,
    changed: bool,
}

impl Watcher {
    /// With what an earlier process knew.
    pub fn new(memory: AlertMemory) -> Self {
        Self { book: Book::new(memory.open), rhythms: memory.rhythms, slept: true, ..Self::default() }
    }

    /// What the next process must know, but for the messages that wait.
    pub fn memory(&self) -> AlertMemory {
        AlertMemory { open: self.open(), rhythms: self.rhythms.clone(), waiting: Vec::new() }
    }

    /// What was told and is not over.
    pub fn open(&self) -> Vec<Problem> {
        self.book.all_open().cloned().collect()
    }

    /// Whether what must be kept has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn look(&mut self, policy: &Policy, vitals: &Vitals) -> Vec<Notice> {
        let now = vitals.now;
        self.step(policy, vitals);
        let mut found = Vec::new();
        found.extend(self.clock(policy, vitals));
        of_the_daemon(policy, vitals, &mut found);
        self.disk(policy, vitals, &mut found);
        let mut covered = BTreeSet::new();
        if let Some(books) = &vitals.books {
            of_the_books(policy, books, &mut found);
            self.silence(policy, now, books, &mut found);
            self.destinations(policy, now, books, &mut found, &mut covered);
        }
        let fate = |problem: &Problem| ending::fate(policy, vitals, &covered, problem);
        let notices = self.book.look(policy, now, found, &fate);
        self.changed |= !notices.is_empty();
        notices
    }

    /// Nobody is left to tell; what was told until now.
    pub fn close(&mut self) -> Vec<Problem> {
        let closed = self.book.close();
        self.changed |= !closed.is_empty();
        closed
    }

    fn destinations(
        &mut self,
        policy: &Policy,
        now: UnixMs,
        books: &Books,
        found: &mut Vec<Finding>,
        covered: &mut BTreeSet<String>,
    ) {
        for (name, destination) in &books.destinations {
            let (grown, knows_an_hour) = self.grown(name, now, destination.dlq);
            let was_down = self.downs.get(name).is_some_and(|at| now.since(*at) < HOUR);
            let past = Past { book: &self.book, grown, knows_an_hour, was_down };
            if destination::judge(policy, now, name, destination, &past, found, covered) {
                self.downs.insert(name.clone(), now);
            }
        }
        self.downs.retain(|_, at| now.since(*at) < HOUR);
        self.dlqs.retain(|name, _| books.destinations.contains_key(name));
    }

    fn step(&mut self, policy: &Policy, vitals: &Vitals) {
        let step = vitals.clock_step_ms;
        if step == 0 {
            return;
        }
        self.book.shift(step);
        let heard = self.rhythms.values_mut().filter_map(|rhythm| rhythm.last_event_at.as_mut());
        self.downs.values_mut().chain(heard).for_each(|time| move_along(time, step));
        // What was measured by the other clock says nothing now.
        self.dlqs.clear();
        if policy.clock.is_some_and(|least| step.unsigned_abs() >= least.0) {
            self.stepped = Some((vitals.now, step));
        }
    }

    /// That it is doubted says more than that it has jumped.
    fn clock(&self, policy: &Policy, vitals: &Vitals) -> Option<Finding> {
        policy.clock?;
        if let Some(doubt) = vitals.clock_doubt {
            return Some(doubted(doubt));
        }
        let (at, step) = self.stepped.filter(|(at, _)| vitals.now.since(*at) < STEP_SHOWN)?;
        let direction = if step < 0 { "back" } else { "ahead" };
        let span = words::span(DurationMs(step.unsigned_abs()));
        Some(Finding {
            id: STEP.to_owned(),
            rule: Rule::Clock,
            severity: Severity::Warning,
            title: format!("the clock jumped {span} {direction}"),
            text: format!(
                "the clock of this machine jumped {span} {direction}; events without a time of their own carry it"
            ),
            remedy: "timedatectl shows whether it is right now".to_owned(),
            since: Some(at),
            hold: DurationMs::ZERO,
        })
    }

    fn disk(&self, policy: &Policy, vitals: &Vitals, found: &mut Vec<Finding>) {
        let (Some(least), Some(free)) = (policy.disk, vitals.free_disk_bytes) else { return };
        let least = match least {
            DiskRule::TwiceReserve => vitals.reserve_bytes.saturating_mul(2),
            DiskRule::Below(bytes) => bytes,
        };
        // A tenth more ends it, so that a file that comes and goes does not.
        let bound = if self.book.open("disk").is_some() { least.saturating_add(least / 10) } else { least };
        if free >= bound && !vitals.disk_is_short {
            return;
        }
        let free = words::bytes(free);
        let (severity, text) = if vitals.disk_is_short {
            (Severity::Critical, format!("{free} of disk free: new events are refused with 503"))
        } else {
            let reserve = words::bytes(vitals.reserve_bytes);
            (Severity::Warning, format!("{free} of disk free; below {reserve} new events are refused"))
        };
        found.push(Finding {
            id: "disk".to_owned(),
            rule: Rule::Disk,
            severity,
            title: format!("{free} of disk free"),
            text,
            remedy: "free some space (df -h), or lower storage.reserve".to_owned(),
            since: None,
            hold: DurationMs::ZERO,
        });
    }

    fn silence(&mut self, policy: &Policy, now: UnixMs, books: &Books, found: &mut Vec<Finding>) {
        self.rhythms.retain(|name, _| books.sources.contains_key(name));
        let slept = std::mem::take(&mut self.slept);
        for (name, total) in &books.sources {
            let rhythm = self.rhythms.entry(name.clone()).or_default();
            let id = format!("source/{name}/silence");
            // What was told goes on: only an event ends it.
            if slept && self.book.open(&id).is_none() {
                rhythm::wake(rhythm, now);
            }
            let newest = rhythm.newest;
            rhythm::count(rhythm, now, *total);
            self.changed |= newest != rhythm.newest;
            let (Some(rule), Some(last)) = (&policy.silence, rhythm.last_event_at) else { continue };
            let lasted = now.since(last);
            let set = rule.sources.get(name);
            let usual = match set {
                Some(None) => continue,
                Some(Some(limit)) if lasted < *limit => continue,
                Some(Some(limit)) => format!("it was to send something every {}", words::span(*limit)),
                None => match rhythm::missed(rhythm, now, rule.after) {
                    Some(usual) => {
                        format!("in the same hours of other days at least {} came", words::count(usual, "event"))
                    }
                    // Only an event ends a silence; time alone would end it when the other days are forgotten.
                    None if self.book.open(&id).is_some_and(|problem| last <= problem.since) => {
                        "it used to send more often".to_owned()
                    }
                    None => continue,
                },
            };
            let span = words::span(lasted);
            found.push(Finding {
                id,
                rule: Rule::Silence,
                severity: Severity::Warning,
                title: format!("no events from {name} for {span}"),
                text: format!("source {name} has sent nothing for {span}; {usual}"),
                remedy: "check the sender: does it run, does it reach this address, is its token right?".to_owned(),
                since: Some(last),
                hold: DurationMs::ZERO,
            });
        }
    }

    /// By how much the DLQ has grown within the hour, and whether so much time is known.
    fn grown(&mut self, name: &DestinationName, now: UnixMs, size: u64) -> (u64, bool) {
        let samples = self.dlqs.entry(name.clone()).or_default();
        if samples.back().is_none_or(|(at, _)| now.since(*at) >= SAMPLE_EVERY) {
            samples.push_back((now, size));
        }
        while samples.front().is_some_and(|(at, _)| now.since(*at) > HOUR) {
            samples.pop_front();
        }
        // From the least, since a replay or a discard makes it smaller.
        let least = samples.iter().map(|(_, size)| *size).min().unwrap_or(size);
        // As far as looks once a minute tell.
        let known = samples.front().map_or(0, |(at, _)| now.since(*at).0) + 2 * SAMPLE_EVERY.0;
        (size.saturating_sub(least), known >= HOUR.0)
    }
}

/// Nothing expires by a clock that is so far ahead.
fn doubted(ClockDoubt { ahead, left }: ClockDoubt) -> Finding {
    let (ahead, left) = (words::span(ahead), words::span(left));
    Finding {
        id: "clock/doubted".to_owned(),
        rule: Rule::Clock,
        severity: Severity::Warning,
        title: format!("the clock is {ahead} ahead of the time the store knows"),
        text: format!(
            "the clock of this machine is {ahead} ahead of the time the store knows; events are taken and delivered, but \
             nothing expires by it (retention, repeats) until it has stayed so for {left} more"
        ),
        remedy: "look at it (date); set it right, or say that it is: postbackd clock confirm --reason TEXT".to_owned(),
        since: None,
        hold: DurationMs::ZERO,
    }
}

/// What is wrong with the daemon itself.
fn of_the_daemon(policy: &Policy, vitals: &Vitals, found: &mut Vec<Finding>) {
    if let Some(fault) = vitals.store_fault.as_ref().filter(|_| policy.store) {
        let text = format!("new events are refused with 503: {fault}");
        let remedy = "look at the disk: df -h, dmesg, journalctl -u postbackd";
        found.push(flat("store", Severity::Critical, "the store cannot write", text, remedy));
    }
    if let Some(place) = vitals.config_refused.as_ref().filter(|_| policy.config) {
        let text = format!("the configuration file is refused and the one before goes on; see {place}");
        found.push(flat("config", Severity::Warning, "the configuration is refused", text, "postbackd check"));
    }
    match &vitals.backups {
        BackupVitals::Trouble(trouble) if policy.backup => {
            let remedy = "postbackd status; look at backup.dir and its disk, then try: postbackd backup";
            found.push(flat("backup", Severity::Warning, "trouble with automatic backups", trouble.clone(), remedy));
        }
        BackupVitals::Trouble(_) | BackupVitals::Off | BackupVitals::Well => {}
    }
}

/// What is wrong with what the store holds.
fn of_the_books(policy: &Policy, books: &Books, found: &mut Vec<Finding>) {
    if !policy.store {
        return;
    }
    if books.unbalanced {
        let text = "the books do not balance: some delivery may be nowhere".to_owned();
        let remedy = "keep a copy of the store and report this";
        found.push(flat("books", Severity::Critical, "the books do not balance", text, remedy));
    }
    if books.damaged_rows > 0 {
        let rows = words::count(books.damaged_rows, "row");
        let text = format!("{rows} of the store cannot be read and are passed over");
        let remedy = "journalctl -u postbackd names them; look at the disk";
        found.push(flat("damage", Severity::Critical, "the store is damaged", text, remedy));
    }
}

/// A finding about the daemon, told at once.
fn flat(id: &str, severity: Severity, title: &str, text: String, remedy: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        rule: match id {
            "config" => Rule::Config,
            "backup" => Rule::Backup,
            _ => Rule::Store,
        },
        severity,
        title: title.to_owned(),
        text,
        remedy: remedy.to_owned(),
        since: None,
        hold: DurationMs::ZERO,
    }
}

#[cfg(test)]
mod tests;
