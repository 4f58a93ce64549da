//! Merkle trees and the index of tombstones are what the data makes them: looked at whenever a process ends, and at the end.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::coverage::Mark;
use super::disk::Disk;
use super::trace::node_name;
use super::world::World;
use crate::antientropy::{primaries, tree_shape};
use crate::node::Core;
use crate::storage::merkle::{TreeId, TreeShape};
use crate::storage::{Family, Record, TombstoneEntry};
use crate::version::Body;

impl<D: Disk> World<D> {
    /// Counts a running node's trees from its disk, and compares. A tree with a rotten record still has what that held.
    pub(super) fn check_trees(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(shape) = process.cores().find_map(|core| core.trees().shape().cloned()) else { return };
        let counted = self.count_trees(node, &shape);
        let process = self.nodes[node].process.as_ref().expect("it was there a moment ago");
        let mut compared = 0;
        let mut phantom = None;
        for (index, core) in process.cores().enumerate() {
            let own = |tree: &TreeId| usize::from(tree.partition.0) % process.lanes.len() == index;
            for tree in shape.trees().filter(own) {
                let (Some(kept), Some(Some(counted))) = (core.trees().root(tree), counted.get(&tree)) else { continue };
                compared += u64::from(kept != 0);
                if kept != *counted {
                    phantom.get_or_insert((tree, kept, *counted));
                }
            }
        }
        self.coverage.add(Mark::TreesCounted, compared);
        if let Some((tree, kept, counted)) = phantom {
            let evidence = || format!("{} has {kept:x} for {tree:?}, its disk makes {counted:x}", node_name(node));
            self.witness.breach(self.now, "trees are of the data", None, evidence);
        }
    }

    /// Compares a running node's index of tombstones with the records on its disk. Of a rotten record nobody knows what it was.
    pub(super) fn check_tombstones(&mut self, node: usize) {
        if self.nodes[node].process.is_none() {
            return;
        }
        let disk = &self.nodes[node].disk;
        let mut index: BTreeMap<Bytes, Bytes> = disk.survey_of(Family::Tombstones).into_iter().collect();
        let (mut compared, mut wrong) = (0, None);
        for (key, record) in disk.survey() {
            let found = index.remove(&key).map(|entry| TombstoneEntry::decode(&entry));
            let Ok(record) = Record::decode(record) else { continue };
            let siblings = record.object.siblings().iter();
            let is_deleted = siblings.clone().all(|sibling| sibling.body == Body::Tombstone);
            let newest = siblings.map(|sibling| sibling.wall_ms).max().filter(|_| is_deleted);
            let due = newest.map(|wall_ms| TombstoneEntry { wall_ms, digest: record.object.digest() });
            compared += u64::from(due.is_some());
            if found.clone().transpose() != Ok(due) {
                wrong.get_or_insert((key, found, due));
            }
        }
        let orphan = index.into_iter().next().map(|(key, entry)| (key, Some(TombstoneEntry::decode(&entry)), None));
        self.coverage.add(Mark::TombstonesCounted, compared);
        if let Some((key, found, due)) = wrong.or(orphan) {
            let evidence = || format!("{} has {found:?} for {key:?}, its record makes {due:?}", node_name(node));
            self.witness.breach(self.now, "the index of tombstones is of the data", None, evidence);
        }
    }

    /// A tree whose primaries do not agree, if there is one and no record of theirs in it is rotten for good; for people.
    pub(super) fn differing(&self) -> Option<String> {
        let view = self.view();
        let shape = tree_shape(view.layout());
        let root = |node: usize, tree: TreeId| {
            let process = self.nodes[node].process.as_ref()?;
            let core = &process.lanes[usize::from(tree.partition.0) % process.lanes.len()].core;
            core.trees().root(tree)
        };
        shape.trees().find_map(|tree| {
            let primaries = primaries(&view, tree).iter().filter_map(|node| self.ids.get(node).copied());
            let roots: Vec<(usize, Option<u128>)> = primaries.map(|node| (node, root(node, tree))).collect();
            let is_rotten =
                |node: usize| self.rotten(node).any(|key| shape.place(key).is_some_and(|(of, _)| of == tree));
            let first = roots.first().and_then(|(_, root)| *root);
            let agree = first.is_some() && roots.iter().all(|(_, root)| *root == first);
            let excused = roots.iter().any(|(node, _)| is_rotten(*node));
            (!agree && !excused).then(|| format!("{tree:?}: {roots:x?}"))
        })
    }

    /// The root of each tree by the disk; `None` where a record is rotten.
    fn count_trees(&self, node: usize, shape: &TreeShape) -> BTreeMap<TreeId, Option<u128>> {
        let mut roots: BTreeMap<TreeId, Option<u128>> = shape.trees().map(|tree| (tree, Some(0))).collect();
        let process = self.nodes[node].process.as_ref().expect("the caller has just met it");
        let hasher = process.cores().next().map(Core::trees).map(|trees| trees.hasher().clone());
        let mut hasher = hasher.expect("every node has a shard");
        for (key, record) in self.nodes[node].disk.survey() {
            let Some((tree, _)) = shape.place(&key) else { continue };
            let sum = roots.get_mut(&tree).expect("the shape has named all trees");
            let hash = Record::decode(record).map(|record| hasher.hash(&key, &record.object));
            *sum = sum.zip(hash.ok()).map(|(sum, hash)| sum.wrapping_add(hash.0));
        }
        roots
    }
}
