//! What a run met.

/// How often rare things happened: a run that proves nothing shows zeros.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub events: u64,
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
    pub replays: u64,
    pub dead: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
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
        self.replays += other.replays;
        self.dead += other.dead;
    }

    /// What every set of seeds must have met.
    pub fn rare(&self) -> [(&'static str, u64); 9] {
        [
            ("duplicate", self.duplicates),
            ("conflict", self.conflicts),
            ("power cut", self.power_cuts),
            ("power cut inside a commit", self.cuts_in_commit),
            ("failed commit", self.commit_failures),
            ("lost sync", self.sync_losses),
            ("held destination", self.holds),
            ("replay", self.replays),
            ("dead delivery", self.dead),
        ]
    }
}
