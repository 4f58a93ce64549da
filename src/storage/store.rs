//! A shard's view of the engine: runs operations, each seeing all before it, and gathers what they write into one batch.
//!
//! Records are read from memory only. An operation whose record is not there *parks* its key: the operation and all
//! later ones on that key wait, the caller has the record read elsewhere, and they go on in order when it comes. Since
//! nothing touches a parked key meanwhile, the bytes that come back are current, however long they took: a slow read
//! cannot overwrite a newer write.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::cache::{Kept, RecordCache};
use super::hint::reindex;
use super::keys::partition_of;
use super::merkle::{TreeShape, Trees};
use super::op::{Change, Holds, Op, Outcome, apply};
use super::tombstone::reindex_tombstone;
use super::{Batch, Engine, Family, HintChange, Lookup, ReadTier, Record, Rounds, StorageError};
use crate::types::{BatchNumber, PartitionId, Round};

mod cache;
mod rot;
mod stretches;
#[cfg(all(test, feature = "mutants"))]
mod tests;

pub use self::rot::{Healing, Scrubbed, Wiped};

/// An operation on one key; `purpose` comes back with its outcome.
#[derive(Clone, Debug)]
pub struct Task<P> {
    /// For the caller.
    pub purpose: P,
    /// The object's key, encoded.
    pub key: Bytes,
    /// What to do.
    pub op: Op,
}

/// Why an operation was not done. Nothing was written by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpFailure {
    /// Too many operations wait for the disk already.
    #[error("too many operations wait for the disk")]
    Overloaded,
    /// A commit has failed: nothing more is written until a restart.
    #[error("a write to the disk has failed; nothing more is written until a restart")]
    Stopped,
    /// The record could not be read, or is corrupt: what it holds is unknown, never "nothing".
    #[error("{detail}")]
    Unreadable {
        /// What the engine said.
        detail: String,
        /// The disk gave an answer, which is not what was written; else it gave none, and may give it another time.
        rotten: bool,
    },
    /// The record is as it was written, by a newer version: what it holds is unknown to this one, and stays.
    #[error("{detail}")]
    Newer {
        /// What was found.
        detail: String,
    },
}

impl From<StorageError> for OpFailure {
    fn from(error: StorageError) -> OpFailure {
        let (rotten, detail) = (matches!(error, StorageError::Corrupt { .. }), error.to_string());
        match error {
            StorageError::NewerRecord { .. } => OpFailure::Newer { detail },
            _ => OpFailure::Unreadable { detail, rotten },
        }
    }
}

/// How much may wait for the disk, and be kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Operations over all parked keys.
    pub parked: usize,
    /// Bytes of records that were lately read or written; 0 keeps none.
    pub cached: usize,
}

/// Where the store has found records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes of records that are kept in memory.
    pub cached_bytes: u64,
    /// Operations that found their record there.
    pub hits: u64,
    /// Of these, those that were to replace all its values, and found it without them.
    pub hollow: u64,
    /// Operations for whose record the engine was asked.
    pub misses: u64,
}

/// A finished operation.
pub type Done<P> = (P, Result<Outcome, OpFailure>);

/// See the module.
pub struct Store<E: ?Sized, P> {
    engine: Arc<E>,
    limits: StoreLimits,
    /// Records as this drain has left them, or has read them; `None`: known to be absent.
    overlay: BTreeMap<Bytes, Option<Record>>,
    /// The bytes of records as the last commit has left them.
    cache: RecordCache,
    /// The engine's damage when what is cached was found sound.
    damage: u64,
    hits: u64,
    hollow: u64,
    misses: u64,
    /// What this drain has wiped, `[start, end)` each: whatever the engine still says of these keys, nothing stands there.
    voided: BTreeMap<Bytes, Bytes>,
    batch: Batch,
    hint_changes: Vec<HintChange>,
    wiped: Vec<Wiped>,
    healing: Healing,
    trees: Trees,
    rounds: Rounds,
    parked: BTreeMap<Bytes, VecDeque<Task<P>>>,
    waiting: usize,
    stopped: bool,
}

impl<E: Engine + ?Sized, P> Store<E, P> {
    /// Nothing parked, nothing to write; `trees` are those of the engine's records, and `rounds` are the engine's.
    pub fn new(engine: Arc<E>, limits: StoreLimits, trees: Trees, rounds: Rounds) -> Store<E, P> {
        Store {
            limits,
            overlay: BTreeMap::new(),
            cache: RecordCache::new(limits.cached),
            damage: engine.damage(),
            engine,
            hits: 0,
            hollow: 0,
            misses: 0,
            voided: BTreeMap::new(),
            batch: Batch::default(),
            hint_changes: Vec::new(),
            wiped: Vec::new(),
            healing: Healing::default(),
            trees,
            rounds,
            parked: BTreeMap::new(),
            waiting: 0,
            stopped: false,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// The Merkle trees over its records, those of this drain included.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// The same, to be changed.
    #[cfg(test)]
    pub(crate) fn trees_mut(&mut self) -> &mut Trees {
        &mut self.trees
    }

    /// The ring is known, or another one: how keys fall into trees.
    pub fn set_shape(&mut self, shape: Arc<TreeShape>) {
        self.trees.set_shape(shape);
    }

    /// What may be wiped by this ring; nothing before it is known.
    pub fn set_healing(&mut self, healing: Healing) {
        self.healing = healing;
    }

    /// The reaping rounds that it has met, those of this drain included.
    pub fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Whether what was committed holds a round that nothing may be told of before a sync.
    pub fn owes_sync(&self) -> bool {
        self.rounds.are_owed()
    }

    /// All that was committed is on the disk.
    pub fn on_synced(&mut self) {
        self.rounds.on_synced();
    }

    /// A sync has failed.
    pub fn on_sync_failed(&mut self) {
        self.rounds.on_failed();
    }

    /// Where it has found records, since it was made.
    pub fn found(&self) -> Found {
        Found { cached_bytes: self.cache.bytes(), hits: self.hits, hollow: self.hollow, misses: self.misses }
    }

    /// Operations that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What the operations since the last call have made of hints, in order.
    pub fn take_hint_changes(&mut self) -> Vec<HintChange> {
        std::mem::take(&mut self.hint_changes)
    }

    /// These are to be submitted next.
    pub fn warm(&self, tasks: &[Task<P>]) {
        self.cache.warm(tasks.iter().map(|task| &task.key[..]));
    }

    /// Runs an operation. Its outcome goes to `done`, now or when its key's record has come; in the latter case, and if
    /// nobody reads that key yet, the key is returned: have it read and call [`Store::resume`].
    pub fn submit(&mut self, task: Task<P>, done: &mut Vec<Done<P>>) -> Option<Bytes> {
        if task.op.is_write() && self.stopped {
            done.push((task.purpose, Err(OpFailure::Stopped)));
            return None;
        }
        if matches!(task.op, Op::Mint(_)) {
            let (_, outcome) = apply(task.op, None, self.rounds.of(partition_of(&task.key)));
            done.push((task.purpose, Ok(outcome)));
            return None;
        }
        let is_parked = self.parked.contains_key(&task.key);
        if !is_parked && let Some(record) = self.cached_for(&task) {
            done.push(self.run_cached(task, record));
            return None;
        }
        if !is_parked || mutant!(StaleReadApplied) {
            match self.look_up(&task.key) {
                Ok(true) => {
                    done.push(self.run(task));
                    return None;
                }
                Ok(false) => {}
                Err(failure) => {
                    done.push(self.run_unread(task, failure));
                    return None;
                }
            }
        }
        if self.waiting >= self.limits.parked {
            done.push((task.purpose, Err(OpFailure::Overloaded)));
            return None;
        }
        self.waiting += 1;
        let key = task.key.clone();
        self.parked.entry(key.clone()).or_default().push_back(task);
        (!is_parked).then_some(key)
    }

    /// Reads a parked key's record from the disk: for the caller's read pool. May block.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub fn read(engine: &E, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match engine.get(Family::Objects, key, ReadTier::Disk)? {
            Lookup::Found(bytes) => Ok(Some(bytes)),
            Lookup::Absent => Ok(None),
            Lookup::Miss => {
                Err(StorageError::Io { action: "get", detail: "a read of the disk answered from memory".into() })
            }
        }
    }

    /// A parked key's record has been read: all that waited for it runs, in order.
    pub fn resume(&mut self, key: &Bytes, read: Result<Option<Bytes>, OpFailure>, done: &mut Vec<Done<P>>) {
        let Some(tasks) = self.parked.remove(key) else { return };
        self.waiting -= tasks.len();
        let read = if mutant!(ReadErrorIsAbsent) { Ok(read.unwrap_or(None)) } else { read };
        let record = read.and_then(|bytes| self.decode(key, bytes));
        let failure = record.map(|record| self.overlay.insert(key.clone(), record)).err();
        for task in tasks {
            done.push(match &failure {
                _ if task.op.is_write() && self.stopped => (task.purpose, Err(OpFailure::Stopped)),
                Some(failure) if !self.overlay.contains_key(key) => self.run_unread(task, failure.clone()),
                _ => self.run(task),
            });
        }
    }

    /// A member's part in a reaping round: raises the partition's round with the next commit, and runs these [`Op::Inspect`]s, which tell
    /// what stood at that moment. Where records have to be read for that, their keys are returned, as by [`Store::submit`]; nothing
    /// touches them before they have been inspected.
    ///
    /// Whoever may have sent something in this round already is told [`Holds::Other`]: because the round was raised before, or because
    /// operations wait for the key, which were asked for in an earlier round and will be labelled with this one.
    pub fn fence(
        &mut self,
        partition: PartitionId,
        round: Round,
        inspections: Vec<Task<P>>,
        done: &mut Vec<Done<P>>,
    ) -> Vec<Bytes> {
        let raised = !self.stopped && self.rounds.raise(partition, round, &mut self.batch);
        let mut cold = Vec::new();
        for task in inspections {
            if raised && partition_of(&task.key) == partition && !self.parked.contains_key(&task.key) {
                cold.extend(self.submit(task, done));
            } else {
                let round = self.rounds.of(partition);
                done.push((task.purpose, Ok(Outcome::Inspected { holds: Holds::Other, round })));
            }
        }
        cold
    }

    /// Takes over another member's round of a partition, with the next commit.
    pub fn adopt(&mut self, partition: PartitionId, round: Round) {
        if !self.stopped {
            self.rounds.adopt(partition, round, &mut self.batch);
        }
    }

    /// Removes a key from the index of hints that no record stands for, since it is not one: with the next commit, or never.
    pub fn unindex(&mut self, index_key: &[u8]) {
        if !self.stopped {
            self.batch.delete(Family::Hints, index_key);
        }
    }

    /// Writes what the operations since the last commit have changed, in one unsynced batch. `None`: there was nothing.
    ///
    /// # Errors
    /// The batch may or may not surface after a restart. Nothing of it is shown until then, and nothing more is written.
    pub fn commit(&mut self) -> Result<Option<BatchNumber>, StorageError> {
        self.trees.write_into(&mut self.batch);
        self.cache.follow(&self.batch, |key| self.overlay.get(key)?.as_ref());
        self.overlay.clear();
        self.voided.clear();
        if self.batch.is_empty() {
            return Ok(None);
        }
        let result = self.engine.commit(&mut self.batch);
        if result.is_err() {
            self.stopped = true;
            // The engine shows what stood before.
            self.cache.clear();
            self.trees.fail();
            self.rounds.on_failed();
        }
        result.map(Some)
    }

    /// Puts the record into the overlay, if memory tells what it is.
    ///
    /// # Errors
    /// It cannot be read, and stands as it did.
    fn look_up(&mut self, key: &Bytes) -> Result<bool, OpFailure> {
        if self.overlay.contains_key(key) {
            return Ok(true);
        }
        if voids(&self.voided, key) {
            self.overlay.insert(key.clone(), None);
            return Ok(true);
        }
        self.misses += 1;
        let read_through = mutant!(StaleReadApplied) && self.parked.contains_key(key);
        let tier = if read_through { ReadTier::Disk } else { ReadTier::Cached };
        let bytes = match self.engine.get(Family::Objects, key, tier)? {
            Lookup::Found(bytes) => Some(bytes),
            Lookup::Absent => None,
            Lookup::Miss => return Ok(false),
        };
        let record = self.decode(key, bytes)?;
        self.overlay.insert(key.clone(), record);
        Ok(true)
    }

    /// The record for whoever wants to know it, or is to write it anew. All others are told what stands on the disk, and by that: so is a merge that
    /// brings nothing new, as it is acknowledged without being written.
    fn cached_for(&mut self, task: &Task<P>) -> Option<Option<Record>> {
        if self.overlay.contains_key(&task.key) || voids(&self.voided, &task.key) {
            return None;
        }
        match task.op {
            Op::Read | Op::Update(_) | Op::Merge { .. } => self.cached(&task.key, &task.op),
            _ => None,
        }
    }

    /// Runs an operation on a cached record. What it leaves as it was is not taken for what the engine has by others.
    fn run_cached(&mut self, task: Task<P>, record: Option<Record>) -> Done<P> {
        if matches!(task.op, Op::Read) {
            let (_, outcome) = apply(task.op, record.as_ref(), self.rounds.of(partition_of(&task.key)));
            return (task.purpose, Ok(outcome));
        }
        let (key, writes) = (task.key.clone(), self.batch.len());
        self.overlay.insert(key.clone(), record);
        let done = self.run(task);
        if self.batch.len() == writes {
            self.overlay.remove(&key);
        }
        done
    }

    /// The record that the engine has, if the cache knows, without its values where `op` replaces them all; not once the engine has learnt of
    /// damage. What memory has spoilt there, the engine still has.
    fn cached(&mut self, key: &[u8], op: &Op) -> Option<Option<Record>> {
        let damage = self.engine.damage();
        if damage != self.damage {
            self.damage = damage;
            self.cache.clear();
        }
        let record = match self.cache.get(key)? {
            Kept::Absent => None,
            Kept::Whole(bytes) => Some(Record::decode_copied(bytes).ok()?),
            Kept::Hollow(bytes) => {
                let hollow = Record::decode_copied(bytes).ok()?;
                let is_enough = op.replaces_all_of(&hollow.object) || (op.is_write() && mutant!(HollowForWhole));
                if !is_enough {
                    return None;
                }
                self.hollow += 1;
                Some(hollow)
            }
        };
        if let (Op::Merge { object, .. }, Some(old)) = (op, &record)
            && old.object.merges_to_self(object)
        {
            return None;
        }
        self.hits += 1;
        Some(record)
    }

    /// What the engine has of a record; one that has rotted is wiped.
    fn decode(&mut self, key: &Bytes, bytes: Option<Bytes>) -> Result<Option<Record>, OpFailure> {
        match bytes.clone().map(Record::decode).transpose() {
            Ok(record) => {
                self.cache.keep(key, bytes.as_deref());
                Ok(record)
            }
            Err(error) => self.wipe(key, error.into()).map(|()| None),
        }
    }

    fn run(&mut self, task: Task<P>) -> Done<P> {
        let current = self.overlay.get_mut(&task.key).expect("a task runs only when its record is in the overlay");
        let partition = partition_of(&task.key);
        if let Some(round) = task.op.raises_to() {
            self.rounds.raise(partition, round, &mut self.batch);
        }
        if current.is_none()
            && matches!(task.op, Op::Inspect { .. } | Op::Reap { .. })
            && voids(&self.voided, &task.key)
        {
            // What stood here until now, nobody knows: a runner is not told that it was nothing.
            let detail = "what stood here could not be read, and was wiped".to_owned();
            return (task.purpose, Err(OpFailure::Unreadable { detail, rotten: true }));
        }
        let (change, outcome) = apply(task.op, current.as_ref(), self.rounds.of(partition));
        let next = match change {
            Change::Keep => return (task.purpose, Ok(outcome)),
            Change::Put(record) => {
                self.batch.put_with(Family::Objects, &task.key, |out| record.encode_into(out));
                Some(record)
            }
            Change::Delete => {
                self.batch.delete(Family::Objects, &task.key);
                None
            }
        };
        let is_hinted = |record: &Option<Record>| record.as_ref().is_some_and(|record| !record.hints.is_empty());
        if is_hinted(current) || is_hinted(&next) {
            reindex(&mut self.batch, &task.key, current.as_ref(), next.as_ref(), &mut self.hint_changes);
        }
        reindex_tombstone(&mut self.batch, &task.key, current.as_ref(), next.as_ref());
        self.trees.on_change(&task.key, current.as_ref(), next.as_ref());
        *current = next;
        (task.purpose, Ok(outcome))
    }
}

/// Whether one of these ranges holds the key; no two of them overlap.
fn voids(voided: &BTreeMap<Bytes, Bytes>, key: &Bytes) -> bool {
    voided.range::<Bytes, _>(..=key).next_back().is_some_and(|(_, end)| key < end)
}
