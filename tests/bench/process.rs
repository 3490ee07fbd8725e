//! What the kernel says of a running daemon.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Proportional set size: memory that is its own, and its share of what it shares. MB.
pub fn pss_mb(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("Linux");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// How often each of its threads has gone to sleep of itself: each time, something woke it before.
pub fn sleeps(pid: u32) -> BTreeMap<OsString, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("Linux");
    let of_one = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let count =
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()?;
        Some((task.file_name(), count))
    };
    tasks.flatten().filter_map(of_one).collect()
}

/// How often threads were woken between two looks; those that have ended in between took their numbers with them.
pub fn woken(before: &BTreeMap<OsString, u64>, after: &BTreeMap<OsString, u64>) -> u64 {
    after.iter().map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0))).sum()
}
