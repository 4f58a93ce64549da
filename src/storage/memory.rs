//! A modelled disk: the simulation's engine.
//!
//! What is committed is visible and survives a [`kill`](MemoryEngine::kill); what is synced survives a
//! [`power_loss`](MemoryEngine::power_loss), which leaves of the rest a random prefix of whole batches, as a log with a torn
//! tail does. Everything derives from the calls and from seeds that are arguments.
//!
//! The model is never kinder than RocksDB and in one point harsher: RocksDB syncs what it replays when it opens, here
//! what was unsynced before a kill is unsynced after it, and a later power loss may still take it.

mod disk;
mod rot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use rand::{Rng, RngExt};

use self::disk::{CAPACITY_BYTES, Disk};
use crate::storage::batch::Batch;
use crate::storage::engine::{Engine, EngineStats, Family, Lookup, ReadTier, ScanLimit, Visit};
use crate::storage::error::StorageError;
use crate::types::BatchNumber;

/// How a modelled disk behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryConfig {
    /// Draws the misses.
    pub seed: u64,
    /// How likely a [`ReadTier::Cached`] read of a key that is not in memory misses, 0 to 1 (a filter or a cached block may
    /// answer all the same). At 0 nothing ever misses.
    pub miss_probability: f64,
    /// Keys of each family that stay in memory once written or read from the disk; the oldest is evicted. At 0 a key may miss
    /// even straight after it was written.
    pub resident_keys: usize,
    /// Batches that wait for a sync; beyond, the kernel writes the oldest back by itself. Bounds what a power loss takes.
    pub unsynced_batches: usize,
}

impl Default for MemoryConfig {
    fn default() -> MemoryConfig {
        MemoryConfig { seed: 0, miss_probability: 0.0, resident_keys: 64, unsynced_batches: 4096 }
    }
}

/// A failure that waits for the next operation of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next read that goes to the disk fails. Until then cached reads miss, so that there is one.
    Read,
    /// The next commit fails; no read shows it, and the engine stops. `in_log`: it surfaces at the next kill all the same.
    Commit {
        /// Whether the batch is in the log.
        in_log: bool,
    },
    /// The next sync fails, and the engine stops.
    Sync,
}

/// What a crash did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// Batches that were committed and are gone.
    pub lost: usize,
    /// Batches that were not synced and are there all the same: the tail of the log up to where it is torn.
    pub kept: usize,
    /// A commit that had failed has surfaced.
    pub surfaced: bool,
}

/// Injected failures that have taken place since the disk was new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Reads of the disk.
    pub reads: u64,
    /// Commits that [`Fault::Commit`] failed.
    pub commits: u64,
    /// Commits that found no room.
    pub full: u64,
    /// Syncs.
    pub syncs: u64,
}

/// The engine of the simulation and of tests.
pub struct MemoryEngine {
    /// One lock for all: the simulation has one thread, and tests with more want order rather than speed.
    disk: Mutex<Disk>,
    /// Reads that have met what cannot be read.
    damage: AtomicU64,
}

impl MemoryEngine {
    /// An empty disk.
    ///
    /// # Panics
    /// If the probability is not within 0 to 1.
    pub fn new(config: MemoryConfig) -> MemoryEngine {
        assert!((0.0..=1.0).contains(&config.miss_probability), "a probability lies within 0 to 1");
        MemoryEngine { disk: Mutex::new(Disk::new(config)), damage: AtomicU64::new(0) }
    }

    /// The process dies and starts again: all that was committed is still there, memory is cold, and a failed commit that is
    /// in the log surfaces.
    pub fn kill(&self) -> Crash {
        let mut disk = self.disk();
        let surfaced = disk.replay_failed();
        disk.restart();
        Crash { lost: 0, kept: 0, surfaced }
    }

    /// The power fails and comes back: what was synced is there, and of the rest a random prefix.
    pub fn power_loss(&self, rng: &mut impl Rng) -> Crash {
        let mut disk = self.disk();
        let replayed = disk.replay_failed();
        let kept = rng.random_range(0..=disk.unsynced.len());
        let lost = disk.unsynced.len() - kept;
        for _ in 0..lost {
            disk.undo_newest();
        }
        disk.unsynced.clear();
        disk.restart();
        let surfaced = replayed && lost == 0;
        Crash { lost: lost - usize::from(replayed && !surfaced), kept, surfaced }
    }

    /// Arms `fault`; a second one of its kind replaces the first.
    pub fn arm(&self, fault: Fault) {
        let armed = &mut self.disk().armed;
        match fault {
            Fault::Read => armed.read = true,
            Fault::Commit { in_log } => armed.commit = Some(in_log),
            Fault::Sync => armed.sync = true,
        }
    }

    /// Takes back what is armed and has not taken place.
    pub fn disarm(&self) {
        self.disk().armed = disk::Armed::default();
    }

    /// Sets the room that is left: a commit of more bytes than that fails with [`StorageError::Full`] and the engine stops.
    /// The model does not count what is stored; 0 is a full disk.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.disk().free_bytes = bytes;
    }

    /// Rots the disk: flips one bit of a random value of `family`, and returns its key. `None` if there is no bit to flip.
    pub fn flip_bit(&self, family: Family, rng: &mut impl Rng) -> Option<Bytes> {
        let mut disk = self.disk();
        let map = &mut disk.families[family.index()];
        let filled = map.values().filter(|value| !value.is_empty()).count();
        if filled == 0 {
            return None;
        }
        let nth = rng.random_range(0..filled);
        let (key, value) = map.iter_mut().filter(|(_, value)| !value.is_empty()).nth(nth)?;
        let mut rotten = value.to_vec();
        let bit = rng.random_range(0..rotten.len() * 8);
        rotten[bit / 8] ^= 1 << (bit % 8);
        *value = rotten.into();
        Some(key.clone())
    }

    /// Rots the disk: a part of it that holds up to `most` neighbours of `family` cannot be read any more; their keys. Nor is any of their
    /// values what was written, seen from outside.
    pub fn rot_range(&self, family: Family, most: usize, rng: &mut impl Rng) -> Vec<Bytes> {
        let disk = self.disk();
        let map = &disk.families[family.index()];
        if map.is_empty() || most == 0 {
            return Vec::new();
        }
        let first = rng.random_range(0..map.len());
        let count = rng.random_range(1..=most);
        let keys: Vec<Bytes> = map.keys().skip(first).take(count).cloned().collect();
        drop(disk);
        self.rot_at(family, &keys);
        keys
    }

    /// The same of these neighbours.
    pub fn rot_at(&self, family: Family, keys: &[Bytes]) {
        let (Some(start), Some(last)) = (keys.first(), keys.last()) else { return };
        let mut disk = self.disk();
        let end = [&last[..], &[0]].concat().into();
        disk.rot.add(family, start.clone(), end);
        for key in keys {
            disk.families[family.index()].insert(key.clone(), Bytes::from_static(b"rot"));
        }
    }

    /// What [`Fault`]s and a full disk have done.
    pub fn failures(&self) -> Failures {
        self.disk().failures
    }

    /// What `key` holds, seen from outside: no read is counted, none fails, and nothing comes into memory.
    pub fn peek(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.disk().families[family.index()].get(key).cloned()
    }

    /// What `key` would hold if the power failed now and everything unsynced were lost; as [`peek`](MemoryEngine::peek).
    pub fn peek_synced(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.disk().synced(family, key)
    }

    /// All that a family holds, seen from outside.
    pub fn survey(&self, family: Family) -> Vec<(Bytes, Bytes)> {
        let disk = self.disk();
        disk.families[family.index()].iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// A copy of the disk as it stands, synced: a backup, to be restored later. Its misses are drawn from `seed`.
    pub fn backup(&self, seed: u64) -> MemoryEngine {
        let disk = self.disk();
        let mut copy = Disk::new(MemoryConfig { seed, ..disk.config });
        copy.families = disk.families.clone();
        copy.rot = disk.rot.clone();
        copy.number = disk.number;
        MemoryEngine { disk: Mutex::new(copy), damage: AtomicU64::new(0) }
    }

    fn unreadable(&self, action: &str) -> StorageError {
        self.damage.fetch_add(1, Ordering::Relaxed);
        StorageError::Corrupt { detail: format!("{action}: a part of the disk that a test has made unreadable") }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nothing panics while it holds the disk: visitors run outside the lock")
    }
}

impl Engine for MemoryEngine {
    fn get(&self, family: Family, key: &[u8], tier: ReadTier) -> Result<Lookup, StorageError> {
        let mut disk = self.disk();
        match tier {
            ReadTier::Cached if disk.misses(family, key) => return Ok(Lookup::Miss),
            ReadTier::Cached => {}
            ReadTier::Disk => {
                disk.read_disk("get")?;
                disk.keep(family, key);
            }
        }
        if disk.rot.hides(family, key) {
            return Err(self.unreadable("get"));
        }
        let value = disk.families[family.index()].get(key);
        Ok(value.map_or(Lookup::Absent, |value| Lookup::Found(value.clone())))
    }

    fn damage(&self) -> u64 {
        self.damage.load(Ordering::Relaxed)
    }

    fn commit(&self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        let result = self.disk().commit(batch);
        batch.clear();
        result
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.disk().sync()
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
        // The entries are taken out first (by reference count), so that `visit` sees one state and may use the engine.
        let (entries, next, stops) = {
            let mut disk = self.disk();
            disk.read_disk("scan")?;
            let stops = disk.rot.stops(family, start, end);
            let end = stops.as_deref().or(end).filter(|end| *end > start);
            let (entries, next) = match (&stops, end) {
                (Some(_), None) => (Vec::new(), None),
                _ => disk.range(family, start, end, limit),
            };
            (entries, next, stops.is_some())
        };
        let mut entries = entries.into_iter();
        while let Some((key, value)) = entries.next() {
            if visit(&key, &value).is_break() {
                return Ok(entries.next().map(|(key, _)| key).or(next).map(|key| key.to_vec()));
            }
        }
        match next {
            None if stops => Err(self.unreadable("scan")),
            next => Ok(next.map(|key| key.to_vec())),
        }
    }

    fn salvage(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let (entries, _) = {
            let mut disk = self.disk();
            disk.read_disk("scan")?;
            disk.range(Family::Objects, start, Some(end), ScanLimit::NONE)
        };
        let stands = |key: &Bytes| !self.disk().rot.hides(Family::Objects, key);
        for (key, value) in entries.iter().filter(|(key, _)| stands(key)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn latest(&self) -> BatchNumber {
        BatchNumber(self.disk().number)
    }

    fn stats(&self) -> EngineStats {
        let disk = self.disk();
        let entries = || disk.families.iter().flatten();
        EngineStats {
            disk_bytes: entries().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
            estimated_keys: entries().count() as u64,
            stopped: u64::from(disk.stopped.is_some()),
            free_bytes: disk.free_bytes,
            capacity_bytes: CAPACITY_BYTES,
            ..EngineStats::default()
        }
    }
}

#[cfg(test)]
mod tests;
