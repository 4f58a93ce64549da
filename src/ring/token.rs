//! Tokens and the equal partitions that they fall into.

use serde::{Deserialize, Serialize};

use super::layout::LayoutError;
use crate::types::{Bucket, PartitionId, Token};

/// A key's token: the first eight bytes, big-endian, of BLAKE3(bucket, 0, key).
///
/// The NUL keeps ("ab", "c") and ("a", "bc") apart, as no bucket's name holds one.
pub fn token_of(bucket: &Bucket, key: &[u8]) -> Token {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bucket.as_str().as_bytes()).update(&[0]).update(key);
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    Token(u64::from_be_bytes(first))
}

/// How many equal partitions the ring has: a power of two from 1 to 32768, fixed at the cluster's birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Partitions(u32);

impl Partitions {
    /// The most partitions that a ring may have.
    pub const MAX: u32 = 32_768;

    /// Checks the count.
    ///
    /// # Errors
    /// [`LayoutError::BadPartitions`] unless `count` is a power of two from 1 to [`Partitions::MAX`].
    pub fn new(count: u32) -> Result<Partitions, LayoutError> {
        if count.is_power_of_two() && count <= Partitions::MAX {
            Ok(Partitions(count))
        } else {
            Err(LayoutError::BadPartitions { count })
        }
    }

    /// The number of partitions, Q.
    pub const fn count(self) -> u32 {
        self.0
    }

    /// Whether the ring has this partition.
    pub const fn contains(self, partition: PartitionId) -> bool {
        (partition.0 as u32) < self.0
    }

    /// The partition that a token falls into: its highest bits.
    pub const fn of(self, token: Token) -> PartitionId {
        // 32768 is the largest count, so that the product's upper half is below it and fits 16 bits
        PartitionId(((token.0 as u128 * self.0 as u128) >> 64) as u16)
    }

    /// A partition's first and last token, both inclusive.
    ///
    /// # Panics
    /// If the ring has no such partition: check one that a peer named with [`Partitions::contains`].
    pub const fn range(self, partition: PartitionId) -> (Token, Token) {
        assert!(self.contains(partition), "the ring has no such partition");
        let last_offset = u64::MAX >> self.0.trailing_zeros();
        // only a ring of one partition would overflow the width, and its single range starts at 0
        let first = last_offset.wrapping_add(1).wrapping_mul(partition.0 as u64);
        (Token(first), Token(first + last_offset))
    }

    /// All partitions in ring order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = PartitionId> + ExactSizeIterator {
        (0..self.0 as u16).map(PartitionId)
    }
}

impl Default for Partitions {
    /// 256, good for some tens of nodes.
    fn default() -> Partitions {
        Partitions(256)
    }
}

impl TryFrom<u32> for Partitions {
    type Error = LayoutError;
    fn try_from(count: u32) -> Result<Partitions, LayoutError> {
        Partitions::new(count)
    }
}

impl From<Partitions> for u32 {
    fn from(partitions: Partitions) -> u32 {
        partitions.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_the_head_of_the_hash() {
        let hash = blake3::hash(b"carts\0alice");
        let head = u64::from_be_bytes(hash.as_bytes()[..8].try_into().unwrap());
        assert_eq!(token_of(&Bucket::new("carts").unwrap(), b"alice"), Token(head));
    }

    #[test]
    fn bucket_and_key_do_not_run_together() {
        let (short, long) = (Bucket::new("a").unwrap(), Bucket::new("ab").unwrap());
        assert_ne!(token_of(&short, b"bc"), token_of(&long, b"c"));
    }

    #[test]
    fn counts_are_powers_of_two_up_to_32768() {
        for good in (0..=15).map(|bits| 1 << bits) {
            assert_eq!(Partitions::new(good).unwrap().count(), good);
        }
        for bad in [0, 3, 255, 65_536, u32::MAX] {
            assert_eq!(Partitions::new(bad), Err(LayoutError::BadPartitions { count: bad }));
        }
        assert!(rmp_serde::from_slice::<Partitions>(&rmp_serde::to_vec(&3u32).unwrap()).is_err());
    }

    #[test]
    fn ranges_tile_the_ring() {
        for bits in 0..=15 {
            let partitions = Partitions::new(1 << bits).unwrap();
            let mut next = Some(0);
            for partition in partitions.iter() {
                let (first, last) = partitions.range(partition);
                assert_eq!(Some(first.0), next);
                assert_eq!(partitions.of(first), partition);
                assert_eq!(partitions.of(last), partition);
                next = last.0.checked_add(1);
            }
            assert_eq!(next, None);
        }
    }

    #[test]
    #[should_panic(expected = "no such partition")]
    fn a_range_beyond_the_ring_is_a_programmers_error() {
        Partitions::default().range(PartitionId(256));
    }

    proptest! {
        #[test]
        fn a_token_lies_in_the_range_of_its_partition(token: u64, bits in 0u32..=15) {
            let partitions = Partitions::new(1 << bits).unwrap();
            let (first, last) = partitions.range(partitions.of(Token(token)));
            prop_assert!(first.0 <= token && token <= last.0);
        }
    }
}
