//! What the nodes of a run keep their objects in.

#[cfg(feature = "rocksdb")]
use std::path::{Path, PathBuf};

use dynkv::sim::Schedule;
use dynkv::sim::{Options, Report};

/// A storage engine that this build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Memory.
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

    /// Makes the run.
    pub fn run(self, schedule: &Schedule, options: &Options) -> Report {
        match self {
            Engine::Memory => dynkv::sim::run(schedule, options),
            #[cfg(feature = "rocksdb")]
            Engine::Rocks => dynkv::sim::run_on_rocks(schedule, options, Scratch::new().path()),
        }
    }
}

/// A directory of one run, gone after it.
#[cfg(feature = "rocksdb")]
struct Scratch(PathBuf);

#[cfg(feature = "rocksdb")]
impl Scratch {
    /// Panics without a writable temp dir: the run is red then, and its evidence says why.
    fn new() -> Scratch {
        use std::sync::atomic::{AtomicU64, Ordering};
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dynkv-sim-{}-{number}", std::process::id()));
        if let Err(error) = std::fs::create_dir_all(&path) {
            panic!("cannot make the directory {}: {error}", path.display());
        }
        Scratch(path)
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
