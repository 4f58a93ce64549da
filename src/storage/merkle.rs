//! Merkle trees over what a node holds, kept with the data: they tell in a few bytes where two replicas differ.
//!
//! ```text
//!   root = sum of 32 branches = sum of their leaves      one tree for each partition and n (see TreeId)
//!   leaf = sum of the items whose tokens lie in it       an equal part of the partition's tokens, one range of keys
//!   item = keyed BLAKE3(object's key, context and dots)  128 bits; sums wrap around
//! ```
//! A write changes sums by a difference, without a look at other keys (incremental hashing by addition: Bellare and
//! Micciancio, Eurocrypt '97; the key is the cluster's secret, so nobody outside can make sums collide). The differences of a batch
//! are one record *in* the batch: trees and data agree after any crash. Records are dropped once checkpoints of all trees
//! contain them; a start reads checkpoints and records, and no data.
//!
//! | file | what it holds |
//! |---|---|
//! | `merkle/shape.rs` | [`TreeShape`]: which tree and leaf a key belongs to |
//! | `merkle/hash.rs` | [`ItemHasher`] |
//! | `merkle/tree.rs` | [`Tree`]: the sums of one tree |
//! | `merkle/disk.rs` | checkpoints and records as bytes |
//! | `merkle/load.rs` | [`Forest`]: what a start reads |
//! | `merkle/trees.rs` | [`Trees`]: a shard's, changed by its batches |
//! | `merkle/count.rs` | leaves counted from the data while it changes |
//! | `merkle/index.rs` | the index of tombstones, put right by the same count |
//! | `merkle/stretch.rs` | keys between which the engine can read nothing |
//! | `merkle/marks.rs` | leaves from which a rotten record was wiped |
//! | `merkle/items.rs` | the keys of some leaves, for whoever compares them |

mod count;
mod disk;
mod hash;
mod index;
mod items;
mod load;
mod marks;
mod shape;
mod stretch;
#[cfg(test)]
mod tests;
mod tree;
mod trees;

use serde::{Deserialize, Serialize};

pub use count::{COUNTED_LEAVES, CountSpec, Counted, Place, count_leaves};
pub use hash::{ItemHash, ItemHasher};
pub use items::{Item, ItemPage, ItemSpec, read_items};
pub use load::Forest;
pub use shape::{Leaves, TreeShape};
pub use stretch::Stretch;
pub use tree::{BRANCHES, SumsOf, SumsSpec, Tree};
pub use trees::{Settled, Trees, Unread};

use crate::types::PartitionId;

/// Names a tree: a partition's keys in all buckets of one n. Buckets of another n have other replicas, and so do their trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreeId {
    /// The partition.
    pub partition: PartitionId,
    /// The buckets' n, as the ring's layout has it.
    pub n: u8,
}
