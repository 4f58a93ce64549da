//! Checkpoints of trees and the records of batches, in [`Family::Merkle`](crate::storage::Family::Merkle).
//!
//! ```text
//! "f"                                     format u8 = 1 | leaves u32: of the trees that batches have changed since the last start
//! "c" | partition u16 | n u8              checkpoint: through u64 | leaves u32 | sums, 16 bytes each | xxh3-64
//! "d" | shard u16 | number u64            a batch: of each leaf partition u16, n u8, leaf u32, difference 16 bytes | xxh3-64
//! "u" | partition u16 | n u8              the tree is not known and has to be counted from the data; no value
//! "w" | partition u16 | n u8 | leaf u32   a record was wiped here: flags u8 | leaves u32, of the tree
//! ```
//! All numbers big-endian. Bit 0 of the flags: the leaf's sum is not that of its data and has to be counted; bit 1: the leaf lacks what
//! was wiped until the tree agrees with its other replicas. A checkpoint contains the records up to and including number `through` of its partition's shard. Numbers
//! grow over all runs of a directory.

use xxhash_rust::xxh3::xxh3_64;

use super::{Leaves, Tree, TreeId};
use crate::storage::StorageError;
use crate::types::PartitionId;

/// The format's key.
pub const FORMAT_KEY: &[u8] = b"f";
/// The format that this version writes.
const FORMAT: u8 = 1;
/// What checkpoints' keys begin with.
pub const CHECKPOINT: u8 = b'c';
/// What batches' keys begin with.
pub const BATCH: u8 = b'd';
/// What the keys of unknown trees begin with.
pub const UNKNOWN: u8 = b'u';
/// What the keys of marks on leaves begin with.
pub const WIPED: u8 = b'w';

const CHECKSUM: usize = 8;
/// Bytes of one difference.
pub const DIFFERENCE: usize = 2 + 1 + 4 + 16;

/// One leaf's change by a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The tree.
    pub tree: TreeId,
    /// The leaf, of as many as the tree had then.
    pub leaf: u32,
    /// What is added to its sum.
    pub by: u128,
}

/// What is to be known of a leaf from which a record was wiped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its sum is not that of its data.
    pub uncounted: bool,
    /// It lacks what other replicas may have.
    pub lacks: bool,
}

impl Mark {
    /// Says the most: for whatever is damaged.
    pub const WORST: Mark = Mark { uncounted: true, lacks: true };
}

/// The key of a leaf's mark.
pub fn mark_key(tree: TreeId, leaf: u32) -> [u8; 8] {
    let mut key = [WIPED; 8];
    key[..4].copy_from_slice(&tree_key(WIPED, tree));
    key[4..].copy_from_slice(&leaf.to_be_bytes());
    key
}

/// The leaf that such a key names.
pub fn parse_mark_key(key: &[u8]) -> Option<(TreeId, u32)> {
    let (tree, leaf) = key.split_at_checked(4)?;
    Some((parse_tree_key(WIPED, tree)?, u32::from_be_bytes(leaf.try_into().ok()?)))
}

/// A mark's value, on a tree of so many leaves.
pub fn encode_mark(mark: Mark, leaves: Leaves) -> [u8; 5] {
    let mut bytes = [u8::from(mark.uncounted) | u8::from(mark.lacks) << 1; 5];
    bytes[1..].copy_from_slice(&leaves.count().to_be_bytes());
    bytes
}

/// Reads a mark; `None` for what [`encode_mark`] would not have written.
pub fn decode_mark(bytes: &[u8]) -> Option<(Mark, Leaves)> {
    let (flags @ 1..=3, count) = bytes.split_first().map(|(flags, count)| (*flags, count))? else { return None };
    let count: [u8; 4] = count.try_into().ok()?;
    let mark = Mark { uncounted: flags & 1 != 0, lacks: flags & 2 != 0 };
    Some((mark, Leaves::new(u32::from_be_bytes(count))?))
}

/// The format's value.
pub fn encode_format(leaves: Leaves) -> [u8; 5] {
    let mut bytes = [FORMAT; 5];
    bytes[1..].copy_from_slice(&leaves.count().to_be_bytes());
    bytes
}

/// How many leaves trees had; `None` for another format.
pub fn decode_format(bytes: &[u8]) -> Option<Leaves> {
    let count: [u8; 4] = bytes.strip_prefix(&[FORMAT])?.try_into().ok()?;
    Leaves::new(u32::from_be_bytes(count))
}

/// The key of a tree's checkpoint, or of its mark as unknown.
pub fn tree_key(kind: u8, tree: TreeId) -> [u8; 4] {
    let [high, low] = tree.partition.0.to_be_bytes();
    [kind, high, low, tree.n]
}

/// The tree that such a key names.
pub fn parse_tree_key(kind: u8, key: &[u8]) -> Option<TreeId> {
    match *key {
        [first, high, low, n] if first == kind => {
            Some(TreeId { partition: PartitionId(u16::from_be_bytes([high, low])), n })
        }
        _ => None,
    }
}

/// The key of a shard's batch.
pub fn batch_key(shard: u16, number: u64) -> [u8; 11] {
    let mut key = [BATCH; 11];
    key[1..3].copy_from_slice(&shard.to_be_bytes());
    key[3..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number in such a key.
pub fn parse_batch_key(key: &[u8]) -> Option<u64> {
    let rest: &[u8; 10] = key.strip_prefix(&[BATCH])?.try_into().ok()?;
    let (_, number) = rest.split_at(2);
    Some(u64::from_be_bytes(number.try_into().expect("eight bytes are left of ten")))
}

/// Appends a checkpoint.
pub fn encode_checkpoint(through: u64, tree: &Tree, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&through.to_be_bytes());
    out.extend_from_slice(&tree.leaves().count().to_be_bytes());
    tree.leaf_sums().iter().for_each(|sum| out.extend_from_slice(&sum.to_be_bytes()));
    seal(start, out);
}

/// Reads a checkpoint: the number of the last batch in it, and the tree.
///
/// # Errors
/// [`StorageError::Corrupt`] for what [`encode_checkpoint`] would not have written.
pub fn decode_checkpoint(bytes: &[u8]) -> Result<(u64, Tree), StorageError> {
    let decode = || {
        let (through, rest) = unseal(bytes)?.split_first_chunk::<8>()?;
        let (count, sums) = rest.split_first_chunk::<4>()?;
        let (sums, odd) = sums.as_chunks::<16>();
        let whole = odd.is_empty() && sums.len() == u32::from_be_bytes(*count) as usize;
        let tree = Tree::of(sums.iter().map(|sum| u128::from_be_bytes(*sum)).collect())?;
        whole.then_some((u64::from_be_bytes(*through), tree))
    };
    decode().ok_or_else(|| corrupt("a checkpoint of a tree"))
}

/// Appends a batch's differences.
pub fn encode_differences(differences: impl Iterator<Item = Difference>, out: &mut Vec<u8>) {
    let start = out.len();
    for Difference { tree, leaf, by } in differences {
        out.extend_from_slice(&tree_key(BATCH, tree)[1..]);
        out.extend_from_slice(&leaf.to_be_bytes());
        out.extend_from_slice(&by.to_be_bytes());
    }
    seal(start, out);
}

/// Reads a batch's differences.
///
/// # Errors
/// [`StorageError::Corrupt`] for what [`encode_differences`] would not have written.
pub fn decode_differences(bytes: &[u8]) -> Result<Vec<Difference>, StorageError> {
    let decode = |field: &[u8; DIFFERENCE]| {
        let (tree, rest) = field.split_at(3);
        let (leaf, by) = rest.split_at(4);
        Difference {
            tree: TreeId { partition: PartitionId(u16::from_be_bytes([tree[0], tree[1]])), n: tree[2] },
            leaf: u32::from_be_bytes(leaf.try_into().expect("four bytes were cut off")),
            by: u128::from_be_bytes(by.try_into().expect("sixteen bytes are left")),
        }
    };
    let fields = unseal(bytes).map(|covered| covered.as_chunks::<DIFFERENCE>());
    match fields {
        Some((fields, [])) => Ok(fields.iter().map(decode).collect()),
        _ => Err(corrupt("a batch's record of trees")),
    }
}

fn seal(start: usize, out: &mut Vec<u8>) {
    let sum = xxh3_64(&out[start..]);
    out.extend_from_slice(&sum.to_be_bytes());
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (covered, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    (xxh3_64(covered).to_be_bytes() == sum).then_some(covered)
}

fn corrupt(what: &str) -> StorageError {
    StorageError::Corrupt { detail: format!("{what} is damaged") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn difference() -> impl Strategy<Value = Difference> {
        (any::<u16>(), any::<u8>(), any::<u32>(), any::<u128>()).prop_map(|(partition, n, leaf, by)| Difference {
            tree: TreeId { partition: PartitionId(partition), n },
            leaf,
            by,
        })
    }

    proptest! {
        #[test]
        fn differences_survive_the_round_trip(differences in proptest::collection::vec(difference(), 0..5), at: usize) {
            let mut bytes = Vec::new();
            encode_differences(differences.iter().copied(), &mut bytes);
            prop_assert_eq!(decode_differences(&bytes).unwrap(), differences);
            let at = at % bytes.len();
            bytes[at] ^= 1;
            prop_assert!(decode_differences(&bytes).is_err());
            prop_assert!(decode_differences(&bytes[..at]).is_err());
        }

        #[test]
        fn checkpoints_survive_the_round_trip(sums in proptest::collection::vec(any::<u128>(), 32), through: u64, at: usize) {
            let tree = Tree::of(sums).unwrap();
            let mut bytes = vec![7];
            encode_checkpoint(through, &tree, &mut bytes);
            prop_assert_eq!(decode_checkpoint(&bytes[1..]).unwrap(), (through, tree));
            let at = 1 + at % (bytes.len() - 1);
            bytes[at] ^= 1;
            prop_assert!(decode_checkpoint(&bytes[1..]).is_err());
        }
    }

    #[test]
    fn keys_name_what_they_are_of() {
        let tree = TreeId { partition: PartitionId(259), n: 3 };
        assert_eq!(parse_tree_key(CHECKPOINT, &tree_key(CHECKPOINT, tree)), Some(tree));
        assert_eq!(parse_tree_key(UNKNOWN, &tree_key(CHECKPOINT, tree)), None);
        assert_eq!(parse_batch_key(&batch_key(9, 77)), Some(77));
        assert_eq!((parse_batch_key(b"d"), parse_batch_key(&tree_key(CHECKPOINT, tree))), (None, None));
        assert_eq!(decode_format(&encode_format(Leaves::default())), Some(Leaves::default()));
        assert_eq!((decode_format(&[2, 0, 0, 4, 0]), decode_format(&[1, 0, 0, 4, 1])), (None, None));
        assert!(batch_key(9, 77) < batch_key(9, 256) && batch_key(9, u64::MAX) < batch_key(10, 0));
    }

    #[test]
    fn marks_survive_the_round_trip() {
        let tree = TreeId { partition: PartitionId(259), n: 3 };
        assert_eq!(parse_mark_key(&mark_key(tree, 77)), Some((tree, 77)));
        assert_eq!((parse_mark_key(&tree_key(WIPED, tree)), parse_mark_key(b"")), (None, None));
        for (uncounted, lacks) in [(true, false), (false, true), (true, true)] {
            let mark = Mark { uncounted, lacks };
            assert_eq!(decode_mark(&encode_mark(mark, Leaves::default())), Some((mark, Leaves::default())));
        }
        assert_eq!((decode_mark(&[0, 0, 0, 4, 0]), decode_mark(&[4, 0, 0, 4, 0])), (None, None));
        assert_eq!((decode_mark(&[1, 0, 0, 4, 1]), decode_mark(&[1])), (None, None));
    }

    #[test]
    fn a_tree_of_another_count_of_leaves_is_refused() {
        let mut bytes = Vec::new();
        encode_checkpoint(1, &Tree::new(Leaves::default()), &mut bytes);
        bytes.truncate(bytes.len() - CHECKSUM - 16);
        seal(0, &mut bytes);
        assert!(decode_checkpoint(&bytes).is_err());
    }
}
