//! CPU time of processes, from `/proc`.

use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`; Linux has had 100 on every architecture that this runs on.
const TICKS: u64 = 100;

/// User plus system time that a process has used so far.
///
/// # Panics
/// If it is gone: what it has cost cannot be told any more.
pub fn used_by(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that is measured runs");
    // The second field is the command in parentheses and may hold spaces; utime and stime are the 14th and 15th.
    let Some((_, rest)) = stat.rsplit_once(')') else { return Duration::ZERO };
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// What this process and `others` have used so far.
pub fn used(others: &[u32]) -> Duration {
    others.iter().map(|pid| used_by(*pid)).sum::<Duration>() + used_by(std::process::id())
}

/// Bytes that a process has in memory; zero if it is gone.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
