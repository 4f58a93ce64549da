//! What the runner of a reaping round and the members say to each other, and what a new disk asks before it takes anything in.
//!
//! All of it is background work. Nothing that is lost or late does harm: a round that somebody has not answered in ends, and the
//! next one is another (`antientropy/reaper.rs`).

use serde::{Deserialize, Serialize};

use super::{Refusal, TreeKey};
pub use crate::antientropy::{Inquired, MAX_CANDIDATES, Vouched};
use crate::storage::merkle::TreeId;
use crate::types::{PartitionId, RingVersion, Round};
use crate::version::Digest;

/// Members whose runs one [`Inquired`] names: more than any cluster has.
pub const MAX_MEMBERS: usize = 65_536;
/// Partitions of one [`AskRounds`]: all that a cluster can have.
pub const MAX_PARTITIONS: usize = u16::MAX as usize + 1;

/// What a member is asked to do about some tombstones of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaping {
    /// The sender's ring.
    pub ring: RingVersion,
    /// The tree.
    pub tree: TreeId,
    /// What is to be done.
    pub step: ReapingStep,
    /// The keys and the digests of their tombstones' objects, at most [`MAX_CANDIDATES`].
    pub candidates: Vec<(TreeKey, Digest)>,
}

impl Reaping {
    /// Bytes of its list, about.
    pub fn carried(&self) -> usize {
        self.candidates.iter().map(|(key, digest)| key.as_bytes().len() + size_of_val(digest)).sum()
    }
}

/// A step of a reaping round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReapingStep {
    /// Say what you are, and what you hold. Changes nothing.
    Inquire,
    /// Raise the partition's round to this one, and vouch for what stands alone.
    Fence(Round),
    /// All have vouched in this round: delete what still stands alone.
    Reap(Round),
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReapingSaid {
    /// To [`ReapingStep::Inquire`].
    Inquired(Inquired),
    /// To [`ReapingStep::Fence`], once the round is on the disk.
    Vouched(Vouched),
    /// To [`ReapingStep::Reap`]: so many were deleted.
    Reaped(u32),
}

impl ReapingSaid {
    /// Whether it answers this.
    pub fn answers(&self, step: ReapingStep) -> bool {
        matches!(
            (self, step),
            (ReapingSaid::Inquired(_), ReapingStep::Inquire)
                | (ReapingSaid::Vouched(_), ReapingStep::Fence(_))
                | (ReapingSaid::Reaped(_), ReapingStep::Reap(_))
        )
    }
}

/// Asks for the reaping rounds of these partitions: of a node with a new disk, which takes nothing in before it has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskRounds {
    /// The sender's ring.
    pub ring: RingVersion,
    /// One to [`MAX_PARTITIONS`]; the first tells the receiver's shard.
    pub partitions: Vec<PartitionId>,
}

/// The answer to an [`AskRounds`], or why there is none.
pub type RoundsTold = Result<Vec<(PartitionId, Option<Round>)>, Refusal>;
