//! What two primaries of a partition say to each other to find where they differ, and to mend it.
//!
//! All four requests are background work: nobody waits for them, and whatever is lost is found by comparing again. Keys travel
//! without their partition ([`TreeKey`]); limits are checked before anything is allocated for what a peer announces.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::antientropy::{MAX_KEYS, MAX_PAGE};
pub use crate::antientropy::{MAX_LEAVES, TreeVerdict};
use crate::storage::merkle::{Leaves, SumsOf, TreeId};
use crate::types::{Bucket, Key, PartitionId, RingVersion};
use crate::version::Versions;

/// Trees of one [`Compare`], and verdicts of its answer.
pub const MAX_COMPARED: usize = 1024;
/// Sums of one [`Summed`]: the leaves of the largest tree.
pub const MAX_SUMS: usize = Leaves::MAX as usize;
/// Keys of one [`Itemized`], and hashes of one [`Items`].
pub const MAX_ITEMS: usize = 4096;
/// Keys of one [`Want`]: each object is sent by a request with a slot of its own.
pub const MAX_WANTED: usize = 1 << u8::BITS;
const _: () =
    assert!(MAX_KEYS <= MAX_WANTED && MAX_PAGE <= MAX_ITEMS, "an exchange asks for no more than a peer takes");

/// Bytes of the partition in an object's key.
const PARTITION_LEN: usize = size_of::<u16>();

/// An object's key as the store has it, without its partition's two bytes: all keys of a message share their partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeKey(Bytes);

impl TreeKey {
    /// Bytes of the longest: token, bucket, an end of that, key.
    pub const MAX_LEN: usize = size_of::<u64>() + Bucket::MAX_LEN + 1 + Key::MAX_LEN;

    /// What came from a peer; `None` if it is longer than any. Whether it is a key is for the store to say.
    pub fn new(bytes: Bytes) -> Option<TreeKey> {
        (bytes.len() <= TreeKey::MAX_LEN).then_some(TreeKey(bytes))
    }

    /// Of an object's key, whose memory it shares.
    ///
    /// # Panics
    /// If `whole` does not even hold a partition.
    pub fn of(whole: &Bytes) -> TreeKey {
        TreeKey(whole.slice(PARTITION_LEN..))
    }

    /// The object's key.
    pub fn whole(&self, partition: PartitionId) -> Bytes {
        let mut whole = BytesMut::with_capacity(PARTITION_LEN + self.0.len());
        whole.put_u16(partition.0);
        whole.put_slice(&self.0);
        whole.freeze()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Asks which of these trees differ from the receiver's. All fall to one of its shards, as far as the sender knows how many it
/// has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The sender's ring.
    pub ring: RingVersion,
    /// How many leaves the sender's trees have.
    pub leaves: Leaves,
    /// One to [`MAX_COMPARED`] trees, and the sums of all that the sender holds of them.
    pub trees: Vec<(TreeId, u128)>,
}

/// The answer to a [`Compare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// How many shards the answering node has: a partition falls to the one of its number modulo this.
    pub shards: u16,
    /// It has lost its disk, and fetches what it held.
    pub rebuilding: bool,
    /// One for each tree, in their order.
    pub verdicts: Vec<TreeVerdict>,
}

/// Asks for sums of a tree. The first for its branches engages the tree at the receiver: it takes part in no other exchange for
/// as long as the sender goes on asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The tree.
    pub tree: TreeId,
    /// How many leaves it is taken to have.
    pub leaves: Leaves,
    /// Which sums.
    pub of: SumsOf,
}

/// The answer to a [`Sums`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summed {
    /// How many leaves the sums are of: fewer than were asked for if the receiver's tree has fewer. Then the sender asks again
    /// with this.
    pub leaves: Leaves,
    /// The sums' lower halves, in the order of [`SumsSpec::leaf_indices`](crate::storage::merkle::SumsSpec::leaf_indices).
    pub sums: Vec<u64>,
}

/// Asks for the keys of some leaves of a tree under which the receiver does not have what the sender has, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The tree.
    pub tree: TreeId,
    /// How many leaves it is taken to have.
    pub leaves: Leaves,
    /// Those leaves, ascending, each once; at most [`MAX_LEAVES`]: each is a walk of its own over the disk.
    pub of: Vec<u16>,
    /// Only what lies behind this key.
    pub after: Option<TreeKey>,
    /// Only what lies up to this key, that one included.
    pub until: Option<TreeKey>,
    /// The shorter hashes ([`ItemHash::short`](crate::storage::merkle::ItemHash::short)) of what the sender has there; at most
    /// [`MAX_ITEMS`].
    pub known: Vec<u64>,
    /// At most so many keys: 1 to [`MAX_ITEMS`].
    pub limit: u32,
}

/// The answer to an [`Items`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Itemized {
    /// Which of the hashes that the sender named are those of something that the receiver has, in their order.
    pub same: Vec<bool>,
    /// All else that it has, by key.
    pub items: Vec<OtherItem>,
    /// Keys whose records cannot be read: what they hold is unknown.
    pub rotten: u32,
    /// The key up to which, that one included, all has been looked at; `None`: all.
    pub next: Option<TreeKey>,
}

/// A key under which the answering node has something that the asker did not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherItem {
    /// The key.
    pub key: TreeKey,
    /// The shorter hash of what stands there.
    pub hash: u64,
    /// The object but for its values, which tells whose is newer; none if that takes more than [`OtherItem::MAX_VERSIONS`] bytes.
    pub versions: Option<Versions>,
}

impl OtherItem {
    /// Bytes of the longest that are told.
    pub const MAX_VERSIONS: usize = 4096;
}

/// Asks for the objects of these keys, each by a `Replicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The tree.
    pub tree: TreeId,
    /// At most [`MAX_WANTED`].
    pub keys: Vec<TreeKey>,
}

/// The answer to a [`Want`], once the last of its objects has been acknowledged or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Objects that the asker has acknowledged.
    pub sent: u32,
    /// Objects that could not be read, or that it did not acknowledge; a key without an object is neither.
    pub failed: u32,
    /// Bytes of those sent.
    pub bytes: u64,
}

/// A request of the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeRequest {
    /// See [`Compare`].
    Compare(Compare),
    /// See [`Sums`].
    Sums(Sums),
    /// See [`Items`].
    Items(Items),
    /// See [`Want`].
    Want(Want),
}

impl ExchangeRequest {
    /// The partition that it concerns, by which the receiver finds the shard: for trees of several, that of the first.
    pub fn partition(&self) -> PartitionId {
        match self {
            ExchangeRequest::Compare(compare) => {
                compare.trees.first().map_or(PartitionId(0), |(tree, _)| tree.partition)
            }
            ExchangeRequest::Sums(sums) => sums.tree.partition,
            ExchangeRequest::Items(items) => items.tree.partition,
            ExchangeRequest::Want(want) => want.tree.partition,
        }
    }

    /// The answer that refuses it.
    pub fn refuse(&self, why: Refusal) -> ExchangeAnswer {
        match self {
            ExchangeRequest::Compare(_) => ExchangeAnswer::Compared(Err(why)),
            ExchangeRequest::Sums(_) => ExchangeAnswer::Summed(Err(why)),
            ExchangeRequest::Items(_) => ExchangeAnswer::Itemized(Err(why)),
            ExchangeRequest::Want(_) => ExchangeAnswer::Wanted(Err(why)),
        }
    }

    /// Bytes of its lists, about.
    pub fn carried(&self) -> usize {
        match self {
            ExchangeRequest::Compare(compare) => size_of_val(&compare.trees[..]),
            ExchangeRequest::Sums(_) => 0,
            ExchangeRequest::Items(items) => size_of_val(&items.of[..]) + size_of_val(&items.known[..]),
            ExchangeRequest::Want(want) => want.keys.iter().map(|key| key.as_bytes().len()).sum(),
        }
    }
}

/// An answer of the exchange, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeAnswer {
    /// To a [`Compare`].
    Compared(Result<Compared, Refusal>),
    /// To a [`Sums`].
    Summed(Result<Summed, Refusal>),
    /// To an [`Items`].
    Itemized(Result<Itemized, Refusal>),
    /// To a [`Want`].
    Wanted(Result<Wanted, Refusal>),
}

impl ExchangeAnswer {
    /// A refusal in its place.
    pub fn refused(&self, why: Refusal) -> ExchangeAnswer {
        match self {
            ExchangeAnswer::Compared(_) => ExchangeAnswer::Compared(Err(why)),
            ExchangeAnswer::Summed(_) => ExchangeAnswer::Summed(Err(why)),
            ExchangeAnswer::Itemized(_) => ExchangeAnswer::Itemized(Err(why)),
            ExchangeAnswer::Wanted(_) => ExchangeAnswer::Wanted(Err(why)),
        }
    }

    /// Bytes of its lists, about.
    pub fn carried(&self) -> usize {
        match self {
            ExchangeAnswer::Compared(Ok(compared)) => compared.verdicts.len(),
            ExchangeAnswer::Summed(Ok(summed)) => size_of_val(&summed.sums[..]),
            ExchangeAnswer::Itemized(Ok(itemized)) => {
                let versions = |item: &OtherItem| item.versions.as_ref().map_or(0, Versions::encoded_len);
                let item = |item: &OtherItem| item.key.as_bytes().len() + size_of_val(&item.hash) + versions(item);
                itemized.same.len() + itemized.items.iter().map(item).sum::<usize>()
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{object_key, parse_object_key};
    use crate::types::Token;

    #[test]
    fn a_key_goes_without_its_partition_and_gets_it_back() {
        let (bucket, key) = (Bucket::default(), Key::new("k").unwrap());
        let whole = Bytes::from(object_key(PartitionId(517), Token(9), &bucket, &key));
        let short = TreeKey::of(&whole);
        assert_eq!((&short.as_bytes()[..], short.whole(PartitionId(517))), (&whole[2..], whole.clone()));
        assert_eq!(TreeKey::new(whole.slice(2..)), Some(short));
    }

    #[test]
    fn the_longest_key_is_taken_and_no_longer_one() {
        let bucket = Bucket::new(&"b".repeat(Bucket::MAX_LEN)).unwrap();
        let key = Key::new(vec![7; Key::MAX_LEN]).unwrap();
        let whole = Bytes::from(object_key(PartitionId(1), Token(9), &bucket, &key));
        assert!(parse_object_key(&whole).is_ok());
        assert_eq!(TreeKey::new(whole.slice(2..)), Some(TreeKey::of(&whole)));
        assert_eq!(TreeKey::new(vec![0; TreeKey::MAX_LEN + 1].into()), None);
    }
}
