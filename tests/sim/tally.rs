//! What a run met.

/// How often rare things happened: a run that proves nothing shows zeros.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub events: u64,
    pub batches: u64,
    pub acknowledged: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub attempts: u64,
    pub delivered: u64,
    pub repeats: u64,
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
        self.repeats += other.repeats;
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
    }

    /// What every set of seeds must have met.
    pub fn rare(&self) -> [(&'static str, u64); 23] {
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
            ("accepted repeat", self.repeats),
            ("discard", self.discards),
            ("disk that stayed full", self.failed_reopens),
            ("failed read", self.failed_reads),
            ("clock step", self.clock_steps),
            ("row removed by retention", self.swept_rows),
            ("pause", self.pauses),
            ("release", self.releases),
            ("receiver that is gone", self.gone),
        ]
    }
}
