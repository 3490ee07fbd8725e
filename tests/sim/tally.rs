//! What a run met.

use std::fmt;

macro_rules! tally {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// How often rare things happened: a run that proves nothing shows zeros.
        #[derive(Debug, Default, Clone, Copy)]
        pub struct Tally {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Tally {
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

tally! {
    seeds,
    /// Milliseconds that passed.
    simulated_ms,
    events,
    batches,
    acknowledged,
    duplicates,
    conflicts,
    late_repeats,
    attempts,
    delivered,
    dead,
    repeats_after_crash,
    repeats_after_doubt,
    repeats_after_restore,
    power_cuts,
    cuts_in_commit,
    cuts_in_start,
    /// Images of what a power cut would leave, looked into while the process goes on.
    images,
    kills,
    commit_failures,
    failed_reopens,
    failed_reads,
    /// Syncs that failed and forgot: for want of room, and because the medium broke.
    rooms_lost,
    sync_losses,
    broken_disks,
    /// Processes that ended because the disk had failed, starts that read all of it first, and starts that failed.
    ends,
    checked_media,
    failed_starts,
    slow_syncs,
    suspensions,
    clock_steps,
    wild_clocks,
    holds,
    /// Exchanges that carried several deliveries, and deliveries that were split off a refused one.
    together,
    splits,
    gone,
    /// Answers without end.
    floods,
    reloads,
    limit_changes,
    /// Destinations that moved to another address, and deliveries that were tried at the old one and then at the new one.
    moves,
    followed,
    pauses,
    releases,
    replays,
    job_replays,
    discards,
    purged,
    swept_rows,
    /// Events that retention by size removed before their age.
    shed_rows,
    /// Events with ids that never come again, those of any kind that were refused for want of room, and deliveries that went on
    /// meanwhile.
    strangers,
    refused,
    delivered_while_short,
    backups,
    restores,
    alert_memories,
    /// Runs that had to work everything off in the process that had met the trouble.
    healed_in_place,
}

impl Tally {
    /// What every set of seeds must have met.
    pub fn rare(&self) -> [(&'static str, u64); 50] {
        [
            ("duplicate", self.duplicates),
            ("conflict", self.conflicts),
            ("late repeat", self.late_repeats),
            ("batch", self.batches),
            ("power cut", self.power_cuts),
            ("power cut inside a commit", self.cuts_in_commit),
            ("power cut inside a start", self.cuts_in_start),
            ("image of a power cut", self.images),
            ("killed process", self.kills),
            ("failed commit", self.commit_failures),
            ("disk that stayed full", self.failed_reopens),
            ("failed read", self.failed_reads),
            ("sync that lost its room", self.rooms_lost),
            ("sync that was lost", self.sync_losses),
            ("disk that broke", self.broken_disks),
            ("process that ended by its disk", self.ends),
            ("start that read everything first", self.checked_media),
            ("failed start", self.failed_starts),
            ("slow sync", self.slow_syncs),
            ("suspension", self.suspensions),
            ("clock step", self.clock_steps),
            ("clock that was years off", self.wild_clocks),
            ("held destination", self.holds),
            ("exchange of several deliveries", self.together),
            ("split of a refused exchange", self.splits),
            ("receiver that is gone", self.gone),
            ("answer without end", self.floods),
            ("reload", self.reloads),
            ("changed limit", self.limit_changes),
            ("changed address", self.moves),
            ("retry at a changed address", self.followed),
            ("pause", self.pauses),
            ("release", self.releases),
            ("dead delivery", self.dead),
            ("replay", self.replays),
            ("replay by a job", self.job_replays),
            ("discard", self.discards),
            ("delivery that was given up", self.purged),
            ("row removed by retention", self.swept_rows),
            ("row removed for its size", self.shed_rows),
            ("event of a stranger", self.strangers),
            ("event refused for want of room", self.refused),
            ("delivery while there was no room", self.delivered_while_short),
            ("backup", self.backups),
            ("restore", self.restores),
            ("memory of alerts", self.alert_memories),
            ("repeat after a crash", self.repeats_after_crash),
            ("repeat after an exchange without an answer", self.repeats_after_doubt),
            ("repeat after a restore", self.repeats_after_restore),
            ("run that healed in place", self.healed_in_place),
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
            "{} power cuts ({} inside a commit), {} more imagined, {} killed processes, {} ended by their disk, {} restored backups, {} failed commits",
            self.power_cuts,
            self.cuts_in_commit,
            self.images,
            self.kills,
            self.ends,
            self.restores,
            self.commit_failures
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
