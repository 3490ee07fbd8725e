//! What a run met.

use std::fmt;

/// How often rare things happened: a run that proves nothing shows zeros.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub seeds: u64,
    pub events: u64,
    pub batches: u64,
    pub acknowledged: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub attempts: u64,
    pub delivered: u64,
    pub repeats_after_crash: u64,
    pub repeats_after_doubt: u64,
    pub repeats_after_restore: u64,
    pub power_cuts: u64,
    pub cuts_in_commit: u64,
    pub commit_failures: u64,
    pub sync_losses: u64,
    pub holds: u64,
    /// Exchanges that carried several deliveries, and deliveries that were split off a refused one.
    pub together: u64,
    pub splits: u64,
    pub reloads: u64,
    pub replays: u64,
    pub job_replays: u64,
    pub discards: u64,
    pub dead: u64,
    pub failed_reopens: u64,
    pub failed_reads: u64,
    pub clock_steps: u64,
    pub swept_rows: u64,
    pub pauses: u64,
    pub releases: u64,
    pub gone: u64,
    pub purged: u64,
    pub backups: u64,
    pub restores: u64,
    pub alert_memories: u64,
    pub broken_disks: u64,
    pub slow_syncs: u64,
    pub suspensions: u64,
    pub wild_clocks: u64,
    pub late_repeats: u64,
    pub limit_changes: u64,
    /// Milliseconds that passed.
    pub simulated_ms: u64,
    pub kills: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.batches += other.batches;
        self.acknowledged += other.acknowledged;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.attempts += other.attempts;
        self.delivered += other.delivered;
        self.repeats_after_crash += other.repeats_after_crash;
        self.repeats_after_doubt += other.repeats_after_doubt;
        self.repeats_after_restore += other.repeats_after_restore;
        self.seeds += other.seeds;
        self.power_cuts += other.power_cuts;
        self.cuts_in_commit += other.cuts_in_commit;
        self.commit_failures += other.commit_failures;
        self.sync_losses += other.sync_losses;
        self.holds += other.holds;
        self.together += other.together;
        self.splits += other.splits;
        self.reloads += other.reloads;
        self.replays += other.replays;
        self.job_replays += other.job_replays;
        self.discards += other.discards;
        self.dead += other.dead;
        self.failed_reopens += other.failed_reopens;
        self.failed_reads += other.failed_reads;
        self.clock_steps += other.clock_steps;
        self.swept_rows += other.swept_rows;
        self.pauses += other.pauses;
        self.releases += other.releases;
        self.gone += other.gone;
        self.purged += other.purged;
        self.backups += other.backups;
        self.restores += other.restores;
        self.alert_memories += other.alert_memories;
        self.broken_disks += other.broken_disks;
        self.slow_syncs += other.slow_syncs;
        self.suspensions += other.suspensions;
        self.wild_clocks += other.wild_clocks;
        self.late_repeats += other.late_repeats;
        self.limit_changes += other.limit_changes;
        self.simulated_ms += other.simulated_ms;
        self.kills += other.kills;
    }

    /// What every set of seeds must have met.
    pub fn rare(&self) -> [(&'static str, u64); 36] {
        [
            ("duplicate", self.duplicates),
            ("conflict", self.conflicts),
            ("power cut", self.power_cuts),
            ("power cut inside a commit", self.cuts_in_commit),
            ("failed commit", self.commit_failures),
            ("lost sync", self.sync_losses),
            ("held destination", self.holds),
            ("exchange of several deliveries", self.together),
            ("split of a refused exchange", self.splits),
            ("reload", self.reloads),
            ("replay", self.replays),
            ("replay by a job", self.job_replays),
            ("dead delivery", self.dead),
            ("batch", self.batches),
            ("repeat after a crash", self.repeats_after_crash),
            ("repeat after an exchange without an answer", self.repeats_after_doubt),
            ("repeat after a restore", self.repeats_after_restore),
            ("discard", self.discards),
            ("disk that stayed full", self.failed_reopens),
            ("failed read", self.failed_reads),
            ("clock step", self.clock_steps),
            ("row removed by retention", self.swept_rows),
            ("pause", self.pauses),
            ("release", self.releases),
            ("receiver that is gone", self.gone),
            ("delivery that was given up", self.purged),
            ("backup", self.backups),
            ("restore", self.restores),
            ("memory of alerts", self.alert_memories),
            ("disk that broke", self.broken_disks),
            ("slow sync", self.slow_syncs),
            ("suspension", self.suspensions),
            ("clock that was years off", self.wild_clocks),
            ("late repeat", self.late_repeats),
            ("changed limit", self.limit_changes),
            ("killed process", self.kills),
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MS_PER_YEAR: u64 = 365 * 24 * 3_600_000;
        let years = u128::from(self.simulated_ms) * 100 / u128::from(MS_PER_YEAR);
        let repeats = self.repeats_after_crash + self.repeats_after_doubt + self.repeats_after_restore;
        writeln!(f, "{} seeds, {}.{:02} years simulated", self.seeds, years / 100, years % 100)?;
        writeln!(
            f,
            "{} power cuts ({} inside a commit), {} killed processes, {} restored backups, {} failed commits, each opened again",
            self.power_cuts, self.cuts_in_commit, self.kills, self.restores, self.commit_failures
        )?;
        writeln!(
            f,
            "{} events acknowledged, 0 lost; {} attempts, {} delivered, {} dead",
            self.acknowledged, self.attempts, self.delivered, self.dead
        )?;
        write!(
            f,
            "{repeats} taken again by receivers: {} after a crash, {} after an exchange without an answer, {} after a restore; 0 without a cause",
            self.repeats_after_crash, self.repeats_after_doubt, self.repeats_after_restore
        )
    }
}
