//! What a store does about records that have rotted: it wipes them, and counts their leaves anew.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::stretches::Stretches;
use super::{Done, OpFailure, Store, Task};
use crate::storage::keys::partition_of;
use crate::storage::merkle::{CountSpec, Counted, Place, TreeId};
use crate::storage::{Engine, Family, HintChange, HintEntry, Lookup, Op, Outcome, ReadTier, hint_key};
use crate::types::{NodeId, PartitionId};

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

impl Healing {
    /// Whether what rots of a tree may go.
    pub fn may_go(&self, tree: TreeId) -> bool {
        self.shared.contains(&tree) || self.foreign.contains(&tree)
    }
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
    /// Records that a newer version has written: they stay.
    pub newer: u64,
    /// Stretches of keys that could not be read: wiped with the next commit.
    pub stretches: u64,
    /// Leaves whose sums were wrong.
    pub corrected: u64,
    /// Entries of the index of tombstones that were wrong, missing, or of no tombstone.
    pub reindexed: u64,
    /// The disk has failed to answer about that index: what is missing in it was put, and nothing dropped.
    pub index_failed: bool,
    /// Whether the sums are right now: not if too much was written meanwhile, or something in what cannot be read.
    pub exact: bool,
    /// Something of the partition still has to be counted.
    pub uncounted: bool,
}

impl<E: Engine + ?Sized, P> Store<E, P> {
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

    /// Leaves have been counted: what the trees and the index of tombstones have of them is put right with the next commit.
    ///
    /// # Errors
    /// As the count failed.
    pub fn end_count(&mut self, counted: Result<Counted, OpFailure>) -> Result<Scrubbed, OpFailure> {
        let counted = match counted {
            _ if self.stopped => Err(OpFailure::Stopped),
            counted => counted,
        };
        let counted = counted.inspect_err(|_| self.trees.drop_count())?;
        let Stretches { wiped, unread, hopeless: stretches } = self.wipe_stretches(&counted);
        let may_wipe = |tree: TreeId| self.healing.may_go(tree);
        let (rotten, hopeless): (Vec<_>, Vec<_>) = counted.rotten.iter().partition(|(_, (tree, _))| may_wipe(*tree));
        // The next operation on each is to meet what the disk has.
        rotten.iter().for_each(|(key, _)| self.cache.forget(key));
        let settled = self.trees.settle(&counted, &unread, may_wipe, &mut self.batch);
        Ok(Scrubbed {
            through: counted.of.end,
            records: counted.records,
            bytes: counted.bytes,
            rotten: rotten.into_iter().map(|(key, _)| key.clone()).collect(),
            hopeless: hopeless.into_iter().map(|(key, _)| key.clone()).chain(stretches).collect(),
            newer: counted.newer.len() as u64,
            stretches: wiped,
            corrected: settled.corrected,
            reindexed: settled.reindexed,
            index_failed: counted.index_failed,
            exact: settled.exact && unread.for_now.is_empty(),
            uncounted: self.trees.has_uncounted(counted.partition),
        })
    }

    /// Runs an operation on a key that cannot be read: it is wiped first. But where the engine can read nothing of a whole range, a key cannot
    /// be read after that either, until the range goes; so of a leaf that was wiped from already and waits to be counted, a read
    /// tells that there is nothing, which counts for nothing, and leaves all else to the count.
    pub(super) fn run_unread(&mut self, task: Task<P>, failure: OpFailure) -> Done<P> {
        let Task { purpose, key, op } = task;
        match op {
            Op::Read if self.is_wiped_from(&key, &failure) => {
                let round = self.rounds.of(partition_of(&key));
                (purpose, Ok(Outcome::Read { object: None, round }))
            }
            // Nobody is told that it was nothing.
            Op::Inspect { .. } if self.is_wiped_from(&key, &failure) => (purpose, Err(failure)),
            op => match self.wipe(&key, failure) {
                Ok(()) => {
                    self.overlay.insert(key.clone(), None);
                    self.run(Task { purpose, key, op })
                }
                Err(failure) => (purpose, Err(failure)),
            },
        }
    }

    /// Whether wiping what cannot be read would leave no mark that is not there.
    fn is_wiped_from(&self, key: &Bytes, failure: &OpFailure) -> bool {
        let is_wiped = |tree: TreeId| {
            self.healing.may_go(tree) && self.trees.is_wiped_from(key, self.healing.shared.contains(&tree))
        };
        let tree = self.trees.shape().and_then(|shape| Some(shape.place(key)?.0));
        !self.stopped && matches!(failure, OpFailure::Unreadable { rotten: true, .. }) && tree.is_some_and(is_wiped)
    }

    /// A record that has rotted is deleted with the batch, and its leaf is marked: from then on this node does not say of its keys that
    /// there is nothing. What the record held comes back from the other replicas, and its `own` is gone, so no dot is minted twice.
    ///
    /// # Errors
    /// The failure, if the disk has merely failed to answer, or a newer version has written the record, or nobody else has what the record held.
    pub(super) fn wipe(&mut self, key: &Bytes, failure: OpFailure) -> Result<(), OpFailure> {
        let tree = self.trees.shape().and_then(|shape| Some(shape.place(key)?.0));
        let Some(tree) = tree.filter(|_| !self.stopped) else { return Err(failure) };
        let lacks = self.healing.shared.contains(&tree);
        let may_go = self.healing.may_go(tree);
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
        // Whether it was a tombstone, nobody can tell any more.
        self.batch.delete(Family::Tombstones, key);
        let place = self.trees.on_wipe(key, lacks, &mut self.batch);
        self.wiped.extend(place.map(|place| Wiped { place, lacks, stretch: false }));
        self.voided.insert(key.clone(), [&key[..], &[0]].concat().into());
        Ok(())
    }
}
