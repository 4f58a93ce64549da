//! A shard's view of the engine: runs operations, each seeing all before it, and gathers what they write into one batch.
//!
//! Records are read from memory only. An operation whose record is not there *parks* its key: the operation and all
//! later ones on that key wait, the caller has the record read elsewhere, and they go on in order when it comes. Since
//! nothing touches a parked key meanwhile, the bytes that come back are current, however long they took: a slow read
//! cannot overwrite a newer write.

mod stretches;
#[cfg(all(test, feature = "mutants"))]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::stretches::Stretches;
use super::hint::reindex;
use super::keys::partition_of;
use super::merkle::{CountSpec, Counted, Place, TreeId, TreeShape, Trees};
use super::op::{Change, Op, Outcome, apply};
use super::{Batch, Engine, Family, HintChange, HintEntry, Lookup, ReadTier, Record, Rounds, StorageError, hint_key};
use crate::types::{BatchNumber, NodeId, PartitionId, Round};
use crate::version::Digest;

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
}

impl From<StorageError> for OpFailure {
    fn from(error: StorageError) -> OpFailure {
        let rotten = matches!(error, StorageError::Corrupt { .. });
        OpFailure::Unreadable { detail: error.to_string(), rotten }
    }
}

/// Which records may be wiped once they have rotted.
#[derive(Clone, Debug, Default)]
pub struct Healing {
    /// Trees of which this node is a primary, and another node too: what is wiped comes back from there.
    pub shared: BTreeSet<TreeId>,
    /// Trees of which this node is no primary: what it holds of them it keeps for others.
    pub foreign: BTreeSet<TreeId>,
    /// All for whom there may be hints.
    pub members: Vec<NodeId>,
}

/// A record that had rotted is gone, or a stretch of keys that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiped {
    /// Where it was.
    pub place: Place,
    /// This node is to get back from others what it held.
    pub lacks: bool,
    /// It was a stretch of keys, or a part of one.
    pub stretch: bool,
}

/// What a count of leaves has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// All leaves up to this one have been counted.
    pub through: u32,
    /// Records that were read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys whose records have rotted and can be wiped, as the next operation on each does.
    pub rotten: Vec<Bytes>,
    /// Keys whose records have rotted and stay, since no other node has what they held; of stretches that stay, where they begin.
    pub hopeless: Vec<Bytes>,
    /// Stretches of keys that could not be read: wiped with the next commit.
    pub stretches: u64,
    /// Leaves whose sums were wrong.
    pub corrected: u64,
    /// Whether the sums are right now: not if too much was written meanwhile, or something in what cannot be read.
    pub exact: bool,
    /// Something of the partition still has to be counted.
    pub uncounted: bool,
}

/// How much may wait for the disk.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Operations over all parked keys.
    pub parked: usize,
}

/// A finished operation.
pub type Done<P> = (P, Result<Outcome, OpFailure>);

/// See the module.
pub struct Store<E: ?Sized, P> {
    engine: Arc<E>,
    limits: StoreLimits,
    /// Records as this drain has left them; `None`: known to be absent.
    overlay: BTreeMap<Bytes, Option<Record>>,
    /// Stretches that this drain has wiped: whatever the engine still says of their keys, nothing stands there.
    voided: Vec<(Bytes, Bytes)>,
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
            engine,
            limits,
            overlay: BTreeMap::new(),
            voided: Vec::new(),
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

    /// Operations that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What the operations since the last call have made of hints, in order.
    pub fn take_hint_changes(&mut self) -> Vec<HintChange> {
        std::mem::take(&mut self.hint_changes)
    }

    /// Records that the operations since the last call have found rotten and wiped.
    pub fn take_wiped(&mut self) -> Vec<Wiped> {
        std::mem::take(&mut self.wiped)
    }

    /// A tree has got back what its other replicas hold: with the next commit it lacks nothing more.
    pub fn heal(&mut self, tree: TreeId) {
        if !self.stopped {
            self.trees.heal(tree, &mut self.batch);
        }
    }

    /// Begins a count of leaves, right after a commit: as [`Trees::begin_count`].
    pub fn begin_count(&mut self, partition: PartitionId, from: Option<u32>) -> Option<CountSpec> {
        self.trees.begin_count(partition, from)
    }

    /// Leaves have been counted: what the trees have of them is put right with the next commit.
    ///
    /// # Errors
    /// As the count failed.
    pub fn end_count(&mut self, counted: Result<Counted, OpFailure>) -> Result<Scrubbed, OpFailure> {
        let counted = match counted {
            _ if self.stopped => Err(OpFailure::Stopped),
            counted => counted,
        };
        let counted = counted.inspect_err(|_| self.trees.drop_count())?;
        let Stretches { wiped, stay, hopeless: unread } = self.wipe_stretches(&counted);
        let may_wipe = |tree: TreeId| self.healing.shared.contains(&tree) || self.healing.foreign.contains(&tree);
        let (rotten, hopeless): (Vec<_>, Vec<_>) = counted.rotten.iter().partition(|(_, (tree, _))| may_wipe(*tree));
        let settled = self.trees.settle(&counted, &stay, may_wipe, &mut self.batch);
        let blocked = stay.len() > unread.len();
        Ok(Scrubbed {
            through: counted.of.end,
            records: counted.records,
            bytes: counted.bytes,
            rotten: rotten.into_iter().map(|(key, _)| key.clone()).collect(),
            hopeless: hopeless.into_iter().map(|(key, _)| key.clone()).chain(unread).collect(),
            stretches: wiped,
            corrected: settled.corrected,
            exact: settled.exact && !blocked,
            uncounted: self.trees.has_uncounted(counted.partition),
        })
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
        if !is_parked || mutant!(StaleReadApplied) {
            match self.look_up(&task.key) {
                Ok(true) => {
                    done.push(self.run(task));
                    return None;
                }
                Ok(false) => {}
                Err(failure) => {
                    done.push((task.purpose, Err(failure)));
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
            Lookup::Miss => Err(StorageError::Corrupt { detail: "a read of the disk answered from memory".into() }),
        }
    }

    /// A parked key's record has been read: all that waited for it runs, in order.
    pub fn resume(&mut self, key: &Bytes, read: Result<Option<Bytes>, OpFailure>, done: &mut Vec<Done<P>>) {
        let Some(tasks) = self.parked.remove(key) else { return };
        self.waiting -= tasks.len();
        let read = if mutant!(ReadErrorIsAbsent) { Ok(read.unwrap_or(None)) } else { read };
        let record = read.and_then(|bytes| Ok(bytes.map(Record::decode).transpose()?));
        let record = record.or_else(|failure| self.wipe(key, failure).map(|()| None));
        match record {
            Ok(record) => {
                self.overlay.insert(key.clone(), record);
                for task in tasks {
                    if task.op.is_write() && self.stopped {
                        done.push((task.purpose, Err(OpFailure::Stopped)));
                    } else {
                        done.push(self.run(task));
                    }
                }
            }
            Err(failure) => {
                done.extend(tasks.into_iter().map(|task| (task.purpose, Err(failure.clone()))));
            }
        }
    }

    /// A member's part in a reaping round: raises the partition's round, and tells of each candidate whether this call has
    /// raised it at a moment when nothing stood here but that tombstone, or nothing at all. A no is final for the round, and a
    /// yes may be told once the batch is on the disk.
    ///
    /// A candidate whose record is not in memory, or that operations wait for, is a no: have it read beforehand.
    ///
    /// # Errors
    /// [`OpFailure::Stopped`]; the round is not raised.
    pub fn fence(
        &mut self,
        partition: PartitionId,
        round: Round,
        candidates: &[(Bytes, Digest)],
    ) -> Result<Vec<bool>, OpFailure> {
        if self.stopped {
            return Err(OpFailure::Stopped);
        }
        // Whoever was there already may have sent bytes since that later fences let pass.
        let raised = self.rounds.raise(partition, round, &mut self.batch);
        let vouch =
            |(key, digest): &(Bytes, Digest)| raised && partition_of(key) == partition && self.is_bare(key, *digest);
        Ok(candidates.iter().map(vouch).collect())
    }

    /// Whether it is certain that nothing stands under a key but this tombstone.
    fn is_bare(&mut self, key: &Bytes, tombstone: Digest) -> bool {
        // What waits was asked for in an earlier round, and is answered in this one.
        !self.parked.contains_key(key)
            && matches!(self.look_up(key), Ok(true))
            && self.overlay[key].as_ref().is_none_or(|record| record.is_only_tombstone(tombstone))
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
        self.overlay.clear();
        self.voided.clear();
        self.trees.write_into(&mut self.batch);
        if self.batch.is_empty() {
            return Ok(None);
        }
        let result = self.engine.commit(&mut self.batch);
        if result.is_err() {
            self.stopped = true;
            self.trees.fail();
            self.rounds.on_failed();
        }
        result.map(Some)
    }

    /// Puts the record into the overlay, if memory tells what it is.
    fn look_up(&mut self, key: &Bytes) -> Result<bool, OpFailure> {
        if self.overlay.contains_key(key) {
            return Ok(true);
        }
        if self.is_voided(key) {
            self.overlay.insert(key.clone(), None);
            return Ok(true);
        }
        let read_through = mutant!(StaleReadApplied) && self.parked.contains_key(key);
        let tier = if read_through { ReadTier::Disk } else { ReadTier::Cached };
        let record = match self.engine.get(Family::Objects, key, tier) {
            Ok(Lookup::Found(bytes)) => Record::decode(bytes).map(Some),
            Ok(Lookup::Absent) => Ok(None),
            Ok(Lookup::Miss) => return Ok(false),
            Err(error) => Err(error),
        };
        let record = record.or_else(|error| self.wipe(key, error.into()).map(|()| None))?;
        self.overlay.insert(key.clone(), record);
        Ok(true)
    }

    /// A record that has rotted is deleted with the batch, and its leaf is marked: from then on this node does not say of its keys that
    /// there is nothing. What the record held comes back from the other replicas, and its `own` is gone, so no dot is minted twice.
    ///
    /// # Errors
    /// The failure, if the disk has merely failed to answer, or nobody else has what the record held.
    fn wipe(&mut self, key: &Bytes, failure: OpFailure) -> Result<(), OpFailure> {
        let tree = self.trees.shape().and_then(|shape| Some(shape.place(key)?.0));
        let Some(tree) = tree.filter(|_| !self.stopped) else { return Err(failure) };
        let lacks = self.healing.shared.contains(&tree);
        let may_go = lacks || self.healing.foreign.contains(&tree);
        if !may_go || !matches!(failure, OpFailure::Unreadable { rotten: true, .. }) {
            return Err(failure);
        }
        let mut hints = Vec::new();
        for target in &self.healing.members {
            // Which of them the record named, only the index tells. It blocks for the disk, as seldom as records rot.
            match self.engine.get(Family::Hints, &hint_key(*target, key), ReadTier::Disk) {
                Ok(Lookup::Found(bytes)) => hints.push((*target, HintEntry::decode(&bytes).ok())),
                Ok(Lookup::Absent | Lookup::Miss) => {}
                Err(_) => return Err(failure),
            }
        }
        for (target, old) in hints {
            self.batch.delete(Family::Hints, &hint_key(target, key));
            let change = |old| HintChange { target, key: key.clone(), old: Some(old), new: None };
            self.hint_changes.extend(old.map(change));
        }
        self.batch.delete(Family::Objects, key);
        let place = self.trees.on_wipe(key, lacks, &mut self.batch);
        self.wiped.extend(place.map(|place| Wiped { place, lacks, stretch: false }));
        Ok(())
    }

    fn run(&mut self, task: Task<P>) -> Done<P> {
        let current = self.overlay.get_mut(&task.key).expect("a task runs only when its record is in the overlay");
        let partition = partition_of(&task.key);
        if let Some(round) = task.op.raises_to() {
            self.rounds.raise(partition, round, &mut self.batch);
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
        self.trees.on_change(&task.key, current.as_ref(), next.as_ref());
        *current = next;
        (task.purpose, Ok(outcome))
    }
}
