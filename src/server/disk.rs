//! The node's disk as all its threads share it: one sync at a time, one verdict on whether it takes writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use super::clock::Clock;
use super::engine::AnyEngine;
use super::mark::Mark;
use crate::storage::config::SizeOrPercent;
use crate::storage::{Batch, Engine, EngineStats, Family, MetaKey, StorageError};
use crate::types::BatchNumber;

/// What syncs have cost, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounters {
    /// Syncs that went to the disk.
    pub syncs: u64,
    /// Syncs that another one had covered already.
    pub covered: u64,
    /// Microseconds that those to the disk took, in all.
    pub micros: u64,
    /// Microseconds of the longest.
    pub longest: u64,
}

/// See the module.
pub struct Disk {
    engine: Arc<AnyEngine>,
    mark: Mark,
    clock: Clock,
    /// Whether somebody syncs. It stays so through the abort after a failure: the kernel reports a failed write-back once, so no other
    /// thread may find its own sync to succeed meanwhile.
    syncing: Mutex<bool>,
    /// A sync has ended: whoever waits may find that it has covered what is asked for.
    ended: Condvar,
    // Beside the lock, not under it: whoever reads them must not wait for the disk.
    syncs: AtomicU64,
    covered: AtomicU64,
    micros: AtomicU64,
    longest: AtomicU64,
    synced: AtomicU64,
    batches: AtomicU64,
    min_free: SizeOrPercent,
    /// Why no more writes are taken until a restart.
    failed: ArcSwapOption<String>,
    stats: ArcSwap<EngineStats>,
}

impl Disk {
    /// A disk that is well.
    pub fn new(engine: Arc<AnyEngine>, mark: Mark, min_free: SizeOrPercent, clock: Clock) -> Disk {
        let (synced, stats) = (engine.latest(), engine.stats());
        Disk {
            engine,
            mark,
            clock,
            syncing: Mutex::default(),
            ended: Condvar::new(),
            syncs: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            synced: AtomicU64::new(synced.0),
            batches: AtomicU64::new(0),
            min_free,
            failed: ArcSwapOption::empty(),
            stats: ArcSwap::from_pointee(stats),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<AnyEngine> {
        &self.engine
    }

    /// Raises the mark: before anything that rests on the batch leaves the node.
    pub fn written(&self, number: BatchNumber) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.mark.raise(number);
    }

    /// Returns once everything up to `number` is on the disk: at once if another thread's sync has covered it. A sync
    /// that fails ends the process. A runtime's thread has its other work handed to another meanwhile.
    ///
    /// # Errors
    /// [`StorageError::Stopped`]: a write has failed before, and nothing is synced any more.
    pub fn sync_to(&self, number: BatchNumber) -> Result<(), StorageError> {
        block_in_place(|| self.sync_in_turn(number))
    }

    fn sync_in_turn(&self, number: BatchNumber) -> Result<(), StorageError> {
        const POISON: &str = "a panic ends the process before the lock is met again";
        let mut syncing = self.syncing.lock().expect(POISON);
        // The second sync that ends has covered it, whoever does that: nobody is overtaken for ever.
        while *syncing && self.synced() < number {
            syncing = self.ended.wait(syncing).expect(POISON);
        }
        if self.synced() >= number {
            self.note_covered();
            return Ok(());
        }
        *syncing = true;
        drop(syncing);
        let synced = self.sync_alone();
        *self.syncing.lock().expect(POISON) = false;
        self.ended.notify_all();
        synced
    }

    fn sync_alone(&self) -> Result<(), StorageError> {
        let covers = self.engine.latest();
        let start = self.clock.time();
        match self.engine.sync() {
            Ok(()) => {}
            Err(stopped @ StorageError::Stopped { .. }) => return Err(stopped),
            Err(err) => {
                error!(%err, "a sync has failed: what is on the disk is unknown, ending");
                std::process::abort();
            }
        }
        let micros = self.clock.time().since(start).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
        self.synced.fetch_max(covers.0, Ordering::AcqRel);
        Ok(())
    }

    /// Counts a sync that was asked for and had been covered by another.
    pub fn note_covered(&self) {
        self.covered.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts everything written so far on the disk.
    ///
    /// # Errors
    /// As [`sync_to`](Self::sync_to).
    pub fn sync_all(&self) -> Result<(), StorageError> {
        self.sync_to(self.engine.latest())
    }

    /// Everything up to here is on the disk.
    pub fn synced(&self) -> BatchNumber {
        BatchNumber(self.synced.load(Ordering::Acquire))
    }

    /// Writes records about the node and syncs them.
    ///
    /// # Errors
    /// [`StorageError`]: they may or may not surface after a restart, and the node must end.
    pub fn persist(&self, records: Vec<(MetaKey, Vec<u8>)>) -> Result<(), StorageError> {
        let mut batch = Batch::default();
        for (key, value) in records {
            batch.put(Family::Meta, &key.bytes(), &value);
        }
        self.persist_batch(&mut batch)
    }

    /// As [`persist`](Self::persist), for a batch.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub fn persist_batch(&self, batch: &mut Batch) -> Result<(), StorageError> {
        let number = self.engine.commit(batch)?;
        self.written(number);
        self.sync_to(number)
    }

    /// A write has failed: nothing more is written until a restart.
    pub fn fail(&self, err: &StorageError) {
        if self.failed.load().is_none() {
            error!(%err, "a write to the disk has failed: reads only, until a restart");
            self.failed.store(Some(Arc::new(err.to_string())));
        }
    }

    /// Why the disk takes no writes until a restart, if it does not.
    pub fn failed(&self) -> Option<Arc<String>> {
        self.failed.load_full()
    }

    /// Asks the engine for its numbers. Not for a task's thread: it may look at the disk.
    pub fn refresh(&self) {
        self.stats.store(Arc::new(self.engine.stats()));
    }

    /// The engine's numbers when [`refresh`](Self::refresh) was last called.
    pub fn stats(&self) -> Arc<EngineStats> {
        self.stats.load_full()
    }

    /// Batches written.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// What the syncs have cost. Waits for none that is under way.
    pub fn sync_counters(&self) -> SyncCounters {
        let [syncs, covered, micros, longest] =
            [&self.syncs, &self.covered, &self.micros, &self.longest].map(|counter| counter.load(Ordering::Relaxed));
        SyncCounters { syncs, covered, micros, longest }
    }

    /// Why no writes are to be taken now: a failed write, or too little free space. Once refused for lack of space,
    /// writes are taken again only when there is a tenth more than that, lest the verdict flutter.
    pub fn verdict(&self, refused: bool) -> Option<String> {
        if let Some(failed) = self.failed() {
            return Some(failed.to_string());
        }
        let stats = self.stats();
        if stats.stopped > 0 {
            return Some("a write to the disk has failed; free or repair it, then restart the node".to_owned());
        }
        let least = self.min_free.bytes_of(stats.capacity_bytes);
        let wanted = if refused { least.saturating_add(least / 10) } else { least };
        (stats.free_bytes < wanted).then(|| {
            let (free, least) = (bytesize::ByteSize(stats.free_bytes), bytesize::ByteSize(least));
            format!("the disk has {free} left, storage.min_free asks for {least}")
        })
    }
}

/// Follows the verdict on the disk and tells of its changes.
#[derive(Debug, Default)]
pub struct Watch {
    told: Option<String>,
}

impl Watch {
    /// Looks at the disk; `Some` if what was told before no longer holds. A change of the bytes alone is none.
    pub fn look(&mut self, disk: &Disk) -> Option<Option<String>> {
        disk.refresh();
        let verdict = disk.verdict(self.told.is_some());
        if verdict.is_some() == self.told.is_some() {
            return None;
        }
        match &verdict {
            Some(reason) => warn!(reason, "the node takes no writes"),
            None => info!("the node takes writes again"),
        }
        self.told.clone_from(&verdict);
        Some(verdict)
    }
}
