//! Opens the daemon's engine as the configuration says.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::ServerError;
use crate::config::Config;
use crate::storage::{Engine, RocksConfig, RocksEngine};

/// The database, within the data directory.
const DATABASE: &str = "db";
/// Where a container's limit of memory stands.
const CGROUP_MEMORY: &str = "/sys/fs/cgroup/memory.max";

/// Opens the database of `node.data_dir`, which is made if it is not there. May take as long as the log that is to be
/// replayed is long.
///
/// # Errors
/// [`ServerError::DataDir`], among others if another process has it open, or a newer version has written it.
pub fn open_engine(config: &Config) -> Result<Arc<dyn Engine>, ServerError> {
    let dir = config.node.data_dir.join(DATABASE);
    let failed = |source| ServerError::DataDir { dir: config.node.data_dir.clone(), source };
    let engine = RocksEngine::open(&dir, &rocks_config(config)).map_err(failed)?;
    Ok(Arc::new(engine))
}

fn rocks_config(config: &Config) -> RocksConfig {
    let cache = config.storage.block_cache.bytes_of(host_memory());
    RocksConfig {
        block_cache_bytes: usize::try_from(cache).unwrap_or(usize::MAX),
        compression: config.storage.compression,
        background_jobs: i32::from(config.node.shards.clamp(2, 16)),
        ..RocksConfig::default()
    }
}

/// Bytes of memory that the process may use: the host's, or its container's.
fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let host = info.totalram.saturating_mul(u64::from(info.mem_unit));
    let container = fs::read_to_string(Path::new(CGROUP_MEMORY)).ok().and_then(|text| text.trim().parse().ok());
    container.map_or(host, |limit: u64| limit.min(host))
}
