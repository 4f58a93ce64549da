//! Which tree a key belongs to, and which of its leaves.

use std::collections::BTreeMap;

use super::{BRANCHES, TreeId};
use crate::storage::keys::{parse_object_key, token_start};
use crate::types::{PartitionId, Token};

/// How many leaves a tree has: a power of two from [`Leaves::MIN`] to [`Leaves::MAX`]. Each costs 16 bytes of memory and of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaves(u32);

impl Leaves {
    /// One for each branch.
    pub const MIN: u32 = BRANCHES;
    /// What two bytes can number.
    pub const MAX: u32 = 1 << 16;

    /// `None` for what is not allowed.
    pub fn new(count: u32) -> Option<Leaves> {
        (count.is_power_of_two() && (Leaves::MIN..=Leaves::MAX).contains(&count)).then_some(Leaves(count))
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }

    /// Of each branch.
    pub const fn per_branch(self) -> u32 {
        self.0 / BRANCHES
    }

    /// Those of whichever tree has fewer: what two trees can be compared by.
    pub fn common(self, other: Leaves) -> Leaves {
        self.min(other)
    }
}

impl Default for Leaves {
    fn default() -> Leaves {
        Leaves(1024)
    }
}

/// What the ring says of trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeShape {
    /// Of a token's bits, how many name the partition.
    partition_bits: u32,
    /// Each bucket's n.
    buckets: BTreeMap<String, u8>,
}

impl TreeShape {
    /// For a ring of `partitions`, a power of two, and these buckets with their n.
    ///
    /// # Panics
    /// If `partitions` is no power of two.
    pub fn new(partitions: u32, buckets: BTreeMap<String, u8>) -> TreeShape {
        assert!(partitions.is_power_of_two(), "a ring of {partitions} partitions");
        TreeShape { partition_bits: partitions.trailing_zeros(), buckets }
    }

    /// How many partitions the ring has.
    pub fn partitions(&self) -> u32 {
        1 << self.partition_bits
    }

    /// All trees that there may be.
    pub fn trees(&self) -> impl Iterator<Item = TreeId> {
        (0..self.partitions()).flat_map(|partition| self.trees_of(PartitionId(partition as u16)))
    }

    /// Those of one partition.
    pub fn trees_of(&self, partition: PartitionId) -> impl Iterator<Item = TreeId> + use<> {
        let mut ns: Vec<u8> = self.buckets.values().copied().collect();
        ns.sort_unstable();
        ns.dedup();
        ns.into_iter().map(move |n| TreeId { partition, n })
    }

    /// The tree and the token of an object's key; `None` if it is none of this ring's.
    pub fn place(&self, key: &[u8]) -> Option<(TreeId, Token)> {
        let place = parse_object_key(key).ok()?;
        Some((self.tree_of(place.partition, place.bucket)?, place.token))
    }

    /// The tree of a bucket's keys in a partition; `None` if the ring has no such bucket.
    pub fn tree_of(&self, partition: PartitionId, bucket: &str) -> Option<TreeId> {
        self.buckets.get(bucket).map(|n| TreeId { partition, n: *n })
    }

    /// The leaf of a token in its partition's trees.
    pub fn leaf_of(&self, token: Token, leaves: Leaves) -> u32 {
        let within = token.0.checked_shl(self.partition_bits).unwrap_or(0);
        (within >> (u64::BITS - leaves.count().trailing_zeros())) as u32
    }

    /// The range `[start, end)` of a leaf's keys in its partition, of all buckets.
    pub fn leaf_bounds(&self, partition: PartitionId, leaf: u32, leaves: Leaves) -> (Vec<u8>, Vec<u8>) {
        let bits = leaves.count().trailing_zeros() + self.partition_bits;
        let index = u64::from(partition.0) << leaves.count().trailing_zeros() | u64::from(leaf);
        let shift = u64::BITS - bits;
        let start = token_start(partition, Token(index << shift)).to_vec();
        let last = index << shift | (u64::MAX >> bits);
        // Every key goes on after its token, and the next token is the first beyond.
        let end = match last.checked_add(1) {
            Some(next) => token_start(partition, Token(next)).to_vec(),
            None => [&token_start(partition, Token(last))[..], &[0xff]].concat(),
        };
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::keys::object_key;
    use crate::types::{Bucket, Key};

    fn shape(bits: u32) -> TreeShape {
        TreeShape::new(1 << bits, [("default".into(), 3), ("two".into(), 2)].into())
    }

    #[test]
    fn counts_of_leaves_that_are_not_allowed_are_refused() {
        for bad in [0, 1, 16, 33, 1000, 1 << 17] {
            assert_eq!(Leaves::new(bad), None, "{bad}");
        }
        assert_eq!(Leaves::new(32).map(Leaves::per_branch), Some(1));
        assert_eq!(Leaves::new(1 << 16).map(Leaves::count), Some(1 << 16));
    }

    #[test]
    fn a_tree_for_each_partition_and_n() {
        let trees: Vec<(u16, u8)> = shape(1).trees().map(|tree| (tree.partition.0, tree.n)).collect();
        assert_eq!(trees, [(0, 2), (0, 3), (1, 2), (1, 3)]);
        let key = object_key(PartitionId(1), Token(7), &Bucket::new("two").unwrap(), &Key::new("k").unwrap());
        assert_eq!(shape(1).place(&key), Some((TreeId { partition: PartitionId(1), n: 2 }, Token(7))));
        let foreign = object_key(PartitionId(1), Token(7), &Bucket::new("three").unwrap(), &Key::new("k").unwrap());
        assert_eq!((shape(1).place(&foreign), shape(1).place(b"?")), (None, None));
    }

    proptest! {
        /// The bounds of a leaf hold just the tokens that fall into it.
        #[test]
        fn leaves_are_ranges_of_keys(bits in 0u32..=15, leaf_bits in 5u32..=16, token: u64, key in "[a-z\u{ff}]{1,8}") {
            let (shape, leaves) = (shape(bits), Leaves::new(1 << leaf_bits).unwrap());
            let partition = PartitionId(if bits == 0 { 0 } else { (token >> (64 - bits)) as u16 });
            let at = object_key(partition, Token(token), &Bucket::default(), &Key::new(key).unwrap());
            let leaf = shape.leaf_of(Token(token), leaves);
            prop_assert!(leaf < leaves.count());
            let (start, end) = shape.leaf_bounds(partition, leaf, leaves);
            prop_assert!(start <= at && at < end, "{start:?} {at:?} {end:?}");
            if leaf > 0 {
                let (_, before) = shape.leaf_bounds(partition, leaf - 1, leaves);
                prop_assert_eq!(before, start);
            }
        }
    }
}
