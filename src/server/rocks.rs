//! Opens the daemon's engine as the configuration says.

use std::sync::Arc;

use rand::{Rng, RngExt};
use tracing::info;

use super::memory::{check_engine, host_memory};
use super::{ServerError, sizes};
use crate::config::Config;
use crate::storage::{Engine, RocksConfig, RocksEngine};

/// The database, within the data directory.
const DATABASE: &str = "db";
/// One memtable of objects is at most this part of the cap on memory; all memtables together are a sixth then.
const MEMTABLE_SHARE: u64 = 32;
/// Smaller ones would mean more files than compaction can follow.
const MEMTABLE_LEAST: u64 = 1 << 20;

/// Opens the database of `node.data_dir`, which is made if it is not there. May take as long as the log that is to be
/// replayed is long.
///
/// # Errors
/// [`ServerError::Config`] if the engine would take more than its share of `limits.memory`; [`ServerError::DataDir`], among others if another process has it open, or a newer version has written it.
pub fn open_engine(config: &Config) -> Result<Arc<dyn Engine>, ServerError> {
    let dir = config.node.data_dir.join(DATABASE);
    let failed = |source| ServerError::DataDir { dir: config.node.data_dir.clone(), source };
    let rocks = rocks_config(config)?;
    info!(memtable_bytes = rocks.write_buffer_bytes, "opening the database");
    let engine = RocksEngine::open(&dir, &rocks).map_err(failed)?;
    // Commits share their threads with the network.
    Ok(Arc::new(engine.waiting_aside(|wait| tokio::task::block_in_place(wait))))
}

fn rocks_config(config: &Config) -> Result<RocksConfig, ServerError> {
    let (host, cap) = (host_memory(), sizes::memory(config));
    let cache = config.storage.block_cache.bytes_of(host);
    let buffer = (cap / MEMTABLE_SHARE).clamp(MEMTABLE_LEAST, RocksConfig::default().write_buffer_bytes as u64);
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    let rocks = RocksConfig {
        block_cache_bytes: size(cache),
        write_buffer_bytes: size(buffer),
        compression: config.storage.compression,
        background_jobs: i32::from(config.node.shards.clamp(2, 16)),
        ..RocksConfig::default()
    };
    let records = config.storage.record_cache.bytes_of(host);
    check_engine(cap, cache, records, rocks.memtable_bytes())
        .map_err(|reason| ServerError::Config { key: "limits.memory", reason })?;
    Ok(RocksConfig { write_buffer_bytes: size(staggered(buffer, &mut rand::rng())), ..rocks })
}

/// A memtable's size: no less than three fifths of the greatest. Replicas take the same writes: memtables of one size are full at the same time at
/// all of them, and no quorum can do without those that flush.
fn staggered(greatest: u64, rng: &mut impl Rng) -> u64 {
    rng.random_range((greatest * 3 / 5).max(MEMTABLE_LEAST)..=greatest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn memtables_of_different_nodes_are_full_at_different_times() {
        let sizes: BTreeSet<u64> =
            (0..100).map(|seed| staggered(32 << 20, &mut StdRng::seed_from_u64(seed)) >> 20).collect();
        let (least, greatest) = (*sizes.first().unwrap(), *sizes.last().unwrap());
        assert!((19..=21).contains(&least) && (30..=32).contains(&greatest), "{sizes:?} MiB");
        assert!(sizes.len() > 10, "{sizes:?} MiB");
        assert_eq!(staggered(MEMTABLE_LEAST, &mut rand::rng()), MEMTABLE_LEAST);
    }
}
