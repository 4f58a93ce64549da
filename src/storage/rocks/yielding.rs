//! Compactions yield to requests where both want the same core.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// What the threads that compact are called, by RocksDB. Those that flush are not among them: writes and syncs wait for these.
const COMPACTING: &str = "rocksdb:low";
/// Above the process's own niceness: a ninth of the share that a shard has. RocksDB's own lowering is to 19, a seventieth: beside a program
/// that keeps all cores busy, compactions would fall behind until writes are held back.
const NICER_BY: i32 = 10;
const NICEST: i32 = 19;

/// Lowers the priority of the threads of this process that compact; returns how many there are.
///
/// # Errors
/// The system does not tell of its threads as Linux does, or does not let this one.
pub(super) fn lower_compactions() -> io::Result<usize> {
    let niceness = (getpriority_process(None)? + NICER_BY).min(NICEST);
    let mut lowered = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        // One that has ended meanwhile has no name.
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        let Some(id) = id.filter(|_| name.starts_with(COMPACTING)) else { continue };
        match setpriority_process(Some(id), niceness) {
            Ok(()) => lowered += 1,
            // It has ended since.
            Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(lowered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::rocks::{RocksConfig, RocksEngine};

    #[test]
    fn threads_that_compact_yield_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let _engine = RocksEngine::open(dir.path(), &RocksConfig::default()).unwrap();
        let mut niceness: Vec<(String, i32)> = Vec::new();
        for thread in fs::read_dir("/proc/self/task").unwrap() {
            let thread = thread.unwrap();
            let id = Pid::from_raw(thread.file_name().to_str().unwrap().parse().unwrap()).unwrap();
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            // A thread of another test may have ended by now.
            niceness.extend(getpriority_process(Some(id)).ok().map(|nice| (name, nice)));
        }
        let own = getpriority_process(None).unwrap();
        let (compact, others): (Vec<_>, Vec<_>) = niceness.iter().partition(|(name, _)| name.starts_with(COMPACTING));
        assert!(!compact.is_empty(), "RocksDB calls them otherwise: {niceness:?}");
        assert!(compact.iter().all(|(_, nice)| *nice == (own + NICER_BY).min(NICEST)), "{niceness:?}");
        assert!(others.iter().all(|(_, nice)| *nice == own), "{niceness:?}");
        assert!(others.iter().any(|(name, _)| name.starts_with("rocksdb:high")), "{niceness:?}");
    }
}
