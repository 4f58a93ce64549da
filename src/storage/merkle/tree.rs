//! The sums of one tree.

use serde::{Deserialize, Serialize};

use super::{Leaves, TreeId};

/// Branches of every tree, whatever its leaves.
pub const BRANCHES: u32 = 32;

/// Which sums of a tree are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SumsOf {
    /// All branches.
    Branches,
    /// All leaves of these branches, by their bits.
    Leaves(u32),
}

/// Sums to compare a tree by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumsSpec {
    /// The tree.
    pub tree: TreeId,
    /// How many leaves it is taken to have: at most its own.
    pub leaves: Leaves,
    /// Which.
    pub of: SumsOf,
}

impl SumsSpec {
    /// How many sums that are.
    pub fn len(&self) -> usize {
        let count = match self.of {
            SumsOf::Branches => BRANCHES,
            SumsOf::Leaves(branches) => branches.count_ones() * self.leaves.per_branch(),
        };
        count as usize
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The leaves, in the order of their sums; none for branches.
    pub fn leaf_indices(&self) -> impl Iterator<Item = u32> {
        let branches = if let SumsOf::Leaves(branches) = self.of { branches } else { 0 };
        let per = self.leaves.per_branch();
        let wanted = (0..BRANCHES).filter(move |branch| branches >> branch & 1 == 1);
        wanted.flat_map(move |branch| branch * per..(branch + 1) * per)
    }
}

/// A tree in memory. All sums wrap around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    leaves: Box<[u128]>,
    branches: [u128; BRANCHES as usize],
    root: u128,
}

impl Tree {
    /// A tree of nothing.
    pub fn new(leaves: Leaves) -> Tree {
        let leaves = vec![0; leaves.count() as usize].into();
        Tree { leaves, branches: [0; BRANCHES as usize], root: 0 }
    }

    /// The tree with these leaves' sums; `None` unless their count is allowed.
    pub fn of(leaves: Vec<u128>) -> Option<Tree> {
        let count = Leaves::new(u32::try_from(leaves.len()).ok()?)?;
        let mut tree = Tree::new(count);
        for (leaf, sum) in (0..).zip(leaves) {
            tree.add(leaf, sum);
        }
        Some(tree)
    }

    /// How many leaves it has.
    pub fn leaves(&self) -> Leaves {
        Leaves::new(self.leaves.len() as u32).expect("a tree is made with a count that is allowed")
    }

    /// The sums of its leaves.
    pub fn leaf_sums(&self) -> &[u128] {
        &self.leaves
    }

    /// The sum of everything.
    pub fn root(&self) -> u128 {
        self.root
    }

    /// Adds a difference to a leaf, and to all above it.
    ///
    /// # Panics
    /// If it has no such leaf.
    pub fn add(&mut self, leaf: u32, difference: u128) {
        let branch = leaf / self.leaves().per_branch();
        for sum in [&mut self.leaves[leaf as usize], &mut self.branches[branch as usize], &mut self.root] {
            *sum = sum.wrapping_add(difference);
        }
    }

    /// The same tree with fewer leaves.
    pub fn coarser(&self, leaves: Leaves) -> Tree {
        let each = self.leaves.len() / leaves.count() as usize;
        let sums = self.leaves.chunks(each).map(|part| part.iter().fold(0, |sum: u128, leaf| sum.wrapping_add(*leaf)));
        Tree::of(sums.collect()).expect("the count is allowed")
    }

    /// The lower halves of these sums, as they travel; `None` for more leaves than it has.
    pub fn sums(&self, spec: &SumsSpec) -> Option<Vec<u64>> {
        let each = self.leaves.len().checked_div(spec.leaves.count() as usize).filter(|each| *each > 0)?;
        let leaf = |index: u32| {
            let first = index as usize * each;
            self.leaves[first..first + each].iter().fold(0u64, |sum, leaf| sum.wrapping_add(*leaf as u64))
        };
        Some(match spec.of {
            SumsOf::Branches => self.branches.iter().map(|sum| *sum as u64).collect(),
            SumsOf::Leaves(_) => spec.leaf_indices().map(leaf).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::PartitionId;

    const TREE: TreeId = TreeId { partition: PartitionId(0), n: 3 };

    fn leaves(count: u32) -> Leaves {
        Leaves::new(count).unwrap()
    }

    fn spec(count: u32, of: SumsOf) -> SumsSpec {
        SumsSpec { tree: TREE, leaves: leaves(count), of }
    }

    proptest! {
        /// However its differences came, a tree is the sums of its leaves, and a coarser view of it is the coarser tree.
        #[test]
        fn sums_are_of_what_lies_below(
            changes in proptest::collection::vec((0u32..128, any::<u128>()), 0..50),
            branches: u32,
        ) {
            let mut tree = Tree::new(leaves(128));
            let mut sums = vec![0u128; 128];
            for (leaf, difference) in &changes {
                tree.add(*leaf, *difference);
                sums[*leaf as usize] = sums[*leaf as usize].wrapping_add(*difference);
            }
            prop_assert_eq!(&Tree::of(sums.clone()).unwrap(), &tree);
            prop_assert_eq!(tree.root(), sums.iter().fold(0, |sum: u128, leaf| sum.wrapping_add(*leaf)));
            let coarse = tree.coarser(leaves(64));
            prop_assert_eq!(coarse.root(), tree.root());
            for of in [SumsOf::Branches, SumsOf::Leaves(branches)] {
                let (own, seen) = (coarse.sums(&spec(64, of)), tree.sums(&spec(64, of)));
                prop_assert_eq!(&own, &seen);
                prop_assert_eq!(seen.map(|sums| sums.len()), Some(spec(64, of).len()));
                prop_assert_eq!(coarse.sums(&spec(128, of)), None);
            }
        }
    }

    #[test]
    fn leaves_are_told_by_their_branches() {
        let spec = spec(64, SumsOf::Leaves(0b101));
        assert_eq!(spec.leaf_indices().collect::<Vec<_>>(), [0, 1, 4, 5]);
        let mut tree = Tree::new(leaves(64));
        tree.add(4, (1 << 64) + 9);
        assert_eq!(tree.sums(&spec).unwrap(), [0, 0, 9, 0]);
        assert_eq!(tree.sums(&SumsSpec { of: SumsOf::Branches, ..spec }).unwrap()[..4], [0, 0, 9, 0]);
    }
}
