//! Marks on leaves from which a record was wiped because it had rotted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::count::Place;
use super::disk::{Mark, encode_mark, mark_key};
use super::{Leaves, TreeId};
use crate::storage::{Batch, Family};
use crate::types::PartitionId;

/// A shard's marks, as they stand on the disk once the batch is written.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: BTreeMap<Place, Mark>,
}

impl Marks {
    pub fn new(marks: BTreeMap<Place, Mark>) -> Marks {
        Marks { marks }
    }

    fn of(&self, tree: TreeId) -> impl Iterator<Item = (u32, Mark)> {
        self.marks.range((tree, 0)..=(tree, u32::MAX)).map(|((_, leaf), mark)| (*leaf, *mark))
    }

    /// Whether some leaf's sum is not that of its data.
    pub fn is_uncounted(&self, tree: TreeId) -> bool {
        self.of(tree).any(|(_, mark)| mark.uncounted)
    }

    pub fn is_leaf_uncounted(&self, place: Place) -> bool {
        self.marks.get(&place).is_some_and(|mark| mark.uncounted)
    }

    /// Whether a leaf lacks what was wiped.
    pub fn is_leaf_lacking(&self, place: Place) -> bool {
        self.marks.get(&place).is_some_and(|mark| mark.lacks)
    }

    /// Leaves whose sums are not those of their data.
    pub fn uncounted(&self) -> impl Iterator<Item = Place> {
        self.marks.iter().filter(|(_, mark)| mark.uncounted).map(|(place, _)| *place)
    }

    /// Leaves that lack what was wiped.
    pub fn lacking(&self) -> impl Iterator<Item = Place> {
        self.marks.iter().filter(|(_, mark)| mark.lacks).map(|(place, _)| *place)
    }

    /// Partitions with leaves that have to be counted.
    pub fn partitions(&self) -> BTreeSet<PartitionId> {
        self.uncounted().map(|(tree, _)| tree.partition).collect()
    }

    /// Changes a leaf's mark, with the batch.
    pub fn set(&mut self, place: Place, change: impl FnOnce(&mut Mark), leaves: Leaves, batch: &mut Batch) {
        let before = self.marks.get(&place).copied().unwrap_or_default();
        let mut mark = before;
        change(&mut mark);
        if mark == before {
            return;
        }
        let key = mark_key(place.0, place.1);
        if mark == Mark::default() {
            self.marks.remove(&place);
            batch.delete(Family::Merkle, &key);
        } else {
            self.marks.insert(place, mark);
            batch.put(Family::Merkle, &key, &encode_mark(mark, leaves));
        }
    }

    /// A tree has got back what its other replicas hold.
    pub fn heal(&mut self, tree: TreeId, leaves: Leaves, batch: &mut Batch) {
        let lacking: Vec<u32> = self.of(tree).filter(|(_, mark)| mark.lacks).map(|(leaf, _)| leaf).collect();
        for leaf in lacking {
            self.set((tree, leaf), |mark| mark.lacks = false, leaves, batch);
        }
    }
}

/// The leaves that a mark of a tree with other leaves is about.
pub(super) fn rescale(leaf: u32, before: Leaves, now: Leaves) -> Range<u32> {
    let scale = |leaf: u64| (leaf * u64::from(now.count()) / u64::from(before.count())) as u32;
    let first = scale(leaf.into());
    first..scale(u64::from(leaf) + 1).max(first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_covers_its_tokens_whatever_the_leaves() {
        let leaves = |count| Leaves::new(count).unwrap();
        assert_eq!(rescale(5, leaves(64), leaves(64)), 5..6);
        assert_eq!(rescale(5, leaves(64), leaves(128)), 10..12);
        assert_eq!(rescale(63, leaves(64), leaves(32)), 31..32);
        assert_eq!(rescale(62, leaves(64), leaves(32)), 31..32);
    }
}
