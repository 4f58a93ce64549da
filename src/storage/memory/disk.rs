//! The state behind the memory engine, and what each operation and each crash does to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::rot::Rot;
use super::{Failures, MemoryConfig};
use crate::storage::batch::{Batch, Op};
use crate::storage::engine::{Family, ScanLimit};
use crate::storage::error::StorageError;
use crate::types::BatchNumber;

/// A disk's size, and its room until a test says otherwise.
pub(super) const CAPACITY_BYTES: u64 = 1 << 40;

/// What lies on the disk, in its log and in memory.
pub(super) struct Disk {
    pub(super) config: MemoryConfig,
    rng: Xoshiro256PlusPlus,
    pub(super) families: [BTreeMap<Bytes, Bytes>; Family::ALL.len()],
    /// Writes in the log, as RocksDB counts them: one for each operation of a batch.
    pub(super) number: u64,
    /// How to take each unsynced batch back, oldest first.
    pub(super) unsynced: VecDeque<Undo>,
    /// The batch whose commit failed though it is in the log.
    failed: Option<Batch>,
    /// The first failed commit or sync.
    pub(super) stopped: Option<StorageError>,
    pub(super) armed: Armed,
    /// What cannot be read.
    pub(super) rot: Rot,
    resident: [Resident; Family::ALL.len()],
    pub(super) free_bytes: u64,
    pub(super) failures: Failures,
}

#[derive(Default)]
pub(super) struct Armed {
    pub(super) read: bool,
    pub(super) commit: Option<bool>,
    pub(super) sync: bool,
}

pub(super) struct Undo {
    number_before: u64,
    /// Each key with what it held before, in the order of the writes.
    before: Vec<(Family, Bytes, Option<Bytes>)>,
    /// What could not be read before, if there was any such thing.
    rot: Option<Rot>,
}

/// Entries found, and the key where the next scan may start.
pub(super) type Found = (Vec<(Bytes, Bytes)>, Option<Bytes>);

impl Disk {
    pub(super) fn new(config: MemoryConfig) -> Disk {
        Disk {
            config,
            rng: Xoshiro256PlusPlus::seed_from_u64(config.seed),
            families: Default::default(),
            number: 0,
            unsynced: VecDeque::new(),
            failed: None,
            stopped: None,
            armed: Armed::default(),
            rot: Rot::default(),
            resident: Default::default(),
            free_bytes: CAPACITY_BYTES,
            failures: Failures::default(),
        }
    }

    pub(super) fn commit(&mut self, batch: &mut Batch) -> Result<BatchNumber, StorageError> {
        if let Some(cause) = &self.stopped {
            return Err(cause.stopped());
        }
        if batch.is_empty() {
            return Ok(BatchNumber(self.number));
        }
        let detail = || "injected by the test".to_owned();
        let error = if let Some(in_log) = self.armed.commit.take() {
            self.failed = in_log.then(|| std::mem::take(batch));
            self.failures.commits += 1;
            StorageError::Io { action: "commit", detail: detail() }
        } else if batch.bytes() as u64 > self.free_bytes {
            self.failures.full += 1;
            StorageError::Full { action: "commit", detail: detail() }
        } else {
            self.apply(batch);
            return Ok(BatchNumber(self.number));
        };
        self.stopped = Some(error.clone());
        Err(error)
    }

    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if let Some(cause) = &self.stopped {
            return Err(cause.stopped());
        }
        if std::mem::take(&mut self.armed.sync) {
            let error = StorageError::Io { action: "sync", detail: "injected by the test".to_owned() };
            self.stopped = Some(error.clone());
            self.failures.syncs += 1;
            return Err(error);
        }
        self.unsynced.clear();
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) {
        let mut before = Vec::with_capacity(batch.len());
        let rot = (!self.rot.is_none()).then(|| self.rot.clone());
        for (family, op) in batch.ops() {
            self.rot.apply(family, op);
            let map = &mut self.families[family.index()];
            match op {
                Op::Put { key, value } => {
                    let shared = Bytes::copy_from_slice(key);
                    let old = map.insert(shared.clone(), Bytes::copy_from_slice(value));
                    before.push((family, shared, old));
                    self.keep(family, key);
                }
                Op::Delete { key } => {
                    if let Some((shared, old)) = map.remove_entry(key) {
                        before.push((family, shared, Some(old)));
                    }
                    self.keep(family, key);
                }
                Op::DeleteRange { start, end } => {
                    let range = (Bound::Included(start), Bound::Excluded(end));
                    let keys: Vec<Bytes> = map.range::<[u8], _>(range).map(|(key, _)| key.clone()).collect();
                    before.extend(keys.into_iter().map(|key| {
                        let old = map.remove(&key);
                        (family, key, old)
                    }));
                }
            }
        }
        self.unsynced.push_back(Undo { number_before: self.number, before, rot });
        self.number += batch.len() as u64;
        if self.unsynced.len() > self.config.unsynced_batches {
            self.unsynced.pop_front();
        }
    }

    /// What a key held before the oldest unsynced batch that touches it; what it holds, if none does.
    pub(super) fn synced(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        let mut touched = self.unsynced.iter().flat_map(|undo| &undo.before);
        match touched.find(|(of, touched, _)| (*of, &touched[..]) == (family, key)) {
            Some((_, _, before)) => before.clone(),
            None => self.families[family.index()].get(key).cloned(),
        }
    }

    pub(super) fn undo_newest(&mut self) {
        let undo = self.unsynced.pop_back().expect("a batch is undone only while one is unsynced");
        for (family, key, old) in undo.before.into_iter().rev() {
            let map = &mut self.families[family.index()];
            match old {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        if let Some(rot) = undo.rot {
            self.rot = rot;
        }
        self.number = undo.number_before;
    }

    /// Whether there was a failed commit in the log.
    pub(super) fn replay_failed(&mut self) -> bool {
        let failed = self.failed.take();
        if let Some(batch) = &failed {
            self.apply(batch);
        }
        failed.is_some()
    }

    pub(super) fn restart(&mut self) {
        self.stopped = None;
        self.armed = Armed::default();
        self.resident = Default::default();
    }

    pub(super) fn range(&self, family: Family, start: &[u8], end: Option<&[u8]>, limit: ScanLimit) -> Found {
        let range = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (key, value) in self.families[family.index()].range::<[u8], _>(range) {
            if !entries.is_empty() && limit.reached(entries.len(), bytes) {
                return (entries, Some(key.clone()));
            }
            bytes += key.len() + value.len();
            entries.push((key.clone(), value.clone()));
        }
        (entries, None)
    }

    pub(super) fn read_disk(&mut self, action: &'static str) -> Result<(), StorageError> {
        if std::mem::take(&mut self.armed.read) {
            self.failures.reads += 1;
            return Err(StorageError::Io { action, detail: "injected by the test".to_owned() });
        }
        Ok(())
    }

    pub(super) fn misses(&mut self, family: Family, key: &[u8]) -> bool {
        let chance = self.config.miss_probability;
        self.armed.read
            || (chance > 0.0 && !self.resident[family.index()].keys.contains(key) && self.rng.random_bool(chance))
    }

    pub(super) fn keep(&mut self, family: Family, key: &[u8]) {
        if self.config.miss_probability > 0.0 {
            self.resident[family.index()].insert(key, self.config.resident_keys);
        }
    }
}

/// The keys of a family that are in memory.
#[derive(Default)]
struct Resident {
    keys: BTreeSet<Bytes>,
    by_age: VecDeque<Bytes>,
}

impl Resident {
    fn insert(&mut self, key: &[u8], capacity: usize) {
        if self.keys.contains(key) {
            return;
        }
        let key = Bytes::copy_from_slice(key);
        self.keys.insert(key.clone());
        self.by_age.push_back(key);
        if self.by_age.len() > capacity {
            self.keys.remove(&self.by_age.pop_front().expect("longer than a capacity"));
        }
    }
}
