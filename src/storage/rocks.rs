//! The daemon's engine: one RocksDB database a node, a column family for each [`Family`].
//!
//! A value is copied once into RocksDB's batch at commit and once out of a pinned block at a read. RocksDB itself then
//! writes the batch to the log and copies it into the memtable.

mod config;
mod mend;
mod open;
mod quarantine;
mod suspects;
mod yielding;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_NUM_KEYS,
    ESTIMATE_PENDING_COMPACTION_BYTES, IS_WRITE_STOPPED, PropName, TOTAL_SST_FILES_SIZE,
};
use rocksdb::{Cache, ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions, WriteBatch, WriteOptions};

pub use self::config::RocksConfig;
use self::quarantine::Quarantine;
use self::suspects::Suspects;
use crate::storage::batch::{Batch, Op};
use crate::storage::engine::{Engine, EngineStats, Family, Lookup, MendWith, Mending, ReadTier, ScanLimit, Visit};
use crate::storage::error::StorageError;
use crate::types::BatchNumber;

/// Between two attempts at a write that RocksDB holds back.
const STALL_PAUSE: Duration = Duration::from_millis(2);
/// After which a held-back write on a disk too full for the memtables is a failed one.
const FULL_PATIENCE: Duration = Duration::from_secs(1);
/// After which any held-back write is.
const STALL_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a wait, once, so that the caller's thread can do its other work meanwhile.
pub type Aside = fn(&mut dyn FnMut());

/// An open database. Dropping it closes the database and then frees the directory; it syncs nothing.
pub struct RocksEngine {
    db: DB,
    cache: Cache,
    cached: ReadOptions,
    disk: ReadOptions,
    /// In the log, not synced.
    write: WriteOptions,
    /// Shared by commits; alone while what they might change is written anew.
    commits: RwLock<()>,
    /// How commits wait, where they must.
    aside: Aside,
    /// Tables that could not be read.
    suspects: Mutex<Suspects>,
    /// Tables that were found to be damaged, and ranges that were put into quarantine.
    damage: AtomicU64,
    /// What was in tables that could not be read.
    quarantine: Quarantine,
    /// Held while that is given up.
    giving_up: Mutex<()>,
    /// The first failed commit or sync; set once.
    stopped: OnceLock<StorageError>,
    /// Held over a sync *and* over setting `stopped` after it: the kernel reports a failed write-back once, so a second
    /// sync must not run and succeed in between.
    syncing: Mutex<()>,
    /// Holds the directory's lock. Declared last, hence released after the database has closed.
    dir: File,
}

impl RocksEngine {
    /// Opens the database in `dir`, made if need be, and replays its log.
    ///
    /// # Errors
    /// [`StorageError::Locked`] and [`StorageError::Newer`] before anything was written; [`StorageError::Corrupt`] for a
    /// damaged or foreign directory; [`StorageError::Full`] or [`StorageError::Io`].
    pub fn open(dir: &Path, config: &RocksConfig) -> Result<RocksEngine, StorageError> {
        let cache = Cache::new_hyper_clock_cache(config.block_cache_bytes, 0);
        let lock = open::lock(dir)?;
        let db = open::open(dir, config, &cache)?;
        let mut cached = ReadOptions::default();
        cached.set_read_tier(rocksdb::ReadTier::BlockCache);
        let engine = RocksEngine {
            db,
            cache,
            cached,
            disk: ReadOptions::default(),
            write: write_options(),
            commits: RwLock::new(()),
            aside: |wait| wait(),
            suspects: Mutex::default(),
            damage: AtomicU64::new(0),
            quarantine: Quarantine::default(),
            giving_up: Mutex::default(),
            stopped: OnceLock::new(),
            syncing: Mutex::new(()),
            dir: lock,
        };
        engine.load_quarantine()?;
        engine.load_suspects()?;
        Ok(engine)
    }

    /// Has commits that must wait do so by `aside`. Without it their threads wait.
    #[must_use]
    pub fn waiting_aside(self, aside: Aside) -> RocksEngine {
        RocksEngine { aside, ..self }
    }

    fn wait_aside<T>(&self, wait: impl FnOnce() -> T) -> T {
        let (mut wait, mut done) = (Some(wait), None);
        (self.aside)(&mut || done = wait.take().map(|wait| wait()));
        done.expect("an `Aside` runs what it is given")
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("the database was opened with every family")
    }

    fn check_running(&self) -> Result<(), StorageError> {
        self.stopped.get().map_or(Ok(()), |cause| Err(cause.stopped()))
    }

    /// Sums a property over the families. A property that RocksDB does not tell counts nothing.
    fn sum(&self, property: &PropName) -> u64 {
        let of = |family| self.db.property_int_value_cf(self.family(family), property).ok().flatten().unwrap_or(0);
        Family::ALL.into_iter().map(of).sum()
    }

    /// A property of the whole database.
    fn whole(&self, property: &PropName) -> u64 {
        self.db.property_int_value(property).ok().flatten().unwrap_or(0)
    }
}

impl Engine for RocksEngine {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        let options = match tier {
            ReadTier::Cached => &self.cached,
            ReadTier::Disk => &self.disk,
        };
        match self.db.get_pinned_cf_opt(self.family(family), key, options) {
            Ok(Some(value)) => Ok(Lookup::Found(Bytes::copy_from_slice(&value))),
            Ok(None) if self.quarantine.holds(family, key) => Err(unreadable("get")),
            Ok(None) => Ok(Lookup::Absent),
            Err(error) if tier == ReadTier::Cached && error.kind() == ErrorKind::Incomplete => Ok(Lookup::Miss),
            Err(error) => {
                self.suspect(&error);
                Err(classify("get", &error))
            }
        }
    }

    fn damage(&self) -> u64 {
        self.damage.load(Ordering::Acquire)
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        if let Err(stopped) = self.check_running() {
            batch.clear();
            return Err(stopped);
        }
        if batch.is_empty() {
            return Ok(self.latest());
        }
        let shared = match self.commits.try_read() {
            Ok(shared) => shared,
            Err(_) => self.wait_aside(|| self.commits.read().expect("nothing panics while it commits")),
        };
        let is_plain = self.quarantine.is_empty();
        let result = if is_plain { self.write(batch) } else { self.write_past_quarantine(batch) };
        drop(shared);
        batch.clear();
        match result {
            Ok(()) => Ok(self.latest()),
            Err(error) => {
                self.stopped.get_or_init(|| error.clone());
                Err(error)
            }
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        let _alone = self.syncing.lock().expect("nothing panics while it syncs");
        self.check_running()?;
        self.db.flush_wal(true).map_err(|error| {
            let error = classify("sync", &error);
            let first = self.stopped.get_or_init(|| error.clone());
            // A commit that failed meanwhile also fails the sync of its file; that is no news of the disk.
            if *first == error { error } else { first.stopped() }
        })
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(None);
        }
        let stops = || self.quarantine.stops(family, start, end);
        let before = stops();
        let entries = self.iterator(family, end);
        // A range is listed before it is hidden, and hidden until it is listed no more: what the iterator does not see was listed before
        // it was made, or is now.
        let stop = before.into_iter().chain(stops()).min();
        self.visit_entries(entries, start, stop.as_deref(), limit, visit)
    }

    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        // Where a range is in quarantine, the database holds nothing but what was written or kept since.
        self.scan_database(Family::Objects, start, Some(end), ScanLimit::NONE, visit).map(drop)
    }

    fn mend(&self, with: &mut MendWith<'_>) -> Result<Mending, StorageError> {
        self.mend_tables(with)
    }

    fn latest(&self) -> BatchNumber {
        BatchNumber(self.db.latest_sequence_number())
    }

    fn stats(&self) -> EngineStats {
        let room = rustix::fs::fstatvfs(&self.dir).ok();
        EngineStats {
            disk_bytes: self.sum(TOTAL_SST_FILES_SIZE),
            estimated_keys: self.sum(ESTIMATE_NUM_KEYS),
            memtable_bytes: self.sum(CUR_SIZE_ALL_MEM_TABLES),
            cache_bytes: self.cache.get_usage() as u64,
            pending_compaction_bytes: self.sum(ESTIMATE_PENDING_COMPACTION_BYTES),
            writes_stalled: u64::from(self.whole(ACTUAL_DELAYED_WRITE_RATE) > 0 || self.whole(IS_WRITE_STOPPED) > 0),
            // RocksDB counts them in one place, whichever family it was.
            background_errors: self.whole(BACKGROUND_ERRORS),
            stopped: u64::from(self.stopped.get().is_some()),
            free_bytes: room.as_ref().map_or(0, |room| room.f_bavail.saturating_mul(room.f_frsize)),
            capacity_bytes: room.as_ref().map_or(0, |room| room.f_blocks.saturating_mul(room.f_frsize)),
        }
    }
}

impl RocksEngine {
    /// As [`Engine::scan`], past what is known to be unknown.
    fn scan_database(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(None);
        }
        self.visit_entries(self.iterator(family, end), start, None, limit, visit)
    }

    /// It reads at the sequence number at which it was made: that is the one snapshot of a scan.
    fn iterator(&self, family: Family, end: Option<&[u8]>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    /// Visits entries from `start` up to the key at which it is not known what there is.
    fn visit_entries(
        &self,
        mut iterator: DBRawIterator<'_>,
        start: &[u8],
        unknown: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        iterator.seek(start);
        let (mut entries, mut bytes, mut stop) = (0, 0, false);
        while let Some((key, value)) = iterator.item().filter(|(key, _)| unknown.is_none_or(|unknown| *key < unknown)) {
            if stop {
                return Ok(Some(key.to_vec()));
            }
            entries += 1;
            bytes += key.len() + value.len();
            stop = visit(key, value).is_break() || limit.reached(entries, bytes);
            iterator.next();
        }
        iterator.status().map_err(|error| {
            self.suspect(&error);
            classify("scan", &error)
        })?;
        if unknown.is_some() { Err(unreadable("scan")) } else { Ok(None) }
    }

    /// Writes a batch, and waits while RocksDB holds writes back so that flushes and compactions can catch up.
    ///
    /// It is asked not to wait by itself: on a full disk the flush that it waits for never comes, and the wait has no end.
    fn write(&self, batch: &Batch) -> Result<(), StorageError> {
        self.try_write(batch).unwrap_or_else(|| self.wait_aside(|| self.write_later(batch)))
    }

    /// `None` if RocksDB holds the batch back; the log is as it was then.
    fn try_write(&self, batch: &Batch) -> Option<Result<(), StorageError>> {
        match self.db.write_opt(self.write_batch(batch), &self.write) {
            Ok(()) => Some(Ok(())),
            Err(error) if error.kind() == ErrorKind::Incomplete => None,
            Err(error) => Some(Err(classify("commit", &error))),
        }
    }

    fn write_later(&self, batch: &Batch) -> Result<(), StorageError> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(hopeless) = self.given_up(waited) {
                return Err(hopeless);
            }
            std::thread::sleep(STALL_PAUSE);
            waited += STALL_PAUSE;
            if let Some(written) = self.try_write(batch) {
                return written;
            }
        }
    }

    /// Writes a batch that is not a caller's commit; after its failure nothing is committed any more, as after that of one.
    fn write_or_stop(&self, batch: &Batch) -> Result<(), StorageError> {
        self.write(batch).inspect_err(|error| drop(self.stopped.set(error.clone())))
    }

    /// Why a write that has been held back for `waited` is not to be tried again.
    fn given_up(&self, waited: Duration) -> Option<StorageError> {
        if waited < FULL_PATIENCE {
            return None;
        }
        let EngineStats { free_bytes, memtable_bytes, .. } = self.stats();
        if free_bytes < memtable_bytes {
            let detail = format!("{memtable_bytes} bytes wait to be flushed, {free_bytes} are free");
            return Some(StorageError::Full { action: "commit", detail });
        }
        (waited >= STALL_PATIENCE).then(|| {
            let detail = format!("flushes and compactions have made no room for {} s", STALL_PATIENCE.as_secs());
            StorageError::Io { action: "commit", detail }
        })
    }

    fn write_batch(&self, batch: &Batch) -> WriteBatch {
        /// More than RocksDB adds: a header to a batch, and tag, family and lengths to a write.
        const HEADER_BYTES: usize = 12;
        const WRITE_BYTES: usize = 16;
        let capacity = HEADER_BYTES + batch.bytes() + batch.len() * WRITE_BYTES;
        let mut writes = WriteBatch::with_capacity_bytes(capacity);
        let families = Family::ALL.map(|family| self.family(family));
        for (family, op) in batch.ops() {
            let family = families[family.index()];
            match op {
                Op::Put { key, value } => writes.put_cf(family, key, value),
                Op::Delete { key } => writes.delete_cf(family, key),
                Op::DeleteRange { start, end } => writes.delete_range_cf(family, start, end),
            }
        }
        writes
    }
}

fn unreadable(action: &str) -> StorageError {
    StorageError::Corrupt { detail: format!("{action}: it was in a table that could not be read") }
}

/// Unsynced, and refused at once where RocksDB would wait.
fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_no_slowdown(true);
    options
}

/// Translates RocksDB's status, which its bindings keep as text only.
fn classify(action: &'static str, error: &rocksdb::Error) -> StorageError {
    const NO_SPACE: [&str; 2] = ["IO error: No space left on device", "IO error: Space limit reached"];
    let detail = error.as_ref().to_owned();
    if NO_SPACE.iter().any(|prefix| detail.starts_with(prefix)) {
        StorageError::Full { action, detail }
    } else if error.kind() == ErrorKind::Corruption {
        StorageError::Corrupt { detail: format!("{action}: {detail}") }
    } else {
        StorageError::Io { action, detail }
    }
}

#[cfg(test)]
mod tests;
