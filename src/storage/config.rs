//! `[storage]`: when a write is durable, and what the engine may take.

mod size;
mod sync;

use serde::{Deserialize, Serialize};

pub use size::{SizeError, SizeOrPercent};
pub use sync::{SyncMode, SyncModeError};

/// Durability and the engine's share of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// What an acknowledgement promises of power loss.
    pub sync: SyncMode,
    /// Memory for decompressed blocks, as a share of the host's or in bytes. Low: reads go to disk, where they wait for
    /// the read pool; high: starves memtables and the page cache.
    pub block_cache: SizeOrPercent,
    /// Memory for records that were lately read or written, as a share of the host's or in bytes, split among shards. A record in it takes about
    /// 200 bytes besides its key and value, and is found without asking the engine; one that is longer than 64 KiB, or than a 64th of a shard's
    /// part, is kept without its values, for writes that replace them all. Low: each request searches memtables and blocks; high: starves the
    /// block cache, which holds more records in as many bytes.
    pub record_cache: SizeOrPercent,
    /// Of data blocks on disk.
    pub compression: Compression,
    /// Free space of `node.data_dir`'s disk below which writes are refused and reads go on. Too low, and compaction
    /// meets a full disk, after which the node is read-only until restarted.
    pub min_free: SizeOrPercent,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            sync: SyncMode::Always,
            block_cache: SizeOrPercent::Percent(25),
            record_cache: SizeOrPercent::Percent(5),
            compression: Compression::Lz4,
            min_free: SizeOrPercent::Percent(5),
        }
    }
}

/// How data blocks are compressed. A change holds for files written from then on; old ones stay readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Little CPU, about half the space of text.
    #[default]
    Lz4,
    /// More CPU, less space.
    Zstd,
    /// For values that are compressed or encrypted already.
    None,
}
