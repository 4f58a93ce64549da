//! CPU time of processes, from `/proc`.

use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`; Linux has had 100 on every architecture that this runs on.
const TICKS: u64 = 100;

/// How long processes are given to come to rest, between two looks, and what they may use in that time: a few idle nodes do.
const SETTLES: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(60);

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

/// Waits until these processes and this one have next to nothing more to do: what puts have left to be flushed and compacted is theirs to bear,
/// and not of what comes next. Blocks: nothing tells when a process rests, so its CPU time is looked at.
pub fn settle(others: &[u32]) {
    for _ in 0..SETTLES.as_millis() / LOOK.as_millis() {
        let before = used(others);
        std::thread::sleep(LOOK);
        if used(others) - before < IDLE {
            return;
        }
    }
    println!("  (not settled after {SETTLES:?})");
}

/// Bytes that a process has in memory; zero if it is gone.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
