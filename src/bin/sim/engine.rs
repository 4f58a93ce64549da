//! What the nodes of a run keep their objects in.

#[cfg(feature = "rocksdb")]
use std::path::{Path, PathBuf};

use dynkv::sim::{Mark, Options, Report, Schedule};

/// A storage engine that this build has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Memory.
    #[default]
    Memory,
    /// RocksDB, in directories of the system's temp dir.
    #[cfg(feature = "rocksdb")]
    Rocks,
}

/// Why a name is no engine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No build has it.
    #[error("no engine {0:?}: it is memory or rocks")]
    Unknown(String),
    /// Another build has it.
    #[cfg_attr(feature = "rocksdb", allow(dead_code, reason = "this build has all engines"))]
    #[error("the engine rocks needs a build with the feature rocksdb: cargo run --release --features sim")]
    NotBuilt,
}

impl std::str::FromStr for Engine {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Engine, EngineError> {
        match name {
            "memory" => Ok(Engine::Memory),
            #[cfg(feature = "rocksdb")]
            "rocks" => Ok(Engine::Rocks),
            #[cfg(not(feature = "rocksdb"))]
            "rocks" => Err(EngineError::NotBuilt),
            other => Err(EngineError::Unknown(other.to_owned())),
        }
    }
}

impl Engine {
    /// Its name, unless it is the one that is meant without one.
    pub fn unusual_name(self) -> Option<&'static str> {
        match self {
            Engine::Memory => None,
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => Some("rocks"),
        }
    }

    /// What cargo needs to be told to build it in.
    pub fn build(self) -> &'static str {
        match self {
            Engine::Memory => "--profile sim --no-default-features",
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => "--release",
        }
    }

    /// Whether a run on it can meet this: some faults only the modelled disk has.
    pub fn can_meet(self, mark: Mark) -> bool {
        let out_of_reach: &[Mark] = match self {
            Engine::Memory => &[],
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => &MODELLED,
        };
        !out_of_reach.contains(&mark)
    }

    /// Makes the run.
    pub fn run(self, schedule: &Schedule, options: &Options) -> Report {
        match self {
            Engine::Memory => dynkv::sim::run(schedule, options),
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => dynkv::sim::run_on_rocks(schedule, options, Scratch::new().path()),
        }
    }
}

/// What RocksDB does not do on demand: the kernel keeps what it has written, and nothing fails.
#[cfg(feature = "rocksdb")]
const MODELLED: [Mark; 10] = [
    Mark::ReadFailed,
    Mark::CommitFailed,
    Mark::FailedSurfaced,
    Mark::SyncFailed,
    Mark::DiskFull,
    Mark::RotWiped,
    Mark::RotHealed,
    Mark::PowerTook,
    Mark::TornTail,
    Mark::OldCopyRefused,
];

/// A directory of one run, gone after it.
#[cfg(feature = "rocksdb")]
struct Scratch(PathBuf);

#[cfg(feature = "rocksdb")]
impl Scratch {
    /// A directory that was not there before: what another process left may have the same number.
    ///
    /// Panics without a writable temp dir: the run is red then, and its evidence says why.
    fn new() -> Scratch {
        use std::io::ErrorKind;
        use std::sync::atomic::{AtomicU64, Ordering};
        static TRIED: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = TRIED.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("dynkv-sim-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Scratch(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make the directory {}: {error}", path.display()),
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(feature = "rocksdb")]
impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("dynkv-sim: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(all(test, feature = "rocksdb"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_modelled_disk_can_meet_everything() {
        assert!(Mark::ALL.iter().all(|mark| Engine::Memory.can_meet(*mark)));
        assert!(MODELLED.iter().all(|mark| !Engine::Rocks.can_meet(*mark)));
        assert!(Engine::Rocks.can_meet(Mark::Killed));
    }

    #[test]
    fn a_directory_that_is_there_is_not_used() {
        let first = Scratch::new();
        let name = first.path().file_name().and_then(|name| name.to_str()).unwrap();
        let (start, number) = name.rsplit_once('-').unwrap();
        let number: u64 = number.parse().unwrap();
        // other tests may make some meanwhile: a few in a row are taken
        let taken: Vec<PathBuf> =
            (1..=20).map(|more| first.path().with_file_name(format!("{start}-{}", number + more))).collect();
        let made: Vec<&PathBuf> = taken.iter().filter(|path| std::fs::create_dir(path).is_ok()).collect();
        let second = Scratch::new();
        assert!(second.path().is_dir() && !made.contains(&&second.0), "{}", second.path().display());
        made.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    }
}
