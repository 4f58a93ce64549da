//! The process's memory: what it may take, how much it has, and whether requests can be taken at all.
//!
//! | of the cap | what is refused |
//! |---|---|
//! | below 90 % | nothing |
//! | 90 % | background work and hedges of peers |
//! | 97 % | clients' requests too, before they are decoded |
//!
//! What is refused is taken again a few per cent below, lest the verdict flutter. Each queue has its own bound besides; this
//! is for what they amount to together, and for what nobody counts: the allocator's slack, QUIC's buffers, the engine.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use tracing::{error, info, warn};

use crate::node::Pressure;
use crate::types::Time;

/// Where a container's limit of memory stands.
const CGROUP_MEMORY: &str = "/sys/fs/cgroup/memory.max";
/// Where the kernel says how much the process has.
const OWN_STATUS: &str = "/proc/self/status";
/// Clients are refused for no longer than this while nothing waits here that could be given up: the memory is then not
/// theirs, and refusing them frees none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the cap, in hundredths: what "nothing waits" means.
const NOTHING: u64 = 1;

/// Bytes of memory that the host has, or its container.
pub fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let host = info.totalram.saturating_mul(u64::from(info.mem_unit));
    let container = fs::read_to_string(Path::new(CGROUP_MEMORY)).ok().and_then(|text| text.trim().parse().ok());
    container.map_or(host, |limit: u64| limit.min(host))
}

/// Bytes that are resident, as the kernel counts them; `None` where it does not say.
pub fn resident() -> Option<u64> {
    resident_of(&fs::read_to_string(OWN_STATUS).ok()?)
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What all threads may read of it.
#[derive(Debug)]
pub struct Memory {
    cap: u64,
    resident: AtomicU64,
    pressure: AtomicU8,
    /// Times that clients began to be refused.
    overs: AtomicU64,
}

impl Memory {
    /// A process that may take so many bytes, and has taken little yet.
    pub fn new(cap: u64) -> Memory {
        Memory { cap, resident: AtomicU64::new(0), pressure: AtomicU8::new(0), overs: AtomicU64::new(0) }
    }

    /// How short of it the process is.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::Low,
            1 => Pressure::High,
            _ => Pressure::Over,
        }
    }

    /// What the process may take, in bytes.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// What it had when it was last looked at, in bytes.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Times that clients began to be refused.
    pub fn overs(&self) -> u64 {
        self.overs.load(Ordering::Relaxed)
    }
}

/// Follows the process's memory and tells [`Memory`].
#[derive(Debug, Default)]
pub struct MemoryWatch {
    told: Pressure,
    over_since: Option<Time>,
    resigned: bool,
}

impl MemoryWatch {
    /// The process has `resident` bytes, `queued` of them in its queues.
    pub fn look(&mut self, now: Time, resident: u64, queued: u64, memory: &Memory) {
        memory.resident.store(resident, Ordering::Relaxed);
        let before = self.told;
        self.told = self.judge(now, resident, queued, memory.cap);
        memory.pressure.store(self.told as u8, Ordering::Relaxed);
        if before == self.told {
            return;
        }
        let (has, cap) = (ByteSize(resident), ByteSize(memory.cap));
        match self.told {
            Pressure::Low => info!(%has, %cap, "memory: enough again"),
            Pressure::High => warn!(%has, %cap, "memory: background work is refused"),
            Pressure::Over => {
                memory.overs.fetch_add(1, Ordering::Relaxed);
                warn!(%has, %cap, "memory: clients' requests are refused");
            }
        }
    }

    fn judge(&mut self, now: Time, resident: u64, queued: u64, cap: u64) -> Pressure {
        let percent = resident.saturating_mul(100) / cap.max(1);
        let level = match (percent, self.told) {
            (97.., _) | (94.., Pressure::Over) => Pressure::Over,
            (90.., _) | (85.., Pressure::High | Pressure::Over) => Pressure::High,
            _ => Pressure::Low,
        };
        if percent < 94 {
            self.resigned = false;
        }
        if level != Pressure::Over || queued.saturating_mul(100) / cap.max(1) >= NOTHING {
            self.over_since = None;
        } else if !self.resigned && *self.over_since.get_or_insert(now) + PATIENCE <= now {
            self.resigned = true;
            error!(
                has = %ByteSize(resident), cap = %ByteSize(cap),
                "memory stays at limits.memory although nothing waits: raise it, or lower storage.block_cache or storage.record_cache; requests are taken all the same"
            );
        }
        if self.resigned { level.min(Pressure::High) } else { level }
    }
}

/// Whether the engine leaves a quarter of the cap to all else.
///
/// # Errors
/// What does not fit, and which keys to change.
#[cfg(any(test, feature = "rocksdb"))]
pub fn check_engine(cap: u64, blocks: u64, records: u64, memtables: u64) -> Result<(), String> {
    let left = cap - cap / 4;
    let caches = blocks.saturating_add(records);
    if caches.saturating_add(memtables) <= left {
        return Ok(());
    }
    Err(format!(
        "{} is too little: the caches (storage.block_cache and storage.record_cache) take up to {} and {}, memtables up to {}, and a quarter is needed for \
         requests; raise limits.memory, or lower the caches to {} together at most",
        ByteSize(cap),
        ByteSize(blocks),
        ByteSize(records),
        ByteSize(memtables),
        ByteSize(left.saturating_sub(memtables)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_micros(s * 1_000_000)
    }

    #[test]
    fn the_kernels_figure_is_read() {
        assert_eq!(resident_of("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  12345 kB\n"), Some(12345 * 1024));
        assert_eq!(resident_of("Name:\tx\n"), None);
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn levels_change_at_their_marks_and_back_a_little_below() {
        let (memory, mut watch) = (Memory::new(100), MemoryWatch::default());
        let levels = [89, 90, 86, 84, 97, 95, 93, 90, 86, 84, 200].map(|resident| {
            watch.look(at(0), resident, 100, &memory);
            memory.pressure()
        });
        use Pressure::{High, Low, Over};
        assert_eq!(levels, [Low, High, High, Low, Over, Over, High, High, High, Low, Over]);
        assert_eq!((memory.overs(), memory.resident(), memory.cap()), (2, 200, 100));
    }

    #[test]
    fn clients_are_not_refused_for_ever_where_that_frees_nothing() {
        let (memory, mut watch) = (Memory::new(1000), MemoryWatch::default());
        let mut looks = |s, resident, queued| {
            watch.look(at(s), resident, queued, &memory);
            memory.pressure()
        };
        assert_eq!(looks(0, 1000, 500), Pressure::Over);
        assert_eq!(looks(20, 1000, 10), Pressure::Over, "what waits may go, down to a hundredth");
        assert_eq!(looks(21, 1000, 9), Pressure::Over);
        assert_eq!(looks(25, 1000, 500), Pressure::Over, "which begins the wait anew");
        assert_eq!(looks(26, 1000, 9), Pressure::Over);
        assert_eq!(looks(35, 1000, 9), Pressure::Over);
        assert_eq!(looks(36, 1000, 9), Pressure::High, "as good as nothing is left to go");
        assert_eq!(looks(37, 940, 500), Pressure::High);
        assert_eq!(looks(38, 1000, 500), Pressure::High, "and it stays so, lest it flutter");
        assert_eq!(looks(39, 930, 0), Pressure::High);
        assert_eq!(looks(40, 1000, 500), Pressure::Over, "it has been below");
    }

    #[test]
    fn an_engine_that_leaves_nothing_to_others_is_refused() {
        const MIB: u64 = 1 << 20;
        assert_eq!(check_engine(1000 * MIB, 400 * MIB, 100 * MIB, 250 * MIB), Ok(()));
        let refused = check_engine(1000 * MIB, 500 * MIB, 100 * MIB, 250 * MIB).unwrap_err();
        assert!(refused.contains("lower the caches to 500.0 MiB") && refused.contains("limits.memory"), "{refused}");
    }
}
