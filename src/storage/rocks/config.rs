//! What can be set of RocksDB, and what is settled.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options};
use rustix::process::{Resource, getrlimit};

use crate::storage::config::Compression;
use crate::storage::engine::Family;

/// Tables of the first level at which it is compacted; at which writes are slowed down, and stopped. Twice RocksDB's own, which are meant for
/// memtables of twice the size of those of objects.
const COMPACTED_TABLES: i32 = 8;
const SLOWING_TABLES: i32 = 40;
const STOPPING_TABLES: i32 = 72;

/// How the engine uses memory, disk and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksConfig {
    /// Bytes of the cache of uncompressed blocks, indexes and filters, shared by all families. Too small, and reads go to
    /// the disk and are parked; what it takes is taken from the kernel's page cache.
    pub block_cache_bytes: usize,
    /// How tables are compressed.
    pub compression: Compression,
    /// Bytes of one memtable of objects; the other families' are a quarter. Up to three of a family exist while two
    /// are being flushed, so six times this is the most that they take. Larger ones mean fewer compactions, longer
    /// flushes, which hold requests up, and a longer replay at start.
    pub write_buffer_bytes: usize,
    /// Threads for flushes and compactions, at least 2. Too few, and writes stall.
    pub background_jobs: i32,
    /// Bytes of log after which the memtables that hold the oldest of it are flushed: bounds the replay at start.
    /// At least the memtables' size, or they are flushed half-full.
    pub max_log_bytes: u64,
    /// Bytes after which the kernel is asked to begin writing tables and log back, so that a sync finds little left.
    pub write_back_bytes: u64,
    /// Tables kept open; `None` for half of the process's file limit. A table that is not open costs a cached read a miss.
    pub max_open_files: Option<u32>,
}

impl Default for RocksConfig {
    fn default() -> RocksConfig {
        RocksConfig {
            block_cache_bytes: 256 << 20,
            compression: Compression::Lz4,
            write_buffer_bytes: 32 << 20,
            background_jobs: 2,
            max_log_bytes: 512 << 20,
            write_back_bytes: 1 << 20,
            max_open_files: None,
        }
    }
}

impl RocksConfig {
    /// Bytes that all memtables take at most.
    pub fn memtable_bytes(&self) -> u64 {
        // three of objects, and three of a quarter for each of the four other families
        (self.write_buffer_bytes as u64).saturating_mul(6)
    }

    /// Options of the database as a whole.
    pub(super) fn database(&self) -> Options {
        let mut options = Options::default();
        // A crash leaves a prefix of the commits: replay stops at the first hole or torn record. To tolerate only a torn
        // tail would refuse to open after lost pages, which peers can repair; to skip holes would bring back a later
        // write without an earlier one, and batch numbers would tell nothing.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_max_background_jobs(self.background_jobs.max(2));
        options.set_max_total_wal_size(self.max_log_bytes);
        options.set_bytes_per_sync(self.write_back_bytes);
        options.set_wal_bytes_per_sync(self.write_back_bytes);
        options.set_max_open_files(self.open_files());
        // RocksDB's own text log: enough for a post-mortem, bounded.
        options.set_max_log_file_size(16 << 20);
        options.set_keep_log_file_num(4);
        options.set_stats_dump_period_sec(0);
        options
    }

    /// Options of one family.
    pub(super) fn family(&self, family: Family, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        // One per cent of absent keys cost a look at the table. Keys are read whole; no scan is by prefix.
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        // Indexes and filters count against the cache, so that memory has one bound; they leave it last.
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(7);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_level_zero_file_num_compaction_trigger(COMPACTED_TABLES);
        options.set_level_zero_slowdown_writes_trigger(SLOWING_TABLES);
        options.set_level_zero_stop_writes_trigger(STOPPING_TABLES);
        options.set_max_write_buffer_number(3);
        options.set_write_buffer_size(match family {
            Family::Objects => self.write_buffer_bytes,
            Family::Hints | Family::Merkle | Family::Meta | Family::Tombstones => self.write_buffer_bytes / 4,
        });
        options.set_compression_type(match self.compression {
            Compression::None => DBCompressionType::None,
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd => DBCompressionType::Zstd,
        });
        options
    }

    /// In RocksDB's terms: -1 for no limit.
    fn open_files(&self) -> i32 {
        let half = || getrlimit(Resource::Nofile).current.map(|limit| limit / 2);
        let limit = self.max_open_files.map(u64::from).or_else(half);
        limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(-1))
    }
}
