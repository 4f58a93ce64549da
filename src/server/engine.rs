//! [`AnyEngine`]: whichever engine the node was started with, and who waits for its disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::storage::{
    Batch, Engine, EngineStats, Family, Lookup, MendWith, Mending, ReadTier, ScanLimit, StorageError, Visit,
};
use crate::types::BatchNumber;

/// A commit, or a sync, that has taken longer waits for the disk.
const SLOW: Duration = Duration::from_millis(5);
/// Commits that are handed over after a slow one: a disk that is slow now is so for a while.
const AFTER_SLOW: u32 = 32;

/// An engine whose kind is known at run time only, so that one server serves RocksDB and, in tests, memory.
///
/// Shards run on the threads that carry frames. What may wait for the disk hands the thread's other work to another thread
/// first ([`block_in_place`]): reads of the disk always do, and so do the few syncs that are waited for ([`Disk`](super::disk::Disk)). A commit is a copy into
/// memory, of the log's pages too, and handing over costs more than that; so it does while the disk is known to be slow (a
/// commit was, lately, or a sync is), or while another shard commits, lest all threads wait in one. What remains: a disk that
/// begins to hang in the midst of a commit holds up that thread, and what only it can do, until the disk goes on.
pub struct AnyEngine {
    engine: Arc<dyn Engine>,
    opened: Instant,
    /// Commits under way.
    committing: AtomicU32,
    /// Commits that are to be handed over yet.
    handed_over: AtomicU32,
    /// When the sync that is under way has begun, microseconds since `opened`; [`NO_SYNC`] if none is. There is one at a
    /// time: `Disk` has a lock.
    sync_began: AtomicU64,
}

const NO_SYNC: u64 = u64::MAX;

impl AnyEngine {
    /// Of a disk that has been quick so far.
    pub fn new(engine: Arc<dyn Engine>) -> AnyEngine {
        AnyEngine {
            engine,
            opened: Instant::now(),
            committing: AtomicU32::new(0),
            handed_over: AtomicU32::new(0),
            sync_began: AtomicU64::new(NO_SYNC),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.opened).as_micros()).unwrap_or(NO_SYNC)
    }

    /// Whether a commit that begins now is likely to wait.
    fn is_slow(&self, now: Instant) -> bool {
        let sync_takes = self.micros(now).saturating_sub(self.sync_began.load(Ordering::Relaxed));
        self.handed_over.load(Ordering::Relaxed) > 0 || u128::from(sync_takes) >= SLOW.as_micros()
    }

    /// Learns from a commit how many of the next are to be handed over.
    fn note(&self, took: Duration) {
        let before = self.handed_over.load(Ordering::Relaxed);
        if took >= SLOW {
            self.handed_over.store(AFTER_SLOW, Ordering::Relaxed);
        } else if before > 0 {
            // If another commit has changed it meanwhile, that one was slow, or has counted it down.
            let _ = self.handed_over.compare_exchange(before, before - 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Its time is that of the engine alone: to hand over takes a while too where all cores are busy.
    fn commit_timed(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        let start = Instant::now();
        let committed = self.engine.commit(batch);
        self.note(start.elapsed());
        committed
    }
}

impl Engine for AnyEngine {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        match tier {
            ReadTier::Cached => self.engine.get(family, key, tier),
            ReadTier::Disk => block_in_place(|| self.engine.get(family, key, tier)),
        }
    }

    fn damage(&self) -> u64 {
        self.engine.damage()
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        let is_alone = self.committing.fetch_add(1, Ordering::Relaxed) == 0;
        let committed = if is_alone && !self.is_slow(Instant::now()) {
            self.commit_timed(batch)
        } else {
            block_in_place(|| self.commit_timed(batch))
        };
        self.committing.fetch_sub(1, Ordering::Relaxed);
        committed
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.sync_began.store(self.micros(Instant::now()), Ordering::Relaxed);
        let synced = self.engine.sync();
        self.sync_began.store(NO_SYNC, Ordering::Relaxed);
        synced
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        limit: ScanLimit,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        block_in_place(|| self.engine.scan(family, start, end, limit, visit))
    }

    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        block_in_place(|| self.engine.salvage(start, end, visit))
    }

    fn mend(&self, with: &mut MendWith<'_>) -> Result<Mending, StorageError> {
        self.engine.mend(with)
    }

    fn latest(&self) -> BatchNumber {
        self.engine.latest()
    }

    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
}

#[cfg(test)]
mod tests;
