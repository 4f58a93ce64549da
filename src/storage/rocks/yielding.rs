//! RocksDB's own threads yield to requests where both want the same core.

use std::fs;
use std::io;

use rustix::process::{Pid, setpriority_process};

/// What the threads that flush and compact are called, by RocksDB.
const BACKGROUND: [&str; 2] = ["rocksdb:high", "rocksdb:low"];
/// A ninth of the share that a thread at 0 has. RocksDB's own lowering is to 19, a seventieth: beside a program that keeps all cores busy, they
/// would fall behind until writes are held back.
const NICENESS: i32 = 10;

/// Lowers the priority of the threads of this process that flush and compact; returns how many there are.
///
/// # Errors
/// The system does not tell of its threads as Linux does, or does not let this one.
pub(super) fn lower_background() -> io::Result<usize> {
    let mut lowered = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        // One that has ended meanwhile has no name.
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        if let Some(id) = id.filter(|_| is_background(&name)) {
            setpriority_process(Some(id), NICENESS)?;
            lowered += 1;
        }
    }
    Ok(lowered)
}

fn is_background(thread: &str) -> bool {
    BACKGROUND.iter().any(|name| thread.starts_with(name))
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;
    use crate::storage::rocks::{RocksConfig, RocksEngine};

    #[test]
    fn threads_of_the_background_yield_and_no_others() {
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
        let (lowered, others): (Vec<_>, Vec<_>) = niceness.iter().partition(|(name, _)| is_background(name));
        for name in BACKGROUND {
            assert!(
                lowered.iter().any(|(thread, _)| thread.starts_with(name)),
                "RocksDB calls them otherwise: {niceness:?}"
            );
        }
        assert!(lowered.iter().all(|(_, nice)| *nice == NICENESS), "{niceness:?}");
        assert!(others.iter().all(|(_, nice)| *nice == own), "{niceness:?}");
    }
}
